/* A small GGUF writer for tests: a file is put together in memory, saved, and may be damaged on purpose in between.
 *
 *     gguf_writer w;
 *     gguf_begin(&w, 3, 32);                       version, alignment (written as a key when it is not 32)
 *     gguf_kv_string(&w, "general.architecture", "gemma3");
 *     gguf_tensor(&w, "output_norm.weight", 1, (const uint64_t[]){8}, 0, data, 32);
 *     gguf_end(&w);                                w.file.data[0 .. w.file.n) is the file
 *     gguf_save(&w, path);
 *     gguf_free(&w);
 *
 * It writes what it is told, lies included. Little-endian machines only. Test code: it aborts when memory is short. */
#ifndef CARAT_TESTS_GGUF_WRITE_H
#define CARAT_TESTS_GGUF_WRITE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GGUF_U8 = 0,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
};

typedef struct gguf_bytes {
    uint8_t *data;
    size_t n, room;
} gguf_bytes;

typedef struct gguf_writer {
    uint32_t version, align;
    uint64_t n_kv, n_tensors;
    gguf_bytes kv, infos, data, file;
} gguf_writer;

static inline void gguf_put(gguf_bytes *b, const void *src, size_t n)
{
    if (n == 0)
        return;
    if (b->room - b->n < n) {
        b->room = (b->n + n) * 2;
        b->data = realloc(b->data, b->room);
        if (b->data == NULL)
            abort();
    }
    memcpy(b->data + b->n, src, n);
    b->n += n;
}

static inline void gguf_put_u32(gguf_bytes *b, uint32_t v) { gguf_put(b, &v, 4); }
static inline void gguf_put_u64(gguf_bytes *b, uint64_t v) { gguf_put(b, &v, 8); }

static inline void gguf_put_str(gguf_bytes *b, const void *s, size_t n)
{
    gguf_put_u64(b, n);
    gguf_put(b, s, n);
}

static inline void gguf_pad(gguf_bytes *b, size_t align)
{
    while (align > 1 && b->n % align != 0)
        gguf_put(b, "", 1);
}

/* A key with a scalar value of any type, given as its bytes. */
static inline void gguf_kv(gguf_writer *w, const char *key, uint32_t type, const void *value, size_t bytes)
{
    gguf_put_str(&w->kv, key, strlen(key));
    gguf_put_u32(&w->kv, type);
    gguf_put(&w->kv, value, bytes);
    w->n_kv++;
}

static inline void gguf_kv_u8(gguf_writer *w, const char *key, uint8_t v) { gguf_kv(w, key, GGUF_U8, &v, 1); }
static inline void gguf_kv_i8(gguf_writer *w, const char *key, int8_t v) { gguf_kv(w, key, GGUF_I8, &v, 1); }
static inline void gguf_kv_u16(gguf_writer *w, const char *key, uint16_t v) { gguf_kv(w, key, GGUF_U16, &v, 2); }
static inline void gguf_kv_i16(gguf_writer *w, const char *key, int16_t v) { gguf_kv(w, key, GGUF_I16, &v, 2); }
static inline void gguf_kv_u32(gguf_writer *w, const char *key, uint32_t v) { gguf_kv(w, key, GGUF_U32, &v, 4); }
static inline void gguf_kv_i32(gguf_writer *w, const char *key, int32_t v) { gguf_kv(w, key, GGUF_I32, &v, 4); }
static inline void gguf_kv_f32(gguf_writer *w, const char *key, float v) { gguf_kv(w, key, GGUF_F32, &v, 4); }
static inline void gguf_kv_bool(gguf_writer *w, const char *key, uint8_t v) { gguf_kv(w, key, GGUF_BOOL, &v, 1); }
static inline void gguf_kv_u64(gguf_writer *w, const char *key, uint64_t v) { gguf_kv(w, key, GGUF_U64, &v, 8); }
static inline void gguf_kv_i64(gguf_writer *w, const char *key, int64_t v) { gguf_kv(w, key, GGUF_I64, &v, 8); }
static inline void gguf_kv_f64(gguf_writer *w, const char *key, double v) { gguf_kv(w, key, GGUF_F64, &v, 8); }

