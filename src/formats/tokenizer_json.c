/* tokenizer.json of Hugging Face's tokenizers: 33 MB of vocabulary and merges, read in one pass and without a tree.
 *
 * Gemma's list of merges says nothing that the order of its pieces does not say: each piece with all the ways to make it, in the
 * order of the ids. So the list that follows from the pieces is made while the file's is read, and compared; if they are the
 * same, the directory gets scores, as a GGUF file has them. Any other list is kept as it is, as "gpt2" files keep theirs.
 * What a tokenizer may do to a text besides (normalize, split, prefix) is refused unless it is what Gemma's does. */
#include <string.h>

#include "base/mem.h"
#include "formats/directory.h"
#include "formats/tokenizer_parts.h"

#define MAX_ADDED 65536 /* ten times Gemma's */

/* An added token where it lies in the file: they come before the vocabulary, and there may be many. */
struct added {
    uint32_t at, id;
    uint32_t len : 16;
    uint32_t escaped : 1, special : 1;
};

struct reader {
    struct tokenizer *k;
    const char *path;
    ct_error *err;
    ct_json j;
    struct added *added;
    size_t n_added, room_added;
    ct_json merges; /* a reader that stands at the list of merges */
    bool has_added, has_vocab, has_merges, has_model, ready, merged;
    char buf[2][CT_TOKEN_ESCAPED]; /* of the two halves of a merge */
};

static ct_status unsupported(const struct reader *r, const char *expected, ct_json_str found)
{
    char quote[CT_QUOTE];
    return ct_fail(r->err, CT_EUNSUPPORTED, r->path, "'%s' is not a tokenizer of Gemma's kind: expected %s, found '%s'",
                   ct_path_tail(r->path), expected, ct_quote(quote, (ct_str){found.data, found.len}));
}

bool ct_token_text(ct_json *j, ct_json_str s, char buf[CT_TOKEN_ESCAPED], ct_str *out)
{
    *out = (ct_str){s.data, s.len};
    if (s.escaped && s.len <= CT_TOKEN_ESCAPED)
        *out = (ct_str){buf, ct_json_unescape(s, buf)};
    return out->len <= CT_TOKEN_BYTES || ct_json_fail(j, "a token of at most 1024 bytes", "a longer one");
}

/* ---- added tokens -------------------------------------------------------------------------------------------------- */

ct_status ct_added_token_read(ct_json *j, struct added_token *a, ct_error *err)
{
    char quote[CT_QUOTE];
    ct_json_str key;
    bool strange = false, normalized = false, flag;
    *a = (struct added_token){0};
    ct_json_object(j);
    while (ct_json_key(j, &key)) {
        if (ct_json_is(key, "id")) {
            a->has_id = ct_json_u64(j, &a->id);
        } else if (ct_json_is(key, "content")) {
            ct_json_string(j, &a->text);
        } else if (ct_json_is(key, "special")) {
            ct_json_bool(j, &a->special);
        } else if (ct_json_is(key, "normalized")) {
            ct_json_bool(j, &normalized);
        } else if (ct_json_is(key, "lstrip") || ct_json_is(key, "rstrip") || ct_json_is(key, "single_word")) {
            strange |= ct_json_bool(j, &flag) && flag;
        } else {
            ct_json_skip(j);
        }
    }
    if (ct_json_status(j) != CT_OK)
        return ct_json_status(j);
    if (a->text.len == 0) {
        ct_json_fail(j, "an added token with a text", "one without");
        return ct_json_status(j);
    }
    /* Normalizing turns spaces into U+2581 and nothing else, so it matters to tokens that have either. */
    ct_str raw = {a->text.data, a->text.len};
    bool spaced = memchr(raw.data, ' ', raw.len) != NULL;
    for (size_t i = 0; i + 3 <= raw.len; i++)
        spaced |= memcmp(raw.data + i, "\xe2\x96\x81", 3) == 0;
    if (strange || (normalized && spaced))
        return ct_fail(err, CT_EUNSUPPORTED, j->path,
                       "'%s': expected added tokens that are matched as they are, found '%s', to be matched around "
                       "spaces, within words or in "
                       "normalized text",
                       ct_path_tail(j->path), ct_quote(quote, raw));
    return CT_OK;
}

