/* The safetensors reader and files that lie to it: lengths, offsets, shapes, types, names, JSON, indices. Each is refused with one
 * sentence, within the memory that is promised, and without a read beyond the file. */
#include "gguf_try.h"

#include "formats/checkpoint.h"
#include "st_write.h"

/* A configuration that fits the sample. */
static const char config[] = "{\"model_type\":\"gemma3_text\",\"hidden_size\":8,\"num_hidden_layers\":1,"
                             "\"query_pre_attn_scalar\":8}";

/* Two matrices, norms, a number without dimensions, something without elements, a vision tower. */
static void sample_tensors(st_writer *w)
{
    static const uint8_t zero[256];
    st_tensor(w, "model.embed_tokens.weight", "F32", 2, (const uint64_t[]){4, 8}, zero, 128);
    st_tensor(w, "model.layers.0.mlp.gate_proj.weight", "BF16", 2, (const uint64_t[]){3, 8}, zero, 48);
    st_tensor(w, "model.norm.weight", "F16", 1, (const uint64_t[]){8}, zero, 16);
    st_tensor(w, "model.scale", "F32", 0, NULL, zero, 4);
    st_tensor(w, "model.nothing", "I64", 2, (const uint64_t[]){0, 5}, zero, 0);
    st_tensor(w, "model.position_ids", "I64", 1, (const uint64_t[]){2}, zero, 16);
    st_tensor(w, "vision_tower.vision_model.patch", "F32", 5, (const uint64_t[]){1, 2, 1, 1, 2}, zero, 16);
}

/* Opens the bytes of a shard, or of two, with a configuration. */
static ct_status try_shards(const void *a, size_t n_a, const void *b, size_t n_b, const char *json, const char *index,
                            ct_error *err)
{
    size_t before = ct_mem_live(), n = n_a + n_b + strlen(json) + (index ? strlen(index) : 0);
    struct checkpoint_text text = {.config = ct_map_borrow(json, strlen(json)), .config_path = "config.json"};
    *err = (ct_error){0};
    ct_mem_peak_reset();
    if (index) {
        text.index = ct_map_borrow(index, strlen(index));
        text.index_path = "index.json";
    }
    ct_tensors *t = ct_tensors_new("folder", "safetensors");
    assert_non_null(t);
    assert_true(ct_tensors_add_map(t, ct_map_borrow(guarded(a, n_a), n_a), "folder/a.safetensors"));
    if (n_b > 0)
        assert_true(ct_tensors_add_map(t, ct_map_borrow(b, n_b), "folder/b.safetensors"));
    ct_status st = ct_checkpoint_read(t, &text, err);
    assert_true(ct_mem_peak() - before <= n + CT_DIRECTORY_BYTES);
    if (st == CT_OK)
        use_everything(t);
    else
        assert_sentence(st, err);
    ct_tensors_close(t);
    assert_int_equal(ct_mem_live(), before);
    return st;
}

static ct_status try_bytes(const void *a, size_t n, ct_error *err)
{
    return try_shards(a, n, NULL, 0, config, NULL, err);
}

static void expect_refusal(ct_status st, ct_status expected, const ct_error *err, const char *words)
{
    if (st != expected || strstr(err->text, words) == NULL)
        fail_msg("expected %s with \"%s\", found %s: %s", ct_status_name(expected), words, ct_status_name(st),
                 err->text);
}

/* Refuses what a writer was told, and ends it. */
static void refused_writer(st_writer *w, ct_status expected, const char *words)
{
    ct_error err;
    if (w->file.n == 0)
        st_end(w, 8);
    ct_status st = try_bytes(w->file.data, w->file.n, &err);
    expect_refusal(st, expected, &err, words);
    st_free(w);
}

