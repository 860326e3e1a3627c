// One decoding step: the state of every sequence of a batch advances by one position, in place.
//
//   h = exp(dt A) h + dt x bᵀ,   y = h c + d x      per sequence and head; dt = clamp(softplus(raw + bias))
//
// x, y   (batch, heads, HEAD_DIM)   Stored      b, c (batch, groups, STATE_DIM)  Stored      raw dt (batch, heads)  float
// a, bias (heads), d (heads) or (heads, HEAD_DIM)  float
// state  (slots, heads, HEAD_DIM, STATE_DIM)  STATE; sequence k owns slot slots[k], or k if there is no table
//
// Grid (parts of HEAD_DIM, heads, batch), block 32 * WARPS; any number of parts. Shared memory: b, c and x as floats.
// Arithmetic is float whatever is stored. A sequence's bits do not depend on the others in the batch.
//
// Defines: STORED_.. but not f64, STATE (float, bf16 or f16), HEAD_DIM, STATE_DIM, WARPS, STEPS (a power of two: rows of a lane),
// RESIDENT (blocks of a multiprocessor, at least).
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
constexpr int WIDTH = COLUMNS * LANES * VEC;                               // STATE_DIM and what is added to fill accesses
constexpr int THREADS = 32 * WARPS;
constexpr bool ROWS_FIT = HEAD_DIM % (WARPS * ROWS) == 0, COLUMNS_FIT = STATE_DIM % (LANES * VEC) == 0;

// What one access moves: VEC numbers, PER of them a word, so that 16-bit numbers take half of a register.
constexpr int PER = sizeof(STATE) < 4 && VEC % 2 == 0 ? 2 : 1;
template <int BYTES> struct Word { typedef u32 type; };
template <> struct Word<2> { typedef u16 type; };
typedef Word<PER * sizeof(STATE)>::type word;
struct alignas(VEC * sizeof(STATE)) Pack { word w[VEC / PER]; };

// One access. Volatile, so that all loads are on their way before what is computed from the first of them.
__device__ __forceinline__ Pack load_pack(const STATE* from) {
    Pack pack;
    if constexpr (sizeof(Pack) == 16) {
        asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(pack.w[0]), "=r"(pack.w[1]), "=r"(pack.w[2]), "=r"(pack.w[3]) : "l"(from));
    } else {
        pack = *reinterpret_cast<const Pack*>(from);
    }
    return pack;
}
__device__ __forceinline__ void store_pack(STATE* to, const Pack& pack) {
    if constexpr (sizeof(Pack) == 16) {
        asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                     :: "l"(to), "r"(pack.w[0]), "r"(pack.w[1]), "r"(pack.w[2]), "r"(pack.w[3]) : "memory");
    } else {
        *reinterpret_cast<Pack*>(to) = pack;
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

extern "C" __global__ void __launch_bounds__(32 * WARPS, RESIDENT) ssd_decode(const DecodeArguments in) {
    using namespace decode;
    __shared__ __align__(16) float shared_b[WIDTH], shared_c[WIDTH], shared_x[HEAD_DIM];
    let_next_start();
    wait_for_former();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y, group = head / (in.heads / in.groups);
    const i64 sequence = blockIdx.z;
    const i64 slot = in.slots ? in.slots[sequence] : sequence;
    const int start = lane % LANES * VEC;  // the first state entry of this lane
    STATE* h = in.state + (slot * in.heads + head) * (HEAD_DIM * (i64)STATE_DIM);
    const Stored* x_of = in.x + sequence * in.x_pitch + head * HEAD_DIM;
    const auto row_there = [](int p) { return ROWS_FIT || p < HEAD_DIM; };
    const auto column_there = [](int n) { return COLUMNS_FIT || n < STATE_DIM; };

    for (int part = blockIdx.x * WARPS * ROWS; part < HEAD_DIM; part += gridDim.x * WARPS * ROWS) {
        const int first = part + warp * ROWS + lane / LANES;  // the first row of this lane
        STATE* mine = h + first * STATE_DIM + start;

        // Load: all of the state that this lane owns is on its way before anything else is asked for.
        Pack old[OWN][COLUMNS];
#pragma unroll
        for (int s = 0; s < OWN; s++) {
            const int p = first + s * SIDE_BY_SIDE;
#pragma unroll
            for (int k = 0; k < COLUMNS; k++) {
                const int n = start + k * LANES * VEC;
                if (row_there(p) && column_there(n)) old[s][k] = load_pack(mine + (s * SIDE_BY_SIDE * STATE_DIM + k * LANES * VEC));
                else old[s][k] = Pack{};
            }
        }
        const float raw = in.dt[sequence * in.dt_pitch + head] + (in.bias ? in.bias[head] : 0.f), a = in.a[head];
        // What all rows share goes through shared memory, so that any alignment will do; the same numbers in every round.
        const Stored* b_of = in.b + sequence * in.b_pitch + group * STATE_DIM;
        const Stored* c_of = in.c + sequence * in.c_pitch + group * STATE_DIM;
#pragma unroll
        for (int i = 0; i < (WIDTH + THREADS - 1) / THREADS; i++) {
            const int n = threadIdx.x + i * THREADS;
            if (n >= WIDTH) break;
            shared_b[n] = column_there(n) ? widen(b_of[n]) : 0.f;
            shared_c[n] = column_there(n) ? widen(c_of[n]) : 0.f;
        }
#pragma unroll
        for (int i = 0; i < (HEAD_DIM + THREADS - 1) / THREADS; i++) {
            const int p = threadIdx.x + i * THREADS;
            if (p < HEAD_DIM) shared_x[p] = widen(x_of[p]);
        }
        // The row whose sum this lane is left with, and whether it writes it: others may have the same one.
        const int own = first + first_sum<LANES / 2, 1, OWN>(lane) * SIDE_BY_SIDE;
        const bool writes = row_there(own) && lane % (LANES / OWN) == 0;
        float skip = 0.f;
        if (in.d && writes) skip = in.d[in.d_width == 1 ? head : head * HEAD_DIM + own];
        __syncthreads();
        float b[COLUMNS][VEC], c[COLUMNS][VEC];
#pragma unroll
        for (int k = 0; k < COLUMNS; k++) {
#pragma unroll
            for (int v = 0; v < VEC; v++) {
                b[k][v] = shared_b[start + (k * LANES * VEC + v)];
                c[k][v] = shared_c[start + (k * LANES * VEC + v)];
            }
        }

        // Compute and store.
        const float dt = squash_step(raw, in.softplus, in.dt_min, in.dt_max).dt, decay = expf(dt * a);
        float sums[OWN];
#pragma unroll
        for (int s = 0; s < OWN; s++) {
            const int p = first + s * SIDE_BY_SIDE;
            const float u = row_there(p) ? dt * shared_x[p] : 0.f;
            float sum = 0.f;
#pragma unroll
            for (int k = 0; k < COLUMNS; k++) {
                const int n = start + k * LANES * VEC;
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
                if (row_there(p) && column_there(n)) store_pack(mine + (s * SIDE_BY_SIDE * STATE_DIM + k * LANES * VEC), now);
            }
            sums[s] = sum;
        }
        share_sums<LANES / 2, 1>(sums, lane);
        if (writes) in.y[sequence * in.y_pitch + head * HEAD_DIM + own] = narrow<Stored>(fmaf(skip, shared_x[own], sums[0]));
    }
}
