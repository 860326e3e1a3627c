// Before and after: steps and decays of the positions, and what follows from the sums of the other stages.
//
//   v = raw + bias,  dt = clamp(softplus(v)),  log a = A dt         (RAW)    or dt and log a as given
//   s_t = log2(a_0 ... a_t) inside the chunk
//
// and backwards, with the sums a chunk of `backward_chunks`:
//
//   dlog a_t = sum_{i>=t>j} K_ij + sum_{i>=t} <dY_i, e^{s_i} C_i H> + sum_{j<t} dt_j c_j + e^{s_Q} <dH, H>
//   ddt_t    = sum_i (S L R)_it + c_t,    c_j = e^{s_Q - s_j} <X_j, dH B_j>
//   draw_t   = (ddt_t + A dlog a_t) softplus'(v_t) inside the limits,   dA = sum dt dlog a,   dbias = sum draw
#include "common/softplus.cuh"
#include "ssd/sm90/backward.cuh"

constexpr int HEADS = 32;    // heads a block
constexpr int THREADS = 256; // 8 warps, each 4 heads
constexpr int SUMS = 6;      // vectors a chunk, slice and band: see `backward_chunks`

// Heads, not slices.
DEVICE int whole_heads(const Shape &shape) { return shape.heads >> shape.slice_bits; }

// How raw steps become dt and log a. `raw` is null if they are given.
struct Steps {
    const void *raw;      // (batch, len, heads) f32, or of the storage type
    const float *a;       // (heads)
    const float *bias;    // (heads) or null
    const float *dt;      // (batch, len, heads)
    const float *log_a;   // (batch, len, heads)
    float lower, upper;
    int softplus, narrow; // narrow: raw is of the storage type
    long long pitch;      // of raw, from one position to the next

    DEVICE float read(long long position, int head) const {
        const long long at = position * pitch + head;
        if (narrow) return unpack((u32)((const storage *)raw)[at]).x;
        return ((const float *)raw)[at];
    }
};

