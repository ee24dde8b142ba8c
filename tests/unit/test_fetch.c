/* Fetching without a net: header lines, lists and names, and the whole job against answers that lie in memory, with memory failing at
 * every allocation. What nets do is in tests/cli/test_pull.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "fetch/hub.h"
#include "fetch/pull.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" /* of "abc" */

static ct_reply replied(const char *const *lines)
{
    ct_reply r;
    ct_reply_init(&r);
    for (; *lines; lines++)
        ct_reply_header(&r, *lines, strlen(*lines));
    return r;
}

static void reads_headers(void **state)
{
    (void)state;
    ct_reply r = replied((const char *[]){"HTTP/1.1 100 Continue\r\n", "ETag: \"old\"\r\n", "HTTP/2 206 \r\n",
                                          "content-length: 12\r\n", "Content-Range: bytes 100-111/112\r\n",
                                          "X-Linked-ETag: W/\"" ABC "\"\r\n", "etag: \"other\"\r\n",
                                          "X-Linked-Size: 112\r\n", "Retry-After: 7\r\n", "X-Error-Code: GatedRepo\r\n",
                                          "X-Repo-Commit: " COMMIT "\r\n", "\r\n", NULL});
    assert_int_equal(r.status, 206);
    assert_int_equal(r.length, 12);
    assert_int_equal(r.from, 100);
    assert_int_equal(r.whole, 112);
    assert_int_equal(r.file_size, 112);
    assert_int_equal(r.wait_s, 7);
    assert_true(r.linked);
    assert_string_equal(r.etag, ABC);
    assert_string_equal(r.code, "GatedRepo");
    assert_string_equal(r.commit, COMMIT);
}

static void passes_over_headers_that_lie(void **state)
{
    (void)state;
    char longest[4096];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    memcpy(longest, "ETag: ", 6);
    ct_reply r = replied((const char *[]){
        "HTTP/1.1 99999999999 x\r\n", "Content-Length: -5\r\n", "Content-Length: 5x\r\n",
        "Content-Length: 99999999999999999999999\r\n", "Content-Range: bytes */5\r\n", "Content-Range: bytes 5\r\n",
        "Content-Range: cats 5-6/7\r\n", "ETag: \"../../x\"\r\n", "ETag: \"\"\r\n", "ETag: .hidden\r\n", "ETag\r\n",
        ":\r\n", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
        "X-Error-Code: a code that is longer than any code that was ever seen anywhere\r\n", longest, "", NULL});
    assert_true(r.status > 999 && r.status < 100000);
    assert_true(r.length == UINT64_MAX && r.from == UINT64_MAX && r.whole == UINT64_MAX);
    assert_string_equal(r.etag, "");
    assert_string_equal(r.code, "");
    assert_int_equal(r.wait_s, 0);
}

static void knows_names(void **state)
{
    (void)state;
    ct_error err;
    static const char *const repos[] = {"google/gemma-3-1b-it", "a/b", "a_b/c.d-e_f"};
    static const char *const strangers[] = {"gemma", "a/b/c", "/a",     "a/",    "../a", "a/..",
                                            "a b/c", "a/-b",  "a--b/c", "a/b?c", ""};
    static const char *const revisions[] = {"main", COMMIT, "refs/pr/1", "v1.0"};
    static const char *const no_revisions[] = {"", "..", "a/../b", "/a", "a/", "a b", "a?b", "a//b", "a\nb"};
    for (size_t i = 0; i < sizeof repos / sizeof repos[0]; i++)
        assert_int_equal(ct_hub_names(repos[i], "main", NULL, &err), CT_OK);
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++)
        assert_int_equal(ct_hub_names(strangers[i], "main", NULL, &err), CT_EINVAL);
    for (size_t i = 0; i < sizeof revisions / sizeof revisions[0]; i++)
        assert_int_equal(ct_hub_names("a/b", revisions[i], "x/y z.gguf", &err), CT_OK);
    for (size_t i = 0; i < sizeof no_revisions / sizeof no_revisions[0]; i++)
        assert_int_equal(ct_hub_names("a/b", no_revisions[i], NULL, &err), CT_EINVAL);
    char copy[256];
    assert_int_equal(ct_hub_endpoint(copy, sizeof copy, "https://hub.example/x//", &err), CT_OK);
    assert_string_equal(copy, "https://hub.example/x");
    assert_int_equal(ct_hub_endpoint(copy, sizeof copy, "https://", &err), CT_EINVAL);
    assert_int_equal(ct_hub_endpoint(copy, sizeof copy, "file:///x", &err), CT_EINVAL);
    assert_int_equal(ct_hub_endpoint(copy, sizeof copy, "https://a@b", &err), CT_EINVAL);
}

/* ---- a hub in memory ---- */

static const char listed[] =
    "{\"sha\":\"" COMMIT "\",\"siblings\":["
    "{\"rfilename\":\"config.json\",\"size\":2,\"blobId\":\"0000000000000000000000000000000000000001\"},"
    "{\"rfilename\":\"model.safetensors\",\"size\":3,\"blobId\":\"0000000000000000000000000000000000000002\","
    "\"lfs\":{\"sha256\":\"" ABC "\",\"size\":3,\"pointerSize\":134}},"
    "{\"rfilename\":\"../evil.safetensors\",\"size\":3},{\"rfilename\":\"x.gguf\",\"size\":null}]}";

struct hub {
    ct_http http;
    int32_t requests, tokens;
    const char *weights; /* what is sent in their place */
    char off_to[128];    /* where the weights' address leads */
};

