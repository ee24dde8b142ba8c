/* carat_convert: opens what is read, starts a pool, delegates to convert/. */
#include <string.h>

#include "api/internal.h"
#include "base/system.h"
#include "convert/convert.h"

carat_convert_options carat_convert_options_default(void)
{
    return (carat_convert_options){.size = sizeof(carat_convert_options)};
}

static void hand_out(carat_conversion *to, const ct_conversion *from, double seconds)
{
    *to = (carat_conversion){.format = from->format,
                             .bytes_in = from->bytes_in,
                             .bytes_out = from->bytes_out,
                             .tensors = from->tensors,
                             .parameters = from->weights,
                             .seconds = seconds,
                             .n_notes = from->n_notes};
    if (from->weights > 0)
        to->bits_per_weight = 8 * (double)from->weight_bytes / (double)from->weights;
    _Static_assert(sizeof to->notes == sizeof from->notes, "the two have the same shape");
    memcpy(to->notes, from->notes, sizeof to->notes);
}

enum { CALIBRATE_CHUNK = 512 }; /* tokens: llama.cpp's own */

static void calibrating(void *arg, double done, double total)
{
    const carat_job *job = arg;
    if (job->progress)
        job->progress(job->arg, "calibrating", done, total);
}

static bool going_on(void *arg)
{
    const carat_job *job = arg;
    return job->keep_going == NULL || job->keep_going(job->arg);
}

/* Runs the model that is to be converted over the text. */
static ct_status calibrate(ct_imatrix **im, const char *in, const carat_convert_options *opt, carat_job *job,
                           ct_error *e)
{
    carat_model *m = NULL;
    carat_error opening = {0};
    carat_model_options o = carat_model_options_default();
    ct_ids ids = {0};
    ct_calibration how = {going_on, calibrating, job};
    o.backend = "cpu";
    o.threads = opt->threads;
    ct_status st = (ct_status)carat_model_open(&m, in, &o, &opening);
    if (st != CT_OK)
        return ct_fail(e, st, in, "%s", opening.text);
    if (m->vocab == NULL)
        st = ct_fail(e, CT_EINVAL, in, "'%s' has no tokenizer: it cannot be calibrated with a text", in);
    if (st == CT_OK)
        st = ct_tokenize(m->vocab, opt->text, opt->text_len, true, false, &ids, e);
    if (st == CT_OK)
        st = ct_calibrate(im, &m->gemma, m->pool, ids.ids, ids.n, CALIBRATE_CHUNK, ct_vocab_bos(m->vocab), &how, e);
    if (st == CT_OK && opt->imatrix)
        st = ct_imatrix_write(*im, opt->imatrix, e);
    ct_ids_deinit(&ids);
    carat_model_close(m);
    return st;
}

carat_status carat_convert(const char *in, const char *out, const carat_convert_options *opt, const carat_job *job,
                           carat_conversion *result, carat_error *err)
{
    API_REQUIRE(in && in[0], "the path of a model");
    API_REQUIRE(out && out[0], "a name for what is written");
    API_REQUIRE(opt && opt->size == sizeof *opt, "options from carat_convert_options_default()");
    API_REQUIRE(opt->type && opt->type[0], "a type in the options");
    API_REQUIRE(opt->threads >= 0 && opt->threads <= 1024, "0 to 1024 threads");
    ct_convert_options o = {.type = opt->type, .group = opt->group, .force = opt->force};
    ct_convert_job j = {0};
    if (job)
        j = (ct_convert_job){job->keep_going, job->progress, job->arg};
    ct_tensors *t = NULL;
    ct_pool *pool = NULL;
    ct_error e = {0};
    ct_conversion r;
    ct_imatrix *im = NULL;
    carat_job own = job ? *job : (carat_job){0};
    uint64_t begun = ct_now_ns();
    ct_status st = ct_tensors_open(&t, in, &e);
    if (st == CT_OK && opt->text)
        st = calibrate(&im, in, opt, &own, &e);
    else if (st == CT_OK && opt->imatrix)
        st = ct_imatrix_read(&im, opt->imatrix, &e);
    o.importance = im;
    if (st == CT_OK)
        st = ct_pool_create(&pool, opt->threads, &e);
    if (st == CT_OK)
        st = ct_convert(t, out, &o, pool, &j, &r, &e);
    if (st == CT_OK && result)
        hand_out(result, &r, ct_seconds_since(begun));
    ct_imatrix_free(im);
    ct_pool_free(pool);
    ct_tensors_close(t);
    return ct_api_error(err, st, &e);
}
