// What the kernels of a decoding step share: how a row of the state is shared out among lanes, the sums over them, arguments.
//
// Defines: STATE (float, bf16 or f16), HEAD_DIM, STATE_DIM, STEPS (a power of two: rows of a lane at a time).
#pragma once
#include "common/scalar.cuh"
#include "common/softplus.cuh"

namespace decode {

// Numbers that one 16-byte access moves, or fewer where rows of the state are not made of such.
constexpr int divisor(int n, int of) { return of % n == 0 ? n : divisor(n / 2, of); }
constexpr int VEC = divisor(16 / (int)sizeof(STATE), STATE_DIM);
constexpr int lanes(int n) { return n * VEC >= STATE_DIM || n == 32 ? n : lanes(2 * n); }
constexpr int LANES = lanes(1);                                            // lanes that share a row
constexpr int COLUMNS = (STATE_DIM + LANES * VEC - 1) / (LANES * VEC);     // accesses of a lane to a row
constexpr int SIDE_BY_SIDE = 32 / LANES;                                   // rows that a warp reads at once
constexpr int OWN = STEPS < LANES ? STEPS : LANES;                         // rows of a lane at a time
constexpr int ROWS = OWN * SIDE_BY_SIDE;                                   // rows of a warp at a time

struct alignas(VEC * sizeof(STATE)) Pack { STATE v[VEC]; };

// The sums over LANES lanes of OWN numbers each; a lane returns that of number `index`, which it also finds.
__device__ float reduce(float (&sums)[OWN], int lane, int& index) {
    index = 0;
    int held = OWN;
#pragma unroll
    for (int w = LANES / 2; w > 0; w /= 2) {
        if (held > 1) {
            held /= 2;
            bool upper = lane & w;
#pragma unroll
            for (int k = 0; k < OWN / 2; k++) {
                if (k < held) {
                    float keep = upper ? sums[k + held] : sums[k], give = upper ? sums[k] : sums[k + held];
                    sums[k] = keep + __shfl_xor_sync(~0u, give, w);
                }
            }
            index += upper ? held : 0;
        } else {
            sums[0] += __shfl_xor_sync(~0u, sums[0], w);
        }
    }
    return sums[0];
}

// h = decay h + u b for the numbers of one access; adds h c to `sum`.
__device__ __forceinline__ Pack advance(const Pack& h, float decay, float u, const float (&b)[VEC], const float (&c)[VEC], float& sum) {
    Pack now;
#pragma unroll
    for (int v = 0; v < VEC; v++) {
        const float next = fmaf(decay, widen(h.v[v]), u * b[v]);
        sum = fmaf(next, c[v], sum);
        now.v[v] = narrow<STATE>(next);
    }
    return now;
}

}  // namespace decode

struct DecodeArguments {
    const Stored *x, *b, *c;
    const float* dt;
    const float *a, *bias, *d;   // bias, d: null if absent
    STATE* state;
    const int* slots;            // null: sequence k owns slot k
    Stored* y;
    i64 x_pitch, b_pitch, c_pitch, dt_pitch, y_pitch;  // elements from one sequence to the next
    int heads, groups, d_width;  // d_width: 1 or HEAD_DIM
    int softplus;
    float dt_min, dt_max;
};

namespace decode {

// The step and the decay of a head from its raw step.
struct Step { float dt, decay; };
__device__ __forceinline__ Step step_of(const DecodeArguments& in, float raw, float a, float bias) {
    const float dt = squash_step(raw + bias, in.softplus, in.dt_min, in.dt_max).dt;
    return {dt, expf(dt * a)};
}

// y of the rows first, first + apart, ... of a head, from the sums of their lanes.
__device__ __forceinline__ void write(const DecodeArguments& in, float (&sums)[OWN], const float (&x)[OWN], i64 sequence, int head,
                                      int first, int apart) {
    const int lane = threadIdx.x % 32;
    int index;
    const float sum = reduce(sums, lane, index);
    const bool writes = lane % (LANES / OWN) == 0;  // one of the lanes that hold the same sum
#pragma unroll
    for (int s = 0; s < OWN; s++) {
        const int p = first + s * apart;
        if (s == index && writes && p < HEAD_DIM) {
            const float skip = in.d ? in.d[in.d_width == 1 ? head : head * HEAD_DIM + p] : 0.f;
            in.y[sequence * in.y_pitch + head * HEAD_DIM + p] = narrow<Stored>(fmaf(skip, x[s], sum));
        }
    }
}

}  // namespace decode
