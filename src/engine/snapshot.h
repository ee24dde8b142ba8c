/* Snapshots of a sequence's rings: what its sliding layers had at some positions, so that a history can be cut back behind the
 * rings without computing thousands of positions again.
 *
 * Slots are reserved at once (and committed when first used); taking and restoring copy whole pages and allocate nothing. When all
 * are taken, the one goes whose neighbours lie closest together. Knows nothing of ids: who changes them drops what lies behind. */
#ifndef CT_ENGINE_SNAPSHOT_H
#define CT_ENGINE_SNAPSHOT_H

#include "engine/kvcache.h"

#define CT_SNAPSHOT_EVERY 1024 /* positions between those that are taken by themselves */
#define CT_SNAPSHOT_MOST 64

typedef struct ct_snapshots {
    ct_kvcache *kc;
    int32_t max, n;
    int32_t pos[CT_SNAPSHOT_MOST], slot[CT_SNAPSHOT_MOST]; /* [n] in order of position */
    uint8_t *mem;                                          /* [max][slot_bytes] */
    size_t slot_bytes, bytes;
} ct_snapshots;

/* How many of `wanted` there will be (-1: as many as fit into half of the cache's bytes, at least one and at most eight; none
 * where the rings never turn), and their bytes. Reads only cfg and backend of m. */
int32_t ct_snapshots_plan(const ct_gemma *m, int32_t context, int32_t chunk, ct_dtype type_k, ct_dtype type_v,
                          int32_t wanted, size_t *slot_bytes, size_t *bytes);
/* Borrows kc, whose first sequence it serves. */
ct_status ct_snapshots_create(ct_snapshots *s, ct_kvcache *kc, int32_t wanted, ct_error *err);
void ct_snapshots_free(ct_snapshots *s);

/* Takes position n, if the rings have the window before it. */
void ct_snapshots_take(ct_snapshots *s, int32_t n);
/* Forgets those behind position n. */
void ct_snapshots_cut(ct_snapshots *s, int32_t n);
/* The last position of which there is one, at most n; 0 if there is none. */
int32_t ct_snapshots_last(const ct_snapshots *s, int32_t n);
/* Puts the rings back as they were at position n, of which there is a snapshot. False: that failed, and they are worth nothing. */
bool ct_snapshots_restore(ct_snapshots *s, int32_t n);

#endif
