/* A terminal's lines without libedit: what the terminal itself offers (Backspace, Ctrl-U, Ctrl-W), and no history. */
#include "cli/line.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

struct line_terminal {
    FILE *to;
    char typed[4096]; /* a terminal gives at most so much of a line at once */
    size_t n, at;
};

static volatile sig_atomic_t pressed;

static void on_interrupt(int signal)
{
    (void)signal;
    pressed = 1;
}

line_terminal *line_terminal_open(FILE *to, const char *history)
{
    (void)history;
    line_terminal *t = ct_calloc(1, sizeof *t);
    if (t)
        t->to = to;
    return t;
}

/* The terminal drops a line at Ctrl-C before anyone has read it, so whether it had text cannot be known: pressing twice leaves,
 * as at an empty prompt. */
enum line_result line_terminal_next(line_terminal *t, const char *prompt, buffer *line)
{
    struct sigaction mine = {.sa_handler = on_interrupt}, before; /* no SA_RESTART: read() returns */
    enum line_result result = LINE_TEXT;
    sigemptyset(&mine.sa_mask);
    pressed = 0;
    fputs(prompt, t->to);
    fflush(t->to);
    sigaction(SIGINT, &mine, &before);
    for (bool whole = false; !whole;) {
        if (t->at == t->n) {
            ssize_t got = read(STDIN_FILENO, t->typed, sizeof t->typed);
            t->at = t->n = 0;
            if (got < 0 && errno == EINTR && !pressed)
                continue;
            if (got <= 0) {
                result = got == 0         ? (line->n > 0 ? LINE_TEXT : LINE_END)
                         : errno != EINTR ? LINE_FAILED
                         : line->n > 0    ? LINE_INTERRUPTED
                                          : LINE_LEAVING;
                break;
            }
            t->n = (size_t)got;
        }
        const char *from = t->typed + t->at, *newline = memchr(from, '\n', t->n - t->at);
        size_t take = newline ? (size_t)(newline - from) : t->n - t->at;
        put(line, from, take);
        t->at += take + (newline ? 1 : 0);
        whole = newline != NULL;
    }
    sigaction(SIGINT, &before, NULL);
    if (result == LINE_INTERRUPTED || result == LINE_LEAVING)
        fputc('\n', t->to); /* the terminal wrote ^C */
    if (result == LINE_FAILED)
        fail(EXIT_FAILED, "cannot read from the terminal: %s", strerror(errno));
    if (result == LINE_TEXT && line->failed) {
        fail(EXIT_FAILED, "out of memory for a line");
        result = LINE_FAILED;
    }
    return result;
}

void line_terminal_close(line_terminal *t) { ct_free(t); }
