// The SSD product on Hopper, one pass, the state on chip.
//
//     H_t = a_t H_{t-1} + dt_t x_t B_tᵀ,    y_t = H_t C_t + d x_t        (batch, heads), H: (HEAD_DIM, STATE_DIM)
//
// x, y: (batch, len, heads, HEAD_DIM); b, c: (batch, len, groups, STATE_DIM): 16-bit, seen through tensor maps of
// (batch, len, columns) with boxes of 64 columns and 64 rows, of y 32; everything else stands in `Forward`.
//
// Chunks of 64 positions. With s_i the inclusive sum of log2 a in the chunk and w = dt, everything transposed, so that
// the state is an operand in registers and never passes through shared memory:
//
//     Yᵀ = (H Cᵀ) diag(2^s_i)  +  Xᵀ Wᵀ  +  (d + diagonal) Xᵀ        W, diagonal: forward_mask.cuh
//     H  = 2^s_last H + (Xᵀ 2^(s_last - s_j) w_j) B
//
// The scaled Xᵀ enters in bf16 as the sum of two numbers: rounded once, it would add as much error as the rounding of y.
//
// Grid: at most one block a multiprocessor, each with an equal share of all chunks (forward_plan.cuh).
// Block: four warpgroups: feed, mask, and two that walk 64 rows of state each: two heads of a group, or halves of one.
// Shared memory: SHARED_BYTES.
#include "ssd/sm90/forward_feed.cuh"
#include "ssd/sm90/forward_mask.cuh"
#include "ssd/sm90/forward_state.cuh"

// Hands the state to the block after this one, or takes it from the block before.
__device__ void hand_over(const Forward& f, const float (&h)[STATE_REGISTERS], int walker) {
    int slot = blockIdx.x * WALKERS + walker;
    store_registers(h, f.handoff + (i64)slot * STATE_FLOATS);
    __threadfence();
    named_sync(HANDED + walker, 128);
    if (thread_in_group() == 0) asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(f.flags + slot), "r"(1) : "memory");
}
__device__ void take_over(const Forward& f, float (&h)[STATE_REGISTERS], int walker) {
    int slot = (blockIdx.x - 1) * WALKERS + walker;
    if (thread_in_group() == 0) {
        u32 ready = 0;
        while (!ready) asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(ready) : "l"(f.flags + slot) : "memory");
        f.flags[slot] = 0;
    }
    named_sync(HANDED + walker, 128);
    join_registers(h, 0.0f, f.handoff + (i64)slot * STATE_FLOATS);
}

// The state with which a unit, or the part of it in this block, begins.
__device__ void enter_unit(const Forward& f, const Unit& u, bool cut, float (&h)[STATE_REGISTERS], int walker, i64 state) {
#pragma unroll
    for (int i = 0; i < STATE_REGISTERS; i++) h[i] = 0.0f;
    if (cut) return take_over(f, h, walker);
    if (u.enter >= 0 && f.initial) return load_state(h, f.initial + state + (i64)u.enter * f.heads * HEAD_DIM * STATE_DIM);
    if (u.segment > 0 && f.local) wait_for_former();  // segment.cu
    for (int k = 0; f.local && k < u.segment; k++) {
        i64 at = local_slot(f, u.row, k, u.block);
        float decay = exp2_fast(f.local_decay[at * BLOCK_HEADS + (BLOCK_HEADS == 2 ? walker : 0)]);
        join_registers(h, decay, f.local + (at * WALKERS + walker) * STATE_FLOATS);
    }
}

// The terms of a position with itself, of two rows and two positions in every four numbers: s += diagonal x, and with a skip of
// its own for each row s += d x, d of rows 0 and 8.
template <int COUNT>
__device__ __forceinline__ void add_near(float (&s)[COUNT], const u32* x, const float2 (&diagonal)[COUNT / 4]) {
#pragma unroll
    for (int n = 0; n < COUNT / 4; n++) {
        float2 q = diagonal[n];
        s[4 * n] += q.x * low(x[2 * n]), s[4 * n + 1] += q.y * high(x[2 * n]);
        s[4 * n + 2] += q.x * low(x[2 * n + 1]), s[4 * n + 3] += q.y * high(x[2 * n + 1]);
    }
}
template <int COUNT>
__device__ __forceinline__ void add_skip(float (&s)[COUNT], const u32* x, const float* d) {
    float d0 = d[0], d1 = d[8];
#pragma unroll
    for (int n = 0; n < COUNT / 4; n++) {
        s[4 * n] += d0 * low(x[2 * n]), s[4 * n + 1] += d0 * high(x[2 * n]);
        s[4 * n + 2] += d1 * low(x[2 * n + 1]), s[4 * n + 3] += d1 * high(x[2 * n + 1]);
    }
}

