// One tile of positions against all others on one side of it: what the quadratic form and its cotangents are made of.
//
//     out_f = sum_o L_fo <left_f, right_o> values_o + weight_f state left_f
//
// over positions o before f (BACK: L_fo = a_f .. a_{o+1}) or behind it (FORTH: L_fo = a_o .. a_{f+1}). In this form:
//
//     y   BACK   left c   right b   values u    state the one that enters
//     dc  BACK   left dy  right u   values b    state the same, transposed
//     du  FORTH  left b   right c   values dy   state the cotangent of the one that leaves
//     db  FORTH  left u   right dy  values c    state the same, transposed
//
// Block: 256 threads. Scores: thread (tid / 32, tid % 32) has pairs f = 4 (tid / 32) + q, o = tid % 32. Output: thread has
// f = tid / 8 and every eighth number from tid % 8.
#pragma once
#include "common/exact.cuh"

constexpr int TILE = 32;  // positions
constexpr int SLAB = 64;  // numbers of a value at once
enum Direction { BACK, FORTH };

struct Shared {
    Acc left[TILE][TILE + 1];
    Acc right[TILE][TILE + 1];
    Acc weight[TILE][TILE + 1];
    Acc values[TILE][SLAB + 1];
    Acc log_a[TILE]; // of the tile at hand
    Acc near[TILE];  // sum of log a between a position of the fixed tile and the tile's border
    Acc far[TILE];   // the same of the other tile
    Acc total;       // sum of the other tile
};

// Position t of `len`, number k: an operand as a function, so that u = dt x needs no memory.
struct Plain {
    const Stored *at;
    i64 pitch;
    __device__ Acc operator()(int t, int k) const { return widen(at[t * pitch + k]); }
};
struct Scaled {
    const Stored *at;
    i64 pitch;
    const Acc *scale;
    int heads;
    __device__ Acc operator()(int t, int k) const { return scale[(i64)t * heads] * widen(at[t * pitch + k]); }
};
// state(v, k), stored (head_dim, state_dim): value index first, or transposed.
struct ByValue {
    const Acc *at;
    __device__ Acc operator()(int v, int k) const { return at[(i64)v * STATE_DIM + k]; }
};
struct ByKey {
    const Acc *at;
    __device__ Acc operator()(int v, int k) const { return at[(i64)k * STATE_DIM + v]; }
};

// What becomes of the parts of a sum that nobody wants apart.
struct Nothing {
    __device__ void operator()(int, int, Acc) const {}
};

// log a of a tile, and its sums up to a position (towards == BACK) or from behind it to the tile's end.
__device__ void load_decays(Shared &s, Acc *sums, const Acc *log_a, int heads, int first, int count, Direction towards) {
    __syncthreads();
    if (threadIdx.x < TILE) s.log_a[threadIdx.x] = threadIdx.x < count ? log_a[(i64)(first + threadIdx.x) * heads] : Acc(0);
    __syncthreads();
    if (threadIdx.x < TILE) {
        Acc sum = 0;
        const int t = threadIdx.x;
        if (towards == BACK)
            for (int k = 0; k <= t; k++) sum += s.log_a[k];
        else
            for (int k = TILE - 1; k > t; k--) sum += s.log_a[k];
        sums[t] = sum;
        if (t == TILE - 1) {
            Acc all = 0;
            for (int k = 0; k < TILE; k++) all += s.log_a[k];
            s.total = all;
        }
    }
    __syncthreads();
}

// <left_f, right_o> of two tiles: `score[q]` of this thread's pairs.
template <int K, class Left, class Right>
__device__ void scores(Shared &s, Acc (&score)[4], Left left, int first_f, int count_f, Right right, int first_o, int count_o) {
    const int f = threadIdx.x / 32 * 4, o = threadIdx.x % 32;
#pragma unroll
    for (int q = 0; q < 4; q++) score[q] = 0;
    for (int k0 = 0; k0 < K; k0 += TILE) {
        __syncthreads();
        for (int e = threadIdx.x; e < TILE * TILE; e += 256) {
            const int t = e / TILE, k = e % TILE;
            s.left[t][k] = t < count_f && k0 + k < K ? left(first_f + t, k0 + k) : Acc(0);
            s.right[t][k] = t < count_o && k0 + k < K ? right(first_o + t, k0 + k) : Acc(0);
        }
        __syncthreads();
        for (int k = 0; k < TILE; k++)
#pragma unroll
            for (int q = 0; q < 4; q++) score[q] += s.left[f + q][k] * s.right[o][k];
    }
}

