/* A small safetensors writer for tests, and folders made of a GGUF model at test time.
 *
 *     st_writer w = {0};
 *     st_tensor(&w, "model.norm.weight", "F32", 1, (const uint64_t[]){8}, data, 32);
 *     st_end(&w, 8);                                 padded to 8; w.file.data[0 .. w.file.n) is the file
 *     st_free(&w);
 *
 * It writes what it is told, lies included (st_entry takes any offsets, st_header any JSON). */
#ifndef CARAT_TESTS_ST_WRITE_H
#define CARAT_TESTS_ST_WRITE_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/half.h"
#include "base/mem.h"
#include "formats/tensors.h"
#include "gguf_write.h"

typedef struct st_writer {
    gguf_bytes header, data, file;
} st_writer;

static inline void st_text(st_writer *w, const char *json) { gguf_put(&w->header, json, strlen(json)); }

/* What stands before an entry: the brace, or a comma. */
static inline void st_separate(st_writer *w) { st_text(w, w->header.n == 0 ? "{" : ","); }

static inline void st_entry(st_writer *w, const char *name, const char *type, uint32_t n_dims, const uint64_t *shape,
                            uint64_t from, uint64_t to)
{
    char text[64];
    st_separate(w);
    st_text(w, "\"");
    st_text(w, name);
    st_text(w, "\":{\"dtype\":\"");
    st_text(w, type);
    st_text(w, "\",\"shape\":[");
    for (uint32_t i = 0; i < n_dims; i++) {
        snprintf(text, sizeof text, "%s%llu", i ? "," : "", (unsigned long long)shape[i]);
        st_text(w, text);
    }
    snprintf(text, sizeof text, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)from, (unsigned long long)to);
    st_text(w, text);
}

/* A tensor with its bytes behind those that came before. */
static inline void st_tensor(st_writer *w, const char *name, const char *type, uint32_t n_dims, const uint64_t *shape,
                             const void *data, size_t bytes)
{
    st_entry(w, name, type, n_dims, shape, w->data.n, w->data.n + bytes);
    gguf_put(&w->data, data, bytes);
}

/* align 1: bytes begin wherever the header ends. */
static inline void st_end(st_writer *w, size_t align)
{
    if (w->header.n == 0)
        st_text(w, "{");
    st_text(w, "}");
    while ((w->header.n + 8) % align != 0)
        st_text(w, " ");
    gguf_put_u64(&w->file, w->header.n);
    gguf_put(&w->file, w->header.data, w->header.n);
    gguf_put(&w->file, w->data.data, w->data.n);
}

static inline void st_free(st_writer *w)
{
    free(w->header.data);
    free(w->data.data);
    free(w->file.data);
    *w = (st_writer){0};
}

static inline void st_save_file(const char *folder, const char *name, const void *data, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, n, f) != n || fclose(f) != 0)
        abort();
}

static inline void st_save_text(const char *folder, const char *name, const char *text)
{
    st_save_file(folder, name, text, strlen(text));
}

/* ---- folders ------------------------------------------------------------------------------------------------------- */

typedef struct st_folder {
    ct_dtype type;      /* CT_F32, CT_F16 or CT_BF16, of every tensor */
    const char *prefix; /* in front of "layers.0..."; NULL: "model." */
    int shards;         /* 0 and 1: model.safetensors, and no index */
    bool odd;           /* the data begin at an odd address */
    bool vision;        /* something of a vision tower, and of a projector */
    float loud;         /* not 0: norms behind attention and ffn are this many times as large */
    bool both;          /* numbers that F16 and BF16 can both say */
    bool minimal;       /* a config.json that leaves out what the class has as default, and text_config */
} st_folder;

/* The name that Hugging Face's checkpoints have for a tensor of a GGUF file. */
static inline void st_hf_name(char *out, size_t room, ct_str name, const char *prefix)
{
    static const char *const names[][2] = {
        {"token_embd", "embed_tokens"},
        {"output_norm", "norm"},
        {"attn_norm", "input_layernorm"},
        {"attn_q", "self_attn.q_proj"},
        {"attn_k", "self_attn.k_proj"},
        {"attn_v", "self_attn.v_proj"},
        {"attn_q_norm", "self_attn.q_norm"},
        {"attn_k_norm", "self_attn.k_norm"},
        {"attn_output", "self_attn.o_proj"},
        {"post_attention_norm", "post_attention_layernorm"},
        {"ffn_norm", "pre_feedforward_layernorm"},
        {"ffn_gate", "mlp.gate_proj"},
        {"ffn_up", "mlp.up_proj"},
        {"ffn_down", "mlp.down_proj"},
        {"post_ffw_norm", "post_feedforward_layernorm"},
    };
    char text[128], *key = text;
    int layer = -1;
    snprintf(text, sizeof text, "%.*s", (int)name.len - 7, name.data); /* without ".weight" */
    if (sscanf(text, "blk.%d.", &layer) == 1)
        key = strchr(text + 4, '.') + 1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(key, names[i][0]) == 0)
            key = (char *)(uintptr_t)names[i][1];
    if (layer >= 0)
        snprintf(out, room, "%slayers.%d.%s.weight", prefix, layer, key);
    else
        snprintf(out, room, "%s%s.weight", prefix, key);
}

