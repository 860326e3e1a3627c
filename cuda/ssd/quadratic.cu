// The attention form of one span (a sequence, or a chunk with the state that enters it):
//
//     y = (L o C B^T) U + diag(g) C H^T + X diag(d),  U = diag(dt) X
//
// log_a, dt: (rows, heads) Acc.  x, y: (rows, heads * HEAD_DIM) Stored.  b, c: (rows, groups * STATE_DIM) Stored.
// d: (heads, dims.skip) Acc.  initial: (states, heads, HEAD_DIM, STATE_DIM) Acc; null is zero.
// Grid: (spans, heads, tiles of 32 positions of the longest span); block: 256.  Shared memory: up to 43 KiB, static.
#include "common/sweep.cuh"

extern "C" __global__ void __launch_bounds__(256)
    quadratic_forward(const Span *spans, Dims dims, const Acc *log_a, const Acc *dt, const Stored *x, const Stored *b,
                      const Stored *c, const Acc *d, const Acc *initial, Stored *y) {
    __shared__ Shared s;
    const Head at(spans, dims, blockIdx.x, blockIdx.y);
    const int tile = blockIdx.z;
    if (tile * TILE >= at.span.len) return;
    const Scaled u{at.channels(x, dims.x_pitch), dims.x_pitch, at.scalars(dt), at.heads};
    const Plain bs{at.features(b, dims.b_pitch), dims.b_pitch}, cs{at.features(c, dims.c_pitch), dims.c_pitch};
    const ByValue state{at.state(initial, at.span.enters)};
    Acc out[(HEAD_DIM + 7) / 8];
    sweep<BACK, STATE_DIM, HEAD_DIM>(s, at, tile, at.scalars(log_a), cs, bs, u, state, out, Nothing{}, Nothing{});

    const int t = tile * TILE + threadIdx.x / 8;
    const Plain xs{at.channels(x, dims.x_pitch), dims.x_pitch};
    y = at.channels(y, dims.y_pitch);
#pragma unroll
    for (int m = 0; m < (HEAD_DIM + 7) / 8; m++) {
        const int p = m * 8 + threadIdx.x % 8;
        if (t >= at.span.len || p >= HEAD_DIM) continue;
        Acc v = out[m];
        if (dims.skip) v += d[at.head * dims.skip + (dims.skip == 1 ? 0 : p)] * xs(t, p);
        y[t * dims.y_pitch + p] = narrow<Stored>(v);
    }
}
