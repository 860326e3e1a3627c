// States that enter the chunks and cotangents of the states that leave them, by one walk each:
//
//   H_{k+1} = e^{s_Q} H_k + sum_j dt_j e^{s_Q - s_j} X_j B_j^T      from the first chunk (direction 0)
//   dH_{k-1} = e^{s_Q} dH_k + sum_i e^{s_i} dY_i C_i^T              from the last one   (direction 1)
//
// H stays in f32 registers. The scaled X would lose 2^-9 by rounding, as much as the whole error allowed, so it goes into the
// product as the sum of two 16-bit numbers, and so does the factor it is scaled by. States are kept in f16, scaled by a power
// of two: with the 8 bits of bf16 they alone would use up the error allowed to the cotangents of the decays, which are inner
// products of two states. For f16 tensors, where less is allowed, they have two terms.
//
// With `by_segment` and nothing kept, what each segment alone adds is found first. Such a walk goes the other way, and only as
// far as decays have not fallen below 2^LEAST: it costs the memory of a head, not the length of a segment.
//
// Grid (pairs of heads of a group x bands, segments, directions), 384 threads: two warpgroups, a head each, and one that
// copies.
// Shared memory: 2 stages of (B 32 KiB, X of two heads 32 KiB, s and dt 2 KiB), two states, factors.
#include "ssd/sm90/backward.cuh"

constexpr int STAGES = 2;
constexpr float LEAST = -64.f; // log2 of a decay below which the past is forgotten
constexpr u32 STAGE = N_PANELS * PANEL + 2 * PANEL + 2048;
constexpr u32 STATES_AT = STAGES * STAGE;
constexpr u32 FACTORS_AT = STATES_AT + 2 * KEPT_BYTES; // [head of two][chunk's parity][128]
constexpr u32 MOST_AT = FACTORS_AT + 2 * 2 * Q * 4; // [head of two][warp]
constexpr u32 LARGEST_AT = MOST_AT + 2 * 4 * 4; // [head of two][chunk's parity][warp]
constexpr u32 BARRIERS_AT = LARGEST_AT + 2 * 2 * 4 * 4;
static_assert(BARRIERS_AT + 16 * STAGES <= SHARED, "the host gives less shared memory");

// A power of two that brings the largest of four numbers to about one, within 2^reach; and its inverse.
DEVICE Scale near_one(const float *largest, int reach) {
    const float most = fmaxf(fmaxf(largest[0], largest[1]), fmaxf(largest[2], largest[3]));
    const int exponent = min(max((int)(__float_as_uint(most) >> 23), 127 - reach), 127 + reach);
    return {__uint_as_float((u32)(254 - exponent) << 23), __uint_as_float((u32)exponent << 23)};
}

// The factor of a position, as the sum of two 16-bit numbers: for each pair of positions two words, of what is high and what is
// low, so that pairs are multiplied as they are.
DEVICE void write_factor(u16 *factors, int position, float factor) {
    const u32 high = pack(factor, 0.f), both = pack(factor, factor - unpack(high).x);
    u16 *own = factors + (position >> 1) * 4 + (position & 1);
    own[0] = (u16)both, own[2] = (u16)(both >> 16);
}

// The larger in size of each of two numbers, with any sign.
DEVICE u32 most_pair(u32 most, u32 pair) {
    asm("max.xorsign.abs." STORAGE "x2 %0, %0, %1;" : "+r"(most) : "r"(pair));
    return most;
}

// a b - c, pair by pair.
DEVICE u32 less(u32 a, u32 b, u32 c) {
    u32 d;
    asm("{.reg .b32 minus; neg." STORAGE "x2 minus, %3; fma.rn." STORAGE "x2 %0, %1, %2, minus;}"
        : "=r"(d)
        : "r"(a), "r"(b), "r"(c));
    return d;
}

