/* What the targets that open whole models share: whatever a reader accepted is read to its last byte, configured, and run for a
 * token. */
#ifndef CARAT_TESTS_FUZZ_MODEL_H
#define CARAT_TESTS_FUZZ_MODEL_H

#include "engine/session.h"
#include "formats/directory.h"
#include "fuzz.h"
#include "model/model.h"

enum { CONTEXT = 16 };

static ct_pool *pool;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    MUST(ct_pool_create(&pool, 1, NULL) == CT_OK);
    return 0;
}

/* Reads what the directory vouches for. */
static inline void use_everything(ct_tensors *t)
{
    volatile size_t sum = 0;
    for (size_t i = 0; i < ct_tensors_kv_count(t); i++) {
        const ct_kv_pair *kv = ct_tensors_kv_at(t, i);
        bool strings = kv->type == CT_KV_STRING || (kv->type == CT_KV_ARRAY && kv->elem_type == CT_KV_STRING);
        size_t each = ct_kv_type_bytes(kv->type == CT_KV_ARRAY ? kv->elem_type : kv->type);
        MUST(kv->key.len > 0);
        sum += (uint8_t)kv->key.data[0] + (uint8_t)kv->key.data[kv->key.len - 1];
        for (uint64_t k = 0; strings && k < kv->count; k++) {
            ct_str s = ct_kv_str(kv, k);
            sum += s.len > 0 ? (uint8_t)s.data[0] + (uint8_t)s.data[s.len - 1] : 0;
        }
        for (size_t k = 0; !strings && k < kv->count * each; k++)
            sum += kv->data[k];
    }
    for (size_t i = 0; i < ct_tensors_count(t); i++) {
        const ct_tensor *x = ct_tensors_at(t, i);
        const uint8_t *p = ct_tensor_bytes(t, x);
        MUST(x->n_elems == x->ne[0] * x->ne[1] * x->ne[2] * x->ne[3] && x->bytes > 0);
        sum += p[0] + p[x->bytes - 1];
    }
    (void)sum;
}

static inline void run_a_token(ct_tensors *t)
{
    ct_error err = {0};
    ct_gemma m;
    ct_session *s = NULL;
    bool needs;
    ct_status st = ct_gemma_load(&m, t, ct_backend_get("cpu"), NULL, pool, &needs, &err);
    if (st == CT_OK) {
        const ct_session_options opt = {
            .context = m.cfg.context < CONTEXT ? 0 : CONTEXT, .chunk = 4, .type_k = -1, .type_v = -1};
        const ct_sampling how = {.temperature = 1, .top_k = 4, .top_p = 1, .repeat_penalty = 1, .penalty_last = -1};
        const int32_t ids[] = {1, 0};
        int32_t token;
        double logprob;
        st = ct_session_create(&s, &m, pool, &opt, &err);
        if (st == CT_OK)
            st = ct_session_feed(s, ids, m.cfg.context < 2 ? 1 : 2, false, NULL, NULL, NULL, &err);
        if (st == CT_OK)
            st = ct_session_sample(s, &how, &token, &logprob, &err);
        if (st == CT_OK) {
            MUST(token >= 0 && token < m.cfg.vocab);
        }
    }
    if (st != CT_OK)
        must_be_a_sentence(st, &err);
    ct_session_free(s);
    ct_gemma_free(&m);
}

#endif
