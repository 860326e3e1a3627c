// The masking warpgroup of the Hopper forward product: scores S = C Bᵀ of a chunk, once for all heads of the block, and
//
//     W_ij = S_ij 2^(s_i - s_j) w_j    j < i        16-bit, tile with rows i
//     diagonal_i = S_ii w_i                         f32, so that the nearest and often largest term is not rounded
//
// Off the diagonal blocks of 16 x 16 the decay is a product of a factor of the row and one of the column, both at most 1.
#pragma once
#include "forward_plan.cuh"

__device__ __forceinline__ void mask_head(const float (&s)[32], const char* decay, u32 tile, float* diagonal) {
    int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    int i0 = 16 * warp + g, i1 = i0 + 8;
    const float* table = (const float*)decay;
    float row0 = table[FROM_BLOCK * 64 + i0], row1 = table[FROM_BLOCK * 64 + i1];
    const float2* to_block = (const float2*)(table + (TO_BLOCK + warp - 1) * 64) + t;
    u32 at = tile + swizzled(16 * warp + (lane / 8 % 2) * 8 + lane % 8, lane / 16);
#pragma unroll
    for (int b = 0; b < 4; b++) {
        const float* v = s + 8 * b;
        if (b < warp) {
            float2 p = to_block[8 * b], q = to_block[8 * b + 4];
            store_matrices(at ^ (32 * b), pack(v[0] * row0 * p.x, v[1] * row0 * p.y), pack(v[2] * row1 * p.x, v[3] * row1 * p.y),
                           pack(v[4] * row0 * q.x, v[5] * row0 * q.y), pack(v[6] * row1 * q.x, v[7] * row1 * q.y));
        } else if (b == warp) {
            const float2* sums = (const float2*)(table + SUM * 64) + 8 * b + t;
            const float2* steps = (const float2*)(table + STEP * 64) + 8 * b + t;
            float2 sp = sums[0], sq = sums[4], wp = steps[0], wq = steps[4];
            float s0 = table[SUM * 64 + i0], s1 = table[SUM * 64 + i1];
            float w0 = 2 * t < g ? v[0] * exp2_fast(s0 - sp.x) * wp.x : 0.0f;
            float w1 = 2 * t + 1 < g ? v[1] * exp2_fast(s0 - sp.y) * wp.y : 0.0f;
            float w2 = v[2] * exp2_fast(s1 - sp.x) * wp.x;
            float w3 = v[3] * exp2_fast(s1 - sp.y) * wp.y;
            float w6 = 2 * t < g ? v[6] * exp2_fast(s1 - sq.x) * wq.x : 0.0f;
            float w7 = 2 * t + 1 < g ? v[7] * exp2_fast(s1 - sq.y) * wq.y : 0.0f;
            store_matrices(at ^ (32 * b), pack(w0, w1), pack(w2, w3), 0, pack(w6, w7));
            if (t == g / 2) {
                diagonal[i0] = g % 2 ? v[1] * wp.y : v[0] * wp.x;
                diagonal[i1] = g % 2 ? v[7] * wq.y : v[6] * wq.x;
            }
        }
    }
}

__device__ void mask_chunks(const Forward& f, u32 shared, char* memory) {
    Share share = share_of<false>(f);
    Ring<STAGES> ring;
    Ring<MASKS> masks;
    int thread = threadIdx.x % 128;
    for (int i = thread; i < MASKS * BLOCK_HEADS * TILE / 16; i += 128)
        ((uint4*)(memory + MASK_AT))[i] = {0, 0, 0, 0};  // what lies above the diagonal blocks stays
    named_sync(4, 128);
    for (int end = share.end; end > share.begin;) {
        Unit u = unit_of<false>(f, end - 1);
        int begin = max(share.begin, u.first_step);
        for (int step = begin; step < end; step++, ring.next(), masks.next()) {
            int there = u.len - (step - u.first_step) * CHUNK;
            u32 at = shared + STAGE_AT + ring.at * STAGE_BYTES;
            char* stage = memory + STAGE_AT + ring.at * STAGE_BYTES;
            barrier_wait(shared + FULL + 8 * ring.at, ring.parity);
            if (there < CHUNK) {  // what follows the piece is not ours and may be anything: clear its B and X
                for (int tile = DEPTH_TILES; tile < 2 * DEPTH_TILES + WALKERS; tile++)
                    for (int i = 8 * there + thread; i < TILE / 16; i += 128)
                        ((uint4*)(stage + tile * TILE))[i] = {0, 0, 0, 0};
                fence_async();
                named_sync(1, 128 * (WALKERS + 1));
            }
            float s[32];
            pin(s);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < STATE_DIM / 16; k++) {
                u32 offset = k / 4 * TILE + k % 4 * 32;
                product64_shared<0>(s, rows_deep(at + offset), rows_deep(at + C_BYTES + offset), k > 0);
            }
            wgmma_commit();
            wgmma_wait<0>();
            pin(s);
#pragma unroll
            for (int k = 0; k < BLOCK_HEADS; k++) {
                int slot = masks.at * BLOCK_HEADS + k;
                barrier_wait(shared + MASK_EMPTY + 8 * slot, masks.parity ^ 1);
                mask_head(s, memory + DECAY_AT + (ring.at * BLOCK_HEADS + k) * DECAY_BYTES, shared + MASK_AT + slot * TILE,
                          (float*)(memory + DIAGONAL_AT) + slot * 64);
                fence_async();
                warp_arrive(shared + MASK_FULL + 8 * slot);
            }
            warp_arrive(shared + EMPTY + 8 * ring.at);
        }
        end = begin;
    }
}
