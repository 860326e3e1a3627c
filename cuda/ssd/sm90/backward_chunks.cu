// The backward pass of the chunks, given the state H that enters each and the cotangent dH of the one that leaves it. Per head:
//
//   S = C B^T,  L_ij = e^{s_i - s_j} (i >= j),  R = dY X^T,  K = S L R
//   rows:     dS += L R dt,  dC += e^{s_i} dY H,   sums of K over rows and columns, <dY_i, e^{s_i} C_i H>, R_tt
//   columns:  dX = dt (e^{s_Q - s_j} B dH^T + (S L)^T dY) + d dY,  dB += dt e^{s_Q - s_j} X dH,  <X_j, e^{s_Q - s_j} dH B_j>, <dH, H>
//   at the end of the heads of a group: dC += dS B (rows), dB += dS^T C (rows, a part of its own)
//
// Two blocks share a chunk, one for what is summed along rows and one for what is summed along columns; each holds its sums over
// heads in registers. They run side by side, so that X, dY and H come from device memory once.
//
// Grid 2 x splits x groups x chunks, 384 threads: two warpgroups, of 64 rows or columns each, and one that copies.
#include "ssd/sm90/backward.cuh"

constexpr int STAGES = 2, SUMS = 5;
constexpr u32 OWN_AT = 0, STAGES_AT = N_PANELS * PANEL;
constexpr u32 X_AT = 0, DY_AT = P_PANELS * PANEL, STATE_AT = 2 * P_PANELS * PANEL; // in a stage; then H, columns: dH, H
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
static_assert(P == 64, "a tile of X is one panel");

// The pass's tensors.
struct Pass {
    const storage *x, *dy, *b, *c;
    const float *d;          // (heads) or, with d_channels, (heads, head_dim); or null
    const float *s, *dt;     // [chunk][head][128]
    const storage *h, *dh;   // [chunk][head] states in f16 as panels
    const Sizes *sizes;      // [chunk][head][forth, back]
    storage *dx;             // (batch, len, heads, head_dim), no gaps
    float *db, *dc;          // parts: [2 splits], [splits] of (batch, len, groups, state_dim)
    float *sums;             // [chunk][head][5][128]: rows of K and of the state's output; columns of K strictly below the
                             //   diagonal, own half and first half; R_tt; columns of the state
    float *same;             // [chunk][group][128]: S_tt
    float *passed;           // [chunk][head][4]: parts of <dH, H>
    long long positions;     // batch x len
    int d_channels, splits;
};

// How numbers of these sizes become f16.
DEVICE Scale half_scale(const Sizes &of) {
    return half_scale(fmaxf(fmaxf(of.most[0], of.most[1]), fmaxf(of.most[2], of.most[3])));
}

// A block's place in the grid and its memory.
struct Place {
    Chunk k;
    int chunk, group, split, first, count; // heads first .. first + count
    u32 base, full, empty;
    unsigned char *memory;

    // The same read back from memory, for what comes after a loop that has no register to spare.
    DEVICE const Place &again() const { return *(const Place *)(memory + PLACE_AT); }
    DEVICE u32 stage(int i, u32 size) const { return base + STAGES_AT + (i % STAGES) * size; }
    DEVICE const float *steps(int i) const { return (const float *)(memory + STEPS_AT + (i % STAGES) * STEPS_BYTES); }
    // Of X and H, or of dY and dH.
    DEVICE const Sizes &sizes(int i, bool back) const { return ((const Sizes *)(steps(i) + 2 * Q))[back]; }
    DEVICE void wait_full(int i) const { barrier_wait(full + 8 * (i % STAGES), (i / STAGES) & 1); }
    DEVICE void release(int i, u32 lane) const {
        __syncwarp();
        if (lane == 0) barrier_arrive(empty + 8 * (i % STAGES));
    }
};

#include "ssd/sm90/backward_rows.cuh"
#include "ssd/sm90/backward_columns.cuh"

// <dH, H> of one stage, a quarter of it by each warp.
DEVICE float passed_on(const unsigned char *dh, u32 thread) {
    float sum = 0.f;
#pragma unroll 1
    for (u32 e = thread * 16; e < STATE_BYTES; e += 128 * 16) {
        const uint4 u = *(const uint4 *)(dh + e), v = *(const uint4 *)(dh + STATE_BYTES + e);
        const u32 left[4] = {u.x, u.y, u.z, u.w}, right[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int m = 0; m < 4; m++) {
            const float2 l = unpack_half(left[m]), r = unpack_half(right[m]);
            sum += l.x * r.x + l.y * r.y;
        }
    }
#pragma unroll
    for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
    return sum;
}

