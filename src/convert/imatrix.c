/* Importance matrices in memory and in llama.cpp's two kinds of files. What is in them is not believed: sizes, names and numbers are
 * checked before anybody weighs with them.
 *
 * GGUF: general.type "imatrix", imatrix.datasets, .chunk_count, .chunk_size; for a tensor X the f32 tensors X.in_sum2 [cols, 1], sums of
 * squares, and X.counts [1, 1], rows summed. The older form, little-endian: i32 entries; for each i32 length and name, i32 calls, i32 n,
 * f32 values[n] (mean square times calls); then, where not left out, i32 chunks, i32 length and the text's name. */
#include "convert/imatrix.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/half.h"
#include "formats/output.h"

#define MAX_ENTRIES 65536
#define MAX_COLS (1 << 20)
#define MAX_STEM 55 /* so that a tail fits into what GGUF allows a name */

ct_imatrix *ct_imatrix_new(size_t n)
{
    ct_imatrix *im = ct_calloc(1, sizeof *im);
    if (im && (im->entries = ct_calloc(n > 0 ? n : 1, sizeof *im->entries)) == NULL) {
        ct_free(im);
        return NULL;
    }
    if (im)
        im->n = n;
    return im;
}

bool ct_imatrix_set(ct_imatrix_entry *e, const char *name, size_t name_len, size_t cols)
{
    if (name_len >= sizeof e->name)
        return false;
    memcpy(e->name, name, name_len);
    e->name[name_len] = '\0';
    e->cols = cols;
    e->mean = ct_calloc(cols, sizeof *e->mean);
    return e->mean != NULL;
}

void ct_imatrix_free(ct_imatrix *im)
{
    for (size_t i = 0; im && i < im->n; i++)
        ct_free(im->entries[i].mean);
    if (im)
        ct_free(im->entries);
    ct_free(im);
}

const float *ct_imatrix_find(const ct_imatrix *im, const char *name, size_t cols)
{
    for (size_t i = 0; im && i < im->n; i++)
        if (im->entries[i].cols == cols && strcmp(im->entries[i].name, name) == 0)
            return im->entries[i].mean;
    return NULL;
}

static uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* mean[cols] = values / by. */
static ct_status take_values(ct_imatrix_entry *e, const uint8_t *values, double by, ct_error *err)
{
    for (size_t j = 0; j < e->cols; j++) {
        double v = (double)ct_f32_from_bits(load_u32(values + 4 * j)) / by;
        if (!(v >= 0 && v <= 1e30))
            return ct_fail(err, CT_ENUMERIC, e->name,
                           "value %zu of '%s' in the importance matrix is %g: expected a finite mean of squares", j,
                           e->name, v);
        e->mean[j] = (float)v;
    }
    return CT_OK;
}

static ct_status no_memory(ct_error *err, const char *path)
{
    return ct_fail(err, CT_ENOMEM, path, "out of memory for the importance matrix '%s'", path);
}

/* ---- the older form ---- */

struct cursor {
    const uint8_t *p;
    size_t left;
};

static bool take_i32(struct cursor *c, int32_t *v)
{
    if (c->left < 4)
        return false;
    *v = (int32_t)load_u32(c->p);
    c->p += 4;
    c->left -= 4;
    return true;
}

static const uint8_t *take(struct cursor *c, size_t n)
{
    const uint8_t *p = c->p;
    if (c->left < n)
        return NULL;
    c->p += n;
    c->left -= n;
    return p;
}

