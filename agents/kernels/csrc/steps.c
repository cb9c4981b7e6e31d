/* A list of plain array operations, carried out one after the other: the whole step of a policy, without
   Python between its operations. agents/export/listing.py says what each operation is.

   The vector code is compiled for AVX2 and for the compiler's default, and chosen when it runs. */

/* Nothing looks at floating-point exceptions. Where they count, gcc makes branches of choices between
   floats, and no vector code of their loops. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math")
#endif

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int recurrent_isa(void);

#define AXES 6     /* of an array, at most */
#define OPERANDS 3 /* of an operation, at most */

#define TALL 4     /* rows that a tile of a product has */

typedef float Eight __attribute__((vector_size(32)));

enum { FLOAT, DOUBLE, INT64, INT32, INT8, UINT8, BOOL };
enum {
    COPY, NEG, NOT, ABS, EXP, LOG, LOG1P, SQRT, RSQRT, SIN, COS, TANH, SIGMOID, ERF, FLOOR,
    ADD, SUB, MUL, DIV, MIN, MAX2, POW, MOD, GT, GE, LT, LE, EQ, NE, AND, OR, WHERE,
    PRODUCT, SUM, MAX, ARGMAX, ROWS, CONVOLUTION
};

/* An array: where it begins, the type of its numbers, and its strides along the operation's axes. */
typedef struct {
    void *data;
    long type, strides[AXES];
} Array;

/* Number by number: over `sizes`, of `axes` axes. Product: axes are those of the output and then the one
   that is summed over. Sum, max, argmax: the last axis is the one that goes. Rows: sizes are the number
   of indices and the width. Convolution: the options are the sizes of the image and of the output's
   channels, kernel, the output's height and width, stride and padding; scratch holds a row and a column
   of the factors. */
typedef struct {
    long kind, operands, axes, sizes[AXES], options[13];
    Array out, in[OPERANDS];
    float *scratch;
} Operation;

/* As in sequence.c. */
const char *steps_layout(void) {
    static char text[1024];
    char *at = text;
#define STRUCTURE(of) at += sprintf(at, #of " %zu\n", sizeof(of));
#define FIELD(of, name) at += sprintf(at, #name " %zu %zu\n", offsetof(of, name), sizeof(((of *)0)->name));
    STRUCTURE(Array)
    FIELD(Array, data) FIELD(Array, type) FIELD(Array, strides)
    STRUCTURE(Operation)
    FIELD(Operation, kind) FIELD(Operation, operands) FIELD(Operation, axes) FIELD(Operation, sizes)
    FIELD(Operation, options) FIELD(Operation, out) FIELD(Operation, in)
    FIELD(Operation, scratch)
    return text;
}

#define TARGET
#define NAME(x) x##_portable
#include "steps_body.h"

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) x##_avx2
#include "steps_body.h"
#endif

/* Carries out so many operations. */
void steps_run(const Operation *operations, long count) {
#if defined(__x86_64__)
    if (recurrent_isa() > 0) {
        for (long i = 0; i < count; i++) run_avx2(&operations[i]);
        return;
    }
#endif
    for (long i = 0; i < count; i++) run_portable(&operations[i]);
}
