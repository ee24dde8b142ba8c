/* MLX's quantized tensors of a folder: every type is merged as its files lie, what config.json says is compared with the shapes, and
 * every known way in which such folders are broken has a sentence. Shards are made in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "formats/mlx.h"

#define SHARD_ROOM 65536
#define HEADER_ROOM 8192

/* A shard while it is made: entries of the header, then bytes that count up. */
struct shard {
    char header[HEADER_ROOM];
    size_t n_header, bytes;
    uint8_t file[SHARD_ROOM];
};

static struct shard shard;

static void begin(void)
{
    memset(&shard, 0, sizeof shard);
    shard.n_header = (size_t)snprintf(shard.header, HEADER_ROOM, "{\"__metadata__\":{\"format\":\"mlx\"}");
}

static void entry(const char *name, const char *type, size_t rows, size_t cols, size_t width)
{
    size_t bytes = rows * cols * width;
    char shape[64];
    if (rows > 1)
        snprintf(shape, sizeof shape, "%zu,%zu", rows, cols);
    else
        snprintf(shape, sizeof shape, "%zu", cols);
    shard.n_header += (size_t)snprintf(shard.header + shard.n_header, HEADER_ROOM - shard.n_header,
                                       ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", name,
                                       type, shape, shard.bytes, shard.bytes + bytes);
    shard.bytes += bytes;
}

#define ROWS 6

/* X.weight, X.scales and, unless scales are bytes, X.biases of ROWS rows. */
static void triple(const char *stem, uint32_t bits, uint32_t group, size_t in, const char *type, size_t width)
{
    char name[160];
    snprintf(name, sizeof name, "%s.weight", stem);
    entry(name, "U32", ROWS, in * bits / 32, 4);
    snprintf(name, sizeof name, "%s.scales", stem);
    entry(name, type, ROWS, in / group, width);
    snprintf(name, sizeof name, "%s.biases", stem);
    if (width > 1)
        entry(name, type, ROWS, in / group, width);
}

struct opened {
    ct_tensors *t;
    struct st_list list;
    struct mlx_config config;
};

static void done(struct opened *o)
{
    ct_mlx_config_deinit(&o->config);
    ct_free(o->list.at);
    ct_free(o->list.by_name);
    ct_tensors_close(o->t);
}

/* Everything from the shard and config.json's object to the directory. */
static ct_status open_shard(struct opened *o, const char *config, ct_error *err)
{
    ct_status st = CT_ENOMEM;
    size_t n = shard.n_header + 1;
    memset(o, 0, sizeof *o);
    for (size_t i = 0; i < 8; i++)
        shard.file[i] = (uint8_t)(n >> 8 * i);
    memcpy(shard.file + 8, shard.header, shard.n_header);
    shard.file[8 + shard.n_header] = '}';
    assert_true(8 + n + shard.bytes <= SHARD_ROOM);
    for (size_t i = 0; i < shard.bytes; i++)
        shard.file[8 + n + i] = (uint8_t)(i * 151 + i / 256 * 7);
    if ((o->t = ct_tensors_new("folder", "test")) == NULL ||
        !ct_tensors_add_map(o->t, ct_map_borrow(shard.file, 8 + n + shard.bytes), "folder/model.safetensors"))
        return st;
    if ((st = ct_safetensors_read(&o->list, o->t, 0, err)) != CT_OK || (st = ct_st_index(&o->list, o->t, err)) != CT_OK)
        return st;
    if (config) {
        ct_json j;
        ct_json_init(&j, "folder/config.json", config, strlen(config), err);
        if ((st = ct_mlx_config_read(&o->config, o->t, &j)) != CT_OK)
            return st;
    }
    if ((st = ct_mlx_push(o->t, &o->list, &o->config, err)) == CT_OK)
        st = ct_tensors_index(o->t, err);
    return st;
}

static void opens(struct opened *o, const char *config)
{
    ct_error err = {0};
    if (open_shard(o, config, &err) != CT_OK)
        fail_msg("%s", err.text);
}