static ct_status read_legacy(ct_imatrix **out, const char *path, const void *data, size_t size, ct_error *err)
{
    struct cursor c = {data, size};
    int32_t n, len, calls, cols;
    if (!take_i32(&c, &n) || n < 1 || n > MAX_ENTRIES || (size_t)n > c.left / 16)
        return ct_fail(
            err, CT_EFORMAT, path,
            "'%s' is no importance matrix: expected a GGUF file, or a number of entries that fit into its %zu bytes",
            path, size);
    ct_imatrix *im = ct_imatrix_new((size_t)n);
    ct_status st = im ? CT_OK : no_memory(err, path);
    for (int32_t i = 0; i < n && st == CT_OK; i++) {
        const uint8_t *name = NULL, *values = NULL;
        if (!take_i32(&c, &len) || len < 1 || len >= CT_NAME_MAX || !(name = take(&c, (size_t)len)) ||
            !take_i32(&c, &calls) || calls < 1 || !take_i32(&c, &cols) || cols < 1 || cols > MAX_COLS ||
            !(values = take(&c, (size_t)cols * 4)))
            st = ct_fail(err, CT_EFORMAT, path,
                         "entry %d of %d of the importance matrix '%s' is damaged: expected a name, a count and "
                         "values, all inside the file",
                         i + 1, n, path);
        else if (memchr(name, 0, (size_t)len))
            st = ct_fail(err, CT_EFORMAT, path, "entry %d of the importance matrix '%s' has a zero byte in its name",
                         i + 1, path);
        else if (!ct_imatrix_set(&im->entries[i], (const char *)name, (size_t)len, (size_t)cols))
            st = no_memory(err, path);
        else {
            im->entries[i].rows = (uint64_t)calls;
            st = take_values(&im->entries[i], values, calls, err);
        }
    }
    if (st == CT_OK && take_i32(&c, &n) && n > 0) {
        im->chunks = (uint32_t)n;
        const uint8_t *text = NULL;
        if (take_i32(&c, &len) && len > 0 && (text = take(&c, (size_t)len)) != NULL)
            snprintf(im->text, sizeof im->text, "%.*s", len < 255 ? len : 255, (const char *)text);
    }
    if (st != CT_OK) {
        ct_imatrix_free(im);
        im = NULL;
    }
    *out = im;
    return st;
}

/* ---- GGUF ---- */

static const char sums_tail[] = ".in_sum2", counts_tail[] = ".counts";

/* Length of a name without the tail; 0 if it does not have it. */
static size_t stem(ct_str name, const char *tail)
{
    size_t n = strlen(tail);
    return name.len > n && memcmp(name.data + name.len - n, tail, n) == 0 ? name.len - n : 0;
}

static ct_status read_entry(ct_imatrix_entry *e, ct_tensors *t, const ct_tensor *sums, size_t len, ct_error *err)
{
    const char *path = ct_tensors_path(t);
    char name[CT_NAME_MAX + 16];
    if (len >= CT_NAME_MAX)
        return ct_fail(err, CT_EFORMAT, path,
                       "a name in the importance matrix '%s' has %zu bytes, expected fewer than %d", path, len,
                       CT_NAME_MAX);
    snprintf(name, sizeof name, "%.*s%s", (int)len, sums->name.data, counts_tail);
    const ct_tensor *counts = ct_tensors_find(t, name);
    name[len] = '\0';
    if (counts == NULL || counts->dtype->type != CT_F32 || sums->dtype->type != CT_F32)
        return ct_fail(err, CT_EFORMAT, path, "the importance matrix '%s' has no f32 sums and counts of '%s'", path,
                       name);
    if (sums->n_elems != sums->ne[0] || counts->n_elems != 1)
        return ct_fail(err, CT_EUNSUPPORTED, path,
                       "'%s' has the sums of %zu matrices under '%s', expected one: it is of a mixture of experts",
                       path, counts->n_elems, name);
    const uint8_t *values = ct_tensor_bytes(t, sums), *count = ct_tensor_bytes(t, counts);
    double rows = count ? (double)ct_f32_from_bits(load_u32(count)) : 0;
    if (values == NULL || sums->ne[0] > MAX_COLS || !(rows >= 1 && rows < 1e15))
        return ct_fail(err, CT_EFORMAT, path,
                       "'%s' counts %g rows for '%s' in the importance matrix, expected 1 or more", path, rows, name);
    if (!ct_imatrix_set(e, name, len, sums->ne[0]))
        return no_memory(err, path);
    e->rows = (uint64_t)rows;
    return take_values(e, values, rows, err);
}

