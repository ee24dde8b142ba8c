/* Names that become parts of addresses and of paths, and which files of a repository are wanted. Where a name comes from a user it is
 * refused in a sentence, where it comes from a hub it is passed over: nothing that is not allowed here is ever asked for or kept. */
#include <stdio.h>
#include <string.h>

#include "fetch/hub.h"

static const char word_characters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-";

static bool word_ok(const char *s, size_t n)
{
    return n > 0 && n <= 96 && s[0] != '.' && s[0] != '-' && strspn(s, word_characters) >= n;
}

/* Parts between slashes, none of them empty, "." or "..", no controls, no backslashes. */
bool ct_hub_file_ok(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > 512)
        return false;
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '\\')
            return false;
    for (const char *p = name;; p++) {
        size_t part = strcspn(p, "/");
        if (part == 0 || part > 200 || (part == 1 && p[0] == '.') || (part == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += part;
        if (*p == '\0')
            return true;
    }
}

static bool word_ok_but_slashes(const char *s)
{
    while (*s && (strchr(word_characters, *s) || *s == '/'))
        s++;
    return *s == '\0';
}

bool ct_hub_is_sha256(const char *s) { return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64; }

ct_status ct_hub_names(const char *repo, const char *revision, const char *file, ct_error *err)
{
    const char *slash = strchr(repo, '/');
    if (slash == NULL || !word_ok(repo, (size_t)(slash - repo)) || !word_ok(slash + 1, strlen(slash + 1)) ||
        strstr(repo, "--") != NULL)
        return ct_fail(err, CT_EINVAL, repo,
                       "expected the name of a repository, OWNER/NAME as in google/gemma-3-1b-it, found '%.100s'",
                       repo);
    if (!ct_hub_file_ok(revision) || !word_ok_but_slashes(revision) || strstr(revision, "..") != NULL)
        return ct_fail(err, CT_EINVAL, repo, "expected a revision (a branch, a tag or a commit), found '%.100s'",
                       revision);
    if (file && !ct_hub_file_ok(file))
        return ct_fail(err, CT_EINVAL, repo, "expected the name of a file in '%.100s', found '%.100s'", repo, file);
    return CT_OK;
}

ct_status ct_hub_endpoint(char *copy, size_t cap, const char *endpoint, ct_error *err)
{
    size_t n = strlen(endpoint);
    while (n > 0 && endpoint[n - 1] == '/')
        n--;
    bool http = strncmp(endpoint, "http://", 7) == 0, https = strncmp(endpoint, "https://", 8) == 0;
    bool ok = (http && n > 7) || (https && n > 8);
    for (size_t i = 0; i < n; i++)
        ok = ok && endpoint[i] > 0x20 && endpoint[i] != 0x7f && strchr("@?#\"<>\\", endpoint[i]) == NULL;
    if (!ok || n >= cap || n > 200)
        return ct_fail(err, CT_EINVAL, "endpoint",
                       "expected the address of a hub (HF_ENDPOINT), as in https://huggingface.co, found '%.100s'",
                       endpoint);
    memcpy(copy, endpoint, n);
    copy[n] = '\0';
    return CT_OK;
}

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), m = strlen(with);
    return n > m && strcmp(s + n - m, with) == 0;
}

/* What a checkpoint is opened with, by carat and by others. In the top folder: below it are other formats of the same. */
static bool of_checkpoint(const char *name)
{
    static const char *const names[] = {
        "config.json",           "generation_config.json",      "tokenizer.json",    "tokenizer.model",
        "tokenizer_config.json", "special_tokens_map.json",     "added_tokens.json", "chat_template.json",
        "chat_template.jinja",   "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strchr(name, '/') == NULL && ends(name, ".safetensors");
}

/* NAME-00001-of-00003.gguf: the bytes of NAME, or 0. */
static size_t split_stem(const char *name)
{
    size_t n = strlen(name);
    const char *tail = n > 20 ? name + n - 20 : "";
    if (strncmp(tail, "-", 1) != 0 || strspn(tail + 1, "0123456789") != 5 || strncmp(tail + 6, "-of-", 4) != 0 ||
        strspn(tail + 10, "0123456789") != 5 || strcmp(tail + 15, ".gguf") != 0)
        return 0;
    return n - 20;
}

static bool same_split(const char *a, const char *b)
{
    size_t n = split_stem(a);
    return n > 0 && split_stem(b) == n && memcmp(a, b, n) == 0 && strcmp(a + n + 6, b + n + 6) == 0;
}

ct_status ct_hub_choose(ct_hub *h, ct_hub_list *l, const char *file, ct_error *err)
{
    size_t found = 0, weights = 0, gguf = 0;
    bool config = false;
    for (size_t i = 0; i < l->n; i++) {
        ct_hub_file *f = &l->files[i];
        f->wanted = file ? strcmp(f->name, file) == 0 || same_split(f->name, file) : of_checkpoint(f->name);
        found += file && strcmp(f->name, file) == 0;
        weights += f->wanted && ends(f->name, ".safetensors");
        config = config || strcmp(f->name, "config.json") == 0;
        gguf += ends(f->name, ".gguf");
    }
    if (file && found == 0)
        return ct_fail(err, CT_ENOTFOUND, h->repo, "'%s' at '%.40s' has no file '%.60s'", h->repo, h->revision, file);
    if (file || (weights > 0 && config))
        return CT_OK;
    for (size_t i = 0; i < l->n; i++)
        l->files[i].wanted = false;
    if (gguf > 0)
        return ct_fail(err, CT_ENOTFOUND, h->repo,
                       "'%s' has %zu GGUF file%s and no checkpoint of safetensors: name the file, carat pull %s FILE",
                       h->repo, gguf, gguf == 1 ? "" : "s", h->repo);
    return ct_fail(err, CT_ENOTFOUND, h->repo,
                   "expected a checkpoint in '%s' (config.json and *.safetensors), found %s: it is not in a form that "
                   "carat reads",
                   h->repo, weights > 0 ? "no config.json" : "no weights in safetensors");
}
