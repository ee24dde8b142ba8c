/* The JSON reader: what it takes, what it refuses, and that it reads inside the text only. Texts lie at the end of a block of
 * their size, so that the address sanitizer sees a byte too much. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/json.h"

/* A copy of the text without a NUL behind it. */
static char *copied(const char *text)
{
    char *copy = malloc(strlen(text) ? strlen(text) : 1);
    memcpy(copy, text, strlen(text));
    return copy;
}

static ct_status skipped(const char *text, ct_error *err)
{
    ct_json j;
    char *copy = copied(text);
    ct_json_init(&j, "config.json", copy, strlen(text), err);
    ct_json_skip(&j);
    ct_status st = ct_json_end(&j);
    free(copy);
    return st;
}

static void takes_json(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}",
                                        "[]",
                                        " [ 1 , 2.5e-3,\t-0 ,\"a\\n\\u00e9\\ud83d\\ude00\", null,true ,false ] \r\n",
                                        "{\"a\":{\"b\":[{},[],[[]]]},\"a\":1}",
                                        "\"\xe2\x96\x81\"",
                                        "0",
                                        "-12.75E+2",
                                        "\xef\xbb\xbf{}"};
    ct_error err;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (skipped(texts[i], &err) != CT_OK)
            fail_msg("%s: %s", texts[i], err.text);
}

static void refuses_what_is_none(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        " ",
                                        "{",
                                        "[",
                                        "]",
                                        "}",
                                        "[1",
                                        "[1,",
                                        "[1,]",
                                        "[,1]",
                                        "[1 2]",
                                        "[1]]",
                                        "{}{}",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "{\"a\":1,}",
                                        "{1:2}",
                                        "{\"a\" 1}",
                                        "{a:1}",
                                        "[}",
                                        "{]",
                                        "{\"a\":1]",
                                        "tru",
                                        "nul",
                                        "truex",
                                        "True",
                                        "'a'",
                                        "\"",
                                        "\"a",
                                        "\"\\",
                                        "\"\\u12\"",
                                        "\"\\x\"",
                                        "\"\\ud800\"",
                                        "\"\\udc00\"",
                                        "\"\\ud800\\u0041\"",
                                        "\"\n\"",
                                        "\"\x80\"",
                                        "\"\xc0\x80\"",
                                        "\"\xed\xa0\x80\"",
                                        "\"\xe2\x96\"",
                                        "\"\xe2",
                                        "01",
                                        "-",
                                        "+1",
                                        "1.",
                                        ".5",
                                        "1e",
                                        "1e+",
                                        "NaN",
                                        "Infinity",
                                        "-01",
                                        "// a\n1",
                                        "1 1",
                                        "[1]\x01",
                                        "\"\\u00g0\"",
                                        "{\"a\":1 \"b\":2}",
                                        "[\"a\" \"b\"]",
                                        "\xef\xbb\xbf"};
    ct_error err;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (skipped(texts[i], &err) != CT_EFORMAT)
            fail_msg("%s was taken", texts[i]);
        assert_non_null(strstr(err.text, "'config.json' is damaged: expected "));
        assert_non_null(strstr(err.text, " at byte "));
    }
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    const char *whole = "{\"a\":[1,-2.5e1,\"x\\u00e9\xc3\xa9\\ud83d\\ude00\",null,true,false,{\"b\":{}}]}";
    for (size_t n = 0; n < strlen(whole); n++) {
        ct_json j;
        char *copy = malloc(n ? n : 1);
        memcpy(copy, whole, n);
        ct_json_init(&j, "x", copy, n, NULL);
        ct_json_skip(&j);
        assert_int_equal(ct_json_end(&j), CT_EFORMAT);
        free(copy);
    }
    assert_int_equal(skipped(whole, NULL), CT_OK);
}

static void depth_has_an_end(void **state)
{
    (void)state;
    char text[2 * (CT_JSON_DEPTH + 1) + 1];
    for (int depth = CT_JSON_DEPTH; depth <= CT_JSON_DEPTH + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        assert_int_equal(skipped(text, NULL), depth == CT_JSON_DEPTH ? CT_OK : CT_EFORMAT);
    }
}

