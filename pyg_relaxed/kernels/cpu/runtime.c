/*
 * The three sums that the trilinear form  sum_e sum_paths w_e C x_j sh_e g_i  needs, edge by edge in CSR order:
 *
 *   receivers   y_i = sum over edges into i of  x sh w
 *   senders     y_j = sum over edges out of j of  g sh w
 *   edges       dsh_e = x w g,  dw_e = x sh g
 *
 * A second derivative is a sum of several such terms, with other x, sh and w in each: one pass over the edges makes it.
 * The weights w are given, or a part of them at a time, or come from a table of splines over the length of the edge.
 * Rows are cut into tasks of equal numbers of edges that threads take in turn. Each row belongs to one task, so a sum
 * does not depend on the number of threads (the order in which parts are added does, as sort.c makes them). Inside,
 * channels are innermost; rows in e3nn's layout are transposed at the door.
 */
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* GENERATED */

/* Ask for a row before it is needed: rows of weights are too short for the processor to foresee the next. */
static void prefetch(const real *row, size_t length) {
    for (size_t n = 0; n < length; n += 64 / sizeof(real)) __builtin_prefetch(row + n);
}

/* Write a row past the cache, which then need not fetch what is there; 0 where that cannot be. */
static int stream(real *to, const real *from, size_t length) {
#if defined(__x86_64__)
    if ((uintptr_t)to % BYTES || length * sizeof(real) % BYTES) return 0;
    for (size_t n = 0; n < length; n += LANES) {
#if BYTES == 64
        _mm512_stream_si512((void *)(to + n), _mm512_loadu_si512((const void *)(from + n)));
#elif BYTES == 32
        _mm256_stream_si256((void *)(to + n), _mm256_loadu_si256((const void *)(from + n)));
#else
        _mm_stream_si128((void *)(to + n), _mm_loadu_si128((const void *)(from + n)));
#endif
    }
    return 1;
#else
    return 0;
#endif
}

/* The last four turn rows of x or g from e3nn's layout to channels innermost, or back, and write them to y. */
enum { RECEIVERS, SENDERS, EDGES, SENDERS_OF_PART, IN_TO_IR_MUL, OUT_TO_IR_MUL, IN_TO_MUL_IR, OUT_TO_MUL_IR };

#define TERMS 3 /* at most */

typedef struct {
    int64_t kind, first, last;      /* which sum, over which rows (of a part: over which of its edges) */
    int64_t mul_ir;                 /* whether rows of this sum are in e3nn's layout; those of the other ends never are */
    int64_t part;                   /* whether w and dw have rows for the edges of this sum alone, in their order */
    int64_t terms;                  /* how many of x, sh and w there are */
    const int64_t *sender, *receiver; /* edges: as in edge_index */
    const int64_t *edge, *ptr;      /* edges: row by row; rows + 1: where the edges of each row begin */
    const int64_t *by_sender;       /* edges: of each part, places in edge, sorted by sender */
    const real *x[TERMS], *sh[TERMS], *w[TERMS], *g;
    real *y, *dsh, *dw;             /* dsh and dw may be missing */
    int64_t past_cache;             /* edges: whether dw is too large for the cache to keep */
    real *turned;                   /* edges: where to leave rows of g with channels innermost, if not missing */
    const real *length, *table;     /* edges: their lengths; knots x 2 x WEIGHTS: values and slopes of w, instead of w */
    real *dlength;
    int64_t knots;
    double spacing;                 /* between knots, the first at length 0 */
    int64_t edges, tasks, next;
} Sum;

#define AHEAD 2 /* edges */

