/* The encoders: how near they come, what decoded blocks become when encoded again, importance, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "convert/encode.h"

#define COLS 1024
#define ROWS 16
#define GUARD 16

/* Weights as a trained matrix has them: normal, columns of their own spread, one element in 1000 eight times as large. */
static void fill(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        double u = 1 - ct_rng_f64(seed, 1, i), v = ct_rng_f64(seed, 2, i);
        double column = exp(0.8 * (ct_rng_f64(seed, 3, i % COLS) - 0.5));
        double rare = ct_rng_f64(seed, 4, i) < 0.001 ? 8 : 1;
        x[i] = (float)(0.03 * column * rare * sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
    }
}

static double error_of(const float *x, const float *y, size_t n, const float *w)
{
    double e = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i], f = w ? (double)w[i % COLS] : 1;
        e += f * d * d;
        all += f * (double)x[i] * (double)x[i];
    }
    return sqrt(e / all);
}

/* Encodes into a buffer with guards, at an odd address, decodes into y. */
static bool round_trip(const ct_encoder *e, float *y, const float *x, size_t n, const float *importance)
{
    const ct_dtype_info *t = ct_dtype_get((int32_t)e->type);
    size_t bytes;
    assert_true(ct_row_bytes(t, n, &bytes));
    uint8_t *raw = ct_alloc(bytes + 2 * GUARD + 1), *dst = raw + GUARD + 1;
    assert_non_null(raw);
    memset(raw, 0xa5, bytes + 2 * GUARD + 1);
    bool ok = ct_encode(e, dst, x, n, importance);
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(raw[1 + i], 0xa5);
        assert_int_equal(dst[bytes + i], 0xa5);
    }
    if (ok)
        ct_row_decode(t, y, dst, n);
    ct_free(raw);
    return ok;
}

/* Relative root of the mean square error on fill()'s weights that each type must stay below; where the scale is searched for this is
 * less than rounding to the widest range gives. */
static const struct bound {
    const char *type;
    double most;
} bounds[] = {
    {"f32", 0},          {"f16", 0.0003},        {"bf16", 0.002},      {"q4_0", 0.102},     {"q4_1", 0.080},
    {"q5_0", 0.0525},    {"q5_1", 0.040},        {"q8_0", 0.0066},     {"q2_k", 0.300},     {"q3_k", 0.168},
    {"q4_k", 0.081},     {"q5_k", 0.0405},       {"q6_k", 0.0205},     {"iq4_nl", 0.087},   {"iq4_xs", 0.088},
    {"mlx4_g32", 0.081}, {"mlx4_g64", 0.1},      {"mlx8_g32", 0.0058}, {"mlx8_g64", 0.007}, {"mlx8_g128_f16", 0.0085},
    {"mlx2_g32", 0.36},  {"mlx3_g64_f32", 0.21},
};

static void errors_are_small(void **state)
{
    (void)state;
    static float x[ROWS * COLS], y[ROWS * COLS];
    fill(x, ROWS * COLS, 7);
    size_t beyond = 0;
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        const ct_encoder *e = ct_encoder_get(ct_dtype_by_name(bounds[i].type)->type);
        assert_non_null(e);
        assert_true(round_trip(e, y, x, ROWS * COLS, NULL));
        double err = error_of(x, y, ROWS * COLS, NULL);
        if (err > bounds[i].most)
            print_error("%s: a relative error of %.5f, expected at most %.5f\n", bounds[i].type, err, bounds[i].most);
        beyond += err > bounds[i].most;
    }
    assert_int_equal(beyond, 0);
}

/* What a type can say it says again: decoded blocks encode to blocks that decode to nearly the same; most of them, where a search
 * starts from the codes that the extreme elements have, to exactly the same. */
static void decoded_blocks_stay(void **state)
{
    (void)state;
    static float x[ROWS * COLS], y[ROWS * COLS], z[ROWS * COLS];
    fill(x, ROWS * COLS, 8);
    size_t beyond = 0;
    for (size_t i = 0; ct_dtype_at(i); i++) {
        const ct_encoder *e = ct_encoder_get(ct_dtype_at(i)->type);
        if (e == NULL)
            continue;
        assert_true(round_trip(e, y, x, ROWS * COLS, NULL));
        assert_true(round_trip(e, z, y, ROWS * COLS, NULL));
        double first = error_of(x, y, ROWS * COLS, NULL), again = error_of(y, z, ROWS * COLS, NULL);
        /* A scale of eight bits is coarser than a step of codes of eight bits: there another choice may be as good. */
        double most = strncmp(ct_dtype_at(i)->name, "mlx8", 4) == 0 ? 0.5 : 0.15;
        if (again > most * first)
            print_error("%s: encoded with an error of %.5f, again with %.5f\n", ct_dtype_at(i)->name, first, again);
        beyond += again > most * first;
    }
    assert_int_equal(beyond, 0);
}

