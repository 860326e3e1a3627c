// The columns of a chunk, backwards: of dX head by head, of dB over the heads.

// (S L)^T of one 64 x 64 block, as left operands of four steps: this thread's rows are positions j with sums of logs `own`,
// the columns positions i with sums `logs`.
template <bool DIAGONAL>
DEVICE void mask_block(u32 (&m)[4][4], const float4 *scores, const float (&own)[2], const float *logs, float edge,
                       u32 warp, u32 lane) {
    const u32 c = 2 * (lane & 3);
    float left[2];
#pragma unroll
    for (int j = 0; j < 2; j++) left[j] = DIAGONAL ? own[j] : exp2_fast(edge - own[j]);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (DIAGONAL && half == 0 && warp >= 2) { // i < j
#pragma unroll
            for (int e = 0; e < 8; e++) m[e >> 2][e & 3] = 0;
            continue;
        }
#pragma unroll
        for (int t = 4 * half; t < 4 * half + 4; t++) {
            const float2 s = *(const float2 *)(logs + 8 * t + c);
            const float4 score4 = scores[t * 128];
            const float score[4] = {score4.x, score4.y, score4.z, score4.w};
            const float right[2] = {DIAGONAL ? s.x : exp2_fast(s.x - edge), DIAGONAL ? s.y : exp2_fast(s.y - edge)};
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float v[2];
#pragma unroll
                for (int i = 0; i < 2; i++)
                    v[i] = score[2 * j + i] *
                           (DIAGONAL ? exp2_fast(fminf(right[i] - left[j], GROWTH)) : left[j] * right[i]);
                m[t >> 1][2 * (t & 1) + j] = pack(v[0], v[1]);
            }
        }
    }
}

// This warp's 16 rows of B become f16, as dH is; returns what they are to be multiplied by.
DEVICE float half_rows(unsigned char *panels, u32 row, u32 lane) {
    uint4 v[N_PANELS][4];
    float most = 0.f;
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++)
#pragma unroll
        for (int m = 0; m < 4; m++) {
            v[panel][m] = ((const uint4 *)(panels + panel * PANEL + row * 128))[m * 32 + lane];
            const u32 pairs[4] = {v[panel][m].x, v[panel][m].y, v[panel][m].z, v[panel][m].w};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float2 wide = unpack(pairs[e]);
                most = fmaxf(most, fmaxf(fabsf(wide.x), fabsf(wide.y)));
            }
        }
    const Scale scale = half_scale(warp_most(most));
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++)
#pragma unroll
        for (int m = 0; m < 4; m++)
            ((uint4 *)(panels + panel * PANEL + row * 128))[m * 32 + lane] =
                make_uint4(to_half(v[panel][m].x, scale.to), to_half(v[panel][m].y, scale.to),
                           to_half(v[panel][m].z, scale.to), to_half(v[panel][m].w, scale.to));
    return scale.from;
}

// S^T of the blocks on the diagonal, zero for i < j, and of block (0, 1), into the order in which threads read it; B in f16, and
// what that is to be multiplied by.
DEVICE float columns_scores(const Shape &shape, const Pass &pass, const Place &at, float4 *scores, float4 *scores_right,
                            u32 half, u32 warp, u32 lane) {
    const u32 row = 64 * half + 16 * warp;
    float s[32], right[32];
    scores_of(s, right, shape, pass, at, true, half, 1, row, lane);
    const int below = 16 * warp + (lane >> 2) - 2 * (lane & 3); // j - i of the first element
#pragma unroll
    for (int e = 0; e < 32; e++) s[e] = below <= 8 * (e >> 2) + (e & 1) - 8 * ((e >> 1) & 1) ? s[e] : 0.f;
#pragma unroll
    for (int t = 0; t < 8; t++) {
        scores[t * 128] = make_float4(s[4 * t], s[4 * t + 1], s[4 * t + 2], s[4 * t + 3]);
        if (half == 0)
            scores_right[t * 128] = make_float4(right[4 * t], right[4 * t + 1], right[4 * t + 2], right[4 * t + 3]);
    }
    named_sync(1 + half, 128);
    const float unit = half_rows(at.memory + OWN_AT, row, lane);
    fence_async();
    return unit;
}