static void refuses(ct_status code, const char *config, const char *words)
{
    struct opened o;
    ct_error err = {0};
    ct_status st = open_shard(&o, config, &err);
    if (st != code || strstr(err.text, words) == NULL)
        fail_msg("expected %d with '%s', found %d: %s", code, words, st, err.text);
    assert_true(strlen(err.text) < CT_ERROR_TEXT - 1); /* not cut off */
    done(&o);
}

static const uint8_t *raw(const struct opened *o, const char *name)
{
    const struct st_tensor *x = ct_st_find(&o->list, (ct_str){name, strlen(name)});
    assert_non_null(x);
    assert_true(x->taken);
    return x->data;
}

#define UP "model.layers.0.mlp.up_proj"

static void merges_every_type(void **state)
{
    (void)state;
    static const struct {
        const char *type, *suffix;
        size_t width;
    } scales[] = {{"BF16", "", 2}, {"F16", "_f16", 2}, {"F32", "_f32", 4}};
    for (uint32_t bits = 2; bits <= 8; bits += bits == 6 ? 2 : 1)
        for (uint32_t group = 32; group <= 128; group *= 2)
            for (size_t s = 0; s < 3; s++) {
                struct opened o;
                char config[64], name[32];
                size_t in = 256, width = scales[s].width, q = group * bits / 8;
                begin();
                triple(UP, bits, group, in, scales[s].type, width);
                snprintf(config, sizeof config, "{\"group_size\":%u,\"bits\":%u}", group, bits);
                opens(&o, config);
                const ct_tensor *x = ct_tensors_find(o.t, UP ".weight");
                assert_true(ct_tensors_count(o.t) == 1 && x != NULL);
                snprintf(name, sizeof name, "mlx%u_g%u%s", bits, group, scales[s].suffix);
                assert_string_equal(x->dtype->name, name);
                assert_true(x->n_dims == 2 && x->ne[0] == in && x->ne[1] == ROWS && x->n_elems == in * ROWS);
                size_t block = (size_t)x->dtype->block_bytes, n = x->bytes / block;
                assert_true(n == ROWS * in / group && x->bytes == n * block && block == q + 2 * width);
                const uint8_t *p = ct_tensor_bytes(o.t, x);
                for (size_t i = 0; i < n; i++) {
                    assert_memory_equal(p + i * block, raw(&o, UP ".scales") + i * width, width);
                    assert_memory_equal(p + i * block + width, raw(&o, UP ".biases") + i * width, width);
                    assert_memory_equal(p + i * block + 2 * width, raw(&o, UP ".weight") + i * q, q);
                }
                uint8_t part[1024];
                assert_ptr_equal(ct_tensor_part(o.t, x, 2 * block, 3 * block, part), part);
                assert_memory_equal(part, p + 2 * block, 3 * block);
                uint8_t first[8];
                memcpy(first, p, 8);
                ct_tensor_forget(o.t, x);
                ct_tensor_forget(o.t, x);
                assert_memory_equal(ct_tensor_bytes(o.t, x), first, 8);
                done(&o);
            }
    struct opened o;
    begin();
    triple(UP, 4, 32, 128, "U8", 1);
    opens(&o, "{\"mode\":\"mxfp4\"}"); /* bits and group are the mode's */
    const ct_tensor *x = ct_tensors_find(o.t, UP ".weight");
    assert_string_equal(x->dtype->name, "mxfp4");
    const uint8_t *p = ct_tensor_bytes(o.t, x);
    for (size_t i = 0; i < ROWS * 4; i++) {
        assert_int_equal(p[17 * i], raw(&o, UP ".scales")[i]);
        assert_memory_equal(p + 17 * i + 1, raw(&o, UP ".weight") + 16 * i, 16);
    }
    done(&o);
}

static const char *type_of(const struct opened *o, const char *name)
{
    const ct_tensor *x = ct_tensors_find(o->t, name);
    return x ? x->dtype->name : "none";
}

