/* The operations of steps.c for one instruction set: TARGET is a function attribute, NAME(x) suffixes a
   function's name. Loops are written so that a compiler makes vector code of them. */

#define INLINE static inline __attribute__((always_inline)) TARGET

/* ---- functions of a float ---- */

/* e^x = 2^n e^r with |r| <= ln(2) / 2: the Taylor series of e^r - 1 to the seventh power is exact to a
   rounding. The part 2^n is given back in `scale`. */
INLINE float NAME(exponential)(float x, float *scale) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float n = (x * 1.44269504f + magic) - magic;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float q = r * (1.0f / 5040) + (1.0f / 720);
    q = q * r + (1.0f / 120);
    q = q * r + (1.0f / 24);
    q = q * r + (1.0f / 6);
    q = q * r + 0.5f;
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    memcpy(scale, &bits, sizeof bits);
    return q * r * r + r;
}

INLINE float NAME(between)(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

INLINE float NAME(sigmoid)(float x) {
    float scale, excess = NAME(exponential)(NAME(between)(-x, -80.0f, 80.0f), &scale);
    return 1.0f / (scale * excess + scale + 1.0f);
}

/* With e = e^2x - 1 exact also near zero, tanh x = e / (e + 2). */
INLINE float NAME(tanh)(float x) {
    float scale, excess = NAME(exponential)(2.0f * NAME(between)(x, -9.5f, 9.5f), &scale);
    float e = scale * excess + (scale - 1.0f);
    return e / (e + 2.0f);
}

/* The square of e^(x / 2): what is too large becomes infinite, what is too small 0. */
INLINE float NAME(exp)(float x) {
    float scale, excess = NAME(exponential)(0.5f * NAME(between)(x, -174.0f, 176.0f), &scale);
    float root = scale * excess + scale;
    return root * root;
}

/* The sine of x and so many quarters of a turn: Taylor's series of sine or cosine for what is left of x
   beside the nearest quarter. Beyond 1e9, floats are farther apart than a turn. Of infinity: NaN. */
INLINE float NAME(turned)(float x, int32_t quarters) {
    const double magic = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
    double b = NAME(between)(x, -1e9f, 1e9f), n = (b * 0.63661977236758134 + magic) - magic;
    float r = (float)(b - n * 1.5707963267948966), t = r * r;
    float s = t * (1.0f / 362880) - (1.0f / 5040), c = t * (-1.0f / 3628800) + (1.0f / 40320);
    s = s * t + (1.0f / 120);
    s = s * t - (1.0f / 6);
    c = c * t - (1.0f / 720);
    c = c * t + (1.0f / 24);
    c = c * t - 0.5f;
    int32_t q = (int32_t)n + quarters;
    float y = q & 1 ? c * t + 1.0f : s * t * r + r;
    return (q & 2 ? -y : y) + x * 0.0f;
}

/* The error function: a polynomial in x up to 1, then 1 - e^-g(x); from 4 on it is 1. Both were fitted by
   least squares and are exact to 2e-9. */
INLINE float NAME(erf)(float x) {
    float b = NAME(between)(x, -4.0f, 4.0f), t = b * b, a = fabsf(b);
    float s = t * 7.88249711e-05f - 0.000801885499f, g = a * -0.000185577525f + 0.00293964086f;
    s = s * t + 0.00518931194f;
    s = s * t - 0.0268543288f;
    s = s * t + 0.112835975f;
    s = s * t - 0.376126269f;
    s = s * t + 0.12837917f;
    g = g * a - 0.021805449f;
    g = g * a + 0.103037634f;
    g = g * a + 0.638225379f;
    g = g * a + 1.12704021f;
    g = g * a + 0.000353677461f;
    float scale, excess = NAME(exponential)(-g, &scale), far = (1.0f - scale) - scale * excess;
    return a < 1.0f ? b + b * s : copysignf(far, b);
}

/* ---- number by number ---- */

/* One run of n numbers. Where they stand one after the other, or an operand is one number for all, the
   loop says so, and becomes vector code. */
#define UNARY(TO, FROM, EXPRESSION)                                             \
    do {                                                                        \
        TO *y = out;                                                            \
        const FROM *p = in[0];                                                  \
        if (so == 1 && s[0] == 1)                                               \
            for (long i = 0; i < n; i++) { const FROM a = p[i]; y[i] = (TO)(EXPRESSION); } \
        else                                                                    \
            for (long i = 0; i < n; i++) { const FROM a = p[i * s[0]]; y[i * so] = (TO)(EXPRESSION); } \
    } while (0)

#define BINARY(TO, FROM, EXPRESSION)                                            \
    do {                                                                        \
        TO *y = out;                                                            \
        const FROM *p = in[0], *q = in[1];                                      \
        if (so == 1 && s[0] == 1 && s[1] == 1)                                  \
            for (long i = 0; i < n; i++) { const FROM a = p[i], b = q[i]; y[i] = (TO)(EXPRESSION); } \
        else if (so == 1 && s[0] == 1 && s[1] == 0) {                           \
            const FROM b = *q;                                                  \
            for (long i = 0; i < n; i++) { const FROM a = p[i]; y[i] = (TO)(EXPRESSION); } \
        } else if (so == 1 && s[0] == 0 && s[1] == 1) {                         \
            const FROM a = *p;                                                  \
            for (long i = 0; i < n; i++) { const FROM b = q[i]; y[i] = (TO)(EXPRESSION); } \
        } else                                                                  \
            for (long i = 0; i < n; i++) {                                      \
                const FROM a = p[i * s[0]], b = q[i * s[1]];                    \
                y[i * so] = (TO)(EXPRESSION);                                   \
            }                                                                   \
    } while (0)

#define CHOICE(TYPE)                                                            \
    do {                                                                        \
        TYPE *y = out;                                                          \
        const uint8_t *c = in[0];                                               \
        const TYPE *p = in[1], *q = in[2];                                      \
        if (s[0] == 0) { /* one choice for all of them */                       \
            const TYPE *from = *c ? p : q;                                      \
            const long step = *c ? s[1] : s[2];                                 \
            if (so == 1 && step == 1)                                           \
                memcpy(y, from, n * sizeof *y);                                 \
            else                                                                \
                for (long i = 0; i < n; i++) y[i * so] = from[i * step];        \
        } else                                                                  \
            for (long i = 0; i < n; i++) y[i * so] = c[i * s[0]] ? p[i * s[1]] : q[i * s[2]]; \
    } while (0)

#define CAST(TO)                                                                \
    switch (types[0]) {                                                         \
        case FLOAT: UNARY(TO, float, a); break;                                 \
        case DOUBLE: UNARY(TO, double, a); break;                               \
        case INT64: UNARY(TO, int64_t, a); break;                               \
        case INT32: UNARY(TO, int32_t, a); break;                               \
        case INT8: UNARY(TO, int8_t, a); break;                                 \
        default: UNARY(TO, uint8_t, a);                                         \
    }

#define COMPARE(FROM)                                                           \
    switch (kind) {                                                             \
        case GT: BINARY(uint8_t, FROM, a > b); break;                           \
        case GE: BINARY(uint8_t, FROM, a >= b); break;                          \
        case LT: BINARY(uint8_t, FROM, a < b); break;                           \
        case LE: BINARY(uint8_t, FROM, a <= b); break;                          \
        case EQ: BINARY(uint8_t, FROM, a == b); break;                          \
        default: BINARY(uint8_t, FROM, a != b);                                 \
    }

static TARGET void NAME(copied)(long to, const long *types, void *out, long so, void *const *in,
                                const long *s, long n) {
    switch (to) {
        case FLOAT: CAST(float); break;
        case DOUBLE: CAST(double); break;
        case INT64: CAST(int64_t); break;
        case INT32: CAST(int32_t); break;
        case INT8: CAST(int8_t); break;
        case UINT8: CAST(uint8_t); break;
        default: /* bool */
            switch (types[0]) {
                case FLOAT: UNARY(uint8_t, float, a != 0); break;
                case DOUBLE: UNARY(uint8_t, double, a != 0); break;
                case INT64: UNARY(uint8_t, int64_t, a != 0); break;
                case INT32: UNARY(uint8_t, int32_t, a != 0); break;
                default: UNARY(uint8_t, uint8_t, a != 0);
            }
    }
}

static TARGET void NAME(floats)(long kind, void *out, long so, void *const *in, const long *s, long n) {
    switch (kind) {
        case NEG: UNARY(float, float, -a); break;
        case ABS: UNARY(float, float, fabsf(a)); break;
        case EXP: UNARY(float, float, NAME(exp)(a)); break;
        case LOG: UNARY(float, float, logf(a)); break;
        case LOG1P: UNARY(float, float, log1pf(a)); break;
        case SQRT: UNARY(float, float, sqrtf(a)); break;
        case RSQRT: UNARY(float, float, 1.0f / sqrtf(a)); break;
        case SIN: UNARY(float, float, NAME(turned)(a, 0)); break;
        case COS: UNARY(float, float, NAME(turned)(a, 1)); break;
        case TANH: UNARY(float, float, NAME(tanh)(a)); break;
        case SIGMOID: UNARY(float, float, NAME(sigmoid)(a)); break;
        case ERF: UNARY(float, float, NAME(erf)(a)); break;
        case FLOOR: UNARY(float, float, floorf(a)); break;
        case ADD: BINARY(float, float, a + b); break;
        case SUB: BINARY(float, float, a - b); break;
        case MUL: BINARY(float, float, a * b); break;
        case DIV: BINARY(float, float, a / b); break;
        case MIN: BINARY(float, float, a < b ? a : b); break;
        case MAX2: BINARY(float, float, a > b ? a : b); break;
        case POW: BINARY(float, float, powf(a, b)); break;
        default: BINARY(float, float, a - b * floorf(a / b)); /* mod */
    }
}

/* The remainder of a by b with the sign of b. */
INLINE double NAME(modulo)(double a, double b) {
    double r = a - b * floor(a / b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static TARGET void NAME(doubles)(long kind, void *out, long so, void *const *in, const long *s, long n) {
    switch (kind) {
        case NEG: UNARY(double, double, -a); break;
        case ABS: UNARY(double, double, fabs(a)); break;
        case EXP: UNARY(double, double, exp(a)); break;
        case LOG: UNARY(double, double, log(a)); break;
        case LOG1P: UNARY(double, double, log1p(a)); break;
        case SQRT: UNARY(double, double, sqrt(a)); break;
        case RSQRT: UNARY(double, double, 1.0 / sqrt(a)); break;
        case SIN: UNARY(double, double, sin(a)); break;
        case COS: UNARY(double, double, cos(a)); break;
        case TANH: UNARY(double, double, tanh(a)); break;
        case SIGMOID: UNARY(double, double, 1.0 / (1.0 + exp(-a))); break;
        case ERF: UNARY(double, double, erf(a)); break;
        case FLOOR: UNARY(double, double, floor(a)); break;
        case ADD: BINARY(double, double, a + b); break;
        case SUB: BINARY(double, double, a - b); break;
        case MUL: BINARY(double, double, a * b); break;
        case DIV: BINARY(double, double, a / b); break;
        case MIN: BINARY(double, double, a < b ? a : b); break;
        case MAX2: BINARY(double, double, a > b ? a : b); break;
        case POW: BINARY(double, double, pow(a, b)); break;
        default: BINARY(double, double, NAME(modulo)(a, b)); /* mod */
    }
}

static TARGET void NAME(integers)(long kind, void *out, long so, void *const *in, const long *s, long n) {
    switch (kind) {
        case NEG: UNARY(int64_t, int64_t, -a); break;
        case ADD: BINARY(int64_t, int64_t, a + b); break;
        case SUB: BINARY(int64_t, int64_t, a - b); break;
        case MUL: BINARY(int64_t, int64_t, a * b); break;
        case MIN: BINARY(int64_t, int64_t, a < b ? a : b); break;
        default: BINARY(int64_t, int64_t, a > b ? a : b); /* max2 */
    }
}

static TARGET void NAME(booleans)(long kind, void *out, long so, void *const *in, const long *s, long n) {
    switch (kind) {
        case NOT: UNARY(uint8_t, uint8_t, !a); break;
        case AND: BINARY(uint8_t, uint8_t, a && b); break;
        default: BINARY(uint8_t, uint8_t, a || b); /* or */
    }
}

static TARGET void NAME(compared)(long kind, long type, void *out, long so, void *const *in, const long *s,
                                  long n) {
    switch (type) {
        case FLOAT: COMPARE(float); break;
        case DOUBLE: COMPARE(double); break;
        case INT64: COMPARE(int64_t); break;
        default: COMPARE(uint8_t);
    }
}

static TARGET void NAME(chosen)(long type, void *out, long so, void *const *in, const long *s, long n) {
    switch (type) {
        case FLOAT: CHOICE(float); break;
        case DOUBLE: CHOICE(double); break;
        case INT64: CHOICE(int64_t); break;
        default: CHOICE(uint8_t);
    }
}

#undef UNARY
#undef BINARY
#undef CHOICE
#undef CAST
#undef COMPARE

static const long NAME(width)[] = {4, 8, 8, 4, 1, 1, 1};

INLINE void *NAME(at)(const Array *x, const long *place, long axes) {
    long offset = 0;
    for (long axis = 0; axis < axes; axis++) offset += place[axis] * x->strides[axis];
    return (char *)x->data + offset * NAME(width)[x->type];
}

/* The next place of the first so many axes; 0 after the last one. */
INLINE int NAME(advance)(long *place, const long *sizes, long axes) {
    for (long axis = axes - 1; axis >= 0; axis--) {
        if (++place[axis] < sizes[axis]) return 1;
        place[axis] = 0;
    }
    return 0;
}

static TARGET void NAME(elementwise)(const Operation *o) {
    const long last = o->axes - 1, n = o->sizes[last], type = o->in[o->operands - 1].type;
    long place[AXES] = {0}, s[OPERANDS], types[OPERANDS];
    for (long i = 0; i < o->operands; i++) s[i] = o->in[i].strides[last], types[i] = o->in[i].type;
    const long so = o->out.strides[last];
    do {
        void *out = NAME(at)(&o->out, place, last), *in[OPERANDS] = {0};
        for (long i = 0; i < o->operands; i++) in[i] = NAME(at)(&o->in[i], place, last);
        if (o->kind == COPY)
            NAME(copied)(o->out.type, types, out, so, in, s, n);
        else if (o->kind == WHERE)
            NAME(chosen)(type, out, so, in, s, n);
        else if (o->kind >= GT && o->kind <= NE)
            NAME(compared)(o->kind, type, out, so, in, s, n);
        else if (type == FLOAT)
            NAME(floats)(o->kind, out, so, in, s, n);
        else if (type == DOUBLE)
            NAME(doubles)(o->kind, out, so, in, s, n);
        else if (type == INT64)
            NAME(integers)(o->kind, out, so, in, s, n);
        else
            NAME(booleans)(o->kind, out, so, in, s, n);
    } while (NAME(advance)(place, o->sizes, last));
}

/* ---- products and sums ---- */

/* Sixteen sums side by side. */
INLINE float NAME(dot)(const float *a, const float *b, long n) {
    float s[16] = {0}, total = 0;
    long i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) s[j] += a[i + j] * b[i + j];
    for (; i < n; i++) total += a[i] * b[i];
    for (int j = 0; j < 16; j++) total += s[j];
    return total;
}

/* Four rows of w at a time, all of them in order; each begins `stride` numbers after the one before. */
static TARGET void NAME(row_times_matrix)(float *restrict y, const float *restrict x,
                                          const float *restrict w, const float *restrict begin,
                                          long rows, long columns, long stride) {
    long k = 0;
    for (long n = 0; n < columns; n++) y[n] = begin ? begin[n] : 0;
    for (; k + 4 <= rows; k += 4, w += 4 * stride) {
        const float a = x[k], b = x[k + 1], c = x[k + 2], d = x[k + 3];
        for (long n = 0; n < columns; n++)
            y[n] += (a * w[n] + b * w[stride + n]) +
                    (c * w[2 * stride + n] + d * w[3 * stride + n]);
    }
    for (; k < rows; k++, w += stride)
        for (long n = 0; n < columns; n++) y[n] += x[k] * w[n];
}

INLINE Eight NAME(eight)(const float *p) {
    Eight v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* TALL rows of x times 16 columns of w: the sums stay in registers. */
static TARGET void NAME(tile)(float *restrict y, long sy, const float *restrict x, long sx,
                              const float *restrict w, const float *restrict begin, long rows,
                              long stride) {
    Eight left[TALL], right[TALL];
    for (int r = 0; r < TALL; r++) {
        left[r] = begin ? NAME(eight)(begin) : (Eight){0};
        right[r] = begin ? NAME(eight)(begin + 8) : (Eight){0};
    }
    for (long k = 0; k < rows; k++, w += stride) {
        const Eight a = NAME(eight)(w), b = NAME(eight)(w + 8);
        for (int r = 0; r < TALL; r++) {
            left[r] += x[r * sx + k] * a;
            right[r] += x[r * sx + k] * b;
        }
    }
    for (int r = 0; r < TALL; r++) {
        memcpy(y + r * sy, &left[r], sizeof left[r]);
        memcpy(y + r * sy + 8, &right[r], sizeof right[r]);
    }
}

/* y[m, n] = begin[n] + sum over k of x[m, k] w[k, n]. Columns are the outer loop: the few of w that a
   tile reads stay near while all rows of x pass. What no tile covers goes row by row. */
static TARGET void NAME(matrix_times_matrix)(float *y, long sy, const float *x, long sx, const float *w,
                                             const float *begin, long count, long rows, long columns) {
    const long high = count - count % TALL, wide = high ? columns - columns % 16 : 0;
    for (long n = 0; n < wide; n += 16)
        for (long m = 0; m < high; m += TALL)
            NAME(tile)(y + m * sy + n, sy, x + m * sx, sx, w + n, begin ? begin + n : NULL, rows, columns);
    for (long m = 0; m < count; m++) {
        const long from = m < high ? wide : 0;
        if (from < columns)
            NAME(row_times_matrix)(y + m * sy + from, x + m * sx, w + from, begin ? begin + from : NULL,
                                   rows, columns - from, columns);
    }
}

/* Axes of the output, of which the last is that of w's columns, and then the one that is summed over. */
static TARGET void NAME(product)(const Operation *o) {
    const Array *x = &o->in[0], *w = &o->in[1];
    const long last = o->axes - 1, columns = o->sizes[last - 1], rows = o->sizes[last];
    const long sx = x->strides[last], sw = w->strides[last], sc = w->strides[last - 1];
    const long sy = o->out.strides[last - 1];
    const float *begin = o->operands == 3 ? o->in[2].data : NULL;
    const int dense = sx == 1 && sc == 1 && sw == columns && sy == 1;
    /* One matrix for all rows of x, whose axis is the one before the columns'. */
    const long lead = dense && last > 1 ? last - 2 : last - 1;
    long place[AXES] = {0};
    do {
        float *y = NAME(at)(&o->out, place, lead);
        const float *a = NAME(at)(x, place, lead), *b = NAME(at)(w, place, lead);
        if (dense)
            NAME(matrix_times_matrix)(y, o->out.strides[lead], a, x->strides[lead], b, begin,
                                      lead < last - 1 ? o->sizes[lead] : 1, rows, columns);
        else
            for (long n = 0; n < columns; n++) {
                float total = 0;
                if (sx == 1 && sw == 1)
                    total = NAME(dot)(a, b + n * sc, rows);
                else
                    for (long k = 0; k < rows; k++) total += a[k * sx] * b[n * sc + k * sw];
                y[n * sy] = total + (begin ? begin[n] : 0);
            }
    } while (NAME(advance)(place, o->sizes, lead));
}

static TARGET void NAME(reduction)(const Operation *o) {
    const long last = o->axes - 1, n = o->sizes[last], s = o->in[0].strides[last];
    long place[AXES] = {0};
    do {
        const float *x = NAME(at)(&o->in[0], place, last);
        void *out = NAME(at)(&o->out, place, last);
        float total = x[0];
        int64_t where = 0;
        for (long i = 1; i < n; i++) {
            const float a = x[i * s];
            if (o->kind == SUM)
                total += a;
            else if (a > total)
                total = a, where = i;
        }
        if (o->kind == ARGMAX)
            *(int64_t *)out = where;
        else
            *(float *)out = total;
    } while (NAME(advance)(place, o->sizes, last));
}

static TARGET void NAME(rows)(const Operation *o) {
    const long count = o->sizes[0], width = o->sizes[1];
    const float *table = o->in[0].data;
    const int64_t *index = o->in[1].data;
    float *y = o->out.data;
    for (long i = 0; i < count; i++) memcpy(y + i * width, table + index[i] * width, sizeof(float) * width);
}

/* For each place the numbers under the kernel, in a row, times the factors. */
static TARGET void NAME(convolution)(const Operation *o) {
    const long *p = o->options;
    const long batch = p[0], channels = p[1], height = p[2], width = p[3], outs = p[4], rows = p[5];
    const long columns = p[6], high = p[7], wide = p[8], down = p[9], across = p[10];
    const long above = p[11], left = p[12];
    float *patch = o->scratch, *sums = patch + channels * rows * columns;
    for (long b = 0; b < batch; b++) {
        const float *x = (const float *)o->in[0].data + b * channels * height * width;
        float *y = (float *)o->out.data + b * outs * high * wide;
        for (long i = 0; i < high * wide; i++) {
            float *to = patch;
            for (long c = 0; c < channels; c++)
                for (long r = 0; r < rows; r++)
                    for (long s = 0; s < columns; s++) {
                        const long line = i / wide * down + r - above, place = i % wide * across + s - left;
                        const int inside = line >= 0 && line < height && place >= 0 && place < width;
                        *to++ = inside ? x[(c * height + line) * width + place] : 0;
                    }
            NAME(row_times_matrix)(sums, patch, o->in[1].data, o->in[2].data, to - patch, outs, outs);
            for (long f = 0; f < outs; f++) y[f * high * wide + i] = sums[f];
        }
    }
}

static TARGET void NAME(run)(const Operation *o) {
    switch (o->kind) {
        case PRODUCT: NAME(product)(o); break;
        case SUM:
        case MAX:
        case ARGMAX: NAME(reduction)(o); break;
        case ROWS: NAME(rows)(o); break;
        case CONVOLUTION: NAME(convolution)(o); break;
        default: NAME(elementwise)(o);
    }
}

#undef INLINE
#undef TARGET
#undef NAME
