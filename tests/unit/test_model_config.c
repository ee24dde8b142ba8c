/* Metadata of many converters: every quirk that is understood, every lie that is refused. A small model is written with some
 * keys and tensors changed, opened, and read. */
#include "model_fixture.h"

#include <math.h>
#include <unistd.h>

#include "gguf_write.h"

enum { D = 64, F = 96, H = 4, K = 2, HD = 16, V = 40 };

/* A change to the file: key's value (or a tensor's shape), or its absence. */
typedef struct change {
    const char *what;
    enum { END, WITHOUT, U32, F32, BOOL, STR, BOOLS, U32S, TENSOR } kind;
    double v; /* number, or rows of a tensor */
    double w; /* cols of a tensor; count of an array */
    const char *s;
} change;

struct spec {
    int32_t layers;
    uint32_t tokens; /* 0: no tokenizer */
    int32_t rows;    /* of the embedding */
    int32_t dim;
    const change *changes;
};

static const change *find_change(const struct spec *s, const char *what)
{
    for (const change *c = s->changes; c && c->kind != END; c++)
        if (strcmp(c->what, what) == 0)
            return c;
    return NULL;
}

static void write_change(gguf_writer *w, const change *c)
{
    uint8_t bools[CT_MAX_LAYERS + 8];
    uint32_t numbers[CT_MAX_LAYERS + 8];
    size_t n = (size_t)c->w;
    switch (c->kind) {
    case U32: gguf_kv_u32(w, c->what, (uint32_t)c->v); break;
    case F32: gguf_kv_f32(w, c->what, (float)c->v); break;
    case BOOL: gguf_kv_bool(w, c->what, c->v != 0); break;
    case STR: gguf_kv_string(w, c->what, c->s); break;
    case BOOLS: /* true = local; every v-th is global */
        for (size_t i = 0; i < n; i++)
            bools[i] = (i + 1) % (size_t)c->v != 0;
        gguf_kv_array(w, c->what, GGUF_BOOL, n, bools, n);
        break;
    case U32S:
        for (size_t i = 0; i < n; i++)
            numbers[i] = (uint32_t)c->v + (c->s && i == n - 1);
        gguf_kv_array(w, c->what, GGUF_U32, n, numbers, n * 4);
        break;
    default: break;
    }
}

static void key_u32(gguf_writer *w, const struct spec *s, const char *key, uint32_t v)
{
    if (!find_change(s, key))
        gguf_kv_u32(w, key, v);
}

static void key_f32(gguf_writer *w, const struct spec *s, const char *key, float v)
{
    if (!find_change(s, key))
        gguf_kv_f32(w, key, v);
}

static void tensor(gguf_writer *w, const struct spec *s, const char *name, int32_t rows, int32_t cols)
{
    const change *c = find_change(s, name);
    if (c && c->kind == WITHOUT)
        return;
    uint64_t ne[2] = {(uint64_t)cols, (uint64_t)rows};
    if (c && c->kind == TENSOR) {
        ne[0] = (uint64_t)c->w;
        ne[1] = (uint64_t)c->v;
    }
    size_t n = (size_t)(ne[0] * (ne[1] ? ne[1] : 1));
    float *data = calloc(n, sizeof *data);
    assert_non_null(data);
    gguf_tensor(w, name, ne[1] ? 2 : 1, ne, 0, data, n * sizeof *data);
    free(data);
}

