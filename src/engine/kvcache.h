/* The cache: a ring of pages for every sliding layer, pages for every global one, for any number of sequences.
 *
 * Page tables are shared by all layers of a kind; memory is reserved for the whole context and committed by the kernel when
 * first touched, so a short talk stays small. Formula of the ring: ceil((W-1+chunk)/page) + 1 pages, because a chunk of
 * prompt rows is stored before any of them attends: with W alone it would overwrite keys that it needs.
 *
 * A sequence can be cut back to n positions at once where its rings still have the W-1 positions before n. Elsewhere the rings
 * must be made again first (snapshot.h, or batch.h: ct_batch_replay); global layers always have all positions. */
#ifndef CT_ENGINE_KVCACHE_H
#define CT_ENGINE_KVCACHE_H

#include "model/model.h"

typedef struct ct_kvcache {
    const ct_gemma *model;
    int32_t sequences, context, chunk;
    int32_t ring_pages, seq_pages;       /* per sequence: of a local, of a global layer */
    int32_t *local_table, *global_table; /* [sequences][ring_pages], [sequences][seq_pages] */
    ct_buffer buf;
    ct_kv *layers;   /* [L] */
    ct_kv *replayed; /* [L] the same with global layers frozen: they have what a replay would compute */
    int32_t *length; /* [sequences] positions stored */
    int32_t *low;    /* [sequences] the first position that the rings have and that is right */
} ct_kvcache;

ct_status ct_kvcache_create(ct_kvcache *kc, const ct_gemma *m, int32_t sequences, int32_t context, int32_t chunk,
                            ct_dtype type_k, ct_dtype type_v, ct_error *err);
void ct_kvcache_free(ct_kvcache *kc);
/* What create would reserve, without doing it (SIZE_MAX if that overflows). local and global parts may be NULL. Reads only
 * cfg and backend of m. */
size_t ct_kvcache_bytes(const ct_gemma *m, int32_t sequences, int32_t context, int32_t chunk, ct_dtype type_k,
                        ct_dtype type_v, size_t *local, size_t *global);

/* n more positions of a sequence have been stored. */
void ct_kvcache_grow(ct_kvcache *kc, int32_t seq, int32_t n);
/* Do the rings have the window before position n <= length? */
bool ct_kvcache_whole(const ct_kvcache *kc, int32_t seq, int32_t n);
/* Keeps the first n positions, or none where the ring no longer has the window before n. Returns how many were kept. */
int32_t ct_kvcache_cut(ct_kvcache *kc, int32_t seq, int32_t n);
/* Keeps the first n positions of the global layers; the rings are worth nothing until `rebuilt` says from where on they are. */
void ct_kvcache_rewind(ct_kvcache *kc, int32_t seq, int32_t n);
void ct_kvcache_rebuilt(ct_kvcache *kc, int32_t seq, int32_t low);
/* Makes sequence `to` equal to `from`: its pages, its length. False, and `to` empty, where memory is short or a device fails. */
bool ct_kvcache_copy(ct_kvcache *kc, int32_t to, int32_t from);
/* Copies the page (page_bytes) of positions page * CT_KV_PAGE.. of a layer, from and to wherever the cache is. EIO as
 * backend.h says. */
ct_status ct_kvcache_read(const ct_kvcache *kc, int32_t layer, int32_t seq, int32_t page, void *dst, ct_error *err);
ct_status ct_kvcache_write(ct_kvcache *kc, int32_t layer, int32_t seq, int32_t page, const void *src, ct_error *err);
/* The rings' pages that hold the window before n: first .. first + count - 1. */
int32_t ct_kvcache_window(const ct_kvcache *kc, int32_t n, int32_t *count);

#endif
