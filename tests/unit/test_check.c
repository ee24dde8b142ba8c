/* The harness itself: every backend passes it, and a table with a fault does not.
 *
 * Each broken table is the oracle's own with one operation wrapped, so that nothing but the planted fault can be found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "check/check.h"

#define SEED 20240613

static void print_line(void *arg, const ct_check_result *r)
{
    int *passed = arg;
    if (r->cases == 0) {
        print_message("%-4s %-7s %-14s %-9s %s\n", r->backend, r->isa, r->op, r->type, r->detail);
        return;
    }
    *passed += r->passed;
    print_message("%-4s %-7s %-14s %-9s %6lld cases, %5.1f %% of budget%s  %s\n", r->backend, r->isa, r->op, r->type,
                  (long long)r->cases, 100.0 * r->budget_used, r->passed ? "" : " FAILED", r->detail);
}

static void test_backends_pass(void **state)
{
    (void)state;
    ct_error err = {.code = CT_OK};
    int passed = 0;
    ct_status st = ct_check_run(NULL, 2, SEED, true, print_line, &passed, &err);
    if (st != CT_OK)
        fail_msg("%s", err.text);
    assert_true(passed > 10);
}

/* ---- planted faults ---- */

static const ct_ops *good;

static void linear_scaled(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w,
                          const ct_rows *rows)
{
    good->linear(c, m, y, x, w, rows);
    if (rows->n > 5 && y[0].cols > 20) /* one output off by a fortieth */
        ct_view_row(y[0], 5)[20] *= 1.025f;
}

/* Activations rounded to int8 in groups, for the rows from `from` on. */
static void linear_rounded(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w,
                           const ct_rows *rows, int32_t group, int32_t from, int32_t to)
{
    float saved[8192];
    for (int32_t r = 0; r < x.rows; r++) {
        float *xr = ct_view_row(x, r);
        memcpy(saved, xr, (size_t)x.cols * sizeof(float));
        for (int32_t g = 0; g < x.cols && r >= from && r < to; g += group) {
            int32_t end = g + group < x.cols ? g + group : x.cols;
            float largest = 0.0f;
            for (int32_t j = g; j < end; j++)
                largest = xr[j] > largest ? xr[j] : -xr[j] > largest ? -xr[j] : largest;
            for (int32_t j = g; j < end && largest > 0.0f; j++) {
                float q = xr[j] / largest * 127.0f;
                xr[j] = (float)(int32_t)(q + (q < 0.0f ? -0.5f : 0.5f)) * largest / 127.0f;
            }
        }
        ct_view one = x, yr[CT_LINEAR_MAX];
        one.off += (size_t)r * x.stride * sizeof(float);
        one.rows = 1;
        for (int32_t i = 0; i < m; i++) {
            yr[i] = y[i];
            yr[i].off += (size_t)r * y[i].stride * sizeof(float);
            yr[i].rows = 1;
        }
        good->linear(c, m, yr, one, w, rows);
        memcpy(xr, saved, (size_t)x.cols * sizeof(float));
    }
}

/* A whole prompt row under one scale: the shortcut that the groups of 32 forbid. */
static void linear_coarse(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w,
                          const ct_rows *rows)
{
    linear_rounded(c, m, y, x, w, rows, x.cols, 0, c->exact || !w[0]->dtype->quantized ? 0 : rows->n_prompt);
}

/* Right for prompts, too coarse for the rows that must be exact. */
static void linear_one_plane(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w,
                             const ct_rows *rows)
{
    if (w[0]->dtype->quantized)
        linear_rounded(c, m, y, x, w, rows, 32, 0, x.rows);
    else
        good->linear(c, m, y, x, w, rows);
}

static void linear_unwritten(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w,
                             const ct_rows *rows)
{
    ct_view fewer[CT_LINEAR_MAX];
    for (int32_t i = 0; i < m; i++) {
        fewer[i] = y[i];
        fewer[i].cols -= fewer[i].cols > 16 && fewer[i].cols % 16; /* forgets the last of a ragged tile */
    }
    good->linear(c, m, fewer, x, w, rows);
}

static void linear_by_count(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w,
                            const ct_rows *rows)
{
    good->linear(c, m, y, x, w, rows);
    if (rows->n == 1) /* within any budget, but a single row has other bits */
        ct_view_row(y[0], 0)[0] *= 1.0f + 0x1p-22f;
}

static void norm_past_end(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, float eps)
{
    good->rmsnorm(c, y, x, w, eps);
    ct_view_row(y, y.rows - 1)[y.cols] = 0.0f; /* behind the last row, or in a gap */
}

static void geglu_changes_input(ct_ctx *c, ct_view y, ct_view gate, ct_view up)
{
    good->geglu(c, y, gate, up);
    ct_view_row(up, 0)[0] += 1.0f;
}

static void attention_window(ct_ctx *c, ct_view o, ct_view q, const ct_kv *kv, const ct_rows *rows, const ct_attn *how)
{
    ct_attn off = *how;
    off.window += how->window > 0 && how->window < 512;
    good->attention(c, o, q, kv, rows, &off);
}

static void attention_scale(ct_ctx *c, ct_view o, ct_view q, const ct_kv *kv, const ct_rows *rows, const ct_attn *how)
{
    ct_attn off = *how;
    off.scale *= 1.0f + 0x1p-6f;
    good->attention(c, o, q, kv, rows, &off);
}

