/* What a hub sends: the list of a repository's files, and header lines. Whatever is taken from either is fit for a path: within its
 * folder, without controls, contents by plain names. */
#include "fetch/hub.h"
#include "fuzz.h"

static const char plain[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_";

static void must_be_plain(const char *word)
{
    MUST(strspn(word, plain) == strlen(word));
    MUST(word[0] != '.' && word[0] != '-');
}

static void put_list(const uint8_t *data, size_t size)
{
    ct_hub_list l;
    ct_error err;
    ct_hub h = {.endpoint = "https://hub", .repo = "a/b", .revision = "main"};
    const size_t before = ct_mem_live();
    ct_mem_peak_reset();
    ct_status st = ct_hub_list_read(&l, "list", data, size, &err);
    MUST(ct_mem_peak() - before <= size * 512 + 65536);
    if (st != CT_OK)
        must_be_a_sentence(st, &err);
    else
        MUST(strlen(l.commit) == 40 && strspn(l.commit, "0123456789abcdef") == 40);
    for (size_t i = 0; i < l.n; i++) {
        const char *name = l.files[i].name;
        MUST(name[0] != '/' && name[0] != '\0' && strcmp(name, "..") != 0 && strncmp(name, "../", 3) != 0);
        MUST(strstr(name, "/../") == NULL && strstr(name, "//") == NULL && strchr(name, '\n') == NULL);
        must_be_plain(l.files[i].etag);
        MUST(!l.files[i].hashed || strlen(l.files[i].etag) == 64);
    }
    for (size_t i = 0; i < (st == CT_OK ? 3u : 0u); i++) {
        const char *file = i == 0 || l.n == 0 ? NULL : l.files[i == 1 ? 0 : l.n - 1].name;
        st = ct_hub_choose(&h, &l, file, &err);
        if (st != CT_OK)
            must_be_a_sentence(st, &err);
        MUST(file == NULL || st == CT_OK);
        for (size_t k = 0; k < l.n && file == NULL; k++)
            MUST(!l.files[k].wanted || strchr(l.files[k].name, '/') == NULL);
    }
    ct_hub_list_deinit(&l);
    MUST(ct_mem_live() == before);
}

static void put_headers(const char *data, size_t size)
{
    ct_reply r;
    ct_reply_init(&r);
    for (size_t at = 0; at < size;) {
        const char *end = memchr(data + at, '\n', size - at);
        size_t n = end ? (size_t)(end - (data + at)) + 1 : size - at;
        ct_reply_header(&r, data + at, n);
        at += n;
    }
    must_be_plain(r.etag);
    MUST(strlen(r.code) < sizeof r.code && strlen(r.commit) < sizeof r.commit);
    MUST(r.status >= 0 && r.status < 10000 && r.target[0] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 'H')
        put_headers((const char *)data, size);
    else
        put_list(data, size);
    return 0;
}
