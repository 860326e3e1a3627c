// The selective scan of Mamba-1: a diagonal transition for every channel.
//
//   h_t = exp(dt_t A) ∘ h_{t-1} + dt_t x_t b_t,   y_t = <c_t, h_t> + d x_t      dt = clamp(softplus(raw + bias))
//
// x, y (batch, len, channels)  Stored     raw dt (batch, len, channels)  float     a (channels, STATE_DIM)  float
// b, c (batch, len, groups, STATE_DIM)  Stored      d, bias (channels)  float
// initial, state (batch, channels, STATE_DIM)  float
// kept (batch, tiles, STATE_DIM, channels)  float: the state before each TILE positions, for the vjp; null if not wanted
//
// Grid (groups * blocks of CHANNELS channels, batch), block CHANNELS * LANES threads: LANES threads share the state of a
// channel, which stays in registers. Shared memory: two tiles of TILE positions, one worked on while the next one is on
// its way. The limit is the rate of exponentials, batch * len * channels * STATE_DIM of them.
#include "ssd/selective_scan.cuh"

extern "C" __global__ void __launch_bounds__(scan::THREADS, 384 / scan::THREADS)
selective_scan(const scan::Arguments in, Stored* y, i64 y_pitch, float* state, float* kept) {
    using namespace scan;
    __shared__ Tile tiles[2];
    const Place place(in);
    const int own = threadIdx.x / LANES, lane = threadIdx.x % LANES, channel = place.first + own;
    const bool inside = own < place.count;
    float rate[OWN], h[OWN];
    load_rates(in, inside ? channel : in.channels, lane, rate);
    const i64 states = (place.row * in.channels + channel) * STATE_DIM;
#pragma unroll
    for (int k = 0; k < OWN; k++) {
        const int n = lane * OWN + k;
        h[k] = in.initial && inside && n < STATE_DIM ? in.initial[states + n] : 0.f;
    }
    const float skip = in.d && inside ? in.d[channel] : 0.f;

    Fetch fetch;
    fetch.load(in, place, 0);
    int buffer = 0;
    for (i64 at = 0; at < in.len; at += TILE, buffer ^= 1) {
        Tile& tile = tiles[buffer];
        tile.store(fetch, in, place, at);
        __syncthreads();
        fetch.load(in, place, at + TILE);
        if (kept && inside) {
#pragma unroll
            for (int k = 0; k < OWN; k++) {
                const int n = lane * OWN + k;
                const i64 tile_of_row = place.row * ((in.len + TILE - 1) / TILE) + at / TILE;
                if (n < STATE_DIM) kept[(tile_of_row * STATE_DIM + n) * in.channels + channel] = h[k];
            }
        }
#pragma unroll 2
        for (int t = 0; t < TILE; t++) {
            const float x = tile.x[t][own], dt = tile.dt[t][own], u = dt * x;
            float sum = 0.f;
#pragma unroll
            for (int k = 0; k < OWN; k++) {
                h[k] = fmaf(exp2_fast(dt * rate[k]), h[k], u * tile.b[t][lane * OWN + k]);
                sum = fmaf(tile.c[t][lane * OWN + k], h[k], sum);
            }
#pragma unroll
            for (int w = LANES / 2; w > 0; w /= 2) sum += __shfl_xor_sync(~0u, sum, w);
            if (inside && lane == 0 && at + t < in.len) {
                y[(place.row * in.len + at + t) * y_pitch + channel] = narrow<Stored>(fmaf(skip, x, sum));
            }
        }
    }
#pragma unroll
    for (int k = 0; k < OWN; k++) {
        const int n = lane * OWN + k;
        if (inside && n < STATE_DIM) state[states + n] = h[k];
    }
}
