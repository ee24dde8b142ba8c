/* Asking a hub: addresses, redirections, trying again, and sentences for its refusals. See hub.h.
 *
 * The interface is that of huggingface.co, which others speak as well: /api/models/NAME/revision/REV describes a revision,
 * /NAME/resolve/COMMIT/FILE has a file's bytes, mostly by way of another host. */
#include "fetch/hub.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"

#define MAX_HOPS 10
#define MAX_TRIES 5          /* without a byte in between */
#define MAX_WAIT_S 60        /* that a hub may ask for */
#define MAX_LIST (32u << 20) /* bytes of a description */

/* ---- addresses ---- */

/* Bytes that may stand in a path as they are (RFC 3986), slashes if said; others as %XX. Returns the length, cap if too long. */
static size_t escape(char *to, size_t at, size_t cap, const char *s, bool slashes)
{
    static const char plain[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._~";
    for (; *s && at + 4 < cap; s++) {
        if (strchr(plain, *s) || (slashes && *s == '/'))
            to[at++] = *s;
        else
            at += (size_t)snprintf(to + at, cap - at, "%%%02X", (unsigned)(unsigned char)*s);
    }
    to[at] = '\0';
    return *s ? cap : at;
}

static bool resolve_url(const ct_hub *h, char *url, size_t cap, const char *commit, const char *file)
{
    int n = snprintf(url, cap, "%s/%s/resolve/%s/", h->endpoint, h->repo, commit);
    return n > 0 && (size_t)n < cap && escape(url, (size_t)n, cap, file, true) < cap;
}

static bool is_https(const char *url) { return strncasecmp(url, "https://", 8) == 0; }

/* "https://host:port": how much of an address that is. */
static size_t origin(const char *url)
{
    const char *host = strstr(url, "://");
    return host ? (size_t)(host + 3 - url) + strcspn(host + 3, "/?#") : 0;
}

/* A token is for the hub alone. In the clear it goes no further than this machine. */
static bool may_have_token(const ct_hub *h, const char *url)
{
    static const char *const here[] = {"http://localhost", "http://127.0.0.1", "http://[::1]"};
    size_t n = origin(h->endpoint);
    if (origin(url) != n || strncasecmp(url, h->endpoint, n) != 0)
        return false;
    bool local = false;
    for (size_t i = 0; i < sizeof here / sizeof here[0]; i++) {
        size_t m = strlen(here[i]);
        local = local || (n >= m && strncasecmp(url, here[i], m) == 0 && (n == m || url[m] == ':'));
    }
    return is_https(url) || local;
}

/* ---- one answer, through its redirections ---- */

/* The address of the hub first, then wherever it leads. r is of the last answer, but what the hub itself says of the file stays. */
static ct_status follow(ct_hub *h, const char *url, ct_request *q, ct_reply *r, ct_error *err)
{
    char at[CT_URL];
    ct_reply first;
    ct_status st = CT_OK;
    h->linked[0] = '\0';
    snprintf(at, sizeof at, "%s", url);
    for (int hop = 0;; hop++) {
        q->url = at;
        q->token = may_have_token(h, at) ? h->token : NULL;
        if ((st = h->http->get(h->http, q, r, err)) != CT_OK)
            return st;
        if (hop == 0)
            first = *r;
        memcpy(h->linked, first.linked ? first.etag : "", first.linked ? sizeof h->linked : 1);
        if (r->target[0] == '\0' || r->status < 300 || r->status > 399 || r->status == 304 || (q->head && r->linked))
            break;
        if (hop == MAX_HOPS)
            return ct_fail(err, CT_EFORMAT, url, "'%.120s' leads from one address to another, more than %d times: %s",
                           url, MAX_HOPS, "is the endpoint right?");
        if ((!is_https(r->target) && strncasecmp(r->target, "http://", 7) != 0) ||
            (is_https(at) && !is_https(r->target)))
            return ct_fail(err, CT_EFORMAT, url,
                           "'%.80s' leads to '%.60s', which is not safe to follow: expected an address of https", url,
                           r->target);
        memcpy(at, r->target, sizeof at);
    }
    if (first.linked && !r->linked) {
        memcpy(r->etag, first.etag, sizeof r->etag);
        r->linked = true;
    }
    if (r->file_size == UINT64_MAX)
        r->file_size = first.file_size;
    if (r->commit[0] == '\0')
        memcpy(r->commit, first.commit, sizeof r->commit);
    if (r->code[0] == '\0')
        memcpy(r->code, first.code, sizeof r->code);
    return CT_OK;
}

/* ---- refusals ---- */

/* What an answer that is none means, and what to do. */
static ct_status refuse(const ct_hub *h, const char *file, const ct_reply *r, ct_error *err)
{
    const char *e = h->endpoint, *repo = h->repo;
    const bool gated = strcmp(r->code, "GatedRepo") == 0;
    if (gated && h->token == NULL)
        return ct_fail(err, CT_ENOTFOUND, repo,
                       "'%s' wants its terms accepted: do so at %s/%s with your account, make a token that may read, "
                       "and put it in HF_TOKEN",
                       repo, e, repo);
    if (gated)
        return ct_fail(err, CT_ENOTFOUND, repo,
                       "the account of this token may not read '%s': accept its terms at %s/%s, and let the token "
                       "read gated repositories",
                       repo, e, repo);
    if (strcmp(r->code, "RevisionNotFound") == 0)
        return ct_fail(err, CT_ENOTFOUND, repo, "'%s' has no revision '%.80s'", repo, h->revision);
    if (strcmp(r->code, "EntryNotFound") == 0 || (r->status == 404 && file))
        return ct_fail(err, CT_ENOTFOUND, repo, "'%s' has no file '%.80s' at revision '%.60s'", repo, file ? file : "",
                       h->revision);
    if (r->status == 404 || strcmp(r->code, "RepoNotFound") == 0)
        return ct_fail(err, CT_ENOTFOUND, repo, "%s has no '%s', or does not show it%s", e, repo,
                       h->token ? " to this token: look at the name"
                                : " without a token: look at the name, or put a token in HF_TOKEN");
    if (r->status == 401 && h->token && !may_have_token(h, e))
        return ct_fail(err, CT_ENOTFOUND, repo,
                       "%s wants a token for '%s', and a token is not sent over http to another machine: give "
                       "an endpoint of https",
                       e, repo);
    if (r->status == 401 && h->token)
        return ct_fail(err, CT_ENOTFOUND, repo,
                       "%s does not take this token (HTTP 401): it may have been withdrawn; make a new one in your "
                       "account's settings, or go without",
                       e);
    if (r->status == 401)
        return ct_fail(err, CT_ENOTFOUND, repo,
                       "%s has no '%s', or does not show it without a token: look at the name, or put a token in "
                       "HF_TOKEN",
                       e, repo);
    if (r->status == 403)
        return ct_fail(err, CT_ENOTFOUND, repo, "%s forbids reading '%s' (HTTP 403)%s", e, repo,
                       h->token ? ": look at what the token allows, and at the repository's terms"
                                : ": look at its terms there, and put a token in HF_TOKEN");
    if (r->status == 429)
        return ct_fail(err, CT_EIO, repo, "%s asks for fewer requests (HTTP 429): try again in %u s%s", e,
                       r->wait_s ? r->wait_s : 60, h->token ? "" : ", or with a token in HF_TOKEN");
    if (r->status >= 500)
        return ct_fail(err, CT_EIO, repo, "%s is in trouble (HTTP %d, asked %d times): try again later", e, r->status,
                       MAX_TRIES);
    return ct_fail(err, CT_EIO, repo, "%s answers HTTP %d where '%s' was expected: is the endpoint right?", e,
                   r->status, file ? file : repo);
}

static bool may_pass(const ct_reply *r)
{
    return r->again || r->status == 408 || r->status == 429 || r->status == 500 ||
           (r->status >= 502 && r->status <= 504);
}

/* EINTERRUPTED if it is not to go on. */
static ct_status pause_for(const ct_hub *h, uint64_t ms, ct_error *err)
{
    for (;;) {
        uint64_t step = ms < 50 ? ms : 50;
        struct timespec t = {.tv_sec = 0, .tv_nsec = (long)step * 1000000};
        if (h->keep_going && !h->keep_going(h->arg))
            return ct_fail(err, CT_EINTERRUPTED, h->repo, "interrupted");
        if (ms == 0)
            return CT_OK;
        nanosleep(&t, NULL);
        ms -= step;
    }
}

/* ---- trying again ---- */

struct
try {
    const ct_hub *h;
    const ct_sink *sink;
};

static bool try_begin(void *arg, const ct_reply *r)
{
    const struct try *t = arg;
    return t->sink->begin(t->sink->arg, r, r->status == 206 ? r->from : 0); /* 200: all of it, whatever was asked for */
}

static bool try_put(void *arg, const void *data, size_t size)
{
    const struct try *t = arg;
    return t->sink->put(t->sink->arg, data, size);
}

static bool try_on(void *arg)
{
    const struct try *t = arg;
    return t->h->keep_going == NULL || t->h->keep_going(t->h->arg);
}

/* sink NULL: nothing but what is said of the file. r: the last answer. */
static ct_status ask(ct_hub *h, const char *url, const char *file, const ct_sink *sink, ct_reply *r, ct_error *err)
{
    uint64_t wait = h->wait_ms, furthest = sink ? sink->have(sink->arg) : 0;
    for (int failed = 0;;) {
        struct try t = {h, sink};
        const uint64_t from = sink ? sink->have(sink->arg) : 0;
        ct_request q = {
            .from = from, .head = sink == NULL, .begin = try_begin, .put = try_put, .keep_going = try_on, .arg = &t};
        ct_status st = follow(h, url, &q, r, err);
        bool passing = may_pass(r), good = r->status >= 200 && r->status <= 299;
        good = good ||
               (sink ? r->status == 416 : r->linked && r->status < 400); /* 416: there is no more than what is had */
        if (st == CT_OK && good) {
            passing = false;
            st = sink ? sink->end(sink->arg, &passing, err) : CT_OK;
        } else if (st == CT_OK) {
            st = refuse(h, file, r, err);
        }
        if (st == CT_OK || !passing || st == CT_ENOMEM || st == CT_EINTERRUPTED)
            return st;
        if (sink && sink->have(sink->arg) > furthest) { /* closer than ever: patience anew */
            furthest = sink->have(sink->arg);
            failed = 0;
            wait = h->wait_ms;
        }
        if (++failed == MAX_TRIES || r->wait_s > MAX_WAIT_S)
            return st;
        ct_error told;
        if ((st = pause_for(h, r->wait_s ? r->wait_s * UINT64_C(1000) : wait, &told)) != CT_OK) {
            if (err)
                *err = told;
            return st;
        }
        wait *= 2;
    }
}

/* ---- the description of a revision ---- */

struct text {
    const ct_hub *h;
    char *data;
    size_t n, room;
    ct_status status;
};

static uint64_t text_have(void *arg) /* it is always asked for as a whole */
{
    (void)arg;
    return 0;
}

static bool text_begin(void *arg, const ct_reply *r, uint64_t from)
{
    struct text *t = arg;
    (void)r, (void)from;
    t->n = 0;
    return true;
}

static bool text_put(void *arg, const void *data, size_t size)
{
    struct text *t = arg;
    if (size > MAX_LIST - t->n) {
        t->status = CT_EFORMAT;
        return false;
    }
    if (t->room - t->n < size) {
        size_t room = t->room * 2 + size + 4096;
        char *grown = ct_realloc(t->data, room);
        if (grown == NULL) {
            t->status = CT_ENOMEM;
            return false;
        }
        t->data = grown;
        t->room = room;
    }
    memcpy(t->data + t->n, data, size);
    t->n += size;
    return true;
}

static ct_status text_end(void *arg, bool *again, ct_error *err)
{
    const struct text *t = arg;
    *again = false;
    if (t->status == CT_ENOMEM)
        return ct_fail(err, CT_ENOMEM, t->h->repo, "out of memory for the list of files of '%s'", t->h->repo);
    if (t->status != CT_OK)
        return ct_fail(err, CT_EFORMAT, t->h->repo, "the list of files of '%s' does not end: is the endpoint right?",
                       t->h->repo);
    return CT_OK;
}

ct_status ct_hub_list_get(ct_hub *h, ct_hub_list *l, ct_error *err)
{
    char url[CT_URL], name[300];
    struct text t = {.h = h};
    ct_reply r;
    const ct_sink sink = {text_have, text_begin, text_put, text_end, &t};
    *l = (ct_hub_list){0};
    int n = snprintf(url, sizeof url, "%s/api/models/%s/revision/", h->endpoint, h->repo);
    size_t at = escape(url, (size_t)n, sizeof url - 16, h->revision, false);
    snprintf(url + at, sizeof url - at, "?blobs=true");
    ct_status st = ask(h, url, NULL, &sink, &r, err);
    snprintf(name, sizeof name, "%.60s: %.100s", h->endpoint, h->repo);
    if (st == CT_OK)
        st = ct_hub_list_read(l, name, t.data, t.n, err);
    ct_free(t.data);
    return st;
}

/* ---- files ---- */

/* A hub that lists no sizes says them of each file. Nothing is read of its body. */
ct_status ct_hub_complete(ct_hub *h, const char *commit, ct_hub_file *f, ct_error *err)
{
    char url[CT_URL];
    ct_reply r;
    if (!resolve_url(h, url, sizeof url, commit, f->name))
        return ct_fail(err, CT_EINVAL, h->repo, "the address of '%.80s' is too long", f->name);
    ct_status st = ask(h, url, f->name, NULL, &r, err);
    if (st != CT_OK)
        return st;
    if (f->size == UINT64_MAX)
        f->size = r.file_size != UINT64_MAX ? r.file_size : r.status < 300 ? r.length : UINT64_MAX;
    if (f->etag[0] == '\0') {
        memcpy(f->etag, r.etag, sizeof f->etag);
        f->hashed = ct_hub_is_sha256(f->etag);
    }
    if (f->size == UINT64_MAX || f->etag[0] == '\0')
        return ct_fail(err, CT_EFORMAT, h->repo, "%s says neither in its list nor by itself %s '%.60s' has",
                       h->endpoint, f->etag[0] ? "how many bytes" : "which content", f->name);
    return CT_OK;
}

ct_status ct_hub_get(ct_hub *h, const char *commit, const ct_hub_file *f, const ct_sink *sink, ct_error *err)
{
    char url[CT_URL];
    if (!resolve_url(h, url, sizeof url, commit, f->name))
        return ct_fail(err, CT_EINVAL, h->repo, "the address of '%.80s' is too long", f->name);
    ct_reply r;
    return ask(h, url, f->name, sink, &r, err);
}
