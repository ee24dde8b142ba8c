/* The sampler. Every pass over the whole vocabulary is a plain loop that compilers turn into vectors; what remains after
 * top-k is small. It refuses to know models: logits, options and history are all it sees.
 *
 * Top-k without a sort: the k-th largest of the block maxima is a lower bound of the k-th largest logit, so only the few
 * logits above it are gathered; a radix selection then finds the exact set, ties by the lower id. */
#include "engine/sampler.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "base/rng.h"

#define BLOCK 256 /* logits that share a maximum: 1024 blocks in Gemma's vocabulary, so a bound for k up to 1024 */

struct choice {
    float logit;
    int32_t id;
};

struct ct_sampler {
    int32_t vocab, blocks;
    float *work;           /* [vocab] logits after penalties and bias */
    float *block_max;      /* [blocks] */
    struct choice *bounds; /* [blocks] scratch of the bound */
    struct choice *choice; /* [vocab] survivors */
    double *prob;          /* [vocab] their weights, not normalised */
    int32_t *count;        /* [vocab] occurrences in the history; zero between calls */
};

ct_status ct_sampler_create(ct_sampler **out, int32_t vocab, ct_error *err)
{
    *out = NULL;
    if (vocab < 1)
        return ct_fail(err, CT_EINVAL, NULL, "expected a vocabulary of at least one token, found %d", vocab);
    ct_sampler *s = ct_calloc(1, sizeof *s);
    if (s) {
        size_t n = (size_t)vocab;
        s->vocab = vocab;
        s->blocks = (vocab + BLOCK - 1) / BLOCK;
        s->work = ct_alloc(n * sizeof *s->work);
        s->block_max = ct_alloc((size_t)s->blocks * sizeof *s->block_max);
        s->bounds = ct_alloc((size_t)s->blocks * sizeof *s->bounds);
        s->choice = ct_alloc(n * sizeof *s->choice);
        s->prob = ct_alloc(n * sizeof *s->prob);
        s->count = ct_calloc(n, sizeof *s->count);
    }
    if (!s || !s->work || !s->block_max || !s->bounds || !s->choice || !s->prob || !s->count) {
        ct_sampler_free(s);
        return ct_fail(err, CT_ENOMEM, NULL, "no memory to sample from %d tokens", vocab);
    }
    *out = s;
    return CT_OK;
}

void ct_sampler_free(ct_sampler *s)
{
    if (s == NULL)
        return;
    ct_free(s->work);
    ct_free(s->block_max);
    ct_free(s->bounds);
    ct_free(s->choice);
    ct_free(s->prob);
    ct_free(s->count);
    ct_free(s);
}

size_t ct_sampler_bytes(int32_t vocab)
{
    size_t n = (size_t)vocab;
    return n * (sizeof(float) + sizeof(struct choice) + sizeof(double) + sizeof(int32_t)) + sizeof(ct_sampler) +
           (n / BLOCK + 1) * (sizeof(float) + sizeof(struct choice));
}

/* ---- options ---- */

ct_status ct_sampling_check(const ct_sampling *how, int32_t vocab, ct_error *err)
{
    const struct {
        const char *name;
        double v, lo, hi;
    } reals[] = {
        {"temperature", how->temperature, 0, 1000},
        {"top-p", how->top_p, 0, 1},
        {"min-p", how->min_p, 0, 1},
        {"repeat penalty", how->repeat_penalty, 0.01, 100},
        {"presence penalty", how->presence_penalty, -100, 100},
        {"frequency penalty", how->frequency_penalty, -100, 100},
        {"top-k", how->top_k, 0, INT32_MAX},
        {"number of last tokens to penalise", how->penalty_last, -1, INT32_MAX},
    };
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        if (!(reals[i].v >= reals[i].lo && reals[i].v <= reals[i].hi)) /* NaN is neither */
            return ct_fail(err, CT_EINVAL, reals[i].name, "expected a %s from %g to %g, found %g", reals[i].name,
                           reals[i].lo, reals[i].hi, reals[i].v);
    for (size_t i = 0; i < how->n_bias; i++) {
        if (how->bias[i].id < 0 || how->bias[i].id >= vocab)
            return ct_fail(err, CT_EINVAL, "logit bias", "expected a logit bias for an id from 0 to %d, found %d",
                           vocab - 1, how->bias[i].id);
        if (isnan(how->bias[i].bias) || how->bias[i].bias == INFINITY)
            return ct_fail(err, CT_EINVAL, "logit bias",
                           "expected a number or minus infinity (never) as logit bias of id %d, "
                           "found %g",
                           how->bias[i].id, (double)how->bias[i].bias);
    }
    return CT_OK;
}

