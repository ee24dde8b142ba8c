/* What the files of this room share: the objects behind the public handles, and the way of an error to the outside.
 *
 * The room checks arguments and delegates; it decides nothing about models, text or speed. */
#ifndef CT_API_INTERNAL_H
#define CT_API_INTERNAL_H

#include <pthread.h>

#include "bench/bench.h"
#include "carat.h"
#include "carat_jobs.h"
#include "engine/session.h"
#include "formats/tensors.h"
#include "model/model.h"
#include "text/vocab.h"

struct carat_model {
    ct_tensors *tensors;  /* kept only if the backend reads weights in place */
    ct_vocab *vocab;      /* NULL: a model without text */
    ct_gemma gemma;       /* with has_weights */
    bool has_weights;     /* false: opened with vocab_only */
    ct_pool *pool;        /* likewise */
    pthread_mutex_t turn; /* sessions of one model share its pool: their forwards take turns */
    ct_sampling sampling; /* the model's own defaults */
    carat_model_info info;
    char *path, *format;
    ct_config cfg; /* info's strings point into it */
    const char *warnings[CT_MAX_WARNINGS];
};

struct carat_session {
    carat_model *model;
    ct_session *s;
    bool has_pending; /* a token was chosen and not fed yet */
    int32_t pending;
    double logprob;
    ct_detok detok;
    bool (*keep_going)(void *arg);
    void (*progress)(void *arg, const char *what, double done, double total);
    void *arg;
};

/* Copies *from into a nullable *to and returns the status. The two structs have the same shape. */
carat_status ct_api_error(carat_error *to, ct_status st, const ct_error *from);
/* EINVAL with a sentence that names the function and what it wants. */
carat_status ct_api_misuse(carat_error *err, const char *function, const char *wants);

/* Fills what a directory and a configuration say; strings are borrowed from both. */
void ct_api_info_fill(carat_model_info *info, const ct_tensors *t, const ct_config *cfg, const char **warnings);

/* What sessions and batches share. prompt: the ids of a text behind the id `last` (-1: behind nothing). */
ct_status ct_api_prompt(const carat_model *m, int32_t last, const char *text, size_t n, carat_prompt_form form,
                        const char *system, ct_ids *ids, ct_error *err);
ct_status ct_api_check_ids(const carat_model *m, const carat_token *ids, size_t n, ct_error *err);
ct_sampling ct_api_sampling(const carat_sampling *how);
size_t ct_api_text(const carat_model *m, ct_detok *d, carat_token token, char *text, size_t cap);

ct_job ct_api_job(const carat_job *job);
ct_subject ct_api_subject(const carat_model *m);
void ct_api_lock(carat_model *m);
void ct_api_unlock(carat_model *m);

/* Refuses misuse the way every function here does. */
#define API_REQUIRE(x, wants)                           \
    do {                                                \
        if (!(x))                                       \
            return ct_api_misuse(err, __func__, wants); \
    } while (0)

#endif
