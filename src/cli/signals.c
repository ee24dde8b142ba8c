/* Signals: Ctrl-C and requests to end are asked of whoever is at work, who finishes what must not be lost; a file that shrinks
 * while it is mapped becomes a sentence. The library installs no handlers: this is the program's.
 *
 * Nothing half-written lies under a final name whenever the program ends: files are renamed into place. */
#include "cli/cli.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t polled;  /* somebody looks at `asked` */
static volatile sig_atomic_t waiting; /* a script's talk is between two answers: Ctrl-C ends it */
static volatile sig_atomic_t keeping; /* somebody has something to keep before the program ends */
static volatile sig_atomic_t asked, ended_by, patience = 1;

/* For whoever waits for the program: 130 after Ctrl-C, else an end by the signal itself. */
static void leave(int sig)
{
    if (sig == SIGINT)
        _exit(EXIT_INTERRUPTED);
    signal(sig, SIG_DFL);
    raise(sig); /* inside the handler: takes place when it returns */
}

static void on_request(int sig)
{
    bool ends = sig != SIGINT || waiting, again = ended_by != 0;
    if (!(ends ? keeping : polled) || (ends && again) || asked >= patience) {
        leave(sig);
        return;
    }
    asked = asked + 1;
    if (!ends)
        return;
    ended_by = sig;
    int nothing = open("/dev/null",
                       O_RDONLY | O_CLOEXEC); /* who waits for input finds its end, and keeps what there is */
    if (nothing >= 0) {
        dup2(nothing, STDIN_FILENO);
        close(nothing);
    }
}

/* ---- a mapped file that is not there any more ---- */

struct line_reader {
    int fd;
    char data[4096];
    ssize_t n, at;
};

/* The next line, cut at cap - 1 bytes; false at the end. No stdio: this runs inside a handler. */
static bool next_line(struct line_reader *r, char *line, size_t cap)
{
    size_t used = 0;
    for (;;) {
        if (r->at >= r->n) {
            r->n = read(r->fd, r->data, sizeof r->data);
            r->at = 0;
            if (r->n <= 0)
                return false;
        }
        char c = r->data[r->at++];
        if (c == '\n')
            break;
        if (used + 1 < cap)
            line[used++] = c;
    }
    line[used] = '\0';
    return true;
}

static uintptr_t hexadecimal(const char **p)
{
    uintptr_t v = 0;
    for (;; (*p)++) {
        char c = **p;
        if (c >= '0' && c <= '9')
            v = v << 4 | (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uintptr_t)(c - 'a' + 10);
        else
            return v;
    }
}

/* The file that is mapped at an address, as /proc/self/maps has it: FROM-TO PERMISSIONS OFFSET DEVICE INODE PATH. */
static bool file_at(uintptr_t address, char *path, size_t cap)
{
    static struct line_reader r;
    char line[1024];
    bool found = false;
    r = (struct line_reader){.fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC)};
    while (r.fd >= 0 && !found && next_line(&r, line, sizeof line)) {
        const char *p = line;
        uintptr_t from = hexadecimal(&p), to = *p == '-' ? (p++, hexadecimal(&p)) : 0;
        const char *name = strchr(line, '/');
        if (address < from || address >= to || name == NULL)
            continue;
        size_t n = strlen(name) < cap - 1 ? strlen(name) : cap - 1;
        memcpy(path, name, n);
        path[n] = '\0';
        found = true;
    }
    if (r.fd >= 0)
        close(r.fd);
    return found;
}

static size_t append(char *to, size_t at, size_t cap, const char *s)
{
    for (; *s && at + 1 < cap; s++)
        to[at++] = (unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s;
    return at;
}

static void on_lost_page(int sig, siginfo_t *info, void *context)
{
    (void)context;
    char path[1024], text[1280];
    size_t n = append(text, 0, sizeof text, "carat: ");
    bool known = file_at((uintptr_t)info->si_addr, path, sizeof path);
    if (!known && info->si_code != BUS_ADRERR) { /* no file has to do with it: a fault of carat's own, told as such */
        signal(sig, SIG_DFL);
        return;
    }
    n = append(text, n, sizeof text, known ? "'" : "a file");
    n = append(text, n, sizeof text, known ? path : "");
    n = append(text, n, sizeof text, known ? "'" : "");
    n = append(text, n, sizeof text,
               " became shorter, or its disk failed, while it was read: it must not change as long as carat reads it");
    text[n++] = '\n';
    ssize_t written = write(STDERR_FILENO, text, n);
    (void)written;
    _exit(EXIT_FAILED);
}

/* ---- for the others ---- */

static void on(int sig, void (*handler)(int))
{
    struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&sa.sa_mask);
    sigaction(sig, &sa, NULL);
}

void signals_start(void)
{
    struct sigaction lost = {.sa_sigaction = on_lost_page, .sa_flags = SA_SIGINFO}, before;
    sigemptyset(&lost.sa_mask);
    sigaction(SIGBUS, &lost, NULL);
    on(SIGINT, on_request);
    on(SIGTERM, on_request);
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) /* nohup has its way */
        on(SIGHUP, on_request);
    signal(SIGPIPE, SIG_DFL); /* a reader that has gone ends the program quietly, as it does cat's */
    signal(SIGXFSZ, SIG_IGN); /* a file larger than allowed is a failed write, and those have a sentence */
}

void signals_polled(void)
{
    polled = keeping = 1;
    waiting = 0;
}

void signals_between(bool ignored)
{
    asked = 0;
    keeping = 1;
    polled = ignored;
    waiting = !ignored;
    patience = ignored ? 3 : 1;
}

bool interrupted(void) { return asked != 0 || ended_by != 0; }
bool ending(void) { return ended_by != 0; }

bool keep_going(void *arg)
{
    (void)arg;
    return !asked;
}

int signals_end(int status)
{
    if (ended_by) {
        fflush(NULL);
        leave(ended_by);
    }
    return status;
}
