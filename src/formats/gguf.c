/* The GGUF reader, versions 2 and 3: a file becomes a tensor directory, or one sentence that says what is wrong with it.
 *
 * Nothing in the file is believed: lengths and counts are measured against the bytes that are left before anything is
 * allocated, products are checked, every tensor is proved to lie inside the file and beside its neighbours. So the rest
 * of the program may use what it finds here without a second look. What keys and tensors mean is not known here, and that
 * a file may be a part of a model is known in split.c, where ct_gguf_open is. */
#include <string.h>

#include "base/mem.h"
#include "formats/directory.h"

/* The least that an entry takes: a length, a byte of name, and the smallest value or a whole tensor description. */
#define KV_MIN_BYTES (8 + 1 + 4 + 1)
#define TENSOR_MIN_BYTES (8 + 1 + 4 + 8 + 4 + 8)
#define KEY_MAX 65535 /* the format's own limits */
#define NAME_MAX_BYTES 64

struct reader {
    const uint8_t *data;
    size_t size, at;
    const char *path;
    ct_error *err;
};

static ct_status damaged_short(const struct reader *r, size_t need, const char *what)
{
    return ct_fail(r->err, CT_EFORMAT, r->path,
                   "'%s' is truncated or damaged: expected %zu bytes for %s at byte %zu, found %zu; download it again",
                   ct_path_tail(r->path), need, what, r->at, r->size - r->at);
}

static inline ct_status read_uint(struct reader *r, size_t bytes, uint64_t *v, const char *what)
{
    *v = 0;
    if (r->size - r->at < bytes)
        return damaged_short(r, bytes, what);
    for (size_t i = 0; i < bytes; i++)
        *v |= (uint64_t)r->data[r->at + i] << 8 * i;
    r->at += bytes;
    return CT_OK;
}

static ct_status read_string(struct reader *r, ct_str *s, const char *what)
{
    uint64_t n;
    ct_status st = read_uint(r, 8, &n, what);
    if (st != CT_OK)
        return st;
    if (n > r->size - r->at)
        return ct_fail(r->err, CT_EFORMAT, r->path,
                       "'%s' is truncated or damaged: expected the %llu bytes that %s at byte %zu claims, found %zu; "
                       "download it again",
                       ct_path_tail(r->path), (unsigned long long)n, what, r->at, r->size - r->at);
    *s = (ct_str){(const char *)r->data + r->at, (size_t)n};
    r->at += (size_t)n;
    return CT_OK;
}

/* A name: neither empty nor longer than the format allows. */
static ct_status read_name(struct reader *r, ct_str *s, size_t max, const char *what)
{
    size_t at = r->at;
    ct_status st = read_string(r, s, what);
    if (st == CT_OK && (s->len == 0 || s->len > max))
        st = ct_fail(r->err, CT_EFORMAT, r->path,
                     "'%s' is damaged: expected %s of 1 to %zu bytes at byte %zu, found %zu", ct_path_tail(r->path),
                     what, max, at, s->len);
    return st;
}

static ct_status check_bools(const struct reader *r, const uint8_t *p, size_t n, ct_str key)
{
    char quote[CT_QUOTE];
    for (size_t i = 0; i < n; i++)
        if (p[i] > 1)
            return ct_fail(r->err, CT_EFORMAT, r->path,
                           "'%s' is damaged: expected 0 or 1 for the truth value '%s', found %d", ct_path_tail(r->path),
                           ct_quote(quote, key), p[i]);
    return CT_OK;
}

/* An array of strings is walked twice: once to prove that all are there, then to note where. What is noted is measured in the
 * second walk, too: should the file change under us, it still lies inside. */
