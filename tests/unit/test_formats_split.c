/* Split GGUF files: the first part opens all of them; every way in which parts can be missing, swapped or damaged is refused in
 * a sentence that says what to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/tensors.h"
#include "gguf_write.h"

enum { PARTS = 3, ROW = 64 };

static char folder[64], part[PARTS][128];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/carat-split-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    for (int i = 0; i < PARTS; i++)
        snprintf(part[i], sizeof part[i], "%s/m-%05d-of-%05d.gguf", folder, i + 1, PARTS);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    for (int i = 0; i < PARTS; i++)
        unlink(part[i]);
    return rmdir(folder);
}

/* Part i as the tools write it: metadata in the first one, numbers in all. Tensor t of part i holds 10 i + t in every byte. */
struct plan {
    uint16_t no, count;
    int32_t total; /* -1: not written */
    int tensors;
    const char *name; /* of the tensors, "%d" stands for 10 i + t */
    uint32_t align;
};

static struct plan plan_of(int i)
{
    return (struct plan){(uint16_t)i, PARTS, 5, i == 2 ? 1 : 2, "blk.%d.weight", i == 1 ? 64 : 32};
}

static void write_part(int i, struct plan p)
{
    gguf_writer w;
    gguf_begin(&w, 3, p.align);
    if (i == 0)
        gguf_kv_string(&w, "general.architecture", "gemma3");
    else
        gguf_kv_string(&w, "of.a.later.part", "not kept");
    gguf_kv_u16(&w, "split.no", p.no);
    gguf_kv_u16(&w, "split.count", p.count);
    if (p.total >= 0)
        gguf_kv_i32(&w, "split.tensors.count", p.total);
    for (int t = 0; t < p.tensors; t++) {
        char name[64];
        uint8_t data[ROW];
        snprintf(name, sizeof name, p.name, 10 * i + t);
        memset(data, 10 * i + t, sizeof data);
        gguf_tensor(&w, name, 1, (const uint64_t[]){ROW / 4}, 0, data, sizeof data);
    }
    gguf_end(&w);
    assert_int_equal(gguf_save(&w, part[i]), 0);
    gguf_free(&w);
}

static void write_all(void)
{
    for (int i = 0; i < PARTS; i++)
        write_part(i, plan_of(i));
}

static void refused(const char *path, ct_status status, const char *words)
{
    ct_error err = {0};
    ct_tensors *t = (ct_tensors *)1;
    assert_int_equal(ct_gguf_open(&t, path, &err), status);
    assert_null(t);
    if (strstr(err.text, words) == NULL)
        fail_msg("expected '%s' in: %s", words, err.text);
    assert_true(strlen(err.text) < 235); /* not cut */
}

