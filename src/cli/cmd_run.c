/* carat run: a prompt in, text out, as it comes.
 *
 * The text always ends with a newline. A prompt that is not UTF-8 is refused: it is more likely a wrong file than a wish. How
 * text comes out of a session is generate.c's. */
#include "cli/generate.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/system.h"

enum { DEFAULT_TOKENS = 512 };

struct run {
    const args *a;
    generation g;
    char *prompt;
    size_t prompt_len;
    carat_token *ids;
    size_t n_ids;
};

static int read_prompt(struct run *r, const char *word)
{
    const args *a = r->a;
    if (a->ids)
        return parse_ids(a->ids, &r->ids, &r->n_ids);
    int status = read_input(a->file, word, &r->prompt, &r->prompt_len);
    if (status >= 0)
        return status;
    bool from_file = a->file || (word && strcmp(word, "-") == 0);
    if (from_file && r->prompt_len > 0 && r->prompt[r->prompt_len - 1] == '\n')
        r->prompt_len -= r->prompt_len > 1 && r->prompt[r->prompt_len - 2] == '\r' ? 2 : 1;
    if (r->prompt_len == 0)
        return fail(EXIT_USAGE, "the prompt is empty");
    size_t sound = utf8_check(r->prompt, r->prompt_len);
    if (sound < r->prompt_len)
        return fail(EXIT_USAGE, "the prompt is not UTF-8: byte %zu is 0x%02x", sound, (unsigned char)r->prompt[sound]);
    return -1;
}

static int feed(struct run *r)
{
    carat_error e = {0};
    carat_prompt_form form = r->a->chat ? CARAT_TURNS : r->a->raw ? CARAT_RAW : CARAT_AUTO;
    carat_status st = r->a->ids ? carat_session_feed(r->g.s, r->ids, r->n_ids, &e)
                                : carat_session_prompt(r->g.s, r->prompt, r->prompt_len, form, r->a->system, &e);
    progress_clear(&r->g.bar);
    return st == CARAT_OK ? -1 : fail_error(&e, false);
}

static int generate(struct run *r)
{
    uint64_t started = ct_now_ns();
    int status = feed(r);
    if (status >= 0)
        return status;
    r->g.prompt_tokens = carat_session_length(r->g.s);
    return generation_text(&r->g, r->a->max_tokens == -2 ? DEFAULT_TOKENS : r->a->max_tokens, started);
}

static int report(const struct run *r)
{
    buffer b = {0};
    json_open(&b, NULL, '{');
    generation_json(&r->g, &b);
    json_close(&b, '}');
    int status = buffer_print(&b);
    buffer_free(&b);
    return status;
}

static int prepare(struct run *r, const char *model)
{
    int status = generation_model(&r->g, model);
    if (status >= 0)
        return status;
    if (!r->g.info.has_text && r->a->ids == NULL)
        return fail(EXIT_USAGE, "%s has no tokenizer: give it ids, as in --ids \"2 818\"", r->g.info.path);
    if (!r->g.info.has_text && (r->a->stop.n > 0 || r->a->chat))
        return fail(EXIT_USAGE, "%s has no tokenizer: there is no text to stop at, and there are no turns",
                    r->g.info.path);
    status = generation_session(&r->g);
    carat_error e = {0};
    if (status < 0 && r->a->session && ct_is_file(r->a->session) &&
        carat_session_load(r->g.s, r->a->session, &e) != CARAT_OK)
        status = fail_error(&e, true);
    return status;
}

/* The session to its file, also when the text was interrupted: what was said so far is not lost. */
static int keep(const struct run *r)
{
    carat_error e = {0};
    return carat_session_save(r->g.s, r->a->session, &e) == CARAT_OK ? -1 : fail_error(&e, false);
}

int cmd_run(args *a)
{
    struct run r = {.a = a, .g = {.a = a}};
    const char *model = NULL, *word = NULL;
    if (a->file && a->ids)
        return fail(EXIT_USAGE, "-f and --ids exclude each other");
    if (a->ids && (a->chat || a->system))
        return fail(EXIT_USAGE, "--chat and --system need a text, and --ids gives ids");
    int status = generation_check(a);
    if (status >= 0)
        return status;
    status = model_and_text(a, "prompt", a->file || a->ids, &model, &word);
    if (status < 0)
        status = read_prompt(&r, word); /* before the model is loaded: a wrong prompt is told at once */
    if (status < 0)
        status = prepare(&r, model);
    if (status >= 0)
        goto done;
    signals_polled();
    status = generate(&r);
    if (status < 0)
        status = generation_newline(&r.g);
    if (a->session && r.g.stop) { /* also where the text could not be written: a terminal may be gone */
        int kept = keep(&r);
        status = status < 0 ? kept : status;
    }
    if (status < 0 && a->json)
        status = report(&r);
    if (status < 0 && a->stats)
        generation_stats(&r.g);
    if (status < 0 && a->max_tokens == -2 && strcmp(r.g.stop, "length") == 0 && isatty(STDERR_FILENO))
        note(a, "stopped after %d tokens; -n asks for more, -n -1 for all there is", DEFAULT_TOKENS);
    if (status < 0 && strcmp(r.g.stop, "context") == 0)
        note(a, "the context of %d tokens is full: the text ends here; -c asks for a larger one",
             carat_session_context(r.g.s));
    if (status < 0)
        status = interrupted() ? EXIT_INTERRUPTED : EXIT_DONE;
done:
    generation_close(&r.g);
    ct_free(r.prompt);
    ct_free(r.ids);
    return status;
}
