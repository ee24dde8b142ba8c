/* tokenizer.json and tokenizer.model become the arrays that a GGUF file has, give the same ids, and are refused in a sentence
 * where they are damaged or not of Gemma's kind. Files lie at the end of a block of their size. */
#include "base/mem.h"
#include "formats/directory.h"
#include "formats/tokenizer.h"
#include "gguf_try.h"
#include "tokenizer_files.h"

typedef ct_status parse_fn(ct_tensors *t, const char *path, const ct_map *map, const ct_map *config, ct_error *err);

/* A directory made of a file in memory, with or without a tokenizer_config.json. */
static ct_status make(ct_tensors **t, parse_fn *parse, const void *data, size_t n, const char *config, ct_error *err)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (n > 0)
        memcpy(copy, data, n);
    ct_map map = ct_map_borrow(copy, n), extra = ct_map_borrow(config, config ? strlen(config) : 0);
    size_t before = ct_mem_live();
    *t = ct_tensors_new("folder", "folder");
    assert_non_null(*t);
    ct_mem_peak_reset();
    ct_status st = parse(*t, parse == ct_tokenizer_json_parse ? "x/tokenizer.json" : "x/tokenizer.model", &map,
                         config ? &extra : NULL, err);
    assert_true(ct_mem_peak() - before <= 2 * n + ((size_t)1 << 20));
    free(copy); /* nothing of it is borrowed */
    if (st == CT_OK)
        st = ct_tensors_index(*t, err);
    if (st != CT_OK) {
        assert_int_equal(err->code, st);
        ct_tensors_close(*t);
        *t = NULL;
        assert_int_equal(ct_mem_live(), before);
    }
    return st;
}

static ct_vocab *vocab_of(ct_tensors *t)
{
    ct_error err = {0};
    ct_vocab *v = NULL;
    if (ct_vocab_create(&v, t, &err) != CT_OK)
        fail_msg("%s", err.text);
    assert_non_null(v);
    return v;
}

static const char *const texts[] = {"",
                                    "hello hello",
                                    "  hello\n\n\n\n<b>ab</b> \t<start_of_turn>user<end_of_turn>",
                                    "abc aabc aaaab ababc  abc   a",
                                    "aéaé ▁▁a語本語 😀",
                                    "> < ></b> user mode model\r\n",
                                    "<unused5><0x41><unk> [x]_9",
                                    "\xff\xe2\x96"};

/* The same ids as of the GGUF file, with control tokens and without. */
static void expect_same_ids(const struct fixture *f, ct_tensors *t)
{
    ct_error err = {0};
    ct_vocab *want, *got = vocab_of(t);
    assert_int_equal(fixture_open(f, &want, &err), CT_OK);
    assert_int_equal(ct_vocab_size(got), ct_vocab_size(want));
    assert_int_equal(ct_vocab_bos(got), ct_vocab_bos(want));
    for (size_t i = 0; i < 2 * (sizeof texts / sizeof *texts); i++) {
        ct_ids a = {0}, b = {0};
        const char *text = texts[i / 2];
        assert_int_equal(ct_tokenize(want, text, strlen(text), true, i % 2, &a, &err), CT_OK);
        assert_int_equal(ct_tokenize(got, text, strlen(text), true, i % 2, &b, &err), CT_OK);
        if (a.n != b.n || memcmp(a.ids, b.ids, a.n * sizeof *a.ids) != 0)
            fail_msg("'%s' has other ids", text);
        ct_ids_deinit(&a);
        ct_ids_deinit(&b);
    }
    for (int32_t id = 0; id < ct_vocab_size(want); id++) {
        assert_true(ct_vocab_is_control(want, id) == ct_vocab_is_control(got, id));
        assert_true(ct_vocab_is_end(want, id) == ct_vocab_is_end(got, id));
    }
    ct_vocab_free(want);
    ct_vocab_free(got);
}

