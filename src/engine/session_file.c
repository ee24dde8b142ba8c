/* A session to a file and back. The layout is in docs/FORMATS.md: a header, ids, roles, the pages in use layer by layer, a
 * checksum. Pages go by position, not by their place in a ring, so that chunk, context and threads may differ; what is inside
 * a page is the backend's own, so the backend may not. Everything is proved before anything of the session is touched. */
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "engine/session_state.h"

#define VERSION 1
#define MAGIC "CARATSES"

enum { F_EXACT = 1, F_LOGITS = 2 };

struct header {
    char magic[8];
    uint32_t version, bytes; /* of this header */
    char backend[16];
    uint64_t fingerprint, file_bytes;
    int32_t type_k, type_v;
    uint32_t flags;
    int32_t length, layers, page;
    uint64_t page_bytes, draws; /* numbers drawn so far: the stream of random numbers goes on from there */
    uint8_t note[CT_SESSION_NOTE];
    uint64_t spare; /* 0 */
};
_Static_assert(sizeof(struct header) == 128, "the header is a file's: no padding, no change without a new version");

/* Every step is one-to-one in h and in the word, so no change of a single word goes unseen. n is a multiple of 8. */
static uint64_t hash(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, 8);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    return h;
}

static uint64_t hash_weight(uint64_t h, const ct_backend *b, const ct_weight *w)
{
    enum { SLICES = 8, SLICE = 64 };
    if (w->rows == 0)
        return h;
    int32_t shape[4] = {w->rows, w->cols, (int32_t)w->dtype->type, (int32_t)w->use};
    h = hash(hash(h, w->name, sizeof w->name), shape, sizeof shape);
    uint8_t some[SLICE] = {0};
    for (size_t i = 0; w->buf.bytes >= SLICE && i < SLICES; i++) {
        ct_buffer_read(b, &w->buf, (w->buf.bytes - SLICE) / (SLICES - 1) * i, some, SLICE, NULL);
        h = hash(h, some, SLICE);
    }
    return h;
}

/* Of the shape, of every tensor's name, type and shape, and of some bytes of each as they lie packed. */
static uint64_t fingerprint(const ct_gemma *m)
{
    const ct_config *c = &m->cfg;
    int32_t shape[10] = {c->layers, c->dim,    c->heads, c->kv_heads, c->head_dim,
                         c->ffn,    c->window, c->vocab, c->context,  0};
    double real[3] = {c->theta_global, c->theta_local, c->rope_factor};
    uint64_t h = hash(hash(1, shape, sizeof shape), real, sizeof real);
    const ct_weight *top[] = {&m->embed, &m->head, &m->norm};
    for (size_t i = 0; i < 3; i++)
        h = hash_weight(h, m->backend, top[i]);
    for (int32_t i = 0; i < c->layers; i++) {
        const ct_layer *l = &m->layers[i];
        const ct_weight *all[] = {
            &l->attn_norm,      &l->q,        &l->k,    &l->v,  &l->q_norm, &l->k_norm,       &l->o,
            &l->post_attn_norm, &l->ffn_norm, &l->gate, &l->up, &l->down,   &l->post_ffn_norm};
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++)
            h = hash_weight(h, m->backend, all[k]);
    }
    return ct_mix64(h);
}

/* Bytes of ids and roles, padded. */
static size_t history_bytes(int32_t n) { return ct_round_up((size_t)n * 5, 64); }

/* Pages of a layer that a session of n positions needs: first .. first + count - 1. */
static int32_t pages_of(const ct_kvcache *kc, int32_t layer, int32_t n, int32_t *count)
{
    *count = (n + CT_KV_PAGE - 1) / CT_KV_PAGE;
    return kc->layers[layer].ring ? ct_kvcache_window(kc, n, count) : 0;
}

static size_t file_bytes(const ct_kvcache *kc, int32_t n)
{
    size_t bytes = sizeof(struct header) + history_bytes(n) + sizeof(uint64_t);
    for (int32_t i = 0; i < kc->model->cfg.layers; i++) {
        int32_t count;
        pages_of(kc, i, n, &count);
        bytes += (size_t)count * kc->layers[i].page_bytes;
    }
    return bytes;
}

