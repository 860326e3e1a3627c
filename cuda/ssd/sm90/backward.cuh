// Sizes and tables that the stages of the backward pass share.
//
// A chunk is up to 128 positions of one sequence. Its numbers a position are kept as [chunk][head][128]: positions behind
// the chunk's end have dt = 0 and the sum of the last one before them, and every tile has zeros there, so they change nothing.
#pragma once
#include "ssd/sm90/hopper.cuh"

#ifndef HEAD_DIM
#define HEAD_DIM 64
#endif
#ifndef STATE_DIM
#define STATE_DIM 128
#endif

constexpr int Q = 128;                          // positions in a chunk
constexpr int P = HEAD_DIM, N = STATE_DIM;      // head_dim, state_dim
constexpr int P_PANELS = P / 64, N_PANELS = N / 64;
constexpr u32 PANEL = Q * 128;                  // bytes of a panel of Q rows
constexpr u32 STATE_PANEL = P * 128;            // bytes of a panel of a state, (head_dim rows, 64 columns)
constexpr u32 STATE_BYTES = N_PANELS * STATE_PANEL;

// One chunk: its positions are start .. start + len of `row`.
struct Chunk {
    int row, start, len, sequence;
};

// One segment: chunks first .. first + count of one sequence; `enters` and `leaves`: the places in the tensors of states of
// what enters the first one and leaves the last one, or -1.
struct Segment {
    int first, count, enters, leaves;
};

// Shapes and pitches (elements from one position to the next) of the operator's tensors.
struct Shape {
    int len, heads, groups, chunks;
    long long x_pitch, dy_pitch, b_pitch, c_pitch;

    DEVICE int heads_per_group() const { return heads / groups; }
    DEVICE long long position(const Chunk &k, int t) const { return (long long)k.row * len + k.start + t; }
};

// Copies `ROWS` rows of 64 elements into a panel; those behind `valid` become zeros. By `threads` threads.
template <int ROWS>
DEVICE void copy_panel(u32 panel, const storage *from, long long pitch, int valid, int thread, int threads) {
    int c = thread & 7;
    for (int r = thread >> 3; r < ROWS; r += threads >> 3) {
        bool inside = r < valid;
        copy_piece(panel + piece(r, c), from + (inside ? r * pitch : 0) + c * 8, inside);
    }
}
