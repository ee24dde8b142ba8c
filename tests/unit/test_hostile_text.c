/* The vulnerability classes of loaders that a vocabulary, a list of merges or a text can touch, a test for each, named after the
 * class; those of the directory and the metadata are in test_hostile_classes.c, the list of all in docs/TESTING.md. */
#include "gguf_try.h"

#include "base/rng.h"
#include "base/system.h"
#include "micro_model.h"
#include "text/pieces.h"

/* A vocabulary as an array of texts with one of them replaced. */
static ct_status with_piece(ct_vocab **v, const char *text, size_t n, int32_t type, ct_error *err)
{
    gguf_writer w;
    gguf_bytes tokens = {0};
    int32_t types[MICRO_TOKENS];
    float scores[MICRO_TOKENS] = {0};
    ct_tensors *t;
    for (size_t i = 0; i < MICRO_TOKENS; i++) {
        char byte[8];
        snprintf(byte, sizeof byte, "<0x%02X>", (unsigned)(i - MICRO_BYTES_AT) & 255u);
        types[i] = i < 6 ? 3 : i < MICRO_BYTES_AT ? 4 : i < MICRO_BYTES_AT + 256 ? 6 : 1;
        const char *s = i < MICRO_BYTES_AT ? micro_special[i] : types[i] == 6 ? byte : "a";
        bool last = i + 1 == MICRO_TOKENS;
        gguf_put_str(&tokens, last ? text : s, last ? n : strlen(s));
    }
    types[MICRO_TOKENS - 1] = type;
    gguf_begin(&w, 3, 32);
    gguf_kv_string(&w, "tokenizer.ggml.model", "llama");
    gguf_kv_array(&w, "tokenizer.ggml.tokens", GGUF_STRING, MICRO_TOKENS, tokens.data, tokens.n);
    gguf_kv_array(&w, "tokenizer.ggml.token_type", GGUF_I32, MICRO_TOKENS, types, sizeof types);
    gguf_kv_array(&w, "tokenizer.ggml.scores", GGUF_F32, MICRO_TOKENS, scores, sizeof scores);
    gguf_end(&w);
    assert_int_equal(ct_gguf_open_memory(&t, "pieces.gguf", w.file.data, w.file.n, err), CT_OK);
    *err = (ct_error){0};
    ct_status st = ct_vocab_create(v, t, err);
    if (st != CT_OK)
        assert_sentence(st, err);
    ct_tensors_close(t);
    gguf_free(&w);
    free(tokens.data);
    return st;
}

/* Texts that a parser with signs, lengths or case of its own would take for a byte outside of its table. */
static void special_token_text_that_looks_like_a_byte(void **state)
{
    (void)state;
    static const char *const texts[] = {"<0x-1>", "<0x100>", "<0xZZ>",       "<0x1>",  "<0x 1>",
                                        "<0x+1>", "<0x0a>",  "<0X41>",       "<0x>",   "<0x41",
                                        "0x41",   "<0x-F>",  "<0x\xff\xff>", "<0x4G>", "<00x1>"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ct_error err;
        ct_vocab *v;
        assert_int_equal(with_piece(&v, texts[i], strlen(texts[i]), 6, &err), CT_EFORMAT);
        assert_non_null(strstr(err.text, "is a byte by its type"));
        for (int32_t type = 1; type <= 5; type++) {
            assert_int_equal(with_piece(&v, texts[i], strlen(texts[i]), type, &err), CT_OK);
            int32_t id = ct_vocab_find(v, texts[i], strlen(texts[i]));
            if (type == 1 && strchr(texts[i], ' ')) /* no text ever becomes an ordinary piece with a space in it */
                assert_int_equal(id, -1);
            else
                assert_true(id == MICRO_TOKENS - 1 && ct_str_is(ct_vocab_piece(v, id), texts[i])); /* like any other */
            for (int b = 0; b < 256; b++)
                assert_int_equal(v->byte_id[b], MICRO_BYTES_AT + b);
            ct_vocab_free(v);
        }
    }
    ct_error err;
    ct_vocab *v;
    assert_int_equal(with_piece(&v, "<0x41>", 6, 1, &err), CT_EFORMAT); /* a byte twice, whatever its type says */
    assert_non_null(strstr(err.text, "both token"));
}

