// The feeding warpgroup of the Hopper forward product: copies of C, B, X, and the decay tables.
#pragma once
#include "ssd/sm90/forward_back.cuh"

// Each warp feeds one head of the block in every FEED_TURNS-th chunk; lane l has its positions 2 l and 2 l + 1. The table is
// ready before the stage is free, and the steps of the next chunk are on their way. There are no more turns than stages: a
// warp further ahead could take the end of an older round of its stage for the one that it waits for.
__device__ void feed(const Forward& f, u32 shared, char* memory, const TensorMap* x, const TensorMap* b, const TensorMap* c) {
    Share share = share_of(f);
    int lane = threadIdx.x % 32, warp = __shfl_sync(~0u, threadIdx.x / 32, 0), k = warp % BLOCK_HEADS;
    if (warp >= FEED_TURNS * BLOCK_HEADS) return;
    const int turn = warp / BLOCK_HEADS;
    int passed = 0;  // chunks fed so far
    for (int end = share.end; end > share.begin;) {
        Unit u = unit_of(f, end - 1);
        int begin = max(share.begin, u.first_step), head = feed_head(f, u.block, k);
        wait_for_inputs(f);
        const int x_column = head * HEAD_DIM + first_row(u.block, 0);
        const Columns columns = {head / (f.heads / f.groups) * STATE_DIM, x_column,
                                 BLOCK_HEADS == 2 && head_of(f, u.block, 1) < 0 ? x_column : x_column + 64};
        if (walks_back(f, u) && begin == u.first_step)
            passed = feed_back(f, shared, memory, x, b, columns, u, head, turn, k, passed);
        float a = f.a ? f.a[head] : 0.0f, bias = f.bias ? f.bias[head] : 0.0f;
        const i64 origin = ((i64)u.row * f.len + u.start) * f.dt_pitch + head;
        const int first = begin - u.first_step - passed;
        int chunk = passed + (turn + FEED_TURNS - passed % FEED_TURNS) % FEED_TURNS;
        passed += end - begin;
        int position = (first + chunk) * CHUNK + 2 * lane;
        Steps next0 = steps_at(f, origin + min(position, u.len - 1) * f.dt_pitch);
        Steps next1 = steps_at(f, origin + min(position + 1, u.len - 1) * f.dt_pitch);
        auto copy = [&] {
            const int stage = chunk % STAGES;
            barrier_wait_lazily(shared + EMPTY + 8 * stage, chunk / STAGES % 2 ^ 1);
            if (lane == 0 && k == 0)
                feed_tiles(shared + STAGE_AT + stage * STAGE_BYTES, shared + FULL + 8 * stage, x, b, c, columns,
                           u.start + (first + chunk) * CHUNK, u.row);
            __syncwarp();
        };
        if (chunk < passed) copy();  // while its steps are on their way
        for (bool copied = true; chunk < passed; chunk += FEED_TURNS, copied = false) {
            Steps p = discretized(f, next0, a, bias), q = discretized(f, next1, a, bias);
            if (position >= u.len) p = {0.0f, 0.0f};
            if (position + 1 >= u.len) q = {0.0f, 0.0f};
            position += FEED_TURNS * CHUNK;
            next0 = steps_at(f, origin + min(position, u.len - 1) * f.dt_pitch);
            next1 = steps_at(f, origin + min(position + 1, u.len - 1) * f.dt_pitch);
            auto [s0, s1, last] = summed(p, q);
            float r1 = __shfl_sync(~0u, s1, 7), r2 = __shfl_sync(~0u, s1, 15), r3 = __shfl_sync(~0u, s1, 23);
            float r = lane < 8 ? 0.0f : lane < 16 ? r1 : lane < 24 ? r2 : r3;
            const int stage = chunk % STAGES;
            float2* rows = (float2*)(memory + DECAY_AT + (stage * BLOCK_HEADS + k) * DECAY_BYTES) + lane;
            if (!copied) copy();
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
            barrier_arrive(shared + FULL + 8 * stage);
        }
        end = begin;
    }
}