/* A header given as text, with n_data zero bytes behind it. */
static void refused_header(const char *json, size_t n_data, ct_status expected, const char *words)
{
    static const uint8_t zero[1024];
    st_writer w = {0};
    gguf_put_u64(&w.file, strlen(json));
    gguf_put(&w.file, json, strlen(json));
    gguf_put(&w.file, zero, n_data);
    refused_writer(&w, expected, words);
}

static void what_is_sound_opens(void **state)
{
    (void)state;
    for (size_t align = 1; align <= 64; align *= 8) {
        ct_error err;
        st_writer w = {0};
        sample_tensors(&w);
        st_end(&w, align);
        ct_status st = try_bytes(w.file.data, w.file.n, &err);
        if (st != CT_OK)
            fail_msg("%s", err.text);
        st_free(&w);
    }
}

static void what_it_finds(void **state)
{
    (void)state;
    ct_error err = {0};
    st_writer w = {0};
    sample_tensors(&w);
    st_end(&w, 8);
    ct_tensors *t = ct_tensors_new("folder", "safetensors");
    struct checkpoint_text text = {.config = ct_map_borrow(config, strlen(config)), .config_path = "config.json"};
    assert_true(ct_tensors_add_map(t, ct_map_borrow(w.file.data, w.file.n), "a.safetensors"));
    assert_int_equal(ct_checkpoint_read(t, &text, &err), CT_OK);
    assert_int_equal(ct_tensors_count(t), 4);
    const ct_tensor *x = ct_tensors_find(t, "model.layers.0.mlp.gate_proj.weight");
    assert_non_null(x);
    assert_int_equal(x->dtype->type, CT_BF16);
    assert_true(x->ne[0] == 8 && x->ne[1] == 3 && x->n_dims == 2 && x->bytes == 48);
    assert_true(ct_tensors_naming(t) == CT_NAMES_HF && ct_tensors_norms_centred(t));
    x = ct_tensors_find(t, "model.scale");
    assert_true(x && x->n_dims == 1 && x->ne[0] == 1);
    assert_non_null(strstr(ct_tensors_note(t, 0), "the vision tower is skipped (1 tensors"));
    assert_non_null(strstr(ct_tensors_note(t, 1), "2 tensors of no use"));
    assert_null(ct_tensors_note(t, 2));
    assert_string_equal(ct_tensors_format(t), "safetensors, f32");
    assert_int_equal(ct_tensors_file_bytes(t), w.file.n);
    ct_tensors_close(t);
    st_free(&w);
}

static void every_cut_and_every_flip(void **state)
{
    (void)state;
    ct_error err;
    st_writer w = {0};
    sample_tensors(&w);
    st_end(&w, 8);
    for (size_t n = 0; n < w.file.n; n++)
        if (try_bytes(w.file.data, n, &err) == CT_OK)
            fail_msg("%zu of %zu bytes were accepted", n, w.file.n);
    for (size_t i = 0; i < w.header.n + 8; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            w.file.data[i] ^= (uint8_t)(1u << bit);
            try_bytes(w.file.data, w.file.n, &err); /* whatever it says, it must not read outside */
            w.file.data[i] ^= (uint8_t)(1u << bit);
        }
    gguf_put(&w.file, "x", 1);
    expect_refusal(try_bytes(w.file.data, w.file.n, &err), CT_EFORMAT, &err, "expected 228 bytes behind the header");
    st_free(&w);
}