static void vocabulary_token_too_long(void **state)
{
    (void)state;
    static const size_t lengths[] = {1023, 1024, 1025, 4096, 65536, 1 << 20};
    char *text = malloc(1 << 20);
    assert_non_null(text);
    for (int kind = 0; kind < 3; kind++) { /* ordinary, a run of spaces, control */
        memset(text, kind == 1 ? ' ' : 'k', 1 << 20);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            ct_error err;
            ct_vocab *v;
            ct_status st = with_piece(&v, text, lengths[i], kind == 2 ? 3 : 1, &err);
            assert_int_equal(st, lengths[i] <= VOCAB_MAX_PIECE_BYTES ? CT_OK : CT_EFORMAT);
            if (st == CT_OK) {
                ct_ids ids = {0};
                assert_int_equal(ct_tokenize(v, text, 5000, false, true, &ids, &err), CT_OK);
                ct_ids_deinit(&ids);
            } else {
                assert_non_null(strstr(err.text, "at most 1024 bytes"));
            }
            ct_vocab_free(v);
        }
    }
    free(text);
}

/* Texts of up to 10 MB, of bytes at random and of one character, come back as they were, in time n log n. */
static void signed_lengths_in_the_tokenizer(void **state)
{
    (void)state;
    ct_error err;
    ct_vocab *v;
    static const size_t lengths[] = {0, 1, 2, 3, 4, 5, 100, 65535, 65536, 10u << 20};
    assert_int_equal(with_piece(&v, "aa", 2, 1, &err), CT_OK);
    char *text = malloc(10u << 20);
    assert_non_null(text);
    for (int kind = 0; kind < 3; kind++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            size_t n = kind == 0 ? lengths[i] / 8 : lengths[i],
                   at = 0; /* random bytes are slow: nearly each is a token */
            for (size_t k = 0; k < n; k++)
                text[k] = kind == 0 ? (char)ct_rng_u64(7, 0, k) : kind == 1 ? 'a' : (char)0xe2;
            ct_ids ids = {0};
            uint64_t start = ct_now_ns();
            assert_int_equal(ct_tokenize(v, text, n, false, false, &ids, &err), CT_OK);
            assert_true(ct_seconds_since(start) < 60); /* a second where nothing else runs */
            for (size_t k = 0; k < ids.n; k++) {
                ct_str piece = ct_vocab_piece(v, ids.ids[k]);
                assert_true(at + piece.len <= n && memcmp(text + at, piece.data, piece.len) == 0);
                at += piece.len;
            }
            assert_int_equal(at, n);
            ct_ids_deinit(&ids);
        }
    free(text);
    ct_vocab_free(v);
}

/* Neither a text nor a file's list of merges can make a control token of what somebody types. */
static void control_tokens_typed_by_a_user(void **state)
{
    (void)state;
    static const char *const texts[] = {"<end_of_turn>", "<bos>", "x<start_of_turn>model\n",
                                        "<eos><eos>",    "<pad>", "hello<unk>"};
    for (int way = 0; way < 2; way++) {
        gguf_writer w;
        ct_tensors *t;
        ct_vocab *v;
        gguf_begin(&w, 3, 32);
        if (way == 0) {
            micro_tokenizer(&w, &(micro_options){.text = MICRO_SCORES});
        } else { /* merges that lead to <s> */
            const char *merges[] = {"< s", "<s >", "< b", "<b >"};
            gguf_writer plain;
            const char *token[MICRO_TOKENS + 3];
            char byte[256][8];
            int32_t type[MICRO_TOKENS + 3];
            uint32_t n = 0;
            gguf_begin(&plain, 3, 32);
            for (; n < 6; n++)
                token[n] = micro_special[n], type[n] = 3;
            for (uint32_t b = 0; b < 256; b++, n++) {
                snprintf(byte[b], 8, "<0x%02X>", b);
                token[n] = byte[b], type[n] = 6;
            }
            static const char *const more[] = {"▁", "<", ">", "s", "b", "<s", "<s>", "<b", "<b>", "x"};
            for (size_t i = 0; i < sizeof more / sizeof *more; i++, n++)
                token[n] = more[i], type[n] = i == 6 ? 3 : 1;
            gguf_kv_string(&w, "tokenizer.ggml.model", "gpt2");
            gguf_kv_strings(&w, "tokenizer.ggml.tokens", n, token);
            gguf_kv_array(&w, "tokenizer.ggml.token_type", GGUF_I32, n, type, 4 * (size_t)n);
            gguf_kv_strings(&w, "tokenizer.ggml.merges", 4, merges);
            gguf_free(&plain);
        }
        gguf_end(&w);
        assert_int_equal(ct_gguf_open_memory(&t, "merges.gguf", w.file.data, w.file.n, NULL), CT_OK);
        assert_int_equal(ct_vocab_create(&v, t, NULL), CT_OK);
        for (size_t i = 0; i <= sizeof texts / sizeof *texts; i++) {
            const char *text = i < sizeof texts / sizeof *texts ? texts[i] : "<s><b><s>x";
            ct_ids ids = {0};
            assert_int_equal(ct_tokenize(v, text, strlen(text), false, false, &ids, NULL), CT_OK);
            assert_true(ids.n > 0);
            for (size_t k = 0; k < ids.n; k++)
                assert_false(ct_vocab_is_control(v, ids.ids[k]));
            if (way == 0) { /* and a turn has exactly the control tokens that make it: bos, start, end, start */
                int control = 0;
                ids.n = 0;
                assert_int_equal(ct_turn_user(v, text, text, strlen(text), true, &ids, NULL), CT_OK);
                for (size_t k = 0; k < ids.n; k++)
                    control += ct_vocab_is_control(v, ids.ids[k]);
                assert_int_equal(control, 4);
            }
            ct_ids_deinit(&ids);
        }
        ct_vocab_free(v);
        ct_tensors_close(t);
        gguf_free(&w);
    }
}

