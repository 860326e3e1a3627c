// The rows of a chunk, backwards. For pairs of positions a warpgroup holds the block of its half on the diagonal of dS, and
// columns 32 half .. 32 half + 32 of the block left of the diagonal, whose rows are those of the second half. Both run the
// same instructions: a product that only one of them has could not be on its way across the end of a branch. For the state
// a warpgroup holds its half of dC.

// No decay inside a block grows beyond this power of two; above the diagonal it only keeps products with zero finite.
constexpr float GROWTH = 64.f;

// Sum over the 8 lanes that hold rows of one accumulator column, of 8 columns v: lane l gets the sum of column l / 4.
DEVICE float sum_columns(const float (&v)[8], u32 lane) {
    float u[4], w[2];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float keep = lane & 16 ? v[i + 4] : v[i], send = lane & 16 ? v[i] : v[i + 4];
        u[i] = keep + __shfl_xor_sync(~0u, send, 16);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float keep = lane & 8 ? u[i + 2] : u[i], send = lane & 8 ? u[i] : u[i + 2];
        w[i] = keep + __shfl_xor_sync(~0u, send, 8);
    }
    const float keep = lane & 4 ? w[1] : w[0], send = lane & 4 ? w[0] : w[1];
    return keep + __shfl_xor_sync(~0u, send, 4);
}

// A block of R, 64 x 64 on the diagonal or 64 x 32 left of it: adds L R dt to dS and K to the sums of its rows; sums of K's
// columns, without dt, into `part`. `own` are the sums of logs of the rows that this thread holds, `logs` and `steps` s and
// dt of the block's columns, `edge` the sum of logs between the columns and the rows. The scores are zero on and above the
// diagonal; dS above it is not used.
template <int COUNT>
DEVICE void pairs_block(const float (&r)[COUNT], float (&ds)[COUNT], float (&rows)[2], const float (&own)[2],
                        const float *logs, const float *steps, float edge, const float4 *scores, float *part, u32 warp,
                        u32 lane) {
    constexpr bool DIAGONAL = COUNT == 32;
    const u32 g = lane >> 2, c = 2 * (lane & 3);
    float left[2];
#pragma unroll
    for (int i = 0; i < 2; i++) left[i] = DIAGONAL ? own[i] : exp2_fast(own[i] - edge);
    part += 8 * (g >> 1) + c + (g & 1);
#pragma unroll
    for (int half = 0; half < COUNT / 16; half++) {
        if (half == 1 && warp < 2) { // above the diagonal
            part[32] = 0.f;
            continue;
        }
        float columns[8];
#pragma unroll
        for (int tile = 0; tile < 4; tile++) {
            const int t = 4 * half + tile;
            const float2 s = *(const float2 *)(logs + 8 * t + c), dt = *(const float2 *)(steps + 8 * t + c);
            const float4 score4 = scores[t * 128];
            const float score[4] = {score4.x, score4.y, score4.z, score4.w};
            const float right[2] = {DIAGONAL ? s.x : exp2_fast(edge - s.x), DIAGONAL ? s.y : exp2_fast(edge - s.y)};
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float k[2];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int e = 4 * t + 2 * i + j;
                    const float step = j ? dt.y : dt.x;
                    const float decay =
                        DIAGONAL ? exp2_fast(fminf(left[i] - right[j], GROWTH)) : left[i] * right[j];
                    const float weighted = r[e] * decay;
                    ds[e] += weighted * step;
                    k[i] = score[2 * i + j] * weighted;
                    rows[i] += k[i] * step;
                }
                columns[2 * tile + j] = k[0] + k[1];
            }
        }
        part[32 * half] = sum_columns(columns, lane);
    }
}

// R_tt of a block on the diagonal.
DEVICE void store_diagonal(const float (&r)[32], float *to, u32 warp, u32 lane) {
    const u32 g = lane >> 2, c = 2 * (lane & 3);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float own[2];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const float low = warp & 1 ? r[4 * (2 + i) + 2 * i + j] : r[4 * i + 2 * i + j];
            const float high = warp & 1 ? r[4 * (6 + i) + 2 * i + j] : r[4 * (4 + i) + 2 * i + j];
            own[j] = warp & 2 ? high : low;
        }
        if ((g & ~1) == c) to[16 * warp + 8 * i + g] = g & 1 ? own[1] : own[0];
    }
}

