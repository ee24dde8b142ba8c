/* Files: mapped, read whole, written so that nobody sees half. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/system.h"

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/carat-file-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/data", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails when a temporary file was left behind */
}

static void writes_maps_and_reads(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 65535, 65536, 200000};
    uint8_t *data = malloc(200000);
    assert_non_null(data);
    for (size_t i = 0; i < 200000; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        ct_error err = {0};
        ct_map m;
        char *text;
        size_t n;
        assert_int_equal(ct_file_write(path, data, sizes[k], &err), CT_OK);
        assert_true(ct_is_file(path) && !ct_is_folder(path));
        assert_int_equal(ct_map_open(&m, path, &err), CT_OK);
        assert_int_equal(m.size, sizes[k]);
        assert_true((m.data == NULL) == (m.size == 0));
        if (m.size) {
            assert_memory_equal(m.data, data, m.size);
            ct_map_forget(&m, 1, m.size);
            ct_map_forget(&m, 0, SIZE_MAX);
            ct_map_forget(&m, m.size, 1);
            ct_map_forget(&m, SIZE_MAX, SIZE_MAX);
            assert_memory_equal(m.data, data, m.size); /* forgotten pages are read again */
        }
        assert_int_equal(ct_file_read(&text, &n, path, &err), CT_OK);
        assert_int_equal(n, sizes[k]);
        assert_memory_equal(text, data, n);
        assert_int_equal(text[n], 0);
        ct_free(text);
        ct_map_close(&m);
        ct_map_close(&m);
    }
    free(data);
}

static void says_why_not(void **state)
{
    (void)state;
    ct_error err;
    ct_map m;
    char *text;
    size_t n;
    char missing[128];
    snprintf(missing, sizeof missing, "%s/none/such", folder);
    assert_int_equal(ct_map_open(&m, missing, &err), CT_ENOTFOUND);
    assert_non_null(strstr(err.text, missing));
    assert_null(m.data);
    assert_int_equal(ct_file_read(&text, &n, missing, &err), CT_ENOTFOUND);
    assert_null(text);
    assert_int_equal(ct_file_write(missing, "x", 1, &err), CT_ENOTFOUND);
    assert_int_equal(ct_map_open(&m, folder, &err), CT_EIO);
    assert_non_null(strstr(err.text, "folder"));
    assert_int_equal(ct_map_open(&m, "/dev/null", &err), CT_EIO);
    assert_int_equal(ct_file_read(&text, &n, folder, &err), CT_EIO);
    assert_false(ct_is_file(folder));
    assert_true(ct_is_folder(folder));
    assert_false(ct_is_file(missing));
    assert_int_equal(ct_file_write(path, "first", 5, &err), CT_OK);
    if (access("/dev/full", W_OK) == 0) { /* a rename onto a folder fails: the old file and nothing else stays */
        assert_int_equal(ct_file_write(folder, "x", 1, &err), CT_EIO);
        char temp[128];
        snprintf(temp, sizeof temp, "%s.tmp%ld", folder, (long)getpid());
        assert_false(ct_is_file(temp));
    }
}

static void replaces_whole_files(void **state)
{
    (void)state;
    ct_error err;
    char *text;
    size_t n;
    assert_int_equal(ct_file_write(path, "a long first version", 20, &err), CT_OK);
    ct_map old;
    assert_int_equal(ct_map_open(&old, path, &err), CT_OK);
    assert_int_equal(ct_file_write(path, "new", 3, &err), CT_OK);
    assert_memory_equal(old.data, "a long first version", 20); /* who has it open keeps the old one */
    ct_map_close(&old);
    assert_int_equal(ct_file_read(&text, &n, path, &err), CT_OK);
    assert_string_equal(text, "new");
    ct_free(text);
    ct_mem_fail_at(1);
    assert_int_equal(ct_file_read(&text, &n, path, &err), CT_ENOMEM);
    ct_mem_fail_at(1);
    assert_int_equal(ct_file_write(path, "x", 1, &err), CT_ENOMEM);
    ct_mem_fail_at(0);
    assert_int_equal(ct_file_read(&text, &n, path, &err), CT_OK);
    assert_string_equal(text, "new");
    ct_free(text);
}

static void writes_at_any_place(void **state)
{
    (void)state;
    ct_error err;
    ct_writer *w;
    char *text;
    size_t n;
    assert_int_equal(ct_writer_open(&w, path, &err), CT_OK);
    assert_int_equal(ct_writer_put_at(w, 6, "third", 5, &err), CT_OK);
    assert_int_equal(ct_writer_put(w, "one", 3, &err), CT_OK);
    assert_int_equal(ct_writer_put(w, "two", 3, &err), CT_OK);
    assert_int_equal(ct_writer_commit(w, &err), CT_OK);
    assert_int_equal(ct_file_read(&text, &n, path, &err), CT_OK);
    assert_string_equal(text, "onetwothird");
    ct_free(text);
}

static void makes_whole_folders(void **state)
{
    (void)state;
    ct_error err;
    ct_folder *f;
    char inner[256], name[96], slash[96];
    snprintf(name, sizeof name, "%s/made", folder);
    snprintf(slash, sizeof slash, "%s/made//", folder);
    assert_int_equal(ct_folder_open(&f, slash, &err), CT_OK);
    snprintf(inner, sizeof inner, "%s/a", ct_folder_path(f));
    assert_int_equal(ct_file_write(inner, "x", 1, &err), CT_OK);
    assert_false(ct_is_there(name));
    ct_folder_abandon(f);
    assert_false(ct_is_there(inner));
    for (int turn = 0; turn < 3; turn++) { /* nothing there, an empty folder, a full one */
        assert_int_equal(ct_folder_open(&f, name, &err), CT_OK);
        snprintf(inner, sizeof inner, "%s/%s", ct_folder_path(f), turn < 2 ? "a" : "b");
        assert_int_equal(ct_file_write(inner, "x", 1, &err), CT_OK);
        assert_int_equal(ct_folder_commit(f, &err), turn < 2 ? CT_OK : CT_EIO);
        assert_false(ct_is_there(inner));
        snprintf(inner, sizeof inner, "%s/a", name);
        assert_true(ct_is_file(inner));
        if (turn == 0)
            unlink(inner);
    }
    assert_true(ct_is_same(name, slash) && !ct_is_same(name, folder) && !ct_is_same(name, "/none/such"));
    unlink(inner);
    rmdir(name);
    assert_int_equal(ct_folder_open(&f, "/none/such", &err), CT_ENOTFOUND);
    assert_true(ct_disk_free(name) > 0 && ct_disk_free(name) < SIZE_MAX);
    assert_true(ct_disk_free("name") > 0 && ct_disk_free("/none/such") == SIZE_MAX);
}

static void knows_the_machine(void **state)
{
    (void)state;
    uint64_t before = ct_now_ns();
    char name[128];
    ct_cpu_name(name, sizeof name);
    assert_true(strlen(name) > 0);
    assert_true(ct_cores() >= 1);
    assert_true(ct_memory_total() > 1u << 26);
    assert_true(ct_memory_available() > 0 && ct_memory_available() <= ct_memory_total());
    assert_true(ct_rss_peak_bytes() > 1u << 16 && ct_rss_bytes() > 1u << 16);
    assert_true(ct_now_ns() >= before && ct_seconds_since(before) >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(writes_maps_and_reads), cmocka_unit_test(says_why_not),
                                       cmocka_unit_test(replaces_whole_files),  cmocka_unit_test(writes_at_any_place),
                                       cmocka_unit_test(makes_whole_folders),   cmocka_unit_test(knows_the_machine)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
