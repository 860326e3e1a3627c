// The product, and the cotangents of x and dt, chunk by chunk on tensor cores.
//
//   portable_y    y_i  = Σ_{j <= i} (c_i·b_j) L_ij dt_j x_j + e^{s_i} H c_i + d x_i
//   portable_dx   dU_j = Σ_{i >= j} (c_i·b_j) L_ij dY_i + e^{s_Q - s_j} dH b_j
//                 dX_j = dt_j dU_j + d dY_j,   ddt_j = <x_j, dU_j>
//
// with L_ij = e^{s_i - s_j}: one text, in which `own` is the side of the result and `other` the one that it meets.
//
// d: (heads, skip) float.  y, dx as x.  ddt: (rows, heads) float.
// Grid (chunks, blocks of heads), THREADS threads; shared memory: `Shared`.
//
// Defines: STORED_BF16, STORED_F16 or STORED_F32, HEAD_DIM, STATE_DIM, SHARED (bytes that the host gives).
#include "ssd/portable/chunk.cuh"

namespace portable {

// Few channels where wide states leave small devices little shared memory; SLICES of 16, those of a warp are MINE.
constexpr int TILE = tile_of(WIDE_STATE ? (TF32 ? 32 : 16) : 64), NARROW = TILE + PIECE;
constexpr int SLICES = TILE / 16, MINE = (SLICES + SPLIT - 1) / SPLIT;
constexpr int RESIDENT = TF32 ? 2 : 0;  // blocks that registers are to suffice for; 0: as the compiler likes

struct Tile {
    Stored channels[Q * NARROW], x[Q * NARROW];  // what is met; x where it is not the same
    StateTile<TILE> state;
};

struct alignas(16) Shared {
    Stored own[Q * WIDE];
    union {
        Stored other[Q * WIDE];  // for the scores, before there is a tile
        Tile tile;
    };
    Steps steps;
    float parts[Q];
};

// `channels`: x or dY.  x, ddt: of portable_dx alone.
template <Meets MEETS>
__device__ __forceinline__ void channels(const Span* chunks, const Dims& dims, const float* log_a, const float* dt, Rows own,
                                         Rows other, Rows channels, Rows x, const float* d, const float* states, Stored* out,
                                         i64 out_pitch, float* ddt) {
    extern __shared__ __align__(16) unsigned char memory[];
    static_assert(sizeof(Shared) <= SHARED, "the host gives less shared memory");
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const Heads heads(dims, blockIdx.y);
    const Span span = chunks[blockIdx.x];
    const Warp warp;
    const int row = warp.row;
    Tile& tile = shared.tile;
    const mma::Matrix<WIDE> own16(shared.own), other16(shared.other);
    const mma::Matrix<NARROW> met_channels(tile.channels);

    const int feature = heads.group * STATE_DIM;
    stage<Q, PADDED, WIDE>(shared.own, own.from(span.first, feature), own.pitch, span.len, STATE_DIM);
    stage<Q, PADDED, WIDE>(shared.other, other.from(span.first, feature), other.pitch, span.len, STATE_DIM);
    staged();
    // The scores of this warp's rows, for all heads.
    float scores[BLOCKS][8] = {};
#pragma unroll 2
    for (int k = 0; k < PADDED; k += 16) {
        mma::Operand left, right;
        own16.left(left, row, k);
#pragma unroll
        for (int j = 0; j < BLOCKS; j++) {
            if (!meets<MEETS>(row, j)) continue;
            other16.right(right, 16 * j, k);
            mma::multiply(scores[j], left, right);
        }
    }
    for (int head = heads.first; head < heads.last; head++) {
        float step[2], weight[2], inner[2] = {0.f, 0.f};
        Left masked[BLOCKS];
        for (int p = 0; p < HEAD_DIM; p += TILE) {
            const int count = min(TILE, HEAD_DIM - p), column = head * HEAD_DIM + p;
            __syncthreads();  // everybody is done with the tile before
            stage<Q, TILE, NARROW>(tile.channels, channels.from(span.first, column), channels.pitch, span.len, count);
            if (MEETS == LATER) stage<Q, TILE, NARROW>(tile.x, x.from(span.first, column), x.pitch, span.len, count);
            if (p == 0 && threadIdx.x < 32)
                shared.steps.read(log_a + span.first * dims.heads + head, dt + span.first * dims.heads + head, dims.heads, span.len);
            const float* state = states + ((i64)blockIdx.x * dims.heads * HEAD_DIM + column) * STATE_DIM;
            const float from = tile.state.stage(state, count);
            staged();
            const int next = column + count, left_over = heads.last * HEAD_DIM - next;
            if (left_over > 0) {
                fetch_numbers(state + count * STATE_DIM, min(TILE, left_over) * STATE_DIM);
                fetch_rows(channels, span.first, next, span.len);
                if (MEETS == LATER) fetch_rows(x, span.first, next, span.len);
            }
            if (p == 0) {
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    const int t = row + mma::row_of(2 * m);
                    const Sum own_sum = shared.steps.sums[t];
                    step[m] = MEETS == EARLIER ? 1.f : shared.steps.dt[t];
                    weight[m] = MEETS == EARLIER ? decay(own_sum) : decay(shared.steps.last(), own_sum);
                }
#pragma unroll
                for (int j = 0; j < BLOCKS; j++) {
                    if (!meets<MEETS>(row, j)) continue;
                    float v[8];
#pragma unroll
                    for (int e = 0; e < 8; e++) {
                        const int t = row + mma::row_of(e), met_at = 16 * j + mma::column_of(e);
                        const int later = MEETS == EARLIER ? t : met_at, earlier = MEETS == EARLIER ? met_at : t;
                        const bool seen = later - earlier >= dims.free_diagonal;
                        const float by = decay(shared.steps.sums[later], shared.steps.sums[earlier]);
                        v[e] = seen ? scores[j][e] * (MEETS == EARLIER ? by * shared.steps.dt[earlier] : by) : 0.f;
                    }
                    masked[j].set(v);
                }
            }
            // From the state, then the rest on top of it.
            float u[MINE][8] = {};
#pragma unroll 2
            for (int k = 0; k < PADDED; k += 16) {
                mma::Operand left, right;
                own16.left(left, row, k);
#pragma unroll
                for (int q = 0; q < MINE; q++) {
                    if (SLICES % SPLIT && q * SPLIT + warp.part >= SLICES) continue;
#pragma unroll
                    for (int i = 0; i < TERMS; i++) {
                        tile.state.term(i).right(right, 16 * (q * SPLIT + warp.part), k);
                        mma::multiply(u[q], left, right);
                    }
                }
            }
#pragma unroll
            for (int q = 0; q < MINE; q++) {
                const int slice = 16 * (q * SPLIT + warp.part);
                if (SLICES % SPLIT && slice >= TILE) continue;
#pragma unroll
                for (int e = 0; e < 8; e++) u[q][e] = weight[e / 2 % 2] * (from * u[q][e]);
#pragma unroll
                for (int j = 0; j < BLOCKS; j++) {
                    if (!meets<MEETS>(row, j)) continue;
                    mma::Operand right;
                    met_channels.right_transposed(right, slice, 16 * j);
                    add_product(u[q], masked[j], right);
                }
#pragma unroll
                for (int e = 0; e < 8; e += 2) {
                    const int t = row + mma::row_of(e), k = slice + mma::column_of(e), m = e / 2 % 2;
                    const float2 same = neighbours(tile.channels + t * NARROW + k);
                    if (MEETS == LATER) {
                        const float2 of_x = neighbours(tile.x + t * NARROW + k);
                        inner[m] += of_x.x * u[q][e] + of_x.y * u[q][e + 1];
                    }
                    float skip[2] = {0.f, 0.f};
                    if (d && k < count) skip[0] = d[dims.skip == 1 ? head : column + k];
                    if (d && k + 1 < count) skip[1] = d[dims.skip == 1 ? head : column + k + 1];
                    if (t < span.len)
                        store_neighbours(out + (span.first + t) * out_pitch + column + k, step[m] * u[q][e] + skip[0] * same.x,
                                         step[m] * u[q][e + 1] + skip[1] * same.y, count - k);
                }
            }
        }
        if (MEETS == EARLIER) continue;
        inner[0] = sum_of_row(inner[0]), inner[1] = sum_of_row(inner[1]);
        sum_of_parts(inner, warp, shared.parts);
#pragma unroll
        for (int m = 0; m < 2; m++) {
            const int t = row + mma::row_of(2 * m);
            if (warp.part == 0 && threadIdx.x % 4 == 0 && t < span.len) ddt[(span.first + t) * dims.heads + head] = inner[m];
        }
    }
}

}  // namespace portable

extern "C" __global__ void __launch_bounds__(portable::THREADS, portable::RESIDENT)
portable_y(const Span* chunks, const Dims dims, const float* log_a, const float* dt, const Stored* x, const Stored* b, const Stored* c,
           const float* d, const float* entering, Stored* y) {
    using namespace portable;
    channels<EARLIER>(chunks, dims, log_a, dt, {c, dims.c_pitch}, {b, dims.b_pitch}, {x, dims.x_pitch}, {}, d, entering, y,
                      dims.y_pitch, nullptr);
}

extern "C" __global__ void __launch_bounds__(portable::THREADS, portable::RESIDENT)
portable_dx(const Span* chunks, const Dims dims, const float* log_a, const float* dt, const Stored* x, const Stored* b, const Stored* c,
            const float* d, const Stored* dy, const float* leaving, Stored* dx, float* ddt) {
    using namespace portable;
    channels<LATER>(chunks, dims, log_a, dt, {b, dims.b_pitch}, {c, dims.c_pitch}, {dy, dims.y_pitch}, {x, dims.x_pitch}, d, leaving,
                    dx, dims.dx_pitch, ddt);
}
