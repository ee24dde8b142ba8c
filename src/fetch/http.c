/* What an answer's header lines say: the few that matter, read with care, since anybody may have written them. */
#include "fetch/http.h"

#include <string.h>
#include <strings.h>

void ct_reply_init(ct_reply *r)
{
    *r = (ct_reply){.length = UINT64_MAX, .from = UINT64_MAX, .whole = UINT64_MAX, .file_size = UINT64_MAX};
}

/* Digits at *p, which moves behind them; UINT64_MAX where there are none, or too many. */
static uint64_t digits(const char **p)
{
    uint64_t v = 0;
    const char *s = *p;
    while (**p >= '0' && **p <= '9' && *p - s < 19)
        v = v * 10 + (uint64_t)(*(*p)++ - '0');
    return *p == s || (**p >= '0' && **p <= '9') ? UINT64_MAX : v;
}

static uint64_t number(const char *s)
{
    uint64_t v = digits(&s);
    return *s == '\0' ? v : UINT64_MAX;
}

static void range(ct_reply *r, const char *s)
{
    if (strncmp(s, "bytes ", 6) != 0)
        return;
    s += 6;
    uint64_t from = digits(&s);
    if (*s++ != '-')
        return;
    digits(&s);
    if (*s++ != '/')
        return;
    r->from = from;
    r->whole = number(s);
}

static void copy(char *to, size_t cap, const char *s)
{
    size_t n = strlen(s);
    if (n >= cap)
        n = 0; /* none is better than half */
    memcpy(to, s, n);
    to[n] = '\0';
}

/* The name of a content becomes the name of a file: nothing else than these characters. */
static void etag(ct_reply *r, const char *s, bool linked)
{
    char word[CT_ETAG];
    if (r->linked && !linked)
        return;
    if (strncmp(s, "W/", 2) == 0)
        s += 2;
    s += *s == '"';
    copy(word, sizeof word, s);
    size_t n = strlen(word);
    if (n > 0 && word[n - 1] == '"')
        word[--n] = '\0';
    if (n == 0 || word[0] == '.' || word[0] == '-' ||
        strspn(word, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_") != n)
        return;
    copy(r->etag, sizeof r->etag, word);
    r->linked = linked;
}

void ct_reply_header(ct_reply *r, const char *line, size_t n)
{
    char text[1024];
    if (n > 5 && memcmp(line, "HTTP/", 5) == 0) {
        const char *space = memchr(line, ' ', n);
        ct_reply_init(r);
        for (size_t i = space ? (size_t)(space - line) + 1 : n; i < n && line[i] >= '0' && line[i] <= '9'; i++)
            r->status = r->status < 1000 ? r->status * 10 + (line[i] - '0') : r->status;
        return;
    }
    if (n >= sizeof text || memchr(line, '\0', n) != NULL)
        return;
    while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' '))
        n--;
    memcpy(text, line, n);
    text[n] = '\0';
    char *value = strchr(text, ':');
    if (value == NULL)
        return;
    *value++ = '\0';
    while (*value == ' ' || *value == '\t')
        value++;
    if (strcasecmp(text, "Content-Length") == 0) {
        r->length = number(value);
    } else if (strcasecmp(text, "Content-Range") == 0) {
        range(r, value);
    } else if (strcasecmp(text, "X-Linked-Size") == 0) {
        r->file_size = number(value);
    } else if (strcasecmp(text, "Retry-After") == 0) {
        uint64_t s = number(value); /* or a date: then our own patience */
        r->wait_s = s > UINT32_MAX ? 0 : (uint32_t)s;
    } else if (strcasecmp(text, "X-Linked-Etag") == 0) {
        etag(r, value, true);
    } else if (strcasecmp(text, "ETag") == 0) {
        etag(r, value, false);
    } else if (strcasecmp(text, "X-Error-Code") == 0) {
        copy(r->code, sizeof r->code, value);
    } else if (strcasecmp(text, "X-Repo-Commit") == 0) {
        copy(r->commit, sizeof r->commit, value);
    }
}
