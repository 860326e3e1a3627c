// The state with which a segment of a short row begins, by the block that goes on with it: the chunks before are walked back,
// from the segment's beginning,
//
//     H = Σ_t 2^(sum of log2 a after t) dt_t x_t B_tᵀ  +  2^(sum of all log2 a) H_initial        t before the segment
//
// once everything older has decayed below 2^LEAST for all heads of the block it is left out. Long rows have segment.cu for this.
//
// The chunks pass through the stages like all others, without C. TOTAL is what remains of the initial state; the word after it,
// in the first head's table, says whether a chunk is the last.
#pragma once
#include "ssd/sm90/forward_state.cuh"
#include "ssd/sm90/forward_steps.cuh"

__device__ __forceinline__ bool walks_back(const Forward& f, const Unit& u) { return u.segment > 0 && !f.local; }

// Where the sum of log2 a of a round's chunk `i` stands, behind the two words of TOTAL; for every other round in another place.
__device__ __forceinline__ float* back_sum(char* memory, int place, int i, int k) {
    return (float*)(memory + DECAY_AT + ((place + i) % STAGES * BLOCK_HEADS + k) * DECAY_BYTES) + TOTAL * 64 + 2 + place / FEED_TURNS % 2;
}

// Feeds those chunks, from `place` among all of the share; returns the place after the last. In a round each warp has a chunk, the
// one whose place is its turn. The sums of log2 a pass through the tables, so that all warps find the same last chunk.
__device__ int feed_back(const Forward& f, u32 shared, char* memory, const TensorMap* x, const TensorMap* b, const Columns& columns,
                         const Unit& u, int head, int turn, int k, int place) {
    const int lane = threadIdx.x % 32, own = (turn + FEED_TURNS - place % FEED_TURNS) % FEED_TURNS;
    const float a = f.a ? f.a[head] : 0.0f, bias = f.bias ? f.bias[head] : 0.0f;
    auto copy = [&](int place, int row) {
        const int stage = place % STAGES;
        barrier_wait(shared + EMPTY + 8 * stage, place / STAGES % 2 ^ 1);
        if (lane == 0 && k == 0)
            feed_tiles(shared + STAGE_AT + stage * STAGE_BYTES, shared + FULL + 8 * stage, x, b, nullptr, columns, row, u.row);
        __syncwarp();
    };
    float after[BLOCK_HEADS] = {};
    int row = u.start - CHUNK;  // of the round's first chunk
    if (own == 0) copy(place, row);  // before its steps are there
    i64 at = ((i64)u.row * f.len + row - own * CHUNK + 2 * lane) * f.dt_pitch + head;
    Steps next0 = {}, next1 = {};
    if (row >= own * CHUNK) next0 = steps_at(f, at), next1 = steps_at(f, at + f.dt_pitch);
    for (;; row -= FEED_TURNS * CHUNK, place += FEED_TURNS) {
        const Steps p = discretized(f, next0, a, bias), q = discretized(f, next1, a, bias);
        at -= FEED_TURNS * CHUNK * f.dt_pitch;
        if (row >= (own + FEED_TURNS) * CHUNK) next0 = steps_at(f, at), next1 = steps_at(f, at + f.dt_pitch);
        const Sums s = summed(p, q);
        if (lane == 0) *back_sum(memory, place, own, k) = s.last;
        named_sync(FEED_ONLY, WARP * FEED_TURNS * BLOCK_HEADS);
        int last = -1;
        float total = 0.0f;
#pragma unroll
        for (int i = 0; i < FEED_TURNS; i++) {
            bool forgotten = true;
#pragma unroll
            for (int j = 0; j < BLOCK_HEADS; j++) {
                after[j] += *back_sum(memory, place, i, j);
                forgotten &= after[j] < LEAST;
                if (i == own && j == k) total = after[j];
            }
            if (last < 0 && (forgotten || row == i * CHUNK)) last = i;
        }
        if (last < 0 || own <= last) {
            const int stage = (place + own) % STAGES;
            float2* rows = (float2*)(memory + DECAY_AT + (stage * BLOCK_HEADS + k) * DECAY_BYTES) + lane;
            if (own > 0 || row < u.start - CHUNK) copy(place + own, row - own * CHUNK);
            ((uint2*)rows)[TO_END * 32] = split(exp2_fast(total - s.s0) * p.dt, exp2_fast(total - s.s1) * q.dt);
            // Of the initial state: nothing, unless the row's first chunk is reached.
            if (lane == 0) rows[TOTAL * 32] = {row == own * CHUNK ? exp2_fast(total) : 0.0f, __int_as_float(own == last)};
            barrier_arrive(shared + FULL + 8 * stage);
        }
        if (last >= 0) return place + last + 1;
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
    if (!initial || total == 0.0f) return;
    float before[STATE_REGISTERS];
    load_state(before, initial);
#pragma unroll
    for (int i = 0; i < STATE_REGISTERS; i++) h[i] += total * before[i];
}
