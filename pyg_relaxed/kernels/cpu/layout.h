/*
 * Blocks of channels from one layout to the other, as many channels at a time as a register has lanes: the registers
 * written hold the same numbers as the registers read. A shuffle takes from two registers, so each one written is put
 * together step by step, of what it has so far and the next one read.
 */
#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define LANES (BYTES / BYTES_OF_REAL)
typedef real vec __attribute__((vector_size(BYTES), aligned(BYTES_OF_REAL), may_alias));

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAS_SHUFFLES
#endif
#endif

/* What lane u of register n written comes from: of all numbers read, in the order of registers. */
#define TO_IR_MUL(dim, n, u) ((n) + (dim) * (u))
#define TO_MUL_IR(dim, n, u) ((((n) * LANES + (u)) % (dim)) * LANES + ((n) * LANES + (u)) / (dim))

/* The lane for the first two registers read, and for what there is so far and register k. */
#define FIRST(to, dim, n, k, u) (to(dim, n, u) < 2 * LANES ? to(dim, n, u) : -1)
#define NEXT(to, dim, n, k, u) (to(dim, n, u) / LANES == (k) ? LANES + to(dim, n, u) % LANES : (u))

#define EACH2(f, to, dim, n, k, u) f(to, dim, n, k, u), f(to, dim, n, k, u + 1)
#define EACH4(f, to, dim, n, k, u) EACH2(f, to, dim, n, k, u), EACH2(f, to, dim, n, k, u + 2)
#define EACH8(f, to, dim, n, k, u) EACH4(f, to, dim, n, k, u), EACH4(f, to, dim, n, k, u + 4)
#define EACH16(f, to, dim, n, k, u) EACH8(f, to, dim, n, k, u), EACH8(f, to, dim, n, k, u + 8)
#if LANES == 16
#define EACH EACH16
#elif LANES == 8
#define EACH EACH8
#elif LANES == 4
#define EACH EACH4
#else
#define EACH EACH2
#endif

#define SHUFFLE(step, a, b, to, dim, n, k) __builtin_shufflevector(a, b, EACH(step, to, dim, n, k, 0))
