/* Recurrent layers over whole sequences with resets, forward and backward, on a CPU.

   The batch is split into shares that depend on its size alone, so that the result is the same to the
   last bit on any number of threads. A thread takes a share through all time steps and then the next,
   so that none waits for another before the end. Where an episode starts, the product reads a row of zeros in
   place of the state: resets cost nothing. What does not depend on the order of steps (W x, and all
   gradients of weights) is done for a window of steps at once, while it is in the cache.

   A plain C interface, for ctypes: no Python and no torch headers. The vector code is compiled for
   AVX-512, AVX2 and the compiler's default, and chosen when it runs. */

#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 32   /* rows that go through the sequence together, at most */
#define SHARES 32  /* of the batch, at most */
#define MOST_SUMS (1L << 26) /* numbers in the gradients that all shares gather */
#define WINDOW 128 /* rows of a product over several steps, about */

enum { RNN, GRU, GRU_ORIGINAL, LSTM, LSTM_PEEPHOLE };
enum { FLOAT, DOUBLE, BFLOAT16 }; /* the last: floats, whose products are of numbers so rounded */

/* T steps of B rows; blocks of weights in torch's order. All arrays are dense and of one number type.
   Where `packed` is set, `shared` holds the weights as an earlier pass of this kind and size left it. */
typedef struct {
    long cell, precision, threads, packed, steps, batch, inputs, units;
    const void *x;             /* [T, B, inputs] */
    const uint8_t *start;      /* [T, B]; NULL: no episode starts */
    const void *h0, *c0;       /* [B, units] */
    const void *w, *u;         /* [blocks * units, inputs] and [blocks * units, units] */
    const void *b, *d;         /* biases [blocks * units], added to W x and to U h; d may be NULL */
    const void *peephole;      /* [3, units] or NULL */
    void *y, *c_end;           /* [T, B, units], [B, units] */
    void *saved, *shared;      /* of the sizes that recurrent_sizes tells */
    const void *dy, *dc_end;   /* NULL in a forward pass; dc_end may be NULL */
    void *dx, *dh0, *dc0;      /* as x, h0, c0; dx may be NULL */
} Sequence;

/* A layer of complex units (rotor_body.h), n complex numbers each, parts side by side. */
typedef struct {
    long precision, threads, steps, batch, units;
    const void *input;         /* [T, B, 4 n]: x [n] complex, then the arguments f [n] and v [n] */
    const void *theta;         /* [n] */
    const uint8_t *start;      /* [T, B]; NULL: no episode starts */
    const void *h0;            /* [B, n] complex */
    void *h;                   /* [T, B, n] complex */
    const void *dh;            /* as h; NULL in a forward pass */
    void *dinput, *dtheta;     /* as input; [batch_shares, n], to be summed */
    void *dh0;                 /* as h0 */
} Rotor;

/* Heads of matrix memory (matrix_body.h), H = relative + mirrored + content, of which the first two kinds
   turn: P. Keys of D = 2 units numbers, all real parts first. */
typedef struct {
    long precision, threads, steps, batch, relative, mirrored, content, units, values;
    const void *input;         /* [T, B, H (2 D + V + 1)]: queries, keys, values, arguments of a */
    const void *theta;         /* [P, units] */
    const uint8_t *start;      /* [T, B]; NULL: no episode starts */
    const int64_t *clock;      /* [T, B]: steps since the episode began */
    const void *s0;            /* [B, H, V, D] */
    void *o;                   /* [T, B, H, V] */
    void *s;                   /* after the last step, as s0 */
    void *scratch;             /* [batch_shares, matrix_scratch] */
    const void *dout;          /* as o; NULL in a forward pass */
    const void *ds;            /* as s */
    void *dinput, *ds0;        /* as input, as s0 */
} Matrix;

/* Size of each structure, place and size of each field: whoever fills them from another language holds
   its own against this. */
