/*
 * The three sums that the trilinear form  sum_e sum_paths w_e C x_j sh_e g_i  needs, edge by edge in CSR order:
 *
 *   receivers   y_i = sum over edges into i of  x sh w
 *   senders     y_j = sum over edges out of j of  g sh w
 *   edges       dsh_e = x w g,  dw_e = x sh g
 *
 * Rows are cut into tasks of equal numbers of edges that threads take in turn. Each row belongs to one task, so results
 * do not depend on the number of threads. Inside, channels are innermost; rows in e3nn's layout are transposed at the door.
 */
#include <stdint.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))
#if defined(__clang__)
#define VECTORISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define VECTORISE _Pragma("GCC ivdep")
#endif

/* GENERATED */

/* The last two write rows of x and of g in e3nn's layout to y, channels innermost. */
enum { RECEIVERS, SENDERS, EDGES, TRANSPOSE_IN, TRANSPOSE_OUT };

typedef struct {
    int64_t kind, first, last;   /* which sum, over which rows */
    int64_t mul_ir;              /* whether rows of this sum are in e3nn's layout; those of the other ends never are */
    int64_t own_order;           /* whether rows of w and dw are in CSR order from the first row on, not in edge order */
    const int64_t *ptr;          /* rows + 1: where the edges of each row begin */
    const int64_t *edge;         /* edges: row by row */
    const int64_t *other;        /* edges: the node at the other end of each edge */
    const real *x, *sh, *w, *g;
    real *y, *dsh, *dw;
    int64_t tasks, next;
} Sum;

typedef struct { int mul, dim; } Block;
static const Block blocks_in[] = BLOCKS_IN, blocks_out[] = BLOCKS_OUT;
#define LENGTH(blocks) (int)(sizeof(blocks) / sizeof(Block))

static void to_ir_mul(const Block *blocks, int length, const real *restrict from, real *restrict to) {
    for (int k = 0; k < length; k++) {
        const int mul = blocks[k].mul, dim = blocks[k].dim;
        for (int c = 0; c < dim; c++)
            for (int u = 0; u < mul; u++) to[c * mul + u] = from[u * dim + c];
        from += mul * dim, to += mul * dim;
    }
}

static void to_mul_ir(const Block *blocks, int length, const real *restrict from, real *restrict to) {
    for (int k = 0; k < length; k++) {
        const int mul = blocks[k].mul, dim = blocks[k].dim;
        for (int u = 0; u < mul; u++)
            for (int c = 0; c < dim; c++) to[u * dim + c] = from[c * mul + u];
        from += mul * dim, to += mul * dim;
    }
}

static void row_of_receivers(const Sum *s, int64_t row) {
    real local[DIM_OUT], *y = s->mul_ir ? local : s->y + row * DIM_OUT;
    memset(y, 0, DIM_OUT * sizeof(real));
    for (int64_t k = s->ptr[row]; k < s->ptr[row + 1]; k++) {
        const int64_t e = s->edge[k], n = s->own_order ? k - s->ptr[s->first] : e;
        edge_to_receiver(s->x + s->other[e] * DIM_IN, s->sh + e * DIM_SH, s->w + n * WEIGHTS, y);
    }
    if (s->mul_ir) to_mul_ir(blocks_out, LENGTH(blocks_out), y, s->y + row * DIM_OUT);
}

static void row_of_senders(const Sum *s, int64_t row) {
    real local[DIM_IN], *y = s->mul_ir ? local : s->y + row * DIM_IN;
    memset(y, 0, DIM_IN * sizeof(real));
    for (int64_t k = s->ptr[row]; k < s->ptr[row + 1]; k++) {
        const int64_t e = s->edge[k], n = s->own_order ? k - s->ptr[s->first] : e;
        edge_to_sender(s->g + s->other[e] * DIM_OUT, s->sh + e * DIM_SH, s->w + n * WEIGHTS, y);
    }
    if (s->mul_ir) to_mul_ir(blocks_in, LENGTH(blocks_in), y, s->y + row * DIM_IN);
}

static void row_of_edges(const Sum *s, int64_t row) {
    real local[DIM_OUT], channels[DIM_SH * CHANNELS], unused[WEIGHTS];
    const real *g = s->g + row * DIM_OUT;
    if (s->mul_ir) to_ir_mul(blocks_out, LENGTH(blocks_out), g, local), g = local;
    for (int64_t k = s->ptr[row]; k < s->ptr[row + 1]; k++) {
        const int64_t e = s->edge[k], n = s->own_order ? k - s->ptr[s->first] : e;
        memset(channels, 0, sizeof channels);
        edge_to_edge(s->x + s->other[e] * DIM_IN, s->sh + e * DIM_SH, s->w + n * WEIGHTS, g, channels,
                     s->dw ? s->dw + n * WEIGHTS : unused);
        for (int b = 0; b < DIM_SH; b++) {
            real total = 0;
            _Pragma("omp simd reduction(+ : total)")
            for (int u = 0; u < CHANNELS; u++) total += channels[b * CHANNELS + u];
            s->dsh[e * DIM_SH + b] = total;
        }
    }
}

static void one_row(const Sum *s, int64_t row) {
    switch (s->kind) {
    case RECEIVERS: row_of_receivers(s, row); break;
    case SENDERS: row_of_senders(s, row); break;
    case EDGES: row_of_edges(s, row); break;
    case TRANSPOSE_IN: to_ir_mul(blocks_in, LENGTH(blocks_in), s->x + row * DIM_IN, s->y + row * DIM_IN); break;
    case TRANSPOSE_OUT: to_ir_mul(blocks_out, LENGTH(blocks_out), s->g + row * DIM_OUT, s->y + row * DIM_OUT); break;
    }
}

/* The first row of a task: at equal numbers of edges, or of rows where there are no edges. */
static int64_t begin(const Sum *s, int64_t task) {
    if (task == 0) return s->first;
    if (task == s->tasks) return s->last;
    if (!s->ptr) return s->first + (s->last - s->first) * task / s->tasks;
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
        if (task >= s->tasks) return;
        const int64_t last = begin(s, task + 1);
        for (int64_t row = begin(s, task); row < last; row++) one_row(s, row);
    }
}
