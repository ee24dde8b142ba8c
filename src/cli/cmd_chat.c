/* carat chat: a talk, turn by turn, from a terminal or a script.
 *
 * The library writes Gemma's turns (carat_session_prompt); here is what surrounds them: lines that are commands, lines that
 * belong together, Ctrl-C that stops an answer and not the program, a message that is taken back when it was stopped half read.
 * A model that is not instruction-tuned gets no turns: the text simply goes on, now the person's, now the model's. */
#include "cli/generate.h"
#include "cli/line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/system.h"

enum {
    RAW_TOKENS = 128, /* of an answer without turns: nothing would end it */
    LEAVE = -2        /* what a command returns that ends the talk */
};

struct talk {
    const args *a;
    generation g;
    lines *in;
    buffer message, line;
    char *system;    /* NULL: none */
    bool system_due; /* it goes with the next message */
    bool turns;
    bool mid_line; /* without turns: the text so far does not end with a newline */
    int32_t n_turns;
    carat_token *ids; /* of the session before a message */
    size_t room;
};

static bool live(const struct talk *t) { return lines_live(t->in); }

/* ---- taking back ---- */

/* Notes the ids of the session; *n of them. -1 or a status. */
static int remember_ids(struct talk *t, size_t *n)
{
    *n = carat_session_ids(t->g.s, NULL, 0);
    if (*n > t->room) {
        size_t room = *n + *n / 2 + 256;
        carat_token *grown = ct_realloc(t->ids, room * sizeof *grown);
        if (grown == NULL)
            return fail(EXIT_FAILED, "out of memory for the ids of %zu tokens", room);
        t->ids = grown;
        t->room = room;
    }
    carat_session_ids(t->g.s, t->ids, t->room);
    return -1;
}

/* The session as it was when it held the first n ids. */
static int take_back(struct talk *t, size_t n)
{
    carat_error e = {0};
    carat_status st = CARAT_OK;
    if (n == 0)
        carat_session_reset(t->g.s);
    else
        st = carat_session_sync(t->g.s, t->ids, n, &e);
    progress_clear(&t->g.bar);
    return st == CARAT_OK ? -1 : fail_error(&e, false);
}

/* ---- a turn ---- */

static int feed(struct talk *t)
{
    carat_error e = {0};
    size_t n = 0;
    int status = remember_ids(t, &n);
    if (status >= 0)
        return status;
    if (!t->turns && t->mid_line) { /* a line of its own, in front of the first character */
        put(&t->message, "\n", 1);
        if (t->message.failed)
            return fail(EXIT_FAILED, "out of memory for the message");
        memmove(t->message.data + 1, t->message.data, t->message.n - 1);
        t->message.data[0] = '\n';
    }
    carat_status st = carat_session_prompt(t->g.s, t->message.data, t->message.n, t->turns ? CARAT_TURNS : CARAT_RAW,
                                           t->system_due ? t->system : NULL, &e);
    progress_clear(&t->g.bar);
    if (st == CARAT_ECONTEXT && n == 0)
        return fail(EXIT_FAILED, "the message alone is longer than the context of %d tokens; -c asks for a larger one",
                    carat_session_context(t->g.s));
    if (st == CARAT_ECONTEXT)
        return fail(
            EXIT_FAILED,
            "the message does not fit: %d of the context's %d tokens are used; nothing is lost: /save FILE keeps "
            "the talk, /reset begins a new one, and -c asks for a larger context",
            carat_session_length(t->g.s), carat_session_context(t->g.s));
    if (st == CARAT_EINTERRUPTED) {
        signals_between(live(t));
        status = take_back(t, n);
        if (status < 0)
            note(t->a, "stopped before there was an answer: the message is not part of the talk");
        return status < 0 ? EXIT_INTERRUPTED : status;
    }
    if (st != CARAT_OK)
        return fail_error(&e, false);
    t->system_due = false;
    t->g.prompt_tokens = carat_session_length(t->g.s) - (int32_t)n;
    return -1;
}

static int report(const struct talk *t)
{
    buffer b = {0};
    json_open(&b, NULL, '{');
    json_int(&b, "turn", t->n_turns);
    generation_json(&t->g, &b);
    json_int(&b, "length", carat_session_length(t->g.s));
    json_close(&b, '}');
    int status = buffer_print(&b);
    buffer_free(&b);
    return status;
}

/* Without turns the end of a text is no reason to stop: the token that says so goes, and the text continues. */
static int forget_end(struct talk *t)
{
    size_t n = 0;
    int status = remember_ids(t, &n);
    return status < 0 ? take_back(t, n - 1) : status;
}

