/* The inside of a vocabulary, for the files of this room alone.
 *
 * Pieces live in one blob, in "space form": U+2581 is stored as a space. In a SentencePiece vocabulary no piece that
 * merges can make holds a plain space, so this loses nothing, the text of a piece is what a user reads, and a merge is a
 * look-up of a span of the text itself. A flat open-addressing table over the blob finds pieces; a trie finds the pieces
 * that are never split (control and user-defined ones) in raw text; in files that carry merges instead of scores a table
 * of pairs gives their order. Everything is immutable once ct_vocab_create has returned. */
#ifndef CT_TEXT_PIECES_H
#define CT_TEXT_PIECES_H

#include <string.h>

#include "base/utf8.h"
#include "text/vocab.h"

enum {                    /* flags of a piece */
       PIECE_MERGE = 1,   /* may be the result of a merge                             */
       PIECE_CHAR = 2,    /* may stand for a single character of the text             */
       PIECE_CONTROL = 4, /* matched in text only when asked for; silent in output    */
       PIECE_USER = 8,    /* matched whole in any text                                */
       PIECE_BYTE = 16,   /* <0xNN>                                                   */
       PIECE_END = 32     /* ends a generation                                        */
};

#define PIECE_MAX_RANK 0xffffffu /* ranks and ids have 24 bits of a heap key (bpe.c) and of a slot of the table */

/* What a vocabulary may hold: four times Gemma's 262144 pieces, twice its 514906 merges, twenty times its longest piece. They
 * bound what a hostile file can cost: memory to the file's size and 64 MiB, the time of a look-up to the longest piece. */
#define VOCAB_MAX_PIECES (1u << 20)
#define VOCAB_MAX_MERGES (1u << 20)
#define VOCAB_MAX_PIECE_BYTES 1024
/* Probes of a hash table of n entries that no honest file comes near (it needs less than one each): a file whose pieces were
 * chosen to collide would else keep the loader busy for minutes. */
#define VOCAB_MAX_PROBES(n) (65536 + 16 * (uint64_t)(n))

typedef struct ct_trie {
    uint64_t *edges; /* [mask + 1] (node << 8 | byte) << 32 | child; 0 is free: the root is nobody's child */
    uint32_t mask, n_edges;
    int32_t *piece; /* [n_nodes] piece that ends here, or -1 */
    uint32_t n_nodes, room;
} ct_trie;

typedef struct ct_pair { /* one merge: left, right -> merged */
    int32_t left, right; /* left is -1 in a free slot */
    int32_t merged;
    uint32_t rank;
} ct_pair;

struct ct_vocab {
    int32_t n;
    int32_t bos;
    bool add_bos, space_prefix, has_turns;
    size_t max_piece; /* longest piece in bytes                          */
    size_t max_merge; /* longest piece in bytes that a merge can give    */
    uint32_t *off;    /* [n + 1] piece i is blob[off[i] .. off[i+1])     */
    char *blob;
    uint8_t *flags;  /* [n] */
    uint32_t *rank;  /* [n] order of merging, lowest first (score files) */
    uint32_t *table; /* [mask + 1] a byte of the hash, then 24 bits of id + 1; 0 is free */
    uint32_t mask;
    int32_t byte_id[256];
    uint8_t bytes[256]; /* bytes[b] == b: the text of byte pieces       */
    int32_t ascii[128]; /* id of a one-byte character, or -1            */
    bool joins[256];    /* some piece has this byte right before an inner space */
    ct_trie trie;
    bool starts[256]; /* first bytes of the pieces in the trie        */
    ct_pair *pairs;   /* [pair_mask + 1] of files with merges, else NULL */
    uint32_t pair_mask;
};

static inline uint64_t ct_text_load(const char *s, size_t n)
{
    uint64_t u = 0;
    memcpy(&u, s, n);
    return u;
}

static inline uint64_t ct_text_hash(const char *s, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15u;
    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8)
            h = ((h ^ ct_text_load(s + i, 8)) * 0xbf58476d1ce4e5b9u) ^ h >> 29;
        h ^= ct_text_load(s + n - 8, 8);
    } else if (n >= 4) {
        h ^= ct_text_load(s, 4) | ct_text_load(s + n - 4, 4) << 32;
    } else if (n > 0) {
        h ^= (uint64_t)(uint8_t)s[0] | (uint64_t)(uint8_t)s[n / 2] << 8 | (uint64_t)(uint8_t)s[n - 1] << 16;
    }
    /* 29: by 32, a text of four bytes, which is both halves, would cancel itself. */
    h = (h ^ h >> 29) * 0x94d049bb133111ebu;
    return h ^ h >> 31;
}

/* The slot of the piece with this text in space form and this hash, or the free slot where it belongs. */
static inline uint32_t ct_pieces_slot(const ct_vocab *v, const char *s, size_t n, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & v->mask;
    for (; v->table[i] != 0; i = (i + 1) & v->mask) {
        uint32_t id = (v->table[i] & PIECE_MAX_RANK) - 1;
        if (v->table[i] >> 24 == hash >> 56 && v->off[id + 1] - v->off[id] == n &&
            memcmp(v->blob + v->off[id], s, n) == 0)
            break;
    }
    return i;
}

/* Id of the piece with this text in space form, or -1. */
static inline int32_t ct_pieces_find(const ct_vocab *v, const char *s, size_t n)
{
    return (int32_t)(v->table[ct_pieces_slot(v, s, n, ct_text_hash(s, n))] & PIECE_MAX_RANK) - 1;
}

/* The merge of two pieces by the file's list of merges, or NULL. */
static inline const ct_pair *ct_pairs_find(const ct_vocab *v, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    for (uint32_t i = (uint32_t)(h >> 32) & v->pair_mask;; i = (i + 1) & v->pair_mask) {
        const ct_pair *p = &v->pairs[i];
        if (p->left < 0)
            return NULL;
        if (p->left == left && p->right == right)
            return p;
    }
}

static inline uint32_t ct_trie_slot(const ct_trie *t, uint32_t node, uint8_t byte)
{
    uint32_t key = node << 8 | byte;
    uint32_t i = key * 0x9e3779b1u >> 7 & t->mask;
    while (t->edges[i] != 0 && t->edges[i] >> 32 != key)
        i = (i + 1) & t->mask;
    return i;
}

/* trie.c: every piece added once; ENOMEM leaves the trie sound and ct_trie_deinit still due. */
ct_status ct_trie_add(ct_trie *t, const char *s, size_t n, int32_t piece, ct_error *err);
/* The longest piece at the start of s that is user-defined, or control if `special`; its length in *len. -1: none. */
int32_t ct_trie_match(const ct_vocab *v, const char *s, size_t n, bool special, size_t *len);
void ct_trie_deinit(ct_trie *t);

/* merges.c: fills v->pairs from the array of "left right" strings. */
ct_status ct_pairs_load(ct_vocab *v, const ct_tensors *t, const ct_kv_pair *merges, ct_error *err);

/* Copies s to dst with U+2581 as a space; returns the new length (at most n). dst may be s. */
size_t ct_space_form(char *dst, const char *s, size_t n);

static inline bool ct_is_wide_space(const char *s, size_t n) /* U+2581, SentencePiece's space */
{
    return n >= 3 && memcmp(s, "\xe2\x96\x81", 3) == 0;
}

#endif
