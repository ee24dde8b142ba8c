/* Sessions and batches on the tiny model: however a text is cut into chunks, whatever else is in the batch and however many
 * threads there are, the same bits; and everything that a caller may do wrong. */
#include "model_fixture.h"

#include <math.h>
#include <unistd.h>

#include "base/system.h"

enum { W = 16, MAX = 400 }; /* the fixture's window; MAX turns the ring of a small chunk more than twice */

struct rows {
    float *data; /* [MAX][vocab] */
    int32_t vocab, n;
};

static ct_status collect(void *arg, int32_t pos, const float *logits)
{
    struct rows *r = arg;
    assert_int_equal(pos, r->n);
    memcpy(r->data + (size_t)r->n++ * (size_t)r->vocab, logits, (size_t)r->vocab * sizeof(float));
    return CT_OK;
}

static struct rows new_rows(const loaded *m)
{
    struct rows r = {.vocab = m->gemma.cfg.vocab};
    r.data = calloc((size_t)MAX * (size_t)r.vocab, sizeof(float));
    assert_non_null(r.data);
    return r;
}

static void feed_all(const loaded *m, struct rows *r, const int32_t *ids, int32_t n, int32_t chunk, bool decode,
                     bool exact)
{
    ct_error err;
    ct_session *s = open_session(m, 512, chunk, 8, exact);
    r->n = 0;
    expect_ok(ct_session_feed(s, ids, (size_t)n, decode, collect, r, NULL, &err), &err);
    assert_int_equal(r->n, n);
    assert_memory_equal(ct_session_logits(s), r->data + (size_t)(n - 1) * (size_t)r->vocab, (size_t)r->vocab * 4);
    ct_session_free(s);
}

/* Of all positions, with the arithmetic of prompts and the exact one. A row's bits depend on its role alone. */
static void chunks_change_nothing(void **state)
{
    (void)state;
    static const int32_t lengths[] = {W - 1, W, W + 1, 2 * W, 3 * W + 5, 300}, chunks[] = {1, 3, 16, 64};
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        loaded m;
        load_tiny(&m, backends[b], 2);
        struct rows whole = new_rows(&m), part = new_rows(&m);
        int32_t ids[MAX];
        make_ids(ids, MAX, 7, m.gemma.cfg.vocab);
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++)
            for (int32_t exact = 0; exact < (b == 1 ? 2 : 1); exact++) { /* only cpu has two paths */
                int32_t n = lengths[l];
                feed_all(&m, &whole, ids, n, 512, false, exact);
                for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
                    feed_all(&m, &part, ids, n, chunks[c], false, exact);
                    if (memcmp(whole.data, part.data, (size_t)n * (size_t)whole.vocab * 4) != 0)
                        fail_msg("%s: %d rows in chunks of %d differ from one chunk", backends[b], n, chunks[c]);
                }
            }
        free(whole.data);
        free(part.data);
        unload_model(&m);
    }
}

/* Token by token: on ref the same bits; elsewhere decode rows are the exact path, as exact prompt rows are. */
static void decoding_equals_prefill(void **state)
{
    (void)state;
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        loaded m;
        load_tiny(&m, backends[b], 2);
        struct rows prompt = new_rows(&m), decode = new_rows(&m);
        int32_t ids[MAX], n = 300;
        make_ids(ids, MAX, 11, m.gemma.cfg.vocab);
        feed_all(&m, &prompt, ids, n, 64, false, true);
        feed_all(&m, &decode, ids, n, 64, true, true);
        size_t count = (size_t)n * (size_t)prompt.vocab;
        if (b != 1)
            assert_memory_equal(prompt.data, decode.data, count * 4);
        double worst = 0;
        for (size_t i = 0; i < count; i++)
            worst = fmax(worst, fabs((double)prompt.data[i] - (double)decode.data[i]));
        if (worst > 0.05) /* bf16 against two planes of int8; a wrong key moves logits by several units */
            fail_msg("%s: decode rows differ from exact prompt rows by %g", backends[b], worst);
        free(prompt.data);
        free(decode.data);
        unload_model(&m);
    }
}

