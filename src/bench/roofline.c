/* What this machine can do: the measured rate of reading memory, which every decode speed is a share of.
 *
 * A buffer far larger than caches is summed by all threads, sequentially within tasks of fixed size, in several passes; the
 * best pass counts, because what disturbs a pass only ever slows it. Two shapes are tried, as machines differ in which one
 * they like: one stream per task, and four streams a quarter of a task apart, which is closer to what a matrix-vector kernel
 * with several rows in flight does. Plain C: 16-byte loads are enough to wait for memory. */
#include "bench/bench.h"

#include "base/system.h"

#define BUFFER ((size_t)256 << 20) /* more than any last-level cache that a few cores of a server are given */
#define TASK ((size_t)1 << 20)

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

double ct_read_bandwidth(ct_pool *pool, double seconds)
{
    const int32_t tasks = (int32_t)(BUFFER / TASK);
    double best = 0;
    void *buffer = ct_pages_alloc(BUFFER, true);
    struct reading r = {.data = buffer, .sums = ct_calloc((size_t)tasks, sizeof(uint64_t))};
    if (buffer == NULL || r.sums == NULL)
        goto done;
    ct_pool_run(pool, tasks, fill, buffer);
    uint64_t start = ct_now_ns();
    for (int32_t pass = 0; pass < 4 || ct_seconds_since(start) < seconds; pass++) {
        uint64_t t = ct_now_ns();
        ct_pool_run(pool, tasks, pass % 2 ? read_four : read_one, &r);
        double rate = (double)BUFFER / ct_seconds_since(t);
        best = rate > best ? rate : best;
    }
done:
    ct_free(r.sums);
    if (buffer)
        ct_pages_free(buffer, BUFFER);
    return best;
}
