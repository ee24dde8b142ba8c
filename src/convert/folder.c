/* What stands beside the weights in a folder: config.json and generation_config.json as transformers writes them, and the
 * tokenizer's files, taken over where the model comes from a folder that has them, else made of its arrays. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "convert/plan.h"
#include "formats/stream.h"
#include "formats/tokenizer.h"

#define PATH_ROOM 4096

static bool inside(char out[PATH_ROOM], const char *folder, const char *name)
{
    int n = snprintf(out, PATH_ROOM, "%s/%s", folder, name);
    return n > 0 && n < PATH_ROOM;
}

static ct_status too_long(const char *folder, ct_error *err)
{
    return ct_fail(err, CT_EINVAL, folder, "the folder's path is longer than %d bytes", PATH_ROOM);
}

/* ---- config.json ---- */

/* A number as Python writes its floats: with a point, and the fewest digits that read back as the same f32. */
static void put_real(ct_stream *s, const char *key, double v)
{
    char text[40];
    int digits = 1;
    do
        snprintf(text, sizeof text, "%.*g", digits, v);
    while (digits++ < 9 && (float)strtod(text, NULL) != (float)v);
    if (strtod(text, NULL) >= 1 && floor(v) == v && v < 1e15)
        snprintf(text, sizeof text, "%.1f", v);
    ct_stream_format(s, "  \"%s\": %s%s,\n", key, text, strpbrk(text, ".en") ? "" : ".0");
}

/* Every sixth layer is global in all that Google published; 0: not one in so many. */
static int32_t period_of(const ct_config *c)
{
    int32_t period = 1;
    while (period <= c->layers && !c->global[period - 1])
        period++;
    for (int32_t i = 0; i < c->layers; i++)
        if (c->global[i] != ((i + 1) % period == 0))
            return 0;
    return period;
}

/* Tokens that end a text: <eos> always, and what the model was told to stop at. */
static void put_eos(ct_stream *s, const ct_tensors *t)
{
    uint32_t eos = 1, eot = 1;
    ct_kv_u32(t, "tokenizer.ggml.eos_token_id", &eos, NULL);
    ct_kv_u32(t, "tokenizer.ggml.eot_token_id", &eot, NULL);
    eos = eos == 1 ? eot : eos;
    if (eos == 1)
        ct_stream_text(s, "  \"eos_token_id\": 1,\n");
    else
        ct_stream_format(s, "  \"eos_token_id\": [\n    1,\n    %u\n  ],\n", eos);
}

static const char *torch_name(ct_dtype type)
{
    return type == CT_F32 ? "float32" : type == CT_F16 ? "float16" : "bfloat16";
}

static void put_config(ct_stream *s, const ct_tensors *t, const struct plan *p)
{
    const ct_config *c = &p->cfg;
    int32_t period = period_of(c);
    uint32_t bos = 2, pad = 0;
    ct_mlx m;
    ct_kv_u32(t, "tokenizer.ggml.bos_token_id", &bos, NULL);
    ct_kv_u32(t, "tokenizer.ggml.padding_token_id", &pad, NULL);
    ct_stream_text(s, "{\n  \"architectures\": [\n    \"Gemma3ForCausalLM\"\n  ],\n  \"attention_bias\": false,\n"
                      "  \"attention_dropout\": 0.0,\n  \"attn_logit_softcapping\": null,\n");
    ct_stream_format(s, "  \"bos_token_id\": %u,\n", bos);
    put_eos(s, t);
    if (c->softcap > 0)
        put_real(s, "final_logit_softcapping", (double)c->softcap);
    else
        ct_stream_text(s, "  \"final_logit_softcapping\": null,\n");
    ct_stream_format(s,
                     "  \"head_dim\": %d,\n  \"hidden_activation\": \"gelu_pytorch_tanh\",\n  \"hidden_size\": %d,\n",
                     c->head_dim, c->dim);
    ct_stream_format(s, "  \"initializer_range\": 0.02,\n  \"intermediate_size\": %d,\n  \"layer_types\": [\n", c->ffn);
    for (int32_t i = 0; i < c->layers; i++)
        ct_stream_format(s, "    \"%s_attention\"%s\n", c->global[i] ? "full" : "sliding",
                         i + 1 < c->layers ? "," : "");
    ct_stream_format(s, "  ],\n  \"max_position_embeddings\": %d,\n  \"model_type\": \"gemma3_text\",\n", c->context);
    ct_stream_format(s,
                     "  \"num_attention_heads\": %d,\n  \"num_hidden_layers\": %d,\n  \"num_key_value_heads\": %d,\n",
                     c->heads, c->layers, c->kv_heads);
    ct_stream_format(s, "  \"pad_token_id\": %u,\n", pad);
    if (p->target.grouped && ct_mlx_of(p->target.grouped, &m))
        for (int i = 0; i < 2; i++)
            ct_stream_format(
                s,
                "  \"quantization%s\": {\n    \"group_size\": %d,\n    \"bits\": %d,\n    \"mode\": \"affine\"\n  },\n",
                i == 0 ? "" : "_config", m.group, m.bits);
    ct_stream_format(s, "  \"query_pre_attn_scalar\": %.0f,\n", round(1 / pow((double)c->attn_scale, 2)));
    put_real(s, "rms_norm_eps", (double)c->eps);
    put_real(s, "rope_local_base_freq", c->theta_local);
    if (c->rope_factor != 1) {
        ct_stream_text(s, "  \"rope_scaling\": {\n  ");
        put_real(s, "factor", c->rope_factor);
        ct_stream_text(s, "    \"rope_type\": \"linear\"\n  },\n");
    } else
        ct_stream_text(s, "  \"rope_scaling\": null,\n");
    put_real(s, "rope_theta", c->theta_global);
    ct_stream_format(s, "  \"sliding_window\": %d,\n", c->window);
    if (period > 0)
        ct_stream_format(s, "  \"sliding_window_pattern\": %d,\n", period);
    ct_stream_format(s, "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n", p->tied ? "true" : "false",
                     torch_name(p->target.mixture->base));
    ct_stream_format(s, "  \"use_bidirectional_attention\": false,\n  \"use_cache\": true,\n  \"vocab_size\": %zu\n}\n",
                     p->embed_rows);
}

