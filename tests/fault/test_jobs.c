/* The jobs of carat_jobs.h, and models that are only looked at, on a machine where every call of the system fails once. */
#include "scenario.h"

#include "formats/tensors.h"

struct jobs {
    struct digest digest;
    carat_model *m, *text_only;
    carat_inspection *i;
    carat_token ids[40];
};

static carat_status open_model(void *state, carat_error *err)
{
    struct jobs *k = state;
    carat_model_options o = carat_model_options_default();
    o.threads = 1;
    for (int32_t i = 0; i < 40; i++)
        k->ids[i] = 5 + i * 11;
    return carat_model_open(&k->m, TINY, &o, err);
}

static carat_status open_text(void *state, carat_error *err)
{
    struct jobs *k = state;
    carat_model_options o = carat_model_options_default();
    o.vocab_only = true;
    carat_status st = carat_model_open(&k->text_only, TINY, &o, err);
    carat_model_info info;
    carat_model_get_info(k->text_only, &info);
    if (st == CARAT_OK)
        digest_add(k, &info.layers, sizeof info.layers);
    return st;
}

static void add_inspection(struct jobs *k)
{
    const char *verdict = carat_inspection_verdict(k->i), *key, *value;
    carat_tensor_info t;
    digest_add(k, verdict ? verdict : "", verdict ? strlen(verdict) : 0);
    for (size_t i = 0; i < carat_inspection_tensors(k->i); i++) {
        carat_inspection_tensor(k->i, i, &t);
        digest_add(k, t.name, strlen(t.name));
    }
    for (size_t i = 0; i < carat_inspection_keys(k->i); i++) {
        carat_inspection_key(k->i, i, &key, &value);
        digest_add(k, value, strlen(value));
    }
}

static carat_status inspect_path(struct jobs *k, const char *path, carat_error *err)
{
    carat_inspection_free(k->i);
    carat_status st = carat_inspect(&k->i, path, err);
    if (st == CARAT_OK)
        add_inspection(k);
    else
        assert_null(k->i);
    return st;
}

static carat_status inspect(void *state, carat_error *err) { return inspect_path(state, TINY, err); }
static carat_status inspect_made(void *state, carat_error *err)
{
    return inspect_path(state, "synthetic:12b:q4_k_m", err);
}

static carat_status memory(void *state, carat_error *err)
{
    struct jobs *k = state;
    carat_memory need;
    carat_status st = carat_inspection_memory(k->i, 1024, "q8", &need, err);
    if (st == CARAT_OK)
        digest_add(k, &need, sizeof need);
    return st;
}

static carat_status top_of(struct jobs *k, size_t n, carat_error *err)
{
    carat_top *top = calloc(1000, sizeof *top); /* may fail as well: then it is the caller's own trouble */
    double nll = 0;
    if (top == NULL) {
        *err = (carat_error){.code = CARAT_ENOMEM, .text = "the caller has no memory"};
        return CARAT_ENOMEM;
    }
    carat_status st = carat_logits(k->m, k->ids, 40, NULL, top, n, &nll, err);
    for (size_t i = 0; i < n && st == CARAT_OK; i++)
        digest_add(k, &top[i].id, sizeof top[i].id);
    if (st == CARAT_OK)
        digest_add(k, &nll, sizeof nll);
    free(top);
    return st;
}

static carat_status logits(void *state, carat_error *err) { return top_of(state, 5, err); }
static carat_status all_logits(void *state, carat_error *err) { return top_of(state, 600, err); }

static carat_status score(void *state, carat_error *err)
{
    struct jobs *k = state;
    double mean = 0;
    size_t weakest = 0;
    carat_status st = carat_score(k->m, k->ids, 40, 10, &mean, &weakest, err);
    if (st == CARAT_OK) {
        digest_add(k, &mean, sizeof mean);
        digest_add(k, &weakest, sizeof weakest);
    }
    return st;
}

static carat_status perplexity(void *state, carat_error *err)
{
    struct jobs *k = state;
    carat_eval_options o = carat_eval_options_default();
    carat_perplexity p;
    size_t n;
    const char *text = carat_bench_quality_text(&n);
    o.context = 32;
    o.chunks = 2;
    carat_status st = carat_eval_perplexity(k->m, text, 2000, &o, NULL, &p, err);
    if (st == CARAT_OK)
        digest_add(k, &p.ppl, sizeof p.ppl);
    return st;
}

