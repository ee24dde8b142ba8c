/* A directory's metadata becomes the numbers of a Gemma 3, each checked before it is used.
 *
 * Files of several converters differ in spelling, leave keys out and sometimes state what is not so; everything filled in,
 * ignored or repaired here is a warning that users can read. Refuses to know weights and backends. Read names.c next. */
#include "model/config.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "model/names.h"

/* The sizes that Google published. Only for these do absent keys have known meanings. */
static const struct size {
    const char *name;
    int32_t layers, dim, heads, kv_heads, head_dim, ffn, window, context;
    double rope_factor; /* on global layers */
} sizes[] = {
    {"270m", 18, 640, 4, 1, 256, 2048, 512, 32768, 1},      {"1b", 26, 1152, 4, 1, 256, 6912, 512, 32768, 1},
    {"4b", 34, 2560, 8, 4, 256, 10240, 1024, 131072, 8},    {"12b", 48, 3840, 16, 8, 256, 15360, 1024, 131072, 8},
    {"27b", 62, 5376, 32, 16, 128, 21504, 1024, 131072, 8},
};

#define LAYERS_27B 62
#define TEXT_VOCAB 262144   /* ids of Gemma's tokenizer; 262144 itself is the image soft token, the rest padding */
#define MAX_SPARE_ROWS 4096 /* 64 in Google's 4b and up; more means another tokenizer */

/* Integer hyperparameters with their ranges: far beyond Google's sizes, yet no product of them can overflow an int32. */
static const struct field {
    const char *key;
    size_t at;
    int32_t lo, hi, multiple; /* 32: kernels quantize activations in groups of 32; 16: their width in floats */
} fields[] = {
    {"gemma3.block_count", offsetof(ct_config, layers), 1, CT_MAX_LAYERS, 1},
    {"gemma3.embedding_length", offsetof(ct_config, dim), 32, 16384, 32},
    {"gemma3.feed_forward_length", offsetof(ct_config, ffn), 32, 131072, 32},
    {"gemma3.attention.head_count", offsetof(ct_config, heads), 1, 128, 1},
    {"gemma3.attention.head_count_kv", offsetof(ct_config, kv_heads), 1, 128, 1},
    {"gemma3.attention.key_length", offsetof(ct_config, head_dim), 16, 512, 16},
    {"gemma3.attention.sliding_window", offsetof(ct_config, window), 0, 1 << 20, 1},
    {"gemma3.context_length", offsetof(ct_config, context), 1, 1 << 20, 1},
};

void ct_config_warn(ct_config *cfg, const ct_error *sentence)
{
    if (cfg->n_warnings < CT_MAX_WARNINGS)
        memcpy(cfg->warnings[cfg->n_warnings++], sentence->text, CT_ERROR_TEXT);
}

static bool has(const ct_tensors *t, const char *key) { return ct_tensors_kv(t, key) != NULL; }

/* ---- architecture ---- */

static const struct {
    const char *name, *why;
} others[] = {
    {"gemma", "the first Gemma"},
    {"gemma2", "Gemma 2, which soft-caps attention"},
    {"gemma3n", "Gemma 3n, another network"},
    {"gemma4", "Gemma 4, another network"},
    {"gemma-embedding", "EmbeddingGemma, an encoder that gives no text"},
    {"clip", "a vision tower without a language model"},
};

static ct_status check_architecture(const ct_tensors *t, ct_error *err)
{
    ct_str arch = {"", 0};
    ct_status st = ct_kv_string(t, "general.architecture", &arch, err);
    if (st != CT_OK)
        return st;
    if (arch.len == 0)
        return ct_fail(err, CT_ENOTFOUND, "general.architecture",
                       "expected the key general.architecture with the value 'gemma3' in '%s', found none",
                       ct_tensors_path(t));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (ct_str_is(arch, others[i].name))
            return ct_fail(
                err, CT_EUNSUPPORTED, "general.architecture",
                "expected a model of architecture 'gemma3', found '%s' (%s): carat runs Gemma 3 and nothing else",
                others[i].name, others[i].why);
    if (!ct_str_is(arch, "gemma3"))
        return ct_fail(err, CT_EUNSUPPORTED, "general.architecture",
                       "expected a model of architecture 'gemma3', found '%.*s': carat runs Gemma 3 and nothing else",
                       arch.len < 40 ? (int)arch.len : 40, arch.data);
    bool causal = true, both_ways = false;
    uint32_t pooling = 0;
    if ((st = ct_kv_bool(t, "gemma3.attention.causal", &causal, err)) != CT_OK ||
        (st = ct_kv_bool(t, "gemma3.use_bidirectional_attention", &both_ways, err)) != CT_OK ||
        (st = ct_kv_u32(t, "gemma3.pooling_type", &pooling, err)) != CT_OK)
        return st;
    if (!causal || both_ways || pooling != 0)
        return ct_fail(err, CT_EUNSUPPORTED, "general.architecture",
                       "expected a Gemma 3 that writes text, found an encoder (%s): use an embedding engine for it",
                       pooling != 0 ? "gemma3.pooling_type is set" : "its attention looks both ways");
    return CT_OK;
}

