// Fills a tensor with one number: out_k = value.
//
// out: (count), Stored.   Grid: any; block: any.   Shared memory: none.
#include "common/scalar.cuh"

extern "C" __global__ void fill(Stored *out, i64 count, double value) {
    const i64 step = (i64)gridDim.x * blockDim.x;
    for (i64 k = (i64)blockIdx.x * blockDim.x + threadIdx.x; k < count; k += step) out[k] = narrow<Stored>((Acc)value);
}
