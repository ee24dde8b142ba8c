/* The table of tokens and the list of merges: see token_table.h.
 *
 * A look-up compares 64 bits of a hash that grows at both ends of a text, so that all places where a piece might be cut are
 * tried in one pass over it: half a million merges of 262144 pieces take some 50 ms. Equal hashes are compared as texts. */
#include "formats/token_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "formats/directory.h"

#define NOT_THERE UINT32_MAX
/* Probes in all that no honest file comes near; a file whose texts were made to collide would cost minutes. */
#define MAX_PROBES(n) (65536 + 16 * (uint64_t)(n))

/* ---- texts by id --------------------------------------------------------------------------------------------------- */

ct_status ct_tokens_init(struct token_table *k, const char *path, size_t bytes, ct_error *err)
{
    *k = (struct token_table){.path = path, .room_text = bytes};
    k->max_n = bytes < CT_TOKENS_MAX ? (uint32_t)bytes : CT_TOKENS_MAX; /* a token takes a byte at least */
    if (bytes >= UINT32_MAX)
        return ct_fail(err, CT_EUNSUPPORTED, path, "'%s': expected a tokenizer of less than 4 GiB, found %zu bytes",
                       ct_path_tail(path), bytes);
    if (bytes == 0)
        return CT_OK;
    k->text = ct_alloc(bytes);
    return k->text ? CT_OK : ct_fail(err, CT_ENOMEM, path, "out of memory for the tokens of '%s'", ct_path_tail(path));
}

void ct_tokens_deinit(struct token_table *k)
{
    ct_free(k->text);
    ct_free(k->spans);
    ct_free(k->scores);
    ct_free(k->types);
    ct_free(k->hashes);
    ct_free(k->ids);
    *k = (struct token_table){0};
}

static ct_status grow(struct token_table *k, uint32_t n, ct_error *err)
{
    uint32_t room = k->room ? k->room : 1024;
    while (room < n)
        room *= 2;
    if (room > k->room) {
        ct_span *spans = ct_realloc(k->spans, room * sizeof *spans);
        k->spans = spans ? spans : k->spans;
        float *scores = ct_realloc(k->scores, room * sizeof *scores);
        k->scores = scores ? scores : k->scores;
        int32_t *types = ct_realloc(k->types, room * sizeof *types);
        k->types = types ? types : k->types;
        if (!spans || !scores || !types)
            return ct_fail(err, CT_ENOMEM, k->path, "out of memory for the tokens of '%s'", ct_path_tail(k->path));
        k->room = room;
    }
    for (; k->n < n; k->n++)
        k->spans[k->n].at = NOT_THERE;
    return CT_OK;
}

/* Copies a text behind the others. */
static ct_status keep(struct token_table *k, uint32_t id, ct_str text, ct_error *err)
{
    char quote[CT_QUOTE];
    if (text.len == 0 || text.len > CT_TOKEN_BYTES)
        return ct_fail(err, CT_EFORMAT, k->path, "'%s': expected 1 to %d bytes as the text of token %u, found %zu",
                       ct_path_tail(k->path), CT_TOKEN_BYTES, id, text.len);
    for (size_t i = 0; i < text.len;) {
        int step = ct_utf8_step((const uint8_t *)text.data + i, text.len - i);
        if (step <= 0)
            return ct_fail(err, CT_EFORMAT, k->path, "'%s': expected UTF-8 as the text of token %u, found '%s'",
                           ct_path_tail(k->path), id, ct_quote(quote, text));
        i += (size_t)step;
    }
    if (text.len > k->room_text - k->n_text) {
        size_t room = k->room_text + k->room_text / 2 + CT_TOKEN_BYTES;
        char *grown = room < UINT32_MAX ? ct_realloc(k->text, room) : NULL;
        if (grown == NULL)
            return ct_fail(err, CT_ENOMEM, k->path, "out of memory for the tokens of '%s'", ct_path_tail(k->path));
        k->text = grown;
        k->room_text = room;
    }
    memcpy(k->text + k->n_text, text.data, text.len);
    k->spans[id] = (ct_span){(uint32_t)k->n_text, (uint32_t)text.len};
    k->n_text += text.len;
    return CT_OK;
}

