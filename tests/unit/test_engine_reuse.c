/* Histories cut back and sessions saved: whatever was kept, restored, computed again or read from a file, the session goes on
 * bit for bit as one that was fed the same ids with the same roles. On the tiny model, whose window is 16. */
#include "model_fixture.h"

#include <unistd.h>

enum { MAX = 700, TEXT = 12 };

static const struct {
    const char *name;
    ct_dtype k, v;
} kinds[] = {
    {"bf16", CT_BF16, CT_BF16}, {"q8", CT_Q8_0, CT_Q8_0}, {"q8,q4", CT_Q8_0, CT_Q4_1}, {"q4", CT_Q4_1, CT_Q4_1}};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static ct_session *open_with(const loaded *m, int32_t chunk, int32_t snapshots, int32_t kind, bool exact)
{
    ct_error err;
    ct_session *s;
    ct_session_options opt = {.context = 1024,
                              .chunk = chunk,
                              .exact = exact,
                              .type_k = (int32_t)kinds[kind].k,
                              .type_v = (int32_t)kinds[kind].v,
                              .snapshots = snapshots};
    expect_ok(ct_session_create(&s, &m->gemma, m->pool, &opt, &err), &err);
    return s;
}

/* ids[from..to) with the roles a test gives them: pieces of prompt and of decode rows in turn. Few of the latter: for each of them
 * the reference decodes all weights, which is most of this test's time. */
static bool role(int32_t pos) { return pos % 60 >= 14 && pos % 60 < 20; }

static void feed_roles(ct_session *s, const int32_t *ids, int32_t from, int32_t to)
{
    ct_error err;
    while (from < to) {
        int32_t n = 1;
        while (from + n < to && role(from + n) == role(from))
            n++;
        expect_ok(ct_session_feed(s, ids + from, (size_t)n, role(from), NULL, NULL, NULL, &err), &err);
        from += n;
    }
}

/* The same logits now and over a text that goes on. */
static void goes_on_as(ct_session *s, ct_session *fresh, int32_t vocab, const char *backend, int32_t cut)
{
    ct_error err;
    ct_sampling how = {.temperature = 1.3, .top_p = 1, .repeat_penalty = 1.1, .penalty_last = -1, .seed = 5};
    for (int32_t i = 0; i < TEXT; i++) {
        int32_t a, b;
        assert_int_equal(ct_session_length(s), ct_session_length(fresh));
        assert_memory_equal(ct_session_ids(s), ct_session_ids(fresh), (size_t)ct_session_length(s) * 4);
        if (memcmp(ct_session_logits(s), ct_session_logits(fresh), (size_t)vocab * 4) != 0)
            fail_msg("%s: cut at %d, logits differ %d tokens later", backend, cut, i);
        expect_ok(ct_session_sample(s, &how, &a, NULL, &err), &err);
        expect_ok(ct_session_sample(fresh, &how, &b, NULL, &err), &err);
        assert_int_equal(a, b);
        expect_ok(ct_session_decode(s, a, &err), &err);
        expect_ok(ct_session_decode(fresh, b, &err), &err);
    }
}

/* Cuts near and far behind the ring, with and without snapshots, also one cut after the other. */
static void cuts_are_exact(void **state)
{
    (void)state;
    static const int32_t cuts[] = {1,   14,  15,  16,  17,  63,  64,  65,  75,  76,  91,
                                   130, 150, 189, 200, 256, 301, 321, 384, 419, 448, 449};
    enum { N = 450, CUTS = sizeof cuts / sizeof cuts[0] };
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        loaded m;
        ct_error err;
        int32_t a[MAX], other[MAX];
        load_tiny(&m, backends[b], 2);
        int32_t vocab = m.gemma.cfg.vocab;
        make_ids(a, MAX, 77, vocab);
        for (int32_t snapshots = 0; snapshots < 3; snapshots += 2)
            for (int32_t kind = 0; kind < N_KINDS; kind++) {
                ct_session *s = open_with(&m, 16, snapshots, kind, kind == 1),
                           *fresh = open_with(&m, 64, 0, kind, kind == 1);
                /* all cuts with cpu and bf16, some of them, always others, elsewhere */
                size_t every = b != 1 ? 8 : kind > 0 ? 5 : 1;
                for (size_t i = every > 1 ? (size_t)(kind + snapshots) : 0; i < CUTS; i += every) {
                    int32_t cut = cuts[i], n = cut + 20;
                    memcpy(other, a, sizeof other);
                    for (int32_t j = cut; j < n; j++)
                        other[j] = (a[j] + 1 + j % 5) % vocab;
                    ct_session_reset(s);
                    for (int32_t at = 0; at < N; at += 150) { /* marks where a text may part from another */
                        feed_roles(s, a, at, at + 150);
                        ct_session_mark(s);
                    }
                    assert_int_equal(ct_session_keep(s, other, (size_t)n), cut);
                    if (i % 3 == 1) { /* and once more before anything was fed */
                        cut -= cut > 40 ? 37 : 0;
                        assert_int_equal(ct_session_keep(s, a, (size_t)cut + 1), cut);
                        memcpy(other, a, (size_t)n * 4);
                    }
                    if (i % 3 == 2)
                        while (ct_session_behind(s) > 0)
                            expect_ok(ct_session_catch_up(s, &err), &err);
                    feed_roles(s, other, cut, n);
                    ct_session_reset(fresh);
                    feed_roles(fresh, other, 0, n);
                    goes_on_as(s, fresh, vocab, backends[b], cut);
                    /* Back again, over what was just made. */
                    if (n > 200) {
                        assert_int_equal(ct_session_keep(s, other, 151), 150);
                        expect_ok(ct_session_feed(s, a + 150, 30, false, NULL, NULL, NULL, &err), &err);
                        ct_session_reset(fresh);
                        feed_roles(fresh, other, 0, 150);
                        expect_ok(ct_session_feed(fresh, a + 150, 30, false, NULL, NULL, NULL, &err), &err);
                        goes_on_as(s, fresh, vocab, backends[b], 150);
                    }
                }
                ct_session_free(s);
                ct_session_free(fresh);
            }
        unload_model(&m);
    }
}

