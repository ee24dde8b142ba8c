/* carat_batch through the public API: a sequence writes what a session writes, bit for bit, whatever else is in the batch, at any
 * depth, with any number of sequences and threads; failures stay with the sequence that has them; seats are used again. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "carat.h"
#include "carat_batch.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"

enum { CONTEXT = 640, MOST = 64, TEXT = 40, VOCAB = 661 };

static carat_model *open_model(int32_t threads)
{
    carat_error err;
    carat_model *m;
    carat_model_options o = carat_model_options_default();
    o.threads = threads;
    if (carat_model_open(&m, TINY, &o, &err) != CARAT_OK)
        fail_msg("%s", err.text);
    return m;
}

static carat_batch *open_batch(carat_model *m, int32_t sequences, int32_t rows, const char *kv, bool exact)
{
    carat_error err;
    carat_batch *b;
    carat_batch_options o = carat_batch_options_default();
    o.sequences = sequences;
    o.context = CONTEXT;
    o.rows = rows;
    o.kv = kv;
    o.exact = exact;
    if (carat_batch_create(&b, m, &o, &err) != CARAT_OK)
        fail_msg("%s", err.text);
    return b;
}

static void good(carat_status st, const carat_error *err)
{
    if (st != CARAT_OK)
        fail_msg("%s", err->text);
}

static void bad(carat_status st, carat_status want, const carat_error *err, const char *word)
{
    assert_int_equal(st, want);
    assert_int_equal(err->code, want);
    if (strstr(err->text, word) == NULL)
        fail_msg("expected '%s' in: %s", word, err->text);
}

/* A sequence of a test: its prompt, how it samples, when it begins, and what a session says it writes. */
struct tale {
    carat_token prompt[CONTEXT];
    int32_t n, text, begins; /* ids; tokens to write; the step it begins in */
    carat_sampling how;
    carat_logit_bias bias;
    carat_token want[TEXT], got[TEXT];
    double want_p[TEXT], got_p[TEXT];
    int32_t written, seq;
};

static void make_tale(struct tale *t, const carat_model *m, uint32_t number)
{
    static const int32_t lengths[] = {1, 7, 33, 100, 2, 300, 64, 560};
    *t = (struct tale){.n = lengths[number % 8] + (int32_t)number / 8,
                       .text = 5 + (int32_t)(number * 7 % (TEXT - 5)),
                       .begins = (int32_t)(number * 5 % 17),
                       .how = carat_sampling_default(m),
                       .bias = {(carat_token)(number * 31 % VOCAB), -3},
                       .seq = -1};
    uint32_t seed = number;
    t->prompt[0] = 2;
    for (int32_t i = 1; i < t->n; i++) {
        seed = seed * 1664525u + 1013904223u;
        t->prompt[i] = (carat_token)(seed >> 8) % VOCAB;
    }
    t->how.seed = number * 1000 + 1;
    t->how.temperature = number % 4 == 3 ? 0 : 0.5 + 0.25 * (number % 4);
    t->how.top_k = number % 3 == 0 ? 0 : 40;
    t->how.repeat_penalty = number % 5 == 0 ? 1.2 : 1;
    t->how.n_bias = number % 2;
    t->how.bias = &t->bias;
}

static void tell_alone(struct tale *t, carat_session *s)
{
    carat_error err;
    carat_session_reset(s);
    good(carat_session_feed(s, t->prompt, (size_t)t->n, &err), &err);
    for (int32_t i = 0; i < t->text; i++) {
        good(carat_session_next(s, &t->how, &t->want[i], &err), &err);
        t->want_p[i] = carat_session_logprob(s);
    }
}