const char *recurrent_layout(void) {
    static char text[4096];
    char *at = text;
#define STRUCTURE(of) at += sprintf(at, #of " %zu\n", sizeof(of));
#define FIELD(of, name) at += sprintf(at, #name " %zu %zu\n", offsetof(of, name), sizeof(((of *)0)->name));
#define SEQUENCE(name) FIELD(Sequence, name)
#define ROTOR(name) FIELD(Rotor, name)
#define MATRIX(name) FIELD(Matrix, name)
    STRUCTURE(Sequence)
    SEQUENCE(cell) SEQUENCE(precision) SEQUENCE(threads) SEQUENCE(packed) SEQUENCE(steps)
    SEQUENCE(batch) SEQUENCE(inputs) SEQUENCE(units) SEQUENCE(x) SEQUENCE(start) SEQUENCE(h0)
    SEQUENCE(c0) SEQUENCE(w) SEQUENCE(u) SEQUENCE(b) SEQUENCE(d) SEQUENCE(peephole) SEQUENCE(y)
    SEQUENCE(c_end) SEQUENCE(saved) SEQUENCE(shared) SEQUENCE(dy) SEQUENCE(dc_end) SEQUENCE(dx)
    SEQUENCE(dh0) SEQUENCE(dc0)
    STRUCTURE(Rotor)
    ROTOR(precision) ROTOR(threads) ROTOR(steps) ROTOR(batch) ROTOR(units) ROTOR(input) ROTOR(theta)
    ROTOR(start) ROTOR(h0) ROTOR(h) ROTOR(dh) ROTOR(dinput) ROTOR(dtheta) ROTOR(dh0)
    STRUCTURE(Matrix)
    MATRIX(precision) MATRIX(threads) MATRIX(steps) MATRIX(batch) MATRIX(relative) MATRIX(mirrored)
    MATRIX(content) MATRIX(units) MATRIX(values) MATRIX(input) MATRIX(theta) MATRIX(start)
    MATRIX(clock) MATRIX(s0) MATRIX(o) MATRIX(s) MATRIX(scratch) MATRIX(dout) MATRIX(ds) MATRIX(dinput)
    MATRIX(ds0)
    return text;
}

/* Rows that go through the sequence together. More make better use of a weight once it is in the cache,
   fewer leave work for more threads. */
static long block_rows(const Sequence *s) {
    return s->batch <= 4 ? 2 : s->batch <= 8 ? 4 : s->batch <= 32 ? 8 : s->batch <= 128 ? 16 : BLOCK;
}

/* Each share has gradients of all weights of its own: large ones leave room for fewer shares. */
static long share_rows(const Sequence *s) {
    long rows = block_rows(s), blocks = (s->batch + rows - 1) / rows;
    long most = MOST_SUMS / (4 * s->units * (s->units + s->inputs));
    most = most < 1 ? 1 : most > SHARES ? SHARES : most;
    return (blocks + most - 1) / most * rows;
}

static long shares(const Sequence *s) { return (s->batch + share_rows(s) - 1) / share_rows(s); }

#define PAD 16 /* a multiple of the numbers in a vector register */

static long padded(long n, long to) { return (n + to - 1) / to * to; }

/* How many numbers each share works in. */
long matrix_scratch(long units, long values) {
    long half = padded(units, PAD), rows = padded(values, 4);
    return padded(2 * rows * 2 * half + 4 * 2 * half + 3 * rows + half, PAD);
}

#define REAL float
#define IS_FLOAT 1
#define LANES 4
#define ROWS 4
#define TARGET
#define NAME(x) x##_portable
#include "sequence_body.h"

#define REAL double
#define IS_FLOAT 0
#define LANES 2
#define ROWS 4
#define TARGET
#define NAME(x) x##_double
#include "sequence_body.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define REAL float
#define IS_FLOAT 1
#define LANES 8
#define ROWS 6
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) x##_avx2
#include "sequence_body.h"

#define REAL float
#define IS_FLOAT 1
#define LANES 16
#define ROWS 8
#define TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,fma")))
#define RECIPROCAL(x) _mm512_rcp14_ps((__m512)(x))
#define PERMUTE(a, index, b) _mm512_permutex2var_ps((__m512)(a), (__m512i)(index), (__m512)(b))
#define NAME(x) x##_avx512
#include "sequence_body.h"

