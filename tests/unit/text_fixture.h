/* A vocabulary small enough to think about, with one of everything that Gemma's has, as a GGUF file in /tmp.
 *
 * 0-6 control, 7-14 user-defined (runs of newlines, tabs and spaces, HTML tags), 15-270 bytes, then ordinary pieces in the
 * order of merging, then single characters. fixture_open builds it in one of several spellings; a test may change the
 * arrays before. */
#ifndef CARAT_TESTS_TEXT_FIXTURE_H
#define CARAT_TESTS_TEXT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "formats/tensors.h"
#include "gguf_write.h"
#include "text/vocab.h"

#define FIXTURE_MAX 400
#define FIXTURE_BYTES 15 /* id of <0x00> */

struct fixture {
    const char *tokens[FIXTURE_MAX];
    int32_t types[FIXTURE_MAX];
    float scores[FIXTURE_MAX];
    uint32_t n;
    uint32_t bos, eos;
    char byte_text[256][8];
    const char *model; /* "llama", "gpt2" (then merges are written instead of scores) or NULL: no key */
    const char *chat;  /* template, or NULL */
    bool no_types;
    int32_t space_prefix; /* -1: no key */
};

static const char *const fixture_merges[] = {/* in order; the left part ends at the bar */
                                             "▁|a",   "a|b",     "ab|c",    "a|bc",    "b|c",   "▁a|b", "▁|ab", "h|e",
                                             "l|l",   "he|ll",   "hell|o",  "▁|hello", "a|a",   "aa|a", "a|aa", "é|e",
                                             "語|本", "語本|語", "語|本語", "本|語",   ">|▁",   ">▁|<", "s|e",  "u|se",
                                             "use|r", "m|o",     "d|e",     "mo|de",   "mode|l"};
#define FIXTURE_N_MERGES (sizeof fixture_merges / sizeof *fixture_merges)

static const char *const fixture_chars[] = {"▁",  "a", "b", "c", "h", "e", "l", "o", "é", "語",
                                            "本", ">", "<", "/", "s", "u", "r", "m", "d", "\r",
                                            "😀",  "_", "n", "t", "f", "[", "0", "x", "9"};
#define FIXTURE_N_CHARS (sizeof fixture_chars / sizeof *fixture_chars)

static inline void fixture_add(struct fixture *f, const char *text, int32_t type, float score)
{
    f->tokens[f->n] = text;
    f->types[f->n] = type;
    f->scores[f->n++] = score;
}

/* The piece that merge i makes, in a buffer of 32 bytes; false if an earlier merge makes it, too. */
static inline bool fixture_merged(size_t i, char *out)
{
    const char *bar = strchr(fixture_merges[i], '|');
    snprintf(out, 32, "%.*s%s", (int)(bar - fixture_merges[i]), fixture_merges[i], bar + 1);
    for (size_t k = 0; k < i; k++) {
        char other[32];
        const char *b = strchr(fixture_merges[k], '|');
        snprintf(other, 32, "%.*s%s", (int)(b - fixture_merges[k]), fixture_merges[k], b + 1);
        if (strcmp(other, out) == 0)
            return false;
    }
    return true;
}

static inline void fixture_init(struct fixture *f)
{
    static char merged[FIXTURE_N_MERGES][32];
    static const char *const control[] = {"<pad>",           "<eos>",         "<bos>",    "<unk>",
                                          "<start_of_turn>", "<end_of_turn>", "<unused5>"};
    static const char *const user[] = {"\n", "\n\n", "\n\n\n", "\t", "  ", "   ", "<b>", "</b>"};
    *f = (struct fixture){.model = "llama", .bos = 2, .eos = 1, .space_prefix = -1};
    for (size_t i = 0; i < 7; i++)
        fixture_add(f, control[i], 3, -1000.0f);
    for (size_t i = 0; i < 8; i++)
        fixture_add(f, user[i], 4, -1000.0f);
    for (unsigned b = 0; b < 256; b++) {
        snprintf(f->byte_text[b], sizeof f->byte_text[b], "<0x%02X>", b);
        fixture_add(f, f->byte_text[b], 6, 0.0f);
    }
    float score = 0;
    for (size_t i = 0; i < FIXTURE_N_MERGES; i++)
        if (fixture_merged(i, merged[i]))
            fixture_add(f, merged[i], 1, score--);
    for (size_t i = 0; i < FIXTURE_N_CHARS; i++)
        fixture_add(f, fixture_chars[i], 1, score--);
}

static inline void fixture_write(const struct fixture *f, gguf_writer *w)
{
    gguf_begin(w, 3, 32);
    gguf_kv_string(w, "general.architecture", "gemma3");
    if (f->model == NULL)
        return;
    gguf_kv_string(w, "tokenizer.ggml.model", f->model);
    gguf_kv_strings(w, "tokenizer.ggml.tokens", f->n, f->tokens);
    if (!f->no_types)
        gguf_kv_array(w, "tokenizer.ggml.token_type", GGUF_I32, f->n, f->types, 4 * (size_t)f->n);
    if (strcmp(f->model, "gpt2") == 0) {
        static char lines[FIXTURE_N_MERGES + 2][32];
        static const char *list[FIXTURE_N_MERGES + 2] = {"▁▁ ▁", "▁ ▁"}; /* Gemma's list begins with the runs */
        for (size_t i = 0; i < FIXTURE_N_MERGES; i++) {
            snprintf(lines[i], 32, "%s", fixture_merges[i]);
            *strchr(lines[i], '|') = ' ';
            list[i + 2] = lines[i];
        }
        gguf_kv_strings(w, "tokenizer.ggml.merges", FIXTURE_N_MERGES + 2, list);
    } else {
        gguf_kv_array(w, "tokenizer.ggml.scores", GGUF_F32, f->n, f->scores, 4 * (size_t)f->n);
    }
    gguf_kv_u32(w, "tokenizer.ggml.bos_token_id", f->bos);
    gguf_kv_u32(w, "tokenizer.ggml.eos_token_id", f->eos);
    if (f->space_prefix >= 0)
        gguf_kv_bool(w, "tokenizer.ggml.add_space_prefix", (uint8_t)f->space_prefix);
    if (f->chat)
        gguf_kv_string(w, "tokenizer.chat_template", f->chat);
}

/* Saves w as a file, opens it and makes the vocabulary; frees w and removes the file. */
static inline ct_status fixture_load(gguf_writer *w, ct_vocab **v, ct_error *err)
{
    char path[] = "/tmp/carat-text-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    float data[8] = {0};
    gguf_tensor(w, "output_norm.weight", 1, (const uint64_t[]){8}, 0, data, sizeof data);
    gguf_end(w);
    assert_int_equal(gguf_save(w, path), 0);
    ct_tensors *t = NULL;
    ct_status st = ct_gguf_open(&t, path, err);
    if (st != CT_OK)
        print_message("%s\n", err ? err->text : "");
    assert_int_equal(st, CT_OK);
    st = ct_vocab_create(v, t, err);
    ct_tensors_close(t);
    unlink(path);
    gguf_free(w);
    return st;
}

static inline ct_status fixture_open(const struct fixture *f, ct_vocab **v, ct_error *err)
{
    gguf_writer w;
    fixture_write(f, &w);
    return fixture_load(&w, v, err);
}

#endif