static void expect_arrays(const struct fixture *f, ct_tensors *t)
{
    const ct_kv_pair *tokens = ct_tensors_kv(t, "tokenizer.ggml.tokens");
    const ct_kv_pair *types = ct_tensors_kv(t, "tokenizer.ggml.token_type");
    const ct_kv_pair *scores = ct_tensors_kv(t, "tokenizer.ggml.scores");
    assert_true(tokens && types && scores && tokens->count == f->n && types->count == f->n && scores->count == f->n);
    ct_str model = {0};
    assert_int_equal(ct_kv_string(t, "tokenizer.ggml.model", &model, NULL), CT_OK);
    assert_true(ct_str_is(model, "llama"));
    for (uint32_t id = 0; id < f->n; id++) {
        int32_t type;
        float score;
        assert_true(ct_str_is(ct_kv_str(tokens, id), f->tokens[id]));
        memcpy(&type, types->data + 4 * (size_t)id, 4);
        memcpy(&score, scores->data + 4 * (size_t)id, 4);
        assert_int_equal(type == 2 ? 3 : type, f->types[id]);
        assert_true(score == f->scores[id]);
    }
}

static void json_in_all_spellings(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    for (int how = 0; how < 256; how += 1) {
        if (how & JSON_OTHER_MERGES)
            continue;
        ct_error err = {0};
        ct_tensors *t;
        gguf_bytes file = tokenizer_json(&f, how);
        if (make(&t, ct_tokenizer_json_parse, file.data, file.n, NULL, &err) != CT_OK)
            fail_msg("spelling %d: %s", how, err.text);
        expect_arrays(&f, t);
        if (how < 16)
            expect_same_ids(&f, t);
        ct_tensors_close(t);
        free(file.data);
    }
}

/* A list of merges that does not follow from the pieces is kept as it is. */
static void other_merges(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    for (int how = 0; how < 4; how++) {
        ct_error err = {0};
        ct_tensors *t;
        ct_str model = {0}, first;
        gguf_bytes file = tokenizer_json(&f, JSON_OTHER_MERGES | (how & 1 ? JSON_OLD_MERGES : 0) |
                                                 (how & 2 ? JSON_MERGES_FIRST | JSON_ESCAPED : 0));
        if (make(&t, ct_tokenizer_json_parse, file.data, file.n, NULL, &err) != CT_OK)
            fail_msg("%s", err.text);
        assert_int_equal(ct_kv_string(t, "tokenizer.ggml.model", &model, NULL), CT_OK);
        assert_true(ct_str_is(model, "gpt2"));
        const ct_kv_pair *merges = ct_tensors_kv(t, "tokenizer.ggml.merges");
        assert_non_null(merges);
        static struct split splits[FIXTURE_MAX];
        assert_int_equal(merges->count, fixture_splits(&f, splits, FIXTURE_MAX));
        first = ct_kv_str(merges, 0);
        assert_true(ct_str_is(first, "\n\n \n"));
        ct_vocab_free(vocab_of(t));
        ct_tensors_close(t);
        free(file.data);
    }
}

static void model_file(void **state)
{
    (void)state;
    struct fixture f;
    ct_error err = {0};
    ct_tensors *t;
    fixture_init(&f);
    static const char config[] = "{\"added_tokens_decoder\": {\"0\": {\"content\": \"<pad>\", \"special\": true}, "
                                 "\"4\": {\"content\": \"<start_of_turn>\", \"special\": true}, "
                                 "\"5\": {\"content\": \"<end_of_turn>\", \"special\": true}, "
                                 "\"6\": {\"content\": \"<unused5>\", \"special\": false}}}";
    gguf_bytes file = tokenizer_model(&f);
    if (make(&t, ct_tokenizer_model_parse, file.data, file.n, config, &err) != CT_OK)
        fail_msg("%s", err.text);
    expect_arrays(&f, t);
    expect_same_ids(&f, t);
    ct_tensors_close(t);
    if (make(&t, ct_tokenizer_model_parse, file.data, file.n, NULL, &err) !=
        CT_OK) /* types are repaired by the texts */
        fail_msg("%s", err.text);
    expect_same_ids(&f, t);
    ct_tensors_close(t);
    free(file.data);
}

