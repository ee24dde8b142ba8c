/* What is asked of a hub, and what it says: the files of a repository at a revision, the bytes of one of them, and why not.
 *
 * Redirections are followed here, up to 10 of them: never from https to http, and the token goes to the hub's own origin alone.
 * Failures that may pass are tried again, each time after a longer wait. What becomes of the bytes is the caller's affair. */
#ifndef CT_FETCH_HUB_H
#define CT_FETCH_HUB_H

#include "base/sha256.h"
#include "fetch/http.h"

typedef struct ct_hub {
    ct_http *http;        /* borrowed */
    const char *endpoint; /* "https://host[:port][/path]", without a slash at its end */
    const char *token;    /* NULL: none */
    const char *repo, *revision;
    uint32_t wait_ms; /* before the second try of something; doubled for each further one */
    bool (*keep_going)(void *arg);
    void *arg;
    char linked[CT_ETAG]; /* of the answer at work: X-Linked-Etag of the hub itself, "": not said */
} ct_hub;

typedef struct ct_hub_file {
    char *name;
    uint64_t size;      /* UINT64_MAX: not said */
    char etag[CT_ETAG]; /* its content's name; "": not said */
    bool hashed;        /* etag is the SHA-256 of its bytes */
    bool wanted;
} ct_hub_file;

typedef struct ct_hub_list {
    char commit[48];
    ct_hub_file *files; /* [n] */
    size_t n, room;
} ct_hub_list;

/* "google/gemma-3-1b-it", "main" or a commit, "folder/model.gguf": EINVAL with the sentence. They become parts of addresses and
 * of names of files. */
ct_status ct_hub_names(const char *repo, const char *revision, const char *file, ct_error *err);
/* Endpoint: EINVAL. copy: [cap], without a slash at its end. */
ct_status ct_hub_endpoint(char *copy, size_t cap, const char *endpoint, ct_error *err);
/* Whether this is the name of a file that may be asked for and kept under it. */
bool ct_hub_file_ok(const char *name);
bool ct_hub_is_sha256(const char *s);

/* Reads the hub's description of a revision. deinit in any case. EFORMAT, ENOMEM. */
ct_status ct_hub_list_read(ct_hub_list *l, const char *path, const void *data, size_t size, ct_error *err);
void ct_hub_list_deinit(ct_hub_list *l);
/* Asks for it. ENOTFOUND, EIO, EFORMAT, EINTERRUPTED, ENOMEM. */
ct_status ct_hub_list_get(ct_hub *h, ct_hub_list *l, ct_error *err);
/* Marks what is wanted: file and the further parts of it if it is split, or else the checkpoint: configuration, tokenizer, weights.
 * ENOTFOUND with a sentence. */
ct_status ct_hub_choose(ct_hub *h, ct_hub_list *l, const char *file, ct_error *err);
/* Asks for size and etag of a file that came without. */
ct_status ct_hub_complete(ct_hub *h, const char *commit, ct_hub_file *f, ct_error *err);

/* Where the bytes of an answer go. */
typedef struct ct_sink {
    uint64_t (*have)(void *arg); /* bytes that need not be sent again */
    /* Of each answer that brings bytes; from: of the first one. false ends it, and the reason is kept by the sink: status says. */
    bool (*begin)(void *arg, const ct_reply *r, uint64_t from);
    bool (*put)(void *arg, const void *data, size_t size);
    /* Asked behind each answer that was not broken off. OK: that was all; else an error, which ends it unless *again. */
    ct_status (*end)(void *arg, bool *again, ct_error *err);
    void *arg;
} ct_sink;

/* The bytes of a file at a commit. The sink's errors, ENOTFOUND, EIO, EFORMAT, EINTERRUPTED, ENOMEM. */
ct_status ct_hub_get(ct_hub *h, const char *commit, const ct_hub_file *f, const ct_sink *sink, ct_error *err);

#endif
