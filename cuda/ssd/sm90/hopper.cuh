// Instructions of the backward pass on Hopper, beside those of common/: 16-bit pairs, copies, warpgroup products.
//
// Tiles in shared memory are columns of panels: a panel is rows of 64 elements (128 bytes), `swizzled`, as warpgroup products
// want it (128-byte swizzle). A panel starts at a multiple of 1024 bytes.
#pragma once
#include "common/wgmma.cuh"

typedef u16 storage; // one element of bf16, or of f16 with STORED_F16

#ifdef STORED_F16
#define STORAGE "f16"
#else
#define STORAGE "bf16"
#endif

#define DEVICE __device__ __forceinline__

constexpr float LOG2E = 1.4426950408889634f;

// ---- 16-bit pairs ----

DEVICE float2 unpack(u32 pair) { return make_float2(low(pair), high(pair)); }

DEVICE u32 pack_half(float low, float high) {
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// A power of two that brings numbers of at most `most` in size to at most 2^14, so that f16 holds them with 11 bits; and its
// inverse.
struct Scale {
    float to, from;
};

DEVICE Scale half_scale(float most) {
    const int exponent = max((int)(__float_as_uint(most) >> 23), 28); // of `most`, plus 127
    return {__uint_as_float((u32)min(267 - exponent, 254) << 23), __uint_as_float((u32)(exponent - 13) << 23)};
}

DEVICE u32 to_half(u32 pair, float scale) {
    const float2 wide = unpack(pair);
    return pack_half(wide.x * scale, wide.y * scale);
}

// The largest of the warp's numbers, none of which is negative.
DEVICE float warp_most(float v) {
    u32 most;
    asm("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(most) : "r"(__float_as_uint(v)));
    return __uint_as_float(most);
}

// ---- shared memory ----

DEVICE void load_matrices(u32 (&m)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address)
                 : "memory");
}

// Address for matrices to be loaded or stored: the 16 x 16 tile at row `row` and piece `c` of a panel, as this lane gives it.
DEVICE u32 tile_address(u32 panel, u32 row, u32 c, u32 lane) {
    return panel + swizzled(row + ((lane >> 3) & 1) * 8 + (lane & 7), c + (lane >> 4));
}

// ---- copies ----

// 16 bytes from device memory, or zeros.
DEVICE void copy_piece(u32 to, const void *from, bool valid) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
}

// This thread's copies so far arrive at the barrier when they are done.
DEVICE void copies_arrive(u32 barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}

// One number from device memory, or zero.
DEVICE void copy_number(u32 to, const float *from, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(valid ? 4 : 0) : "memory");
}

DEVICE void copies_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

DEVICE void bulk_load(u32 to, const void *from, u32 bytes, u32 barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}

// Into the second-level cache.
DEVICE void bulk_prefetch(const void *from, u32 bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

DEVICE void bulk_store(void *to, u32 from, u32 bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\ncp.async.bulk.commit_group;" ::"l"(to),
                 "r"(from), "r"(bytes)
                 : "memory");
}

DEVICE void bulk_stores_done() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// ---- warpgroup products: accumulators of 64 rows and 32 or 64 columns, 16 columns of the left operand a step ----

// Where operands lie is said in pieces of 16 bytes, so that what is added to an address is added to the operand: a row of a panel
// is ROW pieces, a step along the rows 2.
constexpr u32 ROW = 8, ACROSS = 16 * ROW; // and a step of 16 rows
DEVICE u32 pieces(u32 address) { return address >> 4; }

// Operand whose rows (of the product's m or n) are panel rows: one step is 2 pieces on in the row.
DEVICE u64 rows_operand(u32 piece) { return piece | (64ull << 32) | (1ull << 62); }

// Operand whose rows are panel columns: one step is 16 panel rows, ACROSS, on. 64 of them lie in one panel.
DEVICE u64 columns_operand(u32 piece) { return rows_operand(piece) | (64ull << 16); }

