/* The vocabulary: what is read, what is repaired, what is refused, and what happens when memory is short. */
#include "text_fixture.h"

#include "base/mem.h"

static ct_status try(const struct fixture *f, ct_error *err)
{
    ct_vocab *v = (ct_vocab *)1;
    ct_status st = fixture_open(f, &v, err);
    if (st != CT_OK)
        assert_null(v);
    ct_vocab_free(v);
    return st;
}

static bool piece_is(const ct_vocab *v, int32_t id, const char *text) { return ct_str_is(ct_vocab_piece(v, id), text); }

static void reads(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    ct_vocab *v = NULL;
    assert_int_equal(fixture_open(&f, &v, NULL), CT_OK);
    assert_int_equal(ct_vocab_size(v), f.n);
    assert_int_equal(ct_vocab_bos(v), 2);
    assert_true(ct_vocab_add_bos(v));
    assert_false(ct_vocab_has_turns(v)); /* no template */
    assert_true(ct_vocab_is_end(v, 1));
    assert_true(ct_vocab_is_end(v, 5)); /* <end_of_turn>, by its text */
    assert_false(ct_vocab_is_end(v, 2));
    assert_false(ct_vocab_is_end(v, -1));
    assert_false(ct_vocab_is_end(v, (int32_t)f.n));
    assert_true(ct_vocab_is_control(v, 0));
    assert_true(ct_vocab_is_control(v, 6));
    assert_false(ct_vocab_is_control(v, 7));
    assert_true(piece_is(v, 11, "  "));
    assert_true(piece_is(v, 5, "<end_of_turn>"));
    assert_true(piece_is(v, FIXTURE_BYTES + 'A', "A"));
    assert_int_equal(ct_vocab_piece(v, FIXTURE_BYTES).len, 1);
    assert_int_equal(ct_vocab_piece(v, -1).len, 0);
    assert_int_equal(ct_vocab_piece(v, 1 << 30).len, 0);
    int32_t id = ct_vocab_find(v, "▁hello", 8);
    assert_true(id > 0);
    assert_int_equal(ct_vocab_find(v, " hello", 6), id);
    assert_true(piece_is(v, id, " hello"));
    assert_int_equal(ct_vocab_find(v, "<0x0A>", 6), FIXTURE_BYTES + 10);
    assert_int_equal(ct_vocab_find(v, "nothing", 7), -1);
    assert_int_equal(ct_vocab_find(v, "", 0), -1);
    static const char big[100000];
    assert_int_equal(ct_vocab_find(v, big, sizeof big), -1);
    ct_vocab_free(v);
    ct_vocab_free(NULL);
}

static void none(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.model = NULL;
    ct_vocab *v = (ct_vocab *)1;
    assert_int_equal(fixture_open(&f, &v, NULL), CT_OK);
    assert_null(v);
}

/* Files with wrong token types, with none, and with the scores in disorder give the same ids. */
static void repairs(void **state)
{
    (void)state;
    static const char text[] = "<bos> hello\n\n\n\t<b>  ab</b>   ▁▁abc語本<unused5>";
    struct fixture f;
    fixture_init(&f);
    ct_vocab *good = NULL;
    assert_int_equal(fixture_open(&f, &good, NULL), CT_OK);
    for (int way = 0; way < 4; way++) {
        fixture_init(&f);
        for (uint32_t i = 0; i < f.n && way < 2; i++)
            if (i < FIXTURE_BYTES)
                f.types[i] = way == 0 || i >= 7 ? 1 : 4;
        f.no_types = way == 2;
        if (way == 3) { /* two pieces that no text here needs change places, so that the scores do not fall */
            f.scores[f.n - 1] = f.scores[FIXTURE_BYTES + 256] + 1;
            f.scores[FIXTURE_BYTES + 256] += 0.5f;
        }
        ct_vocab *v = NULL;
        assert_int_equal(fixture_open(&f, &v, NULL), CT_OK);
        for (int special = 0; special < 2; special++) {
            ct_ids a = {0}, b = {0};
            assert_int_equal(ct_tokenize(good, text, sizeof text - 1, true, special, &a, NULL), CT_OK);
            assert_int_equal(ct_tokenize(v, text, sizeof text - 1, true, special, &b, NULL), CT_OK);
            assert_int_equal(a.n, b.n);
            assert_memory_equal(a.ids, b.ids, a.n * sizeof *a.ids);
            ct_ids_deinit(&a);
            ct_ids_deinit(&b);
        }
        assert_true(ct_vocab_is_control(v, 5) && ct_vocab_is_end(v, 5) && !ct_vocab_is_control(v, 13));
        ct_vocab_free(v);
    }
    ct_vocab_free(good);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        ct_status status;
        const char *says;
    } cases[] = {
        {"model", CT_EUNSUPPORTED, "bert"},
        {"type 7", CT_EFORMAT, "token_type[9]"},
        {"type 0", CT_EFORMAT, "token_type[9]"},
        {"byte text", CT_EFORMAT, "<0x0a>"},
        {"byte gone", CT_EFORMAT, "<0x41>"},
        {"byte twice", CT_EFORMAT, "<0x42>"},
        {"nan", CT_EFORMAT, "NaN"},
        {"bos", CT_EFORMAT, "bos_token_id"},
        {"eos", CT_EFORMAT, "eos_token_id"},
        {"no wide space", CT_EUNSUPPORTED, "U+2581"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        fixture_init(&f);
        switch (i) {
        case 0: f.model = "bert"; break;
        case 1: f.types[9] = 7; break;
        case 2: f.types[9] = 0; break;
        case 3: f.tokens[FIXTURE_BYTES + 10] = "<0x0a>"; break;
        case 4: f.tokens[FIXTURE_BYTES + 0x41] = "nothing", f.types[FIXTURE_BYTES + 0x41] = 1; break;
        case 5: f.tokens[FIXTURE_BYTES + 0x41] = "<0x42>"; break;
        case 6: memcpy(&f.scores[f.n - 1], "\xff\xff\xff\x7f", 4); break;
        case 7: f.bos = f.n; break;
        case 8: f.eos = UINT32_MAX; break;
        default:
            f.model = "gpt2";
            for (uint32_t k = 0; k < f.n; k++)
                if (strcmp(f.tokens[k], "▁") == 0)
                    f.tokens[k] = "Ġ";
        }
        ct_error err = {0};
        ct_status st = try(&f, &err);
        if (st != cases[i].status || strstr(err.text, cases[i].says) == NULL)
            print_message("%s: %s: %s\n", cases[i].what, ct_status_name(st), err.text);
        assert_int_equal(st, cases[i].status);
        assert_non_null(strstr(err.text, cases[i].says));
        assert_int_equal(try(&f, NULL), cases[i].status);
    }
}

