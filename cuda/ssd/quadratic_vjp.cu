// Cotangents of the attention form of one span. With dH the cotangent of the state that leaves, w the decay to the end,
// S = dY U^T:
//
//     dC = (L o S) B + diag(g) dY H      dB = (L o S)^T C + diag(w) U dH      dU = M^T dY + diag(w) B dH^T
//
// log_a, dt: (rows, heads) Acc.  x, dy, dx: (rows, heads * HEAD_DIM) Stored.  b, c: (rows, groups * STATE_DIM) Stored.
// d: (heads, dims.skip) Acc.  states and their cotangents: (., heads, HEAD_DIM, STATE_DIM) Acc; null is zero.
// db, dc of one head each: (rows, heads, STATE_DIM) Acc, to be summed over the heads of a group.
// Grid: (spans, heads, tiles of 32 positions of the longest span); block: 256.  Shared memory: up to 43 KiB, static.
#include "common/sweep.cuh"

// A sum over the numbers of a position: <value_f, other_f>, for the cotangent of log a.
template <class Other> struct Dot {
    Other other;
    Acc &sum;
    __device__ void operator()(int t, int v, Acc value) const { sum += value * other(t, v); }
};

// dC of a head; and, for the cotangent of log a, `rows`_i = sum over j in earlier tiles of M_ij S_ij and
// `read`_i = g_i <dy_i, H c_i>: both (rows, heads) Acc.
extern "C" __global__ void __launch_bounds__(256)
    quadratic_dc(const Span *spans, Dims dims, const Acc *log_a, const Acc *dt, const Stored *x, const Stored *b,
                 const Stored *c, const Acc *initial, const Stored *dy, Acc *dc, Acc *rows, Acc *read) {
    __shared__ Shared s;
    const Head at(spans, dims, blockIdx.x, blockIdx.y);
    const int tile = blockIdx.z;
    if (tile * TILE >= at.span.len) return;
    const Scaled u{at.channels(x, dims.x_pitch), dims.x_pitch, at.scalars(dt), at.heads};
    const Plain bs{at.features(b, dims.b_pitch), dims.b_pitch}, cs{at.features(c, dims.c_pitch), dims.c_pitch};
    const Plain dys{at.channels(dy, dims.y_pitch), dims.y_pitch};
    const ByKey state{at.state(initial, at.span.enters)};
    Acc out[(STATE_DIM + 7) / 8], apart = 0, stated = 0;
    sweep<BACK, HEAD_DIM, STATE_DIM>(s, at, tile, at.scalars(log_a), dys, u, bs, state, out, Dot<Plain>{cs, apart},
                                     Dot<Plain>{cs, stated});

    const int t = tile * TILE + threadIdx.x / 8;
    apart = sum_of_lanes(apart, 8), stated = sum_of_lanes(stated, 8);
    if (t >= at.span.len) return;
    if (threadIdx.x % 8 == 0) {
        at.scalars(rows)[(i64)t * at.heads] = apart;
        at.scalars(read)[(i64)t * at.heads] = stated;
    }
    dc += ((at.span.first + t) * at.heads + at.head) * STATE_DIM;
#pragma unroll
    for (int m = 0; m < (STATE_DIM + 7) / 8; m++)
        if (m * 8 + threadIdx.x % 8 < STATE_DIM) dc[m * 8 + threadIdx.x % 8] = out[m];
}

// dX = diag(dt) dU + dY diag(d) and ddt_t = <x_t, du_t>; and, for the cotangent of log a, `columns`_j = sum over i in later
// tiles of M_ij S_ij and `written`_j = w_j <u_j, dH b_j>: all (rows, heads) Acc.
extern "C" __global__ void __launch_bounds__(256)
    quadratic_dx(const Span *spans, Dims dims, const Acc *log_a, const Acc *dt, const Stored *x, const Stored *b,
                 const Stored *c, const Acc *d, const Acc *dlast, const Stored *dy, Stored *dx, Acc *ddt, Acc *columns,
                 Acc *written) {
    __shared__ Shared s;
    const Head at(spans, dims, blockIdx.x, blockIdx.y);
    const int tile = blockIdx.z;
    if (tile * TILE >= at.span.len) return;
    const Plain xs{at.channels(x, dims.x_pitch), dims.x_pitch};
    const Scaled u{xs.at, xs.pitch, at.scalars(dt), at.heads};
    const Plain bs{at.features(b, dims.b_pitch), dims.b_pitch}, cs{at.features(c, dims.c_pitch), dims.c_pitch};
    const Plain dys{at.channels(dy, dims.y_pitch), dims.y_pitch};
    const ByValue state{at.state(dlast, at.span.leaves)};
    Acc du[(HEAD_DIM + 7) / 8], apart = 0, stated = 0, sum = 0;
    sweep<FORTH, STATE_DIM, HEAD_DIM>(s, at, tile, at.scalars(log_a), bs, cs, dys, state, du, Dot<Scaled>{u, apart},
                                      Dot<Scaled>{u, stated});

    const int t = tile * TILE + threadIdx.x / 8;
    const bool inside = t < at.span.len;
    const Acc step = inside ? at.scalars(dt)[(i64)t * at.heads] : Acc(0);
    dx = at.channels(dx, dims.dx_pitch);
#pragma unroll
    for (int m = 0; m < (HEAD_DIM + 7) / 8; m++) {
        const int p = m * 8 + threadIdx.x % 8;
        if (!inside || p >= HEAD_DIM) continue;
        sum += xs(t, p) * du[m];
        Acc v = step * du[m];
        if (dims.skip) v += d[at.head * dims.skip + (dims.skip == 1 ? 0 : p)] * dys(t, p);
        dx[t * dims.dx_pitch + p] = narrow<Stored>(v);
    }
    sum = sum_of_lanes(sum, 8), apart = sum_of_lanes(apart, 8), stated = sum_of_lanes(stated, 8);
    if (inside && threadIdx.x % 8 == 0) {
        at.scalars(ddt)[(i64)t * at.heads] = sum;
        at.scalars(columns)[(i64)t * at.heads] = apart;
        at.scalars(written)[(i64)t * at.heads] = stated;
    }
}

// dB of a head.
extern "C" __global__ void __launch_bounds__(256)
    quadratic_db(const Span *spans, Dims dims, const Acc *log_a, const Acc *dt, const Stored *x, const Stored *c,
                 const Acc *dlast, const Stored *dy, Acc *db) {
    __shared__ Shared s;
    const Head at(spans, dims, blockIdx.x, blockIdx.y);
    const int tile = blockIdx.z;
    if (tile * TILE >= at.span.len) return;
    const Scaled u{at.channels(x, dims.x_pitch), dims.x_pitch, at.scalars(dt), at.heads};
    const Plain cs{at.features(c, dims.c_pitch), dims.c_pitch}, dys{at.channels(dy, dims.y_pitch), dims.y_pitch};
    const ByKey state{at.state(dlast, at.span.leaves)};
    Acc out[(STATE_DIM + 7) / 8];
    sweep<FORTH, HEAD_DIM, STATE_DIM>(s, at, tile, at.scalars(log_a), u, dys, cs, state, out, Nothing{}, Nothing{});

    const int t = tile * TILE + threadIdx.x / 8;
    if (t >= at.span.len) return;
    db += ((at.span.first + t) * at.heads + at.head) * STATE_DIM;
#pragma unroll
    for (int m = 0; m < (STATE_DIM + 7) / 8; m++)
        if (m * 8 + threadIdx.x % 8 < STATE_DIM) db[m * 8 + threadIdx.x % 8] = out[m];
}
