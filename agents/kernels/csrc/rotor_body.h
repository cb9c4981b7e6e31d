/* The rotor's recurrence for one number type and one instruction set; sequence_body.h includes this.

       k = sigmoid(f),  a = k exp(i theta tanh(v)),  h_t = a h_tm1 + sqrt(1 - k^2) x_t

   with x, f and v from the input alone. Nothing but h is kept for the backward pass: to compute the
   factors again takes less time than to fetch them from memory. */

/* ---- functions of a vector ---- */

#if IS_FLOAT
/* The nearest multiple n of pi / 2 goes, in three parts that multiply exactly; what is left is within
   pi / 4, where the Taylor series to the ninth and tenth powers are exact to a rounding. */
INLINE void NAME(sine_cosine)(VEC x, VEC *sine, VEC *cosine) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    VEC n = (x * 0.636619772f + magic) - magic;
    VEC r = x - n * 1.5703125f;
    r = r - n * 4.837512969970703e-4f;
    r = r - n * 7.549789954891882e-8f;
    VEC z = r * r;
    VEC odd = z * (1.0f / 362880) - (1.0f / 5040);
    odd = odd * z + (1.0f / 120);
    odd = odd * z - (1.0f / 6);
    odd = odd * z * r + r;
    VEC even = (1.0f / 40320) - z * (1.0f / 3628800);
    even = even * z - (1.0f / 720);
    even = even * z + (1.0f / 24);
    even = even * z - 0.5f;
    even = even * z + 1.0f;
    NAME(ints) quarter = __builtin_convertvector(n, NAME(ints)), swap = (quarter & 1) != 0;
    NAME(ints) s = ((NAME(ints))odd & ~swap) | ((NAME(ints))even & swap);
    NAME(ints) c = ((NAME(ints))even & ~swap) | ((NAME(ints))odd & swap);
    s ^= (quarter & 2) << 30;
    c ^= ((quarter + 1) & 2) << 30;
    *sine = (VEC)s;
    *cosine = (VEC)c;
}

/* 1 / sqrt(x) for normal x > 0: a guess from the bits, and Newton's steps. */
INLINE VEC NAME(inverse_root)(VEC x) {
    VEC y = (VEC)(0x5f3759df - ((NAME(ints))x >> 1));
    for (int i = 0; i < 3; i++) y = y * (1.5f - 0.5f * x * y * y);
    return y;
}

/* k = sigmoid(f) and sigmoid(-f): 1 - k would lose the digits of the second where k is nearly one. */
INLINE void NAME(sigmoids)(VEC f, VEC *keep, VEC *fade) {
    VEC scale, excess = NAME(exponential)(NAME(clamp)(-f, -80.0f, 80.0f), &scale);
    VEC e = scale * excess + scale;
    *keep = NAME(reciprocal)(e + 1.0f);
    *fade = e * *keep;
}
#else
INLINE void NAME(sine_cosine)(VEC x, VEC *sine, VEC *cosine) {
    VEC s = {0}, c = {0};
    for (int i = 0; i < LANES; i++) s[i] = sin(x[i]), c[i] = cos(x[i]);
    *sine = s;
    *cosine = c;
}

INLINE VEC NAME(inverse_root)(VEC x) {
    for (int i = 0; i < LANES; i++) x[i] = 1 / sqrt(x[i]);
    return x;
}

INLINE void NAME(sigmoids)(VEC f, VEC *keep, VEC *fade) {
    for (int i = 0; i < LANES; i++) f[i] = f[i] > 700 ? 700 : f[i]; /* its root must not be zero */
    *keep = NAME(sigmoid)(f);
    *fade = NAME(sigmoid)(-f);
}
#endif

/* Up to LANES complex numbers, whose parts stand side by side. */
INLINE void NAME(load_complex)(const REAL *p, long n, VEC *re, VEC *im) {
    REAL left[LANES] = {0}, right[LANES] = {0};
    if (n >= LANES)
        for (int i = 0; i < LANES; i++) left[i] = p[2 * i], right[i] = p[2 * i + 1];
    else
        for (long i = 0; i < n; i++) left[i] = p[2 * i], right[i] = p[2 * i + 1];
    *re = NAME(load)(left);
    *im = NAME(load)(right);
}

