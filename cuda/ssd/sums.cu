// Sums over heads and positions, in a fixed order.
#include "common/scalar.cuh"

constexpr int PAGE = 256; // rows that are summed up before they join a longer sum

// dz_rgn = sum over the heads h of group g of part_rhn: dB and dC.
// part: (rows, heads, state_dim) Acc.  dz: (rows, pitch) Stored.  Grid: any; block: 256.  Shared memory: none.
extern "C" __global__ void __launch_bounds__(256)
    sum_heads(const Acc *part, i64 rows, int heads, int groups, int state_dim, Stored *dz, i64 pitch) {
    const int per = heads / groups;
    const i64 count = rows * groups * state_dim;
    for (i64 k = (i64)blockIdx.x * 256 + threadIdx.x; k < count; k += (i64)gridDim.x * 256) {
        const i64 row = k / (groups * state_dim);
        const int g = k / state_dim % groups, n = k % state_dim;
        const Acc *from = part + (row * heads + g * per) * state_dim + n;
        Acc sum = 0;
        for (int h = 0; h < per; h++) sum += from[(i64)h * state_dim];
        dz[row * pitch + g * state_dim + n] = narrow<Stored>(sum);
    }
}

// part_khp = sum over the rows r of page k of dy_rhp x_rhp: a step of the skip's cotangent.
// x, dy: (rows, heads * head_dim) Stored, head_dim at most 256.  part: (pages, heads, head_dim) Acc.
// Grid: (pages, heads); block: 256.  Shared memory: none.
extern "C" __global__ void __launch_bounds__(256)
    skip_pages(i64 rows, int head_dim, const Stored *x, i64 x_pitch, const Stored *dy, i64 dy_pitch, Acc *part) {
    const i64 first = (i64)blockIdx.x * PAGE;
    const int p = threadIdx.x, h = blockIdx.y;
    if (p >= head_dim) return;
    Acc sum = 0;
    for (i64 r = first; r < min(rows, first + PAGE); r++)
        sum += widen(dy[r * dy_pitch + h * head_dim + p]) * widen(x[r * x_pitch + h * head_dim + p]);
    part[((i64)blockIdx.x * gridDim.y + h) * head_dim + p] = sum;
}

// out_k = sum over pages of the sums of `width` neighbours: part: (pages, count * width), out: (count), both Acc.
// Grid: any; block: 256.  Shared memory: none.
extern "C" __global__ void __launch_bounds__(256) sum_pages(const Acc *part, i64 pages, i64 count, int width, Acc *out) {
    for (i64 k = (i64)blockIdx.x * 256 + threadIdx.x; k < count; k += (i64)gridDim.x * 256) {
        Acc sum = 0;
        for (int w = 0; w < width; w++)
            for (i64 page = 0; page < pages; page++) sum += part[(page * count + k) * width + w];
        out[k] = sum;
    }
}
