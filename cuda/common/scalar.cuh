// Numbers: STORED, the type that tensors are stored in, and Acc, the one that is computed with.
//
// A program defines STORED_F64, STORED_F32, STORED_F16 or STORED_BF16. widen(v) is exact; narrow<Stored>(v) rounds to
// the nearest, ties to even.
#pragma once

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct f16 {
    u16 bits;
};
struct bf16 {
    u16 bits;
};

#if defined(STORED_F64)
typedef double Stored;
typedef double Acc;
#elif defined(STORED_F32)
typedef float Stored;
typedef float Acc;
#elif defined(STORED_F16)
typedef f16 Stored;
typedef float Acc;
#elif defined(STORED_BF16)
typedef bf16 Stored;
typedef float Acc;
#endif

__device__ __forceinline__ double widen(double v) { return v; }
__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ float widen(bf16 v) { return __uint_as_float((u32)v.bits << 16); }
__device__ __forceinline__ float widen(f16 v) {
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(v.bits));
    return out;
}

template <class S> __device__ __forceinline__ S narrow(Acc v);
#if defined(STORED_F64) || defined(STORED_F32)
template <> __device__ __forceinline__ Stored narrow<Stored>(Acc v) { return v; }
#elif defined(STORED_F16)
template <> __device__ __forceinline__ f16 narrow<f16>(Acc v) {
    f16 out;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(v));
    return out;
}
#elif defined(STORED_BF16)
template <> __device__ __forceinline__ bf16 narrow<bf16>(Acc v) {
    bf16 out;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(v));
    return out;
}
#endif
