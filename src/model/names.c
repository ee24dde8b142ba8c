/* The table of tensor names, and what follows from it: finding a tensor, proving its shape, noticing strangers.
 * Knows nothing of backends or of what a tensor is for. Read weights.c next. */
#include "model/names.h"

#include <stdio.h>
#include <string.h>

#define ROW(name, hf, is_layer, is_optional, rows, cols, use, field)        \
    {                                                                       \
        name, hf, is_layer, is_optional, rows, cols, CT_WEIGHT_##use, field \
    }
#define MODEL(name, hf, rows, cols, use, field) ROW(name, hf, false, false, rows, cols, use, offsetof(ct_gemma, field))
#define LAYER(name, hf, rows, cols, use, field) ROW(name, hf, true, false, rows, cols, use, offsetof(ct_layer, field))

static const ct_name table[] = {
    MODEL("token_embd", "model.embed_tokens", 'V', 'D', EMBED, embed),
    ROW("output", "lm_head", false, true, 'V', 'D', MATRIX,
        offsetof(ct_gemma, head)), /* usually absent: the embedding is the head */
    MODEL("output_norm", "model.norm", '1', 'D', VECTOR, norm),
    LAYER("attn_norm", "input_layernorm", '1', 'D', VECTOR, attn_norm),
    LAYER("attn_q", "self_attn.q_proj", 'q', 'D', MATRIX, q),
    LAYER("attn_k", "self_attn.k_proj", 'k', 'D', MATRIX, k),
    LAYER("attn_v", "self_attn.v_proj", 'k', 'D', MATRIX, v),
    LAYER("attn_q_norm", "self_attn.q_norm", '1', 'd', VECTOR, q_norm),
    LAYER("attn_k_norm", "self_attn.k_norm", '1', 'd', VECTOR, k_norm),
    LAYER("attn_output", "self_attn.o_proj", 'D', 'q', MATRIX, o),
    LAYER("post_attention_norm", "post_attention_layernorm", '1', 'D', VECTOR, post_attn_norm),
    LAYER("ffn_norm", "pre_feedforward_layernorm", '1', 'D', VECTOR, ffn_norm),
    LAYER("ffn_gate", "mlp.gate_proj", 'F', 'D', MATRIX, gate),
    LAYER("ffn_up", "mlp.up_proj", 'F', 'D', MATRIX, up),
    LAYER("ffn_down", "mlp.down_proj", 'D', 'F', MATRIX, down),
    LAYER("post_ffw_norm", "post_feedforward_layernorm", '1', 'D', VECTOR, post_ffn_norm),
};

#define N_ROWS (sizeof table / sizeof table[0])

/* What stands before a layer's number. */
static const char *const layers_prefix[] = {[CT_NAMES_GGUF] = "blk.", [CT_NAMES_HF] = "model.layers."};

static const char *called(const ct_name *n, ct_naming naming) { return naming == CT_NAMES_HF ? n->hf : n->gguf; }

const ct_name *ct_name_at(size_t i) { return i < N_ROWS ? &table[i] : NULL; }

const ct_name *ct_name_row(const char *gguf)
{
    size_t i = 0;
    while (i < N_ROWS - 1 && strcmp(table[i].gguf, gguf) != 0)
        i++;
    return &table[i];
}

void ct_name_format(const ct_name *n, ct_naming naming, int32_t layer, char out[CT_NAME_MAX])
{
    if (n->per_layer)
        snprintf(out, CT_NAME_MAX, "%s%d.%s.weight", layers_prefix[naming], layer, called(n, naming));
    else
        snprintf(out, CT_NAME_MAX, "%s.weight", called(n, naming));
}

int32_t ct_name_dim(const ct_config *cfg, char letter)
{
    switch (letter) {
    case 'V': return cfg->embed_rows;
    case 'D': return cfg->dim;
    case 'F': return cfg->ffn;
    case 'd': return cfg->head_dim;
    case 'q': return cfg->heads * cfg->head_dim;
    case 'k': return cfg->kv_heads * cfg->head_dim;
    default: return 1;
    }
}

static ct_status missing(const ct_tensors *t, const char *name, int32_t layer, int32_t rows, int32_t cols,
                         ct_error *err)
{
    ct_naming naming = ct_tensors_naming(t);
    char fused[CT_NAME_MAX];
    snprintf(fused, sizeof fused, "%s%d.%s.weight", layers_prefix[naming], layer,
             naming == CT_NAMES_HF ? "self_attn.qkv_proj" : "attn_qkv");
    if (layer >= 0 && ct_tensors_find(t, fused))
        return ct_fail(
            err, CT_EUNSUPPORTED, fused,
            "expected separate matrices for q, k and v, found the fused tensor '%s': convert the file without fusing",
            fused);
    return ct_fail(err, CT_ENOTFOUND, name,
                   "expected a tensor '%s' [%d, %d] in '%s', found none: it is cut or not a whole Gemma 3 text model",
                   name, rows, cols, ct_tensors_path(t));
}

