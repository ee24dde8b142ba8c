/* The vulnerability classes that loaders of model files have had, a test for each, named after the class. docs/TESTING.md has the
 * list with the classes for which carat has no surface, and where else a class is tested.
 *
 * Files are put together in memory; gguf_try.h says what is checked of each besides. */
#include "gguf_try.h"

#include "base/rng.h"
#include "base/system.h"
#include "micro_model.h"
#include "model/config.h"
#include "text/pieces.h"

static const uint64_t near_limits[] = {0,
                                       1,
                                       255,
                                       65536,
                                       (1ull << 31) - 1,
                                       1ull << 31,
                                       (1ull << 31) + 1,
                                       (1ull << 32) - 1,
                                       1ull << 32,
                                       (1ull << 32) + 1,
                                       (1ull << 33) + 32,
                                       1ull << 61,
                                       (1ull << 63) - 1,
                                       1ull << 63,
                                       (1ull << 63) + 256,
                                       UINT64_MAX - 31,
                                       UINT64_MAX};
#define N_NEAR (sizeof near_limits / sizeof *near_limits)

/* ---- the tensor directory ------------------------------------------------------------------------------------------- */

/* Shapes whose product, in elements or in bytes, wraps around at 2^31, 2^32, 2^63 or 2^64. None may be believed: the file has
 * 64 bytes of data. */
static void element_count_times_size_overflows(void **state)
{
    (void)state;
    static const uint32_t types[] = {0, 1, 2, 8, 12, 14, 30};
    uint8_t data[64] = {0};
    for (size_t type = 0; type < sizeof types / sizeof *types; type++)
        for (size_t a = 0; a < N_NEAR; a++)
            for (size_t b = 0; b < N_NEAR; b++) {
                gguf_writer w;
                ct_error err;
                const uint64_t ne[4] = {near_limits[a], near_limits[b], near_limits[(a + b) % N_NEAR], 1};
                gguf_begin(&w, 3, 32);
                gguf_tensor(&w, "x", 4, ne, types[type], data, sizeof data);
                gguf_end(&w);
                ct_status st = try_open(w.file.data, w.file.n, &err);
                assert_true(st == CT_EFORMAT || (st == CT_OK && a == 1 && ne[1] == 1 && ne[2] < 65));
                gguf_free(&w);
            }
}

/* A tensor that claims more than the file has, by its shape or by its offset, would give other memory away as weights. */
static void tensor_outside_of_the_file(void **state)
{
    (void)state;
    uint8_t data[96] = {0};
    for (uint64_t elems = 1; elems < 64; elems++)
        for (uint64_t offset = 0; offset <= 128; offset += 32) {
            gguf_writer w;
            ct_error err;
            gguf_begin(&w, 3, 32);
            gguf_tensor_info(&w, "x", 1, &elems, 0, offset);
            gguf_put(&w.data, data, sizeof data);
            gguf_end(&w);
            bool inside = offset + 4 * elems <= sizeof data;
            assert_int_equal(try_open(w.file.data, w.file.n, &err), inside ? CT_OK : CT_EFORMAT);
            gguf_free(&w);
        }
    for (size_t i = 2; i < N_NEAR; i++) {
        gguf_writer w;
        gguf_begin(&w, 3, 32);
        gguf_tensor_info(&w, "x", 1, (const uint64_t[]){8}, 0, near_limits[i] & ~31ull);
        gguf_put(&w.data, data, sizeof data);
        if ((near_limits[i] & ~31ull) > 64)
            refused_file(&w, CT_EFORMAT, "'x'");
        else
            gguf_free(&w);
    }
}

