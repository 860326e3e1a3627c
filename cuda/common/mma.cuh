// Tensor cores of every supported architecture: 16 x 16 x 16 products, a warp at a time, f32 sums; operands are 16-bit numbers, or
// f32 ones rounded to tf32, 11 significant bits.
//
// Operands are loaded from matrices in shared memory whose rows are 16-byte aligned. Sum e of a lane, of eight, is the entry
// (row_of(e), column_of(e)) of the 16 x 16 block. Both operands of a product take the depth in the same order:
//
//   left rightᵀ   as it lies in memory:  left, right
//   left right    as sums lie in lanes:  sums themselves, left_paired, right_transposed
//
// In 16 bits these are the same. In tf32 a lane of an operand has depths t and t + 4 of eight, one of sums 2 t and 2 t + 1.
#pragma once
#include "common/storage.cuh"

namespace mma {

constexpr int STEPS = sizeof(Stored) / 2;  // products of the hardware, 32 bytes deep, one behind another
constexpr int WORDS = 4 * STEPS;           // of an operand in a lane, four a step
typedef u32 Operand[WORDS];

__device__ __forceinline__ int row_of(int e) { return threadIdx.x % 32 / 4 + e / 2 % 2 * 8; }
__device__ __forceinline__ int column_of(int e) { return e / 4 * 8 + threadIdx.x % 4 * 2 + e % 2; }

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void load4(u32* r, u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}
__device__ __forceinline__ void load4_transposed(u32* r, u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}

#ifdef STORED_F32
// The nearest number of 11 significant bits.
__device__ __forceinline__ u32 rounded(float v) {
    u32 w;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(w) : "f"(v));
    return w;
}
__device__ __forceinline__ void round(Operand& r) {
#pragma unroll
    for (int w = 0; w < WORDS; w++) r[w] = rounded(__uint_as_float(r[w]));
}
// Which sum is word w of a left operand.
__device__ __forceinline__ constexpr int sum_of_word(int w) { return w / 4 * 4 + w % 2 * 2 + w / 2 % 2; }
#else
__device__ __forceinline__ void round(Operand&) {}
#endif

// A matrix in shared memory, rows of PITCH numbers.
template <int PITCH>
struct Matrix {
    const Stored* base;

    __device__ Matrix(const Stored* p) : base(p) {}
    __device__ u32 at(int row, int column, int bytes) const {
        return shared_address(base) + (row * PITCH + column) * (int)sizeof(Stored) + bytes;
    }

    // Left operand, rows m .. m + 16, depth k .. k + 16.
    __device__ void left(Operand& r, int m, int k) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int s = 0; s < STEPS; s++) load4(r + 4 * s, at(m + lane % 16, k, 32 * s + lane / 16 * 16));
        round(r);
    }
    // Right operand of `left rightᵀ`: its rows are the columns n .. n + 16 of the product.
    __device__ void right(Operand& r, int n, int k) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int s = 0; s < STEPS; s++) load4(r + 4 * s, at(n + lane / 16 * 8 + lane % 8, k, 32 * s + lane / 8 % 2 * 16));
        round(r);
    }
    // As `left` and `right`, in the order of sums, of this matrix and of the transposed one, whose depth is down the rows; and numbers
    // of the transposed one where sums of rows m .. m + 16 and columns k .. k + 16 would lie.
#ifdef STORED_F32
    __device__ void left_paired(Operand& r, int m, int k) const {
#pragma unroll
        for (int w = 0; w < WORDS; w++) r[w] = rounded(base[(m + row_of(2 * w)) * PITCH + k + column_of(sum_of_word(w))]);
    }
    __device__ void right_transposed(Operand& r, int n, int k) const {
#pragma unroll
        for (int w = 0; w < WORDS; w++) r[w] = rounded(base[(k + column_of(w / 4 * 4 + w % 2)) * PITCH + n + row_of(w)]);
    }
    __device__ void transposed(float (&v)[8], int m, int k) const {
#pragma unroll
        for (int e = 0; e < 8; e++) v[e] = base[(k + column_of(e)) * PITCH + m + row_of(e)];
    }
#else
    __device__ void left_paired(Operand& r, int m, int k) const { left(r, m, k); }
    __device__ void right_transposed(Operand& r, int n, int k) const {
        const int lane = threadIdx.x % 32;
        load4_transposed(r, at(k + lane % 16, n + lane / 16 * 8, 0));
    }
    __device__ void transposed(float (&v)[8], int m, int k) const {
        const int lane = threadIdx.x % 32;
        Operand r;
        load4_transposed(r, at(k + lane / 16 * 8 + lane % 8, m + lane / 8 % 2 * 8, 0));
#pragma unroll
        for (int w = 0; w < WORDS; w++) v[2 * w] = low(r[w]), v[2 * w + 1] = high(r[w]);
    }
#endif
};

#if defined(STORED_F32)
#define MMA_SHAPE "m16n8k8.row.col.f32.tf32.tf32"
#elif defined(STORED_F16)
#define MMA_SHAPE "m16n8k16.row.col.f32.f16.f16"
#else
#define MMA_SHAPE "m16n8k16.row.col.f32.bf16.bf16"
#endif

// sums += left right
__device__ __forceinline__ void multiply(float (&sums)[8], const Operand& left, const Operand& right) {
#pragma unroll
    for (int w = 0; w < WORDS; w += 4)
#pragma unroll
        for (int j = 0; j < 2; j++)
            asm("mma.sync.aligned." MMA_SHAPE ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                : "+f"(sums[4 * j]), "+f"(sums[4 * j + 1]), "+f"(sums[4 * j + 2]), "+f"(sums[4 * j + 3])
                : "r"(left[w]), "r"(left[w + 1]), "r"(left[w + 2]), "r"(left[w + 3]), "r"(right[w + 2 * j]), "r"(right[w + 2 * j + 1]));
}

#undef MMA_SHAPE

}  // namespace mma