// h += a b, over all columns of the state; `right` describes b.
DEVICE void add_columns(float (&h)[N / 2], const u32 (&a)[4], u32 right) {
    if constexpr (N == 128) product128_depth<0>(h, a, right, 1);
    else product64_depth<0>(h, a, right, 1);
}

// Two tiles side by side, 16 rows by 16 columns, of a state as kept: the first term becomes its rest.
DEVICE void store_term(float (&v)[8], u32 address) {
    u32 pairs[4];
#pragma unroll
    for (int m = 0; m < 4; m++) pairs[m] = pack_half(v[2 * m], v[2 * m + 1]);
    store_matrices(address, pairs[0], pairs[1], pairs[2], pairs[3]);
    if constexpr (TERMS == 2) {
#pragma unroll
        for (int m = 0; m < 4; m++) {
            const float2 stored = unpack(pairs[m]);
            v[2 * m] -= stored.x, v[2 * m + 1] -= stored.y;
        }
    }
}

// One direction's tensors: `left` is X or dY, `right` B or C.
struct Walk {
    const storage *left, *right;
    const float *from;  // state before the first chunk walked: [segment or sequence][head][P][state_dim] f32, or null for zero
    storage *kept;      // [chunk][head][band][term] states in f16 as panels (64 rows of 64 columns), or null
    Sizes *sizes;       // [chunk][head][band][direction], written with `kept`
    float *to;          // state after the last chunk, as `from`, or null
};

// Chunks of a segment that one of a block's heads remembers, counted from its end, or with `from_first` from its beginning; at least
// one. `last`: the sum of logs of the segment's first chunk and the first head; those of a chunk are `pitch` on.
DEVICE int chunks_remembered(const Segment &segment, const float *last, long long pitch, int heads, bool from_first, int lane) {
    int count = 1;
    for (int head = 0; head < heads; head++) {
        float before = 0.f;
        for (int first = 0; first < segment.count; first += 32) {
            const int k = first + lane;
            const float own = k < segment.count ? last[(from_first ? k : segment.count - 1 - k) * pitch + head * Q] : 0.f;
            float sum = own;
            for (int d = 1; d < 32; d *= 2) {
                const float other = __shfl_up_sync(~0u, sum, d);
                if (lane >= d) sum += other;
            }
            if (k < segment.count && before + (sum - own) >= LEAST) count = max(count, k + 1);
            before += __shfl_sync(~0u, sum, 31);
        }
    }
    return __reduce_max_sync(~0u, count);
}

