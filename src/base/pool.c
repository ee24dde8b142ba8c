/* The thread pool: spin, then park. See pool.h for the contract.
 *
 * Every worker has a slot, one 64-bit word {generation, from, to}: the tasks of the run of that generation that are its own. It
 * claims the first of them; when it has none left it takes the back half of another's. So a worker walks through
 * neighbouring tasks, which for weights is one long stream of memory: two threads that took turns at pieces of 64 KiB read 41
 * GB/s where two with a stream each read 55 (Zen 4, the prefetcher starts anew in each piece).
 * A claim is a compare-and-swap, which fails as soon as the generation has moved on: a worker that wakes late can never take a
 * task of a run that it has not seen the function of. */
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
#define MOST_UNITS 0xffff /* from and to have 16 bits; where there are more tasks, several are claimed at once */

struct worker {
    _Alignas(64) atomic_uint_fast64_t slot; /* on a line of its own: its owner waits for it to change */
    pthread_t thread;
    ct_pool *pool;
    int32_t index;
};

struct ct_pool {
    _Alignas(64) atomic_int_fast32_t left; /* units of this generation that are not finished */
    _Alignas(64) atomic_int_fast32_t sleepers;
    atomic_bool stop;
    ct_task_fn *fn;
    void *arg;
    int32_t n_tasks, per_unit;
    uint32_t generation;
    int32_t threads;
    int32_t started; /* workers whose thread runs (without the caller) */
    uint64_t spin_ns;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct worker *workers; /* [threads] 0 is the caller */
};

static uint64_t slot_of(uint32_t generation, uint32_t from, uint32_t to)
{
    return (uint64_t)generation << 32 | from << 16 | to;
}
static uint32_t generation_of(uint64_t slot) { return (uint32_t)(slot >> 32); }
static uint32_t from_of(uint64_t slot) { return (uint32_t)slot >> 16; }
static uint32_t to_of(uint64_t slot) { return (uint32_t)slot & 0xffffu; }

/* The next unit of this worker's own; false when there is none. */
static bool claim(struct worker *w, uint32_t gen, uint32_t *unit)
{
    uint64_t s = atomic_load_explicit(&w->slot, memory_order_acquire);
    while (generation_of(s) == gen && from_of(s) < to_of(s))
        if (atomic_compare_exchange_weak_explicit(&w->slot, &s, slot_of(gen, from_of(s) + 1, to_of(s)),
                                                  memory_order_acq_rel, memory_order_acquire)) {
            *unit = from_of(s);
            return true;
        }
    return false;
}

/* Moves the back half of what another worker has left into this one's slot. Nobody but its owner fills an empty slot, and a
 * run cannot end while one holds units: so the store cannot hit a later run. */
static bool steal(ct_pool *p, struct worker *w, uint32_t gen)
{
    for (int32_t i = 1; i < p->threads; i++) {
        struct worker *other = &p->workers[(w->index + i) % p->threads];
        uint64_t s = atomic_load_explicit(&other->slot, memory_order_acquire);
        while (generation_of(s) == gen && from_of(s) < to_of(s)) {
            uint32_t middle = from_of(s) + (to_of(s) - from_of(s)) / 2;
            if (atomic_compare_exchange_weak_explicit(&other->slot, &s, slot_of(gen, from_of(s), middle),
                                                      memory_order_acq_rel, memory_order_acquire)) {
                atomic_store_explicit(&w->slot, slot_of(gen, middle, to_of(s)), memory_order_release);
                return true;
            }
        }
    }
    return false;
}

/* Runs units of generation gen until there are none left to take. */
static void work(ct_pool *p, struct worker *w, uint32_t gen)
{
    int32_t finished = 0;
    uint32_t unit;
    do {
        while (claim(w, gen, &unit)) {
            int32_t task = (int32_t)unit * p->per_unit;
            int32_t end = p->n_tasks - task < p->per_unit ? p->n_tasks : task + p->per_unit;
            for (; task < end; task++)
                p->fn(p->arg, task, w->index);
            finished++;
        }
    } while (steal(p, w, gen));
    if (finished > 0)
        atomic_fetch_sub_explicit(&p->left, finished, memory_order_release);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    ct_pool *p = w->pool;
    uint32_t seen = 0;
    for (;;) {
        uint64_t start = 0;
        uint32_t spins = 0;
        while (generation_of(atomic_load_explicit(&w->slot, memory_order_acquire)) == seen &&
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
            while (generation_of(atomic_load(&w->slot)) == seen && !atomic_load(&p->stop))
                pthread_cond_wait(&p->wake, &p->lock);
            atomic_fetch_sub(&p->sleepers, 1);
            pthread_mutex_unlock(&p->lock);
        }
        if (atomic_load(&p->stop))
            return NULL;
        seen = generation_of(atomic_load_explicit(&w->slot, memory_order_acquire));
        work(p, w, seen);
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
    p->fn = fn;
    p->arg = arg;
    p->n_tasks = n_tasks;
    p->per_unit = (int32_t)(((int64_t)n_tasks + MOST_UNITS - 1) / MOST_UNITS);
    uint32_t gen = ++p->generation, units = (uint32_t)((n_tasks + p->per_unit - 1) / p->per_unit);
    uint32_t threads = (uint32_t)p->threads;
    atomic_store_explicit(&p->left, (int32_t)units, memory_order_relaxed);
    for (uint32_t i = 0; i < threads;
         i++) { /* each publishes fn, arg and the rest to its owner, or to who steals from it */
        uint64_t slot = slot_of(gen, (uint32_t)((uint64_t)units * i / threads),
                                (uint32_t)((uint64_t)units * (i + 1) / threads));
        atomic_store(&p->workers[(i + 1) % threads].slot, slot); /* the caller's last: it is awake */
    }
    if (atomic_load(&p->sleepers) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    work(p, &p->workers[0], gen);
    for (uint32_t spins = 1; atomic_load_explicit(&p->left, memory_order_acquire) > 0; spins++) {
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
    struct worker *workers = ct_pages_alloc((size_t)threads * sizeof *workers, false);
    bool have = p != NULL && workers != NULL, lock = have && pthread_mutex_init(&p->lock, NULL) == 0;
    if (!lock || pthread_cond_init(&p->wake, NULL) != 0) {
        if (lock)
            pthread_mutex_destroy(&p->lock);
        ct_pages_free(p, sizeof *p);
        ct_pages_free(workers, (size_t)threads * sizeof *workers);
        return ct_fail(err, CT_ENOMEM, "threads", "out of memory for a pool of %d threads", threads);
    }
    p->threads = threads;
    p->spin_ns = threads > ct_cores() ? SPIN_CROWDED_NS : SPIN_NS;
    p->workers = workers;
    for (int32_t i = 1; i < threads; i++) {
        workers[i].pool = p;
        workers[i].index = i;
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
    ct_pages_free(p->workers, (size_t)p->threads * sizeof *p->workers);
    ct_pages_free(p, sizeof *p);
}

int32_t ct_pool_threads(const ct_pool *p) { return p->threads; }