/* Only what must be is computed again, and nothing is allocated for it. */
static void replays_are_short(void **state)
{
    (void)state;
    loaded m;
    int32_t a[MAX];
    load_tiny(&m, "cpu", 1);
    int32_t locals = 0, window = m.gemma.cfg.window;
    for (int32_t i = 0; i < m.gemma.cfg.layers; i++)
        locals += !m.gemma.cfg.global[i];
    make_ids(a, MAX, 3, m.gemma.cfg.vocab);
    ct_session *s = open_with(&m, 16, 4, 0, false);
    feed_roles(s, a, 0, 300);
    ct_session_mark(s);
    feed_roles(s, a, 300, 700);
    size_t before = ct_mem_calls();
    assert_int_equal(ct_session_keep(s, a, 691), 690); /* still in the ring */
    assert_int_equal(ct_session_behind(s), 0);
    assert_int_equal(ct_session_keep(s, a, 591), 590);
    assert_int_equal(ct_session_behind(s), locals * (window - 1));
    assert_int_equal(ct_session_keep(s, a, 321), 320); /* the snapshot is nearer */
    assert_int_equal(ct_session_behind(s), 20);
    assert_int_equal(ct_session_keep(s, a, 301), 300);
    assert_int_equal(ct_session_behind(s), 0);
    assert_int_equal(ct_session_keep(s, a, 51), 50); /* the very beginning */
    assert_int_equal(ct_session_behind(s), 50 < locals * (window - 1) ? 50 : locals * (window - 1));
    assert_int_equal(ct_mem_calls(), before);
    ct_session_free(s);
    unload_model(&m);
}

static void temp_path(char *path, size_t n) { snprintf(path, n, "/tmp/carat-session-%d", (int)getpid()); }

/* Saved at one number of threads, chunk and context, loaded at others. */
static void files_are_exact(void **state)
{
    (void)state;
    static const int32_t lengths[] = {1, 15, 16, 63, 64, 65, 200, 500};
    char path[64];
    temp_path(path, sizeof path);
    for (int32_t b = 0; b < N_BACKENDS; b++) {
        loaded m, again;
        ct_error err;
        int32_t a[MAX];
        load_tiny(&m, backends[b], 1);
        load_tiny(&again, backends[b], 3);
        make_ids(a, MAX, 9, m.gemma.cfg.vocab);
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
            for (int32_t kind = 0; kind < N_KINDS; kind++) {
                uint8_t note[CT_SESSION_NOTE] = {1, 2, 3}, back[CT_SESSION_NOTE];
                ct_session *s = open_with(&m, 16, 0, kind, false), *t = open_with(&again, 48, 2, kind, false);
                feed_roles(t, a + 100, 0, 333); /* what was there before must not show */
                feed_roles(s, a, 0, lengths[i]);
                expect_ok(ct_session_save(s, path, note, &err), &err);
                expect_ok(ct_session_load(t, path, back, &err), &err);
                assert_memory_equal(note, back, sizeof note);
                if (i % 2 && lengths[i] > 30) { /* a loaded session can be cut as well */
                    int32_t cut = lengths[i] / 2;
                    assert_int_equal(ct_session_keep(t, a, (size_t)cut + 1), cut);
                    assert_int_equal(ct_session_keep(s, a, (size_t)cut + 1), cut);
                    feed_roles(t, a, cut, cut + 9);
                    feed_roles(s, a, cut, cut + 9);
                }
                goes_on_as(t, s, m.gemma.cfg.vocab, backends[b], lengths[i]);
                ct_session_free(s);
                ct_session_free(t);
            }
        unload_model(&m);
        unload_model(&again);
    }
    remove(path);
}