/* The prefixes of other writers, in the files, in config.json, or in one of them. */
static void applies_overrides(void **state)
{
    (void)state;
    static const char *const in_file[] = {"", "language_model.", "model.language_model."};
    static const char *const in_config[] = {"", "language_model.", "model.language_model."};
    for (size_t f = 0; f < 3; f++)
        for (size_t c = 0; c < 3; c++) {
            struct opened o;
            char name[128], config[512];
            const char *rest = f == 2 ? "layers.0.mlp.up_proj" : UP,
                       *embed = f == 2 ? "embed_tokens" : "model.embed_tokens";
            begin();
            snprintf(name, sizeof name, "%s%s", in_file[f], rest);
            triple(name, 6, 64, 128, "BF16", 2);
            snprintf(name, sizeof name, "%s%s", in_file[f], embed);
            triple(name, 4, 32, 128, "BF16", 2);
            snprintf(
                config, sizeof config,
                "{\"group_size\":32,\"bits\":4,\"mode\":\"affine\",\"%s%s\":{\"group_size\":64,\"bits\":6},\"x\":false,"
                "\"%s%s\":true,\"linear_class\":\"y\"}",
                in_config[c], c == 2 ? "layers.0.mlp.up_proj" : UP, in_config[c],
                c == 2 ? "embed_tokens" : "model.embed_tokens");
            opens(&o, config);
            assert_string_equal(type_of(&o, UP ".weight"), "mlx6_g64");
            assert_string_equal(type_of(&o, "model.embed_tokens.weight"), "mlx4_g32");
            assert_int_equal(o.t->n_notes, 0);
            done(&o);
        }
}

/* config.json says nothing: rows are as long as the norm, q's outputs, or the gate's say. */
static void infers_from_shapes(void **state)
{
    (void)state;
    struct opened o;
    static const char *const silent[] = {NULL, "null", "{\"" UP "\":false}"};
    for (size_t i = 0; i < 3; i++) {
        begin();
        entry("model.norm.weight", "BF16", 1, 256, 2);
        triple(UP, 3, 128, 256, "F16", 2);
        triple("model.layers.0.self_attn.q_proj", 8, 32, 256, "F16", 2);
        triple("model.layers.0.mlp.gate_proj", 5, 64, 256, "F32", 4);
        opens(&o, silent[i]);
        assert_string_equal(type_of(&o, UP ".weight"), "mlx3_g128_f16");
        assert_string_equal(type_of(&o, "model.layers.0.self_attn.q_proj.weight"), "mlx8_g32_f16");
        assert_string_equal(type_of(&o, "model.layers.0.mlp.gate_proj.weight"), "mlx5_g64_f32");
        assert_int_equal(o.t->n_notes, 1);
        done(&o);
    }
    begin();
    entry("model.layers.0.self_attn.q_proj.weight", "BF16", 128, 8, 2);
    entry("model.layers.0.mlp.gate_proj.weight", "BF16", 64, 8, 2);
    triple("model.layers.0.self_attn.o_proj", 4, 32, 128, "BF16", 2);
    triple("model.layers.0.mlp.down_proj", 4, 32, 64, "U8", 1);
    opens(&o, NULL);
    assert_string_equal(type_of(&o, "model.layers.0.self_attn.o_proj.weight"), "mlx4_g32");
    assert_string_equal(type_of(&o, "model.layers.0.mlp.down_proj.weight"), "mxfp4");
    done(&o);
    begin();
    triple(UP, 4, 32, 128, "BF16", 2); /* nothing else that could say */
    refuses(CT_EFORMAT, NULL, "does not say how");
}

