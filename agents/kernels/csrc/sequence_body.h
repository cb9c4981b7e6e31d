/* The kernels for one number type and one instruction set; sequence.c includes this file once for each.

   Before: REAL (float or double), LANES (numbers in a vector register), ROWS (rows of a register
   tile), TARGET (function attribute), NAME(x) (suffixes a function's name). A register tile is ROWS by
   PANEL numbers; weights are packed into panels of PANEL columns, so that a tile reads them in order. */

#define PANEL (2 * LANES)
#define INLINE static inline __attribute__((always_inline)) TARGET

#include "vectors.h"
#ifdef TILES
#include "sequence_tiles.h"
#else
#include "sequence_products.h"
#endif

/* ---- sizes and layout ---- */

INLINE long NAME(pad)(long n) { return (n + PANEL - 1) / PANEL * PANEL; }

/* Blocks of a row of `saved`: what the forward pass keeps for the backward pass. */
INLINE long NAME(kept)(int cell) {
    switch (cell) {
        case RNN: return 1;          /* h */
        case GRU: return 4;          /* r, z, U h + d, n */
        case GRU_ORIGINAL: return 3; /* r, z, n */
        default: return 5;           /* i, f, g, o, c */
    }
}

/* Blocks of weights, and of gradients of what is squashed (GRU: r, z, of U h + d, of W x + b). */
INLINE long NAME(weights)(int cell) { return cell == RNN ? 1 : cell >= LSTM ? 4 : 3; }
INLINE long NAME(gradients)(int cell) { return cell == GRU ? 4 : NAME(weights)(cell); }

/* The steps whose inputs and weight gradients are computed in one product: about WINDOW rows of them. */
INLINE long NAME(window)(long rows) { return rows < WINDOW ? WINDOW / rows : 1; }

/* A share's gradients of w [4h, i], u [4h, h], the biases [4h] and the peepholes [3h]. */
INLINE long NAME(sums)(long h, long i) { return 4 * h * (i + h + 1) + 3 * h; }

TARGET static void NAME(sizes)(const Sequence *s, long *saved, long *shared, long *own, long *padded) {
    long h = NAME(pad)(s->units), i = NAME(pad)(s->inputs), g = NAME(gradients)(s->cell) * h;
    long rows = block_rows(s), wide = WINDOW;
    *saved = s->steps * s->batch * NAME(kept)(s->cell) * h;
    *shared = NAME(weights)(s->cell) * h * (i + h) + 8 * h;
    *own = s->dy ? NAME(sums)(h, i) + wide * (g + LANES + 2 * i + 2 * h) + 2 * rows * h : rows * h;
    padded[0] = h;
    padded[1] = i;
}

/* ---- one share of the batch ---- */

typedef struct {
    const Sequence *s;
    long h, i;          /* units and inputs, padded */
    long first, rows;   /* of the batch */
    long kept;          /* numbers in a row of saved */
    const REAL *w, *u;  /* packed */
    const REAL *bias;   /* padded; GRU: r, z, of U h, of W x */
    const REAL *peephole;
    const REAL *zeros;  /* [h] */
} NAME(Block);
#define BLOCK_T NAME(Block)

INLINE REAL *NAME(row)(const BLOCK_T *b, long t, long j) {
    return (REAL *)b->s->saved + (b->first * b->s->steps + t * b->rows + j) * b->kept;
}

INLINE int NAME(starts)(const BLOCK_T *b, long t, long j) {
    return b->s->start && b->s->start[t * b->s->batch + b->first + j];
}

/* h before step t, after the reset. */
INLINE const REAL *NAME(h_before)(const BLOCK_T *b, long t, long j) {
    const Sequence *s = b->s;
    if (NAME(starts)(b, t, j)) return b->zeros;
    return t ? (REAL *)s->y + ((t - 1) * s->batch + b->first + j) * s->units
             : (REAL *)s->h0 + (b->first + j) * s->units;
}

/* c before step t, after the reset: padded in `saved`, not padded in c0. */
INLINE VEC NAME(c_before)(const BLOCK_T *b, long t, long j, long k) {
    const Sequence *s = b->s;
    if (NAME(starts)(b, t, j)) return (VEC){0};
    return t ? NAME(load)(NAME(row)(b, t - 1, j) + 4 * b->h + k)
             : NAME(load_some)((REAL *)s->c0 + (b->first + j) * s->units + k, s->units - k);
}

