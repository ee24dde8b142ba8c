/* carat_check: the report of check/, line by line, to the outside. */
#include <string.h>

#include "api/internal.h"
#include "check/check.h"

struct listener {
    void (*on_result)(void *arg, const carat_check_result *r);
    void *arg;
};

static void forward(void *arg, const ct_check_result *r)
{
    const struct listener *l = arg;
    carat_check_result out = {.backend = r->backend,
                              .isa = r->isa,
                              .op = r->op,
                              .type = r->type,
                              .cases = r->cases,
                              .budget_used = r->budget_used,
                              .passed = r->passed};
    _Static_assert(sizeof out.detail == sizeof r->detail, "the two have the same shape");
    memcpy(out.detail, r->detail, sizeof out.detail);
    l->on_result(l->arg, &out);
}

carat_status carat_check(const char *backend, int32_t threads, uint64_t seed, bool quick,
                         void (*on_result)(void *arg, const carat_check_result *r), void *arg, carat_error *err)
{
    API_REQUIRE(threads >= 0 && threads <= 1024, "0 to 1024 threads");
    ct_error e = {0};
    struct listener l = {on_result, arg};
    return ct_api_error(err, ct_check_run(backend, threads, seed, quick, on_result ? forward : NULL, &l, &e), &e);
}
