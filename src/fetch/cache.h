/* Where files are kept: the layout of Hugging Face's own tools, so that each finds what the others fetched.
 *
 *     HUB/models--OWNER--NAME/blobs/ETAG                a content, by its name; ETAG.incomplete: the beginning of one
 *     HUB/models--OWNER--NAME/snapshots/COMMIT/FILE     a link to it
 *     HUB/models--OWNER--NAME/refs/REVISION             the commit of a branch or tag
 *     HUB/.locks/models--OWNER--NAME/ETAG.lock          held (flock) by who writes a content
 *
 * Nothing lies under a final name before it is whole and, where its SHA-256 is known, proved. */
#ifndef CT_FETCH_CACHE_H
#define CT_FETCH_CACHE_H

#include "base/sha256.h"
#include "fetch/hub.h"

typedef struct ct_cache {
    char *root, *locks; /* folders of this repository */
} ct_cache;

/* Makes the folders. EIO, ENOMEM. deinit in any case. */
ct_status ct_cache_init(ct_cache *c, const char *hub, const char *repo, ct_error *err);
void ct_cache_deinit(ct_cache *c);
/* Bytes of a content that are there: all (*whole), or the beginning. */
uint64_t ct_cache_have(const ct_cache *c, const ct_hub_file *f, bool *whole);
/* Bytes that may still be written. */
size_t ct_cache_room(const ct_cache *c);
/* HUB/.../snapshots/COMMIT[/FILE], for ct_free; NULL: out of memory. file may be NULL. */
char *ct_cache_path(const ct_cache *c, const char *commit, const char *file);
/* The link of a file to its content, in place of what is there under that name. */
ct_status ct_cache_link(const ct_cache *c, const char *commit, const ct_hub_file *f, ct_error *err);
/* Writes refs/REVISION; nothing where the revision is the commit. */
ct_status ct_cache_point(const ct_cache *c, const char *revision, const char *commit, ct_error *err);

/* The beginning of a content, being written. One process at a time has it. */
typedef struct ct_part {
    const ct_hub_file *f; /* borrowed */
    char *path, *blob, *lock_path;
    int fd, lock;
    uint64_t size;
    ct_sha256 sum; /* of the bytes so far */
} ct_part;

/* Waits for the lock; *there: another process has written it meanwhile, and the part is not open. What an earlier try left is kept if
 * its hash can be proved in the end, and hashed now. EINTERRUPTED where keep_going says no. close in any case. */
ct_status ct_part_open(ct_part *p, const ct_cache *c, const ct_hub_file *f, bool (*keep_going)(void *), void *arg,
                       bool *there, ct_error *err);
ct_status ct_part_put(ct_part *p, const void *data, size_t size, ct_error *err);
/* Back to nothing. */
ct_status ct_part_restart(ct_part *p, ct_error *err);
/* Whether its bytes are those of the file; digits: what their SHA-256 is. */
bool ct_part_proved(const ct_part *p, char hex[CT_SHA256_HEX]);
/* Flushed, and under its final name. */
ct_status ct_part_commit(ct_part *p, ct_error *err);
void ct_part_close(ct_part *p); /* what is there stays */

#endif
