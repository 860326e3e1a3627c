// The SSD product on tensor cores of any supported architecture: chunk after chunk, the state on the chip.
//
//   y_i = e^{s_i} H c_i + Σ_{j <= i} (c_i·b_j) e^{s_i - s_j} dt_j x_j + d x_i,      H <- e^{s_Q} H + Σ_j e^{s_Q - s_j} dt_j x_j b_jᵀ
//
// with s the inclusive sums of log a in the chunk.
//
// x, y (rows, heads, HEAD_DIM), b, c (rows, groups, STATE_DIM)   bf16
// log_a, dt (rows, heads), d (heads, skip)   float;   initial, last_state (states, heads, HEAD_DIM, STATE_DIM)  float
//
// Grid (sequences, heads, tiles of 64 channels), 256 threads: 8 warps, of which MW share the rows of a product and NW its
// columns; the 64 x PADDED state is in their registers, with a 16-bit copy in shared memory for the products.
// Shared memory: `Shared`. The masked scores, the scaled x and the state are sums of two bf16 numbers: rounded once, each would
// spend as much of the error as the rounding of y.
//
// Defines: STORED_BF16, HEAD_DIM, STATE_DIM, FREE_DIAGONAL, CHUNK (32 or 64).
#include "common/exact.cuh"
#include "common/mma.cuh"
#include "common/softplus.cuh"

namespace portable {

constexpr int PADDED = (STATE_DIM + 15) / 16 * 16;
constexpr int CHANNELS = 64;
constexpr int WIDE = PADDED + 8, NARROW = CHANNELS + 8, SQUARE = CHUNK + 8;  // row pitches that no two rows share banks with
constexpr int THREADS = 256, MW = CHUNK / 16, NW = 8 / MW;
constexpr int SCORES = CHUNK / NW / 8, OUT = CHANNELS / NW / 8, STATES = (PADDED / 8 + 1) / 2;  // 8-column tiles of a warp
constexpr float LOG2_E = 1.44269504088896340736f;

struct alignas(16) Shared {
    Stored b[CHUNK * WIDE], c[CHUNK * WIDE], h[CHANNELS * WIDE];
    Stored x[CHUNK * NARROW], high[CHUNK * NARROW], low[CHUNK * NARROW];
    Stored scores[CHUNK * SQUARE], scores_low[CHUNK * SQUARE];
    float sums[CHUNK], dt[CHUNK];  // of log2 a, inclusive
};

// `rows` x `columns` numbers of memory into shared memory, zeros up to `padded_rows` x `padded_columns`.
__device__ __forceinline__ void copy(Stored* to, int to_pitch, const Stored* from, i64 from_pitch, int rows, int columns,
                                     int padded_rows, int padded_columns) {
    const bool wide = ((u64)from | (u64)(from_pitch * 2)) % 16 == 0 && columns % 8 == 0;
    const int pieces = padded_columns / 8;
    for (int i = threadIdx.x; i < padded_rows * pieces; i += THREADS) {
        const int r = i / pieces, k = i % pieces * 8;
        uint4 piece = make_uint4(0, 0, 0, 0);
        if (r < rows) {
            if (wide && k < columns) piece = *reinterpret_cast<const uint4*>(from + r * from_pitch + k);
            if (!wide) {
                u32 words[4];
#pragma unroll
                for (int w = 0; w < 4; w++) {
                    const u32 lo = k + 2 * w < columns ? from[r * from_pitch + k + 2 * w].bits : 0;
                    const u32 hi = k + 2 * w + 1 < columns ? from[r * from_pitch + k + 2 * w + 1].bits : 0;
                    words[w] = lo | hi << 16;
                }
                piece = make_uint4(words[0], words[1], words[2], words[3]);
            }
        }
        *reinterpret_cast<uint4*>(to + r * to_pitch + k) = piece;
    }
}

}  // namespace portable