/* A few bytes that claim billions of keys, tensors, strings or elements, or an alignment of gigabytes, cost next to nothing. */
static void memory_out_of_a_tiny_file(void **state)
{
    (void)state;
    for (size_t i = 4; i < N_NEAR; i++)
        for (int what = 0; what < 5; what++) {
            gguf_writer w;
            ct_error err;
            uint64_t claim = near_limits[i];
            gguf_begin(&w, 3, 32);
            if (what == 2)
                gguf_kv(&w, "key", GGUF_STRING, &claim, 8);
            else if (what == 3)
                gguf_kv_array(&w, "key", GGUF_STRING, claim, NULL, 0);
            else if (what == 4)
                gguf_kv_u64(&w, "general.alignment", claim);
            gguf_tensor(&w, "x", 1, (const uint64_t[]){8}, 0, "0123456789abcdef0123456789abcdef", 32);
            gguf_end(&w);
            if (what < 2)
                memcpy(w.file.data + (what ? 16 : 8), &claim, 8);
            assert_true(w.file.n < 200);
            ct_mem_peak_reset();
            size_t before = ct_mem_live();
            assert_int_not_equal(try_open(w.file.data, w.file.n, &err), CT_OK);
            assert_true(ct_mem_peak() - before < 16384);
            gguf_free(&w);
        }
}

/* What a larger file can cost when every entry is as small as an entry can be: the bound of directory.h, which try_open checks. */
static void memory_of_many_small_entries(void **state)
{
    (void)state;
    for (int what = 0; what < 3; what++) {
        gguf_writer w;
        char name[8];
        gguf_begin(&w, 3, 1);
        for (uint32_t i = 0; i < 65535; i++) {
            snprintf(name, sizeof name, "%x", i);
            if (what == 0)
                gguf_kv_u8(&w, name, 0);
            else if (what == 1)
                gguf_tensor(&w, name, 1, (const uint64_t[]){1}, 0, "1234", 4);
        }
        if (what == 2) {
            static const uint8_t none[8 * 100000];
            gguf_kv_array(&w, "strings", GGUF_STRING, 100000, none, sizeof none);
        }
        assert_int_equal(try_file(&w), CT_OK);
    }
    for (int what = 0; what < 2; what++) { /* and more than any Gemma has */
        gguf_writer w;
        char name[8];
        gguf_begin(&w, 3, 32);
        for (uint32_t i = 0; i < 65537; i++) {
            snprintf(name, sizeof name, "%x", i);
            if (what == 0)
                gguf_kv_u8(&w, name, 0);
            else
                gguf_tensor_info(&w, name, 1, (const uint64_t[]){1}, 0, 0);
        }
        refused_file(&w, CT_EUNSUPPORTED, "at most 65536");
    }
}

/* ---- metadata ------------------------------------------------------------------------------------------------------- */

/* The micro model with one key replaced. */
static void with_key(gguf_writer *w, const char *key, uint32_t type, const void *value, size_t bytes)
{
    gguf_writer other;
    micro_model(&other, &(micro_options){.layers = 1, .text = MICRO_SCORES});
    ct_tensors *t;
    assert_int_equal(ct_gguf_open_memory(&t, "micro.gguf", other.file.data, other.file.n, NULL), CT_OK);
    gguf_begin(w, 3, 32);
    for (size_t i = 0; i < ct_tensors_kv_count(t); i++) {
        const ct_kv_pair *kv = ct_tensors_kv_at(t, i);
        const uint8_t *end = i + 1 < ct_tensors_kv_count(t) ? (const uint8_t *)ct_tensors_kv_at(t, i + 1)->key.data - 8
                                                            : (const uint8_t *)ct_tensors_at(t, 0)->name.data - 8;
        const uint8_t *from = (const uint8_t *)kv->key.data - 8;
        if (!ct_str_is(kv->key, key)) {
            gguf_put(&w->kv, from, (size_t)(end - from));
            w->n_kv++;
        }
    }
    gguf_kv(w, key, type, value, bytes);
    for (size_t i = 0; i < ct_tensors_count(t); i++) {
        const ct_tensor *x = ct_tensors_at(t, i);
        char name[64];
        uint64_t ne[4];
        snprintf(name, sizeof name, "%.*s", (int)x->name.len, x->name.data);
        for (size_t k = 0; k < 4; k++)
            ne[k] = x->ne[k];
        gguf_tensor(w, name, (uint32_t)x->n_dims, ne, (uint32_t)x->dtype->type, x->data, x->bytes);
    }
    gguf_end(w);
    ct_tensors_close(t);
    gguf_free(&other);
}

