/* From the files of a folder to a directory: shards to tensors, configuration to metadata, in this order.
 *
 * A tensor becomes one of the directory if it is the text model's and of a type that is computed with; a vision tower and a
 * projector are left out, and the user is told. Which files there are is folder.c's. */
#include "formats/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "formats/json.h"
#include "formats/mlx.h"

/* ---- the index ----------------------------------------------------------------------------------------------------- */

/* Walks the weight_map of an index. */
struct index_walk {
    ct_json json;
    bool found; /* inside of weight_map */
};

static ct_status no_map(const char *path, ct_error *err)
{
    return ct_fail(err, CT_EFORMAT, path, "'%s' is damaged: expected a weight_map, found none", ct_path_tail(path));
}

static void walk_begin(struct index_walk *w, const char *path, const ct_map *map, ct_error *err)
{
    ct_json_str key;
    w->found = false;
    ct_json_init(&w->json, path, map->data, map->size, err);
    ct_json_object(&w->json);
    while (!w->found && ct_json_key(&w->json, &key)) {
        if (ct_json_is(key, "weight_map"))
            w->found = ct_json_object(&w->json);
        else
            ct_json_skip(&w->json);
    }
}

static bool walk_next(struct index_walk *w, ct_json_str *name, ct_json_str *file)
{
    return w->found && ct_json_key(&w->json, name) && ct_json_string(&w->json, file);
}

/* What stands behind the map. */
static ct_status walk_end(struct index_walk *w, const char *path, ct_error *err)
{
    ct_json_str key;
    while (w->found && ct_json_key(&w->json, &key)) {
        if (ct_json_is(key, "weight_map"))
            ct_json_fail(&w->json, "weight_map once", "it twice");
        else
            ct_json_skip(&w->json);
    }
    ct_status st = ct_json_end(&w->json);
    return st == CT_OK && !w->found ? no_map(path, err) : st;
}

static bool file_less(const void *arg, uint32_t a, uint32_t b)
{
    const ct_str *names = arg;
    return ct_str_compare(names[a], names[b]) < 0;
}

/* A plain name of a safetensors file: an index is no reason to read elsewhere. */
static bool plain_name(ct_str s)
{
    static const char tail[] = ".safetensors";
    size_t n = sizeof tail - 1;
    if (s.len <= n || s.len > 255 || memcmp(s.data + s.len - n, tail, n) != 0 || s.data[0] == '.')
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] == '/' || s.data[i] == '\\' || s.data[i] == '\0')
            return false;
    return true;
}

ct_status ct_hf_index_files(ct_str **names, size_t *n, ct_tensors *t, const char *path, const ct_map *map,
                            ct_error *err)
{
    struct index_walk w;
    ct_json_str name, file;
    char quote[CT_QUOTE];
    size_t entries = 0, room = 0;
    *n = 0;
    walk_begin(&w, path, map, err);
    while (walk_next(&w, &name, &file))
        entries++;
    ct_status st = walk_end(&w, path, err);
    if (st != CT_OK)
        return st;
    if (entries == 0 || entries > CT_MAX_TENSORS)
        return ct_fail(err, CT_EFORMAT, path, "'%s': expected 1 to %d tensors in the weight_map, found %zu",
                       ct_path_tail(path), CT_MAX_TENSORS, entries);
    ct_str *all = ct_calloc(entries, sizeof *all);
    uint32_t *order = ct_calloc(entries, sizeof *order);
    char *text = ct_tensors_alloc(t, map->size); /* unescaped names are not longer than the text */
    *names = ct_tensors_alloc(t, entries * sizeof **names);
    if (all == NULL || order == NULL || text == NULL || *names == NULL) {
        st = ct_fail(err, CT_ENOMEM, path, "out of memory for the index '%s'", ct_path_tail(path));
        goto done;
    }
    walk_begin(&w, path, map, err);
    while (room < entries && walk_next(&w, &name, &file)) {
        all[room] = (ct_str){text, ct_json_unescape(file, text)};
        text += all[room].len;
        if (!plain_name(all[room])) {
            st = ct_fail(err, CT_EFORMAT, path,
                         "'%s': expected the names of .safetensors files beside it in the weight_map, found '%s'",
                         ct_path_tail(path), ct_quote(quote, all[room]));
            goto done;
        }
        room++;
    }
    ct_sort(order, room, file_less, all);
    for (size_t i = 0; i < room; i++)
        if (i == 0 || ct_str_compare(all[order[i - 1]], all[order[i]]) != 0)
            (*names)[(*n)++] = all[order[i]];
done:
    ct_free(all);
    ct_free(order);
    return st;
}

static ct_str file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    return (ct_str){name, strlen(name)};
}