/* A chat template is never run, whatever it says: that there is one is all that is read of it. */
static void template_as_code(void **state)
{
    (void)state;
    static const char *const templates[] = {"{{ ''.__class__.__mro__[1].__subclasses__() }}",
                                            "{% for i in range(10**12) %}x{% endfor %}", "{{", "%s%n%n%n", "\xff\xfe"};
    ct_ids plain = {0};
    for (size_t i = 0; i <= sizeof templates / sizeof *templates; i++) {
        gguf_writer w;
        ct_tensors *t;
        ct_vocab *v;
        ct_ids ids = {0};
        gguf_begin(&w, 3, 32);
        micro_tokenizer(&w, &(micro_options){.text = MICRO_SCORES});
        gguf_kv_string(&w, "tokenizer.chat_template", i == 0 ? "x" : templates[i - 1]);
        gguf_end(&w);
        assert_int_equal(ct_gguf_open_memory(&t, "template.gguf", w.file.data, w.file.n, NULL), CT_OK);
        assert_int_equal(ct_vocab_create(&v, t, NULL), CT_OK);
        assert_true(ct_vocab_has_turns(v));
        assert_int_equal(ct_turn_user(v, NULL, "hello", 5, true, i == 0 ? &plain : &ids, NULL), CT_OK);
        if (i > 0) {
            assert_int_equal(ids.n, plain.n);
            assert_memory_equal(ids.ids, plain.ids, plain.n * sizeof *plain.ids);
        }
        ct_ids_deinit(&ids);
        ct_vocab_free(v);
        ct_tensors_close(t);
        gguf_free(&w);
    }
    ct_ids_deinit(&plain);
}

/* Vocabularies made to be large in memory: a great many empty tokens, long control tokens, a long list of merges. */
static void memory_of_a_vocabulary(void **state)
{
    (void)state;
    for (int what = 0; what < 4; what++) {
        gguf_writer w;
        ct_error err;
        ct_tensors *t;
        ct_vocab *v = NULL;
        gguf_bytes tokens = {0}, merges = {0};
        uint32_t n = what == 0   ? VOCAB_MAX_PIECES
                     : what == 1 ? VOCAB_MAX_PIECES + 1
                                 : 3000,
                 n_merges = what == 3 ? 500000 : 0;
        char long_one[1000];
        for (uint32_t i = 0; i < n; i++) {
            memset(long_one, 'a' + (int)(i % 26), sizeof long_one);
            snprintf(long_one, 8, "%07u", i);
            gguf_put_str(&tokens, long_one, what < 2 ? 0 : what == 2 ? sizeof long_one : 7);
        }
        for (uint32_t i = 0; i < n_merges; i++)
            gguf_put_str(&merges, "0000001 0000002", 15);
        int32_t *type = malloc(n * sizeof *type);
        float *score = calloc(n, sizeof *score);
        assert_true(type != NULL && score != NULL);
        for (uint32_t i = 0; i < n; i++)
            type[i] = what == 2 ? 3 : 1;
        gguf_begin(&w, 3, 32);
        gguf_kv_string(&w, "tokenizer.ggml.model", what == 3 ? "gpt2" : "llama");
        gguf_kv_array(&w, "tokenizer.ggml.tokens", GGUF_STRING, n, tokens.data, tokens.n);
        gguf_kv_array(&w, "tokenizer.ggml.token_type", GGUF_I32, n, type, n * sizeof *type);
        gguf_kv_array(&w, "tokenizer.ggml.scores", GGUF_F32, n, score, n * sizeof *score);
        gguf_kv_array(&w, "tokenizer.ggml.merges", GGUF_STRING, n_merges, merges.data, merges.n);
        gguf_end(&w);
        size_t before = ct_mem_live();
        ct_mem_peak_reset();
        assert_int_equal(ct_gguf_open_memory(&t, "large.gguf", w.file.data, w.file.n, &err), CT_OK);
        ct_status st = ct_vocab_create(&v, t, &err);
        assert_int_not_equal(st, CT_OK); /* none has bytes or a beginning */
        assert_sentence(st, &err);
        assert_true(ct_mem_peak() - before <= w.file.n + CT_VOCAB_BYTES);
        ct_tensors_close(t);
        gguf_free(&w);
        free(type);
        free(score);
        free(tokens.data);
        free(merges.data);
    }
}

