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
#include "common/beside.cuh"
#include "ssd/decode.cuh"

extern "C" __global__ void __launch_bounds__(32 * WARPS) ssd_decode(const DecodeArguments in) {
    using namespace decode;
    let_next_start();
    wait_for_former();
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
        const float bias = in.bias ? in.bias[head] : 0.f;
        const Step step = step_of(in, in.dt[sequence * in.dt_pitch + head], in.a[head], bias);

        // Compute and store.
        float sums[OWN];
#pragma unroll
        for (int s = 0; s < OWN; s++) {
            const int p = first + s * SIDE_BY_SIDE;
            sums[s] = 0.f;
#pragma unroll
            for (int k = 0; k < COLUMNS; k++) {
                const int n = start + k * LANES * VEC;
                const Pack now = advance(old[s][k], step.decay, step.dt * x[s], b[k], c[k], sums[s]);
                if (p < HEAD_DIM && n < STATE_DIM) *reinterpret_cast<Pack*>(h + p * STATE_DIM + n) = now;
            }
        }
        write(in, sums, x, sequence, head, first, SIDE_BY_SIDE);
    }
}
