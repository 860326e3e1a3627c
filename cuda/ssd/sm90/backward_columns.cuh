// The columns of a chunk, backwards: warpgroup w holds positions 64 w .. 64 w + 64 of dX and of dB.

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

DEVICE void backward_columns(const Shape &shape, const Pass &pass, const Place &at, u32 warpgroup, u32 thread) {
    const u32 warp = thread >> 5, lane = thread & 31, g = lane >> 2, c = 2 * (lane & 3);
    const u32 row = 64 * warpgroup + 16 * warp;
    const u32 own = at.base + OWN_AT;
    // S^T of the blocks on the diagonal, zero for i < j, and of block (0, 1).
    float4 *scores = (float4 *)(at.memory + SCORES_T_AT) + thread + warpgroup * 1024;
    float4 *scores_right = (float4 *)(at.memory + SCORES_T_AT) + thread + 2048;
    float db[N_PANELS][32];
    {
        float s[32], right[32];
        scores_of(s, right, shape, pass, at, true, warpgroup, 1, row, lane);
        const int below = 16 * warp + g - c; // j - i of the first element
#pragma unroll
        for (int e = 0; e < 32; e++) s[e] = below <= 8 * (e >> 2) + (e & 1) - 8 * ((e >> 1) & 1) ? s[e] : 0.f;
#pragma unroll
        for (int t = 0; t < 8; t++) {
            scores[t * 128] = make_float4(s[4 * t], s[4 * t + 1], s[4 * t + 2], s[4 * t + 3]);
            if (warpgroup == 0)
                scores_right[t * 128] = make_float4(right[4 * t], right[4 * t + 1], right[4 * t + 2], right[4 * t + 3]);
        }
    }
    named_sync(1 + warpgroup, 128);
    const float b_unit = half_rows(at.memory + OWN_AT, row, lane);
    fence_async();
    named_sync(1 + warpgroup, 128);
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++)
#pragma unroll
        for (int e = 0; e < 32; e++) db[panel][e] = 0.f;
    for (int i = 0; i < STAGES; i++) at.release(i, lane);

#pragma unroll 1
    for (int i = 0; i < at.again().count; i++) {
        const u32 stage = at.stage(i, COLUMNS_STAGE);
        const float *steps = at.steps(i);
        at.wait_full(i);
        fence_async();

        // B dH^T, X dH by panels, and what the masks add to dX: each product is on its way while the last one is made use of.
        u32 x[4][4], mask[4][4], right[4][4];
        float dx[32], t[32];
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < N / 16; step++)
            product<0, 0, true>(dx, rows_operand(own + (step >> 2) * PANEL + 64 * warpgroup * 128 + (step & 3) * 32),
                          rows_operand(stage + STATE_AT + (step >> 2) * STATE_PANEL + (step & 3) * 32), step > 0);
        wgmma_commit();
        const Scale scale = half_scale(at.sizes(i, false));
        const float dh_unit = at.sizes(i, true).state;
#pragma unroll
        for (int step = 0; step < 4; step++) {
            load_matrices(x[step], tile_address(stage + X_AT, row, 2 * step, lane));
#pragma unroll
            for (int m = 0; m < 4; m++) x[step][m] = to_half(x[step][m], scale.to);
        }
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; step++)
            product<1, true>(t, x[step], columns_operand(stage + STATE_AT + 2048 * step), step > 0);
        wgmma_commit();
        const float logs[2] = {steps[row + g], steps[row + g + 8]};
        mask_block<true>(mask, scores, logs, steps + 64 * warpgroup, 0.f, warp, lane);
        // Of the second half nothing is right of the diagonal. It takes part with zeros: a product that one of the warpgroups has
        // alone could not be on its way across the end of a branch.
        if (warpgroup == 0) {
            mask_block<false>(right, scores_right, logs, steps + 64, steps[63], warp, lane);
        } else {
#pragma unroll
            for (int e = 0; e < 16; e++) right[e >> 2][e & 3] = 0;
        }
        const float dt[2] = {steps[Q + row + g], steps[Q + row + g + 8]}, last = steps[Q - 1];
        const float faded[2] = {exp2_fast(last - logs[0]), exp2_fast(last - logs[1])};
        const float entering[2] = {faded[0] * (dh_unit * b_unit), faded[1] * (dh_unit * b_unit)};

        wgmma_wait<1>();
        pin(dx);
        float inner[2] = {0.f, 0.f};
#pragma unroll
        for (int step = 0; step < 4; step++)
