/* Options and logits of any value: the sampler refuses, or chooses a token that is possible. */
#include <math.h>

#include "engine/sampler.h"
#include "fuzz.h"

enum { MAX_VOCAB = 1024, MAX_HISTORY = 64, MAX_BIAS = 16 };

/* Mostly numbers that mean something, sometimes any bits at all. */
static double feed_real(feed *f, double usual)
{
    uint8_t kind = feed_byte(f);
    double v;
    if (kind < 128)
        return usual * (double)kind / 64;
    if (kind < 160) {
        static const double edge[] = {0,         -0.0, 1,    -1,  1e-300, 5e-324, 1e308, INFINITY,
                                      -INFINITY, NAN,  0.01, 100, 1000,   -100,   0.5,   1e-9};
        return edge[kind % 16];
    }
    feed_bytes(f, &v, sizeof v);
    return v;
}

static float feed_logit(feed *f, uint8_t kind)
{
    float v;
    uint8_t b = feed_byte(f);
    if (kind & 1 && b > 250) {
        feed_bytes(f, &v, sizeof v);
        return v;
    }
    if (kind & 2 && b < 8)
        return -INFINITY;
    return kind & 4 ? (float)(b / 16) : ((float)b - 128) * (kind & 8 ? 3e36f : 0.25f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static float logits[MAX_VOCAB];
    feed f = {data, size};
    uint8_t kind = feed_byte(&f);
    uint8_t small = feed_byte(&f),
            large = feed_byte(&f); /* mostly fewer than a block of 256, sometimes several blocks */
    int32_t vocab = 1 + (large < 224 ? small % 64 : (small | large % 4 << 8)), history[MAX_HISTORY], token = -1;
    ct_bias bias[MAX_BIAS];
    ct_sampling how = {.temperature = feed_real(&f, 1),
                       .top_p = feed_real(&f, 0.9),
                       .min_p = feed_real(&f, 0.05),
                       .repeat_penalty = feed_real(&f, 1.1),
                       .presence_penalty = feed_real(&f, 0.5),
                       .frequency_penalty = feed_real(&f, 0.5),
                       .bias = bias};
    feed_bytes(&f, &how.top_k, kind & 16 ? sizeof how.top_k : 1);
    feed_bytes(&f, &how.penalty_last, kind & 32 ? sizeof how.penalty_last : 1);
    feed_bytes(&f, &how.seed, sizeof how.seed);
    size_t n_history = feed_byte(&f) % MAX_HISTORY;
    how.n_bias = feed_byte(&f) % MAX_BIAS;
    memset(history, 0, sizeof history);
    for (size_t i = 0; i < n_history; i++)
        feed_bytes(&f, &history[i], kind & 64 ? 4 : 1);
    for (size_t i = 0; i < how.n_bias; i++) {
        bias[i] = (ct_bias){.id = 0};
        feed_bytes(&f, &bias[i].id, kind & 128 ? sizeof bias[i].id : 1);
        bias[i].bias = (float)feed_real(&f, 5);
    }
    uint8_t shape = feed_byte(&f);
    for (int32_t i = 0; i < vocab; i++)
        logits[i] = feed_logit(&f, shape);

    ct_error err = {0};
    ct_sampler *s;
    double logprob = 0;
    MUST(ct_sampler_create(&s, vocab, &err) == CT_OK);
    for (uint64_t draw = 0; draw < 2; draw++) { /* twice: what a call leaves behind must not matter */
        ct_status st = ct_sample(s, logits, &how, history, n_history, draw, &token, &logprob, &err);
        if (st != CT_OK) {
            must_be_a_sentence(st, &err);
            MUST(st == CT_EINVAL || st == CT_ENUMERIC);
            MUST(st != CT_EINVAL || ct_sampling_check(&how, vocab, NULL) == CT_EINVAL);
            continue;
        }
        MUST(ct_sampling_check(&how, vocab, NULL) == CT_OK);
        MUST(token >= 0 && token < vocab);
        MUST(logits[token] > -INFINITY && logprob < 1e-3);
        for (size_t i = 0; i < how.n_bias; i++)
            MUST(bias[i].id != token || bias[i].bias > -INFINITY);
        for (int32_t i = 0; how.temperature == 0 && how.n_bias == 0 && n_history == 0 && i < vocab; i++)
            MUST(logits[i] < logits[token] || (logits[i] == logits[token] && i >= token));
    }
    ct_sampler_free(s);
    return 0;
}