// The numbers of a table for every eighth position and the next, `from` those of the lane.
template <int COUNT>
__device__ __forceinline__ void load_pairs(float2 (&v)[COUNT], const float* from) {
#pragma unroll
    for (int n = 0; n < COUNT; n++) v[n] = ((const float2*)from)[4 * n];
}

// Walks the chunks of this block's share with the 64 rows of state of `walker`.
__device__ void walk(const Forward& f, u32 shared, const char* memory, const TensorMap* y, int walker) {
    Share share = share_of(f);
    Ring<STAGES> ring;
    Ring<MASKS> masks;
    Cleared cleared;
    int thread;
    asm volatile("and.b32 %0, %1, 127;" : "=r"(thread) : "r"(threadIdx.x));  // kept, not computed again
    int t = thread % 4;
    const bool copies = __shfl_sync(~0u, thread / WARP, 0) == 0;  // the warp that writes y
    int k = BLOCK_HEADS == 2 ? walker : 0;  // head of the block
    u32 in_tile = matrix_row(), out = OUT_AT + (WIDE ? 0 : walker * TILE);
    Ring<2> exchange;
    float h[STATE_REGISTERS], own[16];

    // The first warp hands the buffers of y to the others, who take them before they write. So they are never a round of STAGED
    // ahead of it either. (Not if WIDE: it took 2 % longer.)
    auto wait_vacant = [&] {
        if (!WIDE && !copies) named_sync(VACANT + walker, 128);
    };
    if (!WIDE && copies) named_arrive(VACANT + walker, 128);

    for (int end = share.end; end > share.begin;) {
        Unit u = unit_of(f, end - 1);
        int begin = max(share.begin, u.first_step), head = head_of(f, u.block, k);
        bool real = head >= 0;
        if (!real) head = head_of(f, u.block, 0);
        int column = head * HEAD_DIM + first_row(u.block, walker), entry = u.row;
        int row = u.start + (begin - u.first_step) * CHUNK, stop = row + (end - begin) * CHUNK, piece_end = u.start + u.len;
        const i64 state = (i64)column * STATE_DIM + (WIDE ? 128 * walker : 0);
        wait_for_inputs(f);
        enter_unit(f, u, begin > u.first_step, h, walker, state);
        if (walks_back(f, u) && begin == u.first_step)
            walk_back(shared, memory, ring, h, walker, in_tile,
                      f.initial ? f.initial + state + (i64)u.row * f.heads * HEAD_DIM * STATE_DIM : nullptr);

        // Writes y of a chunk, while the products of the next one are under way. If WIDE, each walker has half of the sum over
        // the state's columns, for all positions: it finishes half of the positions with what the other one sent.
        auto finish = [&](int row) {
            constexpr int ROWS = WIDE ? CHUNK / 2 : CHUNK;
            const int from = WIDE ? ROWS * walker : 0, there = min(piece_end - row - from, ROWS);
            const u32 tile = out + 128 * from;
            if constexpr (WIDE) {
                const float4* theirs = (const float4*)(memory + EXCHANGE_AT + (2 * exchange.at + walker) * 8192) + thread;
                barrier_wait(shared + EXCHANGE_FULL + 8 * (2 * exchange.at + walker), exchange.parity);
                exchange.next();
#pragma unroll
                for (int n = 0; n < 4; n++) {
                    float4 v = theirs[128 * n];
                    own[4 * n] += v.x, own[4 * n + 1] += v.y, own[4 * n + 2] += v.z, own[4 * n + 3] += v.w;
                }
                store_rows(own, shared + tile + in_tile);
            }
            fence_async();
            if (WIDE && thread == 0) copy_out_wait();  // of the chunk before: the next one may write there
            if (!WIDE && there == ROWS && !copies) {    // only the warp that copies waits for the others
                named_arrive(STAGED + walker, 128);
            } else {
                named_sync(STAGED + walker, 128);
            }
            if (there == ROWS) {
                if (thread == 0 && real)
                    for (int r = 0; r < ROWS; r += OUT_ROWS) copy_out(y, shared + tile + 128 * r, column, row + from + r, entry);
            } else if (real) {  // a box would overwrite what follows the piece
                u16* to = f.y + ((i64)entry * f.len + row + from) * f.y_pitch + column;
#pragma unroll 1
                for (int i = kept(thread); i < 8 * there; i += 128)
                    *(uint4*)(to + i / 8 * f.y_pitch + i % 8 * 8) = *(const uint4*)(memory + tile + swizzled(i / 8, i % 8));
            }
            if (!WIDE && copies) {  // the other buffer may be written once its copies have read it
                if (thread == 0) {
                    if (there == ROWS && real) copy_out_wait<ROWS / OUT_ROWS>();
                    else copy_out_wait<0>();
                }
                __syncwarp();
                named_arrive(VACANT + walker, 128);
            }
            out ^= WIDE ? OUT_AT ^ (OUT_AT + TILE) : (OUT_AT + walker * TILE) ^ (OUT_AT + (WALKERS + walker) * TILE);
        };

        auto skip_of = [&] {  // of this lane's rows; computed where it is used, which is seldom
            const int at = kept(thread);
            return f.d + column + at / 32 * 16 + at % 32 / 4;
        };
        // The tiles of a chunk as they come in, and its x as left operands.
        u32 x[16], first[PARTS][8], second[PARTS][8];
        auto x_of = [&](int stage) {
            return shared + STAGE_AT + stage * STAGE_BYTES + 2 * C_BYTES + (WIDE ? 0 : walker * TILE) + in_tile;
        };
        auto enter = [&](int row) {
            const u32 x_at = x_of(ring.at);
            barrier_wait(shared + FULL + 8 * ring.at, ring.parity);
            if (piece_end - row < CHUNK) cleared.wait(shared, ring.at);
            load_half<0>(x, x_at);
            if (AHEAD) load_half<1>(x, x_at);
            else scale_half<0>(x, first, (const float*)(memory + DECAY_AT + (ring.at * BLOCK_HEADS + k) * DECAY_BYTES));
        };
        const int entered = row;
        if (AHEAD) enter(row);
        for (; row < stop; row += CHUNK, masks.next()) {
            if (!AHEAD) enter(row);
            const int stage = ring.at, slot = masks.at * BLOCK_HEADS + k;
            const u32 at = shared + STAGE_AT + stage * STAGE_BYTES, mask = shared + MASK_AT + slot * TILE;
            const u32 c_at = at + (WIDE ? 2 * walker * TILE : 0), b_at = c_at + C_BYTES;
            const float* decay = (const float*)(memory + DECAY_AT + (stage * BLOCK_HEADS + k) * DECAY_BYTES);
            const float* diagonal = (const float*)(memory + DIAGONAL_AT) + slot * 64;
            u32 hb[STATE_REGISTERS / 2];
            float yt[32], total = decay[TOTAL * 64];
#pragma unroll
            for (int i = 0; i < STATE_REGISTERS; i += 2) {
                hb[i / 2] = pack(h[i], h[i + 1]);
                if (!AHEAD) h[i] *= total, h[i + 1] *= total;
            }
            if (!AHEAD) {
                pin(h);
                pin(first);
            }
            pin(hb);
            pin(yt);
            wgmma_fence();
#pragma unroll
            for (int i = 0; i < WALKER_COLUMNS / 16; i++)
                product64_rows<0>(yt, hb + 4 * i, moved(rows_deep(c_at), i / 4 * TILE + i % 4 * 32), i > 0);
            wgmma_commit();
            if (AHEAD) {
#pragma unroll
                for (float& v : h) v *= total;
                scale_half<0>(x, first, decay);
                pin(h);
                pin(first);
                wgmma_fence();
            }
            add_to_state<0>(h, first, b_at);
            if (!AHEAD) load_half<1>(x, x_of(stage));
            if (row > entered) finish(row - CHUNK);
            scale_half<1>(x, second, decay);
            pin(second);
            pin(x);
            float2 early[WIDE ? 4 : 8];  // factors of the half of the positions that the other walker finishes, or of all
            load_pairs(early, decay + FROM_START * 64 + 2 * t + (WIDE ? 32 * (1 - walker) : 0));
            wgmma_wait<1>();
            pin(hb);
            pin(yt);
            if constexpr (WIDE) {
                float within[16];
                float4* theirs = (float4*)(memory + EXCHANGE_AT + (2 * exchange.at + 1 - walker) * 8192) + thread;
#pragma unroll
                for (int n = 0; n < 4; n++) {
                    float2 p = early[n];
                    float4 v;
                    own[4 * n] = walker ? yt[4 * n + 16] : yt[4 * n], v.x = p.x * (walker ? yt[4 * n] : yt[4 * n + 16]);
                    own[4 * n + 1] = walker ? yt[4 * n + 17] : yt[4 * n + 1], v.y = p.y * (walker ? yt[4 * n + 1] : yt[4 * n + 17]);
                    own[4 * n + 2] = walker ? yt[4 * n + 18] : yt[4 * n + 2], v.z = p.x * (walker ? yt[4 * n + 2] : yt[4 * n + 18]);
                    own[4 * n + 3] = walker ? yt[4 * n + 19] : yt[4 * n + 3], v.w = p.y * (walker ? yt[4 * n + 3] : yt[4 * n + 19]);
                    theirs[128 * n] = v;
                }
                barrier_arrive(shared + EXCHANGE_FULL + 8 * (2 * exchange.at + 1 - walker));
                barrier_wait(shared + MASK_FULL + 8 * slot, masks.parity);
                pin(within);
                wgmma_fence();
                add_to_state<1>(h, second, b_at);
#pragma unroll
                for (int i = 0; i < 4; i++)
                    product32_rows<0>(within, x + 4 * i, moved(rows_deep(mask + 4096 * walker), 32 * i), i > 0);
                wgmma_commit();
                float2 from[4], near[4];
                load_pairs(from, decay + FROM_START * 64 + 2 * t + 32 * walker);
                load_pairs(near, diagonal + 2 * t + 32 * walker);
                wgmma_wait<0>();
                pin(within);
                pin(x);
                barrier_arrive(shared + MASK_EMPTY + 8 * slot);
#pragma unroll
                for (int i = 0; i < 16; i += 2) {
                    float2 p = from[i / 4];
                    own[i] = within[i] + p.x * own[i], own[i + 1] = within[i + 1] + p.y * own[i + 1];
                }
                u32 half[8];
#pragma unroll
                for (int i = 0; i < 8; i++) half[i] = walker ? x[8 + i] : x[i];
                add_near(own, half, near);
                if (f.d_per_row) add_skip(own, half, skip_of());
            } else {
#pragma unroll
                for (int n = 0; n < 8; n++) {
                    float2 p = early[n];
                    yt[4 * n] *= p.x, yt[4 * n + 1] *= p.y, yt[4 * n + 2] *= p.x, yt[4 * n + 3] *= p.y;
                }
                wait_vacant();
                barrier_wait(shared + MASK_FULL + 8 * slot, masks.parity);
                pin(yt);
                wgmma_fence();
#pragma unroll
                for (int i = 0; i < 4; i++) {  // the masks of the first 32 positions by the last are zero
                    if (i < 2) product32_rows<0>(yt, x + 4 * i, moved(rows_deep(mask), 32 * i), 1);
                    product32_rows<16>(yt, x + 4 * i, moved(rows_deep(mask + TILE / 2), 32 * i), 1);
                }
                wgmma_commit();
                add_to_state<1>(h, second, b_at);
                float2 near[8];
                load_pairs(near, diagonal + 2 * t);
                wgmma_wait<1>();
                pin(yt);
                pin(x);
                barrier_arrive(shared + MASK_EMPTY + 8 * slot);
                add_near(yt, x, near);
                if (f.d_per_row) add_skip(yt, x, skip_of());
                store_rows(yt, shared + out + in_tile);
            }
            ring.next();
            if (AHEAD && row + CHUNK < stop) enter(row + CHUNK);
            wgmma_wait<0>();
            pin(h);
            barrier_arrive(shared + EMPTY + 8 * stage);
        }
        finish(row - CHUNK);

        u = unit_of(f, end - 1);
        begin = max(share.begin, u.first_step);
        if (end < u.first_step + u.chunks)
            hand_over(f, h, walker);
        else if (u.leave >= 0 && f.final_state && real)
            store_state(h, f.final_state + ((i64)u.leave * f.heads * HEAD_DIM + column) * STATE_DIM + (WIDE ? 128 * walker : 0));
        end = begin;
    }
    wait_vacant();
    if (thread == 0) copy_out_wait();
}

