/* MLX's quantized tensors: triples of tensors become one, its blocks interleaved on demand (dtype.h says how a block looks).
 *
 * A row's quants, scales and biases are contiguous in each of the three, group by group, so group n of the whole tensor has its
 * scale at n, whatever its row is. Other programs' quantizations are checkpoint.c's to refuse. What a tensor is for is known for
 * one purpose: how long its rows must be by what other tensors say. */
#include "formats/mlx.h"

#include <string.h>

#include "base/mem.h"

/* One merged tensor: where its parts lie. */
struct triple {
    size_t index; /* in the directory; ascending */
    uint32_t shard[3];
    const uint8_t *part[3]; /* scales, biases (NULL: none), quants */
    size_t size[3];         /* bytes of a part in a block */
    uint8_t *bytes;         /* NULL until asked for */
};

struct made {
    struct triple *at;
    size_t n, room;
};

/* ---- bytes on demand ----------------------------------------------------------------------------------------------- */

static struct triple *triple_of(const ct_tensors *t, size_t index)
{
    const struct made *m = t->made;
    size_t low = 0, high = m->n - 1; /* it is there: the tensor has no data of its own */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (m->at[mid].index < index)
            low = mid + 1;
        else
            high = mid;
    }
    return &m->at[low];
}

static void make_part(const ct_tensors *t, size_t index, size_t off, size_t bytes, void *dst)
{
    const struct triple *x = triple_of(t, index);
    size_t block = (size_t)t->tensors[index].dtype->block_bytes, n = off / block, end = (off + bytes) / block;
    for (uint8_t *p = dst; n < end; n++)
        for (size_t i = 0; i < 3; i++) {
            memcpy(p, x->part[i] + n * x->size[i], x->size[i]);
            p += x->size[i];
        }
}

static const uint8_t *make_bytes(ct_tensors *t, size_t index)
{
    struct triple *x = triple_of(t, index);
    if (x->bytes == NULL) {
        x->bytes = ct_pages_alloc(t->tensors[index].bytes, true);
        if (x->bytes)
            make_part(t, index, 0, t->tensors[index].bytes, x->bytes);
    }
    return x->bytes;
}

static void forget(ct_tensors *t, size_t index)
{
    struct triple *x = triple_of(t, index);
    size_t blocks = t->tensors[index].bytes / (size_t)t->tensors[index].dtype->block_bytes;
    ct_pages_free(x->bytes, t->tensors[index].bytes);
    x->bytes = NULL;
    for (size_t i = 0; i < 3; i++) {
        const ct_map *map = &t->more[x->shard[i]].map;
        if (x->size[i])
            ct_map_forget(map, (size_t)(x->part[i] - map->data), blocks * x->size[i]);
    }
}

static void close_made(ct_tensors *t)
{
    struct made *m = t->made;
    for (size_t i = 0; m && i < m->n; i++)
        ct_pages_free(m->at[i].bytes, t->tensors[m->at[i].index].bytes);
    if (m)
        ct_free(m->at);
    ct_free(m);
    t->made = NULL;
}

/* Room for one more element of an array. */
static bool grow(void **array, size_t *room, size_t n, size_t size)
{
    size_t bigger = *room ? *room * 2 : 64, bytes;
    if (n < *room)
        return true;
    void *p = ct_mul_ok(bigger, size, &bytes) ? ct_realloc(*array, bytes) : NULL;
    if (p == NULL)
        return false;
    *array = p;
    *room = bigger;
    return true;
}

/* ---- config.json --------------------------------------------------------------------------------------------------- */

static const char *const mode_names[] = {"affine", "mxfp4", "mxfp8", "nvfp4"};
static const struct mlx_setting mode_defaults[] = {
    {true, MLX_AFFINE, 4, 64}, {true, MLX_MXFP4, 4, 32}, {true, MLX_MXFP8, 8, 32}, {true, MLX_NVFP4, 4, 16}};

#define INSTEAD "get the model's original weights, an MLX folder or a GGUF file"

static bool read_mode(ct_json *j, mlx_mode *mode)
{
    char quote[CT_QUOTE];
    ct_json_str s;
    if (!ct_json_string(j, &s))
        return false;
    for (size_t i = 0; i < sizeof mode_names / sizeof mode_names[0]; i++)
        if (ct_json_is(s, mode_names[i])) {
            *mode = (mlx_mode)i;
            return true;
        }
    j->status = ct_fail(j->err, CT_EUNSUPPORTED, j->path,
                        "'%s': expected a quantization mode of affine or mxfp4, found '%s'; " INSTEAD,
                        ct_path_tail(j->path), ct_quote(quote, (ct_str){s.data, s.len}));
    return false;
}

