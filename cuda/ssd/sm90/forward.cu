// The SSD product on Hopper, one pass, the state on chip.
//
//     H_t = a_t H_{t-1} + dt_t x_t B_tᵀ,    y_t = H_t C_t + d x_t        (batch, heads), H: (HEAD_DIM, STATE_DIM)
//
// x, y: (batch, len, heads, HEAD_DIM); b, c: (batch, len, groups, STATE_DIM): 16-bit, seen through tensor maps of
// (batch, len, columns) with boxes of 64 columns and 64 rows; everything else stands in `Forward`.
//
// Chunks of 64 positions. With s_i the inclusive sum of log2 a in the chunk and w = dt, everything transposed, so that
// the state is an operand in registers and never passes through shared memory:
//
//     Yᵀ = (H Cᵀ) diag(2^s_i)  +  Xᵀ Wᵀ  +  (d + diagonal) Xᵀ        W, diagonal: forward_mask.cuh
//     H  = 2^s_last H + (Xᵀ 2^(s_last - s_j) w_j) B
//
// The scaled Xᵀ enters as the sum of two 16-bit numbers in bf16: rounded once it would spend as much of the error as
// the rounding of y itself.
//
// Grid: at most one block a multiprocessor, each with an equal share of all chunks (forward_plan.cuh).
// Block: four warpgroups: feed, mask, and two that walk 64 rows of state each: two heads of a group, or halves of one.
// Shared memory: SHARED_BYTES.
#include "forward_feed.cuh"
#include "forward_mask.cuh"

#ifdef STORAGE_F16
constexpr int PARTS = 1;
#else
constexpr int PARTS = 2;
#endif

__device__ __forceinline__ int thread_in_group() { return threadIdx.x % 128; }

// The 64 rows of state of one walker in memory, (row, STATE_DIM).
__device__ __forceinline__ void load_state(float (&h)[STATE_REGISTERS], const float* from) {
    int warp = thread_in_group() / 32, lane = threadIdx.x % 32;
    const float* p = from + (16 * warp + lane / 4) * STATE_DIM + 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < STATE_DIM / 8; n++)
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
    for (int n = 0; n < STATE_DIM / 8; n++)
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

// Hands the state to the block after this one, or takes it from the block before.
__device__ void hand_over(const Forward& f, const float (&h)[STATE_REGISTERS], int walker) {
    int slot = blockIdx.x * WALKERS + walker;
    store_registers(h, f.handoff + (i64)slot * STATE_FLOATS);
    __threadfence();
    named_sync(2 + walker, 128);
    if (thread_in_group() == 0) asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(f.flags + slot), "r"(1) : "memory");
}
__device__ void take_over(const Forward& f, float (&h)[STATE_REGISTERS], int walker) {
    int slot = (blockIdx.x - 1) * WALKERS + walker;
    if (thread_in_group() == 0) {
        u32 ready = 0;
        while (!ready) asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(ready) : "l"(f.flags + slot) : "memory");
        f.flags[slot] = 0;
    }
    named_sync(2 + walker, 128);
    join_registers(h, 0.0f, f.handoff + (i64)slot * STATE_FLOATS);
}

// The state with which a unit, or the part of it in this block, begins.
template <bool LOCAL>
__device__ void enter_unit(const Forward& f, const Unit& u, bool cut, float (&h)[STATE_REGISTERS], int walker, i64 state) {
#pragma unroll
    for (int i = 0; i < STATE_REGISTERS; i++) h[i] = 0.0f;
    if (cut) return take_over(f, h, walker);
    if (u.enter >= 0 && f.initial) return load_state(h, f.initial + state + (i64)u.enter * f.heads * HEAD_DIM * STATE_DIM);
    if (LOCAL) return;
    for (int k = 0; k < u.segment; k++) {
        i64 at = (i64)(u.row * (f.segments - 1) + k) * head_blocks(f) + u.block;
        float decay = exp2_fast(f.local_decay[at * BLOCK_HEADS + (BLOCK_HEADS == 2 ? walker : 0)]);
        join_registers(h, decay, f.local + (at * WALKERS + walker) * STATE_FLOATS);
    }
}

// Two of the four depth blocks of Xᵀ, from block `first` on: as they are, and scaled to the end of the chunk, in parts.
__device__ __forceinline__ void scale(u32 (&x)[4][4], u32 (&scaled)[PARTS][8], u32 x_at, const float* decay, int first) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        u32(&from)[4] = x[first + i];
        load_transposed(from, x_at + 2048 * (first + i));
        const float2* to_end = (const float2*)(decay + TO_END * 64) + 8 * (first + i) + threadIdx.x % 4;
        float2 p = to_end[0], q = to_end[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float v0 = low(from[e]) * (e < 2 ? p.x : q.x), v1 = high(from[e]) * (e < 2 ? p.y : q.y);
            u32 w = pack(v0, v1);
            scaled[0][4 * i + e] = w;
            if (PARTS == 2) scaled[PARTS - 1][4 * i + e] = pack(v0 - low(w), v1 - high(w));
        }
    }
}