// dX = dt dx + d dY of this warp's rows, by way of SPACE: from there this lane's pieces of rows lane / 8 and every fourth one
// are written to `to`, if they are among `rows`.
DEVICE void store_dx(const float (&dx)[32], const float (&dt)[2], const float *d, const Place &at, u32 dy_panel, u32 row,
                     u32 lane, storage *to, long long pitch, int rows) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
        u32 dy[4], out[4];
        load_matrices(dy, tile_address(dy_panel, row, 2 * step, lane));
#pragma unroll
        for (int m = 0; m < 4; m++) {
            const int e = 8 * step + 4 * (m >> 1) + 2 * (m & 1);
            const float2 wide = unpack(dy[m]), skip = *(const float2 *)(d + 16 * step + 8 * (m >> 1) + 2 * (lane & 3));
            out[m] = pack(dt[m & 1] * dx[e] + skip.x * wide.x, dt[m & 1] * dx[e + 1] + skip.y * wide.y);
        }
        store_matrices(tile_address(at.base + SPACE_AT, row, 2 * step, lane), out[0], out[1], out[2], out[3]);
    }
    __syncwarp();
#pragma unroll
    for (int m = 0; m < 4; m++, to += 4 * pitch) {
        const u32 r = row + 4 * m + (lane >> 3);
        const uint4 v = *(const uint4 *)(at.memory + SPACE_AT + swizzled(r, lane & 7));
        if ((int)r < rows) *(uint4 *)to = v;
    }
}

DEVICE void columns_dx(const Shape &shape, const Pass &pass, const Place &at, u32 half, u32 thread) {
    const u32 warp = thread >> 5, lane = thread & 31, g = lane >> 2;
    const u32 row = 64 * half + 16 * warp;
    float4 *scores = (float4 *)(at.memory + SCORES_T_AT) + thread + half * 1024;
    float4 *scores_right = (float4 *)(at.memory + SCORES_T_AT) + thread + 2048;
    const float b_unit = columns_scores(shape, pass, at, scores, scores_right, half, warp, lane);
    barrier_arrive(at.scored());
    named_sync(1 + half, 128);
    storage *dx_to = pass.dx + (shape.position(at.k, row + (lane >> 3)) * shape.heads + at.first) * P + (lane & 7) * 8;

#pragma unroll 1
    for (int i = 0; i < at.again().count; i++) {
        const u32 stage = at.stage(i, COLUMNS_STAGE), operands = at.operands(i, COLUMNS_STAGE);
        const Given &given = at.given(i);
        at.wait_full(i);
        fence_async();

        // B dH^T is on its way while the masks are made.
        u32 mask[4][4], right[4][4];
        float dx[32];
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < TERMS * N / 16; step++) { // of both terms
            const u32 b = pieces(at.base) + (OWN_AT + (step / 4 % N_PANELS) * PANEL) / 16 + 64 * ROW * half + (step & 3) * 2;
            const u32 dh = operands + (STATE_AT + (step >> 2) * STATE_PANEL) / 16 + (step & 3) * 2;
            product<0, 0, true>(dx, rows_operand(b), rows_operand(dh), step > 0);
        }
        wgmma_commit();
        const float logs[2] = {given.s[row + g], given.s[row + g + 8]}, last = given.s[Q - 1];
        mask_block<true>(mask, scores, logs, given.s + 64 * half, 0.f, warp, lane);
        // Of the second half nothing is right of the diagonal. It takes part with zeros: a product that one of the warpgroups
        // has alone could not be on its way across the end of a branch.
        if (half == 0) {
            mask_block<false>(right, scores_right, logs, given.s + 64, given.s[63], warp, lane);
        } else {
#pragma unroll
            for (int e = 0; e < 16; e++) right[e >> 2][e & 3] = 0;
        }
        const float faded[2] = {exp2_fast(last - logs[0]), exp2_fast(last - logs[1])};
        const float unit = given.sizes[1].state * b_unit, entering[2] = {faded[0] * unit, faded[1] * unit};
        wgmma_wait<0>();
        pin(dx);
        float inner[2] = {0.f, 0.f};
#pragma unroll
        for (int step = 0; step < 4; step++) {
            u32 x[4];
            load_matrices(x, tile_address(stage + X_AT, row, 2 * step, lane));
#pragma unroll
            for (int m = 0; m < 4; m++) {
                const int e = 8 * step + 4 * (m >> 1) + 2 * (m & 1);
                const float2 wide = unpack(x[m]);
                inner[m & 1] = fmaf(wide.y, dx[e + 1], fmaf(wide.x, dx[e], inner[m & 1]));
                dx[e] *= entering[m & 1];
                dx[e + 1] *= entering[m & 1];
            }
        }
        if (BANDS == 2) {
            float4 *carried = (float4 *)pass.carried +
                              (((long long)at.again().chunk * shape.heads + at.head(i)) * 2 + half) * 1024 + thread;
#pragma unroll
            for (int m = 0; m < 8; m++) {
                if (m == 4) asm volatile("" ::: "memory"); // not more at once than there are registers
                if (pass.leads()) {
                    const float4 v = carried[m * 128];
                    dx[4 * m] += v.x, dx[4 * m + 1] += v.y, dx[4 * m + 2] += v.z, dx[4 * m + 3] += v.w;
                } else {
                    carried[m * 128] = make_float4(dx[4 * m], dx[4 * m + 1], dx[4 * m + 2], dx[4 * m + 3]);
                }
            }
        }
        pin(dx);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; step++)
            product<1>(dx, mask[step], columns_operand(operands + DY_AT / 16 + 64 * ROW * half + ACROSS * step), 1);