/* ---- integers ---- */

/* As ct_kv_u32, and an array whose elements are all equal counts as one number: head counts may be written per layer. */
static ct_status read_u32(const ct_tensors *t, const char *key, uint32_t *v, ct_error *err)
{
    const ct_kv_pair *p = ct_tensors_kv(t, key);
    if (p == NULL || p->type != CT_KV_ARRAY || (p->elem_type != CT_KV_U32 && p->elem_type != CT_KV_I32) ||
        p->count == 0)
        return ct_kv_u32(t, key, v, err);
    memcpy(v, p->data, 4);
    for (uint64_t i = 1; i < p->count; i++)
        if (memcmp(p->data + i * 4, p->data, 4) != 0)
            return ct_fail(err, CT_EUNSUPPORTED, key, "expected one value of %s for all layers, found different ones",
                           key);
    return CT_OK;
}

static ct_status read_field(ct_config *cfg, const struct field *f, const ct_tensors *t, ct_error *err)
{
    uint32_t v = 0;
    ct_status st = read_u32(t, f->key, &v, err);
    if (st != CT_OK)
        return st;
    if (v < (uint32_t)f->lo || v > (uint32_t)f->hi || v % (uint32_t)f->multiple != 0)
        return ct_fail(err, CT_EFORMAT, f->key,
                       "expected %s from %d to %d%s%.0d, found %u: the metadata is damaged or not Gemma 3's", f->key,
                       f->lo, f->hi, f->multiple > 1 ? " in steps of " : "", f->multiple > 1 ? f->multiple : 0, v);
    int32_t value = (int32_t)v;
    memcpy((char *)cfg + f->at, &value, sizeof value);
    return CT_OK;
}

static const struct size *size_by_layers(int32_t layers)
{
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].layers == layers)
            return &sizes[i];
    return NULL;
}

static const struct size *size_by_shape(const ct_config *c)
{
    const struct size *s = size_by_layers(c->layers);
    bool same = s && s->dim == c->dim && s->heads == c->heads && s->kv_heads == c->kv_heads &&
                s->head_dim == c->head_dim && s->ffn == c->ffn;
    return same ? s : NULL;
}

/* The tensor of a row of names.c, of layer 0 if each layer has one; NULL when it is not there. */
static const ct_tensor *tensor_of(const ct_tensors *t, const char *row)
{
    char name[CT_NAME_MAX];
    ct_name_format(ct_name_row(row), ct_tensors_naming(t), 0, name);
    return ct_tensors_find(t, name);
}

/* Keys that some converters leave out, and where their values are still known from; false when they are not. */
static bool fill_in(ct_config *cfg, const struct field *f, const ct_tensors *t, const struct size *google)
{
    if (f->at == offsetof(ct_config, head_dim)) {
        const ct_tensor *norm = tensor_of(t, "attn_q_norm");
        if (norm && norm->ne[0] >= 16 && norm->ne[0] <= 512 && norm->ne[0] % 16 == 0) {
            cfg->head_dim = (int32_t)norm->ne[0];
            CT_WARN(cfg, "%s is missing; %d taken from the size of blk.0.attn_q_norm.weight", f->key, cfg->head_dim);
            return true;
        }
    } else if (f->at == offsetof(ct_config, window)) {
        cfg->window = google ? google->window : 0;
        if (google)
            CT_WARN(cfg, "%s is missing; %d taken, as Google's %s has", f->key, cfg->window, google->name);
        else
            CT_WARN(cfg, "%s is missing; every layer attends to all positions", f->key);
        return true;
    } else if (f->at == offsetof(ct_config, context) && google) {
        cfg->context = google->context;
        CT_WARN(cfg, "%s is missing; %d taken, as Google's %s has", f->key, cfg->context, google->name);
        return true;
    }
    return false;
}

