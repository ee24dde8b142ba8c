/* Lines that a person types or a script holds, one at a time.
 *
 * line.c knows where they come from; what a terminal offers is in line_edit.c (libedit: editing, history) or in line_plain.c
 * (neither), of which the build takes one. Nothing here knows what a line means. */
#ifndef CARAT_CLI_LINE_H
#define CARAT_CLI_LINE_H

#include <stdio.h>

#include "cli/cli.h"

enum line_result {
    LINE_TEXT,        /* a line, without its newline */
    LINE_END,         /* there are no more */
    LINE_INTERRUPTED, /* Ctrl-C while a line had text, which is dropped */
    LINE_LEAVING,     /* Ctrl-C where nothing was typed */
    LINE_FAILED       /* a sentence was printed */
};

typedef struct lines lines;

/* From a file, "-" for standard input; NULL: from the terminal that standard input is, else as "-". history: whose file of
 * typed lines, as in "chat". -1 or a status. */
int lines_open(lines **out, const char *file, const char *history);
bool lines_live(const lines *l); /* a person types */
/* prompt: only where a person types. line is emptied first. */
enum line_result lines_next(lines *l, const char *prompt, buffer *line);
void lines_close(lines *l); /* NULL is fine */

/* ---- what line_edit.c and line_plain.c each have ---- */

typedef struct line_terminal line_terminal;

/* to: where the prompt goes; history: a file, kept across talks, or NULL. NULL: no memory, or no such terminal. */
line_terminal *line_terminal_open(FILE *to, const char *history);
enum line_result line_terminal_next(line_terminal *t, const char *prompt, buffer *line);
void line_terminal_close(line_terminal *t);

#endif
