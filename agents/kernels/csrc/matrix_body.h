/* Heads of matrix memory for one number type and one instruction set; sequence_body.h includes this.

       S_t = a_t S_tm1 + v_t k_t',  o_t = S_t q_t,  a = sigmoid(f)

   A head goes through all steps of an environment before the next: its matrix then stays in the
   nearest cache. The way back takes two passes and keeps no matrices: one forward, which has S_t again
   for the gradients of q, and one backward, which has dS_t for those of k and v. */

/* What a share works in: all padded with zeros, units to PAD and values to 4. */
typedef struct {
    long half, size, values;       /* units, two times that, and values, as padded */
    int as_given;                  /* nothing is padded: the state is worked on where it goes */
    REAL *s, *ds;                  /* [values, size] */
    REAL *q, *k, *dq, *dk;         /* [size]: real parts, then imaginary ones */
    REAL *v, *o, *dv;              /* [values]; o is its gradient on the way back */
    REAL *angle;                   /* [half] */
} NAME(Head);

INLINE NAME(Head) NAME(head_in)(const Matrix *m, REAL *at) {
    NAME(Head) h = {.half = padded(m->units, PAD), .values = padded(m->values, 4)};
    h.size = 2 * h.half;
    h.as_given = h.half == m->units && h.values == m->values;
    h.s = at, at += h.values * h.size;
    h.ds = at, at += h.values * h.size;
    memset(at, 0, (4 * h.size + 3 * h.values + h.half) * sizeof(REAL));
    h.q = at, at += h.size;
    h.k = at, at += h.size;
    h.dq = at, at += h.size;
    h.dk = at, at += h.size;
    h.v = at, at += h.values;
    h.o = at, at += h.values;
    h.dv = at, at += h.values;
    h.angle = at;
    return h;
}

/* Rows of numbers without padding, to and from such with it. */
INLINE void NAME(widen)(REAL *to, long to_width, const REAL *from, long width, long rows) {
    for (long r = 0; r < rows; r++) {
        memcpy(to + r * to_width, from + r * width, width * sizeof(REAL));
        memset(to + r * to_width + width, 0, (to_width - width) * sizeof(REAL)); /* it may be NaN */
    }
}

INLINE void NAME(narrow)(REAL *to, const REAL *from, long from_width, long width, long rows) {
    for (long r = 0; r < rows; r++) memcpy(to + r * width, from + r * from_width, width * sizeof(REAL));
}