ct_status ct_name_find(const ct_tensor **out, const ct_tensors *t, const ct_name *n, int32_t layer,
                       const ct_config *cfg, ct_error *err)
{
    char name[CT_NAME_MAX];
    ct_name_format(n, ct_tensors_naming(t), layer, name);
    int32_t rows = ct_name_dim(cfg, n->rows), cols = ct_name_dim(cfg, n->cols);
    const ct_tensor *found = ct_tensors_find(t, name);
    *out = found;
    if (found == NULL)
        return n->optional ? CT_OK : missing(t, name, n->per_layer ? layer : -1, rows, cols, err);
    if (found->ne[0] != (size_t)cols || found->ne[1] != (size_t)rows || found->ne[2] != 1 || found->ne[3] != 1)
        return ct_fail(err, CT_EFORMAT, name,
                       "expected the tensor '%s' to be [%d, %d] by the file's own metadata, found [%zu, %zu%s]: "
                       "metadata and weights "
                       "are not of the same model",
                       name, rows, cols, found->ne[1], found->ne[0], found->n_dims > 2 ? ", ..." : "");
    return CT_OK;
}

static bool starts_with(ct_str s, const char *z)
{
    size_t n = strlen(z);
    return s.len >= n && memcmp(s.data, z, n) == 0;
}

/* Is it a name of the table? *layer is -1 outside of layers. */
static bool known(ct_str name, ct_naming naming, int32_t *layer)
{
    static const char tail[] = ".weight";
    size_t tail_len = sizeof tail - 1;
    *layer = -1;
    if (starts_with(name, layers_prefix[naming])) {
        size_t from = strlen(layers_prefix[naming]), i = from;
        int32_t n = 0;
        while (i < name.len && name.data[i] >= '0' && name.data[i] <= '9' && n < 100000)
            n = n * 10 + (name.data[i++] - '0');
        if (i == from || i >= name.len || name.data[i] != '.')
            return false;
        *layer = n;
        name = (ct_str){name.data + i + 1, name.len - i - 1};
    }
    if (name.len < tail_len || memcmp(name.data + name.len - tail_len, tail, tail_len) != 0)
        return false;
    name.len -= tail_len;
    for (size_t i = 0; i < N_ROWS; i++)
        if (table[i].per_layer == (*layer >= 0) && ct_str_is(name, called(&table[i], naming)))
            return true;
    return false;
}

static ct_status check_strangers(ct_config *cfg, const ct_tensors *t, ct_error *err)
{
    int32_t strangers = 0;
    ct_str first = {"", 0};
    for (size_t i = 0; i < ct_tensors_count(t); i++) {
        ct_str name = ct_tensors_at(t, i)->name;
        int width = name.len < 60 ? (int)name.len : 60;
        int32_t layer;
        if (starts_with(name, "v.") || starts_with(name, "mm."))
            continue; /* the vision tower that Ollama keeps in the same file */
        bool ours = known(name, ct_tensors_naming(t), &layer);
        if (layer >= cfg->layers)
            return ct_fail(err, CT_EFORMAT, "gemma3.block_count",
                           "expected tensors of %d layers by gemma3.block_count, found '%.*s': metadata and weights "
                           "are not of the "
                           "same model",
                           cfg->layers, width, name.data);
        if (ours)
            continue;
        if (name.len > 5 && memcmp(name.data + name.len - 5, ".bias", 5) == 0)
            return ct_fail(err, CT_EUNSUPPORTED, NULL, "expected Gemma 3, which has no biases, found the tensor '%.*s'",
                           width, name.data);
        if (strangers++ == 0)
            first = name;
    }
    if (strangers > 0)
        CT_WARN(cfg, "%d tensor%s not part of Gemma 3 ignored, the first is '%.*s'", strangers,
                strangers == 1 ? "" : "s", first.len < 60 ? (int)first.len : 60, first.data);
    return CT_OK;
}

ct_status ct_names_check(ct_config *cfg, const ct_tensors *t, ct_error *err)
{
    const ct_tensor *found;
    for (size_t i = 0; i < N_ROWS; i++)
        for (int32_t layer = 0; layer < (table[i].per_layer ? cfg->layers : 1); layer++) {
            ct_status st = ct_name_find(&found, t, &table[i], layer, cfg, err);
            if (st != CT_OK)
                return st;
        }
    return check_strangers(cfg, t, err);
}
