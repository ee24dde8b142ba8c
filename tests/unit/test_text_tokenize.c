/* Text to ids and back on the small vocabulary: edge by edge, and against a merge loop too simple to be wrong. */
#include "text_fixture.h"

static struct fixture fixture;
static ct_vocab *vocab, *by_merges;

static int32_t id_of(const char *text)
{
    int32_t id = ct_vocab_find(vocab, text, strlen(text));
    if (id < 0)
        fail_msg("the fixture lacks %s", text);
    return id;
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture.chat = "{{ bos_token }}";
    if (fixture_open(&fixture, &vocab, NULL) != CT_OK)
        return -1;
    fixture.model = "gpt2";
    return fixture_open(&fixture, &by_merges, NULL) == CT_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    ct_vocab_free(vocab);
    ct_vocab_free(by_merges);
    return 0;
}

/* The ids of text must spell `want`: pieces divided by '|', a byte piece as <0xNN>. For both kinds of file. */
static void expect_n(const char *text, size_t n, bool special, const char *want)
{
    for (int way = 0; way < 2; way++) {
        ct_ids ids = {0};
        assert_int_equal(ct_tokenize(way ? by_merges : vocab, text, n, false, special, &ids, NULL), CT_OK);
        size_t k = 0;
        bool same = true;
        for (const char *at = want; *at != '\0' && same; k++) {
            size_t len = strcspn(at, "|");
            same = k < ids.n && ids.ids[k] == ct_vocab_find(vocab, at, len);
            at += len + (at[len] == '|');
        }
        if (!same || k != ids.n) {
            print_message("text \"%.*s\", want %s, got", (int)n, text, want);
            for (size_t i = 0; i < ids.n; i++) {
                ct_str s = ct_vocab_piece(vocab, ids.ids[i]);
                print_message(" [%.*s]", (int)s.len, s.data);
            }
            print_message("\n");
        }
        assert_true(same && k == ids.n);
        ct_ids_deinit(&ids);
    }
}

static void expect(const char *text, bool special, const char *want) { expect_n(text, strlen(text), special, want); }

static void merges(void **state)
{
    (void)state;
    expect("", false, "");
    expect("hello", false, "hello");
    expect("hello hell", false, "hello| |hell");
    expect("abc", false, "abc");
    expect("bc", false, "bc");
    expect(" ab", false, " ab");
    expect("aaaa", false, "aa|aa");
    expect("aaa", false, "aaa");
    expect("語本語", false, "語本語");
    expect("éé e", false, "é|é| |e");
    expect("> <", false, "> <"); /* a piece that reaches across a space */
    expect("a <", false, "a| |<");
    expect("user", false, "user");
}

static void runs(void **state)
{
    (void)state;
    expect(" ", false, " ");
    expect("  ", false, "  ");
    expect("    ", false, "   | ");
    expect("     ab", false, "   |  |ab");
    expect("    ab", false, "   | ab");
    expect("a   b", false, "a|   |b");
    expect("   \n", false, "   |\n");
    expect("▁▁ a", false, "  | a"); /* a literal run is matched first and does not join the space */
    expect(" ▁▁", false, " |  ");
    expect(" ▁", false, "  "); /* one alone is a space like any other */
    expect("▁ ▁", false, "   ");
    expect("▁▁▁▁ab", false, "   | ab");
    expect("▁▁▁ ▁", false, "   |  ");
    expect("\n\n\n\n", false, "\n\n\n|\n");
    expect("\n \n", false, "\n| |\n");
    expect("\t\t", false, "\t|\t");
    expect("<b> </b>", false, "<b>| |</b>");
    expect("><b", false, ">|<|b");
    expect("<<b>>", false, "<|<b>|>");
}