/* ---- generation_config.json ---- */

static void put_generation(ct_stream *s, const ct_tensors *t)
{
    uint32_t bos = 2, pad = 0, top_k = 64;
    double top_p = 0.95, temp = 1;
    ct_kv_u32(t, "tokenizer.ggml.bos_token_id", &bos, NULL);
    ct_kv_u32(t, "tokenizer.ggml.padding_token_id", &pad, NULL);
    ct_kv_u32(t, "general.sampling.top_k", &top_k, NULL);
    ct_kv_f64(t, "general.sampling.top_p", &top_p, NULL);
    ct_kv_f64(t, "general.sampling.temp", &temp, NULL);
    ct_stream_format(s, "{\n  \"bos_token_id\": %u,\n  \"do_sample\": true,\n", bos);
    put_eos(s, t);
    ct_stream_format(s, "  \"pad_token_id\": %u,\n", pad);
    if (temp > 0 && temp != 1)
        put_real(s, "temperature", temp);
    put_real(s, "top_p", top_p);
    ct_stream_format(s, "  \"top_k\": %u\n}\n", top_k);
}

/* ---- the files ---- */

static ct_status write_one(const char *folder, const char *name, const ct_tensors *t, const struct plan *p,
                           ct_error *err)
{
    char path[PATH_ROOM];
    ct_writer *w;
    ct_stream s;
    if (!inside(path, folder, name))
        return too_long(folder, err);
    ct_status st = ct_writer_open(&w, path, err);
    if (st != CT_OK)
        return st;
    ct_stream_begin(&s, w, err);
    if (p)
        put_config(&s, t, p);
    else
        put_generation(&s, t);
    st = ct_stream_end(&s);
    if (st == CT_OK)
        return ct_writer_commit(w, err);
    ct_writer_abandon(w);
    return st;
}

/* A file of the folder that was read, if it is there. */
static ct_status take_over(const char *from, const char *to, const char *name, bool *there, ct_error *err)
{
    char source[PATH_ROOM], target[PATH_ROOM];
    ct_map m;
    *there = false;
    if (!inside(source, from, name) || !inside(target, to, name))
        return too_long(to, err);
    if (!ct_is_file(source))
        return CT_OK;
    ct_status st = ct_map_open(&m, source, err);
    if (st != CT_OK)
        return st;
    st = ct_file_write(target, m.data, m.size, err);
    ct_map_close(&m);
    *there = st == CT_OK;
    return st;
}

static ct_status tokenizer(const char *folder, const ct_tensors *t, ct_conversion *result, ct_error *err)
{
    static const char *const names[] = {"tokenizer.json",          "tokenizer_config.json", "tokenizer.model",
                                        "special_tokens_map.json", "added_tokens.json",     "chat_template.jinja",
                                        "chat_template.json"};
    char path[PATH_ROOM];
    bool there[7] = {false};
    ct_status st = CT_OK;
    const char *file = ct_tensors_naming(t) == CT_NAMES_HF ? ct_tensors_file(t) : NULL,
               *slash = file ? strrchr(file, '/') : NULL;
    if (file &&
        snprintf(path, sizeof path, "%.*s", slash ? (int)(slash - file) : 1, slash ? file : ".") >= (int)sizeof path)
        return too_long(file, err);
    for (size_t i = 0; file && i < sizeof names / sizeof names[0] && st == CT_OK; i++)
        st = take_over(path, folder, names[i], &there[i], err);
    if (st != CT_OK)
        return st;
    if (ct_tensors_kv(t, "tokenizer.ggml.tokens") == NULL) {
        if (!there[0] && !there[2])
            ct_conversion_note(result, "the model has no tokenizer, and so has the folder none");
        return CT_OK;
    }
    if (!there[0] && !inside(path, folder, names[0]))
        return too_long(folder, err);
    if (!there[0] && (st = ct_tokenizer_json_write(path, t, err)) != CT_OK)
        return st;
    if (!there[1] && !inside(path, folder, names[1]))
        return too_long(folder, err);
    return there[1] ? CT_OK : ct_tokenizer_config_write(path, t, err);
}

ct_status ct_folder_write(const char *folder, const ct_tensors *t, const struct plan *p, ct_conversion *result,
                          ct_error *err)
{
    ct_status st;
    if ((st = write_one(folder, "config.json", t, p, err)) != CT_OK ||
        (st = write_one(folder, "generation_config.json", t, NULL, err)) != CT_OK)
        return st;
    return tokenizer(folder, t, result, err);
}