DEVICE void read4(float (&to)[4], const float *from) {
    const float4 v = *(const float4 *)from;
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
DEVICE void add4(float (&to)[4], const float *from) {
    const float4 v = *(const float4 *)from;
    to[0] += v.x, to[1] += v.y, to[2] += v.z, to[3] += v.w;
}

// Grid (chunks, whole heads / 32), 256 threads.
//   s, dt: [chunk][head][128], largest: [chunk][head]: the largest |dt_j| e^{s_Q - s_j}
extern "C" __global__ void __launch_bounds__(THREADS)
    ssd_backward_steps(Shape shape, Steps from, const Chunk *chunks, float *s, float *dt, float *largest) {
    __shared__ float steps[Q][HEADS + 1], logs[Q][HEADS + 1];
    const Chunk k = chunks[blockIdx.x];
    int first = blockIdx.y * HEADS, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int head = first + lane, heads = whole_heads(shape), slices = 1 << shape.slice_bits;
    for (int t = warp; t < Q; t += THREADS / 32) {
        float step = 0.f, log_a = 0.f;
        if (t < k.len && head < heads) {
            long long at = shape.position(k, t) * heads + head;
            if (from.raw) {
                float v = from.read(shape.position(k, t), head) + (from.bias ? from.bias[head] : 0.f);
                step = squash_step(v, from.softplus, from.lower, from.upper).dt;
                log_a = from.a[head] * step;
            } else {
                step = from.dt[at];
                log_a = from.log_a[at];
            }
        }
        // A decay that no f32 can hold is zero all the same at 2^-160, and keeps the sums short.
        log_a *= LOG2E;
        steps[t][lane] = step;
        logs[t][lane] = log_a < -160.f ? -160.f : log_a;
    }
    __syncthreads();
    for (int h = warp; h < HEADS && first + h < heads; h += THREADS / 32) {
        float v[4], w[4], sum = 0.f;
        for (int i = 0; i < 4; i++) {
            v[i] = sum += logs[lane * 4 + i][h];
            w[i] = steps[lane * 4 + i][h];
        }
        float before = sum;
        for (int d = 1; d < 32; d *= 2) {
            float other = __shfl_up_sync(~0u, before, d);
            if (lane >= d) before += other;
        }
        before = __shfl_up_sync(~0u, before, 1);
        if (lane == 0) before = 0.f;
        const float last = __shfl_sync(~0u, before + v[3], 31);
        float most = 0.f;
        for (int i = 0; i < 4; i++) most = fmaxf(most, fabsf(w[i]) * exp2_fast(last - (before + v[i])));
        most = warp_most(most);
        const long long place = ((long long)blockIdx.x * heads + first + h) << shape.slice_bits;
        if (lane < slices) largest[place + lane] = most;
        long long at = place * Q + lane * 4;
        for (int i = 0; i < slices; i++, at += Q) {
            *(float4 *)(s + at) = make_float4(before + v[0], before + v[1], before + v[2], before + v[3]);
            *(float4 *)(dt + at) = make_float4(w[0], w[1], w[2], w[3]);
        }
    }
}

// Grid (chunks, whole heads / 32), 256 threads.
//   sums: [chunk][head][band][6][128], passed: [chunk][head][band][8], same: [chunk][group][128]: as `backward_chunks` leaves
//     them
//   d_dt: (batch, len, whole heads) of raw (or of dt), d_log_a: the same, or null with raw
//   parts: [chunk][3][whole head] of dA, dbias, dD
extern "C" __global__ void __launch_bounds__(THREADS)
    ssd_backward_steps_vjp(Shape shape, Steps from, const Chunk *chunks, const float *s, const float *dt,
                           const float *sums, const float *passed, const float *same_scores, float *d_dt, float *d_log_a, float *parts) {
    __shared__ float first_out[Q][HEADS + 1], second_out[Q][HEADS + 1];
    const Chunk k = chunks[blockIdx.x];
    int first = blockIdx.y * HEADS, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int heads = whole_heads(shape), slices = 1 << shape.slice_bits;
    if (from.raw) { // v, read along heads
        const float bias = from.bias && first + lane < heads ? from.bias[first + lane] : 0.f;
#pragma unroll 4
        for (int t = warp; t < k.len; t += THREADS / 32)
            if (first + lane < heads) first_out[t][lane] = from.read(shape.position(k, t), first + lane) + bias;
    }
    __syncthreads();
    for (int h = warp; h < HEADS && first + h < heads; h += THREADS / 32) {
        const int head = first + h, group = head / (heads / shape.groups);
        const long long at = ((long long)blockIdx.x * heads + head) << shape.slice_bits; // the first slice
        float row[4] = {}, column[4] = {}, skip[4] = {}, state[4] = {}, step[4], same[4];
        read4(step, dt + at * Q + lane * 4);
        read4(same, same_scores + ((long long)blockIdx.x * shape.groups + group) * Q + lane * 4);
        float passed_sum = 0.f;
#pragma unroll 1
        for (int i = 0; i < slices * BANDS; i++) {
            const float *own = sums + (at * BANDS + i) * SUMS * Q + lane * 4;
            add4(state, own + 4 * Q);
            add4(row, own + 5 * Q);
            if (i % BANDS == 0) {
                add4(row, own);
                add4(column, own + Q);
                // Columns of the first half, and rows of the second, of the block left of the diagonal.
                add4(lane < 16 ? column : row, own + 2 * Q);
                add4(skip, own + 3 * Q);
            }
            float part[2][4];
            read4(part[0], passed + (at * BANDS + i) * 8);
            read4(part[1], passed + (at * BANDS + i) * 8 + 4);
            for (int k = 0; k < 2; k++) passed_sum += (part[k][0] + part[k][1]) + (part[k][2] + part[k][3]);
        }
        float after[4], before[4], after_sum = 0.f, before_sum = 0.f;
        for (int i = 3; i >= 0; i--) after[i] = after_sum += row[i] - step[i] * column[i];
        for (int i = 0; i < 4; i++) {
            before[i] = before_sum;
            before_sum += step[i] * state[i];
        }
        float later = after_sum, earlier = before_sum;
        for (int d = 1; d < 32; d *= 2) {
            float down = __shfl_down_sync(~0u, later, d), up = __shfl_up_sync(~0u, earlier, d);
            if (lane + d < 32) later += down;
            if (lane >= d) earlier += up;
        }
        later = __shfl_down_sync(~0u, later, 1);
        earlier = __shfl_up_sync(~0u, earlier, 1);
        if (lane == 31) later = 0.f;
        if (lane == 0) earlier = 0.f;
        const float through = exp2_fast(s[at * Q + Q - 1]) * passed_sum;
        float da = 0.f, dbias = 0.f, dd = (skip[0] + skip[1]) + (skip[2] + skip[3]);
        for (int i = 0; i < 4; i++) {
            int t = lane * 4 + i;
            if (t >= k.len) continue;
            float dlog = (later + after[i]) + (earlier + before[i]) + through;
            float ddt = column[i] + same[i] * skip[i] + state[i];
            if (from.raw) {
                const float slope = squash_step(first_out[t][h], from.softplus, from.lower, from.upper).slope;
                da += step[i] * dlog;
                const float draw = slope != 0.f ? (ddt + from.a[head] * dlog) * slope : 0.f;
                dbias += draw;
                first_out[t][h] = draw;
            } else {
                first_out[t][h] = ddt;
                second_out[t][h] = dlog;
            }
        }
        for (int d = 16; d > 0; d /= 2) {
            da += __shfl_xor_sync(~0u, da, d);
            dbias += __shfl_xor_sync(~0u, dbias, d);
            dd += __shfl_xor_sync(~0u, dd, d);
        }
        if (lane == 0) {
            float *part = parts + (long long)blockIdx.x * 3 * heads + head;
            part[0] = da;
            part[heads] = dbias;
            part[2 * heads] = dd;
        }
    }
    __syncthreads();
    for (int t = warp; t < k.len; t += THREADS / 32) {
        if (first + lane >= heads) continue;
        long long at = shape.position(k, t) * heads + first + lane;
        d_dt[at] = first_out[t][lane];
        if (!from.raw) d_log_a[at] = second_out[t][lane];
    }
}

// da, dbias, dd: (whole heads), sums over chunks of parts: [chunk][3][whole head], in a fixed order; a null one is left out.
// Grid (whole heads, 3), 128 threads.
extern "C" __global__ void __launch_bounds__(128)
    ssd_backward_sum(Shape shape, const float *parts, float *da, float *dbias, float *dd) {
    __shared__ float warps[4];
    float *out = blockIdx.y == 0 ? da : blockIdx.y == 1 ? dbias : dd;
    if (!out) return;
    float sum = 0.f;
    for (int k = threadIdx.x; k < shape.chunks; k += 128)
        sum += parts[((long long)k * 3 + blockIdx.y) * whole_heads(shape) + blockIdx.x];
    for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x >> 5] = sum;
    __syncthreads();
    if (threadIdx.x == 0) out[blockIdx.x] = (warps[0] + warps[1]) + (warps[2] + warps[3]);
}

// out = the parts' sum in their order, in the storage type. Grid (ceil(count / 1024)), 256 threads, 4 elements each.
//   parts: [number][count] f32, out: (count)
extern "C" __global__ void __launch_bounds__(THREADS)
    ssd_backward_join(long long count, int number, const float *parts, storage *out) {
    long long at = ((long long)blockIdx.x * THREADS + threadIdx.x) * 4;
    if (at >= count) return;
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
    for (int i = 0; i < number; i++) {
        float4 part = *(const float4 *)(parts + i * count + at);
        sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
    }
    *(uint2 *)(out + at) = make_uint2(pack(sum.x, sum.y), pack(sum.z, sum.w));
}
