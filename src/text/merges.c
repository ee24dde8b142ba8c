/* The list of merges of files whose tokenizer.ggml.model is "gpt2": conversions made without the SentencePiece model keep
 * the order of merging as "left right" strings instead of scores. This file turns the list into a table of pairs of ids;
 * what a merge does to a text is bpe.c's business. */
#include "base/mem.h"
#include "text/pieces.h"

static ct_status pair_put(ct_vocab *v, const char *path, ct_str line, uint32_t rank, uint64_t *probes, ct_error *err)
{
    char text[2 * VOCAB_MAX_PIECE_BYTES];
    const char *gap = line.len ? memchr(line.data, ' ', line.len) : NULL;
    size_t n_left = gap ? (size_t)(gap - line.data) : 0;
    size_t n_right = gap ? line.len - n_left - 1 : 0;
    if (n_left == 0 || n_right == 0 || memchr(gap + 1, ' ', n_right) != NULL)
        return ct_fail(err, CT_EFORMAT, path,
                       "tokenizer.ggml.merges[%u]: expected two pieces with one space between them, "
                       "found \"%.*s\"",
                       rank, (int)(line.len < 60 ? line.len : 60), line.data);
    if (n_left > VOCAB_MAX_PIECE_BYTES || n_right > VOCAB_MAX_PIECE_BYTES)
        return ct_fail(err, CT_EFORMAT, path,
                       "tokenizer.ggml.merges[%u]: expected pieces of at most %d bytes, found %zu and %zu", rank,
                       VOCAB_MAX_PIECE_BYTES, n_left, n_right);
    size_t left_bytes = ct_space_form(text, line.data, n_left);
    size_t bytes = left_bytes + ct_space_form(text + left_bytes, gap + 1, n_right);
    ct_pair p = {.left = ct_pieces_find(v, text, left_bytes),
                 .right = ct_pieces_find(v, text + left_bytes, bytes - left_bytes),
                 .merged = ct_pieces_find(v, text, bytes),
                 .rank = rank};
    if (p.left < 0 || p.right < 0 || p.merged < 0)
        return ct_fail(
            err, CT_EFORMAT, path,
            "tokenizer.ggml.merges[%u]: expected pieces, found \"%.*s\", of which one is not among the tokens", rank,
            (int)(line.len < 60 ? line.len : 60), line.data);
    if (ct_pairs_find(v, p.left, p.right) != NULL)
        return CT_OK; /* said twice: the first counts */
    if (v->flags[p.merged] & (PIECE_CONTROL | PIECE_BYTE))
        return CT_OK; /* what a user types never merges into a control token, whatever the list says */
    uint64_t h = ((uint64_t)(uint32_t)p.left << 32 | (uint32_t)p.right) * 0x9e3779b97f4a7c15u;
    uint32_t i = (uint32_t)(h >> 32) & v->pair_mask;
    for (; v->pairs[i].left >= 0; i = (i + 1) & v->pair_mask)
        ++*probes;
    v->pairs[i] = p;
    if (*probes > VOCAB_MAX_PROBES(rank))
        return ct_fail(
            err, CT_EFORMAT, path,
            "tokenizer.ggml.merges: expected pairs of all kinds, found that %u merges collide: they were made to",
            rank);
    return CT_OK;
}

ct_status ct_pairs_load(ct_vocab *v, const ct_tensors *t, const ct_kv_pair *merges, ct_error *err)
{
    const char *path = ct_tensors_path(t);
    if (merges == NULL || merges->type != CT_KV_ARRAY || merges->elem_type != CT_KV_STRING)
        return ct_fail(err, CT_EFORMAT, path,
                       "tokenizer.ggml.merges: expected an array of strings for a \"gpt2\" tokenizer, found %s",
                       merges ? "another type" : "nothing");
    if (merges->count > VOCAB_MAX_MERGES)
        return ct_fail(err, CT_EUNSUPPORTED, path, "tokenizer.ggml.merges: expected at most %u merges, found %llu",
                       VOCAB_MAX_MERGES, (unsigned long long)merges->count);
    uint32_t count = (uint32_t)merges->count, room = 16;
    while (room / 2 < count)
        room *= 2;
    v->pair_mask = room - 1;
    v->pairs = ct_alloc(room * sizeof *v->pairs);
    if (v->pairs == NULL)
        return ct_fail(err, CT_ENOMEM, path, "no memory for %u merges of the tokenizer", count);
    for (uint32_t i = 0; i < room; i++)
        v->pairs[i].left = -1;
    uint64_t probes = 0;
    ct_status st = CT_OK;
    for (uint32_t i = 0; i < count && st == CT_OK; i++)
        st = pair_put(v, path, ct_kv_str(merges, i), i, &probes, err);
    return st;
}