/* Does every tensor of the index lie where it says? */
static ct_status check_index(const struct st_list *list, const ct_tensors *t, const char *path, const ct_map *map,
                             ct_error *err)
{
    struct index_walk w;
    ct_json_str name, file;
    char quote[CT_QUOTE], other[CT_QUOTE];
    bool vision;
    ct_status st = CT_OK;
    char *text = ct_alloc(2 * map->size + 2 * CT_ST_NAME_EXTRA); /* a name in both forms, or two names */
    if (text == NULL)
        return ct_fail(err, CT_ENOMEM, path, "out of memory for the index '%s'", ct_path_tail(path));
    walk_begin(&w, path, map, err);
    while (st == CT_OK && walk_next(&w, &name, &file)) {
        char *behind = text + map->size + CT_ST_NAME_EXTRA;
        size_t n = ct_json_unescape(name, behind);
        ct_str canonical = ct_st_canonical(text, behind, n, &vision);
        const struct st_tensor *x = ct_st_find(list, canonical);
        ct_str said = {behind, ct_json_unescape(file, behind)};
        if (x == NULL)
            st = ct_fail(err, CT_EFORMAT, path, "expected '%s' in '%s', as '%s' says, found it in none of the files",
                         ct_quote(quote, canonical), ct_quote(other, said), ct_path_tail(path));
        else if (ct_str_compare(said, file_name(t->more[x->shard].path)) != 0)
            st = ct_fail(err, CT_EFORMAT, path,
                         "expected '%s' in '%s', as '%s' says, found it in another file: files of different downloads?",
                         ct_quote(quote, canonical), ct_quote(other, said), ct_path_tail(path));
    }
    ct_free(text);
    return st != CT_OK ? st : walk_end(&w, path, err);
}

/* ---- tensors ------------------------------------------------------------------------------------------------------- */

static bool ends_in(ct_str s, const char *tail)
{
    size_t n = strlen(tail);
    return s.len >= n && memcmp(s.data + s.len - n, tail, n) == 0;
}

static bool has_part(ct_str s, const char *z)
{
    size_t n = strlen(z);
    for (size_t i = 0; i + n <= s.len; i++)
        if (memcmp(s.data + i, z, n) == 0)
            return true;
    return false;
}

/* What people load by mistake, known by how its tensors are called. */
static ct_status refuse_names(const struct st_tensor *x, const char *path, ct_error *err)
{
    if (ends_in(x->name, ".qweight") || ends_in(x->name, ".qzeros"))
        return ct_hf_refuse_method("GPTQ or AWQ (its tensors are called qweight)", path, err);
    if (ends_in(x->name, ".absmax") || has_part(x->name, ".quant_state."))
        return ct_hf_refuse_method("bitsandbytes", path, err);
    if (has_part(x->name, ".lora_A.") || has_part(x->name, ".lora_B."))
        return ct_fail(err, CT_EUNSUPPORTED, path,
                       "expected a whole model in '%s', found a LoRA adapter: merge it into its base first",
                       ct_path_tail(path));
    return CT_OK;
}

static bool is_fp8(st_type type)
{
    return type == ST_F8_E4M3 || type == ST_F8_E5M2 || type == ST_F8_E4M3FNUZ || type == ST_F8_E5M2FNUZ;
}

static bool is_float(st_type type) { return type == ST_F32 || type == ST_F16 || type == ST_BF16; }

/* What was left out, for the notes. */
struct skipped {
    size_t vision, vision_bytes, others;
    ct_str first;
    bool head;
};

/* What is to become of a tensor that mlx.c did not take. */
static ct_status push_one(ct_tensors *t, const struct st_tensor *x, bool tied, struct skipped *out, ct_error *err)
{
    char quote[CT_QUOTE];
    const char *path = t->more[x->shard].path;
    if (x->vision) {
        out->vision++;
        out->vision_bytes += x->bytes;
        return CT_OK;
    }
    ct_status st = refuse_names(x, path, err);
    if (st != CT_OK)
        return st;
    if (is_fp8(x->type) && ends_in(x->name, ".weight"))
        return ct_hf_refuse_method("fp8", path, err);
    if (tied && ct_str_is(x->name, "lm_head.weight")) {
        out->head = true;
        return CT_OK;
    }
    if (is_float(x->type) && x->n_dims <= 4 && x->n_elems > 0)
        return ct_st_push(t, x, err);
    if (ends_in(x->name, ".weight"))
        return ct_fail(
            err, CT_EUNSUPPORTED, path,
            "'%s': expected F32, F16 or BF16 and 1 to 4 dimensions for '%s', found %s and %d%s: get the model in "
            "another type",
            ct_path_tail(path), ct_quote(quote, x->name), ct_st_type_name(x->type), x->n_dims,
            x->n_elems == 0 ? ", one of them 0" : "");
    if (out->others++ == 0)
        out->first = x->name;
    return CT_OK;
}