static void tell_together(struct tale *tales, int32_t n, carat_batch *b)
{
    carat_error err, why[MOST];
    int32_t done = 0;
    for (int32_t step = 0; done < n; step++) {
        carat_batch_item items[MOST];
        struct tale *of[MOST];
        size_t n_items = 0;
        for (int32_t i = 0; i < n; i++) {
            struct tale *t = &tales[i];
            if (t->begins == step) {
                t->written = 0;
                good(carat_batch_add(b, &t->seq, &err), &err);
                good(carat_batch_feed(b, t->seq, t->prompt, (size_t)t->n, &err), &err);
            }
            if (t->seq < 0)
                continue;
            of[n_items] = t;
            items[n_items] = carat_batch_item_default();
            items[n_items].seq = t->seq;
            items[n_items].how = &t->how;
            items[n_items].err = &why[n_items];
            n_items++;
        }
        if (n_items == 0)
            continue;
        good(carat_batch_step(b, items, n_items, &err), &err);
        for (size_t k = 0; k < n_items; k++) {
            struct tale *t = of[k];
            good(items[k].status, &why[k]);
            assert_int_equal(why[k].code, CARAT_OK);
            if (items[k].token < 0)
                continue;
            t->got[t->written] = items[k].token;
            t->got_p[t->written++] = items[k].logprob;
            if (t->written == t->text) {
                assert_int_equal(carat_batch_length(b, t->seq), t->n + t->text);
                carat_batch_remove(b, t->seq);
                t->seq = -1;
                done++;
            }
        }
        assert_true(step < 10000);
    }
}

static void compare(const struct tale *tales, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        assert_memory_equal(tales[i].want, tales[i].got, (size_t)tales[i].text * sizeof(carat_token));
        assert_memory_equal(tales[i].want_p, tales[i].got_p, (size_t)tales[i].text * sizeof(double));
    }
}

static void as_sessions_do(void **state)
{
    (void)state;
    static struct tale tales[MOST];
    static const int32_t threads[] = {2, 1, 3}, sizes[] = {1, 2, 8, 64}, rows[] = {0, 8, 64, 64};
    carat_error err;
    for (int32_t k = 0; k < 3; k++) { /* alone they are told anew for each number of threads, and never change */
        carat_model *m = open_model(threads[k]);
        carat_session *s = NULL;
        carat_session_options o = carat_session_options_default();
        o.context = CONTEXT;
        good(carat_session_create(&s, m, &o, &err), &err);
        for (uint32_t i = 0; i < (k > 0 ? 8 : MOST); i++) {
            struct tale before = tales[i];
            make_tale(&tales[i], m, i);
            tell_alone(&tales[i], s);
            if (k > 0)
                assert_memory_equal(before.want, tales[i].want, sizeof before.want);
        }
        for (int32_t j = 0; j < (k > 0 ? 3 : 4); j++) {
            carat_batch *b = open_batch(m, sizes[j], rows[j], NULL, false);
            tell_together(tales, sizes[j], b);
            compare(tales, sizes[j]);
            carat_batch_free(b);
        }
        carat_session_free(s);
        carat_model_close(m);
    }
}

static void with_every_cache(void **state)
{
    (void)state;
    static struct tale tales[5];
    static const char *const kv[] = {"f32", "f16", "q8", "q8,q4"};
    carat_error err;
    carat_model *m = open_model(2);
    for (int32_t k = 0; k < 4; k++) {
        carat_session *s = NULL;
        carat_session_options o = carat_session_options_default();
        o.context = CONTEXT;
        o.kv = kv[k];
        o.exact = k % 2 == 0;
        carat_batch *b = NULL;
        carat_batch_options bo = carat_batch_options_default();
        bo.sequences = 5;
        bo.context = CONTEXT;
        bo.kv = kv[k];
        bo.exact = o.exact;
        carat_status st = carat_session_create(&s, m, &o, &err);
        assert_int_equal(carat_batch_create(&b, m, &bo, NULL), st); /* heads too small for groups: both refuse */
        for (uint32_t i = 0; i < 5 && st == CARAT_OK; i++) {
            make_tale(&tales[i], m, i + 3);
            tell_alone(&tales[i], s);
        }
        if (st == CARAT_OK) {
            tell_together(tales, 5, b);
            compare(tales, 5);
        }
        carat_batch_free(b);
        carat_session_free(s);
    }
    carat_model_close(m);
}