#include "sequence_cells.h"

/* Peepholes of the units from k on; NULL: the cell has none. */
INLINE const REAL *NAME(peephole)(const BLOCK_T *b, long k) {
    return b->s->cell == LSTM_PEEPHOLE ? b->peephole + k : NULL;
}

TARGET static void NAME(squash)(const BLOCK_T *b, long t) {
    const Sequence *s = b->s;
    long h = b->h;
    for (long j = 0; j < b->rows; j++) {
        REAL *row = NAME(row)(b, t, j), *y = (REAL *)s->y + (t * s->batch + b->first + j) * s->units;
        const REAL *before = NAME(h_before)(b, t, j);
        for (long k = 0; k < s->units; k += LANES) {
            long n = s->units - k;
            REAL *p = row + k;
            VEC out;
            if (s->cell == RNN)
                out = NAME(rnn)(p);
            else if (s->cell == GRU)
                out = NAME(gru)(p, h, NAME(load_some)(before + k, n));
            else if (s->cell == GRU_ORIGINAL)
                out = NAME(gru_original)(p, h, NAME(load_some)(before + k, n));
            else {
                out = NAME(lstm)(p, h, NAME(c_before)(b, t, j, k), NAME(peephole)(b, k));
                if (t == s->steps - 1)
                    NAME(store_some)((REAL *)s->c_end + (b->first + j) * s->units + k, NAME(load)(p + 4 * h), n);
            }
            NAME(store_some)(y + k, out, n);
        }
    }
}

/* The original GRU squashes its gates first: the candidate needs r * h. */
TARGET static void NAME(squash_gates)(const BLOCK_T *b, long t, REAL *gated) {
    const Sequence *s = b->s;
    for (long j = 0; j < b->rows; j++) {
        REAL *row = NAME(row)(b, t, j);
        const REAL *before = NAME(h_before)(b, t, j);
        for (long k = 0; k < s->units; k += LANES) {
            VEC r = NAME(sigmoid)(NAME(load)(row + k)), z = NAME(sigmoid)(NAME(load)(row + b->h + k));
            NAME(store)(row + k, r);
            NAME(store)(row + b->h + k, z);
            NAME(store)(gated + j * b->h + k, r * NAME(load_some)(before + k, s->units - k));
        }
    }
}

TARGET static void NAME(forward_block)(const BLOCK_T *b, REAL *scratch) {
    const Sequence *s = b->s;
    long h = b->h, window = NAME(window)(b->rows), gates = NAME(weights)(s->cell) * h;
    const REAL *a[WINDOW + BLOCK];
    for (long t0 = 0; t0 < s->steps; t0 += window) {
        long t1 = t0 + window < s->steps ? t0 + window : s->steps, rows = 0;
        for (long t = t0; t < t1; t++)
            for (long j = 0; j < b->rows; j++)
                a[rows++] = (REAL *)s->x + (t * s->batch + b->first + j) * s->inputs;
        REAL *out = NAME(row)(b, t0, 0);
        if (s->cell == GRU) { /* W x + b of the candidate stands apart from U h + d */
            NAME(product)(rows, a, s->inputs, b->w, 2 * h, out, b->kept, b->bias);
            NAME(product)(rows, a, s->inputs, NAME(panels)(b->w, 2 * h, s->inputs), h, out + 3 * h, b->kept,
                          b->bias + 3 * h);
        } else {
            NAME(product)(rows, a, s->inputs, b->w, gates, out, b->kept, b->bias);
        }
        for (long t = t0; t < t1; t++) {
            out = NAME(row)(b, t, 0);
            for (long j = 0; j < b->rows; j++) a[j] = NAME(h_before)(b, t, j);
            if (s->cell == GRU) {
                NAME(product)(b->rows, a, s->units, b->u, 2 * h, out, b->kept, NULL);
                NAME(product)(b->rows, a, s->units, NAME(panels)(b->u, 2 * h, s->units), h, out + 2 * h, b->kept,
                              b->bias + 2 * h);
            } else if (s->cell == GRU_ORIGINAL) {
                NAME(product)(b->rows, a, s->units, b->u, 2 * h, out, b->kept, NULL);
                NAME(squash_gates)(b, t, scratch);
                for (long j = 0; j < b->rows; j++) a[j] = scratch + j * h;
                NAME(product)(b->rows, a, s->units, NAME(panels)(b->u, 2 * h, s->units), h, out + 2 * h, b->kept,
                              NULL);
            } else {
                NAME(product)(b->rows, a, s->units, b->u, gates, out, b->kept, NULL);
            }
            NAME(squash)(b, t);
        }
    }
}