ct_status ct_tokens_put(struct token_table *k, uint64_t id, ct_str text, int32_t type, float score, ct_error *err)
{
    char quote[CT_QUOTE];
    if (id >= k->max_n)
        return ct_fail(err, CT_EFORMAT, k->path, "'%s': expected ids below %u, found %llu for the token '%s'",
                       ct_path_tail(k->path), k->max_n, (unsigned long long)id, ct_quote(quote, text));
    ct_status st = id < k->n ? CT_OK : grow(k, (uint32_t)id + 1, err);
    if (st != CT_OK)
        return st;
    if (k->spans[id].at != NOT_THERE) {
        char other[CT_QUOTE];
        return ct_fail(err, CT_EFORMAT, k->path,
                       "'%s': expected every id once, found %u for the token '%s' and for '%s'", ct_path_tail(k->path),
                       (uint32_t)id, ct_quote(other, ct_tokens_at(k, (uint32_t)id)), ct_quote(quote, text));
    }
    k->types[id] = type;
    k->scores[id] = score;
    return keep(k, (uint32_t)id, text, err);
}

ct_status ct_tokens_rename(struct token_table *k, uint32_t id, ct_str text, ct_error *err)
{
    return keep(k, id, text, err);
}

void ct_tokens_trim(struct token_table *k)
{
    char *less = k->n_text > 0 ? ct_realloc(k->text, k->n_text) : NULL;
    if (less == NULL)
        return;
    k->text = less;
    k->room_text = k->n_text;
}

/* ---- ids by text --------------------------------------------------------------------------------------------------- */

#define HASH_BASE 0x9e3779b97f4a7c15u

/* A byte behind a text, and one in front of a text that power = HASH_BASE^length belongs to. */
static inline uint64_t hash_behind(uint64_t h, uint8_t c) { return h * HASH_BASE + c + 1; }
static inline uint64_t hash_before(uint64_t h, uint8_t c, uint64_t power) { return h + (c + 1) * power; }
static inline uint64_t hash_end(uint64_t h)
{
    h = (h ^ h >> 32) * 0xbf58476d1ce4e5b9u;
    return (h ^ h >> 29) | 1; /* 0 is a free slot */
}

static uint64_t hash_of(ct_str s)
{
    uint64_t h = 0;
    for (size_t i = 0; i < s.len; i++)
        h = hash_behind(h, (uint8_t)s.data[i]);
    return hash_end(h);
}

/* The slot of a text, or the free one where it belongs. */
static inline uint32_t slot_of(const struct token_table *k, uint64_t hash, ct_str s)
{
    uint32_t i = (uint32_t)(hash >> 32) & k->mask;
    for (; k->hashes[i] != 0; i = (i + 1) & k->mask) {
        if (k->hashes[i] != hash)
            continue;
        ct_str known = ct_tokens_at(k, k->ids[i]);
        if (known.len == s.len && memcmp(known.data, s.data, s.len) == 0)
            break;
    }
    return i;
}

ct_status ct_tokens_index(struct token_table *k, ct_error *err)
{
    char quote[CT_QUOTE];
    uint32_t slots = 16;
    while (slots < 2 * k->n)
        slots *= 2;
    ct_free(k->hashes);
    ct_free(k->ids);
    k->mask = slots - 1;
    k->hashes = ct_calloc(slots, sizeof *k->hashes);
    k->ids = ct_alloc(slots * sizeof *k->ids);
    if (k->hashes == NULL || k->ids == NULL)
        return ct_fail(err, CT_ENOMEM, k->path, "out of memory for the tokens of '%s'", ct_path_tail(k->path));
    uint64_t probes = 0;
    for (uint32_t id = 0; id < k->n; id++) {
        if (k->spans[id].at == NOT_THERE)
            return ct_fail(err, CT_EFORMAT, k->path, "'%s': expected a token for every id up to %u, found none for %u",
                           ct_path_tail(k->path), k->n - 1, id);
        ct_str s = ct_tokens_at(k, id);
        uint64_t hash = hash_of(s);
        uint32_t i = slot_of(k, hash, s);
        if (k->hashes[i] != 0)
            return ct_fail(err, CT_EFORMAT, k->path, "'%s': expected every token once, found '%s' as %u and as %u",
                           ct_path_tail(k->path), ct_quote(quote, s), k->ids[i], id);
        k->hashes[i] = hash;
        k->ids[i] = id;
        probes += (i - (uint32_t)(hash >> 32)) & k->mask;
        if (probes > MAX_PROBES(id))
            return ct_fail(err, CT_EFORMAT, k->path,
                           "'%s': expected tokens that share no slots, found the first %u made to",
                           ct_path_tail(k->path), id);
    }
    return CT_OK;
}

int32_t ct_tokens_find(const struct token_table *k, ct_str text)
{
    uint32_t i = slot_of(k, hash_of(text), text);
    return k->hashes[i] != 0 ? (int32_t)k->ids[i] : -1;
}

