/* Requests by libcurl, which is loaded when the first one is made: libcarat itself needs libc alone, and who never fetches needs no
 * libcurl. The headers give names, numbers and types; the functions come from the system's library (its interface has been
 * version 4 since 2006). Once loaded it stays until the process ends. Certificates are verified; http and https are all it may
 * speak; certificates are those of the system, proxies those of
 * the environment, as libcurl reads it. */
#define CURL_DISABLE_DEPRECATION /* the newer name of CURLOPT_PROTOCOLS is not known to every libcurl that may be loaded */
#include <curl/curl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "fetch/http.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct {
    __typeof__(curl_global_init) *global_init;
    __typeof__(curl_easy_init) *easy_init;
    __typeof__(curl_easy_setopt) *setopt;
    __typeof__(curl_easy_perform) *perform;
    __typeof__(curl_easy_getinfo) *getinfo;
    __typeof__(curl_easy_strerror) *strerror;
    __typeof__(curl_easy_cleanup) *cleanup;
    __typeof__(curl_slist_append) *append;
    __typeof__(curl_slist_free_all) *free_all;
    bool there;
    ct_error why;
} curl;

static bool find(void *lib, const char *name, void *to)
{
    void *f = dlsym(lib, name);
    memcpy(to, &f, sizeof f); /* POSIX lets it be a function, C does not let it be cast */
    return f != NULL;
}

static void load(void)
{
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.4.dylib"};
    char why[120] = "it is not there";
    void *lib = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && lib == NULL; i++) {
        lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (lib == NULL && i == 0) {
            const char *said = dlerror();
            snprintf(why, sizeof why, "%s", said ? said : "no reason given");
        }
    }
    curl.there = lib && find(lib, "curl_global_init", &curl.global_init) &&
                 find(lib, "curl_easy_init", &curl.easy_init) && find(lib, "curl_easy_setopt", &curl.setopt) &&
                 find(lib, "curl_easy_perform", &curl.perform) && find(lib, "curl_easy_getinfo", &curl.getinfo) &&
                 find(lib, "curl_easy_strerror", &curl.strerror) && find(lib, "curl_easy_cleanup", &curl.cleanup) &&
                 find(lib, "curl_slist_append", &curl.append) && find(lib, "curl_slist_free_all", &curl.free_all) &&
                 curl.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    if (!curl.there)
        ct_fail(&curl.why, CT_EUNSUPPORTED, "libcurl",
                "fetching needs libcurl, which could not be loaded (%s): install it (package libcurl4)",
                lib ? "it lacks a function" : why);
}

struct by_curl {
    ct_http http;
    CURL *easy;
    char words[CURL_ERROR_SIZE];
    /* of the request at work */
    const ct_request *q;
    ct_reply *r;
    bool begun, interrupted;
    uint64_t dropped;
};

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct by_curl *h = arg;
    ct_reply_header(h->r, line, size * n);
    return size * n;
}

static bool begin(struct by_curl *h)
{
    if (!h->begun && h->q->begin && !h->q->begin(h->q->arg, h->r))
        h->r->stopped = true;
    h->begun = true;
    return !h->r->stopped;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct by_curl *h = arg;
    n *= size;
    if (h->r->status < 200 || h->r->status > 299) { /* what an error or a redirection says besides: nobody reads it */
        h->dropped += n;
        return h->dropped <= 1 << 20 ? n : 0;
    }
    if (!begin(h))
        return 0; /* less than it was: ends the request */
    if (!h->q->put(h->q->arg, data, n)) {
        h->r->stopped = true;
        return 0; /* less than it was: ends the request */
    }
    return n;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct by_curl *h = arg;
    (void)a, (void)b, (void)c, (void)d;
    h->interrupted = h->q->keep_going && !h->q->keep_going(h->q->arg);
    return h->interrupted;
}

/* A peer that hangs up must not end the process by SIGPIPE: libcurl leaves that to who forbids it signals. */
static CURLcode perform(struct by_curl *h)
{
    sigset_t pipe, before, pending;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&pending);
    bool had = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    CURLcode code = curl.perform(h->easy);
    sigpending(&pending);
    if (!had && sigismember(&pending, SIGPIPE) == 1) {
        int sig;
        sigwait(&pipe, &sig);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

static bool may_pass(CURLcode code)
{
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_NOT_BUILT_IN: return false;
    default: return true;
    }
}

