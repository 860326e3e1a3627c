// Steps and decays of a chunk, by a warp, in the Hopper forward product; and the copies of a chunk.
#pragma once
#include "ssd/sm90/forward_plan.cuh"

struct Steps {
    float dt, log2_a;
};

// The raw step and, if given, log a at an offset.
__device__ __forceinline__ Steps steps_at(const Forward& f, i64 at) {
    Steps s;
    s.dt = f.dt_is_storage ? low(((const u16*)f.dt)[at]) : ((const float*)f.dt)[at];
    s.log2_a = f.log_a ? f.log_a[at] : 0.0f;
    return s;
}
// log(1 + e^v): for small e^v by its series, for the sum would lose it.
__device__ __forceinline__ float softplus(float v) {
    float e = exp2_fast(-fabsf(v) * LOG2E);
    float series = e * (1.0f + e * (-0.5f + e * (0.33333333f - 0.25f * e)));
    return (v > 0.0f ? v : 0.0f) + (e < 0.03125f ? series : __log2f(1.0f + e) * 0.69314718f);
}
// The step and log2 a.
__device__ __forceinline__ Steps discretized(const Forward& f, Steps s, float a, float bias) {
    if (!f.log_a) {
        float v = s.dt + bias;
        if (f.softplus) v = softplus(v);
        v = v < f.dt_min ? f.dt_min : v;
        v = v > f.dt_max ? f.dt_max : v;
        s.dt = v;
        s.log2_a = a * v;
    }
    s.log2_a *= LOG2E;
    if (s.log2_a < LEAST_LOG2_DECAY) s.log2_a = LEAST_LOG2_DECAY;
    return s;
}

// Two numbers as two 16-bit words: rounded, and what is left of them.
__device__ __forceinline__ uint2 split(float a, float b) {
    u32 rounded = pack(a, b);
    return make_uint2(rounded, pack(a - low(rounded), b - high(rounded)));
}

// Inclusive sums of log2 a over a chunk; lane l has positions 2 l and 2 l + 1.
struct Sums {
    float s0, s1, last;
};
__device__ __forceinline__ Sums summed(const Steps& p, const Steps& q) {
    float sum = p.log2_a + q.log2_a;
#pragma unroll
    for (int o = 1; o < 32; o *= 2) {
        float before = __shfl_up_sync(~0u, sum, o);
        if (threadIdx.x % 32 >= o) sum += before;
    }
    return {sum - q.log2_a, sum, __shfl_sync(~0u, sum, 31)};
}

// Head `k` of a block, or its first where there is none.
__device__ __forceinline__ int feed_head(const Forward& f, int block, int k) {
    int head = head_of(f, block, k);
    return head < 0 ? head_of(f, block, 0) : head;
}

// Where tiles begin: of B and C, and of X.
struct Columns {
    int depth, x, second;
};
// Starts the copies of a chunk, of C if `c` is given: one thread.
__device__ __forceinline__ void feed_tiles(u32 at, u32 full, const TensorMap* x, const TensorMap* b, const TensorMap* c,
                                           const Columns& columns, int row, int entry) {
    barrier_expect(full, c ? STAGE_BYTES : STAGE_BYTES - C_BYTES);
    for (int k = 0; c && k < DEPTH_TILES; k++) copy_in(at + k * TILE, c, columns.depth + 64 * k, row, entry, full);
    for (int k = 0; k < DEPTH_TILES; k++) copy_in(at + C_BYTES + k * TILE, b, columns.depth + 64 * k, row, entry, full);
    copy_in(at + 2 * C_BYTES, x, columns.x, row, entry, full);
    if (X_TILES == 2) copy_in(at + 2 * C_BYTES + TILE, x, columns.second, row, entry, full);
}
