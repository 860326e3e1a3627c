// Sums over lanes of a warp of several numbers a lane: each step sums and shares out, so that lanes end with different sums.
#pragma once

// Sums over the lanes that differ in the bits FROM, FROM / 2, .. TO of their number, of COUNT numbers each (powers of two).
// What a lane is left with, COUNT over the number of those lanes but at least one, is v[0] onwards: the sums of the
// numbers from first_sum(lane) on.
template <int FROM, int TO, int COUNT>
__device__ __forceinline__ void share_sums(float (&v)[COUNT], int lane) {
    int held = COUNT;
#pragma unroll
    for (int w = FROM; w >= TO && w > 0; w /= 2) {
        if (held > 1) {
            held /= 2;
            const bool upper = lane & w;
#pragma unroll
            for (int k = 0; k < COUNT / 2; k++) {
                if (k < held) {
                    const float keep = upper ? v[k + held] : v[k], give = upper ? v[k] : v[k + held];
                    v[k] = keep + __shfl_xor_sync(~0u, give, w);
                }
            }
        } else {
            v[0] += __shfl_xor_sync(~0u, v[0], w);
        }
    }
}

template <int FROM, int TO, int COUNT>
__device__ __forceinline__ int first_sum(int lane) {
    int held = COUNT, first = 0;
#pragma unroll
    for (int w = FROM; w >= TO && w > 0; w /= 2) {
        if (held > 1) {
            held /= 2;
            first += lane & w ? held : 0;
        }
    }
    return first;
}
