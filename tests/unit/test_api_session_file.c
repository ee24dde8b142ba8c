/* Sessions through the public API: synchronised with new ids, saved and loaded in the middle of a text, and several threads on
 * one model, each with a session of its own, giving what each gives alone. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "carat.h"
#include "engine/session_state.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"

enum { N = 200, TEXT = 30, THREADS = 4 };

static carat_model *open_model(const char *backend, int32_t threads)
{
    carat_error err;
    carat_model *m;
    carat_model_options o = carat_model_options_default();
    o.backend = backend;
    o.threads = threads;
    if (carat_model_open(&m, TINY, &o, &err) != CARAT_OK)
        fail_msg("%s", err.text);
    return m;
}

static carat_session *open_session(carat_model *m, const char *kv)
{
    carat_error err;
    carat_session *s;
    carat_session_options o = carat_session_options_default();
    o.context = 1024;
    o.kv = kv;
    if (carat_session_create(&s, m, &o, &err) != CARAT_OK)
        fail_msg("%s", err.text);
    return s;
}

static void make_ids(carat_token *ids, int32_t n, uint32_t seed)
{
    ids[0] = 2;
    for (int32_t i = 1; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (carat_token)(seed >> 8) % 661;
    }
}

static bool write_text(carat_session *s, const carat_model *m, uint64_t seed, carat_token *ids, int32_t n)
{
    carat_sampling how = carat_sampling_default(m);
    how.seed = seed;
    for (int32_t i = 0; i < n; i++)
        if (carat_session_next(s, &how, &ids[i], NULL) != CARAT_OK)
            return false;
    return true;
}

static void saved_in_the_middle(void **state)
{
    (void)state;
    static const char *const backend[] = {"ref", "cpu"}, *const kv[] = {NULL, "q8", "q8,q4", "f16"};
    char path[64];
    carat_error err;
    snprintf(path, sizeof path, "/tmp/carat-api-session-%d", (int)getpid());
    for (int b = 0; b < 2; b++)
        for (int k = 0; k < 4; k++) {
            carat_model *m = open_model(backend[b], 2), *other = open_model(backend[b], 1);
            carat_session *s = open_session(m, kv[k]), *t = open_session(other, kv[k]);
            carat_token ids[N], whole[TEXT * 2], rest[TEXT], all[N + TEXT];
            make_ids(ids, N, 4);
            assert_int_equal(carat_session_save(s, path, &err), CARAT_EINVAL); /* nothing there */
            assert_int_equal(carat_session_feed(s, ids, N, &err), CARAT_OK);
            assert_true(write_text(s, m, 7, whole, TEXT));
            assert_int_equal(carat_session_save(s, path, &err), CARAT_OK);
            assert_true(write_text(s, m, 7, whole + TEXT, TEXT));
            if (carat_session_load(t, path, &err) != CARAT_OK)
                fail_msg("%s", err.text);
            assert_int_equal(carat_session_length(t), N + TEXT);
            assert_int_equal(carat_session_ids(t, all, N + TEXT), N + TEXT);
            assert_memory_equal(all, ids, sizeof ids);
            assert_memory_equal(all + N, whole, TEXT * sizeof *whole);
            assert_true(write_text(t, other, 7, rest, TEXT));
            assert_memory_equal(rest, whole + TEXT, sizeof rest);
            carat_session_free(s);
            carat_session_free(t);
            carat_model_close(m);
            carat_model_close(other);
        }
    assert_int_equal(carat_session_save(NULL, path, &err), CARAT_EINVAL);
    remove(path);
}

/* A saved session says how many bytes of an unfinished character it holds. One that says more than there can be, under a right
 * checksum, must not have the decoder write behind its buffer. */