extern "C" __global__ void __launch_bounds__(portable::THREADS)
portable_forward(const Span* spans, const Dims dims, const float* log_a, const float* dt, const Stored* x_in, const Stored* b_in,
                 const Stored* c_in, const float* d, const float* initial, float* last_state, Stored* y_out) {
    using namespace portable;
    extern __shared__ __align__(16) unsigned char memory[];
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const Head at_head(spans, dims, blockIdx.x, blockIdx.y);
    const Span span = at_head.span;
    const int head = at_head.head, first = blockIdx.z * CHANNELS, channels = min(CHANNELS, HEAD_DIM - first);
    const float* logs = at_head.scalars(log_a);
    const float* steps = at_head.scalars(dt);
    const Stored* from_x = at_head.channels(x_in, dims.x_pitch) + first;
    const Stored* from_b = at_head.features(b_in, dims.b_pitch);
    const Stored* from_c = at_head.features(c_in, dims.c_pitch);
    Stored* to_y = at_head.channels(y_out, dims.y_pitch) + first;
    const float* enters = at_head.state(initial, span.enters);
    float* leaves = at_head.state(last_state, span.leaves);
    const mma::Matrix<WIDE> b(shared.b), c(shared.c), h16(shared.h);
    const mma::Matrix<NARROW> x(shared.x), high(shared.high), low(shared.low);
    const mma::Matrix<SQUARE> scores(shared.scores), scores_low(shared.scores_low);

    // The state: 4 warps share its channels, 2 its columns.
    const int state_row = warp % 4 * 16, state_tile = warp / 4 * STATES;
    float h[STATES][4];
#pragma unroll
    for (int k = 0; k < STATES; k++)
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const int p = state_row + g + r / 2 * 8, n = (state_tile + k) * 8 + 2 * t + r % 2;
            h[k][r] = enters && p < channels && n < STATE_DIM ? enters[(first + p) * STATE_DIM + n] : 0.f;
        }

    const int row = warp % MW * 16;
    for (i64 at = 0; at < span.len; at += CHUNK) {
        const int rows = min(CHUNK, span.len - (int)at);
        __syncthreads();  // everybody is done with the chunk before
        copy(shared.b, WIDE, from_b + at * dims.b_pitch, dims.b_pitch, rows, STATE_DIM, CHUNK, PADDED);
        copy(shared.c, WIDE, from_c + at * dims.c_pitch, dims.c_pitch, rows, STATE_DIM, CHUNK, PADDED);
        copy(shared.x, NARROW, from_x + at * dims.x_pitch, dims.x_pitch, rows, channels, CHUNK, CHANNELS);
        if (warp == 0) {
            float before = 0.f;
#pragma unroll
            for (int k = 0; k < CHUNK; k += 32) {
                const int i = k + lane;
                const i64 step = (at + i) * at_head.heads;
                // Below 2^-150 a decay is zero: a limit keeps the sums exact enough for what follows it.
                float sum = i < rows ? fmaxf(logs[step] * LOG2_E, -150.f) : 0.f;
#pragma unroll
                for (int w = 1; w < 32; w *= 2) {
                    const float left = __shfl_up_sync(~0u, sum, w);
                    if (lane >= w) sum += left;
                }
                shared.sums[i] = before + sum;
                shared.dt[i] = i < rows ? steps[step] : 0.f;
                before += __shfl_sync(~0u, sum, 31);
            }
        }
        // The state for all warps, rounded; or what the rounding left.
        auto share_state = [&](bool rest) {
#pragma unroll
            for (int k = 0; k < STATES; k++)
#pragma unroll
                for (int r = 0; r < 4; r++) {
                    const int n = (state_tile + k) * 8 + 2 * t + r % 2;
                    const Stored top = narrow<Stored>(h[k][r]);
                    if (n < PADDED)
                        shared.h[(state_row + g + r / 2 * 8) * WIDE + n] = rest ? narrow<Stored>(h[k][r] - widen(top)) : top;
                }
        };
        share_state(false);
        __syncthreads();

        // Scores, masked; and x times what is left of it at the end of the chunk.
        const float last = shared.sums[CHUNK - 1];
        {
            float s[SCORES][4] = {};
            const int column = warp / MW * SCORES * 8;
#pragma unroll 4
            for (int k = 0; k < PADDED; k += 16) {
                u32 left[4], right[2];
                c.left(left, row, k);
#pragma unroll
                for (int j = 0; j < SCORES; j++) {
                    b.right(right, column + j * 8, k);
                    mma::multiply(s[j], left, right);
                }
            }
#pragma unroll
            for (int j = 0; j < SCORES; j++)
#pragma unroll
                for (int r = 0; r < 4; r++) {
                    const int i = row + g + r / 2 * 8, m = column + j * 8 + 2 * t + r % 2;
                    const bool seen = i > m || (i == m && !FREE_DIAGONAL);
                    const float weight = seen ? exp2_fast(shared.sums[i] - shared.sums[m]) * shared.dt[m] : 0.f;
                    const float v = s[j][r] * weight;
                    const Stored top = narrow<Stored>(v);
                    shared.scores[i * SQUARE + m] = top;
                    shared.scores_low[i * SQUARE + m] = narrow<Stored>(v - widen(top));
                }
        }
        for (int i = threadIdx.x; i < CHUNK * CHANNELS; i += THREADS) {
            const int r = i / CHANNELS, p = i % CHANNELS;
            const float v = widen(shared.x[r * NARROW + p]) * (exp2_fast(last - shared.sums[r]) * shared.dt[r]);
            const Stored top = narrow<Stored>(v);
            shared.high[r * NARROW + p] = top;
            shared.low[r * NARROW + p] = narrow<Stored>(v - widen(top));
        }
        __syncthreads();

        // Outputs: from the state, then from the chunk.
        {
            float y[OUT][4] = {};
            const int column = warp / MW * OUT * 8;
#pragma unroll 1
            for (int part = 0; part < 2; part++) {
                if (part == 1) {
                    __syncthreads();  // everybody is done with the first part
                    share_state(true);
                    __syncthreads();
                }
#pragma unroll 4
                for (int k = 0; k < PADDED; k += 16) {
                    u32 left[4], right[2];
                    c.left(left, row, k);
#pragma unroll
                    for (int j = 0; j < OUT; j++) {
                        h16.right(right, column + j * 8, k);
                        mma::multiply(y[j], left, right);
                    }
                }
            }
            const float top = exp2_fast(shared.sums[row + g]), bottom = exp2_fast(shared.sums[row + g + 8]);
#pragma unroll
            for (int j = 0; j < OUT; j++) y[j][0] *= top, y[j][1] *= top, y[j][2] *= bottom, y[j][3] *= bottom;
#pragma unroll
            for (int k = 0; k < CHUNK; k += 16) {
                if (k > row) break;  // nothing right of the diagonal
                u32 left[4], rest[4], right[2];
                scores.left(left, row, k);
                scores_low.left(rest, row, k);
#pragma unroll
                for (int j = 0; j < OUT; j++) {
                    x.right_transposed(right, column + j * 8, k);
                    mma::multiply(y[j], left, right);
                    mma::multiply(y[j], rest, right);
                }
            }
#pragma unroll
            for (int j = 0; j < OUT; j++)
#pragma unroll
                for (int r = 0; r < 4; r++) {
                    const int i = row + g + r / 2 * 8, p = column + j * 8 + 2 * t + r % 2;
                    if (i >= rows || p >= channels) continue;
                    const float skip = !d ? 0.f : d[dims.skip == 1 ? head : head * HEAD_DIM + first + p];
                    const float own = skip * widen(shared.x[i * NARROW + p]);
                    to_y[(at + i) * dims.y_pitch + p] = narrow<Stored>(y[j][r] + own);
                }
        }

        // The state.
        const float keep = exp2_fast(last);
#pragma unroll
        for (int k = 0; k < STATES; k++)
#pragma unroll
            for (int r = 0; r < 4; r++) h[k][r] *= keep;
#pragma unroll
        for (int k = 0; k < CHUNK; k += 16) {
            u32 top[4], rest[4], right[2];
            high.left_transposed(top, state_row, k);
            low.left_transposed(rest, state_row, k);
#pragma unroll
            for (int n = 0; n < STATES; n++) {
                if ((state_tile + n) * 8 >= PADDED) continue;
                b.right_transposed(right, (state_tile + n) * 8, k);
                mma::multiply(h[n], top, right);
                mma::multiply(h[n], rest, right);
            }
        }
    }
    if (!leaves) return;
#pragma unroll
    for (int k = 0; k < STATES; k++)
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const int p = state_row + g + r / 2 * 8, n = (state_tile + k) * 8 + 2 * t + r % 2;
            if (p < channels && n < STATE_DIM) leaves[(first + p) * STATE_DIM + n] = h[k][r];
        }
}
