// The states that segments add on Hopper: for every segment of a row but the last, walked from a state of zero,
//
//     local = Σ_t 2^(sum of log2 a after t) dt_t x_t B_tᵀ,    local_decay = sum of log2 a        (row, segment, head)
//
// and the initial state, decayed, in a row's first. ssd_forward_sm90 joins them where it begins a segment, in order.
//
// A segment is walked from its end: once everything older has decayed below 2^LEAST it is left out, so that the cost is
// the memory of the head, not the length of the segment.
//
// x, b, Forward, tiles and tables: as in forward.cu. Grid: any number of blocks, a unit is (row, segment, head block).
// Block: three warpgroups, feed and two walkers. Shared memory: SEGMENT_SHARED_BYTES.
#include "ssd/sm90/forward_state.cuh"
#include "ssd/sm90/forward_steps.cuh"

constexpr int RING = WIDE ? 3 : 4;
constexpr int PAIR_BYTES = C_BYTES + X_BYTES;  // B, X
constexpr int TABLE_AT = RING * PAIR_BYTES;    // (RING, BLOCK_HEADS) decay tables
constexpr int ALIVE_AT = TABLE_AT + RING * BLOCK_HEADS * DECAY_BYTES;  // (RING, BLOCK_HEADS) words
constexpr int READY = ALIVE_AT + RING * 8, FREE = READY + 8 * RING, DECIDED = FREE + 8 * RING;
constexpr int SEGMENT_SHARED_BYTES = DECIDED + 8 * RING + 1024;

struct Segment {
    int row, segment, block;
};
__device__ __forceinline__ Segment segment_of(const Forward& f, int unit) {
    int blocks = head_blocks(f), rest = unit / blocks;
    return {rest / (f.segments - 1), rest % (f.segments - 1), unit % blocks};
}
__device__ __forceinline__ int units(const Forward& f) { return f.batch * (f.segments - 1) * head_blocks(f); }

// Whether any head of the block still sees the chunk in this place of the ring. Every role asks, and stops at the same.
__device__ __forceinline__ bool any_alive(const char* memory, int at) {
    const int* alive = (const int*)(memory + ALIVE_AT) + at * BLOCK_HEADS;
    return alive[0] || alive[BLOCK_HEADS - 1];
}

__device__ void feed_pairs(const Forward& f, u32 shared, const char* memory, const TensorMap* x, const TensorMap* b) {
    Ring<RING> ring;
    for (int unit = blockIdx.x; unit < units(f); unit += gridDim.x) {
        Segment s = segment_of(f, unit);
        int head = head_of(f, s.block, 0), second = BLOCK_HEADS == 2 ? head_of(f, s.block, 1) : -1;
        int column = head / (f.heads / f.groups) * STATE_DIM, x_column = head * HEAD_DIM + first_row(s.block, 0);
        int x_second = second < 0 && BLOCK_HEADS == 2 ? x_column : x_column + 64;
        Chunks chunks = chunks_of(f, s.segment);
        bool alive = true;
        for (int chunk = chunks.count - 1; alive && chunk >= 0; chunk--, ring.next()) {
            u32 ready = shared + READY + 8 * ring.at, at = shared + ring.at * PAIR_BYTES;
            int row = (chunks.first + chunk) * CHUNK;
            barrier_wait(shared + DECIDED + 8 * ring.at, ring.parity);
            alive = any_alive(memory, ring.at);
            if (!alive) {
                barrier_arrive(ready);
                continue;
            }
            barrier_expect(ready, PAIR_BYTES);
            for (int k = 0; k < DEPTH_TILES; k++) copy_in(at + k * TILE, b, column + 64 * k, row, s.row, ready);
            copy_in(at + C_BYTES, x, x_column, row, s.row, ready);
            if (X_TILES == 2) copy_in(at + C_BYTES + TILE, x, x_second, row, s.row, ready);
        }
    }
}

