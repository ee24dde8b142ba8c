/* Synthetic models: a Gemma 3 of any size and weight type, made in memory from a counter-based generator, so that anyone
 * can measure how fast a model would run here before downloading it.
 *
 * The directory looks as if it came from a GGUF file: names, shapes, metadata. A tensor is generated when its bytes are
 * first asked for, and forgotten when they are no longer needed, so a model never takes more memory than its packed copy
 * and one tensor. Its text is noise by design; nothing else in the program knows that a model is synthetic. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "formats/directory.h"

/* Gemma 3 as published; docs/MODEL.md has the sources. The rope factor is that of the global layers. */
static const struct shape {
    const char *name, *label;
    uint32_t hidden, layers, heads, kv_heads, head_dim, ffn, window, context;
    float rope_factor;
} shapes[] = {
    {"270m", "270M", 640, 18, 4, 1, 256, 2048, 512, 32768, 1},
    {"1b", "1B", 1152, 26, 4, 1, 256, 6912, 512, 32768, 1},
    {"4b", "4B", 2560, 34, 8, 4, 256, 10240, 1024, 131072, 8},
    {"12b", "12B", 3840, 48, 16, 8, 256, 15360, 1024, 131072, 8},
    {"27b", "27B", 5376, 62, 32, 16, 128, 21504, 1024, 131072, 8},
};

#define VOCAB 262144 /* rows of the embedding: what converters leave of it for every size */

/* Weight types by the names users type. file_type is what GGUF calls the mixture in general.file_type; MLX's have no number. MLX
 * quantizes everything but norms, in groups of 64 where nothing else is asked for. */
#define NO_FILE_TYPE UINT32_MAX
static const struct recipe {
    const char *name;
    ct_dtype base;
    bool mixed; /* llama.cpp's "medium" mixture: more bits where they matter most */
    uint32_t file_type;
} recipes[] = {
    {"bf16", CT_BF16, false, 32},
    {"f16", CT_F16, false, 1},
    {"q8_0", CT_Q8_0, false, 7},
    {"q4_0", CT_Q4_0, false, 2},
    {"q4_k_m", CT_Q4_K, true, 15},
    {"mlx4", CT_MLX4_G64, false, NO_FILE_TYPE},
    {"mlx8", CT_MLX8_G64, false, NO_FILE_TYPE},
};

#define SEED 0x6361726174u /* "carat" */
#define NAME_ROOM 48

struct plan {
    float sigma, mean;
    uint8_t *bytes; /* NULL until asked for; of ct_pages_alloc */
};

struct synthetic {
    struct plan *plans;       /* [n_tensors] */
    char (*names)[NAME_ROOM]; /* [n_tensors] */
};

/* ---- generating ---------------------------------------------------------------------------------------------------- */

/* Where a tensor's numbers come from: its name, so that the same tensor is the same in any order and mixture. */
static uint64_t stream_of(ct_str name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (uint8_t)name.data[i]) * 0x100000001b3u;
    return h;
}

static void synthetic_part(const ct_tensors *t, size_t index, size_t off, size_t bytes, void *dst)
{
    const struct synthetic *s = t->made;
    const struct plan *plan = &s->plans[index];
    const ct_tensor *x = &t->tensors[index];
    size_t block = (size_t)x->dtype->block_bytes;
    x->dtype->random(dst, bytes / block, SEED, stream_of(x->name), off / block, plan->sigma);
    if (plan->mean != 0) {
        float *f = dst; /* only norms have a mean, and they are F32 */
        for (size_t i = 0; i < bytes / sizeof *f; i++)
            f[i] += plan->mean;
    }
}

static const uint8_t *synthetic_bytes(ct_tensors *t, size_t index)
{
    struct synthetic *s = t->made;
    struct plan *plan = &s->plans[index];
    const ct_tensor *x = &t->tensors[index];
    if (plan->bytes)
        return plan->bytes;
    plan->bytes = ct_pages_alloc(x->bytes, true);
    if (plan->bytes == NULL)
        return NULL;
    synthetic_part(t, index, 0, x->bytes, plan->bytes);
    return plan->bytes;
}

static void synthetic_forget(ct_tensors *t, size_t index)
{
    struct synthetic *s = t->made;
    ct_pages_free(s->plans[index].bytes, t->tensors[index].bytes);
    s->plans[index].bytes = NULL;
}

