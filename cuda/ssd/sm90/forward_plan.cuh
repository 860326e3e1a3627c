// Arguments, work list and shared memory of the Hopper forward product.
//
// Defines: STORED_F16 or none (bf16), HEAD_DIM 64 or 128, STATE_DIM 64, 128 or 256.
//
// A piece is a run of positions walked as one: a sequence, or a segment of one. It has ceil(len / 64) chunks. A unit
// is a piece for the heads of one block; its chunks are steps. All steps of all units stand in one row, units in the
// order of pieces, then of head blocks, and each block of the grid takes an equal share of that row. Where a share
// begins inside a unit, the state is taken over, bit for bit, from the block before: cuts change no result.
#pragma once
#include "common/wgmma.cuh"

constexpr int CHUNK = 64;
constexpr int WALKERS = 2;                                      // warpgroups that hold 64 rows of state each:
constexpr bool WIDE = STATE_DIM == 256;                         // half of the columns of the same rows, or else
constexpr int BLOCK_HEADS = HEAD_DIM == 64 && !WIDE ? 2 : 1;    // two heads, or two halves of the rows of one
constexpr int HEAD_BLOCKS = WIDE ? HEAD_DIM / 64 : 1;           // blocks of one head
constexpr int STAGES = WIDE ? 2 : 3;
constexpr int FEED_TURNS = BLOCK_HEADS == 2 ? 2 : STAGES;       // warps that feed a head, in turns
static_assert(FEED_TURNS <= STAGES && FEED_TURNS * BLOCK_HEADS <= 4);
constexpr bool AHEAD = STAGES > 2;                              // x is read beside the products of the chunk before
constexpr int DEPTH_TILES = STATE_DIM / 64;                     // tiles of B and of C
constexpr int X_TILES = WIDE ? 1 : WALKERS;
constexpr int WALKER_COLUMNS = WIDE ? 128 : STATE_DIM;
constexpr int STATE_REGISTERS = WALKER_COLUMNS / 2;             // a thread, f32
constexpr int STATE_FLOATS = 64 * WALKER_COLUMNS;               // a walker
constexpr int FEED_REGISTERS = 40, MASK_REGISTERS = 72, WALK_REGISTERS = 200;  // a thread: 512 in all
constexpr float LOG2E = 1.4426950408889634f;
constexpr float LEAST = -64.0f;  // log2 of a decay below which the past is forgotten
constexpr float LEAST_LOG2_DECAY = -160.0f;                    // 0 in f32, and sums of 64 stay exact enough

// A row of `pieces`: where the piece lies and which states it takes in and gives out (-1: none).
struct Piece {
    int row, start, len, first_chunk, enter, leave, unused0, unused1;
};

struct Forward {
    const void* dt;           // (batch, len, heads) raw steps, or steps where log_a is given
    const float* log_a;       // (batch, len, heads) or null: then log a = a dt
    const float* a;           // (heads)
    const float* bias;        // (heads) or null
    const float* d;           // (heads) or (heads, HEAD_DIM) or null
    const float* initial;     // (states, heads, HEAD_DIM, STATE_DIM) or null
    float* final_state;       // the same or null
    u16* y;                   // (batch, len, heads, HEAD_DIM)
    const Piece* pieces;      // null: `segments` pieces a row
    float* handoff;           // (grid, WALKERS, STATE_FLOATS)
    u32* flags;               // (grid, WALKERS), zero before and after
    float* local;             // (batch, segments - 1, head blocks, WALKERS, STATE_FLOATS), of segment.cu; null: forward_back.cuh
    float* local_decay;       // (batch, segments - 1, head blocks, BLOCK_HEADS), log2, of segment.cu
    i64 dt_pitch, y_pitch;    // elements from one position to the next
    float dt_min, dt_max;
    int batch, len, heads, groups;
    int dt_is_storage, softplus, d_per_row;
    int segments, segment_chunks, piece_count, steps;
};

