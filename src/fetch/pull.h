/* The job: from a repository's name to files in the cache. Nobody but the caller knows environment, terminals and defaults. */
#ifndef CT_FETCH_PULL_H
#define CT_FETCH_PULL_H

#include "fetch/http.h"

typedef struct ct_pull_options {
    const char *endpoint, *repo, *revision;
    const char *file;  /* NULL: the checkpoint */
    const char *token; /* NULL: none */
    const char *cache; /* the hub's folder */
    uint32_t wait_ms;  /* before something is tried again */
    bool (*keep_going)(void *arg);
    void (*progress)(void *arg, const char *what, double done, double total);
    void *arg;
    void (*on_file)(void *arg, const char *name, uint64_t bytes, bool wanted); /* nullable; UINT64_MAX: not said */
    void *on_file_arg;
} ct_pull_options;

typedef struct ct_pulled {
    char *path; /* the snapshot's folder, or the file; for ct_free */
    char commit[48];
    uint64_t bytes, fetched; /* of all wanted files; of these, through the net this time */
    size_t files;
} ct_pulled;

/* Each file is fetched, proved and linked in turn; the revision is written last. On failure *out is zeroed, and what came stays
 * for the next time. EINVAL, ENOTFOUND, EIO, EFORMAT, EINTERRUPTED, ENOMEM. */
ct_status ct_pull(ct_pulled *out, ct_http *http, const ct_pull_options *o, ct_error *err);

#endif
