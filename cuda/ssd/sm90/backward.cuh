// Sizes and tables that the stages of the backward pass share.
//
// A chunk is up to 128 positions of one sequence. Its numbers a position are kept as [chunk][head][128]: positions behind
// the chunk's end have dt = 0 and the sum of the last one before them, and every tile has zeros there, so they change nothing.
//
// A head of 128 is two of 64, its slices, that share steps and decays: the tensors have the same places either way, and
// `heads` are slices wherever nothing else is said. A state of 256 columns is two of 128, its bands, each with a tile and
// sizes of its own.
#pragma once
#include "ssd/sm90/hopper.cuh"

#ifndef STATE_DIM
#define STATE_DIM 128
#endif

constexpr int Q = 128;                          // positions in a chunk
constexpr int P = 64;                           // columns of a slice
constexpr int BANDS = STATE_DIM > 128 ? 2 : 1;  // of a state
constexpr int N = STATE_DIM / BANDS;            // columns of a band
constexpr int N_PANELS = N / 64;
constexpr u32 PANEL = Q * 128;                  // bytes of a panel of Q rows
constexpr u32 STATE_PANEL = P * 128;            // bytes of a panel of a state, (head_dim rows, 64 columns)
constexpr u32 STATE_BYTES = N_PANELS * STATE_PANEL;
// A number of a state is kept as one of f16, for tensors of f16 as the sum of two, and then one term lies behind the other: the
// cotangents of rates are sums that may cancel, and what one rounding adds to them is more than f16 is allowed.
#ifdef STORED_F16
constexpr int TERMS = 2;
#else
constexpr int TERMS = 1;
#endif
constexpr u32 KEPT_BYTES = TERMS * STATE_BYTES;

// What the walk in one direction says about a chunk, head and band: the largest number of X (forth) or dY (back) in the columns of
// each warp, and what its state as kept, in f16, is to be multiplied by.
struct Sizes {
    float most[4];
    float state;
    float unused[3];
};

// One chunk: its positions are start .. start + len of `row`.
struct Chunk {
    int row, start, len, sequence;
};

// One segment: chunks first .. first + count of one sequence; `enters` and `leaves`: the places in the tensors of states of
// what enters the first one and leaves the last one, or -1.
struct Segment {
    int first, count, enters, leaves;
};

// Shapes and pitches (elements from one position to the next) of the operator's tensors; a head has 2^slice_bits slices.
struct Shape {
    int len, heads, groups, chunks;
    long long x_pitch, dy_pitch, b_pitch, c_pitch;
    int slice_bits;

    DEVICE int heads_per_group() const { return heads / groups; }
    DEVICE long long position(const Chunk &k, int t) const { return (long long)k.row * len + k.start + t; }
};

// Where a band of a group begins in a row of B or C.
DEVICE int column_of(int group, int band) { return group * STATE_DIM + band * N; }

// Copies rows first .. first + ROWS of 64 elements into a panel, by one warp; those from `valid` on become zeros. `from` is
// row 0, and rows are `pitch` elements apart.
template <int ROWS>
DEVICE void copy_rows(u32 panel, const storage *from, long long pitch, int first, int valid, u32 lane) {
    const u32 c = lane & 7, r = first + (lane >> 3);
    const u32 even = panel + swizzled(r, c), odd = panel + swizzled(r + 4, c);
    const storage *row = from + r * pitch + c * 8;
    if (valid >= first + ROWS) {
#pragma unroll
        for (int k = 0; k < ROWS / 4; k++, row += 4 * pitch)
            copy_piece(((k & 1) ? odd - 512 : even) + k * 512, row, true);
    } else {
#pragma unroll 1
        for (int k = 0; k < ROWS / 4; k++, row += 4 * pitch) {
            const bool inside = (int)r + 4 * k < valid;
            copy_piece(panel + swizzled(r + 4 * k, c), inside ? row : from, inside);
        }
    }
}