/* Directory, configuration and vocabulary of a file; the first failure. */
static ct_status read_all_of(const gguf_writer *w, ct_error *err)
{
    ct_tensors *t;
    ct_config cfg;
    ct_vocab *v = NULL;
    const uint8_t *file = guarded(w->file.data, w->file.n);
    size_t before = ct_mem_live();
    *err = (ct_error){0};
    ct_mem_peak_reset();
    ct_status st = ct_gguf_open_memory(&t, "damaged.gguf", file, w->file.n, err);
    if (st == CT_OK)
        st = ct_config_read(&cfg, t, err);
    if (st == CT_OK)
        st = ct_vocab_create(&v, t, err);
    assert_true(ct_mem_peak() - before <= w->file.n + CT_VOCAB_BYTES);
    if (st != CT_OK)
        assert_sentence(st, err);
    ct_vocab_free(v);
    ct_tensors_close(t);
    assert_int_equal(ct_mem_live(), before);
    return st;
}

/* Every array that is read, with every other type of element: read as what it is not, it would be read beyond its end. */
static void array_of_another_element_type(void **state)
{
    (void)state;
    static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
    static const struct {
        const char *key;
        uint64_t count;
        uint32_t right[4]; /* the types that are */
    } arrays[] = {{"tokenizer.ggml.tokens", MICRO_TOKENS, {GGUF_STRING, 99, 99, 99}},
                  {"tokenizer.ggml.scores", MICRO_TOKENS, {GGUF_F32, 99, 99, 99}},
                  {"tokenizer.ggml.token_type", MICRO_TOKENS, {GGUF_I32, GGUF_U32, 99, 99}},
                  {"gemma3.attention.head_count", 1, {GGUF_U32, GGUF_I32, GGUF_U8, 99}},
                  {"gemma3.attention.sliding_window_pattern", 1, {GGUF_BOOL, GGUF_U32, GGUF_I32, GGUF_U8}}};
    static const uint8_t zeros[8 * MICRO_TOKENS];
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        for (uint32_t type = GGUF_U8; type <= GGUF_F64; type++) {
            uint8_t value[12 + sizeof zeros] = {0};
            gguf_writer w;
            ct_error err;
            bool right = false;
            for (int k = 0; k < 4; k++)
                right = right || arrays[i].right[k] == type;
            memcpy(value, &type, 4);
            memcpy(value + 4, &arrays[i].count, 8);
            with_key(&w, arrays[i].key, GGUF_ARRAY, value, 12 + (size_t)arrays[i].count * size[type]);
            ct_status st = read_all_of(&w, &err);
            if (!right && st == CT_OK && !(i >= 3 && type <= GGUF_I32)) /* integers of other widths hold a count, too */
                fail_msg("%s of type %u was accepted", arrays[i].key, type);
            gguf_free(&w);
        }
}