/* Queries in one bf16 plane: good enough for prompts, not for rows that must be exact. */
static void attention_one_plane(ct_ctx *c, ct_view o, ct_view q, const ct_kv *kv, const ct_rows *rows,
                                const ct_attn *how)
{
    float saved[8192];
    for (int32_t r = 0; r < rows->n; r++) {
        ct_view qr = q, or = o;
        float *row = ct_view_row(q, r);
        ct_rows one = {.n = 1, .token = rows->token + r, .pos = rows->pos + r, .seq = rows->seq + r};
        qr.off += (size_t)r * q.stride * sizeof(float);
        or.off += (size_t)r * o.stride * sizeof(float);
        qr.rows = or.rows = 1;
        memcpy(saved, row, (size_t)q.cols * sizeof(float));
        for (int32_t j = 0; j < q.cols; j++)
            row[j] = ct_bf16_to_f32(ct_f32_to_bf16(row[j]));
        good->attention(c, or, qr, kv, &one, how);
        memcpy(row, saved, (size_t)q.cols * sizeof(float));
    }
}

static void store_truncates(ct_ctx *c, ct_view k, ct_view v, const ct_kv *kv, const ct_rows *rows)
{
    /* bf16 by cutting bits off: the keys and values that arrive are shortened for a moment. */
    static float saved[128 * 2048];
    ct_view both[2] = {k, v};
    for (int i = 0; i < 2; i++) {
        for (int32_t r = 0; r < k.rows; r++) {
            float *row = ct_view_row(both[i], r);
            memcpy(saved + ((size_t)i * 64 + (size_t)r % 64) * 2048, row, (size_t)k.cols * sizeof(float));
        }
    }
    if (k.rows > 64 || k.cols > 2048) {
        good->kv_store(c, k, v, kv, rows);
        return;
    }
    for (int i = 0; i < 2; i++)
        for (int32_t r = 0; r < k.rows; r++)
            for (int32_t j = 0; j < k.cols; j++) {
                uint32_t u;
                memcpy(&u, ct_view_row(both[i], r) + j, 4);
                u &= 0xffff0000u;
                memcpy(ct_view_row(both[i], r) + j, &u, 4);
            }
    good->kv_store(c, k, v, kv, rows);
    for (int i = 0; i < 2; i++)
        for (int32_t r = 0; r < k.rows; r++)
            memcpy(ct_view_row(both[i], r), saved + ((size_t)i * 64 + (size_t)r) * 2048,
                   (size_t)k.cols * sizeof(float));
}

static void rope_table_f32(ct_ctx *c, ct_view cs, const ct_rows *rows, const ct_rope *how)
{
    good->rope_table(c, cs, rows, how);
    for (int32_t i = 0; i < cs.rows; i++) /* as if the angle had been rounded to f32: a step of 2^-8 at 131071 */
        if (rows->pos[i] > 65536)
            ct_view_row(cs, i)[0] += 0x1p-9f;
}

struct faults {
    const char *op;
    int failed, others;
};

static void note(void *arg, const ct_check_result *r)
{
    struct faults *f = arg;
    if (r->cases == 0 || r->passed)
        return;
    if (strcmp(r->op, f->op) == 0)
        f->failed++;
    else
        f->others++;
}

static void expect_found(const ct_ops *broken, const char *op, const char *word)
{
    ct_error err = {.code = CT_OK};
    struct faults f = {.op = op};
    ct_status st = ct_check_table(ct_backend_get("ref"), broken, op, 2, SEED, true, note, &f, &err);
    if (st != CT_ENUMERIC || f.failed == 0)
        fail_msg("the fault planted in %s was not found (status %d, %d lines failed)", op, (int)st, f.failed);
    if (word != NULL && strstr(err.text, word) == NULL)
        fail_msg("expected '%s' in: %s", word, err.text);
}

static void test_faults_are_found(void **state)
{
    (void)state;
    good = ct_backend_get("ref")->ops(NULL);
    ct_ops broken;
#define FAULT(slot, fn, word) \
    broken = *good;           \
    broken.slot = fn;         \
    expect_found(&broken, #slot, word)
    FAULT(linear, linear_scaled, NULL);
    FAULT(linear, linear_coarse, "prompt");
    FAULT(linear, linear_one_plane, "exact");
    FAULT(linear, linear_unwritten, "nan");
    FAULT(linear, linear_by_count, "when computed alone");
    FAULT(rmsnorm, norm_past_end, "wrote");
    FAULT(geglu, geglu_changes_input, "changed its input up");
    FAULT(attention, attention_window, NULL);
    FAULT(attention, attention_scale, NULL);
    FAULT(attention, attention_one_plane, "exact");
    FAULT(kv_store, store_truncates, NULL);
    FAULT(rope_table, rope_table_f32, NULL);
#undef FAULT
}

/* The control: nothing planted, nothing found. (linear and attention have theirs in the backends that pass.) */
static void test_nothing_is_found_where_nothing_is(void **state)
{
    (void)state;
    static const char *const ops[] = {"embed", "rmsnorm", "rope_table", "kv_store", "geglu", "gather"};
    const ct_backend *ref = ct_backend_get("ref");
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        ct_error err = {.code = CT_OK};
        if (ct_check_table(ref, ref->ops(NULL), ops[i], 2, SEED, true, NULL, NULL, &err) != CT_OK)
            fail_msg("%s", err.text);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    ct_error err;
    assert_int_equal(ct_check_run("abacus", 2, SEED, true, NULL, NULL, &err), CT_ENOTFOUND);
    assert_non_null(strstr(err.text, "abacus"));
    ct_ops holes = *ct_backend_get("ref")->ops(NULL);
    holes.rope = NULL;
    assert_int_equal(ct_check_table(ct_backend_get("ref"), &holes, NULL, 2, SEED, true, NULL, NULL, &err),
                     CT_EINTERNAL);
    assert_non_null(strstr(err.text, "rope"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_nothing_is_found_where_nothing_is),
        cmocka_unit_test(test_faults_are_found),
        cmocka_unit_test(test_backends_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