static bool is_setting(ct_json_str key)
{
    return ct_json_is(key, "bits") || ct_json_is(key, "group_size") || ct_json_is(key, "mode");
}

/* The value of one of a setting's three keys. */
static void read_setting(ct_json *j, ct_json_str key, struct mlx_setting *s, bool has[2])
{
    if (ct_json_is(key, "mode")) {
        read_mode(j, &s->mode);
        return;
    }
    bool group = ct_json_is(key, "group_size");
    if (!ct_json_null(j)) {
        ct_json_u64(j, group ? &s->group : &s->bits);
        has[group] = true;
    }
    s->given = true;
}

static void fill_defaults(struct mlx_setting *s, const bool has[2])
{
    const struct mlx_setting *d = &mode_defaults[s->mode];
    s->given = s->given || s->mode != MLX_AFFINE;
    s->bits = has[0] ? s->bits : d->bits;
    s->group = has[1] ? s->group : d->group;
}

/* The override of one module: an object, or false or true, which say nothing that the files do not. */
static bool read_module(struct mlx_config *c, ct_tensors *t, ct_json *j, ct_json_str key)
{
    bool has[2] = {false, false}, vision;
    struct mlx_setting how = {0};
    if (ct_json_peek(j) == CT_JSON_BOOL) {
        if (!ct_json_bool(j, &vision))
            return false;
        if (vision) /* true: as all others */
            return true;
    } else {
        ct_json_str k;
        ct_json_object(j);
        while (ct_json_key(j, &k)) {
            if (is_setting(k))
                read_setting(j, k, &how, has);
            else
                ct_json_skip(j);
        }
        if (ct_json_status(j) != CT_OK)
            return false;
        fill_defaults(&how, has);
    }
    void *p = c->modules;
    char *name = ct_tensors_alloc(t, 2 * (key.len + CT_ST_NAME_EXTRA) + 1);
    if (c->n_modules == CT_MAX_TENSORS || name == NULL || !grow(&p, &c->room, c->n_modules, sizeof *c->modules)) {
        j->status = ct_fail(j->err, CT_ENOMEM, j->path, "out of memory for the quantization of '%s'",
                            ct_path_tail(j->path));
        return false;
    }
    c->modules = p;
    char *raw = name + key.len + CT_ST_NAME_EXTRA;
    size_t n = ct_json_unescape(key, raw);
    c->modules[c->n_modules++] = (struct mlx_module){ct_st_canonical(name, raw, n, &vision), how};
    return true;
}

ct_status ct_mlx_config_read(struct mlx_config *c, ct_tensors *t, ct_json *j)
{
    bool has[2] = {false, false};
    ct_json_str key;
    if (ct_json_null(j))
        return CT_OK;
    c->all = (struct mlx_setting){0};
    ct_json_object(j);
    while (ct_json_key(j, &key)) {
        ct_json_type type = ct_json_peek(j);
        if (is_setting(key)) {
            read_setting(j, key, &c->all, has);
        } else if (type == CT_JSON_OBJECT || type == CT_JSON_BOOL) {
            read_module(c, t, j, key);
        } else {
            ct_json_skip(j);
        }
    }
    if (ct_json_status(j) == CT_OK)
        fill_defaults(&c->all, has);
    return ct_json_status(j);
}

void ct_mlx_config_deinit(struct mlx_config *c)
{
    ct_free(c->modules);
    *c = (struct mlx_config){0};
}

/* ---- merging ------------------------------------------------------------------------------------------------------- */

struct merge {
    ct_tensors *t;
    struct st_list *list;
    const struct mlx_config *config;
    ct_error *err;
    char *name;        /* scratch for names, longer than every name of the list by NAME_MORE */
    uint32_t *modules; /* of config, in order of the names */
    bool inferred;
};

#define NAME_MORE 32

#define LIES(m, ...) ct_fail((m)->err, CT_EFORMAT, (m)->t->path, __VA_ARGS__)

static bool ends_in(ct_str s, const char *suffix, ct_str *stem)
{
    size_t n = strlen(suffix);
    if (s.len < n || memcmp(s.data + s.len - n, suffix, n) != 0)
        return false;
    *stem = (ct_str){s.data, s.len - n};
    return true;
}