static ct_status read_added(struct reader *r)
{
    struct added_token a;
    ct_json_array(&r->j);
    while (ct_json_more(&r->j)) {
        ct_status st = ct_added_token_read(&r->j, &a, r->err);
        if (st != CT_OK)
            return st;
        if (!a.has_id || a.id >= CT_TOKENS_MAX || a.text.len > CT_TOKEN_ESCAPED || r->n_added == MAX_ADDED) {
            ct_json_fail(&r->j, "at most 65536 added tokens of at most 1024 bytes, with ids below 2^20", "another one");
            return ct_json_status(&r->j);
        }
        if (r->n_added == r->room_added) {
            size_t room = r->room_added ? 2 * r->room_added : 256;
            struct added *grown = ct_realloc(r->added, room * sizeof *grown);
            if (grown == NULL)
                return ct_fail(r->err, CT_ENOMEM, r->path, "out of memory for the added tokens of '%s'",
                               ct_path_tail(r->path));
            r->added = grown;
            r->room_added = room;
        }
        r->added[r->n_added++] = (struct added){.at = (uint32_t)((const uint8_t *)a.text.data - r->j.data),
                                                .id = (uint32_t)a.id,
                                                .len = (uint16_t)a.text.len,
                                                .escaped = a.text.escaped,
                                                .special = a.special};
    }
    return ct_json_status(&r->j);
}

/* With all tokens there: what the added ones are, scores in the order of the ids, look-ups. */
static ct_status settle(struct reader *r)
{
    struct token_table *table = &r->k->table;
    uint32_t n_vocab = table->n;
    ct_status st = ct_tokens_index(table, r->err);
    for (size_t i = 0; i < r->n_added && st == CT_OK; i++) {
        const struct added *a = &r->added[i];
        ct_str text;
        if (!ct_token_text(&r->j, (ct_json_str){(const char *)r->j.data + a->at, a->len, a->escaped}, r->buf[0], &text))
            return ct_json_status(&r->j);
        int32_t id = ct_tokens_find(table, text), type = ct_token_added_type(text, a->special);
        if (id >= 0 ? (uint32_t)id != a->id : a->id < n_vocab) {
            char quote[CT_QUOTE], other[CT_QUOTE];
            return ct_fail(r->err, CT_EFORMAT, r->path,
                           "'%s' is damaged: expected the added token '%s' as in the vocabulary, found it with the id "
                           "%u, there '%s'",
                           ct_path_tail(r->path), ct_quote(quote, text), a->id,
                           a->id < table->n ? ct_quote(other, ct_tokens_at(table, a->id)) : "nothing");
        }
        if (id >= 0)
            table->types[id] = type;
        else
            st = ct_tokens_put(table, a->id, text, type, 0, r->err);
    }
    if (st == CT_OK && table->n > n_vocab && ct_token_is_image(ct_tokens_at(table, table->n - 1)))
        table->n--;
    if (st == CT_OK && table->n > n_vocab)
        st = ct_tokens_index(table, r->err);
    float score = 0;
    for (uint32_t id = 0; id < table->n && st == CT_OK; id++)
        if (table->types[id] == CT_TOKEN_NORMAL)
            table->scores[id] = score--; /* exact: ids are less than 2^24 */
    r->ready = true;
    return st;
}

/* ---- the vocabulary ------------------------------------------------------------------------------------------------ */

static ct_status read_vocab(struct reader *r)
{
    ct_json_str key;
    ct_str text;
    uint64_t id;
    if (ct_json_peek(&r->j) == CT_JSON_ARRAY)
        return ct_fail(r->err, CT_EUNSUPPORTED, r->path,
                       "'%s' is not a tokenizer of Gemma's kind: expected a BPE model, found a Unigram one",
                       ct_path_tail(r->path));
    ct_json_object(&r->j);
    while (ct_json_key(&r->j, &key)) {
        if (!ct_json_u64(&r->j, &id) || !ct_token_text(&r->j, key, r->buf[0], &text))
            break;
        ct_status st = ct_tokens_put(&r->k->table, id, text, ct_token_is_byte(text) ? CT_TOKEN_BYTE : CT_TOKEN_NORMAL,
                                     0, r->err);
        if (st != CT_OK)
            return st;
    }
    ct_tokens_trim(&r->k->table);
    return ct_json_status(&r->j);
}

