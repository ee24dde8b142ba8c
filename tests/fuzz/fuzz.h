/* What the fuzz targets share. A target is one function that takes any bytes and comes back; libFuzzer calls it (scripts/fuzz),
 * and so does replay.c, a plain main that feeds it files, for every compiler and for ctest.
 *
 * A target checks more than that nothing crashes: MUST says what holds for any input whatsoever, and ends the program when it
 * does not. */
#ifndef CARAT_TESTS_FUZZ_H
#define CARAT_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                   \
    do {                                                                          \
        if (!(x)) {                                                               \
            fprintf(stderr, "%s:%d: expected that %s\n", __FILE__, __LINE__, #x); \
            abort();                                                              \
        }                                                                         \
    } while (0)

/* A refusal is one sentence, fit for a terminal. */
static inline void must_be_a_sentence(ct_status st, const ct_error *err)
{
    MUST(st < 0 && err->code == st);
    MUST(strlen(err->text) > 20);
    for (const char *p = err->text; *p; p++)
        MUST((unsigned char)*p >= 0x20 && *p != 0x7f);
}

/* What the input is taken apart with: at its end everything reads as 0. */
typedef struct feed {
    const uint8_t *data;
    size_t size;
} feed;

static inline uint8_t feed_byte(feed *f)
{
    if (f->size == 0)
        return 0;
    f->size--;
    return *f->data++;
}

static inline void feed_bytes(feed *f, void *out, size_t n)
{
    size_t have = n < f->size ? n : f->size;
    memset(out, 0, n);
    if (have > 0)
        memcpy(out, f->data, have);
    f->data += have;
    f->size -= have;
}

/* Up to n bytes of the input where they lie. */
static inline const uint8_t *feed_span(feed *f, size_t n, size_t *len)
{
    const uint8_t *at = f->data;
    *len = n < f->size ? n : f->size;
    f->data += *len;
    f->size -= *len;
    return at;
}

#endif
