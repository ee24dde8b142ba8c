/* A vocabulary between a file and the arrays of a directory: texts by id, types, scores, look-ups by text; and the merges that
 * make its pieces, in the order that a tokenizer.json lists them. For the tokenizers of this room only.
 *
 * Texts are kept as tokenizer.json spells them: a space inside of a piece is U+2581. What a text means is not known here. */
#ifndef CT_FORMATS_TOKEN_TABLE_H
#define CT_FORMATS_TOKEN_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/tensors.h"

/* The limits of text/pieces.h: four times what Gemma has, so that a hostile file costs its own size and some 50 MB. */
#define CT_TOKENS_MAX (1u << 20)
#define CT_TOKEN_BYTES 1024
#define CT_MERGES_MAX (1u << 20)

enum { CT_TOKEN_NORMAL = 1, CT_TOKEN_UNKNOWN, CT_TOKEN_CONTROL, CT_TOKEN_USER, CT_TOKEN_UNUSED, CT_TOKEN_BYTE };

struct token_table {
    const char *path; /* for sentences, borrowed */
    char *text;
    size_t n_text, room_text;
    uint32_t n, room, max_n;
    ct_span *spans; /* [n] in text; of an id that is not there yet at is UINT32_MAX */
    float *scores;  /* [n] */
    int32_t *types; /* [n] */
    /* [mask + 1], after ct_tokens_index. 0: free */
    uint64_t *hashes;
    uint32_t *ids;
    uint32_t mask;
};

/* Room for bytes of text, which grows if need be; memory is taken when it is written to. */
ct_status ct_tokens_init(struct token_table *k, const char *path, size_t bytes, ct_error *err);
void ct_tokens_deinit(struct token_table *k);

/* Enters a token, in any order of ids. EFORMAT if the id was there, or the text is no UTF-8, empty or too long. */
ct_status ct_tokens_put(struct token_table *k, uint64_t id, ct_str text, int32_t type, float score, ct_error *err);
/* Another text for an id; the look-ups are made anew by ct_tokens_index. */
ct_status ct_tokens_rename(struct token_table *k, uint32_t id, ct_str text, ct_error *err);
/* Gives back the room that no text was written to. */
void ct_tokens_trim(struct token_table *k);
/* Makes the look-ups. EFORMAT if an id is missing, or two tokens have one text. */
ct_status ct_tokens_index(struct token_table *k, ct_error *err);
/* The id of a text, or -1. */
int32_t ct_tokens_find(const struct token_table *k, ct_str text);
static inline ct_str ct_tokens_at(const struct token_table *k, uint32_t id)
{
    return (ct_str){k->text + k->spans[id].at, k->spans[id].len};
}

/* One way to make a piece: its first `left` bytes, which are a piece, and the others, which are one as well. */
struct ct_merge {
    uint32_t id;
    uint16_t left, chars_left, chars_right;
};

/* All of them, highest score first; of one score the longest left part first, then the longest right part, then the lowest id:
 * the order in which Hugging Face turns a SentencePiece model into merges. User-defined pieces, whose scores mean nothing, count
 * as the best of all scores; control pieces and bytes are not made of anything. */
struct merge_list {
    const struct token_table *k;
    uint64_t *order; /* [n_order] score, then id */
    size_t n_order, next;
    struct ct_merge *group; /* [n_group] of the score that is due */
    size_t n_group, at, room, given;
    ct_status status; /* ENOMEM; EUNSUPPORTED: more than CT_MERGES_MAX */
};

ct_status ct_merges_init(struct merge_list *m, const struct token_table *k, ct_error *err);
/* False behind the last one, or when something went wrong. */
bool ct_merges_next(struct merge_list *m, struct ct_merge *merge);
void ct_merges_deinit(struct merge_list *m);

#endif