/* Only the wanted rows go through the last layer; it must not matter which are wanted. */
static void unwanted_rows_change_nothing(void **state)
{
    (void)state;
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        loaded m;
        ct_error err;
        load_tiny(&m, backends[b], 2);
        struct rows all = new_rows(&m);
        int32_t ids[MAX], n = 90;
        make_ids(ids, MAX, 3, m.gemma.cfg.vocab);
        feed_all(&m, &all, ids, n, 32, false, false);
        ct_session *s = open_session(&m, 512, 32, 1, false);
        expect_ok(ct_session_feed(s, ids, (size_t)n, false, NULL, NULL, NULL, &err), &err);
        assert_memory_equal(ct_session_logits(s), all.data + (size_t)(n - 1) * (size_t)all.vocab,
                            (size_t)all.vocab * 4);
        ct_session_free(s);
        free(all.data);
        unload_model(&m);
    }
}

/* Four sequences: two read prompts while two decode, at depths on both sides of the window and of the ring's turn. */
static void neighbours_change_nothing(void **state)
{
    (void)state;
    enum { S = 4, STEPS = 12, CHUNK = 24 };
    static const int32_t depth[S] = {5, 40, 200, 17}, per_step[S] = {7, 24, 1, 1};
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        loaded m;
        ct_error err;
        load_tiny(&m, backends[b], 2);
        int32_t vocab = m.gemma.cfg.vocab, ids[S][MAX];
        size_t bytes = (size_t)vocab * 4;
        float *alone[S];
        ct_batch *one, *many;
        ct_batch_options opt = {
            .sequences = 1, .context = 512, .chunk = CHUNK, .max_rows = 64, .type_k = -1, .type_v = -1};
        for (int32_t s = 0; s < S; s++) { /* each alone */
            make_ids(ids[s], MAX, 100 + (uint32_t)s, vocab);
            alone[s] = malloc(bytes * STEPS);
            expect_ok(ct_batch_create(&one, &m.gemma, m.pool, &opt, &err), &err);
            ct_batch_row row[CHUNK];
            int32_t at = 0;
            for (int32_t i = -1000; i < STEPS;) {
                int32_t n = per_step[s];
                if (at < depth[s])
                    n = depth[s] - at < CHUNK ? depth[s] - at : CHUNK;
                else
                    i = i < 0 ? 0 : i + 1;
                if (i == STEPS)
                    break;
                for (int32_t j = 0; j < n; j++)
                    row[j] = (ct_batch_row){.token = ids[s][at + j], .decode = i >= 0 && n == 1, .want = j == n - 1};
                expect_ok(ct_batch_step(one, row, n, NULL, NULL, &err), &err);
                at += n;
                if (i >= 0)
                    memcpy((char *)alone[s] + bytes * (size_t)i, ct_batch_logits(one, 0), bytes);
            }
            ct_batch_free(one);
        }
        opt.sequences = S;
        expect_ok(ct_batch_create(&many, &m.gemma, m.pool, &opt, &err), &err);
        for (int32_t s = 0; s < S; s++) {
            ct_batch_row row[CHUNK];
            for (int32_t at = 0; at < depth[s];) {
                int32_t n = depth[s] - at < CHUNK ? depth[s] - at : CHUNK;
                for (int32_t j = 0; j < n; j++)
                    row[j] = (ct_batch_row){.seq = s, .token = ids[s][at + j]};
                expect_ok(ct_batch_step(many, row, n, NULL, NULL, &err), &err);
                at += n;
            }
            assert_null(ct_batch_logits(many, 0));
        }
        static const int32_t order[S] = {1, 0, 3, 2};
        for (int32_t i = 0; i < STEPS; i++) {
            ct_batch_row row[64];
            int32_t n = 0;
            for (int32_t o = 0; o < S; o++)
                for (int32_t s = order[o], j = 0; j < per_step[s]; j++)
                    row[n++] = (ct_batch_row){.seq = s,
                                              .token = ids[s][ct_batch_length(many, s) + j],
                                              .decode = per_step[s] == 1,
                                              .want = j == per_step[s] - 1};
            expect_ok(ct_batch_step(many, row, n, NULL, NULL, &err), &err);
            for (int32_t o = 0; o < S; o++)
                if (memcmp(ct_batch_logits(many, o), (char *)alone[order[o]] + bytes * (size_t)i, bytes) != 0)
                    fail_msg("%s: sequence %d differs from itself alone in step %d", backends[b], order[o], i);
        }
        for (int32_t s = 0; s < S; s++)
            free(alone[s]);
        ct_batch_free(many);
        unload_model(&m);
    }
}