#if defined(__linux__) && !defined(__clang__) && __GNUC__ >= 12
#define HAS_TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REAL float
#define IS_FLOAT 1
#define LANES 16
#define ROWS 16
#define TARGET \
    __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,fma,amx-tile,amx-bf16")))
#define RECIPROCAL(x) _mm512_rcp14_ps((__m512)(x))
#define PERMUTE(a, index, b) _mm512_permutex2var_ps((__m512)(a), (__m512i)(index), (__m512)(b))
#define TILES
#define NAME(x) x##_amx
#include "sequence_body.h"
#endif
#endif

typedef struct {
    void (*sizes)(const Sequence *, long *, long *, long *, long *);
    void (*pack)(const Sequence *);
    void (*share)(const Sequence *, long);
    void (*rotor)(const Rotor *, long, long, long);
    void (*matrix)(const Matrix *, long, long, long);
} Kernel;

#define KERNEL(isa) {sizes_##isa, pack_##isa, share_##isa, rotor_share_##isa, matrix_share_##isa}
static const Kernel FLOATS[] = {
    KERNEL(portable),
#if defined(__x86_64__)
    KERNEL(avx2),
    KERNEL(avx512),
#endif
};
static const Kernel DOUBLES = KERNEL(double);
#ifdef HAS_TILES
static const Kernel TILED = {sizes_amx, pack_amx, share_amx, NULL, NULL};
#endif

static int limit = 2;

