/*
 * Sort edges by receiver and by sender, by counting. Stable: equal edges keep their order, so sums are repeatable.
 *
 * The result is one array: senders [E], receivers [E], the edges by receiver [E], the edges by sender [E], the places
 * of edges in the first order sorted by part and sender [E], where each receiver's begin [receivers + 1], where each
 * sender's begin [senders + 1], whether the edges were sorted by receiver, `part`. A part is the edges of consecutive
 * receivers that begin within the same `part` edges.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void by_node(const int64_t *node, int64_t edges, int64_t nodes, int64_t *edge, int64_t *ptr) {
    memset(ptr, 0, (nodes + 1) * sizeof(int64_t));
    for (int64_t e = 0; e < edges; e++) ptr[node[e]]++;
    int64_t total = 0;
    for (int64_t n = 0; n < nodes; n++) {
        const int64_t count = ptr[n];
        ptr[n] = total, total += count;
    }
    for (int64_t e = 0; e < edges; e++) edge[ptr[node[e]]++] = e;
    /* Each entry now says where the next node begins: move them one up. */
    memmove(ptr + 1, ptr, nodes * sizeof(int64_t));
    ptr[0] = 0;
}

static void by_part(const int64_t *receiver, int64_t edges, int64_t receivers, int64_t part, int64_t *order) {
    int64_t *edge = order + 2 * edges, *by_sender = order + 3 * edges, *places = order + 4 * edges;
    const int64_t *ptr = order + 5 * edges;
    const int64_t parts = edges / part + 1;
    int64_t *place = malloc(edges * sizeof(int64_t)), *next = malloc(parts * sizeof(int64_t));
    for (int64_t p = 0; p < parts; p++) next[p] = -1;
    for (int64_t row = 0; row < receivers; row++)
        if (next[ptr[row] / part] < 0) next[ptr[row] / part] = ptr[row];
    for (int64_t k = 0; k < edges; k++) place[edge[k]] = k;
    for (int64_t k = 0; k < edges; k++) {
        const int64_t e = by_sender[k];
        places[next[ptr[receiver[e]] / part]++] = place[e];
    }
    free(place), free(next);
}

/* Return the first edge with a node that does not exist, or -1. */
int64_t sort(const int64_t *edge_index, int64_t edges, int64_t senders, int64_t receivers, int64_t part, int64_t *order) {
    const int64_t *sender = edge_index, *receiver = edge_index + edges;
    for (int64_t e = 0; e < edges; e++)
        if (sender[e] < 0 || sender[e] >= senders || receiver[e] < 0 || receiver[e] >= receivers) return e;
    memcpy(order, edge_index, 2 * edges * sizeof(int64_t));
    int64_t *ptr = order + 5 * edges;
    by_node(receiver, edges, receivers, order + 2 * edges, ptr);
    by_node(sender, edges, senders, order + 3 * edges, ptr + receivers + 1);
    by_part(receiver, edges, receivers, part, order);
    int64_t sorted = 1;
    for (int64_t e = 0; e < edges; e++) sorted &= order[2 * edges + e] == e;
    ptr[receivers + 1 + senders + 1] = sorted;
    ptr[receivers + 1 + senders + 1 + 1] = part;
    return -1;
}
