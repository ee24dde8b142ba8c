/* Metadata to tokenizer: a vocabulary put together from the input, however strange, and a text that goes through it.
 *
 * Input: flags, then pieces (length, type, score, bytes), then merges (two indices of pieces, or raw text), then the text. The
 * pieces without which every file is refused alike (256 bytes, the control tokens) are added unless a flag says no. */
#include "fuzz.h"
#include "fuzz_text.h"
#include "gguf_write.h"

enum { MAX_PIECES = 96, MAX_MERGES = 64, STANDARD = 256 + 6 };

static gguf_bytes standard; /* the 256 byte pieces */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        gguf_put_str(&standard, text, 6);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const model[] = {"llama", "gpt2", "gemma4", "bert"};
    static const char *const control[] = {"<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "\n", "▁"};
    static const float wild[] = {0, -0.0f, 1e38f, -1e38f};
    feed f = {data, size};
    uint8_t flags = feed_byte(&f), more = feed_byte(&f), n_pieces = feed_byte(&f) % MAX_PIECES,
            n_merges = feed_byte(&f) % MAX_MERGES;
    gguf_writer w;
    gguf_bytes tokens = {0}, merges = {0};
    int32_t type[MAX_PIECES + STANDARD];
    float score[MAX_PIECES + STANDARD];
    struct {
        const uint8_t *s;
        size_t n;
    } piece[MAX_PIECES];
    uint32_t n = 0;
    for (; n < n_pieces; n++) {
        uint8_t len = feed_byte(&f), kind = feed_byte(&f);
        piece[n].s = feed_span(&f, len == 255 ? 1100 : len % 40, &piece[n].n);
        type[n] = kind % 8;
        score[n] = kind & 0x80 ? wild[kind >> 3 & 3] : (float)(kind >> 3 & 15);
        if (kind == 0xff)
            memset(&score[n], 0xff, sizeof score[n]);
        gguf_put_str(&tokens, piece[n].s, piece[n].n);
    }
    if (!(flags & 1)) {
        gguf_put(&tokens, standard.data, standard.n);
        for (uint32_t b = 0; b < 256; b++, n++) {
            type[n] = 6;
            score[n] = 0;
        }
    }
    for (size_t i = 0; i < 6 && !(flags & 2); i++, n++) {
        gguf_put_str(&tokens, control[i], strlen(control[i]));
        type[n] = i < 4 ? 3 : i < 5 ? 4 : 1;
        score[n] = -1000;
    }
    for (size_t i = 0; i < n_merges; i++) {
        uint8_t left = feed_byte(&f), right = feed_byte(&f), line[128];
        size_t at = 0, len;
        if (left == 255 || n_pieces == 0) {
            const uint8_t *raw = feed_span(&f, right % 64, &len);
            gguf_put_str(&merges, raw, len);
            continue;
        }
        len = piece[left % n_pieces].n % 40;
        if (len > 0)
            memcpy(line, piece[left % n_pieces].s, len);
        at = len;
        line[at++] = ' ';
        len = piece[right % n_pieces].n % 40;
        if (len > 0)
            memcpy(line + at, piece[right % n_pieces].s, len);
        gguf_put_str(&merges, line, at + len);
    }
    gguf_begin(&w, 3, 32);
    gguf_kv_string(&w, "tokenizer.ggml.model", model[flags >> 2 & 3]);
    gguf_kv_array(&w, "tokenizer.ggml.tokens", GGUF_STRING, n, tokens.data, tokens.n);
    if (!(flags & 16))
        gguf_kv_array(&w, "tokenizer.ggml.token_type", flags & 32 ? GGUF_U32 : GGUF_I32, n, type, 4 * (size_t)n);
    if (!(flags & 64))
        gguf_kv_array(&w, "tokenizer.ggml.scores", GGUF_F32, n, score, 4 * (size_t)n);
    gguf_kv_array(&w, "tokenizer.ggml.merges", GGUF_STRING, n_merges, merges.data, merges.n);
    if (more & 1)
        gguf_kv_u32(&w, "tokenizer.ggml.bos_token_id", feed_byte(&f));
    if (more & 2)
        gguf_kv_i32(&w, "tokenizer.ggml.eos_token_id", (int32_t)feed_byte(&f) - 1);
    if (more & 4)
        gguf_kv_u32(&w, "tokenizer.ggml.eot_token_id", feed_byte(&f));
    if (more & 8)
        gguf_kv_bool(&w, "tokenizer.ggml.add_space_prefix", 1);
    if (more & 16)
        gguf_kv_string(&w, "tokenizer.chat_template", "{{ }}");
    gguf_end(&w);

    ct_error err = {0};
    ct_tensors *t;
    ct_vocab *v;
    size_t before = ct_mem_live();
    ct_mem_peak_reset();
    MUST(ct_gguf_open_memory(&t, "fuzz.gguf", w.file.data, w.file.n, &err) == CT_OK);
    ct_status st = ct_vocab_create(&v, t, &err);
    MUST(ct_mem_peak() - before <= w.file.n + CT_VOCAB_BYTES);
    ct_tensors_close(t); /* nothing of it is borrowed */
    if (st == CT_OK) {
        MUST(v != NULL);
        put_through(v, (const char *)f.data, f.size, more & 8, NULL);
    } else {
        MUST(v == NULL);
        must_be_a_sentence(st, &err);
    }
    ct_vocab_free(v);
    MUST(ct_mem_live() == before);
    gguf_free(&w);
    free(tokens.data);
    free(merges.data);
    return 0;
}
