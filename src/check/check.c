/* Which backends, instruction sets and operations are checked; that none is forgotten. */
#include "check/harness.h"

#include <stdio.h>
#include <string.h>

/* A row per row of ops.def, in its order. offset finds the slot: a fusion that a table lacks has nothing to check. */
static const struct {
    const char *op;
    ct_check_op_fn *fn;
    size_t offset;
} checks[] = {
    {"embed", ct_check_embed, offsetof(ct_ops, embed)},
    {"rope_table", ct_check_rope_table, offsetof(ct_ops, rope_table)},
    {"rmsnorm", ct_check_rmsnorm, offsetof(ct_ops, rmsnorm)},
    {"linear", ct_check_linear, offsetof(ct_ops, linear)},
    {"head_norm", ct_check_head_norm, offsetof(ct_ops, head_norm)},
    {"rope", ct_check_rope, offsetof(ct_ops, rope)},
    {"norm_rope", ct_check_norm_rope, offsetof(ct_ops, norm_rope)},
    {"kv_store", ct_check_kv_store, offsetof(ct_ops, kv_store)},
    {"attention", ct_check_attention, offsetof(ct_ops, attention)},
    {"geglu", ct_check_geglu, offsetof(ct_ops, geglu)},
    {"linear_geglu", ct_check_linear_geglu, offsetof(ct_ops, linear_geglu)},
    {"norm_add", ct_check_norm_add, offsetof(ct_ops, norm_add)},
    {"norm_add_norm", ct_check_norm_add_norm, offsetof(ct_ops, norm_add_norm)},
    {"softcap", ct_check_softcap, offsetof(ct_ops, softcap)},
    {"gather", ct_check_gather, offsetof(ct_ops, gather)},
    {"linear_top", ct_check_linear_top, offsetof(ct_ops, linear_top)},
};

enum { N_CHECKS = sizeof checks / sizeof checks[0] };

/* Room for the largest case's operands; committed as far as it is touched. */
#define OPERAND_BYTES ((size_t)256 << 20)
#define SCRATCH_BYTES ((size_t)1 << 20)

/* What a device's stream is made for; other backends are told the limits of each case. */
static const ct_limits largest = {.rows = 256,
                                  .max_cols = 8192,
                                  .max_out = 8192,
                                  .heads = 16,
                                  .kv_heads = 8,
                                  .head_dim = 256,
                                  .context = 131072,
                                  .threads = 1};

/* An op that nobody checks is a failed line of its own. */
static void report_unchecked(ct_check *t, const char *op)
{
    ct_check_line_begin(t, op, "");
    ct_check_case(t, "coverage");
    ct_check_used(t, INFINITY, "the operation has no check");
    ct_check_line_end(t);
}

static void check_ops(ct_check *t, const char *only)
{
    bool required = false;
    const char *op = NULL;
    for (size_t i = 0; (op = ct_op_name(i, &required)) != NULL && t->status == CT_OK; i++) {
        if (only != NULL && strcmp(op, only) != 0)
            continue;
        size_t j = 0;
        while (j < N_CHECKS && strcmp(checks[j].op, op) != 0)
            j++;
        if (j == N_CHECKS) {
            report_unchecked(t, op);
            continue;
        }
        void (*slot)(void);
        memcpy(&slot, (const char *)t->ops + checks[j].offset, sizeof slot);
        if (slot != NULL)
            checks[j].fn(t);
    }
}

