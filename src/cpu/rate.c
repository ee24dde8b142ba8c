/* How many int8 operations per second this machine's cores can do: the yardstick of prompts. Runs the dot product of the best
 * instruction set on registers, in many chains, on every thread. See backend.h. */
#include "base/system.h"
#include "cpu/cpu.h"
#include "cpu/features.h"

/* Best first. A round's operations: chains times weights in the vectors of a chain's step times two (multiply, add). */
static const struct rate_loop {
    bool (*here)(void);
    int32_t (*run)(int64_t rounds);
    int32_t ops;
} loops[] = {
#if defined(__x86_64__)
    {ct_cpu_has_avx512, ct_cpu_rate_avx512, 12 * 64 * 2},
    {ct_cpu_has_avx512f, ct_cpu_rate_avx512f, 12 * 4 * 64 * 2},
    {ct_cpu_has_avx2, ct_cpu_rate_avx2, 8 * 4 * 32 * 2},
#elif defined(__aarch64__)
    {ct_cpu_has_i8mm, ct_cpu_rate_i8mm, 16 * 32 * 2},
    {ct_cpu_has_neon, ct_cpu_rate_neon, 16 * 4 * 16 * 2},
#endif
    {NULL, NULL, 0},
};

struct rate_job {
    const struct rate_loop *loop;
    int64_t rounds;
    _Atomic int32_t sink; /* keeps the compiler from dropping the work */
};

static void rate_task(void *arg, int32_t task, int32_t worker)
{
    (void)task;
    (void)worker;
    struct rate_job *j = arg;
    j->sink += j->loop->run(j->rounds);
}

double ct_cpu_int8_rate(ct_pool *pool)
{
    struct rate_job j = {.loop = loops};
    while (j.loop->here != NULL && !j.loop->here())
        j.loop++;
    if (j.loop->here == NULL)
        return 0; /* no integer dot product that carat uses: there is no yardstick */
    j.rounds = 307200000 / j.loop->ops;
    int32_t threads = ct_pool_threads(pool);
    double best = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t start = ct_now_ns();
        ct_pool_run(pool, threads, rate_task, &j);
        double rate = (double)threads * (double)j.rounds * j.loop->ops / ct_seconds_since(start);
        best = rate > best ? rate : best;
    }
    return best;
}
