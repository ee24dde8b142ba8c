/* The vocabulary: from the tokenizer.ggml.* arrays of a tensor directory to the tables of pieces.h, and look-ups.
 *
 * Everything a file claims is proved here, once, so that bpe.c and detok.c can trust ids, lengths and bytes. Token types
 * are repaired by the texts of the tokens, because some early files carry wrong ones. Two kinds of file exist: "llama"
 * with a score per piece, and "gpt2" with a list of merges (merges.c) over the same pieces.
 * Building is start-up time: two passes over the pieces, no allocation per piece. */
#include "text/vocab.h"

#include <stdlib.h>

#include "base/half.h"
#include "base/mem.h"
#include "text/pieces.h"

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

/* What is read from the directory while building; borrowed from it. */
struct source {
    const ct_tensors *t;
    const char *path;
    const ct_kv_pair *tokens, *scores, *types, *merges;
};

size_t ct_space_form(char *dst, const char *s, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n; out++) {
        bool wide = ct_is_wide_space(s + i, n - i);
        dst[out] = wide ? ' ' : s[i];
        i += wide ? 3 : 1;
    }
    return out;
}

/* The value of "<0xNN>", two capital hexadecimal digits and nothing else, or -1. */
static int byte_value(const char *s, size_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        char c = s[i];
        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if (c >= 'A' && c <= 'F')
            value = value * 16 + (c - 'A' + 10);
        else
            return -1;
    }
    return value;
}

static bool is_text(const char *s, size_t n, const char *z) { return ct_str_is((ct_str){s, n}, z); }

static bool is_end_text(const char *s, size_t n) { return is_text(s, n, "<eos>") || is_text(s, n, "<end_of_turn>"); }

static bool is_control_text(const char *s, size_t n)
{
    static const char *const names[] = {"<pad>",           "<bos>",
                                        "<unk>",           "<mask>",
                                        "<start_of_turn>", "<start_of_image>",
                                        "<end_of_image>",  "<image_soft_token>"};
    if (n < 5 || s[0] != '<' || s[n - 1] != '>')
        return false;
    if (n > 8 && memcmp(s, "<unused", 7) == 0) {
        size_t i = 7;
        while (s[i] >= '0' && s[i] <= '9')
            i++;
        return i == n - 1;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_text(s, n, names[i]))
            return true;
    return is_end_text(s, n);
}

/* Runs of newlines, tabs and spaces (two at least: one space is an ordinary piece), and HTML tags. No piece that Gemma's
 * merges make looks like one, so an ordinary piece that does is a mistyped user-defined one. */
