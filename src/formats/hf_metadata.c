/* The metadata of a Gemma 3 from its config.json, under the keys of a GGUF file, so that the rest of the program knows one kind.
 *
 * Shapes are the truth: what the configuration states must agree with them, what it leaves out is taken from them, and only what
 * no shape tells has the default of transformers' class. Read model/config.c next, which checks the ranges. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "formats/checkpoint.h"

struct writer {
    const struct hf_config *c;
    ct_tensors *t;
    const char *path;
    uint32_t value[HF_INTS];
    ct_error *err;
};

/* ---- shapes -------------------------------------------------------------------------------------------------------- */

/* Where a number shows: dimension `dim` of a tensor (innermost first), divided by head_dim if so. Rows in this order: heads need
 * head_dim. */
static const struct {
    size_t field;
    const char *tensor;
    size_t dim;
    bool per_head;
} shown[] = {
    {HF_HIDDEN, "model.norm.weight", 0, false},
    {HF_VOCAB, "model.embed_tokens.weight", 1, false},
    {HF_FFN, "model.layers.0.mlp.gate_proj.weight", 1, false},
    {HF_HEAD_DIM, "model.layers.0.self_attn.q_norm.weight", 0, false},
    {HF_HEADS, "model.layers.0.self_attn.q_proj.weight", 1, true},
    {HF_KV_HEADS, "model.layers.0.self_attn.k_proj.weight", 1, true},
};

static ct_status settle(struct writer *w, size_t i, bool there, size_t found, const char *where)
{
    const struct hf_text *x = &w->c->text;
    const char *key = ct_hf_int_key(i);
    bool stated = x->has_ints >> i & 1;
    if (stated && there && found != x->ints[i])
        return ct_fail(w->err, CT_EFORMAT, w->path,
                       "'%s': expected %s %u, found that %s %zu: configuration and weights are not of the same model",
                       ct_path_tail(w->path), key, x->ints[i], where, found);
    if (there && found > INT32_MAX)
        return ct_fail(w->err, CT_EFORMAT, w->path, "expected a %s below 2^31, found %zu", key, found);
    w->value[i] = stated ? x->ints[i] : there ? (uint32_t)found : ct_hf_int_missing(i);
    return CT_OK;
}

/* One more than the highest number of a layer; 0 when there is none. */
static size_t count_layers(const ct_tensors *t)
{
    static const char prefix[] = "model.layers.";
    size_t most = 0, n = sizeof prefix - 1;
    for (size_t i = 0; i < t->n_tensors; i++) {
        ct_str s = t->tensors[i].name;
        size_t layer = 0, at = n;
        if (s.len <= n || memcmp(s.data, prefix, n) != 0)
            continue;
        while (at < s.len && s.data[at] >= '0' && s.data[at] <= '9' && layer < 100000)
            layer = layer * 10 + (size_t)(s.data[at++] - '0');
        if (at > n && at < s.len && s.data[at] == '.' && layer + 1 > most)
            most = layer + 1;
    }
    return most;
}

static ct_status compare_shapes(struct writer *w)
{
    char where[CT_ERROR_WHERE + 32];
    for (size_t i = 0; i < HF_INTS; i++)
        w->value[i] = w->c->text.has_ints >> i & 1 ? w->c->text.ints[i] : ct_hf_int_missing(i);
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        const ct_tensor *x = ct_tensors_find(w->t, shown[i].tensor);
        size_t found = x ? x->ne[shown[i].dim] : 0, per = shown[i].per_head ? w->value[HF_HEAD_DIM] : 1;
        bool whole = per > 0 && found % per == 0;
        if (x && !whole)
            return ct_fail(
                w->err, CT_EFORMAT, w->path,
                "'%s': expected a multiple of the head_dim %zu as rows of '%s', found %zu: configuration and weights "
                "are not of the same model",
                ct_path_tail(w->path), per, shown[i].tensor, found);
        snprintf(where, sizeof where, "the shape of '%s' says", shown[i].tensor);
        ct_status st = settle(w, shown[i].field, x != NULL, whole ? found / per : 0, where);
        if (st != CT_OK)
            return st;
    }
    size_t layers = count_layers(w->t);
    return settle(w, HF_LAYERS, layers > 0, layers, "the tensors' names say");
}

