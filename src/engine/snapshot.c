/* Copies of ring pages, see snapshot.h. A slot is [local layers][pages of a window][page_bytes]. */
#include "engine/snapshot.h"

#include <string.h>

static int32_t window_pages(int32_t window) { return (window - 1 + CT_KV_PAGE - 1) / CT_KV_PAGE + 1; }

int32_t ct_snapshots_plan(const ct_gemma *m, int32_t context, int32_t chunk, ct_dtype type_k, ct_dtype type_v,
                          int32_t wanted, size_t *slot_bytes, size_t *bytes)
{
    const ct_config *c = &m->cfg;
    int32_t pages = (context + CT_KV_PAGE - 1) / CT_KV_PAGE, ring = window_pages(c->window + chunk), n = wanted;
    size_t locals = 0, page = ct_round_up(m->backend->kv_page_bytes(type_k, type_v, c->kv_heads, c->head_dim), 64);
    size_t cache = ct_kvcache_bytes(m, 1, context, chunk, type_k, type_v, NULL, NULL);
    *slot_bytes = *bytes = 0;
    for (int32_t i = 0; i < c->layers; i++)
        locals += !c->global[i];
    if (wanted == 0 || c->window == 0 || locals == 0 || ring >= pages)
        return 0; /* a ring that holds the whole context never turns */
    if (!ct_mul_ok(locals * (size_t)window_pages(c->window), page, slot_bytes))
        return 0;
    if (wanted < 0) {
        size_t fit = cache / 2 / *slot_bytes;
        n = fit < 1 ? 1 : fit > 8 ? 8 : (int32_t)fit;
    }
    n = n < CT_SNAPSHOT_MOST ? n : CT_SNAPSHOT_MOST;
    return ct_mul_ok((size_t)n, *slot_bytes, bytes) ? n : 0;
}

ct_status ct_snapshots_create(ct_snapshots *s, ct_kvcache *kc, int32_t wanted, ct_error *err)
{
    const ct_kv *kv = &kc->layers[0];
    *s = (ct_snapshots){.kc = kc};
    s->max = ct_snapshots_plan(kc->model, kc->context, kc->chunk, kv->type_k, kv->type_v, wanted, &s->slot_bytes,
                               &s->bytes);
    if (s->max > 0 && (s->mem = ct_pages_alloc(s->bytes, false)) == NULL)
        return ct_fail(err, CT_ENOMEM, NULL, "no memory for %d snapshots of %zu bytes", s->max, s->slot_bytes);
    return CT_OK;
}

void ct_snapshots_free(ct_snapshots *s)
{
    if (s->mem)
        ct_pages_free(s->mem, s->bytes);
    *s = (ct_snapshots){0};
}

/* Only a device can fail at this, and then for good: false, and the slot is worth nothing. */
static bool copy(ct_snapshots *s, int32_t slot, int32_t n, bool restore)
{
    ct_kvcache *kc = s->kc;
    uint8_t *p = s->mem + (size_t)slot * s->slot_bytes;
    int32_t count, first = ct_kvcache_window(kc, n, &count);
    for (int32_t layer = 0; layer < kc->model->cfg.layers; layer++)
        for (int32_t i = 0; kc->layers[layer].ring && i < count; i++) {
            ct_status st = restore ? ct_kvcache_write(kc, layer, 0, first + i, p, NULL)
                                   : ct_kvcache_read(kc, layer, 0, first + i, p, NULL);
            if (st != CT_OK)
                return false;
            p += kc->layers[layer].page_bytes;
        }
    return true;
}

/* Takes one out of the list and returns its slot. */
static int32_t remove_at(ct_snapshots *s, int32_t i)
{
    int32_t slot = s->slot[i];
    s->n--;
    memmove(s->pos + i, s->pos + i + 1, (size_t)(s->n - i) * sizeof *s->pos);
    memmove(s->slot + i, s->slot + i + 1, (size_t)(s->n - i) * sizeof *s->slot);
    return slot;
}

static int32_t free_slot(ct_snapshots *s)
{
    if (s->n == s->max) {
        int32_t victim = 0, least = INT32_MAX;
        for (int32_t i = 0; i < s->n; i++) {
            int32_t gap = (i + 1 < s->n ? s->pos[i + 1] : s->pos[i]) - (i > 0 ? s->pos[i - 1] : 0);
            if (gap < least) {
                least = gap;
                victim = i;
            }
        }
        return remove_at(s, victim);
    }
    for (int32_t slot = 0;; slot++) {
        int32_t i = 0;
        while (i < s->n && s->slot[i] != slot)
            i++;
        if (i == s->n)
            return slot;
    }
}

void ct_snapshots_take(ct_snapshots *s, int32_t n)
{
    if (s->max == 0 || n < s->kc->model->cfg.window || ct_snapshots_last(s, n) == n || !ct_kvcache_whole(s->kc, 0, n))
        return; /* what lies before a whole window is soon computed again */
    int32_t slot = free_slot(s), i = s->n++;
    for (; i > 0 && s->pos[i - 1] > n; i--) {
        s->pos[i] = s->pos[i - 1];
        s->slot[i] = s->slot[i - 1];
    }
    s->pos[i] = n;
    s->slot[i] = slot;
    if (!copy(s, slot, n, false))
        remove_at(s, i);
}

void ct_snapshots_cut(ct_snapshots *s, int32_t n)
{
    while (s->n > 0 && s->pos[s->n - 1] > n)
        s->n--;
}

int32_t ct_snapshots_last(const ct_snapshots *s, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 0; i < s->n && s->pos[i] <= n; i++)
        best = s->pos[i];
    return best;
}

bool ct_snapshots_restore(ct_snapshots *s, int32_t n)
{
    for (int32_t i = 0; i < s->n; i++)
        if (s->pos[i] == n)
            return copy(s, s->slot[i], n, true);
    return false;
}
