// The state with which a segment of a short row begins, by the block that goes on with it: the chunks before are walked back,
// from the segment's beginning,
//
//     H = Σ_t 2^(sum of log2 a after t) dt_t x_t B_tᵀ  +  2^(sum of all log2 a) H_initial        t before the segment
//
// once everything older has decayed below 2^LEAST for all heads of the block it is left out. Long rows have segment.cu for this.
//
// The chunks pass through the stages like all others, without C; the word after TOTAL in the first head's table says whether
// one is the last.
#pragma once
#include "ssd/sm90/forward_state.cuh"
#include "ssd/sm90/forward_steps.cuh"

__device__ __forceinline__ bool walks_back(const Forward& f, const Unit& u) { return u.segment > 0 && !f.local; }

// A head's steps, walked back chunk by chunk; lane l has positions 2 l and 2 l + 1.
struct Back {
    float a, bias, after;  // sum of log2 a after the chunk
    Steps next0, next1;
};
__device__ __forceinline__ void load_steps(const Forward& f, Back& h, i64 at) {
    h.next0 = steps_at(f, at), h.next1 = steps_at(f, at + f.dt_pitch);
}
__device__ __forceinline__ Back back_of(const Forward& f, int head, i64 at) {
    Back h = {f.a ? f.a[head] : 0.0f, f.bias ? f.bias[head] : 0.0f, 0.0f};
    load_steps(f, h, at + head);
    return h;
}

// Feeds those chunks, from `place` among all of the share; returns the place after the last. All warps find the same last one.
__device__ int feed_back(const Forward& f, u32 shared, char* memory, const TensorMap* x, const TensorMap* b, const Columns& columns,
                         const Unit& u, int turn, int k, int place) {
    const int lane = threadIdx.x % 32, head = feed_head(f, u.block, k), beside = feed_head(f, u.block, BLOCK_HEADS - 1 - k);
    i64 at = ((i64)u.row * f.len + u.start - CHUNK + 2 * lane) * f.dt_pitch;
    const int soon = u.start - (lane + 1) * CHUNK;  // x of all of them is on its way while the first are walked
    if (turn == FEED_TURNS - 1 && soon >= 0) prefetch_tile(x, k ? columns.second : columns.x, soon, u.row);
    Back own = back_of(f, head, at), other = back_of(f, beside, at);
    for (int row = u.start - CHUNK;; row -= CHUNK, place++) {
        const int stage = place % STAGES;
        const u32 full = shared + FULL + 8 * stage;
        if (place % FEED_TURNS == turn) {
            barrier_wait(shared + EMPTY + 8 * stage, place / STAGES % 2 ^ 1);
            if (lane == 0 && k == 0) feed_tiles(shared + STAGE_AT + stage * STAGE_BYTES, full, x, b, nullptr, columns, row, u.row);
            __syncwarp();
        }
        at -= CHUNK * f.dt_pitch;
        if constexpr (BLOCK_HEADS == 2) {
            other.after += summed(discretized(f, other.next0, other.a, other.bias), discretized(f, other.next1, other.a, other.bias)).last;
            if (row > 0) load_steps(f, other, at + beside);
        }
        const Steps p = discretized(f, own.next0, own.a, own.bias), q = discretized(f, own.next1, own.a, own.bias);
        if (row > 0) load_steps(f, own, at + head);
        const Sums s = summed(p, q);
        const float total = own.after + s.last;
        const bool last = row == 0 || (total < LEAST && (BLOCK_HEADS == 1 || other.after < LEAST));
        if (place % FEED_TURNS == turn) {
            float2* rows = (float2*)(memory + DECAY_AT + (stage * BLOCK_HEADS + k) * DECAY_BYTES) + lane;
            ((uint2*)rows)[TO_END * 32] = split(exp2_fast(total - s.s0) * p.dt, exp2_fast(total - s.s1) * q.dt);
            if (lane == 0) rows[TOTAL * 32] = {exp2_fast(total), __int_as_float(last)};
            barrier_arrive(full);
        }
        if (last) return place + 1;
        own.after = total;
    }
}

// The stage that `ring` is at is the last of those chunks.
__device__ __forceinline__ bool ends_back(const char* memory, int stage) {
    return ((const int*)(memory + DECAY_AT + stage * BLOCK_HEADS * DECAY_BYTES))[TOTAL * 64 + 1];
}

// Lets them pass.
__device__ void skip_back(u32 shared, const char* memory, Ring<STAGES>& ring) {
    for (bool last = false; !last; ring.next()) {
        barrier_wait(shared + FULL + 8 * ring.at, ring.parity);
        last = ends_back(memory, ring.at);
        barrier_arrive(shared + EMPTY + 8 * ring.at);
    }
}

// h = the 64 rows of that state which are `walker`'s; h is zero before. `initial`: those of the initial state, or null.
__device__ void walk_back(u32 shared, const char* memory, Ring<STAGES>& ring, float (&h)[STATE_REGISTERS], int walker, u32 in_tile,
                          const float* initial) {
    float total = 0.0f;
    for (bool last = false; !last; ring.next()) {
        const u32 at = shared + STAGE_AT + ring.at * STAGE_BYTES + C_BYTES;
        const float* decay = (const float*)(memory + DECAY_AT + (ring.at * BLOCK_HEADS + (BLOCK_HEADS == 2 ? walker : 0)) * DECAY_BYTES);
        barrier_wait(shared + FULL + 8 * ring.at, ring.parity);
        last = ends_back(memory, ring.at), total = decay[TOTAL * 64];
        add_chunk(h, at + C_BYTES + (WIDE ? 0 : walker * TILE) + in_tile, at + (WIDE ? 2 * walker * TILE : 0), decay);
        barrier_arrive(shared + EMPTY + 8 * ring.at);
    }
    if (!initial) return;
    float before[STATE_REGISTERS];
    load_state(before, initial);
#pragma unroll
    for (int i = 0; i < STATE_REGISTERS; i++) h[i] += total * before[i];
}
