/* carat check: every kernel of every backend on this machine against the reference, a line each. */
#include "cli/cli.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct report {
    const args *a;
    buffer b; /* JSON */
    int32_t lines, failed, skipped;
    bool color;
};

static void on_result(void *arg, const carat_check_result *c)
{
    struct report *r = arg;
    const char *verdict = c->cases == 0 ? "skipped" : c->passed ? "ok" : "FAILED";
    r->lines++;
    r->skipped += c->cases == 0;
    r->failed += c->cases > 0 && !c->passed;
    if (r->a->json) {
        json_open(&r->b, NULL, '{');
        json_str(&r->b, "backend", c->backend);
        json_str(&r->b, "isa", c->isa);
        json_str(&r->b, "op", c->op);
        json_str(&r->b, "type", c->type);
        json_int(&r->b, "cases", c->cases);
        json_real(&r->b, "budget_used", c->budget_used);
        json_bool(&r->b, "passed", c->passed);
        json_bool(&r->b, "skipped", c->cases == 0);
        json_str(&r->b, "detail", c->detail);
        json_close(&r->b, '}');
        return;
    }
    bool bad = c->cases > 0 && !c->passed;
    printf("%-5s %-7s %-14s %-6s %7lld cases  %6.1f %% of budget  %s%s%s%s%s\n", c->backend, c->isa, c->op, c->type,
           (long long)c->cases, 100 * c->budget_used, bad && r->color ? "\033[31m" : "", verdict,
           bad && r->color ? "\033[0m" : "", bad || r->a->verbose || c->cases == 0 ? "  " : "",
           bad || r->a->verbose || c->cases == 0 ? c->detail : "");
    fflush(stdout);
}

int cmd_check(args *a)
{
    struct report r = {.a = a, .color = use_color(a, STDOUT_FILENO)};
    carat_error e = {0};
    const char *backend = strcmp(a->backend, "auto") == 0 ? NULL : a->backend;
    if (a->n_words > 0)
        return fail(EXIT_USAGE, "carat check takes no arguments, found '%s'", a->words[0]);
    if (a->json) {
        json_open(&r.b, NULL, '{');
        json_open(&r.b, "results", '[');
    }
    carat_status st = carat_check(backend, a->threads, a->has_seed ? a->seed : 1, a->quick, on_result, &r, &e);
    int status = -1;
    if (a->json) {
        json_close(&r.b, ']');
        json_int(&r.b, "failed", r.failed);
        json_int(&r.b, "skipped", r.skipped);
        json_close(&r.b, '}');
        status = buffer_print(&r.b);
    } else if (r.lines > 0) {
        printf("%d lines, %d failed, %d skipped\n", r.lines, r.failed, r.skipped);
        status = print_end();
    }
    buffer_free(&r.b);
    if (status < 0 && st != CARAT_OK) /* a kernel that is wrong is carat's failure, not the model's */
        status = fail(st == CARAT_EUNSUPPORTED || st == CARAT_ENOTFOUND ? EXIT_UNUSABLE : EXIT_FAILED, "%s", e.text);
    return status < 0 ? EXIT_DONE : status;
}
