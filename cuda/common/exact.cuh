// What the kernels of the exact tier share: spans, dimensions, sums over the threads of a row or a block.
//
// Exact: plain arithmetic in Acc, sums in a fixed order, decays as exponentials of sums and never of differences.
#pragma once
#include "common/scalar.cuh"

// A stretch of positions that is one sequence or one chunk of one: rows first .. first + len of x, b, c, ...
struct Span {
    i64 first;
    int len;
    int enters; // index of the state that enters; -1: zero
    int leaves; // index of the state that leaves; -1: nobody wants it
    int part_of; // chunks: the sequence it belongs to
};

// Tensors of rows r = batch * len + t, row r at r * pitch; head h uses group h / (heads / groups).
struct Dims {
    int heads;
    int groups;
    int skip; // columns of d: 0 (none), 1 or head_dim
    int zero; // 0, which the compiler does not know
    int free_diagonal; // 1: `L o C B^T` has zeros on its diagonal
    i64 x_pitch;
    i64 b_pitch;
    i64 c_pitch;
    i64 y_pitch; // of y and of dy
    i64 dx_pitch;
};

// One head of one span: addresses of position 0.
struct Head {
    const Span span;
    const int head, heads, group, free_diagonal;
    __device__ Head(const Span *spans, const Dims &dims, int index, int head)
        : span(spans[index]), head(head), heads(dims.heads), group(head / (dims.heads / dims.groups)),
          free_diagonal(dims.free_diagonal) {}
    // (rows, heads)
    template <class T> __device__ T *scalars(T *tensor) const { return tensor + span.first * heads + head; }
    // (rows, pitch) with head_dim channels a head
    template <class T> __device__ T *channels(T *tensor, i64 pitch) const {
        return tensor + span.first * pitch + (i64)head * HEAD_DIM;
    }
    // (rows, pitch) with state_dim numbers a group
    template <class T> __device__ T *features(T *tensor, i64 pitch) const {
        return tensor + span.first * pitch + (i64)group * STATE_DIM;
    }
    // (states, heads, head_dim, state_dim); null if `index` is -1 or there are no states
    template <class T> __device__ T *state(T *tensor, int index) const {
        return tensor == nullptr || index < 0 ? nullptr : tensor + ((i64)index * heads + head) * HEAD_DIM * STATE_DIM;
    }
};

// Sum over `width` neighbouring threads of a warp, a power of two; every one of them gets it.
__device__ __forceinline__ Acc sum_of_lanes(Acc v, int width) {
    for (int k = width / 2; k > 0; k /= 2) v += __shfl_xor_sync(0xffffffffu, v, k);
    return v;
}

// Sum over a block of `threads`, a power of two; `scratch`: as many numbers. Every thread gets it.
__device__ __forceinline__ Acc sum_of_block(Acc v, Acc *scratch, int threads) {
    __syncthreads();
    scratch[threadIdx.x] = v;
    for (int k = threads / 2; k > 0; k /= 2) {
        __syncthreads();
        if (threadIdx.x < k) scratch[threadIdx.x] += scratch[threadIdx.x + k];
    }
    __syncthreads();
    return scratch[0];
}