static bool is_user_text(const char *s, size_t n)
{
    char c = s[0];
    if (c == '\n' || c == '\t' || c == ' ') {
        for (size_t i = 1; i < n; i++)
            if (s[i] != c)
                return false;
        return c != ' ' || n > 1;
    }
    if (n < 3 || c != '<' || s[n - 1] != '>')
        return false;
    size_t i = s[1] == '/' ? 2 : 1;
    if (s[i] < 'a' || s[i] > 'z')
        return false;
    while ((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9'))
        i++;
    return i == n - 1;
}

static bool is_space_run(const char *s, size_t n) { return n > 1 && s[0] == ' ' && is_user_text(s, n); }

static int type_of(const ct_kv_pair *types, uint32_t i)
{
    if (types == NULL)
        return TYPE_NORMAL;
    int32_t type;
    memcpy(&type, types->data + 4 * (size_t)i, 4);
    return type;
}

static float score_of(const ct_kv_pair *scores, uint32_t i)
{
    float score;
    memcpy(&score, scores->data + 4 * (size_t)i, 4);
    return score;
}

static ct_status check_array(const struct source *src, const ct_kv_pair *kv, const char *key, ct_kv_type elem,
                             uint64_t count, ct_error *err)
{
    bool right = kv->type == CT_KV_ARRAY &&
                 (kv->elem_type == elem || (elem == CT_KV_I32 && kv->elem_type == CT_KV_U32));
    if (!right)
        return ct_fail(err, CT_EFORMAT, src->path, "%s: expected an array of %s, found another type", key,
                       elem == CT_KV_STRING ? "strings"
                       : elem == CT_KV_F32  ? "32-bit floats"
                                            : "32-bit integers");
    if (kv->count != count)
        return ct_fail(err, CT_EFORMAT, src->path, "%s: expected one entry for each of the %llu tokens, found %llu",
                       key, (unsigned long long)count, (unsigned long long)kv->count);
    return CT_OK;
}

/* Finds the arrays and proves their types and lengths. */
static ct_status source_open(struct source *src, const ct_tensors *t, ct_error *err)
{
    *src = (struct source){.t = t, .path = ct_tensors_path(t)};
    ct_str model = {"", 0};
    ct_status st = ct_kv_string(t, "tokenizer.ggml.model", &model, err);
    if (st != CT_OK)
        return st;
    bool by_score = ct_str_is(model, "llama");
    bool by_merges = ct_str_is(model, "gpt2") || ct_str_is(model, "gemma4");
    if (!by_score && !by_merges)
        return ct_fail(err, CT_EUNSUPPORTED, src->path,
                       "tokenizer.ggml.model: expected Gemma's \"llama\" (or \"gpt2\" with Gemma's "
                       "pieces), found \"%.*s\"",
                       (int)(model.len < 40 ? model.len : 40), model.data);
    src->tokens = ct_tensors_kv(t, "tokenizer.ggml.tokens");
    if (src->tokens == NULL)
        return ct_fail(err, CT_EFORMAT, src->path,
                       "expected tokenizer.ggml.tokens beside tokenizer.ggml.model, found none");
    uint64_t n = src->tokens->count;
    if ((st = check_array(src, src->tokens, "tokenizer.ggml.tokens", CT_KV_STRING, n, err)) != CT_OK)
        return st;
    if (n == 0 || n > VOCAB_MAX_PIECES)
        return ct_fail(err, CT_EFORMAT, src->path, "tokenizer.ggml.tokens: expected 1 to %u tokens, found %llu",
                       VOCAB_MAX_PIECES, (unsigned long long)n);
    src->types = ct_tensors_kv(t, "tokenizer.ggml.token_type");
    if (src->types && (st = check_array(src, src->types, "tokenizer.ggml.token_type", CT_KV_I32, n, err)) != CT_OK)
        return st;
    if (by_merges) {
        src->merges = ct_tensors_kv(t, "tokenizer.ggml.merges");
        return CT_OK; /* ct_pairs_load looks closer */
    }
    src->scores = ct_tensors_kv(t, "tokenizer.ggml.scores");
    if (src->scores == NULL)
        return ct_fail(
            err, CT_EFORMAT, src->path,
            "tokenizer.ggml.scores: expected a score for every token of a \"llama\" tokenizer, found none; convert "
            "the model again");
    return check_array(src, src->scores, "tokenizer.ggml.scores", CT_KV_F32, n, err);
}

static ct_status tables_alloc(ct_vocab *v, const struct source *src, ct_error *err)
{
    size_t bytes = 0, n = (size_t)v->n;
    for (size_t i = 0; i < n; i++) {
        size_t len = src->tokens->spans[i].len;
        if (len > VOCAB_MAX_PIECE_BYTES)
            return ct_fail(err, CT_EFORMAT, src->path,
                           "tokenizer.ggml.tokens[%zu]: expected at most %d bytes, found %zu", i, VOCAB_MAX_PIECE_BYTES,
                           len);
        bytes += len; /* 2^20 times 2^10 at most: offsets of 32 bits hold it */
    }
    size_t slots = 16;
    while (slots < n * 2)
        slots *= 2;
    v->mask = (uint32_t)(slots - 1);
    v->blob = ct_alloc(bytes);
    v->off = ct_alloc((n + 1) * sizeof *v->off);
    v->flags = ct_calloc(n, 1);
    v->rank = ct_calloc(n, sizeof *v->rank);
    v->table = ct_pages_alloc(slots * sizeof *v->table, true);
    if (!v->blob || !v->off || !v->flags || !v->rank || !v->table)
        return ct_fail(err, CT_ENOMEM, src->path, "no memory for a vocabulary of %zu tokens", n);
    return CT_OK;
}

/* Enters all pieces; of two with one text the first counts. The table is larger than the caches near the core and start-up
 * is waited for: a piece enters some pieces after its slot was asked for (20 ms less for Gemma's 262144). */
static ct_status table_fill(ct_vocab *v, const char *path, ct_error *err)
{
    enum { AHEAD = 16 };
    uint64_t hash[AHEAD], probes = 0;
    for (int32_t i = 0; i < v->n + AHEAD; i++) {
        int32_t id = i - AHEAD;
        if (id >= 0 && v->flags[id] != 0) {
            size_t n = v->off[id + 1] - v->off[id];
            uint32_t slot = ct_pieces_slot(v, v->blob + v->off[id], n, hash[i % AHEAD]);
            if (v->table[slot] == 0)
                v->table[slot] = (uint32_t)(hash[i % AHEAD] >> 56) << 24 | (uint32_t)(id + 1);
            probes += (slot - (uint32_t)hash[i % AHEAD]) & v->mask;
            if (probes > VOCAB_MAX_PROBES(id))
                return ct_fail(err, CT_EFORMAT, path,
                               "tokenizer.ggml.tokens: expected texts of all kinds, found that the first %d tokens "
                               "collide: they were made to",
                               id);
        }
        if (i < v->n) {
            hash[i % AHEAD] = ct_text_hash(v->blob + v->off[i], v->off[i + 1] - v->off[i]);
            __builtin_prefetch(&v->table[(uint32_t)hash[i % AHEAD] & v->mask], 1);
        }
    }
    return CT_OK;
}

static ct_status byte_put(ct_vocab *v, const struct source *src, int32_t id, int value, ct_error *err)
{
    ct_str raw = ct_kv_str(src->tokens, (uint64_t)id);
    if (value < 0)
        return ct_fail(err, CT_EFORMAT, src->path,
                       "token %d is a byte by its type: expected a text like <0x0A>, found \"%.*s\"", id,
                       (int)(raw.len < 40 ? raw.len : 40), raw.data);
    if (v->byte_id[value] >= 0)
        return ct_fail(err, CT_EFORMAT, src->path,
                       "expected byte <0x%02X> once, found it as both token %d and token %d", (unsigned)value,
                       v->byte_id[value], id);
    v->byte_id[value] = id;
    return CT_OK;
}

/* Copies piece id into the blob, settles what it is (0: nothing), and enters it in the trie if it is never split. */
static ct_status piece_add(ct_vocab *v, const struct source *src, int32_t id, ct_error *err)
{
    ct_str raw = ct_kv_str(src->tokens, (uint64_t)id);
    char *s = v->blob + v->off[id];
    size_t n = ct_space_form(s, raw.data, raw.len);
    v->off[id + 1] = v->off[id] + (uint32_t)n;
    v->max_piece = n > v->max_piece ? n : v->max_piece;
    int type = type_of(src->types, (uint32_t)id);
    if (type < TYPE_NORMAL || type > TYPE_BYTE)
        return ct_fail(err, CT_EFORMAT, src->path, "tokenizer.ggml.token_type[%d]: expected 1 to 6, found %d", id,
                       type);
    if (n == 0)
        return CT_OK; /* never matched, never made */

    char c = s[0];
    bool run = c == ' ' && is_space_run(s, n);
    if (type == TYPE_BYTE || (c == '<' && byte_value(s, n) >= 0))
        type = TYPE_BYTE;
    else if (c == '<' && is_control_text(s, n))
        type = TYPE_CONTROL;
    else if (type == TYPE_NORMAL && (c == '<' || c == '\n' || c == '\t' || run) && is_user_text(s, n))
        type = TYPE_USER;

    unsigned flags = 0;
    switch (type) {
    case TYPE_NORMAL: flags = PIECE_MERGE | PIECE_CHAR; break;
    case TYPE_USER: flags = PIECE_USER | PIECE_CHAR | (run ? PIECE_MERGE : 0u); break;
    case TYPE_BYTE: flags = PIECE_BYTE; break;
    default: flags = PIECE_CONTROL; break; /* control, unknown and unused: no text of their own */
    }
    if (is_end_text(s, n))
        flags |= PIECE_END;
    /* Plain spaces become U+2581 before merging, so an ordinary piece that holds one can never come out of a text. */
    bool unreachable = type == TYPE_NORMAL && raw.len != 0 && memchr(raw.data, ' ', raw.len) != NULL;
    v->flags[id] = (uint8_t)(unreachable ? 0 : flags);
    if (unreachable)
        return CT_OK;
    if (type == TYPE_BYTE)
        return byte_put(v, src, id, byte_value(s, n), err);
    if (flags & (PIECE_MERGE | PIECE_USER)) {
        for (size_t i = 1; i < n; i++)
            if (s[i] == ' ')
                v->joins[(uint8_t)s[i - 1]] = true;
    }
    if (flags & PIECE_MERGE && n > v->max_merge)
        v->max_merge = n;
    if (!(flags & (PIECE_USER | PIECE_CONTROL)))
        return CT_OK;
    /* Tokens are matched in raw text as Hugging Face spells them: runs of spaces there are runs of U+2581 (real spaces are
     * left to the merges), whereas GGUF files spell them with spaces. */
    if (!run) {
        v->starts[(uint8_t)raw.data[0]] = true;
        return ct_trie_add(&v->trie, raw.data, raw.len, id, err);
    }
    char wide[3 * VOCAB_MAX_PIECE_BYTES];
    for (size_t i = 0; i < n; i++)
        memcpy(wide + 3 * i, "\xe2\x96\x81", 3);
    v->starts[0xe2] = true;
    return ct_trie_add(&v->trie, wide, 3 * n, id, err);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    return x < y ? -1 : x > y;
}

/* Ranks from scores: the highest score merges first, equal ones in the order of their ids. The runs of spaces come before
 * everything (rank 0): added tokens have no scores of their own, and Gemma's list of merges begins with them. Files have
 * the scores in falling order, so the sort is for strangers only. */
static ct_status rank_by_score(ct_vocab *v, const struct source *src, ct_error *err)
{
    uint32_t next = 1;
    bool falling = true;
    float before = 0;
    for (int32_t id = 0; id < v->n; id++) {
        if (!(v->flags[id] & PIECE_MERGE) || v->flags[id] & PIECE_USER)
            continue;
        float score = score_of(src->scores, (uint32_t)id);
        if (score != score)
            return ct_fail(err, CT_EFORMAT, src->path, "tokenizer.ggml.scores[%d]: expected a number, found NaN", id);
        falling = falling && (next == 1 || score <= before);
        before = score;
        v->rank[id] = next++;
    }
    if (falling)
        return CT_OK;
    uint64_t *order = ct_alloc(next * sizeof *order);
    if (order == NULL)
        return ct_fail(err, CT_ENOMEM, src->path, "no memory to sort %u scores", next);
    size_t k = 0;
    for (int32_t id = 0; id < v->n; id++) {
        if (v->rank[id] == 0)
            continue;
        uint32_t bits = ct_bits_from_f32(score_of(src->scores, (uint32_t)id) + 0.0f); /* -0 becomes 0 */
        bits = bits >> 31 ? bits : ~(bits | 0x80000000u); /* as an unsigned number: smallest for the highest score */
        order[k++] = (uint64_t)bits << 32 | (uint32_t)id;
    }
    qsort(order, k, sizeof *order, compare_u64);
    for (size_t i = 0; i < k; i++)
        v->rank[(uint32_t)order[i]] = (uint32_t)i + 1;
    ct_free(order);
    return CT_OK;
}

/* An id named in the file; -1 when the key is absent. The token is control whatever its type says. */
static ct_status named_id(ct_vocab *v, const struct source *src, const char *key, unsigned flags, int32_t *id,
                          ct_error *err)
{
    uint32_t value = UINT32_MAX;
    *id = -1;
    ct_status st = ct_kv_u32(src->t, key, &value, err);
    if (st != CT_OK || ct_tensors_kv(src->t, key) == NULL)
        return st;
    if (value >= (uint32_t)v->n)
        return ct_fail(err, CT_EFORMAT, src->path, "%s: expected an id below %d, found %u", key, v->n, value);
    *id = (int32_t)value;
    unsigned old = v->flags[value] & ~(unsigned)(PIECE_MERGE | PIECE_CHAR | PIECE_USER);
    v->flags[value] = (uint8_t)(old | PIECE_CONTROL | flags);
    size_t n = v->off[value + 1] - v->off[value];
    ct_str raw = ct_kv_str(src->tokens, value);
    if (n == 0)
        return CT_OK;
    v->starts[(uint8_t)raw.data[0]] = true;
    return ct_trie_add(&v->trie, raw.data, raw.len, *id, err);
}

static ct_status names_load(ct_vocab *v, const struct source *src, ct_error *err)
{
    int32_t id;
    ct_status st = named_id(v, src, "tokenizer.ggml.eos_token_id", PIECE_END, &id, err);
    if (st == CT_OK)
        st = named_id(v, src, "tokenizer.ggml.eot_token_id", PIECE_END, &id, err);
    if (st == CT_OK)
        st = named_id(v, src, "tokenizer.ggml.bos_token_id", 0, &v->bos, err);
    if (st == CT_OK)
        st = ct_kv_bool(src->t, "tokenizer.ggml.add_bos_token", &v->add_bos, err);
    if (st == CT_OK)
        st = ct_kv_bool(src->t, "tokenizer.ggml.add_space_prefix", &v->space_prefix, err);
    if (st != CT_OK)
        return st;
    if (v->bos < 0)
        v->bos = ct_vocab_find(v, "<bos>", 5);
    if (v->bos < 0) /* without it Gemma writes nonsense, so a file that has none is not usable */
        return ct_fail(err, CT_EFORMAT, src->path,
                       "expected tokenizer.ggml.bos_token_id or a token <bos>, found neither: texts have no beginning");
    ct_str chat = {"", 0};
    st = ct_kv_string(src->t, "tokenizer.chat_template", &chat, err);
    v->has_turns = chat.len > 0 && ct_vocab_find(v, "<start_of_turn>", 15) >= 0 &&
                   ct_vocab_find(v, "<end_of_turn>", 13) >= 0;
    return st;
}

static ct_status fill(ct_vocab *v, const struct source *src, ct_error *err)
{
    for (int b = 0; b < 256; b++) {
        v->byte_id[b] = -1;
        v->bytes[b] = (uint8_t)b;
    }
    ct_status st = tables_alloc(v, src, err);
    if (st != CT_OK)
        return st;
    v->off[0] = 0;
    for (int32_t id = 0; id < v->n && st == CT_OK; id++)
        st = piece_add(v, src, id, err);
    if (st != CT_OK)
        return st;
    if ((st = table_fill(v, src->path, err)) != CT_OK)
        return st;
    for (unsigned b = 0; b < 256; b++)
        if (v->byte_id[b] < 0)
            return ct_fail(err, src->merges ? CT_EUNSUPPORTED : CT_EFORMAT, src->path,
                           "expected a piece for each of the 256 bytes, found none for <0x%02X>", b);
    if (src->merges && ct_pieces_find(v, " ", 1) < 0)
        return ct_fail(err, CT_EUNSUPPORTED, src->path,
                       "expected Gemma's pieces in a \"gpt2\" tokenizer, found no token U+2581");
    if ((st = names_load(v, src, err)) != CT_OK)
        return st;
    for (int c = 0; c < 128; c++) {
        char text = (char)c;
        int32_t id = ct_pieces_find(v, &text, 1);
        v->ascii[c] = id >= 0 && v->flags[id] & PIECE_CHAR ? id : -1;
    }
    return src->scores ? rank_by_score(v, src, err) : ct_pairs_load(v, src->t, src->merges, err);
}

/* A file without a tokenizer has no keys of it, or says "none", as other engines want it said. */
static bool has_tokenizer(const ct_tensors *t)
{
    ct_str model = {"", 0};
    if (ct_tensors_kv(t, "tokenizer.ggml.tokens") != NULL)
        return true;
    if (ct_tensors_kv(t, "tokenizer.ggml.model") == NULL)
        return false;
    return ct_kv_string(t, "tokenizer.ggml.model", &model, NULL) != CT_OK || !ct_str_is(model, "none");
}

ct_status ct_vocab_create(ct_vocab **out, const ct_tensors *t, ct_error *err)
{
    *out = NULL;
    if (!has_tokenizer(t))
        return CT_OK;
    struct source src;
    ct_status st = source_open(&src, t, err);
    if (st != CT_OK)
        return st;
    ct_vocab *v = ct_calloc(1, sizeof *v);
    if (v == NULL)
        return ct_fail(err, CT_ENOMEM, src.path, "no memory for the vocabulary");
    v->n = (int32_t)src.tokens->count;
    v->add_bos = true;
    st = fill(v, &src, err);
    if (st != CT_OK) {
        ct_vocab_free(v);
        v = NULL;
    }
    *out = v;
    return st;
}

void ct_vocab_free(ct_vocab *v)
{
    if (v == NULL)
        return;
    ct_trie_deinit(&v->trie);
    ct_free(v->off);
    ct_free(v->blob);
    ct_free(v->flags);
    ct_free(v->rank);
    ct_pages_free(v->table, ((size_t)v->mask + 1) * sizeof *v->table);
    ct_free(v->pairs);
    ct_free(v);
}

static bool has_flag(const ct_vocab *v, int32_t id, unsigned flag)
{
    return id >= 0 && id < v->n && (v->flags[id] & flag) != 0;
}

int32_t ct_vocab_size(const ct_vocab *v) { return v->n; }
int32_t ct_vocab_bos(const ct_vocab *v) { return v->bos; }
bool ct_vocab_add_bos(const ct_vocab *v) { return v->add_bos; }
bool ct_vocab_is_end(const ct_vocab *v, int32_t id) { return has_flag(v, id, PIECE_END); }
bool ct_vocab_is_control(const ct_vocab *v, int32_t id) { return has_flag(v, id, PIECE_CONTROL); }
bool ct_vocab_has_turns(const ct_vocab *v) { return v->has_turns; }

int32_t ct_vocab_find(const ct_vocab *v, const char *text, size_t n)
{
    char s[VOCAB_MAX_PIECE_BYTES];
    return n <= sizeof s ? ct_pieces_find(v, s, ct_space_form(s, text, n)) : -1;
}

ct_str ct_vocab_piece(const ct_vocab *v, int32_t id)
{
    if (id < 0 || id >= v->n)
        return (ct_str){"", 0};
    const char *s = v->blob + v->off[id];
    size_t n = v->off[id + 1] - v->off[id];
    if (v->flags[id] & PIECE_BYTE)
        return (ct_str){(const char *)&v->bytes[byte_value(s, n)], 1};
    return (ct_str){s, n};
}
