/* One request over HTTP or HTTPS, and what was answered. Neither redirections, nor tokens' destinations, nor trying again are
 * decided here: see hub.c. Two files have it, of which a library holds one: http_curl.c loads libcurl when it is first needed,
 * http_none.c is for builds without its headers. Tests have a third one, in memory. */
#ifndef CT_FETCH_HTTP_H
#define CT_FETCH_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define CT_ETAG 132
#define CT_URL 4096

typedef struct ct_reply {
    int32_t status;      /* 0: there was no answer */
    bool again;          /* there was none, or it broke off, for a reason that may pass */
    bool stopped;        /* the request's own functions said no */
    uint64_t length;     /* Content-Length; UINT64_MAX: not said */
    uint64_t from;       /* first byte of a part (Content-Range); UINT64_MAX: not said */
    uint64_t whole;      /* bytes of which it is a part; UINT64_MAX: not said */
    uint64_t file_size;  /* X-Linked-Size; UINT64_MAX: not said */
    uint32_t wait_s;     /* Retry-After; 0: not said */
    char etag[CT_ETAG];  /* X-Linked-Etag, else ETag, without W/ and quotes */
    bool linked;         /* it is X-Linked-Etag */
    char code[48];       /* X-Error-Code */
    char commit[48];     /* X-Repo-Commit */
    char target[CT_URL]; /* where a redirection leads, absolute; "" where there is none */
} ct_reply;

typedef struct ct_request {
    const char *url;
    const char *token; /* sent as it is, as a bearer's; NULL: none */
    uint64_t from;     /* the first byte wanted */
    bool head;         /* no body */
    /* Of a reply of 2xx, in this order, begin once; false ends the request. */
    bool (*begin)(void *arg, const ct_reply *r);
    bool (*put)(void *arg, const void *data, size_t size);
    bool (*keep_going)(void *arg); /* asked about once a second or more often */
    void *arg;
} ct_request;

typedef struct ct_http ct_http;
struct ct_http { /* one thread at a time */
    /* OK for any answer that came whole, and where the request's own functions ended it (r->stopped). EINTERRUPTED where
     * keep_going said no; EIO where there is none, with a sentence; ENOMEM. */
    ct_status (*get)(ct_http *h, const ct_request *q, ct_reply *r, ct_error *err);
    void (*close)(ct_http *h);
};

/* timeout_s: without an answer, or a byte of it, for so long, a request has failed. EUNSUPPORTED where there is no libcurl. */
ct_status ct_http_open(ct_http **out, int32_t timeout_s, ct_error *err);

/* Header lines of an answer, for whoever gets them one by one: "HTTP/1.1 200 OK" begins, the others fill r. */
void ct_reply_init(ct_reply *r);
void ct_reply_header(ct_reply *r, const char *line, size_t n);

#endif
