/* The counter-based generator: the same numbers for ever, even over its range, streams that do not resemble each other. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

/* A saved session or a published seed must give the same text tomorrow: these numbers may never change. */
static void never_changes(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed, stream, n, value;
    } known[] = {
        {0, 0, 0, 0xa5e89c4bbd80df04u},     {0, 0, 1, 0x90d16f50f470dd0fu},
        {0, 1, 0, 0x81e5c12f33caec79u},     {1, 0, 0, 0xed4abbbb55b4f277u},
        {42, 7, 1000, 0x75a70a7ec89d80c7u}, {UINT64_MAX, UINT64_MAX, UINT64_MAX, 0x9e8ed433e4c6ca3du},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        assert_true(ct_rng_u64(known[i].seed, known[i].stream, known[i].n) == known[i].value);
}

static void is_even_and_independent(void **state)
{
    (void)state;
    enum { N = 1 << 18, BINS = 256 };
    for (uint64_t seed = 0; seed < 4; seed++) {
        uint32_t bins[BINS] = {0};
        double sum = 0, serial = 0, across = 0, before = 0;
        uint64_t ones = 0;
        for (uint64_t n = 0; n < N; n++) {
            double u = ct_rng_f64(seed, 0, n);
            assert_true(u >= 0 && u < 1);
            bins[(size_t)(u * BINS)]++;
            sum += u;
            serial += (u - 0.5) * (before - 0.5);
            across += (u - 0.5) * (ct_rng_f64(seed, 1, n) - 0.5) + (u - 0.5) * (ct_rng_f64(seed + 1, 0, n) - 0.5);
            ones += (uint64_t)__builtin_popcountll(ct_rng_u64(seed, 0, n) ^ ct_rng_u64(seed, 0, n + 1));
            before = u;
        }
        double chi = 0, expected = (double)N / BINS;
        for (size_t b = 0; b < BINS; b++)
            chi += (bins[b] - expected) * (bins[b] - expected) / expected;
        assert_true(chi > 160 && chi < 360); /* 255 degrees of freedom: 255 +- 4.6 standard deviations */
        assert_true(fabs(sum / N - 0.5) < 0.003);
        assert_true(fabs(serial / N) < 0.001); /* products have a standard deviation of 1/12 / sqrt(N) = 0.00016 */
        assert_true(fabs(across / N) < 0.002);
        assert_true(fabs((double)ones / N - 32) < 0.1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(never_changes), cmocka_unit_test(is_even_and_independent)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
