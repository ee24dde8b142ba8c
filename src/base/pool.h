/* The thread pool: one per process is enough, and every backend call is given it.
 *
 * ct_pool_run(pool, n, fn, arg) calls fn(arg, task, worker) once for every task 0..n-1, on any worker, in any order, and
 * returns when all are done. Work is cut into tasks whose size depends on the problem alone, never on the number of
 * workers: so results are the same for any number of threads. A worker starts with a run of neighbouring tasks of its own and
 * takes from others when it has none left, so a slow core does fewer, and data in the order of tasks is read as a stream.
 * Workers spin for a while after a run (decode calls again within microseconds), then sleep.
 * One thread at a time may call ct_pool_run; fn must not call it. worker is 0..threads-1 (0 is the caller). */
#ifndef CT_BASE_POOL_H
#define CT_BASE_POOL_H

#include <stdint.h>

#include "base/error.h"

typedef struct ct_pool ct_pool;
typedef void ct_task_fn(void *arg, int32_t task, int32_t worker);

/* threads >= 1, the caller included; 0 means ct_cores(). ENOMEM, or EIO when threads cannot be started. */
ct_status ct_pool_create(ct_pool **out, int32_t threads, ct_error *err);
void ct_pool_free(ct_pool *p);
int32_t ct_pool_threads(const ct_pool *p);
void ct_pool_run(ct_pool *p, int32_t n_tasks, ct_task_fn *fn, void *arg);

#endif