INLINE REAL NAME(total)(VEC x) {
    REAL sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

INLINE REAL NAME(dot)(const REAL *a, const REAL *b, long n) {
    VEC sum = {0};
    for (long i = 0; i < n; i += LANES) sum += NAME(load)(a + i) * NAME(load)(b + i);
    return NAME(total)(sum);
}

/* z exp(i sign angle), of complex numbers. */
INLINE void NAME(turn)(REAL *z, const REAL *angle, REAL sign, long half) {
    for (long i = 0; i < half; i += LANES) {
        VEC sine, cosine, re = NAME(load)(z + i), im = NAME(load)(z + half + i);
        NAME(sine_cosine)(NAME(load)(angle + i), &sine, &cosine);
        sine *= sign;
        NAME(store)(z + i, re * cosine - im * sine);
        NAME(store)(z + half + i, re * sine + im * cosine);
    }
}

#define SHORTEST ((REAL)1e-12) /* a length; shorter keys are divided by it */

INLINE REAL NAME(length)(const REAL *z, long size) {
    REAL length = (REAL)sqrt(NAME(dot)(z, z, size));
    return length < SHORTEST ? SHORTEST : length; /* a NaN stays */
}

/* z / |z| */
INLINE void NAME(to_unit)(REAL *z, long size) {
    REAL inverse = 1 / NAME(length)(z, size);
    for (long i = 0; i < size; i += LANES) NAME(store)(z + i, NAME(load)(z + i) * inverse);
}

/* The gradient of z, from dz of u = z / |z|: (dz - u (u . dz)) / |z|. */
INLINE void NAME(from_unit)(REAL *dz, const REAL *u, REAL length, long size) {
    REAL along = length > SHORTEST ? NAME(dot)(u, dz, size) : 0, inverse = 1 / length;
    for (long i = 0; i < size; i += LANES)
        NAME(store)(dz + i, (NAME(load)(dz + i) - along * NAME(load)(u + i)) * inverse);
}

/* S = a S + v k' and o = S q; S as it was stands in `before`, which may be S. */
TARGET static void NAME(write_and_read)(const NAME(Head) *h, const REAL *before, REAL a) {
    for (long j = 0; j < h->values; j += 4) {
        REAL *s = h->s + j * h->size;
        const REAL *was = before + j * h->size;
        VEC sum[4] = {{0}}, v[4];
        for (int r = 0; r < 4; r++) v[r] = (VEC){0} + h->v[j + r];
        for (long i = 0; i < h->size; i += LANES) {
            VEC k = NAME(load)(h->k + i), q = NAME(load)(h->q + i);
            for (int r = 0; r < 4; r++) {
                VEC row = a * NAME(load)(was + r * h->size + i) + v[r] * k;
                NAME(store)(s + r * h->size + i, row);
                sum[r] += row * q;
            }
        }
        for (int r = 0; r < 4; r++) h->o[j + r] = NAME(total)(sum[r]);
    }
}

/* S = a S + v k' again, and dq = S' do. */
TARGET static void NAME(write_and_read_back)(const NAME(Head) *h, REAL a) {
    memset(h->dq, 0, h->size * sizeof(REAL));
    for (long j = 0; j < h->values; j += 4) {
        REAL *s = h->s + j * h->size;
        VEC v[4], g[4];
        for (int r = 0; r < 4; r++) v[r] = (VEC){0} + h->v[j + r], g[r] = (VEC){0} + h->o[j + r];
        for (long i = 0; i < h->size; i += LANES) {
            VEC k = NAME(load)(h->k + i), dq = NAME(load)(h->dq + i);
            for (int r = 0; r < 4; r++) {
                VEC row = a * NAME(load)(s + r * h->size + i) + v[r] * k;
                NAME(store)(s + r * h->size + i, row);
                dq += row * g[r];
            }
            NAME(store)(h->dq + i, dq);
        }
    }
}

/* dS = dS + do q', dk = dS' v and dv = dS k; then dS = a dS, which is its part for the step before. */
TARGET static void NAME(write_back)(const NAME(Head) *h, REAL a) {
    memset(h->dk, 0, h->size * sizeof(REAL));
    for (long j = 0; j < h->values; j += 4) {
        REAL *ds = h->ds + j * h->size;
        VEC sum[4] = {{0}}, v[4], g[4];
        for (int r = 0; r < 4; r++) v[r] = (VEC){0} + h->v[j + r], g[r] = (VEC){0} + h->o[j + r];
        for (long i = 0; i < h->size; i += LANES) {
            VEC k = NAME(load)(h->k + i), q = NAME(load)(h->q + i), dk = NAME(load)(h->dk + i);
            for (int r = 0; r < 4; r++) {
                VEC row = NAME(load)(ds + r * h->size + i) + g[r] * q;
                dk += row * v[r];
                sum[r] += row * k;
                NAME(store)(ds + r * h->size + i, a * row);
            }
            NAME(store)(h->dk + i, dk);
        }
        for (int r = 0; r < 4; r++) h->dv[j + r] = NAME(total)(sum[r]);
    }
}

/* Where a head's numbers stand in a row of the input, and its angles in theta. */
typedef struct {
    long q, k, v, decay, width, theta;
} NAME(Places);

INLINE NAME(Places) NAME(places)(const Matrix *m, long head) {
    long heads = m->relative + m->mirrored + m->content, size = 2 * m->units;
    NAME(Places) at = {.q = head * size, .k = (heads + head) * size};
    at.v = 2 * heads * size + head * m->values;
    at.decay = heads * (2 * size + m->values) + head;
    at.width = heads * (2 * size + m->values + 1);
    at.theta = head * m->units;
    return at;
}

/* How a head turns its queries; keys turn by 1, or stand still as well. */
INLINE REAL NAME(sense)(const Matrix *m, long head) {
    return head < m->relative ? 1 : head < m->relative + m->mirrored ? -1 : 0;
}

INLINE void NAME(address)(REAL *z, const NAME(Head) *h, REAL sense) {
    if (sense)
        NAME(turn)(z, h->angle, sense, h->half);
    else
        NAME(to_unit)(z, h->size);
}

/* n theta without the whole turns in it: as exact after a million steps as after ten. */
TARGET static void NAME(turn_to)(const NAME(Head) *h, const REAL *theta, int64_t n, long units) {
    const double circle = 6.283185307179586;
    const double magic = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
    for (long i = 0; i < units; i++) {
        double turned = (double)n * theta[i], turns = (turned / circle + magic) - magic;
        h->angle[i] = (REAL)(turned - turns * circle);
    }
}

/* The numbers of one step: keys and queries as they are used, values, and the argument of a. */
INLINE REAL NAME(load_step)(const Matrix *m, const NAME(Head) *h, long t, long b, NAME(Places) at,
                            REAL sense) {
    const REAL *row = (const REAL *)m->input + (t * m->batch + b) * at.width;
    if (sense)
        NAME(turn_to)(h, (const REAL *)m->theta + at.theta, m->clock[t * m->batch + b], m->units);
    NAME(widen)(h->q, h->half, row + at.q, m->units, 2);
    NAME(widen)(h->k, h->half, row + at.k, m->units, 2);
    memcpy(h->v, row + at.v, m->values * sizeof(REAL));
    NAME(address)(h->q, h, sense);
    NAME(address)(h->k, h, sense * sense);
    return row[at.decay];
}

INLINE REAL NAME(sigmoid_of)(REAL x) { return NAME(sigmoid)((VEC){0} + x)[0]; }

/* Where a head's matrix stands in a state. */
INLINE long NAME(place_of_state)(const Matrix *m, long b, long head) {
    return (b * (m->relative + m->mirrored + m->content) + head) * m->values * 2 * m->units;
}

/* The matrix before the first step. */
INLINE void NAME(load_state)(const Matrix *m, const NAME(Head) *h, long b, long head) {
    memset(h->s, 0, h->values * h->size * sizeof(REAL));
    NAME(widen)(h->s, h->half, (const REAL *)m->s0 + NAME(place_of_state)(m, b, head), m->units,
                2 * m->values);
}

TARGET static void NAME(matrix_forward)(const Matrix *m, NAME(Head) *h, long b, long head) {
    long heads = m->relative + m->mirrored + m->content, place = NAME(place_of_state)(m, b, head);
    NAME(Places) at_input = NAME(places)(m, head);
    REAL sense = NAME(sense)(m, head), *o = m->o, *s = m->s;
    const REAL *before;
    if (h->as_given) {
        h->s = s + place;
        before = (const REAL *)m->s0 + place;
    } else {
        NAME(load_state)(m, h, b, head);
        before = h->s;
    }
    for (long t = 0; t < m->steps; t++) {
        long at = t * m->batch + b;
        if (m->start && m->start[at]) {
            before = h->s;
            memset(h->s, 0, h->values * h->size * sizeof(REAL));
        }
        REAL f = NAME(load_step)(m, h, t, b, at_input, sense);
        NAME(write_and_read)(h, before, NAME(sigmoid_of)(f));
        before = h->s;
        memcpy(o + (at * heads + head) * m->values, h->o, m->values * sizeof(REAL));
    }
    if (!h->as_given) NAME(narrow)(s + place, h->s, h->half, m->units, 2 * m->values);
}

/* The gradient of keys or queries before they were turned or made unit, to its place; z is turned. */
INLINE void NAME(store_gradient)(const Matrix *m, const NAME(Head) *h, REAL *to, REAL *dz, const REAL *z,
                                 REAL *plain, const REAL *from, REAL sense) {
    NAME(widen)(plain, h->half, from, m->units, 2);
    if (sense)
        NAME(turn)(dz, h->angle, -sense, h->half);
    else
        NAME(from_unit)(dz, z, NAME(length)(plain, h->size), h->size);
    NAME(narrow)(to, dz, h->half, m->units, 2);
}

/* With L the loss, the gradient of log a_t is a_t <dS_t, S_tm1> = e_t - k_t . dk_t, e_t = <dS_t, S_t>,
   and e_t = o_t . do_t + (e_tp1 - k_tp1 . dk_tp1), as S_t reaches the loss by o_t and by S_tp1. */
TARGET static void NAME(matrix_backward)(const Matrix *m, const NAME(Head) *h, long b, long head) {
    long heads = m->relative + m->mirrored + m->content, units = m->units;
    long whole = h->values * h->size * sizeof(REAL), of_state = NAME(place_of_state)(m, b, head);
    NAME(Places) place = NAME(places)(m, head);
    REAL sense = NAME(sense)(m, head), *dinput = m->dinput;
    const REAL *input = m->input, *dout = m->dout;

    NAME(load_state)(m, h, b, head);
    for (long t = 0; t < m->steps; t++) {
        long at = t * m->batch + b;
        const REAL *row = input + at * place.width;
        REAL *drow = dinput + at * place.width;
        if (m->start && m->start[at]) memset(h->s, 0, whole);
        REAL a = NAME(sigmoid_of)(NAME(load_step)(m, h, t, b, place, sense));
        memcpy(h->o, dout + (at * heads + head) * m->values, m->values * sizeof(REAL));
        NAME(write_and_read_back)(h, a);
        drow[place.decay] = NAME(dot)(h->q, h->dq, h->size); /* o . do, for the second pass */
        NAME(store_gradient)(m, h, drow + place.q, h->dq, h->q, h->dk, row + place.q, sense);
    }

    memset(h->ds, 0, whole);
    NAME(widen)(h->ds, h->half, (const REAL *)m->ds + of_state, units, 2 * m->values);
    double e = 0;
    for (long j = 0; j < h->values; j++)
        e += NAME(dot)(h->s + j * h->size, h->ds + j * h->size, h->size);
    for (long t = m->steps - 1; t >= 0; t--) {
        long at = t * m->batch + b;
        const REAL *row = input + at * place.width;
        REAL *drow = dinput + at * place.width;
        int starts = m->start && m->start[at];
        REAL f = NAME(load_step)(m, h, t, b, place, sense);
        memcpy(h->o, dout + (at * heads + head) * m->values, m->values * sizeof(REAL));
        NAME(write_back)(h, NAME(sigmoid_of)(f));
        memcpy(drow + place.v, h->dv, m->values * sizeof(REAL));
        e += drow[place.decay];
        e -= NAME(dot)(h->k, h->dk, h->size);
        if (starts) e = 0;
        drow[place.decay] = (REAL)e * NAME(sigmoid_of)(-f);
        NAME(store_gradient)(m, h, drow + place.k, h->dk, h->k, h->q, row + place.k, sense * sense);
        if (starts) memset(h->ds, 0, whole);
    }
    NAME(narrow)((REAL *)m->ds0 + of_state, h->ds, h->half, units, 2 * m->values);
}

TARGET static void NAME(matrix_share)(const Matrix *m, long first, long end, long share) {
    long heads = m->relative + m->mirrored + m->content;
    NAME(Head) h = NAME(head_in)(m, (REAL *)m->scratch + share * matrix_scratch(m->units, m->values));
    for (long b = first; b < end; b++)
        for (long head = 0; head < heads; head++)
            if (m->dout)
                NAME(matrix_backward)(m, &h, b, head);
            else
                NAME(matrix_forward)(m, &h, b, head);
}
#undef SHORTEST