static void says_that_it_holds_more_text(void **state)
{
    (void)state;
    static const int32_t held[] = {0, 3, 4, 7, 8, 9, 100, INT32_MAX, -1, INT32_MIN};
    enum { AT = 112 }; /* docs/FORMATS.md: the note, and in it the decoder's count */
    char path[64];
    carat_error err;
    snprintf(path, sizeof path, "/tmp/carat-api-held-%d", (int)getpid());
    carat_model *m = open_model("cpu", 1);
    carat_session *s = open_session(m, NULL);
    carat_token ids[8];
    make_ids(ids, 8, 4);
    assert_int_equal(carat_session_feed(s, ids, 8, &err), CARAT_OK);
    assert_int_equal(carat_session_save(s, path, &err), CARAT_OK);
    char *data;
    size_t n;
    assert_int_equal(ct_file_read(&data, &n, path, NULL), CT_OK);
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
        char text[4096];
        memset(data + AT - 8, 'x', 8);
        memcpy(data + AT, &held[i], 4);
        uint64_t sum = ct_session_sum(data, n - 8);
        memcpy(data + n - 8, &sum, 8);
        assert_int_equal(ct_file_write(path, data, n, NULL), CT_OK);
        assert_int_equal(carat_session_load(s, path, &err), CARAT_OK);
        size_t len = carat_session_text(s, 400, text, sizeof text);
        carat_session_reset(s);
        char alone[4096];
        size_t plain = carat_session_text(s, 400, alone, sizeof alone);
        size_t more = held[i] == 3 ? 3 : 0; /* that many there can be */
        assert_int_equal(len, plain + more);
        assert_memory_equal(text + more, alone, plain);
    }
    ct_free(data);
    remove(path);
    carat_session_free(s);
    carat_model_close(m);
}

static void synchronised(void **state)
{
    (void)state;
    carat_error err;
    carat_model *m = open_model("cpu", 2);
    carat_session *s = open_session(m, NULL), *fresh = open_session(m, NULL);
    carat_token a[900], text[TEXT], want[TEXT], wrong[] = {2, 661};
    make_ids(a, 900, 11);
    assert_int_equal(carat_session_sync(s, a, 800, &err), CARAT_OK);
    assert_true(write_text(s, m, 1, text, TEXT)); /* a token is pending: not one of the next ids */
    assert_int_equal(carat_session_sync(s, wrong, 2, &err), CARAT_EINVAL);
    assert_int_equal(carat_session_length(s), 800 + TEXT);
    for (int i = 0; i < 4; i++) {
        static const int32_t cut[] = {790, 600, 100, 20};
        a[cut[i]] = (a[cut[i]] + 1) % 661;
        assert_int_equal(carat_session_sync(s, a, (size_t)cut[i] + 5, &err), CARAT_OK);
        assert_int_equal(carat_session_sync(s, a, (size_t)cut[i] + 5, &err), CARAT_OK); /* no change */
        assert_true(write_text(s, m, 3, text, TEXT));
        carat_session_reset(fresh);
        assert_int_equal(carat_session_feed(fresh, a, (size_t)cut[i] + 5, &err), CARAT_OK);
        assert_true(write_text(fresh, m, 3, want, TEXT));
        assert_memory_equal(text, want, sizeof want);
    }
    carat_session_free(s);
    carat_session_free(fresh);
    carat_model_close(m);
}

struct talk {
    carat_model *m;
    uint32_t number;
    carat_token text[TEXT];
    bool good;
};

static void *talk(void *arg)
{
    struct talk *t = arg;
    carat_token ids[64];
    carat_session *s = NULL;
    make_ids(ids, 64, t->number);
    t->good = carat_session_create(&s, t->m, NULL, NULL) == CARAT_OK &&
              carat_session_feed(s, ids, 20 + t->number * 10, NULL) == CARAT_OK &&
              write_text(s, t->m, t->number, t->text, TEXT);
    carat_session_free(s);
    return NULL;
}

static void threads_share_a_model(void **state)
{
    (void)state;
    carat_model *m = open_model("cpu", 2);
    struct talk alone[THREADS], together[THREADS];
    pthread_t thread[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        alone[i] = together[i] = (struct talk){.m = m, .number = i};
        talk(&alone[i]);
        assert_true(alone[i].good);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, talk, &together[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_true(together[i].good);
        assert_memory_equal(alone[i].text, together[i].text, sizeof alone[i].text);
    }
    carat_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_in_the_middle),
        cmocka_unit_test(says_that_it_holds_more_text),
        cmocka_unit_test(synchronised),
        cmocka_unit_test(threads_share_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
