/* carat pull: a model from a hub into the cache. What the library does not look at is looked at here: endpoint, token and cache, in
 * the places where Hugging Face's own tools look for them. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define TOKEN_MAX 512

static const char *given(const char *variable)
{
    const char *value = getenv(variable);
    return value && value[0] ? value : NULL;
}

/* A token is a word; it goes into a request as it is. -1 or a status. It is never shown. */
static int take_token(const char *from, const char *value, size_t n, char *token)
{
    while (n > 0 && strchr(" \t\r\n", value[n - 1]))
        n--;
    while (n > 0 && strchr(" \t\r\n", value[0]))
        value++, n--;
    for (size_t i = 0; i < n; i++)
        if (value[i] <= 0x20 || value[i] == 0x7f)
            return fail(EXIT_USAGE, "expected a token of letters and digits in %s, found something else", from);
    if (n >= TOKEN_MAX)
        return fail(EXIT_USAGE, "expected a token in %s, found %zu bytes", from, n);
    memcpy(token, value, n);
    token[n] = '\0';
    return -1;
}

/* $HF_TOKEN, $HUGGING_FACE_HUB_TOKEN, the file $HF_TOKEN_PATH, else `token` where the hub's tools are at home. "": there is none. */
static int find_token(char token[TOKEN_MAX])
{
    static const char *const variables[] = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"};
    char path[1200];
    token[0] = '\0';
    for (size_t i = 0; i < 2; i++)
        if (given(variables[i]))
            return take_token(variables[i], given(variables[i]), strlen(given(variables[i])), token);
    if (given("HF_TOKEN_PATH")) {
        snprintf(path, sizeof path, "%s", given("HF_TOKEN_PATH"));
    } else {
        char home[1024];
        hub_home(home, sizeof home);
        snprintf(path, sizeof path, "%s/token", home);
    }
    if (!ct_is_file(path))
        return -1;
    char *data = NULL;
    size_t n = 0;
    int status = read_input(path, NULL, &data, &n);
    if (status < 0)
        status = take_token(path, data, n, token);
    ct_free(data);
    return status;
}

/* ---- what is there, where the user has to choose ---- */

static void see_file(void *arg, const char *name, uint64_t bytes, bool wanted)
{
    buffer *list = arg;
    const char *tail = strrchr(name, '.');
    char size[24];
    (void)wanted;
    if (tail == NULL || strcmp(tail, ".gguf") != 0)
        return;
    putz(list, list->n > 0 ? ", " : "");
    put_clean(list, name);
    if (bytes != UINT64_MAX)
        putf(list, " (%s)", human_bytes(size, (double)bytes));
}

static int print_result(const args *a, const char *repo, const char *revision, const carat_pulled *r)
{
    buffer b = {0};
    if (a->json) {
        json_open(&b, NULL, '{');
        json_str(&b, "path", r->path);
        json_str(&b, "repository", repo);
        json_str(&b, "revision", revision);
        json_str(&b, "commit", r->commit);
        json_uint(&b, "files", r->files);
        json_uint(&b, "bytes", r->bytes);
        json_uint(&b, "fetched", r->fetched);
        json_close(&b, '}');
    } else {
        putz(&b, r->path);
        putz(&b, "\n");
    }
    int status = buffer_print(&b);
    buffer_free(&b);
    return status;
}

int cmd_pull(args *a)
{
    char repo[256], cache[1024], token[TOKEN_MAX], size[24], now[24];
    carat_error e = {0};
    carat_pulled r;
    buffer list = {0};
    progress p;
    if (a->n_words == 0)
        return fail(EXIT_USAGE, "expected the name of a model: carat pull google/gemma-3-1b-it");
    if (a->n_words > 2)
        return fail(EXIT_USAGE, "expected a model and at most one file of it, found '%s' too", a->words[2]);
    if (snprintf(repo, sizeof repo, "%s", a->words[0]) >= (int)sizeof repo)
        return fail(EXIT_USAGE, "expected the name of a model, found a word of %zu bytes", strlen(a->words[0]));
    const char *revision = a->revision;
    char *at = strchr(repo, '@');
    if (at && revision)
        return fail(EXIT_USAGE, "the revision is named twice: '%s' and --revision '%s'", at + 1, revision);
    if (at) {
        *at = '\0';
        revision = at + 1;
    }
    const char *offline = given("HF_HUB_OFFLINE");
    if (offline && strcmp(offline, "0") != 0)
        return fail(EXIT_FAILED, "HF_HUB_OFFLINE is set: nothing is fetched");
    int status = find_token(token);
    if (status >= 0)
        return status;
    hub_cache(cache, sizeof cache);
    progress_init(&p, a);
    signals_polled();
    carat_job job = {keep_going, progress_show, &p};
    carat_pull_options o = carat_pull_options_default();
    o.endpoint = given("HF_ENDPOINT");
    o.revision = revision;
    o.file = a->n_words == 2 ? a->words[1] : NULL;
    o.token = token[0] ? token : NULL;
    o.cache = cache;
    o.timeout_s = a->timeout ? a->timeout : o.timeout_s;
    o.on_file = see_file;
    o.on_file_arg = &list;
    carat_status st = carat_pull(repo, &o, &job, &r, &e);
    progress_clear(&p);
    if (st == CARAT_ENOTFOUND && list.n > 0)
        status = fail(EXIT_UNUSABLE, "%s; there are: %s", e.text, list.data);
    else if (st != CARAT_OK)
        status = fail_error(&e, false);
    buffer_free(&list);
    if (st != CARAT_OK)
        return status;
    if (a->verbose)
        note(a, "%zu file%s, %s; %s of them came now", r.files, r.files == 1 ? "" : "s",
             human_bytes(size, (double)r.bytes), human_bytes(now, (double)r.fetched));
    status = print_result(a, repo, revision ? revision : "main", &r);
    carat_pulled_deinit(&r);
    return status < 0 ? EXIT_DONE : status;
}