// Issues h += scaled Xᵀ B for two depth blocks.
__device__ __forceinline__ void add_to_state(float (&h)[STATE_REGISTERS], u32 (&scaled)[PARTS][8], u32 b) {
    pin(h);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            if constexpr (STATE_DIM == 64) product64_depth<0>(h, scaled[part] + 4 * i, depth_major(b + 2048 * i), 1);
            else product128_depth<0>(h, scaled[part] + 4 * i, depth_major(b + 2048 * i), 1);
        }
    wgmma_commit();
}

// Walks the chunks of this block's share with the 64 rows of state of `walker`. LOCAL: only the state of each unit, from
// zero (or the initial state), to f.local.
template <bool LOCAL>
__device__ void walk(const Forward& f, u32 shared, const char* memory, const TensorMap* y, int walker) {
    Share share = share_of<LOCAL>(f);
    Ring<STAGES> ring;
    Ring<MASKS> masks;
    int thread = thread_in_group(), warp = thread / 32, lane = thread % 32, g = lane / 4, t = lane % 4;
    int k = BLOCK_HEADS == 2 ? walker : 0;                                        // head of the block
    u32 matrix_row = swizzled(lane / 16 * 8 + lane % 8, 2 * warp + lane / 8 % 2);  // (position, rows) of Xᵀ and Yᵀ
    u32 out = shared + OUT_AT + walker * TILE;
    float h[STATE_REGISTERS];

    for (int end = share.end; end > share.begin;) {
        Unit u = unit_of<LOCAL>(f, end - 1);
        int begin = max(share.begin, u.first_step), head = head_of(f, u.block, k);
        bool real = head >= 0;
        if (!real) head = head_of(f, u.block, 0);
        int column = head * HEAD_DIM + (HEAD_DIM == 128 ? 64 * walker : 0), entry = u.row;
        int there = u.len - (begin - u.first_step) * CHUNK, row = u.start + u.len - there;
        enter_unit<LOCAL>(f, u, begin > u.first_step, h, walker, (i64)column * STATE_DIM);
        float d0 = 0.0f, d1 = 0.0f;
        if (!LOCAL && f.d) {
            d0 = f.d[f.d_per_row ? column + 16 * warp + g : head];
            d1 = f.d[f.d_per_row ? column + 16 * warp + g + 8 : head];
        }

        for (int step = begin; step < end; step++, ring.next(), masks.next(), row += CHUNK, there -= CHUNK) {
            u32 at = shared + STAGE_AT + ring.at * STAGE_BYTES;
            const float* decay = (const float*)(memory + DECAY_AT + (ring.at * BLOCK_HEADS + k) * DECAY_BYTES);
            barrier_wait(shared + FULL + 8 * ring.at, ring.parity);
            if (!LOCAL && there < CHUNK) named_sync(1, 128 * (WALKERS + 1));

            float yt[32];
            u32 hb[STATE_REGISTERS / 2];
            float total = decay[TOTAL * 64];
#pragma unroll
            for (int i = 0; i < STATE_REGISTERS; i += 2) {
                hb[i / 2] = pack(h[i], h[i + 1]);
                h[i] *= total, h[i + 1] *= total;
            }
            pin(h);
            if (!LOCAL) {
                pin(hb);
                pin(yt);
                wgmma_fence();
#pragma unroll
                for (int i = 0; i < STATE_DIM / 16; i++)
                    product64_rows<0>(yt, hb + 4 * i, rows_deep(at + i / 4 * TILE + i % 4 * 32), i > 0);
                wgmma_commit();
            }

            u32 x[4][4], scaled[2][PARTS][8];
            u32 x_at = at + 2 * C_BYTES + walker * TILE + matrix_row, b_at = at + C_BYTES;
            scale(x, scaled[0], x_at, decay, 0);
            add_to_state(h, scaled[0], b_at);

            if (!LOCAL) {
                wgmma_wait<1>();
                pin(yt);
                pin(hb);
#pragma unroll
                for (int n = 0; n < 8; n++) {
                    float2 p = ((const float2*)(decay + FROM_START * 64))[4 * n + t];
                    yt[4 * n] *= p.x, yt[4 * n + 1] *= p.y, yt[4 * n + 2] *= p.x, yt[4 * n + 3] *= p.y;
                }
            }
            scale(x, scaled[1], x_at, decay, 2);
            add_to_state(h, scaled[1], b_at + 4096);

            if (!LOCAL) {
                int slot = masks.at * BLOCK_HEADS + k;
                u32 mask = shared + MASK_AT + slot * TILE;
                barrier_wait(shared + MASK_FULL + 8 * slot, masks.parity);
                pin(yt);
                wgmma_fence();
#pragma unroll
                for (int i = 0; i < 4; i++) product64_rows<0>(yt, x[i], rows_deep(mask + 32 * i), 1);
                wgmma_commit();
                wgmma_wait<0>();
                pin(yt);
                pin(h);
                const float* diagonal = (const float*)(memory + DIAGONAL_AT) + slot * 64;
#pragma unroll
                for (int n = 0; n < 8; n++) {
                    float2 p = ((const float2*)diagonal)[4 * n + t];
                    u32 x0 = x[n / 2][n % 2 * 2], x1 = x[n / 2][n % 2 * 2 + 1];
                    yt[4 * n] += (p.x + d0) * low(x0), yt[4 * n + 1] += (p.y + d0) * high(x0);
                    yt[4 * n + 2] += (p.x + d1) * low(x1), yt[4 * n + 3] += (p.y + d1) * high(x1);
                }
                warp_arrive(shared + EMPTY + 8 * ring.at);
                warp_arrive(shared + MASK_EMPTY + 8 * slot);

                if (thread == 0) copy_out_wait();
                named_sync(2 + walker, 128);
#pragma unroll
                for (int n = 0; n < 8; n += 2)
                    store_transposed(out + matrix_row + 1024 * n, pack(yt[4 * n], yt[4 * n + 1]), pack(yt[4 * n + 2], yt[4 * n + 3]),
                                     pack(yt[4 * n + 4], yt[4 * n + 5]), pack(yt[4 * n + 6], yt[4 * n + 7]));
                fence_async();
                named_sync(2 + walker, 128);
                if (there >= CHUNK) {
                    if (thread == 0 && real) copy_out(y, out, column, row, entry);
                } else if (real) {  // the box would overwrite what follows the piece
                    u16* to = f.y + ((i64)entry * f.len + row) * f.y_pitch + column;
                    for (int i = thread; i < 8 * there; i += 128)
                        *(uint4*)(to + i / 8 * f.y_pitch + i % 8 * 8) =
                            *(const uint4*)(memory + OUT_AT + walker * TILE + swizzled(i / 8, i % 8));
                }
            } else {
                wgmma_wait<0>();
                pin(h);
                warp_arrive(shared + EMPTY + 8 * ring.at);
            }
        }

        u = unit_of<LOCAL>(f, end - 1);
        if (LOCAL) {
            i64 at = (i64)(u.row * (f.segments - 1) + u.segment) * head_blocks(f) + u.block;
            store_registers(h, f.local + (at * WALKERS + walker) * STATE_FLOATS);
        } else if (end < u.first_step + u.chunks) {
            hand_over(f, h, walker);
        } else if (u.leave >= 0 && f.final_state && real) {
            store_state(h, f.final_state + ((i64)u.leave * f.heads * HEAD_DIM + column) * STATE_DIM);
        }
        end = begin;
    }
    if (thread == 0) copy_out_wait();
}

