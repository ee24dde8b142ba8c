/* carat_model: opening, what it is, closing.
 *
 * A model owns its packed weights, its vocabulary and its pool. The tensor directory is closed as soon as the weights are
 * packed, unless the backend reads some of them in place. */
#include <string.h>

#include "api/internal.h"
#include "base/system.h"
#include "model/names.h"

carat_model_options carat_model_options_default(void)
{
    return (carat_model_options){.size = sizeof(carat_model_options), .backend = "auto"};
}

static size_t parameters(const ct_tensors *t)
{
    size_t n = 0;
    for (size_t i = 0; i < ct_tensors_count(t); i++)
        n += ct_tensors_at(t, i)->n_elems;
    return n;
}

void ct_api_info_fill(carat_model_info *info, const ct_tensors *t, const ct_config *cfg, const char **warnings)
{
    info->path = ct_tensors_path(t);
    info->format = ct_tensors_format(t);
    info->size = cfg->size;
    info->layers = cfg->layers;
    info->dim = cfg->dim;
    info->heads = cfg->heads;
    info->kv_heads = cfg->kv_heads;
    info->head_dim = cfg->head_dim;
    info->ffn = cfg->ffn;
    info->vocab = cfg->vocab;
    info->window = cfg->window;
    info->context = cfg->context;
    info->file_bytes = ct_tensors_file_bytes(t);
    info->parameters = parameters(t);
    info->n_warnings = cfg->n_warnings;
    for (int32_t i = 0; i < cfg->n_warnings; i++)
        warnings[i] = cfg->warnings[i];
    info->warnings = warnings;
}

/* Sampling defaults that the file's maker wrote down; Gemma's own where it is silent. Values out of range are ignored: they
 * are a convenience, not a reason to refuse a model. */
static ct_sampling sampling_defaults(const ct_tensors *t)
{
    ct_sampling s = {.temperature = 1, .top_k = 64, .top_p = 0.95, .repeat_penalty = 1, .penalty_last = -1};
    uint32_t k = 64;
    double temp = 1, p = 0.95, min_p = 0;
    if (ct_kv_u32(t, "general.sampling.top_k", &k, NULL) == CT_OK && k <= INT32_MAX)
        s.top_k = (int32_t)k;
    if (ct_kv_f64(t, "general.sampling.temp", &temp, NULL) == CT_OK && temp >= 0 && temp < 100)
        s.temperature = temp;
    if (ct_kv_f64(t, "general.sampling.top_p", &p, NULL) == CT_OK && p > 0 && p <= 1)
        s.top_p = p;
    if (ct_kv_f64(t, "general.sampling.min_p", &min_p, NULL) == CT_OK && min_p >= 0 && min_p < 1)
        s.min_p = min_p;
    return s;
}

/* Said before anything is loaded: a process that outgrows its memory later is killed without a word. */
static ct_status fits(const carat_model *m, const ct_backend *b, const carat_model_options *opt, ct_error *err)
{
    ct_gemma asked = {.cfg = m->cfg, .backend = b, .ops = b->ops(opt->isa)};
    asked.rough.w.rows = opt->screened_head ? m->cfg.embed_rows : 0;
    ct_session_options smallest = {.type_k = -1, .type_v = -1};
    ct_status st = ct_kv_types(opt->kv, &smallest.type_k, &smallest.type_v, err);
    if (st != CT_OK)
        return st;
    int32_t context = opt->context > 0 && opt->context <= m->cfg.context ? opt->context : CT_KV_PAGE;
    size_t have = b->memory_free ? b->memory_free() : ct_memory_available(), need;
    if (asked.ops == NULL || have == 0)
        return CT_OK; /* another sentence says what is wrong, or nobody knows */
    size_t weights = ct_gemma_bytes(m->tensors, b) + (opt->screened_head ? ct_rough_bytes(&m->cfg) : 0);
    size_t session = ct_session_need(&asked, &smallest, context, opt->threads > 0 ? opt->threads : ct_cores(), NULL,
                                     NULL, NULL);
    if (ct_add_ok(weights, session, &need) && need <= have)
        return CT_OK;
    return ct_fail(err, CT_ENOMEM, "memory",
                   "the weights need %.2f GB and a session of %d tokens %.2f GB, but %.2f GB of memory are available: "
                   "free some, raise the limit, or take a smaller model or type than '%s'",
                   (double)weights * 1e-9, context, (double)session * 1e-9, (double)have * 1e-9,
                   ct_tensors_path(m->tensors));
}

