// Steps from raw steps: dt = clamp(softplus(v), limits), v = raw + bias, without branches.
//
// softplus(v) = max(v, 0) + log(1 + e), e = exp(-|v|): nothing overflows, and log(1 + e) = 2 atanh(e / (2 + e)) by its
// series in s² <= 1/9 keeps its digits where e is small. Relative error below 4e-7 for |v| <= 20. NaN stays NaN.
#pragma once
#include "common/exp2.cuh"

// exp(v), the rounding of v log2 e put right.
__device__ __forceinline__ float exp_fast(float v) {
    const float high = v * 1.44269504f, low = fmaf(v, 1.44269504f, -high) + v * 1.92596299e-8f;
    return exp2_fast(high) * fmaf(low, 0.693147181f, 1.f);
}

// As fmaxf and fminf, but NaN if one of the two is.
__device__ __forceinline__ float larger(float a, float b) {
    float out;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(out) : "f"(a), "f"(b));
    return out;
}
__device__ __forceinline__ float smaller(float a, float b) {
    float out;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(out) : "f"(a), "f"(b));
    return out;
}

struct SquashedStep { float dt, slope; };  // slope: the derivative of dt in v, 0 where it was clamped

__device__ __forceinline__ SquashedStep squash_step(float v, int softplus, float lower, float upper) {
    float dt = v, slope = 1.f;
    if (softplus) {
        const float e = exp_fast(-fminf(fabsf(v), 100.f));
        const float s = __fdividef(e, 2.f + e), q = s * s;
        float series = 1.f / 15;
        series = fmaf(series, q, 1.f / 13);
        series = fmaf(series, q, 1.f / 11);
        series = fmaf(series, q, 1.f / 9);
        series = fmaf(series, q, 1.f / 7);
        series = fmaf(series, q, 1.f / 5);
        series = fmaf(series, q, 1.f / 3);
        dt = larger(v, 0.f) + 2.f * fmaf(s * q, series, s);
        slope = __fdividef(v >= 0.f ? 1.f : e, 1.f + e);
    }
    const float limited = smaller(larger(dt, lower), upper);
    return {limited, limited == dt ? slope : 0.f};
}