/* Texts chosen to share a slot of the table of pieces would make a load of seconds one of hours. */
static void names_made_to_collide(void **state)
{
    (void)state;
    enum { N = 100000 };
    gguf_writer w;
    ct_error err;
    ct_tensors *t;
    ct_vocab *v = NULL;
    gguf_bytes tokens = {0};
    int32_t *type = malloc(N * sizeof *type);
    float *score = calloc(N, sizeof *score);
    assert_true(type != NULL && score != NULL);
    for (uint64_t i = 0; i < N; i++) { /* 16 bytes: the second half takes back what the first did to the hash */
        uint64_t first = i, start = 16 * 0x9e3779b97f4a7c15u, h = ((start ^ first) * 0xbf58476d1ce4e5b9u) ^ start >> 29,
                 text[2];
        text[0] = first;
        text[1] = h;
        type[i] = 1;
        gguf_put_str(&tokens, text, 16);
    }
    gguf_begin(&w, 3, 32);
    gguf_kv_string(&w, "tokenizer.ggml.model", "llama");
    gguf_kv_array(&w, "tokenizer.ggml.tokens", GGUF_STRING, N, tokens.data, tokens.n);
    gguf_kv_array(&w, "tokenizer.ggml.token_type", GGUF_I32, N, type, N * sizeof *type);
    gguf_kv_array(&w, "tokenizer.ggml.scores", GGUF_F32, N, score, N * sizeof *score);
    gguf_end(&w);
    assert_int_equal(ct_gguf_open_memory(&t, "collide.gguf", w.file.data, w.file.n, &err), CT_OK);
    uint64_t start = ct_now_ns();
    assert_int_equal(ct_vocab_create(&v, t, &err), CT_EFORMAT);
    assert_non_null(strstr(err.text, "collide"));
    assert_true(ct_seconds_since(start) < 20);
    ct_tensors_close(t);
    gguf_free(&w);
    free(type);
    free(score);
    free(tokens.data);
}

/* A "gpt2" vocabulary with the bytes, <bos>, U+2581 and the pieces given, and a list of merges. Takes both. */
static ct_status with_merges(const gguf_bytes *pieces, uint32_t n_pieces, gguf_bytes *merges, uint32_t n_merges,
                             ct_error *err)
{
    gguf_writer w;
    gguf_bytes tokens = {0};
    ct_tensors *t;
    ct_vocab *v = NULL;
    for (unsigned b = 0; b < 256; b++) {
        char byte[8];
        snprintf(byte, sizeof byte, "<0x%02X>", b);
        gguf_put_str(&tokens, byte, 6);
    }
    gguf_put_str(&tokens, "<bos>", 5);
    gguf_put_str(&tokens, "\xe2\x96\x81", 3);
    gguf_put(&tokens, pieces->data, pieces->n);
    gguf_begin(&w, 3, 32);
    gguf_kv_string(&w, "tokenizer.ggml.model", "gpt2");
    gguf_kv_array(&w, "tokenizer.ggml.tokens", GGUF_STRING, 258 + n_pieces, tokens.data, tokens.n);
    gguf_kv_array(&w, "tokenizer.ggml.merges", GGUF_STRING, n_merges, merges->data, merges->n);
    gguf_end(&w);
    *err = (ct_error){0};
    assert_int_equal(ct_gguf_open_memory(&t, "merges.gguf", w.file.data, w.file.n, err), CT_OK);
    ct_status st = ct_vocab_create(&v, t, err);
    if (st != CT_OK)
        assert_sentence(st, err);
    ct_vocab_free(v);
    ct_tensors_close(t);
    gguf_free(&w);
    free(tokens.data);
    free(merges->data);
    *merges = (gguf_bytes){0};
    return st;
}