// Before the first read of what a kernel before this one may have written. With segment.cu, which waited itself, only its states
// are waited for.
__device__ __forceinline__ void wait_for_inputs(const Forward& f) {
    if (!f.local) wait_for_former();
}

struct Unit {
    int row, start, len, chunks, first_step, segment, enter, leave, block;
};

__device__ __forceinline__ int head_blocks_per_group(const Forward& f) {
    return (f.heads / f.groups * HEAD_BLOCKS + BLOCK_HEADS - 1) / BLOCK_HEADS;
}
__device__ __forceinline__ int head_blocks(const Forward& f) { return f.groups * head_blocks_per_group(f); }

// Head `k` of head block `block`, or -1 where a group's last block is not full.
__device__ __forceinline__ int head_of(const Forward& f, int block, int k) {
    int blocks = head_blocks_per_group(f), in_group = block % blocks / HEAD_BLOCKS * BLOCK_HEADS + k;
    return in_group < f.heads / f.groups ? block / blocks * (f.heads / f.groups) + in_group : -1;
}

// The head's row with which a walker begins.
__device__ __forceinline__ int first_row(int block, int walker) {
    return WIDE ? 64 * (block % HEAD_BLOCKS) : HEAD_DIM == 128 ? 64 * walker : 0;
}

// The chunks of a row, and those of one of its segments: the first one has what equal shares leave over, since nothing must be
// waited for before it is walked.
__device__ __forceinline__ int row_chunks(const Forward& f) { return (f.len + CHUNK - 1) / CHUNK; }
__device__ __forceinline__ int left_over(const Forward& f) { return row_chunks(f) - f.segments * f.segment_chunks; }
struct Chunks {
    int first, count;
};
__device__ __forceinline__ Chunks chunks_of(const Forward& f, int segment) {
    int more = left_over(f);
    return segment ? Chunks{more + segment * f.segment_chunks, f.segment_chunks} : Chunks{0, more + f.segment_chunks};
}

// The unit of a step.
__device__ __forceinline__ Unit unit_of(const Forward& f, int step) {
    int blocks = head_blocks(f), chunk = step / blocks, first_chunk;
    Unit u;
    if (f.pieces) {
        int low = 0, high = f.piece_count - 1;
        while (low < high) {
            int middle = (low + high + 1) / 2;
            if (f.pieces[middle].first_chunk <= chunk) low = middle;
            else high = middle - 1;
        }
        Piece p = f.pieces[low];
        u.row = p.row, u.start = p.start, u.len = p.len, u.enter = p.enter, u.leave = p.leave, u.segment = 0;
        first_chunk = p.first_chunk;
    } else {
        u.row = chunk / row_chunks(f);
        u.segment = max(chunk % row_chunks(f) - left_over(f), 0) / f.segment_chunks;
        Chunks of_segment = chunks_of(f, u.segment);
        u.start = of_segment.first * CHUNK;
        u.len = min(f.len - u.start, of_segment.count * CHUNK);
        u.enter = u.segment == 0 ? u.row : -1;
        u.leave = u.segment == f.segments - 1 ? u.row : -1;
        first_chunk = u.row * row_chunks(f) + of_segment.first;
    }
    u.chunks = (u.len + CHUNK - 1) / CHUNK;
    int within = step - first_chunk * blocks;
    u.block = within / u.chunks;
    u.first_step = first_chunk * blocks + u.block * u.chunks;
    return u;
}

// The share of this block, taken from its end: the unit cut at the end is walked first, so that whoever continues
// it need not wait.
struct Share {
    int begin, end;
};
__device__ __forceinline__ Share share_of(const Forward& f) {
    int grid = gridDim.x, k = blockIdx.x, blocks = head_blocks(f);
    if (!f.pieces && grid == f.batch * f.segments * blocks) {  // a block for each unit: nothing to hand over
        Chunks of_segment = chunks_of(f, k / blocks % f.segments);
        int begin = (k / blocks / f.segments * row_chunks(f) + of_segment.first) * blocks + k % blocks * of_segment.count;
        return {begin, begin + of_segment.count};
    }
    return {(int)((i64)k * f.steps / grid), (int)((i64)(k + 1) * f.steps / grid)};
}

