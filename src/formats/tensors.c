/* The tensor directory: storage, look-ups by name, typed getters. Which format filled it, it does not know. */
#include "formats/tensors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "formats/directory.h"

/* ---- making one ---------------------------------------------------------------------------------------------------- */

struct tensors_block {
    struct tensors_block *next;
    max_align_t bytes[];
};

ct_tensors *ct_tensors_new(const char *path, const char *format)
{
    ct_tensors *t = ct_calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->path = ct_strdup(path);
    t->format = format;
    if (t->path == NULL) {
        ct_free(t);
        return NULL;
    }
    return t;
}

void ct_tensors_close(ct_tensors *t)
{
    if (t == NULL)
        return;
    if (t->source.close)
        t->source.close(t);
    for (size_t i = 0; i < t->n_kv; i++)
        ct_free((void *)(uintptr_t)t->kv[i].spans);
    ct_free(t->kv);
    ct_free(t->tensors);
    ct_free(t->kv_by_name);
    ct_free(t->tensors_by_name);
    ct_map_close(&t->map);
    for (size_t i = 0; i < t->n_more; i++) {
        ct_map_close(&t->more[i].map);
        ct_free(t->more[i].path);
    }
    ct_free(t->more);
    while (t->made_values) {
        struct tensors_block *next = t->made_values->next;
        ct_free(t->made_values);
        t->made_values = next;
    }
    ct_free(t->path);
    ct_free(t);
}

/* Makes room for one more element: an array grows with what was really found, not with what a header promises. */
static bool grow(void **array, size_t *room, size_t n, size_t size)
{
    if (n < *room)
        return true;
    size_t bigger = *room ? *room * 2 : 64, bytes;
    void *p = ct_mul_ok(bigger, size, &bytes) ? ct_realloc(*array, bytes) : NULL;
    if (p == NULL)
        return false;
    *array = p;
    *room = bigger;
    return true;
}

ct_tensor *ct_tensors_push(ct_tensors *t)
{
    void *p = t->tensors;
    if (!grow(&p, &t->room_tensors, t->n_tensors, sizeof *t->tensors))
        return NULL;
    t->tensors = p;
    t->tensors[t->n_tensors] = (ct_tensor){.ne = {1, 1, 1, 1}};
    return &t->tensors[t->n_tensors++];
}

bool ct_tensors_add_map(ct_tensors *t, ct_map map, const char *path)
{
    size_t bytes;
    void *p = ct_mul_ok(t->n_more + 1, sizeof *t->more, &bytes) ? ct_realloc(t->more, bytes) : NULL;
    if (p == NULL)
        return false;
    t->more = p;
    t->more[t->n_more].path = ct_strdup(path);
    if (t->more[t->n_more].path == NULL)
        return false;
    t->more[t->n_more++].map = map;
    return true;
}

ct_kv_pair *ct_kv_push(ct_tensors *t)
{
    void *p = t->kv;
    if (!grow(&p, &t->room_kv, t->n_kv, sizeof *t->kv))
        return NULL;
    t->kv = p;
    t->kv[t->n_kv] = (ct_kv_pair){.count = 1};
    return &t->kv[t->n_kv++];
}

void *ct_tensors_alloc(ct_tensors *t, size_t bytes)
{
    size_t whole;
    struct tensors_block *b = ct_add_ok(bytes, sizeof *b, &whole) ? ct_calloc(1, whole) : NULL;
    if (b == NULL)
        return NULL;
    b->next = t->made_values;
    t->made_values = b;
    return b->bytes;
}

/* A key and its value in one block; a value is read as in a file, little endian and of any alignment. */
static bool put(ct_tensors *t, const char *key, ct_kv_type type, const void *value, size_t n)
{
    size_t n_key = strlen(key);
    uint8_t *block = ct_tensors_alloc(t, n_key + n);
    ct_kv_pair *kv = block ? ct_kv_push(t) : NULL;
    if (kv == NULL)
        return false;
    memcpy(block, key, n_key);
    if (n > 0)
        memcpy(block + n_key, value, n);
    kv->key = (ct_str){(const char *)block, n_key};
    kv->type = type;
    kv->data = block + n_key;
    kv->len = type == CT_KV_STRING ? n : 0;
    return true;
}