/* ---- merges -------------------------------------------------------------------------------------------------------- */

/* The two halves of the merge that is next: ["left", "right"], or in older files "left right". */
static bool read_merge(struct reader *r, ct_json *j, ct_str *left, ct_str *right)
{
    ct_json_str s;
    if (ct_json_peek(j) == CT_JSON_STRING) {
        if (!ct_json_string(j, &s) || !ct_token_text(j, s, r->buf[0], left))
            return false;
        const char *gap = left->len ? memchr(left->data, ' ', left->len) : NULL;
        if (gap == NULL)
            return ct_json_fail(j, "two pieces with a space between them", "one");
        *right = (ct_str){gap + 1, left->len - (size_t)(gap + 1 - left->data)};
        left->len = (size_t)(gap - left->data);
    } else {
        if (!ct_json_array(j) || !ct_json_more(j) || !ct_json_string(j, &s) || !ct_token_text(j, s, r->buf[0], left) ||
            !ct_json_more(j) || !ct_json_string(j, &s) || !ct_token_text(j, s, r->buf[1], right))
            return ct_json_fail(j, "a merge of two pieces", "the end of it");
        if (ct_json_more(j))
            return ct_json_fail(j, "a merge of two pieces", "more of them");
    }
    bool spaced = memchr(left->data, ' ', left->len) != NULL || memchr(right->data, ' ', right->len) != NULL;
    if (left->len == 0 || right->len == 0 || spaced)
        return ct_json_fail(j, "a merge of two pieces without spaces", "another one");
    return ct_json_status(j) == CT_OK;
}

/* Reads the list beside the one that follows from the pieces; *same: up to the end they did not differ. Stops where they do. */
static ct_status compare_merges(struct reader *r, ct_json *j, bool *same)
{
    struct merge_list list;
    struct ct_merge m;
    ct_str left, right;
    *same = true;
    ct_status st = ct_merges_init(&list, &r->k->table, r->err);
    if (st != CT_OK)
        goto done;
    ct_json_array(j);
    while (*same && ct_json_more(j)) {
        if (!read_merge(r, j, &left, &right))
            break;
        *same = ct_merges_next(&list, &m);
        if (*same) {
            ct_str made = ct_tokens_at(&r->k->table, m.id);
            *same = left.len == m.left && left.len + right.len == made.len &&
                    memcmp(left.data, made.data, left.len) == 0 &&
                    memcmp(right.data, made.data + left.len, right.len) == 0;
        }
    }
    st = ct_json_status(j);
    if (st == CT_OK && *same)
        *same = !ct_merges_next(&list, &m);
    if (st == CT_OK && list.status == CT_ENOMEM)
        st = ct_fail(r->err, CT_ENOMEM, r->path, "out of memory for the merges of '%s'", ct_path_tail(r->path));
done:
    ct_merges_deinit(&list);
    return st;
}

/* Keeps the list as it is. */
static ct_status keep_merges(struct reader *r, ct_json *j)
{
    struct tokenizer *k = r->k;
    ct_str left, right;
    size_t room = 0, bytes = 0, room_text = j->size - j->at;
    k->merges = ct_alloc(room_text); /* a merge takes less than its quotes and commas in the file do */
    bool full = k->merges == NULL;
    ct_json_array(j);
    while (!full && ct_json_more(j)) {
        if (!read_merge(r, j, &left, &right))
            break;
        if (k->n_merges == CT_MERGES_MAX)
            return ct_fail(r->err, CT_EUNSUPPORTED, r->path, "'%s': expected at most %u merges, found more",
                           ct_path_tail(r->path), CT_MERGES_MAX);
        if (k->n_merges == room) {
            room = room ? 2 * room : 1024;
            ct_span *grown = ct_realloc(k->merge_spans, room * sizeof *grown);
            full = grown == NULL;
            if (full)
                break;
            k->merge_spans = grown;
        }
        k->merge_spans[k->n_merges++] = (ct_span){(uint32_t)bytes, (uint32_t)(left.len + 1 + right.len)};
        memcpy(k->merges + bytes, left.data, left.len);
        k->merges[bytes + left.len] = ' ';
        memcpy(k->merges + bytes + left.len + 1, right.data, right.len);
        bytes += left.len + 1 + right.len;
    }
    if (full)
        return ct_fail(r->err, CT_ENOMEM, r->path, "out of memory for the merges of '%s'", ct_path_tail(r->path));
    return ct_json_status(j);
}

