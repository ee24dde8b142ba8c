/* The vulnerability classes that loaders of model files have had, a test for each, named after the class: directory, metadata and
 * words here, vocabulary and text in test_hostile_text.c. docs/TESTING.md has the list with the classes for which carat has no
 * surface, and where else a class is tested.
 *
 * Files are put together in memory; gguf_try.h says what is checked of each besides. */
#include "gguf_try.h"

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
        cmocka_unit_test(element_count_times_size_overflows), cmocka_unit_test(tensor_outside_of_the_file),
        cmocka_unit_test(memory_out_of_a_tiny_file),          cmocka_unit_test(memory_of_many_small_entries),
        cmocka_unit_test(array_of_another_element_type),      cmocka_unit_test(hyperparameter_used_as_an_index),
        cmocka_unit_test(terminal_escapes_in_names),          cmocka_unit_test(pickle_in_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