/* Every number that the shape of memory follows from, at the limits of every integer type. */
static void hyperparameter_used_as_an_index(void **state)
{
    (void)state;
    static const char *const keys[] = {"gemma3.block_count",
                                       "gemma3.embedding_length",
                                       "gemma3.feed_forward_length",
                                       "gemma3.attention.head_count",
                                       "gemma3.attention.head_count_kv",
                                       "gemma3.attention.key_length",
                                       "gemma3.attention.value_length",
                                       "gemma3.attention.sliding_window",
                                       "gemma3.attention.sliding_window_pattern",
                                       "gemma3.context_length",
                                       "tokenizer.ggml.bos_token_id",
                                       "tokenizer.ggml.eos_token_id"};
    static const struct {
        uint32_t type;
        size_t bytes;
    } integers[] = {{GGUF_U8, 1},  {GGUF_I8, 1},  {GGUF_U16, 2}, {GGUF_I16, 2},
                    {GGUF_U32, 4}, {GGUF_I32, 4}, {GGUF_U64, 8}, {GGUF_I64, 8}};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
            for (size_t n = 0; n < N_NEAR + 4; n++) {
                uint64_t v = n < N_NEAR        ? near_limits[n]
                             : n == N_NEAR     ? 129
                             : n == N_NEAR + 1 ? 513
                             : n == N_NEAR + 2 ? 128
                                               : 0x80;
                gguf_writer w;
                ct_error err;
                with_key(&w, keys[k], integers[i].type, &v, integers[i].bytes);
                ct_status st = read_all_of(&w, &err);
                bool fits = integers[i].bytes == 8 || v >> 8 * integers[i].bytes == 0;
                if (st == CT_OK && fits && v > 1 << 20)
                    fail_msg("%s = %llu was accepted", keys[k], (unsigned long long)v);
                gguf_free(&w);
            }
}

/* ---- the vocabulary ------------------------------------------------------------------------------------------------- */

/* A vocabulary as an array of texts with one of them replaced. */
static ct_status with_piece(ct_vocab **v, const char *text, size_t n, int32_t type, ct_error *err)
{
    gguf_writer w;
    gguf_bytes tokens = {0};
    int32_t types[MICRO_TOKENS];
    float scores[MICRO_TOKENS] = {0};
    ct_tensors *t;
    for (size_t i = 0; i < MICRO_TOKENS; i++) {
        char byte[8];
        snprintf(byte, sizeof byte, "<0x%02X>", (unsigned)(i - MICRO_BYTES_AT) & 255u);
        types[i] = i < 6 ? 3 : i < MICRO_BYTES_AT ? 4 : i < MICRO_BYTES_AT + 256 ? 6 : 1;
        const char *s = i < MICRO_BYTES_AT ? micro_special[i] : types[i] == 6 ? byte : "a";
        bool last = i + 1 == MICRO_TOKENS;
        gguf_put_str(&tokens, last ? text : s, last ? n : strlen(s));
    }
    types[MICRO_TOKENS - 1] = type;
    gguf_begin(&w, 3, 32);
    gguf_kv_string(&w, "tokenizer.ggml.model", "llama");
    gguf_kv_array(&w, "tokenizer.ggml.tokens", GGUF_STRING, MICRO_TOKENS, tokens.data, tokens.n);
    gguf_kv_array(&w, "tokenizer.ggml.token_type", GGUF_I32, MICRO_TOKENS, types, sizeof types);
    gguf_kv_array(&w, "tokenizer.ggml.scores", GGUF_F32, MICRO_TOKENS, scores, sizeof scores);
    gguf_end(&w);
    assert_int_equal(ct_gguf_open_memory(&t, "pieces.gguf", w.file.data, w.file.n, err), CT_OK);
    *err = (ct_error){0};
    ct_status st = ct_vocab_create(v, t, err);
    if (st != CT_OK)
        assert_sentence(st, err);
    ct_tensors_close(t);
    gguf_free(&w);
    free(tokens.data);
    return st;
}

