/* Importance matrices: what calibration collects on the tiny model, both kinds of files there and back, and files that lie. */
#include "model_fixture.h"

#include <math.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rng.h"
#include "convert/imatrix.h"

#define CHUNK 32

static void ids_of(int32_t *ids, size_t n, int32_t vocab)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(ct_rng_u64(5, 0, i) % (uint64_t)vocab);
}

static ct_imatrix *collect(const char *backend, int32_t threads)
{
    loaded m;
    ct_error err = {0};
    int32_t ids[3 * CHUNK + 5];
    ct_imatrix *im;
    expect_ok(load_model(&m, TINY, backend, threads, &err), &err);
    ids_of(ids, sizeof ids / sizeof *ids, m.gemma.cfg.vocab);
    expect_ok(ct_calibrate(&im, &m.gemma, m.pool, ids, sizeof ids / sizeof *ids, CHUNK, 2, NULL, &err), &err);
    /* The first layer's input is a normalised row times the norm's weights: without those its mean square is 1. */
    const float *mean = ct_imatrix_find(im, "blk.0.attn_q.weight", (size_t)m.gemma.cfg.dim);
    const float *w = m.gemma.layers[0].attn_norm.buf.host;
    assert_non_null(mean);
    double all = 0;
    for (int32_t j = 0; j < m.gemma.cfg.dim; j++)
        all += (double)mean[j] / ((double)w[j] * (double)w[j]);
    assert_true(fabs(all / (double)m.gemma.cfg.dim - 1) < 1e-3);
    /* Seven matrices a layer and the head; q, k and v see the same. */
    assert_int_equal(im->n, 7 * m.gemma.cfg.layers + 1);
    assert_int_equal(im->chunks, 3);
    assert_int_equal(im->chunk_size, CHUNK);
    const float *k = ct_imatrix_find(im, "blk.0.attn_k.weight", (size_t)m.gemma.cfg.dim);
    assert_memory_equal(mean, k, (size_t)m.gemma.cfg.dim * sizeof *mean);
    assert_non_null(ct_imatrix_find(im, "token_embd.weight", (size_t)m.gemma.cfg.dim));
    assert_non_null(ct_imatrix_find(im, "blk.1.ffn_down.weight", (size_t)m.gemma.cfg.ffn));
    assert_null(ct_imatrix_find(im, "blk.1.ffn_down.weight", (size_t)m.gemma.cfg.ffn + 1));
    for (size_t i = 0; i < im->n; i++)
        assert_int_equal(im->entries[i].rows, 3 * CHUNK);
    unload_model(&m);
    return im;
}

/* Equal means, each within a relative `most` (0: to the bit). */
static void same(const ct_imatrix *a, const ct_imatrix *b, double most)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        const ct_imatrix_entry *e = &a->entries[i];
        const float *mean = ct_imatrix_find(b, e->name, e->cols);
        assert_non_null(mean);
        for (size_t j = 0; j < e->cols; j++)
            assert_true(fabs((double)mean[j] - (double)e->mean[j]) <= most * fabs((double)e->mean[j]));
    }
}

static void threads_and_backends_agree(void **state)
{
    (void)state;
    ct_imatrix *one = collect("cpu", 1), *three = collect("cpu", 3), *ref = collect("ref", 1);
    same(one, three, 0);
    same(ref, one, 0.05);
    ct_imatrix_free(one);
    ct_imatrix_free(three);
    ct_imatrix_free(ref);
}

static void refuses_what_cannot_be_collected(void **state)
{
    (void)state;
    loaded m;
    ct_error err = {0};
    ct_imatrix *im;
    int32_t ids[CHUNK] = {2, 3};
    expect_ok(load_model(&m, TINY, "ref", 1, &err), &err);
    expect_fail(ct_calibrate(&im, &m.gemma, m.pool, ids, CHUNK - 1, CHUNK, 2, NULL, &err), CT_EINVAL, &err, "longer");
    ids[7] = m.gemma.cfg.vocab;
    expect_fail(ct_calibrate(&im, &m.gemma, m.pool, ids, CHUNK, CHUNK, 2, NULL, &err), CT_EINVAL, &err, "vocabulary");
    assert_null(im);
    ids[7] = 0;
    for (size_t n = 1;; n++) { /* every allocation fails once */
        ct_mem_fail_at(n);
        ct_status st = ct_calibrate(&im, &m.gemma, m.pool, ids, CHUNK, CHUNK, 2, NULL, &err);
        ct_mem_fail_at(0);
        if (st == CT_OK)
            break;
        assert_int_equal(st, CT_ENOMEM);
        assert_null(im);
    }
    ct_imatrix_free(im);
    unload_model(&m);
}