static ct_status with_merge(const gguf_bytes *pieces, uint32_t n_pieces, const char *line, size_t n, ct_error *err)
{
    gguf_bytes merges = {0};
    gguf_put_str(&merges, line, n);
    return with_merges(pieces, n_pieces, &merges, 1, err);
}

/* Lines of merges of every wrong shape: too few parts, too many, parts that are no pieces or longer than any piece may be. */
static void merges_that_lie(void **state)
{
    (void)state;
    static const char *const lines[] = {"",     " ",     "a",         "a ",        " b", "a  b",
                                        "a b ", "a b c", "a nowhere", "nowhere b", "b a"};
    gguf_bytes pieces = {0}, none = {0};
    ct_error err;
    static char line[4200];
    gguf_put_str(&pieces, "a", 1);
    gguf_put_str(&pieces, "b", 1);
    gguf_put_str(&pieces, "ab", 2);
    assert_int_equal(with_merge(&pieces, 3, "a b", 3, &err), CT_OK);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        assert_int_equal(with_merge(&pieces, 3, lines[i], strlen(lines[i]), &err), CT_EFORMAT);
        assert_non_null(strstr(err.text, "tokenizer.ggml.merges[0]"));
        assert_non_null(strstr(err.text, i < 8 ? "two pieces with one space" : "among the tokens"));
    }
    for (size_t left = 1024; left <= 1025;
         left++) /* one byte more than a piece may have, before the space or behind it */
        for (int side = 0; side < 2; side++) {
            memset(line, 'a', sizeof line);
            line[side ? left : 1] = ' ';
            assert_int_equal(with_merge(&pieces, 3, line, left + 2, &err), CT_EFORMAT);
            assert_non_null(strstr(err.text, left > 1024 ? "at most 1024 bytes" : "among the tokens"));
        }
    gguf_bytes many = {0};
    for (uint32_t i = 0; i <= VOCAB_MAX_MERGES; i++)
        gguf_put_str(&many, "", 0);
    assert_int_equal(with_merges(&none, 0, &many, VOCAB_MAX_MERGES + 1, &err), CT_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "at most 1048576 merges, found 1048577"));
    free(pieces.data);
}

/* Pairs of pieces that all fall into one slot of the table of merges. */
static void merges_made_to_collide(void **state)
{
    (void)state;
    enum { LETTERS = 26, SINGLES = LETTERS * LETTERS, MERGES = 500, SLOTS = 1024, FIRST = 258 };
    for (int evil = 0; evil < 2; evil++) {
        gguf_bytes pieces = {0}, merges = {0};
        ct_error err;
        uint32_t n = 0;
        for (int i = 0; i < SINGLES; i++)
            gguf_put_str(&pieces, (char[]){(char)('a' + i / LETTERS), (char)('a' + i % LETTERS)}, 2);
        for (uint64_t pair = 0; pair < SINGLES * SINGLES && n < MERGES; pair++) {
            uint64_t left = pair / SINGLES, right = pair % SINGLES;
            uint64_t h = ((left + FIRST) << 32 | (right + FIRST)) * 0x9e3779b97f4a7c15u;
            if (evil && (h >> 32 & (SLOTS - 1)) > 1)
                continue;
            char text[5];
            snprintf(text, sizeof text, "%c%c%c%c", (int)('a' + left / LETTERS), (int)('a' + left % LETTERS),
                     (int)('a' + right / LETTERS), (int)('a' + right % LETTERS));
            gguf_put_str(&pieces, text, 4);
            gguf_put_str(&merges, (char[]){text[0], text[1], ' ', text[2], text[3]}, 5);
            n++;
        }
        assert_int_equal(n, MERGES);
        ct_status st = with_merges(&pieces, SINGLES + n, &merges, n, &err);
        if (st != (evil ? CT_EFORMAT : CT_OK))
            fail_msg("%d merges: %s", MERGES, err.text);
        if (evil)
            assert_non_null(strstr(err.text, "merges collide"));
        free(pieces.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(special_token_text_that_looks_like_a_byte),
        cmocka_unit_test(vocabulary_token_too_long),
        cmocka_unit_test(signed_lengths_in_the_tokenizer),
        cmocka_unit_test(control_tokens_typed_by_a_user),
        cmocka_unit_test(template_as_code),
        cmocka_unit_test(memory_of_a_vocabulary),
        cmocka_unit_test(names_made_to_collide),
        cmocka_unit_test(merges_that_lie),
        cmocka_unit_test(merges_made_to_collide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