// dC += e^{s_i} (dY H) of 32 columns, those from `first` of a panel; adds <C_i, dY_i H> to `rows`.
DEVICE void state_block(const float (&t)[16], float (&dc)[32], float (&rows)[2], const float (&grown)[2], u32 own_panel,
                        int first, u32 row, u32 lane) {
#pragma unroll
    for (int step = 0; step < 2; step++) {
        u32 c[4];
        load_matrices(c, tile_address(own_panel, row, first / 8 + 2 * step, lane));
#pragma unroll
        for (int m = 0; m < 4; m++) { // rows 0, 1; then the next tile
            const int e = 8 * step + 4 * (m >> 1) + 2 * (m & 1), to = first / 2 + e;
            const float2 wide = unpack(c[m]);
            rows[m & 1] = fmaf(wide.y, t[e + 1], fmaf(wide.x, t[e], rows[m & 1]));
            dc[to] += grown[m & 1] * t[e];
            dc[to + 1] += grown[m & 1] * t[e + 1];
        }
    }
}

DEVICE void store_part(float *to, const float (&v)[32], const Shape &shape, const Place &at, int row, int column) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (row + 8 * i >= at.k.len) continue;
        float *own = to + shape.position(at.k, row + 8 * i) * shape.groups * STATE_DIM + column;
#pragma unroll
        for (int t = 0; t < 8; t++) *(float2 *)(own + 8 * t) = make_float2(v[4 * t + 2 * i], v[4 * t + 2 * i + 1]);
    }
}

// S of one block into the order in which threads read it; on the diagonal S_tt apart and zeros from there on.
template <bool DIAGONAL>
DEVICE void store_scores(const float (&s)[32], float4 *scores, float *same, u32 warp, u32 lane) {
    const int below = 16 * warp + (lane >> 2) - 2 * (lane & 3); // row - column of the first element
    if (DIAGONAL) store_diagonal(s, same, warp, lane);
#pragma unroll
    for (int t = 0; t < 8; t++) {
        float v[4];
#pragma unroll
        for (int e = 0; e < 4; e++)
            v[e] = !DIAGONAL || below > 8 * t + (e & 1) - 8 * (e >> 1) ? s[4 * t + e] : 0.f;
        scores[t * 128] = make_float4(v[0], v[1], v[2], v[3]);
    }
}

// The sum over the four lanes that share a row.
DEVICE float sum_row(float v) {
    v += __shfl_xor_sync(~0u, v, 1);
    return v + __shfl_xor_sync(~0u, v, 2);
}

// dS in 16 bits in the place of S, with zeros above the diagonal.
DEVICE void store_pairs(const Place &at, float (&ds)[32], const float (&ds_left)[16], u32 half, u32 warp, u32 lane) {
    const u32 scores = at.base + SCORES_AT;
    const int below = 16 * warp + (lane >> 2) - 2 * (lane & 3);
#pragma unroll
    for (int e = 0; e < 32; e++) ds[e] = below >= 8 * (e >> 2) + (e & 1) - 8 * ((e >> 1) & 1) ? ds[e] : 0.f;
#pragma unroll
    for (int t = 0; t < 8; t += 2) {
        store_matrices(tile_address(scores + half * PANEL, 64 * half + 16 * warp, t, lane), pack(ds[4 * t], ds[4 * t + 1]),
                       pack(ds[4 * t + 2], ds[4 * t + 3]), pack(ds[4 * t + 4], ds[4 * t + 5]),
                       pack(ds[4 * t + 6], ds[4 * t + 7]));
    }
#pragma unroll
    for (int t = 0; t < 4; t += 2) {
        // Left of the diagonal; and zeros right of it.
        store_matrices(tile_address(scores, 64 + 16 * warp, 4 * half + t, lane), pack(ds_left[4 * t], ds_left[4 * t + 1]),
                       pack(ds_left[4 * t + 2], ds_left[4 * t + 3]), pack(ds_left[4 * t + 4], ds_left[4 * t + 5]),
                       pack(ds_left[4 * t + 6], ds_left[4 * t + 7]));
        store_matrices(tile_address(scores + PANEL, 16 * warp, 4 * half + t, lane), 0, 0, 0, 0);
    }
    fence_async();
}

