/* What tests of model/ and engine/ share: the tiny model on a backend, and plain checks of a status. */
#ifndef CARAT_TESTS_MODEL_FIXTURE_H
#define CARAT_TESTS_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/batch.h"
#include "engine/session.h"
#include "formats/tensors.h"
#include "glass.h"
#include "model/model.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"

static inline void expect_ok(ct_status st, const ct_error *err)
{
    if (st != CT_OK)
        fail_msg("%s: %s", ct_status_name(st), err->text);
}

/* The status, and a word that its sentence or place must have. */
static inline void expect_fail(ct_status st, ct_status want, const ct_error *err, const char *word)
{
    if (st != want)
        fail_msg("expected %s, found %s: %s", ct_status_name(want), ct_status_name(st), st ? err->text : "");
    if (strstr(err->text, word) == NULL && strstr(err->where, word) == NULL)
        fail_msg("expected '%s' in: %s (at '%s')", word, err->text, err->where);
}

typedef struct loaded {
    ct_tensors *tensors;
    ct_pool *pool;
    ct_gemma gemma;
} loaded;

static inline ct_status load_model(loaded *m, const char *path, const char *backend, int32_t threads, ct_error *err)
{
    bool needs;
    *m = (loaded){0};
    ct_status st = ct_tensors_open(&m->tensors, path, err);
    if (st == CT_OK)
        st = ct_pool_create(&m->pool, threads, err);
    if (st == CT_OK)
        st = ct_gemma_load(&m->gemma, m->tensors,
                           strcmp(backend, "glass") == 0 ? glass_backend() : ct_backend_get(backend), NULL, m->pool,
                           &needs, err);
    if (st == CT_OK && !needs) { /* then it must not be needed */
        ct_tensors_close(m->tensors);
        m->tensors = NULL;
    }
    return st;
}

static inline void unload_model(loaded *m)
{
    ct_gemma_free(&m->gemma);
    ct_pool_free(m->pool);
    ct_tensors_close(m->tensors);
}

static inline void load_tiny(loaded *m, const char *backend, int32_t threads)
{
    ct_error err;
    expect_ok(load_model(m, TINY, backend, threads, &err), &err);
}

static const char *const backends[] = {"ref", "cpu", "glass"}; /* the last: a device, see glass.h */
enum { N_HOST_BACKENDS = 2, N_BACKENDS = 3 };

/* Ids that look like a text: no two sequences of different seeds share many. */
static inline void make_ids(int32_t *ids, int32_t n, uint32_t seed, int32_t vocab)
{
    ids[0] = 2;
    for (int32_t i = 1; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)((seed >> 8) % (uint32_t)vocab);
    }
}

static inline ct_session *open_session(const loaded *m, int32_t context, int32_t chunk, int32_t max_out, bool exact)
{
    ct_error err;
    ct_session *s;
    ct_session_options opt = {
        .context = context, .chunk = chunk, .max_out = max_out, .exact = exact, .type_k = -1, .type_v = -1};
    expect_ok(ct_session_create(&s, &m->gemma, m->pool, &opt, &err), &err);
    return s;
}

/* Bytes of a whole file, and one damaged copy of it. */
static inline uint8_t *read_all(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(*n);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *n, f), *n);
    fclose(f);
    return data;
}

#endif