/* One prompt, read once, answered by four seeds; then the first answer again, from the middle of it. */
static void copied_and_cut(void **state)
{
    (void)state;
    struct tale t;
    carat_error err;
    carat_model *m = open_model(2);
    carat_session *s = NULL;
    good(carat_session_create(&s, m, NULL, &err), &err);
    carat_batch *b = open_batch(m, 4, 32, NULL, false);
    make_tale(&t, m, 5);
    t.text = TEXT;
    int32_t seq[4];
    good(carat_batch_add(b, &seq[0], &err), &err);
    good(carat_batch_feed(b, seq[0], t.prompt, (size_t)t.n, &err), &err);
    assert_int_equal(carat_batch_waiting(b, seq[0]), t.n);
    carat_batch_item item = carat_batch_item_default();
    item.seq = seq[0];
    while (carat_batch_waiting(b, seq[0]) > 1) {
        good(carat_batch_step(b, &item, 1, &err), &err);
        assert_int_equal(item.token, -1);
    }
    good(carat_batch_step(b, &item, 1, &err), &err); /* nothing left to read: no harm */
    assert_int_equal(carat_batch_waiting(b, seq[0]), 1);
    for (int32_t i = 1; i < 4; i++)
        good(carat_batch_copy(b, seq[0], &seq[i], &err), &err);
    int32_t more;
    bad(carat_batch_copy(b, seq[0], &more, &err), CARAT_ECONTEXT, &err, "in use");
    assert_int_equal(more, -1);
    carat_batch_item items[4];
    carat_sampling how[4];
    carat_token got[4][TEXT];
    for (int32_t i = 0; i < 4; i++) {
        how[i] = t.how;
        how[i].seed += (uint64_t)i;
        items[i] = carat_batch_item_default();
        items[i].seq = seq[i];
        items[i].how = &how[i];
    }
    for (int32_t k = 0; k < TEXT; k++) {
        good(carat_batch_step(b, items, 4, &err), &err);
        for (int32_t i = 0; i < 4; i++)
            got[i][k] = items[i].token;
    }
    for (uint64_t i = 0; i < 4; i++) {
        t.how.seed = how[i].seed;
        tell_alone(&t, s);
        assert_memory_equal(t.want, got[i], sizeof t.want);
    }
    carat_token all[CONTEXT];
    assert_int_equal(carat_batch_ids(b, seq[3], NULL, 0), t.n + TEXT);
    assert_int_equal(carat_batch_ids(b, seq[3], all, CONTEXT), t.n + TEXT);
    assert_memory_equal(all, t.prompt, (size_t)t.n * sizeof *all);
    assert_memory_equal(all + t.n, got[3], sizeof got[3]);
    good(carat_batch_cut(b, seq[3], t.n + 10, &err), &err);
    assert_int_equal(carat_batch_length(b, seq[3]), t.n + 10);
    for (int32_t k = 10; k < TEXT;) {
        good(carat_batch_step(b, &items[3], 1, &err), &err);
        if (items[3].token >= 0)
            assert_int_equal(items[3].token, got[3][k++]);
    }
    bad(carat_batch_cut(b, seq[3], t.n + TEXT + 1, &err), CARAT_EINVAL, &err, "as many as");
    good(carat_batch_cut(b, seq[3], 0, &err), &err); /* as new */
    assert_int_equal(carat_batch_waiting(b, seq[3]), 0);
    good(carat_batch_feed(b, seq[3], t.prompt, (size_t)t.n, &err), &err);
    for (int32_t k = 0; k < TEXT;) {
        good(carat_batch_step(b, &items[3], 1, &err), &err);
        if (items[3].token >= 0)
            assert_int_equal(items[3].token, got[3][k++]);
    }
    carat_batch_free(b);
    carat_session_free(s);
    carat_model_close(m);
}

