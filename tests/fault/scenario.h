/* Runs a scenario over and over, with another call failing each time, until there is no call left to fail.
 *
 * A scenario is a list of steps, each one call of the library. Where a step fails under a fault it must say so in a sentence;
 * then the machine is sound again, the same step on the same handles must succeed, and the scenario must end with the results of
 * a run without faults. Or the caller gives up: everything is freed at once, while the machine still fails. Either way nothing
 * is held afterwards that was not held before. */
#ifndef CARAT_TESTS_SCENARIO_H
#define CARAT_TESTS_SCENARIO_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/rng.h"
#include "carat.h"
#include "carat_jobs.h"
#include "faults.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"

typedef struct step {
    const char *name;
    carat_status (*run)(void *state, carat_error *err);
} step;

typedef struct scenario {
    const char *name;
    const step *steps;
    size_t n_steps;
    size_t first;                     /* step at which the machine begins to fail */
    size_t state_bytes;               /* begins with a struct digest; zeroed before each run */
    void (*close)(void *state);       /* frees whatever is there */
    void (*check)(const void *state); /* after a failure, the machine sound again; may be NULL */
} scenario;

/* What came out so far; steps add to it when they succeed. */
struct digest {
    uint64_t sum;
};

static inline void digest_add(void *state, const void *data, size_t n)
{
    struct digest *d = state;
    for (size_t i = 0; i < n; i++)
        d->sum = (d->sum ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    d->sum = ct_mix64(d->sum + n);
}

/* A status that the fault explains, and a sentence. */
static inline void expect_sentence(const char *where, enum fault_kind kind, carat_status st, const carat_error *err)
{
    bool memory = kind == FAULT_ALLOC || kind == FAULT_LOCK;
    bool explained = memory ? st == CARAT_ENOMEM : st == CARAT_EIO || st == CARAT_ENOMEM || st == CARAT_ENOTFOUND;
    if (!explained || err->code != st)
        fail_msg("%s: a failing %s gave %d (%d): %s", where, fault_name(kind), st, err->code, err->text);
    if (strlen(err->text) < 15 || strchr(err->text, '\n') || memchr(err->text, '\0', sizeof err->text) == NULL)
        fail_msg("%s: expected a sentence, found '%s'", where, err->text);
}

static inline void holdings_expect(struct holdings before, const char *what)
{
    struct holdings now = holdings_now();
    for (int i = 0; i < 1000 && now.threads > before.threads; i++) { /* joined ones may take a moment to vanish */
        struct timespec ms = {.tv_nsec = 1000000};
        nanosleep(&ms, NULL);
        now = holdings_now();
    }
    if (now.blocks != before.blocks || now.mapped != before.mapped || now.files != before.files ||
        now.threads > before.threads)
        fail_msg("%s: left behind %ld blocks, %ld mapped bytes, %d files, %d threads", what, now.blocks - before.blocks,
                 now.mapped - before.mapped, now.files - before.files, now.threads - before.threads);
}

enum after { GO_ON, GIVE_UP };

/* One run; false: the fault was never reached. *failed: a step said so. */
static inline bool scenario_run(const scenario *sc, enum fault_kind kind, size_t n, bool forever, enum after after,
                                uint64_t want, uint64_t *sum, bool *failed)
{
    char where[160];
    carat_error err;
    void *state = calloc(1, sc->state_bytes);
    assert_non_null(state);
    struct holdings before = holdings_now();
    bool gave_up = false;
    *failed = false;
    for (size_t i = 0; i < sc->n_steps && !gave_up; i++) {
        if (n > 0 && i == sc->first && !*failed)
            fault_set(kind, n, forever);
        memset(&err, 'x', sizeof err);
        carat_status st = sc->steps[i].run(state, &err);
        snprintf(where, sizeof where, "%s, step %zu (%s), %s %zu%s", sc->name, i + 1, sc->steps[i].name,
                 fault_name(kind), n, forever ? " and all after it" : "");
        if (st == CARAT_OK)
            continue;
        if (n == 0 || !fault_fired() || *failed)
            fail_msg("%s: failed on a sound machine: %s", where, err.text);
        expect_sentence(where, kind, st, &err);
        *failed = true;
        gave_up = after == GIVE_UP;
        if (gave_up)
            break;
        fault_clear();
        if (sc->check)
            sc->check(state);
        i--; /* again */
    }
    bool reached = n > 0 && fault_fired();
    if (!gave_up) {
        fault_clear();
        *sum = ((struct digest *)state)->sum;
        if (n > 0 && *sum != want)
            fail_msg("%s: the results differ from those of a sound machine", where);
    }
    sc->close(state);
    fault_clear();
    snprintf(where, sizeof where, "%s, %s %zu%s%s", sc->name, fault_name(kind), n, forever ? " and all after it" : "",
             gave_up ? ", given up" : "");
    holdings_expect(before, where);
    free(state);
    return reached;
}

/* Every call of the kinds in turn, in three ways. Prints what was done, and wants at least `least` faults that were told. */
static inline void scenario_all(const scenario *sc, const enum fault_kind *kinds, size_t n_kinds, size_t least)
{
    uint64_t want, again;
    bool failed;
    size_t told_all = 0;
    const char *brief = getenv("CARAT_TEST_BRIEF");
    size_t stride = brief && brief[0] ? 7 : 1;
    if (stride > 1)
        print_message("%s: brief, every seventh call only\n", sc->name);
    least /= stride * 2 - 1;
    scenario_run(sc, FAULT_ALLOC, 0, false, GO_ON, 0, &want, &failed);
    scenario_run(sc, FAULT_ALLOC, 0, false, GO_ON, 0, &again, &failed);
    assert_true(want == again);
    for (size_t k = 0; k < n_kinds; k++) {
        size_t n = 1, told = 0;
        for (;; n += stride) {
            if (!scenario_run(sc, kinds[k], n, false, GO_ON, want, &again, &failed))
                break;
            told += failed;
            if (failed) /* a fault that was borne leaves nothing to give up */
                scenario_run(sc, kinds[k], n, true, GIVE_UP, want, &again, &failed);
            scenario_run(sc, kinds[k], n, true, GO_ON, want, &again, &failed);
        }
        print_message("%s: %zu of %zu failing calls of %s were told, the others borne\n", sc->name, told,
                      (n - 1) / stride, fault_name(kinds[k]));
        told_all += told;
    }
    assert_true(told_all >= least);
}

#define N_OF(a) (sizeof(a) / sizeof(a)[0])

#endif