#pragma unroll
        for (int step = 0; step < 4; step++)
            product<1>(dx, right[step], columns_operand(operands + DY_AT / 16 + 64 * ROW + ACROSS * step), 1);
        wgmma_commit();
        float *sums = pass.sums + (pass.place(shape, at.again().chunk, at.head(i)) * SUMS + 4) * Q + row + g;
#pragma unroll
        for (int m = 0; m < 2; m++) {
            const float sum = sum_row(faded[m] * (unit * inner[m])); // in this order nothing gets too small
            if ((lane & 3) == 0) sums[8 * m] = sum;
        }
        const float dt[2] = {given.dt[row + g], given.dt[row + g + 8]};
        wgmma_wait<0>();
        pin(dx);
        store_dx(dx, dt, given.d, at, stage + DY_AT, row, lane, dx_to, (long long)shape.heads * P,
                 pass.leads() ? at.again().k.len : 0);
        dx_to += P;
        at.release(i);
    }
}

// A part of <dH, H> of one stage: of `sum`, (row g, column g) of products of 8 rows by 8 columns, where a lane's numbers are a
// part of row g on the left and of column g on the right.
DEVICE void add_passed(float (&sum)[4], const uint4 &u, const uint4 &v) {
    add_product_half(sum, u.x, u.y, v.x, v.y);
    add_product_half(sum, u.z, u.w, v.z, v.w);
}
DEVICE float diagonal_sum(const float (&sum)[4], u32 lane) {
    const u32 g = lane >> 2, t = lane & 3;
    float own = g == 2 * t ? sum[0] : g == 2 * t + 1 ? sum[1] : 0.f;
#pragma unroll
    for (int d = 16; d > 0; d /= 2) own += __shfl_xor_sync(~0u, own, d);
    return own;
}

// sum += rows of a head's columns, in registers, by a state in a stage.
DEVICE void add_by_state(float (&sum)[N_PANELS][32], const u32 (&rows)[4][4], u32 state) {
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; step++)
#pragma unroll
        for (int panel = 0; panel < N_PANELS; panel++)
            product<1, true>(sum[panel], rows[step], columns_operand(state + panel * (STATE_PANEL / 16) + ACROSS * step), 1);
    wgmma_commit();
}