static int answer(struct talk *t, uint64_t started)
{
    generation *g = &t->g;
    int64_t most = t->a->max_tokens != -2 ? t->a->max_tokens : t->turns ? -1 : RAW_TOKENS;
    int status = generation_text(g, most, started);
    bool stopped = interrupted();
    signals_between(live(t));
    if (status < 0)
        status = generation_newline(g);
    if (status >= 0)
        return status;
    t->n_turns++;
    t->mid_line = g->text.n == 0 || g->text.data[g->text.n - 1] != '\n';
    if (!t->turns && strcmp(g->stop, "end") == 0)
        status = forget_end(t);
    if (status < 0 && t->a->json)
        status = report(t);
    if (status < 0 && t->a->stats)
        generation_stats(g);
    if (strcmp(g->stop, "context") == 0)
        note(t->a,
             "the context of %d tokens is full, and the answer ends here: /save FILE keeps the talk, /reset begins a "
             "new one, and -c asks for a larger context",
             carat_session_context(g->s));
    if (status < 0 && strcmp(g->stop, "length") == 0 && live(t))
        note(t->a, "stopped after %d tokens%s", g->tokens, t->a->max_tokens == -2 ? "; -n asks for more" : "");
    return status < 0 && stopped ? EXIT_INTERRUPTED : status;
}

/* EXIT_INTERRUPTED after Ctrl-C: a person goes on, a script does not. */
static int take_turn(struct talk *t)
{
    size_t sound = utf8_check(t->message.data, t->message.n);
    if (sound < t->message.n)
        return fail(EXIT_USAGE, "the message is not UTF-8: byte %zu is 0x%02x", sound,
                    (unsigned char)t->message.data[sound]);
    uint64_t started = ct_now_ns();
    signals_between(live(t));
    signals_polled();
    int status = feed(t);
    if (status < 0)
        status = answer(t, started);
    signals_between(live(t));
    return status;
}

/* ---- commands ---- */

static int do_help(struct talk *t, const char *arg);

static int do_reset(struct talk *t, const char *arg)
{
    (void)arg;
    carat_session_reset(t->g.s);
    t->system_due = t->system != NULL;
    t->mid_line = false;
    t->n_turns = 0;
    t->g.stop = NULL;
    if (!t->a->has_seed)
        t->g.how.seed = fresh_seed();
    if (live(t))
        note(t->a, "a new talk begins%s", t->system ? ", with the same system text" : "");
    return -1;
}

static int do_system(struct talk *t, const char *arg)
{
    if (!t->turns)
        return fail(EXIT_USAGE, "a system text needs Gemma's turns, and this talk has none (see --chat)");
    if (arg[0] == '\0') {
        note(t->a, "%s%s", t->system ? "the system text is: " : "there is no system text; /system TEXT gives one",
             t->system ? t->system : "");
        return -1;
    }
    bool none = strcmp(arg, "\"\"") == 0;
    char *copy = none ? NULL : ct_strdup(arg);
    if (!none && copy == NULL)
        return fail(EXIT_FAILED, "out of memory for the system text");
    ct_free(t->system);
    t->system = copy;
    t->system_due = copy != NULL;
    if (live(t))
        note(t->a, "%s", none ? "no system text from now on" : "it goes in front of the next message");
    return -1;
}

/* A file's name as a shell would take it: ~/ is the home folder. -1 or a status. */
static int file_name(const char *name, const char *arg, char *path, size_t cap)
{
    const char *home = getenv("HOME");
    if (arg[0] == '\0')
        return fail(EXIT_USAGE, "%s needs a file: %s FILE", name, name);
    bool from_home = strncmp(arg, "~/", 2) == 0 && home;
    int n = snprintf(path, cap, "%s%s", from_home ? home : "", from_home ? arg + 1 : arg);
    return n > 0 && (size_t)n < cap ? -1 : fail(EXIT_USAGE, "%s: the file's name is too long", name);
}

static int save(struct talk *t, const char *path)
{
    carat_error e = {0};
    if (carat_session_length(t->g.s) == 0)
        return fail(EXIT_USAGE, "there is nothing to save yet");
    return carat_session_save(t->g.s, path, &e) == CARAT_OK ? -1 : fail_error(&e, false);
}

static int load(struct talk *t, const char *path)
{
    carat_error e = {0};
    if (carat_session_load(t->g.s, path, &e) != CARAT_OK)
        return fail_error(&e, false);
    t->system_due = false; /* it was said in what was loaded */
    t->mid_line = true;
    t->n_turns = 0;
    t->g.stop = NULL;
    return -1;
}

static int do_save(struct talk *t, const char *arg)
{
    char path[4096];
    int status = file_name("/save", arg, path, sizeof path);
    if (status < 0)
        status = save(t, path);
    if (status < 0 && live(t))
        note(t->a, "%d tokens are in '%s'; /load brings them back", carat_session_length(t->g.s), path);
    return status;
}

