// The SSD product on tensor cores of any supported architecture: chunk after chunk, the state on the chip.
//
//   y_i = e^{s_i} H c_i + Σ_{j <= i} (c_i·b_j) e^{s_i - s_j} dt_j x_j + d x_i,      H <- e^{s_Q} H + Σ_j e^{s_Q - s_j} dt_j x_j b_jᵀ
//
// with s the inclusive sums of log a in the chunk.
//
// x, y (rows, heads, HEAD_DIM), b, c (rows, groups, STATE_DIM)   16 bits
// log_a, dt (rows, heads), d (heads, skip)   float;   initial, last_state (states, heads, HEAD_DIM, STATE_DIM)  float
//
// Grid (sequences, heads, tiles of 64 channels), 256 threads: 8 warps, of which MW share the rows of a product and NW its
// columns; the 64 x PADDED state is in their registers, with a 16-bit copy, term by term, in shared memory for the products.
// Shared memory: `Shared`.
//
// Defines: STORED_BF16 or STORED_F16, HEAD_DIM, STATE_DIM, FREE_DIAGONAL, CHUNK (32 or 64).
#include "ssd/portable/tile.cuh"

namespace portable {

constexpr int CHANNELS = 64, NARROW = CHANNELS + 8;
constexpr int THREADS = 256, MW = CHUNK / 16, NW = 8 / MW;
constexpr int OUT = CHANNELS / NW / 16, STATES = (PADDED / 16 + 1) / 2;  // 16 x 16 blocks of a warp

struct alignas(16) Shared {
    Stored b[CHUNK * WIDE], c[CHUNK * WIDE], h[CHANNELS * WIDE], x[CHUNK * NARROW];
    Steps<CHUNK> steps;
    float factors[CHUNK];  // dt_j e^{s_Q - s_j}
    float most[8];         // of the warps' parts of the state
};

// The masked scores of rows `row` .. + 16 and columns `column` .. + 16 as a left operand.
__device__ __forceinline__ void masked_scores(Left& to, const Shared& shared, int row, int column) {
    const mma::Matrix<WIDE> b(shared.b), c(shared.c);
    float s[8] = {};
#pragma unroll 4
    for (int k = 0; k < PADDED; k += 16) {
        u32 left[4], right[4];
        c.left(left, row, k);
        b.right(right, column, k);
        mma::multiply(s, left, right);
    }
#pragma unroll
    for (int e = 0; e < 8; e++) {
        const int i = row + mma::row_of(e), m = column + mma::column_of(e);
        const bool seen = i > m || (i == m && !FREE_DIAGONAL);
        s[e] = seen ? s[e] * (decay(shared.steps.sums[i], shared.steps.sums[m]) * shared.steps.dt[m]) : 0.f;
    }
    to.set(s);
}

}  // namespace portable