/* A full context, impossible logits, wrong options, an empty sequence: each says so, and a fifth one goes on undisturbed. */
static void failures_stay_at_home(void **state)
{
    (void)state;
    struct tale t;
    carat_error err, why[5];
    carat_model *m = open_model(2);
    carat_session *s = NULL;
    good(carat_session_create(&s, m, NULL, &err), &err);
    make_tale(&t, m, 3);
    tell_alone(&t, s);
    carat_batch *b = open_batch(m, 5, 0, NULL, false);
    carat_batch_item items[5];
    carat_token ids[CONTEXT];
    for (int32_t i = 0; i < CONTEXT; i++)
        ids[i] = 2 + i % 600;
    for (int32_t i = 0; i < 5; i++) {
        items[i] = carat_batch_item_default();
        items[i].how = &t.how;
        items[i].err = &why[i];
        good(carat_batch_add(b, &items[i].seq, &err), &err);
        size_t n = i == 0 ? CONTEXT - 2 : i == 3 ? 0 : (size_t)t.n;
        if (n > 0)
            good(carat_batch_feed(b, items[i].seq, i == 0 ? ids : t.prompt, n, &err), &err);
    }
    carat_logit_bias *never = malloc(VOCAB * sizeof *never);
    assert_non_null(never);
    for (int32_t i = 0; i < VOCAB; i++)
        never[i] = (carat_logit_bias){i, -1.0f / 0.0f};
    carat_sampling none = t.how, wrong = t.how;
    none.bias = never;
    none.n_bias = VOCAB;
    wrong.temperature = -1;
    items[1].how = &none;
    items[2].how = &wrong;
    int32_t written = 0, of_first = 0, full = 0;
    while (written < t.text) {
        good(carat_batch_step(b, items, 5, &err), &err);
        if (items[4].token >= 0) {
            assert_int_equal(items[4].token, t.want[written]);
            assert_memory_equal(&items[4].logprob, &t.want_p[written++], sizeof(double));
        }
        if (items[0].status == CARAT_OK)
            of_first += items[0].token >= 0;
        else {
            bad(items[0].status, CARAT_ECONTEXT, &why[0], "full");
            full++;
        }
        if (items[1].status != CARAT_OK || carat_batch_waiting(b, items[1].seq) == 1)
            bad(items[1].status, CARAT_ENUMERIC, &why[1], "no token is possible");
        bad(items[2].status, CARAT_EINVAL, &why[2], "temperature");
        bad(items[3].status, CARAT_EINVAL, &why[3], "nothing to continue");
    }
    assert_int_equal(of_first, 3); /* two that fit and, as in a session, one that need not */
    assert_true(full > 0);
    bad(carat_batch_feed(b, items[0].seq, ids, 1, &err), CARAT_ECONTEXT, &err, "do not fit");
    for (int32_t i = 1; i < 3; i++) { /* what failed is as it was: asked properly, it goes on */
        items[i].how = &t.how;
        int32_t k = 0;
        while (k < t.text) {
            good(carat_batch_step(b, &items[i], 1, &err), &err);
            good(items[i].status, &why[i]);
            if (items[i].token >= 0)
                assert_int_equal(items[i].token, t.want[k++]);
        }
    }
    free(never);
    carat_batch_free(b);
    carat_session_free(s);
    carat_model_close(m);
}