static ct_status read_strings(struct reader *r, ct_kv_pair *kv)
{
    size_t start = r->at;
    char quote[CT_QUOTE];
    ct_str s;
    for (uint64_t i = 0; i < kv->count; i++) {
        ct_status st = read_string(r, &s, "a string of an array");
        if (st != CT_OK)
            return st;
    }
    if (r->at - start > UINT32_MAX)
        return ct_fail(r->err, CT_EUNSUPPORTED, r->path,
                       "'%s': expected less than 4 GiB in the array '%s', found %zu bytes", ct_path_tail(r->path),
                       ct_quote(quote, kv->key), r->at - start);
    ct_span *all = ct_calloc((size_t)kv->count, sizeof *all); /* count * 8 bytes were just found in the file */
    if (all == NULL)
        return ct_fail(r->err, CT_ENOMEM, r->path, "out of memory for the %llu strings of an array in '%s'",
                       (unsigned long long)kv->count, ct_path_tail(r->path));
    kv->spans = all;
    r->at = start;
    for (uint64_t i = 0; i < kv->count; i++) {
        ct_status st = read_string(r, &s, "a string of an array");
        if (st != CT_OK)
            return st;
        all[i] = (ct_span){(uint32_t)((const uint8_t *)s.data - kv->data), (uint32_t)s.len};
    }
    return CT_OK;
}

static ct_status read_array(struct reader *r, ct_kv_pair *kv)
{
    char quote[CT_QUOTE];
    uint64_t type;
    ct_status st = read_uint(r, 4, &type, "the element type of an array");
    if (st == CT_OK)
        st = read_uint(r, 8, &kv->count, "the length of an array");
    if (st != CT_OK)
        return st;
    kv->elem_type = (ct_kv_type)type;
    kv->data = r->data + r->at;
    if (type == CT_KV_ARRAY)
        return ct_fail(r->err, CT_EUNSUPPORTED, r->path,
                       "'%s': expected texts, numbers or truth values in the array '%s', found an array of arrays",
                       ct_path_tail(r->path), ct_quote(quote, kv->key));
    size_t each = type == CT_KV_STRING ? 8 : type <= CT_KV_F64 ? ct_kv_type_bytes((ct_kv_type)type) : 0;
    if (each == 0)
        return ct_fail(r->err, CT_EFORMAT, r->path,
                       "'%s' is damaged: expected an element type of 0 to 12 for the array '%s', found %llu",
                       ct_path_tail(r->path), ct_quote(quote, kv->key), (unsigned long long)type);
    if (kv->count > (r->size - r->at) / each)
        return ct_fail(r->err, CT_EFORMAT, r->path,
                       "'%s' is truncated or damaged: expected the %llu elements that the array '%s' claims, found %zu "
                       "bytes for them",
                       ct_path_tail(r->path), (unsigned long long)kv->count, ct_quote(quote, kv->key), r->size - r->at);
    if (type == CT_KV_STRING)
        return read_strings(r, kv);
    if (type == CT_KV_BOOL)
        st = check_bools(r, kv->data, (size_t)kv->count, kv->key);
    r->at += (size_t)kv->count * each;
    return st;
}

static ct_status read_kv(struct reader *r, ct_tensors *t)
{
    char quote[CT_QUOTE];
    ct_kv_pair *kv = ct_kv_push(t);
    if (kv == NULL)
        return ct_fail(r->err, CT_ENOMEM, r->path, "out of memory for the metadata of '%s'", ct_path_tail(r->path));
    uint64_t type;
    ct_status st = read_name(r, &kv->key, KEY_MAX, "a metadata key");
    if (st == CT_OK)
        st = read_uint(r, 4, &type, "the type of a metadata value");
    if (st != CT_OK)
        return st;
    if (type > CT_KV_F64)
        return ct_fail(r->err, CT_EFORMAT, r->path,
                       "'%s' is damaged: expected a value type of 0 to 12 for the key '%s', found %llu",
                       ct_path_tail(r->path), ct_quote(quote, kv->key), (unsigned long long)type);
    kv->type = (ct_kv_type)type;
    if (type == CT_KV_ARRAY)
        return read_array(r, kv);
    if (type == CT_KV_STRING) {
        ct_str s = {NULL, 0};
        st = read_string(r, &s, "a metadata string");
        kv->data = (const uint8_t *)s.data;
        kv->len = s.len;
        return st;
    }
    size_t bytes = ct_kv_type_bytes(kv->type);
    if (r->size - r->at < bytes)
        return damaged_short(r, bytes, "a metadata value");
    kv->data = r->data + r->at;
    r->at += bytes;
    return type == CT_KV_BOOL ? check_bools(r, kv->data, 1, kv->key) : CT_OK;
}