static void write_model(const char *path, const struct spec *s)
{
    gguf_writer w;
    gguf_begin(&w, 3, 32);
    if (!find_change(s, "general.architecture"))
        gguf_kv_string(&w, "general.architecture", "gemma3");
    key_u32(&w, s, "gemma3.context_length", 4096);
    key_u32(&w, s, "gemma3.embedding_length", (uint32_t)s->dim);
    key_u32(&w, s, "gemma3.block_count", (uint32_t)s->layers);
    key_u32(&w, s, "gemma3.feed_forward_length", F);
    key_u32(&w, s, "gemma3.attention.head_count", H);
    key_u32(&w, s, "gemma3.attention.head_count_kv", K);
    key_u32(&w, s, "gemma3.attention.key_length", HD);
    key_u32(&w, s, "gemma3.attention.value_length", HD);
    key_f32(&w, s, "gemma3.attention.layer_norm_rms_epsilon", 1e-6f);
    key_u32(&w, s, "gemma3.attention.sliding_window", 16);
    if (!find_change(s, "gemma3.rope.global.freq_base"))
        key_f32(&w, s, "gemma3.rope.freq_base", 1e6f);
    if (s->tokens) {
        const char **text = calloc(s->tokens, sizeof *text);
        int32_t *types = calloc(s->tokens, sizeof *types);
        for (uint32_t i = 0; i < s->tokens; i++) {
            text[i] = "x";
            types[i] = i > 262150 ? 5 : 1;
        }
        gguf_kv_strings(&w, "tokenizer.ggml.tokens", s->tokens, text);
        gguf_kv_array(&w, "tokenizer.ggml.token_type", GGUF_I32, s->tokens, types, s->tokens * 4);
        free(types);
        free(text);
    }
    for (const change *c = s->changes; c && c->kind != END; c++)
        write_change(&w, c);
    tensor(&w, s, "token_embd.weight", s->rows, s->dim);
    tensor(&w, s, "output_norm.weight", 0, s->dim);
    static const struct {
        const char *name;
        char rows, cols;
    } names[] = {
        {"attn_norm", 0, 'D'},    {"attn_q", 'q', 'D'},    {"attn_k", 'k', 'D'},      {"attn_v", 'k', 'D'},
        {"attn_q_norm", 0, 'd'},  {"attn_k_norm", 0, 'd'}, {"attn_output", 'D', 'q'}, {"post_attention_norm", 0, 'D'},
        {"ffn_norm", 0, 'D'},     {"ffn_gate", 'F', 'D'},  {"ffn_up", 'F', 'D'},      {"ffn_down", 'D', 'F'},
        {"post_ffw_norm", 0, 'D'}};
    for (int32_t l = 0; l < s->layers; l++)
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            char name[64];
            int32_t size[128] = {['D'] = s->dim, ['F'] = F, ['q'] = H * HD, ['k'] = K * HD, ['d'] = HD};
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, names[i].name);
            tensor(&w, s, name, size[(int)names[i].rows], size[(int)names[i].cols]);
        }
    for (const change *c = s->changes; c && c->kind != END; c++) /* tensors that are not Gemma's */
        if (c->kind == TENSOR && c->s)
            tensor(&w, s, c->what, 0, 0);
    gguf_end(&w);
    assert_int_equal(gguf_save(&w, path), 0);
    gguf_free(&w);
}

static char path[64];

static ct_status read_spec(ct_config *cfg, const struct spec *s, ct_error *err)
{
    ct_tensors *t;
    write_model(path, s);
    ct_status st = ct_gguf_open(&t, path, err);
    if (st == CT_OK) {
        st = ct_config_read(cfg, t, err);
        ct_tensors_close(t);
    }
    return st;
}

static ct_status read_changed(ct_config *cfg, int32_t layers, const change *changes, ct_error *err)
{
    return read_spec(cfg, &(struct spec){layers, V, V, D, changes}, err);
}

static void expect_warning(const ct_config *cfg, const char *word)
{
    for (int32_t i = 0; i < cfg->n_warnings; i++)
        if (strstr(cfg->warnings[i], word))
            return;
    fail_msg("expected a warning with '%s', found %d others: %s", word, cfg->n_warnings, cfg->warnings[0]);
}

static void a_plain_file(void **state)
{
    (void)state;
    ct_config c;
    ct_error err;
    expect_ok(read_changed(&c, 7, NULL, &err), &err);
    assert_int_equal(c.n_warnings, 0);
    assert_string_equal(c.size, "");
    assert_int_equal(c.layers, 7);
    assert_int_equal(c.dim, D);
    assert_int_equal(c.heads, H);
    assert_int_equal(c.kv_heads, K);
    assert_int_equal(c.head_dim, HD);
    assert_int_equal(c.ffn, F);
    assert_int_equal(c.vocab, V);
    assert_int_equal(c.embed_rows, V);
    assert_int_equal(c.window, 16);
    assert_int_equal(c.context, 4096);
    assert_true(c.eps == 1e-6f && c.softcap == 0 && c.rope_factor == 1 && c.theta_global == 1e6 &&
                c.theta_local == 1e4);
    assert_true(c.attn_scale == 0.25f && c.embed_scale == 8);
    for (int32_t i = 0; i < 7; i++)
        assert_int_equal(c.global[i], i == 5);
}

