// The backward pass of the chunks, given the state H that enters each and the cotangent dH of the one that leaves it. Per head:
//
//   S = C B^T,  L_ij = e^{s_i - s_j} (i >= j),  R = dY X^T,  K = S L R
//   rows:     dS += L R dt,  dC += e^{s_i} dY H,   sums of K over rows and columns, <dY_i, e^{s_i} C_i H>, R_tt
//   columns:  dX = dt (e^{s_Q - s_j} B dH^T + (S L)^T dY) + d dY,  dB += dt e^{s_Q - s_j} X dH,  <X_j, e^{s_Q - s_j} dH B_j>, <dH, H>
//   at the end of the heads of a group: dC += dS B (rows), dB += dS^T C (rows, a part of its own)
//
// With two bands the launch of the second one comes first: it leaves its part of B dH^T in `carried`, and the launch of the
// first band does what belongs to no band.
//
// Two blocks share a chunk, one for what is summed along rows and one for what is summed along columns; each holds its sums
// over heads in registers. All blocks for columns come first: side by side the two would read the same numbers at the same
// time, which took longer than reading them twice.
//
// Grid 2 x splits x groups x chunks, 384 threads: two warpgroups, of 64 rows or columns each, and one that copies.
#include "ssd/sm90/backward.cuh"

constexpr int STAGES = 2, SUMS = 5;
constexpr u32 OWN_AT = 0, STAGES_AT = N_PANELS * PANEL;
constexpr u32 X_AT = 0, DY_AT = PANEL, STATE_AT = 2 * PANEL; // in a stage; then H, columns: dH, H
constexpr u32 ROWS_STAGE = STATE_AT + STATE_BYTES, COLUMNS_STAGE = STATE_AT + 2 * STATE_BYTES;
constexpr u32 SCORES_AT = STAGES_AT + STAGES * ROWS_STAGE; // rows: S as [block][8][thread] of 4, then dS
constexpr u32 SCORES_BYTES = 3 * 8 * 128 * 16;
constexpr u32 SCORES_T_AT = STAGES_AT + STAGES * COLUMNS_STAGE; // columns: S^T likewise
constexpr u32 ROWS_END = SCORES_AT + SCORES_BYTES, COLUMNS_END = SCORES_T_AT + SCORES_BYTES;
constexpr u32 STEPS_AT = ROWS_END > COLUMNS_END ? ROWS_END : COLUMNS_END; // [stage]: s, dt of 128; sizes
constexpr u32 STEPS_BYTES = 1024 + 2 * sizeof(Sizes);
constexpr u32 PARTS_AT = STEPS_AT + STAGES * STEPS_BYTES; // [head's parity][12][64]
constexpr u32 BARRIERS_AT = PARTS_AT + 2 * 12 * 64 * 4;
constexpr u32 PLACE_AT = BARRIERS_AT + 16 * STAGES; // 64 bytes

// The pass's tensors.
struct Pass {
    const storage *x, *dy, *b, *c;
    const float *d;          // a number a head (not slice) or, with d_channels, (heads, 64); or null
    const float *s, *dt;     // [chunk][head][128]
    const storage *h, *dh;   // [chunk][head][band] states in f16 as panels
    const Sizes *sizes;      // [chunk][head][band][forth, back]
    storage *dx;             // (batch, len, heads, head_dim), no gaps
    float *db, *dc;          // parts: [2 splits], [splits] of (batch, len, groups, state_dim)
    float *sums;             // [chunk][head][band][5][128]: rows of K and of the state's output; columns of K strictly below
                             //   the diagonal, own half; first half, and behind it a part of the rows of the second half;
                             //   R_tt; columns of the state. Of a second band the first and the last only, without K
    float *same;             // [chunk][group][128]: S_tt
    float *passed;           // [chunk][head][band][4]: parts of <dH, H>
    float *carried;          // [chunk][head][half][8][128][4]: e^{s_Q - s_j} B dH^T of the second band; or null
    long long positions;     // batch x len
    int d_channels, splits, band;

