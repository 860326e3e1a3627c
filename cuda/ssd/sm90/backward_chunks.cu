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

constexpr int STAGES = 2, SUMS = 6;
constexpr u32 OWN_AT = 0, STAGES_AT = N_PANELS * PANEL;
constexpr u32 X_AT = 0, DY_AT = P_PANELS * PANEL, STATE_AT = 2 * P_PANELS * PANEL; // in a stage; then H, columns: dH, H
constexpr u32 ROWS_STAGE = STATE_AT + STATE_BYTES, COLUMNS_STAGE = STATE_AT + 2 * STATE_BYTES;
constexpr u32 SCORES_AT = STAGES_AT + STAGES * ROWS_STAGE; // rows: S as [block][8][thread] of 4, then dS
constexpr u32 SCORES_BYTES = 3 * 8 * 128 * 16;
constexpr u32 OFF_SCORES_AT = STAGES_AT + STAGES * COLUMNS_STAGE; // columns: S^T of block (0, 1) as [8][thread] of 4
constexpr u32 ROWS_END = SCORES_AT + SCORES_BYTES, COLUMNS_END = OFF_SCORES_AT + 8 * 128 * 16;
constexpr u32 STEPS_AT = ROWS_END > COLUMNS_END ? ROWS_END : COLUMNS_END; // [stage][s, dt][128]
constexpr u32 PARTS_AT = STEPS_AT + STAGES * 1024;                        // [head's parity][12][64]
constexpr u32 BARRIERS_AT = PARTS_AT + 2 * 12 * 64 * 4;
static_assert(P == 64, "a tile of X is one panel");

// The pass's tensors.
struct Pass {
    const storage *x, *dy, *b, *c;
    const float *d;          // (heads) or, with d_channels, (heads, head_dim); or null
    const float *s, *dt;     // [chunk][head][128]
    const storage *h, *dh;   // [chunk][head] states as panels
    storage *dx;             // (batch, len, heads, head_dim), no gaps
    float *db, *dc;          // parts: [2 splits], [splits] of (batch, len, groups, state_dim)
    float *sums;             // [chunk][head][6][128]: rows of K and of the state's output; columns of K, own and other half;
                             //   S_tt R_tt; R_tt; columns of the state
    float *passed;           // [chunk][head][2]: halves of <dH, H>
    long long positions;     // batch x len
    int d_channels, splits;
};

// A block's place in the grid and its memory.
struct Place {
    Chunk k;
    int chunk, group, split, first, count; // heads first .. first + count
    u32 base, full, empty;
    unsigned char *memory;

    DEVICE u32 stage(int i, u32 size) const { return base + STAGES_AT + (i % STAGES) * size; }
    DEVICE const float *steps(int i) const { return (const float *)(memory + STEPS_AT + (i % STAGES) * 1024); }
    DEVICE void wait_full(int i) const { barrier_wait(full + 8 * (i % STAGES), (i / STAGES) & 1); }
    DEVICE void release(int i, u32 lane) const {
        __syncwarp();
        if (lane == 0) barrier_arrive(empty + 8 * (i % STAGES));
    }
};

#include "ssd/sm90/backward_rows.cuh"
#include "ssd/sm90/backward_columns.cuh"

// Copies the heads' tiles, one stage after the other; with COLUMNS also sums <dH, H>.
template <bool COLUMNS>
DEVICE void copy_heads(const Shape &shape, const Pass &pass, const Place &at, u32 thread) {
    constexpr u32 STAGE = COLUMNS ? COLUMNS_STAGE : ROWS_STAGE;
    const u32 warp = thread >> 5, lane = thread & 31;
    const long long position = shape.position(at.k, 0);
    for (int i = 0; i < at.count; i++) {
        const int head = at.first + i;
        const u32 stage = at.stage(i, STAGE), full = at.full + 8 * (i % STAGES);
        const long long place = (long long)at.chunk * shape.heads + head;
        if (warp < 2) {
            barrier_wait(at.empty + 8 * (i % STAGES), (i / STAGES) & 1);
            if (thread == 0) {
                barrier_expect(full, COLUMNS ? 2 * STATE_BYTES : STATE_BYTES);
                const u64 offset = place * STATE_BYTES;
                if (COLUMNS) bulk_load(stage + STATE_AT, (const unsigned char *)pass.dh + offset, STATE_BYTES, full);
                bulk_load(stage + STATE_AT + (COLUMNS ? STATE_BYTES : 0), (const unsigned char *)pass.h + offset,
                          STATE_BYTES, full);
            }
            const storage *from = warp == 0 ? pass.x : pass.dy;
            const long long pitch = warp == 0 ? shape.x_pitch : shape.dy_pitch;
            copy_panel<Q>(stage + (warp == 0 ? X_AT : DY_AT), from + position * pitch + head * P, pitch, at.k.len, lane, 32);
            copy_piece(at.base + STEPS_AT + (i % STAGES) * 1024 + thread * 16,
                       (warp == 0 ? pass.s : pass.dt) + place * Q + lane * 4, true);
            copies_arrive(full);
        } else if (COLUMNS) {
            at.wait_full(i);
            const unsigned char *dh = at.memory + STAGES_AT + (i % STAGES) * STAGE + STATE_AT;
            float sum = 0.f;
            for (u32 e = (thread - 64) * 16; e < STATE_BYTES; e += 64 * 16) {
                const uint4 u = *(const uint4 *)(dh + e), v = *(const uint4 *)(dh + STATE_BYTES + e);
                const u32 left[4] = {u.x, u.y, u.z, u.w}, right[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                for (int m = 0; m < 4; m++) {
                    const float2 l = unpack(left[m]), r = unpack(right[m]);
                    sum += l.x * r.x + l.y * r.y;
                }
            }
            at.release(i, lane);
            for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
            if (lane == 0) pass.passed[place * 2 + warp - 2] = sum;
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
        for (int i = 0; i < STAGES; i++) {
            barrier_init(at.full + 8 * i, 65);
            barrier_init(at.empty + 8 * i, columns ? 10 : 8);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    // C and B: the one of this block's rows or columns for good, the other one in the first stage.
    const long long position = shape.position(at.k, 0);
    for (int panel = 0; panel < N_PANELS; panel++) {
        copy_panel<Q>(at.base + (columns ? STAGES_AT : OWN_AT) + panel * PANEL,
                      pass.c + position * shape.c_pitch + at.group * N + panel * 64, shape.c_pitch, at.k.len, threadIdx.x,
                      384);
        copy_panel<Q>(at.base + (columns ? OWN_AT : STAGES_AT) + panel * PANEL,
                      pass.b + position * shape.b_pitch + at.group * N + panel * 64, shape.b_pitch, at.k.len, threadIdx.x,
                      384);
    }
    copies_wait();
    fence_async();
    __syncthreads();

    if (warpgroup == 2) {
        registers_shrink<40>();
        if (columns) {
            if (thread >= 64) // the first use of the stages waits for two more arrivals
                for (int i = 0; i < STAGES; i++) at.release(i, thread & 31);
            copy_heads<true>(shape, pass, at, thread);
        } else {
            copy_heads<false>(shape, pass, at, thread);
        }
    } else {
        registers_grow<232>();
        if (columns) {
            if (warpgroup == 0) {
                backward_columns<0>(shape, pass, at, thread);
            } else {
                backward_columns<1>(shape, pass, at, thread);
            }
        } else {
            if (warpgroup == 0) {
                backward_rows<0>(shape, pass, at, thread);
            } else {
                backward_rows<1>(shape, pass, at, thread);
            }
        }
    }
}