/* ---- keys ---------------------------------------------------------------------------------------------------------- */

static bool put_string(ct_tensors *t, const char *key, const char *v) { return ct_kv_put_string(t, key, v, strlen(v)); }

static double real(const struct writer *w, size_t i)
{
    return w->c->text.has_reals >> i & 1 ? w->c->text.reals[i] : ct_hf_real_missing(i);
}

static bool put_numbers(struct writer *w)
{
    static const struct {
        const char *key;
        size_t field;
    } keys[] = {{"gemma3.context_length", HF_CONTEXT},
                {"gemma3.embedding_length", HF_HIDDEN},
                {"gemma3.block_count", HF_LAYERS},
                {"gemma3.feed_forward_length", HF_FFN},
                {"gemma3.attention.head_count", HF_HEADS},
                {"gemma3.attention.head_count_kv", HF_KV_HEADS},
                {"gemma3.attention.key_length", HF_HEAD_DIM},
                {"gemma3.attention.value_length", HF_HEAD_DIM},
                {"gemma3.attention.sliding_window", HF_WINDOW}};
    bool ok = put_string(w->t, "general.architecture", "gemma3") && put_string(w->t, "general.type", "model");
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        ok = ok && ct_kv_put_u32(w->t, keys[i].key, w->value[keys[i].field]);
    double scalar = real(w, HF_QUERY_SCALAR), cap = real(w, HF_FINAL_CAP), attention_cap = real(w, HF_ATTENTION_CAP);
    ok = ok && ct_kv_put_f32(w->t, "gemma3.attention.layer_norm_rms_epsilon", (float)real(w, HF_EPS)) &&
         ct_kv_put_f32(w->t, "gemma3.attention.scale", scalar > 0 ? (float)(1 / sqrt(scalar)) : 0);
    if (cap != 0)
        ok = ok && ct_kv_put_f32(w->t, "gemma3.final_logit_softcapping", (float)cap);
    if (attention_cap != 0)
        ok = ok && ct_kv_put_f32(w->t, "gemma3.attn_logit_softcapping", (float)attention_cap);
    return ok;
}

/* layer_types > sliding_window_pattern > the same with an underscore > 6. */
static ct_status put_pattern(struct writer *w)
{
    static const char key[] = "gemma3.attention.sliding_window_pattern";
    const struct hf_text *x = &w->c->text;
    if (x->n_layer_types == 0) {
        size_t i = x->has_ints >> HF_PATTERN & 1 ? HF_PATTERN : HF_OLD_PATTERN;
        return ct_kv_put_u32(w->t, key, w->value[i]) ? CT_OK : CT_ENOMEM;
    }
    if (x->n_layer_types != w->value[HF_LAYERS])
        return ct_fail(w->err, CT_EFORMAT, w->path, "'%s': expected layer_types for each of the %u layers, found %u",
                       ct_path_tail(w->path), w->value[HF_LAYERS], x->n_layer_types);
    uint8_t *local = ct_tensors_alloc(w->t, x->n_layer_types);
    ct_kv_pair *kv = local ? ct_kv_push(w->t) : NULL;
    if (kv == NULL)
        return CT_ENOMEM;
    for (uint32_t i = 0; i < x->n_layer_types; i++)
        local[i] = x->local[i];
    kv->key = (ct_str){key, sizeof key - 1};
    kv->type = CT_KV_ARRAY;
    kv->elem_type = CT_KV_BOOL;
    kv->count = x->n_layer_types;
    kv->data = local;
    return CT_OK;
}

