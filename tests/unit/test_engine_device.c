/* What the engine asks of a device, on the glass box of glass.c: that runs are played back, that a broken device is a sentence and
 * an end of the session alone, and that its memory, not the CPU's, limits a context. */
#include "model_fixture.h"

enum { N = 60, TEXT = 30 };

static void text_of(const loaded *m, int32_t *text)
{
    ct_error err;
    int32_t ids[N];
    make_ids(ids, N, 9, m->gemma.cfg.vocab);
    ct_session *s = open_session(m, 256, 16, 1, false);
    ct_sampling how = {.temperature = 1.2, .top_p = 1, .repeat_penalty = 1, .seed = 3};
    expect_ok(ct_session_feed(s, ids, N, false, NULL, NULL, NULL, &err), &err);
    for (int32_t i = 0; i < TEXT; i++) {
        expect_ok(ct_session_sample(s, &how, &text[i], NULL, &err), &err);
        expect_ok(ct_session_decode(s, text[i], &err), &err);
    }
    ct_session_free(s);
}

/* The same text as the oracle's own, though nearly all steps were recorded once and played back. */
static void played_back(void **state)
{
    (void)state;
    int32_t text[2][TEXT];
    loaded m;
    load_tiny(&m, "ref", 1);
    text_of(&m, text[0]);
    unload_model(&m);
    load_tiny(&m, "glass", 1);
    assert_null(m.gemma.block.host);
    glass_replays = 0;
    text_of(&m, text[1]);
    unload_model(&m);
    assert_memory_equal(text[0], text[1], sizeof text[0]);
    assert_true(glass_replays >= TEXT - 2);
}

/* Whatever call of the device is the one that fails: EIO with the device's words, or a session that goes on without a snapshot. */
static void breaks_in_a_sentence(void **state)
{
    (void)state;
    loaded m;
    load_tiny(&m, "glass", 1);
    for (int32_t at = 1; at < 40; at++) {
        ct_error err = {0};
        int32_t ids[N], token;
        make_ids(ids, N, 9, m.gemma.cfg.vocab);
        ct_session *s = open_session(&m, 256, 16, 1, false);
        ct_sampling how = {.temperature = 0, .top_p = 1, .repeat_penalty = 1};
        glass_fail_at = at;
        ct_status st = ct_session_feed(s, ids, N, false, NULL, NULL, NULL, &err);
        for (int32_t i = 0; st == CT_OK && i < TEXT; i++) {
            st = ct_session_sample(s, &how, &token, NULL, &err);
            if (st == CT_OK)
                st = ct_session_decode(s, token, &err);
        }
        glass_fail_at = 0;
        expect_fail(st, CT_EIO, &err, "glass");
        ct_session_reset(s); /* and it is a session again */
        expect_ok(ct_session_feed(s, ids, N, false, NULL, NULL, NULL, &err), &err);
        assert_non_null(ct_session_logits(s));
        ct_session_free(s);
    }
    unload_model(&m);
}

static size_t few_bytes(void) { return 1 << 20; }

static void its_memory_is_the_limit(void **state)
{
    (void)state;
    loaded m;
    ct_error err;
    ct_backend small = *glass_backend();
    small.memory_free = few_bytes;
    load_tiny(&m, "glass", 1);
    m.gemma.backend = &small;
    ct_session *s;
    ct_session_options opt = {.context = 512, .type_k = -1, .type_v = -1};
    expect_fail(ct_session_create(&s, &m.gemma, m.pool, &opt, &err), CT_ENOMEM, &err, "0.00 GB of memory are free");
    m.gemma.backend = glass_backend();
    unload_model(&m);
    bool needs;
    ct_gemma g;
    ct_tensors *t;
    expect_ok(ct_gguf_open(&t, TINY, &err), &err);
    expect_fail(ct_gemma_load(&g, t, &small, NULL, NULL, &needs, &err), CT_ENOMEM, &err, "of the device's memory");
    ct_tensors_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(played_back),
        cmocka_unit_test(breaks_in_a_sentence),
        cmocka_unit_test(its_memory_is_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
