/* From logits to a token: penalties, bias, temperature, top-k, top-p, min-p, a seeded draw. Pure functions of logits, options
 * and history; f32 logits, f64 sums; ties go to the lower id; NaN or infinity is an error, never a token.
 * Order: penalties and bias -> temperature -> top-k -> top-p (over the renormalised survivors) -> min-p -> draw. */
#ifndef CT_ENGINE_SAMPLER_H
#define CT_ENGINE_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct ct_bias {
    int32_t id;
    float bias;
} ct_bias;

typedef struct ct_sampling {
    double temperature;       /* 0 = greedy */
    int32_t top_k;            /* 0 = off */
    double top_p;             /* 1 = off */
    double min_p;             /* 0 = off */
    double repeat_penalty;    /* 1 = off; divides positive, multiplies negative logits of tokens in the history */
    double presence_penalty;  /* 0 = off; subtracted once from tokens in the history */
    double frequency_penalty; /* 0 = off; subtracted per occurrence */
    int32_t penalty_last;     /* how much history counts; 0 = none, -1 = all */
    uint64_t seed;
    const ct_bias *bias; /* borrowed for the call */
    size_t n_bias;
} ct_sampling;

typedef struct ct_sampler ct_sampler; /* work space for a vocabulary; one thread */

ct_status ct_sampler_create(ct_sampler **out, int32_t vocab, ct_error *err);
void ct_sampler_free(ct_sampler *s);
size_t ct_sampler_bytes(int32_t vocab);

/* EINVAL for options out of range, each named. A bias of minus infinity bans a token; plus infinity is refused. */
ct_status ct_sampling_check(const ct_sampling *how, int32_t vocab, ct_error *err);

/* Chooses a token from logits[vocab] (left unchanged). history[n_history]: ids so far, prompt included. draw: number of this
 * draw in the stream of how->seed, so that the same seed gives the same tokens. logprob (nullable): log-probability of the
 * chosen token under the unmodified logits. ENUMERIC if a logit is NaN or +inf, or all are -inf. */
ct_status ct_sample(ct_sampler *s, const float *logits, const ct_sampling *how, const int32_t *history,
                    size_t n_history, uint64_t draw, int32_t *token, double *logprob, ct_error *err);

/* Which logits a choice hangs on, so that a head need not make the others (they may be estimates, as long as they are below the
 * largest): the *top largest, and those of also[0..*n_also). False if on all of them, or on more than most of either kind. */
bool ct_sample_reach(ct_sampler *s, const ct_sampling *how, const int32_t *history, size_t n_history, int32_t most,
                     int32_t *top, int32_t *also, int32_t *n_also);

/* log(sum(exp(logits))) in f64; the log-probability of id is logits[id] minus it. NaN if a logit is NaN or +inf. */
double ct_logsumexp(const float *logits, int32_t n);

#endif
