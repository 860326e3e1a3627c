// The backward pass of the chunks, given the state H that enters each and the cotangent dH of the one that leaves it. Per head:
//
//   S = C B^T,  L_ij = e^{s_i - s_j} (i >= j),  R = dY X^T,  K = S L R
//   rows:     pairs: dS += L R dt,  sums of K over rows and columns, R_tt;  state: dC += e^{s_i} dY H,  <dY_i, e^{s_i} C_i H>
//   columns:  dX = dt (e^{s_Q - s_j} B dH^T + (S L)^T dY) + d dY,  <X_j, e^{s_Q - s_j} dH B_j>;
//             dB += dt e^{s_Q - s_j} X dH,  <dH, H>
//   at the end of the heads of a group: dC += dS B (rows), dB += dS^T C (rows, a part of its own)
//
// With two bands the launch of the second one comes first: it leaves its part of B dH^T in `carried`, and the launch of the
// first band does what belongs to no band.
//
// Two blocks share a chunk, one for what is summed along rows and one for what is summed along columns; each holds its sums
// over heads in registers. All blocks for columns come first, so that multiprocessors get as many of each kind.
//
// Grid 2 x splits x groups x chunks, 512 threads. Warpgroup `half` has positions 64 half .. 64 half + 64 of what stands first in
// the list above (pairs, dX); warpgroup 2 + half those of what stands second (state, dB), and copies the tiles.
#include "ssd/sm90/backward.cuh"

constexpr int STAGES = 2, SUMS = 6;
constexpr u32 OWN_AT = 0, STAGES_AT = N_PANELS * PANEL;
constexpr u32 X_AT = 0, DY_AT = PANEL, STATE_AT = 2 * PANEL; // in a stage; then H, columns: dH, and H where both are one term
constexpr u32 ROWS_STAGE = STATE_AT + KEPT_BYTES, COLUMNS_STAGE = STATE_AT + 2 * STATE_BYTES;
// S or S^T of blocks 00 and 11, then of the other one, as [block][8][thread] of 4; in the end dS.
constexpr u32 SCORES_AT = STAGES_AT + STAGES * ROWS_STAGE, SCORES_T_AT = STAGES_AT + STAGES * COLUMNS_STAGE;
constexpr u32 SCORES_BYTES = 3 * 8 * 128 * 16;
constexpr u32 GIVEN_AT = SCORES_T_AT + SCORES_BYTES; // [stage]

// Numbers of a head beside its tiles.
struct Given {
    float s[Q], dt[Q];
    Sizes sizes[2]; // of X and H, of dY and dH
    float d[P];     // columns: the skip
};
// Rows: parts of sums of K's columns, [head's parity][12][64]. Columns: a panel for dX on its way out.
constexpr u32 SPACE_AT = GIVEN_AT + STAGES * sizeof(Given);
constexpr u32 BARRIERS_AT = SPACE_AT + PANEL;
constexpr u32 PLACE_AT = BARRIERS_AT + 16 * STAGES + 16; // 64 bytes
constexpr u32 MOST_AT = PLACE_AT + 64; // of columns: the largest of what dB is a sum of, found by 8 warps
static_assert(MOST_AT + 32 <= SHARED, "the host gives less shared memory");

// The pass's tensors.
struct Pass {
    const storage *x, *dy, *b, *c;
    const float *d;          // a number a head (not slice) or, with d_channels, (heads, 64); or null
    const float *s, *dt;     // [chunk][head][128]
    const float *largest;    // [chunk][head]: the largest |dt_j| e^{s_Q - s_j}
    const storage *h, *dh;   // [chunk][head][band][term] states in f16 as panels
    const Sizes *sizes;      // [chunk][head][band][forth, back]
    storage *dx;             // (batch, len, heads, head_dim), no gaps
    float *db, *dc;          // parts: [2 splits], [splits] of (batch, len, groups, state_dim)
    float *sums;             // [chunk][head][band][6][128]: rows of K; columns of K strictly below the diagonal, own half;
                             //   first half, and behind it a part of the rows of the second half; R_tt; columns of the state;
                             //   rows of the state's output. Of a second band the last two only
    float *same;             // [chunk][group][128]: S_tt
    float *passed;           // [chunk][head][band][8]: parts of <dH, H>
    float *carried;          // [chunk][head][half][8][128][4]: e^{s_Q - s_j} B dH^T of the second band; or null
    long long positions;     // batch x len
    int d_channels, splits, band;

