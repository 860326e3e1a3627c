// The masking warpgroup of the Hopper forward product: scores S = C Bᵀ of a chunk, once for all heads of the block, and
//
//     W_ij = S_ij 2^(s_i - s_j) w_j    j < i        16-bit, tile with rows i
//     diagonal_i = S_ii w_i + d                     f32, so that the nearest and often largest term is not rounded
//
// (d here if it is one number a head, else the walkers add it).
//
// Off the diagonal blocks of 16 x 16 the decay is a product of a factor of the row and one of the column, both at most 1.
#pragma once
#include "ssd/sm90/forward_back.cuh"

// The 16 rows of one warp: straight-line code for each, since they differ in how much lies before the diagonal.
template <int ROWS>
__device__ __forceinline__ void mask_rows(const float (&s)[32], const float* table, u32 tile, float* diagonal, float d) {
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    constexpr int FIRST = 16 * ROWS;
    float row0 = table[FROM_BLOCK * 64 + FIRST + g], row1 = table[FROM_BLOCK * 64 + FIRST + g + 8];
    float s0 = table[SUM * 64 + FIRST + g], s1 = table[SUM * 64 + FIRST + g + 8];
    const float2* sums = (const float2*)(table + SUM * 64) + 8 * ROWS + t;
    const float2* steps = (const float2*)(table + STEP * 64) + 8 * ROWS + t;
    float2 sp = sums[0], sq = sums[4], wp = steps[0], wq = steps[4];
    u32 at = tile + swizzled(FIRST + lane / 8 % 2 * 8 + lane % 8, lane / 16);
    const float* v = s + 8 * ROWS;
    float w0 = 2 * t < g ? v[0] * exp2_fast(s0 - sp.x) * wp.x : 0.0f;
    float w1 = 2 * t + 1 < g ? v[1] * exp2_fast(s0 - sp.y) * wp.y : 0.0f;
    float w2 = v[2] * exp2_fast(s1 - sp.x) * wp.x;
    float w3 = v[3] * exp2_fast(s1 - sp.y) * wp.y;
    float w6 = 2 * t < g ? v[6] * exp2_fast(s1 - sq.x) * wq.x : 0.0f;
    float w7 = 2 * t + 1 < g ? v[7] * exp2_fast(s1 - sq.y) * wq.y : 0.0f;
    store_matrices(at ^ (32 * ROWS), pack(w0, w1), pack(w2, w3), 0, pack(w6, w7));
    if (t == g / 2) {
        diagonal[FIRST + g] = d + (g % 2 ? v[1] * wp.y : v[0] * wp.x);
        diagonal[FIRST + g + 8] = d + (g % 2 ? v[7] * wq.y : v[6] * wq.x);
    }
#pragma unroll
    for (int b = 0; b < ROWS; b++) {
        const float2* to_block = (const float2*)(table + (TO_BLOCK + ROWS - 1) * 64) + 8 * b + t;
        const float* v = s + 8 * b;
        float2 p = to_block[0], q = to_block[4];
        store_matrices(at ^ (32 * b), pack(v[0] * row0 * p.x, v[1] * row0 * p.y), pack(v[2] * row1 * p.x, v[3] * row1 * p.y),
                       pack(v[4] * row0 * q.x, v[5] * row0 * q.y), pack(v[6] * row1 * q.x, v[7] * row1 * q.y));
    }
}

template <int ROWS>
__device__ __forceinline__ void mask_heads(const float (&s)[32], u32 shared, char* memory, int stage, int mask,
                                           const float (&d)[BLOCK_HEADS]) {
#pragma unroll
    for (int k = 0; k < BLOCK_HEADS; k++) {
        int slot = mask * BLOCK_HEADS + k;
        mask_rows<ROWS>(s, (const float*)(memory + DECAY_AT + (stage * BLOCK_HEADS + k) * DECAY_BYTES),
                        shared + MASK_AT + slot * TILE, (float*)(memory + DIAGONAL_AT) + slot * 64, d[k]);
    }
}

__device__ void mask_chunks(const Forward& f, u32 shared, char* memory) {
    Share share = share_of(f);
    Ring<STAGES> ring;
    Ring<MASKS> masks;
    Cleared cleared;
    int thread = threadIdx.x % 128, warp = __shfl_sync(~0u, thread / 32, 0);
    for (int i = thread; i < MASKS * BLOCK_HEADS * TILE / 16; i += 128)
        ((uint4*)(memory + MASK_AT))[i] = {0, 0, 0, 0};  // what lies above the diagonal blocks stays
    named_sync(MASK_ONLY, 128);
    for (int end = share.end; end > share.begin;) {
        Unit u = unit_of(f, end - 1);
        int begin = max(share.begin, u.first_step);
        if (walks_back(f, u) && begin == u.first_step) skip_back(shared, memory, ring);
        wait_for_inputs(f);
        float d[BLOCK_HEADS] = {};
        if (f.d && !f.d_per_row)
            for (int k = 0; k < BLOCK_HEADS; k++) d[k] = f.d[max(head_of(f, u.block, k), 0)];
        for (int step = begin; step < end; step++, ring.next(), masks.next()) {
            int there = u.len - (step - u.first_step) * CHUNK;
            u32 at = shared + STAGE_AT + ring.at * STAGE_BYTES;
            char* stage = memory + STAGE_AT + ring.at * STAGE_BYTES;
            barrier_wait(shared + FULL + 8 * ring.at, ring.parity);
            if (there < CHUNK) {  // what follows the piece is not ours and may be anything: clear its B and X
                for (int tile = DEPTH_TILES; tile < 2 * DEPTH_TILES + X_TILES; tile++)
                    for (int i = 8 * there + thread; i < TILE / 16; i += 128)
                        ((uint4*)(stage + tile * TILE))[i] = {0, 0, 0, 0};
                fence_async();
                barrier_arrive(shared + CLEARED + 8 * ring.at);
                cleared.wait(shared, ring.at);
            }
            float s[32];
            pin(s);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < STATE_DIM / 16; k++) {
                u32 c = moved(rows_deep(at), k / 4 * TILE + k % 4 * 32);
                product64_shared<0>(s, c, moved(c, C_BYTES), k > 0);
            }
            wgmma_commit();
            wgmma_wait<0>();
            pin(s);
#pragma unroll
            for (int k = 0; k < BLOCK_HEADS; k++)
                barrier_wait(shared + MASK_EMPTY + 8 * (masks.at * BLOCK_HEADS + k), masks.parity ^ 1);
            if (warp == 0) mask_heads<0>(s, shared, memory, ring.at, masks.at, d);
            else if (warp == 1) mask_heads<1>(s, shared, memory, ring.at, masks.at, d);
            else if (warp == 2) mask_heads<2>(s, shared, memory, ring.at, masks.at, d);
            else mask_heads<3>(s, shared, memory, ring.at, masks.at, d);
            fence_async();
#pragma unroll
            for (int k = 0; k < BLOCK_HEADS; k++) barrier_arrive(shared + MASK_FULL + 8 * (masks.at * BLOCK_HEADS + k));
            barrier_arrive(shared + EMPTY + 8 * ring.at);
        }
        end = begin;
    }
}