/* Name, shape, type and size of one tensor; the offset goes to *offset, still unproved. */
static ct_status read_tensor(struct reader *r, ct_tensors *t, uint64_t *offset)
{
    char quote[CT_QUOTE];
    ct_tensor *x = ct_tensors_push(t);
    if (x == NULL)
        return ct_fail(r->err, CT_ENOMEM, r->path, "out of memory for the tensors of '%s'", ct_path_tail(r->path));
    uint64_t n_dims, type;
    ct_status st = read_name(r, &x->name, NAME_MAX_BYTES, "a tensor name");
    if (st == CT_OK)
        st = read_uint(r, 4, &n_dims, "a tensor's number of dimensions");
    if (st != CT_OK)
        return st;
    ct_quote(quote, x->name);
    if (n_dims < 1 || n_dims > 4)
        return ct_fail(r->err, CT_EFORMAT, r->path,
                       "'%s' is damaged: expected 1 to 4 dimensions for the tensor '%s', found %llu",
                       ct_path_tail(r->path), quote, (unsigned long long)n_dims);
    x->n_dims = (int32_t)n_dims;
    x->n_elems = 1;
    for (size_t i = 0; i < n_dims; i++) {
        uint64_t ne;
        st = read_uint(r, 8, &ne, "a tensor's shape");
        if (st != CT_OK)
            return st;
        if (ne == 0 || ne > SIZE_MAX || !ct_mul_ok(x->n_elems, (size_t)ne, &x->n_elems))
            return ct_fail(r->err, CT_EFORMAT, r->path,
                           "'%s' is damaged: expected a shape that memory can hold for the tensor '%s', found %llu as "
                           "dimension %zu",
                           ct_path_tail(r->path), quote, (unsigned long long)ne, i);
        x->ne[i] = (size_t)ne;
    }
    st = read_uint(r, 4, &type, "a tensor's type");
    if (st == CT_OK)
        st = read_uint(r, 8, offset, "a tensor's offset");
    if (st != CT_OK)
        return st;
    x->dtype = ct_dtype_of_gguf(type);
    if (x->dtype == NULL)
        return ct_fail(r->err, CT_EUNSUPPORTED, r->path,
                       "'%s': expected a type that carat reads, found that the tensor '%s' has type %llu (%s); get the "
                       "model in another",
                       ct_path_tail(r->path), quote, (unsigned long long)type,
                       ct_gguf_type_name(type <= INT32_MAX ? (int32_t)type : -1));
    size_t row;
    if (!ct_row_bytes(x->dtype, x->ne[0], &row))
        return ct_fail(r->err, CT_EFORMAT, r->path,
                       "'%s' is damaged: expected whole blocks in the tensor '%s' (%s comes in blocks of %d), found "
                       "rows of %zu elements",
                       ct_path_tail(r->path), quote, x->dtype->name, x->dtype->block_elems, x->ne[0]);
    if (!ct_mul_ok(row, x->n_elems / x->ne[0], &x->bytes))
        return ct_fail(r->err, CT_EFORMAT, r->path,
                       "'%s' is damaged: expected a tensor that memory can hold, found %zu rows of %zu bytes in '%s'",
                       ct_path_tail(r->path), x->n_elems / x->ne[0], row, quote);
    return CT_OK;
}

static bool lies_before(const void *arg, uint32_t a, uint32_t b)
{
    const uint64_t *offset = arg;
    return offset[a] < offset[b];
}

