/* Checks some operations of one instruction set of the cpu backend against the reference, for machines on which the whole of
 * `carat check` would take too long (emulated ones):
 *
 *     check_isa ISA OPERATION...      exit 0: all passed; 1: one failed; 77: the machine lacks the instruction set
 *
 * Prints a line per operation and type. */
#include <stdio.h>

#include "check/check.h"

static void on_result(void *arg, const ct_check_result *r)
{
    (void)arg;
    if (r->cases > 0)
        printf("%-7s %-14s %-9s %5lld cases, %5.1f %% of budget%s\n", r->isa, r->op, r->type, (long long)r->cases,
               r->budget_used * 100, r->passed ? "" : ", FAILED");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: check_isa ISA OPERATION...\n");
        return 2;
    }
    const ct_backend *b = ct_backend_get("cpu");
    const ct_ops *ops = b->ops(argv[1]);
    if (ops == NULL) {
        fprintf(stderr, "check_isa: this machine lacks %s\n", argv[1]);
        return 77;
    }
    int rc = 0;
    for (int i = 2; i < argc; i++) {
        ct_error err = {0};
        if (ct_check_table(b, ops, argv[i], 2, 1, true, on_result, NULL, &err) != CT_OK) {
            fprintf(stderr, "check_isa: %s\n", err.text);
            rc = 1;
        }
    }
    return rc;
}
