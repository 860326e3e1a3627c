// What the selective scan of Mamba-1 and its vjp share: arguments, tiles of the inputs, and their way into shared memory.
//
// Defines: STORED_.. but not f64, STATE_DIM, CHANNELS, LANES (a power of two, at most 32), TILE,
// SIDE (channels of a thread).
#pragma once
#include "common/scalar.cuh"
#include "common/softplus.cuh"
#include "common/sums.cuh"

namespace scan {

constexpr int power_of_two(int n, int p = 1) { return p >= n ? p : power_of_two(n, 2 * p); }
constexpr int OWN = power_of_two((STATE_DIM + LANES - 1) / LANES);  // state entries of a thread: l * OWN .. of lane l
constexpr int PADDED = OWN * LANES;                   // entries beyond STATE_DIM have a = b = c = 0
constexpr int APART = CHANNELS / SIDE;              // from one channel of a thread to the next
constexpr int THREADS = APART * LANES;
constexpr float LOG2_E = 1.44269504088896340736f;

struct Arguments {
    const Stored *x, *b, *c;
    const float* dt;
    const float *a, *bias, *d, *initial;  // bias, d, initial: null if absent
    i64 x_pitch, dt_pitch, b_pitch, c_pitch;  // elements from one position to the next
    i64 len;
    int channels, groups;
    int softplus;
    float dt_min, dt_max;
};

// Which channels a block owns: a block never crosses from one group into the next.
struct Place {
    i64 row;       // batch row
    int group, first, count;

    __device__ Place(const Arguments& in) {
        const int width = in.channels / in.groups, parts = (width + CHANNELS - 1) / CHANNELS;
        row = blockIdx.y;
        group = blockIdx.x / parts;
        const int offset = blockIdx.x % parts * CHANNELS;
        first = group * width + offset;
        count = min(CHANNELS, width - offset);
    }
};

// Positions at .. at + TILE of the block's channels, on their way from memory: as they are stored, so that nothing waits for
// them before they are put into a tile.
struct Fetch {
    static constexpr int STEPS = (TILE * CHANNELS + THREADS - 1) / THREADS;
    static constexpr int PAIRS = (TILE * PADDED + THREADS - 1) / THREADS;
    Stored x[STEPS], b[PAIRS], c[PAIRS];
    float dt[STEPS];

    __device__ __forceinline__ void load(const Arguments& in, const Place& place, i64 at) {
        const i64 position = place.row * in.len + at;  // offsets inside a tile are short
        const Stored* from_x = in.x + position * in.x_pitch + place.first;
        const float* from_dt = in.dt + position * in.dt_pitch + place.first;
        const int left = (int)min((i64)TILE, in.len - at), x_pitch = (int)in.x_pitch, dt_pitch = (int)in.dt_pitch;
#pragma unroll
        for (int k = 0; k < STEPS; k++) {
            const int i = threadIdx.x + k * THREADS, channel = i % CHANNELS, t = i / CHANNELS;
            const bool inside = t < left && channel < place.count;
            x[k] = Stored{}, dt[k] = 0.f;
            if (inside) x[k] = from_x[t * x_pitch + channel], dt[k] = from_dt[t * dt_pitch + channel];
        }
        const Stored* from_b = in.b + position * in.b_pitch + place.group * STATE_DIM;
        const Stored* from_c = in.c + position * in.c_pitch + place.group * STATE_DIM;
        const int b_pitch = (int)in.b_pitch, c_pitch = (int)in.c_pitch;
#pragma unroll
        for (int k = 0; k < PAIRS; k++) {
            const int i = threadIdx.x + k * THREADS, n = i % PADDED, t = i / PADDED;
            const bool inside = t < left && n < STATE_DIM;
            b[k] = Stored{}, c[k] = Stored{};
            if (inside) b[k] = from_b[t * b_pitch + n], c[k] = from_c[t * c_pitch + n];
        }
    }
};

// The bias of the channel whose steps this thread puts into tiles: always the same one.
__device__ __forceinline__ float load_bias(const Arguments& in, const Place& place) {
    static_assert(THREADS % CHANNELS == 0, "LANES is at least SIDE");
    const int channel = threadIdx.x % CHANNELS;
    return in.bias && channel < place.count ? in.bias[place.first + channel] : 0.f;
}

// The same positions in shared memory, steps discretised. Positions past the end have dt = x = b = c = 0: they change no state.
struct Tile {
    float x[TILE][CHANNELS], dt[TILE][CHANNELS];
    alignas(16) float b[TILE][PADDED];
    alignas(16) float c[TILE][PADDED];

    // `slope`, if not null, gets the derivatives of the steps.
    __device__ __forceinline__ void store(const Fetch& fetch, const Arguments& in, const Place& place, float bias, i64 at,
                                          float (*slope)[CHANNELS] = nullptr) {
        const int left = (int)min((i64)TILE, in.len - at);
#pragma unroll
        for (int k = 0; k < Fetch::STEPS; k++) {
            const int i = threadIdx.x + k * THREADS, channel = i % CHANNELS, t = i / CHANNELS;
            if (TILE * CHANNELS % THREADS && i >= TILE * CHANNELS) break;
            const bool inside = t < left && channel < place.count;
            const SquashedStep step = squash_step(fetch.dt[k] + bias, in.softplus, in.dt_min, in.dt_max);
            x[t][channel] = widen(fetch.x[k]);
            dt[t][channel] = inside ? step.dt : 0.f;
            if (slope) slope[t][channel] = inside ? step.slope : 0.f;
        }
#pragma unroll
        for (int k = 0; k < Fetch::PAIRS; k++) {
            const int i = threadIdx.x + k * THREADS;
            if (TILE * PADDED % THREADS && i >= TILE * PADDED) break;
            b[i / PADDED][i % PADDED] = widen(fetch.b[k]);
            c[i / PADDED][i % PADDED] = widen(fetch.c[k]);
        }
    }
};

// What of a channel stays in a thread: its rates, times log2 e.
__device__ __forceinline__ void load_rates(const Arguments& in, int channel, int lane, float (&rate)[OWN]) {
#pragma unroll
    for (int k = 0; k < OWN; k++) {
        const int n = lane * OWN + k;
        rate[k] = channel < in.channels && n < STATE_DIM ? LOG2_E * in.a[channel * STATE_DIM + n] : 0.f;
    }
}

}  // namespace scan