static void batch_refuses_rows(void **state)
{
    (void)state;
    loaded m;
    ct_error err;
    ct_batch *b;
    load_tiny(&m, "ref", 1);
    ct_batch_options opt = {.sequences = 2, .context = 8, .chunk = 4, .type_k = -1, .type_v = -1};
    expect_ok(ct_batch_create(&b, &m.gemma, m.pool, &opt, &err), &err);
    const struct {
        ct_batch_row row[5];
        int32_t n;
        ct_status want;
        const char *word;
    } bad[] = {
        {{{0}}, 0, CT_EINVAL, "1 to 4"},
        {{{0}}, 5, CT_EINVAL, "1 to 4"},
        {{{.seq = 2}}, 1, CT_EINVAL, "sequence"},
        {{{.seq = -1}}, 1, CT_EINVAL, "sequence"},
        {{{.token = -1}}, 1, CT_EINVAL, "-1"},
        {{{.token = 661}}, 1, CT_EINVAL, "0 to 660"},
        {{{.decode = true}, {.seq = 1}}, 2, CT_EINVAL, "behind a decode row"},
        {{{.seq = 0}, {.seq = 1}, {.seq = 0}}, 3, CT_EINVAL, "together"},
        {{{.seq = 0}, {.seq = 0, .decode = true}}, 2, CT_EINVAL, "one role"},
        {{{.want = true}, {.want = true}, {.want = true}}, 3, CT_EINVAL, "at most 2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_fail(ct_batch_step(b, bad[i].row, bad[i].n, NULL, NULL, &err), bad[i].want, &err, bad[i].word);
    ct_batch_row four[4] = {{0}};
    expect_ok(ct_batch_step(b, four, 4, NULL, NULL, &err), &err);
    expect_ok(ct_batch_step(b, four, 3, NULL, NULL, &err), &err);
    expect_fail(ct_batch_step(b, four, 2, NULL, NULL, &err), CT_ECONTEXT, &err, "8 positions");
    assert_int_equal(ct_batch_length(b, 0), 7); /* a refused step changes nothing */
    expect_ok(ct_batch_step(b, four, 1, NULL, NULL, &err), &err);
    ct_batch_free(b);

    ct_batch_options wrong[] = {opt, opt, opt, opt};
    wrong[0].sequences = 0;
    wrong[1].context = -5;
    wrong[2].chunk = 0;
    wrong[3].type_k = CT_Q6_K;
    for (int32_t i = 0; i < 4; i++) {
        assert_int_not_equal(ct_batch_create(&b, &m.gemma, m.pool, &wrong[i], &err), CT_OK);
        assert_null(b);
    }
    unload_model(&m);
}

/* Sampled text, for any number of threads, decode and prompt rows. */
static void threads_change_nothing(void **state)
{
    (void)state;
    static const int32_t threads[] = {1, 2, 3, 7};
    enum { PROMPT = 150, TEXT = 40 };
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        int32_t first[TEXT];
        for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
            loaded m;
            ct_error err;
            load_tiny(&m, backends[b], threads[t]);
            int32_t ids[PROMPT], text[TEXT];
            make_ids(ids, PROMPT, 5, m.gemma.cfg.vocab);
            ct_session *s = open_session(&m, 256, 64, 1, false);
            ct_sampling how = {.temperature = 1.5, .top_p = 0.98, .repeat_penalty = 1, .seed = 42};
            expect_ok(ct_session_feed(s, ids, PROMPT, false, NULL, NULL, NULL, &err), &err);
            for (int32_t i = 0; i < TEXT; i++) {
                expect_ok(ct_session_sample(s, &how, &text[i], NULL, &err), &err);
                expect_ok(ct_session_decode(s, text[i], &err), &err);
            }
            if (t == 0)
                memcpy(first, text, sizeof text);
            assert_memory_equal(text, first, sizeof text);
            ct_session_free(s);
            unload_model(&m);
        }
    }
}

