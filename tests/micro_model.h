/* The smallest Gemma 3 that runs: a whole GGUF of some ten thousand bytes, put together in memory, for tests that damage files by
 * the thousand and for fuzzing. One or more layers, the last of them global; matrices of one type; with a tokenizer by score,
 * by merges, or none. Weights are small and fixed; its text is noise. */
#ifndef CARAT_TESTS_MICRO_MODEL_H
#define CARAT_TESTS_MICRO_MODEL_H

#include <stdbool.h>
#include <stdio.h>

#include "gguf_write.h"

enum { MICRO_DIM = 32, MICRO_WINDOW = 8, MICRO_CONTEXT = 256, MICRO_BYTES_AT = 10 /* id of <0x00> */ };

typedef struct micro_options {
    uint32_t layers;
    enum { MICRO_NO_TEXT, MICRO_SCORES, MICRO_MERGES } text;
    bool chat;        /* a chat template */
    bool halves;      /* matrices in F16 in place of Q4_0 */
    uint32_t version; /* 0: 3 */
} micro_options;

static const char *const micro_special[MICRO_BYTES_AT] = {"<pad>",         "<eos>", "<bos>", "<unk>", "<start_of_turn>",
                                                          "<end_of_turn>", "\n",    "\n\n",  "  ",    "<b>"};
/* Merged pieces in the order of merging, the parts between bars, then characters. No piece can come about in two ways, so that
 * the list of merges (which begins with the run of two spaces, as Gemma's does) says the same as the scores. */
static const char *const micro_merged[] = {"▁|a", "l|l", "h|e", "he|ll", "hell|o", "▁|hello", "b|a", "▁a|b", "é|a"};
static const char *const micro_chars[] = {"▁", "a", "b", "h", "e", "l", "o", "é",
                                          "<", ">", "/", "u", "s", "r", "m", "d"};
#define MICRO_N_MERGED (sizeof micro_merged / sizeof *micro_merged)
#define MICRO_N_CHARS (sizeof micro_chars / sizeof *micro_chars)
#define MICRO_TOKENS (MICRO_BYTES_AT + 256 + MICRO_N_MERGED + MICRO_N_CHARS)

static inline void micro_tokenizer(gguf_writer *w, const micro_options *o)
{
    static char text[MICRO_TOKENS][24], line[MICRO_N_MERGED][24];
    const char *token[MICRO_TOKENS], *merge[MICRO_N_MERGED + 1] = {"▁ ▁"};
    int32_t type[MICRO_TOKENS];
    float score[MICRO_TOKENS];
    for (size_t i = 0; i < MICRO_TOKENS; i++) {
        size_t k = i < MICRO_BYTES_AT + 256 ? 0 : i - MICRO_BYTES_AT - 256;
        type[i] = i < 6 ? 3 : i < MICRO_BYTES_AT ? 4 : i < MICRO_BYTES_AT + 256 ? 6 : 1;
        score[i] = type[i] == 1 ? -(float)k : type[i] == 6 ? 0 : -1000;
        if (i < MICRO_BYTES_AT) {
            snprintf(text[i], sizeof text[i], "%s", micro_special[i]);
        } else if (i < MICRO_BYTES_AT + 256) {
            snprintf(text[i], sizeof text[i], "<0x%02X>", (unsigned)(i - MICRO_BYTES_AT) & 255u);
        } else if (k < MICRO_N_MERGED) {
            const char *bar = strchr(micro_merged[k], '|');
            snprintf(text[i], sizeof text[i], "%.*s%s", (int)(bar - micro_merged[k]), micro_merged[k], bar + 1);
            snprintf(line[k], sizeof line[k], "%s", micro_merged[k]);
            *strchr(line[k], '|') = ' ';
            merge[k + 1] = line[k];
        } else {
            snprintf(text[i], sizeof text[i], "%s", micro_chars[k - MICRO_N_MERGED]);
        }
        token[i] = text[i];
    }
    gguf_kv_string(w, "tokenizer.ggml.model", o->text == MICRO_MERGES ? "gpt2" : "llama");
    gguf_kv_strings(w, "tokenizer.ggml.tokens", MICRO_TOKENS, token);
    gguf_kv_array(w, "tokenizer.ggml.token_type", GGUF_I32, MICRO_TOKENS, type, sizeof type);
    if (o->text == MICRO_MERGES)
        gguf_kv_strings(w, "tokenizer.ggml.merges", MICRO_N_MERGED + 1, merge);
    else
        gguf_kv_array(w, "tokenizer.ggml.scores", GGUF_F32, MICRO_TOKENS, score, sizeof score);
    gguf_kv_u32(w, "tokenizer.ggml.bos_token_id", 2);
    gguf_kv_u32(w, "tokenizer.ggml.eos_token_id", 1);
    gguf_kv_bool(w, "tokenizer.ggml.add_bos_token", 1);
    gguf_kv_bool(w, "tokenizer.ggml.add_space_prefix", 0);
    if (o->chat)
        gguf_kv_string(w, "tokenizer.chat_template", "{{ bos_token }}<start_of_turn>user");
}

