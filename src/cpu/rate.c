/* How many int8 operations per second this machine's cores can do: the yardstick of prompts. Runs the dot instruction on
 * registers, twelve chains, on every thread. See backend.h. */
#include "base/system.h"
#include "cpu/cpu.h"
#include "cpu/features.h"

struct rate_job {
    int64_t rounds;
    _Atomic int32_t sink; /* keeps the compiler from dropping the work */
};

static void rate_task(void *arg, int32_t task, int32_t worker)
{
    (void)task;
    (void)worker;
    struct rate_job *j = arg;
#if defined(__x86_64__)
    if (ct_cpu_has_avx512())
        j->sink += ct_cpu_rate_avx512(j->rounds);
#else
    j->sink += (int32_t)j->rounds;
#endif
}

double ct_cpu_int8_rate(ct_pool *pool)
{
    if (!ct_cpu_has_avx512())
        return 0; /* no integer dot instruction that carat uses: there is no yardstick */
    struct rate_job j = {.rounds = 200000};
    int32_t threads = ct_pool_threads(pool);
    double best = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t start = ct_now_ns();
        ct_pool_run(pool, threads, rate_task, &j);
        double rate = (double)threads * (double)j.rounds * 12 * 128 / ct_seconds_since(start);
        best = rate > best ? rate : best;
    }
    return best;
}