extern "C" __global__ void __launch_bounds__(portable::THREADS, portable::PADDED > 128 ? 1 : 2)
portable_forward(const Span* spans, const Dims dims, const float* log_a, const float* dt, const Stored* x_in, const Stored* b_in,
                 const Stored* c_in, const float* d, const float* initial, float* last_state, Stored* y_out) {
    using namespace portable;
    extern __shared__ __align__(16) unsigned char memory[];
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const int warp = threadIdx.x / 32;
    const Head at_head(spans, dims, blockIdx.x, blockIdx.y);
    const Span span = at_head.span;
    const int head = at_head.head, first = blockIdx.z * CHANNELS, channels = min(CHANNELS, HEAD_DIM - first);
    const i64 steps = span.first * dims.heads + head;
    const Stored* from_x = at_head.channels(x_in, dims.x_pitch) + first;
    const Stored* from_b = at_head.features(b_in, dims.b_pitch);
    const Stored* from_c = at_head.features(c_in, dims.c_pitch);
    Stored* to_y = at_head.channels(y_out, dims.y_pitch) + first;
    const float* enters = at_head.state(initial, span.enters);
    float* leaves = at_head.state(last_state, span.leaves);
    const mma::Matrix<WIDE> b(shared.b), c(shared.c), h16(shared.h);
    const mma::Matrix<NARROW> x(shared.x);

    // The state: 4 warps share its channels, 2 its columns.
    const int state_row = warp % 4 * 16, state_column = warp / 4 * STATES * 16;
    float h[STATES][8];
#pragma unroll
    for (int k = 0; k < STATES; k++)
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const int p = state_row + mma::row_of(e), n = state_column + 16 * k + mma::column_of(e);
            h[k][e] = enters && p < channels && n < STATE_DIM ? enters[(first + p) * STATE_DIM + n] : 0.f;
        }

    const int row = warp % MW * 16, column = warp / MW * OUT * 16;
    for (u32 at = 0; at < (u32)span.len; at += CHUNK) {
        const int rows = min(CHUNK, (int)(span.len - at));
        __syncthreads();  // everybody is done with the chunk before
        stage<THREADS, CHUNK, PADDED, WIDE>(shared.b, from_b + (i64)at * dims.b_pitch, dims.b_pitch, rows, STATE_DIM);
        stage<THREADS, CHUNK, PADDED, WIDE>(shared.c, from_c + (i64)at * dims.c_pitch, dims.c_pitch, rows, STATE_DIM);
        stage<THREADS, CHUNK, CHANNELS, NARROW>(shared.x, from_x + (i64)at * dims.x_pitch, dims.x_pitch, rows, channels);
        if (warp == 0) {
            const i64 here = steps + (i64)at * dims.heads;
            shared.steps.read(log_a + here, dt + here, dims.heads, rows);
            __syncwarp();
            for (int i = threadIdx.x; i < CHUNK; i += 32)
                shared.factors[i] = shared.steps.dt[i] * decay(shared.steps.last(), shared.steps.sums[i]);
        }
        Scale scale = {1.f, 1.f};
        if (SCALED) {
            float most = 0.f;
#pragma unroll
            for (int k = 0; k < STATES; k++)
#pragma unroll
                for (int e = 0; e < 8; e++) most = fmaxf(most, fabsf(h[k][e]));
            most = largest(most, 32);
            if (threadIdx.x % 32 == 0) shared.most[warp] = most;
            __syncthreads();
            for (int w = 0; w < 8; w++) most = fmaxf(most, shared.most[w]);
            scale = below_one(most);
        }
        // Outputs: from the state, a term of it for all warps at a time, then from the chunk.
        {
            float y[OUT][8] = {};
#pragma unroll 1
            for (int part = 0; part < 2; part++) {
                if (part == 1) __syncthreads();  // everybody is done with the first term
#pragma unroll
                for (int k = 0; k < STATES; k++)
#pragma unroll
                    for (int e = 0; e < 8; e += 2) {
                        const int n = state_column + 16 * k + mma::column_of(e);
                        const Terms terms = split(h[k][e] * scale.to, h[k][e + 1] * scale.to);
                        u32* to = reinterpret_cast<u32*>(shared.h + (state_row + mma::row_of(e)) * WIDE + n);
                        if (n < PADDED) *to = part == 0 ? terms.top : terms.rest;
                    }
                staged();
#pragma unroll 2
                for (int k = 0; k < PADDED; k += 16) {
                    u32 left[4], right[4];
                    c.left(left, row, k);
#pragma unroll
                    for (int j = 0; j < OUT; j++) {
                        h16.right(right, column + 16 * j, k);
                        mma::multiply(y[j], left, right);
                    }
                }
            }
            const float grown[2] = {decay(shared.steps.sums[row + mma::row_of(0)]), decay(shared.steps.sums[row + mma::row_of(2)])};
#pragma unroll
            for (int j = 0; j < OUT; j++)
#pragma unroll
                for (int e = 0; e < 8; e++) y[j][e] = grown[e / 2 % 2] * (scale.from * y[j][e]);
#pragma unroll 1
            for (int k = 0; k <= row; k += 16) {  // nothing right of the diagonal
                Left scores;
                masked_scores(scores, shared, row, k);
#pragma unroll
                for (int j = 0; j < OUT; j++) {
                    u32 right[4];
                    x.right_transposed(right, column + 16 * j, k);
                    add_product(y[j], scores, right);
                }
            }
#pragma unroll
            for (int j = 0; j < OUT; j++)
#pragma unroll
                for (int e = 0; e < 8; e += 2) {
                    const int i = row + mma::row_of(e), p = column + 16 * j + mma::column_of(e);
                    float v[2];
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        const bool skips = d && p + r < channels;
                        const float skip = skips ? d[dims.skip == 1 ? head : head * HEAD_DIM + first + p + r] : 0.f;
                        v[r] = y[j][e + r] + skip * widen(shared.x[i * NARROW + p + r]);
                    }
                    if (i < rows) store_neighbours(to_y + (i64)(at + i) * dims.y_pitch + p, v[0], v[1], channels - p);
                }
        }

        // The state.
        const float keep = decay(shared.steps.last());
#pragma unroll
        for (int n = 0; n < STATES; n++)
#pragma unroll
            for (int e = 0; e < 8; e++) h[n][e] *= keep;
#pragma unroll 1
        for (int k = 0; k < CHUNK; k += 16) {
            Left faded;
            set_faded(faded, x, state_row, k, shared.factors);
#pragma unroll
            for (int n = 0; n < STATES; n++) {
                if (state_column + 16 * n >= PADDED) continue;
                u32 right[4];
                b.right_transposed(right, state_column + 16 * n, k);
                add_product(h[n], faded, right);
            }
        }
    }
    if (!leaves) return;
#pragma unroll
    for (int k = 0; k < STATES; k++)
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const int p = state_row + mma::row_of(e), n = state_column + 16 * k + mma::column_of(e);
            if (p < channels && n < STATE_DIM) leaves[(first + p) * STATE_DIM + n] = h[k][e];
        }
}
