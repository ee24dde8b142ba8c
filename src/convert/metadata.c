/* What a GGUF file says of itself: the keys of the model that was read, whatever it was read from, with new values where they
 * speak of types, and without those that speak of the old file. Which keys a folder's reader makes is known in formats/. */
#include <string.h>

#include "base/mem.h"
#include "convert/plan.h"

static bool starts_with(ct_str s, const char *z)
{
    size_t n = strlen(z);
    return s.len >= n && memcmp(s.data, z, n) == 0;
}

/* Of the old file, not of the model. */
static bool dropped(ct_str key)
{
    return starts_with(key, "split.") || starts_with(key, "quantize.imatrix.") || ct_str_is(key, "general.alignment") ||
           ct_str_is(key, "general.file_type") || ct_str_is(key, "general.quantization_version");
}

/* Arrays with an element per token: no longer than the embedding, or llama.cpp would miss rows. */
static bool per_token(ct_str key)
{
    return ct_str_is(key, "tokenizer.ggml.tokens") || ct_str_is(key, "tokenizer.ggml.scores") ||
           ct_str_is(key, "tokenizer.ggml.token_type");
}

static void put_u32(struct metadata *m, const char *key, uint8_t at[4], uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> 8 * i);
    m->kv[m->n++] = (ct_kv_pair){.key = {key, strlen(key)}, .type = CT_KV_U32, .count = 1, .data = at};
}

ct_status ct_metadata_make(struct metadata *m, const ct_tensors *t, const struct plan *p, ct_error *err)
{
    size_t rows = p->embed_rows, n = ct_tensors_kv_count(t);
    *m = (struct metadata){.kv = ct_calloc(n + 2, sizeof *m->kv)};
    if (m->kv == NULL)
        return ct_fail(err, CT_ENOMEM, ct_tensors_path(t), "out of memory for %zu keys", n);
    bool told = false;
    for (size_t i = 0; i < n; i++) {
        const ct_kv_pair *kv = ct_tensors_kv_at(t, i);
        if (dropped(kv->key))
            continue;
        /* where llama.cpp's own files have them: behind general.*, in front of the model's numbers */
        if (!told && !starts_with(kv->key, "general.")) {
            put_u32(m, "general.file_type", m->file_type, p->target.mixture->file_type);
            put_u32(m, "general.quantization_version", m->version, 2);
            told = true;
        }
        m->kv[m->n] = *kv;
        if (per_token(kv->key) && kv->count > rows)
            m->kv[m->n].count = rows;
        m->n++;
    }
    return CT_OK;
}

void ct_metadata_free(struct metadata *m)
{
    ct_free(m->kv);
    *m = (struct metadata){0};
}
