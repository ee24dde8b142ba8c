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
    uint64_t begun = ct_now_ns();
    ct_status st = ct_tensors_open(&t, in, &e);
    if (st == CT_OK)
        st = ct_pool_create(&pool, opt->threads, &e);
    if (st == CT_OK)
        st = ct_convert(t, out, &o, pool, &j, &r, &e);
    if (st == CT_OK && result)
        hand_out(result, &r, ct_seconds_since(begun));
    ct_pool_free(pool);
    ct_tensors_close(t);
    return ct_api_error(err, st, &e);
}
