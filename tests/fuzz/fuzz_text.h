/* What must hold for any text and any vocabulary: used by fuzz_tokenize.c and fuzz_vocab.c. */
#ifndef CARAT_TESTS_FUZZ_TEXT_H
#define CARAT_TESTS_FUZZ_TEXT_H

#include "fuzz.h"
#include "text/pieces.h"

/* Ids back to text through the streaming decoder; every step within what was promised. */
static inline void stream_back(const ct_vocab *v, const ct_ids *ids)
{
    ct_detok d = {0};
    size_t cap = ct_detok_max(v);
    char *out = malloc(cap);
    MUST(out != NULL);
    for (size_t i = 0; i < ids->n; i++) {
        MUST(ct_detok_next(&d, v, ids->ids[i], i % 2 == 0, out, cap) <= cap);
        MUST(ct_detok_sound(&d));
    }
    MUST(ct_detok_flush(&d, out, cap) <= cap && d.n_held == 0);
    free(out);
}

/* The pieces of a text, one after the other, are the text, U+2581 and spaces being one. */
static inline void must_be_the_text(const ct_vocab *v, const ct_ids *ids, const char *text, size_t n, bool prefix)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < ids->n; i++)
        total += ct_vocab_piece(v, ids->ids[i]).len;
    char *whole = malloc(total + 1), *wanted = malloc(n + 2);
    MUST(whole != NULL && wanted != NULL);
    for (size_t i = 0; i < ids->n; i++) {
        ct_str piece = ct_vocab_piece(v, ids->ids[i]);
        memcpy(whole + at, piece.data, piece.len);
        at += piece.len;
    }
    total = ct_space_form(whole, whole, total);
    size_t spaces = prefix && n > 0 && text[0] != ' ';
    wanted[0] = ' ';
    if (n > 0)
        memcpy(wanted + spaces, text, n);
    n = ct_space_form(wanted, wanted, n + spaces);
    MUST(n == total && memcmp(whole, wanted, n) == 0);
    free(whole);
    free(wanted);
}

/* out[0] and out[1], if out is not NULL, get the ids without and with control pieces; they are the caller's to free. */
static inline void put_through(const ct_vocab *v, const char *text, size_t n, bool prefix, ct_ids *out)
{
    ct_error err;
    for (int special = 0; special < 2; special++) {
        ct_ids ids = {0};
        MUST(ct_tokenize(v, text, n, false, special, &ids, &err) == CT_OK);
        for (size_t i = 0; i < ids.n; i++) {
            MUST(ids.ids[i] >= 0 && ids.ids[i] < ct_vocab_size(v));
            MUST(special || !ct_vocab_is_control(v, ids.ids[i]) || ct_vocab_piece(v, ids.ids[i]).len == 1);
        }
        must_be_the_text(v, &ids, text, n, prefix);
        stream_back(v, &ids);
        if (out)
            out[special] = ids;
        else
            ct_ids_deinit(&ids);
    }
    if (n % 4 != 0)
        return;
    ct_ids turn = {0};
    ct_status st = ct_turn_user(v, n % 8 ? "system" : NULL, text, n, true, &turn, &err);
    if (st != CT_OK)
        must_be_a_sentence(st, &err);
    ct_ids_deinit(&turn);
}

#endif