static void lengths_of_the_header(void **state)
{
    (void)state;
    static const struct {
        uint64_t n;
        const char *words;
    } cases[] = {{0, "does not begin with '{'"},
                 {1, "does not begin with '{'"},
                 {11, "expected a header of 11 bytes, found 10"},
                 {100000000, "expected a header of 100000000 bytes"},
                 {100000001, "expected a header of at most 100000000 bytes"},
                 {UINT64_MAX, "expected a header of at most 100000000 bytes"},
                 {UINT64_MAX - 7, "expected a header of at most 100000000 bytes"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        st_writer w = {0};
        gguf_put_u64(&w.file, cases[i].n);
        gguf_put(&w.file, "[\"\": {}   ", 10);
        w.file.data[8] = i < 2 ? '{' : '[';
        refused_writer(&w, CT_EFORMAT, cases[i].words);
    }
    /* A large header that is all there: read, and refused without memory of its size. */
    ct_error err;
    size_t n = (size_t)20 << 20;
    uint8_t *data = malloc(n + 8);
    assert_non_null(data);
    memset(data, ' ', n + 8);
    for (size_t i = 0; i < 8; i++)
        data[i] = (uint8_t)(n >> 8 * i);
    data[8] = '{';
    data[n + 7] = '}';
    assert_int_equal(try_bytes(data, n + 8, &err), CT_OK); /* nothing in it: the model says what is missing */
    memset(data + 9, 'x', n - 2);
    expect_refusal(try_bytes(data, n + 8, &err), CT_EFORMAT, &err, "expected a key in quotes");
    free(data);
}

static void offsets_that_lie(void **state)
{
    (void)state;
    static const struct {
        uint64_t from, to;
        const char *words;
    } cases[] = {
        {0, 31, "expected 32 bytes for the tensor 'model.b' by its shape"},
        {32, 65, "expected 32 bytes for the tensor 'model.b' by its shape"},
        {33, 65, "is truncated or damaged: expected at least 65 bytes"},
        {40, 72, "expected at least 72 bytes"},
        {0, 32, "it overlaps another"},
        {16, 48, "it overlaps another"},
        {64, 32, "expected 32 bytes"},
        {UINT64_MAX - 31, 0, "expected 32 bytes"},
        {UINT64_MAX - 40, UINT64_MAX - 8, "expected at least 18446744073709551607 bytes"},
        {1ull << 63, (1ull << 63) + 32, "expected at least 9223372036854775840 bytes"},
    };
    static const uint8_t zero[32];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        st_writer w = {0};
        st_tensor(&w, "model.a", "F32", 1, (const uint64_t[]){8}, zero, 32);
        st_entry(&w, "model.b", "F32", 1, (const uint64_t[]){8}, cases[i].from, cases[i].to);
        gguf_put(&w.data, zero, 32);
        refused_writer(&w, CT_EFORMAT, cases[i].words);
    }
    st_writer w = {0}; /* a hole at the start, between, at the end */
    st_entry(&w, "a", "F32", 1, (const uint64_t[]){2}, 8, 16);
    gguf_put(&w.data, zero, 16);
    refused_writer(&w, CT_EFORMAT,
                   "expected the tensor 'model.a' at byte 0 behind the header, found 8: there is a hole");
    st_tensor(&w, "a", "F32", 1, (const uint64_t[]){2}, zero, 8);
    gguf_put(&w.data, zero, 8);
    st_tensor(&w, "b", "F32", 1, (const uint64_t[]){2}, zero, 8);
    refused_writer(&w, CT_EFORMAT, "'model.b' at byte 8 behind the header, found 16: there is a hole");
    st_tensor(&w, "a", "F32", 1, (const uint64_t[]){2}, zero, 8);
    gguf_put(&w.data, zero, 1);
    refused_writer(&w, CT_EFORMAT, "expected 8 bytes behind the header, as its tensors have, found 9");
}