/* Proves that every tensor is aligned, inside the file and clear of the others, and points it at its bytes. */
static ct_status place_tensors(struct reader *r, ct_tensors *t, const uint64_t *offset, size_t alignment)
{
    char quote[CT_QUOTE];
    size_t n = t->n_tensors, base = 0, last = 0, last_end = 0;
    ct_status st = CT_OK;
    uint32_t *order = ct_calloc(n, sizeof *order);
    if (order == NULL)
        return ct_fail(r->err, CT_ENOMEM, r->path, "out of memory for the tensors of '%s'", ct_path_tail(r->path));
    if (!ct_add_ok(r->at, alignment - 1, &base)) {
        st = ct_fail(r->err, CT_EFORMAT, r->path,
                     "'%s' is damaged: expected an alignment that memory can hold, found %zu", ct_path_tail(r->path),
                     alignment);
        goto done;
    }
    base &= ~(alignment - 1);
    for (size_t i = 0; i < n; i++) {
        size_t end;
        ct_quote(quote, t->tensors[i].name);
        if (offset[i] % alignment != 0) {
            st = ct_fail(r->err, CT_EFORMAT, r->path,
                         "'%s' is damaged: expected a multiple of %zu as offset of the tensor '%s', found %llu",
                         ct_path_tail(r->path), alignment, quote, (unsigned long long)offset[i]);
            goto done;
        }
        if (offset[i] > SIZE_MAX || !ct_add_ok((size_t)offset[i], base, &end) ||
            !ct_add_ok(end, t->tensors[i].bytes, &end)) {
            st = ct_fail(r->err, CT_EFORMAT, r->path,
                         "'%s' is damaged: expected the tensor '%s' inside the file, found its offset %llu",
                         ct_path_tail(r->path), quote, (unsigned long long)offset[i]);
            goto done;
        }
        if (end > last_end) {
            last_end = end;
            last = i;
        }
    }
    if (last_end > r->size) {
        st = ct_fail(r->err, CT_EFORMAT, r->path,
                     "'%s' is truncated: expected %zu bytes (the end of the tensor '%s'), found %zu; download it again",
                     ct_path_tail(r->path), last_end, ct_quote(quote, t->tensors[last].name), r->size);
        goto done;
    }
    ct_sort(order, n, lies_before, offset); /* for the test of overlaps */
    for (size_t i = 0; i < n; i++) {
        ct_tensor *x = &t->tensors[order[i]];
        size_t end = (size_t)offset[order[i]] + x->bytes;
        if (i + 1 < n && end > offset[order[i + 1]]) {
            char other[CT_QUOTE];
            st = ct_fail(r->err, CT_EFORMAT, r->path,
                         "'%s' is damaged: expected a place of its own for each tensor, found that '%s' and '%s' "
                         "overlap at byte %zu",
                         ct_path_tail(r->path), ct_quote(quote, x->name),
                         ct_quote(other, t->tensors[order[i + 1]].name), base + (size_t)offset[order[i + 1]]);
            goto done;
        }
        x->data = r->data + base + (size_t)offset[order[i]];
    }
done:
    ct_free(order);
    return st;
}

/* Magic and version. */
static ct_status read_head(struct reader *r, const char **format)
{
    uint64_t version;
    if (r->size < 4 || memcmp(r->data, "GGUF", 4) != 0) {
        const char *kind = ct_sniff(r->data, r->size);
        if (kind)
            return ct_fail(r->err, CT_EFORMAT, r->path, "expected a GGUF file, found that '%s' is %s",
                           ct_path_tail(r->path), kind);
        return ct_fail(r->err, CT_EFORMAT, r->path,
                       "expected a GGUF file, found that '%s' does not begin with \"GGUF\"", ct_path_tail(r->path));
    }
    r->at = 4;
    ct_status st = read_uint(r, 4, &version, "the version");
    if (st != CT_OK)
        return st;
    if (version != 0 && (version & 0xffffu) == 0)
        return ct_fail(r->err, CT_EUNSUPPORTED, r->path,
                       "expected a little-endian GGUF file, as all common models are, found '%s' big-endian",
                       ct_path_tail(r->path));
    if (version != 2 && version != 3)
        return ct_fail(r->err, CT_EUNSUPPORTED, r->path,
                       "expected GGUF version 2 or 3, found version %llu in '%s': get a newer copy of the model",
                       (unsigned long long)version, ct_path_tail(r->path));
    *format = version == 2 ? "GGUF v2" : "GGUF v3";
    return CT_OK;
}