    // What belongs to no band is done with the first one.
    DEVICE bool leads() const { return BANDS == 1 || band == 0; }
    DEVICE long long place(const Shape &shape, int chunk, int head) const {
        return ((long long)chunk * shape.heads + head) * BANDS + band;
    }
};

DEVICE float largest_of(const float *four) { return fmaxf(fmaxf(four[0], four[1]), fmaxf(four[2], four[3])); }
// How numbers of these sizes become f16.
DEVICE Scale half_scale(const Sizes &of) { return half_scale(largest_of(of.most)); }

// X and dY as the copy engine sees them: (batch, len, columns), in boxes of 128 positions and 64 columns.
struct Tiles {
    const TensorMap *x, *dy;
};

// A block's place in the grid and its memory.
struct Place {
    Chunk k;
    int chunk, group, split, first, count; // heads first .. first + count
    bool whole;                            // its row has no position behind the chunk's end that a full one would have
    u32 base;
    unsigned char *memory;

    DEVICE u32 full(int i) const { return base + BARRIERS_AT + 8 * (i % STAGES); }
    DEVICE u32 empty(int i) const { return base + BARRIERS_AT + 8 * STAGES + 8 * (i % STAGES); }

    // Each is passed once, by the first two warpgroups for the second two: scores are there and the first stage is free; dS is
    // there.
    DEVICE u32 scored() const { return base + BARRIERS_AT + 16 * STAGES; }
    DEVICE u32 paired() const { return scored() + 8; }

    // The same read back from memory, for loops that have no register to spare.
    DEVICE const Place &again() const { return *(const Place *)(memory + PLACE_AT); }
    DEVICE int head(int i) const { return again().first + i; }
    DEVICE u32 stage(int i, u32 size) const { return base + STAGES_AT + (i % STAGES) * size; }
    DEVICE u32 operands(int i, u32 size) const { return pieces(base) + STAGES_AT / 16 + (i % STAGES) * (size / 16); }
    DEVICE const Given &given(int i) const { return ((const Given *)(memory + GIVEN_AT))[i % STAGES]; }
    DEVICE void wait_full(int i) const { barrier_wait(full(i), (i / STAGES) & 1); }
    DEVICE void release(int i) const { barrier_arrive(empty(i)); }
};
static_assert(sizeof(Place) <= 64, "the room at PLACE_AT");

// Copies C and B of a band, 16 rows a warp: the one of this block's rows or columns into its own place, the other one into
// the first stage.
DEVICE void copy_generators(const Shape &shape, const Pass &pass, const Place &at, bool columns, int band, u32 row, u32 lane) {
    const long long position = shape.position(at.k, 0);
    const int column = column_of(at.group, band);
#pragma unroll 1
    for (int panel = 0; panel < N_PANELS; panel++) {
        copy_rows<16>(at.base + (columns ? STAGES_AT : OWN_AT) + panel * PANEL,
                      pass.c + position * shape.c_pitch + column + panel * 64, shape.c_pitch, row, at.k.len, lane);
        copy_rows<16>(at.base + (columns ? OWN_AT : STAGES_AT) + panel * PANEL,
                      pass.b + position * shape.b_pitch + column + panel * 64, shape.b_pitch, row, at.k.len, lane);
    }
    copies_wait();
    fence_async();
}

// Two blocks of the products of this block's generators with the other ones, over all bands: rows 64 half .. 64 half + 64 by
// the same positions and by those from 64 `other`. The other bands are replaced by this pass's.
DEVICE void scores_of(float (&own)[32], float (&other_block)[32], const Shape &shape, const Pass &pass, const Place &at,
                      bool columns, u32 half, u32 other, u32 row, u32 lane) {
#pragma unroll 1
    for (int round = 0; round < BANDS; round++) {
        if (round > 0) {
            named_sync(4, 256);
            copy_generators(shape, pass, at, columns, pass.band, row, lane);
            named_sync(4, 256);
        }
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < N / 16; step++) {
            const u32 left = pieces(at.base) + (OWN_AT + (step >> 2) * PANEL) / 16 + (step & 3) * 2;
            const u32 right = left + (STAGES_AT - OWN_AT) / 16;
            const u64 rows = rows_operand(left + 64 * ROW * half);
            product<0, 0>(own, rows, rows_operand(right + 64 * ROW * half), round + step > 0);
            product<0, 0>(other_block, rows, rows_operand(right + 64 * ROW * other), round + step > 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        pin(own);
        pin(other_block);
    }
}

// This thread's number, read anew, so that what follows from it is not kept in registers across a loop.
DEVICE u32 thread_again() {
    u32 thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}

// A number that is the same in all lanes, as the compiler can see.
DEVICE u32 same(u32 v) { return __shfl_sync(~0u, v, 0); }

// The first of this warp's rows or columns in a half, and its lane.
struct Warp {
    u32 row, lane;
};
DEVICE Warp rows_again(u32 half) {
    const u32 thread = thread_again() & 127;
    return {64 * half + 16 * (thread >> 5), thread & 31};
}

// This warp's 16 rows of a tile as left operands of four steps, in f16 by the factors of a lane's two rows.
DEVICE void load_rows_half(u32 (&to)[4][4], u32 tile, u32 row, u32 lane, const float (&by)[2]) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
        load_matrices(to[step], tile_address(tile, row, 2 * step, lane));
#pragma unroll
        for (int m = 0; m < 4; m++) to[step][m] = to_half(to[step][m], by[m & 1]);
    }
}

