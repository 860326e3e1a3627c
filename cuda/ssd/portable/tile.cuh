// What the kernels of the portable tier share: tiles in shared memory, decays of a chunk, operands as sums of two terms.
//
// What is computed on the way enters a product as the sum of two 16-bit numbers: rounded once, it would spend as much of the
// error as the rounding of the result. f16 has few exponents, so there such an operand is scaled by a power of two first. Tensors
// of f32 are multiplied in tf32, and there everything enters a product as one number of 11 bits.
#pragma once
#include "common/exact.cuh"
#include "common/mma.cuh"
#include "common/storage.cuh"

#ifndef SPLIT_OF_TF32
#define SPLIT_OF_TF32 2
#endif

namespace portable {

constexpr bool TF32 = sizeof(Stored) == 4;
constexpr int TERMS = TF32 ? 1 : 2;         // of an operand that is computed
constexpr int PIECE = 16 / sizeof(Stored);  // numbers that are copied at once
constexpr int PADDED = (STATE_DIM + 15) / 16 * 16;
constexpr int WIDE = PADDED + PIECE;  // row pitch by which the rows of an 8 x 8 piece share no banks
constexpr bool WIDE_STATE = PADDED * sizeof(Stored) > 256;
constexpr int Q = TF32 && PADDED > 128 ? 32 : 64;  // positions of a chunk, as many as small devices have shared memory for
constexpr int BLOCKS = Q / 16;                     // of 16 positions, one a warp
constexpr int SPLIT = TF32 ? SPLIT_OF_TF32 : 1;    // warps that share it, and share out the columns of its result
constexpr int WARPS = BLOCKS * SPLIT, THREADS = 32 * WARPS;
#ifdef STORED_F16
constexpr bool SCALED = true;
#else
constexpr bool SCALED = false;
#endif

// Powers of two, the inverse of one another.
struct Scale { float to, from; };

// The one that brings a number, the largest of an operand, below one and above a half.
__device__ __forceinline__ Scale below_one(float most) {
    if (!SCALED) return {1.f, 1.f};
    const u32 exponent = min(max(__float_as_uint(most) >> 23, 7u), 246u);
    return {__uint_as_float((253 - exponent) << 23), __uint_as_float((exponent + 1) << 23)};
}

// The largest of the lanes whose numbers differ in bits below `width`.
__device__ __forceinline__ float largest(float v, int width) {
#pragma unroll
    for (int w = 1; w < width; w *= 2) v = fmaxf(v, __shfl_xor_sync(~0u, v, w));
    return v;
}

// Sum over the four lanes that share rows of a block.
__device__ __forceinline__ float sum_of_row(float v) {
    v += __shfl_xor_sync(~0u, v, 1);
    return v + __shfl_xor_sync(~0u, v, 2);
}

// What a warp has: 16 positions from `row` on, and of SPLIT blocks of 16 columns always the one of its part.
struct Warp {
    int row, part;
    __device__ Warp() : row(threadIdx.x / 32 % BLOCKS * 16), part(SPLIT == 1 ? 0 : threadIdx.x / 32 / BLOCKS) {}
};

// Adds the parts' sums of either row of a lane, for part 0; `scratch`: Q numbers in shared memory. All threads meet.
__device__ __forceinline__ void sum_of_parts(float (&v)[2], const Warp& warp, float* scratch) {
    if (SPLIT == 1) return;
    static_assert(SPLIT <= 2, "there is at most one other part");
    const int first = warp.row + mma::row_of(0), second = warp.row + mma::row_of(2);
    if (warp.part > 0 && threadIdx.x % 4 == 0) scratch[first] = v[0], scratch[second] = v[1];
    __syncthreads();
    v[0] += scratch[first], v[1] += scratch[second];
}

// Two numbers, each as the sum of two.
struct Terms { u32 top, rest; };
__device__ __forceinline__ Terms split(float a, float b) {
    const u32 top = pack(a, b);
    return {top, pack(a - low(top), b - high(top))};
}

// A left operand as such a sum; the product is to be multiplied by `from`, for either row of a lane.
struct Left {
    mma::Operand terms[TERMS];
    float from[2];