static ct_status read_gguf(ct_imatrix **out, const char *path, const void *data, size_t size, ct_error *err)
{
    ct_tensors *t = NULL;
    ct_imatrix *im = NULL;
    ct_status st = ct_gguf_open_memory(&t, path, data, size, err);
    if (st != CT_OK)
        return st;
    size_t n = 0;
    for (size_t i = 0; i < ct_tensors_count(t); i++)
        n += stem(ct_tensors_at(t, i)->name, sums_tail) > 0;
    if (n == 0)
        st = ct_fail(err, CT_EFORMAT, path, "'%s' is no importance matrix: expected tensors named *%s, found none",
                     path, sums_tail);
    else if ((im = ct_imatrix_new(n)) == NULL)
        st = no_memory(err, path);
    for (size_t i = 0, k = 0; i < ct_tensors_count(t) && st == CT_OK; i++) {
        size_t len = stem(ct_tensors_at(t, i)->name, sums_tail);
        if (len > 0)
            st = read_entry(&im->entries[k++], t, ct_tensors_at(t, i), len, err);
    }
    if (st == CT_OK)
        st = ct_kv_u32(t, "imatrix.chunk_count", &im->chunks, err);
    if (st == CT_OK)
        st = ct_kv_u32(t, "imatrix.chunk_size", &im->chunk_size, err);
    const ct_kv_pair *text = ct_tensors_kv(t, "imatrix.datasets");
    if (st == CT_OK && text && text->spans && text->count > 0) {
        ct_str s = ct_kv_str(text, 0);
        snprintf(im->text, sizeof im->text, "%.*s", s.len < 255 ? (int)s.len : 255, s.data);
    }
    if (st != CT_OK) {
        ct_imatrix_free(im);
        im = NULL;
    }
    ct_tensors_close(t);
    *out = im;
    return st;
}

ct_status ct_imatrix_read_memory(ct_imatrix **out, const char *name, const void *data, size_t size, ct_error *err)
{
    *out = NULL;
    return size >= 4 && memcmp(data, "GGUF", 4) == 0 ? read_gguf(out, name, data, size, err)
                                                     : read_legacy(out, name, data, size, err);
}

ct_status ct_imatrix_read(ct_imatrix **out, const char *path, ct_error *err)
{
    ct_map map;
    *out = NULL;
    ct_status st = ct_map_open(&map, path, err);
    if (st != CT_OK)
        return st;
    st = ct_imatrix_read_memory(out, path, map.data, map.size, err);
    ct_map_close(&map);
    return st;
}

/* ---- writing ---- */