template <bool LOCAL>
__device__ __forceinline__ void run(const TensorMap* x, const TensorMap* b, const TensorMap* c, const TensorMap* y, const Forward& f) {
    extern __shared__ char raw[];
    u32 shared = (shared_address(raw) + 1023) & ~1023u;
    char* memory = raw + (shared - shared_address(raw));
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(shared + FULL + 8 * i, 1 + BLOCK_HEADS);
            barrier_init(shared + EMPTY + 8 * i, 4 * (WALKERS + (LOCAL ? 0 : 1)));
        }
        for (int i = 0; i < MASKS * BLOCK_HEADS; i++) {
            barrier_init(shared + MASK_FULL + 8 * i, 4);
            barrier_init(shared + MASK_EMPTY + 8 * i, 4 * WALKERS / BLOCK_HEADS);
        }
        barrier_init_fence();
    }
    __syncthreads();

    int group = threadIdx.x / 128, warp = threadIdx.x / 32 % 4;
    if (group == 0) {
        registers_give<FEED_REGISTERS>();
        if (warp == 0) {
            if (threadIdx.x == 0) feed_tiles<LOCAL>(f, shared, x, b, c);
        } else if (warp <= BLOCK_HEADS) {
            feed_decays<LOCAL>(f, shared, memory, warp - 1);
        }
    } else if (group == 1) {
        registers_give<MASK_REGISTERS>();
        if constexpr (!LOCAL) mask_chunks(f, shared, memory);
    } else {
        registers_take<WALK_REGISTERS>();
        walk<LOCAL>(f, shared, memory, y, group - 2);
    }
}

// For the host.
extern "C" __device__ int ssd_forward_sm90_shared = SHARED_BYTES;

extern "C" __global__ void __launch_bounds__(512, 1)
    ssd_forward_sm90(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c,
                     const __grid_constant__ TensorMap y, const __grid_constant__ Forward f) {
    run<false>(&x, &b, &c, &y, f);
}

// Decay and final state of every segment but a row's last, from zero: what ssd_forward_sm90 needs to begin a segment.
extern "C" __global__ void __launch_bounds__(512, 1)
    ssd_forward_local_sm90(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap b, const __grid_constant__ Forward f) {
    run<true>(&x, &b, nullptr, nullptr, f);
}