/* w or its derivative at the length of an edge: the cubic through values and slopes at the two knots around it. */
static const real *from_table(const Sum *s, int64_t e, int derivative, real *restrict w) {
    const double place = s->length[e] / s->spacing;
    const int64_t knot = place < 0 ? 0 : place < s->knots - 1 ? (int64_t)place : s->knots - 2;
    const real t = place - knot, h = s->spacing;
    const real v = derivative ? 6 * t * (t - 1) / h : (2 * t - 3) * t * t;
    const real a = derivative ? v : 1 + v, b = -v;
    const real c = derivative ? (3 * t - 4) * t + 1 : h * ((t - 2) * t + 1) * t;
    const real d = derivative ? (3 * t - 2) * t : h * (t - 1) * t * t;
    const real *restrict row = s->table + 2 * knot * WEIGHTS;
    VECTORISE
    for (int n = 0; n < WEIGHTS; n++)
        w[n] = a * row[n] + c * row[WEIGHTS + n] + b * row[2 * WEIGHTS + n] + d * row[3 * WEIGHTS + n];
    return w;
}

/* The weights of edge e, the k-th in the order of this sum. */
static const real *weights(const Sum *s, int term, int64_t e, int64_t k, real *buffer) {
    if (s->table) return from_table(s, e, 0, buffer);
    if (s->part) return s->w[term] + WEIGHTS * k;
    prefetch(s->w[term] + WEIGHTS * s->edge[k + AHEAD < s->edges ? k + AHEAD : k], WEIGHTS);
    return s->w[term] + WEIGHTS * e;
}

static void row_of_receivers(const Sum *s, int64_t row) {
    ALIGNED real local[DIM_OUT], buffer[WEIGHTS], *y = s->mul_ir ? local : s->y + row * DIM_OUT;
    memset(y, 0, DIM_OUT * sizeof(real));
    for (int64_t k = s->ptr[row]; k < s->ptr[row + 1]; k++) {
        const int64_t e = s->edge[k], n = s->part ? k - s->ptr[s->first] : k;
        for (int t = 0; t < s->terms; t++)
            edge_to_receiver(s->x[t] + s->sender[e] * DIM_IN, s->sh[t] + e * DIM_SH, weights(s, t, e, n, buffer), y);
    }
    if (s->mul_ir) out_to_mul_ir(y, s->y + row * DIM_OUT);
}

static void row_of_senders(const Sum *s, int64_t row) {
    ALIGNED real local[DIM_IN], buffer[WEIGHTS], *y = s->mul_ir ? local : s->y + row * DIM_IN;
    memset(y, 0, DIM_IN * sizeof(real));
    for (int64_t k = s->ptr[row]; k < s->ptr[row + 1]; k++) {
        const int64_t e = s->edge[k];
        for (int t = 0; t < s->terms; t++)
            edge_to_sender(s->g + s->receiver[e] * DIM_OUT, s->sh[t] + e * DIM_SH, weights(s, t, e, k, buffer), y);
    }
    if (s->mul_ir) in_to_mul_ir(y, s->y + row * DIM_IN);
}

/* The weights of the k-th edge, by sender, of a part. */
static const real *of_part(const Sum *s, int term, int64_t k) {
    const int64_t place = s->by_sender[k];
    return s->w[term] + WEIGHTS * (s->part ? place - s->first : s->edge[place]);
}

/* What the edges of a part, from the k-th on, add to their senders. */
static void senders_of_part(const Sum *s, int64_t k, int64_t last) {
    for (; k < last; k++) {
        const int64_t e = s->edge[s->by_sender[k]];
        const real *g = s->g + s->receiver[e] * DIM_OUT;
        for (int t = 0; t < s->terms; t++) {
            prefetch(of_part(s, t, k + AHEAD < last ? k + AHEAD : k), WEIGHTS);
            edge_to_sender(g, s->sh[t] + e * DIM_SH, of_part(s, t, k), s->y + s->sender[e] * DIM_IN);
        }
    }
}