// The skip of column p of a head, into a `Given`.
DEVICE void copy_skip(const Pass &pass, u32 given, int head, int slice_bits, u32 p) {
    const float *d = pass.d + (pass.d_channels ? head * P + p : head >> slice_bits);
    copy_number(given + 2 * Q * 4 + 2 * sizeof(Sizes) + p * 4, pass.d ? d : pass.s, pass.d != nullptr);
}

// A head's states into its stage by the copy engine: H, for columns behind dH; where dH has two terms there is no room for it,
// and it goes into the second-level cache.
template <bool COLUMNS>
DEVICE void copy_states(const Pass &pass, long long place, u32 stage, u32 full) {
    const u64 offset = place * KEPT_BYTES;
    if (COLUMNS) bulk_load(stage + STATE_AT, (const unsigned char *)pass.dh + offset, KEPT_BYTES, full);
    if (COLUMNS && TERMS == 2)
        bulk_prefetch((const unsigned char *)pass.h + offset, KEPT_BYTES);
    else
        bulk_load(stage + STATE_AT + (COLUMNS ? STATE_BYTES : 0), (const unsigned char *)pass.h + offset, KEPT_BYTES, full);
}

// Bytes of them that arrive in the stage.
DEVICE constexpr u32 states_bytes(bool columns) { return columns ? 2 * STATE_BYTES : KEPT_BYTES; }

// A head's tiles and numbers into its stage by the copy engine, for a chunk that is full or ends with its row (then the engine puts
// zeros behind it): by one warp, whose first lane arrives; for columns each lane once more.
template <bool COLUMNS>
DEVICE void copy_whole(const Shape &shape, const Pass &pass, const Tiles &tiles, const Place &at, int i, u32 lane) {
    const u32 stage = at.stage(i, COLUMNS ? COLUMNS_STAGE : ROWS_STAGE), full = at.full(i);
    const u32 given = at.base + GIVEN_AT + (i % STAGES) * sizeof(Given);
    const Place &here = at.again();
    const int head = here.first + i;
    const long long place = pass.place(shape, here.chunk, head);
    if (lane == 0) {
        barrier_expect(full, 2 * PANEL + states_bytes(COLUMNS) + 2 * Q * 4 + 2 * sizeof(Sizes));
        copy_in(stage + X_AT, tiles.x, head * P, here.k.start, here.k.row, full);
        copy_in(stage + DY_AT, tiles.dy, head * P, here.k.start, here.k.row, full);
        copy_states<COLUMNS>(pass, place, stage, full);
        bulk_load(given, pass.s + place / BANDS * Q, Q * 4, full);
        bulk_load(given + Q * 4, pass.dt + place / BANDS * Q, Q * 4, full);
        bulk_load(given + 2 * Q * 4, pass.sizes + place * 2, 2 * sizeof(Sizes), full);
    }
    if (!COLUMNS) return;
    copy_skip(pass, given, head, shape.slice_bits, lane);
    copy_skip(pass, given, head, shape.slice_bits, lane + 32);
    copies_arrive(full);
}