/* The tensor of a stem and a suffix; NULL when there is none. */
static struct st_tensor *beside(struct merge *m, ct_str stem, const char *suffix)
{
    size_t n = strlen(suffix);
    memcpy(m->name, stem.data, stem.len);
    memcpy(m->name + stem.len, suffix, n);
    return ct_st_find(m->list, (ct_str){m->name, stem.len + n});
}

/* How long a row of a matrix is, by what other tensors say; 0 where they say nothing. */
static size_t row_expected(struct merge *m, ct_str stem)
{
    ct_str layer;
    const struct st_tensor *x = NULL;
    if (ends_in(stem, "self_attn.o_proj", &layer))
        x = beside(m, layer, "self_attn.q_proj.weight");
    else if (ends_in(stem, "mlp.down_proj", &layer))
        x = beside(m, layer, "mlp.gate_proj.weight");
    else
        x = beside(m, (ct_str){"model.", 6}, "norm.weight");
    return x && x->n_dims > 0 ? x->shape[0] : 0;
}

static bool module_less(const void *arg, uint32_t a, uint32_t b)
{
    const struct mlx_module *at = arg;
    return ct_str_compare(at[a].name, at[b].name) < 0;
}

static const struct mlx_setting *setting_of(const struct merge *m, ct_str module)
{
    size_t low = 0, high = m->config->n_modules;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct mlx_module *x = &m->config->modules[m->modules[mid]];
        int c = ct_str_compare(x->name, module);
        if (c == 0)
            return &x->how;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return &m->config->all;
}

/* The three parts of a tensor, and what they say together: a row length, and the product of bits and group. */
struct parts {
    ct_str stem;
    struct st_tensor *quants, *scales, *biases; /* biases NULL where scales are bytes */
    size_t rows, words, groups;                 /* of a row: u32 of quants, scales */
};

/* Shapes and types that need no configuration to be wrong. */
static ct_status check_parts(struct merge *m, struct parts *p)
{
    char quote[CT_QUOTE];
    const char *path = ct_path_tail(m->t->path);
    ct_quote(quote, p->stem);
    if (p->quants == NULL)
        return LIES(m, "'%s': expected '%s.weight' beside '%s.%s', found none", path, quote, quote,
                    p->scales ? "scales" : "biases");
    if (p->quants->type != ST_U32)
        return LIES(m, "'%s': expected '%s.weight' of type U32, as quantized by MLX, since it has scales; found %s",
                    path, quote, ct_st_type_name(p->quants->type));
    if (p->scales == NULL)
        return LIES(m,
                    "'%s': '%s.weight' is quantized (type U32), but '%s.scales' is missing; download the folder again",
                    path, quote, quote);
    st_type type = p->scales->type;
    if (type != ST_BF16 && type != ST_F16 && type != ST_F32 && type != ST_U8)
        return LIES(m, "'%s': expected '%s.scales' of type BF16, F16 or F32 (affine) or U8 (mxfp4), found %s", path,
                    quote, ct_st_type_name(type));
    if (type != ST_U8 && p->biases == NULL)
        return LIES(
            m,
            "'%s': '%s.weight' has scales of type %s but no '%s.biases', which affine quantization needs; convert "
            "it again",
            path, quote, ct_st_type_name(type), quote);
    if (type == ST_U8 && p->biases)
        return LIES(m, "'%s': expected no '%s.biases' beside scales of type U8 (mxfp4 has none), found them", path,
                    quote);
    if (p->biases && p->biases->type != type)
        return LIES(m, "'%s': expected '%s.biases' of the type of its scales, %s, found %s", path, quote,
                    ct_st_type_name(type), ct_st_type_name(p->biases->type));
    if (p->quants->n_dims != 2 || p->scales->n_dims != 2 || (p->biases && p->biases->n_dims != 2) ||
        p->quants->n_elems == 0 || p->scales->n_elems == 0)
        return LIES(m, "'%s': expected matrices for '%s.weight', its scales and biases, found another shape", path,
                    quote);
    p->rows = p->quants->shape[0];
    p->words = p->quants->shape[1];
    p->groups = p->scales->shape[1];
    if (p->scales->shape[0] != p->rows ||
        (p->biases && (p->biases->shape[0] != p->rows || p->biases->shape[1] != p->groups)))
        return LIES(m, "'%s': expected scales and biases for %zu rows of '%s.weight', found %zu x %zu and %zu x %zu",
                    path, p->rows, quote, p->scales->shape[0], p->groups, p->biases ? p->biases->shape[0] : p->rows,
                    p->biases ? p->biases->shape[1] : p->groups);
    return CT_OK;
}

