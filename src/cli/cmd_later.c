/* Commands that are agreed and not there yet: a sentence that says so, and what does the next best thing. */
#include "cli/cli.h"

#include <string.h>

int cmd_later(args *a)
{
    static const struct {
        const char *name, *instead;
    } later[] = {
        {"tune", "there is no training so far"},
        {"serve", "there is no server so far"},
    };
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++)
        if (strcmp(later[i].name, a->command) == 0)
            return fail(EXIT_USAGE, "carat %s is not there yet: %s", a->command, later[i].instead);
    return fail(EXIT_USAGE, "carat %s is not there yet", a->command);
}