/* The arrays themselves: wrong types and lengths, and absent. */
static void refuses_arrays(void **state)
{
    (void)state;
    for (int i = 0; i < 11; i++) {
        struct fixture f;
        fixture_init(&f);
        gguf_writer w;
        gguf_begin(&w, 3, 32);
        gguf_kv_string(&w, "general.architecture", "gemma3");
        if (i == 0)
            gguf_kv_u32(&w, "tokenizer.ggml.model", 5);
        else
            gguf_kv_string(&w, "tokenizer.ggml.model", i >= 8 ? "gpt2" : "llama");
        if (i == 1)
            gguf_kv_array(&w, "tokenizer.ggml.tokens", GGUF_F32, f.n, f.scores, 4 * (size_t)f.n);
        else if (i != 2)
            gguf_kv_strings(&w, "tokenizer.ggml.tokens", i == 3 ? 0 : f.n, f.tokens);
        gguf_kv_array(&w, "tokenizer.ggml.token_type", i == 4 ? GGUF_F32 : GGUF_I32, i == 5 ? f.n - 1 : f.n, f.types,
                      4 * (size_t)(i == 5 ? f.n - 1 : f.n));
        if (i < 8 && i != 6)
            gguf_kv_array(&w, "tokenizer.ggml.scores", GGUF_F32, i == 7 ? 3 : f.n, f.scores,
                          4 * (size_t)(i == 7 ? 3 : f.n));
        if (i == 9)
            gguf_kv_strings(&w, "tokenizer.ggml.merges", 1, (const char *const[]){"a b c"});
        if (i == 10)
            gguf_kv_strings(&w, "tokenizer.ggml.merges", 1, (const char *const[]){"a nowhere"});
        ct_vocab *v = NULL;
        ct_error err = {0};
        ct_status st = fixture_load(&w, &v, &err);
        if (st != CT_EFORMAT)
            print_message("array case %d: %s %s\n", i, ct_status_name(st), err.text);
        assert_int_equal(st, CT_EFORMAT);
        assert_true(err.text[0] != '\0');
        assert_null(v);
    }
}

/* A model "none" without tokens is a file without a tokenizer, not a damaged one. */
static void knows_none(void **state)
{
    (void)state;
    gguf_writer w;
    gguf_begin(&w, 3, 32);
    gguf_kv_string(&w, "general.architecture", "gemma3");
    gguf_kv_string(&w, "tokenizer.ggml.model", "none");
    ct_vocab *v = NULL;
    ct_error err = {0};
    assert_int_equal(fixture_load(&w, &v, &err), CT_OK);
    assert_null(v);
}

/* Every allocation fails once: an error each time, nothing lost, and the next try works. */
static void survives_short_memory(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct fixture f;
        fixture_init(&f);
        f.model = way ? "gpt2" : "llama";
        f.scores[f.n - 1] = 5; /* so that the scores must be sorted, too */
        gguf_writer w;
        fixture_write(&f, &w);
        gguf_end(&w);
        char path[] = "/tmp/carat-text-XXXXXX";
        close(mkstemp(path));
        assert_int_equal(gguf_save(&w, path), 0);
        gguf_free(&w);
        ct_tensors *t = NULL;
        assert_int_equal(ct_gguf_open(&t, path, NULL), CT_OK);
        static const char text[] = "hello   ab▁▁ 語本語 <b> \xff hello hello";
        ct_status st = CT_ENOMEM;
        size_t n = 0;
        while (st != CT_OK) {
            ct_vocab *v = NULL;
            ct_ids ids = {0};
            ct_error err = {0};
            assert_true(n < 1000);
            ct_mem_fail_at(++n);
            st = ct_vocab_create(&v, t, &err);
            if (st == CT_OK)
                st = ct_tokenize(v, text, sizeof text - 1, true, true, &ids, &err);
            if (st == CT_OK)
                st = ct_turn_user(v, "system", text, sizeof text - 1, true, &ids, &err);
            ct_mem_fail_at(0);
            assert_true(st == CT_OK || (st == CT_ENOMEM && err.code == CT_ENOMEM && err.text[0] != '\0'));
            ct_ids_deinit(&ids);
            ct_vocab_free(v);
        }
        assert_true(n > 8);
        ct_tensors_close(t);
        unlink(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(none),
        cmocka_unit_test(repairs),
        cmocka_unit_test(refuses),
        cmocka_unit_test(refuses_arrays),
        cmocka_unit_test(knows_none),
        cmocka_unit_test(survives_short_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