static void synthetic_close(ct_tensors *t)
{
    struct synthetic *s = t->made;
    if (s == NULL)
        return;
    for (size_t i = 0; s->plans && i < t->n_tensors; i++)
        synthetic_forget(t, i);
    ct_free(s->plans);
    ct_free(s->names);
    ct_free(s);
}

/* ---- metadata ------------------------------------------------------------------------------------------------------ */

static bool put_string(ct_tensors *t, const char *key, const char *v) { return ct_kv_put_string(t, key, v, strlen(v)); }

static bool put_metadata(ct_tensors *t, const struct shape *m, const struct recipe *how)
{
    char name[64];
    snprintf(name, sizeof name, "Gemma 3 %s (synthetic)", m->label);
    bool ok = put_string(t, "general.architecture", "gemma3") && put_string(t, "general.type", "model") &&
              put_string(t, "general.name", name) && put_string(t, "general.size_label", m->label) &&
              (how->file_type == NO_FILE_TYPE || ct_kv_put_u32(t, "general.file_type", how->file_type)) &&
              ct_kv_put_u32(t, "general.quantization_version", 2) &&
              ct_kv_put_u32(t, "gemma3.context_length", m->context) &&
              ct_kv_put_u32(t, "gemma3.embedding_length", m->hidden) &&
              ct_kv_put_u32(t, "gemma3.block_count", m->layers) &&
              ct_kv_put_u32(t, "gemma3.feed_forward_length", m->ffn) &&
              ct_kv_put_u32(t, "gemma3.attention.head_count", m->heads) &&
              ct_kv_put_u32(t, "gemma3.attention.head_count_kv", m->kv_heads) &&
              ct_kv_put_u32(t, "gemma3.attention.key_length", m->head_dim) &&
              ct_kv_put_u32(t, "gemma3.attention.value_length", m->head_dim) &&
              ct_kv_put_f32(t, "gemma3.attention.layer_norm_rms_epsilon", 1e-6f) &&
              ct_kv_put_u32(t, "gemma3.attention.sliding_window", m->window) &&
              ct_kv_put_f32(t, "gemma3.rope.freq_base", 1e6f);
    if (ok && m->rope_factor > 1)
        ok = put_string(t, "gemma3.rope.scaling.type", "linear") &&
             ct_kv_put_f32(t, "gemma3.rope.scaling.factor", m->rope_factor);
    return ok;
}

/* ---- tensors ------------------------------------------------------------------------------------------------------- */

/* llama.cpp's rule for the layers whose attn_v and ffn_down get two bits more: the first and last eighth, and every
 * third between. */