/* A matrix of MICRO_DIM columns, or a norm of MICRO_DIM ones (rows 0). */
static inline void micro_tensor(gguf_writer *w, const micro_options *o, const char *name, uint32_t rows)
{
    uint8_t data[400 * MICRO_DIM * 2];
    uint32_t seed = (uint32_t)w->n_tensors * 2654435761u + 1, per_row = o->halves ? MICRO_DIM * 2 : 18;
    if (rows == 0) {
        float one[MICRO_DIM];
        for (size_t i = 0; i < MICRO_DIM; i++)
            one[i] = 1;
        gguf_tensor(w, name, 1, (const uint64_t[]){MICRO_DIM}, 0, one, sizeof one);
        return;
    }
    for (size_t i = 0; i < (size_t)rows * per_row; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (uint8_t)(seed >> 24);
        if (o->halves && i % 2 == 1)
            data[i] = data[i] % 4 + (data[i] & 0x80) + 0x28; /* 0.03 to 0.5 and the same below zero */
        else if (!o->halves && i % 18 < 2)
            data[i] = i % 18 ? 0x28 : 0; /* a scale of 0.03 */
    }
    gguf_tensor(w, name, 2, (const uint64_t[]){MICRO_DIM, rows}, o->halves ? 1 : 2, data, (size_t)rows * per_row);
}

/* The whole file in w->file. */
static inline void micro_model(gguf_writer *w, const micro_options *o)
{
    static const char *const names[] = {
        "attn_norm",           "attn_q",   "attn_k",   "attn_v", "attn_q_norm", "attn_k_norm",  "attn_output",
        "post_attention_norm", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down",    "post_ffw_norm"};
    gguf_begin(w, o->version ? o->version : 3, 32);
    gguf_kv_string(w, "general.architecture", "gemma3");
    gguf_kv_u32(w, "gemma3.context_length", MICRO_CONTEXT);
    gguf_kv_u32(w, "gemma3.embedding_length", MICRO_DIM);
    gguf_kv_u32(w, "gemma3.block_count", o->layers);
    gguf_kv_u32(w, "gemma3.feed_forward_length", MICRO_DIM);
    gguf_kv_u32(w, "gemma3.attention.head_count", 1);
    gguf_kv_u32(w, "gemma3.attention.head_count_kv", 1);
    gguf_kv_u32(w, "gemma3.attention.key_length", MICRO_DIM);
    gguf_kv_u32(w, "gemma3.attention.value_length", MICRO_DIM);
    gguf_kv_f32(w, "gemma3.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_kv_u32(w, "gemma3.attention.sliding_window", MICRO_WINDOW);
    gguf_kv_u32(w, "gemma3.attention.sliding_window_pattern", o->layers);
    gguf_kv_f32(w, "gemma3.rope.freq_base", 1e6f);
    if (o->text != MICRO_NO_TEXT)
        micro_tokenizer(w, o);
    micro_tensor(w, o, "token_embd.weight", o->text == MICRO_NO_TEXT ? 8 : (uint32_t)MICRO_TOKENS);
    micro_tensor(w, o, "output_norm.weight", 0);
    for (uint32_t layer = 0; layer < o->layers; layer++)
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            char name[64];
            snprintf(name, sizeof name, "blk.%u.%s.weight", layer, names[i]);
            micro_tensor(w, o, name, strstr(names[i], "norm") ? 0 : MICRO_DIM);
        }
    gguf_end(w);
}

#endif