static void control(void **state)
{
    (void)state;
    expect("<bos>", true, "<bos>");
    expect("a<bos>b", true, "a|<bos>|b");
    expect("<bos>", false, "<|b|o|s|>");
    expect("<unused5>", true, "<unused5>");
    expect("<unused5", true, "<|u|n|use|d|<0x35>"); /* 5 is not in the vocabulary */
    expect("<end_of_turn><b>", false, "<|e|n|d|_|o|f|_|t|u|r|n|>|<b>");
    expect("<0x0A>", true, "<|0|x|0|<0x41>|>"); /* a byte piece is never matched as text */
}

static void bytes(void **state)
{
    (void)state;
    expect("\xc3\xa4", false, "<0xC3>|<0xA4>"); /* a character that the vocabulary lacks */
    expect("a\xff"
           "b",
           false, "a|<0xFF>|b");                           /* no merge across a broken byte */
    expect("\xe8\xaa", false, "<0xE8>|<0xAA>");            /* cut short */
    expect("\xed\xa0\x80", false, "<0xED>|<0xA0>|<0x80>"); /* a surrogate */
    expect("\xc1\xa1", false, "<0xC1>|<0xA1>");            /* overlong */
    expect("\xf4\x90\x80\x80", false, "<0xF4>|<0x90>|<0x80>|<0x80>");
    expect("\xe2\x96", false, "<0xE2>|<0x96>"); /* two thirds of U+2581 */
    expect_n("a\0b", 3, false, "a|<0x00>|b");
    expect("\r", false, "\r");
}

static void options(void **state)
{
    (void)state;
    ct_ids ids = {0};
    assert_int_equal(ct_tokenize(vocab, "", 0, true, true, &ids, NULL), CT_OK);
    assert_int_equal(ct_tokenize(vocab, "a", 1, false, true, &ids, NULL), CT_OK); /* appends */
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.ids[0], 2);
    assert_int_equal(ids.ids[1], id_of("a"));
    ct_ids_deinit(&ids);
    assert_int_equal(ids.n, 0);

    struct fixture f;
    fixture_init(&f);
    f.space_prefix = 1;
    ct_vocab *v = NULL;
    assert_int_equal(fixture_open(&f, &v, NULL), CT_OK);
    assert_int_equal(ct_tokenize(v, "ab", 2, false, true, &ids, NULL), CT_OK);
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.ids[0], id_of(" ab"));
    ct_ids_deinit(&ids);
    ct_vocab_free(v);
}

/* BPE as the books have it: find the best pair, merge it, start again. Space form, no cuts, no heap. */
static size_t slow_bpe(const char *text, int32_t *ids)
{
    ct_str part[400];
    size_t n = 0;
    for (size_t i = 0; text[i] != '\0'; i += part[n++].len) {
        part[n] = (ct_str){text + i, 1};
        while (((unsigned char)text[i + part[n].len] & 0xc0) == 0x80)
            part[n].len++;
    }
    for (;;) {
        size_t best = n, best_order = FIXTURE_N_MERGES;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t k = 0; k < best_order; k++) {
                const char *bar = strchr(fixture_merges[k], '|');
                ct_str left = {fixture_merges[k], (size_t)(bar - fixture_merges[k])};
                if (left.len == part[i].len && memcmp(left.data, part[i].data, left.len) == 0 &&
                    ct_str_is(part[i + 1], bar + 1)) {
                    best = i;
                    best_order = k;
                }
            }
        if (best == n)
            break;
        part[best].len += part[best + 1].len; /* neighbours in the text as well */
        n--;
        memmove(&part[best + 1], &part[best + 2], (n - best - 1) * sizeof part[0]);
    }
    for (size_t i = 0; i < n; i++)
        ids[i] = ct_vocab_find(vocab, part[i].data, part[i].len);
    return n;
}

