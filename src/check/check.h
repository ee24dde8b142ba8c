/* Every operation, weight or cache type and instruction set of a backend, against the oracle.
 *
 *     ct_check_run(NULL, 2, seed, true, on_result, arg, &err)      what `carat check` and the tests call
 *
 * A line of the report is one (operation, type, instruction set); how far its worst case came towards its error budget is
 * the figure to look at. Budgets are derived where they are used (check_linear.c, check_attention.c, check_rows.c), from
 * number formats and the data of the case, never from a backend's name. Nothing here formats for people beyond `detail`. */
#ifndef CT_CHECK_CHECK_H
#define CT_CHECK_CHECK_H

#include "backend/backend.h"

typedef struct ct_check_result {
    const char *backend, *isa, *op, *type; /* type: of weight or cache, "" where it does not apply                */
    int64_t cases;                         /* 0: skipped (this machine lacks the instruction set, or the backend  */
    double budget_used;                    /*    the type); then passed is false and detail says why              */
    bool passed;                           /* budget_used: worst error as a share of its budget; 1 = at the limit */
    char detail[160];                      /* of the worst case: shape, what differed                             */
} ct_check_result;

typedef void ct_check_fn(void *arg, const ct_check_result *r);

/* Checks a backend by name, or with NULL every one but ref itself, on `threads` threads. on_result is called per line, and
 * may be NULL. ENUMERIC when a line failed (a skipped one did not), naming the first; otherwise OK, or why it could not run.
 * quick: fewer shapes; some seconds instead of minutes. The same seed draws the same cases. */
ct_status ct_check_run(const char *backend_or_null, int32_t threads, uint64_t seed, bool quick, ct_check_fn *on_result,
                       void *arg, ct_error *err);

/* The same for one table, which need not be the backend's own: tests hand in a broken one to see it found. op: only this
 * one, or NULL. */
ct_status ct_check_table(const ct_backend *b, const ct_ops *ops, const char *op, int32_t threads, uint64_t seed,
                         bool quick, ct_check_fn *on_result, void *arg, ct_error *err);

#endif
