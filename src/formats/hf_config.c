/* config.json and generation_config.json: what they say of a Gemma 3, with the defaults of transformers' classes filled in and
 * checked against the tensors' shapes, becomes metadata under the keys of a GGUF file.
 *
 * Files of four generations are read: the text model at the top or in text_config, rope in three spellings, minimal files that
 * leave out what is a default. Everything that is not a Gemma 3 in floats, or MLX's, is refused by its name. */
#include <string.h>

#include "formats/checkpoint.h"
#include "formats/json.h"

/* ---- fields -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *key;
    uint32_t missing; /* the class default */
} ints[HF_INTS] = {
    [HF_VOCAB] = {"vocab_size", 262208},
    [HF_HIDDEN] = {"hidden_size", 2304},
    [HF_FFN] = {"intermediate_size", 9216},
    [HF_LAYERS] = {"num_hidden_layers", 26},
    [HF_HEADS] = {"num_attention_heads", 8},
    [HF_KV_HEADS] = {"num_key_value_heads", 4},
    [HF_HEAD_DIM] = {"head_dim", 256},
    [HF_WINDOW] = {"sliding_window", 4096},
    [HF_CONTEXT] = {"max_position_embeddings", 131072},
    [HF_PATTERN] = {"sliding_window_pattern", 6},
    [HF_OLD_PATTERN] = {"_sliding_window_pattern", 6}, /* newer files write it so */
};

static const struct {
    const char *key;
    double missing;
} reals[HF_REALS] = {
    [HF_EPS] = {"rms_norm_eps", 1e-6},
    [HF_THETA] = {"rope_theta", 1e6},
    [HF_LOCAL_THETA] = {"rope_local_base_freq", 1e4},
    [HF_QUERY_SCALAR] = {"query_pre_attn_scalar", 256},
    [HF_FINAL_CAP] = {"final_logit_softcapping", 0},
    [HF_ATTENTION_CAP] = {"attn_logit_softcapping", 0},
};

static const char *const bools[HF_BOOLS] = {
    [HF_TIED] = "tie_word_embeddings", [HF_BOTH_WAYS] = "use_bidirectional_attention"};

const char *ct_hf_int_key(size_t i) { return ints[i].key; }
uint32_t ct_hf_int_missing(size_t i) { return ints[i].missing; }
double ct_hf_real_missing(size_t i) { return reals[i].missing; }

/* What else is read, each with a bit, so that one that comes twice is noticed. */
enum {
    KEY_ROPE_SCALING = 1 << 0,
    KEY_ROPE_PARAMETERS = 1 << 1,
    KEY_LAYER_TYPES = 1 << 2,
    KEY_ACTIVATION = 1 << 3,
    KEY_MODEL_TYPE = 1 << 4,
    KEY_TEXT = 1 << 5,
    KEY_ARCHITECTURES = 1 << 6,
    KEY_QUANTIZATION = 1 << 7,
    KEY_QUANTIZATION_CONFIG = 1 << 8,
    KEY_EOS = 1 << 9,
    KEY_BOS = 1 << 10
};

struct reader {
    ct_json json;
    struct hf_config *c;
    unsigned seen;
    ct_error *err;
};

/* A value that may be null, which says as much as leaving it out. */
static bool is_null(ct_json *j) { return ct_json_peek(j) == CT_JSON_NULL && ct_json_null(j); }

static bool once(ct_json *j, unsigned *seen, unsigned bit)
{
    if (*seen & bit)
        return ct_json_fail(j, "every key once", "one of them twice");
    *seen |= bit;
    return true;
}

static void keep_word(char out[HF_WORD], ct_json_str s)
{
    size_t n = s.len < HF_WORD - 1 ? s.len : HF_WORD - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = s.data[i] >= ' ' && s.data[i] < 0x7f ? s.data[i] : '?';
    out[n] = '\0';
}

static void read_word(ct_json *j, char out[HF_WORD])
{
    ct_json_str s;
    if (!is_null(j) && ct_json_string(j, &s))
        keep_word(out, s);
}

/* ---- rope, layer types --------------------------------------------------------------------------------------------- */

/* {"rope_type" or "type", "factor", "rope_theta"}, or two of them for the two kinds of layers. */
static void read_rope(ct_json *j, struct hf_rope *rope, struct hf_rope *local, bool nested)
{
    ct_json_str key;
    if (is_null(j))
        return;
    ct_json_object(j);
    while (ct_json_key(j, &key)) {
        if (nested && ct_json_is(key, "full_attention"))
            read_rope(j, rope, NULL, false);
        else if (nested && ct_json_is(key, "sliding_attention"))
            read_rope(j, local, NULL, false);
        else if (ct_json_is(key, "rope_type") || ct_json_is(key, "type"))
            read_word(j, rope->type);
        else if (ct_json_is(key, "factor") && !is_null(j))
            ct_json_f64(j, &rope->factor);
        else if (ct_json_is(key, "rope_theta") && !is_null(j))
            ct_json_f64(j, &rope->theta);
        else if (!ct_json_is(key, "factor") && !ct_json_is(key, "rope_theta"))
            ct_json_skip(j);
    }
}