static void files_there_and_back(void **state)
{
    (void)state;
    ct_error err = {0};
    ct_imatrix *im = collect("ref", 1), *back;
    static const char *const paths[] = {"imatrix-test.gguf", "imatrix-test.dat"};
    char path[64];
    snprintf(im->text, sizeof im->text, "calm.txt");
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/tmp/%d-%s", (int)getpid(), paths[i]);
        expect_ok(ct_imatrix_write(im, path, &err), &err);
        expect_ok(ct_imatrix_read(&back, path, &err), &err);
        same(im, back, 1e-6);
        assert_int_equal(back->chunks, 3);
        assert_string_equal(back->text, "calm.txt");
        ct_imatrix_free(back);
        /* Cut anywhere, it is refused, or (what comes after the values may be missing) the same. */
        char *data;
        size_t size;
        expect_ok(ct_file_read(&data, &size, path, &err), &err);
        for (size_t n = 0; n < size; n += n < 600 || n + 600 > size ? 1 : 997) {
            ct_status st = ct_imatrix_read_memory(&back, "cut", data, n, &err);
            assert_true(st == CT_OK || st == CT_EFORMAT);
            if (st == CT_OK)
                same(im, back, 1e-6);
            else
                assert_null(back);
            ct_imatrix_free(back);
        }
        ct_free(data);
        unlink(path);
    }
    expect_fail(ct_imatrix_read(&back, "/tmp/no-such-imatrix", &err), CT_ENOTFOUND, &err, "no-such");
    expect_fail(ct_imatrix_read(&back, TINY, &err), CT_EFORMAT, &err, "in_sum2");
    ct_imatrix_free(im);
}

/* An older file as others write it, and lies in each of its fields. */
static void reads_the_older_form(void **state)
{
    (void)state;
    ct_error err = {0};
    ct_imatrix *im;
    uint8_t raw[64], *p = raw;
    const int32_t one = 1, len = 5, calls = 4, n = 2;
    const float values[] = {8, 2};
    memcpy(p, &one, 4);
    memcpy(p + 4, &len, 4);
    memcpy(p + 8, "blk.x", 5);
    memcpy(p + 13, &calls, 4);
    memcpy(p + 17, &n, 4);
    memcpy(p + 21, values, 8);
    expect_ok(ct_imatrix_read_memory(&im, "old", raw, 29, &err), &err);
    const float *mean = ct_imatrix_find(im, "blk.x", 2);
    assert_non_null(mean);
    assert_true(mean[0] == 2 && mean[1] == 0.5f);
    ct_imatrix_free(im);
    static const struct {
        size_t at;
        uint32_t value;
        ct_status want;
    } lies[] = {{0, 0, CT_EFORMAT},           {0, 0xffffffffu, CT_EFORMAT},  {0, 2, CT_EFORMAT},
                {4, 0, CT_EFORMAT},           {4, 0x7fffffff, CT_EFORMAT},   {13, 0, CT_EFORMAT},
                {17, 0, CT_EFORMAT},          {17, 3, CT_EFORMAT},           {17, 0x40000000, CT_EFORMAT},
                {9, 0, CT_EFORMAT},           {21, 0x7fc00000, CT_ENUMERIC}, {21, 0x7f800000, CT_ENUMERIC},
                {21, 0xbf800000, CT_ENUMERIC}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        uint8_t bad[64];
        memcpy(bad, raw, sizeof bad);
        memcpy(bad + lies[i].at, &lies[i].value, 4);
        ct_status st = ct_imatrix_read_memory(&im, "lie", bad, 29, &err);
        if (st != lies[i].want)
            fail_msg("lie %zu: expected %s, found %s", i, ct_status_name(lies[i].want), ct_status_name(st));
        assert_null(im);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_backends_agree),
        cmocka_unit_test(refuses_what_cannot_be_collected),
        cmocka_unit_test(files_there_and_back),
        cmocka_unit_test(reads_the_older_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
