/* A terminal's lines without libedit: what the terminal itself offers (Backspace, Ctrl-U, Ctrl-W), and no history.
 *
 * Ctrl-C comes as a signal, which any thread of the process may get: it reaches the waiting one through a pipe. */
#include "cli/line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

struct line_terminal {
    FILE *to;
    int wake;         /* end of the pipe that is read */
    char typed[4096]; /* a terminal gives at most so much of a line at once */
    size_t n, at;
};

static volatile sig_atomic_t wake_end; /* the other one */

static void on_interrupt(int signal)
{
    (void)signal;
    int before = errno;
    ssize_t written = write(wake_end, "", 1);
    (void)written; /* a full pipe wakes as well */
    errno = before;
}

line_terminal *line_terminal_open(FILE *to, const char *history)
{
    (void)history;
    int ends[2];
    line_terminal *t = ct_calloc(1, sizeof *t);
    if (t == NULL || pipe(ends) != 0) {
        ct_free(t);
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
    t->to = to;
    t->wake = ends[0];
    wake_end = ends[1];
    return t;
}

/* Waits, then reads some of what was typed. LINE_TEXT, or what came instead. */
static enum line_result more(line_terminal *t)
{
    struct pollfd wait[2] = {{.fd = t->wake, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    char byte;
    while (poll(wait, 2, -1) < 0)
        if (errno != EINTR)
            return LINE_FAILED;
    if (wait[0].revents) {
        while (read(t->wake, &byte, 1) == 1) /* the terminal drops what it had of the line */
            ;
        return LINE_LEAVING;
    }
    ssize_t got = read(STDIN_FILENO, t->typed, sizeof t->typed);
    t->at = 0;
    t->n = got > 0 ? (size_t)got : 0;
    return got > 0 ? LINE_TEXT : got == 0 ? LINE_END : LINE_FAILED;
}

/* The terminal drops a line at Ctrl-C before anyone has read it, so whether it had text cannot be known: pressing twice leaves,
 * as at an empty prompt. */
enum line_result line_terminal_next(line_terminal *t, const char *prompt, buffer *line)
{
    struct sigaction mine = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART}, before;
    enum line_result result = LINE_TEXT;
    sigemptyset(&mine.sa_mask);
    sigaction(SIGINT, &mine, &before);
    fputs(prompt, t->to);
    fflush(t->to);
    for (bool whole = false; !whole;) {
        if (t->at == t->n && (result = more(t)) != LINE_TEXT)
            break;
        const char *from = t->typed + t->at, *newline = memchr(from, '\n', t->n - t->at);
        size_t take = newline ? (size_t)(newline - from) : t->n - t->at;
        put(line, from, take);
        t->at += take + (newline ? 1 : 0);
        whole = newline != NULL;
    }
    sigaction(SIGINT, &before, NULL);
    if (result == LINE_END && line->n > 0)
        result = LINE_TEXT;
    if (result == LINE_LEAVING)
        fputc('\n', t->to); /* the terminal wrote ^C */
    if (result == LINE_FAILED)
        fail(EXIT_FAILED, "cannot read from the terminal: %s", strerror(errno));
    if (result == LINE_TEXT && line->failed) {
        fail(EXIT_FAILED, "out of memory for a line");
        result = LINE_FAILED;
    }
    return result;
}

void line_terminal_close(line_terminal *t)
{
    if (t == NULL)
        return;
    close(t->wake);
    close(wake_end);
    ct_free(t);
}