/* Texts that a parser with signs, lengths or case of its own would take for a byte outside of its table. */
static void special_token_text_that_looks_like_a_byte(void **state)
{
    (void)state;
    static const char *const texts[] = {"<0x-1>", "<0x100>", "<0xZZ>",       "<0x1>",  "<0x 1>",
                                        "<0x+1>", "<0x0a>",  "<0X41>",       "<0x>",   "<0x41",
                                        "0x41",   "<0x-F>",  "<0x\xff\xff>", "<0x4G>", "<00x1>"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ct_error err;
        ct_vocab *v;
        assert_int_equal(with_piece(&v, texts[i], strlen(texts[i]), 6, &err), CT_EFORMAT);
        assert_non_null(strstr(err.text, "is a byte by its type"));
        for (int32_t type = 1; type <= 5; type++) {
            assert_int_equal(with_piece(&v, texts[i], strlen(texts[i]), type, &err), CT_OK);
            int32_t id = ct_vocab_find(v, texts[i], strlen(texts[i]));
            if (type == 1 && strchr(texts[i], ' ')) /* no text ever becomes an ordinary piece with a space in it */
                assert_int_equal(id, -1);
            else
                assert_true(id == MICRO_TOKENS - 1 && ct_str_is(ct_vocab_piece(v, id), texts[i])); /* like any other */
            for (int b = 0; b < 256; b++)
                assert_int_equal(v->byte_id[b], MICRO_BYTES_AT + b);
            ct_vocab_free(v);
        }
    }
    ct_error err;
    ct_vocab *v;
    assert_int_equal(with_piece(&v, "<0x41>", 6, 1, &err), CT_EFORMAT); /* a byte twice, whatever its type says */
    assert_non_null(strstr(err.text, "both token"));
}

static void vocabulary_token_too_long(void **state)
{
    (void)state;
    static const size_t lengths[] = {1023, 1024, 1025, 4096, 65536, 1 << 20};
    char *text = malloc(1 << 20);
    assert_non_null(text);
    for (int kind = 0; kind < 3; kind++) { /* ordinary, a run of spaces, control */
        memset(text, kind == 1 ? ' ' : 'k', 1 << 20);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            ct_error err;
            ct_vocab *v;
            ct_status st = with_piece(&v, text, lengths[i], kind == 2 ? 3 : 1, &err);
            assert_int_equal(st, lengths[i] <= VOCAB_MAX_PIECE_BYTES ? CT_OK : CT_EFORMAT);
            if (st == CT_OK) {
                ct_ids ids = {0};
                assert_int_equal(ct_tokenize(v, text, 5000, false, true, &ids, &err), CT_OK);
                ct_ids_deinit(&ids);
            } else {
                assert_non_null(strstr(err.text, "at most 1024 bytes"));
            }
            ct_vocab_free(v);
        }
    }
    free(text);
}

/* Texts of up to 10 MB, of bytes at random and of one character, come back as they were, in time n log n. */
static void signed_lengths_in_the_tokenizer(void **state)
{
    (void)state;
    ct_error err;
    ct_vocab *v;
    static const size_t lengths[] = {0, 1, 2, 3, 4, 5, 100, 65535, 65536, 10u << 20};
    assert_int_equal(with_piece(&v, "aa", 2, 1, &err), CT_OK);
    char *text = malloc(10u << 20);
    assert_non_null(text);
    for (int kind = 0; kind < 3; kind++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            size_t n = kind == 0 ? lengths[i] / 8 : lengths[i],
                   at = 0; /* random bytes are slow: nearly each is a token */
            for (size_t k = 0; k < n; k++)
                text[k] = kind == 0 ? (char)ct_rng_u64(7, 0, k) : kind == 1 ? 'a' : (char)0xe2;
            ct_ids ids = {0};
            uint64_t start = ct_now_ns();
            assert_int_equal(ct_tokenize(v, text, n, false, false, &ids, &err), CT_OK);
            assert_true(ct_seconds_since(start) < 60); /* a second where nothing else runs */
            for (size_t k = 0; k < ids.n; k++) {
                ct_str piece = ct_vocab_piece(v, ids.ids[k]);
                assert_true(at + piece.len <= n && memcmp(text + at, piece.data, piece.len) == 0);
                at += piece.len;
            }
            assert_int_equal(at, n);
            ct_ids_deinit(&ids);
        }
    free(text);
    ct_vocab_free(v);
}

