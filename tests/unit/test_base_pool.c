/* The thread pool: every task exactly once, whatever the number of threads and however small the runs; memory written by
 * a task is seen by the caller, memory written by the caller is seen by the tasks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"

#define MOST 1000

struct job {
    int32_t n, threads;
    uint32_t round;      /* plain: written by the caller before the run */
    uint32_t seen[MOST]; /* plain: written by whoever does the task, read by the caller behind the run */
    atomic_uint times[MOST];
    atomic_uint bad;
};

static void task(void *arg, int32_t i, int32_t worker)
{
    struct job *j = arg;
    if (i < 0 || i >= j->n || worker < 0 || worker >= j->threads)
        atomic_fetch_add(&j->bad, 1);
    j->seen[i] = j->round;
    atomic_fetch_add(&j->times[i], 1);
}

static void stress(int32_t threads, uint32_t rounds)
{
    ct_pool *p;
    ct_error err;
    static struct job j;
    memset(&j, 0, sizeof j);
    j.threads = threads;
    assert_int_equal(ct_pool_create(&p, threads, &err), CT_OK);
    assert_int_equal(ct_pool_threads(p), threads);
    uint32_t expected[MOST] = {0};
    for (uint32_t r = 1; r <= rounds; r++) {
        uint64_t dice = ct_rng_u64(1, (uint64_t)threads, r);
        j.n = (int32_t)(dice % 4 ? dice >> 8 & 7 : dice >> 8 & 255); /* mostly tiny, zero included */
        j.round = r;
        ct_pool_run(p, j.n, task, &j);
        for (int32_t i = 0; i < j.n; i++) {
            assert_int_equal(j.seen[i], r);
            expected[i]++;
        }
        if (dice >> 56 == 0) { /* now and then long enough for the workers to fall asleep */
            struct timespec nap = {0, 600000};
            nanosleep(&nap, NULL);
        }
    }
    for (int32_t i = 0; i < MOST; i++)
        assert_int_equal(atomic_load(&j.times[i]), expected[i]);
    assert_int_equal(atomic_load(&j.bad), 0);
    ct_pool_free(p);
}

static void one_thread(void **state)
{
    (void)state;
    stress(1, 20000);
}
static void two_threads(void **state)
{
    (void)state;
    stress(2, 20000);
}
static void three_threads(void **state)
{
    (void)state;
    stress(3, 4000);
}
static void seven_threads(void **state)
{
    (void)state;
    stress(7, 1500);
}

static void many_tasks(void **state)
{
    (void)state;
    ct_pool *p;
    static struct job j;
    memset(&j, 0, sizeof j);
    j = (struct job){.n = MOST, .threads = 2, .round = 1};
    assert_int_equal(ct_pool_create(&p, 2, NULL), CT_OK);
    for (int k = 0; k < 100; k++)
        ct_pool_run(p, MOST, task, &j);
    for (int32_t i = 0; i < MOST; i++)
        assert_int_equal(atomic_load(&j.times[i]), 100);
    ct_pool_run(p, 0, task, &j);
    ct_pool_run(p, -1, task, &j);
    ct_pool_free(p);
}

static void count(void *arg, int32_t i, int32_t worker)
{
    (void)worker;
    atomic_fetch_add((atomic_ullong *)arg, (unsigned long long)i + 1);
}

/* More tasks than a worker's slot can count one by one. */
static void very_many_tasks(void **state)
{
    (void)state;
    ct_pool *p;
    assert_int_equal(ct_pool_create(&p, 2, NULL), CT_OK);
    for (int32_t n = 65534; n < 300000; n = n * 2 - n / 3) {
        atomic_ullong sum = 0;
        ct_pool_run(p, n, count, &sum);
        assert_int_equal(atomic_load(&sum), (unsigned long long)n * ((unsigned long long)n + 1) / 2);
    }
    ct_pool_free(p);
}

static void comes_and_goes(void **state)
{
    (void)state;
    for (int k = 0; k < 200; k++) { /* freed before, while and after its workers start */
        ct_pool *p;
        assert_int_equal(ct_pool_create(&p, 1 + k % 4, NULL), CT_OK);
        if (k % 3 == 0) {
            static struct job j;
            j = (struct job){.n = 3, .threads = 1 + k % 4};
            ct_pool_run(p, 3, task, &j);
        }
        ct_pool_free(p);
    }
    ct_pool_free(NULL);
}

static void refuses_nonsense(void **state)
{
    (void)state;
    ct_pool *p;
    ct_error err;
    assert_int_equal(ct_pool_create(&p, -1, &err), CT_EINVAL);
    assert_null(p);
    assert_int_equal(ct_pool_create(&p, 100000, &err), CT_EINVAL);
    assert_int_equal(ct_pool_create(&p, 0, &err), CT_OK); /* as many as there are cores */
    assert_true(ct_pool_threads(p) >= 1);
    ct_pool_free(p);
    for (size_t n = 1; n <= 2; n++) {
        ct_mem_fail_at(n);
        assert_int_equal(ct_pool_create(&p, 2, &err), CT_ENOMEM);
        ct_mem_fail_at(0);
        assert_null(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_thread),     cmocka_unit_test(two_threads),
                                       cmocka_unit_test(three_threads),  cmocka_unit_test(seven_threads),
                                       cmocka_unit_test(many_tasks),     cmocka_unit_test(very_many_tasks),
                                       cmocka_unit_test(comes_and_goes), cmocka_unit_test(refuses_nonsense)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