    // What belongs to no band is done with the first one.
    DEVICE bool leads() const { return BANDS == 1 || band == 0; }
    DEVICE long long place(const Shape &shape, int chunk, int head) const {
        return ((long long)chunk * shape.heads + head) * BANDS + band;
    }
};

// How numbers of these sizes become f16.
DEVICE Scale half_scale(const Sizes &of) {
    return half_scale(fmaxf(fmaxf(of.most[0], of.most[1]), fmaxf(of.most[2], of.most[3])));
}

// A block's place in the grid and its memory.
struct Place {
    Chunk k;
    int chunk, group, split, first, count; // heads first .. first + count
    u32 base;
    unsigned char *memory;

    DEVICE u32 full(int i) const { return base + BARRIERS_AT + 8 * (i % STAGES); }
    DEVICE u32 empty(int i) const { return base + BARRIERS_AT + 8 * STAGES + 8 * (i % STAGES); }

    // The same read back from memory, for loops that have no register to spare.
    DEVICE const Place &again() const { return *(const Place *)(memory + PLACE_AT); }
    DEVICE int head(int i) const { return again().first + i; }
    DEVICE u32 stage(int i, u32 size) const { return base + STAGES_AT + (i % STAGES) * size; }
    DEVICE const float *steps(int i) const { return (const float *)(memory + STEPS_AT + (i % STAGES) * STEPS_BYTES); }
    // Of X and H, or of dY and dH.
    DEVICE const Sizes &sizes(int i, bool back) const { return ((const Sizes *)(steps(i) + 2 * Q))[back]; }
    DEVICE void wait_full(int i) const { barrier_wait(full(i), (i / STAGES) & 1); }
    DEVICE void release(int i, u32 lane) const {
        __syncwarp();
        if (lane == 0) barrier_arrive(empty(i));
    }
};

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

