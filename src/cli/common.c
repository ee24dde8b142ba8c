/* What commands share: errors to exit statuses, which model, where text and ids come from. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define DEFAULT_MODEL "gemma-3-270m-q4_k_m.gguf"

/* ---- errors ---- */

/* One line, whatever a file name in it contains. */
static void say(const char *fmt, va_list ap)
{
    char text[2048];
    int n = vsnprintf(text, sizeof text, fmt, ap);
    for (char *p = text; n > 0 && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    fprintf(stderr, "carat: %s\n", text);
}

int fail(int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
    return status;
}

void note(const args *a, const char *fmt, ...)
{
    va_list ap;
    if (a->quiet)
        return;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

int fail_error(const carat_error *e, bool opening)
{
    int status = EXIT_FAILED;
    switch ((carat_status)e->code) {
    case CARAT_EINTERRUPTED: return EXIT_INTERRUPTED; /* whoever pressed Ctrl-C knows */
    case CARAT_EINVAL: status = opening ? EXIT_UNUSABLE : EXIT_USAGE; break;
    case CARAT_EFORMAT:
    case CARAT_EUNSUPPORTED:
    case CARAT_ENUMERIC:
    case CARAT_ENOTFOUND: status = EXIT_UNUSABLE; break;
    case CARAT_EIO: status = opening ? EXIT_UNUSABLE : EXIT_FAILED; break;
    default: break;
    }
    return fail(status, "%s", e->text);
}

/* ---- models ---- */

static bool is_synthetic(const char *word) { return strncmp(word, "synthetic:", 10) == 0; }

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), m = strlen(with);
    return n > m && strcmp(s + n - m, with) == 0;
}

bool names_model(const char *word)
{
    char magic[4] = {0};
    if (is_synthetic(word) || ct_is_folder(word))
        return true;
    if (!ct_is_file(word))
        return false;
    if (ends(word, ".gguf") || ends(word, ".safetensors"))
        return true;
    FILE *f = fopen(word, "rb");
    bool yes = f && fread(magic, 1, 4, f) == 4 && memcmp(magic, "GGUF", 4) == 0;
    if (f)
        fclose(f);
    return yes;
}

static bool cached(const char *name, const char *suffix, char *path, size_t cap)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n;
    if (cache && cache[0])
        n = snprintf(path, cap, "%s/carat/%s%s", cache, name, suffix);
    else
        n = snprintf(path, cap, "%s/.cache/carat/%s%s", home ? home : "", name, suffix);
    return n > 0 && (size_t)n < cap && (ct_is_file(path) || ct_is_folder(path));
}

static bool given(const char *value) { return value && value[0]; }

void hub_home(char *path, size_t cap)
{
    const char *home = getenv("HOME"), *hf = getenv("HF_HOME"), *cache = getenv("XDG_CACHE_HOME");
    if (given(hf))
        snprintf(path, cap, "%s", hf);
    else if (given(cache))
        snprintf(path, cap, "%s/huggingface", cache);
    else
        snprintf(path, cap, "%s/.cache/huggingface", home ? home : "");
}

void hub_cache(char *path, size_t cap)
{
    char home[1024];
    const char *hub = getenv("HF_HUB_CACHE"), *old = getenv("HUGGINGFACE_HUB_CACHE");
    hub_home(home, sizeof home);
    if (given(hub) || given(old))
        snprintf(path, cap, "%s", given(hub) ? hub : old);
    else
        snprintf(path, cap, "%s/hub", home);
}

/* "google/gemma-3-1b-it": one slash between two words, neither of which looks like a folder's. */
static bool is_hub_name(const char *name)
{
    const char *slash = strchr(name, '/');
    return slash && slash != name && slash[1] && strchr(slash + 1, '/') == NULL && name[0] != '.' && name[0] != '~';
}

/* The folder of a model that was downloaded under this name. The library finds the files in it. */
static bool from_hub(const char *name, char *path, size_t cap)
{
    char hub[1024];
    const char *slash = strchr(name, '/');
    hub_cache(hub, sizeof hub);
    int n = snprintf(path, cap, "%s/models--%.*s--%s", hub, (int)(slash - name), name, slash + 1);
    return n > 0 && (size_t)n < cap && ct_is_folder(path);
}

int model_path(const args *a, const char *word, char *path, size_t cap)
{
    const char *from_env = getenv("CARAT_MODEL");
    const char *name = word ? word : a->model;
    if (word && a->model)
        return fail(EXIT_USAGE, "the model is named twice: '%s' and -m '%s'", word, a->model);
    if (name && !name[0])
        return fail(EXIT_USAGE, "the model's name is empty");
    if (name == NULL && from_env && from_env[0])
        name = from_env;
    if (name == NULL) {
        if (cached(DEFAULT_MODEL, "", path, cap))
            return -1;
        return fail(EXIT_UNUSABLE,
                    "no model was named, and the default one is not at '%s': `make bench` fetches it, or name a GGUF "
                    "file with -m",
                    path);
    }
    bool elsewhere = !is_synthetic(name) && !ct_is_file(name) && !ct_is_folder(name);
    if (elsewhere && (strchr(name, '/') == NULL || is_hub_name(name)) &&
        (cached(name, "", path, cap) || cached(name, ".gguf", path, cap)))
        return -1;
    if (elsewhere && is_hub_name(name) && from_hub(name, path, cap))
        return -1;
    if (elsewhere && is_hub_name(name) && !ends(name, ".gguf") && !ends(name, ".safetensors"))
        return fail(EXIT_UNUSABLE,
                    "there is no '%s' here, and Hugging Face's cache has no folder '%s': carat pull %s fetches it",
                    name, path, name);
    if (snprintf(path, cap, "%s", name) >= (int)cap)
        return fail(EXIT_UNUSABLE, "the model's path is longer than %zu bytes", cap - 1);
    return -1;
}

