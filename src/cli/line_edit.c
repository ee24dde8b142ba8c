/* A terminal's lines through libedit: editing, history that is kept across talks, Ctrl-R, ~/.editrc.
 *
 * libedit puts the terminal into its own mode only while a line is read. In that mode Ctrl-C and Ctrl-Z are keys like others:
 * Ctrl-C gives the line up, Ctrl-Z stops the program with the terminal as it was found. Signals sent by others restore the
 * terminal too (EL_SIGNAL). The history's file is one line each, appended as they are typed, so that two talks at once and a
 * killed program lose nothing; it is shortened when it has grown to twice what is kept. */
#include "cli/line.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum { KEPT = 1000 };

struct line_terminal {
    FILE *to;
    EditLine *el;
    History *history;
    char *path; /* of the history's file, or NULL */
    char prompt[16];
    bool interrupted, had_text; /* of the line under way */
};

static line_terminal *of(EditLine *el)
{
    void *t = NULL;
    el_get(el, EL_CLIENTDATA, &t);
    return t;
}

static char *prompt(EditLine *el) { return of(el)->prompt; }

static unsigned char on_interrupt(EditLine *el, int key)
{
    (void)key;
    line_terminal *t = of(el);
    const LineInfo *li = el_line(el);
    t->interrupted = true;
    t->had_text = li->lastchar > li->buffer;
    return CC_EOF;
}

/* libedit's own handler puts the terminal back, lets the signal do its work, and returns here when the program goes on. */
static unsigned char on_suspend(EditLine *el, int key)
{
    (void)el;
    (void)key;
    raise(SIGTSTP);
    return CC_REDISPLAY;
}

static void remember(line_terminal *t, const char *line)
{
    HistEvent ev;
    history(t->history, &ev, H_ENTER, line);
}

/* Earlier lines, oldest first. */
static void history_load(line_terminal *t)
{
    char *data = NULL;
    size_t n = 0, count = 0;
    if (t->path == NULL || !ct_is_file(t->path) || ct_file_read(&data, &n, t->path, NULL) != CT_OK)
        return;
    for (size_t i = 0; i < n; i++)
        count += data[i] == '\n';
    char *from = data;
    for (size_t skip = count > KEPT ? count - KEPT : 0; skip > 0; skip--)
        from = strchr(from, '\n') ? strchr(from, '\n') + 1 : from + strlen(from);
    if (count > 2 * KEPT && ct_file_write(t->path, from, n - (size_t)(from - data), NULL) == CT_OK)
        chmod(t->path, 0600);
    for (char *line = from, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        remember(t, line);
    }
    ct_free(data);
}

/* line: [n] bytes, then a newline and a NUL. The file has the newline, libedit's list does not. */
static void history_add(line_terminal *t, char *line, size_t n)
{
    if (line[strspn(line, " \t\n")] == '\0')
        return;
    line[n] = '\0';
    remember(t, line);
    line[n] = '\n';
    int fd = t->path ? open(t->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    /* One write, so that lines of two talks do not mix. A history that cannot be kept is no reason to stop talking. */
    ssize_t written = write(fd, line, n + 1);
    (void)written;
    close(fd);
}

line_terminal *line_terminal_open(FILE *to, const char *path)
{
    HistEvent ev;
    line_terminal *t = ct_calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    /* libedit drops what is typed beyond ASCII unless the locale has characters for it. Numbers stay as they are. */
    if (setlocale(LC_CTYPE, "") == NULL || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    t->to = to;
    t->path = path ? ct_strdup(path) : NULL;
    t->history = history_init();
    t->el = el_init("carat", stdin, to, stderr);
    if (t->history == NULL || t->el == NULL) {
        line_terminal_close(t);
        return NULL;
    }
    history(t->history, &ev, H_SETSIZE, KEPT);
    history(t->history, &ev, H_SETUNIQUE, 1);
    history_load(t);
    el_set(t->el, EL_CLIENTDATA, t);
    el_set(t->el, EL_PROMPT, prompt);
    el_set(t->el, EL_HIST, history, t->history);
    el_set(t->el, EL_SIGNAL, 1);
    el_set(t->el, EL_EDITOR, "emacs");
    el_set(t->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(t->el, NULL);
    el_set(t->el, EL_SETTY, "-d", "-isig", NULL);
    /* The wide form keeps these names as they are; the other one copies them and never frees the copies. */
    el_wset(t->el, EL_ADDFN, L"carat-interrupt", L"gives the line up", on_interrupt);
    el_wset(t->el, EL_ADDFN, L"carat-suspend", L"stops the program", on_suspend);
    el_set(t->el, EL_BIND, "^C", "carat-interrupt", NULL);
    el_set(t->el, EL_BIND, "^Z", "carat-suspend", NULL);
    return t;
}

enum line_result line_terminal_next(line_terminal *t, const char *text, buffer *line)
{
    int n = 0;
    snprintf(t->prompt, sizeof t->prompt, "%s", text);
    t->interrupted = t->had_text = false;
    errno = 0;
    const char *got = el_gets(t->el, &n);
    if (t->interrupted) {
        fputs("^C\n", t->to);
        fflush(t->to);
        return t->had_text ? LINE_INTERRUPTED : LINE_LEAVING;
    }
    if (n < 0 && errno == EINTR) /* a signal that was not typed */
        return LINE_LEAVING;
    if (n < 0) {
        fail(EXIT_FAILED, "cannot read from the terminal: %s", strerror(errno));
        return LINE_FAILED;
    }
    if (got == NULL || n == 0)
        return LINE_END;
    put(line, got, (size_t)n - (got[n - 1] == '\n'));
    put(line, "\n", 1);
    if (line->failed) {
        fail(EXIT_FAILED, "out of memory for a line");
        return LINE_FAILED;
    }
    line->n--;
    history_add(t, line->data, line->n);
    return LINE_TEXT;
}

void line_terminal_close(line_terminal *t)
{
    if (t == NULL)
        return;
    if (t->el)
        el_end(t->el);
    if (t->history)
        history_end(t->history);
    ct_free(t->path);
    ct_free(t);
}