static void opens_all_parts(void **state)
{
    (void)state;
    for (int empty_first = 0; empty_first < 2; empty_first++) { /* llama.cpp can leave the first part without tensors */
        ct_error err = {0};
        ct_tensors *t;
        write_all();
        struct plan first = plan_of(0), last = plan_of(2);
        first.total = last.total = empty_first ? 3 : 5;
        if (empty_first) {
            struct plan middle = plan_of(1);
            first.tensors = 0;
            middle.total = 3;
            write_part(1, middle);
        }
        write_part(0, first);
        write_part(2, last);
        assert_int_equal(ct_gguf_open(&t, part[0], &err), CT_OK);
        assert_int_equal(ct_tensors_count(t), first.total);
        assert_string_equal(ct_tensors_path(t), part[0]);
        assert_non_null(ct_tensors_kv(t, "general.architecture"));
        assert_null(ct_tensors_kv(t, "of.a.later.part"));
        static const int all[] = {0, 1, 10, 11, 20};
        for (int k = empty_first ? 2 : 0; k < 5; k++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%d.weight", all[k]);
            const ct_tensor *x = ct_tensors_find(t, name);
            assert_non_null(x);
            assert_ptr_equal(x, ct_tensors_at(t, (size_t)(k - (empty_first ? 2 : 0)))); /* part by part */
            for (int again = 0; again < 2; again++) { /* what was forgotten comes back from its own file */
                const uint8_t *bytes = ct_tensor_bytes(t, x);
                for (size_t i = 0; i < ROW; i++)
                    assert_int_equal(bytes[i], all[k]);
                ct_tensor_forget(t, x);
            }
        }
        size_t size = 0;
        for (int i = 0; i < PARTS; i++) {
            ct_tensors *one;
            struct plan p = plan_of(i);
            FILE *f = fopen(part[i], "rb");
            assert_non_null(f);
            assert_int_equal(fseek(f, 0, SEEK_END), 0);
            size += (size_t)ftell(f);
            fclose(f);
            if (i > 0) {
                char first_one[64];
                snprintf(first_one, sizeof first_one, "part %d of 3: name the file", p.no + 1);
                refused(part[i], CT_EUNSUPPORTED, first_one);
                refused(part[i], CT_EUNSUPPORTED, "-00001-of-00003.gguf");
                assert_int_not_equal(ct_gguf_open(&one, part[i], NULL), CT_OK);
            }
        }
        assert_int_equal(ct_tensors_file_bytes(t), size);
        ct_tensors_close(t);
    }
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    struct plan p;
    write_all();
    unlink(part[2]);
    refused(part[0], CT_ENOTFOUND, "expected part 3 beside it, a file ending in -00003-of-00003.gguf");
    unlink(part[1]);
    refused(part[0], CT_ENOTFOUND, "expected part 2 beside it");

    write_all();
    p = plan_of(1);
    p.no = 2; /* a part under another's name */
    write_part(1, p);
    refused(part[0], CT_EFORMAT, "found that it is part 3 of 3");
    p = plan_of(1);
    p.count = 4;
    write_part(1, p);
    refused(part[0], CT_EFORMAT, "part 2 of 4");
    p.count = 0; /* no part at all */
    write_part(1, p);
    refused(part[0], CT_EFORMAT, "expected part 2 of 3");
    p = plan_of(1);
    p.no = 3;
    write_part(1, p);
    refused(part[0], CT_EFORMAT, "claims to be part 4 of 3");

    write_all();
    p = plan_of(0);
    p.total = 6;
    write_part(0, p);
    refused(part[0], CT_EFORMAT, "expected 6 tensors in its 3 parts");
    p.total = -1; /* then nobody can tell */
    write_part(0, p);
    ct_tensors *t;
    assert_int_equal(ct_gguf_open(&t, part[0], NULL), CT_OK);
    ct_tensors_close(t);

    write_all();
    p = plan_of(1);
    p.name = "blk.0.weight"; /* the name of a tensor of the first part */
    p.tensors = 1;
    write_part(1, p);
    p = plan_of(0);
    p.total = 4;
    write_part(0, p);
    refused(part[0], CT_EFORMAT, "'blk.0.weight' twice");

    write_all();
    assert_int_equal(truncate(part[1], 300), 0);
    refused(part[0], CT_EFORMAT, "-00002-of-00003.gguf' is truncated");
    FILE *f = fopen(part[1], "wb");
    assert_non_null(f);
    fputs("<html>", f);
    fclose(f);
    refused(part[0], CT_EFORMAT, "a web page");
}

static void needs_the_names(void **state)
{
    (void)state;
    write_all();
    char other[128];
    snprintf(other, sizeof other, "%s/model.gguf", folder);
    assert_int_equal(rename(part[0], other), 0);
    refused(other, CT_EUNSUPPORTED, "expected a name ending in -00001-of-00003.gguf");
    unlink(other);
    snprintf(other, sizeof other, "%s/x", folder); /* shorter than any ending */
    write_all();
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(rename(part[0], "x"), 0);
    refused("x", CT_EUNSUPPORTED, "expected a name ending in");
    assert_int_equal(rename("x", part[0]), 0);
    ct_tensors *t;
    assert_int_equal(ct_gguf_open(&t, "m-00001-of-00003.gguf", NULL), CT_OK);
    ct_tensors_close(t);
    assert_int_equal(rename(part[0], "-00001-of-00003.gguf"), 0); /* nothing but the ending: the others are not there */
    refused("-00001-of-00003.gguf", CT_ENOTFOUND, "expected part 2");
    assert_int_equal(unlink("-00001-of-00003.gguf"), 0);
    assert_int_equal(chdir("/"), 0);
    /* One part of one is a whole file, whatever its name. */
    struct plan p = plan_of(0);
    p.count = 1;
    p.total = 2;
    write_part(0, p);
    assert_int_equal(ct_gguf_open(&t, part[0], NULL), CT_OK);
    ct_tensors_close(t);
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    write_all();
    for (size_t n = 1;; n++) {
        ct_error err = {0};
        ct_tensors *t = NULL;
        ct_mem_fail_at(n);
        ct_status st = ct_gguf_open(&t, part[0], &err);
        ct_mem_fail_at(0);
        if (st == CT_OK) {
            assert_true(n > 20);
            ct_tensors_close(t);
            return;
        }
        assert_int_equal(st, CT_ENOMEM);
        assert_null(t);
        assert_true(n < 200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_all_parts),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(needs_the_names),
        cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