static carat_status kl(void *state, carat_error *err)
{
    struct jobs *k = state;
    carat_eval_options o = carat_eval_options_default();
    carat_kl d;
    o.context = 32;
    o.chunks = 2;
    o.kv = "q4";
    carat_status st = carat_eval_kl(k->m, k->m, carat_bench_quality_text(NULL), 2000, &o, NULL, &d, err);
    if (st == CARAT_OK)
        digest_add(k, &d, sizeof d);
    return st;
}

static carat_status bench(void *state, carat_error *err)
{
    struct jobs *k = state;
    carat_bench_case c = {.generate = 3, .depth = 20, .batch = 3, .repeats = 1};
    double samples[1];
    return carat_bench_run(k->m, NULL, &c, NULL, samples, NULL, err);
}

static carat_status bench_prompt(void *state, carat_error *err)
{
    struct jobs *k = state;
    carat_bench_text t;
    carat_status st = carat_bench_prompt(k->m, NULL, 0, 0.7, 12, 1, NULL, &t, err);
    if (st == CARAT_OK)
        digest_add(k, t.text, t.text_len);
    carat_bench_text_deinit(&t);
    return st;
}

static void close_all(void *state)
{
    struct jobs *k = state;
    carat_inspection_free(k->i);
    carat_model_close(k->m);
    carat_model_close(k->text_only);
}

static const enum fault_kind kinds[] = {FAULT_ALLOC, FAULT_MAP,    FAULT_OPEN, FAULT_STAT,
                                        FAULT_CLOSE, FAULT_THREAD, FAULT_LOCK};

static void looking(void **state)
{
    (void)state;
    static const step steps[] = {{"text only", open_text},
                                 {"inspect", inspect},
                                 {"memory", memory},
                                 {"inspect synthetic", inspect_made},
                                 {"memory", memory}};
    static const scenario sc = {"looking", steps, N_OF(steps), 0, sizeof(struct jobs), close_all, NULL};
    scenario_all(&sc, kinds, N_OF(kinds), 40);
}

static void working(void **state)
{
    (void)state;
    static const step steps[] = {
        {"open", open_model},       {"logits", logits}, {"all logits", all_logits}, {"score", score},
        {"perplexity", perplexity}, {"kl", kl},         {"bench", bench},           {"bench prompt", bench_prompt},
        {"logits", logits}};
    static const scenario sc = {"working", steps, N_OF(steps), 1, sizeof(struct jobs), close_all, NULL};
    scenario_all(&sc, kinds, N_OF(kinds), 100);
}

/* A synthetic model's tensors are made when they are asked for. */
static void making(void **state)
{
    (void)state;
    struct holdings before = holdings_now();
    ct_tensors *t = NULL;
    ct_error err;
    assert_int_equal(ct_synthetic_open(&t, "270m:q4_0", &err), CT_OK);
    for (size_t i = 1; i < 9; i++) {
        const ct_tensor *x = ct_tensors_at(t, i);
        fault_set(FAULT_ALLOC, 1, false);
        assert_null(ct_tensor_bytes(t, x));
        fault_clear();
        assert_non_null(ct_tensor_bytes(t, x));
    }
    ct_tensors_close(t);
    holdings_expect(before, "making tensors");
}

struct heard {
    size_t lines;
};

static void hear(void *arg, const carat_check_result *r)
{
    (void)r;
    ((struct heard *)arg)->lines++;
}

/* The check makes its operands at once and its cases as it goes; with all memory gone from some call on, it says so. The calls
 * are some ten thousand: the first ones each, then ever fewer. */
static void checking(void **state)
{
    (void)state;
    const char *brief = getenv("CARAT_TEST_BRIEF");
    size_t told = 0;
    for (size_t n = 1; n < 600; n += brief && brief[0] ? n : 1 + n / 8) {
        carat_error err;
        struct heard h = {0};
        struct holdings before = holdings_now();
        fault_set(FAULT_ALLOC, n, true);
        carat_status st = carat_check("cpu", 1, 1, true, hear, &h, &err);
        bool reached = fault_fired();
        fault_clear();
        holdings_expect(before, "check");
        if (!reached)
            break;
        expect_sentence("check", FAULT_ALLOC, st, &err);
        told++;
    }
    print_message("check: %zu failing calls were told\n", told);
    assert_true(told > 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(looking), cmocka_unit_test(working), cmocka_unit_test(making),
                                       cmocka_unit_test(checking)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