/* What an answer came to. */
static ct_status judge(struct by_curl *h, CURLcode code, ct_error *err)
{
    ct_reply *r = h->r;
    bool answered = r->status >= 300 || (r->status >= 200 && code == CURLE_OK);
    if (h->interrupted)
        return ct_fail(err, CT_EINTERRUPTED, "fetch", "interrupted");
    if (r->stopped)
        return CT_OK;
    if (answered && (code == CURLE_OK || code == CURLE_WRITE_ERROR)) {
        const char *target = NULL;
        curl.getinfo(h->easy, CURLINFO_REDIRECT_URL, &target);
        if (target && strlen(target) < sizeof r->target)
            memcpy(r->target, target, strlen(target) + 1);
        if (r->status < 300 && !h->q->head)
            begin(h); /* of an empty body nothing was told */
        return CT_OK;
    }
    if (code == CURLE_OUT_OF_MEMORY)
        return ct_fail(err, CT_ENOMEM, "fetch", "out of memory for a connection");
    r->again = may_pass(code);
    const char *from = strstr(h->q->url, "://"), *name = from ? from + 3 : h->q->url;
    return ct_fail(err, CT_EIO, h->q->url, "%s '%.*s': %.120s",
                   r->status ? "the connection broke off to" : "there is no answer from", (int)strcspn(name, "/?"),
                   name, h->words[0] ? h->words : curl.strerror(code));
}

static ct_status get(ct_http *http, const ct_request *q, ct_reply *r, ct_error *err)
{
    struct by_curl *h = (struct by_curl *)(void *)http;
    struct curl_slist *headers = NULL;
    char line[1024], range[32];
    ct_status st = CT_OK;
    ct_reply_init(r);
    h->q = q;
    h->r = r;
    h->begun = h->interrupted = false;
    h->dropped = 0;
    h->words[0] = '\0';
    if (q->token) {
        int n = snprintf(line, sizeof line, "Authorization: Bearer %s", q->token);
        headers = n < (int)sizeof line ? curl.append(NULL, line) : NULL;
        if (headers == NULL)
            return ct_fail(err, CT_ENOMEM, "fetch", "out of memory for a token, or it is longer than 1000 bytes");
    }
    snprintf(range, sizeof range, "%llu-", (unsigned long long)q->from);
    bool set = curl.setopt(h->easy, CURLOPT_URL, q->url) == CURLE_OK &&
               curl.setopt(h->easy, CURLOPT_HTTPHEADER, headers) == CURLE_OK &&
               curl.setopt(h->easy, CURLOPT_RANGE, q->from > 0 ? range : NULL) == CURLE_OK &&
               (q->head ? curl.setopt(h->easy, CURLOPT_NOBODY, 1L) : curl.setopt(h->easy, CURLOPT_HTTPGET, 1L)) ==
                   CURLE_OK;
    st = set ? judge(h, perform(h), err) : ct_fail(err, CT_ENOMEM, "fetch", "out of memory for a request");
    curl.setopt(h->easy, CURLOPT_HTTPHEADER, NULL);
    curl.free_all(headers);
    return st;
}

static void shut(ct_http *http)
{
    struct by_curl *h = (struct by_curl *)(void *)http;
    if (h == NULL)
        return;
    if (h->easy)
        curl.cleanup(h->easy);
    ct_free(h);
}

static bool set_up(struct by_curl *h, long timeout_s)
{
    CURL *c = h->easy;
    return curl.setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl.setopt(c, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS)) == CURLE_OK &&
           curl.setopt(c, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl.setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) == CURLE_OK &&
           curl.setopt(c, CURLOPT_CONNECTTIMEOUT, timeout_s) == CURLE_OK &&
           curl.setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L) == CURLE_OK &&
           curl.setopt(c, CURLOPT_LOW_SPEED_TIME, timeout_s) == CURLE_OK &&
           curl.setopt(c, CURLOPT_USERAGENT, "carat/" CARAT_VERSION_TEXT) == CURLE_OK &&
           curl.setopt(c, CURLOPT_ERRORBUFFER, h->words) == CURLE_OK &&
           curl.setopt(c, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
           curl.setopt(c, CURLOPT_HEADERDATA, h) == CURLE_OK &&
           curl.setopt(c, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl.setopt(c, CURLOPT_WRITEDATA, h) == CURLE_OK &&
           curl.setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK &&
           curl.setopt(c, CURLOPT_XFERINFODATA, h) == CURLE_OK && curl.setopt(c, CURLOPT_NOPROGRESS, 0L) == CURLE_OK;
}

ct_status ct_http_open(ct_http **out, int32_t timeout_s, ct_error *err)
{
    *out = NULL;
    pthread_once(&once, load);
    if (!curl.there)
        return ct_fail(err, curl.why.code, "libcurl", "%s", curl.why.text);
    struct by_curl *h = ct_calloc(1, sizeof *h);
    if (h)
        h->easy = curl.easy_init();
    if (h == NULL || h->easy == NULL || !set_up(h, timeout_s)) {
        if (h)
            shut(&h->http);
        return ct_fail(err, CT_ENOMEM, "fetch", "libcurl could not be set up: out of memory, or it is older than 7.54");
    }
    h->http = (ct_http){get, shut};
    *out = &h->http;
    return CT_OK;
}
