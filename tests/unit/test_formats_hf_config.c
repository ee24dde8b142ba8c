/* config.json and generation_config.json: the class defaults, four generations of spellings, what contradicts the shapes, and every
 * other model and quantization that people point carat at, refused by its name. */
#include "gguf_try.h"

#include <math.h>

#include "formats/checkpoint.h"
#include "st_write.h"

/* The shapes of a model of one layer: hidden 64, ffn 96, 4 heads and 2 for keys of 16, vocabulary 10. */
static void shapes(st_writer *w)
{
    static const uint8_t zero[96 * 64 * 2];
    static const struct {
        const char *name;
        uint64_t rows, cols;
    } t[] = {{"embed_tokens", 10, 64},
             {"norm", 0, 64},
             {"layers.0.input_layernorm", 0, 64},
             {"layers.0.self_attn.q_proj", 64, 64},
             {"layers.0.self_attn.k_proj", 32, 64},
             {"layers.0.self_attn.v_proj", 32, 64},
             {"layers.0.self_attn.q_norm", 0, 16},
             {"layers.0.self_attn.k_norm", 0, 16},
             {"layers.0.self_attn.o_proj", 64, 64},
             {"layers.0.post_attention_layernorm", 0, 64},
             {"layers.0.pre_feedforward_layernorm", 0, 64},
             {"layers.0.mlp.gate_proj", 96, 64},
             {"layers.0.mlp.up_proj", 96, 64},
             {"layers.0.mlp.down_proj", 64, 96},
             {"layers.0.post_feedforward_layernorm", 0, 64}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.%s.weight", t[i].name);
        uint64_t both[2] = {t[i].rows, t[i].cols};
        if (t[i].rows)
            st_tensor(w, name, "BF16", 2, both, zero, (size_t)(t[i].rows * t[i].cols * 2));
        else
            st_tensor(w, name, "BF16", 1, both + 1, zero, (size_t)t[i].cols * 2);
    }
    st_end(w, 8);
}

/* Opens the shapes with a configuration; the directory is the caller's when it is CT_OK. */
static ct_status open_with(ct_tensors **out, const char *config, const char *generation, ct_error *err)
{
    st_writer w = {0};
    static uint8_t file[1 << 17];
    struct checkpoint_text text = {.config_path = "config.json", .generation_path = "generation_config.json"};
    text.config = ct_map_borrow(guarded(config, strlen(config)), strlen(config));
    if (generation)
        text.generation = ct_map_borrow(generation, strlen(generation));
    shapes(&w);
    assert_true(w.file.n <= sizeof file);
    memcpy(file, w.file.data, w.file.n);
    *out = ct_tensors_new("folder", "safetensors");
    *err = (ct_error){0};
    assert_true(ct_tensors_add_map(*out, ct_map_borrow(file, w.file.n), "folder/model.safetensors"));
    st_free(&w);
    ct_status st = ct_checkpoint_read(*out, &text, err);
    if (st == CT_OK)
        st = ct_tensors_index(*out, err);
    if (st != CT_OK) {
        assert_sentence(st, err);
        ct_tensors_close(*out);
        *out = NULL;
    }
    return st;
}

static ct_tensors *opened(const char *config, const char *generation)
{
    ct_error err;
    ct_tensors *t;
    if (open_with(&t, config, generation, &err) != CT_OK)
        fail_msg("%s: %s", config, err.text);
    return t;
}

static double number(const ct_tensors *t, const char *key)
{
    double v = NAN;
    if (ct_kv_f64(t, key, &v, NULL) != CT_OK)
        fail_msg("%s is no number", key);
    return v;
}

static void expect_number(const ct_tensors *t, const char *key, double v)
{
    double found = number(t, key);
    if (!(fabs(found - v) <= 1e-6 * fabs(v)))
        fail_msg("%s: expected %g, found %g", key, v, found);
}

