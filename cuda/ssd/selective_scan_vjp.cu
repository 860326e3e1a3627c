// The vjp of the selective scan, tile by tile from the end.
//
//   g += dy_t c_t,   dc_t = Σ dy_t h_t,   db_t = Σ dt_t x_t g,   dx_t = dt_t <g, b_t> + d dy_t          (Σ over the channels of a group)
//   ddt_t = <g, A ∘ e^{dt_t A} ∘ h_{t-1} + x_t b_t>,   dA = Σ_t dt_t g ∘ e^{dt_t A} ∘ h_{t-1},   g <- e^{dt_t A} ∘ g
//
// Inputs as in selective_scan.cu, and dy (batch, len, channels) Stored, dstate (batch, channels, STATE_DIM) or null.
// kept (batch, tiles, STATE_DIM, channels): the state before each tile, written by the forward kernel.
// dx (batch, len, channels) Stored, draw (batch, len, channels) float: of the raw steps; dinitial (batch, channels, STATE_DIM)
// per_row (batch, STATE_DIM + 2, channels): dA, dd and dbias of each batch row; summed by selective_scan_sum_rows
// shares (batch, blocks, len, 2, PADDED): db and dc of each block's channels; summed by selective_scan_sum_blocks
//
// Grid and block as the forward kernel. The states of a tile stay in registers: OWN * TILE of them, so OWN is 4 or 8.
#include "ssd/selective_scan.cuh"

namespace scan {

constexpr int WARPS = THREADS / 32, SIDE_BY_SIDE = 32 / LANES;  // channels of a warp
constexpr int VALUES = 2 * OWN;                                 // db and dc of a lane at one position
constexpr int LEFT = VALUES > SIDE_BY_SIDE ? VALUES / SIDE_BY_SIDE : 1;  // of them, after the sum over channels

// The sums of two numbers over the lanes that share a channel: the first in the lower half of them, the second in the upper.
__device__ __forceinline__ float sum_lanes(float first, float second) {
    if (LANES == 1) return first;
    const bool upper = threadIdx.x & LANES / 2;
    float v = (upper ? second : first) + __shfl_xor_sync(~0u, upper ? first : second, LANES / 2);
#pragma unroll
    for (int w = LANES / 4; w > 0; w /= 2) v += __shfl_xor_sync(~0u, v, w);
    return v;
}

struct Shared {
    Tile tile;
    float dy[TILE][CHANNELS], slope[TILE][CHANNELS];
    float sums[WARPS][TILE][2 * PADDED];  // a warp's sums of db and dc
};

}  // namespace scan