static bool fits(const struct parts *p, const struct mlx_setting *s, size_t row)
{
    size_t have, want;
    return s->bits <= 8 && s->group <= 128 && s->bits * s->group > 0 && ct_mul_ok(p->words, 32, &have) &&
           ct_mul_ok(p->groups, (size_t)(s->bits * s->group), &want) && have == want &&
           (row == 0 || p->groups * (size_t)s->group == row);
}

/* Bits and group of a tensor: what config.json says if the shapes agree, what the shapes say where it says nothing. */
static ct_status find_setting(struct merge *m, const struct parts *p, struct mlx_setting *s)
{
    char quote[CT_QUOTE];
    const char *path = ct_path_tail(m->t->path);
    size_t row = row_expected(m, p->stem);
    bool bytes = p->scales->type == ST_U8;
    struct mlx_setting seen = {.given = false};
    ct_quote(quote, p->stem);
    if (row && row % p->groups == 0 && p->words <= SIZE_MAX / 32 && p->words * 32 % row == 0)
        seen = (struct mlx_setting){true, MLX_AFFINE, p->words * 32 / row, row / p->groups};
    *s = *setting_of(m, p->stem);
    if (!s->given) {
        *s = seen;
        m->inferred = true;
        if (!seen.given)
            return LIES(
                m,
                "'%s': config.json does not say how '%s' is quantized, and its shape fits no row of %zu weights (%zu "
                "words, %zu scales)",
                path, quote, row, p->words, p->groups);
        if (bytes)
            s->mode = s->group == 16 ? MLX_NVFP4 : s->bits == 8 ? MLX_MXFP8 : MLX_MXFP4;
    }
    if (s->mode == MLX_MXFP8 || s->mode == MLX_NVFP4)
        return ct_fail(
            m->err, CT_EUNSUPPORTED, m->t->path,
            "'%s': '%s' is quantized in MLX's mode %s, which carat does not read (affine and mxfp4 it does); " INSTEAD,
            path, quote, mode_names[s->mode]);
    if (bytes != (s->mode == MLX_MXFP4))
        return LIES(m, "'%s': expected '%s.scales' of type %s for the mode %s of config.json, found %s", path, quote,
                    bytes ? "BF16, F16 or F32" : "U8", mode_names[s->mode], ct_st_type_name(p->scales->type));
    if (fits(p, s, row))
        return CT_OK;
    if (seen.given)
        return LIES(
            m,
            "'%s': config.json says %llu bits in groups of %llu for '%s', but its tensors have the shape of %llu "
            "bits in groups of %llu; one of them is of another conversion",
            path, (unsigned long long)s->bits, (unsigned long long)s->group, quote, (unsigned long long)seen.bits,
            (unsigned long long)seen.group);
    return LIES(
        m,
        "'%s': config.json says %llu bits in groups of %llu for '%s', but its rows have %zu words and %zu scales "
        "(for %zu weights by the model's shape)",
        path, (unsigned long long)s->bits, (unsigned long long)s->group, quote, p->words, p->groups, row);
}

/* For the tensor that was pushed last. */
static struct triple *push_triple(ct_tensors *t)
{
    struct made *m = t->made;
    if (m == NULL) {
        t->made = m = ct_calloc(1, sizeof *m);
        if (m == NULL)
            return NULL;
        t->source = (struct tensors_source){make_bytes, make_part, forget, close_made};
    }
    void *p = m->at;
    if (!grow(&p, &m->room, m->n, sizeof *m->at))
        return NULL;
    m->at = p;
    m->at[m->n] = (struct triple){.index = t->n_tensors - 1};
    return &m->at[m->n++];
}