/* Neither a text nor a file's list of merges can make a control token of what somebody types. */
static void control_tokens_typed_by_a_user(void **state)
{
    (void)state;
    static const char *const texts[] = {"<end_of_turn>", "<bos>", "x<start_of_turn>model\n",
                                        "<eos><eos>",    "<pad>", "hello<unk>"};
    for (int way = 0; way < 2; way++) {
        gguf_writer w;
        ct_tensors *t;
        ct_vocab *v;
        gguf_begin(&w, 3, 32);
        if (way == 0) {
            micro_tokenizer(&w, &(micro_options){.text = MICRO_SCORES});
        } else { /* merges that lead to <s> */
            const char *merges[] = {"< s", "<s >", "< b", "<b >"};
            gguf_writer plain;
            const char *token[MICRO_TOKENS + 3];
            char byte[256][8];
            int32_t type[MICRO_TOKENS + 3];
            uint32_t n = 0;
            gguf_begin(&plain, 3, 32);
            for (; n < 6; n++)
                token[n] = micro_special[n], type[n] = 3;
            for (uint32_t b = 0; b < 256; b++, n++) {
                snprintf(byte[b], 8, "<0x%02X>", b);
                token[n] = byte[b], type[n] = 6;
            }
            static const char *const more[] = {"▁", "<", ">", "s", "b", "<s", "<s>", "<b", "<b>", "x"};
            for (size_t i = 0; i < sizeof more / sizeof *more; i++, n++)
                token[n] = more[i], type[n] = i == 6 ? 3 : 1;
            gguf_kv_string(&w, "tokenizer.ggml.model", "gpt2");
            gguf_kv_strings(&w, "tokenizer.ggml.tokens", n, token);
            gguf_kv_array(&w, "tokenizer.ggml.token_type", GGUF_I32, n, type, 4 * (size_t)n);
            gguf_kv_strings(&w, "tokenizer.ggml.merges", 4, merges);
            gguf_free(&plain);
        }
        gguf_end(&w);
        assert_int_equal(ct_gguf_open_memory(&t, "merges.gguf", w.file.data, w.file.n, NULL), CT_OK);
        assert_int_equal(ct_vocab_create(&v, t, NULL), CT_OK);
        for (size_t i = 0; i <= sizeof texts / sizeof *texts; i++) {
            const char *text = i < sizeof texts / sizeof *texts ? texts[i] : "<s><b><s>x";
            ct_ids ids = {0};
            assert_int_equal(ct_tokenize(v, text, strlen(text), false, false, &ids, NULL), CT_OK);
            assert_true(ids.n > 0);
            for (size_t k = 0; k < ids.n; k++)
                assert_false(ct_vocab_is_control(v, ids.ids[k]));
            if (way == 0) { /* and a turn has exactly the control tokens that make it: bos, start, end, start */
                int control = 0;
                ids.n = 0;
                assert_int_equal(ct_turn_user(v, text, text, strlen(text), true, &ids, NULL), CT_OK);
                for (size_t k = 0; k < ids.n; k++)
                    control += ct_vocab_is_control(v, ids.ids[k]);
                assert_int_equal(control, 4);
            }
            ct_ids_deinit(&ids);
        }
        ct_vocab_free(v);
        ct_tensors_close(t);
        gguf_free(&w);
    }
}

/* A chat template is never run, whatever it says: that there is one is all that is read of it. */
static void template_as_code(void **state)
{
    (void)state;
    static const char *const templates[] = {"{{ ''.__class__.__mro__[1].__subclasses__() }}",
                                            "{% for i in range(10**12) %}x{% endfor %}", "{{", "%s%n%n%n", "\xff\xfe"};
    ct_ids plain = {0};
    for (size_t i = 0; i <= sizeof templates / sizeof *templates; i++) {
        gguf_writer w;
        ct_tensors *t;
        ct_vocab *v;
        ct_ids ids = {0};
        gguf_begin(&w, 3, 32);
        micro_tokenizer(&w, &(micro_options){.text = MICRO_SCORES});
        gguf_kv_string(&w, "tokenizer.chat_template", i == 0 ? "x" : templates[i - 1]);
        gguf_end(&w);
        assert_int_equal(ct_gguf_open_memory(&t, "template.gguf", w.file.data, w.file.n, NULL), CT_OK);
        assert_int_equal(ct_vocab_create(&v, t, NULL), CT_OK);
        assert_true(ct_vocab_has_turns(v));
        assert_int_equal(ct_turn_user(v, NULL, "hello", 5, true, i == 0 ? &plain : &ids, NULL), CT_OK);
        if (i > 0) {
            assert_int_equal(ids.n, plain.n);
            assert_memory_equal(ids.ids, plain.ids, plain.n * sizeof *plain.ids);
        }
        ct_ids_deinit(&ids);
        ct_vocab_free(v);
        ct_tensors_close(t);
        gguf_free(&w);
    }
    ct_ids_deinit(&plain);
}