extern "C" __global__ void __launch_bounds__(scan::THREADS, RESIDENT)
selective_scan_vjp(const scan::Arguments in, const Stored* dy, i64 dy_pitch, const float* dstate, const float* kept,
                   Stored* dx, i64 dx_pitch, float* draw, float* dinitial, float* per_row, float* shares) {
    using namespace scan;
    extern __shared__ __align__(16) unsigned char memory[];
    static_assert(sizeof(Shared) <= SHARED, "the host gives less shared memory");
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const Place place(in);
    const int own = threadIdx.x / LANES, lane = threadIdx.x % LANES, channel = place.first + own, warp = threadIdx.x / 32;
    const bool inside = own < place.count;
    float rate[OWN], g[OWN], da[OWN] = {};
    load_rates(in, inside ? channel : in.channels, lane, rate);
    const i64 states = (place.row * in.channels + channel) * STATE_DIM;
#pragma unroll
    for (int k = 0; k < OWN; k++) {
        const int n = lane * OWN + k;
        g[k] = dstate && inside && n < STATE_DIM ? dstate[states + n] : 0.f;
    }
    const float skip = in.d && inside ? in.d[channel] : 0.f;
    float dd = 0.f, dbias = 0.f;

    const float bias = load_bias(in, place);
    const i64 tiles = (in.len + TILE - 1) / TILE;
    Fetch fetch;
    Stored fetched_dy[Fetch::STEPS];
    float before[OWN];  // the state before the tile
    const auto load = [&](i64 number) {
        const i64 at = number * TILE;
        fetch.load(in, place, at);
        const Stored* from = dy + (place.row * in.len + at) * dy_pitch + place.first;
#pragma unroll
        for (int k = 0; k < Fetch::STEPS; k++) {
            const int i = threadIdx.x + k * THREADS, t = i / CHANNELS, offset = i % CHANNELS;
            fetched_dy[k] = Stored{};
            if (at + t < in.len && offset < place.count) fetched_dy[k] = from[t * (int)dy_pitch + offset];
        }
        const float* of = kept + (place.row * tiles + number) * STATE_DIM * in.channels + channel;
#pragma unroll
        for (int k = 0; k < OWN; k++) {
            const int n = lane * OWN + k;
            before[k] = 0.f;
            if (inside && n < STATE_DIM) before[k] = of[n * in.channels];
        }
    };
    if (tiles > 0) load(tiles - 1);
    for (i64 number = tiles - 1; number >= 0; number--) {
        const i64 at = number * TILE;
        shared.tile.store(fetch, in, place, bias, at, shared.slope);
#pragma unroll
        for (int k = 0; k < Fetch::STEPS; k++) {
            const int i = threadIdx.x + k * THREADS;
            if (TILE * CHANNELS % THREADS && i >= TILE * CHANNELS) break;
            shared.dy[i / CHANNELS][i % CHANNELS] = widen(fetched_dy[k]);
        }
        float h[TILE + 1][OWN];  // before each position
#pragma unroll
        for (int k = 0; k < OWN; k++) h[0][k] = before[k];
        __syncthreads();
        if (number > 0) load(number - 1);
        const Tile& tile = shared.tile;
        const int left = (int)min((i64)TILE, in.len - at);
        const i64 position = place.row * in.len + at;
        float* to_raw = draw + position * in.channels + channel;
        Stored* to_x = dx + position * dx_pitch + channel;
#pragma unroll
        for (int t = 0; t < TILE; t++) {
            const float dt = tile.dt[t][own], u = dt * tile.x[t][own];
#pragma unroll
            for (int k = 0; k < OWN; k++) {
                h[t + 1][k] = fmaf(exp2_fast(dt * rate[k]), h[t][k], u * tile.b[t][lane * OWN + k]);
            }
        }
#pragma unroll
        for (int t = TILE - 1; t >= 0; t--) {
            const float x = tile.x[t][own], dt = tile.dt[t][own], dy = shared.dy[t][own], u = dt * x;
            float from_input = 0.f, from_decay = 0.f, v[VALUES];
#pragma unroll
            for (int k = 0; k < OWN; k++) {
                const int n = lane * OWN + k;
                const float b = tile.b[t][n], decay = exp2_fast(dt * rate[k]);
                g[k] = fmaf(dy, tile.c[t][n], g[k]);
                v[k] = u * g[k];
                v[OWN + k] = dy * h[t + 1][k];
                from_input = fmaf(g[k], b, from_input);
                g[k] *= decay;
                const float carried = g[k] * h[t][k];
                from_decay = fmaf(carried, rate[k], from_decay);
                da[k] = fmaf(dt, carried, da[k]);
            }
            const float sum = sum_lanes(from_input, from_decay);
            const float other = LANES == 1 ? from_decay : __shfl_xor_sync(~0u, sum, LANES / 2);
            if (inside && lane == 0 && t < left) {
                const float d_dt = (other / LOG2_E + x * sum) * shared.slope[t][own];
                to_raw[t * in.channels] = d_dt;
                to_x[t * (int)dx_pitch] = narrow<Stored>(fmaf(dt, sum, skip * dy));
                dbias += d_dt;
                dd = fmaf(dy, x, dd);
            }
            const int first = first_sum<16, LANES, VALUES>(threadIdx.x % 32);
            share_sums<16, LANES>(v, threadIdx.x % 32);
#pragma unroll
            for (int k = 0; k < LEFT; k++) {
                const int value = first + k, kind = value / OWN, n = lane * OWN + value % OWN;
                if (VALUES >= SIDE_BY_SIDE || threadIdx.x % 32 / LANES % (SIDE_BY_SIDE / VALUES) == 0) {
                    shared.sums[warp][t][kind * PADDED + n] = v[k];
                }
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < TILE * 2 * PADDED; i += THREADS) {
            const int t = i / (2 * PADDED), n = i % (2 * PADDED);
            float sum = 0.f;
#pragma unroll
            for (int w = 0; w < WARPS; w++) sum += shared.sums[w][t][n];
            const i64 block = place.row * gridDim.x + blockIdx.x;
            if (at + t < in.len) shares[(block * in.len + at + t) * (2 * PADDED) + n] = sum;
        }
    }
#pragma unroll
    for (int k = 0; k < OWN; k++) {
        const int n = lane * OWN + k;
        if (!inside || n >= STATE_DIM) continue;
        dinitial[states + n] = g[k];
        per_row[(place.row * (STATE_DIM + 2) + n) * in.channels + channel] = da[k];
    }
    if (inside && lane == 0) {
        per_row[(place.row * (STATE_DIM + 2) + STATE_DIM) * in.channels + channel] = dd;
        per_row[(place.row * (STATE_DIM + 2) + STATE_DIM + 1) * in.channels + channel] = dbias;
    }
}

// db and dc (batch, len, groups, STATE_DIM) Stored: the shares of a group's blocks, added up in order.
// Grid (len, batch), any block.
extern "C" __global__ void selective_scan_sum_blocks(const float* shares, Stored* db, Stored* dc, i64 len, int groups,
                                                     int blocks) {
    using namespace scan;
    const i64 t = blockIdx.x, row = blockIdx.y;
    const int per_group = blocks / groups;
    for (int i = threadIdx.x; i < groups * 2 * STATE_DIM; i += blockDim.x) {
        const int group = i / (2 * STATE_DIM), kind = i / STATE_DIM % 2, n = i % STATE_DIM;
        float sum = 0.f;
        for (int k = 0; k < per_group; k++) {
            sum += shares[((row * blocks + group * per_group + k) * len + t) * (2 * PADDED) + kind * PADDED + n];
        }
        (kind ? dc : db)[((row * len + t) * groups + group) * STATE_DIM + n] = narrow<Stored>(sum);
    }
}

// da (channels, STATE_DIM), dd and dbias (channels): the shares of the batch rows, added up in order.
// Grid (blocks of channels, STATE_DIM + 2).
extern "C" __global__ void selective_scan_sum_rows(const float* per_row, float* da, float* dd, float* dbias, int batch,
                                                   int channels) {
    const int channel = blockIdx.x * blockDim.x + threadIdx.x, n = blockIdx.y;
    if (channel >= channels) return;
    float sum = 0.f;
    for (i64 row = 0; row < batch; row++) sum += per_row[(row * (STATE_DIM + 2) + n) * channels + channel];
    if (n < STATE_DIM) da[channel * STATE_DIM + n] = sum;
    else (n == STATE_DIM ? dd : dbias)[channel] = sum;
}