static void embedding_scales_are_bf16(void **state)
{
    (void)state;
    static const struct {
        int32_t dim;
        float scale;
    } cases[] = {{640, 25.25f}, {1152, 34.0f}, {2560, 50.5f}, {3840, 62.0f}, {5376, 73.5f}};
    for (size_t i = 0; i < 5; i++) {
        ct_config c;
        ct_error err;
        expect_ok(read_spec(&c, &(struct spec){1, 0, V, cases[i].dim, NULL}, &err), &err);
        assert_true(c.embed_scale == cases[i].scale);
    }
}

static void spellings_and_gaps(void **state)
{
    (void)state;
    ct_config c;
    ct_error err;
    /* what another converter writes for the largest sizes: its own rope keys, a pattern of booleans, no eps, no scaling */
    const change other[] = {{"gemma3.rope.global.freq_base", F32, 5e5, 0, NULL},
                            {"gemma3.rope.local.freq_base", F32, 2e4, 0, NULL},
                            {"gemma3.attention.layer_norm_rms_epsilon", WITHOUT, 0, 0, NULL},
                            {"gemma3.attention.sliding_window_pattern", BOOLS, 3, 34, NULL},
                            {"v.patch_embd.weight", TENSOR, 4, 4, "more"},
                            {"mm.input_projection.weight", TENSOR, 4, 4, "more"},
                            {0}};
    expect_ok(read_changed(&c, 34, other, &err), &err);
    assert_true(c.theta_global == 5e5 && c.theta_local == 2e4 && c.eps == 1e-6f && c.rope_factor == 8);
    expect_warning(&c, "epsilon");
    expect_warning(&c, "divided by 8");
    assert_int_equal(c.n_warnings, 2);
    for (int32_t i = 0; i < 34; i++)
        assert_int_equal(c.global[i], i % 3 == 2);

    const change stated[] = {{"gemma3.rope.scaling.type", STR, 0, 0, "linear"},
                             {"gemma3.rope.scaling.factor", F32, 4, 0, NULL},
                             {"gemma3.rope.freq_base_swa", F32, 3e4, 0, NULL},
                             {0}};
    expect_ok(read_changed(&c, 48, stated, &err), &err);
    assert_true(c.rope_factor == 4 && c.theta_local == 3e4);
    const change none[] = {{"gemma3.rope.scaling.type", STR, 0, 0, "none"}, {0}};
    expect_ok(read_changed(&c, 48, none, &err), &err);
    assert_true(c.rope_factor == 1 && c.n_warnings == 0);
    const change yarn[] = {{"gemma3.rope.scaling.type", STR, 0, 0, "yarn"}, {0}};
    expect_fail(read_changed(&c, 48, yarn, &err), CT_EUNSUPPORTED, &err, "yarn");

    expect_ok(read_changed(&c, 62, NULL, &err), &err); /* 27b's depth: the scale of the width per head */
    assert_true(fabsf(c.attn_scale - 0.25f) < 1e-7f);  /* 64 / 4 = 16, as the head size here */
    const change heads[] = {
        {"gemma3.attention.head_count", U32S, H, 62, NULL}, {"gemma3.attention.head_count_kv", U32S, K, 62, NULL}, {0}};
    expect_ok(read_changed(&c, 62, heads, &err), &err);
    assert_int_equal(c.heads, H);
    const change uneven[] = {{"gemma3.attention.head_count_kv", U32S, K, 7, "last differs"}, {0}};
    expect_fail(read_changed(&c, 7, uneven, &err), CT_EUNSUPPORTED, &err, "different");

    const change no_window[] = {{"gemma3.attention.sliding_window", WITHOUT, 0, 0, NULL}, {0}};
    expect_ok(read_changed(&c, 7, no_window, &err), &err);
    expect_warning(&c, "all positions");
    assert_true(c.global[0]);
    const change no_length[] = {{"gemma3.attention.key_length", WITHOUT, 0, 0, NULL}, {0}};
    expect_ok(read_changed(&c, 7, no_length, &err), &err);
    assert_int_equal(c.head_dim, HD); /* D / H is the same here, the norm's size says so */
    expect_warning(&c, "attn_q_norm");
    const change period[] = {{"gemma3.attention.sliding_window_pattern", U32, 2, 0, NULL}, {0}};
    expect_ok(read_changed(&c, 7, period, &err), &err);
    assert_true(!c.global[0] && c.global[1] && c.global[5] && !c.global[6]);
}

