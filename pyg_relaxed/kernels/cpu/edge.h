/*
 * What one edge adds to each sum, generated: to y of its receiver x sh w, to y of its sender g sh w, to dsh x w g,
 * channel by channel; dw = x sh g. Features are channels innermost.
 */
#define NOINLINE __attribute__((noinline))
#define ALIGNED __attribute__((aligned(64))) /* no register crosses a line of the cache */
#define HIDDEN __attribute__((visibility("hidden")))
#if defined(__clang__)
#define VECTORISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define VECTORISE _Pragma("GCC ivdep")
#endif

HIDDEN void edge_to_receiver(const real *restrict x, const real *restrict sh, const real *restrict w, real *restrict y);
HIDDEN void edge_to_sender(const real *restrict g, const real *restrict sh, const real *restrict w, real *restrict y);
HIDDEN void edge_to_edge(const real *restrict x, const real *restrict sh, const real *restrict w, const real *restrict g,
                         real *restrict dsh, real *restrict dw);