static void shapes_and_types_that_lie(void **state)
{
    (void)state;
    static const uint8_t zero[64];
    st_writer w = {0};
    st_entry(&w, "a", "F32", 2, (const uint64_t[]){1ull << 33, 1ull << 33}, 0, 0);
    refused_writer(&w, CT_EFORMAT, "found the shape of 'model.a' beyond that");
    st_entry(&w, "a", "F64", 1, (const uint64_t[]){1ull << 60}, 0, 0);
    refused_writer(&w, CT_EFORMAT, "found the shape of 'model.a' beyond that");
    st_entry(&w, "a", "F32", 1, (const uint64_t[]){UINT64_MAX}, 0, 0);
    refused_writer(&w, CT_EFORMAT, "beyond that");
    st_tensor(&w, "a", "F4", 1, (const uint64_t[]){3}, zero, 1);
    refused_writer(&w, CT_EFORMAT, "expected 1 bytes");
    st_tensor(&w, "a", "Q4", 1, (const uint64_t[]){3}, zero, 1);
    refused_writer(&w, CT_EUNSUPPORTED,
                   "expected a type of the safetensors format for the tensor 'model.a', found 'Q4'");
    st_tensor(&w, "layers.0.mlp.up_proj.weight", "F64", 1, (const uint64_t[]){1}, zero, 8);
    refused_writer(&w, CT_EUNSUPPORTED,
                   "expected F32, F16 or BF16 and 1 to 4 dimensions for "
                   "'model.layers.0.mlp.up_proj.weight', found F64 and 1");
    st_tensor(&w, "layers.0.mlp.up_proj.weight", "F32", 5, (const uint64_t[]){1, 1, 1, 1, 1}, zero, 4);
    refused_writer(&w, CT_EUNSUPPORTED, "found F32 and 5");
    st_tensor(&w, "layers.0.mlp.up_proj.weight", "BF16", 2, (const uint64_t[]){0, 4}, zero, 0);
    refused_writer(&w, CT_EUNSUPPORTED, "one of them 0");
    st_tensor(&w, "layers.0.mlp.up_proj.weight", "F8_E4M3", 1, (const uint64_t[]){8}, zero, 8);
    refused_writer(&w, CT_EUNSUPPORTED, "quantized by fp8: use the bf16 checkpoint");
    st_tensor(&w, "layers.0.mlp.up_proj.qweight", "I32", 1, (const uint64_t[]){8}, zero, 32);
    refused_writer(&w, CT_EUNSUPPORTED, "GPTQ or AWQ");
    st_tensor(&w, "layers.0.mlp.up_proj.weight.absmax", "F32", 1, (const uint64_t[]){8}, zero, 32);
    refused_writer(&w, CT_EUNSUPPORTED, "bitsandbytes");
    st_tensor(&w, "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight", "F32", 1, (const uint64_t[]){8}, zero,
              32);
    refused_writer(&w, CT_EUNSUPPORTED, "a LoRA adapter");
}

static void names_that_come_twice(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"model.a.weight", "model.a.weight"},
        {"model.a.weight", "language_model.model.a.weight"},
        {"model.language_model.a.weight", "a.weight"},
        {"model.a.weight", "model.\\u0061.weight"},
        {"base_model.model.model.a.base_layer.weight", "a.weight"},
        {"language_model.lm_head.weight", "lm_head.weight"},
        {"vision_tower.a", "vision_tower.a"},
    };
    static const uint8_t zero[4];
    ct_error err;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        st_writer w = {0}, a = {0}, b = {0};
        for (size_t k = 0; k < 2; k++)
            st_tensor(&w, pairs[i][k], "F32", 1, (const uint64_t[]){1}, zero, 4);
        refused_writer(&w, CT_EFORMAT, "twice in one file");
        st_tensor(&a, pairs[i][0], "F32", 1, (const uint64_t[]){1}, zero, 4);
        st_tensor(&b, pairs[i][1], "F32", 1, (const uint64_t[]){1}, zero, 4);
        st_end(&a, 8);
        st_end(&b, 8);
        ct_status st = try_shards(a.file.data, a.file.n, b.file.data, b.file.n, config, NULL, &err);
        expect_refusal(st, CT_EFORMAT, &err, "twice, in two files");
        st_free(&a);
        st_free(&b);
    }
}