static ct_status push_all(ct_tensors *t, const struct st_list *list, bool tied, ct_error *err)
{
    char quote[CT_QUOTE];
    struct skipped out = {0};
    for (size_t i = 0; i < list->n; i++) {
        if (list->at[i].taken)
            continue;
        ct_status st = push_one(t, &list->at[i], tied, &out, err);
        if (st != CT_OK)
            return st;
    }
    if (out.vision > 0)
        ct_tensors_add_note(t, "the vision tower is skipped (%zu tensors, %.2f GB): carat reads and writes text",
                            out.vision, (double)out.vision_bytes * 1e-9);
    if (out.others > 0)
        ct_tensors_add_note(t, "%zu tensor%s of no use to Gemma 3 skipped, the first is '%s'", out.others,
                            out.others == 1 ? "" : "s", ct_quote(quote, out.first));
    if (out.head)
        ct_tensors_add_note(t, "lm_head.weight is skipped: the head is the embedding (tie_word_embeddings)");
    return CT_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

/* "safetensors, 2 shards, bf16": the type that most bytes are of. */
static ct_status name_format(ct_tensors *t, ct_error *err)
{
    enum { ROOM = 64 };
    const ct_dtype_info *most = NULL;
    size_t best = 0;
    for (size_t i = 0; ct_dtype_at(i); i++) {
        size_t bytes = 0;
        for (size_t k = 0; k < t->n_tensors; k++)
            bytes += t->tensors[k].dtype == ct_dtype_at(i) ? t->tensors[k].bytes : 0;
        if (bytes > best) {
            best = bytes;
            most = ct_dtype_at(i);
        }
    }
    char *format = ct_tensors_alloc(t, ROOM);
    if (format == NULL)
        return ct_fail(err, CT_ENOMEM, t->path, "out of memory while opening '%s'", ct_path_tail(t->path));
    if (t->n_more > 1)
        snprintf(format, ROOM, "safetensors, %zu shards, %s", t->n_more, most ? most->name : "empty");
    else
        snprintf(format, ROOM, "safetensors, %s", most ? most->name : "empty");
    t->format = format;
    return CT_OK;
}

static ct_status read_shards(struct st_list *list, ct_tensors *t, const struct checkpoint_text *text, ct_error *err)
{
    ct_status st = CT_OK;
    for (size_t i = 0; i < t->n_more && st == CT_OK; i++) {
        st = ct_safetensors_read(list, t, i, err);
        t->file_bytes += t->more[i].map.size;
    }
    if (st == CT_OK)
        st = ct_st_index(list, t, err);
    if (st == CT_OK && text->index.size > 0)
        st = check_index(list, t, text->index_path, &text->index, err);
    return st;
}

static ct_status push_mlx(ct_tensors *t, struct st_list *list, const struct hf_config *c,
                          const struct checkpoint_text *text, ct_error *err)
{
    struct mlx_config how = {.n_modules = 0};
    ct_status st = CT_OK;
    if (c->quantization.len > 0) {
        ct_json j;
        ct_json_init(&j, text->config_path, c->quantization.data, c->quantization.len, err);
        st = ct_mlx_config_read(&how, t, &j);
    }
    if (st == CT_OK)
        st = ct_mlx_push(t, list, &how, err);
    ct_mlx_config_deinit(&how);
    return st;
}

ct_status ct_checkpoint_read(ct_tensors *t, const struct checkpoint_text *text, ct_error *err)
{
    struct hf_config *c = ct_calloc(1, sizeof *c);
    struct st_list list = {0};
    ct_status st;
    if (c == NULL)
        return ct_fail(err, CT_ENOMEM, t->path, "out of memory while opening '%s'", ct_path_tail(t->path));
    t->naming = CT_NAMES_HF;
    t->norms_centred = true;
    if ((st = ct_hf_config_read(c, text->config_path, &text->config, err)) != CT_OK)
        goto done;
    if (text->generation.size > 0)
        st = ct_hf_generation_read(c, t, text->generation_path, &text->generation, err);
    if (st != CT_OK || (st = read_shards(&list, t, text, err)) != CT_OK)
        goto done;
    bool tied = !(c->text.has_bools >> HF_TIED & 1) || c->text.bools[HF_TIED];
    if ((st = push_mlx(t, &list, c, text, err)) != CT_OK || (st = push_all(t, &list, tied, err)) != CT_OK ||
        (st = ct_tensors_index(t, err)) != CT_OK || (st = ct_hf_config_put(c, t, text->config_path, err)) != CT_OK)
        goto done;
    st = name_format(t, err);
done:
    ct_free(list.at);
    ct_free(list.by_name);
    ct_free(c);
    return st;
}