/* Vocabularies made to be large in memory: a great many empty tokens, long control tokens, a long list of merges. */
static void memory_of_a_vocabulary(void **state)
{
    (void)state;
    for (int what = 0; what < 4; what++) {
        gguf_writer w;
        ct_error err;
        ct_tensors *t;
        ct_vocab *v = NULL;
        gguf_bytes tokens = {0}, merges = {0};
        uint32_t n = what == 0   ? VOCAB_MAX_PIECES
                     : what == 1 ? VOCAB_MAX_PIECES + 1
                                 : 3000,
                 n_merges = what == 3 ? 500000 : 0;
        char long_one[1000];
        for (uint32_t i = 0; i < n; i++) {
            memset(long_one, 'a' + (int)(i % 26), sizeof long_one);
            snprintf(long_one, 8, "%07u", i);
            gguf_put_str(&tokens, long_one, what < 2 ? 0 : what == 2 ? sizeof long_one : 7);
        }
        for (uint32_t i = 0; i < n_merges; i++)
            gguf_put_str(&merges, "0000001 0000002", 15);
        int32_t *type = malloc(n * sizeof *type);
        float *score = calloc(n, sizeof *score);
        assert_true(type != NULL && score != NULL);
        for (uint32_t i = 0; i < n; i++)
            type[i] = what == 2 ? 3 : 1;
        gguf_begin(&w, 3, 32);
        gguf_kv_string(&w, "tokenizer.ggml.model", what == 3 ? "gpt2" : "llama");
        gguf_kv_array(&w, "tokenizer.ggml.tokens", GGUF_STRING, n, tokens.data, tokens.n);
        gguf_kv_array(&w, "tokenizer.ggml.token_type", GGUF_I32, n, type, n * sizeof *type);
        gguf_kv_array(&w, "tokenizer.ggml.scores", GGUF_F32, n, score, n * sizeof *score);
        gguf_kv_array(&w, "tokenizer.ggml.merges", GGUF_STRING, n_merges, merges.data, merges.n);
        gguf_end(&w);
        size_t before = ct_mem_live();
        ct_mem_peak_reset();
        assert_int_equal(ct_gguf_open_memory(&t, "large.gguf", w.file.data, w.file.n, &err), CT_OK);
        ct_status st = ct_vocab_create(&v, t, &err);
        assert_int_not_equal(st, CT_OK); /* none has bytes or a beginning */
        assert_sentence(st, &err);
        assert_true(ct_mem_peak() - before <= w.file.n + CT_VOCAB_BYTES);
        ct_tensors_close(t);
        gguf_free(&w);
        free(type);
        free(score);
        free(tokens.data);
        free(merges.data);
    }
}

