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

DEVICE float2 unpack_half(u32 pair) {
    float2 wide;
    asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
        : "=f"(wide.x), "=f"(wide.y)
        : "r"(pair));
    return wide;
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

DEVICE void copies_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

DEVICE void bulk_load(u32 to, const void *from, u32 bytes, u32 barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}

DEVICE void bulk_store(void *to, u32 from, u32 bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\ncp.async.bulk.commit_group;" ::"l"(to),
                 "r"(from), "r"(bytes)
                 : "memory");
}

DEVICE void bulk_stores_done() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// ---- warpgroup products: 64 x 64 accumulators, 16 columns of the left operand a step ----

// Operand whose rows (of the product's m or n) are panel rows: one step is 32 bytes on in the row.
DEVICE u64 rows_operand(u32 address) { return (u64)((address & 0x3ffff) >> 4) | (64ull << 32) | (1ull << 62); }

// Operand whose rows are panel columns: one step is 16 panel rows, 2048 bytes, on. 64 of them lie in one panel.
DEVICE u64 columns_operand(u32 address) { return rows_operand(address) | (64ull << 16); }

#define ACCUMULATORS                                                                                                \
    "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31}"
#define EACH(v)                                                                                                      \
    "+f"(v[0]), "+f"(v[1]), "+f"(v[2]), "+f"(v[3]), "+f"(v[4]), "+f"(v[5]), "+f"(v[6]), "+f"(v[7]), "+f"(v[8]),      \
        "+f"(v[9]), "+f"(v[10]), "+f"(v[11]), "+f"(v[12]), "+f"(v[13]), "+f"(v[14]), "+f"(v[15]), "+f"(v[16]),       \
        "+f"(v[17]), "+f"(v[18]), "+f"(v[19]), "+f"(v[20]), "+f"(v[21]), "+f"(v[22]), "+f"(v[23]), "+f"(v[24]),      \
        "+f"(v[25]), "+f"(v[26]), "+f"(v[27]), "+f"(v[28]), "+f"(v[29]), "+f"(v[30]), "+f"(v[31])

// sum += a b, or sum = a b if `keep` is 0; a from registers; TRANSPOSED: b is a columns_operand. HALF: both are f16, whatever
// tensors are stored in.
template <int TRANSPOSED, bool HALF = false>
DEVICE void product(float (&sum)[32], const u32 (&a)[4], u64 b, int keep) {
#define PRODUCT(TYPE)                                                                                            \
    asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %37, 0;\n"                                              \
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " " ACCUMULATORS                    \
                 ", {%32, %33, %34, %35}, %36, keep, 1, 1, %38;\n}"                                             \
                 : EACH(sum)                                                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep), "n"(TRANSPOSED))
    if (HALF) {
        PRODUCT("f16");
    } else {
        PRODUCT(STORAGE);
    }
#undef PRODUCT
}

// The same with a in shared memory.
template <int A_TRANSPOSED, int B_TRANSPOSED, bool HALF = false>
DEVICE void product(float (&sum)[32], u64 a, u64 b, int keep) {
#define PRODUCT(TYPE)                                                                                            \
    asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %34, 0;\n"                                              \
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " " ACCUMULATORS                    \
                 ", %32, %33, keep, 1, 1, %35, %36;\n}"                                                         \
                 : EACH(sum)                                                                                     \
                 : "l"(a), "l"(b), "r"(keep), "n"(A_TRANSPOSED), "n"(B_TRANSPOSED))
    if (HALF) {
        PRODUCT("f16");
    } else {
        PRODUCT(STORAGE);
    }
#undef PRODUCT
}

// A 64 x 32 block, both operands in shared memory, by their rows.
DEVICE void product(float (&sum)[16], u64 a, u64 b, int keep) {
    asm volatile("{\n.reg .pred keep;\nsetp.ne.b32 keep, %18, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32." STORAGE "." STORAGE
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}"
                 ", %16, %17, keep, 1, 1, 0, 0;\n}"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]), "+f"(sum[4]), "+f"(sum[5]), "+f"(sum[6]),
                   "+f"(sum[7]), "+f"(sum[8]), "+f"(sum[9]), "+f"(sum[10]), "+f"(sum[11]), "+f"(sum[12]), "+f"(sum[13]),
                   "+f"(sum[14]), "+f"(sum[15])
                 : "l"(a), "l"(b), "r"(keep));
}

// sum += a b by one warp, 8 x 8, depth 16, f16: lane 4 g + t holds words t and t + 4 of row g of a and of column g of b, and
// (g, 2 t), (g, 2 t + 1) of the sum.
DEVICE void add_product_half(float (&sum)[4], u32 a0, u32 a1, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %5}, {%7, %8}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a0), "r"(0), "r"(a1), "r"(b0), "r"(b1));
}
