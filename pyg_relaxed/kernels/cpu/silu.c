/*
 * SiLU, x s with s = 1 / (1 + exp(-x)), with its first and second derivative where they are asked for, in one pass.
 * torch has no second one, and each of its operations takes an exponential, memory and a way to it and back.
 */
#include <stdint.h>
#include <string.h>

typedef struct {
    int64_t numel, tasks, next;
    const real *x;
    real *value, *first, *second; /* the derivatives may be missing */
} Silu;

#if BITS == 32
typedef uint32_t integer;
#define MANTISSA 23
#define DEGREE 7       /* the rest is below 1e-8 */
#define LAST 5040.0    /* its factorial */
#define SMALLEST -87.0 /* its exponential is a normal number, those of smaller ones are left out */
#else
typedef uint64_t integer;
#define MANTISSA 52
#define DEGREE 13 /* 1e-17 */
#define LAST 6227020800.0
#define SMALLEST -708.0
#endif

/* exp(y) of y <= 0: a Taylor polynomial of what is left beside n log(2), and n added to its exponent. */
static inline real exponential(real y) {
    const real rounder = (real)1.5 * ((integer)1 << MANTISSA); /* a sum with it ends in the nearest integer */
    const real shifted = y * (real)1.4426950408889634 + rounder, n = shifted - rounder;
    /* log(2) in two parts: the first times n is exact. */
    const real r = (y - n * (real)0.693145751953125) - n * (real)1.4286068203094172e-06;
    double coefficient = 1.0 / LAST;
    real p = coefficient;
    for (int k = DEGREE; k > 0; k--) coefficient *= k, p = (real)coefficient + p * r;
    integer bits, exponent;
    memcpy(&bits, &p, sizeof p), memcpy(&exponent, &shifted, sizeof shifted);
    bits += exponent << MANTISSA;
    memcpy(&p, &bits, sizeof p);
    return y > (real)SMALLEST ? p : 0;
}

static inline void derivatives(real x, real *value, real *first, real *second) {
    const real e = exponential(x < 0 ? x : -x), larger = 1 / (1 + e), smaller = e * larger;
    const real s = x < 0 ? smaller : larger, rest = x < 0 ? larger : smaller; /* 1 - s, without cancellation */
    *value = x * s;
    *first = s + *value * rest;
    *second = rest * (s + *first - *value * s);
}

#define ALL _Pragma("omp simd") for (int64_t i = begin; i < end; i++)

static void task(const real *restrict x, real *restrict value, real *restrict first, real *restrict second,
                 int64_t begin, int64_t end) {
    if (second) ALL { derivatives(x[i], value + i, first + i, second + i); }
    else if (first) ALL { real second; derivatives(x[i], value + i, first + i, &second); }
    else ALL { real first, second; derivatives(x[i], value + i, &first, &second); }
}

/* Take tasks until none is left: called by every thread of a team on the same numbers. */
void work(Silu *s) {
    for (;;) {
        const int64_t n = __atomic_fetch_add(&s->next, 1, __ATOMIC_RELAXED);
        if (n >= s->tasks) return;
        task(s->x, s->value, s->first, s->second, s->numel * n / s->tasks, s->numel * (n + 1) / s->tasks);
    }
}