int model_and_text(const args *a, const char *what, bool text_elsewhere, const char **model, const char **text)
{
    const int32_t most = text_elsewhere ? 1 : 2;
    *model = *text = NULL;
    if (a->n_words > most)
        return fail(EXIT_USAGE, "expected at most %d argument%s (%s), found %d; a text of several words goes in quotes",
                    most, most == 1 ? "" : "s", most == 1 ? "the model" : "a model and a text", a->n_words);
    if (text_elsewhere) {
        *model = a->n_words == 1 ? a->words[0] : NULL;
        return -1;
    }
    if (a->n_words == 0)
        return fail(EXIT_USAGE, "the %s is missing: carat %s \"...\", or - for standard input", what, a->command);
    if (a->n_words == 1 && names_model(a->words[0]))
        return fail(EXIT_USAGE, "'%s' is a model, and the %s is missing: carat %s %s \"...\"", a->words[0], what,
                    a->command, a->words[0]);
    *model = a->n_words == 2 ? a->words[0] : NULL;
    *text = a->words[a->n_words - 1];
    return -1;
}

int model_open(const args *a, const char *path, bool vocab_only, carat_model **m)
{
    carat_error e = {0};
    carat_model_info info;
    carat_model_options o = carat_model_options_default();
    o.backend = a->backend;
    o.isa = a->isa;
    o.threads = a->threads;
    o.vocab_only = vocab_only;
    o.context = a->context;
    o.kv = a->kv;
    o.screened_head = a->head && strcmp(a->head, "screened") == 0;
    progress p;
    progress_init(&p, a);
    o.progress = progress_show;
    o.arg = &p;
    carat_status st = carat_model_open(m, path, &o, &e);
    progress_clear(&p);
    if (st != CARAT_OK)
        return fail_error(&e, true);
    carat_model_get_info(*m, &info);
    for (int32_t i = 0; i < info.n_warnings && !vocab_only; i++)
        note(a, "warning: %s", info.warnings[i]);
    if (a->verbose && !vocab_only)
        note(a, "%s: %s, backend %s (%s), %d threads", info.path, info.format, info.backend, info.isa, info.threads);
    return -1;
}

/* ---- text and ids ---- */

int read_input(const char *file, const char *word, char **data, size_t *n)
{
    ct_error e = {0};
    *data = NULL;
    *n = 0;
    if (file == NULL && word && strcmp(word, "-") == 0)
        file = "-";
    if (file) {
        ct_status st = ct_file_read(data, n, file, &e);
        return st == CT_OK ? -1 : fail(st == CT_ENOTFOUND ? EXIT_USAGE : EXIT_FAILED, "%s", e.text);
    }
    *data = ct_strdup(word ? word : "");
    if (*data == NULL)
        return fail(EXIT_FAILED, "out of memory for the text");
    *n = strlen(*data);
    return -1;
}

int parse_ids(const char *text, carat_token **ids, size_t *n)
{
    size_t room = 0;
    int status = -1;
    char *read = NULL;
    *ids = NULL;
    *n = 0;
    if (strcmp(text, "-") == 0) {
        size_t len = 0;
        status = read_input("-", NULL, &read, &len);
        if (status >= 0)
            return status;
        text = read;
    }
    for (const char *p = text; status < 0;) {
        p += strspn(p, " \t\r\n,[]");
        if (*p == '\0')
            break;
        char *end = NULL;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || errno != 0 || v < 0 || v > INT32_MAX || strchr(" \t\r\n,]", *end) == NULL) {
            status = fail(EXIT_USAGE, "expected ids as in \"2 818 5279\", found '%.20s' at byte %zu", p,
                          (size_t)(p - text));
            break;
        }
        if (*n == room) {
            room = room * 2 + 256;
            carat_token *grown = ct_realloc(*ids, room * sizeof *grown);
            if (grown == NULL) {
                status = fail(EXIT_FAILED, "out of memory for the ids");
                break;
            }
            *ids = grown;
        }
        (*ids)[(*n)++] = (carat_token)v;
        p = end;
    }
    if (status < 0 && *n == 0)
        status = fail(EXIT_USAGE, "expected one or more ids, found none");
    ct_free(read);
    if (status >= 0) {
        ct_free(*ids);
        *ids = NULL;
        *n = 0;
    }
    return status;
}

bool kv_known(const char *kv, int *status)
{
    static const char *const known[] = {"bf16", "f16", "f32", "q8", "q4"};
    const char *comma = strchr(kv, ',');
    const char *part[2] = {kv, comma ? comma + 1 : NULL};
    size_t len[2] = {comma ? (size_t)(comma - kv) : strlen(kv), comma ? strlen(comma + 1) : 0};
    for (int k = 0; k < 2; k++) {
        size_t i = 0;
        if (part[k] == NULL)
            continue;
        while (i < 5 && !(strlen(known[i]) == len[k] && memcmp(known[i], part[k], len[k]) == 0))
            i++;
        if (i == 5) {
            *status = fail(EXIT_USAGE,
                           "--kv: expected a type bf16, f16, f32, q8 or q4, or two of them as in q8,q4, found '%s'",
                           kv);
            return false;
        }
    }
    return true;
}
