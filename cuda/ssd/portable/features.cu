// The cotangents of C and B on tensor cores, a share for every block of heads, and the sums that become those of log a.
//
//   portable_dc   dC_i = Σ_{j <= i} L_ij R_ij dt_j b_j + e^{s_i} dY_i H
//                 rows_i = Σ_{j < i} K_ij,      read_i = <c_i, the last term>
//   portable_db   dB_j = Σ_{i >= j} L_ij R_ij dt_j c_i + dt_j e^{s_Q - s_j} X_j dH
//                 columns_j = Σ_{i > j} K_ij,   written_j = <b_j, the last term>
//
// with L_ij = e^{s_i - s_j}, R = dY Xᵀ and K_ij = (c_i·b_j) L_ij R_ij dt_j: one text, in which `own` is the side whose cotangent
// is sought and `other` the one that it meets.
//
// share: (rows, blocks of heads, STATE_DIM) float.  pairs (rows, columns), passed (read, written): (rows, heads) float.
// Grid (chunks, blocks of heads), THREADS threads; shared memory: `Shared`.
//
// Defines: STORED_BF16, STORED_F16 or STORED_F32, HEAD_DIM, STATE_DIM, SHARED (bytes that the host gives).
#include "ssd/portable/chunk.cuh"

namespace portable {

// Few channels where wide states leave small devices little shared memory. MINE: blocks of 16 columns of a warp.
constexpr int TILE = tile_of(WIDE_STATE ? 16 : 64), NARROW = TILE + PIECE;
constexpr int DEPTH = TILE / 16, MINE = (PADDED / 16 + SPLIT - 1) / SPLIT;
constexpr int RESIDENT = TF32 ? 2 : 1;  // blocks that registers are to suffice for

constexpr bool KEPT = TF32;  // scores, which heads share; small devices have no memory for them besides 16-bit states of 256 numbers

struct alignas(16) Shared {
    Stored own[Q * WIDE], other[Q * WIDE];
    Stored own_channels[Q * NARROW], other_channels[Q * NARROW];
    StateTile<TILE> state;
    Steps steps;
    float parts[Q];
    float4 scores[KEPT ? BLOCKS * (BLOCKS + 1) / 2 * 64 : 1];  // of blocks that meet, eight numbers of every lane
};

// One side: C and dY, or B and X.
struct Side {
    Rows features, channels;
};

template <Meets MEETS>
__device__ __forceinline__ void features(const Span* chunks, const Dims& dims, const float* log_a, const float* dt, Side own,
                                         Side other, const float* states, float* share, float* pairs_out, float* passed_out) {
    extern __shared__ __align__(16) unsigned char memory[];
    static_assert(sizeof(Shared) <= SHARED, "the host gives less shared memory");
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const Heads heads(dims, blockIdx.y);
    const Span span = chunks[blockIdx.x];
    const Warp warp;
    const int row = warp.row;
    const mma::Matrix<WIDE> own16(shared.own), other16(shared.other);
    const mma::Matrix<NARROW> own_channels(shared.own_channels), other_channels(shared.other_channels);

    const int feature = heads.group * STATE_DIM;
    stage<Q, PADDED, WIDE>(shared.own, own.features.from(span.first, feature), own.features.pitch, span.len, STATE_DIM);
    stage<Q, PADDED, WIDE>(shared.other, other.features.from(span.first, feature), other.features.pitch, span.len, STATE_DIM);
    // Not known before the kernel runs: else loads for several blocks of columns at once would take more registers than there are.
    const int columns = STATE_DIM + dims.zero;
    float sums[MINE][8] = {};
    // Scores of this warp's rows and the positions of block j, and where they are kept.
    auto find = [&](float (&score)[8], int j) {
#pragma unroll 4
        for (int k = 0; k < PADDED; k += 16) {
            mma::Operand left, right;
            own16.left(left, row, k);
            other16.right(right, 16 * j, k);
            mma::multiply(score, left, right);
        }
    };
    auto kept = [&](int j) {
        const int first = min(row / 16, j), second = max(row / 16, j);
        return shared.scores + (second * (second + 1) / 2 + first) * 64 + threadIdx.x % 32;
    };
    if (KEPT) {
        staged();
        for (int j = warp.part; j < BLOCKS; j += SPLIT) {
            if (!meets<MEETS>(row, j)) continue;
            float v[8] = {};
            find(v, j);
            float4* to = kept(j);
            to[0] = make_float4(v[0], v[1], v[2], v[3]), to[32] = make_float4(v[4], v[5], v[6], v[7]);
        }
    }
    for (int head = heads.first; head < heads.last; head++) {
        float r[BLOCKS][8] = {}, passed[2] = {0.f, 0.f}, pairs[2] = {0.f, 0.f};
        for (int p = 0; p < HEAD_DIM; p += TILE) {
            const int channels = min(TILE, HEAD_DIM - p), column = head * HEAD_DIM + p;
            __syncthreads();  // everybody is done with the tile before
            stage<Q, TILE, NARROW>(shared.own_channels, own.channels.from(span.first, column), own.channels.pitch, span.len, channels);
            stage<Q, TILE, NARROW>(shared.other_channels, other.channels.from(span.first, column), other.channels.pitch, span.len,
                                   channels);
            if (p == 0 && threadIdx.x < 32)
                shared.steps.read(log_a + span.first * dims.heads + head, dt + span.first * dims.heads + head, dims.heads, span.len);
            const float* state = states + ((i64)blockIdx.x * dims.heads * HEAD_DIM + column) * STATE_DIM;
            const float from = shared.state.stage(state, channels);
            staged();
            const int next = column + channels, left_over = heads.last * HEAD_DIM - next;
            if (left_over > 0) {
                fetch_numbers(state + channels * STATE_DIM, min(TILE, left_over) * STATE_DIM);
                fetch_rows(own.channels, span.first, next, span.len);
                fetch_rows(other.channels, span.first, next, span.len);
            }

            mma::Operand left[DEPTH];
#pragma unroll
            for (int k = 0; k < DEPTH; k++) own_channels.left(left[k], row, 16 * k);
#pragma unroll
            for (int j = 0; j < BLOCKS; j++) {
                if (!meets<MEETS>(row, j)) continue;
#pragma unroll
                for (int k = 0; k < DEPTH; k++) {
                    mma::Operand right;
                    other_channels.right(right, 16 * j, 16 * k);
                    mma::multiply(r[j], left[k], right);
                }
            }
#pragma unroll
            for (int k = 0; k < DEPTH; k++)
                if (mma::STEPS > 1) own_channels.left_paired(left[k], row, 16 * k);
            float weight[2];
#pragma unroll
            for (int m = 0; m < 2; m++) {
                const int t = row + mma::row_of(2 * m);
                weight[m] = MEETS == EARLIER ? decay(shared.steps.sums[t])
                                             : shared.steps.dt[t] * decay(shared.steps.last(), shared.steps.sums[t]);
            }
#pragma unroll
            for (int n = 0; n < MINE; n++) {
                const int first = 16 * (n * SPLIT + warp.part);
                if (first >= columns) continue;
                float v[8] = {};
#pragma unroll
                for (int k = 0; k < DEPTH; k++) {
                    mma::Operand right;
#pragma unroll
                    for (int i = 0; i < TERMS; i++) {
                        shared.state.term(i).right_transposed(right, first, 16 * k);
                        mma::multiply(v, left[k], right);
                    }
                }
#pragma unroll
                for (int e = 0; e < 8; e += 2) {
                    const float2 of_own = neighbours(shared.own + (row + mma::row_of(e)) * WIDE + first + mma::column_of(e));
                    const int m = e / 2 % 2;
                    v[e] = weight[m] * (from * v[e]), v[e + 1] = weight[m] * (from * v[e + 1]);
                    passed[m] += of_own.x * v[e] + of_own.y * v[e + 1];
                    sums[n][e] += v[e], sums[n][e + 1] += v[e + 1];
                }
            }
        }

#pragma unroll
        for (int j = 0; j < BLOCKS; j++) {
            if (!meets<MEETS>(row, j)) continue;
            float score[8] = {};
            if (KEPT) {
                const float4 *from = kept(j), v = from[0], w = from[32];
                score[0] = v.x, score[1] = v.y, score[2] = v.z, score[3] = v.w;
                score[4] = w.x, score[5] = w.y, score[6] = w.z, score[7] = w.w;
            } else {
                find(score, j);
            }
#pragma unroll
            for (int e = 0; e < 8; e++) {
                const int t = row + mma::row_of(e), met_at = 16 * j + mma::column_of(e);
                const int later = MEETS == EARLIER ? t : met_at, earlier = MEETS == EARLIER ? met_at : t;
                const bool seen = later - earlier >= dims.free_diagonal;
                const float by = seen ? decay(shared.steps.sums[later], shared.steps.sums[earlier]) * shared.steps.dt[earlier] : 0.f;
                r[j][e] *= by;
                if (later > earlier) pairs[e / 2 % 2] += score[e] * r[j][e];
            }
            Left left;
            left.set(r[j]);
#pragma unroll
            for (int n = 0; n < MINE; n++) {
                const int first = 16 * (n * SPLIT + warp.part);
                if (first >= columns) continue;
                mma::Operand right;
                other16.right_transposed(right, first, 16 * j);
                add_product(sums[n], left, right);
            }
        }
        passed[0] = sum_of_row(passed[0]), passed[1] = sum_of_row(passed[1]);
        sum_of_parts(passed, warp, shared.parts);
#pragma unroll
        for (int m = 0; m < 2; m++) {
            const int t = row + mma::row_of(2 * m);
            const float pair = sum_of_row(pairs[m]);
            if (warp.part == 0 && threadIdx.x % 4 == 0 && t < span.len) {
                pairs_out[(span.first + t) * dims.heads + head] = pair;
                passed_out[(span.first + t) * dims.heads + head] = passed[m];
            }
        }
    }
#pragma unroll
    for (int n = 0; n < MINE; n++)
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const int t = row + mma::row_of(e), k = 16 * (n * SPLIT + warp.part) + mma::column_of(e);
            if (t < span.len && k < STATE_DIM) share[((span.first + t) * gridDim.y + blockIdx.y) * STATE_DIM + k] = sums[n][e];
        }
}

}  // namespace portable

extern "C" __global__ void __launch_bounds__(portable::THREADS, portable::RESIDENT)
portable_dc(const Span* chunks, const Dims dims, const float* log_a, const float* dt, const Stored* x, const Stored* b,
            const Stored* c, const Stored* dy, const float* entering, float* share, float* rows, float* read) {
    using namespace portable;
    features<EARLIER>(chunks, dims, log_a, dt, {{c, dims.c_pitch}, {dy, dims.y_pitch}}, {{b, dims.b_pitch}, {x, dims.x_pitch}}, entering,
                      share, rows, read);
}

extern "C" __global__ void __launch_bounds__(portable::THREADS, portable::RESIDENT)
portable_db(const Span* chunks, const Dims dims, const float* log_a, const float* dt, const Stored* x, const Stored* b,
            const Stored* c, const Stored* dy, const float* leaving, float* share, float* columns, float* written) {
    using namespace portable;
    features<LATER>(chunks, dims, log_a, dt, {{b, dims.b_pitch}, {x, dims.x_pitch}}, {{c, dims.c_pitch}, {dy, dims.y_pitch}}, leaving,
                    share, columns, written);
}
