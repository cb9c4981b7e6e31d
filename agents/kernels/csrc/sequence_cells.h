/* The equations of the cells, forward and backward; sequence_body.h includes this.

   Each function takes LANES units of a row, whose blocks stand h numbers apart from p on. */

/* ---- forward ----

   p holds the sums W x + b + U h' + d of each block, h' and c' being the state before the
   step, and is left with what the backward pass needs; the new h is returned. */

/* h = tanh(s) */
INLINE VEC NAME(rnn)(REAL *p) {
    VEC out = NAME(tanh)(NAME(load)(p));
    NAME(store)(p, out);
    return out;
}

/* r, z = sigmoid(s_r), sigmoid(s_z);  n = tanh(W x + b + r (U h' + d));  h = (1 - z) n + z h' */
INLINE VEC NAME(gru)(REAL *p, long h, VEC before) {
    VEC r = NAME(sigmoid)(NAME(load)(p)), z = NAME(sigmoid)(NAME(load)(p + h));
    VEC of_h = NAME(load)(p + 2 * h);
    VEC n = NAME(tanh)(NAME(load)(p + 3 * h) + r * of_h);
    NAME(store)(p, r);
    NAME(store)(p + h, z);
    NAME(store)(p + 3 * h, n);
    return n + z * (before - n);
}

/* As above with n = tanh(W x + b + U (r h')): r and z were squashed by squash_gates. */
INLINE VEC NAME(gru_original)(REAL *p, long h, VEC before) {
    VEC z = NAME(load)(p + h), n = NAME(tanh)(NAME(load)(p + 2 * h));
    NAME(store)(p + 2 * h, n);
    return n + z * (before - n);
}

/* i, f = sigmoid(s_i + p_i c'), sigmoid(s_f + p_f c');  g = tanh(s_g);  c = f c' + i g
   o = sigmoid(s_o + p_o c);  h = o tanh(c).  Without peepholes all p are none. */
INLINE VEC NAME(lstm)(REAL *p, long h, VEC c, const REAL *peephole) {
    VEC i = NAME(load)(p), f = NAME(load)(p + h), o = NAME(load)(p + 3 * h);
    VEC g = NAME(tanh)(NAME(load)(p + 2 * h));
    if (peephole) {
        i += NAME(load)(peephole) * c;
        f += NAME(load)(peephole + h) * c;
    }
    i = NAME(sigmoid)(i);
    f = NAME(sigmoid)(f);
    c = f * c + i * g;
    if (peephole) o += NAME(load)(peephole + 2 * h) * c;
    o = NAME(sigmoid)(o);
    NAME(store)(p, i);
    NAME(store)(p + h, f);
    NAME(store)(p + 2 * h, g);
    NAME(store)(p + 3 * h, o);
    NAME(store)(p + 4 * h, c);
    return o * NAME(tanh)(c);
}

/* ---- backward ----

   d is the gradient of h; that of each block's sum goes to q, blocks h apart as in p, and
   what of it goes straight to h' is returned. */

/* ds = dh (1 - h^2) */
INLINE VEC NAME(rnn_back)(const REAL *p, VEC d, REAL *q) {
    VEC out = NAME(load)(p);
    NAME(store)(q, d * (1 - out * out));
    return (VEC){0};
}

/* dz = dh (h' - n);  ds_n = dh (1 - z) (1 - n^2);  dr = ds_n (U h' + d): the last, and what goes
   through U, in the original GRU only after the product (unsquash_reset) */
INLINE VEC NAME(gru_back)(const REAL *p, long h, VEC d, VEC before, int original, REAL *q) {
    VEC r = NAME(load)(p), z = NAME(load)(p + h), n = NAME(load)(p + (original ? 2 : 3) * h);
    VEC dz = d * (before - n), dn = d * (1 - z) * (1 - n * n);
    NAME(store)(q + h, dz * z * (1 - z));
    if (original) {
        NAME(store)(q + 2 * h, dn);
    } else {
        NAME(store)(q, dn * NAME(load)(p + 2 * h) * r * (1 - r));
        NAME(store)(q + 2 * h, dn * r);
        NAME(store)(q + 3 * h, dn);
    }
    return d * z;
}

/* ds_o = dh tanh(c) o (1 - o);  dc += dh o (1 - tanh(c)^2) + p_o ds_o
   ds_i = dc g i (1 - i);  ds_f = dc c' f (1 - f);  ds_g = dc i (1 - g^2)
   dc' = dc f + p_i ds_i + p_f ds_f;  dp = ds_i c', ds_f c', ds_o c, summed in dpeephole */
INLINE VEC NAME(lstm_back)(const REAL *p, long h, VEC d, VEC c_tm1, const REAL *peephole, REAL *dc,
                           REAL *dpeephole, REAL *q) {
    VEC i = NAME(load)(p), f = NAME(load)(p + h), o = NAME(load)(p + 3 * h);
    VEC c = NAME(load)(p + 4 * h), g = NAME(load)(p + 2 * h), out = NAME(tanh)(c);
    VEC d_o = d * out * o * (1 - o);
    VEC d_c = NAME(load)(dc) + d * o * (1 - out * out);
    if (peephole) d_c += d_o * NAME(load)(peephole + 2 * h);
    VEC d_i = d_c * g * i * (1 - i), d_f = d_c * c_tm1 * f * (1 - f);
    VEC to_c = d_c * f;
    if (peephole) {
        to_c += d_i * NAME(load)(peephole) + d_f * NAME(load)(peephole + h);
        NAME(store)(dpeephole, NAME(load)(dpeephole) + d_i * c_tm1);
        NAME(store)(dpeephole + h, NAME(load)(dpeephole + h) + d_f * c_tm1);
        NAME(store)(dpeephole + 2 * h, NAME(load)(dpeephole + 2 * h) + d_o * c);
    }
    NAME(store)(q, d_i);
    NAME(store)(q + h, d_f);
    NAME(store)(q + 2 * h, d_c * i * (1 - g * g));
    NAME(store)(q + 3 * h, d_o);
    NAME(store)(dc, to_c);
    return (VEC){0};
}