static int do_load(struct talk *t, const char *arg)
{
    char path[4096];
    int status = file_name("/load", arg, path, sizeof path);
    if (status < 0)
        status = load(t, path);
    if (status < 0 && live(t))
        note(t->a, "the talk goes on after %d tokens of a context of %d", carat_session_length(t->g.s),
             carat_session_context(t->g.s));
    return status;
}

static int do_stats(struct talk *t, const char *arg)
{
    (void)arg;
    if (t->g.stop)
        generation_stats(&t->g);
    fprintf(stderr, "talk       %d turns, %d of the context's %d tokens\n", t->n_turns, carat_session_length(t->g.s),
            carat_session_context(t->g.s));
    return -1;
}

static int do_leave(struct talk *t, const char *arg)
{
    (void)t;
    (void)arg;
    return LEAVE;
}

static const struct {
    const char *name, *arg, *help;
    int (*run)(struct talk *t, const char *arg);
} known[] = {
    {"help", NULL, "this list", do_help},
    {"reset", NULL, "forget the talk and begin a new one", do_reset},
    {"system", "TEXT", "goes in front of the next message, and of the first one after /reset; \"\" is none", do_system},
    {"save", "FILE", "keep the talk in a file", do_save},
    {"load", "FILE", "go on with a talk that was saved", do_load},
    {"stats", NULL, "the last answer's figures, memory, the context's use", do_stats},
    {"bye", NULL, "leave; so do /quit, Ctrl-D, and Ctrl-C twice", do_leave},
    {"quit", NULL, NULL, do_leave},
    {"exit", NULL, NULL, do_leave},
};

enum { N_KNOWN = sizeof known / sizeof known[0] };

static int do_help(struct talk *t, const char *arg)
{
    (void)t;
    (void)arg;
    for (size_t i = 0; i < N_KNOWN; i++)
        if (known[i].help)
            fprintf(stderr, "  /%-6s %-4s  %s\n", known[i].name, known[i].arg ? known[i].arg : "", known[i].help);
    fprintf(
        stderr,
        "A line that ends with \\ continues on the next one; a message between \"\"\" and \"\"\" has as many lines as "
        "it likes.\nCtrl-C stops an answer. A space in front of a / makes a command a message.\n");
    return -1;
}

