// The rows of a chunk, backwards: warpgroup w holds rows 64 w .. 64 w + 64 of dC and of the lower half of dS.
//
// Both warpgroups run the same instructions, but for the block left of the diagonal that only the second one has: two copies
// of the loop would not fit the instruction cache.

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

// One 64 x 64 block of R: adds L R dt to dS and K to the sums of its rows; sums of K's columns, without dt, into `part`.
// `own` are the sums of logs of the rows that this thread holds, `steps` s and dt of the block's columns. The scores are zero
// on and above the diagonal; dS above it is not used.
template <bool DIAGONAL>
DEVICE void pairs_block(const float (&r)[32], float (&ds)[32], float (&rows)[2], const float (&own)[2],
                        const float *steps, const float4 *scores, float *part, u32 warp, u32 lane) {
    const u32 g = lane >> 2, c = 2 * (lane & 3);
    const float edge = DIAGONAL ? 0.f : steps[63];
    float left[2];
#pragma unroll
    for (int i = 0; i < 2; i++) left[i] = DIAGONAL ? own[i] : exp2_fast(own[i] - edge);
    part += 8 * (g >> 1) + c + (g & 1);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (DIAGONAL && half == 1 && warp < 2) { // above the diagonal
            part[32] = 0.f;
            continue;
        }
        float columns[8];
#pragma unroll
        for (int tile = 0; tile < 4; tile++) {
            const int t = 4 * half + tile;
            const float2 s = *(const float2 *)(steps + 8 * t + c), dt = *(const float2 *)(steps + Q + 8 * t + c);
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

// dC += e^{s_i} (dY H) of one panel of columns; adds <C_i, dY_i H> to `rows`.
DEVICE void state_block(const float (&t)[32], float (&dc)[32], float (&rows)[2], const float (&grown)[2], u32 own_panel,
                        u32 row, u32 lane) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
        u32 c[4];
        load_matrices(c, tile_address(own_panel, row, 2 * step, lane));
#pragma unroll
        for (int m = 0; m < 4; m++) { // rows 0, 1; then the next tile
            const int e = 8 * step + 4 * (m >> 1) + 2 * (m & 1);
            const float2 wide = unpack(c[m]);
            rows[m & 1] += wide.x * t[e] + wide.y * t[e + 1];
            dc[e] += grown[m & 1] * t[e];
            dc[e + 1] += grown[m & 1] * t[e + 1];
        }
    }
}

DEVICE void store_part(float *to, const float (&v)[32], const Shape &shape, const Place &at, int row, int column) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (row + 8 * i >= at.k.len) continue;
        float *own = to + (shape.position(at.k, row + 8 * i) * shape.groups + at.group) * N + column;
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

DEVICE void backward_rows(const Shape &shape, const Pass &pass, const Place &at, u32 warpgroup, u32 thread) {
    const u32 warp = thread >> 5, lane = thread & 31, g = lane >> 2;
    const u32 row = 64 * warpgroup + 16 * warp; // the warp's first
    const u32 own = at.base + OWN_AT, scores_at = at.base + SCORES_AT;
    // Blocks on the diagonal, then the one left of the second.
    float4 *scores = (float4 *)(at.memory + SCORES_AT) + thread + warpgroup * 1024;
    float4 *scores_left = (float4 *)(at.memory + SCORES_AT) + thread + 2048;
    float *parts = (float *)(at.memory + PARTS_AT);
    float dc[N_PANELS][32], ds[32], ds_left[32];

    products_begin();
#pragma unroll
    for (int step = 0; step < N / 16; step++) {
        const u32 panel = (step >> 2) * PANEL + (step & 3) * 32;
        product<0, 0>(ds, rows_operand(own + panel + 64 * warpgroup * 128),
                      rows_operand(at.base + STAGES_AT + panel + 64 * warpgroup * 128), step > 0);
        product<0, 0>(ds_left, rows_operand(own + panel + 64 * warpgroup * 128),
                      rows_operand(at.base + STAGES_AT + panel), step > 0);
    }
    products_commit();
    products_wait<0>();
    pin(ds);
    pin(ds_left);
    store_scores<true>(ds, scores, pass.same + ((long long)at.chunk * shape.groups + at.group) * Q + 64 * warpgroup, warp,
                       lane);
    if (warpgroup == 1) store_scores<false>(ds_left, scores_left, nullptr, warp, lane);
#pragma unroll
    for (int e = 0; e < 32; e++) ds[e] = ds_left[e] = 0.f;
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++)
#pragma unroll
        for (int e = 0; e < 32; e++) dc[panel][e] = 0.f;
    for (int i = 0; i < STAGES; i++) at.release(i, lane);