static void importance_counts(void **state)
{
    (void)state;
    static float x[ROWS * COLS], y[ROWS * COLS], z[ROWS * COLS], w[COLS], none[COLS];
    fill(x, ROWS * COLS, 9);
    for (size_t j = 0; j < COLS; j++)
        w[j] = (float)exp(3 * (ct_rng_f64(9, 9, j) - 0.5)) * (j % 7 == 3 ? 0.0f : 1e-4f);
    for (size_t i = 0; ct_dtype_at(i); i++) {
        const ct_encoder *e = ct_encoder_get(ct_dtype_at(i)->type);
        if (e == NULL || !ct_dtype_at(i)->quantized)
            continue;
        for (size_t r = 0; r < ROWS; r++) {
            assert_true(round_trip(e, y + r * COLS, x + r * COLS, COLS, NULL));
            assert_true(round_trip(e, z + r * COLS, x + r * COLS, COLS, w));
        }
        double without = error_of(x, y, ROWS * COLS, w), with = error_of(x, z, ROWS * COLS, w);
        if (with > 0.99 * without)
            fail_msg("%s: weighted error %.5f with importance, %.5f without", ct_dtype_at(i)->name, with, without);
        /* Nothing matters: then everything does. */
        assert_true(round_trip(e, z, x, COLS, none));
        assert_true(error_of(x, z, COLS, NULL) < 1.1 * error_of(x, y, COLS, NULL));
    }
}

/* Zeros, one value, two values, one element alone, magnitudes at both ends of f16. */
static void edges(void **state)
{
    (void)state;
    float x[512], y[512];
    for (size_t i = 0; ct_dtype_at(i); i++) {
        const ct_dtype_info *t = ct_dtype_at(i);
        const ct_encoder *e = ct_encoder_get(t->type);
        if (e == NULL)
            continue;
        static const float sizes[] = {0, 1, -1, 1e-3f, 6e-8f, -1e-12f, 1e-38f, 1e-44f, 60000, -60000};
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (size_t shape = 0; shape < 3; shape++) {
                for (size_t j = 0; j < 512; j++)
                    x[j] = shape == 0 || (shape == 1 && j % 2) || j == 77 ? sizes[k] : 0;
                bool ok = round_trip(e, y, x, 512, NULL);
                assert_true(ok || fabsf(sizes[k]) > 50000);
                for (size_t j = 0; j < 512 && ok; j++)
                    if (!(fabsf(y[j] - x[j]) <= 0.51f * fabsf(sizes[k]) + 2e-6f))
                        fail_msg("%s: %g became %g (shape %zu of %g)", t->name, (double)x[j], (double)y[j], shape,
                                 (double)sizes[k]);
            }
    }
}

static void refuses_what_is_no_number(void **state)
{
    (void)state;
    static float x[COLS], y[COLS];
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; ct_dtype_at(i); i++) {
        const ct_encoder *e = ct_encoder_get(ct_dtype_at(i)->type);
        if (e == NULL)
            continue;
        for (size_t k = 0; k < 3; k++)
            for (size_t at = 0; at < COLS; at += 93) {
                fill(x, COLS, 10);
                x[at] = bad[k];
                assert_false(round_trip(e, y, x, COLS, NULL));
            }
        fill(x, COLS, 10);
        x[500] = 1e30f; /* fits bf16 and f32; elsewhere a scale would be an infinite half */
        assert_true(round_trip(e, y, x, COLS, NULL) == (e->type == CT_BF16 || e->type == CT_F32));
    }
    assert_null(ct_encoder_get((ct_dtype)77));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_small),          cmocka_unit_test(decoded_blocks_stay),
        cmocka_unit_test(importance_counts),         cmocka_unit_test(edges),
        cmocka_unit_test(refuses_what_is_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