    __device__ __forceinline__ void set(const float (&v)[8], Scale first, Scale second) {
#ifdef STORED_F32
#pragma unroll
        for (int w = 0; w < mma::WORDS; w++) terms[0][w] = mma::rounded(v[mma::sum_of_word(w)]);
#else
#pragma unroll
        for (int m = 0; m < 4; m++) {
            const float by = m % 2 ? second.to : first.to;
            const Terms pair = split(v[2 * m] * by, v[2 * m + 1] * by);
            terms[0][m] = pair.top, terms[1][m] = pair.rest;
        }
#endif
        from[0] = first.from, from[1] = second.from;
    }
    // A block, each row scaled by itself.
    __device__ __forceinline__ void set(const float (&v)[8]) {
        float most[2] = {0.f, 0.f};
        if (SCALED) {
#pragma unroll
            for (int e = 0; e < 8; e++) most[e / 2 % 2] = fmaxf(most[e / 2 % 2], fabsf(v[e]));
            most[0] = largest(most[0], 4), most[1] = largest(most[1], 4);
        }
        set(v, below_one(most[0]), below_one(most[1]));
    }
};

// sums += left right
__device__ __forceinline__ void add_product(float (&sums)[8], const Left& left, const mma::Operand& right) {
    if (!SCALED) {
#pragma unroll
        for (int i = 0; i < TERMS; i++) mma::multiply(sums, left.terms[i], right);
        return;
    }
    float scaled[8] = {};
#pragma unroll
    for (int i = 0; i < TERMS; i++) mma::multiply(scaled, left.terms[i], right);
#pragma unroll
    for (int e = 0; e < 8; e++) sums[e] += left.from[e / 2 % 2] * scaled[e];
}

// Rows m .. m + 16 of `xᵀ diag(factors)` and positions k .. k + 16 as a left operand.
template <int PITCH>
__device__ __forceinline__ void set_faded(Left& to, const mma::Matrix<PITCH>& x, int m, int k, const float* factors) {
    float v[8], most = 0.f;
    x.transposed(v, m, k);
#pragma unroll
    for (int e = 0; e < 8; e += 2) {
        const float2 f = *reinterpret_cast<const float2*>(factors + k + mma::column_of(e));
        v[e] *= f.x, v[e + 1] *= f.y;
        most = fmaxf(most, fmaxf(fabsf(v[e]), fabsf(v[e + 1])));
    }
    const Scale scale = below_one(SCALED ? largest(most, 32) : 0.f);
    to.set(v, scale, scale);
}

// A sum of log2 a from the start of a chunk on, whole numbers apart: differences of such sums are good to 2^-20 after any decay.
struct Sum { float whole, part; };

// The decay between two positions, or since the start of the chunk.
__device__ __forceinline__ float decay(Sum later, Sum earlier) {
    return exp2_fast((later.whole - earlier.whole) + (later.part - earlier.part));
}
__device__ __forceinline__ float decay(Sum later) { return exp2_fast(later.whole + later.part); }

// Decays and steps of a chunk; positions behind its end have dt = 0 and forget nothing.
struct Steps {
    Sum sums[Q];
    float dt[Q];

    __device__ Sum last() const { return sums[Q - 1]; }

    // By one warp, from (rows, heads).
    __device__ void read(const float* log_a, const float* from_dt, int heads, int rows) {
        constexpr float LOG2_E = 1.44269504088896340736f;
        const int lane = threadIdx.x % 32;
        Sum before = {0.f, 0.f};
#pragma unroll
        for (int k = 0; k < Q; k += 32) {
            const int i = k + lane;
            const i64 at = (i64)i * heads;
            float v = i < rows ? log_a[at] * LOG2_E : 0.f;
            if (v < -150.f) v = -150.f;  // a decay of zero; a limit keeps whole numbers exact
            Sum sum = {rintf(v), 0.f};
            sum.part = v - sum.whole;
#pragma unroll
            for (int w = 1; w < 32; w *= 2) {
                const Sum left = {__shfl_up_sync(~0u, sum.whole, w), __shfl_up_sync(~0u, sum.part, w)};
                if (lane >= w) sum.whole += left.whole, sum.part += left.part;
            }
            sum.whole += before.whole, sum.part += before.part;
            sums[i] = sum;
            dt[i] = i < rows ? from_dt[at] : 0.f;
            before = {__shfl_sync(~0u, sum.whole, 31), __shfl_sync(~0u, sum.part, 31)};
        }
    }
};

// 16 bytes of memory into shared memory on their way, zeros if not `inside`.
__device__ __forceinline__ void copy_piece(Stored* to, const Stored* from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(mma::shared_address(to)), "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
}
// Everything that the block's threads have copied and written is there.
__device__ __forceinline__ void staged() {
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
}

// A number as bits.
__device__ __forceinline__ u32 bits_of(Stored v) {
#ifdef STORED_F32
    return __float_as_uint(v);
#else
    return v.bits;
#endif
}

// `rows` x `columns` numbers of memory into ROWS x COLUMNS of shared memory, zeros around them.
template <int ROWS, int COLUMNS, int PITCH>
__device__ __forceinline__ void stage(Stored* to, const Stored* from, i64 from_pitch, int rows, int columns) {
    const bool wide = ((u64)from | (u64)(from_pitch * sizeof(Stored))) % 16 == 0 && columns % PIECE == 0;
    constexpr int PIECES = COLUMNS / PIECE;
    if (wide) {
#pragma unroll 4
        for (int i = threadIdx.x; i < ROWS * PIECES; i += THREADS) {
            const int r = i / PIECES, k = i % PIECES * PIECE;
            const bool inside = r < rows && k < columns;
            copy_piece(to + r * PITCH + k, inside ? from + r * from_pitch + k : from, inside);
        }
        return;
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < ROWS * PIECES; i += THREADS) {
        const int r = i / PIECES, k = i % PIECES * PIECE;
        u32 words[4] = {};
#pragma unroll
        for (int e = 0; e < PIECE; e++) {
            const u32 bits = r < rows && k + e < columns ? bits_of(from[r * from_pitch + k + e]) : 0;
            words[e * 4 / PIECE] |= bits << (e % (PIECE / 4) * 16);
        }
        *reinterpret_cast<uint4*>(to + r * PITCH + k) = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

// Two neighbours of a tile, at an even column.
__device__ __forceinline__ float2 neighbours(const Stored* at) {
#ifdef STORED_F32
    return *reinterpret_cast<const float2*>(at);
#else
    const u32 word = *reinterpret_cast<const u32*>(at);
    return make_float2(low(word), high(word));
#endif
}

// Two neighbours, at an even column, to a row of memory of which `columns` are left.
__device__ __forceinline__ void store_neighbours(Stored* to, float first, float second, int columns) {
    if ((u64)to % (2 * sizeof(Stored)) == 0 && columns > 1) {
#ifdef STORED_F32
        *reinterpret_cast<float2*>(to) = make_float2(first, second);
#else
        *reinterpret_cast<u32*>(to) = pack(first, second);
#endif
        return;
    }
    if (columns > 0) to[0] = narrow<Stored>(first);
    if (columns > 1) to[1] = narrow<Stored>(second);
}

}  // namespace portable
