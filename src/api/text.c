/* Text to ids and back through a model's vocabulary. */
#include <string.h>

#include "api/internal.h"

carat_status carat_tokenize(const carat_model *m, const char *text, size_t n, bool bos, bool special, carat_token *ids,
                            size_t cap, size_t *count, carat_error *err)
{
    API_REQUIRE(m, "a model");
    API_REQUIRE(text || n == 0, "a text");
    API_REQUIRE(count, "somewhere to put the number of ids");
    API_REQUIRE(ids || cap == 0, "room for ids, or a cap of 0");
    API_REQUIRE(m->vocab, "a model with a tokenizer (synthetic models have none: give them ids)");
    *count = 0;
    ct_error e = {0};
    ct_ids found = {0};
    ct_status st = ct_tokenize(m->vocab, text ? text : "", n == SIZE_MAX ? strlen(text) : n, bos, special, &found, &e);
    if (st == CT_OK) {
        size_t give = found.n < cap ? found.n : cap;
        if (give > 0)
            memcpy(ids, found.ids, give * sizeof *ids);
        *count = found.n;
    }
    ct_ids_deinit(&found);
    return ct_api_error(err, st, &e);
}

carat_status carat_detokenize(const carat_model *m, const carat_token *ids, size_t n, bool special, char *text,
                              size_t cap, size_t *count, carat_error *err)
{
    API_REQUIRE(m, "a model");
    API_REQUIRE(ids || n == 0, "ids");
    API_REQUIRE(count, "somewhere to put the number of bytes");
    API_REQUIRE(text || cap == 0, "room for text, or a cap of 0");
    API_REQUIRE(m->vocab, "a model with a tokenizer (synthetic models have none)");
    *count = 0;
    ct_error e = {0};
    ct_status st = CT_OK;
    ct_detok d = {0};
    size_t total = 0;
    const size_t most = ct_detok_max(m->vocab);
    char *piece = ct_alloc(most);
    if (piece == NULL)
        return ct_api_error(err, ct_fail(&e, CT_ENOMEM, NULL, "out of memory for %zu bytes of text", most), &e);
    for (size_t i = 0; i <= n; i++) {
        if (i < n && (ids[i] < 0 || ids[i] >= ct_vocab_size(m->vocab))) {
            st = ct_fail(&e, CT_EINVAL, "ids", "id %d at place %zu is not in the vocabulary (0 to %d)", ids[i], i + 1,
                         ct_vocab_size(m->vocab) - 1);
            goto done;
        }
        size_t len = i < n ? ct_detok_next(&d, m->vocab, ids[i], special, piece, most)
                           : ct_detok_flush(&d, piece, most);
        size_t give = total >= cap ? 0 : len < cap - total ? len : cap - total;
        if (give > 0)
            memcpy(text + total, piece, give);
        total += len;
    }
    *count = total;
done:
    ct_free(piece);
    return ct_api_error(err, st, &e);
}

bool carat_is_end(const carat_model *m, carat_token id) { return m && m->vocab && ct_vocab_is_end(m->vocab, id); }
carat_token carat_bos(const carat_model *m) { return m && m->vocab ? ct_vocab_bos(m->vocab) : -1; }