static void refused_config(const char *config, ct_status expected, const char *words)
{
    ct_error err;
    ct_tensors *t;
    ct_status st = open_with(&t, config, NULL, &err);
    if (st != expected || strstr(err.text, words) == NULL)
        fail_msg("%s\nexpected %s with \"%s\", found %s: %s", config, ct_status_name(expected), words,
                 ct_status_name(st), st == CT_OK ? "" : err.text);
    if (strlen(err.text) >= CT_ERROR_TEXT - 1)
        fail_msg("the sentence is cut: %s", err.text);
}

/* What shapes tell is taken from them, the rest from the class. */
static void defaults(void **state)
{
    (void)state;
    ct_tensors *t = opened("{\"model_type\":\"gemma3_text\"}", NULL);
    ct_str s;
    expect_number(t, "gemma3.embedding_length", 64);
    expect_number(t, "gemma3.feed_forward_length", 96);
    expect_number(t, "gemma3.block_count", 1);
    expect_number(t, "gemma3.attention.head_count", 4);
    expect_number(t, "gemma3.attention.head_count_kv", 2);
    expect_number(t, "gemma3.attention.key_length", 16);
    expect_number(t, "gemma3.attention.value_length", 16);
    expect_number(t, "gemma3.attention.sliding_window", 4096);
    expect_number(t, "gemma3.attention.sliding_window_pattern", 6);
    expect_number(t, "gemma3.context_length", 131072);
    expect_number(t, "gemma3.attention.layer_norm_rms_epsilon", 1e-6);
    expect_number(t, "gemma3.attention.scale", 1 / 16.0);
    expect_number(t, "gemma3.rope.freq_base", 1e6);
    expect_number(t, "gemma3.rope.freq_base_swa", 1e4);
    assert_true(ct_kv_string(t, "gemma3.rope.scaling.type", &s, NULL) == CT_OK && ct_str_is(s, "none"));
    assert_null(ct_tensors_kv(t, "gemma3.final_logit_softcapping"));
    assert_null(ct_tensors_kv(t, "tokenizer.ggml.eos_token_id"));
    ct_tensors_close(t);
}

/* As the hub's 4b has it: next to nothing, and that in text_config. */
static void a_minimal_file(void **state)
{
    (void)state;
    ct_tensors *t = opened(
        "{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"model_type\":\"gemma3\",\"eos_token_id\":[1,106],"
        "\"hidden_size\":7,\"text_config\":{\"hidden_size\":64,\"intermediate_size\":96,\"model_type\":"
        "\"gemma3_text\",\"num_hidden_layers\":1,\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"},"
        "\"sliding_window\":1024},\"vision_config\":{\"hidden_size\":1152,\"model_type\":\"siglip_vision_model\"},"
        "\"torch_dtype\":\"bfloat16\"}",
        NULL);
    expect_number(t, "gemma3.attention.head_count", 4);
    expect_number(t, "gemma3.attention.sliding_window", 1024);
    expect_number(t, "gemma3.rope.scaling.factor", 8);
    expect_number(t, "tokenizer.ggml.eos_token_id", 1);
    expect_number(t, "tokenizer.ggml.eot_token_id", 106);
    ct_tensors_close(t);
}

static void rope_in_three_spellings(void **state)
{
    (void)state;
    static const char *const spelt[] = {
        "\"rope_theta\":500000,\"rope_local_base_freq\":20000,\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}",
        "\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"linear\",\"factor\":4.0,\"rope_theta\":500000.0},"
        "\"sliding_attention\":{\"rope_type\":\"default\",\"rope_theta\":20000.0}}",
        "\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4,\"rope_theta\":5e5},\"rope_local_base_freq\":20000."
        "0",
    };
    for (size_t i = 0; i < sizeof spelt / sizeof spelt[0]; i++) {
        char config[512];
        snprintf(config, sizeof config, "{\"model_type\":\"gemma3_text\",%s}", spelt[i]);
        ct_tensors *t = opened(config, NULL);
        expect_number(t, "gemma3.rope.freq_base", 500000);
        expect_number(t, "gemma3.rope.freq_base_swa", 20000);
        expect_number(t, "gemma3.rope.scaling.factor", 4);
        ct_tensors_close(t);
    }
    refused_config("{\"model_type\":\"gemma3_text\",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}}",
                   CT_EUNSUPPORTED, "found 'yarn'");
    refused_config(
        "{\"model_type\":\"gemma3_text\",\"rope_parameters\":{\"sliding_attention\":{\"rope_type\":\"linear\","
        "\"factor\":2}}}",
        CT_EUNSUPPORTED, "none on sliding layers");
    refused_config("{\"model_type\":\"gemma3_text\",\"rope_scaling\":{\"rope_type\":\"linear\"}}", CT_EFORMAT,
                   "positive factor");
    refused_config("{\"model_type\":\"gemma3_text\",\"rope_scaling\":7}", CT_EFORMAT, "expected an object");
}