/* The list of merges, j standing at it and then behind it. */
static ct_status read_merges(struct reader *r, ct_json *j)
{
    bool same;
    ct_json again = *j;
    ct_status st = compare_merges(r, j, &same);
    if (st == CT_OK && !same) {
        *j = again;
        st = keep_merges(r, j);
    }
    r->merged = true;
    return st;
}

/* ---- the file ------------------------------------------------------------------------------------------------------ */

/* {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, alone or as the only one of a sequence. */
static ct_status read_normalizer(struct reader *r)
{
    ct_json_str key, s = {0}, type = {"null", 4, false}, from = {0}, to = {0};
    bool inner = false;
    if (ct_json_null(&r->j))
        return unsupported(r, "a normalizer that replaces spaces", type);
    ct_json_object(&r->j);
    while (ct_json_key(&r->j, &key)) {
        if (ct_json_is(key, "type")) {
            ct_json_string(&r->j, &type);
        } else if (ct_json_is(key, "content")) {
            ct_json_string(&r->j, &to);
        } else if (ct_json_is(key, "pattern")) {
            ct_json_object(&r->j);
            while (ct_json_key(&r->j, &s))
                if (!ct_json_is(s, "String") || !ct_json_string(&r->j, &from))
                    ct_json_skip(&r->j);
        } else if (ct_json_is(key, "normalizers")) {
            size_t n = 0;
            ct_json_array(&r->j);
            for (; ct_json_more(&r->j); n++) {
                ct_status st = read_normalizer(r);
                if (st != CT_OK)
                    return st;
            }
            inner = n == 1;
        } else {
            ct_json_skip(&r->j);
        }
    }
    if (ct_json_status(&r->j) != CT_OK)
        return ct_json_status(&r->j);
    if (inner && ct_json_is(type, "Sequence"))
        return CT_OK; /* the one in it was looked at */
    if (!ct_json_is(type, "Replace") || !ct_json_is(from, " ") || !ct_json_is(to, "▁"))
        return unsupported(r, "a normalizer that replaces spaces by U+2581 and nothing else", type);
    return CT_OK;
}

/* Whatever splits at spaces splits nothing: the normalizer has left none. */
static ct_status read_pre_tokenizer(struct reader *r)
{
    ct_json_str key, s, type = {0}, at = {0};
    if (ct_json_null(&r->j))
        return CT_OK;
    ct_json_object(&r->j);
    while (ct_json_key(&r->j, &key)) {
        if (ct_json_is(key, "type")) {
            ct_json_string(&r->j, &type);
        } else if (ct_json_is(key, "pattern")) {
            ct_json_object(&r->j);
            while (ct_json_key(&r->j, &s))
                if (!ct_json_is(s, "String") || !ct_json_string(&r->j, &at))
                    ct_json_skip(&r->j);
        } else {
            ct_json_skip(&r->j);
        }
    }
    if (ct_json_status(&r->j) != CT_OK)
        return ct_json_status(&r->j);
    return ct_json_is(type, "Split") && ct_json_is(at, " ") ? CT_OK : unsupported(r, "no splits but at spaces", type);
}

static ct_status once(struct reader *r, bool *seen)
{
    if (*seen)
        ct_json_fail(&r->j, "every part once", "one of them twice");
    *seen = true;
    return ct_json_status(&r->j);
}

/* A key of the model that changes what the merges mean, unless it is null, false or empty. */
static ct_status read_plain(struct reader *r, ct_json_str key)
{
    ct_json_str s = {0};
    bool on = false;
    switch (ct_json_peek(&r->j)) {
    case CT_JSON_BOOL: ct_json_bool(&r->j, &on); break;
    case CT_JSON_STRING: on = ct_json_string(&r->j, &s) && s.len > 0; break;
    case CT_JSON_NULL: ct_json_null(&r->j); break;
    default: on = ct_json_skip(&r->j);
    }
    return on ? unsupported(r, "plain merges", key) : ct_json_status(&r->j);
}