// Place of a segment's local state and decay.
__device__ __forceinline__ i64 local_slot(const Forward& f, int row, int segment, int block) {
    return (i64)(row * (f.segments - 1) + segment) * head_blocks(f) + block;
}

// Rows of the decay table of a chunk and head, 64 numbers each. s: inclusive sum of log2 a; b: a block of 16 positions,
// r_b the sum before it; w: the steps.
enum DecayRow {
    SUM = 0,         // s_i
    STEP = 1,        // w_i
    FROM_BLOCK = 2,  // 2^(s_i - r_b), b the block of i
    TO_BLOCK = 3,    // rows 3, 4, 5: 2^(r_b - s_j) w_j for b = 1, 2, 3 and j before b
    FROM_START = 6,  // 2^(s_i)
    TO_END = 7,      // 2^(s_last - s_j) w_j as 16-bit words: for two positions the rounded numbers, then what is left of them
    TOTAL = 8,       // one number: 2^(s_last); and words of forward_back.cuh
};
constexpr int DECAY_BYTES = 2112;

constexpr int C_BYTES = DEPTH_TILES * TILE, X_BYTES = X_TILES * TILE;
constexpr int STAGE_BYTES = 2 * C_BYTES + X_BYTES;  // C, B, X
constexpr int OUT_ROWS = 32;                        // of a box of y
constexpr int MASKS = 2;                            // chunks whose masked scores are in flight

constexpr int STAGE_AT = 0;
constexpr int MASK_AT = STAGE_AT + STAGES * STAGE_BYTES;             // (MASKS, BLOCK_HEADS) tiles
constexpr int OUT_AT = MASK_AT + MASKS * BLOCK_HEADS * TILE;         // (2, X_TILES) tiles
constexpr int EXCHANGE_AT = OUT_AT + 2 * X_TILES * TILE;               // (2, WALKERS, 4, 128, 4) f32 if WIDE
constexpr int DECAY_AT = EXCHANGE_AT + (WIDE ? 2 * WALKERS * 16 * 512 : 0);                   // (STAGES, BLOCK_HEADS)
constexpr int DIAGONAL_AT = DECAY_AT + STAGES * BLOCK_HEADS * DECAY_BYTES;  // (MASKS, BLOCK_HEADS, 64) f32
constexpr int BARRIER_AT = DIAGONAL_AT + MASKS * BLOCK_HEADS * 256;
constexpr int FULL = BARRIER_AT, EMPTY = FULL + 8 * STAGES, MASK_FULL = EMPTY + 8 * STAGES,
              MASK_EMPTY = MASK_FULL + 8 * MASKS * BLOCK_HEADS, CLEARED = MASK_EMPTY + 8 * MASKS * BLOCK_HEADS,
              EXCHANGE_FULL = CLEARED + 8 * STAGES;  // of buffer and receiver
constexpr int SHARED_BYTES = EXCHANGE_FULL + 8 * 2 * WALKERS + 1024;  // and room to align

// Barriers of hardware, by number (0 is __syncthreads).
enum NamedBarrier { STAGED = 2, MASK_ONLY = 4, FEED_ONLY = 5, VACANT = 6, HANDED = 8 };  // STAGED, VACANT, HANDED: one a walker

// The barrier of a stage whose chunk is the last of its piece: it ends a phase whenever the rest of the tiles is cleared.
struct Cleared {
    u32 parities = 0;
    __device__ __forceinline__ void wait(u32 shared, int stage) {
        barrier_wait(shared + CLEARED + 8 * stage, parities >> stage & 1);
        parities ^= 1u << stage;
    }
};

// A place in a ring and the parity of its current round.
template <int SIZE>
struct Ring {
    int at = 0;
    u32 parity = 0;
    __device__ __forceinline__ void next() {
        if (++at == SIZE) at = 0, parity ^= 1;
    }
};