/* ---- sums ---- */

/* exp(-y) for y >= 0 to within 2 units of the last place of a float; beyond 87 (of floats the smallest) exp(-87), which is
 * nothing beside the largest term's 1. In plain arithmetic, so that loops over it become vectors and every machine gives the
 * same bits; the limit is taken on the bits, because a comparison makes a branch of it. */
static inline float exp_minus(float y)
{
    const float magic = 12582912.0f;  /* 1.5 * 2^23: adding it rounds to an integer */
    const int32_t limit = 0x42ae0000; /* 87 */
    int32_t over = (int32_t)ct_bits_from_f32(y) - limit;
    float x = -ct_f32_from_bits((uint32_t)(limit + (over & over >> 31)));
    float n = (x * 1.44269504f + magic) - magic;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts, the first exact in products */
    float p = 1.9875691500e-4f;                            /* coefficients: Cephes' expf, minimax on [-ln2/2, ln2/2] */
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * ct_f32_from_bits((uint32_t)((int32_t)n + 127) << 23);
}

/* True where the bits are a NaN or plus infinity. */
static inline uint32_t is_bad(float x)
{
    uint32_t u = ct_bits_from_f32(x);
    return (uint32_t)(u - 0x7f800000u < 0x00800000u) | (uint32_t)(u > 0xff800000u);
}

/* Largest of n floats without NaN, eight lanes. */
static float max_of(const float *x, int32_t n)
{
    float m[8];
    for (int32_t j = 0; j < 8; j++)
        m[j] = -INFINITY;
    int32_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int32_t j = 0; j < 8; j++)
            m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    for (; i < n; i++)
        m[0] = x[i] > m[0] ? x[i] : m[0];
    for (int32_t j = 1; j < 8; j++)
        m[0] = m[j] > m[0] ? m[j] : m[0];
    return m[0];
}

static bool any_bad(const float *x, int32_t n)
{
    uint32_t bad = 0;
    for (int32_t i = 0; i < n; i++)
        bad |= is_bad(x[i]);
    return bad != 0;
}

double ct_logsumexp(const float *logits, int32_t n)
{
    if (any_bad(logits, n))
        return NAN;
    float max = max_of(logits, n);
    if (max == -INFINITY)
        return -INFINITY;
    double sum = 0;
    int32_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) { /* 8 lanes of f32 within a block, 32 terms each; f64 over blocks */
        float e[BLOCK], lane[8] = {0};
        for (int32_t k = 0; k < BLOCK; k++) /* two loops: together compilers do not make vectors of them */
            e[k] = exp_minus(max - logits[i + k]);
        for (int32_t k = 0; k < BLOCK; k += 8)
            for (int32_t j = 0; j < 8; j++)
                lane[j] += e[k + j];
        for (int32_t j = 0; j < 8; j++)
            sum += (double)lane[j];
    }
    for (; i < n; i++)
        sum += (double)exp_minus(max - logits[i]);
    return (double)max + log(sum);
}

/* ---- selection ---- */