/* Prompts as texts, answers as texts: what the session's functions give. */
static void texts(void **state)
{
    (void)state;
    carat_error err;
    carat_model *m = open_model(1);
    carat_session *s = NULL;
    good(carat_session_create(&s, m, NULL, &err), &err);
    carat_batch *b = open_batch(m, 1, 0, NULL, false);
    carat_model_info info;
    carat_model_get_info(m, &info);
    carat_sampling how = carat_sampling_default(m);
    carat_batch_item item = carat_batch_item_default();
    item.how = &how;
    good(carat_batch_add(b, &item.seq, &err), &err);
    char want[4096], got[4096];
    size_t n_want = 0, n_got = 0;
    for (int32_t turn = 0; turn < 2; turn++) {
        carat_prompt_form form = info.has_turns ? CARAT_TURNS : CARAT_RAW;
        good(carat_session_prompt(s, "hello there", SIZE_MAX, form, NULL, &err), &err);
        good(carat_batch_prompt(b, item.seq, "hello there", SIZE_MAX, form, NULL, &err), &err);
        for (int32_t i = 0; i < 20; i++) {
            carat_token token;
            good(carat_session_next(s, &how, &token, &err), &err);
            n_want += carat_session_text(s, token, want + n_want, sizeof want - n_want);
            do
                good(carat_batch_step(b, &item, 1, &err), &err);
            while (item.token < 0); /* in the second turn its own last token is read first */
            assert_int_equal(item.token, token);
            assert_true(item.end == carat_is_end(m, token));
            n_got += carat_batch_text(b, item.seq, item.token, got + n_got, sizeof got - n_got);
        }
    }
    n_want += carat_session_text(s, -1, want + n_want, sizeof want - n_want);
    n_got += carat_batch_text(b, item.seq, -1, got + n_got, sizeof got - n_got);
    assert_true(n_want > 0);
    assert_int_equal(n_want, n_got);
    assert_memory_equal(want, got, n_want);
    bad(carat_batch_prompt(b, item.seq, "", 0, CARAT_RAW, NULL, &err), CARAT_EINVAL, &err, "empty");
    carat_batch_free(b);
    carat_session_free(s);
    carat_model_close(m);
}

static void misuse(void **state)
{
    (void)state;
    carat_error err;
    carat_model *m = open_model(1);
    carat_batch *b = (carat_batch *)(void *)&err;
    carat_token id = 3, wrong = VOCAB + 1000;
    int32_t seq;
    carat_batch_item item[2] = {carat_batch_item_default(), carat_batch_item_default()};
    carat_batch_options o = carat_batch_options_default();
    bad(carat_batch_create(NULL, m, NULL, &err), CARAT_EINVAL, &err, "batch");
    bad(carat_batch_create(&b, NULL, NULL, &err), CARAT_EINVAL, &err, "model");
    assert_null(b);
    o.size = 1;
    bad(carat_batch_create(&b, m, &o, &err), CARAT_EINVAL, &err, "default");
    o = carat_batch_options_default();
    o.sequences = 0;
    bad(carat_batch_create(&b, m, &o, &err), CARAT_EINVAL, &err, "sequences");
    o.sequences = 9;
    o.rows = 8;
    bad(carat_batch_create(&b, m, &o, &err), CARAT_EINVAL, &err, "rows");
    o.rows = 0;
    o.context = -4;
    bad(carat_batch_create(&b, m, &o, &err), CARAT_EINVAL, &err, "context");
    o.context = 64;
    o.kv = "q3";
    bad(carat_batch_create(&b, m, &o, &err), CARAT_EINVAL, &err, "q3");
    o.kv = NULL;
    o.sequences = 2;
    good(carat_batch_create(&b, m, &o, &err), &err);
    assert_int_equal(carat_batch_context(b), 64);
    assert_true(carat_batch_bytes(b) > 64);
    bad(carat_batch_feed(b, 0, &id, 1, &err), CARAT_EINVAL, &err, "in use"); /* not added yet */
    bad(carat_batch_step(b, item, 1, &err), CARAT_EINVAL, &err, "sequence -1");
    good(carat_batch_add(b, &item[0].seq, &err), &err);
    bad(carat_batch_feed(b, item[0].seq, &wrong, 1, &err), CARAT_EINVAL, &err, "vocabulary");
    bad(carat_batch_feed(b, item[0].seq, &id, 0, &err), CARAT_EINVAL, &err, "ids");
    good(carat_batch_feed(b, item[0].seq, &id, 1, &err), &err);
    item[1].seq = item[0].seq;
    bad(carat_batch_step(b, item, 2, &err), CARAT_EINVAL, &err, "another item");
    item[1].seq = 1;
    bad(carat_batch_step(b, item, 2, &err), CARAT_EINVAL, &err, "not in use");
    bad(carat_batch_step(b, item, 3, &err), CARAT_EINVAL, &err, "no more items");
    bad(carat_batch_step(b, NULL, 1, &err), CARAT_EINVAL, &err, "items");
    item[0].size = 0;
    bad(carat_batch_step(b, item, 1, &err), CARAT_EINVAL, &err, "item_default");
    item[0].size = sizeof item[0];
    carat_sampling how = carat_sampling_default(m);
    item[0].how = &how;
    good(carat_batch_step(b, item, 1, &err), &err); /* after all that it works */
    assert_true(item[0].token >= 0);
    good(carat_batch_add(b, &seq, &err), &err);
    bad(carat_batch_add(b, &seq, &err), CARAT_ECONTEXT, &err, "in use");
    assert_int_equal(seq, -1);
    carat_batch_remove(b, 0);
    carat_batch_remove(b, 0);
    carat_batch_remove(b, 77);
    assert_int_equal(carat_batch_length(b, 0), 0);
    good(carat_batch_add(b, &seq, &err), &err);
    assert_int_equal(seq, 0);
    carat_batch_free(b);
    carat_batch_free(NULL);
    carat_batch_remove(NULL, 0);
    assert_int_equal(carat_batch_length(NULL, 0), 0);
    assert_int_equal(carat_batch_waiting(NULL, 0), 0);
    assert_int_equal(carat_batch_ids(NULL, 0, NULL, 0), 0);
    assert_int_equal(carat_batch_context(NULL), 0);
    assert_int_equal(carat_batch_bytes(NULL), 0);
    assert_int_equal(carat_batch_text(NULL, 0, 1, NULL, 0), 0);
    bad(carat_batch_add(NULL, &seq, &err), CARAT_EINVAL, &err, "batch");
    bad(carat_batch_step(NULL, item, 1, &err), CARAT_EINVAL, &err, "batch");
    carat_model_close(m);
}