static void attention_scale_of_27b(void **state)
{
    (void)state;
    ct_config c;
    ct_error err;
    expect_ok(read_spec(&c, &(struct spec){62, 0, V, 128, NULL}, &err), &err);
    assert_true(fabs((double)c.attn_scale - pow(128.0 / H, -0.5)) < 1e-7);
    expect_ok(read_spec(&c, &(struct spec){61, 0, V, 128, NULL}, &err), &err);
    assert_true(c.attn_scale == 0.25f);
}

static void sizes_have_names(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *size;
        int32_t globals, window, context;
        double factor;
        float scale;
    } cases[] = {{"270m:q4_0", "270m", 3, 512, 32768, 1, 0.0625f},
                 {"1b:q4_0", "1b", 4, 512, 32768, 1, 0.0625f},
                 {"4b:q4_0", "4b", 5, 1024, 131072, 8, 0.0625f},
                 {"12b:q4_0", "12b", 8, 1024, 131072, 8, 0.0625f},
                 {"27b:q4_0", "27b", 10, 1024, 131072, 8, 0.0771516749f}};
    for (size_t i = 0; i < 5; i++) {
        ct_tensors *t;
        ct_config c;
        ct_error err;
        int32_t globals = 0;
        expect_ok(ct_synthetic_open(&t, cases[i].spec, &err), &err);
        expect_ok(ct_config_read(&c, t, &err), &err);
        assert_string_equal(c.size, cases[i].size);
        for (int32_t l = 0; l < c.layers; l++)
            globals += c.global[l];
        assert_int_equal(globals, cases[i].globals);
        assert_int_equal(c.window, cases[i].window);
        assert_int_equal(c.context, cases[i].context);
        assert_int_equal(c.vocab, 262144);
        assert_true(c.rope_factor == cases[i].factor && c.attn_scale == cases[i].scale);
        ct_tensors_close(t);
    }
}

static void softcaps(void **state)
{
    (void)state;
    ct_config c;
    ct_error err;
    const change cap[] = {{"gemma3.final_logit_softcapping", F32, 30, 0, NULL}, {0}};
    expect_ok(read_changed(&c, 26, cap, &err), &err); /* a depth of Google's: the key is false */
    assert_true(c.softcap == 0);
    expect_warning(&c, "ignored");
    expect_ok(read_changed(&c, 32, cap, &err), &err); /* a derivative: it is meant */
    assert_true(c.softcap == 30 && c.n_warnings == 0);
    const change attention[] = {{"gemma3.attn_logit_softcapping", F32, 50, 0, NULL}, {0}};
    expect_ok(read_changed(&c, 18, attention, &err), &err);
    expect_warning(&c, "attn_logit");
    expect_fail(read_changed(&c, 32, attention, &err), CT_EUNSUPPORTED, &err, "soft-capping of attention");
}

static void vocabularies(void **state)
{
    (void)state;
    static const struct {
        uint32_t tokens;
        int32_t rows, vocab; /* vocab 0: refused */
        const char *warning;
    } cases[] = {
        {0, 40, 40, NULL},
        {40, 40, 40, NULL},
        {40, 104, 40, NULL},
        {41, 40, 40, "one token more"},
        {42, 40, 0, NULL},
        {40, 5000, 0, NULL},
        {1, 40, 0, NULL},
        {0, 262208, 262144, NULL},
        {262144, 262208, 262144, NULL},
        {262145, 262144, 262144, NULL},
        {262145, 262208, 262144, NULL},
        {262208, 262208, 262151, NULL}, /* from 262151 on of type unused; before that, tokens that somebody added */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ct_config c;
        ct_error err;
        ct_status st = read_spec(&c, &(struct spec){1, cases[i].tokens, cases[i].rows, 32, NULL}, &err);
        if (cases[i].vocab == 0) {
            expect_fail(st, CT_EFORMAT, &err, "rows");
            continue;
        }
        expect_ok(st, &err);
        assert_int_equal(c.vocab, cases[i].vocab);
        assert_int_equal(c.embed_rows, cases[i].rows);
        if (cases[i].warning)
            expect_warning(&c, cases[i].warning);
        else
            assert_int_equal(c.n_warnings, 0);
    }
}

