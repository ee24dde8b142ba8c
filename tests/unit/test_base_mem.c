/* Memory: checked arithmetic, injected failures, arenas, pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void checks_arithmetic(void **state)
{
    (void)state;
    size_t r;
    assert_true(ct_mul_ok(SIZE_MAX, 1, &r) && r == SIZE_MAX);
    assert_true(ct_mul_ok(SIZE_MAX, 0, &r) && r == 0);
    assert_false(ct_mul_ok(SIZE_MAX / 2 + 1, 2, &r));
    assert_false(ct_mul_ok((size_t)1 << 32, (size_t)1 << 32, &r));
    assert_true(ct_add_ok(SIZE_MAX - 1, 1, &r) && r == SIZE_MAX);
    assert_false(ct_add_ok(SIZE_MAX, 1, &r));
    assert_true(ct_round_up(0, 64) == 0 && ct_round_up(1, 64) == 64 && ct_round_up(64, 64) == 64 &&
                ct_round_up(65, 64) == 128);
}

static void allocates_and_fails_on_demand(void **state)
{
    (void)state;
    size_t calls = ct_mem_calls();
    void *p = ct_alloc(0);
    assert_non_null(p);
    ct_free(p);
    assert_int_equal(ct_mem_calls(), calls + 1);
    uint8_t *z = ct_calloc(100, 10);
    assert_non_null(z);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(z[i], 0);
    assert_null(ct_calloc(SIZE_MAX / 2, 3));
    ct_mem_fail_at(2); /* the second from now, and only that one */
    void *a = ct_alloc(1), *b = ct_alloc(1), *c = ct_alloc(1);
    assert_true(a && !b && c);
    ct_mem_fail_at(1);
    assert_null(ct_realloc(a, 100)); /* a is still there */
    ct_mem_fail_at(1);
    assert_null(ct_strdup("text"));
    ct_mem_fail_at(1);
    assert_null(ct_pages_alloc(4096, false));
    ct_mem_fail_at(1);
    ct_mem_fail_at(0);
    char *s = ct_strdup("text");
    assert_string_equal(s, "text");
    ct_free(s);
    ct_free(a);
    ct_free(c);
    ct_free(z);
    ct_free(NULL);
}

static void gives_zeroed_pages(void **state)
{
    (void)state;
    for (size_t n = 0; n < 5u << 20; n = n * 3 + 4095) {
        uint8_t *p = ct_pages_alloc(n, n > 1u << 20);
        assert_non_null(p);
        assert_true((uintptr_t)p % 4096 == 0);
        for (size_t i = 0; i < n; i += 511)
            assert_int_equal(p[i], 0);
        if (n)
            p[n - 1] = 1;
        ct_pages_free(p, n);
    }
    ct_pages_free(NULL, 10);
}

static void bumps_an_arena(void **state)
{
    (void)state;
    ct_arena a;
    assert_true(ct_arena_init(&a, 1024));
    uint8_t *p = ct_arena_alloc(&a, 1), *q = ct_arena_alloc(&a, 65), *r = ct_arena_alloc(&a, 64);
    assert_true((uintptr_t)p % 64 == 0 && q == p + 64 && r == q + 128);
    assert_int_equal(a.used, 256);
    assert_null(ct_arena_alloc(&a, 769));
    assert_null(ct_arena_alloc(&a, SIZE_MAX));
    assert_null(ct_arena_alloc(&a, SIZE_MAX - 63));
    assert_int_equal(a.used, 256);
    assert_non_null(ct_arena_alloc(&a, 768));
    assert_null(ct_arena_alloc(&a, 1));
    ct_arena_reset(&a);
    assert_ptr_equal(ct_arena_alloc(&a, 1), p);
    assert_int_equal(a.peak, 1024);
    ct_arena_deinit(&a);
    ct_arena_deinit(&a); /* twice is fine */
    ct_mem_fail_at(1);
    assert_false(ct_arena_init(&a, 1024));
    ct_mem_fail_at(0);
    ct_arena_deinit(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(checks_arithmetic),
                                       cmocka_unit_test(allocates_and_fails_on_demand),
                                       cmocka_unit_test(gives_zeroed_pages), cmocka_unit_test(bumps_an_arena)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
