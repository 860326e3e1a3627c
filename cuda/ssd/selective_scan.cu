// The selective scan of Mamba-1: a diagonal transition for every channel.
//
//   h_t = exp(dt_t A) ∘ h_{t-1} + dt_t x_t b_t,   y_t = <c_t, h_t> + d x_t      dt = clamp(softplus(raw + bias))
//
// x, y (batch, len, channels)  Stored     raw dt (batch, len, channels)  float     a (channels, STATE_DIM)  float
// b, c (batch, len, groups, STATE_DIM)  Stored      d, bias (channels)  float
// initial, state (batch, channels, STATE_DIM)  float
// kept (batch, tiles, STATE_DIM, channels)  float: the state before each TILE positions, for the vjp; null if not wanted
//
// Grid (groups * blocks of CHANNELS channels, batch), block CHANNELS / SIDE * LANES threads: LANES threads share the states
// of SIDE channels, which stay in registers; what a thread reads of b and c serves all of its channels. Shared memory: two
// tiles of TILE positions, one worked on while the next one is on its way. The limits are the rate of exponentials, batch
// * len * channels * STATE_DIM of them, and that at which shared memory gives b and c to the threads.
#include "ssd/selective_scan.cuh"

namespace scan {

// Positions whose arithmetic overlaps, and whose sums over lanes are shared out among them.
constexpr int TOGETHER = OWN * SIDE > 16 ? 1 : 32 / (OWN * SIDE) < TILE ? 32 / (OWN * SIDE) : TILE;
constexpr int LEFT = TOGETHER > LANES ? TOGETHER / LANES : 1;  // of them, in one lane afterwards

}  // namespace scan

extern "C" __global__ void __launch_bounds__(scan::THREADS, RESIDENT)
selective_scan(const scan::Arguments in, Stored* y, i64 y_pitch, float* state, float* kept) {
    using namespace scan;
    __shared__ Tile tiles[2];
    const Place place(in);
    const int own = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const float bias = load_bias(in, place);
    float rate[SIDE][OWN], h[SIDE][OWN], skip[SIDE];
#pragma unroll
    for (int j = 0; j < SIDE; j++) {
        const int offset = own + j * APART, channel = place.first + offset;
        const bool inside = offset < place.count;
        load_rates(in, inside ? channel : in.channels, lane, rate[j]);
        skip[j] = in.d && inside && lane == 0 ? in.d[channel] : 0.f;
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            const int n = lane * OWN + k;
            const bool there = in.initial && inside && n < STATE_DIM;
            h[j][k] = there ? in.initial[(place.row * in.channels + channel) * STATE_DIM + n] : 0.f;
        }
    }

    Fetch fetch;
    fetch.load(in, place, 0);
    int buffer = 0;
    for (i64 at = 0; at < in.len; at += TILE, buffer ^= 1) {
        Tile& tile = tiles[buffer];
        tile.store(fetch, in, place, bias, at);
        __syncthreads();
        fetch.load(in, place, at + TILE);
        if (kept) {
            const i64 number = place.row * ((in.len + TILE - 1) / TILE) + at / TILE;
#pragma unroll
            for (int j = 0; j < SIDE; j++)
#pragma unroll
                for (int k = 0; k < OWN; k++) {
                    const int n = lane * OWN + k, offset = own + j * APART;
                    if (n >= STATE_DIM || offset >= place.count) continue;
                    kept[(number * STATE_DIM + n) * in.channels + place.first + offset] = h[j][k];
                }
        }
        const int left = (int)min((i64)TILE, in.len - at), pitch = (int)y_pitch;
        Stored* to = y + (place.row * in.len + at) * y_pitch + place.first;
#pragma unroll 1
        for (int begin = 0; begin < TILE; begin += TOGETHER) {
            float total[SIDE][TOGETHER];
#pragma unroll
            for (int i = 0; i < TOGETHER; i++) {
                const int t = begin + i;
                float b[OWN], c[OWN];
#pragma unroll
                for (int k = 0; k < OWN; k++) b[k] = tile.b[t][lane * OWN + k], c[k] = tile.c[t][lane * OWN + k];
#pragma unroll
                for (int j = 0; j < SIDE; j++) {
                    const int offset = own + j * APART;
                    const float x = tile.x[t][offset], dt = tile.dt[t][offset], u = dt * x;
                    float sum[2] = {skip[j] * x, 0.f};
#pragma unroll
                    for (int k = 0; k < OWN; k++) {
                        h[j][k] = fmaf(exp2_fast(dt * rate[j][k]), h[j][k], u * b[k]);
                        sum[k % 2] = fmaf(c[k], h[j][k], sum[k % 2]);
                    }
                    total[j][i] = sum[0] + sum[1];
                }
            }
#pragma unroll
            for (int j = 0; j < SIDE; j++) {
                const int offset = own + j * APART, first = begin + first_sum<LANES / 2, 1, TOGETHER>(lane);
                share_sums<LANES / 2, 1>(total[j], lane);
                if (offset >= place.count || TOGETHER < LANES && lane % (LANES / TOGETHER)) continue;
#pragma unroll
                for (int k = 0; k < LEFT; k++) {
                    if (first + k < left) to[(first + k) * pitch + offset] = narrow<Stored>(total[j][k]);
                }
            }
        }
    }
#pragma unroll
    for (int j = 0; j < SIDE; j++)
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            const int n = lane * OWN + k, offset = own + j * APART;
            if (n >= STATE_DIM || offset >= place.count) continue;
            state[(place.row * in.channels + place.first + offset) * STATE_DIM + n] = h[j][k];
        }
}
