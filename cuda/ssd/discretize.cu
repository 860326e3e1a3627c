// Raw steps and A to steps and decays, and its cotangents:
//
//     dt = clamp(squash(raw + bias), lower, upper),  log_a = A dt
//
// raw: (rows, pitch) with one number a head, Stored (`raw_stored`) or Acc (`raw`), the other null.  a, bias: (heads) Acc;
// bias may be null.  dt, log_a, d_dt, d_log_a: (rows, heads) Acc.
#include "common/scalar.cuh"

constexpr int PAGE = 256; // rows that are summed up before they join a longer sum

struct Rule {
    int softplus;
    int heads;
    double lower, upper;
    i64 pitch;
};

__device__ Acc squashed(const Rule &rule, Acc v) {
    return rule.softplus ? max(v, Acc(0)) + log1p(exp(-abs(v))) : v;
}

__device__ Acc slope(const Rule &rule, Acc v) {
    if (!rule.softplus) return 1;
    const Acc e = exp(-abs(v));
    return v >= 0 ? 1 / (1 + e) : e / (1 + e);
}

// NaN stays NaN.
__device__ Acc clamped(const Rule &rule, Acc v) { return v != v ? v : min(max(v, (Acc)rule.lower), (Acc)rule.upper); }

__device__ Acc shifted(const Rule &rule, const Acc *raw, const Stored *raw_stored, const Acc *bias, i64 row, int h) {
    const i64 k = row * rule.pitch + h;
    return (raw ? raw[k] : widen(raw_stored[k])) + (bias ? bias[h] : Acc(0));
}

// Grid: any; block: 256.  Shared memory: none.
extern "C" __global__ void discretize(Rule rule, i64 rows, const Acc *raw, const Stored *raw_stored, const Acc *a,
                                      const Acc *bias, Acc *dt, Acc *log_a) {
    for (i64 k = (i64)blockIdx.x * 256 + threadIdx.x; k < rows * rule.heads; k += (i64)gridDim.x * 256) {
        const int h = k % rule.heads;
        const Acc step = clamped(rule, squashed(rule, shifted(rule, raw, raw_stored, bias, k / rule.heads, h)));
        dt[k] = step;
        log_a[k] = a[h] * step;
    }
}

// d_raw: (rows, heads) Acc; da_part, dbias_part: (pages, heads) Acc, to be summed over pages. A clamped step passes
// nothing to what is left of the clamp. Grid: (pages, blocks of 256 heads); block: 256.  Shared memory: none.
extern "C" __global__ void discretize_vjp(Rule rule, i64 rows, const Acc *raw, const Stored *raw_stored, const Acc *a,
                                          const Acc *bias, const Acc *d_dt, const Acc *d_log_a, Acc *d_raw, Acc *da_part,
                                          Acc *dbias_part) {
    const int h = blockIdx.y * 256 + threadIdx.x;
    if (h >= rule.heads) return;
    Acc da = 0, dbias = 0;
    const i64 first = (i64)blockIdx.x * PAGE, last = min(rows, first + PAGE);
    for (i64 row = first; row < last; row++) {
        const i64 k = row * rule.heads + h;
        const Acc v = shifted(rule, raw, raw_stored, bias, row, h), open = squashed(rule, v), step = clamped(rule, open);
        Acc out = 0;
        if (step == open) out = (d_dt[k] + a[h] * d_log_a[k]) * slope(rule, v);
        da += step * d_log_a[k];
        dbias += out;
        d_raw[k] = out;
    }
    da_part[(i64)blockIdx.x * rule.heads + h] = da;
    dbias_part[(i64)blockIdx.x * rule.heads + h] = dbias;
}
