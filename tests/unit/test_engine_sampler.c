/* The sampler against a naive one: sort everything, keep lists, add in f64. Sets are compared by drawing often; the
 * distribution by a chi-square. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/sampler.h"

static const ct_sampling plain = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};

struct naive {
    int32_t id;
    double logit, p;
};

static int by_logit(const void *a, const void *b)
{
    const struct naive *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit ? 1 : -1) : x->id - y->id;
}

/* What may be drawn, best first, with probabilities. Returns how many. */
static int32_t naive_set(struct naive *v, const float *logits, int32_t n, const ct_sampling *how)
{
    for (int32_t i = 0; i < n; i++)
        v[i] = (struct naive){.id = i, .logit = (double)logits[i]};
    qsort(v, (size_t)n, sizeof *v, by_logit);
    while (n > 1 && v[n - 1].logit == -INFINITY)
        n--;
    if (how->top_k > 0 && how->top_k < n)
        n = how->top_k;
    double sum = 0, below = 0;
    for (int32_t i = 0; i < n; i++)
        sum += v[i].p = exp((v[i].logit - v[0].logit) / how->temperature);
    if (how->top_p < 1)
        for (int32_t i = 0; i < n; i++)
            if ((below += v[i].p) >= how->top_p * sum) {
                n = i + 1;
                break;
            }
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++)
        if (v[i].p >= how->min_p)
            v[kept++] = v[i];
    sum = 0;
    for (int32_t i = 0; i < kept; i++)
        sum += v[i].p;
    for (int32_t i = 0; i < kept; i++)
        v[i].p /= sum;
    return kept;
}

static void random_logits(float *x, int32_t n, uint64_t seed, bool coarse)
{
    for (int32_t i = 0; i < n; i++) {
        double u = ct_rng_f64(seed, 9, (uint64_t)i), w = ct_rng_f64(seed, 10, (uint64_t)i);
        double v = sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * w) * 3;
        x[i] = (float)(coarse ? floor(v * 2) / 2 : v); /* coarse: many ties */
    }
}

static int32_t draw(ct_sampler *s, const float *x, const ct_sampling *how, uint64_t n)
{
    ct_error err;
    int32_t token = -1;
    if (ct_sample(s, x, how, NULL, 0, n, &token, NULL, &err) != CT_OK)
        fail_msg("%s", err.text);
    return token;
}

static void greedy_ties_go_to_the_lower_id(void **state)
{
    (void)state;
    enum { N = 1000 };
    float x[N];
    ct_sampler *s;
    assert_int_equal(ct_sampler_create(&s, N, NULL), CT_OK);
    ct_sampling how = plain;
    for (int32_t mode = 0; mode < 2; mode++) { /* temperature 0, and top-k 1 */
        how.temperature = mode;
        how.top_k = mode;
        for (int32_t at = 0; at < N; at += 37) {
            for (int32_t i = 0; i < N; i++)
                x[i] = -5 - (float)i * 0.001f;
            x[at] = x[(at + 400) % N] = x[N - 1] = 3;
            int32_t want = at < (at + 400) % N ? at : (at + 400) % N;
            assert_int_equal(draw(s, x, &how, (uint64_t)at), want);
        }
        for (int32_t i = 0; i < N; i++)
            x[i] = -0.0f;
        x[500] = 0.0f; /* the zeros are equal */
        assert_int_equal(draw(s, x, &how, 0), 0);
        for (int32_t i = 0; i < N; i++)
            x[i] = -INFINITY;
        x[999] = -1e30f;
        assert_int_equal(draw(s, x, &how, 0), 999);
    }
    ct_sampler_free(s);
}

