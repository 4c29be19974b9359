/*
 * Spherical harmonics Y of the directions of vectors, with their first and second derivatives, many vectors at a time.
 *
 * On the direction u = v / |v| they are solid harmonics S, S_l,m = sum T_l[n,a,m] S_(l-1),n u_a. Those are harmonic and
 * homogeneous, so their derivatives are made of the same coefficients: d S_l,m / d u_a = l sum T_l[n,a,m] S_(l-1),n.
 */
#include <math.h>
#include <stdint.h>

#define SHORTEST 1e-12 /* length: what is shorter is no direction, as in torch.nn.functional.normalize */
#define BLOCK 16
#define ALL _Pragma("omp simd") for (int i = 0; i < BLOCK; i++)

typedef real Columns[][BLOCK];

enum { VALUES, GRADIENT, CURVATURE };

typedef struct {
    int64_t kind, edges, tasks, next;
    const real *v, *g, *q;
    real *y, *dv, *dg;
} Harmonics;

static void load(const real *rows, int64_t first, int64_t last, int dim, Columns columns) {
    for (int k = 0; k < dim; k++)
        for (int i = 0; i < BLOCK; i++) columns[k][i] = first + i < last ? rows[(first + i) * dim + k] : 0;
}

static void store(real *rows, int64_t first, int64_t last, int dim, const Columns columns) {
    for (int i = 0; i < BLOCK && first + i < last; i++)
        for (int k = 0; k < dim; k++) rows[(first + i) * dim + k] = columns[k][i];
}

#define DIRECTION                                                                                                      \
    const real length = sizeof(real) == 4 ? sqrtf(v[0][i] * v[0][i] + v[1][i] * v[1][i] + v[2][i] * v[2][i])           \
                                          : sqrt(v[0][i] * v[0][i] + v[1][i] * v[1][i] + v[2][i] * v[2][i]);           \
    const real s = 1 / (length > (real)SHORTEST ? length : (real)SHORTEST);                                            \
    const real u0 = v[0][i] * s, u1 = v[1][i] * s, u2 = v[2][i] * s;

/* GENERATED */

static void values(const Harmonics *h, int64_t first, int64_t last) {
    real v[3][BLOCK], y[DIM][BLOCK];
    load(h->v, first, last, 3, v);
    ALL {
        DIRECTION
        SOLID
        OUTPUT
    }
    store(h->y, first, last, DIM, y);
}

/* dv, where y has the cotangent g: G, the derivative in u, without its part along u. */
static void gradient(const Harmonics *h, int64_t first, int64_t last) {
    real v[3][BLOCK], g[DIM][BLOCK], dv[3][BLOCK];
    load(h->v, first, last, 3, v), load(h->g, first, last, DIM, g);
    ALL {
        DIRECTION
        SOLID
        FIRST
        const real along = u0 * G0 + u1 * G1 + u2 * G2;
        dv[0][i] = s * (G0 - along * u0), dv[1][i] = s * (G1 - along * u1), dv[2][i] = s * (G2 - along * u2);
    }
    store(h->dv, first, last, 3, dv);
}

/* dv and dg, where what gradient() returns has the cotangent q: p is q without its part along u. */
static void curvature(const Harmonics *h, int64_t first, int64_t last) {
    real v[3][BLOCK], g[DIM][BLOCK], q[3][BLOCK], dv[3][BLOCK], dg[DIM][BLOCK];
    load(h->v, first, last, 3, v), load(h->g, first, last, DIM, g), load(h->q, first, last, 3, q);
    ALL {
        DIRECTION
        SOLID
        FIRST
        const real uq = u0 * q[0][i] + u1 * q[1][i] + u2 * q[2][i], uG = u0 * G0 + u1 * G1 + u2 * G2;
        const real p0 = q[0][i] - uq * u0, p1 = q[1][i] - uq * u1, p2 = q[2][i] - uq * u2;
        SECOND
        const real w0 = K0 - uq * G0 - uG * q[0][i], w1 = K1 - uq * G1 - uG * q[1][i], w2 = K2 - uq * G2 - uG * q[2][i];
        const real along = u0 * w0 + u1 * w1 + u2 * w2 + p0 * G0 + p1 * G1 + p2 * G2;
        dv[0][i] = s * s * (w0 - along * u0), dv[1][i] = s * s * (w1 - along * u1), dv[2][i] = s * s * (w2 - along * u2);
    }
    store(h->dv, first, last, 3, dv), store(h->dg, first, last, DIM, dg);
}

/* Take tasks until none is left: called by every thread of a team on the same structure. */
void work(Harmonics *h) {
    const int64_t blocks = (h->edges + BLOCK - 1) / BLOCK;
    for (;;) {
        const int64_t task = __atomic_fetch_add(&h->next, 1, __ATOMIC_RELAXED);
        if (task >= h->tasks) return;
        for (int64_t block = blocks * task / h->tasks; block < blocks * (task + 1) / h->tasks; block++) {
            const int64_t first = block * BLOCK, last = first + BLOCK < h->edges ? first + BLOCK : h->edges;
            if (h->kind == VALUES) values(h, first, last);
            else if (h->kind == GRADIENT) gradient(h, first, last);
            else curvature(h, first, last);
        }
    }
}