/* Where a share's gradients gather, padded, in this order. */
typedef struct {
    REAL *w, *u, *bias, *peephole;
} NAME(Sums);

/* From the gradients of h and c after step t to those of what was squashed (g), and to what of
   them goes straight to h and c before the step. */
TARGET static void NAME(unsquash)(const BLOCK_T *b, long t, const REAL *before, REAL *g, long stride,
                                  REAL *dh, REAL *dc, REAL *dpeephole) {
    const Sequence *s = b->s;
    long h = b->h;
    for (long j = 0; j < b->rows; j++) {
        const REAL *row = NAME(row)(b, t, j);
        const REAL *dy = (REAL *)s->dy + (t * s->batch + b->first + j) * s->units;
        for (long k = 0; k < s->units; k += LANES) {
            const REAL *p = row + k;
            REAL *q = g + j * stride + k, *dh_k = dh + j * h + k;
            VEC d = NAME(load)(dh_k) + NAME(load_some)(dy + k, s->units - k), straight;
            if (s->cell == RNN)
                straight = NAME(rnn_back)(p, d, q);
            else if (s->cell == GRU || s->cell == GRU_ORIGINAL)
                straight = NAME(gru_back)(p, h, d, NAME(load)(before + j * h + k), s->cell == GRU_ORIGINAL, q);
            else
                straight = NAME(lstm_back)(p, h, d, NAME(c_before)(b, t, j, k), NAME(peephole)(b, k),
                                           dc + j * h + k, dpeephole + k, q);
            NAME(store)(dh_k, straight);
        }
    }
}

/* The original GRU: from the gradient of r * h to those of r and h. */
TARGET static void NAME(unsquash_reset)(const BLOCK_T *b, long t, const REAL *before, const REAL *dgated,
                                        REAL *g, long stride, REAL *dh) {
    for (long j = 0; j < b->rows; j++)
        for (long k = 0; k < b->s->units; k += LANES) {
            VEC r = NAME(load)(NAME(row)(b, t, j) + k), d = NAME(load)(dgated + j * b->h + k);
            REAL *dh_k = dh + j * b->h + k;
            NAME(store)(dh_k, NAME(load)(dh_k) + d * r);
            NAME(store)(g + j * stride + k, d * NAME(load)(before + j * b->h + k) * r * (1 - r));
        }
}