static void decoding_allocates_nothing(void **state)
{
    (void)state;
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        loaded m;
        ct_error err;
        load_tiny(&m, backends[b], 2);
        ct_session *s = open_session(&m, 512, 64, 1, false);
        int32_t ids[W * 3], token;
        double logprob;
        make_ids(ids, W * 3, 9, m.gemma.cfg.vocab);
        ct_sampling how = {.temperature = 1, .top_k = 64, .top_p = 0.95, .repeat_penalty = 1.1, .penalty_last = -1};
        size_t before = ct_mem_calls();
        expect_ok(ct_session_feed(s, ids, W * 3, false, NULL, NULL, NULL, &err), &err);
        for (int32_t i = 0; i < 50; i++) {
            expect_ok(ct_session_sample(s, &how, &token, &logprob, &err), &err);
            assert_true(logprob <= 0);
            expect_ok(ct_session_decode(s, token, &err), &err);
        }
        assert_int_equal(ct_mem_calls(), before);
        ct_session_free(s);
        unload_model(&m);
    }
}

static ct_status end_at_5(void *arg, int32_t pos, const float *logits)
{
    (void)logits;
    *(int32_t *)arg = pos;
    return pos == 5 ? CT_EINTERRUPTED : CT_OK;
}

static ct_status stop_at_9(void *arg, int32_t pos, const float *logits)
{
    (void)logits;
    *(volatile int *)arg = pos >= 9;
    return CT_OK;
}

static void session_limits(void **state)
{
    (void)state;
    loaded m;
    ct_error err;
    load_tiny(&m, "ref", 1);
    int32_t ids[64], token = 0, seen = 0;
    ct_sampling how = {.top_p = 1, .repeat_penalty = 1};
    make_ids(ids, 64, 1, m.gemma.cfg.vocab);
    ct_session *s = open_session(&m, 20, 4, 1, false);
    assert_int_equal(ct_session_context(s), 20);
    assert_null(ct_session_logits(s));
    expect_fail(ct_session_sample(s, &how, &token, NULL, &err), CT_EINVAL, &err, "prompt");
    expect_fail(ct_session_feed(s, ids, 0, false, NULL, NULL, NULL, &err), CT_EINVAL, &err, "at least one");
    expect_fail(ct_session_feed(s, ids, 21, false, NULL, NULL, NULL, &err), CT_ECONTEXT, &err, "21 tokens");
    assert_int_equal(ct_session_length(s), 0);
    int32_t wrong[] = {2, 661}, negative[] = {2, 5, -7};
    expect_fail(ct_session_feed(s, wrong, 2, false, NULL, NULL, NULL, &err), CT_EINVAL, &err, "661 at index 1");
    expect_fail(ct_session_feed(s, negative, 3, false, NULL, NULL, NULL, &err), CT_EINVAL, &err, "-7 at index 2");
    assert_int_equal(ct_session_length(s), 0);

    expect_ok(ct_session_feed(s, ids, 18, false, NULL, NULL, NULL, &err), &err);
    for (int32_t i = 0; i < 2; i++) {
        expect_ok(ct_session_sample(s, &how, &token, NULL, &err), &err);
        expect_ok(ct_session_decode(s, token, &err), &err);
    }
    expect_fail(ct_session_decode(s, token, &err), CT_ECONTEXT, &err, "20 positions is full");
    expect_fail(ct_session_decode(s, 661, &err), CT_EINVAL, &err, "661");
    expect_ok(ct_session_sample(s, &how, &token, NULL, &err), &err); /* still usable */
    assert_int_equal(ct_session_length(s), 20);
    assert_memory_equal(ct_session_ids(s), ids, 18 * 4);

    ct_session_reset(s);
    assert_int_equal(ct_session_length(s), 0);
    assert_null(ct_session_logits(s));
    assert_int_equal(ct_session_feed(s, ids, 16, false, end_at_5, &seen, NULL, &err), CT_EINTERRUPTED);
    assert_int_equal(seen, 5);
    assert_int_equal(ct_session_length(s), 8); /* its chunk was stored */
    assert_memory_equal(ct_session_ids(s), ids, 8 * 4);
    assert_null(ct_session_logits(s));
    ct_session_reset(s);
    volatile int stop = 0;
    expect_fail(ct_session_feed(s, ids, 20, false, stop_at_9, (void *)(uintptr_t)&stop, &stop, &err), CT_EINTERRUPTED,
                &err, "12 of 20");
    assert_int_equal(ct_session_length(s), 12);
    expect_ok(ct_session_feed(s, ids + 12, 8, false, NULL, NULL, NULL, &err), &err);
    ct_session_free(s);

    ct_session_options opt = {.context = 4096, .type_k = -1, .type_v = -1}; /* trained for 2048 */
    expect_fail(ct_session_create(&s, &m.gemma, m.pool, &opt, &err), CT_EINVAL, &err, "2048");
    assert_null(s);
    opt.context = -1;
    expect_fail(ct_session_create(&s, &m.gemma, m.pool, &opt, &err), CT_EINVAL, &err, "-1");
    opt.context = 0;
    expect_ok(ct_session_create(&s, &m.gemma, m.pool, &opt, &err), &err);
    assert_int_equal(ct_session_context(s), 2048);
    ct_session_free(s);
    unload_model(&m);
}