ct_status ct_check_table(const ct_backend *b, const ct_ops *ops, const char *op, int32_t threads, uint64_t seed,
                         bool quick, ct_check_fn *on_result, void *arg, ct_error *err)
{
    ct_check t = {.b = b,
                  .ref_b = ct_backend_get("ref"),
                  .ops = ops,
                  .seed = seed,
                  .quick = quick,
                  .on_result = on_result,
                  .arg = arg};
    const int32_t sizes[CT_CHECK_POOLS] = {1, 2, 3, 7, threads};
    ct_status st = ct_ops_check(b->name, ops, err);
    if (st != CT_OK)
        return st;
    t.ref = t.ref_b->ops(NULL);
    for (int32_t i = 0; i < CT_CHECK_POOLS; i++)
        if ((st = ct_pool_create(&t.pools[i], sizes[i], err)) != CT_OK)
            goto done;
    if (b->stream_create && (st = b->stream_create(&t.stream, &largest, err)) != CT_OK)
        goto done;
    if (!ct_check_pool(&t, &t.mem, OPERAND_BYTES, 0)) {
        st = ct_fail(err, CT_ENOMEM, b->name, "no memory for %zu bytes of operands", OPERAND_BYTES);
        goto done;
    }
    if ((st = t.ref_b->buffer_alloc(&t.ref_mem, OPERAND_BYTES, err)) != CT_OK)
        goto done;
    if (!ct_arena_init(&t.scratch, SCRATCH_BYTES) || !ct_arena_init(&t.ref_scratch, SCRATCH_BYTES)) {
        st = ct_fail(err, CT_ENOMEM, NULL, "no memory for the work space of the check");
        goto done;
    }
    check_ops(&t, op);
    if (t.status != CT_OK)
        st = ct_fail(err, t.status, b->name,
                     "the check of backend %s could not go on in case '%s' of operation %s (%s)", b->name, t.label,
                     t.line.op, ct_status_name(t.status));
    else if (t.failed)
        st = ct_fail(err, CT_ENUMERIC, b->name, "backend %s (%s): operation %s %s used %.3g of its error budget; %s",
                     b->name, t.first_failed.isa, t.first_failed.op, t.first_failed.type, t.first_failed.budget_used,
                     t.first_failed.detail);
done:
    ct_arena_deinit(&t.ref_scratch);
    ct_arena_deinit(&t.scratch);
    t.ref_b->buffer_free(&t.ref_mem);
    ct_check_pool_free(&t, &t.mem);
    if (t.stream)
        b->stream_free(t.stream);
    for (int32_t i = 0; i < CT_CHECK_POOLS; i++)
        ct_pool_free(t.pools[i]);
    return st;
}

/* All instruction sets of a backend; those that the machine lacks are named, not counted. Goes on after a failure and keeps
 * the first sentence. */
static ct_status check_backend(const ct_backend *b, int32_t threads, uint64_t seed, bool quick, ct_check_fn *on_result,
                               void *arg, ct_error *err)
{
    ct_status first = CT_OK;
    for (size_t i = 0; b->isas[i] != NULL; i++) {
        const ct_ops *ops = b->ops(b->isas[i]);
        if (ops == NULL) {
            ct_check_result r = {.backend = b->name, .isa = b->isas[i], .op = "", .type = ""};
            snprintf(r.detail, sizeof r.detail, "skipped: this machine lacks %s", b->isas[i]);
            if (on_result)
                on_result(arg, &r);
            continue;
        }
        ct_status st = ct_check_table(b, ops, NULL, threads, seed, quick, on_result, arg, first == CT_OK ? err : NULL);
        if (first == CT_OK)
            first = st;
        if (st != CT_OK && st != CT_ENUMERIC)
            return st;
    }
    return first;
}

ct_status ct_check_run(const char *backend_or_null, int32_t threads, uint64_t seed, bool quick, ct_check_fn *on_result,
                       void *arg, ct_error *err)
{
    if (backend_or_null != NULL) {
        const ct_backend *b;
        ct_status st = ct_backend_find(&b, backend_or_null, err);
        if (st != CT_OK)
            return st;
        return check_backend(b, threads, seed, quick, on_result, arg, err);
    }
    ct_status first = CT_OK;
    const ct_backend *b = NULL;
    for (size_t i = 0; (b = ct_backend_at(i)) != NULL; i++) {
        if (strcmp(b->name, "ref") == 0)
            continue; /* against itself it proves nothing; tests/unit/test_ref_ops.c checks it */
        ct_status st = check_backend(b, threads, seed, quick, on_result, arg, first == CT_OK ? err : NULL);
        if (first == CT_OK)
            first = st;
        if (st != CT_OK && st != CT_ENUMERIC)
            return st;
    }
    return first;
}