static void refuses_contradictions(void **state)
{
    (void)state;
    for (size_t norm = 0; norm < 2; norm++) { /* with and without a witness */
        begin();
        if (norm)
            entry("model.norm.weight", "BF16", 1, 128, 2);
        triple(UP, 4, 64, 128, "BF16", 2);
        const char *words = norm ? "the shape of 4 bits in groups of 64" : "config.json says";
        refuses(CT_EFORMAT, "{\"group_size\":64,\"bits\":8}", words);
        refuses(CT_EFORMAT, "{\"group_size\":32,\"bits\":4}", words);
        refuses(CT_EFORMAT, "{\"bits\":5}", words);
        refuses(CT_EFORMAT, "{\"group_size\":64,\"bits\":4,\"" UP "\":{\"group_size\":64,\"bits\":6}}", words);
        refuses(CT_EFORMAT, "{\"group_size\":64,\"bits\":0}", words);
        refuses(CT_EFORMAT, "{\"group_size\":18446744073709551615,\"bits\":2}", words);
        if (norm) /* the product is right, the row is not */
            refuses(CT_EFORMAT, "{\"group_size\":32,\"bits\":8}", words);
    }
    begin();
    triple(UP, 4, 64, 128, "BF16", 2);
    refuses(CT_EFORMAT, "{\"bits\":-4}", "config.json");
    refuses(CT_EFORMAT, "{\"bits\":\"4\"}", "config.json");
    refuses(CT_EFORMAT, "{\"mode\":\"mxfp4\"}", "expected '" UP ".scales' of type U8");
    begin();
    triple(UP, 4, 16, 128, "BF16", 2);
    refuses(CT_EUNSUPPORTED, "{\"group_size\":16,\"bits\":4}", "groups of 32, 64 or 128");
    begin();
    triple(UP, 7, 32, 128, "BF16", 2);
    refuses(CT_EUNSUPPORTED, "{\"group_size\":32,\"bits\":7}", "2, 3, 4, 5, 6 or 8 bits");
}

static void refuses_other_modes(void **state)
{
    (void)state;
    begin();
    entry("model.norm.weight", "BF16", 1, 128, 2);
    triple(UP, 4, 16, 128, "U8", 1);
    refuses(CT_EUNSUPPORTED, "{\"mode\":\"nvfp4\"}", "nvfp4");
    refuses(CT_EUNSUPPORTED, NULL, "nvfp4");
    refuses(CT_EUNSUPPORTED, "{\"mode\":\"nf4\"}", "'nf4'");
    begin();
    entry("model.norm.weight", "BF16", 1, 128, 2);
    triple(UP, 8, 32, 128, "U8", 1);
    refuses(CT_EUNSUPPORTED, "{\"mode\":\"mxfp8\"}", "mxfp8");
    refuses(CT_EUNSUPPORTED, NULL, "mxfp8");
}

static void refuses_broken_triples(void **state)
{
    (void)state;
    static const char *const config = "{\"group_size\":64,\"bits\":4}";
    static const char weight[] = UP ".weight", scales[] = UP ".scales", biases[] = UP ".biases";
    begin();
    entry(weight, "U32", 4, 16, 4);
    refuses(CT_EFORMAT, config, "'" UP ".scales' is missing");
    entry(scales, "BF16", 4, 2, 2);
    refuses(CT_EFORMAT, config, "no '" UP ".biases'");
    entry(biases, "F16", 4, 2, 2);
    refuses(CT_EFORMAT, config, "of the type of its scales, BF16, found F16");
    begin();
    entry(weight, "U32", 4, 16, 4);
    entry(scales, "F64", 4, 2, 8);
    refuses(CT_EFORMAT, config, "found F64");
    begin();
    entry(weight, "U32", 4, 16, 4);
    entry(scales, "U8", 4, 4, 1);
    entry(biases, "U8", 4, 4, 1);
    refuses(CT_EFORMAT, "{\"mode\":\"mxfp4\"}", "expected no '" UP ".biases'");
    begin();
    entry(weight, "U32", 4, 16, 4);
    entry(scales, "U8", 4, 4, 1); /* bytes where config.json says affine: the mode was lost */
    refuses(CT_EFORMAT, config, "of type BF16, F16 or F32 for the mode affine");
    begin();
    entry(scales, "BF16", 4, 2, 2);
    refuses(CT_EFORMAT, config, "found none");
    begin();
    entry(biases, "BF16", 4, 2, 2);
    refuses(CT_EFORMAT, config, "found none");
    begin();
    entry(weight, "BF16", 4, 16, 2);
    entry(scales, "BF16", 4, 2, 2);
    refuses(CT_EFORMAT, config, "of type U32");
    begin();
    entry(weight, "U32", 4, 16, 4);
    entry(scales, "BF16", 2, 4, 2);
    entry(biases, "BF16", 4, 2, 2);
    refuses(CT_EFORMAT, config, "4 rows");
    begin();
    entry(weight, "U32", 4, 16, 4);
    entry(scales, "BF16", 4, 2, 2);
    entry(biases, "BF16", 4, 3, 2);
    refuses(CT_EFORMAT, config, "4 rows");
    begin();
    entry(weight, "U32", 1, 16, 4);
    entry(scales, "BF16", 1, 2, 2);
    entry(biases, "BF16", 1, 2, 2);
    refuses(CT_EFORMAT, config, "expected matrices");
    begin();
    entry(weight, "U32", 4, 0, 4);
    entry(scales, "BF16", 4, 0, 2);
    entry(biases, "BF16", 4, 0, 2);
    refuses(CT_EFORMAT, config, "expected matrices");
}