/* A model whose whole context no machine holds: said in numbers when it was asked for, shortened when it was not. */
static void context_fits_the_memory(void **state)
{
    (void)state;
    loaded m;
    ct_error err;
    ct_session *s;
    load_tiny(&m, "ref", 1);
    int32_t kv_heads = m.gemma.cfg.kv_heads, head_dim = m.gemma.cfg.head_dim;
    m.gemma.cfg.context = 1 << 20;
    m.gemma.cfg.kv_heads = 128; /* only arithmetic sees them: a terabyte for two layers of all positions */
    m.gemma.cfg.head_dim = 512;
    size_t available = ct_memory_available();
    ct_session_options opt = {.context = 1 << 20, .chunk = 1, .type_k = CT_F32, .type_v = CT_F32};
    assert_true(ct_session_need(&m.gemma, &opt, 1 << 20, 1, NULL, NULL, NULL) > (size_t)500 << 30);
    if (available > 0 && available < (size_t)400 << 30) {
        expect_fail(ct_session_create(&s, &m.gemma, m.pool, &opt, &err), CT_ENOMEM, &err, "positions would fit");
        assert_null(s);
        opt.context = 0;
        ct_status st = ct_session_create(&s, &m.gemma, m.pool, &opt, &err);
        if (st == CT_OK) {
            assert_true(ct_session_context(s) >= CT_KV_PAGE && ct_session_context(s) < 1 << 20);
            assert_true(ct_session_bytes(s) < available + available / 4); /* others may have freed some meanwhile */
        } else {
            assert_int_equal(st, CT_ENOMEM); /* not even a page, or the kernel says no */
        }
        ct_session_free(s);
    }
    m.gemma.cfg.kv_heads = kv_heads;
    m.gemma.cfg.head_dim = head_dim;
    unload_model(&m);
}