#define NAMES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define NAMES_16 NAMES_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES_32 NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define EACH_4(v, i) "+f"(v[i]), "+f"(v[i + 1]), "+f"(v[i + 2]), "+f"(v[i + 3])
#define EACH_8(v) EACH_4(v, 0), EACH_4(v, 4)
#define EACH_16(v) EACH_8(v), EACH_4(v, 8), EACH_4(v, 12)
#define EACH_32(v) EACH_16(v), EACH_4(v, 16), EACH_4(v, 20), EACH_4(v, 24), EACH_4(v, 28)

// `a` in registers: %COUNT to %COUNT + 3, then b, keep, how b lies.
#define PRODUCT_REGISTERS(COUNT, COLUMNS, TYPE, A0, A1, A2, A3, B, KEEP, LIES)                                            \
    asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %" KEEP ", 0;\n"                                                \
                 "wgmma.mma_async.sync.aligned.m64n" COLUMNS "k16.f32." TYPE "." TYPE " {" NAMES_##COUNT "}, {%" A0 ", %" A1 \
                 ", %" A2 ", %" A3 "}, %" B ", keep, 1, 1, %" LIES ";\n}"                                                \
                 : EACH_##COUNT(sum)                                                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(TRANSPOSED))

// sum += a b, or sum = a b if `keep` is 0; a from registers; TRANSPOSED: b is a columns_operand. HALF: both are f16, whatever
// tensors are stored in.
template <int TRANSPOSED, bool HALF = false, int COUNT>
DEVICE void product(float (&sum)[COUNT], const u32 (&a)[4], u64 b, int keep) {
    static_assert(COUNT == 16 || COUNT == 32, "32 or 64 columns");
    if constexpr (COUNT == 16 && HALF) PRODUCT_REGISTERS(16, "32", "f16", "16", "17", "18", "19", "20", "21", "22");
    if constexpr (COUNT == 16 && !HALF) PRODUCT_REGISTERS(16, "32", STORAGE, "16", "17", "18", "19", "20", "21", "22");
    if constexpr (COUNT == 32 && HALF) PRODUCT_REGISTERS(32, "64", "f16", "32", "33", "34", "35", "36", "37", "38");
    if constexpr (COUNT == 32 && !HALF) PRODUCT_REGISTERS(32, "64", STORAGE, "32", "33", "34", "35", "36", "37", "38");
}

// `a` in shared memory: %COUNT, then b, keep, how a and b lie.
#define PRODUCT_SHARED(COUNT, COLUMNS, TYPE, A, B, KEEP, A_LIES, B_LIES)                                                  \
    asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %" KEEP ", 0;\n"                                                \
                 "wgmma.mma_async.sync.aligned.m64n" COLUMNS "k16.f32." TYPE "." TYPE " {" NAMES_##COUNT "}, %" A ", %" B   \
                 ", keep, 1, 1, %" A_LIES ", %" B_LIES ";\n}"                                                            \
                 : EACH_##COUNT(sum)                                                                                     \
                 : "l"(a), "l"(b), "r"(keep), "n"(A_TRANSPOSED), "n"(B_TRANSPOSED))

// The same with a in shared memory.
template <int A_TRANSPOSED, int B_TRANSPOSED, bool HALF = false, int COUNT>
DEVICE void product(float (&sum)[COUNT], u64 a, u64 b, int keep) {
    static_assert(COUNT == 32 || (COUNT == 16 && !HALF), "64 columns, or 32 not of f16");
    if constexpr (COUNT == 16) PRODUCT_SHARED(16, "32", STORAGE, "16", "17", "18", "19", "20");
    if constexpr (COUNT == 32 && HALF) PRODUCT_SHARED(32, "64", "f16", "32", "33", "34", "35", "36");
    if constexpr (COUNT == 32 && !HALF) PRODUCT_SHARED(32, "64", STORAGE, "32", "33", "34", "35", "36");
}

// sum += a b by one warp, 8 x 8, depth 16, f16: lane 4 g + t holds words t and t + 4 of row g of a and of column g of b, and
// (g, 2 t), (g, 2 t + 1) of the sum.
DEVICE void add_product_half(float (&sum)[4], u32 a0, u32 a1, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %5}, {%7, %8}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a0), "r"(0), "r"(a1), "r"(b0), "r"(b1));
}
