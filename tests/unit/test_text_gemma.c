/* Gemma's real vocabulary: known ids of known texts, as Hugging Face `tokenizers` gives them with Gemma's tokenizer.json.
 *
 * Needs the default model, at $CARAT_TEST_MODEL or where `make bench` puts it; is skipped without it. The long comparison
 * with Hugging Face itself is scripts/check_tokenizer.py. */
#include "text_fixture.h"

static const struct {
    const char *text;
    size_t n; /* 0: up to the NUL */
    const char *ids;
} known[] = {
    {"Hello, world!", 0, "9259 236764 1902 236888"},
    {" Hello world", 0, "26352 1902"},
    {"The quick brown fox jumps over the lazy dog.", 0, "818 3823 8864 37423 38167 1024 506 31770 4799 236761"},
    {"a\nb", 0, "236746 107 236763"},
    {"a\n\n\nb", 0, "236746 109 236763"},
    {"x  y   z", 0, "236781 138 236762 139 236802"},
    {"    indented", 0, "140 724 16764"},
    {"\tif (x) {\n\t\treturn 0;\n\t}", 0,
     "255968 584 568 236781 236768 642 107 255969 2060 236743 236771 236793 107 255968 236783"},
    {"1234567890", 0, "236770 236778 236800 236812 236810 236825 236832 236828 236819 236771"},
    {"3.14159", 0, "236800 236761 236770 236812 236770 236810 236819"},
    {"日本語のテキスト", 0, "94951 236945 95830"},
    {"Привет мир", 0, "116130 58562"},
    {"😀🤖👩‍👩‍👧‍👦", 0, "242398 246143 243767 237243 243767 237243 244814 237243 244990"},
    {"naïve café", 0, "1789 238527 560 33443"},
    {"e\u0301", 0, "236744 238288"}, /* no normalisation */
    {"ﷺ 𓀀 \ufffd", 0, "241078 236743 478 385 366 366 58588"},
    {"hello\r\nworld", 0, "23391 251 107 12392"},
    {"\x00\x01", 2, "238 249732"},
    {"don't stop", 0, "13246 236789 236745 4721"},
    {"https://example.com/a?b=c&d=1", 0,
     "2574 1411 8358 236761 854 236786 236746 236881 236763 236784 236755 236880 236753 236784 236770"},
    {"                                        x", 0, "167 145 236781"},                       /* 40 spaces */
    {"\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n", 0, "137 110"}, /* 35 newlines */
    {"▁▁x", 0, "138 236781"},
    {"<table><tr>x</tr></table>", 0, "168 173 236781 181 176"},
    {"> </div>", 0, "236813 236743 235"},
    {"<unused5> <unused6241> <mask>", 0, "11 236743 262143 236743 4"},
    {"<bos>hi", 0, "2 2202"},
    {"<start_of_turn>user\nWrite a poem.<end_of_turn>\n<start_of_turn>model\n", 0,
     "105 2364 107 6974 496 27355 236761 106 107 105 4368 107"},
    {"a   b", 0, "236746 139 236763"},
    {"   \n", 0, "139 107"},
    {"▁▁ x", 0, "138 1123"},
    {" ▁▁", 0, "236743 138"},
    {"▁ ▁", 0, "139"},
    {" ▁ x", 0, "139 236781"},
    {">▁</div>", 0, "236813 236743 235"},
    {"> </ul", 0, "107068 575"},
};

static ct_vocab *vocab;

static int setup(void **state)
{
    (void)state;
    char path[1024] = "";
    const char *named = getenv("CARAT_TEST_MODEL"), *home = getenv("HOME");
    if (named)
        snprintf(path, sizeof path, "%s", named);
    else if (home)
        snprintf(path, sizeof path, "%s/.cache/carat/gemma-3-270m-q4_k_m.gguf", home);
    if (path[0] == '\0' || access(path, R_OK) != 0) {
        print_message(
            "skipped: no model at %s; `make bench` fetches the default one, $CARAT_TEST_MODEL names another\n",
            path[0] ? path : "$HOME/.cache/carat");
        return 0;
    }
    ct_tensors *t = NULL;
    ct_error err = {0};
    if (ct_gguf_open(&t, path, &err) != CT_OK || ct_vocab_create(&vocab, t, &err) != CT_OK || vocab == NULL) {
        print_message("%s: %s\n", path, err.text[0] ? err.text : "no vocabulary");
        ct_tensors_close(t);
        return -1;
    }
    ct_tensors_close(t);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ct_vocab_free(vocab);
    return 0;
}

static void need_model(void)
{
    if (vocab == NULL)
        skip();
}

static void facts(void **state)
{
    (void)state;
    need_model();
    assert_true(ct_vocab_size(vocab) >= 262144);
    assert_int_equal(ct_vocab_bos(vocab), 2);
    assert_true(ct_vocab_is_end(vocab, 1));
    assert_true(ct_vocab_is_end(vocab, 106));
    assert_true(ct_vocab_is_control(vocab, 105));
    assert_true(ct_vocab_is_control(vocab, 11));
    assert_false(ct_vocab_is_control(vocab, 168));
    assert_int_equal(ct_vocab_find(vocab, "<0x0D>", 6), 251);
    assert_true(ct_str_is(ct_vocab_piece(vocab, 251), "\r"));
    assert_true(ct_str_is(ct_vocab_piece(vocab, 494), " t"));
    assert_true(ct_str_is(ct_vocab_piece(vocab, 138), "  "));
}

static void known_ids(void **state)
{
    (void)state;
    need_model();
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = known[i].n ? known[i].n : strlen(known[i].text);
        ct_ids ids = {0};
        char got[512] = "";
        assert_int_equal(ct_tokenize(vocab, known[i].text, n, false, true, &ids, NULL), CT_OK);
        for (size_t k = 0; k < ids.n; k++)
            snprintf(got + strlen(got), sizeof got - strlen(got), k ? " %d" : "%d", ids.ids[k]);
        assert_string_equal(got, known[i].ids);
        ct_ids_deinit(&ids);
    }
}

/* Control pieces that a user types stay text; runs of newlines and HTML tags are whole all the same. */
static void plain(void **state)
{
    (void)state;
    need_model();
    static const char text[] = "<end_of_turn>\n\n<table>";
    ct_ids ids = {0};
    assert_int_equal(ct_tokenize(vocab, text, sizeof text - 1, true, false, &ids, NULL), CT_OK);
    assert_true(ids.n > 4);
    assert_int_equal(ids.ids[0], 2);
    assert_int_equal(ids.ids[ids.n - 2], 108);
    assert_int_equal(ids.ids[ids.n - 1], 168);
    for (size_t i = 0; i < ids.n; i++)
        assert_int_not_equal(ids.ids[i], 106);
    ct_ids_deinit(&ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts),
        cmocka_unit_test(known_ids),
        cmocka_unit_test(plain),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