static ct_status check_count(const struct reader *r, uint64_t n, size_t each, uint64_t most, const char *what)
{
    if (n > (r->size - r->at) / each)
        return ct_fail(
            r->err, CT_EFORMAT, r->path,
            "'%s' is truncated or damaged: expected room for %llu %s, found %zu bytes for them; download it again",
            ct_path_tail(r->path), (unsigned long long)n, what, r->size - r->at);
    if (n > most)
        return ct_fail(r->err, CT_EUNSUPPORTED, r->path, "'%s': expected at most %llu %s, found %llu: not a Gemma 3",
                       ct_path_tail(r->path), (unsigned long long)most, what, (unsigned long long)n);
    return CT_OK;
}

/* What has to be known of the metadata before the tensors can be read. */
static ct_status check_metadata(const struct reader *r, const ct_tensors *t, size_t *alignment)
{
    uint32_t align = 32;
    ct_status st = ct_kv_u32(t, "general.alignment", &align, r->err);
    if (st != CT_OK)
        return st;
    if (align == 0 || (align & (align - 1)) != 0)
        return ct_fail(r->err, CT_EFORMAT, r->path,
                       "'%s' is damaged: expected a power of two for general.alignment, found %u",
                       ct_path_tail(r->path), align);
    *alignment = align;
    return CT_OK;
}

ct_status ct_gguf_read(ct_tensors **out, const char *path, ct_map map, ct_error *err)
{
    *out = NULL;
    uint64_t *offsets = NULL;
    size_t room = 0, alignment = 32;
    uint64_t n_tensors, n_kv;
    ct_status st;
    ct_tensors *t = ct_tensors_new(path, "GGUF");
    if (t == NULL) {
        ct_map_close(&map);
        return ct_fail(err, CT_ENOMEM, path, "out of memory while opening '%s'", ct_path_tail(path));
    }
    t->map = map;
    t->file_bytes = map.size;
    struct reader r = {.data = t->map.data, .size = t->map.size, .path = t->path, .err = err};
    if ((st = read_head(&r, &t->format)) != CT_OK || (st = read_uint(&r, 8, &n_tensors, "the tensor count")) != CT_OK ||
        (st = read_uint(&r, 8, &n_kv, "the metadata count")) != CT_OK ||
        (st = check_count(&r, n_kv, KV_MIN_BYTES, CT_MAX_KEYS, "metadata keys")) != CT_OK)
        goto done;
    for (uint64_t i = 0; i < n_kv; i++)
        if ((st = read_kv(&r, t)) != CT_OK)
            goto done;
    if ((st = ct_tensors_index(t, err)) != CT_OK || (st = check_metadata(&r, t, &alignment)) != CT_OK ||
        (st = check_count(&r, n_tensors, TENSOR_MIN_BYTES, CT_MAX_TENSORS, "tensors")) != CT_OK)
        goto done;
    for (uint64_t i = 0; i < n_tensors; i++) {
        if (i == room) {
            room = room ? room * 2 : 64;
            uint64_t *bigger = ct_realloc(offsets, room * sizeof *offsets);
            if (bigger == NULL) {
                st = ct_fail(err, CT_ENOMEM, path, "out of memory for the tensors of '%s'", ct_path_tail(path));
                goto done;
            }
            offsets = bigger;
        }
        if ((st = read_tensor(&r, t, &offsets[i])) != CT_OK)
            goto done;
    }
    if ((st = ct_tensors_index(t, err)) != CT_OK || (st = place_tensors(&r, t, offsets, alignment)) != CT_OK)
        goto done;
    *out = t;
    t = NULL;
done:
    ct_free(offsets);
    ct_tensors_close(t);
    return st;
}