static void read_layer_types(ct_json *j, struct hf_text *x)
{
    ct_json_str s;
    if (is_null(j))
        return;
    ct_json_array(j);
    while (ct_json_more(j) && ct_json_string(j, &s)) {
        bool local = ct_json_is(s, "sliding_attention");
        if (x->n_layer_types == HF_MAX_LAYERS)
            ct_json_fail(j, "at most 512 layer_types", "more");
        else if (!local && !ct_json_is(s, "full_attention"))
            ct_json_fail(j, "sliding_attention or full_attention in layer_types", "another kind of layer");
        else
            x->local[x->n_layer_types++] = local;
    }
}

/* ---- the text model ------------------------------------------------------------------------------------------------ */

/* Each number is read once; a null is as good as nothing. */
static void read_int(ct_json *j, struct hf_text *x, size_t i)
{
    uint64_t v;
    if (!once(j, &x->seen_ints, 1u << i) || is_null(j) || !ct_json_u64(j, &v))
        return;
    if (v > INT32_MAX)
        ct_json_fail(j, "a number below 2^31", "a larger one");
    x->ints[i] = (uint32_t)v;
    x->has_ints |= 1u << i;
}

static void read_real(ct_json *j, struct hf_text *x, size_t i)
{
    if (once(j, &x->seen_reals, 1u << i) && !is_null(j) && ct_json_f64(j, &x->reals[i]))
        x->has_reals |= 1u << i;
}

static void read_bool(ct_json *j, struct hf_text *x, size_t i)
{
    if (once(j, &x->seen_bools, 1u << i) && !is_null(j) && ct_json_bool(j, &x->bools[i]))
        x->has_bools |= 1u << i;
}

/* Reads the value of a key of the text model; false if it is none, and then nothing is read. */
static bool text_key(ct_json *j, struct hf_text *x, unsigned *seen, ct_json_str key)
{
    for (size_t i = 0; i < HF_INTS; i++)
        if (ct_json_is(key, ints[i].key))
            return read_int(j, x, i), true;
    for (size_t i = 0; i < HF_REALS; i++)
        if (ct_json_is(key, reals[i].key))
            return read_real(j, x, i), true;
    for (size_t i = 0; i < HF_BOOLS; i++)
        if (ct_json_is(key, bools[i]))
            return read_bool(j, x, i), true;
    if (ct_json_is(key, "rope_scaling")) {
        if (once(j, seen, KEY_ROPE_SCALING))
            read_rope(j, &x->rope, &x->local_rope, true);
    } else if (ct_json_is(key, "rope_parameters")) {
        if (once(j, seen, KEY_ROPE_PARAMETERS))
            read_rope(j, &x->rope, &x->local_rope, true);
    } else if (ct_json_is(key, "layer_types")) {
        if (once(j, seen, KEY_LAYER_TYPES))
            read_layer_types(j, x);
    } else if (ct_json_is(key, "hidden_activation")) {
        if (once(j, seen, KEY_ACTIVATION))
            read_word(j, x->activation);
    } else {
        return false;
    }
    return true;
}

static void read_text(ct_json *j, struct hf_text *x)
{
    ct_json_str key;
    unsigned seen = 0;
    if (is_null(j))
        return;
    *x = (struct hf_text){0};
    ct_json_object(j);
    while (ct_json_key(j, &key)) {
        if (text_key(j, x, &seen, key))
            continue;
        if (ct_json_is(key, "model_type")) {
            if (once(j, &seen, KEY_MODEL_TYPE))
                read_word(j, x->model_type);
        } else {
            ct_json_skip(j);
        }
    }
}

/* ---- the top level ------------------------------------------------------------------------------------------------- */

static void add_end(struct hf_config *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->n_ends; i++)
        if (c->ends[i] == id)
            return;
    if (c->n_ends < HF_MAX_ENDS && id <= INT32_MAX)
        c->ends[c->n_ends++] = (uint32_t)id;
}

/* One id or a list of them. */
static void read_ends(ct_json *j, struct hf_config *c)
{
    uint64_t id;
    if (is_null(j))
        return;
    if (ct_json_peek(j) != CT_JSON_ARRAY) {
        if (ct_json_u64(j, &id))
            add_end(c, id);
        return;
    }
    ct_json_array(j);
    while (ct_json_more(j) && ct_json_u64(j, &id))
        add_end(c, id);
}