/* The sampler's set and the naive one's are the same set: equal probabilities, and every draw by the same walk. */
static void sets_match_a_naive_sampler(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 2, 255, 256, 257, 3000, 20000};
    static const ct_sampling hows[] = {
        {.temperature = 1, .top_k = 64, .top_p = 0.95, .repeat_penalty = 1},
        {.temperature = 0.7, .top_k = 5, .top_p = 1, .repeat_penalty = 1},
        {.temperature = 1.3, .top_k = 300, .top_p = 0.5, .repeat_penalty = 1},
        {.temperature = 1, .top_k = 2500, .top_p = 0.9, .min_p = 0.01, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 0.6, .repeat_penalty = 1},
        {.temperature = 5, .top_p = 0.999, .repeat_penalty = 1},
        {.temperature = 1, .top_p = 1, .min_p = 0.2, .repeat_penalty = 1},
        {.temperature = 0.5, .top_p = 0, .repeat_penalty = 1},
        {.temperature = 1, .top_k = 40, .top_p = 1, .min_p = 1, .repeat_penalty = 1},
    };
    for (size_t z = 0; z < sizeof sizes / sizeof sizes[0]; z++) {
        int32_t n = sizes[z];
        float *x = malloc((size_t)n * sizeof *x);
        struct naive *v = malloc((size_t)n * sizeof *v);
        bool *in = malloc((size_t)n);
        ct_sampler *s;
        assert_int_equal(ct_sampler_create(&s, n, NULL), CT_OK);
        for (uint64_t seed = 0; seed < 4; seed++)
            for (size_t h = 0; h < sizeof hows / sizeof hows[0]; h++) {
                random_logits(x, n, seed, seed & 1);
                if (seed == 2)
                    for (int32_t i = 0; i < n - 1; i += 3)
                        x[i] = -INFINITY;
                ct_sampling how = hows[h];
                how.seed = seed;
                int32_t k = naive_set(v, x, n, &how);
                for (int32_t i = 0; i < n; i++)
                    in[i] = false;
                for (int32_t i = 0; i < k; i++)
                    in[v[i].id] = true;
                int32_t draws = 100;
                bool sorted = how.top_k > 0 || how.top_p < 1;
                for (int32_t d = 0; d < draws; d++) {
                    int32_t got = draw(s, x, &how, (uint64_t)d);
                    if (!in[got])
                        fail_msg("id %d drawn, but it is not among the %d of case %zu", got, k, h);
                    if (!sorted)
                        continue;
                    double at = ct_rng_f64(seed, 0, (uint64_t)d), below = 0;
                    int32_t i = 0;
                    while (i < k - 1 && (below += v[i].p) <= at)
                        i++;
                    if (got != v[i].id && fabs(below - at) > 1e-9)
                        fail_msg("id %d drawn, expected %d: n %d case %zu draw %d", got, v[i].id, n, h, d);
                }
            }
        ct_sampler_free(s);
        free(in);
        free(v);
        free(x);
    }
}

static void draws_follow_the_distribution(void **state)
{
    (void)state;
    enum { N = 24, DRAWS = 20000 };
    float x[N];
    struct naive v[N];
    ct_sampler *s;
    assert_int_equal(ct_sampler_create(&s, N, NULL), CT_OK);
    static const ct_sampling hows[] = {
        {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 77},
        {.temperature = 2, .top_k = 12, .top_p = 0.9, .repeat_penalty = 1, .seed = 5},
        {.temperature = 0.8, .top_p = 0.97, .min_p = 0.02, .repeat_penalty = 1, .seed = 1}};
    for (size_t h = 0; h < 3; h++) {
        random_logits(x, N, 3 + h, false);
        for (int32_t i = 0; i < N; i++)
            x[i] *= 0.5f;
        int32_t k = naive_set(v, x, N, &hows[h]), seen[N] = {0};
        for (uint64_t d = 0; d < DRAWS; d++)
            seen[draw(s, x, &hows[h], d)]++;
        double chi = 0;
        for (int32_t i = 0; i < k; i++) {
            double want = v[i].p * DRAWS, off = seen[v[i].id] - want;
            chi += off * off / want;
        }
        /* mean k-1, variance 2(k-1): five deviations are never chance */
        assert_true(chi < k - 1 + 5 * sqrt(2.0 * (k - 1)) + 1);
        assert_true(k > 4);
    }
    ct_sampler_free(s);
}

static void same_seed_same_tokens(void **state)
{
    (void)state;
    enum { N = 5000 };
    float x[N];
    ct_sampler *a, *b;
    assert_int_equal(ct_sampler_create(&a, N, NULL), CT_OK);
    assert_int_equal(ct_sampler_create(&b, N, NULL), CT_OK);
    random_logits(x, N, 1, false);
    ct_sampling how = plain, other = plain;
    how.seed = 1234;
    other.seed = 1235;
    int32_t same = 0;
    for (uint64_t d = 0; d < 200; d++) {
        int32_t first = draw(a, x, &how, d);
        draw(b, x, &other, d + 7); /* what was drawn before leaves no trace */
        assert_int_equal(draw(b, x, &how, d), first);
        same += draw(a, x, &other, d) == first;
    }
    assert_true(same < 50);
    ct_sampler_free(a);
    ct_sampler_free(b);
}