static void which_layers_are_global(void **state)
{
    (void)state;
    ct_tensors *t = opened(
        "{\"model_type\":\"gemma3_text\",\"layer_types\":[\"full_attention\"],\"sliding_window_pattern\":3}", NULL);
    const ct_kv_pair *kv = ct_tensors_kv(t, "gemma3.attention.sliding_window_pattern");
    assert_true(kv && kv->type == CT_KV_ARRAY && kv->elem_type == CT_KV_BOOL && kv->count == 1 && kv->data[0] == 0);
    ct_tensors_close(t);
    t = opened("{\"model_type\":\"gemma3_text\",\"_sliding_window_pattern\":4}", NULL);
    expect_number(t, "gemma3.attention.sliding_window_pattern", 4);
    ct_tensors_close(t);
    t = opened("{\"model_type\":\"gemma3_text\",\"_sliding_window_pattern\":4,\"sliding_window_pattern\":3,\"layer_"
               "types\":null}",
               NULL);
    expect_number(t, "gemma3.attention.sliding_window_pattern", 3);
    ct_tensors_close(t);
    refused_config("{\"model_type\":\"gemma3_text\",\"layer_types\":[\"full_attention\",\"full_attention\"]}",
                   CT_EFORMAT, "expected layer_types for each of the 1 layers, found 2");
    refused_config("{\"model_type\":\"gemma3_text\",\"layer_types\":[\"linear_attention\"]}", CT_EFORMAT,
                   "another kind of layer");
    gguf_bytes many = {0};
    static const char head[] = "{\"model_type\":\"gemma3_text\",\"layer_types\":[\"full_attention\"";
    gguf_put(&many, head, sizeof head - 1);
    for (int i = 0; i < 512; i++)
        gguf_put(&many, ",\"full_attention\"", 17);
    gguf_put(&many, "]}", 3);
    refused_config((const char *)many.data, CT_EFORMAT, "at most 512 layer_types");
    free(many.data);
}