static void read_bos(ct_json *j, struct hf_config *c)
{
    uint64_t id;
    if (!is_null(j) && ct_json_u64(j, &id) && id <= INT32_MAX)
        c->bos = (uint32_t)id;
}

static void read_first_word(ct_json *j, char out[HF_WORD])
{
    ct_json_str s;
    if (is_null(j))
        return;
    ct_json_array(j);
    for (bool first = true; ct_json_more(j) && ct_json_string(j, &s); first = false)
        if (first)
            keep_word(out, s);
}

/* MLX writes its object under both names; everyone else names a method in it. */
static void read_quantization(ct_json *j, struct hf_config *c, const uint8_t *data)
{
    ct_json_str key;
    if (is_null(j))
        return;
    ct_json_peek(j);
    size_t from = j->at;
    ct_json_object(j);
    while (ct_json_key(j, &key)) {
        if (ct_json_is(key, "quant_method"))
            read_word(j, c->quant_method);
        else
            ct_json_skip(j);
    }
    if (ct_json_status(j) == CT_OK && c->quantization.len == 0)
        c->quantization = (ct_str){(const char *)data + from, j->at - from};
}

static void top_key(ct_json *j, struct hf_config *c, struct hf_text *top, unsigned *seen, ct_json_str key)
{
    static const struct {
        const char *key;
        unsigned bit;
    } keys[] = {{"text_config", KEY_TEXT},
                {"architectures", KEY_ARCHITECTURES},
                {"model_type", KEY_MODEL_TYPE},
                {"quantization", KEY_QUANTIZATION},
                {"quantization_config", KEY_QUANTIZATION_CONFIG},
                {"eos_token_id", KEY_EOS},
                {"bos_token_id", KEY_BOS}};
    unsigned bit = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (ct_json_is(key, keys[i].key))
            bit = keys[i].bit;
    if (bit && !once(j, seen, bit))
        return;
    switch (bit) {
    case KEY_TEXT: read_text(j, &c->text); break;
    case KEY_ARCHITECTURES: read_first_word(j, c->architecture); break;
    case KEY_MODEL_TYPE: read_word(j, c->model_type); break;
    case KEY_QUANTIZATION:
    case KEY_QUANTIZATION_CONFIG: read_quantization(j, c, j->data); break;
    case KEY_EOS: read_ends(j, c); break;
    case KEY_BOS: read_bos(j, c); break;
    default:
        if (!text_key(j, top, seen, key))
            ct_json_skip(j);
    }
}

/* ---- what is refused by name --------------------------------------------------------------------------------------- */

static const struct {
    const char *type, *what;
} others[] = {
    {"gemma3n", "Gemma 3n, another network: take one of Gemma 3's own sizes, or run it with llama.cpp or transformers"},
    {"gemma4", "Gemma 4, another network: take a Gemma 3, or run it with llama.cpp or transformers"},
    {"gemma2", "Gemma 2, which soft-caps attention: take a Gemma 3, or run it with llama.cpp or transformers"},
    {"paligemma", "PaliGemma, another network: run it with transformers"},
    {"shieldgemma", "ShieldGemma, which answers with classes: run it with transformers"},
    {"recurrent_gemma", "RecurrentGemma, another network: run it with transformers"},
    {"t5gemma", "T5Gemma, which has an encoder: run it with transformers"},
    {"siglip", "a vision tower without a language model"},
    {"gemma", "the first Gemma: take a Gemma 3, or run it with llama.cpp or transformers"},
};