/* A logit's change is seen through greedy choices between it and a ladder of known ones. */
static void penalties_follow_their_formulas(void **state)
{
    (void)state;
    enum { N = 300 };
    static const int32_t history[] = {7, 9, 7, 7, 100000, -3, 8};
    float x[N];
    ct_sampler *s;
    ct_error err;
    int32_t token;
    assert_int_equal(ct_sampler_create(&s, N, NULL), CT_OK);
    ct_sampling how = {.temperature = 0,
                       .top_p = 1,
                       .repeat_penalty = 2,
                       .presence_penalty = 0.25,
                       .frequency_penalty = 0.5,
                       .penalty_last = -1};
    const struct {
        int32_t id, last;
        float logit;
        double want;
    } cases[] = {
        {7, -1, 8, 8 / 2.0 - 0.25 - 1.5},
        {7, -1, -8, -16 - 0.25 - 1.5},
        {9, -1, 8, 4 - 0.25 - 0.5},
        {8, -1, 0, -0.75},
        {8, 1, 8, 3.25},
        {9, 1, 8, 8},
        {7, 4, 8, 4 - 0.25 - 0.5},
        {7, 0, 8, 8},
        {3, -1, 8, 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        how.penalty_last = cases[i].last;
        for (int32_t j = 0; j < 2; j++) { /* just below what it should be, then just above */
            for (int32_t k = 0; k < N; k++)
                x[k] = -100;
            x[cases[i].id] = cases[i].logit;
            x[200] = (float)(cases[i].want + (j ? 1e-4 : -1e-4));
            assert_int_equal(ct_sample(s, x, &how, history, 7, 0, &token, NULL, &err), CT_OK);
            assert_int_equal(token, j ? 200 : cases[i].id);
        }
    }
    ct_sampler_free(s);
}

static void bias_moves_and_bans(void **state)
{
    (void)state;
    enum { N = 50 };
    float x[N] = {0};
    ct_sampler *s;
    ct_error err;
    int32_t token;
    double logprob;
    assert_int_equal(ct_sampler_create(&s, N, NULL), CT_OK);
    x[4] = 5;
    ct_bias bias[] = {{4, -INFINITY}, {30, 1.5f}};
    ct_sampling how = plain;
    how.bias = bias;
    how.n_bias = 2;
    how.temperature = 0;
    assert_int_equal(ct_sample(s, x, &how, NULL, 0, 0, &token, &logprob, &err), CT_OK);
    assert_int_equal(token, 30);
    assert_true(fabs(logprob + log(exp(5) + 49)) < 1e-6); /* under the unmodified logits */
    how.temperature = 1;
    for (uint64_t d = 0; d < 500; d++)
        assert_int_not_equal(draw(s, x, &how, d), 4);
    assert_int_equal((int32_t)x[4], 5); /* the logits are left alone */
    ct_bias all[N];
    for (int32_t i = 0; i < N; i++)
        all[i] = (ct_bias){i, -INFINITY};
    how.bias = all;
    how.n_bias = N;
    assert_int_equal(ct_sample(s, x, &how, NULL, 0, 0, &token, NULL, &err), CT_ENUMERIC);
    ct_sampler_free(s);
}

static void bad_numbers_are_errors(void **state)
{
    (void)state;
    enum { N = 700 };
    float x[N];
    ct_sampler *s;
    ct_error err;
    int32_t token = -5;
    assert_int_equal(ct_sampler_create(&s, N, NULL), CT_OK);
    const float bad[] = {NAN, -NAN, INFINITY};
    for (int32_t greedy = 0; greedy < 2; greedy++)
        for (int32_t i = 0; i < 3; i++)
            for (int32_t at = 0; at < N; at += 233) {
                random_logits(x, N, 1, false);
                ct_sampling how = plain;
                how.temperature = greedy;
                x[at] = bad[i];
                assert_int_equal(ct_sample(s, x, &how, NULL, 0, 0, &token, NULL, &err), CT_ENUMERIC);
                assert_int_equal(token, -5);
                assert_true(isnan(ct_logsumexp(x, N)));
            }
    for (int32_t i = 0; i < N; i++)
        x[i] = -INFINITY;
    assert_int_equal(ct_sample(s, x, &plain, NULL, 0, 0, &token, NULL, &err), CT_ENUMERIC);

    const struct {
        ct_sampling how;
        const char *word;
    } refused[] = {
        {{.temperature = -1, .top_p = 1, .repeat_penalty = 1}, "temperature"},
        {{.temperature = NAN, .top_p = 1, .repeat_penalty = 1}, "temperature"},
        {{.top_p = 1.01, .repeat_penalty = 1}, "top-p"},
        {{.top_p = 1, .min_p = -0.1, .repeat_penalty = 1}, "min-p"},
        {{.top_p = 1, .top_k = -1, .repeat_penalty = 1}, "top-k"},
        {{.top_p = 1, .repeat_penalty = 0}, "repeat"},
        {{.top_p = 1, .repeat_penalty = 1, .presence_penalty = INFINITY}, "presence"},
        {{.top_p = 1, .repeat_penalty = 1, .frequency_penalty = NAN}, "frequency"},
        {{.top_p = 1, .repeat_penalty = 1, .penalty_last = -2}, "last"},
        {{.top_p = 1, .repeat_penalty = 1, .bias = (const ct_bias[]){{N, 1}}, .n_bias = 1}, "700"},
        {{.top_p = 1, .repeat_penalty = 1, .bias = (const ct_bias[]){{3, NAN}}, .n_bias = 1}, "bias"},
        {{.top_p = 1, .repeat_penalty = 1, .bias = (const ct_bias[]){{3, INFINITY}}, .n_bias = 1}, "bias"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(ct_sampling_check(&refused[i].how, N, &err), CT_EINVAL);
        if (strstr(err.text, refused[i].word) == NULL)
            fail_msg("expected '%s' in: %s", refused[i].word, err.text);
    }
    ct_sampler_free(s);
}

static void logsumexp_is_exact(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 15, 256, 300, 262144};
    for (size_t z = 0; z < 5; z++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            int32_t n = sizes[z];
            float *x = malloc((size_t)n * sizeof *x);
            random_logits(x, n, seed, false);
            if (seed == 1)
                x[n / 2] = 60; /* one dominates; most of the others underflow */
            if (seed == 2)
                x[0] = -INFINITY;
            double max = -INFINITY, sum = 0;
            for (int32_t i = 0; i < n; i++)
                max = fmax(max, (double)x[i]);
            for (int32_t i = 0; i < n; i++)
                sum += exp((double)x[i] - max);
            double want = max + log(sum), got = ct_logsumexp(x, n);
            if (max == -INFINITY)
                assert_true(got == -INFINITY);
            else if (!(fabs(got - want) < 2e-7 * fmax(1, fabs(want)) / 2 + 1e-7))
                fail_msg("n %d seed %d: expected %.12f, found %.12f", n, (int)seed, want, got);
            free(x);
        }
}

static void sampling_allocates_nothing(void **state)
{
    (void)state;
    enum { N = 262144 };
    float *x = malloc(N * sizeof *x);
    ct_sampler *s;
    assert_int_equal(ct_sampler_create(&s, N, NULL), CT_OK);
    random_logits(x, N, 1, false);
    size_t before = ct_mem_calls();
    ct_sampling how = {.temperature = 5, .top_p = 0.999, .repeat_penalty = 1}; /* sorts nearly all */
    for (uint64_t d = 0; d < 3; d++)
        draw(s, x, &how, d);
    assert_int_equal(ct_mem_calls(), before);
    ct_sampler_free(s);
    assert_int_equal(ct_sampler_create(&s, 0, NULL), CT_EINVAL);
    for (size_t i = 1; i <= 7; i++) {
        ct_mem_fail_at(i);
        assert_int_equal(ct_sampler_create(&s, N, NULL), CT_ENOMEM);
        assert_null(s);
    }
    ct_mem_fail_at(0);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_ties_go_to_the_lower_id),  cmocka_unit_test(sets_match_a_naive_sampler),
        cmocka_unit_test(draws_follow_the_distribution),   cmocka_unit_test(same_seed_same_tokens),
        cmocka_unit_test(penalties_follow_their_formulas), cmocka_unit_test(bias_moves_and_bans),
        cmocka_unit_test(bad_numbers_are_errors),          cmocka_unit_test(logsumexp_is_exact),
        cmocka_unit_test(sampling_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
