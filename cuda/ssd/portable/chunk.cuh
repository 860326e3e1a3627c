// How the kernels of the portable tier share out the work: a block of threads has a chunk and up to HEADS heads of a group, and
// goes through them by tiles of channels.
//
// log_a, dt: (rows, heads) float.  x, dy: (rows, heads * HEAD_DIM), b, c: (rows, groups * STATE_DIM).
// states: (chunks, heads, HEAD_DIM, STATE_DIM) float, those that enter chunks or the cotangents of those that leave them.
#pragma once
#include "ssd/portable/tile.cuh"

namespace portable {

constexpr int HEADS = 8;  // heads of a block

// Channels of a tile: no more than a head has.
constexpr int tile_of(int widest) { return HEAD_DIM > widest - 16 ? widest : (HEAD_DIM + 15) / 16 * 16; }

// The heads of one block: `index` counts them group by group.
struct Heads {
    int group, first, last;

    __device__ Heads(const Dims& dims, int index) {
        const int per = dims.heads / dims.groups, blocks = (per + HEADS - 1) / HEADS;
        group = index / blocks;
        first = group * per + index % blocks * HEADS;
        last = min(first + HEADS, (group + 1) * per);
    }
};

// A tensor that is read by rows.
struct Rows {
    const Stored* at;
    i64 pitch;

    // From a position and a column on.
    __device__ const Stored* from(i64 position, int column) const { return at + position * pitch + column; }
};

// Which positions of the other side a result meets: y and dC earlier ones, dX and dB later ones.
enum Meets { EARLIER, LATER };

// Whether the 16 positions from `row` on meet any of a block of 16.
template <Meets MEETS>
__device__ __forceinline__ bool meets(int row, int block) {
    return MEETS == EARLIER ? 16 * block <= row : 16 * block >= row;
}

// Brings lines of memory nearer.
__device__ __forceinline__ void fetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
__device__ __forceinline__ void fetch_numbers(const float* from, int count) {
    for (int i = threadIdx.x * 32; i < count; i += THREADS * 32) fetch(from + i);
}
__device__ __forceinline__ void fetch_rows(const Rows& rows, i64 position, int column, int count) {
    if (threadIdx.x < count) fetch(rows.from(position + threadIdx.x, column));
}

// Four numbers of a row of a state, zeros behind its end.
__device__ __forceinline__ float4 four(const float* row, int n) {
    if (STATE_DIM % 4 == 0) return n < STATE_DIM ? *reinterpret_cast<const float4*>(row + n) : make_float4(0.f, 0.f, 0.f, 0.f);
    return make_float4(n < STATE_DIM ? row[n] : 0.f, n + 1 < STATE_DIM ? row[n + 1] : 0.f, n + 2 < STATE_DIM ? row[n + 2] : 0.f,
                       n + 3 < STATE_DIM ? row[n + 3] : 0.f);
}

// Some channels of a state, TILE x PADDED, as so many terms.
template <int TILE>
struct StateTile {
    Stored terms[TERMS][TILE * WIDE];
#ifdef STORED_F32
    // Of `channels` rows at `from`, on their way; returns what products are to be multiplied by.
    __device__ __forceinline__ float stage(const float* from, int channels) {
        portable::stage<TILE, PADDED, WIDE>(terms[0], from, STATE_DIM, channels, STATE_DIM);
        return 1.f;
    }
#else
    float most[WARPS];

    // The same at once. In f16 all threads meet.
    __device__ __forceinline__ float stage(const float* from, int channels) {
        constexpr int PIECES = PADDED / 4, LOADS = PADDED > 128 ? 4 : 8;  // at once, as far as there are registers
        auto read = [&](int i) {
            const int r = i / PIECES;
            return r < channels ? four(from + (i64)r * STATE_DIM, i % PIECES * 4) : make_float4(0.f, 0.f, 0.f, 0.f);
        };
        float largest_of_all = 0.f;
        if (SCALED) {
#pragma unroll(LOADS)
            for (int i = threadIdx.x; i < TILE * PIECES; i += THREADS) {
                const float4 v = read(i);
                largest_of_all = fmaxf(fmaxf(largest_of_all, fmaxf(fabsf(v.x), fabsf(v.y))), fmaxf(fabsf(v.z), fabsf(v.w)));
            }
            largest_of_all = largest(largest_of_all, 32);
            if (threadIdx.x % 32 == 0) most[threadIdx.x / 32] = largest_of_all;
            __syncthreads();
            for (int w = 0; w < WARPS; w++) largest_of_all = fmaxf(largest_of_all, most[w]);
        }
        const Scale scale = below_one(largest_of_all);
#pragma unroll(LOADS)
        for (int i = threadIdx.x; i < TILE * PIECES; i += THREADS) {
            const float4 v = read(i);
            const Terms a = split(v.x * scale.to, v.y * scale.to), b = split(v.z * scale.to, v.w * scale.to);
            const int at = i / PIECES * WIDE + i % PIECES * 4;
            *reinterpret_cast<uint2*>(terms[0] + at) = make_uint2(a.top, b.top);
            *reinterpret_cast<uint2*>(terms[1] + at) = make_uint2(a.rest, b.rest);
        }
        return scale.from;
    }
#endif
    __device__ mma::Matrix<WIDE> term(int i) const { return {terms[i]}; }
};

}  // namespace portable