static bool begins(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

static ct_status check_architecture(const struct hf_config *c, const char *path, ct_error *err)
{
    const char *type = c->model_type[0] ? c->model_type : c->text.model_type;
    bool ours = strcmp(type, "gemma3") == 0 || strcmp(type, "gemma3_text") == 0;
    if (type[0] == '\0' && begins(c->architecture, "Gemma3For"))
        ours = true;
    if (ours && c->text.bools[HF_BOTH_WAYS])
        return ct_fail(
            err, CT_EUNSUPPORTED, path,
            "expected a Gemma 3 that writes text, found use_bidirectional_attention in '%s', as EmbeddingGemma has, an "
            "encoder: use an embedding engine for it (sentence-transformers, llama.cpp)",
            ct_path_tail(path));
    if (ours && c->text.model_type[0] && !begins(c->text.model_type, "gemma3"))
        ours = false, type = c->text.model_type;
    if (ours)
        return CT_OK;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (begins(type, others[i].type))
            return ct_fail(err, CT_EUNSUPPORTED, path, "expected a Gemma 3, found model_type %s in '%s': %s", type,
                           ct_path_tail(path), others[i].what);
    if (type[0] == '\0' && c->architecture[0] == '\0')
        return ct_fail(
            err, CT_EFORMAT, path,
            "expected model_type gemma3 or gemma3_text in '%s', found none: is it the config.json of a model?",
            ct_path_tail(path));
    return ct_fail(
        err, CT_EUNSUPPORTED, path,
        "expected model_type gemma3 or gemma3_text in '%s', found '%s' (%s): carat runs Gemma 3 and nothing else",
        ct_path_tail(path), type, c->architecture);
}

static const struct {
    const char *method, *name;
} methods[] = {
    {"gptq", "GPTQ"}, {"awq", "AWQ"},        {"bitsandbytes", "bitsandbytes"},
    {"fp8", "fp8"},   {"fbgemm_fp8", "fp8"}, {"compressed-tensors", "compressed-tensors"},
};

ct_status ct_hf_refuse_method(const char *method, const char *path, ct_error *err)
{
    const char *name = method;
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(method, methods[i].method) == 0)
            name = methods[i].name;
    return ct_fail(err, CT_EUNSUPPORTED, path,
                   "expected weights in F32, F16, BF16 or MLX's types, found '%s' quantized by %s: use the bf16 "
                   "checkpoint it was made of, or a GGUF or MLX quantization of the model",
                   ct_path_tail(path), name);
}

ct_status ct_hf_config_read(struct hf_config *c, const char *path, const ct_map *map, ct_error *err)
{
    ct_json j;
    ct_json_str key;
    struct hf_text top = {0};
    unsigned seen = 0;
    *c = (struct hf_config){.bos = UINT32_MAX};
    ct_json_init(&j, path, map->data, map->size, err);
    ct_json_object(&j);
    while (ct_json_key(&j, &key))
        top_key(&j, c, &top, &seen, key);
    ct_status st = ct_json_end(&j);
    if (st != CT_OK)
        return st;
    if (!(seen & KEY_TEXT))
        c->text = top;
    else if (!(c->text.has_bools & 1u << HF_TIED) && (top.has_bools & 1u << HF_TIED)) {
        c->text.has_bools |= 1u << HF_TIED; /* older files say it of the whole model */
        c->text.bools[HF_TIED] = top.bools[HF_TIED];
    }
    if ((st = check_architecture(c, path, err)) != CT_OK)
        return st;
    if (c->quant_method[0])
        return ct_hf_refuse_method(c->quant_method, path, err);
    if (c->text.activation[0] && !begins(c->text.activation, "gelu"))
        return ct_fail(err, CT_EUNSUPPORTED, path,
                       "expected hidden_activation gelu_pytorch_tanh in '%s', as Gemma 3 has, found '%s'",
                       ct_path_tail(path), c->text.activation);
    return CT_OK;
}

/* ---- generation_config.json ---------------------------------------------------------------------------------------- */

ct_status ct_hf_generation_read(struct hf_config *c, ct_tensors *t, const char *path, const ct_map *map, ct_error *err)
{
    static const struct {
        const char *key, *name;
    } wanted[] = {{"temperature", "general.sampling.temp"},
                  {"top_p", "general.sampling.top_p"},
                  {"min_p", "general.sampling.min_p"}};
    enum { N = sizeof wanted / sizeof wanted[0], TOP_K = 1 << N, ENDS = 2 << N };
    ct_json j;
    ct_json_str key;
    unsigned seen = 0;
    bool put = true;
    ct_json_init(&j, path, map->data, map->size, err);
    ct_json_object(&j);
    while (ct_json_key(&j, &key)) {
        double v = 0;
        uint64_t k = 0;
        size_t i = 0;
        while (i < N && !ct_json_is(key, wanted[i].key))
            i++;
        unsigned bit = i < N ? 1u << i : ct_json_is(key, "top_k") ? TOP_K : ct_json_is(key, "eos_token_id") ? ENDS : 0;
        if (bit && !once(&j, &seen, bit))
            break;
        if (bit == 0)
            ct_json_skip(&j);
        else if (bit == ENDS)
            read_ends(&j, c);
        else if (is_null(&j))
            continue;
        else if (bit == TOP_K)
            put = ct_json_u64(&j, &k) && k <= INT32_MAX ? ct_kv_put_u32(t, "general.sampling.top_k", (uint32_t)k) : put;
        else if (ct_json_f64(&j, &v))
            put = ct_kv_put_f32(t, wanted[i].name, (float)v) && put;
    }
    if (!put)
        return ct_fail(err, CT_ENOMEM, path, "out of memory for the metadata of '%s'", ct_path_tail(path));
    return ct_json_end(&j);
}