DEVICE void rows_pairs(const Shape &shape, const Pass &pass, const Place &at, u32 half, u32 thread) {
    const u32 warp = thread >> 5, lane = thread & 31, g = lane >> 2;
    const u32 row = 64 * half + 16 * warp; // the warp's first
    // Blocks on the diagonal, then the one left of the second.
    float4 *scores = (float4 *)(at.memory + SCORES_AT) + thread + half * 1024;
    const float4 *scores_left = (float4 *)(at.memory + SCORES_AT) + thread + 2048 + half * 512;
    float ds[32], ds_left[16];
    {
        float s_left[32];
        scores_of(ds, s_left, shape, pass, at, false, half, 0, row, lane);
        store_scores<true>(ds, scores, pass.same + ((long long)at.chunk * shape.groups + at.group) * Q + 64 * half, warp, lane);
        if (half == 1) store_scores<false>(s_left, (float4 *)(at.memory + SCORES_AT) + thread + 2048, nullptr, warp, lane);
    }
    barrier_arrive(at.scored());
    named_sync(4, 256);
#pragma unroll
    for (int e = 0; e < 32; e++) ds[e] = 0.f;
#pragma unroll
    for (int e = 0; e < 16; e++) ds_left[e] = 0.f;

#pragma unroll 1
    for (int i = 0; i < at.again().count; i++) {
        const u32 x = at.operands(i, ROWS_STAGE) + X_AT / 16, dy = at.operands(i, ROWS_STAGE) + DY_AT / 16;
        const Given &given = at.given(i);
        float *sums = pass.sums + pass.place(shape, at.again().chunk, at.head(i)) * SUMS * Q;
        float *part = (float *)(at.memory + SPACE_AT) + (i & 1) * 12 * 64;
        at.wait_full(i);
        fence_async();

        float first[32], beside[16], pairs[2] = {0.f, 0.f}, pairs_left[2] = {0.f, 0.f};
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; step++)
            product<0, 0>(beside, rows_operand(dy + 64 * ROW + 2 * step), rows_operand(x + 32 * ROW * half + 2 * step),
                          step > 0);
        wgmma_commit();
#pragma unroll
        for (int step = 0; step < 4; step++)
            product<0, 0>(first, rows_operand(dy + 64 * ROW * half + 2 * step), rows_operand(x + 64 * ROW * half + 2 * step),
                          step > 0);
        wgmma_commit();
        const float below[2] = {given.s[64 + 16 * warp + g], given.s[64 + 16 * warp + g + 8]};
        const float logs[2] = {given.s[row + g], given.s[row + g + 8]};
        wgmma_wait<1>();
        pin(beside);
        pairs_block<16>(beside, ds_left, pairs_left, below, given.s + 32 * half, given.dt + 32 * half, given.s[63], scores_left,
                        part + 512 + 128 * half + 32 * warp, warp, lane);
        wgmma_wait<0>();
        pin(first);
        pairs_block<32>(first, ds, pairs, logs, given.s + 64 * half, given.dt + 64 * half, 0.f, scores,
                        part + (4 * half + warp) * 64, warp, lane);
        at.release(i);
        store_diagonal(first, sums + 3 * Q + 64 * half, warp, lane);
#pragma unroll
        for (int m = 0; m < 2; m++) {
            const float left = sum_row(pairs_left[m]), own = sum_row(pairs[m]);
            if ((lane & 3) == 0) {
                sums[row + g + 8 * m] = half == 1 ? own + left : own;
                if (half == 0) sums[2 * Q + 64 + 16 * warp + g + 8 * m] = left;
            }
        }
        named_sync(1 + half, 128);
        if (thread < 64) { // columns of the block on the diagonal
            const float *own_part = part + 4 * 64 * half + thread;
            sums[Q + 64 * half + thread] = (own_part[0] + own_part[64]) + (own_part[128] + own_part[192]);
        } else if (thread < 96) { // and of the one left of it
            const float *own_part = part + 512 + 128 * half + (thread & 31);
            sums[2 * Q + 32 * half + (thread & 31)] = (own_part[0] + own_part[32]) + (own_part[64] + own_part[96]);
        }
    }

    const Place &end = at.again();
    named_sync(4, 256);
    store_pairs(end, ds, ds_left, half, warp, lane);
    barrier_arrive(end.paired());
    named_sync(4, 256);
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++) {
        float db[32];
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < Q / 16; step++)
            product<1, 1>(db, columns_operand(pieces(end.base) + (SCORES_AT + half * PANEL) / 16 + step * ACROSS),
                          columns_operand(pieces(end.base) + (OWN_AT + panel * PANEL) / 16 + step * ACROSS), step > 0);
        wgmma_commit();
        wgmma_wait<0>();
        pin(db);
        store_part(pass.db + 2 * end.split * (pass.positions * shape.groups * STATE_DIM), db, shape, end, row + g,
                   column_of(end.group, pass.band) + panel * 64 + 2 * (lane & 3));
    }
}