static void store_u32(uint8_t *p, uint32_t v)
{
    for (size_t i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static ct_status put_i32(ct_writer *w, size_t v, ct_error *err)
{
    uint8_t raw[4];
    store_u32(raw, (uint32_t)v);
    return ct_writer_put(w, raw, 4, err);
}

/* values[cols] of an entry, times f, as the file has them. NULL when out of memory. */
static uint8_t *values_of(const ct_imatrix_entry *e, double f)
{
    uint8_t *raw = ct_alloc(e->cols * 4 + 1);
    for (size_t j = 0; raw && j < e->cols; j++)
        store_u32(raw + 4 * j, ct_bits_from_f32((float)((double)e->mean[j] * f)));
    return raw;
}

/* Calls are chunks, rounded up, and where the chunk's size is not known, what was read as calls. */
static ct_status write_legacy(const ct_imatrix *im, const char *path, ct_error *err)
{
    ct_writer *w = NULL;
    ct_status st = ct_writer_open(&w, path, err);
    if (st == CT_OK)
        st = put_i32(w, im->n, err);
    for (size_t i = 0; i < im->n && st == CT_OK; i++) {
        const ct_imatrix_entry *e = &im->entries[i];
        uint64_t per = im->chunk_size > 0 ? im->chunk_size : 1, calls = (e->rows + per - 1) / per;
        calls = calls < 1 ? 1 : calls > INT32_MAX ? INT32_MAX : calls;
        uint8_t *raw = values_of(e, (double)calls);
        size_t len = strlen(e->name);
        st = raw ? put_i32(w, len, err) : no_memory(err, path);
        if (st == CT_OK)
            st = ct_writer_put(w, e->name, len, err);
        if (st == CT_OK)
            st = put_i32(w, (size_t)calls, err);
        if (st == CT_OK)
            st = put_i32(w, e->cols, err);
        if (st == CT_OK)
            st = ct_writer_put(w, raw, e->cols * 4, err);
        ct_free(raw);
    }
    if (st == CT_OK)
        st = put_i32(w, im->chunks, err);
    if (st == CT_OK)
        st = put_i32(w, strlen(im->text), err);
    if (st == CT_OK)
        st = ct_writer_put(w, im->text, strlen(im->text), err);
    if (st == CT_OK)
        return ct_writer_commit(w, err);
    ct_writer_abandon(w);
    return st;
}

static ct_kv_pair key_of(const char *key, ct_kv_type type, const void *data)
{
    return (ct_kv_pair){.key = {key, strlen(key)}, .type = type, .count = 1, .data = data};
}

static ct_status write_gguf(const ct_imatrix *im, const char *path, ct_error *err)
{
    static const char kind[] = "imatrix";
    uint8_t chunks[4], size[4];
    const ct_span span = {0, (uint32_t)strlen(im->text)};
    store_u32(chunks, im->chunks);
    store_u32(size, im->chunk_size);
    ct_kv_pair kv[] = {key_of("general.type", CT_KV_STRING, kind), key_of("imatrix.datasets", CT_KV_ARRAY, im->text),
                       key_of("imatrix.chunk_count", CT_KV_U32, chunks), key_of("imatrix.chunk_size", CT_KV_U32, size)};
    kv[0].len = sizeof kind - 1;
    kv[1].elem_type = CT_KV_STRING;
    kv[1].spans = &span;
    ct_out_tensor *x = ct_calloc(2 * im->n + 1, sizeof *x);
    ct_output *o = NULL;
    ct_status st = x ? CT_OK : no_memory(err, path);
    for (size_t i = 0; i < im->n && st == CT_OK; i++) {
        ct_out_tensor *pair = &x[2 * i];
        const ct_imatrix_entry *e = &im->entries[i];
        if (strlen(e->name) > MAX_STEM)
            st = ct_fail(err, CT_EINVAL, e->name, "'%s' is too long a name for an entry of an importance matrix",
                         e->name);
        snprintf(pair[0].name, sizeof pair[0].name, "%.*s%s", MAX_STEM, e->name, sums_tail);
        snprintf(pair[1].name, sizeof pair[1].name, "%.*s%s", MAX_STEM, e->name, counts_tail);
        for (size_t k = 0; k < 2; k++) {
            pair[k].dtype = ct_dtype_get(CT_F32);
            pair[k].n_dims = 2;
            pair[k].ne[0] = k == 0 ? e->cols : 1;
            pair[k].ne[1] = pair[k].ne[2] = pair[k].ne[3] = 1;
            ct_out_tensor_measure(&pair[k]);
        }
    }
    if (st == CT_OK)
        st = ct_gguf_create(&o, path, kv, sizeof kv / sizeof *kv, x, 2 * im->n, err);
    for (size_t i = 0; i < im->n && st == CT_OK; i++) {
        const ct_imatrix_entry *e = &im->entries[i];
        uint8_t count[4], *raw = values_of(e, (double)e->rows);
        store_u32(count, ct_bits_from_f32((float)e->rows));
        st = raw ? ct_output_put(o, 2 * i, 0, raw, e->cols * 4, err) : no_memory(err, path);
        if (st == CT_OK)
            st = ct_output_put(o, 2 * i + 1, 0, count, 4, err);
        ct_free(raw);
    }
    if (st == CT_OK) {
        st = ct_output_commit(o, err);
        o = NULL;
    }
    ct_output_abandon(o);
    ct_free(x);
    return st;
}

ct_status ct_imatrix_write(const ct_imatrix *im, const char *path, ct_error *err)
{
    size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".gguf") == 0 ? write_gguf(im, path, err) : write_legacy(im, path, err);
}