TARGET static void NAME(backward_block)(const BLOCK_T *b, const NAME(Sums) *sums, REAL *scratch) {
    const Sequence *s = b->s;
    long h = b->h, in = b->i, blocks = NAME(gradients)(s->cell), window = NAME(window)(b->rows);
    long wide = window * b->rows, stride = blocks * h + LANES;
    REAL *g = scratch, *xs = g + wide * stride, *hs = xs + wide * in, *gated = hs + wide * h;
    REAL *dxs = gated + wide * h, *dh = dxs + wide * in, *dc = dh + b->rows * h;
    memset(g, 0, wide * stride * sizeof(REAL));
    memset(dh, 0, 2 * b->rows * h * sizeof(REAL));
    if (s->dc_end)
        for (long j = 0; j < b->rows; j++)
            memcpy(dc + j * h, (REAL *)s->dc_end + (b->first + j) * s->units, s->units * sizeof(REAL));
    memset(xs, 0, wide * in * sizeof(REAL));
    memset(hs, 0, 2 * wide * h * sizeof(REAL));
    const REAL *a[WINDOW + BLOCK];

    for (long t1 = s->steps; t1 > 0; t1 -= window) {
        long t0 = t1 > window ? t1 - window : 0, rows = (t1 - t0) * b->rows;
        for (long t = t0; t < t1; t++)
            for (long j = 0; j < b->rows; j++) {
                long at = (t - t0) * b->rows + j, of = t * s->batch + b->first + j;
                memcpy(xs + at * in, (REAL *)s->x + of * s->inputs, s->inputs * sizeof(REAL));
                memcpy(hs + at * h, NAME(h_before)(b, t, j), s->units * sizeof(REAL));
            }
        for (long t = t1 - 1; t >= t0; t--) {
            long at = (t - t0) * b->rows;
            REAL *gt = g + at * stride;
            NAME(unsquash)(b, t, hs + at * h, gt, stride, dh, dc, sums->peephole);
            for (long j = 0; j < b->rows; j++) a[j] = gt + j * stride;
            if (s->cell == GRU_ORIGINAL) {
                REAL *dgated = gated + at * h;
                const REAL *candidate[BLOCK];
                for (long j = 0; j < b->rows; j++) candidate[j] = a[j] + 2 * h;
                memset(dgated, 0, b->rows * h * sizeof(REAL));
                NAME(product)(b->rows, candidate, h, b->u + 2 * h * h, h, dgated, h, NULL);
                NAME(unsquash_reset)(b, t, hs + at * h, dgated, gt, stride, dh);
                NAME(product)(b->rows, a, 2 * h, b->u, h, dh, h, NULL);
                for (long j = 0; j < b->rows; j++) /* from here on r * h, for the gradient of U */
                    for (long k = 0; k < s->units; k += LANES)
                        NAME(store)(dgated + j * h + k, NAME(load)(NAME(row)(b, t, j) + k) *
                                                            NAME(load)(hs + (at + j) * h + k));
            } else {
                NAME(product)(b->rows, a, NAME(weights)(s->cell) * h, b->u, h, dh, h, NULL);
            }
            for (long j = 0; j < b->rows; j++)
                if (NAME(starts)(b, t, j)) {
                    memset(dh + j * h, 0, h * sizeof(REAL));
                    memset(dc + j * h, 0, h * sizeof(REAL));
                }
        }

        /* All that does not depend on the order of steps, for the whole window. */
        long two = 2 * h;
        for (long r = 0; r < rows; r++) a[r] = g + r * stride;
        if (s->cell == GRU) {
            NAME(outer)(rows, g, stride, two, xs, in, in, sums->w, in);
            NAME(outer)(rows, g + 3 * h, stride, h, xs, in, in, sums->w + two * in, in);
            NAME(outer)(rows, g, stride, 3 * h, hs, h, h, sums->u, h);
        } else if (s->cell == GRU_ORIGINAL) {
            NAME(outer)(rows, g, stride, 3 * h, xs, in, in, sums->w, in);
            NAME(outer)(rows, g, stride, two, hs, h, h, sums->u, h);
            NAME(outer)(rows, g + two, stride, h, gated, h, h, sums->u + two * h, h);
        } else {
            NAME(outer)(rows, g, stride, blocks * h, xs, in, in, sums->w, in);
            NAME(outer)(rows, g, stride, blocks * h, hs, h, h, sums->u, h);
        }
        for (long k = 0; k < blocks * h; k += LANES) {
            VEC sum = NAME(load)(sums->bias + k);
            for (long r = 0; r < rows; r++) sum += NAME(load)(g + r * stride + k);
            NAME(store)(sums->bias + k, sum);
        }
        if (s->dx) {
            memset(dxs, 0, rows * in * sizeof(REAL));
            if (s->cell == GRU) {
                NAME(product)(rows, a, two, b->w, in, dxs, in, NULL);
                for (long r = 0; r < rows; r++) a[r] += 3 * h;
                NAME(product)(rows, a, h, b->w + two * in, in, dxs, in, NULL);
            } else {
                NAME(product)(rows, a, blocks * h, b->w, in, dxs, in, NULL);
            }
            for (long r = 0; r < rows; r++) {
                long of = (t0 + r / b->rows) * s->batch + b->first + r % b->rows;
                memcpy((REAL *)s->dx + of * s->inputs, dxs + r * in, s->inputs * sizeof(REAL));
            }
        }
    }
    for (long j = 0; j < b->rows; j++) {
        long of = (b->first + j) * s->units;
        memcpy((REAL *)s->dh0 + of, dh + j * h, s->units * sizeof(REAL));
        if (s->cell >= LSTM) memcpy((REAL *)s->dc0 + of, dc + j * h, s->units * sizeof(REAL));
    }
}

