/* The trie of pieces that are never split: which of them, if any, starts here, and how far does the longest reach?
 *
 * Edges are one open-addressing table keyed by (node, byte), so a step is one probe however many children a node has
 * (six thousand <unusedN> pieces share a node). It does not know what the pieces mean; bpe.c does. */
#include "base/mem.h"
#include "text/pieces.h"

#define TRIE_FIRST_EDGES 512u /* doubled as needed: Gemma's eight thousand nodes grow it six times, 0.1 ms */
#define TRIE_MAX_NODES \
    (1u << 18) /* thirty times Gemma's. An edge's key has room for 2^24: a node and a byte in 32 bits */

void ct_trie_deinit(ct_trie *t)
{
    ct_free(t->edges);
    ct_free(t->piece);
    *t = (ct_trie){0};
}

static ct_status edges_grow(ct_trie *t, ct_error *err)
{
    ct_trie bigger = *t;
    uint32_t n = t->edges ? (t->mask + 1) * 2 : TRIE_FIRST_EDGES;
    bigger.mask = n - 1;
    bigger.edges = ct_calloc(n, sizeof *bigger.edges);
    if (bigger.edges == NULL)
        return ct_fail(err, CT_ENOMEM, "vocabulary", "no memory for %u edges of the token trie", n);
    for (uint32_t i = 0; t->edges && i <= t->mask; i++) {
        uint32_t key = (uint32_t)(t->edges[i] >> 32);
        if (t->edges[i] != 0)
            bigger.edges[ct_trie_slot(&bigger, key >> 8, (uint8_t)key)] = t->edges[i];
    }
    ct_free(t->edges);
    *t = bigger;
    return CT_OK;
}

static ct_status node_new(ct_trie *t, uint32_t *node, ct_error *err)
{
    if (t->n_nodes == TRIE_MAX_NODES)
        return ct_fail(err, CT_EUNSUPPORTED, "vocabulary",
                       "expected at most %u bytes of control and user-defined tokens in all, found more",
                       TRIE_MAX_NODES);
    if (t->n_nodes == t->room) {
        uint32_t room = t->room ? t->room * 2 : TRIE_FIRST_EDGES / 2;
        int32_t *piece = ct_realloc(t->piece, room * sizeof *piece);
        if (piece == NULL)
            return ct_fail(err, CT_ENOMEM, "vocabulary", "no memory for %u nodes of the token trie", room);
        t->piece = piece;
        t->room = room;
    }
    t->piece[t->n_nodes] = -1;
    *node = t->n_nodes++;
    return CT_OK;
}

ct_status ct_trie_add(ct_trie *t, const char *s, size_t n, int32_t piece, ct_error *err)
{
    uint32_t node = 0;
    ct_status st = t->n_nodes == 0 ? node_new(t, &node, err) : CT_OK;
    for (size_t k = 0; k < n && st == CT_OK; k++) {
        if ((t->edges == NULL || t->n_edges * 2 > t->mask) && (st = edges_grow(t, err)) != CT_OK)
            break;
        uint32_t slot = ct_trie_slot(t, node, (uint8_t)s[k]);
        if (t->edges[slot] != 0) {
            node = (uint32_t)t->edges[slot];
            continue;
        }
        uint32_t child = 0;
        st = node_new(t, &child, err);
        if (st == CT_OK) {
            t->edges[slot] = (uint64_t)(node << 8 | (uint8_t)s[k]) << 32 | child;
            t->n_edges++;
            node = child;
        }
    }
    if (st == CT_OK && t->piece[node] < 0)
        t->piece[node] = piece; /* of two pieces with one text the first counts */
    return st;
}

int32_t ct_trie_match(const ct_vocab *v, const char *s, size_t n, bool special, size_t *len)
{
    const ct_trie *t = &v->trie;
    int32_t best = -1;
    uint32_t node = 0;
    unsigned wanted = PIECE_USER | (special ? PIECE_CONTROL : 0u);
    for (size_t k = 0; k < n; k++) {
        uint64_t edge = t->edges[ct_trie_slot(t, node, (uint8_t)s[k])];
        if (edge == 0)
            break;
        node = (uint32_t)edge;
        int32_t piece = t->piece[node];
        if (piece >= 0 && (v->flags[piece] & wanted)) {
            best = piece;
            *len = k + 1;
        }
    }
    return best;
}
