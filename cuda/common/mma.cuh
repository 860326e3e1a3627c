// Tensor cores of every supported architecture: 16 x 16 x 16 products of 16-bit numbers, a warp at a time, f32 sums.
//
// Operands are loaded from matrices in shared memory whose rows are 16-byte aligned. Sum e of a lane, of eight, is the entry
// (row_of(e), column_of(e)) of the 16 x 16 block; numbers 2 m and 2 m + 1 of such a block, packed, are word m of a left operand.
#pragma once
#include "common/scalar.cuh"

namespace mma {

__device__ __forceinline__ int row_of(int e) { return threadIdx.x % 32 / 4 + e / 2 % 2 * 8; }
__device__ __forceinline__ int column_of(int e) { return e / 4 * 8 + threadIdx.x % 4 * 2 + e % 2; }

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void load4(u32 (&r)[4], u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}
__device__ __forceinline__ void load4_transposed(u32 (&r)[4], u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}

// A matrix in shared memory, rows of PITCH numbers.
template <int PITCH>
struct Matrix {
    u32 base;

    __device__ Matrix(const Stored* p) : base(shared_address(p)) {}
    __device__ u32 at(int row, int column) const { return base + (row * PITCH + column) * 2; }

    // Left operand, rows m .. m + 16, depth k .. k + 16.
    __device__ void left(u32 (&r)[4], int m, int k) const {
        const int lane = threadIdx.x % 32;
        load4(r, at(m + lane % 16, k + lane / 16 * 8));
    }
    // The same of the transposed matrix: depth down the rows.
    __device__ void left_transposed(u32 (&r)[4], int m, int k) const {
        const int lane = threadIdx.x % 32;
        load4_transposed(r, at(k + lane / 16 * 8 + lane % 8, m + lane / 8 % 2 * 8));
    }
    // Right operand of `left rightᵀ`: its rows are the columns n .. n + 16 of the product.
    __device__ void right(u32 (&r)[4], int n, int k) const {
        const int lane = threadIdx.x % 32;
        load4(r, at(n + lane / 16 * 8 + lane % 8, k + lane / 8 % 2 * 8));
    }
    // Right operand of `left right`: depth down the rows.
    __device__ void right_transposed(u32 (&r)[4], int n, int k) const {
        const int lane = threadIdx.x % 32;
        load4_transposed(r, at(k + lane % 16, n + lane / 16 * 8));
    }
};

#ifdef STORED_F16
#define MMA_TYPES "f16.f16"
#else
#define MMA_TYPES "bf16.bf16"
#endif

// sums += left right
__device__ __forceinline__ void multiply(float (&sums)[8], const u32 (&left)[4], const u32 (&right)[4]) {
#pragma unroll
    for (int j = 0; j < 2; j++)
        asm("mma.sync.aligned.m16n8k16.row.col.f32." MMA_TYPES ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(sums[4 * j]), "+f"(sums[4 * j + 1]), "+f"(sums[4 * j + 2]), "+f"(sums[4 * j + 3])
            : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[2 * j]), "r"(right[2 * j + 1]));
}

#undef MMA_TYPES

}  // namespace mma