static void same_as_slow(void **state)
{
    (void)state;
    static const char *const letters[] = {"a", "b",  "c",  "a", "b", "h",  "e",  "l", "o",
                                          "é", "語", "本", ">", "<", "▁a", "▁h", "▁<"};
    uint64_t seed = 12345;
    for (int round = 0; round < 4000; round++) {
        char text[400] = "";
        int len = 1 + round % 60;
        int alphabet = round % 3 == 0 ? 3 : round % 3 == 1 ? 12 : 17;
        for (int i = 0; i < len; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            strncat(text, letters[(seed >> 33) % (uint64_t)alphabet], 5);
        }
        if (strstr(text, "<b>") != NULL) /* never split: not for a plain loop */
            continue;
        int32_t want[400];
        size_t n = slow_bpe(text, want);
        for (int way = 0; way < 2; way++) {
            ct_ids ids = {0};
            assert_int_equal(ct_tokenize(way ? by_merges : vocab, text, strlen(text), false, false, &ids, NULL), CT_OK);
            if (ids.n != n || memcmp(ids.ids, want, n * sizeof *want) != 0)
                fail_msg("different from the slow loop: %s", text);
            ct_ids_deinit(&ids);
        }
    }
}

/* Megabytes of one thing end soon: quadratic time would take hours, so ctest's time limit is the check. */
static void megabytes(void **state)
{
    (void)state;
    static const char *const units[] = {"a", " ", "\n", "<", "▁", "\xff", "語本", "<end_of_tur", "hello "};
    size_t n = 1 << 20;
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t len = strlen(units[u]);
        for (size_t i = 0; i < n; i++)
            text[i] = units[u][i % len];
        for (int way = 0; way < 2; way++) {
            ct_ids ids = {0};
            assert_int_equal(ct_tokenize(way ? by_merges : vocab, text, n, true, true, &ids, NULL), CT_OK);
            assert_true(ids.n > n / 12);
            ct_ids_deinit(&ids);
        }
    }
    free(text);
}

/* Decodes ids (-1 ends) one by one; every call must give whole characters. */
static void expect_text(const int32_t *ids, bool special, const char *want)
{
    char out[4096], all[4096] = "";
    size_t cap = ct_detok_max(vocab);
    assert_true(cap <= sizeof out);
    ct_detok d = {0};
    for (; *ids != -1; ids++) {
        size_t n = ct_detok_next(&d, vocab, *ids, special, out, cap);
        for (size_t i = 0; i < n;) { /* whole: every lead byte has its continuation bytes in this very call */
            unsigned char c = (unsigned char)out[i];
            size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
            assert_true((c & 0xc0) != 0x80 && i + len <= n);
            i += len;
        }
        strncat(all, out, n);
    }
    strncat(all, out, ct_detok_flush(&d, out, cap));
    assert_string_equal(all, want);
}

#define B(x) (FIXTURE_BYTES + (x))
#define BAD "\xef\xbf\xbd"

static void decodes(void **state)
{
    (void)state;
    int32_t a = id_of("a"), hello = id_of(" hello");
    expect_text((int32_t[]){-1}, false, "");
    expect_text((int32_t[]){hello, a, -1}, false, " helloa");
    expect_text((int32_t[]){2, a, 5, -1}, false, "a");
    expect_text((int32_t[]){2, a, 5, -1}, true, "<bos>a<end_of_turn>");
    expect_text((int32_t[]){7, 11, 13, -1}, false, "\n  <b>");
    expect_text((int32_t[]){B(0xf0), B(0x9f), B(0x98), B(0x80), -1}, false, "😀");
    expect_text((int32_t[]){B(0xc3), 2, B(0xa9), -1}, false, "é"); /* what is not shown does not disturb */
    expect_text((int32_t[]){B(0xc3), a, -1}, false, BAD "a");
    expect_text((int32_t[]){B(0xe2), B(0x82), a, -1}, false, BAD BAD "a");
    expect_text((int32_t[]){B(0xe2), B(0x82), B(0xc3), B(0xa9), -1}, false, BAD BAD "é");
    expect_text((int32_t[]){B(0x80), B(0xff), B(0x41), -1}, false, BAD BAD "A");
    expect_text((int32_t[]){B(0xed), B(0xa0), B(0x80), -1}, false, BAD BAD BAD);
    expect_text((int32_t[]){B(0xf0), B(0x9f), B(0x98), -1}, false, BAD BAD BAD); /* the end comes first: flush */
    expect_text((int32_t[]){-5, 1 << 29, a, -1}, false, "a");
}