INLINE void NAME(store_complex)(REAL *p, long n, VEC re, VEC im) {
    REAL left[LANES], right[LANES];
    NAME(store)(left, re);
    NAME(store)(right, im);
    if (n >= LANES)
        for (int i = 0; i < LANES; i++) p[2 * i] = left[i], p[2 * i + 1] = right[i];
    else
        for (long i = 0; i < n; i++) p[2 * i] = left[i], p[2 * i + 1] = right[i];
}

/* ---- the recurrence ---- */

typedef struct {
    VEC keep, fade, turn, sine, cosine, root; /* root: 1 / sqrt(1 - k^2) */
} NAME(Factors);

INLINE NAME(Factors) NAME(factors)(const REAL *control, const REAL *theta, long units, long k) {
    NAME(Factors) is;
    NAME(sigmoids)(NAME(load_some)(control + k, units - k), &is.keep, &is.fade);
    is.turn = NAME(tanh)(NAME(load_some)(control + units + k, units - k));
    NAME(sine_cosine)(is.turn * NAME(load_some)(theta + k, units - k), &is.sine, &is.cosine);
    is.root = NAME(inverse_root)(is.fade * (is.keep + 1));
    return is;
}

TARGET static void NAME(rotor_share)(const Rotor *s, long first, long end, long number) {
    long units = s->units, wide = 2 * units;
    const REAL *theta = s->theta, *input = s->input, *h0 = s->h0, *dh = s->dh;
    REAL *h = s->h, *dinput = s->dinput, *dh0 = s->dh0;
    REAL *dtheta = s->dh ? (REAL *)s->dtheta + number * units : NULL;
    if (s->dh)
        for (long k = 0; k < units; k++) dtheta[k] = 0;
    for (long b = first; b < end; b++)
        for (long step = 0; step < s->steps; step++) {
            long t = s->dh ? s->steps - 1 - step : step, at = t * s->batch + b;
            const REAL *x = input + at * 2 * wide;
            const REAL *before = t ? h + (at - s->batch) * wide : h0 + b * wide;
            REAL *later = dh0 ? dh0 + b * wide : NULL; /* of h_t from the steps behind it */
            int starts = s->start && s->start[at];
            for (long k = 0; k < units; k += LANES) {
                long n = units - k;
                NAME(Factors) is = NAME(factors)(x + wide, theta, units, k);
                VEC scale = is.fade * (is.keep + 1) * is.root;
                VEC x_re, x_im, re = {0}, im = {0};
                NAME(load_complex)(x + 2 * k, n, &x_re, &x_im);
                if (!starts) NAME(load_complex)(before + 2 * k, n, &re, &im);
                if (!s->dh) {
                    VEC a_re = is.keep * is.cosine, a_im = is.keep * is.sine;
                    NAME(store_complex)(h + at * wide + 2 * k, n, a_re * re - a_im * im + scale * x_re,
                                        a_re * im + a_im * re + scale * x_im);
                    continue;
                }
                VEC g_re, g_im, more_re = {0}, more_im = {0};
                NAME(load_complex)(dh + at * wide + 2 * k, n, &g_re, &g_im);
                if (step) NAME(load_complex)(later + 2 * k, n, &more_re, &more_im);
                g_re += more_re;
                g_im += more_im;
                /* The gradient of a is g conj(h_tm1): its part along a is k's, the other the angle's. */
                VEC of_re = g_re * re + g_im * im, of_im = g_im * re - g_re * im;
                VEC of_keep = of_re * is.cosine + of_im * is.sine;
                VEC of_angle = is.keep * (of_im * is.cosine - of_re * is.sine);
                VEC of_scale = g_re * x_re + g_im * x_im;
                REAL *out = dinput + at * 2 * wide;
                NAME(store_complex)(out + 2 * k, n, scale * g_re, scale * g_im);
                NAME(store_some)(out + wide + k,
                                 is.keep * is.fade * (of_keep - of_scale * is.keep * is.root), n);
                NAME(store_some)(out + wide + units + k,
                                 of_angle * NAME(load_some)(theta + k, n) * (1 - is.turn * is.turn), n);
                NAME(store_some)(dtheta + k, NAME(load_some)(dtheta + k, n) + of_angle * is.turn, n);
                VEC to_re = is.keep * (is.cosine * g_re + is.sine * g_im);
                VEC to_im = is.keep * (is.cosine * g_im - is.sine * g_re);
                if (starts) to_re = to_im = (VEC){0};
                NAME(store_complex)(later + 2 * k, n, to_re, to_im);
            }
        }
}