static ct_status read_integers(ct_config *cfg, const ct_tensors *t, ct_error *err)
{
    ct_status st;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const struct field *f = &fields[i];
        if (has(t, f->key)) {
            if ((st = read_field(cfg, f, t, err)) != CT_OK)
                return st;
            continue;
        }
        if (!fill_in(cfg, f, t, size_by_shape(cfg))) /* the shape is read by then */
            return ct_fail(err, CT_ENOTFOUND, f->key,
                           "expected the key %s in '%s', found none: not a whole Gemma 3 file", f->key,
                           ct_tensors_path(t));
    }
    if (cfg->heads % cfg->kv_heads != 0)
        return ct_fail(err, CT_EFORMAT, "gemma3.attention.head_count_kv",
                       "expected the %d query heads to be a multiple of the kv heads, found %d kv heads", cfg->heads,
                       cfg->kv_heads);
    if (cfg->heads * cfg->head_dim % 32 != 0)
        return ct_fail(err, CT_EFORMAT, "gemma3.attention.key_length",
                       "expected heads times head size to be a multiple of 32, found %d times %d", cfg->heads,
                       cfg->head_dim);
    uint32_t value_length = (uint32_t)cfg->head_dim;
    if ((st = read_u32(t, "gemma3.attention.value_length", &value_length, err)) != CT_OK)
        return st;
    if (value_length != (uint32_t)cfg->head_dim)
        return ct_fail(err, CT_EUNSUPPORTED, "gemma3.attention.value_length",
                       "expected gemma3.attention.value_length to be the key_length %d, found %u", cfg->head_dim,
                       value_length);
    return CT_OK;
}

/* ---- which layers are global ---- */

static bool element_is_true(const ct_kv_pair *p, uint64_t i, bool *ok)
{
    uint32_t v = 0;
    *ok = true;
    switch (p->elem_type) {
    case CT_KV_BOOL:
    case CT_KV_U8:
    case CT_KV_I8: return p->data[i] != 0;
    case CT_KV_U32:
    case CT_KV_I32: memcpy(&v, p->data + i * 4, 4); return v != 0;
    default: *ok = false; return false;
    }
}

static ct_status read_pattern(ct_config *cfg, const ct_tensors *t, ct_error *err)
{
    static const char key[] = "gemma3.attention.sliding_window_pattern";
    const ct_kv_pair *p = ct_tensors_kv(t, key);
    uint32_t period = 6; /* five local, one global: all Google sizes; the key is often absent */
    if (p && p->type == CT_KV_ARRAY) {
        if (p->count < (uint64_t)cfg->layers)
            return ct_fail(err, CT_EFORMAT, key, "expected an entry of %s for each of the %d layers, found %llu", key,
                           cfg->layers, (unsigned long long)p->count);
        for (int32_t i = 0; i < cfg->layers; i++) {
            bool ok;
            cfg->global[i] = !element_is_true(p, (uint64_t)i, &ok) || cfg->window == 0;
            if (!ok)
                return ct_fail(err, CT_EFORMAT, key,
                               "expected %s as a number or a list of true and false, found another type", key);
        }
        return CT_OK;
    }
    ct_status st = ct_kv_u32(t, key, &period, err);
    if (st != CT_OK)
        return st;
    if (period < 1 || period > CT_MAX_LAYERS)
        return ct_fail(err, CT_EFORMAT, key, "expected %s from 1 to %d, found %u", key, CT_MAX_LAYERS, period);
    for (int32_t i = 0; i < cfg->layers; i++)
        cfg->global[i] = (i + 1) % (int32_t)period == 0 || cfg->window == 0;
    return CT_OK;
}

/* ---- reals ---- */

static ct_status in_range(const char *key, double v, double lo, double hi, ct_error *err)
{
    if (v >= lo && v <= hi) /* false for NaN */
        return CT_OK;
    return ct_fail(err, CT_EFORMAT, key, "expected %s from %g to %g, found %g: the metadata is damaged", key, lo, hi,
                   v);
}