// The sums of a head's rows of the state's output, and the stage is free.
DEVICE void store_states(const Shape &shape, const Pass &pass, const Place &at, int i, const float (&states)[2], float unit,
                         u32 half) {
    const auto [first, lane] = rows_again(half);
    const u32 row = first + (lane >> 2);
    float *sums = pass.sums + (pass.place(shape, at.again().chunk, at.head(i)) * SUMS + 5) * Q + row;
#pragma unroll
    for (int m = 0; m < 2; m++) { // in this order nothing gets too small
        const float sum = sum_row(exp2_fast(at.given(i).s[row + 8 * m]) * (unit * states[m]));
        if ((lane & 3) == 0) sums[8 * m] = sum;
    }
    at.release(i);
}

DEVICE void rows_state(const Shape &shape, const Pass &pass, const Tiles &tiles, const Place &at, u32 half) {
    float dc[N_PANELS][32];
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++)
#pragma unroll
        for (int e = 0; e < 32; e++) dc[panel][e] = 0.f;
    copy_first<false>(shape, pass, tiles, at);

#pragma unroll 1
    for (int i = 0; i < at.again().count; i++) {
        const auto [row, lane] = rows_again(half);
        const u32 own_row = row + (lane >> 2);
        const Given &given = at.given(i);
        at.wait_full(i);
        fence_async();
        // H is in f16, so dY becomes f16 too.
        const Scale scale = half_scale(given.sizes[1]);
        u32 dy[4][4];
        load_rows_half(dy, at.stage(i, ROWS_STAGE) + DY_AT, row, lane, {scale.to, scale.to});
        const float unit = scale.from * given.sizes[0].state;
        const float grown[2] = {unit * exp2_fast(given.s[own_row]), unit * exp2_fast(given.s[own_row + 8])};
        float states[2] = {0.f, 0.f};
#pragma unroll
        for (int column = 0; column < N; column += 32) {
            const int panel = column / 64, first = column % 64;
            float t[16];
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < TERMS * 4; step++) { // of both terms
                const u32 term = STATE_AT + step / 4 * STATE_BYTES;
                const u32 from = at.operands(i, ROWS_STAGE) + (term + panel * STATE_PANEL) / 16 + first / 8;
                product<1, true>(t, dy[step & 3], columns_operand(from + ACROSS * (step & 3)), step > 0);
            }
            wgmma_commit();
            wgmma_wait<0>();
            pin(t);
            state_block(t, dc[panel], states, grown, at.base + OWN_AT + panel * PANEL, first, row, lane);
        }
        store_states(shape, pass, at, i, states, unit, half);
        copy_head<false>(shape, pass, tiles, at, i + STAGES);
    }

    // B in the place of the first stage.
    const Place &end = at.again();
    const auto [row, lane] = rows_again(half);
    if (end.count > 0) barrier_wait(end.empty(0), ((end.count - 1) / STAGES) & 1);
    for (int panel = 0; panel < N_PANELS; panel++)
        copy_rows<16>(end.base + STAGES_AT + panel * PANEL,
                      pass.b + shape.position(end.k, 0) * shape.b_pitch + column_of(end.group, pass.band) + panel * 64,
                      shape.b_pitch, row, end.k.len, lane);
    copies_wait();
    fence_async();
    named_sync(3, 256);
    barrier_wait(end.paired(), 0);
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++) {
        pin(dc[panel]);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < Q / 16; step++) {
            const u32 left = (SCORES_AT + (step >> 2) * PANEL) / 16 + 64 * ROW * half + (step & 3) * 2;
            product<0, 1>(dc[panel], rows_operand(pieces(end.base) + left),
                          columns_operand(pieces(end.base) + (STAGES_AT + panel * PANEL) / 16 + step * ACROSS), 1);
        }
        wgmma_commit();
        wgmma_wait<0>();
        pin(dc[panel]);
        store_part(pass.dc + end.split * (pass.positions * shape.groups * STATE_DIM), dc[panel], shape, end, row + (lane >> 2),
                   column_of(end.group, pass.band) + panel * 64 + 2 * (lane & 3));
    }
}