/* Every cut of a file is a refusal or, between two pieces, another tokenizer; never more. */
static void model_file_cut(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    gguf_bytes file = tokenizer_model(&f);
    for (size_t n = 0; n < file.n; n++) {
        ct_error err = {0};
        ct_tensors *t;
        ct_status st = make(&t, ct_tokenizer_model_parse, file.data, n, NULL, &err);
        assert_true(st == CT_OK || st == CT_EFORMAT || st == CT_EUNSUPPORTED);
        ct_tensors_close(t);
    }
    for (size_t i = 0; i < 8 * file.n; i += 13) { /* and with a bit turned over */
        ct_error err = {0};
        ct_tensors *t;
        file.data[i / 8] ^= (uint8_t)(1 << i % 8);
        ct_status st = make(&t, ct_tokenizer_model_parse, file.data, file.n, NULL, &err);
        assert_true(st == CT_OK || st == CT_EFORMAT || st == CT_EUNSUPPORTED);
        if (st == CT_OK) {
            ct_vocab *v = NULL;
            ct_vocab_create(&v, t, &err);
            ct_vocab_free(v);
        }
        ct_tensors_close(t);
        file.data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    free(file.data);
}

static void expect_refusal(parse_fn *parse, const gguf_bytes *file, const char *config, ct_status want,
                           const char *part)
{
    ct_error err = {0};
    ct_tensors *t;
    ct_status st = make(&t, parse, file->data, file->n, config, &err);
    if (st != want || strstr(err.text, part) == NULL)
        fail_msg("expected %d '%s', found %d: %s", want, part, st, err.text);
    assert_sentence(st, &err);
}

/* The file with the first `from` behind `behind` replaced. */
static gguf_bytes changed(const gguf_bytes *file, const char *behind, const char *from, const char *to)
{
    gguf_bytes b = {0};
    char *text = calloc(1, file->n + 1);
    memcpy(text, file->data, file->n);
    char *at = strstr(text, behind);
    assert_non_null(at);
    at = strstr(at, from);
    assert_non_null(at);
    gguf_put(&b, text, (size_t)(at - text));
    put_z(&b, to);
    put_z(&b, at + strlen(from));
    free(text);
    return b;
}

static void json_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *behind, *from, *to;
        ct_status st;
        const char *says;
    } cases[] = {
        {"{", "{", "[", CT_EFORMAT, "expected an object"},
        {"\"model\"", "\"BPE\"", "\"WordPiece\"", CT_EUNSUPPORTED, "expected a BPE model, found 'WordPiece'"},
        {"\"model\"", "\"BPE\"", "\"Unigram\"", CT_EUNSUPPORTED, "expected a BPE model, found 'Unigram'"},
        {"\"model\"", "\"vocab\": {", "\"vocab\": [], \"x\": {", CT_EUNSUPPORTED, "Unigram"},
        {"\"model\"", "\"vocab\": {", "\"x\": {", CT_EUNSUPPORTED, "found no vocabulary"},
        {"\"model\"", "\"vocab\": {", "\"vocab\": {}, \"vocab\": {", CT_EFORMAT, "one of them twice"},
        {"\"model\"", "\"merges\": [", "\"x\": [", CT_EUNSUPPORTED, "found no merges"},
        {"{", "\"model\": {", "\"x\": {", CT_EUNSUPPORTED, "found no model"},
        {"\"model\"", "\"byte_fallback\": true", "\"byte_fallback\": false", CT_EUNSUPPORTED, "byte_fallback"},
        {"\"model\"", "\"ignore_merges\": false", "\"ignore_merges\": true", CT_EUNSUPPORTED, "ignore_merges"},
        {"\"model\"", "\"dropout\": null", "\"dropout\": 0.1", CT_EUNSUPPORTED, "dropout"},
        {"\"model\"", "\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\"", CT_EUNSUPPORTED, "suffix"},
        {"\"vocab\"", "\"<eos>\": 1", "\"<eos>\": 0", CT_EFORMAT,
         "expected every id once, found 0 for the token '<pad>' and for '<eos>'"},
        {"\"vocab\"", "\"<eos>\": 1", "\"<bos>\": 1", CT_EFORMAT,
         "expected every token once, found '<bos>' as 1 and as 2"},
        {"\"vocab\"", "\"<eos>\": 1", "\"<eos>\": 999", CT_EFORMAT, "found none for 1"},
        {"\"vocab\"", "\"<eos>\": 1", "\"<eos>\": 1048576", CT_EFORMAT, "expected ids below"},
        {"\"vocab\"", "\"<eos>\": 1", "\"<eos>\": -1", CT_EFORMAT, "expected a whole number"},
        {"\"vocab\"", "\"<eos>\": 1", "\"<eos>\": \"1\"", CT_EFORMAT, "found a string"},
        {"\"vocab\"", "\"<eos>\": 1", "\"\": 1", CT_EFORMAT, "expected 1 to 1024 bytes as the text of token 1"},
        {"\"added", "\"id\": 1,", "\"id\": 2,", CT_EFORMAT,
         "expected the added token '<eos>' as in the vocabulary, found it with the id 2, there '<bos>'"},
        {"\"added", "\"content\": \"<eos>\"", "\"content\": \"<sep>\"", CT_EFORMAT,
         "expected the added token '<sep>' as in the vocabulary, found it with the id 1"},
        {"\"added", "\"content\": \"<eos>\"", "\"x\": 1", CT_EFORMAT, "an added token with a text"},
        {"\"added", "\"id\": 1,", "\"id\": 77777777777,", CT_EFORMAT, "ids below 2^20"},
        {"\"added", "\"lstrip\": false", "\"lstrip\": true", CT_EUNSUPPORTED, "matched around spaces"},
        {"\"added", "\"single_word\": false", "\"single_word\": true", CT_EUNSUPPORTED, "within words"},
        {"\"normalizer\"", "\"Replace\"", "\"NFKC\"", CT_EUNSUPPORTED, "replaces spaces by U+2581"},
        {"\"normalizer\"", "\"content\": \"\xe2\x96\x81\"", "\"content\": \"_\"", CT_EUNSUPPORTED,
         "replaces spaces by U+2581"},
        {"\"pre_tokenizer\"", "\"Split\"", "\"ByteLevel\"", CT_EUNSUPPORTED,
         "no splits but at spaces, found 'ByteLevel'"},
        {"\"merges\"", "[\"", "[\"a\",\"", CT_EFORMAT, "more of them"},
        {"\"merges\"", "[\"", "[[\"", CT_EFORMAT, "expected a string at byte"},
        {"\"merges\"", "\"]]}", "\"]],}", CT_EFORMAT, "another value"},
    };
    struct fixture f;
    fixture_init(&f);
    gguf_bytes whole = tokenizer_json(&f, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gguf_bytes b = changed(&whole, cases[i].behind, cases[i].from, cases[i].to);
        expect_refusal(ct_tokenizer_json_parse, &b, NULL, cases[i].st, cases[i].says);
        free(b.data);
    }
    gguf_bytes small = {(uint8_t *)(uintptr_t) "<!DOCTYPE html>", 15, 15};
    expect_refusal(ct_tokenizer_json_parse, &small, NULL, CT_EFORMAT, "a web page");
    small = (gguf_bytes){(uint8_t *)(uintptr_t) "", 0, 0};
    expect_refusal(ct_tokenizer_json_parse, &small, NULL, CT_EFORMAT, "an empty file");
    small = (gguf_bytes){(uint8_t *)(uintptr_t) "{}", 2, 2};
    expect_refusal(ct_tokenizer_json_parse, &small, NULL, CT_EUNSUPPORTED, "found no model");
    for (size_t n = 1; n < whole.n; n += 7) { /* cut anywhere */
        gguf_bytes cut = {whole.data, n, n};
        expect_refusal(ct_tokenizer_json_parse, &cut, NULL, CT_EFORMAT, "tokenizer.json");
    }
    free(whole.data);
}