static inline void gguf_kv_string_n(gguf_writer *w, const char *key, const void *s, size_t n)
{
    gguf_kv(w, key, GGUF_STRING, NULL, 0);
    gguf_put_str(&w->kv, s, n);
}

static inline void gguf_kv_string(gguf_writer *w, const char *key, const char *s)
{
    gguf_kv_string_n(w, key, s, strlen(s));
}

/* An array of count scalars of elem_type; bytes is their total size. */
static inline void gguf_kv_array(gguf_writer *w, const char *key, uint32_t elem_type, uint64_t count, const void *data,
                                 size_t bytes)
{
    gguf_kv(w, key, GGUF_ARRAY, NULL, 0);
    gguf_put_u32(&w->kv, elem_type);
    gguf_put_u64(&w->kv, count);
    gguf_put(&w->kv, data, bytes);
}

static inline void gguf_kv_strings(gguf_writer *w, const char *key, uint64_t count, const char *const *s)
{
    gguf_kv_array(w, key, GGUF_STRING, count, NULL, 0);
    for (uint64_t i = 0; i < count; i++)
        gguf_put_str(&w->kv, s[i], strlen(s[i]));
}

/* A tensor's info with an offset of the caller's choice; its bytes, if any, are the caller's to place. */
static inline void gguf_tensor_info(gguf_writer *w, const char *name, uint32_t n_dims, const uint64_t *ne,
                                    uint32_t type, uint64_t offset)
{
    gguf_put_str(&w->infos, name, strlen(name));
    gguf_put_u32(&w->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        gguf_put_u64(&w->infos, ne[i]);
    gguf_put_u32(&w->infos, type);
    gguf_put_u64(&w->infos, offset);
    w->n_tensors++;
}

/* A tensor with its bytes behind those that came before. ne[0] is the contiguous dimension. */
static inline void gguf_tensor(gguf_writer *w, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type,
                               const void *data, size_t bytes)
{
    gguf_pad(&w->data, w->align);
    gguf_tensor_info(w, name, n_dims, ne, type, w->data.n);
    gguf_put(&w->data, data, bytes);
}

static inline void gguf_begin(gguf_writer *w, uint32_t version, uint32_t align)
{
    *w = (gguf_writer){.version = version, .align = align};
    if (align != 32)
        gguf_kv_u32(w, "general.alignment", align);
}

static inline void gguf_end(gguf_writer *w)
{
    gguf_put(&w->file, "GGUF", 4);
    gguf_put_u32(&w->file, w->version);
    gguf_put_u64(&w->file, w->n_tensors);
    gguf_put_u64(&w->file, w->n_kv);
    gguf_put(&w->file, w->kv.data, w->kv.n);
    gguf_put(&w->file, w->infos.data, w->infos.n);
    gguf_pad(&w->file, w->align);
    gguf_put(&w->file, w->data.data, w->data.n);
    if (w->n_tensors)
        gguf_pad(&w->file, w->align); /* writers pad behind the last tensor, too */
}

/* Writes the first n bytes of the file: fewer than w->file.n makes a truncated one. 0 when it worked. */
static inline int gguf_save_n(const gguf_writer *w, const char *path, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL)
        return -1;
    size_t done = n ? fwrite(w->file.data, 1, n, f) : 0;
    return fclose(f) == 0 && done == n ? 0 : -1;
}

static inline int gguf_save(const gguf_writer *w, const char *path) { return gguf_save_n(w, path, w->file.n); }

static inline void gguf_free(gguf_writer *w)
{
    free(w->kv.data);
    free(w->infos.data);
    free(w->data.data);
    free(w->file.data);
    *w = (gguf_writer){0};
}

#endif
