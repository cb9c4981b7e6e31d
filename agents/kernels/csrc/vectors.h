/* Numbers side by side in a vector register: reading, writing, sigmoid and tanh, for one number type
   and one instruction set; sequence_body.h includes this. */

typedef REAL NAME(vec) __attribute__((vector_size(LANES * sizeof(REAL))));
#define VEC NAME(vec)

INLINE VEC NAME(load)(const REAL *p) {
    VEC v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void NAME(store)(REAL *p, VEC v) { memcpy(p, &v, sizeof v); }

/* The first n numbers of a row that has no padding; the others are zero. */
INLINE VEC NAME(load_some)(const REAL *p, long n) {
    if (n >= LANES) return NAME(load)(p);
    REAL lanes[LANES] = {0};
    for (long i = 0; i < n; i++) lanes[i] = p[i];
    return NAME(load)(lanes);
}

INLINE void NAME(store_some)(REAL *p, VEC v, long n) {
    if (n >= LANES) {
        NAME(store)(p, v);
        return;
    }
    REAL lanes[LANES];
    NAME(store)(lanes, v);
    for (long i = 0; i < n; i++) p[i] = lanes[i];
}

/* ---- sigmoid and tanh ---- */

#if IS_FLOAT
typedef int32_t NAME(ints) __attribute__((vector_size(LANES * sizeof(int32_t))));

INLINE VEC NAME(clamp)(VEC x, float low, float high) {
    VEC lowest = (VEC){0} + low, highest = (VEC){0} + high;
    NAME(ints) below = x < lowest, above = x > highest;
    NAME(ints) bits = ((NAME(ints))x & ~below & ~above) | ((NAME(ints))lowest & below) |
                      ((NAME(ints))highest & above);
    return (VEC)bits;
}

INLINE VEC NAME(reciprocal)(VEC x) {
#ifdef RECIPROCAL
    VEC y = (VEC)RECIPROCAL(x);
    return y * (2.0f - x * y); /* one step of Newton's: 14 bits become 28 */
#else
    return 1.0f / x;
#endif
}

/* e^x = scale * (1 + excess), with scale a power of two and excess = e^r - 1, |r| <= ln(2) / 2: its
   Taylor series to the seventh power is exact to a rounding. */
INLINE VEC NAME(exponential)(VEC x, VEC *scale) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    VEC n = (x * 1.44269504f + magic) - magic;
    VEC r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    VEC q = r * (1.0f / 5040) + (1.0f / 720);
    q = q * r + (1.0f / 120);
    q = q * r + (1.0f / 24);
    q = q * r + (1.0f / 6);
    q = q * r + 0.5f;
    NAME(ints) bits = (__builtin_convertvector(n, NAME(ints)) + 127) << 23;
    memcpy(scale, &bits, sizeof bits);
    return q * r * r + r;
}

INLINE VEC NAME(sigmoid)(VEC x) {
    VEC scale, excess = NAME(exponential)(NAME(clamp)(-x, -80.0f, 80.0f), &scale);
    return NAME(reciprocal)(scale * excess + scale + 1.0f);
}

/* With e = e^2x - 1 exact also near zero, tanh x = e / (e + 2). A NaN goes through as it came. */
INLINE VEC NAME(tanh)(VEC x) {
    VEC scale, excess = NAME(exponential)(2.0f * NAME(clamp)(x, -9.5f, 9.5f), &scale);
    VEC e = scale * excess + (scale - 1.0f);
    return e * NAME(reciprocal)(e + 2.0f);
}
#else
INLINE VEC NAME(sigmoid)(VEC x) {
    for (int i = 0; i < LANES; i++) x[i] = 1 / (1 + exp(-x[i]));
    return x;
}

INLINE VEC NAME(tanh)(VEC x) {
    for (int i = 0; i < LANES; i++) x[i] = tanh(x[i]);
    return x;
}
#endif

#ifdef PERMUTE
/* to[k][r] = from[r][k] for LANES by LANES numbers: at distance d, rows i and i + d swap the blocks of
   d columns that lie across the diagonal. */
INLINE void NAME(transpose)(const REAL *from, long stride, REAL *to, long to_stride) {
    VEC row[LANES];
    for (int i = 0; i < LANES; i++) row[i] = NAME(load)(from + i * stride);
    for (int d = LANES / 2; d; d /= 2) {
        NAME(ints) low, high;
        for (int i = 0; i < LANES; i++) {
            low[i] = i & d ? LANES + i - d : i;
            high[i] = i & d ? LANES + i : i + d;
        }
        for (int i = 0; i < LANES; i++)
            if (!(i & d)) {
                VEC a = row[i], b = row[i + d];
                row[i] = (VEC)PERMUTE(a, low, b);
                row[i + d] = (VEC)PERMUTE(a, high, b);
            }
    }
    for (int i = 0; i < LANES; i++) NAME(store)(to + i * to_stride, row[i]);
}
#endif