static void other_architectures(void **state)
{
    (void)state;
    static const char *const names[] = {"gemma", "gemma2", "gemma3n", "gemma-embedding", "llama", "clip", "qwen3", ""};
    ct_config c;
    ct_error err;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const change arch[] = {{"general.architecture", STR, 0, 0, names[i]}, {0}};
        ct_status st = read_changed(&c, 1, arch, &err);
        expect_fail(st, names[i][0] ? CT_EUNSUPPORTED : CT_ENOTFOUND, &err, names[i]);
        assert_non_null(strstr(err.text, "gemma3"));
    }
    const change gone[] = {{"general.architecture", WITHOUT, 0, 0, NULL}, {0}};
    expect_fail(read_changed(&c, 1, gone, &err), CT_ENOTFOUND, &err, "general.architecture");
    const change both[] = {{"gemma3.use_bidirectional_attention", BOOL, 1, 0, NULL}, {0}};
    expect_fail(read_changed(&c, 1, both, &err), CT_EUNSUPPORTED, &err, "encoder");
    const change causal[] = {{"gemma3.attention.causal", BOOL, 0, 0, NULL}, {0}};
    expect_fail(read_changed(&c, 1, causal, &err), CT_EUNSUPPORTED, &err, "encoder");
    const change pooled[] = {{"gemma3.pooling_type", U32, 1, 0, NULL}, {0}};
    expect_fail(read_changed(&c, 1, pooled, &err), CT_EUNSUPPORTED, &err, "encoder");
}

static void numbers_out_of_range(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        double v[8];
        int32_t n;
    } cases[] = {
        {"gemma3.block_count", {0, 129, 4e9}, 3},
        {"gemma3.embedding_length", {0, 31, 16416, 100, 4e9}, 5},
        {"gemma3.feed_forward_length", {0, 97, 131104, 4294967264.0}, 4},
        {"gemma3.attention.head_count", {0, 129, 4294967295.0}, 3},
        {"gemma3.attention.head_count_kv", {0, 3, 8, 129}, 4}, /* 3 and 8 do not divide 4 */
        {"gemma3.attention.key_length", {0, 15, 17, 24, 528}, 5},
        {"gemma3.attention.sliding_window", {1048577, 4294967295.0}, 2},
        {"gemma3.attention.sliding_window_pattern", {0, 129}, 2},
        {"gemma3.context_length", {0, 1048577}, 2},
    };
    ct_config c;
    ct_error err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int32_t j = 0; j < cases[i].n; j++) {
            const change ch[] = {{cases[i].key, U32, cases[i].v[j], 0, NULL}, {0}};
            expect_fail(read_changed(&c, 1, ch, &err), CT_EFORMAT, &err, cases[i].key);
        }
    static const struct {
        const char *key;
        double v[4];
        int32_t n;
    } reals[] = {
        {"gemma3.attention.layer_norm_rms_epsilon", {0, -1e-6, 1, NAN}, 4},
        {"gemma3.rope.freq_base", {0, -1, INFINITY, NAN}, 4},
        {"gemma3.rope.freq_base_swa", {0.5, NAN}, 2},
        {"gemma3.rope.scaling.factor", {0, -8, INFINITY, NAN}, 4},
        {"gemma3.final_logit_softcapping", {-1, NAN, INFINITY}, 3},
    };
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        for (int32_t j = 0; j < reals[i].n; j++) {
            const change ch[] = {{reals[i].key, F32, reals[i].v[j], 0, NULL}, {0}};
            expect_fail(read_changed(&c, 1, ch, &err), CT_EFORMAT, &err, reals[i].key);
        }
    static const char *const needed[] = {
        "gemma3.block_count",          "gemma3.embedding_length",        "gemma3.feed_forward_length",
        "gemma3.attention.head_count", "gemma3.attention.head_count_kv", "gemma3.context_length"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        const change ch[] = {{needed[i], WITHOUT, 0, 0, NULL}, {0}};
        expect_fail(read_changed(&c, 1, ch, &err), CT_ENOTFOUND, &err, needed[i]);
        const change text[] = {{needed[i], STR, 0, 0, "many"}, {0}};
        expect_fail(read_changed(&c, 1, text, &err), CT_EFORMAT, &err, needed[i]);
    }
    const change value[] = {{"gemma3.attention.value_length", U32, 32, 0, NULL}, {0}};
    expect_fail(read_changed(&c, 1, value, &err), CT_EUNSUPPORTED, &err, "value_length");
    const change few[] = {{"gemma3.attention.sliding_window_pattern", BOOLS, 6, 3, NULL}, {0}};
    expect_fail(read_changed(&c, 7, few, &err), CT_EFORMAT, &err, "sliding_window_pattern");
}

