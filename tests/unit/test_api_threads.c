/* One model, many threads: sessions of their own, text, saving, opening and closing, all at once, give what each gives alone.
 * Its worth is in the thread sanitizer's build. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "carat.h"
#include "carat_jobs.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"

enum { THREADS = 5, TOKENS = 20 };

struct life {
    carat_model *shared;
    int number;
    carat_token tokens[TOKENS + 2]; /* what it chose */
    size_t n_text;
    double ppl;
    char file[96];
    const char *failed; /* the step, or NULL */
    carat_error err;
};

#define DO(call)                  \
    do {                          \
        if ((call) != CARAT_OK) { \
            k->failed = #call;    \
            goto done;            \
        }                         \
    } while (0)

static void *live(void *arg)
{
    struct life *k = arg;
    carat_model *own = NULL;
    carat_session *s = NULL, *copy = NULL;
    carat_error *e = &k->err;
    char prompt[64], text[4096];
    carat_token ids[64];
    carat_session_options o = carat_session_options_default();
    carat_sampling how = carat_sampling_default(k->shared);
    carat_model_options mo = carat_model_options_default();
    carat_eval_options eo = carat_eval_options_default();
    carat_perplexity p;
    mo.threads = 1 + k->number % 2;
    eo.context = 32;
    eo.chunks = 1;
    o.context = 256;
    o.kv = k->number % 2 ? "q8" : NULL;
    how.seed = (uint64_t)k->number;
    snprintf(prompt, sizeof prompt, "Thread number %d says", k->number);
    DO(carat_tokenize(k->shared, prompt, SIZE_MAX, true, false, ids, 64, &k->n_text, e));
    DO(carat_session_create(&s, k->shared, &o, e));
    DO(carat_session_prompt(s, prompt, SIZE_MAX, CARAT_RAW, NULL, e));
    for (int i = 0; i < TOKENS; i++) {
        DO(carat_session_next(s, &how, &k->tokens[i], e));
        carat_session_text(s, k->tokens[i], text, sizeof text);
    }
    DO(carat_session_save(s, k->file, e));
    DO(carat_model_open(&own, TINY, &mo, e)); /* and everything that is made once for the process */
    DO(carat_session_create(&copy, own, &o, e));
    DO(carat_session_load(copy, k->file, e));
    DO(carat_session_next(copy, &how, &k->tokens[TOKENS], e));
    DO(carat_session_next(s, &how, &k->tokens[TOKENS + 1], e));
    DO(carat_eval_perplexity(k->shared, carat_bench_quality_text(NULL), 1500, &eo, NULL, &p, e));
    k->ppl = p.ppl;
done:
    carat_session_free(copy);
    carat_model_close(own);
    carat_session_free(s);
    unlink(k->file);
    return NULL;
}

static void expect_lived(const struct life *k)
{
    if (k->failed)
        fail_msg("thread %d: %s: %s", k->number, k->failed, k->err.text);
    assert_int_equal(k->tokens[TOKENS], k->tokens[TOKENS + 1]);
}

static void all_at_once(void **state)
{
    (void)state;
    carat_model *m = NULL;
    carat_error err;
    carat_model_options o = carat_model_options_default();
    struct life alone[THREADS] = {{0}}, together[THREADS] = {{0}};
    pthread_t threads[THREADS];
    o.threads = 2;
    if (carat_model_open(&m, TINY, &o, &err) != CARAT_OK)
        fail_msg("%s", err.text);
    for (int i = 0; i < THREADS; i++) {
        alone[i].shared = m;
        alone[i].number = i;
        snprintf(alone[i].file, sizeof alone[i].file, "/tmp/carat-threads-%ld-%d", (long)getpid(), i);
        together[i] = alone[i];
        live(&alone[i]);
        expect_lived(&alone[i]);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, live, &together[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        expect_lived(&together[i]);
        assert_memory_equal(alone[i].tokens, together[i].tokens, sizeof alone[i].tokens);
        assert_true(alone[i].ppl == together[i].ppl);
    }
    carat_model_close(m);
}

struct pair {
    carat_model *a, *b;
    carat_kl kl;
    carat_status st;
};

static void *compare(void *arg)
{
    struct pair *p = arg;
    carat_eval_options o = carat_eval_options_default();
    o.context = 32;
    o.chunks = 1;
    for (int i = 0; i < 5; i++)
        p->st |= carat_eval_kl(p->a, p->b, carat_bench_quality_text(NULL), 1500, &o, NULL, &p->kl, NULL);
    return NULL;
}

/* Two models compared with each other, both ways round at once: each holds both their turns. */
static void no_deadlock(void **state)
{
    (void)state;
    carat_model *a = NULL, *b = NULL;
    carat_model_options o = carat_model_options_default();
    o.threads = 1;
    assert_int_equal(carat_model_open(&a, TINY, &o, NULL), CARAT_OK);
    assert_int_equal(carat_model_open(&b, TINY, &o, NULL), CARAT_OK);
    struct pair one = {.a = a, .b = b}, other = {.a = b, .b = a};
    pthread_t first, second;
    assert_int_equal(pthread_create(&first, NULL, compare, &one), 0);
    assert_int_equal(pthread_create(&second, NULL, compare, &other), 0);
    pthread_join(first, NULL);
    pthread_join(second, NULL);
    assert_int_equal(one.st | other.st, CARAT_OK);
    assert_true(one.kl.kl_mean == other.kl.kl_mean);
    carat_model_close(a);
    carat_model_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_at_once), cmocka_unit_test(no_deadlock)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
