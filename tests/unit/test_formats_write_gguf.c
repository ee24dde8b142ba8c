/* The GGUF writer: a file read and written again is the same file, byte for byte, whoever puts the tensors in which order. */
#include "gguf_try.h"

#include <sys/stat.h>

#include "formats/output.h"

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/carat-write-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/out.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails when a temporary file was left behind */
}

/* Everything of t as an output that is open: pairs and tensors are the caller's. */
static ct_output *output_of(ct_tensors *t, ct_kv_pair *kv, ct_out_tensor *out)
{
    ct_output *o;
    ct_error err = {0};
    size_t n_kv = ct_tensors_kv_count(t), n = ct_tensors_count(t);
    for (size_t i = 0; i < n_kv; i++)
        kv[i] = *ct_tensors_kv_at(t, i);
    for (size_t i = 0; i < n; i++) {
        const ct_tensor *x = ct_tensors_at(t, i);
        out[i] = (ct_out_tensor){.dtype = x->dtype, .n_dims = x->n_dims};
        memcpy(out[i].name, x->name.data, x->name.len);
        memcpy(out[i].ne, x->ne, sizeof x->ne);
        assert_true(ct_out_tensor_measure(&out[i]));
        assert_int_equal(out[i].bytes, x->bytes);
    }
    assert_int_equal(ct_gguf_create(&o, path, kv, n_kv, out, n, &err), CT_OK);
    return o;
}

static void writes_what_it_read(void **state)
{
    (void)state;
    gguf_writer w;
    ct_tensors *t;
    ct_error err = {0};
    ct_kv_pair kv[64];
    ct_out_tensor out[8];
    char *written;
    size_t n;
    sample(&w, 3, 32);
    assert_int_equal(ct_gguf_open_memory(&t, "sample", w.file.data, w.file.n, &err), CT_OK);
    ct_output *o = output_of(t, kv, out);
    assert_int_equal(ct_output_bytes(o), w.file.n);
    for (size_t i = ct_tensors_count(t); i-- > 0;) { /* backwards, and a block at a time */
        const ct_tensor *x = ct_tensors_at(t, i);
        size_t block = (size_t)x->dtype->block_bytes;
        for (size_t at = x->bytes; at > 0; at -= block)
            assert_int_equal(ct_output_put(o, i, at - block, x->data + at - block, block, &err), CT_OK);
    }
    assert_false(ct_is_there(path));
    assert_int_equal(ct_output_commit(o, &err), CT_OK);
    assert_int_equal(ct_file_read(&written, &n, path, &err), CT_OK);
    assert_int_equal(n, w.file.n);
    assert_memory_equal(written, w.file.data, n);
    ct_free(written);
    ct_tensors_close(t);
    gguf_free(&w);
}

static void leaves_nothing_behind(void **state)
{
    (void)state;
    ct_tensors *t;
    ct_error err = {0};
    ct_kv_pair kv[64];
    ct_out_tensor out[256];
    ct_output *o;
    unlink(path);
    assert_int_equal(ct_gguf_open(&t, CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf", &err), CT_OK);
    assert_true(ct_tensors_count(t) <= 256 && ct_tensors_kv_count(t) <= 64);
    ct_output_abandon(output_of(t, kv, out));
    assert_false(ct_is_there(path));
    for (size_t n = 1; n < 8; n++) {
        ct_mem_fail_at(n);
        ct_status st = ct_gguf_create(&o, path, kv, ct_tensors_kv_count(t), out, ct_tensors_count(t), &err);
        ct_mem_fail_at(0);
        if (st == CT_OK) {
            ct_output_abandon(o);
            assert_true(n > 3);
            break;
        }
        assert_int_equal(st, CT_ENOMEM);
        assert_null(o);
    }
    char missing[128];
    snprintf(missing, sizeof missing, "%s/none/x.gguf", folder);
    assert_int_equal(ct_gguf_create(&o, missing, kv, 1, out, 1, &err), CT_ENOTFOUND);
    assert_non_null(strstr(err.text, missing));
    ct_tensors_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(writes_what_it_read), cmocka_unit_test(leaves_nothing_behind)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
