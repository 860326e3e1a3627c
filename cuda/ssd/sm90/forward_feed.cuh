// The feeding warpgroup of the Hopper forward product: copies of C, B, X, and the decay tables.
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

// Starts the copies of a chunk: one thread.
__device__ __forceinline__ void feed_tiles(u32 at, u32 full, const TensorMap* x, const TensorMap* b, const TensorMap* c, int depth_column,
                                           int x_column, int x_second, int row, int entry) {
    barrier_expect(full, STAGE_BYTES);
    for (int k = 0; k < DEPTH_TILES; k++) copy_in(at + k * TILE, c, depth_column + 64 * k, row, entry, full);
    for (int k = 0; k < DEPTH_TILES; k++) copy_in(at + C_BYTES + k * TILE, b, depth_column + 64 * k, row, entry, full);
    copy_in(at + 2 * C_BYTES, x, x_column, row, entry, full);
    if (X_TILES == 2) copy_in(at + 2 * C_BYTES + TILE, x, x_second, row, entry, full);
}

// Each warp feeds one head of the block in every FEED_TURNS-th chunk; lane l has its positions 2 l and 2 l + 1. The table is
// ready before the stage is free, and the steps of the next chunk are on their way. There are no more turns than stages: a
// warp further ahead could take the end of an older round of its stage for the one that it waits for.
__device__ void feed(const Forward& f, u32 shared, char* memory, const TensorMap* x, const TensorMap* b, const TensorMap* c) {
    constexpr int FEED_TURNS = BLOCK_HEADS == 2 ? 2 : STAGES;
    static_assert(FEED_TURNS <= STAGES && FEED_TURNS * BLOCK_HEADS <= 4);
    Share share = share_of(f);
    int lane = threadIdx.x % 32, warp = __shfl_sync(~0u, threadIdx.x / 32, 0), k = warp % BLOCK_HEADS;
    if (warp >= FEED_TURNS * BLOCK_HEADS) return;
    int chunk = warp / BLOCK_HEADS, passed = 0;  // among all chunks of the share: the next of this warp, and those of former units
    for (int end = share.end; end > share.begin;) {
        Unit u = unit_of(f, end - 1);
        int begin = max(share.begin, u.first_step), first = begin - u.first_step - passed, head = head_of(f, u.block, k);
        if (head < 0) head = head_of(f, u.block, 0);
        float a = f.a ? f.a[head] : 0.0f, bias = f.bias ? f.bias[head] : 0.0f;
        int depth_column = head / (f.heads / f.groups) * STATE_DIM, x_column = head * HEAD_DIM + first_row(u.block, 0);
        int x_second = BLOCK_HEADS == 2 && head_of(f, u.block, 1) < 0 ? x_column : x_column + 64;
        const i64 origin = ((i64)u.row * f.len + u.start) * f.dt_pitch + head;
        passed += end - begin;
        int position = (first + chunk) * CHUNK + 2 * lane;
        Steps next0 = steps_at(f, origin + min(position, u.len - 1) * f.dt_pitch);
        Steps next1 = steps_at(f, origin + min(position + 1, u.len - 1) * f.dt_pitch);
        for (; chunk < passed; chunk += FEED_TURNS) {
            Steps p = discretized(f, next0, a, bias), q = discretized(f, next1, a, bias);
            if (position >= u.len) p = {0.0f, 0.0f};
            if (position + 1 >= u.len) q = {0.0f, 0.0f};
            position += FEED_TURNS * CHUNK;
            next0 = steps_at(f, origin + min(position, u.len - 1) * f.dt_pitch);
            next1 = steps_at(f, origin + min(position + 1, u.len - 1) * f.dt_pitch);
            auto [s0, s1, last] = summed(p, q);
            float r1 = __shfl_sync(~0u, s1, 7), r2 = __shfl_sync(~0u, s1, 15), r3 = __shfl_sync(~0u, s1, 23);
            float r = lane < 8 ? 0.0f : lane < 16 ? r1 : lane < 24 ? r2 : r3;
            int stage = chunk % STAGES;
            u32 full = shared + FULL + 8 * stage;
            float2* rows = (float2*)(memory + DECAY_AT + (stage * BLOCK_HEADS + k) * DECAY_BYTES) + lane;
            barrier_wait_lazily(shared + EMPTY + 8 * stage, chunk / STAGES % 2 ^ 1);
            if (lane == 0 && k == 0)
                feed_tiles(shared + STAGE_AT + stage * STAGE_BYTES, full, x, b, c, depth_column, x_column, x_second,
                           u.start + (first + chunk) * CHUNK, u.row);
            __syncwarp();
            rows[SUM * 32] = {s0, s1};
            rows[STEP * 32] = {p.dt, q.dt};
            rows[FROM_BLOCK * 32] = {exp2_fast(s0 - r), exp2_fast(s1 - r)};
            rows[FROM_START * 32] = {exp2_fast(s0), exp2_fast(s1)};
            ((uint2*)rows)[TO_END * 32] = split(exp2_fast(last - s0) * p.dt, exp2_fast(last - s1) * q.dt);
            if (lane == 0) ((float*)rows)[TOTAL * 64] = exp2_fast(last);
            // Above 1 where a position is not before the block, and never read.
            rows[(TO_BLOCK + 0) * 32] = {exp2_fast(r1 - s0) * p.dt, exp2_fast(r1 - s1) * q.dt};
            rows[(TO_BLOCK + 1) * 32] = {exp2_fast(r2 - s0) * p.dt, exp2_fast(r2 - s1) * q.dt};
            rows[(TO_BLOCK + 2) * 32] = {exp2_fast(r3 - s0) * p.dt, exp2_fast(r3 - s1) * q.dt};
            barrier_arrive(full);
        }
        end = begin;
    }
}
