/* Runs the compiled kernel over odd sizes with arrays of just the size they must have, so that the
   compiler's sanitizers find whatever it reads or writes beside them. Built by test_kernels.py. */

#include "../../../agents/kernels/csrc/sequence.c"

#include <stdio.h>
#include <stdlib.h>

static double draw(void) {
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return (double)(state >> 8) / (1 << 24) - 0.5;
}

static void *numbers(long count, int precision) {
    if (precision == DOUBLE) {
        double *p = malloc((size_t)count * sizeof *p);
        for (long i = 0; i < count; i++) p[i] = draw();
        return p;
    }
    float *p = malloc((size_t)count * sizeof *p);
    for (long i = 0; i < count; i++) p[i] = (float)draw();
    return p;
}

static void forward_and_backward(int cell, int precision, const long *size, long threads, int odd) {
    static const long blocks[] = {1, 3, 3, 4, 4};
    long steps = size[0], batch = size[1], inputs = size[2], units = size[3], sizes[6];
    size_t bytes = precision == DOUBLE ? sizeof(double) : sizeof(float);
    uint8_t *start = malloc((size_t)(steps * batch));
    for (long i = 0; i < steps * batch; i++) start[i] = draw() > 0.4;
    Sequence s = {
        .cell = cell, .precision = precision, .threads = threads,
        .steps = steps, .batch = batch, .inputs = inputs, .units = units,
        .start = start,
        .x = numbers(steps * batch * inputs, precision),
        .h0 = numbers(batch * units, precision),
        .c0 = cell >= LSTM ? numbers(batch * units, precision) : NULL,
        .w = numbers(blocks[cell] * units * inputs, precision),
        .u = numbers(blocks[cell] * units * units, precision),
        .b = numbers(blocks[cell] * units, precision),
        .d = odd ? numbers(blocks[cell] * units, precision) : NULL,
        .peephole = cell == LSTM_PEEPHOLE ? numbers(3 * units, precision) : NULL,
        .y = malloc((size_t)(steps * batch * units) * bytes),
        .c_end = malloc((size_t)(batch * units) * bytes),
    };
    recurrent_sizes(&s, sizes);
    s.saved = malloc((size_t)sizes[0] * bytes);
    s.shared = malloc((size_t)sizes[1] * bytes);
    recurrent_run(&s, NULL);

    free(s.shared);
    s.dy = numbers(steps * batch * units, precision);
    s.dc_end = odd ? numbers(batch * units, precision) : NULL;
    s.dx = malloc((size_t)(steps * batch * inputs) * bytes);
    s.dh0 = malloc((size_t)(batch * units) * bytes);
    s.dc0 = malloc((size_t)(batch * units) * bytes);
    recurrent_sizes(&s, sizes);
    s.shared = malloc((size_t)sizes[1] * bytes);
    recurrent_run(&s, NULL);

    const void *all[] = {s.start, s.x, s.h0,    s.c0,     s.w,  s.u,      s.b,  s.d,   s.peephole,
                         s.y,     s.c_end, s.saved, s.shared, s.dy, s.dc_end, s.dx, s.dh0, s.dc0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free((void *)all[i]);
}

static void turn(int precision, const long *size, long threads, int odd) {
    long steps = size[0], batch = size[1], units = size[3], all = steps * batch * units;
    size_t bytes = precision == DOUBLE ? sizeof(double) : sizeof(float);
    uint8_t *start = malloc((size_t)(steps * batch));
    for (long i = 0; i < steps * batch; i++) start[i] = draw() > 0.4;
    Rotor s = {
        .precision = precision, .threads = threads, .steps = steps, .batch = batch, .units = units,
        .input = numbers(4 * all, precision),
        .theta = numbers(units, precision),
        .start = odd ? start : NULL,
        .h0 = numbers(2 * batch * units, precision),
        .h = malloc((size_t)(2 * all) * bytes),
    };
    rotor_run(&s, NULL);
    s.dh = numbers(2 * all, precision);
    s.dinput = malloc((size_t)(4 * all) * bytes);
    s.dtheta = malloc((size_t)(batch_shares(batch) * units) * bytes);
    s.dh0 = malloc((size_t)(2 * batch * units) * bytes);
    rotor_run(&s, NULL);
    const void *freed[] = {start, s.input, s.theta, s.h0, s.h, s.dh, s.dinput, s.dtheta, s.dh0};
    for (size_t i = 0; i < sizeof freed / sizeof *freed; i++) free((void *)freed[i]);
}

static void recall(int precision, const long *size, long threads, int odd) {
    long steps = size[0], batch = size[1], units = size[3], values = size[2];
    long relative = 1, mirrored = 1 + odd, content = 1, heads = relative + mirrored + content;
    long of_input = steps * batch * heads * (4 * units + values + 1), of_o = steps * batch * heads * values;
    long of_s = batch * heads * values * 2 * units, turning = (relative + mirrored) * units;
    size_t bytes = precision == DOUBLE ? sizeof(double) : sizeof(float);
    uint8_t *start = malloc((size_t)(steps * batch));
    int64_t *clock = malloc((size_t)(steps * batch) * sizeof(int64_t));
    for (long i = 0; i < steps * batch; i++) start[i] = draw() > 0.4, clock[i] = i;
    Matrix m = {
        .precision = precision, .threads = threads, .steps = steps, .batch = batch,
        .relative = relative, .mirrored = mirrored, .content = content, .units = units, .values = values,
        .input = numbers(of_input, precision),
        .theta = numbers(turning, precision),
        .start = odd ? start : NULL,
        .clock = clock,
        .s0 = numbers(of_s, precision),
        .o = malloc((size_t)of_o * bytes),
        .s = malloc((size_t)of_s * bytes),
        .scratch = malloc((size_t)(batch_shares(batch) * matrix_scratch(units, values)) * bytes),
    };
    matrix_run(&m, NULL);
    m.dout = numbers(of_o, precision);
    m.ds = numbers(of_s, precision);
    m.dinput = malloc((size_t)of_input * bytes);
    m.ds0 = malloc((size_t)of_s * bytes);
    matrix_run(&m, NULL);
    const void *freed[] = {start, clock,     m.input, m.theta, m.s0,     m.o,
                           m.s,   m.scratch, m.dout,  m.ds,    m.dinput, m.ds0};
    for (size_t i = 0; i < sizeof freed / sizeof *freed; i++) free((void *)freed[i]);
}

int main(void) {
    /* Steps, rows, inputs, units. */
    static const long sizes[][4] = {{1, 1, 1, 1},     {3, 2, 5, 7},     {7, 5, 3, 10},
                                    {9, 70, 20, 64},  {40, 37, 16, 33}, {20, 150, 17, 47},
                                    {5, 1100, 4, 9},  {130, 16, 32, 32}};
    for (int isa = 0; isa < 3; isa++) {
        recurrent_limit_isa(isa);
        if (recurrent_isa() != isa) continue;
        for (int precision = FLOAT; precision <= BFLOAT16; precision++) {
            if (precision == BFLOAT16 && !recurrent_has_bfloat16()) continue;
            for (int cell = RNN; cell <= LSTM_PEEPHOLE; cell++)
                for (int n = 0; n < 8; n++)
                    for (long threads = 1; threads < 4; threads += 2)
                        forward_and_backward(cell, precision, sizes[n], threads, n % 2);
            for (int n = 0; n < 8 && precision != BFLOAT16; n++)
                for (long threads = 1; threads < 4; threads += 2)
                    turn(precision, sizes[n], threads, n % 2), recall(precision, sizes[n], threads, n % 2);
        }
    }
    puts("clean");
    return 0;
}