#pragma unroll 1
    for (int i = 0; i < at.count; i++) {
        const u32 stage = at.stage(i, ROWS_STAGE);
        const float *steps = at.steps(i);
        float *sums = pass.sums + ((long long)at.chunk * shape.heads + at.first + i) * SUMS * Q;
        float *part = parts + (i & 1) * 12 * 64;
        at.wait_full(i);
        fence_async();

        u32 dy[4][4];
#pragma unroll
        for (int step = 0; step < 4; step++)
            load_matrices(dy[step], tile_address(stage + DY_AT, row, 2 * step, lane));
        float first[32], second[32], pairs[2] = {0.f, 0.f}, states[2] = {0.f, 0.f};
        products_begin();
#pragma unroll
        for (int step = 0; step < 4; step++)
            product<0>(first, dy[step], rows_operand(stage + X_AT + 64 * warpgroup * 128 + 32 * step), step > 0);
        products_commit();
        const float logs[2] = {steps[row + g], steps[row + g + 8]};
        if (warpgroup == 1) {
#pragma unroll
            for (int step = 0; step < 4; step++)
                product<0>(second, dy[step], rows_operand(stage + X_AT + 32 * step), step > 0);
            products_commit();
            products_wait<0>();
            pin(second);
            pairs_block<false>(second, ds_left, pairs, logs, steps, scores_left, part + (8 + warp) * 64, warp, lane);
        }
        products_wait<0>();
        pin(first);
        pairs_block<true>(first, ds, pairs, logs, steps + 64 * warpgroup, scores, part + (4 * warpgroup + warp) * 64, warp,
                          lane);
        store_diagonal(first, sums + 3 * Q + 64 * warpgroup, warp, lane);
        // H is in f16, so dY becomes f16 too.
        const Scale scale = half_scale(at.sizes(i, true));
#pragma unroll
        for (int step = 0; step < 4; step++) {
            load_matrices(dy[step], tile_address(stage + DY_AT, row, 2 * step, lane));
#pragma unroll
            for (int m = 0; m < 4; m++) dy[step][m] = to_half(dy[step][m], scale.to);
        }
        float low[32], high[32]; // dY H, by panels
        products_begin();
#pragma unroll
        for (int step = 0; step < 4; step++)
            product<1, true>(low, dy[step], columns_operand(stage + STATE_AT + 2048 * step), step > 0);
        products_commit();
        if (N_PANELS == 2) {
#pragma unroll
            for (int step = 0; step < 4; step++)
                product<1, true>(high, dy[step], columns_operand(stage + STATE_AT + STATE_PANEL + 2048 * step), step > 0);
            products_commit();
        }
        const float unit = scale.from * at.sizes(i, false).state;
        const float grown[2] = {unit * exp2_fast(logs[0]), unit * exp2_fast(logs[1])};
        products_wait<N_PANELS - 1>();
        pin(low);
        state_block(low, dc[0], states, grown, own, row, lane);
        if (N_PANELS == 2) {
            products_wait<0>();
            pin(high);
        }
        at.release(i, lane);
        if (N_PANELS == 2) state_block(high, dc[N_PANELS - 1], states, grown, own + PANEL, row, lane);

#pragma unroll
        for (int m = 0; m < 2; m++) {
            float sum = pairs[m] + exp2_fast(logs[m]) * (unit * states[m]); // in this order nothing gets too small
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            if ((lane & 3) == 0) sums[row + g + 8 * m] = sum;
        }
        threads_sync(1 + warpgroup, 128);
        if (warpgroup == 1 || thread < 64) {
            // Threads of the first half: the block on the diagonal; of the second: the one left of it.
            const float *own_part = part + (thread < 64 ? 4 * 64 * warpgroup : 8 * 64) + (thread & 63);
            const float sum = (own_part[0] + own_part[64]) + (own_part[128] + own_part[192]);
            sums[(thread < 64 ? Q + 64 * warpgroup : 2 * Q) + (thread & 63)] = sum;
        }
    }

    // dS in 16 bits in the place of S, with zeros above the diagonal; B in the place of the first stage.
    const Place &end = at.again();
    threads_sync(3, 256);
    const int below = 16 * warp + g - 2 * (lane & 3);
#pragma unroll
    for (int e = 0; e < 32; e++) ds[e] = below >= 8 * (e >> 2) + (e & 1) - 8 * ((e >> 1) & 1) ? ds[e] : 0.f;
#pragma unroll
    for (int t = 0; t < 8; t += 2) {
        store_matrices(tile_address(scores_at + warpgroup * PANEL, row, t, lane), pack(ds[4 * t], ds[4 * t + 1]),
                       pack(ds[4 * t + 2], ds[4 * t + 3]), pack(ds[4 * t + 4], ds[4 * t + 5]),
                       pack(ds[4 * t + 6], ds[4 * t + 7]));
        // The block left of the diagonal; right of it, for the first half of the rows, zeros.
        store_matrices(tile_address(scores_at + (1 - warpgroup) * PANEL, row, t, lane),
                       pack(ds_left[4 * t], ds_left[4 * t + 1]), pack(ds_left[4 * t + 2], ds_left[4 * t + 3]),
                       pack(ds_left[4 * t + 4], ds_left[4 * t + 5]), pack(ds_left[4 * t + 6], ds_left[4 * t + 7]));
    }
    const long long position = shape.position(end.k, 0);
    for (int panel = 0; panel < N_PANELS; panel++)
        copy_rows<16>(end.base + STAGES_AT + panel * PANEL, pass.b + position * shape.b_pitch + end.group * N + panel * 64,
                      shape.b_pitch, row, end.k.len, lane);
    copies_wait();
    fence_async();
    threads_sync(3, 256);
    const long long part_size = pass.positions * shape.groups * N;
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++) {
        float db[32];
        pin(dc[panel]);
        products_begin();
#pragma unroll
        for (int step = 0; step < Q / 16; step++) {
            product<0, 1>(dc[panel],
                          rows_operand(scores_at + (step >> 2) * PANEL + 64 * warpgroup * 128 + (step & 3) * 32),
                          columns_operand(end.base + STAGES_AT + panel * PANEL + step * 2048), 1);
            product<1, 1>(db, columns_operand(scores_at + warpgroup * PANEL + step * 2048),
                          columns_operand(own + panel * PANEL + step * 2048), step > 0);
        }
        products_commit();
        products_wait<0>();
        pin(dc[panel]);
        pin(db);
        const int column = panel * 64 + 2 * (lane & 3);
        store_part(pass.dc + end.split * part_size, dc[panel], shape, end, row + g, column);
        store_part(pass.db + 2 * end.split * part_size, db, shape, end, row + g, column);
    }
}
