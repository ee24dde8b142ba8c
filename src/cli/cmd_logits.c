/* carat logits: the likeliest next tokens after ids or a text, and how likely those ids were themselves. */
#include "cli/cli.h"

#include <math.h>
#include <stdio.h>

#include "base/mem.h"

static int find_ids(const args *a, carat_model *m, const char *word, carat_token **ids, size_t *n)
{
    carat_error e = {0};
    char *text = NULL;
    size_t len = 0;
    if (a->ids)
        return parse_ids(a->ids, ids, n);
    int status = read_input(a->file, word, &text, &len);
    if (status >= 0)
        return status;
    *ids = ct_alloc((len + 1) * sizeof **ids);
    if (*ids == NULL)
        status = fail(EXIT_FAILED, "out of memory for the ids");
    else if (carat_tokenize(m, text, len, !a->no_bos, false, *ids, len + 1, n, &e) != CARAT_OK)
        status = fail_error(&e, false);
    else if (*n == 0)
        status = fail(EXIT_USAGE, "the text is empty");
    ct_free(text);
    return status;
}

static int show(const args *a, carat_model *m, const carat_top *top, size_t k, double nll)
{
    buffer b = {0};
    carat_model_info info;
    carat_model_get_info(m, &info);
    if (a->json) {
        json_open(&b, NULL, '{');
        json_real(&b, "nll", nll);
        json_open(&b, "top", '[');
        for (size_t i = 0; i < k; i++) {
            json_open(&b, NULL, '[');
            json_int(&b, NULL, top[i].id);
            json_real(&b, NULL, top[i].logprob);
            json_close(&b, ']');
        }
        json_close(&b, ']');
        json_close(&b, '}');
    } else {
        for (size_t i = 0; i < k; i++) {
            char piece[256];
            size_t n = 0;
            putf(&b, "%8d  %9.4f  %7.3f %%", top[i].id, top[i].logprob, 100 * exp(top[i].logprob));
            if (info.has_text && carat_detokenize(m, &top[i].id, 1, true, piece, sizeof piece, &n, NULL) == CARAT_OK) {
                putz(&b, "  ");
                json_text(&b, NULL, piece, n < sizeof piece ? n : sizeof piece); /* quoted: spaces and newlines show */
                b.started = 0;
            }
            putz(&b, "\n");
        }
        putf(&b, "nll of the ids given their prefix: %.6f nats\n", nll);
    }
    int status = buffer_print(&b);
    buffer_free(&b);
    return status < 0 ? EXIT_DONE : status;
}

int cmd_logits(args *a)
{
    const char *model = NULL, *word = NULL;
    char path[4096];
    carat_model *m = NULL;
    carat_model_info info;
    carat_token *ids = NULL;
    size_t n = 0, k = (size_t)a->top;
    carat_top *top = NULL;
    double nll = 0;
    carat_error e = {0};
    if (a->file && a->ids)
        return fail(EXIT_USAGE, "-f and --ids exclude each other");
    int status = model_and_text(a, "text", a->file || a->ids, &model, &word);
    if (status < 0 && a->ids) /* before the model is loaded: wrong ids are told at once */
        status = find_ids(a, NULL, NULL, &ids, &n);
    if (status < 0)
        status = model_path(a, model, path, sizeof path);
    if (status < 0)
        status = model_open(a, path, false, &m);
    if (status >= 0)
        goto done;
    carat_model_get_info(m, &info);
    if (!a->ids)
        status = info.has_text ? find_ids(a, m, word, &ids, &n)
                               : fail(EXIT_USAGE, "%s has no tokenizer: give it ids, as in --ids \"2 818\"", info.path);
    if (status >= 0)
        goto done;
    if (k > (size_t)info.vocab)
        k = (size_t)info.vocab;
    top = ct_calloc(k, sizeof *top);
    if (top == NULL) {
        status = fail(EXIT_FAILED, "out of memory for %zu tokens", k);
        goto done;
    }
    signals_polled();
    carat_session_options o = carat_session_options_default();
    o.kv = a->kv;
    o.exact = a->exact;
    o.keep_going = keep_going;
    status = carat_logits(m, ids, n, &o, top, k, &nll, &e) == CARAT_OK ? show(a, m, top, k, nll)
                                                                       : fail_error(&e, false);
done:
    carat_model_close(m);
    ct_free(ids);
    ct_free(top);
    return status;
}
