/* The thread pool: spin, then park. See pool.h for the contract.
 *
 * A run is published as one 64-bit ticket {generation, next task}: workers claim with a compare-and-swap that fails as
 * soon as the generation has moved on, so a worker that wakes late can never take a task of a run it has not seen the
 * function of. */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/mem.h"
#include "base/system.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define PAUSE() _mm_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

/* How long a worker looks for more work before it sleeps. Decode leaves gaps of a few microseconds between operations,
 * sampling one of some hundred; sleeping and waking costs about 50 us. */
#define SPIN_NS 400000u
/* With more threads than cores a thread that spins keeps the one it waits for off its core: look briefly, then let go. */
#define SPIN_CROWDED_NS 4000u
#define CLOSED 0x7fffffffu /* a task number that no run reaches */

struct worker {
    pthread_t thread;
    ct_pool *pool;
    int32_t index;
};

struct ct_pool {
    _Alignas(64) atomic_uint_fast64_t ticket; /* generation << 32 | next task */
    _Alignas(64) atomic_int_fast32_t done;    /* tasks finished in this generation */
    _Alignas(64) atomic_int_fast32_t sleepers;
    atomic_bool stop;
    ct_task_fn *fn;
    void *arg;
    atomic_int_fast32_t n_tasks;
    int32_t threads;
    int32_t started; /* workers whose thread runs (without the caller) */
    uint64_t spin_ns;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct worker *workers;
};

static uint32_t generation_of(uint64_t ticket) { return (uint32_t)(ticket >> 32); }

/* Claims and runs tasks of generation gen until there are none left. */
static void work(ct_pool *p, uint32_t gen, int32_t worker)
{
    uint64_t t = atomic_load_explicit(&p->ticket, memory_order_acquire);
    while (generation_of(t) == gen) {
        int32_t task = (int32_t)(t & 0xffffffffu);
        if (task >= (int32_t)atomic_load_explicit(&p->n_tasks, memory_order_relaxed))
            return;
        if (!atomic_compare_exchange_weak_explicit(&p->ticket, &t, t + 1, memory_order_acq_rel, memory_order_acquire))
            continue;
        p->fn(p->arg, task, worker);
        atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
        t = atomic_load_explicit(&p->ticket, memory_order_acquire);
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    ct_pool *p = w->pool;
    uint32_t seen = 0;
    for (;;) {
        uint64_t start = 0;
        uint32_t spins = 0;
        while (generation_of(atomic_load_explicit(&p->ticket, memory_order_acquire)) == seen &&
               !atomic_load_explicit(&p->stop, memory_order_relaxed)) {
            PAUSE();
            if ((++spins & 63u) != 0)
                continue; /* reading the clock costs more than a pause */
            if (start == 0)
                start = ct_now_ns();
            if (ct_now_ns() - start < p->spin_ns)
                continue;
            pthread_mutex_lock(&p->lock);
            atomic_fetch_add(&p->sleepers, 1);
            while (generation_of(atomic_load(&p->ticket)) == seen && !atomic_load(&p->stop))
                pthread_cond_wait(&p->wake, &p->lock);
            atomic_fetch_sub(&p->sleepers, 1);
            pthread_mutex_unlock(&p->lock);
        }
        if (atomic_load(&p->stop))
            return NULL;
        seen = generation_of(atomic_load_explicit(&p->ticket, memory_order_acquire));
        work(p, seen, w->index);
    }
}

void ct_pool_run(ct_pool *p, int32_t n_tasks, ct_task_fn *fn, void *arg)
{
    if (n_tasks <= 0)
        return;
    if (n_tasks == 1 || p->started == 0) {
        for (int32_t i = 0; i < n_tasks; i++)
            fn(arg, i, 0);
        return;
    }
    uint32_t gen = generation_of(atomic_load_explicit(&p->ticket, memory_order_relaxed)) + 1;
    /* Close the old run first: a worker that still holds its last ticket must not match it against the new n_tasks. */
    atomic_store(&p->ticket, (uint64_t)(gen - 1) << 32 | CLOSED);
    p->fn = fn;
    p->arg = arg;
    atomic_store_explicit(&p->n_tasks, n_tasks, memory_order_relaxed);
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store(&p->ticket, (uint64_t)gen << 32); /* publishes fn, arg and n_tasks */
    if (atomic_load(&p->sleepers) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    work(p, gen, 0);
    for (uint32_t spins = 1; atomic_load_explicit(&p->done, memory_order_acquire) < n_tasks; spins++) {
        PAUSE();
        if (p->spin_ns == SPIN_CROWDED_NS && spins % 64 == 0)
            sched_yield();
    }
}

ct_status ct_pool_create(ct_pool **out, int32_t threads, ct_error *err)
{
    *out = NULL;
    if (threads == 0)
        threads = ct_cores();
    if (threads < 1 || threads > 1024)
        return ct_fail(err, CT_EINVAL, "threads", "expected 1 to 1024 threads, found %d", threads);
    ct_pool *p = ct_pages_alloc(sizeof *p, false); /* page-aligned: the counters sit on cache lines of their own */
    struct worker *workers = ct_calloc((size_t)threads, sizeof *workers);
    bool have = p != NULL && workers != NULL, lock = have && pthread_mutex_init(&p->lock, NULL) == 0;
    if (!lock || pthread_cond_init(&p->wake, NULL) != 0) {
        if (lock)
            pthread_mutex_destroy(&p->lock);
        ct_pages_free(p, sizeof *p);
        ct_free(workers);
        return ct_fail(err, CT_ENOMEM, "threads", "out of memory for a pool of %d threads", threads);
    }
    p->threads = threads;
    p->spin_ns = threads > ct_cores() ? SPIN_CROWDED_NS : SPIN_NS;
    p->workers = workers;
    for (int32_t i = 1; i < threads; i++) {
        workers[i] = (struct worker){.pool = p, .index = i};
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0) {
            ct_pool_free(p);
            return ct_fail(err, CT_EIO, "threads", "the system started %d of %d threads; try a smaller -t", i, threads);
        }
        p->started = i;
    }
    *out = p;
    return CT_OK;
}

void ct_pool_free(ct_pool *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, true);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int32_t i = 1; i <= p->started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    ct_free(p->workers);
    ct_pages_free(p, sizeof *p);
}

int32_t ct_pool_threads(const ct_pool *p) { return p->threads; }
