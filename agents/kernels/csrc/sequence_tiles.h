/* The matrix products and the packing of sequence_body.h in bfloat16, on the tiles of AMX.

   A factor of each product is rounded to bfloat16 and the sum is kept in float: 8 bits of each number
   instead of 24, with float's range. A tile register holds 16 rows of 64 bytes. The right factor is
   packed into tiles of 32 deep and 16 wide in which two numbers of a column stand side by side. */

#define DEEP 32
#define WIDE 16

/* Factors are packed on the stack, a stretch of the depth or of the columns at a time: at most 256 KiB,
   however large a layer is. */
#define STRETCH 8192 /* of the depth, for 16 rows */
#define COLUMNS 1024 /* of the right factor, for the rows of a window */

/* The compiler does not know that a tile instruction reads memory: what was written must be there. */
#define WRITTEN(p) __asm__ volatile("" ::"r"(p) : "memory")

typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} TileConfig;

/* Sums in registers 0 to 3 and the left factor in 4 have so many rows; the right factor, in 5, has 16. */
INLINE void NAME(configure)(long rows) {
    TileConfig config = {.palette = 1};
    for (int i = 0; i < 6; i++) {
        config.bytes[i] = 64;
        config.rows[i] = i < 5 ? (uint8_t)rows : 16;
    }
    WRITTEN(&config);
    _tile_loadconfig(&config);
}

INLINE void NAME(release)(void) { _tile_release(); }

INLINE long NAME(deep)(long depth) { return (depth + DEEP - 1) / DEEP * DEEP; }

/* Where the panels of column n begin: two numbers take the room of one. */
INLINE const REAL *NAME(panels)(const REAL *packed, long n, long depth) {
    return packed + n * NAME(deep)(depth) / 2;
}

/* 32 floats, the last ones of a row perhaps missing, as 16 pairs in order. */
INLINE __m512i NAME(pairs)(const REAL *p, long n) {
    VEC low = n > 0 ? NAME(load_some)(p, n) : (VEC){0};
    VEC high = n > LANES ? NAME(load_some)(p + LANES, n - LANES) : (VEC){0};
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}

/* Two rows of 16 floats as 16 pairs of a column each. */
INLINE __m512i NAME(interleave)(VEC even, VEC odd) {
    __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)even));
    __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)odd));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* Four columns of tiles: out[16, 64] += left . right; `rows` is what the registers have. The right
   factor's columns of tiles are `apart` deep, of which `depth` are read. */
INLINE void NAME(tiles)(long depth, long apart, const uint16_t *left, const uint16_t *right, REAL *out,
                        long stride, const REAL *bias, const int columns) {
    /* A tile of the bias is one row, loaded 16 times. */
    const REAL *from = bias ? bias : out;
    long step = bias ? 0 : stride * (long)sizeof(REAL), tile = DEEP * WIDE, column = apart * WIDE;
    _tile_loadd(0, from, step);
    _tile_loadd(1, from + WIDE, step);
    if (columns == 4) {
        _tile_loadd(2, from + 2 * WIDE, step);
        _tile_loadd(3, from + 3 * WIDE, step);
    }
    for (long k = 0; k < depth / DEEP; k++) {
        _tile_loadd(4, left + k * DEEP, depth * (long)sizeof(uint16_t));
        _tile_loadd(5, right + k * tile, 64);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(5, right + column + k * tile, 64);
        _tile_dpbf16ps(1, 4, 5);
        if (columns == 4) {
            _tile_loadd(5, right + 2 * column + k * tile, 64);
            _tile_dpbf16ps(2, 4, 5);
            _tile_loadd(5, right + 3 * column + k * tile, 64);
            _tile_dpbf16ps(3, 4, 5);
        }
    }
    step = stride * (long)sizeof(REAL);
    _tile_stored(0, out, step);
    _tile_stored(1, out + WIDE, step);
    if (columns == 4) {
        _tile_stored(2, out + 2 * WIDE, step);
        _tile_stored(3, out + 3 * WIDE, step);
    }
}

INLINE void NAME(all_columns)(long depth, long apart, const uint16_t *left, const uint16_t *right,
                              long columns, REAL *out, long stride, const REAL *bias) {
    long n = 0;
    for (; n + 4 * WIDE <= columns; n += 4 * WIDE)
        NAME(tiles)(depth, apart, left, right + n * apart, out + n, stride, bias ? bias + n : NULL, 4);
    if (n < columns)
        NAME(tiles)(depth, apart, left, right + n * apart, out + n, stride, bias ? bias + n : NULL, 2);
}