// Copies the heads' tiles, one stage after the other; with COLUMNS also sums <dH, H>.
template <bool COLUMNS>
DEVICE void copy_heads(const Shape &shape, const Pass &pass, const Place &at, u32 thread) {
    constexpr u32 STAGE = COLUMNS ? COLUMNS_STAGE : ROWS_STAGE;
    const u32 warp = thread >> 5, lane = thread & 31;
    const long long position = shape.position(at.k, 0);
    const long long place = (long long)at.chunk * shape.heads + at.first;
    for (int i = 0; i <= at.count; i++) {
        if (i < at.count) {
            const u32 stage = at.stage(i, STAGE), full = at.full + 8 * (i % STAGES);
            barrier_wait(at.empty + 8 * (i % STAGES), (i / STAGES) & 1);
            if (thread == 0) {
                barrier_expect(full, COLUMNS ? 2 * STATE_BYTES : STATE_BYTES);
                const u64 offset = (place + i) * STATE_BYTES;
                if (COLUMNS) bulk_load(stage + STATE_AT, (const unsigned char *)pass.dh + offset, STATE_BYTES, full);
                bulk_load(stage + STATE_AT + (COLUMNS ? STATE_BYTES : 0), (const unsigned char *)pass.h + offset,
                          STATE_BYTES, full);
            }
            copy_rows<32>(stage + X_AT, pass.x + position * shape.x_pitch + (at.first + i) * P, shape.x_pitch, 32 * warp,
                          at.k.len, lane);
            copy_rows<32>(stage + DY_AT, pass.dy + position * shape.dy_pitch + (at.first + i) * P, shape.dy_pitch, 32 * warp,
                          at.k.len, lane);
            if (warp < 2)
                copy_piece(at.base + STEPS_AT + (i % STAGES) * STEPS_BYTES + thread * 16,
                           (warp == 0 ? pass.s : pass.dt) + (place + i) * Q + lane * 4, true);
            else if (thread < 64 + 2 * sizeof(Sizes) / 16)
                copy_piece(at.base + STEPS_AT + (i % STAGES) * STEPS_BYTES + thread * 16,
                           (const float *)(pass.sizes + (place + i) * 2) + (thread - 64) * 4, true);
            copies_arrive(full);
        }
        if (COLUMNS && i > 0) {
            at.wait_full(i - 1);
            const float sum = passed_on(at.memory + STAGES_AT + ((i - 1) % STAGES) * STAGE + STATE_AT, thread) *
                              at.sizes(i - 1, false).state * at.sizes(i - 1, true).state;
            at.release(i - 1, lane);
            if (lane == 0) pass.passed[(place + i - 1) * 4 + warp] = sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(384, 1)
    ssd_backward_chunks(Shape shape, Pass pass, const Chunk *chunks) {
    extern __shared__ __align__(1024) unsigned char memory[];
    Place at;
    u32 block = blockIdx.x;
    const bool columns = block & 1;
    block >>= 1;
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
    at.full = at.base + BARRIERS_AT;
    at.empty = at.full + 8 * STAGES;
    const u32 warpgroup = threadIdx.x >> 7, thread = threadIdx.x & 127;

    if (threadIdx.x == 0) {
        *(Place *)(memory + PLACE_AT) = at;
        for (int i = 0; i < STAGES; i++) {
            barrier_init(at.full + 8 * i, 129);
            barrier_init(at.empty + 8 * i, columns ? 12 : 8);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    // C and B: the one of this block's rows or columns for good, the other one in the first stage.
    const long long position = shape.position(at.k, 0);
    const u32 warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    for (int panel = 0; panel < N_PANELS && warp < 4; panel++) {
        copy_rows<32>(at.base + (columns ? STAGES_AT : OWN_AT) + panel * PANEL,
                      pass.c + position * shape.c_pitch + at.group * N + panel * 64, shape.c_pitch, 32 * warp, at.k.len, lane);
        copy_rows<32>(at.base + (columns ? OWN_AT : STAGES_AT) + panel * PANEL,
                      pass.b + position * shape.b_pitch + at.group * N + panel * 64, shape.b_pitch, 32 * warp, at.k.len, lane);
    }
    copies_wait();
    fence_async();
    __syncthreads();

    if (warpgroup == 2) {
        registers_shrink<24>();
        if (columns) {
            for (int i = 0; i < STAGES; i++) at.release(i, thread & 31);
            copy_heads<true>(shape, pass, at, thread);
        } else {
            copy_heads<false>(shape, pass, at, thread);
        }
    } else {
        registers_grow<240>();
        // The same number in all lanes, as the compiler can see.
        const u32 uniform = __shfl_sync(~0u, warpgroup, 0);
        if (columns) {
            backward_columns(shape, pass, at, uniform, thread);
        } else {
            backward_rows(shape, pass, at, uniform, thread);
        }
    }
}