/* Bytes told beforehand are the bytes taken. */
static void sizes_are_arithmetic(void **state)
{
    (void)state;
    static const int32_t contexts[] = {1, 63, 64, 65, 512, 2048}, chunks[] = {1, 16, 512};
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        loaded m;
        ct_error err;
        load_tiny(&m, backends[b], 2);
        for (size_t i = 0; i < 6; i++)
            for (size_t j = 0; j < 3; j++) {
                ct_session_options opt = {
                    .context = contexts[i], .chunk = chunks[j], .type_k = CT_BF16, .type_v = CT_F32};
                size_t local, global, rest;
                size_t need = ct_session_need(&m.gemma, &opt, contexts[i], 2, &local, &global, &rest);
                assert_int_equal(need, local + global + rest);
                ct_session *s;
                expect_ok(ct_session_create(&s, &m.gemma, m.pool, &opt, &err), &err);
                assert_int_equal(ct_session_bytes(s), need);
                ct_session_free(s);

                ct_step step;
                expect_ok(ct_step_create(&step, &m.gemma, chunks[j], 1, contexts[i], 2, &err), &err);
                if (step.stream == NULL) /* else the rest is the stream's */
                    assert_int_equal(step.buf.bytes + step.scratch.size,
                                     ct_step_bytes(&m.gemma, chunks[j], 1, contexts[i], 2));
                ct_step_free(&step, &m.gemma);
                ct_kvcache kc;
                expect_ok(ct_kvcache_create(&kc, &m.gemma, 3, contexts[i], chunks[j], CT_F16, CT_F16, &err), &err);
                assert_int_equal(kc.buf.bytes,
                                 ct_kvcache_bytes(&m.gemma, 3, contexts[i], chunks[j], CT_F16, CT_F16, NULL, NULL));
                assert_true(kc.ring_pages * CT_KV_PAGE >= W - 1 + chunks[j] || kc.ring_pages == kc.seq_pages);
                ct_kvcache_free(&kc);
            }
        unload_model(&m);
    }
}

/* Reusing a prefix gives the bits of a fresh start; test_engine_reuse.c has the many cases. */
static void prefix_is_kept(void **state)
{
    (void)state;
    loaded m;
    ct_error err;
    load_tiny(&m, "ref", 1);
    int32_t vocab = m.gemma.cfg.vocab, a[MAX], b[MAX];
    make_ids(a, MAX, 21, vocab);
    ct_session *s = open_session(&m, 512, 16, 1, false), *fresh = open_session(&m, 512, 16, 1, false);
    static const struct {
        int32_t stored, common, kept;
    } cases[] = {{100, 60, 60},   {100, 100, 99},  {100, 0, 0},   {300, 290, 290},
                 {300, 210, 210}, {300, 206, 206}, {300, 100, 99}};
    /* the ring has 2 pages: of 300 positions it holds 192 on; 206 - 15 = 191 is gone and is computed again */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t common = cases[i].common, n = common == 100 ? 100 : common + 30;
        memcpy(b, a, sizeof b);
        for (int32_t j = common; j < n; j++)
            b[j] = (a[j] + 1) % vocab;
        ct_session_reset(s);
        expect_ok(ct_session_feed(s, a, (size_t)cases[i].stored, false, NULL, NULL, NULL, &err), &err);
        int32_t kept = ct_session_keep(s, b, (size_t)n);
        assert_int_equal(kept, cases[i].kept);
        expect_ok(ct_session_feed(s, b + kept, (size_t)(n - kept), false, NULL, NULL, NULL, &err), &err);
        assert_memory_equal(ct_session_ids(s), b, (size_t)n * 4);
        ct_session_reset(fresh);
        expect_ok(ct_session_feed(fresh, b, (size_t)n, false, NULL, NULL, NULL, &err), &err);
        assert_memory_equal(ct_session_logits(s), ct_session_logits(fresh), (size_t)vocab * 4);
    }
    ct_session_free(s);
    ct_session_free(fresh);
    unload_model(&m);
}

/* Writes the tiny model with some bytes of a tensor replaced. */
static void damaged(const char *path, const char *tensor, const void *bytes, size_t n)
{
    ct_error err;
    ct_tensors *t;
    expect_ok(ct_gguf_open(&t, TINY, &err), &err);
    const ct_tensor *of = ct_tensors_find(t, tensor);
    assert_non_null(of);
    size_t size, at = 0;
    uint8_t *file = read_all(TINY, &size);
    size_t same = of->bytes < 64 ? of->bytes : 64;
    while (at + same <= size && memcmp(file + at, of->data, same) != 0)
        at++;
    assert_true(at + same <= size);
    memcpy(file + at, bytes, n);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file, 1, size, f), size);
    fclose(f);
    free(file);
    ct_tensors_close(t);
}