/* ---- the whole batch ---- */

TARGET static void NAME(pack)(const Sequence *s) {
    long h = NAME(pad)(s->units), i = NAME(pad)(s->inputs), blocks = NAME(weights)(s->cell);
    REAL *w = s->shared, *u = w + blocks * h * i, *bias = u + blocks * h * h, *peephole = bias + 4 * h;
    memset(bias, 0, 8 * h * sizeof(REAL));
    for (long n = 0; n < NAME(gradients)(s->cell); n++) {
        /* The GRU squashes no sum of all: d_n is added to U h, and b_n to W x. */
        long of_x = s->cell == GRU && n == 3 ? 2 : n;
        int with_x = s->cell != GRU || n != 2, with_h = s->d && (s->cell != GRU || n != 3);
        for (long k = 0; k < s->units; k++)
            bias[n * h + k] = (with_x ? ((REAL *)s->b)[of_x * s->units + k] : 0) +
                              (with_h ? ((REAL *)s->d)[n * s->units + k] : 0);
    }
    if (s->peephole)
        for (long n = 0; n < 3; n++)
            memcpy(peephole + n * h, (REAL *)s->peephole + n * s->units, s->units * sizeof(REAL));
    if (!s->dy) {
        NAME(pack_forward)(s->w, blocks, s->units, h, s->inputs, w);
        NAME(pack_forward)(s->u, blocks, s->units, h, s->units, u);
        return;
    }
    /* The GRUs multiply by their third block apart. */
    long joint = s->cell == GRU ? 2 : blocks, split = s->cell == GRU_ORIGINAL ? 2 : blocks;
    NAME(pack_backward)(s->w, joint, s->units, h, s->inputs, i, w);
    if (joint < blocks)
        NAME(pack_backward)((REAL *)s->w + joint * s->units * s->inputs, 1, s->units, h, s->inputs, i,
                            w + joint * h * i);
    NAME(pack_backward)(s->u, split, s->units, h, s->units, h, u);
    if (split < blocks)
        NAME(pack_backward)((REAL *)s->u + split * s->units * s->units, 1, s->units, h, s->units, h,
                            u + split * h * h);
}

TARGET static void NAME(share)(const Sequence *s, long number) {
    long saved, shared, own, padded[2];
    NAME(sizes)(s, &saved, &shared, &own, padded);
    long h = padded[0], i = padded[1], blocks = NAME(weights)(s->cell), most = block_rows(s);
    REAL *scratch = (REAL *)s->shared + shared + number * own;
    NAME(Sums) sums = {scratch, scratch + 4 * h * i, scratch + 4 * h * (i + h), 0};
    sums.peephole = sums.bias + 4 * h;
    if (s->dy) {
        memset(scratch, 0, NAME(sums)(h, i) * sizeof(REAL));
        scratch += NAME(sums)(h, i);
    }
    BLOCK_T b = {s, h, i, 0, 0, NAME(kept)(s->cell) * h, s->shared, 0, 0, 0, 0};
    b.u = b.w + blocks * h * i;
    b.bias = b.u + blocks * h * h;
    b.peephole = b.bias + 4 * h;
    b.zeros = b.peephole + 3 * h;
    long each = share_rows(s);
    long end = (number + 1) * each < s->batch ? (number + 1) * each : s->batch;
    for (b.first = number * each; b.first < end; b.first += b.rows) {
        b.rows = end - b.first < most ? end - b.first : most;
        if (s->dy)
            NAME(backward_block)(&b, &sums, scratch);
        else
            NAME(forward_block)(&b, scratch);
    }
}

#ifndef TILES
#include "rotor_body.h"
#include "matrix_body.h"
#endif

#undef PANEL
#undef INLINE
#undef VEC
#undef BLOCK_T
#undef REAL
#undef LANES
#undef ROWS
#undef TARGET
#undef NAME
#undef IS_FLOAT
#undef RECIPROCAL
#undef PERMUTE
#undef TILES