extern "C" __global__ void __launch_bounds__(384, 1)
    ssd_backward_states(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap dy,
                        const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, Shape shape,
                        const Chunk *chunks, const Segment *segments, const float *s, const float *dt, Walk forth, Walk back,
                        int by_segment) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const u32 base = shared_address(memory);
    const bool reverse = blockIdx.z == 1;
    const Walk walk = reverse ? back : forth;
    const Segment segment = segments[blockIdx.y];
    const int in_group = shape.heads_per_group(), pairs = (in_group + 1) / 2;
    const int band = blockIdx.x % BANDS, pair = blockIdx.x / BANDS;
    const int group = pair / pairs, in_pair = 2 * (pair % pairs);
    const int warpgroup = threadIdx.x >> 7, thread = threadIdx.x & 127, lane = threadIdx.x & 31, warp = thread >> 5;
    const u32 full = base + BARRIERS_AT, empty = full + 8 * STAGES;
    const int heads = min(2, in_group - in_pair); // of this block
    const bool apart = by_segment && !walk.kept; // what the segment alone adds, from the end that is remembered best
    const bool from_last = reverse != apart;
    const float *last_sum = s + ((long long)segment.first * shape.heads + group * in_group + in_pair) * Q + Q - 1;
    const int count =
        !apart ? segment.count : chunks_remembered(segment, last_sum, (long long)shape.heads * Q, heads, reverse, lane);

    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            barrier_init(full + 8 * i, 128);
            barrier_init(empty + 8 * i, 128 * heads);
        }
        barrier_init_fence();
    }
    __syncthreads();

    if (warpgroup == 2) {
        registers_give<40>();
        const long long left_pitch = reverse ? shape.dy_pitch : shape.x_pitch;
        const long long right_pitch = reverse ? shape.c_pitch : shape.b_pitch;
        const int head = group * in_group + in_pair;
        for (int i = 0; i < count; i++) {
            const int at = from_last ? segment.first + segment.count - 1 - i : segment.first + i;
            const Chunk k = chunks[at];
            const u32 stage = base + (i % STAGES) * STAGE, barrier = full + 8 * (i % STAGES);
            if (i >= STAGES) barrier_wait(empty + 8 * (i % STAGES), (i / STAGES - 1) & 1);
            if (k.len == Q || k.start + k.len == shape.len) {
                if (thread > 0) {
                    barrier_arrive(barrier);
                    continue;
                }
                barrier_expect(barrier, N_PANELS * PANEL + heads * (PANEL + 1024));
                for (int panel = 0; panel < N_PANELS; panel++)
                    copy_in(stage + panel * PANEL, &(reverse ? c : b), column_of(group, band) + panel * 64, k.start, k.row,
                            barrier);
                for (int h = 0; h < heads; h++) {
                    const u32 steps = stage + (N_PANELS + 2) * PANEL + h * 1024;
                    const long long from = ((long long)at * shape.heads + head + h) * Q;
                    copy_in(stage + (N_PANELS + h) * PANEL, &(reverse ? dy : x), (head + h) * P, k.start, k.row, barrier);
                    bulk_load(steps, s + from, 512, barrier);
                    bulk_load(steps + 512, dt + from, 512, barrier);
                }
                continue;
            }
            const long long position = shape.position(k, 0);
            for (int panel = 0; panel < N_PANELS; panel++)
                copy_rows<32>(stage + panel * PANEL, walk.right + position * right_pitch + column_of(group, band) + panel * 64,
                              right_pitch, 32 * warp, k.len, lane);
            for (int h = 0; h < heads; h++)
                copy_rows<32>(stage + (N_PANELS + h) * PANEL, walk.left + position * left_pitch + (head + h) * P, left_pitch,
                              32 * warp, k.len, lane);
            const long long steps = ((long long)at * shape.heads + head) * Q;
            const int which = thread >> 5; // s and dt of each head: 512 bytes a warp
            if (which < 2 * heads)
                copy_piece(stage + (N_PANELS + 2) * PANEL + thread * 16,
                           ((which & 1) ? dt : s) + steps + (which >> 1) * Q + lane * 4, true);
            copies_arrive(barrier);
        }
        return;
    }
    if (warpgroup == 1 && heads == 1) return;
    registers_take<232>();

    const int head = group * in_group + in_pair + warpgroup;
    const u32 own_state = base + STATES_AT + warpgroup * KEPT_BYTES;
    const int row = 16 * warp + (lane >> 2), column = 2 * (lane & 3);
    float h[N / 2]; // by panels of 64 columns
    const int entered = by_segment ? (int)blockIdx.y : (reverse ? segment.leaves : segment.enters);
    const int left_at = by_segment ? (int)blockIdx.y : (reverse ? segment.enters : segment.leaves);
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++)
#pragma unroll
        for (int t = 0; t < 8; t++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float2 v = make_float2(0.f, 0.f);
                if (walk.from && entered >= 0)
                    v = *(const float2 *)(walk.from + (((long long)entered * shape.heads + head) * P + row + 8 * r) * STATE_DIM +
                                          band * N + panel * 64 + t * 8 + column);
                h[32 * panel + 4 * t + 2 * r] = v.x;
                h[32 * panel + 4 * t + 2 * r + 1] = v.y;
            }

    float after = 0.f; // apart: the sum of logs of the chunks walked
    for (int i = 0; i < count; i++) {
        const int at = from_last ? segment.first + segment.count - 1 - i : segment.first + i;
        const u32 stage = base + (i % STAGES) * STAGE;
        const u32 left = stage + (N_PANELS + warpgroup) * PANEL;
        const u32 steps_at = (i % STAGES) * STAGE + (N_PANELS + 2) * PANEL + warpgroup * 1024;
        const float *steps = (const float *)(memory + steps_at);
        const u32 factors_at = FACTORS_AT + (warpgroup * 2 + (i & 1)) * Q * 4;
        u16 *factors = (u16 *)(memory + factors_at);

        const long long place = ((long long)at * shape.heads + head) * BANDS + band;
        Sizes *sizes = walk.sizes + (place * 2 + reverse);
        if (walk.kept) { // the state so far, before this chunk
            float *mosts = (float *)(memory + MOST_AT) + warpgroup * 4, most = 0.f;
#pragma unroll
            for (int e = 0; e < N / 2; e++) most = fmaxf(most, fabsf(h[e]));
            most = warp_most(most);
            if (lane == 0) mosts[warp] = most;
            if (thread == 0) copy_out_wait();
            named_sync(1 + warpgroup, 128);
            const Scale scale = half_scale(fmaxf(fmaxf(mosts[0], mosts[1]), fmaxf(mosts[2], mosts[3])));
            if (thread == 0) sizes->state = scale.from;
#pragma unroll
            for (int panel = 0; panel < N_PANELS; panel++)
#pragma unroll
                for (int t = 0; t < 8; t += 2) {
                    float v[8];
#pragma unroll
                    for (int e = 0; e < 8; e++) v[e] = h[32 * panel + 4 * t + e] * scale.to;
#pragma unroll
                    for (int term = 0; term < TERMS; term++)
                        store_term(v, tile_address(own_state + term * STATE_BYTES + panel * STATE_PANEL, 16 * warp, t, lane));
                }
        }
        barrier_wait(full + 8 * (i % STAGES), (i / STAGES) & 1);
        const float last = steps[Q - 1];
        const float factor = reverse ? exp2_fast(after + steps[thread])
                                     : steps[Q + thread] * exp2_fast(after + last - steps[thread]);
#ifdef STORED_F16
        // The largest factor is brought to about one, for the few exponents of f16; the state is scaled by as much while
        // products are added: by up to 2^126 backwards, where no factor is smaller than what fades the state, and by 2^40
        // forth, where all may be zero and the state is not. Apart nothing fades the state, which is zero before the first
        // chunk only.
        const int reach = reverse && (!apart || i == 0) ? 126 : 40;
        float *largest = (float *)(memory + LARGEST_AT) + warpgroup * 8 + (i & 1) * 4;
        const float most_factor = warp_most(fabsf(factor));
        if (lane == 0) largest[warp] = most_factor;
        named_sync(1 + warpgroup, 128);
        const float unit = near_one(largest, reach).to;
#else
        constexpr float unit = 1.f;
#endif
        write_factor(factors, thread, factor * unit);
        fence_async();
        named_sync(1 + warpgroup, 128);
        if (walk.kept && thread == 0)
            bulk_store((unsigned char *)walk.kept + place * KEPT_BYTES, own_state, KEPT_BYTES);
        const float through = (apart ? 1.f : exp2_fast(last)) * unit;
        after += apart ? last : 0.f;
#pragma unroll
        for (int e = 0; e < N / 2; e++) h[e] *= through;
        pin(h);

        const u32 right = pieces(base) + (i % STAGES) * (STAGE / 16) + ((PANEL / 16) << 16); // a depth_major operand
        u32 most = 0, high[Q / 16][4], low[Q / 16][4];
#pragma unroll
        for (int step = 0; step < Q / 16; step++) {
            u32 raw[4];
            // Rows of the tile are positions, and of its transpose rows of the state.
            load_transposed(raw, left + swizzled(16 * step + (lane >> 4) * 8 + (lane & 7),
                                                       2 * warp + ((lane >> 3) & 1)));
            const uint2 *own = (const uint2 *)factors + 8 * step + column / 2, two[2] = {own[0], own[4]};
#pragma unroll
            for (int m = 0; m < 4; m++) {
                const uint2 f = two[m >> 1];
                most = most_pair(most, raw[m]);
                high[step][m] = times(raw[m], f.x);
                low[step][m] = plus(raw[m], f.y, less(raw[m], f.x, high[step][m]));
            }
            wgmma_fence();
            add_columns(h, high[step], right + step * ACROSS);
            add_columns(h, low[step], right + step * ACROSS);
            wgmma_commit();
        }
        const float2 mosts = unpack(most);
        const float largest_left = warp_most(fmaxf(fabsf(mosts.x), fabsf(mosts.y)));
        if (walk.kept && lane == 0) sizes->most[warp] = largest_left;
        wgmma_wait<0>();
        pin(h);
#ifdef STORED_F16
        const float back = near_one(largest, reach).from;
#pragma unroll
        for (int e = 0; e < N / 2; e++) h[e] *= back;
#endif
        barrier_arrive(empty + 8 * (i % STAGES));
    }
    if (walk.to && left_at >= 0) {
#pragma unroll
        for (int panel = 0; panel < N_PANELS; panel++)
#pragma unroll
            for (int t = 0; t < 8; t++)
#pragma unroll
                for (int r = 0; r < 2; r++)
                    *(float2 *)(walk.to + (((long long)left_at * shape.heads + head) * P + row + 8 * r) * STATE_DIM +
                                band * N + panel * 64 + t * 8 + column) =
                        make_float2(h[32 * panel + 4 * t + 2 * r], h[32 * panel + 4 * t + 2 * r + 1]);
    }
    if (walk.kept && thread == 0) bulk_stores_done();
}

