// The cotangent of log a from the sums of `features.cu` and the states at either end of a chunk.
//
//   dlog_a_t = Σ_{i >= t} (rows_i - columns_i + read_i) + Σ_{j < t} written_j + gamma <dH, H>
//
// Row sums minus column sums are Σ_{i >= t > j} K_ij: the diagonal is in neither, and no sum crosses a chunk's border.
//
// rows, columns, read, written, dlog_a: (rows, heads) float.  entering, leaving: (chunks, heads, HEAD_DIM, STATE_DIM) float,
// gamma: (chunks, heads) float.  Grid (chunks, heads), THREADS threads; shared memory: static.
//
// Defines: STORED_BF16, STORED_F16 or STORED_F32, HEAD_DIM, STATE_DIM.
#include "ssd/portable/chunk.cuh"

extern "C" __global__ void __launch_bounds__(portable::THREADS)
portable_decays(const Span* chunks, const Dims dims, const float* rows, const float* read, const float* columns,
                const float* written, const float* entering, const float* leaving, const float* gamma, float* dlog_a) {
    using namespace portable;
    __shared__ float scratch[THREADS];
    const Head at(chunks, dims, blockIdx.x, blockIdx.y);
    const i64 place = (i64)blockIdx.x * dims.heads + at.head;
    constexpr int SIZE = HEAD_DIM * STATE_DIM;
    const float *before = entering + place * SIZE, *after = leaving + place * SIZE;
    float sum = 0.f;
    if (SIZE % 4 == 0) {
#pragma unroll 4
        for (int k = 4 * threadIdx.x; k < SIZE; k += 4 * THREADS) {
            const float4 h = *reinterpret_cast<const float4*>(before + k), g = *reinterpret_cast<const float4*>(after + k);
            sum += (h.x * g.x + h.y * g.y) + (h.z * g.z + h.w * g.w);
        }
    } else {
        for (int k = threadIdx.x; k < SIZE; k += THREADS) sum += before[k] * after[k];
    }
    const float kept = gamma[place] * sum_of_block(sum, scratch, THREADS);
    if (threadIdx.x >= 32) return;

    constexpr int EACH = Q / 32;  // positions of a lane
    const int t = EACH * threadIdx.x;
    float ends[EACH], starts[EACH], after_lane = 0.f, before_lane = 0.f;
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        const bool inside = t + k < at.span.len;
        const i64 here = (at.span.first + t + k) * dims.heads + at.head;
        ends[k] = inside ? rows[here] - columns[here] + read[here] : 0.f;
        starts[k] = inside ? written[here] : 0.f;
        after_lane += ends[k], before_lane += starts[k];
    }
#pragma unroll
    for (int w = 1; w < 32; w *= 2) {
        const float down = __shfl_down_sync(~0u, after_lane, w), up = __shfl_up_sync(~0u, before_lane, w);
        if (threadIdx.x + w < 32) after_lane += down;
        if (threadIdx.x >= w) before_lane += up;
    }
    // Sums of the lanes behind and before this one, then of positions.
    const float behind = __shfl_down_sync(~0u, after_lane, 1), ahead = __shfl_up_sync(~0u, before_lane, 1);
    float later = threadIdx.x < 31 ? behind : 0.f, earlier = threadIdx.x > 0 ? ahead : 0.f;
    float from_later[EACH];
#pragma unroll
    for (int k = EACH - 1; k >= 0; k--) from_later[k] = later += ends[k];
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        if (t + k < at.span.len) dlog_a[(at.span.first + t + k) * dims.heads + at.head] = from_later[k] + earlier + kept;
        earlier += starts[k];
    }
}