/* n floats as a type of the table; returns its name in a header. */
static inline const char *st_encode(void *dst, const float *src, size_t n, ct_dtype type)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half = type == CT_F16 ? ct_f32_to_f16(src[i]) : ct_f32_to_bf16(src[i]);
        if (type == CT_F32)
            memcpy((char *)dst + 4 * i, &src[i], 4);
        else
            memcpy((char *)dst + 2 * i, &half, 2);
    }
    return type == CT_F32 ? "F32" : type == CT_F16 ? "F16" : "BF16";
}

static inline bool st_is_norm(ct_str name)
{
    for (size_t i = 0; i + 4 <= name.len; i++)
        if (memcmp(name.data + i, "norm", 4) == 0)
            return true;
    return false;
}

static inline bool st_is_post_norm(ct_str name)
{
    for (size_t i = 0; i + 5 <= name.len; i++)
        if (memcmp(name.data + i, "post_", 5) == 0)
            return true;
    return false;
}

/* Eight significant bits, and none below a half's last one. */
static inline float st_in_both(float v)
{
    float small = v < 0 ? -v : v;
    return small < 0x1p-17f ? 0 : ct_bf16_to_f32(ct_f32_to_bf16(v));
}

static inline uint32_t st_kv(const ct_tensors *t, const char *key)
{
    uint32_t v = 0;
    ct_kv_u32(t, key, &v, NULL);
    return v;
}

static inline void st_config(const ct_tensors *t, const char *folder, const st_folder *o)
{
    char text[2048];
    uint32_t scale = st_kv(t, "gemma3.attention.key_length");
    if (o->minimal)
        snprintf(text, sizeof text,
                 "{\"architectures\":[\"Gemma3ForConditionalGeneration\"],\"model_type\":\"gemma3\",\"eos_token_id\":["
                 "1,106],"
                 "\"vision_config\":{\"hidden_size\":1152},\"text_config\":{\"model_type\":\"gemma3_text\","
                 "\"num_hidden_layers\":%u,\"query_pre_attn_scalar\":%u,\"sliding_window\":%u}}",
                 st_kv(t, "gemma3.block_count"), scale, st_kv(t, "gemma3.attention.sliding_window"));
    else
        snprintf(
            text, sizeof text,
            "{\"architectures\":[\"Gemma3ForCausalLM\"],\"model_type\":\"gemma3_text\",\"hidden_size\":%u,"
            "\"num_hidden_layers\":%u,\"intermediate_size\":%u,\"num_attention_heads\":%u,\"num_key_value_heads\":%u,"
            "\"head_dim\":%u,\"sliding_window\":%u,\"max_position_embeddings\":%u,\"query_pre_attn_scalar\":%u,"
            "\"rope_theta\":1000000,\"rope_local_base_freq\":10000.0,\"rope_scaling\":null,\"rms_norm_eps\":1e-06,"
            "\"sliding_window_pattern\":6,\"eos_token_id\":1,\"tie_word_embeddings\":true}",
            st_kv(t, "gemma3.embedding_length"), st_kv(t, "gemma3.block_count"), st_kv(t, "gemma3.feed_forward_length"),
            st_kv(t, "gemma3.attention.head_count"), st_kv(t, "gemma3.attention.head_count_kv"), scale,
            st_kv(t, "gemma3.attention.sliding_window"), st_kv(t, "gemma3.context_length"), scale);
    st_save_text(folder, "config.json", text);
}

/* The weights of t as a checkpoint in a folder that exists, and (twin, if not NULL) the same numbers as the tensors of a GGUF file with
 * the metadata of t's keys that start with "gemma3." or are the architecture. */