/* The first of two spellings that is there. */
static ct_status read_real(const ct_tensors *t, const char *key, const char *other, double *v, double lo, double hi,
                           ct_error *err)
{
    if (!has(t, key) && other)
        key = other;
    ct_status st = ct_kv_f64(t, key, v, err);
    return st != CT_OK ? st : in_range(key, *v, lo, hi, err);
}

static ct_status read_rope(ct_config *cfg, const ct_tensors *t, const struct size *google, ct_error *err)
{
    static const char type_key[] = "gemma3.rope.scaling.type";
    ct_str type = {"", 0};
    ct_status st;
    cfg->theta_global = 1e6;
    cfg->theta_local = 1e4;
    cfg->rope_factor = 1;
    if ((st = read_real(t, "gemma3.rope.freq_base", "gemma3.rope.global.freq_base", &cfg->theta_global, 1, 1e12,
                        err)) ||
        (st = read_real(t, "gemma3.rope.freq_base_swa", "gemma3.rope.local.freq_base", &cfg->theta_local, 1, 1e12,
                        err)) ||
        (st = ct_kv_string(t, type_key, &type, err)))
        return st;
    if (type.len > 0 && !ct_str_is(type, "linear") && !ct_str_is(type, "none"))
        return ct_fail(err, CT_EUNSUPPORTED, type_key, "expected %s 'linear' or 'none', found '%.*s'", type_key,
                       type.len < 40 ? (int)type.len : 40, type.data);
    bool stated = type.len > 0 || has(t, "gemma3.rope.scaling.factor") || has(t, "gemma3.rope.scale_linear");
    if (!stated && google && google->rope_factor != 1) {
        cfg->rope_factor = google->rope_factor;
        CT_WARN(cfg, "gemma3.rope.scaling is missing; angles of global layers are divided by %g, as Google's %s needs",
                cfg->rope_factor, google->name);
    } else if (stated && !ct_str_is(type, "none")) {
        st = read_real(t, "gemma3.rope.scaling.factor", "gemma3.rope.scale_linear", &cfg->rope_factor, 0.01, 1000, err);
    }
    return st;
}

static ct_status read_softcap(ct_config *cfg, const ct_tensors *t, const struct size *google, ct_error *err)
{
    static const char final[] = "gemma3.final_logit_softcapping", attention[] = "gemma3.attn_logit_softcapping";
    double cap = 0, attn_cap = 0;
    ct_status st;
    if ((st = read_real(t, final, NULL, &cap, 0, 1e6, err)) != CT_OK ||
        (st = read_real(t, attention, NULL, &attn_cap, 0, 1e6, err)) != CT_OK)
        return st;
    if (google) { /* a converter wrote 30 into its files; Google's models were never trained with a cap */
        if (cap != 0)
            CT_WARN(cfg, "%s = %g is ignored: Google's Gemma 3 has none", final, cap);
        if (attn_cap != 0)
            CT_WARN(cfg, "%s = %g is ignored: Google's Gemma 3 has none", attention, attn_cap);
        cap = attn_cap = 0;
    }
    if (attn_cap != 0)
        return ct_fail(err, CT_EUNSUPPORTED, attention, "expected no soft-capping of attention, found %s = %g",
                       attention, attn_cap);
    cfg->softcap = (float)cap;
    return CT_OK;
}

static ct_status read_reals(ct_config *cfg, const ct_tensors *t, ct_error *err)
{
    static const char eps_key[] = "gemma3.attention.layer_norm_rms_epsilon";
    const struct size *google = size_by_layers(
        cfg->layers); /* fine-tunes may have another width of ffn, never of depth */
    double eps = 1e-6;
    if (!has(t, eps_key))
        CT_WARN(cfg, "%s is missing; 1e-6 taken, as all of Gemma 3 has", eps_key);
    ct_status st = read_real(t, eps_key, NULL, &eps, 1e-12, 1e-2, err);
    if (st != CT_OK)
        return st;
    cfg->eps = (float)eps;
    /* Not in most files: 27b alone divides by the width per head (168) and not by the head size. */
    double per_head = cfg->layers == LAYERS_27B ? (double)cfg->dim / cfg->heads : cfg->head_dim;
    double scale = 1 / sqrt(per_head);
    if ((st = read_real(t, "gemma3.attention.scale", NULL, &scale, 1e-3, 10, err)) != CT_OK)
        return st; /* folders state it: query_pre_attn_scalar */
    cfg->attn_scale = (float)scale;
    /* Training multiplied in bf16, so the factor is a bf16 number: 25.25 where sqrt(640) = 25.298. */
    cfg->embed_scale = ct_bf16_to_f32(ct_f32_to_bf16((float)sqrt(cfg->dim)));
    if ((st = read_rope(cfg, t, google, err)) != CT_OK)
        return st;
    return read_softcap(cfg, t, google, err);
}