static void round_trip(void **state)
{
    (void)state;
    static const char text[] =
        " hello  \n\n\tab äöü 😀👩‍👩‍👧‍👦 語本 <b>x</b> <bos> \r\n 日本";
    char out[512], all[sizeof text * 2] = "";
    for (int special = 0; special < 2; special++) {
        ct_ids ids = {0};
        ct_detok d = {0};
        all[0] = '\0';
        assert_int_equal(ct_tokenize(vocab, text, sizeof text - 1, false, special, &ids, NULL), CT_OK);
        for (size_t i = 0; i < ids.n; i++)
            strncat(all, out, ct_detok_next(&d, vocab, ids.ids[i], true, out, sizeof out));
        strncat(all, out, ct_detok_flush(&d, out, sizeof out));
        assert_string_equal(all, text);
        ct_ids_deinit(&ids);
    }
}

static void expect_turn(const char *system, const char *text, const char *rendered)
{
    ct_ids got = {0}, want = {0};
    assert_int_equal(ct_turn_user(vocab, system, text, strlen(text), true, &got, NULL), CT_OK);
    assert_int_equal(ct_tokenize(vocab, rendered, strlen(rendered), false, true, &want, NULL), CT_OK);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.ids, want.ids, got.n * sizeof *got.ids);
    ct_ids_deinit(&got);
    ct_ids_deinit(&want);
}

static void turns(void **state)
{
    (void)state;
    assert_true(ct_vocab_has_turns(vocab));
    expect_turn(NULL, "hello", "<bos><start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n");
    expect_turn("abc", " \n\t hello a\u00a0\u3000\u2028 ",
                "<bos><start_of_turn>user\nabc\n\nhello a<end_of_turn>\n<start_of_turn>model\n");
    expect_turn(" a ", "", "<bos><start_of_turn>user\n a \n\n<end_of_turn>\n<start_of_turn>model\n");
    expect_turn(NULL, "  \x1f ", "<bos><start_of_turn>user\n<end_of_turn>\n<start_of_turn>model\n");

    ct_ids ids = {0};
    static const char bad[] = "a<end_of_turn>b\xff";
    assert_int_equal(ct_turn_user(vocab, NULL, bad, sizeof bad - 1, false, &ids, NULL), CT_OK);
    assert_int_equal(ids.ids[0], 4);
    int ends = 0;
    for (size_t i = 0; i < ids.n; i++)
        ends += ids.ids[i] == 5;
    assert_int_equal(ends, 1); /* what the user typed stayed text */
    ct_ids_deinit(&ids);

    struct fixture f;
    fixture_init(&f);
    f.tokens[5] = "<turn_no_more>";
    f.chat = "x";
    ct_vocab *v = NULL;
    ct_error err = {0};
    assert_int_equal(fixture_open(&f, &v, NULL), CT_OK);
    assert_false(ct_vocab_has_turns(v));
    assert_int_equal(ct_turn_user(v, NULL, "a", 1, true, &ids, &err), CT_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "<end_of_turn>"));
    ct_ids_deinit(&ids);
    ct_vocab_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges),    cmocka_unit_test(runs),    cmocka_unit_test(control),
        cmocka_unit_test(bytes),     cmocka_unit_test(options), cmocka_unit_test(same_as_slow),
        cmocka_unit_test(megabytes), cmocka_unit_test(decodes), cmocka_unit_test(round_trip),
        cmocka_unit_test(turns),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
