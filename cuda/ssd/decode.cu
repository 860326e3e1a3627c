// One decoding step: the state of every sequence of a batch advances by one position, in place.
//
//   h = exp(dt A) h + dt x bᵀ,   y = h c + d x      per sequence and head; dt = clamp(softplus(raw + bias))
//
// x, y   (batch, heads, HEAD_DIM)   Stored      b, c (batch, groups, STATE_DIM)  Stored      raw dt (batch, heads)  float
// a, bias (heads), d (heads) or (heads, HEAD_DIM)  float
// state  (slots, heads, HEAD_DIM, STATE_DIM)  STATE; sequence k owns slot slots[k], or k if there is no table
//
// Grid (parts of WARPS * ROWS rows of HEAD_DIM, heads, batch), block 32 * WARPS. No shared memory, no barrier.
// Arithmetic is float whatever is stored. A sequence's bits do not depend on the others in the batch.
//
// Defines: STORED_.. but not f64, STATE (float, bf16 or f16), HEAD_DIM, STATE_DIM, WARPS, STEPS (a power of two: rows of a lane).
#include "common/beside.cuh"
#include "common/scalar.cuh"
#include "common/softplus.cuh"
#include "common/sums.cuh"

namespace decode {

// Numbers that one 16-byte access moves, or fewer where rows of the state are not made of such.
constexpr int divisor(int n, int of) { return of % n == 0 ? n : divisor(n / 2, of); }
constexpr int VEC = divisor(16 / (int)sizeof(STATE), STATE_DIM);
constexpr int lanes(int n) { return n * VEC >= STATE_DIM || n == 32 ? n : lanes(2 * n); }
constexpr int LANES = lanes(1);                                            // lanes that share a row
constexpr int COLUMNS = (STATE_DIM + LANES * VEC - 1) / (LANES * VEC);     // accesses of a lane to a row
constexpr int SIDE_BY_SIDE = 32 / LANES;                                   // rows that a warp reads at once
constexpr int OWN = STEPS < LANES ? STEPS : LANES;                         // rows of a lane at a time
constexpr int ROWS = OWN * SIDE_BY_SIDE;                                   // rows of a warp at a time
constexpr bool ROWS_FIT = HEAD_DIM % (WARPS * ROWS) == 0, COLUMNS_FIT = STATE_DIM % (LANES * VEC) == 0;
constexpr bool X_LAST = OWN * COLUMNS >= 4;                                // f32, and 16 bits where states fill the device: x behind the step
constexpr int WARPS_THERE = sizeof(STATE) == 4 ? 40 : 32;                  // warps of a multiprocessor that there are registers for

// What one access moves: VEC numbers, PER of them a word, so that 16-bit numbers take half of a register.
constexpr int PER = sizeof(STATE) < 4 && VEC % 2 == 0 ? 2 : 1;
template <int BYTES> struct Word { typedef u32 type; };
template <> struct Word<2> { typedef u16 type; };
typedef Word<PER * sizeof(STATE)>::type word;
struct alignas(VEC * sizeof(STATE)) Pack { word w[VEC / PER]; };

// One access of a Pack. Volatile, so that all loads are on their way before what is computed from the first of them.
template <class P> __device__ __forceinline__ P load_pack(const STATE* from) {
    P pack;
    if constexpr (sizeof(P) == 16) {
        asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(pack.w[0]), "=r"(pack.w[1]), "=r"(pack.w[2]), "=r"(pack.w[3]) : "l"(from));
    } else {
        pack = *reinterpret_cast<const P*>(from);
    }
    return pack;
}
template <class P> __device__ __forceinline__ void store_pack(STATE* to, const P& pack) {
    if constexpr (sizeof(P) == 16) {
        asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                     :: "l"(to), "r"(pack.w[0]), "r"(pack.w[1]), "r"(pack.w[2]), "r"(pack.w[3]) : "memory");
    } else {
        *reinterpret_cast<P*>(to) = pack;
    }
}

// The numbers of a word, and back.
__device__ __forceinline__ float expand(word w, int k, float) { return __uint_as_float(w); }
template <class S> __device__ __forceinline__ float expand(word w, int k, S) { return widen(S{(u16)((u32)w >> 16 * k)}); }
__device__ __forceinline__ word compress(float (&v)[PER], float) { return __float_as_uint(v[0]); }
__device__ __forceinline__ word compress(float (&v)[PER], bf16) {
    u32 w;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(v[PER - 1]), "f"(v[0]));
    return w;
}
__device__ __forceinline__ word compress(float (&v)[PER], f16) {
    u32 w;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(v[PER - 1]), "f"(v[0]));
    return w;
}

// COUNT numbers, together where they begin at a multiple of their size.
template <int COUNT> __device__ __forceinline__ void load_numbers(float (&to)[COUNT], const Stored* from) {
    struct alignas(COUNT * sizeof(Stored)) Few { Stored v[COUNT]; } few;
    if ((u64)from % sizeof(Few) == 0) {
        few = *reinterpret_cast<const Few*>(from);
    } else {
#pragma unroll
        for (int v = 0; v < COUNT; v++) few.v[v] = from[v];
    }
#pragma unroll
    for (int v = 0; v < COUNT; v++) to[v] = widen(few.v[v]);
}