// dB is a sum over heads of X dt e^{s_Q - s_j}, in units of dH, by dH. The first becomes f16 by one power of two for all heads
// of the block, so that the sum stays where products are added. Stores the largest number it may have, a part a warp.
DEVICE void store_most(const Shape &shape, const Pass &pass, const Place &at, u32 thread) {
    float most = 0.f;
    for (int i = thread; i < at.count; i += 256) {
        const long long place = pass.place(shape, at.chunk, at.first + i);
        const Sizes *sizes = pass.sizes + place * 2;
        const float weight = pass.largest[place / BANDS], unit = sizes[1].state;
        // Where X is zero, the second number keeps what it is multiplied by finite.
        most = fmaxf(most, fmaxf(weight * (largest_of(sizes[0].most) * unit), fmaxf(weight, 1.f) * (unit * 0x1p-112f)));
    }
    most = warp_most(most);
    if ((thread & 31) == 0) ((float *)(at.memory + MOST_AT))[thread >> 5] = most;
}

DEVICE void columns_db(const Shape &shape, const Pass &pass, const Tiles &tiles, const Place &at, u32 half) {
    float db[N_PANELS][32];
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++)
#pragma unroll
        for (int e = 0; e < 32; e++) db[panel][e] = 0.f;
    copy_first<true>(shape, pass, tiles, at);
    const float *most = (const float *)(at.memory + MOST_AT);
    const Scale scale = half_scale(fmaxf(largest_of(most), largest_of(most + 4)));

#pragma unroll 1
    for (int i = 0; i < at.again().count; i++) {
        const auto [row, lane] = rows_again(half);
        const u32 own_row = row + (lane >> 2);
        const Given &given = at.given(i);
        at.wait_full(i);
        fence_async();
        const float unit = given.sizes[1].state * scale.to;
        float weight[2];
#pragma unroll
        for (int m = 0; m < 2; m++)
            weight[m] = given.dt[own_row + 8 * m] * exp2_fast(given.s[Q - 1] - given.s[own_row + 8 * m]) * unit;
        u32 x[4][4];
        load_rows_half(x, at.stage(i, COLUMNS_STAGE) + X_AT, row, lane, weight);
        add_by_state(db, x, same(at.operands(i, COLUMNS_STAGE)) + STATE_AT / 16);
        // Beside it a part of <dH, H>.
        const unsigned char *dh = at.memory + STAGES_AT + (i % STAGES) * COLUMNS_STAGE + STATE_AT + (row * 2 + lane) * 16;
        const unsigned char *h = dh + STATE_BYTES;
        if constexpr (TERMS == 2) { // H is not in the stage
            const long long place = pass.place(shape, at.again().chunk, at.head(i));
            h = (const unsigned char *)pass.h + place * KEPT_BYTES + (row * 2 + lane) * 16;
        }
        float passed[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
        for (int part = 0; part < N / 32; part++) {
            const unsigned char *u = dh + part * 4096, *v = h + part * 4096;
            const uint4 high = *(const uint4 *)v, dh_high = *(const uint4 *)u;
            add_passed(passed, dh_high, high);
            if constexpr (TERMS == 2) {
                add_passed(passed, *(const uint4 *)(u + STATE_BYTES), high);
                add_passed(passed, dh_high, *(const uint4 *)(v + STATE_BYTES));
            }
        }
        const float sum = diagonal_sum(passed, lane) * given.sizes[0].state * given.sizes[1].state;
        if (lane == 0) pass.passed[pass.place(shape, at.again().chunk, at.head(i)) * 8 + row / 16] = sum;
        wgmma_wait<0>();
#pragma unroll
        for (int panel = 0; panel < N_PANELS; panel++) pin(db[panel]);
        at.release(i);
        copy_head<true>(shape, pass, tiles, at, i + STAGES);
    }

    const Place &end = at.again();
    const auto [row, lane] = rows_again(half);
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++) {
#pragma unroll
        for (int e = 0; e < 32; e++) db[panel][e] *= scale.from;
        store_part(pass.db + (2 * end.split + 1) * (pass.positions * shape.groups * STATE_DIM), db[panel], shape, end,
                   row + (lane >> 2), column_of(end.group, pass.band) + panel * 64 + 2 * (lane & 3));
    }
}
