/* Output: a growing buffer, a JSON writer on it, bytes for people, progress on a terminal. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/system.h"

/* ---- buffer ---- */

void put(buffer *b, const char *s, size_t n)
{
    if (b->room - b->n < n + 1) {
        size_t room = b->room * 2 + n + 256;
        char *grown = ct_realloc(b->data, room);
        if (grown == NULL) {
            b->failed = true;
            return;
        }
        b->data = grown;
        b->room = room;
    }
    if (n > 0)
        memcpy(b->data + b->n, s, n);
    b->n += n;
    b->data[b->n] = '\0';
}

void putz(buffer *b, const char *s) { put(b, s, strlen(s)); }

void putf(buffer *b, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n > 0)
        put(b, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

void put_clean(buffer *b, const char *s)
{
    for (; *s; s++)
        put(b, (unsigned char)*s < 0x20 || *s == 0x7f ? " " : s, 1);
}

void buffer_free(buffer *b)
{
    ct_free(b->data);
    *b = (buffer){0};
}

int print_now(const char *s, size_t n)
{
    if ((n > 0 && fwrite(s, 1, n, stdout) != n) || fflush(stdout) != 0) {
        if (errno == EPIPE) /* the reader has gone: that is its right */
            return EXIT_FAILED;
        return fail(EXIT_FAILED, "cannot write to standard output: %s", strerror(errno));
    }
    return -1;
}

int print_end(void) { return print_now("", 0); }

int buffer_print(const buffer *b)
{
    if (b->failed)
        return fail(EXIT_FAILED, "out of memory for the output");
    return print_now(b->data ? b->data : "", b->n);
}

int buffer_save(const buffer *b, const char *path)
{
    ct_error e = {0};
    if (b->failed)
        return fail(EXIT_FAILED, "out of memory for '%s'", path);
    if (ct_file_write(path, b->data ? b->data : "", b->n, &e) != CT_OK)
        return fail(EXIT_FAILED, "%s", e.text);
    return -1;
}

/* ---- JSON ---- */

/* Length of the UTF-8 character at s, 0 if there is none: no overlong forms, surrogates, or values beyond 10FFFF. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return 1;
    size_t len = s[0] >= 0xf0 && s[0] <= 0xf4  ? 4
                 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
                                               : 0;
    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return len;
}

size_t utf8_check(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t len = utf8_len((const unsigned char *)s + i, n - i);
        if (len == 0)
            return i;
        i += len;
    }
    return n;
}

static void quoted(buffer *b, const char *s, size_t n)
{
    put(b, "\"", 1);
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        size_t len = utf8_len((const unsigned char *)s + i, n - i);
        if (c == '"' || c == '\\')
            putf(b, "\\%c", c);
        else if (c == '\n')
            putz(b, "\\n");
        else if (c == '\t')
            putz(b, "\\t");
        else if (c == '\r')
            putz(b, "\\r");
        else if (c < 0x20 || c == 0x7f)
            putf(b, "\\u%04x", c);
        else if (len == 0)
            putz(b, "\xef\xbf\xbd");
        else
            put(b, s + i, len);
        i += len ? len : 1;
    }
    put(b, "\"", 1);
}

static void begin(buffer *b, const char *key)
{
    if (b->started >> b->depth & 1)
        putz(b, ", ");
    b->started |= 1u << b->depth;
    if (key) {
        quoted(b, key, strlen(key));
        putz(b, ": ");
    }
}

void json_open(buffer *b, const char *key, char bracket)
{
    begin(b, key);
    put(b, &bracket, 1);
    b->depth++;
    b->started &= ~(1u << b->depth);
}

void json_close(buffer *b, char bracket)
{
    b->depth--;
    put(b, &bracket, 1);
    if (b->depth == 0)
        put(b, "\n", 1);
}

void json_text(buffer *b, const char *key, const char *s, size_t n)
{
    begin(b, key);
    quoted(b, s, n);
}

void json_str(buffer *b, const char *key, const char *s)
{
    begin(b, key);
    if (s)
        quoted(b, s, strlen(s));
    else
        putz(b, "null");
}

void json_int(buffer *b, const char *key, int64_t v)
{
    begin(b, key);
    putf(b, "%" PRId64, v);
}

void json_uint(buffer *b, const char *key, uint64_t v)
{
    begin(b, key);
    putf(b, "%" PRIu64, v);
}

void json_real(buffer *b, const char *key, double v)
{
    begin(b, key);
    char text[40] = "null";
    if (isfinite(v))
        for (int digits = 6; digits <= 17; digits++) { /* as short as reads back the same */
            snprintf(text, sizeof text, "%.*g", digits, v);
            if (strtod(text, NULL) == v)
                break;
        }
    putz(b, text);
}

void json_bool(buffer *b, const char *key, bool v)
{
    begin(b, key);
    putz(b, v ? "true" : "false");
}

/* ---- for people ---- */

bool use_color(const args *a, int fd)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return !a->no_color && !(no && no[0]) && !(term && strcmp(term, "dumb") == 0) && isatty(fd);
}

const char *human_bytes(char *out, double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    while (bytes >= 1024 && u < 4) {
        bytes /= 1024;
        u++;
    }
    snprintf(out, 24, bytes < 10 && u > 0 ? "%.2f %s" : bytes < 100 && u > 0 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return out;
}

void progress_init(progress *p, const args *a)
{
    const char *term = getenv("TERM");
    bool able = term && term[0] && strcmp(term, "dumb") != 0; /* or it could not take the line away again */
    *p = (progress){.on = able && !a->quiet && isatty(STDERR_FILENO), .begun_ns = ct_now_ns()};
}

/* What is over in a moment needs no bar; later ten times a second is enough, and costs nothing. */
void progress_show(void *arg, const char *what, double done, double total)
{
    enum { WIDTH = 24 };
    static const char full[] = "########################";
    progress *p = arg;
    uint64_t now = ct_now_ns();
    if (p == NULL || !p->on || now - p->begun_ns < 300000000u || now - p->last_ns < 100000000u)
        return;
    p->last_ns = now;
    p->drawn = true;
    int n = total > 0 && done < total ? (int)(done / total * WIDTH) : WIDTH;
    fprintf(stderr, "\r%s%s%s [%-*.*s] ", p->label, p->label[0] ? ": " : "", what, WIDTH, n, full);
    if (total > 1e6) /* bytes */
        fprintf(stderr, "%.0f %%\033[K", done / total * 100);
    else
        fprintf(stderr, "%.0f/%.0f\033[K", done, total);
    fflush(stderr);
}

void progress_clear(progress *p)
{
    if (p->drawn)
        fprintf(stderr, "\r\033[K");
    p->drawn = false;
}