static bool plain(const struct hf_rope *r)
{
    return r->type[0] == '\0' || strcmp(r->type, "default") == 0 || strcmp(r->type, "none") == 0;
}

static ct_status put_rope(struct writer *w)
{
    const struct hf_rope *r = &w->c->text.rope, *local = &w->c->text.local_rope;
    bool linear = strcmp(r->type, "linear") == 0;
    if ((!plain(r) && !linear) || !plain(local))
        return ct_fail(
            w->err, CT_EUNSUPPORTED, w->path,
            "'%s': expected rope scaling 'linear' or none, and none on sliding layers, as Gemma 3 has, found '%s'",
            ct_path_tail(w->path), !plain(local) ? local->type : r->type);
    if (linear && r->factor <= 0)
        return ct_fail(w->err, CT_EFORMAT, w->path, "'%s': expected a positive factor of linear rope scaling, found %g",
                       ct_path_tail(w->path), r->factor);
    uint32_t layers = w->value[HF_LAYERS];
    if (!linear && (layers == 34 || layers == 48 || layers == 62))
        ct_tensors_add_note(
            w->t,
            "'%s' asks for no rope scaling, and none is done; Google's model with %u layers has linear scaling "
            "by 8: if this is a copy of it, its configuration is damaged",
            ct_path_tail(w->path), layers);
    bool ok = ct_kv_put_f32(w->t, "gemma3.rope.freq_base", (float)(r->theta > 0 ? r->theta : real(w, HF_THETA))) &&
              ct_kv_put_f32(w->t, "gemma3.rope.freq_base_swa",
                            (float)(local->theta > 0 ? local->theta : real(w, HF_LOCAL_THETA))) &&
              put_string(w->t, "gemma3.rope.scaling.type", linear ? "linear" : "none");
    if (ok && linear)
        ok = ct_kv_put_f32(w->t, "gemma3.rope.scaling.factor", (float)r->factor);
    return ok ? CT_OK : CT_ENOMEM;
}

/* The vocabulary knows <eos> and <end_of_turn> by their texts; two more may have been agreed on. */
static bool put_ends(struct writer *w)
{
    const struct hf_config *c = w->c;
    bool ok = c->bos == UINT32_MAX || ct_kv_put_u32(w->t, "tokenizer.ggml.bos_token_id", c->bos);
    if (c->n_ends > 0)
        ok = ok && ct_kv_put_u32(w->t, "tokenizer.ggml.eos_token_id", c->ends[0]);
    if (c->n_ends > 1)
        ok = ok && ct_kv_put_u32(w->t, "tokenizer.ggml.eot_token_id", c->ends[1]);
    if (c->n_ends > 2)
        ct_tensors_add_note(w->t, "'%s' names %u tokens that end a text; the first two are used, %u and %u",
                            ct_path_tail(w->path), c->n_ends, c->ends[0], c->ends[1]);
    return ok;
}

ct_status ct_hf_config_put(const struct hf_config *c, ct_tensors *t, const char *path, ct_error *err)
{
    struct writer w = {.c = c, .t = t, .path = path, .err = err};
    bool head = ct_tensors_find(t, "lm_head.weight") != NULL;
    ct_status st = compare_shapes(&w);
    if (st != CT_OK)
        return st;
    if ((c->text.has_bools >> HF_TIED & 1) && !c->text.bools[HF_TIED] && !head)
        return ct_fail(err, CT_ENOTFOUND, path,
                       "expected lm_head.weight, as '%s' says that the head is not the embedding "
                       "(tie_word_embeddings), found none: the checkpoint is not whole",
                       ct_path_tail(path));
    if (!put_numbers(&w) || !put_ends(&w))
        st = CT_ENOMEM;
    if (st == CT_OK)
        st = put_pattern(&w);
    if (st == CT_OK)
        st = put_rope(&w);
    return st == CT_ENOMEM ? ct_fail(err, st, path, "out of memory for the metadata of '%s'", ct_path_tail(path)) : st;
}
