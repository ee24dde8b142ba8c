/* Fetching in a build without libcurl: a sentence. */
#include "fetch/http.h"

ct_status ct_http_open(ct_http **out, int32_t timeout_s, ct_error *err)
{
    (void)timeout_s;
    *out = NULL;
    return ct_fail(err, CT_EUNSUPPORTED, "libcurl",
                   "this carat was built without libcurl, which fetching needs: install its headers "
                   "(libcurl4-openssl-dev) and build again, or fetch the files with another tool");
}
