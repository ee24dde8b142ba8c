/* Errors: a sentence is kept, cut visibly when too long, and nobody has to ask for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void fills_an_error(void **state)
{
    (void)state;
    ct_error e;
    assert_int_equal(ct_fail(&e, CT_EFORMAT, "a.gguf", "expected %d, found %d", 1, 2), CT_EFORMAT);
    assert_int_equal(e.code, CT_EFORMAT);
    assert_string_equal(e.where, "a.gguf");
    assert_string_equal(e.text, "expected 1, found 2");
    assert_int_equal(ct_fail(&e, CT_EIO, NULL, "no %s", "place"), CT_EIO);
    assert_string_equal(e.where, "");
    assert_int_equal(ct_fail(NULL, CT_ENOMEM, "x", "nobody listens"), CT_ENOMEM);
}

static void cuts_long_sentences(void **state)
{
    (void)state;
    ct_error e;
    char longest[600];
    for (size_t n = CT_ERROR_TEXT - 3; n < sizeof longest; n++) {
        memset(longest, 'x', n);
        longest[n] = '\0';
        ct_fail(&e, CT_EINVAL, longest, "%s", longest);
        assert_int_equal(strlen(e.text), n < CT_ERROR_TEXT ? n : CT_ERROR_TEXT - 1);
        assert_true((strcmp(e.text + strlen(e.text) - 3, "...") == 0) == (n >= CT_ERROR_TEXT));
        assert_true(strlen(e.where) == CT_ERROR_WHERE - 1);
        n += n > CT_ERROR_TEXT + 4 ? 50 : 0;
    }
}

static void names_every_status(void **state)
{
    (void)state;
    for (int a = CT_OK; a >= CT_EINTERNAL; a--) {
        assert_string_not_equal(ct_status_name((ct_status)a), "unknown");
        for (int b = CT_OK; b > a; b--)
            assert_string_not_equal(ct_status_name((ct_status)a), ct_status_name((ct_status)b));
    }
    assert_string_equal(ct_status_name((ct_status)-99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fills_an_error), cmocka_unit_test(cuts_long_sentences),
                                       cmocka_unit_test(names_every_status)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