/* A token may be long, but not for ever; a list of them, too. */
static void json_huge(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    gguf_bytes whole = tokenizer_json(&f, 0);
    size_t n = 100000;
    char *text = malloc(n + 32);
    memcpy(text, "\"", 1);
    memset(text + 1, 'a', n);
    memcpy(text + 1 + n, "\": 1", 5);
    gguf_bytes b = changed(&whole, "\"vocab\"", "\"<eos>\": 1", text);
    expect_refusal(ct_tokenizer_json_parse, &b, NULL, CT_EFORMAT, "a token of at most 1024 bytes");
    free(b.data);
    free(text);
    free(whole.data);
}

static void model_refusals(void **state)
{
    (void)state;
    float bad;
    memset(&bad, 0xff, sizeof bad); /* NaN */
    gguf_bytes b = {0};
    put_piece(&b, "a", 1, 0, 1);
    put_specs(&b, 1, "");
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EUNSUPPORTED, "expected a BPE model, found a Unigram one");
    b.n = 0;
    put_piece(&b, "a", 1, 0, 1);
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EUNSUPPORTED, "a Unigram one"); /* what silence means */
    put_specs(&b, 2, "table");
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EUNSUPPORTED, "a table of 5 bytes");
    b.n = 0;
    put_piece(&b, "a", 1, bad, 1);
    put_specs(&b, 2, "");
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EFORMAT, "a piece whose score is a number");
    b.n = 0;
    put_piece(&b, "", 0, 0, 1);
    put_specs(&b, 2, "");
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EFORMAT, "expected 1 to 1024 bytes");
    b.n = 0;
    put_piece(&b, "\xff", 1, 0, 1);
    put_specs(&b, 2, "");
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EFORMAT, "expected UTF-8");
    b.n = 0;
    put_piece(&b, "a", 1, 0, 1);
    put_piece(&b, "a", 1, 0, 1);
    put_specs(&b, 2, "");
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EFORMAT, "found 'a' as 0 and as 1");
    b.n = 0;
    put_specs(&b, 2, "");
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EFORMAT, "expected pieces, found none");
    b.n = 0;
    gguf_put(&b, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11); /* a length of 2^64 - 1 */
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EFORMAT, "all bytes of a field at byte 11");
    b.n = 0;
    gguf_put(&b, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EFORMAT, "a number of at most ten bytes");
    b.n = 0;
    put_z(&b, "{\"a\": 1}");
    expect_refusal(ct_tokenizer_model_parse, &b, NULL, CT_EFORMAT, "a JSON file");
    free(b.data);
}

