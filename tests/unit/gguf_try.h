/* What tests of the GGUF reader share: one small sound file with everything in it, and trying to open damaged ones.
 *
 * A file lies in memory with a page behind it that nobody may touch, so that a read beyond its end crashes with any compiler; a
 * refusal must be a sentence and must not have cost more memory than is promised; whatever is accepted is read to its last byte. */
#ifndef CARAT_TESTS_GGUF_TRY_H
#define CARAT_TESTS_GGUF_TRY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/directory.h"
#include "gguf_write.h"

/* The bytes given, ending at a page that may not be touched. One at a time: the next call takes their place. */
static inline const uint8_t *guarded(const void *data, size_t n)
{
    static uint8_t *room, *end;
    static size_t size;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (n > size || room == NULL) {
        if (room)
            munmap(room, size + page);
        size = ct_round_up(n * 2 + 1, page);
        room = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(room != MAP_FAILED);
        end = room + size;
        assert_int_equal(mprotect(end, page, PROT_NONE), 0);
    }
    if (n > 0)
        memmove(end - n, data, n);
    return end - n;
}

/* What a refusal must be, wherever it comes from. */
static inline void assert_sentence(ct_status st, const ct_error *err)
{
    assert_int_equal(err->code, st);
    if (st != CT_ENOMEM && (strstr(err->text, "expected") == NULL || strstr(err->text, "found") == NULL))
        fail_msg("it does not say what was expected and what was found: %s", err->text);
    for (const char *p = err->text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            fail_msg("a control character in: %s", err->text);
}

/* A sound file with every value type, arrays of every element type, and tensors of several types. */
static inline void sample(gguf_writer *w, uint32_t version, uint32_t align)
{
    static const char *const words[] = {"", "one", "\xe2\x96\x81two", "a\nb"};
    static const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8}, truths[3] = {0, 1, 1};
    uint8_t data[256 * 4];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i % 60); /* no NaNs in any type */
    gguf_begin(w, version, align);
    gguf_kv_string(w, "general.architecture", "gemma3");
    gguf_kv_u8(w, "u8", 200);
    gguf_kv_i8(w, "i8", -100);
    gguf_kv_u16(w, "u16", 60000);
    gguf_kv_i16(w, "i16", -30000);
    gguf_kv_u32(w, "u32", 4000000000u);
    gguf_kv_i32(w, "i32", -2000000000);
    gguf_kv_f32(w, "f32", 1.5f);
    gguf_kv_bool(w, "bool", 1);
    gguf_kv_string_n(w, "bytes", "a\0b\xff", 4);
    gguf_kv_string(w, "empty", "");
    gguf_kv_u64(w, "u64", UINT64_MAX);
    gguf_kv_i64(w, "i64", INT64_MIN);
    gguf_kv_f64(w, "f64", -2.25);
    gguf_kv_array(w, "array.u8", GGUF_U8, 8, bytes, 8);
    gguf_kv_array(w, "array.u16", GGUF_U16, 4, bytes, 8);
    gguf_kv_array(w, "array.u32", GGUF_U32, 2, "\4\0\0\0\4\0\0\0", 8);
    gguf_kv_array(w, "array.mixed", GGUF_I32, 2, "\4\0\0\0\5\0\0\0", 8);
    gguf_kv_array(w, "array.f32", GGUF_F32, 2, bytes, 8);
    gguf_kv_array(w, "array.u64", GGUF_U64, 1, bytes, 8);
    gguf_kv_array(w, "array.f64", GGUF_F64, 1, bytes, 8);
    gguf_kv_array(w, "array.bool", GGUF_BOOL, 3, truths, 3);
    gguf_kv_array(w, "array.none", GGUF_F32, 0, NULL, 0);
    gguf_kv_strings(w, "array.string", 4, words);
    gguf_tensor(w, "norm.weight", 1, (const uint64_t[]){8}, 0, data, 32);
    gguf_tensor(w, "a.weight", 2, (const uint64_t[]){64, 3}, 2, data, 18 * 2 * 3);
    gguf_tensor(w, "b.weight", 2, (const uint64_t[]){256, 1}, 14, data, 210);
    gguf_tensor(w, "c.weight", 4, (const uint64_t[]){2, 3, 2, 1}, 30, data, 24);
    gguf_end(w);
}

/* Reads every byte that the directory vouches for. */
static inline void use_everything(ct_tensors *t)
{
    volatile size_t sum = 0;
    for (size_t i = 0; i < ct_tensors_kv_count(t); i++) {
        const ct_kv_pair *kv = ct_tensors_kv_at(t, i);
        for (size_t j = 0; j < kv->key.len; j++)
            sum += (uint8_t)kv->key.data[j];
        bool strings = kv->type == CT_KV_STRING || (kv->type == CT_KV_ARRAY && kv->elem_type == CT_KV_STRING);
        for (uint64_t k = 0; strings && k < kv->count; k++) {
            ct_str s = ct_kv_str(kv, k);
            for (size_t j = 0; j < s.len; j++)
                sum += (uint8_t)s.data[j];
        }
        if (!strings) {
            static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
            for (size_t j = 0; j < kv->count * size[kv->type == CT_KV_ARRAY ? kv->elem_type : kv->type]; j++)
                sum += kv->data[j];
        }
    }
    for (size_t i = 0; i < ct_tensors_count(t); i++) {
        const ct_tensor *x = ct_tensors_at(t, i);
        const uint8_t *p = ct_tensor_bytes(t, x);
        size_t row;
        assert_true(x->n_elems == x->ne[0] * x->ne[1] * x->ne[2] * x->ne[3]);
        assert_true(ct_row_bytes(x->dtype, x->ne[0], &row) && row * (x->n_elems / x->ne[0]) == x->bytes);
        for (size_t j = 0; j < x->bytes; j++)
            sum += p[j];
        ct_tensor_forget(t, x);
    }
    (void)sum;
}

/* Opens n bytes as a file. */
static inline ct_status try_open(const void *data, size_t n, ct_error *err)
{
    ct_tensors *t = (ct_tensors *)1;
    const uint8_t *file = guarded(data, n);
    size_t before = ct_mem_live();
    *err = (ct_error){0};
    ct_mem_peak_reset();
    ct_status st = ct_gguf_open_memory(&t, "damaged.gguf", file, n, err);
    assert_true(ct_mem_peak() - before <= n + CT_DIRECTORY_BYTES);
    if (st == CT_OK) {
        use_everything(t);
        ct_tensors_close(t);
    } else {
        assert_null(t);
        assert_sentence(st, err);
    }
    assert_int_equal(ct_mem_live(), before);
    return st;
}

static inline void refused(const void *data, size_t n, ct_status expected, const char *words)
{
    ct_error err;
    ct_status st = try_open(data, n, &err);
    if (st != expected || strstr(err.text, words) == NULL)
        fail_msg("expected %s with \"%s\", found %s: %s", ct_status_name(expected), words, ct_status_name(st),
                 err.text);
}

/* The same of what a writer was told, which is over with it. */
static inline void refused_file(gguf_writer *w, ct_status expected, const char *words)
{
    if (w->file.n == 0)
        gguf_end(w);
    refused(w->file.data, w->file.n, expected, words);
    gguf_free(w);
}

static inline ct_status try_file(gguf_writer *w)
{
    ct_error err;
    if (w->file.n == 0)
        gguf_end(w);
    ct_status st = try_open(w->file.data, w->file.n, &err);
    gguf_free(w);
    return st;
}

#endif
