/* The schedule from inside: a sequence whose cache holds NaN names its layer and takes no other down, its seat is clean for the
 * next one, histories that are read again give what they gave, and every allocation may fail. test_api_batch.c has the rest. */
#include "base/mem.h"
#include "engine/schedule.h"
#include "model_fixture.h"

enum { CONTEXT = 512, TEXT = 12 };

static const ct_sampling how = {
    .temperature = 1, .top_k = 64, .top_p = 0.95, .repeat_penalty = 1, .penalty_last = -1, .seed = 5};

static ct_schedule *open_schedule(const loaded *m, int32_t sequences, int32_t rows)
{
    ct_error err;
    ct_schedule *s;
    ct_schedule_options o = {.sequences = sequences, .context = CONTEXT, .rows = rows, .type_k = -1, .type_v = -1};
    expect_ok(ct_schedule_create(&s, &m->gemma, m->pool, &o, &err), &err);
    return s;
}

static int32_t begin(ct_schedule *s, const int32_t *ids, int32_t n)
{
    ct_error err;
    int32_t seq;
    expect_ok(ct_schedule_add(s, &seq, &err), &err);
    expect_ok(ct_schedule_feed(s, seq, ids, (size_t)n, &err), &err);
    return seq;
}

/* What a session writes behind the same ids. */
static void alone(const loaded *m, const int32_t *ids, int32_t n, int32_t *text)
{
    ct_error err;
    ct_session *s = open_session(m, CONTEXT, 0, 1, false);
    expect_ok(ct_session_feed(s, ids, (size_t)n, false, NULL, NULL, NULL, &err), &err);
    for (int32_t i = 0; i < TEXT; i++) {
        expect_ok(ct_session_sample(s, &how, &text[i], NULL, &err), &err);
        expect_ok(ct_session_decode(s, text[i], &err), &err);
    }
    ct_session_free(s);
}

/* Steps until a sequence has written its text. */
static void write_text(ct_schedule *s, int32_t seq, int32_t *text)
{
    ct_error err;
    ct_schedule_item item = {.seq = seq, .how = &how, .err = &err};
    for (int32_t i = 0; i < TEXT;) {
        expect_ok(ct_schedule_step(s, &item, 1, &err), &err);
        expect_ok(item.status, &err);
        if (item.token >= 0)
            text[i++] = item.token;
    }
}

/* bf16 or f32, ref's cache or cpu's: bytes of ones are a NaN in each. */
static void poison(ct_schedule *s, int32_t layer, int32_t seq)
{
    ct_kvcache *kc = ct_schedule_cache(s);
    size_t bytes = kc->layers[layer].page_bytes;
    uint8_t *ones = malloc(bytes);
    assert_non_null(ones);
    memset(ones, 0xff, bytes);
    assert_int_equal(ct_kvcache_write(kc, layer, seq, 0, ones, NULL), CT_OK);
    free(ones);
}

static void nan_stays_where_it_is(void **state)
{
    (void)state;
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        loaded m;
        ct_error err, why[2];
        int32_t ids[3][40], want[3][TEXT], got[TEXT];
        load_tiny(&m, backends[b], 2);
        ct_schedule *s = open_schedule(&m, 2, 0);
        for (uint32_t i = 0; i < 3; i++) {
            make_ids(ids[i], 40, i + 1, m.gemma.cfg.vocab);
            alone(&m, ids[i], 40, want[i]);
        }
        ct_schedule_item items[2] = {{.seq = begin(s, ids[0], 40), .how = &how, .err = &why[0]},
                                     {.seq = begin(s, ids[1], 40), .how = &how, .err = &why[1]}};
        for (int32_t i = 0; i < TEXT; i++) {
            if (i == 3)
                poison(s, 2, items[1].seq);
            expect_ok(ct_schedule_step(s, items, 2, &err), &err);
            expect_ok(items[0].status, &why[0]);
            assert_int_equal(items[0].token, want[0][i]);
            if (i < 3) {
                expect_ok(items[1].status, &why[1]);
                assert_int_equal(items[1].token, want[1][i]);
            } else { /* and again: it stays as it was */
                expect_fail(items[1].status, CT_ENUMERIC, &why[1], "layer 2");
                assert_int_equal(items[1].token, -1);
                assert_int_equal(ct_schedule_length(s, items[1].seq), 43);
            }
        }
        ct_schedule_remove(s, items[1].seq);
        assert_int_equal(begin(s, ids[2], 40), items[1].seq);
        write_text(s, items[1].seq, got); /* a row behind the window of what is left of the NaN, or written over it */
        assert_memory_equal(got, want[2], sizeof got);
        ct_schedule_free(s);
        unload_model(&m);
    }
}

/* Cut where the rings have turned: everything waits again, prompt rows and decode rows, and comes out the same. */
static void read_again(void **state)
{
    (void)state;
    loaded m;
    int32_t ids[300], first[TEXT], again[TEXT];
    load_tiny(&m, "cpu", 2);
    make_ids(ids, 300, 9, m.gemma.cfg.vocab);
    for (int32_t rows = 4; rows <= 64; rows *= 4) {
        ct_schedule *s = open_schedule(&m, 2, rows);
        int32_t seq = begin(s, ids, 100);
        write_text(s, seq, first);
        ct_error err;
        expect_ok(ct_schedule_feed(s, seq, ids + 100, 200, &err), &err); /* a token of its own waits before them */
        write_text(s, seq, again);
        assert_int_equal(ct_schedule_length(s, seq), 300 + 2 * TEXT);
        ct_schedule_cut(s, seq, 300 + TEXT);
        assert_int_equal(ct_schedule_read(s, seq), 299 + TEXT); /* the rings still have that */
        int32_t copy;
        expect_ok(ct_schedule_copy(s, seq, &copy, &err), &err);
        write_text(s, copy, first);
        assert_memory_equal(first, again, sizeof first);
        ct_schedule_cut(s, copy, 112);
        assert_true(ct_schedule_read(s, copy) == 0 || rows == 64);
        expect_ok(ct_schedule_feed(s, copy, ids + 100, 200, &err), &err);
        write_text(s, copy, first);
        assert_memory_equal(first, again, sizeof first);
        ct_schedule_free(s);
    }
    unload_model(&m);
}

static void allocations_may_fail(void **state)
{
    (void)state;
    loaded m;
    int32_t ids[8], token = -1;
    load_tiny(&m, "cpu", 2);
    make_ids(ids, 8, 1, m.gemma.cfg.vocab);
    size_t n = 1;
    for (bool all = false; !all; n++) {
        ct_error err = {0};
        ct_schedule *s = NULL;
        ct_schedule_options o = {.sequences = 3, .context = 64, .type_k = -1, .type_v = -1};
        ct_mem_fail_at(n);
        ct_status st = ct_schedule_create(&s, &m.gemma, m.pool, &o, &err);
        size_t made = ct_mem_calls();
        if (st == CT_OK) {
            ct_schedule_item item = {.seq = begin(s, ids, 8), .how = &how};
            expect_ok(ct_schedule_step(s, &item, 1, &err), &err);
            token = item.token;
            all = true;
            assert_int_equal(ct_mem_calls(), made); /* a step takes no memory */
        } else {
            expect_fail(st, CT_ENOMEM, &err, "memory");
            assert_null(s);
        }
        ct_mem_fail_at(0);
        ct_schedule_free(s);
    }
    assert_true(token >= 0 && n > 10);
    unload_model(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nan_stays_where_it_is),
        cmocka_unit_test(read_again),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
