/* SHA-256 against the examples of FIPS 180-4 and its validation suite, and however the bytes are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/sha256.h"

static void expect(const char *text, size_t times, const char *want)
{
    char hex[CT_SHA256_HEX];
    ct_sha256 s;
    ct_sha256_init(&s);
    for (size_t i = 0; i < times; i++)
        ct_sha256_add(&s, text, strlen(text));
    ct_sha256_end(&s, hex);
    assert_string_equal(hex, want);
}

static void gives_the_standards_examples(void **state)
{
    (void)state;
    expect("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    expect("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
           "nopqrstu",
           1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    expect("aaaaaaaaaa", 100000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"); /* a million */
}

/* Lengths around the block and the place where the length no longer fits, in all ways to cut them once. */
static void does_not_mind_how_it_is_cut(void **state)
{
    (void)state;
    uint8_t data[200];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + 3);
    for (size_t n = 0; n <= sizeof data; n++) {
        char whole[CT_SHA256_HEX], cut[CT_SHA256_HEX];
        ct_sha256 s;
        ct_sha256_init(&s);
        ct_sha256_add(&s, data, n);
        ct_sha256_end(&s, whole);
        for (size_t at = 0; at <= n; at++) {
            ct_sha256_init(&s);
            ct_sha256_add(&s, data, at);
            ct_sha256_add(&s, data + at, n - at);
            ct_sha256_end(&s, cut);
            assert_string_equal(whole, cut);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_standards_examples),
        cmocka_unit_test(does_not_mind_how_it_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
