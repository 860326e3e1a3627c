// The cotangent of log a in the attention form of one span, as sums of products only:
//
//     dlog_a_t = sum_{i >= t > j} M_ij S_ij + sum_{i >= t} read_i + sum_{j < t} written_j + gamma <dH, H>
//
// with M = L o C B^T, S = dY U^T. The first sum goes by tiles of 32 positions: pairs inside the tile of t (`quadratic_pairs`),
// pairs of one position in it and one in an earlier (`rows`) or later tile (`columns`, both of quadratic_vjp.cu), and pairs of
// tiles on either side (`pairs`).
//
// log_a, dt, rows, columns, read, written, dlog_a: (rows, heads) Acc.  x, dy: (rows, heads * HEAD_DIM) Stored.
// b, c: (rows, groups * STATE_DIM) Stored.  pairs: (spans, heads, tiles, tiles) Acc.  sums: (spans, heads, tiles, 3) Acc.
// Block: 256.  Shared memory: up to 43 KiB, static.
#include "common/sweep.cuh"

// pairs_IJ = sum over i in tile I, j in tile J of M_ij S_ij for I > J; dlog_a_t = the same over i >= t > j inside a tile.
// Grid: (spans, heads, tiles I).
extern "C" __global__ void __launch_bounds__(256)
    quadratic_pairs(const Span *spans, Dims dims, const Acc *log_a, const Acc *dt, const Stored *x, const Stored *b,
                    const Stored *c, const Stored *dy, Acc *pairs, Acc *dlog_a) {
    __shared__ Shared s;
    __shared__ Acc scratch[256];
    const Head at(spans, dims, blockIdx.x, blockIdx.y);
    const int tile = blockIdx.z, tiles = gridDim.z;
    const int first = tile * TILE, count = min(TILE, at.span.len - first);
    if (count <= 0) return;
    const Scaled u{at.channels(x, dims.x_pitch), dims.x_pitch, at.scalars(dt), at.heads};
    const Plain bs{at.features(b, dims.b_pitch), dims.b_pitch}, cs{at.features(c, dims.c_pitch), dims.c_pitch};
    const Plain dys{at.channels(dy, dims.y_pitch), dims.y_pitch};
    log_a = at.scalars(log_a);
    pairs += (((i64)blockIdx.x * at.heads + at.head) * tiles + tile) * tiles;

    load_decays(s, s.near, log_a, at.heads, first, count, BACK);
    Acc between = 0;
    for (int other = tile - 1; other >= -1; other--) {
        const bool same = other < 0;
        const int first_o = same ? first : other * TILE, count_o = same ? count : TILE;
        load_decays(s, s.far, log_a, at.heads, first_o, count_o, FORTH);
        Acc score[4], cotangent[4], decay[4];
        scores<STATE_DIM>(s, score, cs, first, count, bs, first_o, count_o);
        scores<HEAD_DIM>(s, cotangent, dys, first, count, u, first_o, count_o);
        decays<BACK>(s, decay, at.free_diagonal, between, same, count, count_o);
        between += s.total;
        if (!same) {
            Acc sum = 0;
#pragma unroll
            for (int q = 0; q < 4; q++) sum += decay[q] * score[q] * cotangent[q];
            sum = sum_of_block(sum, scratch, 256);
            if (threadIdx.x == 0) pairs[other] = sum;
            continue;
        }
#pragma unroll
        for (int q = 0; q < 4; q++)
            s.weight[threadIdx.x / 32 * 4 + q][threadIdx.x % 32] = decay[q] * score[q] * cotangent[q];
    }
    __syncthreads();
    if (threadIdx.x >= count) return;
    const int t = threadIdx.x;
    Acc sum = 0;
    for (int i = t; i < count; i++)
        for (int j = 0; j < t; j++) sum += s.weight[i][j];
    at.scalars(dlog_a)[(i64)(first + t) * at.heads] = sum;
}

// Adds the rest to dlog_a. Grid: (spans, heads).
extern "C" __global__ void __launch_bounds__(256)
    quadratic_decays(const Span *spans, Dims dims, const Acc *log_a, int tiles, const Acc *pairs, const Acc *rows,
                     const Acc *columns, const Acc *read, const Acc *written, const Acc *initial, const Acc *dlast,
                     Acc *sums, Acc *dlog_a) {
    __shared__ Acc scratch[256];
    const Head at(spans, dims, blockIdx.x, blockIdx.y);
    const int len = at.span.len;
    log_a = at.scalars(log_a), dlog_a = at.scalars(dlog_a);
    rows = at.scalars(rows), columns = at.scalars(columns), read = at.scalars(read), written = at.scalars(written);
    pairs += ((i64)blockIdx.x * at.heads + at.head) * tiles * tiles;
    sums += ((i64)blockIdx.x * at.heads + at.head) * tiles * 3;
    const int own = (len + TILE - 1) / TILE;

    // gamma <dH, H>
    Acc kept = 0;
    const Acc *before = at.state(initial, at.span.enters), *after = at.state(dlast, at.span.leaves);
    if (before && after) {
        Acc sum = 0;
        for (int t = threadIdx.x; t < len; t += 256) sum += log_a[(i64)t * at.heads];
        const Acc gamma = exp(sum_of_block(sum, scratch, 256));
        sum = 0;
        for (int k = threadIdx.x; k < HEAD_DIM * STATE_DIM; k += 256) sum += before[k] * after[k];
        kept = gamma * sum_of_block(sum, scratch, 256);
    }

    // For each tile: the pairs on either side of it, and what is read and written in it.
    for (int tile = threadIdx.x; tile < own; tile += 256) {
        Acc sides = 0, reads = 0, writes = 0;
        for (int i = tile + 1; i < own; i++)
            for (int j = 0; j < tile; j++) sides += pairs[(i64)i * tiles + j];
        for (int t = tile * TILE; t < min(len, (tile + 1) * TILE); t++)
            reads += read[(i64)t * at.heads], writes += written[(i64)t * at.heads];
        sums[tile * 3] = sides, sums[tile * 3 + 1] = reads, sums[tile * 3 + 2] = writes;
    }
    __syncthreads();

    for (int t = threadIdx.x; t < len; t += 256) {
        const int tile = t / TILE;
        Acc sum = kept + sums[tile * 3];
        for (int k = own - 1; k > tile; k--) sum += sums[k * 3 + 1];
        for (int k = 0; k < tile; k++) sum += sums[k * 3 + 2];
        for (int i = min(len, (tile + 1) * TILE) - 1; i >= t; i--) sum += rows[(i64)i * at.heads] + read[(i64)i * at.heads];
        for (int j = tile * TILE; j < t; j++) sum += columns[(i64)j * at.heads] + written[(i64)j * at.heads];
        dlog_a[(i64)t * at.heads] += sum;
    }
}