static inline void st_make_folder(ct_tensors *t, const char *folder, const st_folder *o, gguf_writer *twin)
{
    int shards = o->shards > 1 ? o->shards : 1;
    st_writer *w = calloc((size_t)shards, sizeof *w);
    gguf_bytes map = {0};
    char name[160], file[64], line[320];
    const char *prefix = o->prefix ? o->prefix : "model.";
    if (w == NULL)
        abort();
    if (twin) {
        gguf_begin(twin, 3, 32);
        gguf_kv_string(twin, "general.architecture", "gemma3");
        for (size_t i = 0; i < ct_tensors_kv_count(t); i++) {
            const ct_kv_pair *kv = ct_tensors_kv_at(t, i);
            char key[96];
            snprintf(key, sizeof key, "%.*s", (int)kv->key.len, kv->key.data);
            if (strncmp(key, "gemma3.", 7) == 0 && (kv->type == CT_KV_U32 || kv->type == CT_KV_F32))
                gguf_kv(twin, key, kv->type, kv->data, 4);
        }
    }
    gguf_put(&map, "{\"metadata\":{\"total_size\":1},\"weight_map\":{", 43);
    for (size_t i = 0; i < ct_tensors_count(t); i++) {
        const ct_tensor *x = ct_tensors_at(t, i);
        st_writer *to = &w[(i * 7) % (size_t)shards]; /* in no order at all */
        float *v = malloc(x->n_elems * sizeof *v);
        uint8_t *data = malloc(x->n_elems * 4);
        uint64_t shape[4], ne[4];
        if (v == NULL || data == NULL)
            abort();
        ct_row_decode(x->dtype, v, ct_tensor_bytes(t, x), x->n_elems);
        for (size_t k = 0; k < x->n_elems && st_is_norm(x->name); k++)
            v[k] = v[k] * (o->loud > 0 && st_is_post_norm(x->name) ? o->loud : 1) - 1;
        for (size_t k = 0; k < x->n_elems && o->both; k++)
            v[k] = st_in_both(v[k]);
        for (int32_t d = 0; d < x->n_dims; d++) {
            shape[d] = x->ne[x->n_dims - 1 - d];
            ne[d] = x->ne[d];
        }
        const char *type = st_encode(data, v, x->n_elems, o->type);
        size_t bytes = x->n_elems * (o->type == CT_F32 ? 4 : 2);
        st_hf_name(name, sizeof name, x->name, prefix);
        st_tensor(to, name, type, (uint32_t)x->n_dims, shape, data, bytes);
        if (shards > 1) {
            snprintf(line, sizeof line, "%s\"%s\":\"model-%05d-of-%05d.safetensors\"", i ? "," : "", name,
                     (int)(to - w) + 1, shards);
            gguf_put(&map, line, strlen(line));
        }
        if (twin) { /* norms with their 1, in f32 */
            char own[96];
            snprintf(own, sizeof own, "%.*s", (int)x->name.len, x->name.data);
            ct_row_decode(ct_dtype_get((int32_t)o->type), v, data, x->n_elems);
            for (size_t k = 0; k < x->n_elems; k++)
                v[k] += 1;
            if (st_is_norm(x->name))
                gguf_tensor(twin, own, (uint32_t)x->n_dims, ne, CT_F32, v, x->n_elems * 4);
            else
                gguf_tensor(twin, own, (uint32_t)x->n_dims, ne, (uint32_t)o->type, data, bytes);
        }
        free(v);
        free(data);
    }
    if (o->vision) {
        static const float zero[8] = {0};
        st_tensor(&w[0], "vision_tower.vision_model.embeddings.patch_embedding.weight", "F32", 4,
                  (const uint64_t[]){2, 1, 2, 2}, zero, 32);
        st_tensor(&w[0], "multi_modal_projector.mm_soft_emb_norm.weight", "F32", 1, (const uint64_t[]){8}, zero, 32);
    }
    for (int s = 0; s < shards; s++) {
        if (shards > 1)
            snprintf(file, sizeof file, "model-%05d-of-%05d.safetensors", s + 1, shards);
        st_end(&w[s], 8);
        if (o->odd) { /* one more space */
            w[s].file.n = 0;
            st_text(&w[s], " ");
            gguf_put_u64(&w[s].file, w[s].header.n);
            gguf_put(&w[s].file, w[s].header.data, w[s].header.n);
            gguf_put(&w[s].file, w[s].data.data, w[s].data.n);
        }
        st_save_file(folder, shards > 1 ? file : "model.safetensors", w[s].file.data, w[s].file.n);
        st_free(&w[s]);
    }
    gguf_put(&map, "}}", 2);
    if (shards > 1)
        st_save_file(folder, "model.safetensors.index.json", map.data, map.n);
    st_config(t, folder, o);
    if (twin)
        gguf_end(twin);
    free(map.data);
    free(w);
}

/* Removes the plain files of a folder, and it. */
static inline int st_remove_folder(const char *folder)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return strncmp(folder, "/tmp/", 5) == 0 ? system(command) : -1;
}

#endif
