// One decoding step: the state of every sequence of a batch advances by one position, in place.
//
//   h = exp(dt A) h + dt x bᵀ,   y = h c + d x      per sequence and head; dt = clamp(softplus(raw + bias))
//
// x, y   (batch, heads, HEAD_DIM)   Stored      b, c (batch, groups, STATE_DIM)  Stored      raw dt (batch, heads)  float
// a, bias (heads), d (heads) or (heads, HEAD_DIM)  float
// state  (slots, heads, HEAD_DIM, STATE_DIM)  STATE; sequence k owns slot slots[k], or k if there is no table
//
// Grid (parts of HEAD_DIM, heads, batch), block 32 * WARPS; any number of parts. No shared memory.
// Arithmetic is float whatever is stored. A sequence's bits do not depend on the others in the batch.
//
// Defines: STORED_.. but not f64, STATE (float, bf16 or f16), HEAD_DIM, STATE_DIM, WARPS, STEPS (a power of two: rows of a lane).
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

extern "C" __global__ void __launch_bounds__(32 * WARPS) ssd_decode(const DecodeArguments in) {
    using namespace decode;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y, group = head / (in.heads / in.groups);
    const i64 sequence = blockIdx.z;
    const i64 slot = in.slots ? in.slots[sequence] : sequence;
    const int start = lane % LANES * VEC;  // the first state entry of this lane
    STATE* h = in.state + (slot * in.heads + head) * (HEAD_DIM * (i64)STATE_DIM);

    for (int part = blockIdx.x * WARPS * ROWS; part < HEAD_DIM; part += gridDim.x * WARPS * ROWS) {
        const int first = part + warp * ROWS + lane / LANES;  // the first row of this lane

        // Load: all of the state that this lane owns is on its way before anything else is waited for.
        Pack old[OWN][COLUMNS] = {};
#pragma unroll
        for (int s = 0; s < OWN; s++) {
            const int p = first + s * SIDE_BY_SIDE;
#pragma unroll
            for (int k = 0; k < COLUMNS; k++) {
                const int n = start + k * LANES * VEC;
                if (p < HEAD_DIM && n < STATE_DIM) old[s][k] = *reinterpret_cast<const Pack*>(h + p * STATE_DIM + n);
            }
        }
        float b[COLUMNS][VEC], c[COLUMNS][VEC];
#pragma unroll
        for (int k = 0; k < COLUMNS; k++) {
#pragma unroll
            for (int v = 0; v < VEC; v++) {
                const int n = start + k * LANES * VEC + v;
                const bool inside = n < STATE_DIM;
                b[k][v] = inside ? widen(in.b[sequence * in.b_pitch + group * STATE_DIM + n]) : 0.f;
                c[k][v] = inside ? widen(in.c[sequence * in.c_pitch + group * STATE_DIM + n]) : 0.f;
            }
        }
        float x[OWN];
#pragma unroll
        for (int s = 0; s < OWN; s++) {
            const int p = first + s * SIDE_BY_SIDE;
            x[s] = p < HEAD_DIM ? widen(in.x[sequence * in.x_pitch + head * HEAD_DIM + p]) : 0.f;
        }
        const float raw = in.dt[sequence * in.dt_pitch + head] + (in.bias ? in.bias[head] : 0.f);
        const float dt = squash_step(raw, in.softplus, in.dt_min, in.dt_max).dt;
        const float decay = expf(dt * in.a[head]);

        // Compute and store.
        float sums[OWN];
#pragma unroll
        for (int s = 0; s < OWN; s++) {
            const int p = first + s * SIDE_BY_SIDE;
            const float u = dt * x[s];
            float sum = 0.f;
#pragma unroll
            for (int k = 0; k < COLUMNS; k++) {
                const int n = start + k * LANES * VEC;
                Pack now;
#pragma unroll
                for (int v = 0; v < VEC; v++) {
                    const float next = fmaf(decay, widen(old[s][k].v[v]), u * b[k][v]);
                    sum = fmaf(next, c[k][v], sum);
                    now.v[v] = narrow<STATE>(next);
                }
                if (p < HEAD_DIM && n < STATE_DIM) *reinterpret_cast<Pack*>(h + p * STATE_DIM + n) = now;
            }
            sums[s] = sum;
        }
        int index;
        const float sum = reduce(sums, lane, index);
        const bool writes = lane % (LANES / OWN) == 0;  // one of the lanes that hold the same sum
#pragma unroll
        for (int s = 0; s < OWN; s++) {
            const int p = first + s * SIDE_BY_SIDE;
            if (s == index && writes && p < HEAD_DIM) {
                const float skip = in.d ? in.d[in.d_width == 1 ? head : head * HEAD_DIM + p] : 0.f;
                in.y[sequence * in.y_pitch + head * HEAD_DIM + p] = narrow<Stored>(fmaf(skip, x[s], sum));
            }
        }
    }
}
