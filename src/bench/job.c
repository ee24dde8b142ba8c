/* What every job of this room shares: polling, progress, feeding in slices, the spelling of cache types. */
#include "bench/bench.h"

#include <string.h>

ct_status ct_job_poll(const ct_job *job, ct_error *err)
{
    if (job && job->keep_going && !job->keep_going(job->arg))
        return ct_fail(err, CT_EINTERRUPTED, NULL, "interrupted");
    return CT_OK;
}

void ct_job_progress(const ct_job *job, const char *what, double done, double total)
{
    if (job && job->progress)
        job->progress(job->arg, what, done, total);
}

ct_status ct_feed_polled(ct_session *s, const int32_t *ids, size_t n, bool decode, ct_logits_fn *fn, void *arg,
                         const ct_job *job, ct_error *err)
{
    const size_t slice = decode ? 16 : (size_t)ct_session_chunk(s);
    while (ct_session_behind(s) > 0) {
        ct_status st = ct_job_poll(job, err);
        if (st == CT_OK)
            st = ct_session_catch_up(s, err);
        if (st != CT_OK)
            return st;
    }
    for (size_t at = 0; at < n; at += slice) {
        ct_status st = ct_job_poll(job, err);
        if (st == CT_OK)
            st = ct_session_feed(s, ids + at, n - at < slice ? n - at : slice, decode, fn, arg, NULL, err);
        if (st != CT_OK)
            return st;
    }
    return CT_OK;
}

static bool kv_type(const char *name, size_t n, int32_t *type)
{
    static const struct {
        const char *name;
        ct_dtype type;
    } known[] = {{"bf16", CT_BF16}, {"f16", CT_F16}, {"f32", CT_F32}, {"q8", CT_Q8_0}, {"q4", CT_Q4_1}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strlen(known[i].name) == n && memcmp(known[i].name, name, n) == 0) {
            *type = (int32_t)known[i].type;
            return true;
        }
    return false;
}

ct_status ct_kv_types(const char *spec, int32_t *type_k, int32_t *type_v, ct_error *err)
{
    *type_k = *type_v = -1;
    if (spec == NULL)
        return CT_OK;
    const char *comma = strchr(spec, ',');
    size_t n = comma ? (size_t)(comma - spec) : strlen(spec);
    const char *second = comma ? comma + 1 : spec;
    if (kv_type(spec, n, type_k) && kv_type(second, comma ? strlen(second) : n, type_v))
        return CT_OK;
    *type_k = *type_v = -1;
    return ct_fail(err, CT_EINVAL, "kv",
                   "expected a cache type bf16, f16, f32, q8 or q4, or two of them for keys and values, found '%s'",
                   spec);
}