static void ends_and_sampling(void **state)
{
    (void)state;
    ct_tensors *t = opened(
        "{\"model_type\":\"gemma3_text\",\"eos_token_id\":1,\"bos_token_id\":2,\"query_pre_attn_scalar\":168}",
        "{\"eos_token_id\":[1,106],\"top_k\":40,\"top_p\":0.9,\"temperature\":0.7,\"min_p\":null,\"do_sample\":true,"
        "\"cache_implementation\":\"hybrid\"}");
    expect_number(t, "tokenizer.ggml.eos_token_id", 1);
    expect_number(t, "tokenizer.ggml.eot_token_id", 106);
    expect_number(t, "tokenizer.ggml.bos_token_id", 2);
    expect_number(t, "general.sampling.top_k", 40);
    expect_number(t, "general.sampling.top_p", 0.9);
    expect_number(t, "general.sampling.temp", 0.7);
    assert_null(ct_tensors_kv(t, "general.sampling.min_p"));
    expect_number(t, "gemma3.attention.scale", 1 / sqrt(168));
    ct_tensors_close(t);
    t = opened("{\"model_type\":\"gemma3_text\",\"eos_token_id\":[1,1,5,106]}", "{}");
    expect_number(t, "tokenizer.ggml.eot_token_id", 5);
    assert_non_null(strstr(ct_tensors_note(t, 0), "names 3 tokens that end a text"));
    ct_tensors_close(t);
    ct_error err;
    static const char *const bad[] = {
        "{\"top_k\":-1}", "{\"top_p\":\"x\"}", "[]", "{\"top_k\":1,\"top_k\":2}", "{\"eos_token_id\":{}}", ""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (bad[i][0]) {
            assert_int_equal(open_with(&t, "{\"model_type\":\"gemma3_text\"}", bad[i], &err), CT_EFORMAT);
            assert_non_null(strstr(err.text, "generation_config.json"));
        }
}

static void shapes_that_contradict(void **state)
{
    (void)state;
    static const struct {
        const char *field, *words;
    } cases[] = {
        {"\"hidden_size\":1152", "expected hidden_size 1152, found that the shape of 'model.norm.weight' says 64"},
        {"\"vocab_size\":262144",
         "expected vocab_size 262144, found that the shape of 'model.embed_tokens.weight' says 10"},
        {"\"intermediate_size\":6912",
         "expected intermediate_size 6912, found that the shape of 'model.layers.0.mlp.gate_proj.weight' says 96"},
        {"\"head_dim\":256", "expected head_dim 256, found that the shape of"},
        {"\"num_attention_heads\":8", "expected num_attention_heads 8, found that the shape of"},
        {"\"num_key_value_heads\":1", "expected num_key_value_heads 1, found that the shape of"},
        {"\"num_hidden_layers\":26", "expected num_hidden_layers 26, found that the tensors' names say 1"},
        {"\"tie_word_embeddings\":false", "expected lm_head.weight"},
        {"\"hidden_size\":null,\"hidden_size\":64", "every key once"},
        {"\"head_dim\":16,\"head_dim\":16", "every key once"},
        {"\"head_dim\":-16", "a whole number from 0"},
        {"\"head_dim\":16.5", "a whole number from 0"},
        {"\"head_dim\":\"16\"", "expected a whole number"},
        {"\"head_dim\":2147483648", "below 2^31"},
        {"\"rms_norm_eps\":1e999", "the range of a double"},
        {"\"tie_word_embeddings\":1", "true or false"},
        {"\"model_type\":\"gemma3\"", "every key once"},
        {"\"architectures\":\"Gemma3ForCausalLM\"", "expected an array"},
        {"\"text_config\":[]", "expected an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char config[256];
        snprintf(config, sizeof config, "{\"model_type\":\"gemma3_text\",%s}", cases[i].field);
        bool missing = strstr(cases[i].field, "tie_word_embeddings\":false") != NULL;
        refused_config(config, missing ? CT_ENOTFOUND : CT_EFORMAT, cases[i].words);
    }
}

static void other_models(void **state)
{
    (void)state;
    static const struct {
        const char *config, *words;
    } cases[] = {
        {"{\"model_type\":\"gemma\"}", "the first Gemma"},
        {"{\"model_type\":\"gemma2\",\"architectures\":[\"Gemma2ForCausalLM\"]}",
         "Gemma 2, which soft-caps attention: take a Gemma 3"},
        {"{\"model_type\":\"gemma3n\",\"text_config\":{\"model_type\":\"gemma3n_text\"}}", "Gemma 3n, another network"},
        {"{\"model_type\":\"gemma3n_text\"}", "Gemma 3n, another network"},
        {"{\"model_type\":\"gemma4\"}", "Gemma 4, another network"},
        {"{\"model_type\":\"gemma4_text\"}", "Gemma 4, another network"},
        {"{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma4_text\"}}", "Gemma 4, another network"},
        {"{\"model_type\":\"gemma3_text\",\"use_bidirectional_attention\":true}", "EmbeddingGemma"},
        {"{\"model_type\":\"gemma3_text\",\"architectures\":[\"Gemma3TextModel\"],\"use_bidirectional_attention\":"
         "true}",
         "use an embedding engine"},
        {"{\"model_type\":\"paligemma\"}", "PaliGemma"},
        {"{\"model_type\":\"recurrent_gemma\"}", "RecurrentGemma"},
        {"{\"model_type\":\"t5gemma\"}", "T5Gemma"},
        {"{\"model_type\":\"siglip_vision_model\"}", "a vision tower"},
        {"{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"]}",
         "found 'llama' (LlamaForCausalLM): carat runs Gemma 3 and nothing else"},
        {"{\"architectures\":[\"Qwen3ForCausalLM\"]}", "found '' (Qwen3ForCausalLM)"},
        {"{\"model_type\":\"gemma3_text\",\"hidden_activation\":\"silu\"}", "found 'silu'"},
        {"{\"model_type\":\"\\u001b[31m\xc3\xa9\"}", "carat runs Gemma 3 and nothing else"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refused_config(cases[i].config, CT_EUNSUPPORTED, cases[i].words);
    refused_config("{}", CT_EFORMAT, "is it the config.json of a model?");
    refused_config("{\"model_type\":null}", CT_EFORMAT, "is it the config.json of a model?");
    refused_config("[]", CT_EFORMAT, "expected an object");
    refused_config("", CT_EFORMAT, "expected an object at byte 0");
    refused_config("{\"model_type\":\"gemma3_text\"}}", CT_EFORMAT, "nothing behind the value");
    ct_tensors_close(opened("{\"architectures\":[\"Gemma3ForCausalLM\"],\"use_bidirectional_attention\":false}", NULL));
}

static void other_quantizations(void **state)
{
    (void)state;
    static const struct {
        const char *method, *name;
    } cases[] = {{"gptq", "GPTQ"}, {"awq", "AWQ"},        {"bitsandbytes", "bitsandbytes"},
                 {"fp8", "fp8"},   {"fbgemm_fp8", "fp8"}, {"compressed-tensors", "compressed-tensors"},
                 {"hqq", "hqq"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char config[256], words[96];
        snprintf(config, sizeof config,
                 "{\"model_type\":\"gemma3_text\",\"quantization_config\":{\"bits\":4,\"quant_method\":\"%s\"}}",
                 cases[i].method);
        snprintf(words, sizeof words, "quantized by %s: use the bf16 checkpoint", cases[i].name);
        refused_config(config, CT_EUNSUPPORTED, words);
    }
    refused_config("{\"model_type\":\"gemma3_text\",\"quantization_config\":7}", CT_EFORMAT, "expected an object");
}

/* Google's depth without its scaling is run as the file says, and the user is told. */
static void notes(void **state)
{
    (void)state;
    struct hf_config c = {.n_ends = 0, .bos = UINT32_MAX};
    ct_error err;
    c.text.has_ints = 1u << HF_LAYERS;
    c.text.ints[HF_LAYERS] = 34;
    ct_tensors *t = ct_tensors_new("folder", "safetensors");
    assert_int_equal(ct_tensors_index(t, &err), CT_OK);
    assert_int_equal(ct_hf_config_put(&c, t, "config.json", &err), CT_OK);
    assert_non_null(strstr(ct_tensors_note(t, 0), "has linear scaling by 8"));
    ct_tensors_close(t);
    t = opened("{\"model_type\":\"gemma3_text\",\"final_logit_softcapping\":30.0,\"attn_logit_softcapping\":null}",
               NULL);
    expect_number(t, "gemma3.final_logit_softcapping", 30);
    ct_tensors_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(a_minimal_file),
        cmocka_unit_test(rope_in_three_spellings),
        cmocka_unit_test(which_layers_are_global),
        cmocka_unit_test(ends_and_sampling),
        cmocka_unit_test(shapes_that_contradict),
        cmocka_unit_test(other_models),
        cmocka_unit_test(other_quantizations),
        cmocka_unit_test(notes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