static ct_status read_model(struct reader *r)
{
    ct_json_str key, type = {0};
    ct_status st = CT_OK;
    bool bytes = false;
    ct_json_object(&r->j);
    while (st == CT_OK && ct_json_key(&r->j, &key)) {
        if (ct_json_is(key, "type")) {
            if (ct_json_string(&r->j, &type) && !ct_json_is(type, "BPE"))
                return unsupported(r, "a BPE model", type);
        } else if (ct_json_is(key, "byte_fallback")) {
            ct_json_bool(&r->j, &bytes);
        } else if (ct_json_is(key, "dropout") || ct_json_is(key, "continuing_subword_prefix") ||
                   ct_json_is(key, "end_of_word_suffix") || ct_json_is(key, "ignore_merges")) {
            st = read_plain(r, key);
        } else if (ct_json_is(key, "vocab")) {
            st = once(r, &r->has_vocab);
            if (st == CT_OK)
                st = read_vocab(r);
        } else if (ct_json_is(key, "merges")) {
            st = once(r, &r->has_merges);
            if (st == CT_OK && r->has_vocab && r->has_added)
                st = settle(r);
            r->merges = r->j;
            if (st == CT_OK && r->ready)
                st = read_merges(r, &r->j);
            else
                ct_json_skip(&r->j);
        } else {
            ct_json_skip(&r->j);
        }
    }
    if (st == CT_OK)
        st = ct_json_status(&r->j);
    if (st == CT_OK && (!r->has_vocab || !r->has_merges))
        return ct_fail(r->err, CT_EUNSUPPORTED, r->path,
                       "'%s' is not a tokenizer of Gemma's kind: expected a vocabulary and merges, found no %s",
                       ct_path_tail(r->path), r->has_vocab ? "merges" : "vocabulary");
    if (st == CT_OK && !bytes)
        return unsupported(r, "byte_fallback", (ct_json_str){"false", 5, false});
    return st;
}

static ct_status read_file(struct reader *r)
{
    ct_json_str key;
    ct_status st = CT_OK;
    bool normalizer = false, splits = false;
    ct_json_object(&r->j);
    while (st == CT_OK && ct_json_key(&r->j, &key)) {
        if (ct_json_is(key, "added_tokens")) {
            if ((st = once(r, &r->has_added)) == CT_OK)
                st = read_added(r);
        } else if (ct_json_is(key, "model")) {
            if ((st = once(r, &r->has_model)) == CT_OK)
                st = read_model(r);
        } else if (ct_json_is(key, "normalizer")) {
            if ((st = once(r, &normalizer)) == CT_OK)
                st = read_normalizer(r);
        } else if (ct_json_is(key, "pre_tokenizer")) {
            if ((st = once(r, &splits)) == CT_OK)
                st = read_pre_tokenizer(r);
        } else {
            ct_json_skip(&r->j);
        }
    }
    if (st == CT_OK)
        st = ct_json_end(&r->j);
    if (st == CT_OK && (!r->has_model || !normalizer))
        return ct_fail(r->err, CT_EUNSUPPORTED, r->path,
                       "'%s' is not a tokenizer of Gemma's kind: expected a model and a normalizer, found no %s",
                       ct_path_tail(r->path), r->has_model ? "normalizer" : "model");
    if (st == CT_OK && !r->ready)
        st = settle(r);
    if (st == CT_OK && !r->merged)
        st = read_merges(r, &r->merges);
    return st;
}

ct_status ct_tokenizer_json_tokens(struct tokenizer *k, const ct_map *map, ct_error *err)
{
    const char *path = k->table.path;
    const char *kind = map->size == 0 || map->data[0] != '{' ? ct_sniff(map->data, map->size) : NULL;
    if (kind)
        return ct_fail(err, CT_EFORMAT, path, "expected '%s' to be a tokenizer.json, found %s", ct_path_tail(path),
                       kind);
    struct reader *r = ct_calloc(1, sizeof *r);
    if (r == NULL)
        return ct_fail(err, CT_ENOMEM, path, "out of memory while reading '%s'", ct_path_tail(path));
    *r = (struct reader){.k = k, .path = path, .err = err};
    ct_json_init(&r->j, path, map->data, map->size, err);
    ct_status st = ct_tokens_init(&k->table, path, map->size, err);
    if (st == CT_OK)
        st = read_file(r);
    ct_free(r->added);
    ct_free(r);
    return st;
}