static ct_status load_on(carat_model *m, const ct_backend *b, const carat_model_options *opt, bool *keep, ct_error *err)
{
    ct_status st = fits(m, b, opt, err);
    ct_tell tell = {opt->progress, opt->arg};
    if (st == CT_OK)
        st = ct_gemma_load_told(&m->gemma, m->tensors, b, opt->isa, m->pool, &tell, keep, err);
    if (st != CT_OK || !opt->screened_head)
        return st;
    st = ct_rough_make(&m->gemma, m->tensors, m->pool, &tell, err);
    if (st != CT_OK)
        ct_gemma_free(&m->gemma);
    return st;
}

static ct_status load_weights(carat_model *m, const carat_model_options *opt, bool *keep, ct_error *err)
{
    const char *name = opt->backend ? opt->backend : "auto";
    const ct_backend *b = NULL;
    ct_status st = ct_backend_find(&b, name, err);
    if (st == CT_OK)
        st = ct_pool_create(&m->pool, opt->threads, err);
    if (st == CT_OK)
        st = load_on(m, b, opt, keep, err);
    bool other = b && b->memory_free && strcmp(name, "auto") == 0;
    if (st != CT_OK && st != CT_EINTERRUPTED && other) { /* a device that would not do: say so, go on */
        ct_config_warn(&m->cfg, err);
        st = load_on(m, ct_backend_get("cpu"), opt, keep, err);
    }
    if (st != CT_OK)
        return st;
    m->has_weights = true; /* from here on close frees them */
    memcpy(m->gemma.cfg.warnings, m->cfg.warnings, sizeof m->cfg.warnings);
    m->gemma.cfg.n_warnings = m->cfg.n_warnings;
    m->cfg = m->gemma.cfg;
    for (int32_t i = m->info.n_warnings; i < m->cfg.n_warnings; i++)
        m->warnings[m->info.n_warnings++] = m->cfg.warnings[i];
    return CT_OK;
}

/* The vocabulary, made beside the weights: 20 ms of one thread that the first token need not wait for. */
struct vocab_job {
    const ct_tensors *tensors;
    ct_vocab *vocab;
    pthread_t thread;
    bool beside; /* a thread is at it */
    ct_status st;
    ct_error err;
};

static void *vocab_main(void *arg)
{
    struct vocab_job *j = arg;
    j->st = ct_vocab_create(&j->vocab, j->tensors, &j->err);
    return NULL;
}

static void vocab_start(struct vocab_job *j, const ct_tensors *t, bool beside)
{
    *j = (struct vocab_job){.tensors = t};
    j->beside = beside && pthread_create(&j->thread, NULL, vocab_main, j) == 0;
    if (!j->beside)
        vocab_main(j);
}

/* Waits for the vocabulary and hands it over. Its error comes before that of the weights: which of the two is told must not
 * depend on who was first. */
static ct_status vocab_take(struct vocab_job *j, carat_model *m, ct_status st, ct_error *err)
{
    if (j->beside)
        pthread_join(j->thread, NULL);
    j->beside = false;
    m->vocab = j->vocab;
    if (j->st == CT_OK)
        return st;
    *err = j->err;
    return j->st;
}