#pragma unroll
            for (int m = 0; m < 4; m++) {
                const int e = 8 * step + 4 * (m >> 1) + 2 * (m & 1);
                const float2 wide = unpack_half(x[step][m]);
                inner[m & 1] += wide.x * dx[e] + wide.y * dx[e + 1];
                dx[e] *= entering[m & 1];
                dx[e + 1] *= entering[m & 1];
            }
        if (BANDS == 2) {
            float4 *carried = (float4 *)pass.carried +
                              (((long long)at.again().chunk * shape.heads + at.head(i)) * 2 + warpgroup) * 1024 + thread;
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
        const float skip = pass.d && !pass.d_channels ? pass.d[at.head(i) >> shape.slice_bits] : 0.f;
        pin(dx);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < 4; step++)
            product<1>(dx, mask[step], columns_operand(stage + DY_AT + 64 * warpgroup * 128 + 2048 * step), 1);
#pragma unroll
        for (int step = 0; step < 4; step++)
            product<1>(dx, right[step], columns_operand(stage + DY_AT + 64 * 128 + 2048 * step), 1);
        wgmma_commit();

        wgmma_wait<1>();
        pin(t);
        const float unit = scale.from * dh_unit, weight[2] = {dt[0] * faded[0] * unit, dt[1] * faded[1] * unit};
#pragma unroll
        for (int e = 0; e < 32; e++) db[0][e] += weight[(e >> 1) & 1] * t[e];
        if (N_PANELS == 2) {
            pin(t);
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < 4; step++)
                product<1, true>(t, x[step], columns_operand(stage + STATE_AT + STATE_PANEL + 2048 * step), step > 0);
            wgmma_commit();
        }
#pragma unroll
        for (int m = 0; m < 2; m++) {
            float sum = faded[m] * (dh_unit * b_unit * scale.from * inner[m]); // in this order nothing gets too small
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            if ((lane & 3) == 0)
                pass.sums[(pass.place(shape, at.again().chunk, at.head(i)) * SUMS + 4) * Q + row + g + 8 * m] = sum;
        }
        wgmma_wait<N_PANELS - 1>();
        pin(dx);

        // dX takes the place of this warp's rows of X, which nobody else reads.
#pragma unroll
        for (int step = 0; step < 4; step++) {
            u32 dy[4], out[4];
            load_matrices(dy, tile_address(stage + DY_AT, row, 2 * step, lane));
#pragma unroll
            for (int m = 0; m < 4; m++) {
                const int e = 8 * step + 4 * (m >> 1) + 2 * (m & 1);
                const float2 wide = unpack(dy[m]);
                float2 d = make_float2(skip, skip);
                if (pass.d_channels)
                    d = *(const float2 *)(pass.d + at.head(i) * P + 16 * step + 8 * (m >> 1) + c);
                out[m] = pack(dt[m & 1] * dx[e] + d.x * wide.x, dt[m & 1] * dx[e + 1] + d.y * wide.y);
            }
            store_matrices(tile_address(stage + X_AT, row, 2 * step, lane), out[0], out[1], out[2], out[3]);
        }
        __syncwarp();
        const unsigned char *from = at.memory + STAGES_AT + (i % STAGES) * COLUMNS_STAGE + X_AT;
        const Chunk &k = at.again().k;
        storage *to = pass.dx + (shape.position(k, 0) * shape.heads + at.head(i)) * P + (lane & 7) * 8;
#pragma unroll
        for (int m = 0; m < 4; m++) {
            const u32 r = row + 4 * m + (lane >> 3);
            const uint4 v = *(const uint4 *)(from + swizzled(r, lane & 7));
            if (r < k.len && pass.leads()) *(uint4 *)(to + (long long)r * shape.heads * P) = v;
        }
        if (N_PANELS == 2) {
            wgmma_wait<0>();
            pin(t);
        }
        at.release(i, lane);
        if (N_PANELS == 2) {
#pragma unroll
            for (int e = 0; e < 32; e++) db[N_PANELS - 1][e] += weight[(e >> 1) & 1] * t[e];
        }
    }

    const Place &end = at.again();
    const long long part_size = pass.positions * shape.groups * STATE_DIM;
#pragma unroll
    for (int panel = 0; panel < N_PANELS; panel++)
        store_part(pass.db + (2 * end.split + 1) * part_size, db[panel], shape, end, row + g,
                   column_of(end.group, pass.band) + panel * 64 + c);
}
