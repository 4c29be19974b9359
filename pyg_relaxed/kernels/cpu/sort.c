/*
 * Sort edges by receiver and by sender, by counting. Stable: equal edges keep their order, so sums are repeatable.
 *
 * The result is one array: senders [E], receivers [E], the edges by receiver [E], the edges by sender [E],
 * where each receiver's begin [receivers + 1], where each sender's begin [senders + 1].
 */
#include <stdint.h>
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

/* Return the first edge with a node that does not exist, or -1. */
int64_t sort(const int64_t *edge_index, int64_t edges, int64_t senders, int64_t receivers, int64_t *order) {
    const int64_t *sender = edge_index, *receiver = edge_index + edges;
    for (int64_t e = 0; e < edges; e++)
        if (sender[e] < 0 || sender[e] >= senders || receiver[e] < 0 || receiver[e] >= receivers) return e;
    memcpy(order, edge_index, 2 * edges * sizeof(int64_t));
    int64_t *ptr = order + 4 * edges;
    by_node(receiver, edges, receivers, order + 2 * edges, ptr);
    by_node(sender, edges, senders, order + 3 * edges, ptr + receivers + 1);
    return -1;
}
