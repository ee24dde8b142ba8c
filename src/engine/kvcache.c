/* The cache's memory: one block for all layers and sequences, and the two page tables. See kvcache.h for the ring's formula.
 * It refuses to know what is inside a page: that is the backend's.
 *
 * The block is [slots][local layers][page], then [slots][global layers][page]: the first pages of all layers are neighbours. With
 * each layer's pages together, the first token of a session touched a huge page per layer; a virtual machine that gets its
 * memory from the host when it is touched took 90 ms for that. */
#include "engine/kvcache.h"

#include <limits.h>
#include <string.h>

static int32_t pages_for(int32_t positions) { return (positions + CT_KV_PAGE - 1) / CT_KV_PAGE; }

struct plan {
    int32_t ring_pages, seq_pages;
    int32_t locals, globals; /* layers */
    size_t page_bytes;
    size_t bytes_local, bytes_global; /* of all layers and sequences */
};

static bool plan(struct plan *p, const ct_gemma *m, int32_t sequences, int32_t context, int32_t chunk, ct_dtype type_k,
                 ct_dtype type_v)
{
    const ct_config *c = &m->cfg;
    size_t local_pages, global_pages; /* of all layers and sequences */
    *p = (struct plan){.seq_pages = pages_for(context)};
    p->ring_pages = pages_for(c->window - 1 + chunk) + 1;
    if (p->ring_pages > p->seq_pages)
        p->ring_pages = p->seq_pages; /* the whole context fits: the ring never turns */
    for (int32_t i = 0; i < c->layers; i++)
        *(c->global[i] ? &p->globals : &p->locals) += 1;
    p->page_bytes = ct_round_up(m->backend->kv_page_bytes(type_k, type_v, c->kv_heads, c->head_dim), 64);
    return ct_mul_ok((size_t)sequences * (size_t)p->ring_pages, (size_t)p->locals, &local_pages) &&
           ct_mul_ok((size_t)sequences * (size_t)p->seq_pages, (size_t)p->globals, &global_pages) &&
           local_pages <= INT32_MAX && global_pages <= INT32_MAX &&
           ct_mul_ok(local_pages, p->page_bytes, &p->bytes_local) &&
           ct_mul_ok(global_pages, p->page_bytes, &p->bytes_global);
}

size_t ct_kvcache_bytes(const ct_gemma *m, int32_t sequences, int32_t context, int32_t chunk, ct_dtype type_k,
                        ct_dtype type_v, size_t *local, size_t *global)
{
    struct plan p;
    size_t total;
    if (!plan(&p, m, sequences, context, chunk, type_k, type_v) || !ct_add_ok(p.bytes_local, p.bytes_global, &total))
        p.bytes_local = p.bytes_global = total = SIZE_MAX;
    if (local)
        *local = p.bytes_local;
    if (global)
        *global = p.bytes_global;
    return total;
}

/* The pages of n slots for the first of `layers` layers; the others' follow each. */
static int32_t *slots_of(size_t n, int32_t layers)
{
    int32_t *table = ct_alloc(n * sizeof *table);
    for (size_t i = 0; table && i < n; i++)
        table[i] = (int32_t)i * layers;
    return table;
}

ct_status ct_kvcache_create(ct_kvcache *kc, const ct_gemma *m, int32_t sequences, int32_t context, int32_t chunk,
                            ct_dtype type_k, ct_dtype type_v, ct_error *err)
{
    const ct_config *c = &m->cfg;
    struct plan p;
    size_t total;
    *kc = (ct_kvcache){.model = m, .sequences = sequences, .context = context, .chunk = chunk};
    if (!plan(&p, m, sequences, context, chunk, type_k, type_v) || !ct_add_ok(p.bytes_local, p.bytes_global, &total))
        return ct_fail(err, CT_ENOMEM, NULL, "a cache of %d sequences of %d positions is larger than any memory",
                       sequences, context);
    kc->ring_pages = p.ring_pages;
    kc->seq_pages = p.seq_pages;
    size_t n = (size_t)sequences;
    kc->local_table = slots_of(n * (size_t)p.ring_pages, p.locals);
    kc->global_table = slots_of(n * (size_t)p.seq_pages, p.globals);
    kc->layers = ct_calloc((size_t)c->layers, sizeof *kc->layers);
    kc->replayed = ct_calloc((size_t)c->layers, sizeof *kc->replayed);
    kc->length = ct_calloc(n, sizeof *kc->length);
    kc->low = ct_calloc(n, sizeof *kc->low);
    ct_status st = CT_ENOMEM;
    if (!kc->local_table || !kc->global_table || !kc->layers || !kc->replayed || !kc->length || !kc->low)
        ct_fail(err, st, NULL, "no memory for the page tables of %d sequences of %d positions", sequences, context);
    else
        st = m->backend->buffer_alloc(&kc->buf, total, err);
    if (st != CT_OK) {
        ct_kvcache_free(kc);
        return st;
    }
    size_t local = 0, global = p.bytes_local; /* where the next layer of a kind begins */
    for (int32_t i = 0; i < c->layers; i++) {
        bool is_global = c->global[i];
        size_t *off = is_global ? &global : &local;
        kc->layers[i] = (ct_kv){.type_k = type_k,
                                .type_v = type_v,
                                .kv_heads = c->kv_heads,
                                .head_dim = c->head_dim,
                                .ring = is_global ? 0 : p.ring_pages,
                                .table_stride = is_global ? p.seq_pages : p.ring_pages,
                                .sequences = sequences,
                                .table = is_global ? kc->global_table : kc->local_table,
                                .pool = &kc->buf,
                                .off = *off,
                                .page_bytes = p.page_bytes};
        kc->replayed[i] = kc->layers[i];
        kc->replayed[i].frozen = is_global;
        *off += p.page_bytes;
    }
    return CT_OK;
}

