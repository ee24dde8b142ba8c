/* The safetensors reader: the header of a shard becomes entries of a list, or one sentence that says what is wrong with it.
 *
 * A file is 8 bytes of length, a header in JSON, and bytes without a gap: the entries, sorted by where they begin, must cover all
 * of them, each exactly as long as its type and shape say. Nothing is promised about alignment. Whatever stands in front of a
 * name in the files of different writers is taken off here; what a tensor is for is not known. Read checkpoint.c next. */
#include "formats/safetensors.h"

#include <string.h>

#include "base/mem.h"
#include "formats/json.h"

#define HEADER_MAX 100000000u /* the format's own limit */

static const struct {
    const char *name;
    size_t bits;
} types[ST_N_TYPES] = {
    [ST_BOOL] = {"BOOL", 8},
    [ST_U8] = {"U8", 8},
    [ST_I8] = {"I8", 8},
    [ST_F4] = {"F4", 4},
    [ST_F6_E2M3] = {"F6_E2M3", 6},
    [ST_F6_E3M2] = {"F6_E3M2", 6},
    [ST_F8_E4M3] = {"F8_E4M3", 8},
    [ST_F8_E5M2] = {"F8_E5M2", 8},
    [ST_F8_E8M0] = {"F8_E8M0", 8},
    [ST_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8},
    [ST_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
    [ST_I16] = {"I16", 16},
    [ST_U16] = {"U16", 16},
    [ST_F16] = {"F16", 16},
    [ST_BF16] = {"BF16", 16},
    [ST_I32] = {"I32", 32},
    [ST_U32] = {"U32", 32},
    [ST_F32] = {"F32", 32},
    [ST_I64] = {"I64", 64},
    [ST_U64] = {"U64", 64},
    [ST_F64] = {"F64", 64},
    [ST_C64] = {"C64", 64},
};

struct reader {
    ct_json json;
    const char *path;
    struct st_list *list;
    size_t first; /* entry of the list that is this shard's first */
    size_t shard;
    const uint8_t *data; /* behind the header */
    size_t size;         /* of it */
    char *names;         /* where the next name is put */
    ct_error *err;
};

const char *ct_st_type_name(st_type type) { return (size_t)type < ST_N_TYPES ? types[type].name : "unknown"; }

/* ---- names --------------------------------------------------------------------------------------------------------- */

static bool strip(ct_str *s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (s->len < n || memcmp(s->data, prefix, n) != 0)
        return false;
    *s = (ct_str){s->data + n, s->len - n};
    return true;
}

static bool contains(ct_str s, const char *z)
{
    size_t n = strlen(z);
    for (size_t i = 0; i + n <= s.len; i++)
        if (s.data[i] == z[0] && memcmp(s.data + i, z, n) == 0)
            return true;
    return false;
}

/* Writers put "model.", "language_model." and both, in either order, in front of the names; merged adapters leave more behind. */
ct_str ct_st_canonical(char *out, const char *name, size_t n, bool *vision)
{
    static const char *const tower[] = {"vision_tower.", "vision_model.", "multi_modal_projector.",
                                        "multimodal_projector."};
    static const char *const before[] = {"model.language_model.model.", "language_model.model.",
                                         "model.language_model.", "language_model.", "model."};
    static const char infix[] = ".base_layer.";
    ct_str s = {name, n};
    *vision = false;
    for (size_t i = 0; i < sizeof tower / sizeof tower[0]; i++)
        *vision = *vision || contains(s, tower[i]);
    if (*vision) {
        memmove(out, name, n);
        return (ct_str){out, n};
    }
    strip(&s, "base_model.model.");
    for (size_t i = 0; i < sizeof before / sizeof before[0] && !strip(&s, before[i]); i++)
        ;
    size_t used = 0, skip = sizeof infix - 2; /* one dot of the two stays */
    ct_str head = s;
    if (!strip(&head, "lm_head.")) {
        memcpy(out, "model.", 6);
        used = 6;
    }
    for (size_t i = 0; i < s.len;) {
        if (s.len - i > skip && memcmp(s.data + i, infix, skip + 1) == 0)
            i += skip;
        out[used++] = s.data[i++];
    }
    return (ct_str){out, used};
}

static bool name_less(const void *arg, uint32_t a, uint32_t b)
{
    const struct st_tensor *at = arg;
    return ct_str_compare(at[a].name, at[b].name) < 0;
}

ct_status ct_st_index(struct st_list *list, const ct_tensors *t, ct_error *err)
{
    char quote[CT_QUOTE];
    list->by_name = ct_calloc(list->n, sizeof *list->by_name);
    if (list->by_name == NULL)
        return ct_fail(err, CT_ENOMEM, t->path, "out of memory for the names in '%s'", ct_path_tail(t->path));
    ct_sort(list->by_name, list->n, name_less, list->at);
    for (size_t i = 1; i < list->n; i++) {
        const struct st_tensor *a = &list->at[list->by_name[i - 1]], *b = &list->at[list->by_name[i]];
        if (ct_str_compare(a->name, b->name) == 0)
            return ct_fail(err, CT_EFORMAT, t->more[b->shard].path,
                           "'%s' is damaged: expected every tensor once, found '%s' twice%s", ct_path_tail(t->path),
                           ct_quote(quote, a->name), a->shard == b->shard ? " in one file" : ", in two files");
    }
    return CT_OK;
}

struct st_tensor *ct_st_find(const struct st_list *list, ct_str name)
{
    size_t low = 0, high = list->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        struct st_tensor *x = &list->at[list->by_name[mid]];
        int c = ct_str_compare(x->name, name);
        if (c == 0)
            return x;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* ---- one entry ----------------------------------------------------------------------------------------------------- */

#define DAMAGED(r, ...) ct_fail((r)->err, CT_EFORMAT, (r)->path, __VA_ARGS__)

static bool read_type(struct reader *r, ct_str name, st_type *type)
{
    char quote[CT_QUOTE], found[CT_QUOTE];
    ct_json_str s;
    if (!ct_json_string(&r->json, &s))
        return false;
    for (size_t i = 0; i < ST_N_TYPES; i++)
        if (ct_json_is(s, types[i].name)) {
            *type = (st_type)i;
            return true;
        }
    r->json.status = ct_fail(r->err, CT_EUNSUPPORTED, r->path,
                             "'%s': expected a type of the safetensors format for the tensor '%s', found '%s'",
                             ct_path_tail(r->path), ct_quote(quote, name), ct_quote(found, (ct_str){s.data, s.len}));
    return false;
}

static bool read_shape(struct reader *r, struct st_tensor *x)
{
    char quote[CT_QUOTE];
    uint64_t n;
    x->n_elems = 1;
    if (!ct_json_array(&r->json))
        return false;
    while (ct_json_more(&r->json) && ct_json_u64(&r->json, &n)) {
        if (x->n_dims < 4)
            x->shape[x->n_dims] = (size_t)n;
        x->n_dims += x->n_dims < 5; /* 5: too many */
        if (n > SIZE_MAX || !ct_mul_ok(x->n_elems, (size_t)n, &x->n_elems)) {
            r->json.status = DAMAGED(
                r, "'%s' is damaged: expected a tensor that can be addressed, found the shape of '%s' beyond that",
                ct_path_tail(r->path), ct_quote(quote, x->name));
            return false;
        }
    }
    return ct_json_status(&r->json) == CT_OK;
}

static bool read_offsets(struct reader *r, uint64_t offset[2])
{
    size_t n = 0;
    uint64_t v;
    if (!ct_json_array(&r->json))
        return false;
    while (ct_json_more(&r->json) && ct_json_u64(&r->json, &v)) {
        if (n < 2)
            offset[n] = v;
        n++;
    }
    return ct_json_status(&r->json) == CT_OK &&
           (n == 2 || ct_json_fail(&r->json, "two data_offsets", "another number"));
}

/* Is the tensor as long as its type and shape say, and inside the file? Points it at its bytes. */
static ct_status place(struct reader *r, struct st_tensor *x, const uint64_t offset[2])
{
    char quote[CT_QUOTE];
    size_t bits, end;
    ct_quote(quote, x->name);
    if (!ct_mul_ok(x->n_elems, types[x->type].bits, &bits))
        return DAMAGED(r,
                       "'%s' is damaged: expected a tensor that can be addressed, found the shape of '%s' beyond that",
                       ct_path_tail(r->path), quote);
    x->bytes = bits / 8;
    if (bits % 8 != 0 || offset[1] < offset[0] || offset[1] - offset[0] != x->bytes)
        return DAMAGED(
            r,
            "'%s' is damaged: expected %zu bytes for the tensor '%s' by its shape and type %s, found data_offsets "
            "%llu to %llu",
            ct_path_tail(r->path), x->bytes, quote, types[x->type].name, (unsigned long long)offset[0],
            (unsigned long long)offset[1]);
    if (offset[1] > r->size)
        return DAMAGED(
            r,
            "'%s' is truncated or damaged: expected at least %llu bytes behind the header (the end of the tensor "
            "'%s'), found %zu; download it again",
            ct_path_tail(r->path), (unsigned long long)offset[1], quote, r->size);
    end = (size_t)offset[0];
    x->data = r->data + end;
    return CT_OK;
}

static struct st_tensor *push(struct st_list *list)
{
    if (list->n == list->room) {
        size_t room = list->room ? list->room * 2 : 64, bytes;
        void *p = ct_mul_ok(room, sizeof *list->at, &bytes) ? ct_realloc(list->at, bytes) : NULL;
        if (p == NULL)
            return NULL;
        list->at = p;
        list->room = room;
    }
    list->at[list->n] = (struct st_tensor){.shape = {1, 1, 1, 1}};
    return &list->at[list->n++];
}

static ct_status read_entry(struct reader *r, ct_json_str key)
{
    enum { TYPE = 1, SHAPE = 2, OFFSETS = 4, ALL = 7 };
    char quote[CT_QUOTE];
    unsigned seen = 0;
    uint64_t offset[2] = {0, 0};
    if (r->list->n == CT_MAX_TENSORS)
        return ct_fail(r->err, CT_EUNSUPPORTED, r->path, "'%s': expected at most %d tensors, found more: not a Gemma 3",
                       ct_path_tail(r->path), CT_MAX_TENSORS);
    struct st_tensor *x = push(r->list);
    if (x == NULL)
        return ct_fail(r->err, CT_ENOMEM, r->path, "out of memory for the tensors of '%s'", ct_path_tail(r->path));
    size_t n = ct_json_unescape(key, r->names); /* as long as the key at most, and shifted: */
    memmove(r->names + CT_ST_NAME_EXTRA, r->names, n);
    x->name = ct_st_canonical(r->names, r->names + CT_ST_NAME_EXTRA, n, &x->vision);
    x->shard = (uint32_t)r->shard;
    r->names += x->name.len;
    ct_json_object(&r->json);
    while (ct_json_key(&r->json, &key)) {
        unsigned field = ct_json_is(key, "dtype")          ? TYPE
                         : ct_json_is(key, "shape")        ? SHAPE
                         : ct_json_is(key, "data_offsets") ? OFFSETS
                                                           : 0;
        if (field == 0 || (seen & field)) {
            ct_json_fail(&r->json, "dtype, shape and data_offsets once for every tensor",
                         field ? "one of them twice" : "another key");
            break;
        }
        seen |= field;
        if (!(field == TYPE    ? read_type(r, x->name, &x->type)
              : field == SHAPE ? read_shape(r, x)
                               : read_offsets(r, offset)))
            break;
    }
    if (ct_json_status(&r->json) != CT_OK)
        return ct_json_status(&r->json);
    if (seen != ALL)
        return DAMAGED(r, "'%s' is damaged: expected dtype, shape and data_offsets for the tensor '%s', found not all",
                       ct_path_tail(r->path), ct_quote(quote, x->name));
    return place(r, x, offset);
}

static ct_status read_metadata(struct reader *r)
{
    ct_json_str s;
    ct_json_object(&r->json);
    while (ct_json_key(&r->json, &s) && ct_json_string(&r->json, &s))
        ;
    return ct_json_status(&r->json);
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

static bool lies_before(const void *arg, uint32_t a, uint32_t b)
{
    const struct st_tensor *at = arg;
    return at[a].data != at[b].data ? at[a].data < at[b].data : at[a].bytes < at[b].bytes;
}

/* No holes, no overlaps, nothing behind the last one. */
static ct_status check_cover(struct reader *r)
{
    char quote[CT_QUOTE];
    size_t n = r->list->n - r->first, at = 0;
    const struct st_tensor *x = n > 0 ? r->list->at + r->first : NULL;
    ct_status st = CT_OK;
    uint32_t *order = ct_calloc(n, sizeof *order);
    if (order == NULL)
        return ct_fail(r->err, CT_ENOMEM, r->path, "out of memory for the tensors of '%s'", ct_path_tail(r->path));
    ct_sort(order, n, lies_before, x);
    for (size_t i = 0; i < n && st == CT_OK; i++) {
        size_t begin = (size_t)(x[order[i]].data - r->data);
        if (begin != at)
            st = DAMAGED(r, "'%s' is damaged: expected the tensor '%s' at byte %zu behind the header, found %zu: %s",
                         ct_path_tail(r->path), ct_quote(quote, x[order[i]].name), at, begin,
                         begin > at ? "there is a hole" : "it overlaps another");
        at = begin + x[order[i]].bytes;
    }
    if (st == CT_OK && at != r->size)
        st = DAMAGED(r, "'%s' is damaged: expected %zu bytes behind the header, as its tensors have, found %zu",
                     ct_path_tail(r->path), at, r->size);
    ct_free(order);
    return st;
}

static uint64_t header_bytes(const uint8_t *data)
{
    uint64_t n = 0;
    for (size_t i = 0; i < 8; i++)
        n |= (uint64_t)data[i] << 8 * i;
    return n;
}

bool ct_safetensors_looks(const uint8_t *data, size_t size)
{
    return size > 9 && data[8] == '{' && header_bytes(data) >= 2 && header_bytes(data) <= size - 8;
}

static ct_status check_frame(const char *path, const ct_map *map, size_t *header, ct_error *err)
{
    const char *kind = ct_safetensors_looks(map->data, map->size) ? NULL : ct_sniff(map->data, map->size);
    if (kind)
        return ct_fail(err, CT_EFORMAT, path, "expected a safetensors file, found that '%s' is %s", ct_path_tail(path),
                       kind);
    if (map->size < 10)
        return ct_fail(err, CT_EFORMAT, path, "expected a safetensors file, found %zu bytes in '%s'; download it again",
                       map->size, ct_path_tail(path));
    uint64_t n = header_bytes(map->data);
    if (n > HEADER_MAX)
        return ct_fail(err, CT_EFORMAT, path,
                       "expected a header of at most %u bytes in the safetensors file '%s', found a length of %llu",
                       HEADER_MAX, ct_path_tail(path), (unsigned long long)n);
    if (n > map->size - 8)
        return ct_fail(err, CT_EFORMAT, path,
                       "'%s' is truncated or damaged: expected a header of %llu bytes, found %zu; download it again",
                       ct_path_tail(path), (unsigned long long)n, map->size - 8);
    if (n < 2 || map->data[8] != '{')
        return ct_fail(err, CT_EFORMAT, path,
                       "expected a safetensors file, found that the header of '%s' does not begin with '{'",
                       ct_path_tail(path));
    *header = (size_t)n;
    return CT_OK;
}

ct_status ct_safetensors_read(struct st_list *list, ct_tensors *t, size_t shard, ct_error *err)
{
    const ct_map *map = &t->more[shard].map;
    const char *path = t->more[shard].path;
    size_t header = 0;
    ct_json_str key;
    bool metadata = false;
    ct_status st = check_frame(path, map, &header, err);
    if (st != CT_OK)
        return st;
    struct reader r = {.path = path, .list = list, .first = list->n, .shard = shard, .err = err};
    r.data = map->data + 8 + header;
    r.size = map->size - 8 - header;
    r.names = ct_tensors_alloc(t, header + CT_ST_NAME_EXTRA); /* an entry has 40 bytes besides; the last may be cut */
    if (r.names == NULL)
        return ct_fail(err, CT_ENOMEM, path, "out of memory for the names in '%s'", ct_path_tail(path));
    ct_json_init(&r.json, path, map->data + 8, header, err);
    ct_json_object(&r.json);
    while (ct_json_key(&r.json, &key)) {
        bool is_metadata = ct_json_is(key, "__metadata__");
        if (is_metadata && metadata)
            ct_json_fail(&r.json, "__metadata__ once", "it twice");
        st = is_metadata ? read_metadata(&r) : read_entry(&r, key);
        if (st != CT_OK)
            return st;
        metadata = metadata || is_metadata;
    }
    if ((st = ct_json_end(&r.json)) != CT_OK)
        return st;
    return check_cover(&r);
}

ct_status ct_st_push(ct_tensors *t, const struct st_tensor *x, ct_error *err)
{
    ct_dtype type = x->type == ST_F32 ? CT_F32 : x->type == ST_F16 ? CT_F16 : CT_BF16;
    ct_tensor *to = ct_tensors_push(t);
    if (to == NULL)
        return ct_fail(err, CT_ENOMEM, t->path, "out of memory for the tensors of '%s'", ct_path_tail(t->path));
    to->name = x->name;
    to->dtype = ct_dtype_get((int32_t)type);
    to->n_dims = x->n_dims > 0 ? x->n_dims : 1; /* a single number is a row of one */
    for (int32_t i = 0; i < x->n_dims; i++)
        to->ne[i] = x->shape[x->n_dims - 1 - i];
    to->n_elems = x->n_elems;
    to->data = x->data;
    to->bytes = x->bytes;
    return CT_OK;
}
