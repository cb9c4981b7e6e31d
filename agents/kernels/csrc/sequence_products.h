/* The matrix products and the packing of sequence_body.h, in its own number type; sequence_tiles.h has
   them in bfloat16. */

/* ---- matrix products ---- */

INLINE void NAME(tile)(const int rows, const REAL *const *a, long depth, const REAL *panel, REAL *out,
                       long stride, const REAL *bias) {
    VEC sum[ROWS][2];
    for (int i = 0; i < rows; i++) {
        const REAL *from = bias ? bias : out + i * stride;
        sum[i][0] = NAME(load)(from);
        sum[i][1] = NAME(load)(from + LANES);
    }
    const REAL *row[ROWS];
    for (int i = 0; i < rows; i++) row[i] = a[i];
    for (long k = 0; k < depth; k++) {
        VEC left = NAME(load)(panel + k * PANEL), right = NAME(load)(panel + k * PANEL + LANES);
        for (int i = 0; i < rows; i++) {
            sum[i][0] += row[i][k] * left;
            sum[i][1] += row[i][k] * right;
        }
    }
    for (int i = 0; i < rows; i++) {
        NAME(store)(out + i * stride, sum[i][0]);
        NAME(store)(out + i * stride + LANES, sum[i][1]);
    }
}

/* out[rows, columns] = bias + a[rows, depth] . panels; with no bias it adds to what out holds. */
TARGET static void NAME(product)(long rows, const REAL *const *a, long depth, const REAL *panels,
                                 long columns, REAL *out, long stride, const REAL *bias) {
    for (long n = 0; n < columns; n += PANEL) {
        const REAL *panel = panels + n * depth, *b = bias ? bias + n : NULL;
        long m = 0;
        for (; m + ROWS <= rows; m += ROWS)
            NAME(tile)(ROWS, a + m, depth, panel, out + m * stride + n, stride, b);
        for (; m + 4 <= rows; m += 4)
            NAME(tile)(4, a + m, depth, panel, out + m * stride + n, stride, b);
        for (; m + 2 <= rows; m += 2)
            NAME(tile)(2, a + m, depth, panel, out + m * stride + n, stride, b);
        for (; m < rows; m++)
            NAME(tile)(1, a + m, depth, panel, out + m * stride + n, stride, b);
    }
}

/* out[m, n] += sum over rows of g[row, m] b[row, n]; m even, n a multiple of PANEL. */
INLINE void NAME(outer_tile)(const int height, long rows, const REAL *g, long g_stride, const REAL *b,
                             long b_stride, REAL *out, long stride) {
    VEC sum[ROWS][2];
    for (int i = 0; i < height; i++) {
        sum[i][0] = NAME(load)(out + i * stride);
        sum[i][1] = NAME(load)(out + i * stride + LANES);
    }
    for (long r = 0; r < rows; r++) {
        VEC left = NAME(load)(b + r * b_stride), right = NAME(load)(b + r * b_stride + LANES);
        const REAL *row = g + r * g_stride;
        for (int i = 0; i < height; i++) {
            sum[i][0] += row[i] * left;
            sum[i][1] += row[i] * right;
        }
    }
    for (int i = 0; i < height; i++) {
        NAME(store)(out + i * stride, sum[i][0]);
        NAME(store)(out + i * stride + LANES, sum[i][1]);
    }
}

TARGET static void NAME(outer)(long rows, const REAL *g, long g_stride, long m, const REAL *b,
                               long b_stride, long n, REAL *out, long stride) {
    long i = 0;
    for (; i + ROWS <= m; i += ROWS)
        for (long j = 0; j < n; j += PANEL)
            NAME(outer_tile)(ROWS, rows, g + i, g_stride, b + j, b_stride, out + i * stride + j, stride);
    for (; i < m; i += 2)
        for (long j = 0; j < n; j += PANEL)
            NAME(outer_tile)(2, rows, g + i, g_stride, b + j, b_stride, out + i * stride + j, stride);
}

/* ---- packing ---- */

/* Panels for x . W^T: W is [blocks * units, depth], each block padded to `padded` columns. */
TARGET static void NAME(pack_forward)(const REAL *w, long blocks, long units, long padded, long depth,
                                      REAL *panels) {
    for (long n = 0; n < blocks * padded; n += LANES) {
        long unit = n % padded, k = 0;
        const REAL *from = w + (n / padded * units + unit) * depth;
        REAL *to = panels + n / PANEL * PANEL * depth + n % PANEL;
#ifdef PERMUTE
        if (unit + LANES <= units)
            for (; k + LANES <= depth; k += LANES)
                NAME(transpose)(from + k, depth, to + k * PANEL, PANEL);
#endif
        for (; k < depth; k++)
            for (long c = 0; c < LANES; c++)
                to[k * PANEL + c] = unit + c < units ? from[c * depth + k] : 0;
    }
}

/* Panels for g . W: the depth is blocks * padded, with rows of zeros for the padding. */
TARGET static void NAME(pack_backward)(const REAL *w, long blocks, long units, long padded, long columns,
                                       long padded_columns, REAL *panels) {
    long depth = blocks * padded;
    for (long n = 0; n < padded_columns; n += PANEL)
        for (long k = 0; k < depth; k++) {
            long block = k / padded, unit = k % padded;
            const REAL *row = w + (block * units + unit) * columns;
            for (long c = 0; c < PANEL; c++)
                panels[n * depth + k * PANEL + c] =
                    unit < units && n + c < columns ? row[n + c] : 0;
        }
}

/* Where the panels of column n begin. */
INLINE const REAL *NAME(panels)(const REAL *packed, long n, long depth) { return packed + n * depth; }