static void write_all(const char *path, const uint8_t *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static void damage_is_refused(void **state)
{
    (void)state;
    char path[64];
    temp_path(path, sizeof path);
    loaded m, other;
    ct_error err;
    int32_t a[MAX];
    load_tiny(&m, "cpu", 1);
    load_tiny(&other, "ref", 1);
    make_ids(a, MAX, 9, m.gemma.cfg.vocab);
    ct_session *s = open_with(&m, 16, 0, 0, false), *empty = open_with(&m, 16, 0, 0, false);
    expect_fail(ct_session_save(empty, path, NULL, &err), CT_EINVAL, &err, "empty");
    feed_roles(s, a, 0, 100);
    expect_ok(ct_session_save(s, path, NULL, &err), &err);
    expect_fail(ct_session_save(s, "/nowhere/at/all", NULL, &err), CT_ENOTFOUND, &err, "/nowhere");
    size_t n;
    uint8_t *file = read_all(path, &n);
    feed_roles(s, a, 100, 150);
    float *logits = malloc((size_t)m.gemma.cfg.vocab * 4);
    memcpy(logits, ct_session_logits(s), (size_t)m.gemma.cfg.vocab * 4);

    static const size_t shorter[] = {0, 1, 8, 100, 128, 135, 1000};
    for (size_t i = 0; i < sizeof shorter / sizeof shorter[0]; i++) {
        write_all(path, file, shorter[i]);
        expect_fail(ct_session_load(s, path, NULL, &err), CT_EFORMAT, &err, path);
    }
    write_all(path, file, n - 8);
    expect_fail(ct_session_load(s, path, NULL, &err), CT_EFORMAT, &err, "damaged");
    for (size_t i = 0; i < n; i += i < 200 ? 1 : 211) { /* every byte of the header, many of the rest */
        file[i] ^= (uint8_t)(1u << i % 8);
        write_all(path, file, n);
        ct_status st = ct_session_load(s, path, NULL, &err);
        if (st != CT_EFORMAT && !(st == CT_EUNSUPPORTED && i >= 8 && i < 16)) /* its version */
            fail_msg("byte %zu: %s", i, ct_status_name(st));
        file[i] ^= (uint8_t)(1u << i % 8);
    }
    assert_int_equal(ct_session_length(s), 150); /* as it was */
    assert_memory_equal(ct_session_logits(s), logits, (size_t)m.gemma.cfg.vocab * 4);
    assert_memory_equal(ct_session_ids(s), a, 150 * 4);

    write_all(path, file, n);
    ct_session *t = open_with(&other, 16, 0, 0, false);
    expect_fail(ct_session_load(t, path, NULL, &err), CT_EUNSUPPORTED, &err, "another backend");
    ct_session_free(t);
    t = open_with(&m, 16, 0, 1, false);
    expect_fail(ct_session_load(t, path, NULL, &err), CT_EUNSUPPORTED, &err, "type of cache");
    ct_session_free(t);
    t = open_with(&m, 16, 0, 0, true);
    expect_fail(ct_session_load(t, path, NULL, &err), CT_EUNSUPPORTED, &err, "fast path");
    ct_session_free(t);
    t = open_session(&m, 99, 16, 1, false);
    expect_fail(ct_session_load(t, path, NULL, &err), CT_ECONTEXT, &err, "99 tokens, found 100");
    ct_session_free(t);
    uint8_t *byte = (uint8_t *)m.gemma.layers[3].down.buf.host; /* another model: one weight differs */
    *byte ^= 4;
    expect_fail(ct_session_load(empty, path, NULL, &err), CT_EUNSUPPORTED, &err, "another model");
    *byte ^= 4;
    expect_ok(ct_session_load(empty, path, NULL, &err), &err);
    assert_int_equal(ct_session_length(empty), 100);
    expect_fail(ct_session_load(empty, "/nowhere/at/all", NULL, &err), CT_ENOTFOUND, &err, "/nowhere");
    remove(path);
    free(file);
    free(logits);
    ct_session_free(s);
    ct_session_free(empty);
    unload_model(&m);
    unload_model(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_are_exact),
        cmocka_unit_test(replays_are_short),
        cmocka_unit_test(files_are_exact),
        cmocka_unit_test(damage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