/* The instruction set in use: 0 the compiler's default, 1 AVX2, 2 AVX-512. */
int recurrent_isa(void) {
    int best = 0;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = 1;
    if (best && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        best = 2;
#endif
    return best < limit ? best : limit;
}

/* Use no newer instruction set than this; for tests and measurements. */
void recurrent_limit_isa(int isa) { limit = isa; }

/* Whether products can be of bfloat16 numbers: the processor has the tiles for it, and the system,
   which is asked once, lets the process use their registers. */
int recurrent_has_bfloat16(void) {
#ifdef HAS_TILES
    unsigned a, b, c, d, bf16 = 0;
    const unsigned tile = 1u << 24, tile_bf16 = 1u << 22;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) bf16 = a & (1u << 5);
    if (recurrent_isa() < 2 || !bf16 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    const long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM */
    return (d & tile) && (d & tile_bf16) && !syscall(SYS_arch_prctl, request, tile_data);
#else
    return 0;
#endif
}

static const Kernel *kernel_for(long precision) {
#ifdef HAS_TILES
    if (precision == BFLOAT16) return &TILED;
#endif
    return precision == DOUBLE ? &DOUBLES : &FLOATS[recurrent_isa()];
}

/* How many numbers `saved` and `shared` must hold; of `shared`, how many are each share's own, behind
   the others; units and inputs as padded; and the number of shares. At the start of its own part each
   share leaves its gradients, padded: of w [4 * units, inputs], u [4 * units, units], the biases [4, units] (GRU: r,
   z, of U h, of W x) and the peepholes [3, units]. */
void recurrent_sizes(const Sequence *s, long sizes[6]) {
    kernel_for(s->precision)->sizes(s, &sizes[0], &sizes[1], &sizes[2], &sizes[3]);
    sizes[5] = shares(s);
    sizes[1] += sizes[5] * sizes[2];
}

/* Runs function(argument) on this many threads and waits, as GNU's OpenMP does for a parallel region. */
typedef void (*Parallel)(void (*function)(void *), void *argument, unsigned threads, unsigned flags);

typedef struct {
    void (*share)(const void *of, long number);
    const void *of;
    long shares, next;
} Work;

/* What a share computes, and where, does not depend on the thread that takes it, nor on how many threads
   there really are. */
static void *take_shares(void *argument) {
    Work *work = argument;
    for (;;) {
        long share = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
        if (share >= work->shares) return NULL;
        work->share(work->of, share);
    }
}

static void region(void *argument) { take_shares(argument); }

/* Threads that sleep between passes: one that spun would look busy to the scheduler, and lose its core
   to other processes just when it is needed. Who wakes too late to find a share is not waited for. */
static struct {
    pthread_mutex_t in_use, lock;
    pthread_cond_t wake, done;
    Work *work;
    long started, welcome, active;
    unsigned long pass;
} pool = {.in_use = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static void *pool_thread(void *unused) {
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    for (unsigned long seen = pool.pass - 1;;) {
        while (pool.pass == seen || !pool.welcome) {
            seen = pool.pass;
            pthread_cond_wait(&pool.wake, &pool.lock);
        }
        seen = pool.pass;
        pool.welcome--;
        __atomic_add_fetch(&pool.active, 1, __ATOMIC_RELAXED);
        Work *work = pool.work;
        pthread_mutex_unlock(&pool.lock);
        take_shares(work);
        pthread_mutex_lock(&pool.lock);
        if (!__atomic_sub_fetch(&pool.active, 1, __ATOMIC_RELEASE)) pthread_cond_signal(&pool.done);
    }
    return NULL;
}

/* A forked process has none of the threads, and locks as they happened to be. */
static void forget_pool(void) {
    pthread_mutex_init(&pool.in_use, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.started = pool.welcome = pool.active = 0;
}

static void register_fork(void) { pthread_atfork(NULL, NULL, forget_pool); }

static void on_pool(Work *work, long threads) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork);
    if (pthread_mutex_trylock(&pool.in_use)) { /* another caller has the pool */
        take_shares(work);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    for (pthread_t handle; pool.started < threads - 1; pool.started++) {
        if (pthread_create(&handle, NULL, pool_thread, NULL)) break;
        pthread_detach(handle);
    }
    pool.work = work;
    pool.welcome = threads - 1;
    pool.pass++;
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);

    take_shares(work);
    for (int n = 0; n < 20000 && __atomic_load_n(&pool.active, __ATOMIC_ACQUIRE); n++) {
    }
    pthread_mutex_lock(&pool.lock);
    pool.welcome = 0;
    while (pool.active) pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    pthread_mutex_unlock(&pool.in_use);
}

/* Where the caller's other work runs on OpenMP, `parallel` is its GOMP_parallel: its threads go on
   spinning for a while after each region, and threads of our own would have to share the cores with
   them. NULL: threads of our own. */
static void take_all(Work work, long threads, Parallel parallel) {
    if (threads > work.shares) threads = work.shares;
    if (threads <= 1)
        take_shares(&work);
    else if (parallel)
        parallel(region, &work, (unsigned)threads, 0);
    else
        on_pool(&work, threads);
}

static void sequence_share(const void *of, long number) {
    const Sequence *s = of;
    kernel_for(s->precision)->share(s, number);
}

/* One pass: forward where dy is NULL, else backward. */
void recurrent_run(const Sequence *s, Parallel parallel) {
    if (!s->packed) kernel_for(s->precision)->pack(s);
    take_all((Work){sequence_share, s, shares(s), 0}, s->threads, parallel);
}

/* Shares of a batch whose rows have nothing in common: of complex units, of matrix memories. */
long batch_shares(long batch) { return batch < SHARES ? batch : SHARES; }

/* The first row of a share; the first of the next ends it. */
static long first_row(long batch, long share) { return batch * share / batch_shares(batch); }

static void rotor_share(const void *of, long number) {
    const Rotor *s = of;
    long first = first_row(s->batch, number), end = first_row(s->batch, number + 1);
    kernel_for(s->precision)->rotor(s, first, end, number);
}

static void matrix_share(const void *of, long number) {
    const Matrix *s = of;
    long first = first_row(s->batch, number), end = first_row(s->batch, number + 1);
    kernel_for(s->precision)->matrix(s, first, end, number);
}

/* One pass: forward where dout is NULL, else backward. */
void matrix_run(const Matrix *s, Parallel parallel) {
    take_all((Work){matrix_share, s, batch_shares(s->batch), 0}, s->threads, parallel);
}

/* One pass: forward where dh is NULL, else backward. */
void rotor_run(const Rotor *s, Parallel parallel) {
    take_all((Work){rotor_share, s, batch_shares(s->batch), 0}, s->threads, parallel);
}
