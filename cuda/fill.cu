// Tensors without a host: one number everywhere, or numbers that look random.
//
// out: (count), Stored.   Grid: any; block: any.   Shared memory: none.
#include "common/scalar.cuh"

// out_k = value
extern "C" __global__ void fill(Stored *out, i64 count, double value) {
    const i64 step = (i64)gridDim.x * blockDim.x;
    for (i64 k = (i64)blockIdx.x * blockDim.x + threadIdx.x; k < count; k += step) out[k] = narrow<Stored>((Acc)value);
}

// out_k between low and high, by a hash of (seed, k).
extern "C" __global__ void noise(Stored *out, i64 count, u64 seed, double low, double high) {
    const i64 step = (i64)gridDim.x * blockDim.x;
    for (i64 k = (i64)blockIdx.x * blockDim.x + threadIdx.x; k < count; k += step) {
        u64 z = (u64)k * 0x9e3779b97f4a7c15ull + seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        z ^= z >> 31;
        out[k] = narrow<Stored>((Acc)(low + (high - low) * ((double)(z >> 11) / 9007199254740992.0)));
    }
}
