/* Sixteen-bit floats: every value there and back, and rounding against an independent definition. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/half.h"
#include "base/rng.h"

/* By the definition of the format, in double. */
static double half_value(uint16_t h)
{
    int exp = h >> 10 & 31, man = h & 1023;
    double v = exp == 0 ? ldexp(man, -24) : ldexp(1024 + man, exp - 25);
    if (exp == 31)
        v = man ? (double)NAN : (double)INFINITY;
    return h & 0x8000 ? -v : v;
}

static void every_half_survives(void **state)
{
    (void)state;
    for (uint32_t i = 0; i <= 0xffff; i++) {
        uint16_t h = (uint16_t)i;
        float f = ct_f16_to_f32(h);
        double want = half_value(h);
        if (isnan(want)) {
            assert_true(isnan(f));
            assert_int_equal(ct_f32_to_f16(f), h | 0x200); /* quiet, its payload kept */
            continue;
        }
        assert_true((double)f == want && !signbit(f) == !signbit(want));
        assert_int_equal(ct_f32_to_f16(f), h);
    }
}

static void every_bfloat_survives(void **state)
{
    (void)state;
    for (uint32_t i = 0; i <= 0xffff; i++) {
        uint16_t h = (uint16_t)i;
        float f = ct_bf16_to_f32(h);
        assert_int_equal(ct_bits_from_f32(f), i << 16);
        assert_int_equal(ct_f32_to_bf16(f), isnan(f) ? (h | 0x40) : h);
    }
}

/* Between two neighbours: below the middle down, above it up, in the middle to the even one. */
static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 0x7c00; i++) {
        float low = ct_f16_to_f32((uint16_t)i), high = i == 0x7bff ? 65536.0f : ct_f16_to_f32((uint16_t)(i + 1));
        float middle = low + (high - low) / 2; /* exact: one more bit than a half has */
        uint16_t even = (uint16_t)(i + (i & 1));
        assert_int_equal(ct_f32_to_f16(middle), even);
        assert_int_equal(ct_f32_to_f16(nextafterf(middle, 0)), i);
        assert_int_equal(ct_f32_to_f16(nextafterf(middle, INFINITY)), i + 1);
        assert_int_equal(ct_f32_to_f16(-middle), even | 0x8000);
    }
    assert_int_equal(ct_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(ct_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(ct_f32_to_f16(0x1p-149f), 0);
    assert_int_equal(ct_f32_to_f16(-0.0f), 0x8000);
}

static void bfloats_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 0x7f80; i++) {
        uint32_t middle = i << 16 | 0x8000;
        assert_int_equal(ct_f32_to_bf16(ct_f32_from_bits(middle)), i + (i & 1));
        assert_int_equal(ct_f32_to_bf16(ct_f32_from_bits(middle - 1)), i);
        assert_int_equal(ct_f32_to_bf16(ct_f32_from_bits(middle + 1)), i + 1);
        assert_int_equal(ct_f32_to_bf16(ct_f32_from_bits(middle | 0x80000000u)), (i + (i & 1)) | 0x8000);
    }
    assert_int_equal(ct_f32_to_bf16(3.4028235e38f), 0x7f80); /* the largest float rounds to infinity */
    assert_true(isnan(ct_bf16_to_f32(ct_f32_to_bf16(ct_f32_from_bits(0x7f800001u)))));
    assert_true(isnan(ct_bf16_to_f32(ct_f32_to_bf16(ct_f32_from_bits(0xffffffffu)))));
}

/* Any float: the half found is at least as near as its neighbours. */
static void halves_are_nearest(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < 200000; n++) {
        float f = ct_f32_from_bits((uint32_t)ct_rng_u64(3, 1, n) % 0x47800000u); /* 0 .. 65536 */
        uint16_t h = ct_f32_to_f16(f);
        double error = fabs((double)f - half_value(h));
        if (f > 65519.99f)
            continue;
        assert_true(error <= fabs((double)f - half_value((uint16_t)(h + 1))));
        if (h > 0)
            assert_true(error <= fabs((double)f - half_value((uint16_t)(h - 1))));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_half_survives), cmocka_unit_test(every_bfloat_survives),
                                       cmocka_unit_test(halves_round_to_nearest_even),
                                       cmocka_unit_test(bfloats_round_to_nearest_even),
                                       cmocka_unit_test(halves_are_nearest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
