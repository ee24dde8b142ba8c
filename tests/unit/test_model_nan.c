/* NaN and infinity in a weight, of every tensor of the fixtures and so of every kind and type: the model is refused when it is
 * packed, or names the layer when the first token is chosen; and the process goes on as if nothing had been. */
#include "model_fixture.h"

#include <math.h>
#include <unistd.h>

#include "carat.h"

#define TYPES CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny-types.gguf"

static char path[64];

/* Where in a block, and with which bytes, its elements become no numbers: found by trying scales of every form. */
static bool poison(const ct_dtype_info *t, uint8_t *block, bool infinite)
{
    static const struct {
        uint8_t bytes[4];
        size_t n;
    } nan[] = {{{0x00, 0x7e}, 2}, {{0xc0, 0x7f}, 2}, {{0, 0, 0xc0, 0x7f}, 4}},
      inf[] = {{{0x00, 0x7c}, 2}, {{0x80, 0x7f}, 2}, {{0, 0, 0x80, 0x7f}, 4}};
    uint8_t saved[512];
    float out[256];
    assert_true(t->block_bytes <= 512 && t->block_elems <= 256);
    memcpy(saved, block, (size_t)t->block_bytes);
    for (size_t k = 0; k < 3; k++) {
        size_t n = infinite ? inf[k].n : nan[k].n;
        for (size_t at = 0; at + n <= (size_t)t->block_bytes; at++) {
            memcpy(block + at, infinite ? inf[k].bytes : nan[k].bytes, n);
            t->decode(out, block, 1);
            for (int32_t i = 0; i < t->block_elems; i++)
                if (!isfinite(out[i]))
                    return true;
            memcpy(block, saved, (size_t)t->block_bytes);
        }
    }
    return false;
}

static void save(const uint8_t *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

/* Opening says ENUMERIC and names the tensor; or the first token does, and names the layer. */
static void expect_refused(const char *backend, const char *name)
{
    carat_error err;
    carat_model *m = NULL;
    carat_session *s = NULL;
    carat_token ids[40], token;
    carat_model_options o = carat_model_options_default();
    carat_session_options so = carat_session_options_default();
    o.backend = backend;
    o.threads = 1;
    so.context = 64;
    carat_status st = carat_model_open(&m, path, &o, &err);
    if (st == CARAT_OK) {
        carat_sampling how = carat_sampling_default(m);
        for (int32_t i = 0; i < 40; i++)
            ids[i] = i * 16;
        assert_int_equal(carat_session_create(&s, m, &so, &err), CARAT_OK);
        assert_int_equal(carat_session_feed(s, ids, 40, &err), CARAT_OK);
        st = carat_session_next(s, &how, &token, &err);
        if (st != CARAT_ENUMERIC || (strstr(err.text, "layer") == NULL && strstr(err.text, "embedding") == NULL &&
                                     strstr(err.text, "head") == NULL))
            fail_msg("%s, %s: expected ENUMERIC and a place, found %d: %s", backend, name, st, err.text);
    } else if (st != CARAT_ENUMERIC || strstr(err.text, name) == NULL) {
        fail_msg("%s: expected ENUMERIC and '%s', found %d: %s", backend, name, st, err.text);
    }
    carat_session_free(s);
    carat_model_close(m);
}

/* CARAT_TEST_BRIEF=1 takes every seventh: sanitizers are slow. */
static void every_tensor(const char *file)
{
    const char *brief = getenv("CARAT_TEST_BRIEF");
    size_t n, tried = 0, stride = brief && brief[0] ? 7 : 1;
    ct_tensors *t;
    ct_error err;
    uint8_t *data = read_all(file, &n), *found = NULL;
    expect_ok(ct_gguf_open(&t, file, &err), &err);
    for (size_t i = 0; i < ct_tensors_count(t); i += stride) {
        const ct_tensor *x = ct_tensors_at(t, i);
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)x->name.len, x->name.data);
        /* Its place in the copy: the bytes are where they are in the file. An embedding's first rows are fed below. */
        size_t blocks = x->bytes / (size_t)x->dtype->block_bytes;
        size_t block = strncmp(name, "token_embd", 10) == 0 ? 0 : blocks / 2;
        for (found = data; found + x->bytes <= data + n && memcmp(found, x->data, x->bytes) != 0; found++)
            ;
        assert_true(found + x->bytes <= data + n);
        found += block * (size_t)x->dtype->block_bytes;
        uint8_t before[512];
        memcpy(before, found, (size_t)x->dtype->block_bytes);
        for (int infinite = 0; infinite < 2; infinite++) {
            if (!poison(x->dtype, found, infinite))
                fail_msg("%s: no byte of a %s block makes it a NaN", name, x->dtype->name);
            save(data, n);
            expect_refused("cpu", name);
            if (i % 5 == 0)
                expect_refused("ref", name);
            memcpy(found, before, (size_t)x->dtype->block_bytes);
            tried++;
        }
    }
    save(data, n);
    carat_model *m = NULL;
    assert_int_equal(carat_model_open(&m, path, NULL, NULL), CARAT_OK); /* none the worse for it */
    carat_model_close(m);
    ct_tensors_close(t);
    free(data);
    unlink(path);
    print_message("%zu damaged weights refused\n", tried);
}

static void all_kinds(void **state)
{
    (void)state;
    every_tensor(TINY);
}

static void all_types(void **state)
{
    (void)state;
    every_tensor(TYPES);
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/carat-planted-%ld.gguf", (long)getpid());
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_kinds), cmocka_unit_test(all_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