/* ---- vocabulary ---- */

static bool token_unused(const ct_tensors *t, uint64_t id)
{
    const ct_kv_pair *p = ct_tensors_kv(t, "tokenizer.ggml.token_type");
    int32_t type = 0;
    if (p && p->type == CT_KV_ARRAY && (p->elem_type == CT_KV_I32 || p->elem_type == CT_KV_U32) && id < p->count)
        memcpy(&type, p->data + id * 4, 4);
    return type == 5;
}

static ct_status read_vocab(ct_config *cfg, const ct_tensors *t, ct_error *err)
{
    const ct_tensor *e = tensor_of(t, "token_embd");
    char name[CT_NAME_MAX];
    ct_name_format(ct_name_row("token_embd"), ct_tensors_naming(t), 0, name);
    if (e == NULL)
        return ct_fail(err, CT_ENOTFOUND, name,
                       "expected a tensor '%s' in '%s', found none: not a whole Gemma 3 text model", name,
                       ct_tensors_path(t));
    if (e->n_dims != 2 || e->ne[0] != (size_t)cfg->dim)
        return ct_fail(err, CT_EFORMAT, name,
                       "expected '%s' to be [vocabulary, %d] by the file's own metadata, found [%zu, %zu]", name,
                       cfg->dim, e->ne[1], e->ne[0]);
    if (e->ne[1] < 2 || e->ne[1] > (1u << 21))
        return ct_fail(err, CT_EFORMAT, name, "expected 2 to %u rows of '%s', found %zu", 1u << 21, name, e->ne[1]);
    cfg->embed_rows = (int32_t)e->ne[1];
    const ct_kv_pair *tokens = ct_tensors_kv(t, "tokenizer.ggml.tokens");
    if (tokens == NULL) {
        cfg->vocab = cfg->embed_rows < TEXT_VOCAB ? cfg->embed_rows : TEXT_VOCAB;
        return CT_OK;
    }
    uint64_t n = tokens->type == CT_KV_ARRAY ? tokens->count : 0;
    /* Behind the text vocabulary stand the image soft token and padding, never something to write. */
    while (n > TEXT_VOCAB && (n == TEXT_VOCAB + 1 || token_unused(t, n - 1)))
        n--;
    uint64_t rows = e->ne[1];
    if (n < 2 || n > rows + 1 || n + MAX_SPARE_ROWS < rows)
        return ct_fail(
            err, CT_EFORMAT, "tokenizer.ggml.tokens",
            "expected about as many tokens as the embedding has rows, found %llu tokens and %llu rows: tokenizer and "
            "weights are not of the same model",
            (unsigned long long)tokens->count, (unsigned long long)rows);
    if (n == rows + 1) {
        CT_WARN(cfg, "the tokenizer has one token more than the embedding has rows (%llu); it cannot be used",
                (unsigned long long)rows);
        n = rows;
    }
    cfg->vocab = (int32_t)n;
    return CT_OK;
}

ct_status ct_config_read(ct_config *cfg, const ct_tensors *t, ct_error *err)
{
    *cfg = (ct_config){0};
    ct_status st;
    for (size_t i = 0; ct_tensors_note(t, i); i++)
        CT_WARN(cfg, "%s", ct_tensors_note(t, i));
    if ((st = check_architecture(t, err)) != CT_OK || (st = read_integers(cfg, t, err)) != CT_OK ||
        (st = read_pattern(cfg, t, err)) != CT_OK || (st = read_reals(cfg, t, err)) != CT_OK ||
        (st = read_vocab(cfg, t, err)) != CT_OK)
        return st;
    const struct size *google = size_by_shape(cfg);
    if (google)
        memcpy(cfg->size, google->name, strlen(google->name) + 1);
    return ct_names_check(cfg, t, err);
}
