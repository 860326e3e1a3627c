// One decoding step of many states on Hopper: what decode.cu computes, bit for bit, at the rate of a copy.
//
//   h = exp(dt A) h + dt x bᵀ,   y = h c + d x      per sequence and head; dt = clamp(softplus(raw + bias))
//
// Tensors as in decode.cu; the state, b and c start at multiples of 16 bytes and so do their rows.
//
// A tile is ROWS rows of a head's state, at most 16 KB that follow one another in memory. Each block walks every gridDim.x-th
// tile: a ring of tiles is brought in by bulk copies, changed in place and brought back the same way, so that nothing but
// arithmetic waits for memory. b, c and x of the next tile are read into registers meanwhile.
//
// Grid: any number of blocks, two a multiprocessor; block THREADS. Shared memory: STAGES tiles, SHARED_BYTES.
// Defines: STORED_.. but not f64, STATE (float, bf16 or f16), HEAD_DIM, STATE_DIM, STEPS: ROWS / (WARPS SIDE_BY_SIDE).
#include "common/hopper.cuh"
#include "ssd/decode.cuh"

namespace tiles {

constexpr int WARPS = 8, THREADS = 32 * WARPS, STAGES = 6;
constexpr int APART = WARPS * decode::SIDE_BY_SIDE;  // rows from one of a lane's to the next
constexpr int ROWS = decode::OWN * APART, PARTS = HEAD_DIM / ROWS;
constexpr int ROW_BYTES = STATE_DIM * (int)sizeof(STATE), BYTES = ROWS * ROW_BYTES;
constexpr int SHARED_BYTES = STAGES * (BYTES + 8);
static_assert(decode::OWN == STEPS && PARTS * ROWS == HEAD_DIM && BYTES <= 16384);
static_assert(decode::COLUMNS * decode::LANES * decode::VEC == STATE_DIM);

struct Tile {
    i64 sequence;
    int head, row;
};
__device__ __forceinline__ Tile tile_of(const DecodeArguments& in, int tile) {
    return {tile / PARTS / in.heads, tile / PARTS % in.heads, tile % PARTS * ROWS};
}

// Where it lies.
__device__ __forceinline__ STATE* state_of(const DecodeArguments& in, Tile t) {
    const i64 slot = in.slots ? in.slots[t.sequence] : t.sequence;
    return in.state + ((slot * in.heads + t.head) * HEAD_DIM + t.row) * STATE_DIM;
}

struct alignas(decode::VEC * sizeof(Stored) < 16 ? decode::VEC * sizeof(Stored) : 16) Vector {
    Stored v[decode::VEC];
};

// What a lane needs of a tile besides the state.
struct Inputs {
    Vector b[decode::COLUMNS], c[decode::COLUMNS];
    Stored x[decode::OWN];
    float raw, a, bias;
};
__device__ __forceinline__ Inputs inputs_of(const DecodeArguments& in, Tile t, int row, int column) {
    using namespace decode;
    const int group = t.head / (in.heads / in.groups);
    const Stored *b = in.b + t.sequence * in.b_pitch + group * STATE_DIM, *c = in.c + t.sequence * in.c_pitch + group * STATE_DIM;
    const Stored* x = in.x + t.sequence * in.x_pitch + t.head * HEAD_DIM + t.row + row;
    Inputs i;
#pragma unroll
    for (int k = 0; k < COLUMNS; k++) {
        i.b[k] = *reinterpret_cast<const Vector*>(b + column + k * LANES * VEC);
        i.c[k] = *reinterpret_cast<const Vector*>(c + column + k * LANES * VEC);
    }
#pragma unroll
    for (int s = 0; s < OWN; s++) i.x[s] = x[s * APART];
    i.raw = in.dt[t.sequence * in.dt_pitch + t.head], i.a = in.a[t.head], i.bias = in.bias ? in.bias[t.head] : 0.f;
    return i;
}

}  // namespace tiles

extern "C" __global__ void __launch_bounds__(tiles::THREADS, 2) ssd_decode_sm90(const DecodeArguments in, const int count) {
    using namespace decode;
    using namespace tiles;
    extern __shared__ __align__(128) char memory[];
    const u32 shared = shared_address(memory), full = shared + STAGES * BYTES;
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * SIDE_BY_SIDE + lane / LANES, column = lane % LANES * VEC;
    let_next_start();
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) barrier_init(full + 8 * s, 1);
        barrier_init_fence();
    }
    __syncthreads();
    wait_for_former();
    auto bring = [&](int tile, int stage) {
        barrier_expect(full + 8 * stage, BYTES);
        bulk_in(shared + stage * BYTES, state_of(in, tile_of(in, tile)), BYTES, full + 8 * stage);
    };
    if (threadIdx.x == 0)
        for (int s = 0; s < STAGES - 1; s++)
            if ((i64)blockIdx.x + (i64)s * gridDim.x < count) bring(blockIdx.x + s * gridDim.x, s);

    int stage = 0;
    u32 parity = 0;
    Inputs next = inputs_of(in, tile_of(in, min((int)blockIdx.x, count - 1)), row, column);
    for (int tile = blockIdx.x; tile < count; tile += gridDim.x) {
        const Tile t = tile_of(in, tile);
        const Inputs now = next;
        next = inputs_of(in, tile_of(in, min(tile + (int)gridDim.x, count - 1)), row, column);
        const Step step = step_of(in, now.raw, now.a, now.bias);
        char* h = memory + stage * BYTES + row * ROW_BYTES + column * (int)sizeof(STATE);
        float b[COLUMNS][VEC], c[COLUMNS][VEC], x[OWN], sums[OWN];
#pragma unroll
        for (int k = 0; k < COLUMNS; k++)
#pragma unroll
            for (int v = 0; v < VEC; v++) b[k][v] = widen(now.b[k].v[v]), c[k][v] = widen(now.c[k].v[v]);

        barrier_wait(full + 8 * stage, parity);
        Pack old[OWN][COLUMNS];
#pragma unroll
        for (int s = 0; s < OWN; s++)
#pragma unroll
            for (int k = 0; k < COLUMNS; k++)
                old[s][k] = *reinterpret_cast<const Pack*>(h + s * APART * ROW_BYTES + k * LANES * (int)sizeof(Pack));
#pragma unroll
        for (int s = 0; s < OWN; s++) {
            x[s] = widen(now.x[s]), sums[s] = 0.f;
#pragma unroll
            for (int k = 0; k < COLUMNS; k++)
                *reinterpret_cast<Pack*>(h + s * APART * ROW_BYTES + k * LANES * (int)sizeof(Pack)) =
                    advance(old[s][k], step.decay, step.dt * x[s], b[k], c[k], sums[s]);
        }
        fence_async();
        __syncthreads();
        if (threadIdx.x == 0) {
            bulk_out(state_of(in, t), shared + stage * BYTES, BYTES);
            const i64 ahead = tile + (i64)(STAGES - 1) * gridDim.x;
            if (ahead < count) {
                bulk_out_wait<1>();  // the tile before is back, and its place free
                bring((int)ahead, stage == 0 ? STAGES - 1 : stage - 1);
            }
        }
        write(in, sums, x, t.sequence, t.head, t.row + row, APART);
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
    if (threadIdx.x == 0) bulk_out_wait<0>();  // before the block's memory goes
}