// For the host: dynamic shared memory of a block.
static_assert(SHARED_BYTES <= SHARED, "the host gives less shared memory");

extern "C" __global__ void __launch_bounds__(512, 1)
    ssd_forward_sm90(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c,
                     const __grid_constant__ TensorMap y, const __grid_constant__ Forward f) {
    let_next_start();
    extern __shared__ __align__(1024) char memory[];
    u32 shared = kept(shared_address(memory));
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(shared + FULL + 8 * i, 1 + WARP * BLOCK_HEADS);
            barrier_init(shared + EMPTY + 8 * i, 4 * WARP * (WALKERS + 1));
            barrier_init(shared + CLEARED + 8 * i, 4 * WARP);
        }
        for (int i = 0; i < MASKS * BLOCK_HEADS; i++) {
            barrier_init(shared + MASK_FULL + 8 * i, 4 * WARP);
            barrier_init(shared + MASK_EMPTY + 8 * i, 4 * WARP * WALKERS / BLOCK_HEADS);
        }
        for (int i = 0; WIDE && i < 2 * WALKERS; i++) barrier_init(shared + EXCHANGE_FULL + 8 * i, 4 * WARP);
        barrier_init_fence();
    }
    __syncthreads();

    int group = __shfl_sync(~0u, threadIdx.x / 128, 0);
    if (group == 0) {
        registers_give<FEED_REGISTERS>();
        feed(f, shared, memory, &x, &b, &c);
    } else if (group == 1) {
        registers_give<MASK_REGISTERS>();
        mask_chunks(f, shared, memory);
    } else {
        registers_take<WALK_REGISTERS>();
        walk(f, shared, memory, &y, group - 2);
    }
}
