/* Where lines come from: a terminal or a file; and where a person's earlier lines are kept.
 *
 * The prompt goes to stderr, since stdout is for results; where only stdout is a terminal, there. */
#include "cli/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

struct lines {
    FILE *script; /* or */
    line_terminal *terminal;
    const char *name;
};

/* ${XDG_STATE_HOME:-~/.local/state}/carat/NAME_history, its folders made. False: there is nowhere to keep it. */
static bool history_path(const char *name, char *path, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n;
    if (state && state[0] == '/')
        n = snprintf(path, cap, "%s/carat/%s_history", state, name);
    else if (home && home[0])
        n = snprintf(path, cap, "%s/.local/state/carat/%s_history", home, name);
    else
        return false;
    if (n < 0 || (size_t)n >= cap)
        return false;
    for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        bool there = mkdir(path, 0700) == 0 || errno == EEXIST;
        *p = '/';
        if (!there)
            return false;
    }
    return true;
}

int lines_open(lines **out, const char *file, const char *history)
{
    char path[4096];
    lines *l = ct_calloc(1, sizeof *l);
    *out = NULL;
    if (l == NULL)
        return fail(EXIT_FAILED, "out of memory for what is typed");
    FILE *to = isatty(STDERR_FILENO) ? stderr : isatty(STDOUT_FILENO) ? stdout : NULL;
    l->name = "standard input";
    if (file == NULL && to && isatty(STDIN_FILENO))
        l->terminal = line_terminal_open(to, history_path(history, path, sizeof path) ? path : NULL);
    if (l->terminal == NULL && (file == NULL || strcmp(file, "-") == 0))
        l->script = stdin;
    else if (l->terminal == NULL) {
        struct stat sb;
        l->name = file;
        l->script = fopen(file, "r");
        bool folder = l->script && fstat(fileno(l->script), &sb) == 0 && S_ISDIR(sb.st_mode);
        if (l->script == NULL || folder) {
            int status = fail(EXIT_USAGE, "cannot read '%s': %s", file, strerror(folder ? EISDIR : errno));
            lines_close(l);
            return status;
        }
    }
    *out = l;
    return -1;
}

bool lines_live(const lines *l) { return l->terminal != NULL; }

enum line_result lines_next(lines *l, const char *prompt, buffer *line)
{
    int c;
    line->n = 0;
    if (l->terminal)
        return line_terminal_next(l->terminal, prompt, line);
    while ((c = getc(l->script)) != EOF && c != '\n') {
        char byte = (char)c;
        put(line, &byte, 1);
    }
    if (ferror(l->script)) {
        fail(EXIT_FAILED, "cannot read %s: %s", l->name, strerror(errno));
        return LINE_FAILED;
    }
    if (line->failed) {
        fail(EXIT_FAILED, "out of memory for a line");
        return LINE_FAILED;
    }
    if (c == '\n' && line->n > 0 && line->data[line->n - 1] == '\r')
        line->n--;
    return c == EOF && line->n == 0 ? LINE_END : LINE_TEXT;
}

void lines_close(lines *l)
{
    if (l == NULL)
        return;
    if (l->terminal)
        line_terminal_close(l->terminal);
    if (l->script && l->script != stdin)
        fclose(l->script);
    ct_free(l);
}