/* A float's order as an unsigned number. Both zeros are one. */
static inline uint32_t order(float x)
{
    uint32_t u = ct_bits_from_f32(x + 0.0f);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* The k-th largest (1-based) of c[0..n) as an order, and how many of the k are equal to it. Four passes of a byte each. */
static uint32_t kth_order(const struct choice *c, int32_t n, int32_t k, int32_t *equal)
{
    uint32_t prefix = 0, mask = 0;
    for (int32_t shift = 24; shift >= 0; shift -= 8) {
        int32_t hist[256] = {0};
        for (int32_t i = 0; i < n; i++)
            if ((order(c[i].logit) & mask) == prefix)
                hist[order(c[i].logit) >> shift & 255]++;
        int32_t digit = 255;
        while (k > hist[digit])
            k -= hist[digit--];
        prefix |= (uint32_t)digit << shift;
        mask |= 255u << shift;
    }
    *equal = k;
    return prefix;
}

/* Keeps the k largest of c[0..n), in the order they stand in (by id); of equals the first. */
static int32_t keep_largest(struct choice *c, int32_t n, int32_t k)
{
    if (k >= n)
        return n;
    int32_t equal, kept = 0;
    uint32_t least = kth_order(c, n, k, &equal);
    for (int32_t i = 0; i < n; i++) {
        uint32_t o = order(c[i].logit);
        if (o > least || (o == least && equal-- > 0))
            c[kept++] = c[i];
    }
    return kept;
}

static bool before(struct choice a, struct choice b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Heap sort, best first: in place, without the allocation that qsort may make. */
static void sink(struct choice *c, int32_t i, int32_t n)
{
    struct choice x = c[i];
    for (int32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(c[child], c[child + 1]))
            child++;
        if (!before(x, c[child]))
            break;
        c[i] = c[child];
    }
    c[i] = x;
}

static void sort_best_first(struct choice *c, int32_t n)
{
    for (int32_t i = n / 2 - 1; i >= 0; i--)
        sink(c, i, n);
    for (int32_t i = n - 1; i > 0; i--) {
        struct choice last = c[0];
        c[0] = c[i];
        c[i] = last;
        sink(c, 0, i);
    }
}

/* All logits of at least `least` (and above -infinity), by id. Blocks whose maximum is below are skipped. */
static int32_t gather(ct_sampler *s, const float *x, float least)
{
    int32_t n = 0;
    for (int32_t b = 0; b < s->blocks; b++) {
        if (s->block_max[b] < least || s->block_max[b] == -INFINITY)
            continue;
        int32_t end = (b + 1) * BLOCK < s->vocab ? (b + 1) * BLOCK : s->vocab;
        for (int32_t i = b * BLOCK; i < end; i++)
            if (x[i] >= least && x[i] > -INFINITY)
                s->choice[n++] = (struct choice){x[i], i};
    }
    return n;
}

/* The k largest logits (k = 0: all that are possible) into s->choice, by id. */
static int32_t select_top(ct_sampler *s, const float *x, int32_t k)
{
    float least = -INFINITY;
    if (k > 0 && k <= s->blocks) {
        for (int32_t b = 0; b < s->blocks; b++)
            s->bounds[b] = (struct choice){s->block_max[b], b};
        int32_t n = keep_largest(s->bounds, s->blocks, k);
        least = INFINITY;
        for (int32_t i = 0; i < n; i++)
            least = s->bounds[i].logit < least ? s->bounds[i].logit : least;
    }
    int32_t n = gather(s, x, least);
    return k > 0 ? keep_largest(s->choice, n, k) : n;
}

/* ---- penalties ---- */

/* Only tokens of the history and of the bias list differ from the model's logits. Returns what to sample from. */
static const float *adjusted(ct_sampler *s, const float *logits, const ct_sampling *how, const int32_t *history,
                             size_t n)
{
    if (how->penalty_last >= 0 && n > (size_t)how->penalty_last) {
        history += n - (size_t)how->penalty_last;
        n = (size_t)how->penalty_last;
    }
    bool penalise = n > 0 && (how->repeat_penalty != 1 || how->presence_penalty != 0 || how->frequency_penalty != 0);
    if (!penalise && how->n_bias == 0)
        return logits;
    memcpy(s->work, logits, (size_t)s->vocab * sizeof *s->work);
    for (size_t i = 0; penalise && i < n; i++)
        if (history[i] >= 0 && history[i] < s->vocab)
            s->count[history[i]]++;
    for (size_t i = 0; penalise && i < n; i++) {
        int32_t id = history[i];
        if (id < 0 || id >= s->vocab || s->count[id] == 0)
            continue;
        double x = (double)s->work[id];
        x = x > 0 ? x / how->repeat_penalty : x * how->repeat_penalty;
        x -= how->presence_penalty + how->frequency_penalty * s->count[id];
        s->work[id] = (float)x;
        s->count[id] = 0; /* each token once; and the table is clean again */
    }
    for (size_t i = 0; i < how->n_bias; i++)
        s->work[how->bias[i].id] += how->bias[i].bias;
    return s->work;
}

/* Whoever is pushed down by a penalty makes room for one more of the largest; whoever is lifted is looked at in any case. */
bool ct_sample_reach(ct_sampler *s, const ct_sampling *how, const int32_t *history, size_t n, int32_t most,
                     int32_t *top, int32_t *also, int32_t *n_also)
{
    bool penalise = how->repeat_penalty != 1 || how->presence_penalty != 0 || how->frequency_penalty != 0;
    bool fits = true;
    if (how->penalty_last >= 0 && n > (size_t)how->penalty_last) {
        history += n - (size_t)how->penalty_last;
        n = (size_t)how->penalty_last;
    }
    *n_also = 0;
    for (size_t i = 0; i < (penalise ? n : 0) + how->n_bias && fits; i++) {
        int32_t id = penalise && i < n ? history[i] : how->bias[i - (penalise ? n : 0)].id;
        if (id < 0 || id >= s->vocab || s->count[id]++ > 0)
            continue;
        also[(*n_also)++] = id;
        fits = *n_also < most;
    }
    for (int32_t i = 0; i < *n_also; i++)
        s->count[also[i]] = 0;
    *top = (how->temperature == 0 || how->top_k == 1 ? 1 : how->top_k) + *n_also;
    return fits && (*top > *n_also) && how->top_k <= most && *top <= most;
}

/* ---- the draw ---- */

static ct_status bad_logits(const float *x, int32_t n, ct_error *err)
{
    for (int32_t i = 0; i < n; i++)
        if (is_bad(x[i]))
            return ct_fail(err, CT_ENUMERIC, NULL, "expected finite logits, found %s for token %d",
                           isnan(x[i]) ? "NaN" : "infinity", i);
    return ct_fail(err, CT_ENUMERIC, NULL, "expected a logit above minus infinity, found none: no token is possible");
}

static int32_t greedy(const ct_sampler *s, const float *x, float max)
{
    for (int32_t b = 0; b < s->blocks; b++)
        if (s->block_max[b] == max)
            for (int32_t i = b * BLOCK;; i++)
                if (x[i] == max)
                    return i;
    return 0; /* not reached: max is one of them */
}

/* Weights exp((x - max) / T) of the n survivors. Returns their sum. */
static double weigh(ct_sampler *s, int32_t n, float max, double temperature)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += s->prob[i] = exp(((double)s->choice[i].logit - (double)max) / temperature);
    return sum;
}

