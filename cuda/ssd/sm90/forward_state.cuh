// What a walker does with its 64 rows of state: read and write them, and add a chunk to them.
#pragma once
#include "ssd/sm90/forward_plan.cuh"

#ifdef STORED_F16
constexpr int PARTS = 1;
#else
constexpr int PARTS = 2;
#endif

__device__ __forceinline__ int thread_in_group() { return threadIdx.x % 128; }

// The state of one walker in memory, (row, STATE_DIM).
__device__ __forceinline__ void load_state(float (&h)[STATE_REGISTERS], const float* from) {
    int warp = thread_in_group() / 32, lane = threadIdx.x % 32;
    const float* p = from + (16 * warp + lane / 4) * STATE_DIM + 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < WALKER_COLUMNS / 8; n++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float2 v = *(const float2*)(p + 8 * r * STATE_DIM + 8 * n);
            h[4 * n + 2 * r] = v.x, h[4 * n + 2 * r + 1] = v.y;
        }
}
__device__ __forceinline__ void store_state(const float (&h)[STATE_REGISTERS], float* to) {
    int warp = thread_in_group() / 32, lane = threadIdx.x % 32;
    float* p = to + (16 * warp + lane / 4) * STATE_DIM + 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < WALKER_COLUMNS / 8; n++)
#pragma unroll
        for (int r = 0; r < 2; r++)
            *(float2*)(p + 8 * r * STATE_DIM + 8 * n) = make_float2(h[4 * n + 2 * r], h[4 * n + 2 * r + 1]);
}

// The same between blocks, each thread's numbers where it finds them fastest.
__device__ __forceinline__ void store_registers(const float (&h)[STATE_REGISTERS], float* to) {
    float4* p = (float4*)to + thread_in_group();
#pragma unroll
    for (int i = 0; i < STATE_REGISTERS / 4; i++) p[128 * i] = make_float4(h[4 * i], h[4 * i + 1], h[4 * i + 2], h[4 * i + 3]);
}
// h = keep h + what was stored.
__device__ __forceinline__ void join_registers(float (&h)[STATE_REGISTERS], float keep, const float* from) {
    const float4* p = (const float4*)from + thread_in_group();
#pragma unroll
    for (int i = 0; i < STATE_REGISTERS / 4; i++) {
        float4 v = __ldcg(p + 128 * i);
        h[4 * i] = keep * h[4 * i] + v.x, h[4 * i + 1] = keep * h[4 * i + 1] + v.y;
        h[4 * i + 2] = keep * h[4 * i + 2] + v.z, h[4 * i + 3] = keep * h[4 * i + 3] + v.w;
    }
}

// Half of the 64 positions of Xᵀ as left operand; `x_at`: matrix_row there.
template <int HALF>
__device__ __forceinline__ void load_half(u32 (&x)[16], u32 x_at) {
#pragma unroll
    for (int i = 0; i < 2; i++) load_transposed(x + 8 * HALF + 4 * i, x_at + 2048 * (2 * HALF + i));
}
// The same scaled to the end of the chunk, in parts that sum to the product more exactly than one 16-bit number could.
// `decay`: the table of forward_plan.cuh.
template <int HALF>
__device__ __forceinline__ void scale_half(const u32 (&x)[16], u32 (&scaled)[PARTS][8], const float* decay) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint2* to_end = (const uint2*)(decay + TO_END * 64) + 16 * HALF + 8 * i + threadIdx.x % 4;
        uint2 w[2] = {to_end[0], to_end[4]};
#pragma unroll
        for (int e = 0; e < 4; e++) {
            u32 v = x[8 * HALF + 4 * i + e];
#ifdef STORED_F16
            scaled[0][4 * i + e] = plus(v, w[e / 2].x, times(v, w[e / 2].y));
#else
            u32 rounded = times(v, w[e / 2].x), rest = plus(v, w[e / 2].x, rounded ^ 0x80008000u);
            scaled[0][4 * i + e] = rounded;
            scaled[1][4 * i + e] = plus(v, w[e / 2].y, rest);
#endif
        }
    }
}

// Issues h += scaled Xᵀ B for half of the positions.
template <int HALF>
__device__ __forceinline__ void add_to_state(float (&h)[STATE_REGISTERS], u32 (&scaled)[PARTS][8], u32 b) {
    u32 rows = moved(depth_major(b), 4096 * HALF);
#pragma unroll
    for (int i = 0; i < 2; i++, rows = moved(rows, 2048))
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            if constexpr (WALKER_COLUMNS == 64) product64_depth<0>(h, scaled[part] + 4 * i, rows, 1);
            else product128_depth<0>(h, scaled[part] + 4 * i, rows, 1);
        }
    wgmma_commit();
}

template <int COUNT>
__device__ __forceinline__ void pin(u32 (&parts)[PARTS][COUNT]) {
#pragma unroll
    for (int part = 0; part < PARTS; part++) pin(parts[part]);
}

// h += a whole chunk, scaled to where h is; `x_at`: matrix_row in its x, `b_at`: the walker's columns of its B.
__device__ __forceinline__ void add_chunk(float (&h)[STATE_REGISTERS], u32 x_at, u32 b_at, const float* decay) {
    u32 x[16], first[PARTS][8], second[PARTS][8];
    load_half<0>(x, x_at);
    load_half<1>(x, x_at);
    scale_half<0>(x, first, decay);
    scale_half<1>(x, second, decay);
    pin(h);
    pin(first);
    pin(second);
    wgmma_fence();
    add_to_state<0>(h, first, b_at);
    add_to_state<1>(h, second, b_at);
    wgmma_wait<0>();
    pin(h);
}

// Where lane's rows of the four matrices of a depth block of Xᵀ, or of a column block of Yᵀ, lie in a tile.
__device__ __forceinline__ u32 matrix_row() {
    int lane = threadIdx.x % 32, warp = thread_in_group() / 32;
    return kept(swizzled(lane / 16 * 8 + lane % 8, 2 * warp + lane / 8 % 2));
}

// Yᵀ of 8 positions in every four numbers as 16-bit rows of a tile; `at`: matrix_row there.
template <int COUNT>
__device__ __forceinline__ void store_rows(const float (&y)[COUNT], u32 at) {
#pragma unroll
    for (int i = 0; i < COUNT; i += 8, at += 2048)
        store_transposed(at, pack(y[i], y[i + 1]), pack(y[i + 2], y[i + 3]), pack(y[i + 4], y[i + 5]), pack(y[i + 6], y[i + 7]));
}