static ct_status merge_parts(struct merge *m, const struct parts *p, const struct mlx_setting *s)
{
    static const size_t widths[] = {[ST_U8] = 1, [ST_F16] = 2, [ST_BF16] = 2, [ST_F32] = 4};
    static const ct_dtype types[] = {[ST_F16] = CT_F16, [ST_BF16] = CT_BF16, [ST_F32] = CT_F32};
    char quote[CT_QUOTE];
    st_type type = p->scales->type;
    const ct_dtype_info *dtype = s->mode == MLX_MXFP4
                                     ? (s->bits == 4 && s->group == 32 ? ct_dtype_get(CT_MXFP4) : NULL)
                                     : ct_mlx_dtype((ct_mlx){(int32_t)s->bits, (int32_t)s->group, types[type]});
    if (dtype == NULL)
        return ct_fail(
            m->err, CT_EUNSUPPORTED, m->t->path,
            "'%s': expected 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128 (mxfp4: 4 bits, 32), found %llu in "
            "groups of %llu for '%s'",
            ct_path_tail(m->t->path), (unsigned long long)s->bits, (unsigned long long)s->group,
            ct_quote(quote, p->stem));
    ct_tensor *x = ct_tensors_push(m->t);
    struct triple *made = x ? push_triple(m->t) : NULL;
    if (made == NULL)
        return ct_fail(m->err, CT_ENOMEM, m->t->path, "out of memory for the tensors of '%s'",
                       ct_path_tail(m->t->path));
    struct st_tensor *const part[3] = {p->scales, p->biases, p->quants};
    const size_t size[3] = {widths[type], p->biases ? widths[type] : 0, (size_t)(s->bits * s->group / 8)};
    for (size_t i = 0; i < 3; i++) {
        made->size[i] = size[i];
        made->part[i] = part[i] ? part[i]->data : p->scales->data; /* a part of no bytes lies anywhere */
        made->shard[i] = part[i] ? part[i]->shard : 0;
        if (part[i])
            part[i]->taken = true;
    }
    x->name = p->quants->name;
    x->dtype = dtype;
    x->n_dims = 2;
    x->ne[0] = p->groups * (size_t)s->group;
    x->ne[1] = p->rows;
    x->n_elems = x->ne[0] * x->ne[1]; /* no overflow: at most four times the bytes of the file */
    x->bytes = p->rows * p->groups * (size_t)dtype->block_bytes;
    return CT_OK;
}

/* A stem that has scales, biases or packed quants. */
static ct_status merge_stem(struct merge *m, ct_str stem)
{
    struct parts p = {.stem = stem,
                      .quants = beside(m, stem, ".weight"),
                      .scales = beside(m, stem, ".scales"),
                      .biases = beside(m, stem, ".biases")};
    bool head = ct_str_is(stem, "lm_head");
    bool whole = p.quants && p.scales && (p.biases || p.scales->type == ST_U8);
    if (head && !whole) { /* what some converters leave of a tied head */
        ct_tensors_add_note(m->t,
                            "'%s': lm_head is not complete and was left out; the embedding serves as the head, as in "
                            "every Gemma 3",
                            ct_path_tail(m->t->path));
        struct st_tensor *const part[] = {p.quants, p.scales, p.biases};
        for (size_t i = 0; i < 3; i++)
            if (part[i])
                part[i]->taken = true;
        return CT_OK;
    }
    if (p.quants == NULL && beside(m, stem, ".qweight"))
        return CT_OK; /* GPTQ's or AWQ's: checkpoint.c has the sentence */
    struct mlx_setting s;
    ct_status st = check_parts(m, &p);
    if (st == CT_OK)
        st = find_setting(m, &p, &s);
    return st == CT_OK ? merge_parts(m, &p, &s) : st;
}

ct_status ct_mlx_push(ct_tensors *t, struct st_list *list, const struct mlx_config *c, ct_error *err)
{
    struct merge m = {.t = t, .list = list, .config = c, .err = err};
    size_t longest = 0;
    ct_status st = CT_OK;
    for (size_t i = 0; i < list->n; i++)
        longest = list->at[i].name.len > longest ? list->at[i].name.len : longest;
    m.name = ct_alloc(longest + NAME_MORE);
    m.modules = ct_calloc(c->n_modules + 1, sizeof *m.modules);
    if (m.name == NULL || m.modules == NULL) {
        st = ct_fail(err, CT_ENOMEM, t->path, "out of memory for the names of '%s'", ct_path_tail(t->path));
        goto done;
    }
    ct_sort(m.modules, c->n_modules, module_less, c->modules);
    for (size_t i = 0; i < list->n && st == CT_OK; i++) {
        const struct st_tensor *x = &list->at[i];
        ct_str stem;
        if (x->vision || x->taken)
            continue;
        if (ends_in(x->name, ".scales", &stem) || ends_in(x->name, ".biases", &stem) ||
            (ends_in(x->name, ".weight", &stem) && x->type == ST_U32))
            st = merge_stem(&m, stem);
    }
    if (st == CT_OK && m.inferred)
        ct_tensors_add_note(
            t, "'%s': config.json does not say how all tensors are quantized; it was taken from their shapes",
            ct_path_tail(t->path));
done:
    ct_free(m.name);
    ct_free(m.modules);
    return st;
}
