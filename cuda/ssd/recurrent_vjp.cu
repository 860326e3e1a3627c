// Cotangents of the state space form, by the recurrence run backwards:
//
//     dh_t += dy_t c_t^T,  dc_t = h_t^T dy_t,  db_t = dh_t^T u_t,  du_t = dh_t b_t,  da_t = <dh_t, h_{t-1}>,  dh_{t-1} = a_t dh_t
//
// log_a, dt: (rows, heads) Acc.  x, dy, dx: (rows, heads * HEAD_DIM) Stored.  b, c: (rows, groups * STATE_DIM) Stored.
// d: (heads, dims.skip) Acc.  initial, dlast, dinitial: (states, heads, HEAD_DIM, STATE_DIM) Acc; null is zero.
// tiles = tiles of CHANNELS channels of a head. db, dc: (rows, heads * tiles, STATE_DIM) Acc, to be summed over the heads
// of a group.  ddt, dlog_a: (tiles, rows, heads) Acc, to be summed over the tiles.
// kept: (segments, heads, tiles) states, one for each SEGMENT steps; ranges: the segments of each span.
// scratch: (blocks, SEGMENT) states.  A state of a block is ROWS * PACKS packs of each thread.
// Grid: as many blocks as there is scratch; each takes every gridDim.x-th of `work` = spans * heads * tiles; block: 256.
// Shared memory: up to 33 KiB, static.  Defines: FREE_DIAGONAL as in recurrent.cu.
#include "common/exact.cuh"

constexpr int LANES = 16;
constexpr int SLOTS = 256 / LANES;
constexpr int CHANNELS = SLOTS * ROWS;
constexpr int PACK = 16 / sizeof(Acc);
constexpr int PACKS = (STATE_DIM + LANES * PACK - 1) / (LANES * PACK);
constexpr int WIDTH = PACKS * LANES * PACK;
constexpr int SEGMENT = 32;

struct alignas(16) Pack {
    Acc v[PACK];
};
struct Range {
    int begin, end;
};
typedef Pack State[ROWS][PACKS];

// b_t or c_t, this thread's numbers.
__device__ __forceinline__ void load_row(Pack (&out)[PACKS], const Stored *row) {
#pragma unroll
    for (int k = 0; k < PACKS; k++)
#pragma unroll
        for (int j = 0; j < PACK; j++) {
            const int n = (k * LANES + threadIdx.x % LANES) * PACK + j;
            out[k].v[j] = n < STATE_DIM ? widen(row[n]) : Acc(0);
        }
}

// States of this tile of channels, to and from (head_dim, state_dim) and to and from a thread's own places.
__device__ __forceinline__ void load_state(State &h, const Acc *from, int channel, int width) {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int k = 0; k < PACKS; k++)
#pragma unroll
            for (int j = 0; j < PACK; j++) {
                const int p = r * SLOTS + threadIdx.x / LANES, n = (k * LANES + threadIdx.x % LANES) * PACK + j;
                const bool inside = from && p < width && n < STATE_DIM;
                h[r][k].v[j] = inside ? from[(i64)(channel + p) * STATE_DIM + n] : Acc(0);
            }
}
__device__ __forceinline__ void put(Pack *place, const State &h) {
#pragma unroll
    for (int k = 0; k < ROWS * PACKS; k++) place[k * 256 + threadIdx.x] = h[k / PACKS][k % PACKS];
}
__device__ __forceinline__ void get(State &h, const Pack *place) {
#pragma unroll
    for (int k = 0; k < ROWS * PACKS; k++) h[k / PACKS][k % PACKS] = place[k * 256 + threadIdx.x];
}

// h = a h + u b^T
__device__ __forceinline__ void advance(State &h, Acc a, const Acc (&u)[ROWS], const Pack (&b)[PACKS]) {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int k = 0; k < PACKS; k++)
#pragma unroll
            for (int j = 0; j < PACK; j++) h[r][k].v[j] = a * h[r][k].v[j] + u[r] * b[k].v[j];
}

