/* make_seeds FOLDER: what fuzzing begins with, a folder for each target, written from scratch and the same each time. A fuzzer
 * finds its way from there; what it found worth keeping lies in tests/fuzz/corpus. */
#include <sys/stat.h>

#include "base/rng.h"
#include "micro_model.h"
#include "st_write.h"

static const char *folder;

static void seed(const char *target, const char *name, const void *data, size_t n)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, target);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/seed-%s", folder, target, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

static void model(const char *name, micro_options o)
{
    gguf_writer w;
    micro_model(&w, &o);
    seed("gguf", name, w.file.data, w.file.n);
    gguf_free(&w);
}

/* A key of every type, and nothing else. */
static void keys(void)
{
    static const uint8_t v[8] = {1, 0, 1, 0, 1, 0, 1, 0};
    gguf_writer w;
    gguf_begin(&w, 3, 64);
    for (uint32_t type = GGUF_U8; type <= GGUF_F64; type++) {
        static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
        char key[2] = {(char)('a' + type), 0}, array[2] = {(char)('A' + type), 0};
        if (size[type] > 0) {
            gguf_kv(&w, key, type, v, size[type]);
            gguf_kv_array(&w, array, type, 8 / size[type], v, 8);
        }
    }
    gguf_kv_string(&w, "s", "text");
    gguf_kv_strings(&w, "S", 3, (const char *const[]){"", "one", "\xe2\x96\x81two"});
    gguf_tensor(&w, "x", 4, (const uint64_t[]){2, 1, 2, 1}, 0, "0123456789abcdef", 16);
    gguf_tensor(&w, "y", 1, (const uint64_t[]){32}, 8, "0123456789abcdef0123456789abcdef??", 34);
    gguf_end(&w);
    seed("gguf", "keys", w.file.data, w.file.n);
    gguf_free(&w);
}

static void texts(void)
{
    static const char *const text[] = {"",
                                       "hello hello",
                                       "  hello\n\n\n<b>ab</b> \t<start_of_turn>user<end_of_turn>",
                                       "aéaé ▁▁a語本 😀",
                                       "\xff\xe2\x96\xc2\xed\xa0\x80 <0x41><0x-1>",
                                       "llllheheheaaaabababab abababab"};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        char name[16];
        snprintf(name, sizeof name, "%zu", i);
        seed("tokenize", name, text[i], strlen(text[i]));
    }
}

/* A shard with a whole model of one layer, as fuzz_safetensors.c reads it: plain, or matrices as MLX has them. */
static void shard(const char *name, bool mlx, const char *prefix, const char *type)
{
    static const char *const names[] = {"embed_tokens",
                                        "norm",
                                        "layers.0.input_layernorm",
                                        "layers.0.self_attn.q_proj",
                                        "layers.0.self_attn.k_proj",
                                        "layers.0.self_attn.v_proj",
                                        "layers.0.self_attn.q_norm",
                                        "layers.0.self_attn.k_norm",
                                        "layers.0.self_attn.o_proj",
                                        "layers.0.post_attention_layernorm",
                                        "layers.0.pre_feedforward_layernorm",
                                        "layers.0.mlp.gate_proj",
                                        "layers.0.mlp.up_proj",
                                        "layers.0.mlp.down_proj",
                                        "layers.0.post_feedforward_layernorm"};
    enum { DIM = MICRO_DIM };
    st_writer w = {0};
    gguf_bytes input = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char full[128];
        float v[DIM * DIM];
        uint8_t data[DIM * DIM * 4];
        uint64_t rows = strstr(names[i], "norm") ? 0 : i == 0 ? 8 : DIM;
        for (size_t k = 0; k < DIM * DIM; k++)
            v[k] = (float)(int)(ct_rng_u64(2, i, k) % 256) / 512 - 0.25f;
        snprintf(full, sizeof full, "%s%s.weight", prefix, names[i]);
        size_t n = rows ? (size_t)rows * DIM : DIM;
        const char *dtype = st_encode(data, v, n,
                                      strcmp(type, "F32") == 0   ? CT_F32
                                      : strcmp(type, "F16") == 0 ? CT_F16
                                                                 : CT_BF16);
        size_t bytes = n * (strcmp(type, "F32") == 0 ? 4 : 2);
        if (rows == 0) {
            st_tensor(&w, full, dtype, 1, (const uint64_t[]){DIM}, data, bytes);
        } else if (!mlx) {
            st_tensor(&w, full, dtype, 2, (const uint64_t[]){rows, DIM}, data, bytes);
        } else {
            st_tensor(&w, full, "U32", 2, (const uint64_t[]){rows, DIM / 8}, data, (size_t)rows * DIM / 2);
            snprintf(full, sizeof full, "%s%s.scales", prefix, names[i]);
            st_tensor(&w, full, dtype, 2, (const uint64_t[]){rows, 1}, data, (size_t)rows * 2);
            snprintf(full, sizeof full, "%s%s.biases", prefix, names[i]);
            st_tensor(&w, full, dtype, 2, (const uint64_t[]){rows, 1}, data, (size_t)rows * 2);
        }
    }
    if (strstr(prefix, "language"))
        st_tensor(&w, "vision_tower.patch", "F32", 1, (const uint64_t[]){1}, "\0\0\0\0", 4);
    st_end(&w, 8);
    gguf_put(&input, mlx ? "m" : "p", 1); /* odd and even */
    gguf_put(&input, w.file.data, w.file.n);
    seed("safetensors", name, input.data, input.n);
    free(input.data);
    st_free(&w);
}