static void names_lose_what_writers_put_in_front(void **state)
{
    (void)state;
    static const struct {
        const char *file, *own;
        bool vision;
    } cases[] = {
        {"model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", false},
        {"language_model.model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", false},
        {"model.language_model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", false},
        {"model.language_model.model.norm.weight", "model.norm.weight", false},
        {"language_model.embed_tokens.weight", "model.embed_tokens.weight", false},
        {"norm.weight", "model.norm.weight", false},
        {"lm_head.weight", "lm_head.weight", false},
        {"language_model.lm_head.weight", "lm_head.weight", false},
        {"base_model.model.lm_head.weight", "lm_head.weight", false},
        {"base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight", "model.layers.0.self_attn.q_proj.weight",
         false},
        {"base_model.model.language_model.model.norm.weight", "model.norm.weight", false},
        {"model.vision_tower.vision_model.post_layernorm.bias", "model.vision_tower.vision_model.post_layernorm.bias",
         true},
        {"multi_modal_projector.mm_soft_emb_norm.weight", "multi_modal_projector.mm_soft_emb_norm.weight", true},
        {"", "model.", false},
        {"model.", "model.", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[256];
        bool vision;
        ct_str s = ct_st_canonical(out, cases[i].file, strlen(cases[i].file), &vision);
        if (!ct_str_is(s, cases[i].own) || vision != cases[i].vision)
            fail_msg("'%s' became '%.*s'", cases[i].file, (int)s.len, s.data);
    }
}

static void json_that_is_not_a_header(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        const char *words;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}",
         "expected dtype, shape and data_offsets for the tensor 'model.a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}", "found one of them twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", "found another key"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", "two data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", "two data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", "whole number from 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", "whole number from 0"},
        {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", "expected a string"},
        {"{\"a\":[1]}", "is damaged"},
        {"{\"a\":null}", "is damaged"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},}", "is damaged"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}} {}", "nothing behind the value"},
        {"{\"__metadata__\":{\"a\":1}}", "expected a string"},
        {"{\"__metadata__\":[]}", "is damaged"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", "__metadata__ once"},
        {"{\"\xff\":{}}", "UTF-8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", "the end of the text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refused_header(cases[i].json, 4, CT_EFORMAT, cases[i].words);
    char deep[300] = "{\"a\":";
    for (int i = 0; i < 200; i++)
        memcpy(deep + 5 + i, "[", 2);
    refused_header(deep, 0, CT_EFORMAT, "is damaged");
}

static void too_many_tensors(void **state)
{
    (void)state;
    st_writer w = {0};
    for (int i = 0; i <= CT_MAX_TENSORS; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%d", i);
        st_entry(&w, name, "U8", 1, (const uint64_t[]){0}, 0, 0);
    }
    refused_writer(&w, CT_EUNSUPPORTED, "expected at most 65536 tensors");
}

static void other_files(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        size_t n;
        const char *words;
    } cases[] = {{"", 0, "is an empty file"},
                 {"abc", 3, "found 3 bytes"},
                 {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", 63, "git lfs pull"},
                 {"<!DOCTYPE html><html></html>", 28, "a web page"},
                 {"PK\3\4abcdefgh", 12, "PyTorch"},
                 {"GGUF\3\0\0\0\0\0\0\0", 12, "at most 100000000"}};
    ct_error err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refusal(try_bytes(cases[i].data, cases[i].n, &err), CT_EFORMAT, &err, cases[i].words);
}

static void an_index_that_lies(void **state)
{
    (void)state;
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"{\"weight_map\":{\"model.x\":\"a.safetensors\"}}",
         "expected 'model.x' in 'a.safetensors', as 'index.json' says, found it in none"},
        {"{\"weight_map\":{\"model.one\":\"b.safetensors\"}}", "found it in another file"},
        {"{\"weight_map\":{\"model.two\":\"a.safetensors\"}}", "found it in another file"},
        {"{\"weight_map\":{\"model.one\":7}}", "expected a string"},
        {"{\"weight_map\":[]}", "is damaged"},
        {"{\"metadata\":{}}", "expected a weight_map, found none"},
        {"{\"weight_map\":{},\"weight_map\":{}}", "weight_map once"},
        {"{\"weight_map\":{\"model.one\":\"a.safetensors\"}} x", "nothing behind"},
        {"{\"weight_map\":{\"model.one\":\"a.safetensors\"}", "the end of the text"},
    };
    static const uint8_t zero[4];
    ct_error err;
    st_writer a = {0}, b = {0};
    st_tensor(&a, "model.one", "F32", 1, (const uint64_t[]){1}, zero, 4);
    st_tensor(&b, "language_model.model.two", "F32", 1, (const uint64_t[]){1}, zero, 4);
    st_end(&a, 8);
    st_end(&b, 8);
    static const char right[] = "{\"metadata\":{\"total_size\":3},\"weight_map\":{\"model.one\":\"a.safetensors\","
                                "\"language_model.model.two\":\"b.safetensors\"},\"more\":[1]}";
    assert_int_equal(try_shards(a.file.data, a.file.n, b.file.data, b.file.n, config, right, &err), CT_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ct_status st = try_shards(a.file.data, a.file.n, b.file.data, b.file.n, config, cases[i].json, &err);
        expect_refusal(st, CT_EFORMAT, &err, cases[i].words);
    }
    st_free(&a);
    st_free(&b);
}