// States between the segments of a sequence, from what each adds: into `in` [segment][head][P][state_dim] the state before the
// first chunk walked, from `local`, the same axes, the state after the last one had it begun at zero.
//
//   in_{i+1} = e^{sum of s_Q over the segment} in_i + local_i
//
// Grid (heads, sequences, directions x 64 x state_dim / 1024), 256 threads. `sequences`: segments first .. first + count.
struct Join {
    const float *local, *from;
    float *in, *to;
};

extern "C" __global__ void __launch_bounds__(256)
    ssd_backward_segments(Shape shape, const Segment *sequences, const Segment *segments, const float *s, Join forth,
                          Join back) {
    constexpr int PIECES = P * STATE_DIM / 1024; // of 1024 elements of a state
    const bool reverse = blockIdx.z >= PIECES;
    const Join join = reverse ? back : forth;
    const Segment sequence = sequences[blockIdx.y];
    const int head = blockIdx.x, entered = reverse ? sequence.leaves : sequence.enters,
              left = reverse ? sequence.enters : sequence.leaves;
    const long long own = (long long)(blockIdx.z % PIECES) * 1024 + threadIdx.x * 4, size = P * STATE_DIM;
    float4 h = make_float4(0.f, 0.f, 0.f, 0.f);
    if (join.from && entered >= 0)
        h = *(const float4 *)(join.from + ((long long)entered * shape.heads + head) * size + own);
    for (int i = 0; i < sequence.count; i++) {
        const int at = reverse ? sequence.first + sequence.count - 1 - i : sequence.first + i;
        const long long place = ((long long)at * shape.heads + head) * size + own;
        const float4 local = *(const float4 *)(join.local + place);
        float sum = 0.f;
        for (int k = threadIdx.x & 31; k < segments[at].count; k += 32)
            sum += s[((long long)(segments[at].first + k) * shape.heads + head) * Q + Q - 1];
        for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
        const float through = exp2_fast(sum);
        *(float4 *)(join.in + place) = h;
        h.x = through * h.x + local.x, h.y = through * h.y + local.y;
        h.z = through * h.z + local.z, h.w = through * h.w + local.w;
    }
    if (join.to && left >= 0) *(float4 *)(join.to + ((long long)left * shape.heads + head) * size + own) = h;
}