/* Configurations of every generation, and an index. */
static void configs(void)
{
    static const char *const text[] = {
        "c{\"model_type\":\"gemma3_text\",\"hidden_size\":640,\"num_hidden_layers\":18,\"intermediate_size\":2048,"
        "\"num_attention_heads\":4,\"num_key_value_heads\":1,\"head_dim\":256,\"sliding_window\":512,\"eos_token_id\":"
        "1,"
        "\"max_position_embeddings\":32768,\"rope_theta\":1e6,\"rope_local_base_freq\":10000.0,\"rope_scaling\":null,"
        "\"_sliding_window_pattern\":6,\"tie_word_embeddings\":true,\"use_bidirectional_attention\":false}",
        "c{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"model_type\":\"gemma3\",\"eos_token_id\":[1,106],"
        "\"text_config\":{\"hidden_size\":2560,\"intermediate_size\":10240,\"model_type\":\"gemma3_text\","
        "\"num_hidden_layers\":34,\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"},\"sliding_window\":1024},"
        "\"quantization\":{\"group_size\":64,\"bits\":4,\"model.layers.0.mlp.up_proj\":{\"bits\":6}}}",
        "c{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":2,\"layer_types\":[\"sliding_attention\",\"full_"
        "attention\"],"
        "\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\",\"rope_theta\":1e6},\"sliding_attention\":"
        "{\"rope_type\":\"default\",\"rope_theta\":1e4}},\"query_pre_attn_scalar\":168,\"final_logit_softcapping\":"
        "null}",
        "c{\"model_type\":\"gemma3_text\",\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}",
        "g{\"eos_token_id\":[1,106],\"top_k\":64,\"top_p\":0.95,\"min_p\":0.0,\"temperature\":1.0,\"do_sample\":true}",
        ("i{\"metadata\":{\"total_size\":8},\"weight_map\":{\"model.norm.weight\":\"model-00001-of-00002.safetensors\","
         "\"lm_head.weight\":\"model-00002-of-00002.safetensors\"}}"),
    };
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        char name[16];
        snprintf(name, sizeof name, "%zu", i);
        seed("hf_config", name, text[i], strlen(text[i]));
    }
}

/* Programs for the targets that read their input as one: chance, with the flags that lead furthest. */
static void programs(const char *target, const uint8_t *flags, size_t n_flags, size_t bytes)
{
    for (size_t i = 0; i < n_flags; i++) {
        uint8_t data[1024];
        char name[16];
        for (size_t k = 0; k < bytes; k++)
            data[k] = (uint8_t)(ct_rng_u64(1, i, k) % (k % 3 ? 64 : 256));
        data[0] = flags[i];
        snprintf(name, sizeof name, "%zu", i);
        seed(target, name, data, bytes);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_seeds FOLDER\n");
        return 2;
    }
    folder = argv[1];
    mkdir(folder, 0777);
    model("plain", (micro_options){.layers = 1});
    model("scores", (micro_options){.layers = 1, .text = MICRO_SCORES, .chat = true});
    model("merges", (micro_options){.layers = 2, .text = MICRO_MERGES, .version = 2});
    model("halves", (micro_options){.layers = 2, .halves = true});
    keys();
    texts();
    shard("bf16", false, "model.", "BF16");
    shard("f16", false, "language_model.model.", "F16");
    shard("f32", false, "", "F32");
    shard("mlx", true, "language_model.model.", "BF16");
    configs();
    programs("vocab", (const uint8_t[]){0, 4, 8, 16, 32, 64, 1, 2, 68, 12}, 10, 300);
    programs("session", (const uint8_t[]){0, 1, 2, 3, 4, 8, 16, 19}, 8, 12);
    programs("sampler", (const uint8_t[]){0, 1, 2, 4, 16, 32, 64, 128}, 8, 400);
    seed("session", "whole", "\3", 1);
    return 0;
}
