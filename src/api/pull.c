/* carat_pull: checks the arguments, fills in what was not said, delegates to fetch/. */
#include <string.h>

#include "api/internal.h"
#include "base/mem.h"
#include "fetch/pull.h"

carat_pull_options carat_pull_options_default(void)
{
    return (carat_pull_options){.size = sizeof(carat_pull_options), .timeout_s = 30};
}

carat_status carat_pull(const char *repository, const carat_pull_options *opt, const carat_job *job, carat_pulled *out,
                        carat_error *err)
{
    API_REQUIRE(repository, "the name of a repository");
    API_REQUIRE(out, "somewhere to put the result");
    API_REQUIRE(opt && opt->size == sizeof *opt, "options from carat_pull_options_default()");
    API_REQUIRE(opt->cache && opt->cache[0], "the folder of a cache");
    API_REQUIRE(opt->timeout_s > 0, "a timeout of a second or more");
    *out = (carat_pulled){0};
    ct_error e = {0};
    ct_job j = ct_api_job(job);
    ct_http *http = NULL;
    ct_pulled p = {0};
    const ct_pull_options o = {.endpoint = opt->endpoint ? opt->endpoint : "https://huggingface.co",
                               .repo = repository,
                               .revision = opt->revision ? opt->revision : "main",
                               .file = opt->file,
                               .token = opt->token,
                               .cache = opt->cache,
                               .wait_ms = 500,
                               .keep_going = j.keep_going,
                               .progress = j.progress,
                               .arg = j.arg,
                               .on_file = opt->on_file,
                               .on_file_arg = opt->on_file_arg};
    ct_status st = ct_http_open(&http, opt->timeout_s, &e);
    if (st == CT_OK) {
        st = ct_pull(&p, http, &o, &e);
        http->close(http);
    }
    if (st == CT_OK) {
        *out = (carat_pulled){.path = p.path, .bytes = p.bytes, .fetched = p.fetched, .files = p.files};
        _Static_assert(sizeof out->commit == sizeof p.commit, "the two have the same shape");
        memcpy(out->commit, p.commit, sizeof out->commit);
    }
    return ct_api_error(err, st, &e);
}

void carat_pulled_deinit(carat_pulled *p)
{
    if (p == NULL)
        return;
    ct_free(p->path);
    *p = (carat_pulled){0};
}