void ct_kvcache_free(ct_kvcache *kc)
{
    if (kc == NULL || kc->model == NULL)
        return;
    if (kc->buf.bytes > 0)
        kc->model->backend->buffer_free(&kc->buf);
    ct_free(kc->local_table);
    ct_free(kc->global_table);
    ct_free(kc->layers);
    ct_free(kc->replayed);
    ct_free(kc->length);
    ct_free(kc->low);
    *kc = (ct_kvcache){0};
}

/* The first position that a ring still has when n are stored: the newest page took the place of the one a turn before it. */
static int32_t turned(const ct_kvcache *kc, int32_t n)
{
    int32_t oldest = (pages_for(n) - kc->ring_pages) * CT_KV_PAGE;
    return oldest > 0 ? oldest : 0;
}

void ct_kvcache_grow(ct_kvcache *kc, int32_t seq, int32_t n)
{
    kc->length[seq] += n;
    ct_kvcache_rebuilt(kc, seq, kc->low[seq]);
}

void ct_kvcache_rebuilt(ct_kvcache *kc, int32_t seq, int32_t low)
{
    int32_t oldest = turned(kc, kc->length[seq]);
    kc->low[seq] = low > oldest ? low : oldest;
}

bool ct_kvcache_whole(const ct_kvcache *kc, int32_t seq, int32_t n)
{
    int32_t window = kc->model->cfg.window;
    return window == 0 || kc->low[seq] == 0 || n - (window - 1) >= kc->low[seq];
}

int32_t ct_kvcache_cut(ct_kvcache *kc, int32_t seq, int32_t n)
{
    if (n > kc->length[seq])
        n = kc->length[seq];
    if (n < 0 || !ct_kvcache_whole(kc, seq, n))
        n = 0;
    kc->length[seq] = n;
    if (n == 0)
        kc->low[seq] = 0;
    return n;
}

void ct_kvcache_rewind(ct_kvcache *kc, int32_t seq, int32_t n)
{
    kc->length[seq] = n;
    kc->low[seq] = INT32_MAX;
}

/* Where the page of positions page * CT_KV_PAGE.. of a layer begins in buf. */
static size_t page_at(const ct_kvcache *kc, int32_t layer, int32_t seq, int32_t page)
{
    const ct_kv *kv = &kc->layers[layer];
    size_t slot = (size_t)seq * (size_t)kv->table_stride + (size_t)(kv->ring ? page % kv->ring : page);
    return kv->off + (size_t)kv->table[slot] * kv->page_bytes;
}

ct_status ct_kvcache_read(const ct_kvcache *kc, int32_t layer, int32_t seq, int32_t page, void *dst, ct_error *err)
{
    return ct_buffer_read(kc->model->backend, &kc->buf, page_at(kc, layer, seq, page), dst,
                          kc->layers[layer].page_bytes, err);
}

ct_status ct_kvcache_write(ct_kvcache *kc, int32_t layer, int32_t seq, int32_t page, const void *src, ct_error *err)
{
    return ct_buffer_write(kc->model->backend, &kc->buf, page_at(kc, layer, seq, page), src,
                           kc->layers[layer].page_bytes, err);
}

bool ct_kvcache_copy(ct_kvcache *kc, int32_t to, int32_t from)
{
    int32_t end = pages_for(kc->length[from]);
    uint8_t *one = ct_alloc(kc->layers[0].page_bytes);
    bool can = one != NULL;
    for (int32_t i = 0; can && i < kc->model->cfg.layers; i++) {
        int32_t ring = kc->layers[i].ring, first = ring && end > ring ? end - ring : 0;
        for (int32_t page = first; can && page < end; page++)
            can = ct_kvcache_read(kc, i, from, page, one, NULL) == CT_OK &&
                  ct_kvcache_write(kc, i, to, page, one, NULL) == CT_OK;
    }
    ct_free(one);
    kc->length[to] = can ? kc->length[from] : 0;
    kc->low[to] = can ? kc->low[from] : 0;
    return can;
}

int32_t ct_kvcache_window(const ct_kvcache *kc, int32_t n, int32_t *count)
{
    int32_t from = n - (kc->model->cfg.window - 1), first = (from > 0 ? from : 0) / CT_KV_PAGE;
    *count = pages_for(n) - first;
    return first;
}
