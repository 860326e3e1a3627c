// The state space form: h_t = a_t h_{t-1} + dt_t x_t b_t^T,  y_t = h_t c_t + d o x_t,  one step after the other.
//
// log_a, dt: (rows, heads) Acc.  x, y: (rows, heads * HEAD_DIM) Stored.  b, c: (rows, groups * STATE_DIM) Stored.
// d: (heads, dims.skip) Acc.  initial, last: (states, heads, HEAD_DIM, STATE_DIM) Acc; initial may be null (zero).
// y may be null: then only the last states are computed.
// Grid: (spans, heads, tiles of CHANNELS channels); block: 256.  Shared memory: about 40 KiB, static.
//
// The state stays in registers: 16 threads share a channel's state, each thread has ROWS channels. With a free diagonal
// y_t reads a_t h_{t-1}; FREE_DIAGONAL says so for all of a program, since every number of a state would ask.
#include "common/exact.cuh"

constexpr int LANES = 16;
constexpr int CHANNELS = 256 / LANES * ROWS;
constexpr int PACK = 16 / sizeof(Acc);
constexpr int PACKS = (STATE_DIM + LANES * PACK - 1) / (LANES * PACK);
constexpr int WIDTH = PACKS * LANES * PACK;
constexpr int STEPS = sizeof(Acc) == 8 ? 8 : 16;

struct alignas(16) Pack {
    Acc v[PACK];
};

struct Tile {
    Pack b[STEPS][PACKS][LANES];
    Pack c[STEPS][PACKS][LANES];
    Acc x[STEPS][CHANNELS];
    Acc y[STEPS][CHANNELS];
    Acc a[STEPS];
    Acc dt[STEPS];
};

// Numbers 0 .. width of `steps` rows, zeros behind them.
__device__ void load_rows(Acc *out, int padded, const Stored *in, i64 pitch, int width, int steps) {
    for (int k = threadIdx.x; k < STEPS * padded; k += 256) {
        const int t = k / padded, n = k % padded;
        out[k] = t < steps && n < width ? widen(in[t * pitch + n]) : Acc(0);
    }
}

extern "C" __global__ void __launch_bounds__(256)
    recurrent_forward(const Span *spans, Dims dims, const Acc *log_a, const Acc *dt, const Stored *x, const Stored *b,
                      const Stored *c, const Acc *d, const Acc *initial, Acc *last, Stored *y) {
    __shared__ Tile s;
    const Head at(spans, dims, blockIdx.x, blockIdx.y);
    const int lane = threadIdx.x % LANES, slot = threadIdx.x / LANES;
    const int channel = blockIdx.z * CHANNELS; // first of this block
    const int width = min(CHANNELS, HEAD_DIM - channel);
    log_a = at.scalars(log_a), dt = at.scalars(dt);
    x = at.channels(x, dims.x_pitch) + channel;
    b = at.features(b, dims.b_pitch), c = at.features(c, dims.c_pitch);
    if (y) y = at.channels(y, dims.y_pitch) + channel;

    // load: the state that enters
    Acc h[ROWS][PACKS][PACK];
    const Acc *before = at.state(initial, at.span.enters);
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int k = 0; k < PACKS; k++)
#pragma unroll
            for (int j = 0; j < PACK; j++) {
                const int p = r * (256 / LANES) + slot, n = (k * LANES + lane) * PACK + j;
                const bool inside = before && p < width && n < STATE_DIM;
                h[r][k][j] = inside ? before[(i64)(channel + p) * STATE_DIM + n] : Acc(0);
            }

    for (int start = 0; start < at.span.len; start += STEPS) {
        const int steps = min(STEPS, at.span.len - start);
        load_rows((Acc *)s.b, WIDTH, b + start * dims.b_pitch, dims.b_pitch, STATE_DIM, steps);
        if (y) load_rows((Acc *)s.c, WIDTH, c + start * dims.c_pitch, dims.c_pitch, STATE_DIM, steps);
        load_rows((Acc *)s.x, CHANNELS, x + start * dims.x_pitch, dims.x_pitch, width, steps);
        if (threadIdx.x < steps) {
            s.a[threadIdx.x] = exp(log_a[(i64)(start + threadIdx.x) * at.heads]);
            s.dt[threadIdx.x] = dt[(i64)(start + threadIdx.x) * at.heads];
        }
        __syncthreads();

        // compute: step by step
        for (int t = 0; t < steps; t++) {
            const Acc a = s.a[t];
            Acc u[ROWS], sum[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; r++) u[r] = s.dt[t] * s.x[t][r * (256 / LANES) + slot], sum[r] = 0;
#pragma unroll
            for (int k = 0; k < PACKS; k++) {
                const Pack bs = s.b[t][k][lane], cs = s.c[t][k][lane];
#pragma unroll
                for (int r = 0; r < ROWS; r++)
#pragma unroll
                    for (int j = 0; j < PACK; j++) {
                        const Acc kept = a * h[r][k][j];
                        h[r][k][j] = kept + u[r] * bs.v[j];
                        sum[r] += (FREE_DIAGONAL ? kept : h[r][k][j]) * cs.v[j];
                    }
            }
            if (y == nullptr) continue;
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const Acc whole = sum_of_lanes(sum[r], LANES);
                if (lane == 0) s.y[t][r * (256 / LANES) + slot] = whole;
            }
        }
        __syncthreads();

        // store: the skip is added where x is at hand
        for (int k = threadIdx.x; y && k < steps * width; k += 256) {
            const int t = k / width, p = k % width;
            Acc out = s.y[t][p];
            if (dims.skip) out += d[at.head * dims.skip + (dims.skip == 1 ? 0 : channel + p)] * s.x[t][p];
            y[(start + t) * dims.y_pitch + p] = narrow<Stored>(out);
        }
        __syncthreads();
    }

    // store: the state that leaves
    Acc *after = at.state(last, at.span.leaves);
    if (after == nullptr) return;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int k = 0; k < PACKS; k++)
#pragma unroll
            for (int j = 0; j < PACK; j++) {
                const int p = r * (256 / LANES) + slot, n = (k * LANES + lane) * PACK + j;
                if (p < width && n < STATE_DIM) after[(i64)(channel + p) * STATE_DIM + n] = h[r][k][j];
            }
}