/* Texts chosen to share a slot of the table of pieces would make a load of seconds one of hours. */
static void names_made_to_collide(void **state)
{
    (void)state;
    enum { N = 100000 };
    gguf_writer w;
    ct_error err;
    ct_tensors *t;
    ct_vocab *v = NULL;
    gguf_bytes tokens = {0};
    int32_t *type = malloc(N * sizeof *type);
    float *score = calloc(N, sizeof *score);
    assert_true(type != NULL && score != NULL);
    for (uint64_t i = 0; i < N; i++) { /* 16 bytes: the second half takes back what the first did to the hash */
        uint64_t first = i, start = 16 * 0x9e3779b97f4a7c15u, h = ((start ^ first) * 0xbf58476d1ce4e5b9u) ^ start >> 29,
                 text[2];
        text[0] = first;
        text[1] = h;
        type[i] = 1;
        gguf_put_str(&tokens, text, 16);
    }
    gguf_begin(&w, 3, 32);
    gguf_kv_string(&w, "tokenizer.ggml.model", "llama");
    gguf_kv_array(&w, "tokenizer.ggml.tokens", GGUF_STRING, N, tokens.data, tokens.n);
    gguf_kv_array(&w, "tokenizer.ggml.token_type", GGUF_I32, N, type, N * sizeof *type);
    gguf_kv_array(&w, "tokenizer.ggml.scores", GGUF_F32, N, score, N * sizeof *score);
    gguf_end(&w);
    assert_int_equal(ct_gguf_open_memory(&t, "collide.gguf", w.file.data, w.file.n, &err), CT_OK);
    uint64_t start = ct_now_ns();
    assert_int_equal(ct_vocab_create(&v, t, &err), CT_EFORMAT);
    assert_non_null(strstr(err.text, "collide"));
    assert_true(ct_seconds_since(start) < 20);
    ct_tensors_close(t);
    gguf_free(&w);
    free(type);
    free(score);
    free(tokens.data);
}

/* ---- words ---------------------------------------------------------------------------------------------------------- */

/* What a file says reaches a terminal only without its control characters. */
static void terminal_escapes_in_names(void **state)
{
    (void)state;
    static const char evil[] = "\x1b]0;owned\x07\x1b[2J\r\n\xc2\x9b"
                               "31m";
    static const char *const keys[] = {"general.architecture", "gemma3.rope.scaling.type", "tokenizer.ggml.model"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        gguf_writer w;
        ct_error err;
        uint64_t n = sizeof evil - 1;
        uint8_t value[8 + sizeof evil];
        memcpy(value, &n, 8);
        memcpy(value + 8, evil, sizeof evil - 1);
        with_key(&w, keys[i], GGUF_STRING, value, 8 + sizeof evil - 1);
        assert_int_equal(read_all_of(&w, &err), CT_EUNSUPPORTED);
        assert_non_null(strstr(err.text, "?]0;owned??[2J????31m"));
        gguf_free(&w);
    }
}

/* Other people's files of weights are programs: they are named, not read. */
static void pickle_in_weights(void **state)
{
    (void)state;
    static const char zip[] = "PK\x03\x04\x14\0\0\0archive/data.pkl", pickle[] = "\x80\x02}q\0X\x05\0\0\0posixq\x01.";
    refused(zip, sizeof zip - 1, CT_EFORMAT, "a zip archive or a PyTorch checkpoint");
    refused(pickle, sizeof pickle - 1, CT_EFORMAT, "does not begin with");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(element_count_times_size_overflows),
        cmocka_unit_test(tensor_outside_of_the_file),
        cmocka_unit_test(memory_out_of_a_tiny_file),
        cmocka_unit_test(memory_of_many_small_entries),
        cmocka_unit_test(array_of_another_element_type),
        cmocka_unit_test(hyperparameter_used_as_an_index),
        cmocka_unit_test(special_token_text_that_looks_like_a_byte),
        cmocka_unit_test(vocabulary_token_too_long),
        cmocka_unit_test(signed_lengths_in_the_tokenizer),
        cmocka_unit_test(control_tokens_typed_by_a_user),
        cmocka_unit_test(template_as_code),
        cmocka_unit_test(memory_of_a_vocabulary),
        cmocka_unit_test(names_made_to_collide),
        cmocka_unit_test(terminal_escapes_in_names),
        cmocka_unit_test(pickle_in_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
