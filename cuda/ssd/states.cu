// States at the borders of spans: what one span adds to the state, and how states pass from span to span.
//
// log_a, dt: (rows, heads) Acc.  x, dy: (rows, heads * HEAD_DIM) Stored.  b, c: (rows, groups * STATE_DIM) Stored.
// added, gamma: (spans, heads, HEAD_DIM, STATE_DIM) and (spans, heads) Acc.
#include "common/sweep.cuh"

// Left rows weighted and multiplied with right rows, 32 channels by 32 numbers of the state:
// added = sum_t weight_t left_t right_t^T, weight_t the decay to the end (FORTH) or since the start (BACK).
template <int DIRECTION, class Left, class Right>
__device__ void add_up(const Head &at, const Acc *log_a, Left left, Right right, Acc *added, Acc *gamma) {
    __shared__ Shared s;
    const int blocks_n = (STATE_DIM + TILE - 1) / TILE;
    const int p0 = blockIdx.z / blocks_n * TILE, n0 = blockIdx.z % blocks_n * TILE;
    const int tiles = (at.span.len + TILE - 1) / TILE;
    Acc out[4] = {0, 0, 0, 0}, outside = 0;
    for (int k = 0; k < tiles; k++) {
        const int tile = DIRECTION == FORTH ? tiles - 1 - k : k;
        const int first = tile * TILE, count = min(TILE, at.span.len - first);
        load_decays(s, s.near, log_a, at.heads, first, count, DIRECTION == FORTH ? FORTH : BACK);
        for (int e = threadIdx.x; e < TILE * TILE; e += 256) {
            const int t = e / TILE, k = e % TILE;
            const Acc weight = exp(s.near[t] + outside);
            s.left[t][k] = t < count && p0 + k < HEAD_DIM ? weight * left(first + t, p0 + k) : Acc(0);
            s.right[t][k] = t < count && n0 + k < STATE_DIM ? right(first + t, n0 + k) : Acc(0);
        }
        __syncthreads();
        for (int t = 0; t < count; t++)
#pragma unroll
            for (int q = 0; q < 4; q++) out[q] += s.left[t][threadIdx.x / 32 * 4 + q] * s.right[t][threadIdx.x % 32];
        outside += s.total;
    }
    const int n = n0 + threadIdx.x % 32;
    added += ((i64)blockIdx.x * at.heads + at.head) * HEAD_DIM * STATE_DIM;
#pragma unroll
    for (int q = 0; q < 4; q++) {
        const int p = p0 + threadIdx.x / 32 * 4 + q;
        if (p < HEAD_DIM && n < STATE_DIM) added[(i64)p * STATE_DIM + n] = out[q];
    }
    if (blockIdx.z == 0 && threadIdx.x == 0) gamma[(i64)blockIdx.x * at.heads + at.head] = exp(outside);
}

// added = sum_j w_j u_j b_j^T, u = dt x: what the span leaves behind when nothing enters it.
// Grid: (spans, heads, tiles of 32 x 32 of a state); block: 256.  Shared memory: up to 42 KiB, static.
extern "C" __global__ void __launch_bounds__(256)
    span_states(const Span *spans, Dims dims, const Acc *log_a, const Acc *dt, const Stored *x, const Stored *b, Acc *added,
                Acc *gamma) {
    const Head at(spans, dims, blockIdx.x, blockIdx.y);
    const Scaled u{at.channels(x, dims.x_pitch), dims.x_pitch, at.scalars(dt), at.heads};
    add_up<FORTH>(at, at.scalars(log_a), u, Plain{at.features(b, dims.b_pitch), dims.b_pitch}, added, gamma);
}

// added = sum_i g_i dy_i c_i^T: the cotangent of the state that enters, when the one that leaves has none.
// Grid, block and shared memory as above.
extern "C" __global__ void __launch_bounds__(256)
    span_cotangents(const Span *spans, Dims dims, const Acc *log_a, const Stored *dy, const Stored *c, Acc *added,
                    Acc *gamma) {
    const Head at(spans, dims, blockIdx.x, blockIdx.y);
    const Plain dys{at.channels(dy, dims.y_pitch), dims.y_pitch};
    add_up<BACK>(at, at.scalars(log_a), dys, Plain{at.features(c, dims.c_pitch), dims.c_pitch}, added, gamma);
}

// The scan over the spans [range.x, range.y) of one sequence: H <- gamma H + added. `added` is replaced by the H that
// each span starts from. Forwards, H is the state: from initial[enters] to last[leaves]. Backwards (`reverse` = 1) it is the
// cotangent: from initial[leaves] to last[enters]. A missing tensor is zero, or not wanted.
// sequences: (sequences) Span of whole sequences; ranges: (sequences) int2.
// A thread has PIECE neighbouring numbers and reads AHEAD spans before it writes one, since a walk of its own waits for memory.
// Grid: (sequences x blocks of 256 PIECE numbers of a state, heads); block: 256.  Shared memory: none.
struct Range {
    int begin, end;
};

constexpr int STATE_SIZE = HEAD_DIM * STATE_DIM, PIECE = STATE_SIZE % 4 == 0 ? 4 : 1, AHEAD = 8;
constexpr int PIECES = (STATE_SIZE + 256 * PIECE - 1) / (256 * PIECE); // of a state
struct alignas(sizeof(Acc) * PIECE < 16 ? sizeof(Acc) * PIECE : 16) Piece {
    Acc v[PIECE];
};

extern "C" __global__ void __launch_bounds__(256)
    state_passing(const Span *sequences, const Range *ranges, Dims dims, int reverse, const Acc *initial, const Acc *gamma,
                  Acc *added, Acc *last) {
    const int sequence = blockIdx.x / PIECES, k = (blockIdx.x % PIECES * 256 + threadIdx.x) * PIECE;
    const Head at(sequences, dims, sequence, blockIdx.y);
    if (k >= STATE_SIZE) return;
    const Range range = ranges[sequence];
    const Acc *from = at.state(initial, reverse ? at.span.leaves : at.span.enters);
    Acc *to = at.state(last, reverse ? at.span.enters : at.span.leaves);
    Piece h;
    for (int i = 0; i < PIECE; i++) h.v[i] = from ? from[k + i] : Acc(0);
    const int count = range.end - range.begin;
    for (int first = 0; first < count; first += AHEAD) {
        Piece found[AHEAD], *places[AHEAD];
        Acc factors[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            const int step = min(first + j, count - 1);
            const i64 span = (i64)(reverse ? range.end - 1 - step : range.begin + step) * at.heads + at.head;
            places[j] = reinterpret_cast<Piece *>(added + span * STATE_SIZE + k);
            found[j] = *places[j], factors[j] = gamma[span];
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            if (first + j >= count) break;
            *places[j] = h;
            for (int i = 0; i < PIECE; i++) h.v[i] = factors[j] * h.v[i] + found[j].v[i];
        }
    }
    if (!to) return;
    for (int i = 0; i < PIECE; i++) to[k + i] = h.v[i];
}
