/* carat tokenize, carat detokenize: text to ids and back. Any bytes are taken exactly as they are. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

static int open_vocabulary(const args *a, const char *word, carat_model **m)
{
    char path[4096];
    carat_model_info info;
    int status = model_path(a, word, path, sizeof path);
    if (status < 0)
        status = model_open(a, path, true, m);
    if (status >= 0)
        return status;
    carat_model_get_info(*m, &info);
    return info.has_text ? -1 : fail(EXIT_USAGE, "%s has no tokenizer", info.path);
}

int cmd_tokenize(args *a)
{
    const char *model = NULL, *word = NULL;
    char *text = NULL;
    size_t n = 0, count = 0;
    carat_model *m = NULL;
    carat_token *ids = NULL;
    buffer b = {0};
    carat_error e = {0};
    int status = model_and_text(a, "text", a->file != NULL, &model, &word);
    if (status < 0)
        status = read_input(a->file, word, &text, &n);
    if (status < 0)
        status = open_vocabulary(a, model, &m);
    if (status >= 0)
        goto done;
    ids = ct_alloc((n + 1) * sizeof *ids); /* a token has at least one byte, but for <bos> */
    if (ids == NULL) {
        status = fail(EXIT_FAILED, "out of memory for the ids of %zu bytes", n);
        goto done;
    }
    if (carat_tokenize(m, text, n, !a->no_bos, a->special, ids, n + 1, &count, &e) != CARAT_OK) {
        status = fail_error(&e, false);
        goto done;
    }
    if (count > n + 1) {
        status = fail(EXIT_FAILED, "expected at most %zu ids for %zu bytes, found %zu", n + 1, n, count);
        goto done;
    }
    putz(&b, a->json ? "[" : "");
    for (size_t i = 0; i < count; i++) {
        char number[16];
        int len = snprintf(number, sizeof number, i == 0 ? "%d" : a->json ? ", %d" : " %d", ids[i]);
        put(&b, number, (size_t)len);
    }
    putz(&b, a->json ? "]\n" : "\n");
    status = buffer_print(&b);
    if (status < 0)
        status = EXIT_DONE;
done:
    buffer_free(&b);
    carat_model_close(m);
    ct_free(ids);
    ct_free(text);
    return status;
}

static bool looks_like_ids(const char *word)
{
    return word[0] != '\0' && strspn(word, "0123456789 ,[]\t\r\n") == strlen(word);
}

/* Ids may be one argument, several, a file, or standard input; a first word that is no number is the model. */
static int find_ids(const args *a, const char **model, char **text)
{
    size_t n = 0;
    int32_t first = 0;
    *model = NULL;
    *text = NULL;
    if (a->n_words > 0 && !looks_like_ids(a->words[0]) && strcmp(a->words[0], "-") != 0)
        *model = a->words[first++];
    if ((a->ids || a->file) && a->n_words > first)
        return fail(EXIT_USAGE, "the ids are given twice: by an option and as '%s'", a->words[first]);
    if (a->ids && strcmp(a->ids, "-") != 0)
        return (*text = ct_strdup(a->ids)) ? -1 : fail(EXIT_FAILED, "out of memory for the ids");
    if (a->file || a->ids || (a->n_words == first + 1 && strcmp(a->words[first], "-") == 0))
        return read_input(a->file ? a->file : "-", NULL, text, &n);
    if (a->n_words == first)
        return fail(EXIT_USAGE, "the ids are missing: carat detokenize \"2 818\", or - for standard input");
    buffer b = {0};
    for (int32_t i = first; i < a->n_words; i++) {
        putz(&b, a->words[i]);
        putz(&b, " ");
    }
    *text = b.data; /* from the same allocator */
    return b.failed ? fail(EXIT_FAILED, "out of memory for the ids") : -1;
}

int cmd_detokenize(args *a)
{
    const char *model = NULL;
    char *spelled = NULL, *text = NULL;
    carat_token *ids = NULL;
    size_t n = 0, count = 0;
    carat_model *m = NULL;
    buffer b = {0};
    carat_error e = {0};
    int status = find_ids(a, &model, &spelled);
    if (status < 0)
        status = parse_ids(spelled, &ids, &n);
    if (status < 0)
        status = open_vocabulary(a, model, &m);
    if (status >= 0)
        goto done;
    carat_status st = carat_detokenize(m, ids, n, a->special, NULL, 0, &count, &e);
    text = st == CARAT_OK ? ct_alloc(count + 1) : NULL;
    if (st == CARAT_OK && text == NULL) {
        status = fail(EXIT_FAILED, "out of memory for %zu bytes of text", count);
        goto done;
    }
    if (st == CARAT_OK)
        st = carat_detokenize(m, ids, n, a->special, text, count, &count, &e);
    if (st != CARAT_OK) {
        status = fail_error(&e, false);
        goto done;
    }
    if (a->json) {
        json_open(&b, NULL, '{');
        json_text(&b, "text", text, count);
        json_int(&b, "tokens", (int64_t)n);
        json_close(&b, '}');
    } else {
        put(&b, text, count);
        if (isatty(STDOUT_FILENO) && (count == 0 || text[count - 1] != '\n'))
            putz(&b, "\n"); /* a pipe gets the bytes exactly */
    }
    status = buffer_print(&b);
    if (status < 0)
        status = EXIT_DONE;
done:
    buffer_free(&b);
    carat_model_close(m);
    ct_free(spelled);
    ct_free(ids);
    ct_free(text);
    return status;
}