static struct header header_of(const ct_session *s, const ct_kvcache *kc, int32_t n)
{
    const ct_kv *kv = &kc->layers[0];
    struct header h = {.version = VERSION,
                       .bytes = sizeof h,
                       .fingerprint = fingerprint(s->model),
                       .file_bytes = file_bytes(kc, n),
                       .type_k = (int32_t)kv->type_k,
                       .type_v = (int32_t)kv->type_v,
                       .flags = (s->exact ? F_EXACT : 0) | (s->has_logits ? F_LOGITS : 0),
                       .length = n,
                       .layers = kc->model->cfg.layers,
                       .page = CT_KV_PAGE,
                       .page_bytes = kv->page_bytes,
                       .draws = (uint64_t)n};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    size_t name = strlen(s->model->backend->name);
    memcpy(h.backend, s->model->backend->name, name < sizeof h.backend ? name : sizeof h.backend - 1);
    return h;
}

static ct_status put(ct_writer *w, uint64_t *sum, const void *data, size_t n, ct_error *err)
{
    *sum = hash(*sum, data, n);
    return ct_writer_put(w, data, n, err);
}

ct_status ct_session_save(ct_session *s, const char *path, const uint8_t *note, ct_error *err)
{
    const ct_kvcache *kc = ct_batch_cache(s->batch);
    int32_t n = ct_session_length(s);
    ct_writer *w = NULL;
    uint64_t sum = 0;
    if (n == 0)
        return ct_fail(err, CT_EINVAL, "session", "there is nothing to save: the session is empty");
    ct_status st = ct_session_replay_some(s, INT32_MAX, err);
    if (st != CT_OK)
        return st;
    struct header h = header_of(s, kc, n);
    if (note)
        memcpy(h.note, note, sizeof h.note);
    uint8_t *history = ct_calloc(1, history_bytes(n)), *page = ct_alloc(h.page_bytes);
    if (history == NULL || page == NULL) {
        ct_free(history);
        ct_free(page);
        return ct_fail(err, CT_ENOMEM, path, "out of memory for the ids of %d tokens", n);
    }
    memcpy(history, s->ids, (size_t)n * 4);
    memcpy(history + (size_t)n * 4, s->roles, (size_t)n);
    st = ct_writer_open(&w, path, err);
    if (st == CT_OK)
        st = put(w, &sum, &h, sizeof h, err);
    if (st == CT_OK)
        st = put(w, &sum, history, history_bytes(n), err);
    for (int32_t layer = 0; layer < h.layers && st == CT_OK; layer++) {
        int32_t count, first = pages_of(kc, layer, n, &count);
        for (int32_t i = 0; i < count && st == CT_OK; i++)
            if ((st = ct_kvcache_read(kc, layer, 0, first + i, page, err)) == CT_OK)
                st = put(w, &sum, page, h.page_bytes, err);
    }
    sum = ct_mix64(sum);
    if (st == CT_OK)
        st = ct_writer_put(w, &sum, sizeof sum, err);
    if (st == CT_OK) {
        st = ct_writer_commit(w, err);
        w = NULL;
    }
    ct_writer_abandon(w);
    ct_free(history);
    ct_free(page);
    return st;
}

static ct_status damaged(const char *path, const char *what, ct_error *err)
{
    return ct_fail(err, CT_EFORMAT, path, "'%s' is damaged: expected a whole saved session, found that %s", path, what);
}

static ct_status other(const char *path, const char *what, ct_error *err)
{
    return ct_fail(err, CT_EUNSUPPORTED, path,
                   "expected a saved session of this model and these options, found '%s' of %s", path, what);
}

uint64_t ct_session_sum(const void *data, size_t n) { return ct_mix64(hash(0, data, n)); }