static void nan_names_its_layer(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "/tmp/carat-nan-%d.gguf", (int)getpid());
    const uint32_t f32_nan = 0x7fc00000u, f32_inf = 0xff800000u;
    const uint16_t f16_nan = 0x7e00u;
    static const char *const matrix[] = {"blk.3.ffn_down.weight", "blk.0.attn_q.weight", "blk.5.attn_output.weight"};
    static const char *const layer[] = {"layer 3", "layer 0", "layer 5"};
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        loaded m;
        ct_error err;
        damaged(path, "blk.2.ffn_norm.weight", &f32_nan, 4);
        expect_fail(load_model(&m, path, backends[b], 1, &err), CT_ENUMERIC, &err, "blk.2.ffn_norm.weight");
        unload_model(&m);
        damaged(path, "output_norm.weight", &f32_inf, 4);
        expect_fail(load_model(&m, path, backends[b], 1, &err), CT_ENUMERIC, &err, "infinity");
        unload_model(&m);
        for (int32_t i = 0; i < 3; i++) {
            damaged(path, matrix[i], i == 2 ? (const void *)&f32_nan : (const void *)&f16_nan, i == 2 ? 4 : 2);
            ct_status st = load_model(&m, path, backends[b], 1, &err);
            if (st != CT_OK) { /* a backend whose packing looks at scales may find it at once */
                expect_fail(st, CT_ENUMERIC, &err, matrix[i]);
                unload_model(&m);
                continue;
            }
            for (int32_t decode = 0; decode < 2; decode++) {
                ct_session *s = open_session(&m, 64, 8, 1, false);
                int32_t ids[20], token;
                make_ids(ids, 20, 2, m.gemma.cfg.vocab);
                ct_sampling how = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};
                expect_ok(ct_session_feed(s, ids, 20, decode, NULL, NULL, NULL, &err), &err);
                expect_fail(ct_session_sample(s, &how, &token, NULL, &err), CT_ENUMERIC, &err, layer[i]);
                assert_string_equal(err.where, layer[i]);
                ct_session_free(s);
            }
            unload_model(&m);
        }
    }
    remove(path);
}

/* Every allocation of opening, creating and feeding fails once: a status, a sentence, nothing lost (the sanitizers look). */
/* CARAT_TEST_BRIEF=1 takes every seventh: sanitizers are slow. */
static void allocations_may_fail(void **state)
{
    (void)state;
    const char *brief = getenv("CARAT_TEST_BRIEF");
    size_t stride = brief && brief[0] ? 7 : 1;
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        int32_t ids[8];
        make_ids(ids, 8, 1, 661);
        bool all = false;
        for (size_t n = 1; !all; n += stride) {
            loaded m;
            ct_error err = {0};
            ct_session *s = NULL;
            ct_session_options opt = {.context = 64, .type_k = -1, .type_v = -1};
            ct_mem_fail_at(n);
            size_t from = ct_mem_calls();
            ct_status st = load_model(&m, TINY, backends[b], 1, &err);
            if (st == CT_OK)
                st = ct_session_create(&s, &m.gemma, m.pool, &opt, &err);
            if (st == CT_OK)
                st = ct_session_feed(s, ids, 8, false, NULL, NULL, NULL, &err);
            all = ct_mem_calls() - from < n;
            ct_mem_fail_at(0);
            if (!all && st != CT_OK) {
                assert_int_equal(st, CT_ENOMEM);
                assert_true(err.text[0] != '\0');
            }
            if (all)
                expect_ok(st, &err);
            ct_session_free(s);
            unload_model(&m);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_change_nothing),
        cmocka_unit_test(decoding_equals_prefill),
        cmocka_unit_test(unwanted_rows_change_nothing),
        cmocka_unit_test(neighbours_change_nothing),
        cmocka_unit_test(batch_refuses_rows),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(decoding_allocates_nothing),
        cmocka_unit_test(context_fits_the_memory),
        cmocka_unit_test(session_limits),
        cmocka_unit_test(sizes_are_arithmetic),
        cmocka_unit_test(prefix_is_kept),
        cmocka_unit_test(nan_names_its_layer),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