static void configuration(void **state)
{
    (void)state;
    struct fixture f;
    ct_error err = {0};
    ct_tensors *t;
    fixture_init(&f);
    gguf_bytes file = tokenizer_json(&f, JSON_IMAGE);
    assert_int_equal(make(&t, ct_tokenizer_json_parse, file.data, file.n,
                          "{\"add_bos_token\": false, \"bos_token\": {\"content\": \"<bos>\"}, \"eos_token\": "
                          "\"<end_of_turn>\", \"pad_token\": null, \"chat_template\": \"{{ \\u0022hi\\u0022 }}\"}",
                          &err),
                     CT_OK);
    uint32_t eos = 0, eot = 0, bos = 0;
    bool add = true;
    ct_str chat = {0};
    ct_kv_u32(t, "tokenizer.ggml.eos_token_id", &eos, NULL);
    ct_kv_u32(t, "tokenizer.ggml.eot_token_id", &eot, NULL);
    ct_kv_u32(t, "tokenizer.ggml.bos_token_id", &bos, NULL);
    ct_kv_bool(t, "tokenizer.ggml.add_bos_token", &add, NULL);
    ct_kv_string(t, "tokenizer.chat_template", &chat, NULL);
    assert_true(eos == 5 && eot == 5 && bos == 2 && !add && ct_str_is(chat, "{{ \"hi\" }}"));
    ct_vocab *v = vocab_of(t);
    assert_true(ct_vocab_has_turns(v) && !ct_vocab_add_bos(v));
    ct_vocab_free(v);
    ct_tensors_close(t);

    assert_int_equal(
        make(&t, ct_tokenizer_json_parse, file.data, file.n,
             "{\"chat_template\": [{\"name\": \"tools\", \"template\": \"A\"}, {\"template\": \"B\", \"name\": "
             "\"default\"}]}",
             &err),
        CT_OK);
    ct_kv_string(t, "tokenizer.chat_template", &chat, NULL);
    assert_true(ct_str_is(chat, "B"));
    ct_tensors_close(t);

    expect_refusal(ct_tokenizer_json_parse, &file, "{\"bos_token\": \"<s>\"}", CT_EFORMAT,
                   "expected the token '<s>', which the tokenizer's configuration names");
    expect_refusal(ct_tokenizer_json_parse, &file, "{\"bos_token\": 7}", CT_EFORMAT,
                   "'tokenizer_config.json' is damaged");
    expect_refusal(ct_tokenizer_json_parse, &file, "{\"bos_token\"", CT_EFORMAT, "'tokenizer_config.json' is damaged");
    free(file.data);

    /* Of a tokenizer.model, a token by another name and one behind the others; never a hole. */
    file = tokenizer_model(&f);
    char config[256], text[] = "<tool>";
    snprintf(config, sizeof config,
             "{\"added_tokens_decoder\": {\"6\": {\"content\": \"%s\"}, \"%u\": {\"content\": \"<image_soft_token>\", "
             "\"special\": true}, \"%u\": {\"content\": \"<more>\", \"special\": true}}}",
             text, f.n, f.n + 1);
    assert_int_equal(make(&t, ct_tokenizer_model_parse, file.data, file.n, config, &err), CT_OK);
    const ct_kv_pair *tokens = ct_tensors_kv(t, "tokenizer.ggml.tokens");
    assert_true(tokens->count == f.n + 2 && ct_str_is(ct_kv_str(tokens, 6), "<tool>") &&
                ct_str_is(ct_kv_str(tokens, f.n + 1), "<more>"));
    ct_tensors_close(t);
    expect_refusal(ct_tokenizer_model_parse, &file,
                   "{\"added_tokens_decoder\": {\"1000\": {\"content\": \"<x>\", \"special\": true}}}", CT_EFORMAT,
                   "expected a token for every id");
    expect_refusal(ct_tokenizer_model_parse, &file, "{\"added_tokens_decoder\": {\"x\": {\"content\": \"<x>\"}}}",
                   CT_EFORMAT, "an id below 2^20 as the key");
    expect_refusal(ct_tokenizer_model_parse, &file, "{\"added_tokens_decoder\": {\"1\": {\"content\": \"<bos>\"}}}",
                   CT_EFORMAT, "every token once");
    free(file.data);
}