static void files_of_an_index(void **state)
{
    (void)state;
    static const struct {
        const char *json, *words; /* NULL: sound */
    } cases[] = {
        {"{\"weight_map\":{\"a\":\"m-2.safetensors\",\"b\":\"m-1.safetensors\",\"c\":\"m-2.safetensors\"}}", NULL},
        {"{\"weight_map\":{\"a\":\"../m.safetensors\"}}", "found '../m.safetensors'"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "found '/etc/passwd'"},
        {"{\"weight_map\":{\"a\":\"x\\u002fm.safetensors\"}}", "found 'x/m.safetensors'"},
        {"{\"weight_map\":{\"a\":\"x\\\\m.safetensors\"}}", "expected the names of .safetensors files"},
        {"{\"weight_map\":{\"a\":\"m\\u0000.safetensors\"}}", "expected the names of .safetensors files"},
        {"{\"weight_map\":{\"a\":\".safetensors\"}}", "expected the names of .safetensors files"},
        {"{\"weight_map\":{\"a\":\"model.bin\"}}", "found 'model.bin'"},
        {"{\"weight_map\":{}}", "expected 1 to 65536 tensors in the weight_map, found 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ct_error err = {0};
        ct_str *names = NULL;
        size_t n = 0;
        ct_map map = ct_map_borrow(cases[i].json, strlen(cases[i].json));
        ct_tensors *t = ct_tensors_new("folder", "safetensors");
        ct_status st = ct_hf_index_files(&names, &n, t, "index.json", &map, &err);
        if (cases[i].words) {
            expect_refusal(st, CT_EFORMAT, &err, cases[i].words);
        } else {
            assert_int_equal(st, CT_OK);
            assert_int_equal(n, 2);
            assert_true(ct_str_is(names[0], "m-1.safetensors") && ct_str_is(names[1], "m-2.safetensors"));
        }
        ct_tensors_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sound_opens),
        cmocka_unit_test(what_it_finds),
        cmocka_unit_test(every_cut_and_every_flip),
        cmocka_unit_test(lengths_of_the_header),
        cmocka_unit_test(offsets_that_lie),
        cmocka_unit_test(shapes_and_types_that_lie),
        cmocka_unit_test(names_that_come_twice),
        cmocka_unit_test(names_lose_what_writers_put_in_front),
        cmocka_unit_test(json_that_is_not_a_header),
        cmocka_unit_test(too_many_tensors),
        cmocka_unit_test(other_files),
        cmocka_unit_test(an_index_that_lies),
        cmocka_unit_test(files_of_an_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