extern "C" __global__ void __launch_bounds__(256)
    recurrent_vjp(const Span *spans, const Range *ranges, Dims dims, i64 work, i64 rows, const Acc *log_a, const Acc *dt,
                  const Stored *x, const Stored *b, const Stored *c, const Acc *d, const Acc *initial, const Acc *dlast,
                  const Stored *dy, Stored *dx, Acc *ddt, Acc *dlog_a, Acc *db, Acc *dc, Acc *dinitial, Pack *kept,
                  Pack *scratch) {
    __shared__ Acc share[2][8][WIDTH];
    __shared__ Acc single[2][SLOTS];
    constexpr int TILES = (HEAD_DIM + CHANNELS - 1) / CHANNELS;
    constexpr int SIZE = ROWS * PACKS * 256;
    const int lane = threadIdx.x % LANES, slot = threadIdx.x / LANES;
    scratch += (i64)blockIdx.x * SEGMENT * SIZE;

    for (i64 item = blockIdx.x; item < work; item += gridDim.x) {
        const int tile = item % TILES, channel = tile * CHANNELS, width = min(CHANNELS, HEAD_DIM - channel);
        const Head at(spans, dims, item / TILES / dims.heads, item / TILES % dims.heads);
        const Range range = ranges[item / TILES / dims.heads];
        const Acc *las = at.scalars(log_a), *dts = at.scalars(dt);
        const Stored *xs = at.channels(x, dims.x_pitch) + channel, *dys = at.channels(dy, dims.y_pitch) + channel;
        const Stored *bs = at.features(b, dims.b_pitch), *cs = at.features(c, dims.c_pitch);
        Stored *dxs = at.channels(dx, dims.dx_pitch) + channel;

        // Forwards: one state for each segment is kept.
        State h, dh;
        Pack bt[PACKS], ct[PACKS];
        Acc u[ROWS];
        auto step = [&](int t) {
            load_row(bt, bs + t * dims.b_pitch);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const int p = r * SLOTS + slot;
                u[r] = p < width ? dts[(i64)t * at.heads] * widen(xs[t * dims.x_pitch + p]) : Acc(0);
            }
            advance(h, exp(las[(i64)t * at.heads]), u, bt);
        };
        auto place = [&](int segment) {
            return kept + (((i64)(range.begin + segment) * at.heads + at.head) * TILES + tile) * SIZE;
        };
        load_state(h, at.state(initial, at.span.enters), channel, width);
        for (int t = 0; t < at.span.len; t++) {
            if (t % SEGMENT == 0) put(place(t / SEGMENT), h);
            step(t);
        }

        // Backwards: in each segment the states are found again, then their cotangents pass.
        load_state(dh, at.state(dlast, at.span.leaves), channel, width);
        for (int segment = range.end - range.begin - 1; segment >= 0; segment--) {
            const int first = segment * SEGMENT, last = min(at.span.len, first + SEGMENT);
            get(h, place(segment));
            for (int t = first; t < last; t++) {
                put(scratch + (t - first) * SIZE, h);
                step(t);
            }
            for (int t = last - 1; t >= first; t--) {
                const Acc a = exp(las[(i64)t * at.heads]), width_t = dts[(i64)t * at.heads];
                load_row(bt, bs + t * dims.b_pitch);
                load_row(ct, cs + t * dims.c_pitch);
                get(h, scratch + (t - first) * SIZE);
                Acc dts_sum = 0, da = 0, db_t[PACKS][PACK] = {}, dc_t[PACKS][PACK] = {};
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    const int p = r * SLOTS + slot;
                    const Acc xv = p < width ? widen(xs[t * dims.x_pitch + p]) : Acc(0);
                    const Acc dyv = p < width ? widen(dys[t * dims.y_pitch + p]) : Acc(0);
                    const Acc uv = width_t * xv;
                    Acc du = 0;
#pragma unroll
                    for (int k = 0; k < PACKS; k++)
#pragma unroll
                        for (int j = 0; j < PACK; j++) {
                            const Acc before = h[r][k].v[j], bv = bt[k].v[j], cv = ct[k].v[j];
                            Acc &g = dh[r][k].v[j];
                            dc_t[k][j] += dyv * (a * before + (FREE_DIAGONAL ? Acc(0) : uv * bv));
                            if (!FREE_DIAGONAL) g += dyv * cv;
                            db_t[k][j] += uv * g;
                            du += g * bv;
                            if (FREE_DIAGONAL) g += dyv * cv;
                            da += g * before;
                            g *= a;
                        }
                    du = sum_of_lanes(du, LANES);
                    dts_sum += xv * du;
                    if (lane == 0 && p < width) {
                        Acc v = width_t * du;
                        if (dims.skip) v += d[at.head * dims.skip + (dims.skip == 1 ? 0 : channel + p)] * dyv;
                        dxs[t * dims.dx_pitch + p] = narrow<Stored>(v);
                    }
                }
                // Sums over the channels: two slots of a warp, then the warps in order.
                da = sum_of_lanes(da, LANES);
                if (lane == 0) single[0][slot] = dts_sum, single[1][slot] = a * da;
#pragma unroll
                for (int k = 0; k < PACKS; k++)
#pragma unroll
                    for (int j = 0; j < PACK; j++) {
                        const int n = (k * LANES + lane) * PACK + j;
                        const Acc both_b = db_t[k][j] + __shfl_xor_sync(0xffffffffu, db_t[k][j], LANES);
                        const Acc both_c = dc_t[k][j] + __shfl_xor_sync(0xffffffffu, dc_t[k][j], LANES);
                        if (threadIdx.x % 32 < LANES)
                            share[0][threadIdx.x / 32][n] = both_b, share[1][threadIdx.x / 32][n] = both_c;
                    }
                __syncthreads();
                const i64 row = at.span.first + t, part = (row * at.heads + at.head) * TILES + tile;
                for (int n = threadIdx.x; n < STATE_DIM; n += 256) {
                    Acc sum_b = 0, sum_c = 0;
                    for (int w = 0; w < 8; w++) sum_b += share[0][w][n], sum_c += share[1][w][n];
                    db[part * STATE_DIM + n] = sum_b, dc[part * STATE_DIM + n] = sum_c;
                }
                if (threadIdx.x < 2) {
                    Acc sum = 0;
                    for (int k = 0; k < SLOTS; k++) sum += single[threadIdx.x][k];
                    (threadIdx.x == 0 ? ddt : dlog_a)[(tile * rows + row) * at.heads + at.head] = sum;
                }
                __syncthreads();
            }
        }

        Acc *out = at.state(dinitial, at.span.enters);
        if (out == nullptr) continue;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int k = 0; k < PACKS; k++)
#pragma unroll
                for (int j = 0; j < PACK; j++) {
                    const int p = r * SLOTS + slot, n = (k * LANES + lane) * PACK + j;
                    if (p < width && n < STATE_DIM) out[(i64)(channel + p) * STATE_DIM + n] = dh[r][k].v[j];
                }
    }
}