carat_status carat_model_open(carat_model **out, const char *path, const carat_model_options *opt, carat_error *err)
{
    API_REQUIRE(out, "somewhere to put the model");
    *out = NULL;
    API_REQUIRE(path && path[0], "the path of a model");
    API_REQUIRE(opt == NULL || opt->size == sizeof *opt, "options from carat_model_options_default()");
    carat_model_options o = opt ? *opt : carat_model_options_default();
    API_REQUIRE(o.threads >= 0 && o.threads <= 1024, "0 to 1024 threads");
    ct_error e = {0};
    ct_status st = CT_OK;
    struct vocab_job vocab = {.tensors = NULL};
    bool keep = true;
    carat_model *m = ct_calloc(1, sizeof *m);
    if (m == NULL || pthread_mutex_init(&m->turn, NULL) != 0) {
        ct_free(m);
        return ct_api_error(err, ct_fail(&e, CT_ENOMEM, path, "out of memory while opening '%s'", path), &e);
    }
    st = ct_tensors_open(&m->tensors, path, &e);
    if (st == CT_OK) {
        st = ct_config_read(&m->cfg, m->tensors, &e);
        if (st != CT_OK && o.vocab_only) { /* text needs no shapes: a strange model still has its tokenizer */
            m->cfg = (ct_config){0};
            st = CT_OK;
        }
    }
    if (st != CT_OK)
        goto done;
    vocab_start(&vocab, m->tensors, !o.vocab_only && o.threads != 1);
    m->sampling = sampling_defaults(m->tensors);
    m->path = ct_strdup(ct_tensors_path(m->tensors));
    m->format = ct_strdup(ct_tensors_format(m->tensors));
    ct_api_info_fill(&m->info, m->tensors, &m->cfg, m->warnings);
    m->info.path = m->path;
    m->info.format = m->format;
    m->info.backend = m->info.isa = "";
    if (m->path == NULL || m->format == NULL)
        st = ct_fail(&e, CT_ENOMEM, path, "out of memory while opening '%s'", path);
    else if (!o.vocab_only)
        st = load_weights(m, &o, &keep, &e);
    st = vocab_take(&vocab, m, st, &e);
    if (st == CT_OK && m->has_weights)
        st = ct_tensors_check(m->tensors, &e); /* both have read the file */
    if (st != CT_OK)
        goto done;
    m->info.has_text = m->vocab != NULL;
    m->info.text_max = m->vocab ? ct_detok_max(m->vocab) : 0;
    m->info.has_turns = m->vocab && ct_vocab_has_turns(m->vocab);
    if (m->has_weights) {
        m->info.backend = m->gemma.backend->name;
        m->info.isa = m->gemma.ops->isa;
        m->info.threads = ct_pool_threads(m->pool);
        m->info.weight_bytes = m->gemma.weight_bytes;
        m->info.decode_bytes = m->gemma.decode_bytes;
    }
    if (!keep) {
        ct_tensors_close(m->tensors);
        m->tensors = NULL;
    }
    *out = m;
    m = NULL;
done:
    carat_model_close(m);
    return ct_api_error(err, st, &e);
}

void carat_model_close(carat_model *m)
{
    if (m == NULL)
        return;
    if (m->has_weights)
        ct_gemma_free(&m->gemma);
    ct_pool_free(m->pool);
    ct_vocab_free(m->vocab);
    ct_tensors_close(m->tensors);
    pthread_mutex_destroy(&m->turn);
    ct_free(m->path);
    ct_free(m->format);
    ct_free(m);
}

void carat_model_get_info(const carat_model *m, carat_model_info *info)
{
    if (info)
        *info = m ? m->info : (carat_model_info){0};
}

carat_sampling carat_sampling_default(const carat_model *m)
{
    carat_sampling s = {.size = sizeof s, .temperature = 1, .top_k = 64, .top_p = 0.95, .repeat_penalty = 1};
    if (m) {
        s.temperature = m->sampling.temperature;
        s.top_k = m->sampling.top_k;
        s.top_p = m->sampling.top_p;
        s.min_p = m->sampling.min_p;
    }
    return s;
}

ct_subject ct_api_subject(const carat_model *m) { return (ct_subject){&m->gemma, m->vocab, m->pool}; }
void ct_api_lock(carat_model *m) { pthread_mutex_lock(&m->turn); }
void ct_api_unlock(carat_model *m) { pthread_mutex_unlock(&m->turn); }