__device__ void feed_tails(const Forward& f, u32 shared, char* memory, int k) {
    Ring<RING> ring;
    int lane = threadIdx.x % 32;
    for (int unit = blockIdx.x; unit < units(f); unit += gridDim.x) {
        Segment s = segment_of(f, unit);
        int head = head_of(f, s.block, k);
        if (head < 0) head = head_of(f, s.block, 0);
        float a = f.a ? f.a[head] : 0.0f, bias = f.bias ? f.bias[head] : 0.0f, after = 0.0f;
        Chunks chunks = chunks_of(f, s.segment);
        i64 at = ((i64)s.row * f.len + (chunks.first + chunks.count - 1) * CHUNK + 2 * lane) * f.dt_pitch + head;
        Steps next0 = steps_at(f, at), next1 = steps_at(f, at + f.dt_pitch);
        bool alive = true;
        for (int chunk = chunks.count - 1; alive && chunk >= 0; chunk--, ring.next()) {
            Steps p = discretized(f, next0, a, bias), q = discretized(f, next1, a, bias);
            at -= CHUNK * f.dt_pitch;
            if (chunk > 0) next0 = steps_at(f, at), next1 = steps_at(f, at + f.dt_pitch);
            auto [s0, s1, last] = summed(p, q);
            barrier_wait_lazily(shared + FREE + 8 * ring.at, ring.parity ^ 1);
            float2* rows = (float2*)(memory + TABLE_AT + (ring.at * BLOCK_HEADS + k) * DECAY_BYTES) + lane;
            ((uint2*)rows)[TO_END * 32] = split(exp2_fast(after + last - s0) * p.dt, exp2_fast(after + last - s1) * q.dt);
            if (lane == 0) {
                ((int*)(memory + ALIVE_AT))[ring.at * BLOCK_HEADS + k] = !(after < LEAST);
                ((float*)rows)[TOTAL * 64] = exp2_fast(after + last);
            }
            barrier_arrive(shared + DECIDED + 8 * ring.at);
            barrier_arrive(shared + READY + 8 * ring.at);
            barrier_wait(shared + DECIDED + 8 * ring.at, ring.parity);
            alive = any_alive(memory, ring.at);
            after += last;
        }
        if (lane == 0) f.local_decay[local_slot(f, s.row, s.segment, s.block) * BLOCK_HEADS + k] = after;
    }
}

__device__ void walk_segments(const Forward& f, u32 shared, const char* memory, int walker) {
    Ring<RING> ring;
    int thread = thread_in_group(), k = BLOCK_HEADS == 2 ? walker : 0;
    u32 in_tile = matrix_row();
    float h[STATE_REGISTERS];
    for (int unit = blockIdx.x; unit < units(f); unit += gridDim.x) {
        Segment s = segment_of(f, unit);
#pragma unroll
        for (int i = 0; i < STATE_REGISTERS; i++) h[i] = 0.0f;
        float total = 1.0f;
        bool alive = true;
        for (int chunk = chunks_of(f, s.segment).count - 1; alive && chunk >= 0; chunk--, ring.next()) {
            u32 at = shared + ring.at * PAIR_BYTES;
            const float* decay = (const float*)(memory + TABLE_AT + (ring.at * BLOCK_HEADS + k) * DECAY_BYTES);
            barrier_wait(shared + READY + 8 * ring.at, ring.parity);
            alive = any_alive(memory, ring.at);
            total = decay[TOTAL * 64];
            if (alive)
                add_chunk(h, at + C_BYTES + (X_TILES == 2 ? walker * TILE : 0) + in_tile, at + (WIDE ? 2 * walker * TILE : 0), decay);
            barrier_arrive(shared + FREE + 8 * ring.at);
        }
        int head = head_of(f, s.block, k);
        if (s.segment == 0 && f.initial && head >= 0) {
            float before[STATE_REGISTERS];
            i64 row = ((i64)s.row * f.heads + head) * HEAD_DIM + first_row(s.block, walker);
            load_state(before, f.initial + row * STATE_DIM + (WIDE ? 128 * walker : 0));
#pragma unroll
            for (int i = 0; i < STATE_REGISTERS; i++) h[i] += total * before[i];
        }
        store_registers(h, f.local + (local_slot(f, s.row, s.segment, s.block) * WALKERS + walker) * STATE_FLOATS);
    }
}

// For the host: dynamic shared memory of a block.
static_assert(SEGMENT_SHARED_BYTES <= SHARED, "the host gives less shared memory");

extern "C" __global__ void __launch_bounds__(384, 1)
    ssd_segment_sm90(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap b, const __grid_constant__ Forward f) {
    let_next_start();
    extern __shared__ __align__(1024) char memory[];
    u32 shared = kept(shared_address(memory));
    if (threadIdx.x == 0) {
        for (int i = 0; i < RING; i++) {
            barrier_init(shared + READY + 8 * i, 1 + WARP * BLOCK_HEADS);
            barrier_init(shared + FREE + 8 * i, 4 * WARP * WALKERS);
            barrier_init(shared + DECIDED + 8 * i, WARP * BLOCK_HEADS);
        }
        barrier_init_fence();
    }
    __syncthreads();
    int group = threadIdx.x / 128, warp = threadIdx.x / 32 % 4;
    if (group > 0) walk_segments(f, shared, memory, group - 1);
    else if (warp == 0 && threadIdx.x == 0) feed_pairs(f, shared, memory, &x, &b);
    else if (warp > 0 && warp <= BLOCK_HEADS) feed_tails(f, shared, memory, warp - 1);
}