bool ct_kv_put_u32(ct_tensors *t, const char *key, uint32_t v)
{
    uint8_t le[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    return put(t, key, CT_KV_U32, le, 4);
}

bool ct_kv_put_f32(ct_tensors *t, const char *key, float v)
{
    uint32_t u = ct_bits_from_f32(v);
    uint8_t le[4] = {(uint8_t)u, (uint8_t)(u >> 8), (uint8_t)(u >> 16), (uint8_t)(u >> 24)};
    return put(t, key, CT_KV_F32, le, 4);
}

bool ct_kv_put_bool(ct_tensors *t, const char *key, bool v) { return put(t, key, CT_KV_BOOL, &(uint8_t){v}, 1); }

bool ct_kv_put_string(ct_tensors *t, const char *key, const char *v, size_t n)
{
    return put(t, key, CT_KV_STRING, v, n);
}

bool ct_kv_pushed(const ct_tensors *t, const char *key)
{
    for (size_t i = 0; i < t->n_kv; i++)
        if (ct_str_is(t->kv[i].key, key))
            return true;
    return false;
}

void ct_tensors_add_note(ct_tensors *t, const char *fmt, ...)
{
    if (t->n_notes == CT_MAX_NOTES)
        return;
    char *text = t->notes[t->n_notes++];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, CT_ERROR_TEXT, fmt, args);
    va_end(args);
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

/* ---- names in order ------------------------------------------------------------------------------------------------ */

typedef ct_str name_fn(const ct_tensors *t, uint32_t i);

static ct_str tensor_name(const ct_tensors *t, uint32_t i) { return t->tensors[i].name; }
static ct_str kv_name(const ct_tensors *t, uint32_t i) { return t->kv[i].key; }

static bool tensor_less(const void *arg, uint32_t a, uint32_t b)
{
    return ct_str_compare(tensor_name(arg, a), tensor_name(arg, b)) < 0;
}

static bool kv_less(const void *arg, uint32_t a, uint32_t b)
{
    return ct_str_compare(kv_name(arg, a), kv_name(arg, b)) < 0;
}

/* NULL when out of memory. */
static uint32_t *sorted(const ct_tensors *t, ct_less_fn *less, size_t n)
{
    uint32_t *order = ct_calloc(n, sizeof *order);
    if (order)
        ct_sort(order, n, less, t);
    return order;
}

static ct_status refuse_twins(const ct_tensors *t, name_fn *name, const uint32_t *order, size_t n, const char *what,
                              ct_error *err)
{
    char quote[CT_QUOTE];
    for (size_t i = 1; i < n; i++)
        if (ct_str_compare(name(t, order[i - 1]), name(t, order[i])) == 0)
            return ct_fail(err, CT_EFORMAT, t->path, "'%s' is damaged: expected every %s once, found '%s' twice",
                           ct_path_tail(t->path), what, ct_quote(quote, name(t, order[i])));
    return CT_OK;
}

ct_status ct_tensors_index(ct_tensors *t, ct_error *err)
{
    ct_free(t->kv_by_name);
    ct_free(t->tensors_by_name);
    t->kv_by_name = sorted(t, kv_less, t->n_kv);
    t->tensors_by_name = sorted(t, tensor_less, t->n_tensors);
    if (t->kv_by_name == NULL || t->tensors_by_name == NULL)
        return ct_fail(err, CT_ENOMEM, t->path, "out of memory for the names in '%s'", ct_path_tail(t->path));
    ct_status st = refuse_twins(t, kv_name, t->kv_by_name, t->n_kv, "metadata key", err);
    return st != CT_OK ? st : refuse_twins(t, tensor_name, t->tensors_by_name, t->n_tensors, "tensor", err);
}

/* Index of a name, or n. */
static size_t find(const ct_tensors *t, name_fn *name, const uint32_t *order, size_t n, const char *wanted)
{
    ct_str w = {wanted, strlen(wanted)};
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = ct_str_compare(name(t, order[mid]), w);
        if (c == 0)
            return order[mid];
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return n;
}

/* ---- looking things up --------------------------------------------------------------------------------------------- */

const char *ct_tensors_path(const ct_tensors *t) { return t->path; }
const char *ct_tensors_file(const ct_tensors *t)
{
    return t->map.data ? t->path : t->n_more > 0 ? t->more[0].path : NULL;
}
const char *ct_tensors_format(const ct_tensors *t) { return t->format; }
ct_naming ct_tensors_naming(const ct_tensors *t) { return t->naming; }
bool ct_tensors_norms_centred(const ct_tensors *t) { return t->norms_centred; }
const char *ct_tensors_note(const ct_tensors *t, size_t i) { return i < t->n_notes ? t->notes[i] : NULL; }
size_t ct_tensors_file_bytes(const ct_tensors *t) { return t->file_bytes; }
size_t ct_tensors_count(const ct_tensors *t) { return t->n_tensors; }
size_t ct_tensors_kv_count(const ct_tensors *t) { return t->n_kv; }
const ct_tensor *ct_tensors_at(const ct_tensors *t, size_t i) { return i < t->n_tensors ? &t->tensors[i] : NULL; }
const ct_kv_pair *ct_tensors_kv_at(const ct_tensors *t, size_t i) { return i < t->n_kv ? &t->kv[i] : NULL; }

const ct_tensor *ct_tensors_find(const ct_tensors *t, const char *name)
{
    return ct_tensors_at(t, find(t, tensor_name, t->tensors_by_name, t->n_tensors, name));
}

const ct_kv_pair *ct_tensors_kv(const ct_tensors *t, const char *key)
{
    return ct_tensors_kv_at(t, find(t, kv_name, t->kv_by_name, t->n_kv, key));
}

ct_status ct_tensors_check(const ct_tensors *t, ct_error *err)
{
    ct_status st = ct_map_check(&t->map, t->path, err);
    for (size_t i = 0; i < t->n_more && st == CT_OK; i++)
        st = ct_map_check(&t->more[i].map, t->more[i].path, err);
    return st;
}

const uint8_t *ct_tensor_bytes(ct_tensors *t, const ct_tensor *tensor)
{
    return tensor->data || t->source.bytes == NULL ? tensor->data : t->source.bytes(t, (size_t)(tensor - t->tensors));
}

const uint8_t *ct_tensor_part(const ct_tensors *t, const ct_tensor *tensor, size_t off, size_t bytes, void *scratch)
{
    if (tensor->data)
        return tensor->data + off;
    t->source.part(t, (size_t)(tensor - t->tensors), off, bytes, scratch);
    return scratch;
}

static bool forget_in(const ct_map *map, const ct_tensor *tensor, size_t off, size_t bytes)
{
    uintptr_t at = (uintptr_t)tensor->data, base = (uintptr_t)map->data; /* of different mappings: not to be compared */
    if (map->data == NULL || at < base || at - base >= map->size)
        return false;
    ct_map_forget(map, (size_t)(at - base) + off, bytes);
    return true;
}

void ct_tensor_forget_part(ct_tensors *t, const ct_tensor *tensor, size_t off, size_t bytes)
{
    if (tensor->data == NULL || off > tensor->bytes || bytes > tensor->bytes - off)
        return;
    if (!forget_in(&t->map, tensor, off, bytes))
        for (size_t i = 0; i < t->n_more && !forget_in(&t->more[i].map, tensor, off, bytes); i++)
            ;
}

void ct_tensor_forget(ct_tensors *t, const ct_tensor *tensor)
{
    if (tensor->data)
        ct_tensor_forget_part(t, tensor, 0, tensor->bytes);
    else if (t->source.forget)
        t->source.forget(t, (size_t)(tensor - t->tensors));
}

/* ---- typed values -------------------------------------------------------------------------------------------------- */

size_t ct_kv_type_bytes(ct_kv_type type)
{
    switch (type) {
    case CT_KV_U8:
    case CT_KV_I8:
    case CT_KV_BOOL: return 1;
    case CT_KV_U16:
    case CT_KV_I16: return 2;
    case CT_KV_U32:
    case CT_KV_I32:
    case CT_KV_F32: return 4;
    case CT_KV_U64:
    case CT_KV_I64:
    case CT_KV_F64: return 8;
    case CT_KV_STRING:
    case CT_KV_ARRAY: break;
    }
    return 0;
}

const char *ct_kv_type_name(ct_kv_type type)
{
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return (unsigned)type < sizeof names / sizeof names[0] ? names[type] : "unknown";
}

static uint64_t load(const uint8_t *p, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* A number as {negative, magnitude}; false for what is no integer. */
static bool load_integer(ct_kv_type type, const uint8_t *p, bool *negative, uint64_t *magnitude)
{
    bool is_signed = type == CT_KV_I8 || type == CT_KV_I16 || type == CT_KV_I32 || type == CT_KV_I64;
    size_t bytes = ct_kv_type_bytes(type);
    if (bytes == 0 || type == CT_KV_BOOL || type == CT_KV_F32 || type == CT_KV_F64)
        return false;
    uint64_t v = load(p, bytes);
    *negative = is_signed && v >> (8 * bytes - 1) != 0;
    if (*negative && bytes < 8)
        v |= ~UINT64_C(0) << 8 * bytes;
    *magnitude = *negative ? 0 - v : v;
    return true;
}

static bool load_real(ct_kv_type type, const uint8_t *p, double *v)
{
    bool negative;
    uint64_t magnitude;
    if (type == CT_KV_F32) {
        *v = (double)ct_f32_from_bits((uint32_t)load(p, 4));
    } else if (type == CT_KV_F64) {
        uint64_t bits = load(p, 8);
        memcpy(v, &bits, 8);
    } else if (load_integer(type, p, &negative, &magnitude)) {
        *v = negative ? -(double)magnitude : (double)magnitude;
    } else {
        return false;
    }
    return true;
}

static ct_status wrong_type(const ct_tensors *t, const char *key, const char *expected, const ct_kv_pair *kv,
                            ct_error *err)
{
    bool array = kv->type == CT_KV_ARRAY;
    return ct_fail(err, CT_EFORMAT, t->path, "'%s': expected %s for the key %s, found %s%s", ct_path_tail(t->path),
                   expected, key, array ? "an array of " : "a value of type ",
                   ct_kv_type_name(array ? kv->elem_type : kv->type));
}

ct_status ct_kv_u32(const ct_tensors *t, const char *key, uint32_t *v, ct_error *err)
{
    const ct_kv_pair *kv = ct_tensors_kv(t, key);
    if (kv == NULL)
        return CT_OK;
    ct_kv_type type = kv->type == CT_KV_ARRAY ? kv->elem_type : kv->type;
    uint64_t first = 0;
    for (uint64_t i = 0; i < kv->count; i++) {
        bool negative;
        uint64_t magnitude;
        if (!load_integer(type, kv->data + i * ct_kv_type_bytes(type), &negative, &magnitude))
            return wrong_type(t, key, "a whole number", kv, err);
        if (negative || magnitude > UINT32_MAX)
            return ct_fail(err, CT_EFORMAT, t->path, "'%s': expected 0 to 4294967295 for the key %s, found %s%llu",
                           ct_path_tail(t->path), key, negative ? "-" : "", (unsigned long long)magnitude);
        if (i > 0 && magnitude != first)
            return ct_fail(err, CT_EUNSUPPORTED, t->path,
                           "'%s': expected one value of %s for all layers, found %llu and %llu", ct_path_tail(t->path),
                           key, (unsigned long long)first, (unsigned long long)magnitude);
        first = magnitude;
    }
    if (kv->count == 0)
        return wrong_type(t, key, "a whole number", kv, err);
    *v = (uint32_t)first;
    return CT_OK;
}

ct_status ct_kv_f64(const ct_tensors *t, const char *key, double *v, ct_error *err)
{
    const ct_kv_pair *kv = ct_tensors_kv(t, key);
    if (kv == NULL || load_real(kv->type, kv->data, v))
        return CT_OK;
    return wrong_type(t, key, "a number", kv, err);
}

ct_status ct_kv_bool(const ct_tensors *t, const char *key, bool *v, ct_error *err)
{
    const ct_kv_pair *kv = ct_tensors_kv(t, key);
    if (kv == NULL)
        return CT_OK;
    if (kv->type != CT_KV_BOOL)
        return wrong_type(t, key, "true or false", kv, err);
    *v = kv->data[0] != 0;
    return CT_OK;
}

ct_status ct_kv_string(const ct_tensors *t, const char *key, ct_str *v, ct_error *err)
{
    const ct_kv_pair *kv = ct_tensors_kv(t, key);
    if (kv == NULL)
        return CT_OK;
    if (kv->type != CT_KV_STRING)
        return wrong_type(t, key, "a string", kv, err);
    *v = ct_kv_str(kv, 0);
    return CT_OK;
}

/* ---- words --------------------------------------------------------------------------------------------------------- */

const char *ct_quote(char out[CT_QUOTE], ct_str s)
{
    size_t n = s.len < 40 ? s.len : 40;
    for (size_t i = 0; i < n; i++)
        out[i] = s.data[i] >= 0x20 && s.data[i] < 0x7f ? s.data[i] : '?';
    memcpy(out + n, s.len > 40 ? "..." : "", s.len > 40 ? 4 : 1);
    return out;
}

const char *ct_path_tail(const char *path)
{
    size_t n = strlen(path);
    return n > 80 ? path + n - 80 : path;
}
