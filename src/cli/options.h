/* What a row of the table of options says; options.c has the rows. For those who describe them elsewhere: describe.c. */
#ifndef CARAT_CLI_OPTIONS_H
#define CARAT_CLI_OPTIONS_H

#include "cli/cli.h"

enum kind { FLAG, INT, REAL, SEED, TEXT, TEXTS, INTS, LATER };

typedef struct option {
    const char *name;
    char letter;
    enum kind kind;
    const char *arg; /* NULL: a flag; in capitals what is expected, else the words that there are: prompt|decode */
    size_t field;
    double min, max; /* of numbers */
    uint32_t commands;
    const char *help; /* of LATER: what to expect, as the end of "... is not there yet: " */
} option;

extern const option options[]; /* ends with a NULL name */

#endif