static bool more_bits(uint32_t layer, uint32_t layers)
{
    uint32_t eighth = layers / 8;
    return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

/* Rows that are no whole number of 256-element blocks fall back to the nearest type with blocks of 32. */
static ct_dtype type_for(const struct recipe *how, bool important, size_t row)
{
    if (!how->mixed)
        return how->base;
    if (important)
        return row % 256 == 0 ? CT_Q6_K : CT_Q8_0;
    return row % 256 == 0 ? CT_Q4_K : CT_Q5_0;
}

/* A tensor of rows x row elements (rows 1 and norm: a vector). False when out of memory. */
static bool add(ct_tensors *t, ct_dtype type, size_t row, size_t rows, float sigma, float mean, const char *name)
{
    struct synthetic *s = t->made;
    size_t i = t->n_tensors, row_bytes;
    ct_tensor *x = ct_tensors_push(t);
    if (x == NULL)
        return false;
    snprintf(s->names[i], NAME_ROOM, "%s", name);
    s->plans[i] = (struct plan){.sigma = sigma, .mean = mean};
    x->name = (ct_str){s->names[i], strlen(s->names[i])};
    x->dtype = ct_dtype_get((int32_t)type);
    x->n_dims = rows > 1 ? 2 : 1;
    x->ne[0] = row;
    x->ne[1] = rows;
    x->n_elems = row * rows;
    if (!ct_row_bytes(x->dtype, row, &row_bytes) || !ct_mul_ok(row_bytes, rows, &x->bytes))
        return false; /* no shape of the table does that */
    t->file_bytes += x->bytes;
    return true;
}

/* Norms as in GGUF, 1 included, and different enough from 1 that a forgotten one shows. */
static bool add_norm(ct_tensors *t, size_t n, const char *name) { return add(t, CT_F32, n, 1, 0.1f, 1.0f, name); }

/* Matrices keep the size of what goes through them: standard deviation 1 / sqrt(in). */
static bool add_matrix(ct_tensors *t, const struct recipe *how, bool important, size_t in, size_t out, const char *name)
{
    return add(t, type_for(how, important, in), in, out, 1.0f / sqrtf((float)in), 0.0f, name);
}

static bool add_layer(ct_tensors *t, const struct shape *m, const struct recipe *how, uint32_t layer)
{
    static const char *const names[] = {
        "attn_norm",           "attn_q",   "attn_k",   "attn_v", "attn_q_norm", "attn_k_norm",  "attn_output",
        "post_attention_norm", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down",    "post_ffw_norm"};
    char name[sizeof names / sizeof names[0]][NAME_ROOM];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        snprintf(name[i], NAME_ROOM, "blk.%u.%s.weight", layer, names[i]);
    size_t h = m->hidden, q = (size_t)m->heads * m->head_dim, kv = (size_t)m->kv_heads * m->head_dim, f = m->ffn;
    bool more = more_bits(layer, m->layers);
    return add_norm(t, h, name[0]) && add_matrix(t, how, false, h, q, name[1]) &&
           add_matrix(t, how, false, h, kv, name[2]) && add_matrix(t, how, more, h, kv, name[3]) &&
           add_norm(t, m->head_dim, name[4]) && add_norm(t, m->head_dim, name[5]) &&
           add_matrix(t, how, false, q, h, name[6]) && add_norm(t, h, name[7]) && add_norm(t, h, name[8]) &&
           add_matrix(t, how, false, h, f, name[9]) && add_matrix(t, how, false, h, f, name[10]) &&
           add_matrix(t, how, more, f, h, name[11]) && add_norm(t, h, name[12]);
}

static bool add_tensors(ct_tensors *t, const struct shape *m, const struct recipe *how)
{
    /* The embedding, 0.03 wide, makes a residual of about 1 behind its scale of sqrt(hidden), and logits of a few. */
    if (!add_norm(t, m->hidden, "output_norm.weight") ||
        !add(t, type_for(how, true, m->hidden), m->hidden, VOCAB, 0.03f, 0.0f, "token_embd.weight"))
        return false;
    for (uint32_t layer = 0; layer < m->layers; layer++)
        if (!add_layer(t, m, how, layer))
            return false;
    return true;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static const struct shape *shape_named(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (strlen(shapes[i].name) == n && memcmp(shapes[i].name, name, n) == 0)
            return &shapes[i];
    return NULL;
}

static const struct recipe *recipe_named(const char *name)
{
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++)
        if (strcmp(recipes[i].name, name) == 0)
            return &recipes[i];
    return NULL;
}

ct_status ct_synthetic_open(ct_tensors **out, const char *spec, ct_error *err)
{
    *out = NULL;
    char path[64];
    const char *colon = strchr(spec, ':');
    const char *type = colon ? colon + 1 : "bf16";
    const struct shape *m = shape_named(spec, colon ? (size_t)(colon - spec) : strlen(spec));
    const struct recipe *how = recipe_named(type);
    if (m == NULL || how == NULL)
        return ct_fail(
            err, CT_EINVAL, "synthetic",
            "expected synthetic:SIZE[:TYPE] with a size of 270m 1b 4b 12b 27b and a type of bf16 f16 q8_0 q4_0 "
            "q4_k_m mlx4 mlx8, found 'synthetic:%.40s'",
            spec);
    snprintf(path, sizeof path, "synthetic:%s:%s", m->name, how->name);
    ct_status st = CT_ENOMEM;
    size_t n = 2 + 13 * (size_t)m->layers;
    ct_tensors *t = ct_tensors_new(path, "synthetic");
    struct synthetic *s = ct_calloc(1, sizeof *s);
    if (t == NULL || s == NULL) {
        ct_free(s);
        goto done;
    }
    t->made = s;
    t->source = (struct tensors_source){synthetic_bytes, synthetic_part, synthetic_forget, synthetic_close};
    s->plans = ct_calloc(n, sizeof *s->plans);
    s->names = ct_calloc(n, sizeof *s->names);
    if (s->plans == NULL || s->names == NULL || !put_metadata(t, m, how) || !add_tensors(t, m, how))
        goto done;
    if ((st = ct_tensors_index(t, err)) != CT_OK)
        goto done;
    *out = t;
    t = NULL;
done:
    ct_tensors_close(t);
    return st == CT_ENOMEM ? ct_fail(err, st, "synthetic", "out of memory while planning '%s'", path) : st;
}