/* out[rows, columns] = bias + a[rows, depth] . panels; with no bias it adds to what out holds. */
TARGET static void NAME(product)(long rows, const REAL *const *a, long depth, const REAL *panels,
                                 long columns, REAL *out, long stride, const REAL *bias) {
    long deep = NAME(deep)(depth), configured = 0;
    uint16_t left[16 * (deep < STRETCH ? deep : STRETCH)] __attribute__((aligned(64)));
    for (long m = 0; m < rows; m += 16) {
        long here = rows - m < 16 ? rows - m : 16;
        if (here != configured) NAME(configure)(configured = here);
        for (long from = 0; from < deep; from += STRETCH) {
            long some = deep - from < STRETCH ? deep - from : STRETCH;
            for (long i = 0; i < here; i++)
                for (long k = 0; k < some; k += DEEP)
                    _mm512_store_si512(left + i * some + k,
                                       NAME(pairs)(a[m + i] + from + k, depth - from - k));
            WRITTEN(left);
            NAME(all_columns)(some, deep, left, (const uint16_t *)panels + from * WIDE, columns,
                              out + m * stride, stride, from ? NULL : bias);
        }
    }
    NAME(release)();
}

/* out[m, n] += sum over rows of g[row, m] b[row, n]; m a multiple of 16, n of PANEL and at most COLUMNS. */
TARGET static void NAME(outer_stretch)(long rows, const REAL *g, long g_stride, long m, const REAL *b,
                                       long b_stride, long n, REAL *out, long stride) {
    long deep = NAME(deep)(rows);
    uint16_t left[16 * deep] __attribute__((aligned(64))), right[deep * n] __attribute__((aligned(64)));
    const VEC zero = {0};
    for (long j = 0; j < n; j += WIDE)
        for (long r = 0; r < deep; r += 2)
            _mm512_store_si512(
                right + j * deep + r * WIDE,
                NAME(interleave)(r < rows ? NAME(load)(b + r * b_stride + j) : zero,
                                 r + 1 < rows ? NAME(load)(b + (r + 1) * b_stride + j) : zero));
    NAME(configure)(16);
    for (long i = 0; i < m; i += 16) {
        REAL turned[16 * DEEP] __attribute__((aligned(64)));
        for (long r = 0; r < deep; r += DEEP) {
            REAL block[DEEP * 16] __attribute__((aligned(64)));
            for (long k = 0; k < DEEP; k++)
                NAME(store)(block + k * 16, r + k < rows ? NAME(load)(g + (r + k) * g_stride + i) : zero);
            NAME(transpose)(block, 16, turned, DEEP);
            NAME(transpose)(block + 16 * 16, 16, turned + 16, DEEP);
            for (long k = 0; k < 16; k++)
                _mm512_store_si512(left + k * deep + r, NAME(pairs)(turned + k * DEEP, DEEP));
        }
        WRITTEN(left);
        WRITTEN(right);
        NAME(all_columns)(deep, deep, left, right, n, out + i * stride, stride, NULL);
    }
    NAME(release)();
}

/* The same of any number of columns. */
TARGET static void NAME(outer)(long rows, const REAL *g, long g_stride, long m, const REAL *b,
                               long b_stride, long n, REAL *out, long stride) {
    for (long j = 0; j < n; j += COLUMNS)
        NAME(outer_stretch)(rows, g, g_stride, m, b + j, b_stride, n - j < COLUMNS ? n - j : COLUMNS,
                            out + j, stride);
}

/* Panels for x . W^T: W is [blocks * units, depth], each block padded to `padded` columns. */
TARGET static void NAME(pack_forward)(const REAL *w, long blocks, long units, long padded, long depth,
                                      REAL *panels) {
    long deep = NAME(deep)(depth);
    for (long n = 0; n < blocks * padded; n += WIDE)
        for (long k = 0; k < deep; k += DEEP) {
            REAL columns[WIDE * 16] __attribute__((aligned(64)));
            for (long c = 0; c < WIDE; c++) {
                long unit = n % padded + c;
                const REAL *row = w + (n / padded * units + unit) * depth + k;
                _mm512_store_si512(columns + c * 16, unit < units ? NAME(pairs)(row, depth - k)
                                                                  : _mm512_setzero_si512());
            }
            NAME(transpose)(columns, 16, panels + (n * deep + k * WIDE) / 2, 16);
        }
}

/* Panels for g . W: the depth is blocks * padded, with rows of zeros for the padding. */
TARGET static void NAME(pack_backward)(const REAL *w, long blocks, long units, long padded, long columns,
                                       long padded_columns, REAL *panels) {
    long depth = blocks * padded;
    for (long n = 0; n < padded_columns; n += WIDE)
        for (long k = 0; k < depth; k += 2) {
            VEC row[2];
            for (long j = 0; j < 2; j++) {
                long unit = (k + j) % padded;
                const REAL *from = w + ((k + j) / padded * units + unit) * columns + n;
                row[j] = unit < units && n < columns ? NAME(load_some)(from, columns - n) : (VEC){0};
            }
            NAME(store)(panels + (n * depth + k * WIDE) / 2,
                        (VEC)NAME(interleave)(row[0], row[1]));
        }
}

#undef DEEP
#undef WIDE
#undef STRETCH
#undef COLUMNS
#undef WRITTEN