/* Heads that old converters copied from the embedding, whole or in part; towers; other programs' scales. */
static void leaves_the_rest(void **state)
{
    (void)state;
    static const char *const config = "{\"group_size\":32,\"bits\":4}";
    struct opened o;
    begin();
    triple("language_model.lm_head", 4, 32, 64, "BF16", 2);
    opens(&o, config);
    assert_string_equal(type_of(&o, "lm_head.weight"), "mlx4_g32");
    assert_int_equal(o.t->n_notes, 0);
    done(&o);
    static const char *const some[][2] = {{"lm_head.weight", NULL},
                                          {"lm_head.weight", "lm_head.scales"},
                                          {"lm_head.scales", "lm_head.biases"},
                                          {"lm_head.biases", NULL}};
    for (size_t i = 0; i < 4; i++) {
        begin();
        for (size_t k = 0; k < 2 && some[i][k]; k++)
            entry(some[i][k], strstr(some[i][k], "weight") ? "U32" : "BF16", 4, 2,
                  strstr(some[i][k], "weight") ? 4 : 2);
        opens(&o, config);
        assert_int_equal(ct_tensors_count(o.t), 0);
        assert_int_equal(o.t->n_notes, 1);
        for (size_t k = 0; k < o.list.n; k++)
            assert_true(o.list.at[k].taken);
        done(&o);
    }
    begin();
    triple("vision_tower.encoder.layers.0.mlp.fc1", 4, 64, 128, "BF16", 2);
    entry("model.layers.0.mlp.gate_proj.qweight", "I32", 4, 4, 4);
    entry("model.layers.0.mlp.gate_proj.scales", "F16", 4, 4, 2);
    entry("lm_head.weight", "BF16", 4, 4, 2); /* a head in floats is a head */
    entry("model.norm.weight", "BF16", 1, 4, 2);
    opens(&o, config);
    for (size_t k = 0; k < o.list.n; k++)
        assert_false(o.list.at[k].taken);
    assert_int_equal(ct_tensors_count(o.t), 0);
    done(&o);
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    ct_status st = CT_ENOMEM;
    begin();
    triple(UP, 4, 32, 64, "BF16", 2);
    triple("model.embed_tokens", 6, 32, 64, "BF16", 2);
    for (size_t n = 1; st != CT_OK; n++) {
        struct opened o;
        ct_error err = {0};
        ct_mem_fail_at(n);
        st = open_shard(&o, "{\"group_size\":32,\"bits\":4,\"model.embed_tokens\":{\"group_size\":32,\"bits\":6}}",
                        &err);
        const uint8_t *p = st == CT_OK ? ct_tensor_bytes(o.t, ct_tensors_at(o.t, 0)) : NULL;
        ct_mem_fail_at(0);
        assert_true(st == CT_OK || st == CT_ENOMEM);
        if (st == CT_OK && p == NULL)
            st = CT_ENOMEM; /* made on demand: the last to fail */
        done(&o);
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_every_type),   cmocka_unit_test(applies_overrides),
        cmocka_unit_test(infers_from_shapes),  cmocka_unit_test(refuses_contradictions),
        cmocka_unit_test(refuses_other_modes), cmocka_unit_test(refuses_broken_triples),
        cmocka_unit_test(leaves_the_rest),     cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