// A block's part of a state, if all its rows are there and it is made of pieces of 16 bytes, on its way to the second-level cache. Nothing is read, so it does
// not matter whether a kernel before is still writing there.
__device__ __forceinline__ void ask_for(const STATE* part) {
#if __CUDA_ARCH__ >= 900
    constexpr int BYTES = WARPS * ROWS * STATE_DIM * (int)sizeof(STATE);
    if (ROWS_FIT && BYTES % 16 == 0 && threadIdx.x == 0)
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(part), "r"(BYTES) : "memory");
#endif
}

}  // namespace decode

struct DecodeArguments {
    const Stored *x, *b, *c;
    const float* dt;
    const float *a, *bias, *d;   // bias, d: null if absent
    STATE* state;
    const int* slots;            // null: sequence k owns slot k
    Stored* y;
    i64 x_pitch, b_pitch, c_pitch, dt_pitch, y_pitch;  // elements from one sequence to the next
    int heads, groups, d_width;  // d_width: 1 or HEAD_DIM
    int softplus;
    float dt_min, dt_max;
};

extern "C" __global__ void __launch_bounds__(32 * WARPS, decode::WARPS_THERE / WARPS) ssd_decode(const DecodeArguments in) {
    using namespace decode;
    let_next_start();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y;
    const i64 sequence = blockIdx.z;
    const i64 slot = in.slots ? in.slots[sequence] : sequence;  // written by copies, which a launch waits for, and by no kernel
    STATE* h = in.state + (slot * in.heads + head) * (HEAD_DIM * (i64)STATE_DIM);
    ask_for(h + blockIdx.x * (WARPS * ROWS * STATE_DIM));
    wait_for_former();
    const int group = head / (in.heads / in.groups);
    const int start = lane % LANES * VEC;  // the first state entry of this lane
    const Stored* x_of = in.x + sequence * in.x_pitch + head * HEAD_DIM;
    const Stored* b_of = in.b + sequence * in.b_pitch + group * STATE_DIM;
    const Stored* c_of = in.c + sequence * in.c_pitch + group * STATE_DIM;
    const auto row_there = [](int p) { return ROWS_FIT || p < HEAD_DIM; };
    const auto column_there = [](int n) { return COLUMNS_FIT || n < STATE_DIM; };

    const int first = (blockIdx.x * WARPS + warp) * ROWS + lane / LANES * OWN;  // the first row of this lane
    STATE* mine = h + first * STATE_DIM + start;

    // Load: all of the state that this lane owns is on its way before anything else is asked for.
    Pack old[OWN][COLUMNS];
#pragma unroll
    for (int s = 0; s < OWN; s++) {
#pragma unroll
        for (int k = 0; k < COLUMNS; k++) {
            old[s][k] = Pack{};
            if (row_there(first + s) && column_there(start + k * LANES * VEC)) {
                old[s][k] = load_pack<Pack>(mine + (s * STATE_DIM + k * LANES * VEC));
            }
        }
    }
    const float raw = in.dt[sequence * in.dt_pitch + head] + (in.bias ? in.bias[head] : 0.f), a = in.a[head];
    float b[COLUMNS][VEC] = {}, c[COLUMNS][VEC] = {}, x[OWN] = {};
#pragma unroll
    for (int k = 0; k < COLUMNS; k++) {
        const int n = start + k * LANES * VEC;
        if (!column_there(n)) continue;
        load_numbers(b[k], b_of + n);
        load_numbers(c[k], c_of + n);
    }
    const auto load_x = [&] {
        if constexpr (ROWS_FIT) {
            load_numbers(x, x_of + first);
        } else {
#pragma unroll
            for (int s = 0; s < OWN; s++) x[s] = row_there(first + s) ? widen(x_of[first + s]) : 0.f;
        }
    };
    if constexpr (!X_LAST) load_x();
    // The row whose sum this lane is left with, and whether it writes it: others may have the same one.
    const int own = first + first_sum<LANES / 2, 1, OWN>(lane);
    const bool writes = row_there(own) && lane % (LANES / OWN) == 0;
    float skip = 0.f, x_own = 0.f;
    if (in.d && writes) skip = in.d[in.d_width == 1 ? head : head * HEAD_DIM + own], x_own = widen(x_of[own]);

    // Compute and store.
    const float dt = squash_step(raw, in.softplus, in.dt_min, in.dt_max).dt, decay = expf(dt * a);
    if constexpr (X_LAST) load_x();
    float sums[OWN];
#pragma unroll
    for (int s = 0; s < OWN; s++) {
        const float u = dt * x[s];
        float sum = 0.f;
#pragma unroll
        for (int k = 0; k < COLUMNS; k++) {
            Pack now;
#pragma unroll
            for (int w = 0; w < VEC / PER; w++) {
                float next[PER];
#pragma unroll
                for (int v = 0; v < PER; v++) {
                    const int i = w * PER + v;
                    next[v] = fmaf(decay, expand(old[s][k].w[w], v, STATE{}), u * b[k][i]);
                    sum = fmaf(next[v], c[k][i], sum);
                }
                now.w[w] = compress(next, STATE{});
            }
            if (row_there(first + s) && column_there(start + k * LANES * VEC)) {
                store_pack(mine + (s * STATE_DIM + k * LANES * VEC), now);
            }
        }
        sums[s] = sum;
    }
    share_sums<LANES / 2, 1>(sums, lane);
    if (writes) in.y[sequence * in.y_pitch + head * HEAD_DIM + own] = narrow<Stored>(fmaf(skip, x_own, sums[0]));
}