// The same for any chunk, with zeros behind its end, by the 8 warps of the second two warpgroups.
template <bool COLUMNS>
DEVICE void copy_part(const Shape &shape, const Pass &pass, const Place &at, int i, u32 warp, u32 lane) {
    const u32 stage = at.stage(i, COLUMNS ? COLUMNS_STAGE : ROWS_STAGE), full = at.full(i);
    const u32 given = at.base + GIVEN_AT + (i % STAGES) * sizeof(Given);
    const Place &here = at.again();
    const int head = here.first + i;
    const long long place = pass.place(shape, here.chunk, head);
    if (warp == 0 && lane == 0) {
        barrier_expect(full, states_bytes(COLUMNS));
        copy_states<COLUMNS>(pass, place, stage, full);
    }
    if (warp < 2) {
        copy_piece(given + warp * 512 + lane * 16, (warp == 0 ? pass.s : pass.dt) + place / BANDS * Q + lane * 4, true);
    } else if (warp == 2) {
        if (lane < 2 * sizeof(Sizes) / 16)
            copy_piece(given + 1024 + lane * 16, (const float *)(pass.sizes + place * 2) + lane * 4, true);
    } else if (COLUMNS && warp < 5) {
        copy_skip(pass, given, head, shape.slice_bits, 32 * (warp - 3) + lane);
    }
    const long long position = shape.position(here.k, 0);
    const int column = head * P;
    copy_rows<16>(stage + X_AT, pass.x + position * shape.x_pitch + column, shape.x_pitch, 16 * warp, here.k.len, lane);
    copy_rows<16>(stage + DY_AT, pass.dy + position * shape.dy_pitch + column, shape.dy_pitch, 16 * warp, here.k.len, lane);
    copies_arrive(full);
}

// Copies for head i once its stage is free, where it has to become free.
template <bool COLUMNS>
DEVICE void copy_head(const Shape &shape, const Pass &pass, const Tiles &tiles, const Place &at, int i) {
    const u32 thread = thread_again() - 256;
    if (i >= at.again().count || (at.again().whole && thread >= 32)) return;
    if (i >= STAGES) barrier_wait(at.empty(i), (i / STAGES - 1) & 1);
    if (at.again().whole) {
        copy_whole<COLUMNS>(shape, pass, tiles, at, i, thread);
    } else {
        copy_part<COLUMNS>(shape, pass, at, i, thread >> 5, thread & 31);
    }
}

// The first heads' copies; the first stage is free as soon as scores are there.
template <bool COLUMNS>
DEVICE void copy_first(const Shape &shape, const Pass &pass, const Tiles &tiles, const Place &at) {
#pragma unroll 1
    for (int i = STAGES - 1; i >= 0; i--) {
        if (i == 0) barrier_wait(at.scored(), 0);
        copy_head<COLUMNS>(shape, pass, tiles, at, i);
    }
}

#include "ssd/sm90/backward_rows.cuh"
#include "ssd/sm90/backward_columns.cuh"

extern "C" __global__ void __launch_bounds__(512, 1)
    ssd_backward_chunks(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap dy, Shape shape, Pass pass,
                        const Chunk *chunks) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Place at;
    const u32 each_kind = gridDim.x / 2;
    const bool columns = blockIdx.x < each_kind;
    u32 block = columns ? blockIdx.x : blockIdx.x - each_kind;
    at.split = block % pass.splits;
    block /= pass.splits;
    at.group = block % shape.groups;
    at.chunk = block / shape.groups;
    at.k = chunks[at.chunk];
    const int heads = shape.heads_per_group(), each = (heads + pass.splits - 1) / pass.splits;
    at.first = at.group * heads + at.split * each;
    at.count = min(each, heads - at.split * each);
    at.whole = at.k.len == Q || at.k.start + at.k.len == shape.len;
    at.memory = memory;
    at.base = shared_address(memory);

    if (threadIdx.x == 0) {
        *(Place *)(memory + PLACE_AT) = at;
        for (int i = 0; i < STAGES; i++) {
            barrier_init(at.full(i), !at.whole ? 257 : columns ? 33 : 1);
            barrier_init(at.empty(i), 512);
        }
        barrier_init(at.scored(), 256);
        barrier_init(at.paired(), 256);
        barrier_init_fence();
    }
    // Scores are over all bands, and this one comes last.
    if (threadIdx.x < 256)
        copy_generators(shape, pass, at, columns, BANDS == 1 ? 0 : 1 - pass.band, 16 * (threadIdx.x >> 5), threadIdx.x & 31);
    else if (columns)
        store_most(shape, pass, at, threadIdx.x - 256);
    __syncthreads();

    const Tiles tiles = {&x, &dy};
    // The same number in all lanes, as the compiler can see.
    const u32 warpgroup = __shfl_sync(~0u, threadIdx.x >> 7, 0), half = warpgroup & 1, thread = threadIdx.x & 127;
    if (warpgroup < 2) {
        if (columns) {
            columns_dx(shape, pass, at, half, thread);
        } else {
            rows_pairs(shape, pass, at, half, thread);
        }
    } else {
        if (columns) {
            columns_db(shape, pass, tiles, at, half);
        } else {
            rows_state(shape, pass, tiles, at, half);
        }
    }
}