/* Two batches and a session on one model, each in a thread of its own: they take turns and disturb nobody. */
struct reader {
    carat_model *m;
    struct tale tales[4];
    bool one_by_one;
};

static void *read_on(void *arg)
{
    struct reader *r = arg;
    carat_error err;
    if (r->one_by_one) {
        carat_session *s = NULL;
        if (carat_session_create(&s, r->m, NULL, &err) == CARAT_OK)
            for (int32_t i = 0; i < 4; i++)
                tell_alone(&r->tales[i], s);
        carat_session_free(s);
    } else {
        carat_batch *b = NULL;
        carat_batch_options o = carat_batch_options_default();
        o.context = CONTEXT;
        if (carat_batch_create(&b, r->m, &o, &err) == CARAT_OK)
            tell_together(r->tales, 4, b);
        carat_batch_free(b);
    }
    return NULL;
}

static void threads_take_turns(void **state)
{
    (void)state;
    static struct reader r[3];
    pthread_t thread[3];
    carat_model *m = open_model(2);
    for (int32_t i = 0; i < 3; i++) {
        r[i].m = m;
        r[i].one_by_one = i == 0;
        for (uint32_t k = 0; k < 4; k++)
            make_tale(&r[i].tales[k], m, k);
    }
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, read_on, &r[i]), 0);
    for (int32_t i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    for (int32_t i = 1; i < 3; i++)
        for (int32_t k = 0; k < 4; k++) {
            memcpy(r[i].tales[k].want, r[0].tales[k].want, sizeof r[i].tales[k].want);
            memcpy(r[i].tales[k].want_p, r[0].tales[k].want_p, sizeof r[i].tales[k].want_p);
        }
    compare(r[1].tales, 4);
    compare(r[2].tales, 4);
    carat_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_sessions_do),
        cmocka_unit_test(with_every_cache),
        cmocka_unit_test(copied_and_cut),
        cmocka_unit_test(failures_stay_at_home),
        cmocka_unit_test(texts),
        cmocka_unit_test(misuse),
        cmocka_unit_test(threads_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
