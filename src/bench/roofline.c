/* What this machine can do: the measured rate of reading memory, which every decode speed is a share of.
 *
 * A buffer far larger than caches is summed by all threads, each its own part in tasks of fixed size. Two shapes are tried, as
 * machines differ in which one they like: one stream per task, and four streams a quarter of a task apart. Plain C: 16-byte
 * loads are enough to wait for memory, and wider ones or software prefetch read no faster (Zen 4, two threads: 58 GB/s like
 * this, 55 with 64-byte loads, 45-50 with prefetch). A rate alone is the best of several passes, because what disturbs a pass
 * only ever slows it; beside a speed, ct_reader_now takes it within the same seconds, because shared memory wanders. */
#include "bench/bench.h"

#include "base/system.h"

#define BUFFER ((size_t)256 << 20) /* more than any last-level cache that a few cores of a server are given */
#define TASK ((size_t)1 << 20)
#define TASKS ((int32_t)(BUFFER / TASK))

struct reading {
    const uint64_t *data;
    uint64_t *sums; /* [tasks]: kept, so that the compiler cannot drop the loads */
};

static void fill(void *arg, int32_t task, int32_t worker)
{
    (void)worker;
    uint64_t *p = (uint64_t *)arg + (size_t)task * (TASK / 8);
    for (size_t i = 0; i < TASK / 8; i++)
        p[i] = i ^ (uint64_t)task; /* not zero: pages that were never written share one physical page */
}

static uint64_t sum_one(const uint64_t *p)
{
    uint64_t s[8] = {0};
    for (size_t i = 0; i < TASK / 8; i += 8)
        for (size_t j = 0; j < 8; j++)
            s[j] += p[i + j];
    return s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
}

static void read_one(void *arg, int32_t task, int32_t worker)
{
    (void)worker;
    struct reading *r = arg;
    r->sums[task] += sum_one(r->data + (size_t)task * (TASK / 8));
}

static void read_four(void *arg, int32_t task, int32_t worker)
{
    (void)worker;
    struct reading *r = arg;
    const size_t q = TASK / 8 / 4;
    const uint64_t *p = r->data + (size_t)task * (TASK / 8);
    uint64_t s[4][8] = {{0}};
    for (size_t i = 0; i < q; i += 8)
        for (size_t k = 0; k < 4; k++)
            for (size_t j = 0; j < 8; j++)
                s[k][j] += p[k * q + i + j];
    uint64_t total = 0;
    for (size_t k = 0; k < 4; k++)
        for (size_t j = 0; j < 8; j++)
            total += s[k][j];
    r->sums[task] += total;
}

struct ct_reader {
    struct reading r;
    void *buffer;
};

ct_reader *ct_reader_create(ct_pool *pool)
{
    ct_reader *d = ct_calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    d->buffer = ct_pages_alloc(BUFFER, true);
    d->r = (struct reading){.data = d->buffer, .sums = ct_calloc(TASKS, sizeof(uint64_t))};
    if (d->buffer == NULL || d->r.sums == NULL) {
        ct_reader_free(d);
        return NULL;
    }
    ct_pool_run(pool, TASKS, fill, d->buffer);
    return d;
}

void ct_reader_free(ct_reader *d)
{
    if (d == NULL)
        return;
    ct_pages_free(d->buffer, BUFFER);
    ct_free(d->r.sums);
    ct_free(d);
}

double ct_reader_now(ct_reader *d, ct_pool *pool)
{
    double best = 0;
    for (int shape = 0; shape < 2; shape++) {
        uint64_t t = ct_now_ns();
        ct_pool_run(pool, TASKS, shape ? read_four : read_one, &d->r);
        double rate = (double)BUFFER / ct_seconds_since(t);
        best = rate > best ? rate : best;
    }
    return best;
}

double ct_read_bandwidth(ct_pool *pool, double seconds)
{
    ct_reader *d = ct_reader_create(pool);
    if (d == NULL)
        return 0;
    double best = 0;
    uint64_t start = ct_now_ns();
    for (int pass = 0; pass < 2 || ct_seconds_since(start) < seconds; pass++) {
        double rate = ct_reader_now(d, pool);
        best = rate > best ? rate : best;
    }
    ct_reader_free(d);
    return best;
}
