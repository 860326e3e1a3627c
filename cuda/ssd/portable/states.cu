// What every chunk adds to the state, and to its cotangent, on tensor cores.
//
//   portable_states       added = Σ_j e^{s_Q - s_j} dt_j x_j b_jᵀ
//   portable_cotangents   added = Σ_i e^{s_i} dy_i c_iᵀ
//
// added, gamma: (chunks, heads, HEAD_DIM, STATE_DIM) and (chunks, heads) float; gamma = e^{s_Q}.
// Grid (chunks, blocks of heads), THREADS threads; shared memory: `Shared`.
//
// Defines: STORED_BF16, STORED_F16 or STORED_F32, HEAD_DIM, STATE_DIM, SHARED (bytes that the host gives).
#define SPLIT_OF_TF32 1  // to make the left operand twice would cost more
#include "ssd/portable/chunk.cuh"

namespace portable {

constexpr int CHANNELS = 16 * BLOCKS, PITCH = CHANNELS + PIECE;  // of a tile: a warp has 16, as it has positions elsewhere

struct alignas(16) Shared {
    Stored features[Q * WIDE], channels[Q * PITCH];
    Steps steps;
    float factors[Q];
};

// factor(steps, t): the weight of position t.
template <class Factor>
__device__ __forceinline__ void add_up(const Span* chunks, const Dims& dims, const float* log_a, const float* dt, Rows channels,
                                       Rows features, float* added, float* gamma, Factor factor) {
    extern __shared__ __align__(16) unsigned char memory[];
    static_assert(sizeof(Shared) <= SHARED, "the host gives less shared memory");
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const Heads heads(dims, blockIdx.y);
    const Span span = chunks[blockIdx.x];
    const int warp = threadIdx.x / 32;
    const mma::Matrix<WIDE> right_side(shared.features);
    const mma::Matrix<PITCH> left_side(shared.channels);

    stage<Q, PADDED, WIDE>(shared.features, features.from(span.first, heads.group * STATE_DIM), features.pitch, span.len,
                           STATE_DIM);
    for (int head = heads.first; head < heads.last; head++) {
        const i64 place = (i64)blockIdx.x * dims.heads + head;
        for (int p = 0; p < HEAD_DIM; p += CHANNELS) {
            __syncthreads();  // everybody is done with the tile before
            stage<Q, CHANNELS, PITCH>(shared.channels, channels.from(span.first, head * HEAD_DIM + p), channels.pitch, span.len,
                                     min(CHANNELS, HEAD_DIM - p));
            if (p == 0 && threadIdx.x < 32) {
                shared.steps.read(log_a + span.first * dims.heads + head, dt + span.first * dims.heads + head, dims.heads, span.len);
                __syncwarp();
                for (int t = threadIdx.x; t < Q; t += 32) shared.factors[t] = factor(shared.steps, t);
                if (threadIdx.x == 0) gamma[place] = decay(shared.steps.last());
            }
            staged();
            Left left[Q / 16];
#pragma unroll
            for (int k = 0; k < Q / 16; k++) set_faded(left[k], left_side, 16 * warp, 16 * k, shared.factors);
#pragma unroll 2
            for (int n = 0; n < PADDED; n += 16) {
                float sums[8] = {};
#pragma unroll
                for (int k = 0; k < Q / 16; k++) {
                    mma::Operand right;
                    right_side.right_transposed(right, n, 16 * k);
                    add_product(sums, left[k], right);
                }
#pragma unroll
                for (int e = 0; e < 8; e += 2) {
                    const int channel = p + 16 * warp + mma::row_of(e), column = n + mma::column_of(e);
                    if (channel >= HEAD_DIM) continue;
                    float* to = added + (place * HEAD_DIM + channel) * STATE_DIM + column;
                    if (STATE_DIM % 2 == 0) {
                        if (column < STATE_DIM) *reinterpret_cast<float2*>(to) = make_float2(sums[e], sums[e + 1]);
                    } else {
                        if (column < STATE_DIM) to[0] = sums[e];
                        if (column + 1 < STATE_DIM) to[1] = sums[e + 1];
                    }
                }
            }
        }
    }
}

}  // namespace portable

extern "C" __global__ void __launch_bounds__(portable::THREADS, 4)
portable_states(const Span* chunks, const Dims dims, const float* log_a, const float* dt, const Stored* x, const Stored* b,
                float* added, float* gamma) {
    using namespace portable;
    add_up(chunks, dims, log_a, dt, {x, dims.x_pitch}, {b, dims.b_pitch}, added, gamma,
           [](const Steps& steps, int t) { return steps.dt[t] * decay(steps.last(), steps.sums[t]); });
}

extern "C" __global__ void __launch_bounds__(portable::THREADS, 4)
portable_cotangents(const Span* chunks, const Dims dims, const float* log_a, const float* dt, const Stored* dy, const Stored* c,
                    float* added, float* gamma) {
    using namespace portable;
    add_up(chunks, dims, log_a, dt, {dy, dims.y_pitch}, {c, dims.c_pitch}, added, gamma,
           [](const Steps& steps, int t) { return decay(steps.sums[t]); });
}