/* ---- merges -------------------------------------------------------------------------------------------------------- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    return x < y ? -1 : x > y;
}

/* A score as bits that sort the highest first. */
static uint64_t falling_bits(float score)
{
    uint32_t bits = ct_bits_from_f32(score + 0.0f); /* -0 becomes 0 */
    return bits >> 31 ? bits : ~(bits | 0x80000000u);
}

ct_status ct_merges_init(struct merge_list *m, const struct token_table *k, ct_error *err)
{
    *m = (struct merge_list){.k = k};
    m->order = ct_calloc((size_t)k->n + 1, sizeof *m->order);
    if (m->order == NULL)
        return ct_fail(err, CT_ENOMEM, k->path, "out of memory for the merges of '%s'", ct_path_tail(k->path));
    uint64_t best = UINT32_MAX;
    for (uint32_t id = 0; id < k->n; id++)
        if (k->types[id] == CT_TOKEN_NORMAL && falling_bits(k->scores[id]) < best)
            best = falling_bits(k->scores[id]);
    bool sorted = true;
    for (uint32_t id = 0; id < k->n; id++) {
        if (k->types[id] != CT_TOKEN_NORMAL && k->types[id] != CT_TOKEN_USER)
            continue;
        uint64_t score = k->types[id] == CT_TOKEN_USER ? best : falling_bits(k->scores[id]);
        m->order[m->n_order] = score << 32 | id;
        sorted = sorted && (m->n_order == 0 || m->order[m->n_order - 1] < m->order[m->n_order]);
        m->n_order++;
    }
    if (!sorted)
        qsort(m->order, m->n_order, sizeof *m->order, compare_u64);
    return CT_OK;
}

void ct_merges_deinit(struct merge_list *m)
{
    ct_free(m->order);
    ct_free(m->group);
    *m = (struct merge_list){0};
}

static bool push(struct merge_list *m, struct ct_merge merge)
{
    if (m->given == CT_MERGES_MAX) {
        m->status = CT_EUNSUPPORTED;
        return false;
    }
    if (m->n_group == m->room) {
        size_t room = m->room ? 2 * m->room : 256;
        struct ct_merge *grown = ct_realloc(m->group, room * sizeof *grown);
        if (grown == NULL) {
            m->status = CT_ENOMEM;
            return false;
        }
        m->group = grown;
        m->room = room;
    }
    m->group[m->n_group++] = merge;
    m->given++;
    return true;
}

/* The ways to make one piece, the longest left part first. */
static bool push_splits(struct merge_list *m, uint32_t id)
{
    const struct token_table *k = m->k;
    ct_str s = ct_tokens_at(k, id);
    const uint8_t *p = (const uint8_t *)s.data;
    uint64_t front[CT_TOKEN_BYTES]; /* of the first i bytes */
    uint16_t chars = 0, right = 0;
    uint64_t h = 0, power = 1;
    for (size_t i = 0; i < s.len; i++) {
        front[i] = h;
        h = hash_behind(h, p[i]);
        chars = (uint16_t)(chars + ((p[i] & 0xc0) != 0x80));
    }
    h = 0;
    for (size_t i = s.len; chars > 1 && i-- > 1; power *= HASH_BASE) {
        h = hash_before(h, p[i], power);
        if ((p[i] & 0xc0) == 0x80)
            continue; /* inside of a character */
        right++;
        ct_str a = {s.data, i}, b = {s.data + i, s.len - i};
        if (k->hashes[slot_of(k, hash_end(h), b)] == 0 || k->hashes[slot_of(k, hash_end(front[i]), a)] == 0)
            continue;
        if (!push(m, (struct ct_merge){id, (uint16_t)i, (uint16_t)(chars - right), right}))
            return false;
    }
    return true;
}

static int compare_merges(const void *a, const void *b)
{
    struct ct_merge x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    if (x.chars_left != y.chars_left)
        return x.chars_left > y.chars_left ? -1 : 1;
    if (x.chars_right != y.chars_right)
        return x.chars_right > y.chars_right ? -1 : 1;
    return x.id < y.id ? -1 : x.id > y.id;
}

bool ct_merges_next(struct merge_list *m, struct ct_merge *merge)
{
    while (m->at == m->n_group) {
        m->at = m->n_group = 0;
        if (m->next == m->n_order || m->status != CT_OK)
            return false;
        size_t first = m->next;
        do {
            if (!push_splits(m, (uint32_t)m->order[m->next++]))
                return false;
        } while (m->next < m->n_order && m->order[m->next] >> 32 == m->order[first] >> 32);
        if (m->next - first > 1 && m->n_group > 1)
            qsort(m->group, m->n_group, sizeof *m->group, compare_merges);
    }
    *merge = m->group[m->at++];
    return true;
}