// L_fo of this thread's pairs; 0 for pairs that are none, those of a position with itself where the diagonal is free. `between`: sum of log a of the tiles between; `same`: the two
// tiles are one, of which s.log_a is known.
template <int DIRECTION>
__device__ void decays(const Shared &s, Acc (&decay)[4], int free_diagonal, Acc between, bool same, int count_f, int count_o) {
    const int o = threadIdx.x % 32;
#pragma unroll
    for (int q = 0; q < 4; q++) {
        const int f = threadIdx.x / 32 * 4 + q;
        bool pair = f < count_f && o < count_o;
        Acc sum;
        if (same) {
            pair = pair && (DIRECTION == BACK ? f - o : o - f) >= free_diagonal;
            sum = 0;
            for (int k = min(f, o) + 1; k <= max(f, o); k++) sum += s.log_a[k];
        } else {
            sum = s.near[f] + between + s.far[o];
        }
        decay[q] = pair ? exp(sum) : Acc(0);
    }
}

// One tile against one side: `out[m]` of this thread, number m * 8 + tid % 8 of position tid / 8. Calls
// `apart(f, v, value)` with what the other tiles give and `stated(f, v, value)` with what the state gives, for every
// number that exists, so that they can be used apart.
template <int DIRECTION, int K, int V, class Left, class Right, class Values, class State, class Apart, class Stated>
__device__ void sweep(Shared &s, const Head &at, int tile, const Acc *log_a, Left left, Right right, Values values,
                      State state, Acc (&out)[(V + 7) / 8], Apart apart, Stated stated) {
    const int tiles = (at.span.len + TILE - 1) / TILE;
    const int first = tile * TILE, count = min(TILE, at.span.len - first);
    const int f = threadIdx.x / 8, lane = threadIdx.x % 8;
#pragma unroll
    for (int m = 0; m < (V + 7) / 8; m++) out[m] = 0;

    load_decays(s, s.near, log_a, at.heads, first, count, DIRECTION == BACK ? BACK : FORTH);
    Acc between = 0;
    const int step = DIRECTION == BACK ? -1 : 1;
    // The other tiles, nearest first; then the tile itself.
    for (int k = 1;; k++) {
        int other = tile + step * k;
        const bool same = other < 0 || other >= tiles;
        if (same) {
            other = tile;
#pragma unroll
            for (int m = 0; m < (V + 7) / 8; m++)
                if (f < count && m * 8 + lane < V) apart(first + f, m * 8 + lane, out[m]);
        }
        const int first_o = other * TILE, count_o = min(TILE, at.span.len - first_o);
        load_decays(s, s.far, log_a, at.heads, first_o, count_o, DIRECTION == BACK ? FORTH : BACK);
        Acc score[4], decay[4];
        scores<K>(s, score, left, first, count, right, first_o, count_o);
        decays<DIRECTION>(s, decay, at.free_diagonal, between, same, count, count_o);
#pragma unroll
        for (int q = 0; q < 4; q++) s.weight[threadIdx.x / 32 * 4 + q][threadIdx.x % 32] = decay[q] * score[q];
#pragma unroll
        for (int v0 = 0; v0 < V; v0 += SLAB) {
            __syncthreads();
            for (int e = threadIdx.x; e < TILE * SLAB; e += 256) {
                const int o = e / SLAB, v = e % SLAB;
                s.values[o][v] = o < count_o && v0 + v < V ? values(first_o + o, v0 + v) : Acc(0);
            }
            __syncthreads();
            for (int o = 0; o < TILE; o++) {
                const Acc weight = s.weight[f][o];
#pragma unroll
                for (int m = 0; m < SLAB / 8; m++)
                    if (v0 / 8 + m < (V + 7) / 8) out[v0 / 8 + m] += weight * s.values[o][m * 8 + lane];
            }
        }
        if (same) break;
        between += s.total;
    }

    // The state: `between` is now the sum of all tiles on this side.
    if (state.at == nullptr) return;
    const Acc weight = exp(s.near[f] + between);
#pragma unroll
    for (int v0 = 0; v0 < V; v0 += SLAB) {
        Acc part[SLAB / 8];
#pragma unroll
        for (int m = 0; m < SLAB / 8; m++) part[m] = 0;
        for (int k0 = 0; k0 < K; k0 += TILE) {
            __syncthreads();
            for (int e = threadIdx.x; e < TILE * TILE; e += 256) {
                const int t = e / TILE, k = e % TILE;
                s.left[t][k] = t < count && k0 + k < K ? left(first + t, k0 + k) : Acc(0);
            }
            for (int e = threadIdx.x; e < TILE * SLAB; e += 256) {
                const int k = e / SLAB, v = e % SLAB;
                s.values[k][v] = k0 + k < K && v0 + v < V ? state(v0 + v, k0 + k) : Acc(0);
            }
            __syncthreads();
            for (int k = 0; k < TILE; k++)
#pragma unroll
                for (int m = 0; m < SLAB / 8; m++) part[m] += s.left[f][k] * s.values[k][m * 8 + lane];
        }
#pragma unroll
        for (int m = 0; m < SLAB / 8; m++) {
            if (v0 / 8 + m < (V + 7) / 8) {
                const Acc value = weight * part[m];
                out[v0 / 8 + m] += value;
                if (f < count && v0 + m * 8 + lane < V) stated(first + f, v0 + m * 8 + lane, value);
            }
        }
    }
}