// Two blocks of the products of this block's generators with the other ones, over all bands: rows 64 w .. 64 w + 64 by the
// warpgroup's own positions and by those from 64 `other`. The other bands are replaced by this pass's.
DEVICE void scores_of(float (&own)[32], float (&other_block)[32], const Shape &shape, const Pass &pass, const Place &at,
                      bool columns, u32 warpgroup, u32 other, u32 row, u32 lane) {
#pragma unroll 1
    for (int round = 0; round < BANDS; round++) {
        if (round > 0) {
            named_sync(3, 256);
            copy_generators(shape, pass, at, columns, pass.band, row, lane);
            named_sync(3, 256);
        }
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < N / 16; step++) {
            const u32 at_step = (step >> 2) * PANEL + (step & 3) * 32;
            const u64 left = rows_operand(at.base + OWN_AT + at_step + 64 * warpgroup * 128);
            product<0, 0>(own, left, rows_operand(at.base + STAGES_AT + at_step + 64 * warpgroup * 128), round + step > 0);
            product<0, 0>(other_block, left, rows_operand(at.base + STAGES_AT + at_step + 64 * other * 128), round + step > 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
        pin(own);
        pin(other_block);
    }
}

#include "ssd/sm90/backward_rows.cuh"
#include "ssd/sm90/backward_columns.cuh"

// <dH, H> of one stage, a quarter of it by each warp: sums along the diagonal of products of 8 rows by 8 columns, where a lane's
// numbers are a part of row g on the left and of column g on the right.
DEVICE float passed_on(const unsigned char *dh, u32 thread) {
    float sum[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll 2
    for (u32 e = thread * 16; e < STATE_BYTES; e += 128 * 16) {
        const uint4 u = *(const uint4 *)(dh + e), v = *(const uint4 *)(dh + STATE_BYTES + e);
        add_product_half(sum, u.x, u.y, v.x, v.y);
        add_product_half(sum, u.z, u.w, v.z, v.w);
    }
    const u32 g = (thread >> 2) & 7, t = thread & 3;
    float own = g == 2 * t ? sum[0] : g == 2 * t + 1 ? sum[1] : 0.f;
#pragma unroll
    for (int d = 16; d > 0; d /= 2) own += __shfl_xor_sync(~0u, own, d);
    return own;
}

// Copies the heads' tiles, one stage after the other; with COLUMNS also sums <dH, H>.
template <bool COLUMNS>
DEVICE void copy_heads(const Shape &shape, const Pass &pass, const Place &at, u32 thread) {
    constexpr u32 STAGE = COLUMNS ? COLUMNS_STAGE : ROWS_STAGE;
    const u32 warp = thread >> 5, lane = thread & 31;
    const int count = at.count;
    for (int i = 0; i <= count; i++) {
        // Read back in each round: there are few registers here.
        const Place &here = at.again();
        const long long place = pass.place(shape, here.chunk, here.first + i);
        if (i < count) {
            const u32 stage = at.stage(i, STAGE), full = at.full(i);
            barrier_wait(at.empty(i), (i / STAGES) & 1);
            if (thread == 0) {
                barrier_expect(full, COLUMNS ? 2 * STATE_BYTES : STATE_BYTES);
                const u64 offset = place * STATE_BYTES;
                if (COLUMNS) bulk_load(stage + STATE_AT, (const unsigned char *)pass.dh + offset, STATE_BYTES, full);
                bulk_load(stage + STATE_AT + (COLUMNS ? STATE_BYTES : 0), (const unsigned char *)pass.h + offset,
                          STATE_BYTES, full);
            }
            const u32 steps = at.base + STEPS_AT + (i % STAGES) * STEPS_BYTES + thread * 16;
            if (warp < 2)
                copy_piece(steps, (warp == 0 ? pass.s : pass.dt) + place / BANDS * Q + lane * 4, true);
            else if (thread < 64 + 2 * sizeof(Sizes) / 16)
                copy_piece(steps, (const float *)(pass.sizes + place * 2) + (thread - 64) * 4, true);
            const long long position = shape.position(here.k, 0);
            const int column = (here.first + i) * P;
            copy_rows<32>(stage + X_AT, pass.x + position * shape.x_pitch + column, shape.x_pitch, 32 * warp, here.k.len,
                          lane);
            copy_rows<32>(stage + DY_AT, pass.dy + position * shape.dy_pitch + column, shape.dy_pitch, 32 * warp, here.k.len,
                          lane);
            copies_arrive(full);
        }
        if (COLUMNS && i > 0) {
            at.wait_full(i - 1);
            const float sum = passed_on(at.memory + STAGES_AT + ((i - 1) % STAGES) * STAGE + STATE_AT, thread) *
                              at.sizes(i - 1, false).state * at.sizes(i - 1, true).state;
            at.release(i - 1, lane);
            if (lane == 0) pass.passed[(place - BANDS) * 4 + warp] = sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(384, 1)
    ssd_backward_chunks(Shape shape, Pass pass, const Chunk *chunks) {
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
    at.memory = memory;
    at.base = shared_address(memory);
    const u32 warpgroup = threadIdx.x >> 7, thread = threadIdx.x & 127;

    if (threadIdx.x == 0) {
        *(Place *)(memory + PLACE_AT) = at;
        for (int i = 0; i < STAGES; i++) {
            barrier_init(at.full(i), 129);
            barrier_init(at.empty(i), columns ? 12 : 8);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    // Scores are over all bands, and this one comes last.
    if (warpgroup < 2)
        copy_generators(shape, pass, at, columns, BANDS == 1 ? 0 : 1 - pass.band, 16 * (threadIdx.x >> 5), thread & 31);
    __syncthreads();

    if (warpgroup == 2) {
        registers_give<40>();
        if (columns) {
            for (int i = 0; i < STAGES; i++) at.release(i, thread & 31);
            copy_heads<true>(shape, pass, at, thread);
        } else {
            copy_heads<false>(shape, pass, at, thread);
        }
    } else {
        registers_take<232>();
        // The same number in all lanes, as the compiler can see.
        const u32 uniform = __shfl_sync(~0u, warpgroup, 0);
        if (columns) {
            backward_columns(shape, pass, at, uniform, thread);
        } else {
            backward_rows(shape, pass, at, uniform, thread);
        }
    }
}