static void save(const char *folder, const char *name, const void *data, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void drop(const char *folder, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static ct_tensors *folder_of(const char *folder, ct_status want)
{
    ct_error err = {0};
    ct_tensors *t = ct_tensors_new(folder, "folder");
    ct_status st = ct_tokenizer_read(t, folder, &err);
    if (st != want)
        fail_msg("expected %d, found %d: %s", want, st, err.text);
    assert_int_equal(ct_tensors_index(t, &err), CT_OK);
    return t;
}

static void folders(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    char folder[] = "/tmp/carat-tokenizer-XXXXXX";
    assert_non_null(mkdtemp(folder));
    ct_tensors *t = folder_of(folder, CT_OK);
    assert_int_equal(ct_tensors_kv_count(t), 0); /* neither file: nothing */
    ct_tensors_close(t);
    gguf_bytes json = tokenizer_json(&f, 0), model = tokenizer_model(&f);
    save(folder, "tokenizer.json", json.data, json.n);
    save(folder, "chat_template.jinja", "{{ turns }}", 11);
    t = folder_of(folder, CT_OK);
    expect_same_ids(&f, t);
    ct_str chat = {0};
    ct_kv_string(t, "tokenizer.chat_template", &chat, NULL);
    assert_true(ct_str_is(chat, "{{ turns }}"));
    ct_tensors_close(t);
    save(folder, "tokenizer.json", json.data, json.n / 2); /* tokenizer.model goes first */
    save(folder, "tokenizer.model", model.data, model.n);
    t = folder_of(folder, CT_OK);
    expect_same_ids(&f, t);
    ct_tensors_close(t);
    drop(folder, "tokenizer.model");
    ct_tensors_close(folder_of(folder, CT_EFORMAT));
    drop(folder, "tokenizer.json");
    drop(folder, "chat_template.jinja");
    assert_int_equal(rmdir(folder), 0);
    free(json.data);
    free(model.data);
}

/* ---- writing ---- */

static ct_tensors *directory_of(gguf_writer *w)
{
    ct_error err = {0};
    ct_tensors *t;
    gguf_end(w);
    if (ct_gguf_open_memory(&t, "x.gguf", w->file.data, w->file.n, &err) != CT_OK)
        fail_msg("%s", err.text);
    return t;
}

/* What is written is read again as the same tokenizer; by merges, where there were merges. */
static void written_and_read(void **state)
{
    (void)state;
    char folder[] = "/tmp/carat-tokenizer-XXXXXX", path[64], config[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    snprintf(config, sizeof config, "%s/tokenizer_config.json", folder);
    for (int by_merges = 0; by_merges < 2; by_merges++) {
        struct fixture f;
        ct_error err = {0};
        gguf_writer w;
        fixture_init(&f);
        f.chat = "{{ \"turns\" }}\n\x01";
        f.model = by_merges ? "gpt2" : "llama";
        fixture_write(&f, &w);
        ct_tensors *t = directory_of(&w);
        if (ct_tokenizer_json_write(path, t, &err) != CT_OK || ct_tokenizer_config_write(config, t, &err) != CT_OK)
            fail_msg("%s", err.text);
        ct_tensors_close(t);
        gguf_free(&w);
        t = folder_of(folder, CT_OK);
        ct_str model = {0}, chat = {0};
        ct_kv_string(t, "tokenizer.ggml.model", &model, NULL);
        ct_kv_string(t, "tokenizer.chat_template", &chat, NULL);
        assert_true(ct_str_is(model, f.model) && ct_str_is(chat, f.chat));
        if (!by_merges)
            expect_arrays(&f, t);
        expect_same_ids(&f, t);
        ct_tensors_close(t);
    }
    drop(folder, "tokenizer.json");
    drop(folder, "tokenizer_config.json");
    assert_int_equal(rmdir(folder), 0); /* and no temporary file */
}

static void expect_not_written(struct fixture *f, ct_status want, const char *part)
{
    char path[] = "/tmp/carat-tokenizer-never.json";
    ct_error err = {0};
    gguf_writer w;
    fixture_write(f, &w);
    ct_tensors *t = directory_of(&w);
    size_t before = ct_mem_live();
    ct_status st = ct_tokenizer_json_write(path, t, &err);
    if (st != want || strstr(err.text, part) == NULL)
        fail_msg("expected %d '%s', found %d: %s", want, part, st, err.text);
    assert_sentence(st, &err);
    assert_int_equal(ct_mem_live(), before);
    assert_true(access(path, F_OK) != 0);
    ct_tensors_close(t);
    gguf_free(&w);
}

static void not_written(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.model = NULL;
    expect_not_written(&f, CT_ENOTFOUND, "a tokenizer to write");
    fixture_init(&f);
    f.tokens[1] = "<pad>";
    expect_not_written(&f, CT_EFORMAT, "every token once");
    f.tokens[1] = "";
    expect_not_written(&f, CT_EFORMAT, "expected 1 to 1024 bytes");
    f.tokens[1] = "\xff";
    expect_not_written(&f, CT_EFORMAT, "expected UTF-8");
    fixture_init(&f);
    memset(&f.scores[300], 0xff, sizeof f.scores[300]);
    expect_not_written(&f, CT_EFORMAT, "found NaN");
    fixture_init(&f);
    f.bos = 5000;
    expect_not_written(&f, CT_EFORMAT, "expected an id below");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_in_all_spellings), cmocka_unit_test(other_merges),  cmocka_unit_test(model_file),
        cmocka_unit_test(model_file_cut),        cmocka_unit_test(json_refusals), cmocka_unit_test(json_huge),
        cmocka_unit_test(model_refusals),        cmocka_unit_test(configuration), cmocka_unit_test(folders),
        cmocka_unit_test(written_and_read),      cmocka_unit_test(not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
