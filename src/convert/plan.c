/* What becomes of each tensor: its name, type and rows in the file that is written. Reads no weights. */
#include "convert/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/names.h"

/* ---- the type that was asked for ---- */

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

ct_status ct_convert_refuse_type(const char *type, ct_error *err)
{
    char known[160] = "";
    size_t at = 0;
    for (size_t i = 0; ct_mixture_at(i) && at + 12 < sizeof known; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s ", ct_mixture_at(i)->name);
    return ct_fail(err, CT_EINVAL, "type", "expected a type %sor, of MLX, mlx4 or mlx8, found '%.20s'", known, type);
}

static ct_status mlx_target(struct target *g, const char *out, const ct_convert_options *opt, ct_error *err)
{
    char *end;
    int32_t group = opt->group ? opt->group : 64;
    ct_mlx m = {.bits = (int32_t)strtol(opt->type + 3, &end, 10), .group = group, .scales = CT_BF16};
    if (end == opt->type + 3 || *end != '\0')
        return ct_convert_refuse_type(opt->type, err);
    if (ends_with(out, ".gguf"))
        return ct_fail(err, CT_EINVAL, out, "%s is a type of MLX, whose models are folders: name one, not '%.100s'",
                       opt->type, out);
    g->form = FORM_FOLDER;
    g->mixture = ct_mixture_find("bf16");
    g->grouped = ct_mlx_dtype(m);
    if (g->grouped)
        return CT_OK;
    return ct_fail(err, CT_EINVAL, "type",
                   "expected 2, 3, 4, 5, 6 or 8 bits and a group of 32, 64 or 128, found %d and %d", m.bits, group);
}

ct_status ct_target_of(struct target *g, const char *out, const ct_convert_options *opt, ct_error *err)
{
    *g = (struct target){0};
    if (strncmp(opt->type, "mlx", 3) == 0)
        return mlx_target(g, out, opt, err);
    g->mixture = ct_mixture_find(opt->type);
    if (g->mixture == NULL)
        return ct_convert_refuse_type(opt->type, err);
    if (opt->group)
        return ct_fail(err, CT_EINVAL, "group", "a group belongs to the types of MLX, found %d for %s", opt->group,
                       g->mixture->name);
    if (ends_with(out, ".gguf"))
        return CT_OK;
    if (ends_with(out, ".safetensors"))
        return ct_fail(err, CT_EINVAL, out,
                       "safetensors come as a folder with all that belongs to them: name one, not '%.100s'", out);
    if (!ct_dtype_get((int32_t)g->mixture->base)->quantized)
        g->form = FORM_FOLDER;
    else if (ct_is_folder(out) || ends_with(out, "/"))
        return ct_fail(err, CT_EINVAL, out,
                       "%s is a type of GGUF, whose models are files: name one, not the folder '%.100s'",
                       g->mixture->name, out);
    return CT_OK;
}

/* ---- tensors ---- */

void ct_conversion_note(ct_conversion *r, const char *fmt, ...)
{
    va_list ap;
    if (r->n_notes == CT_CONVERT_NOTES)
        return;
    va_start(ap, fmt);
    vsnprintf(r->notes[r->n_notes++], CT_ERROR_TEXT, fmt, ap);
    va_end(ap);
}

static bool push(struct plan *p, struct plan_item **item, ct_out_tensor **out)
{
    if (p->n == p->room)
        return false;
    *item = &p->items[p->n];
    *out = &p->out[p->n++];
    return true;
}

/* The type a tensor gets. Vectors, which are norms, are f32 in GGUF as llama.cpp wants them. */
static const ct_dtype_info *type_of(const struct plan *p, const ct_name *name, int32_t layer, size_t row)
{
    const struct target *g = &p->target;
    const ct_dtype_info *plain = ct_dtype_get((int32_t)g->mixture->base);
    if (name->use == CT_WEIGHT_VECTOR)
        return g->form == FORM_GGUF ? ct_dtype_get(CT_F32) : plain;
    if (g->form == FORM_FOLDER)
        return g->grouped && row % (size_t)g->grouped->block_elems == 0 ? g->grouped : plain;
    ct_mixture_model m = {.layers = p->cfg.layers,
                          .heads = p->cfg.heads,
                          .kv_heads = p->cfg.kv_heads,
                          .tied = p->tied,
                          .importance = p->importance != NULL};
    return ct_mixture_type(g->mixture, &m, name->gguf, layer, row);
}

/* llama.cpp wants as many rows as there are tokens; folders may have some more. */
static size_t rows_of(const struct plan *p, const ct_tensors *t, const ct_name *name, const ct_tensor *src)
{
    const ct_kv_pair *tokens = ct_tensors_kv(t, "tokenizer.ggml.tokens");
    bool cut = p->target.form == FORM_GGUF && name->rows == 'V' && tokens && tokens->count < src->ne[1];
    return cut ? (size_t)tokens->count : src->ne[1];
}

static ct_status add(struct plan *p, const ct_tensors *t, const ct_name *name, int32_t layer, ct_error *err)
{
    const ct_tensor *src;
    struct plan_item *item;
    ct_out_tensor *out;
    ct_status st = ct_name_find(&src, t, name, layer, &p->cfg, err);
    if (st != CT_OK || src == NULL)
        return st;
    const ct_dtype_info *type = type_of(p, name, layer, src->ne[0]);
    bool centred = p->target.form == FORM_FOLDER, vector = name->use == CT_WEIGHT_VECTOR;
    if (!push(p, &item, &out))
        return ct_fail(err, CT_EINTERNAL, NULL, "more tensors than were counted");
    *out = (ct_out_tensor){.dtype = type, .n_dims = src->n_dims};
    ct_name_format(name, centred ? CT_NAMES_HF : CT_NAMES_GGUF, layer, out->name);
    memcpy(out->ne, src->ne, sizeof out->ne);
    *item = (struct plan_item){.src = src};
    out->ne[1] = rows_of(p, t, name, src);
    if (name->use == CT_WEIGHT_EMBED)
        p->embed_rows = out->ne[1];
    if (p->importance && type->quantized) {
        char key[CT_NAME_MAX];
        ct_name_format(name, CT_NAMES_GGUF, layer, key);
        item->importance = ct_imatrix_find(p->importance, key, src->ne[0]);
    }
    item->add = !vector || ct_tensors_norms_centred(t) == centred ? 0.0f : centred ? -1.0f : 1.0f;
    item->how = type == src->dtype && item->add == 0 ? NULL : ct_encoder_get(type->type);
    if (item->how == NULL && (type != src->dtype || item->add != 0))
        return ct_fail(err, CT_EUNSUPPORTED, out->name, "expected a type that carat writes for '%s', found %s",
                       out->name, type->name);
    if (!ct_out_tensor_measure(out))
        return ct_fail(err, CT_EINTERNAL, out->name, "rows of '%s' are no whole blocks of %s", out->name, type->name);
    return CT_OK;
}

/* Tensors that Gemma 3's text model does not know, as a vision tower in a GGUF file: kept there, left out of a folder. */
static ct_status add_strangers(struct plan *p, const ct_tensors *t, ct_conversion *result, ct_error *err)
{
    size_t left_out = 0, known = p->n;
    for (size_t i = 0; i < ct_tensors_count(t); i++) {
        const ct_tensor *x = ct_tensors_at(t, i);
        struct plan_item *item;
        ct_out_tensor *out;
        size_t k = 0;
        while (k < known && p->items[k].src != x)
            k++;
        if (k < known)
            continue;
        if (p->target.form == FORM_FOLDER || ct_tensors_naming(t) != CT_NAMES_GGUF || x->name.len >= sizeof out->name) {
            left_out++;
            continue;
        }
        if (!push(p, &item, &out))
            return ct_fail(err, CT_EINTERNAL, NULL, "more tensors than were counted");
        *out = (ct_out_tensor){.dtype = x->dtype, .n_dims = x->n_dims, .bytes = x->bytes};
        memcpy(out->name, x->name.data, x->name.len);
        memcpy(out->ne, x->ne, sizeof out->ne);
        *item = (struct plan_item){.src = x};
    }
    if (left_out > 0)
        ct_conversion_note(result, "%zu tensors that are no part of the text model were left out", left_out);
    return CT_OK;
}

static void tell(const struct plan *p, ct_conversion *result)
{
    size_t fallen = 0, lossy = 0;
    const ct_dtype_info *from = NULL;
    for (size_t i = 0; i < p->n; i++) {
        const struct plan_item *item = &p->items[i];
        const ct_dtype_info *to = p->out[i].dtype;
        if (item->how && item->src->dtype->quantized && to->quantized && lossy++ == 0)
            from = item->src->dtype;
        fallen += p->target.form == FORM_GGUF && p->out[i].n_dims > 1 && !to->quantized &&
                  ct_dtype_get((int32_t)p->target.mixture->base)->quantized && item->how;
    }
    if (lossy > 0)
        ct_conversion_note(result,
                           "%zu tensors are quantized already, the first as %s: their losses add to those of %s", lossy,
                           from->name, p->target.grouped ? p->target.grouped->name : p->target.mixture->name);
    if (fallen > 0)
        ct_conversion_note(result, "%zu matrices have rows that no block divides, and are f16", fallen);
}

ct_status ct_plan_make(struct plan *p, const ct_tensors *t, const struct target *g, const ct_imatrix *importance,
                       ct_conversion *result, ct_error *err)
{
    *p = (struct plan){.target = *g, .importance = importance};
    ct_status st = ct_config_read(&p->cfg, t, err);
    if (st != CT_OK)
        return st;
    p->room = ct_tensors_count(t);
    p->items = ct_calloc(p->room, sizeof *p->items);
    p->out = ct_calloc(p->room, sizeof *p->out);
    if (p->items == NULL || p->out == NULL)
        return ct_fail(err, CT_ENOMEM, ct_tensors_path(t), "out of memory for the list of %zu tensors", p->room);
    const ct_tensor *head;
    st = ct_name_find(&head, t, ct_name_row("output"), -1, &p->cfg, err);
    p->tied = head == NULL;
    for (int32_t layer = -1; layer < p->cfg.layers; layer++) {
        const ct_name *name;
        for (size_t i = 0; (name = ct_name_at(i)) != NULL && st == CT_OK; i++)
            if (name->per_layer == (layer >= 0))
                st = add(p, t, name, layer, err);
    }
    if (st == CT_OK)
        st = add_strangers(p, t, result, err);
    if (st == CT_OK)
        tell(p, result);
    return st;
}

void ct_plan_free(struct plan *p)
{
    ct_free(p->items);
    ct_free(p->out);
    *p = (struct plan){0};
}