static ct_status answer(ct_http *http, const ct_request *q, ct_reply *r, ct_error *err)
{
    struct hub *h = (struct hub *)(void *)http;
    (void)err;
    h->requests++;
    ct_reply_init(r);
    r->status = 200;
    const char *body = "";
    if (strncmp(q->url, "https://hub/", 12) != 0 && q->token)
        h->tokens++;
    if (strcmp(q->url, "https://hub/api/models/a/b/revision/main?blobs=true") == 0)
        body = listed;
    else if (strcmp(q->url, "https://hub/a/b/resolve/" COMMIT "/config.json") == 0)
        body = "{}";
    else if (strcmp(q->url, "https://hub/a/b/resolve/" COMMIT "/model.safetensors") == 0) {
        r->status = 302;
        snprintf(r->target, sizeof r->target, "%s", h->off_to);
    } else if (strcmp(q->url, h->off_to) == 0)
        body = h->weights;
    else
        r->status = 404;
    if (r->status == 200 && (!q->begin(q->arg, r) || !q->put(q->arg, body, strlen(body))))
        r->stopped = true;
    return CT_OK;
}

static ct_status pull(struct hub *h, const char *cache, ct_pulled *p, ct_error *err)
{
    h->http.get = answer;
    if (h->off_to[0] == '\0')
        snprintf(h->off_to, sizeof h->off_to, "https://store/x?y");
    const ct_pull_options o = {
        .endpoint = "https://hub/", .repo = "a/b", .revision = "main", .token = "secret", .cache = cache};
    return ct_pull(p, &h->http, &o, err);
}

static void remove_all(const char *folder)
{
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

static void fetches_what_is_listed(void **state)
{
    (void)state;
    char folder[] = "/tmp/carat-fetch-XXXXXX", path[256];
    assert_non_null(mkdtemp(folder));
    struct hub h = {.weights = "abc"};
    ct_pulled p;
    ct_error err;
    assert_int_equal(pull(&h, folder, &p, &err), CT_OK);
    assert_int_equal(h.requests, 4);
    assert_int_equal(h.tokens, 0); /* none to the store */
    assert_int_equal(p.files, 2);
    assert_int_equal(p.bytes, 5);
    assert_int_equal(p.fetched, 5);
    snprintf(path, sizeof path, "%s/models--a--b/snapshots/" COMMIT, folder);
    assert_string_equal(p.path, path);
    ct_free(p.path);
    snprintf(path, sizeof path, "%s/models--a--b/blobs/" ABC, folder);
    assert_true(ct_is_file(path));
    assert_int_equal(pull(&h, folder, &p, &err), CT_OK);
    assert_int_equal(p.fetched, 0);
    ct_free(p.path);
    remove_all(folder);
}

static void keeps_nothing_that_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *weights, *off_to;
        ct_status status;
    } cases[] = {{"abd", "", CT_EFORMAT},
                 {"abcd", "", CT_EFORMAT},
                 {"ab", "", CT_EIO},
                 {"abc", "http://store/x", CT_EFORMAT},
                 {"abc", "file:///etc/passwd", CT_EFORMAT},
                 {"abc", "https://hub/a/b/resolve/" COMMIT "/model.safetensors", CT_EFORMAT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char folder[] = "/tmp/carat-fetch-XXXXXX", path[256];
        assert_non_null(mkdtemp(folder));
        struct hub h = {.weights = cases[i].weights};
        snprintf(h.off_to, sizeof h.off_to, "%s", cases[i].off_to);
        ct_pulled p;
        ct_error err;
        ct_status st = pull(&h, folder, &p, &err);
        if (st != cases[i].status)
            fail_msg("case %zu: %d, %s", i, st, st == CT_OK ? "" : err.text);
        assert_null(p.path);
        snprintf(path, sizeof path, "%s/models--a--b/blobs/" ABC, folder);
        assert_false(ct_is_there(path));
        snprintf(path, sizeof path, "%s/models--a--b/refs/main", folder);
        assert_false(ct_is_there(path));
        remove_all(folder);
    }
}

static void bears_failing_allocations(void **state)
{
    (void)state;
    size_t told = 0;
    for (size_t n = 1;; n++) {
        char folder[] = "/tmp/carat-fetch-XXXXXX";
        assert_non_null(mkdtemp(folder));
        struct hub h = {.weights = "abc"};
        ct_pulled p;
        ct_error err;
        size_t before = ct_mem_live(), calls = ct_mem_calls();
        ct_mem_fail_at(n);
        ct_status st = pull(&h, folder, &p, &err);
        ct_mem_fail_at(0);
        calls = ct_mem_calls() - calls;
        if (st != CT_OK) {
            assert_int_equal(st, CT_ENOMEM);
            assert_null(p.path);
            assert_int_equal(ct_mem_live(), before);
            told++;
            st = pull(&h, folder, &p, &err); /* the machine is sound again: it goes on from there */
        }
        assert_int_equal(st, CT_OK);
        ct_free(p.path);
        assert_int_equal(ct_mem_live(), before);
        remove_all(folder);
        if (calls < n)
            break;
    }
    assert_true(told > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_headers),
        cmocka_unit_test(passes_over_headers_that_lie),
        cmocka_unit_test(knows_names),
        cmocka_unit_test(fetches_what_is_listed),
        cmocka_unit_test(keeps_nothing_that_is_wrong),
        cmocka_unit_test(bears_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
