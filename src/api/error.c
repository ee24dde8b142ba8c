/* Errors on their way out, and the version. */
#include <string.h>

#include "api/internal.h"

_Static_assert(CARAT_ENOTFOUND == (int)CT_ENOTFOUND && CARAT_ENUMERIC == (int)CT_ENUMERIC &&
                   CARAT_EINTERNAL == (int)CT_EINTERNAL && CARAT_EINVAL == (int)CT_EINVAL,
               "public and internal statuses have the same values");
_Static_assert(sizeof(((carat_error *)0)->text) == CT_ERROR_TEXT && sizeof(((carat_error *)0)->where) == CT_ERROR_WHERE,
               "public and internal errors have the same shape");

const char *carat_version(void) { return CARAT_VERSION; }

carat_status ct_api_error(carat_error *to, ct_status st, const ct_error *from)
{
    if (to && st == CT_OK) {
        to->code = CARAT_OK;
        to->where[0] = to->text[0] = '\0';
    } else if (to) {
        to->code = (int32_t)st;
        memcpy(to->where, from->where, sizeof to->where);
        memcpy(to->text, from->text, sizeof to->text);
    }
    return (carat_status)st;
}

carat_status ct_api_misuse(carat_error *err, const char *function, const char *wants)
{
    ct_error e = {0};
    return ct_api_error(err, ct_fail(&e, CT_EINVAL, function, "%s: expected %s", function, wants), &e);
}

ct_job ct_api_job(const carat_job *job)
{
    return job ? (ct_job){job->keep_going, job->progress, job->arg} : (ct_job){0};
}
