// The cotangents of x and dt on tensor cores.
//
//   dU_j = Σ_{i >= j} (c_i·b_j) e^{s_i - s_j} dY_i + e^{s_Q - s_j} dH b_j,   dX_j = dt_j dU_j + d dY_j,   ddt_j = <x_j, dU_j>
//
// leaving: the cotangents dH of the states that leave the chunks.  d: (heads, skip) float.  dx as x.  ddt: (rows, heads) float.
// Grid (chunks, blocks of heads), 128 threads, each warp 16 positions; shared memory: `Shared`.
//
// Defines: STORED_BF16 or STORED_F16, HEAD_DIM, STATE_DIM, FREE_DIAGONAL.
#include "ssd/portable/backward.cuh"

namespace portable {

constexpr int BLOCKS = Q / 16, SLICES = TILE / 16, THREADS = 32 * WARPS;

struct alignas(16) Shared {
    Stored b[Q * WIDE], c[Q * WIDE];
    Stored x[Q * NARROW], dy[Q * NARROW];
    StateTile state;
    Steps<Q> steps;
};

}  // namespace portable

extern "C" __global__ void __launch_bounds__(portable::THREADS)
portable_dx(const Span* chunks, const Dims dims, const float* log_a, const float* dt, const Stored* x_in, const Stored* b_in,
            const Stored* c_in, const float* d, const Stored* dy_in, const float* leaving, Stored* dx, float* ddt) {
    using namespace portable;
    extern __shared__ __align__(16) unsigned char memory[];
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const Heads heads(dims, blockIdx.y);
    const Span span = chunks[blockIdx.x];
    const int warp = threadIdx.x / 32, row = 16 * warp;
    const mma::Matrix<WIDE> b(shared.b), c(shared.c), top(shared.state.top), rest(shared.state.rest);
    const mma::Matrix<NARROW> dy(shared.dy);

    stage<THREADS, Q, PADDED, WIDE>(shared.b, b_in + span.first * dims.b_pitch + heads.group * STATE_DIM, dims.b_pitch, span.len,
                                    STATE_DIM);
    stage<THREADS, Q, PADDED, WIDE>(shared.c, c_in + span.first * dims.c_pitch + heads.group * STATE_DIM, dims.c_pitch, span.len,
                                    STATE_DIM);
    staged();
    // (B Cᵀ) of this warp's rows j, for all heads.
    float scores[BLOCKS][8] = {};
#pragma unroll 2
    for (int k = 0; k < PADDED; k += 16) {
        u32 left[4], right[4];
        b.left(left, row, k);
#pragma unroll
        for (int i = 0; i < BLOCKS; i++) {
            if (i < warp) continue;
            c.right(right, 16 * i, k);
            mma::multiply(scores[i], left, right);
        }
    }
    for (int head = heads.first; head < heads.last; head++) {
        const i64 place = (i64)blockIdx.x * dims.heads + head;
        float steps[2], faded[2], inner[2] = {0.f, 0.f};
        Left masked[BLOCKS];
        for (int p = 0; p < HEAD_DIM; p += TILE) {
            const int channels = min(TILE, HEAD_DIM - p), column = head * HEAD_DIM + p;
            __syncthreads();  // everybody is done with the tile before
            stage<THREADS, Q, TILE, NARROW>(shared.x, x_in + span.first * dims.x_pitch + column, dims.x_pitch, span.len, channels);
            stage<THREADS, Q, TILE, NARROW>(shared.dy, dy_in + span.first * dims.y_pitch + column, dims.y_pitch, span.len, channels);
            if (p == 0 && warp == 0)
                shared.steps.read(log_a + span.first * dims.heads + head, dt + span.first * dims.heads + head, dims.heads, span.len);
            const float from = shared.state.stage<THREADS>(leaving + (place * HEAD_DIM + p) * STATE_DIM, channels);
            staged();
            if (p == 0 && head + 1 < heads.last) {
                fetch_state<THREADS>(leaving, place + 1);
                fetch_rows(x_in + span.first * dims.x_pitch + (head + 1) * HEAD_DIM, dims.x_pitch, span.len);
                fetch_rows(dy_in + span.first * dims.y_pitch + (head + 1) * HEAD_DIM, dims.y_pitch, span.len);
            }
            if (p == 0) {
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    const int t = row + mma::row_of(2 * m);
                    steps[m] = shared.steps.dt[t];
                    faded[m] = decay(shared.steps.last(), shared.steps.sums[t]);
                }
#pragma unroll
                for (int i = 0; i < BLOCKS; i++) {
                    if (i < warp) continue;
                    float v[8];
#pragma unroll
                    for (int e = 0; e < 8; e++) {
                        const int earlier = row + mma::row_of(e), later = 16 * i + mma::column_of(e);
                        const bool seen = later > earlier || (later == earlier && !FREE_DIAGONAL);
                        v[e] = seen ? scores[i][e] * decay(shared.steps.sums[later], shared.steps.sums[earlier]) : 0.f;
                    }
                    masked[i].set(v);
                }
            }
            // B dHᵀ, then the rest on top of it.
            float du[SLICES][8] = {};
#pragma unroll 2
            for (int k = 0; k < PADDED; k += 16) {
                u32 left[4], right[4];
                b.left(left, row, k);
#pragma unroll
                for (int q = 0; q < SLICES; q++) {
                    top.right(right, 16 * q, k);
                    mma::multiply(du[q], left, right);
                    rest.right(right, 16 * q, k);
                    mma::multiply(du[q], left, right);
                }
            }
#pragma unroll
            for (int q = 0; q < SLICES; q++) {
#pragma unroll
                for (int e = 0; e < 8; e++) du[q][e] = faded[e / 2 % 2] * (from * du[q][e]);
#pragma unroll
                for (int i = 0; i < BLOCKS; i++) {
                    if (i < warp) continue;
                    u32 right[4];
                    dy.right_transposed(right, 16 * q, 16 * i);
                    add_product(du[q], masked[i], right);
                }
#pragma unroll
                for (int e = 0; e < 8; e += 2) {
                    const int t = row + mma::row_of(e), k = 16 * q + mma::column_of(e), m = e / 2 % 2;
                    const float2 x = neighbours(shared.x + t * NARROW + k), out = neighbours(shared.dy + t * NARROW + k);
                    inner[m] += x.x * du[q][e] + x.y * du[q][e + 1];
                    float skip[2] = {0.f, 0.f};
                    if (d && k < channels) skip[0] = d[dims.skip == 1 ? head : column + k];
                    if (d && k + 1 < channels) skip[1] = d[dims.skip == 1 ? head : column + k + 1];
                    if (t < span.len)
                        store_neighbours(dx + (span.first + t) * dims.dx_pitch + column + k, steps[m] * du[q][e] + skip[0] * out.x,
                                         steps[m] * du[q][e + 1] + skip[1] * out.y, channels - k);
                }
            }
        }
#pragma unroll
        for (int m = 0; m < 2; m++) {
            const int t = row + mma::row_of(2 * m);
            const float sum = sum_of_row(inner[m]);
            if (threadIdx.x % 4 == 0 && t < span.len) ddt[(span.first + t) * dims.heads + head] = sum;
        }
    }
}