static void tensors_against_metadata(void **state)
{
    (void)state;
    static const char *const per_layer[] = {
        "attn_norm",           "attn_q",   "attn_k",   "attn_v", "attn_q_norm", "attn_k_norm",  "attn_output",
        "post_attention_norm", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down",    "post_ffw_norm"};
    ct_config c;
    ct_error err;
    for (size_t i = 0; i < sizeof per_layer / sizeof per_layer[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.1.%s.weight", per_layer[i]);
        const change gone[] = {{name, WITHOUT, 0, 0, NULL}, {0}};
        expect_fail(read_changed(&c, 2, gone, &err), CT_ENOTFOUND, &err, name);
        const change shape[] = {{name, TENSOR, 48, 48, NULL}, {0}};
        expect_fail(read_changed(&c, 2, shape, &err), CT_EFORMAT, &err, "found [48, 48]");
    }
    const change no_embedding[] = {{"token_embd.weight", WITHOUT, 0, 0, NULL}, {0}};
    expect_fail(read_changed(&c, 1, no_embedding, &err), CT_ENOTFOUND, &err, "token_embd.weight");
    const change narrow[] = {{"token_embd.weight", TENSOR, V, 32, NULL}, {0}};
    expect_fail(read_changed(&c, 1, narrow, &err), CT_EFORMAT, &err, "[40, 32]");
    const change head[] = {{"output.weight", TENSOR, V, D, "more"}, {0}};
    expect_ok(read_changed(&c, 1, head, &err), &err);
    const change wrong_head[] = {{"output.weight", TENSOR, V, 32, "more"}, {0}};
    expect_fail(read_changed(&c, 1, wrong_head, &err), CT_EFORMAT, &err, "output.weight");
    const change more[] = {{"gemma3.block_count", U32, 1, 0, NULL}, {0}};
    expect_fail(read_changed(&c, 2, more, &err), CT_EFORMAT, &err, "blk.1.");
    const change fewer[] = {{"gemma3.block_count", U32, 3, 0, NULL}, {0}};
    expect_fail(read_changed(&c, 2, fewer, &err), CT_ENOTFOUND, &err, "blk.2.");
    const change bias[] = {{"blk.0.attn_q.bias", TENSOR, 1, 32, "more"}, {0}};
    expect_fail(read_changed(&c, 1, bias, &err), CT_EUNSUPPORTED, &err, "attn_q.bias");
    const change stranger[] = {{"something.weight", TENSOR, 4, 4, "more"}, {0}};
    expect_ok(read_changed(&c, 1, stranger, &err), &err);
    expect_warning(&c, "something.weight");
    const change fused[] = {
        {"blk.0.attn_q.weight", WITHOUT, 0, 0, NULL}, {"blk.0.attn_qkv.weight", TENSOR, 128, D, "more"}, {0}};
    expect_fail(read_changed(&c, 1, fused, &err), CT_EUNSUPPORTED, &err, "attn_qkv");
}

static int set_up(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/carat-config-%d.gguf", (int)getpid());
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_file),         cmocka_unit_test(embedding_scales_are_bf16),
        cmocka_unit_test(spellings_and_gaps),   cmocka_unit_test(attention_scale_of_27b),
        cmocka_unit_test(sizes_have_names),     cmocka_unit_test(softcaps),
        cmocka_unit_test(vocabularies),         cmocka_unit_test(other_architectures),
        cmocka_unit_test(numbers_out_of_range), cmocka_unit_test(tensors_against_metadata),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