static void reads_values(void **state)
{
    (void)state;
    const char *text =
        "{\"bits\": 4, \"eos\": [1, 106], \"f\": -2.5e-1, \"t\": true, \"nothing\": null, \"n\": -7,"
        " \"\\u0062ig\": 18446744073709551615, \"skip\": {\"a\": [1, {}]}, \"s\": \"\\u2581\\ud83d\\ude00\\t\\\"\"}";
    ct_json j;
    ct_json_str key, s = {0};
    uint64_t bits = 0, eos[2] = {0}, n = 0, big = 0;
    int64_t minus = 0;
    double f = 0;
    bool t = false, nothing = false;
    ct_json_init(&j, "x", text, strlen(text), NULL);
    assert_int_equal(ct_json_peek(&j), CT_JSON_OBJECT);
    assert_true(ct_json_object(&j));
    assert_int_equal(ct_json_peek(&j), CT_JSON_STRING);
    while (ct_json_key(&j, &key)) {
        if (ct_json_is(key, "bits")) {
            assert_true(ct_json_u64(&j, &bits));
        } else if (ct_json_is(key, "eos")) {
            assert_true(ct_json_array(&j));
            while (ct_json_more(&j)) {
                assert_int_equal(ct_json_peek(&j), CT_JSON_NUMBER);
                assert_true(n < 2 && ct_json_u64(&j, &eos[n++]));
            }
        } else if (ct_json_is(key, "f")) {
            assert_true(ct_json_f64(&j, &f));
        } else if (ct_json_is(key, "t")) {
            assert_true(ct_json_bool(&j, &t));
        } else if (ct_json_is(key, "nothing")) {
            nothing = ct_json_null(&j);
        } else if (ct_json_is(key, "n")) {
            assert_true(ct_json_i64(&j, &minus));
        } else if (ct_json_is(key, "big")) {
            assert_true(ct_json_u64(&j, &big));
        } else if (ct_json_is(key, "s")) {
            assert_true(ct_json_string(&j, &s));
        } else {
            assert_true(ct_json_is(key, "skip"));
            assert_true(ct_json_skip(&j));
        }
    }
    assert_int_equal(ct_json_end(&j), CT_OK);
    assert_int_equal(bits, 4);
    assert_true(eos[0] == 1 && eos[1] == 106 && n == 2);
    assert_true(f == -0.25 && t && nothing && minus == -7 && big == UINT64_MAX);
    char out[64];
    size_t len = ct_json_unescape(s, out);
    assert_true(len <= s.len && len == 9);
    assert_memory_equal(out, "\xe2\x96\x81\xf0\x9f\x98\x80\t\"", 9);
}

static void numbers_that_do_not_fit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool u64, i64, f64;
    } cases[] = {{"18446744073709551616", false, false, true},
                 {"9223372036854775808", true, false, true},
                 {"-1", false, true, true},
                 {"1.0", false, false, true},
                 {"1e3", false, false, true},
                 {"1e999", false, false, false},
                 {"\"1\"", false, false, false},
                 {"true", false, false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ct_json j;
        uint64_t u;
        int64_t v;
        double f;
        size_t n = strlen(cases[i].text);
        ct_json_init(&j, "x", cases[i].text, n, NULL);
        assert_int_equal(ct_json_u64(&j, &u), cases[i].u64);
        ct_json_init(&j, "x", cases[i].text, n, NULL);
        assert_int_equal(ct_json_i64(&j, &v), cases[i].i64);
        ct_json_init(&j, "x", cases[i].text, n, NULL);
        assert_int_equal(ct_json_f64(&j, &f), cases[i].f64);
    }
}

/* A caller that asks for the wrong thing gets a no, and no more than that. */
static void misuse_is_refused(void **state)
{
    (void)state;
    ct_json j;
    ct_json_str key;
    uint64_t u;
    ct_json_init(&j, "x", "{\"a\":1}", 7, NULL);
    assert_false(ct_json_key(&j, &key)); /* not inside yet */
    assert_false(ct_json_object(&j));    /* errors stick */
    assert_int_equal(ct_json_end(&j), CT_EFORMAT);
    ct_json_init(&j, "x", "{\"a\":1}", 7, NULL);
    assert_true(ct_json_object(&j));
    assert_false(ct_json_u64(&j, &u)); /* a key is due */
    ct_json_init(&j, "x", "[1,2]", 5, NULL);
    assert_true(ct_json_array(&j));
    assert_false(ct_json_u64(&j, &u)); /* ct_json_more was not asked */
    ct_json_init(&j, "x", "[1,2]", 5, NULL);
    assert_true(ct_json_array(&j) && ct_json_more(&j));
    assert_false(ct_json_more(&j)); /* the value was not read */
    ct_json_init(&j, "x", "1", 1, NULL);
    assert_true(ct_json_u64(&j, &u) && u == 1);
    assert_false(ct_json_u64(&j, &u));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_json),           cmocka_unit_test(refuses_what_is_none),
        cmocka_unit_test(every_cut_is_refused), cmocka_unit_test(depth_has_an_end),
        cmocka_unit_test(reads_values),         cmocka_unit_test(numbers_that_do_not_fit),
        cmocka_unit_test(misuse_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