/* Is this a file that the session can become? Reads no byte behind map->size. */
static ct_status prove(const ct_session *s, const ct_map *map, struct header *h, const char *path, ct_error *err)
{
    const ct_kvcache *kc = ct_batch_cache(s->batch);
    if (map->size < sizeof *h + sizeof(uint64_t) || memcmp(map->data, MAGIC, 8) != 0)
        return ct_fail(err, CT_EFORMAT, path, "expected a saved session, found that '%s' does not begin as one", path);
    memcpy(h, map->data, sizeof *h);
    if (h->version != VERSION || h->bytes != sizeof *h)
        return ct_fail(err, CT_EUNSUPPORTED, path, "expected version %d of a saved session, found version %u in '%s'",
                       VERSION, h->version, path);
    if (h->file_bytes != map->size || map->size % 8 != 0)
        return ct_fail(err, CT_EFORMAT, path, "the saved session '%s' is damaged: expected %llu bytes, found %zu", path,
                       (unsigned long long)h->file_bytes, map->size);
    uint64_t sum;
    memcpy(&sum, map->data + map->size - sizeof sum, sizeof sum);
    if (sum != ct_session_sum(map->data, map->size - sizeof sum))
        return damaged(path, "its checksum does not fit its content", err);
    if (h->length < 1 || h->length > 1 << 24)
        return damaged(path, "its length makes no sense", err);
    struct header own = header_of(s, kc, h->length);
    if (memcmp(h->backend, own.backend, sizeof own.backend) != 0)
        return other(path, "another backend: -b chooses it", err);
    if (h->fingerprint != own.fingerprint)
        return other(path, "another model", err);
    if (h->type_k != own.type_k || h->type_v != own.type_v)
        return other(path, "another type of cache: --kv chooses it", err);
    if ((h->flags & F_EXACT) != (own.flags & F_EXACT))
        return other(
            path, h->flags & F_EXACT ? "the exact path: --exact chooses it" : "the fast path: leave --exact out", err);
    if (h->length > s->context)
        return ct_fail(err, CT_ECONTEXT, path,
                       "expected a saved session of at most the context's %d tokens, found %d in '%s'", s->context,
                       h->length, path);
    if (h->page_bytes != own.page_bytes || h->page != own.page || h->layers != own.layers ||
        h->file_bytes != own.file_bytes)
        return other(path, "another layout: it was saved by another build of carat", err);
    const uint8_t *ids = map->data + sizeof *h, *roles = ids + (size_t)h->length * 4;
    for (int32_t i = 0; i < h->length; i++) {
        int32_t id;
        memcpy(&id, ids + (size_t)i * 4, 4);
        if (id < 0 || id >= s->model->cfg.vocab || roles[i] > 1)
            return damaged(path, "it has a token that the vocabulary has not", err);
    }
    return CT_OK;
}

ct_status ct_session_load(ct_session *s, const char *path, uint8_t *note, ct_error *err)
{
    ct_kvcache *kc = ct_batch_cache(s->batch);
    struct header h = {0};
    ct_map map;
    ct_status st = ct_map_open(&map, path, err);
    if (st != CT_OK)
        return st;
    st = prove(s, &map, &h, path, err);
    if (st != CT_OK)
        goto done;
    ct_session_reset(s);
    const uint8_t *p = map.data + sizeof h;
    memcpy(s->ids, p, (size_t)h.length * 4);
    memcpy(s->roles, p + (size_t)h.length * 4, (size_t)h.length);
    p += history_bytes(h.length);
    for (int32_t layer = 0; layer < h.layers; layer++) {
        int32_t count, first = pages_of(kc, layer, h.length, &count);
        for (int32_t i = 0; i < count && st == CT_OK; i++, p += h.page_bytes)
            st = ct_kvcache_write(kc, layer, 0, first + i, p, err);
    }
    if (st != CT_OK) /* the device is gone: the session is empty */
        goto done;
    ct_kvcache_rewind(kc, 0, h.length);
    int32_t low = h.length - (s->model->cfg.window - 1);
    ct_kvcache_rebuilt(kc, 0, low > 0 && s->model->cfg.window > 0 ? low : 0);
    s->last_decoded = s->roles[h.length - 1] != 0;
    if (h.flags & F_LOGITS) {
        st = ct_batch_again(s->batch, 0, s->ids[h.length - 1], s->last_decoded, err);
        s->has_logits = st == CT_OK;
        s->screened = false;
    }
    if (note)
        memcpy(note, h.note, sizeof h.note);
done:
    ct_map_close(&map);
    return st;
}