/* "/word" with letters only: "/usr/bin" is a message. Returns the length of the word, or 0. */
static size_t command_word(const char *s)
{
    size_t n = s[0] == '/' ? strspn(s + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ?") : 0;
    return n > 0 && (s[1 + n] == '\0' || s[1 + n] == ' ' || s[1 + n] == '\t') ? n : 0;
}

static int command_run(struct talk *t, char *line, size_t n)
{
    const char *names[N_KNOWN + 1] = {NULL};
    char word[32];
    char *arg = line + 1 + n;
    arg += strspn(arg, " \t");
    for (size_t end = strlen(arg); end > 0 && strchr(" \t\n", arg[end - 1]); end--)
        arg[end - 1] = '\0';
    snprintf(word, sizeof word, "%.*s", (int)n, line + 1);
    for (size_t i = 0; i < N_KNOWN; i++) {
        names[i] = known[i].name;
        if (strcmp(known[i].name, strcmp(word, "?") == 0 ? "help" : word) != 0)
            continue;
        if (known[i].arg == NULL && arg[0])
            return fail(EXIT_USAGE, "/%s takes nothing behind it, found '%s'", word, arg);
        return known[i].run(t, arg);
    }
    const char *near = nearest(word, names);
    return fail(EXIT_USAGE, "unknown command '/%s'; %s%s%s", word, near ? "did you mean /" : "", near ? near : "",
                near ? "?" : "/help lists them, and a space in front makes it a message");
}

/* ---- messages ---- */

static bool ends_with(const buffer *b, const char *end)
{
    size_t n = strlen(end);
    return b->n >= n && memcmp(b->data + b->n - n, end, n) == 0;
}

/* One message into t->message, NUL behind it: a line, lines joined by \ at their ends, or a block between """ and """. */
static enum line_result next_message(struct talk *t, bool *block)
{
    static const char fence[] = "\"\"\"";
    buffer *m = &t->message, *line = &t->line;
    enum line_result r = lines_next(t->in, ">>> ", line);
    m->n = 0;
    *block = r == LINE_TEXT && line->n >= 3 && memcmp(line->data, fence, 3) == 0;
    if (r != LINE_TEXT)
        return r;
    put(m, line->data + (*block ? 3 : 0), line->n - (*block ? 3 : 0));
    bool first = *block && m->n == 0;
    while (*block ? !ends_with(m, fence) : ends_with(m, "\\")) {
        m->n -= *block ? 0 : 1;
        r = lines_next(t->in, "... ", line);
        if (r == LINE_INTERRUPTED || r == LINE_LEAVING)
            return LINE_INTERRUPTED;
        if (r == LINE_FAILED)
            return r;
        if (r == LINE_END) { /* what there is, is the message; the next read finds the end again */
            put(m, "", 0);
            return m->failed ? LINE_FAILED : LINE_TEXT;
        }
        if (!first)
            put(m, "\n", 1);
        first = false;
        put(m, line->data, line->n);
    }
    m->n -= *block ? 3 : 0;
    put(m, "", 0);
    if (m->failed) {
        fail(EXIT_FAILED, "out of memory for the message");
        return LINE_FAILED;
    }
    return LINE_TEXT;
}

static int talk_on(struct talk *t)
{
    for (bool asked_once = false;;) {
        bool block = false;
        int status = -1;
        enum line_result r = next_message(t, &block);
        if (r == LINE_FAILED)
            return EXIT_FAILED;
        if (r == LINE_END && live(t))
            fputc('\n', stderr);
        if (r == LINE_END || (r == LINE_LEAVING && asked_once))
            return EXIT_DONE;
        if (r == LINE_LEAVING)
            note(t->a, "Ctrl-C again leaves, and so do Ctrl-D and /bye");
        asked_once = r == LINE_LEAVING;
        if (ending())
            return EXIT_INTERRUPTED;
        if (r != LINE_TEXT || t->message.n == strspn(t->message.data, " \t\n"))
            continue;
        size_t word = block ? 0 : command_word(t->message.data);
        status = word ? command_run(t, t->message.data, word) : take_turn(t);
        if (status == LEAVE)
            return EXIT_DONE;
        if (status >= 0 && !live(t)) /* what a person corrects, a script should not talk past */
            return status;
    }
}

/* ---- beginning and end ---- */

static int prepare(struct talk *t)
{
    const args *a = t->a;
    const carat_model_info *info = &t->g.info;
    int status = generation_model(&t->g, a->n_words == 1 ? a->words[0] : NULL);
    if (status >= 0)
        return status;
    if (!info->has_text)
        return fail(EXIT_USAGE, "%s has no tokenizer, and a talk needs text", info->path);
    t->turns = a->chat || (info->has_turns && !a->raw);
    if (a->system && !t->turns)
        return fail(EXIT_USAGE,
                    "--system needs Gemma's turns, and %s is not instruction-tuned: --chat uses them anyway",
                    info->path);
    t->system = a->system && a->system[0] ? ct_strdup(a->system) : NULL;
    if (a->system && a->system[0] && t->system == NULL)
        return fail(EXIT_FAILED, "out of memory for the system text");
    t->system_due = t->system != NULL;
    status = generation_session(&t->g);
    if (status < 0 && a->session && ct_is_file(a->session))
        status = load(t, a->session);
    return status;
}

static void welcome(const struct talk *t)
{
    const carat_model_info *info = &t->g.info;
    if (!info->has_turns && t->turns)
        note(
            t->a,
            "%s is not instruction-tuned (it has no chat template): it gets Gemma's turns as --chat asks, and may well "
            "not answer",
            info->path);
    else if (!info->has_turns)
        note(t->a,
             "%s is not instruction-tuned (it has no chat template): it does not answer, it continues your text, up to "
             "%d "
             "tokens at a time (see -n); --chat tries Gemma's turns anyway",
             info->path, RAW_TOKENS);
    if (!live(t))
        return;
    if (carat_session_length(t->g.s) > 0)
        note(t->a, "the talk goes on after %d tokens", carat_session_length(t->g.s));
    note(t->a, "%s on %s (%s), %d threads, a context of %d tokens; /help lists the commands, Ctrl-D leaves", info->path,
         info->backend, info->isa, info->threads, carat_session_context(t->g.s));
}

int cmd_chat(args *a)
{
    struct talk t = {.a = a, .g = {.a = a}};
    if (a->n_words > 1)
        return fail(EXIT_USAGE,
                    "expected at most the model, found %d arguments; what you say is typed, or comes from -f or "
                    "standard input",
                    a->n_words);
    int status = generation_check(a);
    if (status < 0)
        status = lines_open(&t.in, a->file, "chat"); /* before the model is loaded: a wrong file is told at once */
    if (status < 0)
        status = prepare(&t);
    if (status >= 0)
        goto done;
    welcome(&t);
    status = talk_on(&t);
    if (a->session && t.n_turns > 0) {
        int saved = save(&t, a->session);
        status = saved >= 0 ? saved : status;
    }
done:
    lines_close(t.in);
    generation_close(&t.g);
    buffer_free(&t.message);
    buffer_free(&t.line);
    ct_free(t.system);
    ct_free(t.ids);
    return status;
}