static void row_of_edges(const Sum *s, int64_t row) {
    ALIGNED real local[DIM_OUT], channels[DIM_SH * CHANNELS], buffer[WEIGHTS], dw_buffer[WEIGHTS], dw_of_term[WEIGHTS];
    const real *g = s->g + row * DIM_OUT;
    if (s->mul_ir) {
        real *turned = s->turned ? s->turned + row * DIM_OUT : local;
        out_to_ir_mul(g, turned), g = turned;
    }
    for (int64_t k = s->ptr[row]; k < s->ptr[row + 1]; k++) {
        const int64_t e = s->edge[k], n = s->part ? k - s->ptr[s->first] : k;
        real *const target = s->dw ? s->dw + WEIGHTS * (s->part ? n : e) : dw_buffer;
        real *restrict dw = s->past_cache ? dw_buffer : target;
        memset(channels, 0, sizeof channels);
        for (int t = 0; t < s->terms; t++) {
            const real *x = s->x[t] + s->sender[e] * DIM_IN, *w = weights(s, t, e, n, buffer);
            edge_to_edge(x, s->sh[t] + e * DIM_SH, w, g, channels, t == 0 ? dw : dw_of_term);
            if (t == 0) continue;
            VECTORISE
            for (int i = 0; i < WEIGHTS; i++) dw[i] += dw_of_term[i];
        }
        if (s->past_cache && !stream(target, dw, WEIGHTS)) memcpy(target, dw, sizeof dw_buffer);
        if (s->dsh)
            for (int b = 0; b < DIM_SH; b++) {
                real total = 0;
                _Pragma("omp simd simdlen(4) reduction(+ : total)") /* wide registers take long to sum up */
                for (int u = 0; u < CHANNELS; u++) total += channels[b * CHANNELS + u];
                s->dsh[e * DIM_SH + b] = total;
            }
        if (s->dlength) {
            const real *slope = from_table(s, e, 1, buffer);
            real total = 0;
            _Pragma("omp simd reduction(+ : total)")
            for (int i = 0; i < WEIGHTS; i++) total += dw[i] * slope[i];
            s->dlength[e] = total;
        }
    }
}

static void one_row(const Sum *s, int64_t row) {
    switch (s->kind) {
    case RECEIVERS: row_of_receivers(s, row); break;
    case SENDERS: row_of_senders(s, row); break;
    case EDGES: row_of_edges(s, row); break;
    case IN_TO_IR_MUL: in_to_ir_mul(s->x[0] + row * DIM_IN, s->y + row * DIM_IN); break;
    case OUT_TO_IR_MUL: out_to_ir_mul(s->g + row * DIM_OUT, s->y + row * DIM_OUT); break;
    case IN_TO_MUL_IR: in_to_mul_ir(s->x[0] + row * DIM_IN, s->y + row * DIM_IN); break;
    case OUT_TO_MUL_IR: out_to_mul_ir(s->g + row * DIM_OUT, s->y + row * DIM_OUT); break;
    }
}

static int64_t sender_of(const Sum *s, int64_t k) { return s->sender[s->edge[s->by_sender[k]]]; }

/* The first row of a task: at equal numbers of edges, or of rows where there are no edges. */
static int64_t begin(const Sum *s, int64_t task) {
    if (task == 0) return s->first;
    if (task == s->tasks) return s->last;
    if (!s->ptr) {
        int64_t k = s->first + (s->last - s->first) * task / s->tasks;
        /* Edges of one sender stay together. */
        if (s->kind == SENDERS_OF_PART)
            while (k > s->first && k < s->last && sender_of(s, k) == sender_of(s, k - 1)) k++;
        return k;
    }
    const int64_t edge = s->ptr[s->first] + (s->ptr[s->last] - s->ptr[s->first]) * task / s->tasks;
    int64_t low = s->first, high = s->last;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (s->ptr[middle] < edge) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Take tasks until none is left: called by every thread of a team on the same sum. */
void work(Sum *s) {
    for (;;) {
        const int64_t task = __atomic_fetch_add(&s->next, 1, __ATOMIC_RELAXED);
        if (task >= s->tasks) break;
        const int64_t last = begin(s, task + 1);
        if (s->kind == SENDERS_OF_PART) senders_of_part(s, begin(s, task), last);
        else
            for (int64_t row = begin(s, task); row < last; row++) one_row(s, row);
    }
#if defined(__x86_64__)
    _mm_sfence(); /* what went past the cache is seen by the other threads from here on */
#endif
}