/* The shortest run of the best whose share of all n survivors reaches top_p: leaves it best first with its weights and their
 * sum. Without top-k the survivors are the whole vocabulary, which is sorted piece by piece: mostly a thousand hold enough. */
static int32_t cut_top_p(ct_sampler *s, const float *x, int32_t n, float max, const ct_sampling *how, double *sum)
{
    double need = how->top_p * *sum;
    int32_t m = how->top_k > 0 || n <= 1024 ? n : 1024;
    for (;; m = m < n / 8 ? m * 8 : n) {
        if (how->top_k == 0) {
            m = select_top(s, x, m);
            sort_best_first(s->choice, m);
        }
        double have = 0;
        for (int32_t i = 0; i < m; i++) {
            s->prob[i] = exp(((double)s->choice[i].logit - (double)max) / how->temperature);
            have += s->prob[i];
            if (have >= need || i == n - 1) {
                *sum = have;
                return i + 1;
            }
        }
    }
}

static int32_t draw_one(ct_sampler *s, const float *x, float max, const ct_sampling *how, uint64_t draw)
{
    int32_t n = select_top(s, x, how->top_k);
    if (how->top_k > 0)
        sort_best_first(s->choice, n);
    double sum = weigh(s, n, max, how->temperature);
    if (how->top_p < 1)
        n = cut_top_p(s, x, n, max, how, &sum);
    if (how->min_p > 0) { /* relative to the best, whose weight is exp(0) = 1 */
        int32_t kept = 0;
        sum = 0;
        for (int32_t i = 0; i < n; i++)
            if (s->prob[i] >= how->min_p) {
                s->choice[kept] = s->choice[i];
                sum += s->prob[kept++] = s->prob[i];
            }
        n = kept;
    }
    double at = ct_rng_f64(how->seed, 0, draw) * sum, below = 0;
    int32_t last = 0;
    for (int32_t i = 0; i < n; i++) {
        if (s->prob[i] == 0)
            continue; /* rounding must not let an impossible token be the last */
        last = i;
        if ((below += s->prob[i]) > at)
            break;
    }
    return s->choice[last].id;
}

ct_status ct_sample(ct_sampler *s, const float *logits, const ct_sampling *how, const int32_t *history,
                    size_t n_history, uint64_t draw, int32_t *token, double *logprob, ct_error *err)
{
    ct_status st = ct_sampling_check(how, s->vocab, err);
    if (st != CT_OK)
        return st;
    if (any_bad(logits, s->vocab))
        return bad_logits(logits, s->vocab, err);
    const float *x = adjusted(s, logits, how, history, n_history);
    for (int32_t b = 0; b < s->blocks; b++) {
        int32_t left = s->vocab - b * BLOCK;
        s->block_max[b] = max_of(x + b * BLOCK, left < BLOCK ? left : BLOCK);
    }
    float max = max_of(s->block_max, s->blocks);
    if (!isfinite(max))
        return bad_logits(x, s->vocab, err);
    *token = how->temperature == 0 || how->top_k == 1 ? greedy(s, x, max) : draw_one(s, x, max, how, draw);
    if (logprob)
        *logprob = (double)logits[*token] - ct_logsumexp(logits, s->vocab);
    return CT_OK;
}
