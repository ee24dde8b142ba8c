/* The oracle as a backend: its table, its buffers and its weights, which stay in the file's own blocks.
 *
 * Matrices are used where they lie (in place, no second copy) and decoded a row at a time; norm vectors become f32. */
#include "ref/ref.h"

#include <string.h>

static const ct_ops table = {
    .isa = "c",
    .embed = ct_ref_embed,
    .rope_table = ct_ref_rope_table,
    .rmsnorm = ct_ref_rmsnorm,
    .linear = ct_ref_linear,
    .head_norm = ct_ref_head_norm,
    .rope = ct_ref_rope,
    .kv_store = ct_ref_kv_store,
    .attention = ct_ref_attention,
    .geglu = ct_ref_geglu,
    .norm_add = ct_ref_norm_add,
    .softcap = ct_ref_softcap,
    .gather = ct_ref_gather,
    .linear_top = ct_ref_linear_top,
};

static const char *const isas[] = {"c", NULL};

static const ct_ops *ops(const char *isa) { return isa == NULL || strcmp(isa, "c") == 0 ? &table : NULL; }

static ct_status buffer_alloc(ct_buffer *b, size_t bytes, ct_error *err)
{
    *b = (ct_buffer){.host = ct_pages_alloc(bytes, false), .bytes = bytes};
    if (b->host == NULL)
        return ct_fail(err, CT_ENOMEM, "ref", "no memory for a buffer of %zu bytes", bytes);
    return CT_OK;
}

static void buffer_free(ct_buffer *b)
{
    ct_pages_free(b->host, b->bytes);
    *b = (ct_buffer){0};
}

static bool supports(const ct_dtype_info *t, ct_weight_use use)
{
    (void)use; /* whatever the dtype table decodes */
    return t != NULL;
}

/* impl is what weight_free gives back: NULL when the blocks belong to the caller. in_place may be NULL: then a copy. */
static ct_status weight_load(ct_weight *w, const void *src, ct_pool *pool, bool *in_place, ct_error *err)
{
    (void)pool;
    size_t row = 0, bytes = 0, rows = w->use == CT_WEIGHT_VECTOR ? 1 : (size_t)w->rows;
    if (in_place)
        *in_place = false;
    if (w->cols <= 0 || w->rows <= 0 || !ct_row_bytes(w->dtype, (size_t)w->cols, &row) || !ct_mul_ok(row, rows, &bytes))
        return ct_fail(err, CT_EFORMAT, w->name,
                       "tensor %s has %d x %d elements: expected rows of whole blocks of %d (%s)", w->name, w->rows,
                       w->cols, w->dtype->block_elems, w->dtype->name);
    if (w->use != CT_WEIGHT_VECTOR && in_place) {
        *in_place = true;
        w->buf = (ct_buffer){.host = (void *)(uintptr_t)src, .bytes = bytes}; /* read only from here on */
        return CT_OK;
    }
    if (w->use == CT_WEIGHT_VECTOR)
        bytes = (size_t)w->cols * sizeof(float);
    void *copy = ct_alloc(bytes);
    if (copy == NULL)
        return ct_fail(err, CT_ENOMEM, w->name, "no memory for tensor %s (%zu bytes)", w->name, bytes);
    if (w->use == CT_WEIGHT_VECTOR)
        ct_row_decode(w->dtype, copy, src, (size_t)w->cols);
    else
        memcpy(copy, src, bytes);
    w->buf = (ct_buffer){.host = copy, .bytes = bytes, .impl = copy};
    return CT_OK;
}

static void weight_free(ct_weight *w)
{
    ct_free(w->buf.impl);
    w->buf = (ct_buffer){0};
}

static size_t scratch_bytes(const ct_limits *l)
{
    size_t a = ct_ref_linear_scratch(l), b = ct_ref_attention_scratch(l);
    a += ct_ref_top_scratch(l);
    return a > b ? a : b;
}

static const ct_backend backend = {
    .name = "ref",
    .default_kv = CT_F32,
    .isas = isas,
    .ops = ops,
    .buffer_alloc = buffer_alloc,
    .buffer_free = buffer_free,
    .weight_load = weight_load,
    .weight_free = weight_free,
    .supports = supports,
    .kv_page_bytes = ct_ref_kv_page_bytes,
    .scratch_bytes = scratch_bytes,
};

const ct_backend *ct_ref_backend(void) { return &backend; }
