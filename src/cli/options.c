/* THE table of options: a row is an option everywhere: parsing, ranges, help, and which command has it.
 *
 * Long options take their value behind a space or an equals sign, short ones behind a space or nothing; `--` ends options. */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(args, field)
#define EVERY (~0u)
#define GENERATE (C_RUN | C_CHAT | C_SERVE)
#define COMPUTE (C_RUN | C_CHAT | C_BENCH | C_EVAL | C_LOGITS | C_SERVE)
#define VOCABULARY (C_TOKENIZE | C_DETOKENIZE)
#define INT_TOP 2147483647.0

const option options[] = {
    {"model", 'm', TEXT, "MODEL", AT(model), 0, 0, COMPUTE | VOCABULARY | C_INSPECT,
     "a GGUF file, a folder of safetensors, a name in Hugging Face's cache (google/gemma-3-1b-it), or "
     "synthetic:SIZE[:TYPE]; the same as the positional one"},
    {"backend", 'b', TEXT, "auto|ref|cpu|cuda", AT(backend), 0, 0, COMPUTE | C_CHECK,
     "what computes; default auto, the fastest that is there"},
    {"isa", 0, TEXT, "NAME", AT(isa), 0, 0, COMPUTE,
     "instruction set of the backend, for comparisons; default: the best of this machine"},
    {"threads", 't', INT, "N", AT(threads), 1, 1024, COMPUTE | C_CHECK | C_CONVERT,
     "default: physical cores this process may use"},
    {"ctx", 'c', INT, "N", AT(context), 1, INT_TOP, C_RUN | C_CHAT | C_EVAL | C_INSPECT | C_SERVE,
     "context in tokens; default: what the model was trained for, memory permitting (eval: 512)"},
    {"kv", 0, TEXT, "TYPE[,TYPE]", AT(kv), 0, 0, COMPUTE | C_INSPECT,
     "type of the cache (keys, values): bf16, f16, f32, q8, q4"},
    {"file", 'f', TEXT, "FILE", AT(file), 0, 0, GENERATE | C_EVAL | VOCABULARY | C_LOGITS,
     "read the prompt, text or ids from a file; - is standard input"},
    {"ids", 0, TEXT, "IDS", AT(ids), 0, 0, C_RUN | C_LOGITS | C_DETOKENIZE,
     "token ids instead of text: \"2 818 5279\"; - reads them from standard input"},
    {"max-tokens", 'n', INT, "N", AT(max_tokens), -1, INT_TOP, GENERATE | C_BENCH,
     "most tokens to generate; default 512 (bench: 500; chat: no limit); -1: until the text or the context ends"},
    {"temp", 0, REAL, "T", AT(temp), 0, 100, GENERATE, "temperature; 0 is greedy; default 1"},
    {"top-k", 0, INT, "K", AT(top_k), 0, INT_TOP, GENERATE, "sample among the K likeliest; 0 is off; default 64"},
    {"top-p", 0, REAL, "P", AT(top_p), 0, 1, GENERATE,
     "sample among the likeliest that together reach P; 1 is off; default 0.95"},
    {"min-p", 0, REAL, "P", AT(min_p), 0, 1, GENERATE,
     "drop tokens less likely than P times the likeliest; 0 is off (default)"},
    {"repeat-penalty", 0, REAL, "R", AT(repeat_penalty), 0, 100, GENERATE,
     "makes tokens of the text so far less likely; 1 is off (default)"},
    {"presence-penalty", 0, REAL, "P", AT(presence_penalty), -100, 100, GENERATE,
     "subtracted once from logits of tokens of the text so far; 0 is off (default)"},
    {"frequency-penalty", 0, REAL, "P", AT(frequency_penalty), -100, 100, GENERATE,
     "subtracted for each occurrence; 0 is off (default)"},
    {"logit-bias", 0, TEXTS, "ID:B", AT(bias), 0, 0, GENERATE, "adds B to the logit of a token; may be repeated"},
    {"stop", 0, TEXTS, "TEXT", AT(stop), 0, 0, GENERATE, "ends the text before TEXT; may be repeated"},
    {"seed", 0, SEED, "S", AT(seed), 0, 0, GENERATE | C_BENCH | C_CHECK,
     "same seed, same tokens, for any number of threads; default: a new one each time (bench, check: 1)"},
    {"raw", 0, FLAG, NULL, AT(raw), 0, 0, GENERATE, "the prompt as it is"},
    {"chat", 0, FLAG, NULL, AT(chat), 0, 0, GENERATE,
     "the prompt in Gemma's turns; default where the model is instruction-tuned"},
    {"system", 0, TEXT, "TEXT", AT(system), 0, 0, GENERATE, "a system text in front of the first turn"},
    {"session", 0, TEXT, "FILE", AT(session), 0, 0, GENERATE,
     "go on from what FILE keeps, if it is there; keep it there at the end"},
    {"ignore-eos", 0, FLAG, NULL, AT(ignore_eos), 0, 0, GENERATE, "never let the model end the text"},
    {"stats", 0, FLAG, NULL, AT(stats), 0, 0, GENERATE,
     "afterwards on stderr: tokens, time to first token, tok/s, memory, seed"},
    {"exact", 0, FLAG, NULL, AT(exact), 0, 0, COMPUTE, "the exact path for prompts too"},
    {"deterministic", 0, FLAG, NULL, AT(deterministic), 0, 0, COMPUTE,
     "tokens do not depend on neighbours in a batch: always so on a CPU"},
    {"head", 0, TEXT, "HOW", AT(head), 0, 0, COMPUTE,
     "full or screened: read all of the last matrix, or a copy at four bits and what counts (default: full)"},
    {"no-bos", 0, FLAG, NULL, AT(no_bos), 0, 0, C_TOKENIZE | C_LOGITS, "no <bos> in front"},
    {"special", 0, FLAG, NULL, AT(special), 0, 0, VOCABULARY,
     "control pieces in the text are tokens; in ids they give text"},
    {"top", 0, INT, "K", AT(top), 1, 1000000, C_LOGITS, "how many of the likeliest tokens; default 10"},
    {"chunks", 0, INT, "N", AT(chunks), 1, INT_TOP, C_EVAL, "only the first N chunks; default: all"},
    {"base", 0, TEXT, "MODEL", AT(base), 0, 0, C_EVAL, "kl: the model that counts as the truth"},
    {"base-backend", 0, TEXT, "auto|ref|cpu|cuda", AT(base_backend), 0, 0, C_EVAL,
     "kl: its backend; default: the same"},
    {"path", 0, TEXT, "prompt|decode", AT(path), 0, 0, C_EVAL,
     "compute as a prompt (default) or token by token, as when generating"},
    {"pp", 0, INTS, "N[,N]", AT(pp), 1, 16777216, C_BENCH, "measure prompts of these lengths"},
    {"tg", 0, INTS, "N[,N]", AT(tg), 1, 16777216, C_BENCH, "measure generating so many tokens"},
    {"depth", 0, INTS, "N[,N]", AT(depth), 0, 16777216, C_BENCH, "tokens stored before the clock starts; default 0"},
    {"batch", 0, INTS, "N[,N]", AT(batch), 1, 4096, C_BENCH, "sequences at once; default 1"},
    {"repeats", 0, INT, "N", AT(repeats), 1, 10000, C_BENCH, "samples of each test; default 5 (texts: 1)"},
    {"quick", 0, FLAG, NULL, AT(quick), 0, 0, C_BENCH | C_CHECK,
     "less of everything: texts of 100 tokens, fewer shapes"},
    {"output", 'o', TEXTS, "FILE", AT(output), 0, 0, C_BENCH,
     "also write a report; its form by the suffix .json, .csv or .md; may be repeated"},
    {"type", 0, TEXT, "TYPE", AT(type), 0, 0, C_CONVERT,
     "q4_k_m, q8_0, ... (GGUF), mlx4, mlx8 (MLX), bf16, f16, f32 (a GGUF file by its name, else a Hugging Face "
     "folder)"},
    {"group", 0, INT, "N", AT(group), 32, 128, C_CONVERT, "weights per scale of mlx types: 32, 64 (default) or 128"},
    {"calibrate", 0, TEXT, "FILE", AT(calibrate), 0, 0, C_CONVERT,
     "run the model over this text first, and weigh errors by the inputs that occur in it"},
    {"imatrix", 0, TEXT, "FILE", AT(imatrix), 0, 0, C_CONVERT,
     "llama.cpp's importance matrix: a file to read or, with --calibrate, to write"},
    {"force", 0, FLAG, NULL, AT(force), 0, 0, C_CONVERT, "replace OUT if it is a file that is there"},
    {"memory", 0, FLAG, NULL, AT(memory), 0, 0, C_INSPECT, "only the memory that a session needs"},
    {"revision", 0, TEXT, "REV", AT(revision), 0, 0, C_PULL,
     "a branch, a tag or a commit; the same as NAME@REV; default main"},
    {"timeout", 0, INT, "SECONDS", AT(timeout), 1, 86400, C_PULL,
     "without a byte for so long a try has failed; default 30"},
    {"json", 0, FLAG, NULL, AT(json), 0, 0, EVERY, "the result as one JSON document on stdout"},
    {"quiet", 'q', FLAG, NULL, AT(quiet), 0, 0, EVERY, "nothing on stderr but errors"},
    {"verbose", 'v', FLAG, NULL, AT(verbose), 0, 0, EVERY, "say what was chosen"},
    {"no-color", 0, FLAG, NULL, AT(no_color), 0, 0, EVERY, "no colours; NO_COLOR does the same"},
    {"help", 'h', FLAG, NULL, AT(help), 0, 0, EVERY, "this text"},
    {"version", 0, FLAG, NULL, AT(version), 0, 0, EVERY, "the version"},
    {"report", 0, LATER, "DIR", 0, 0, 0, C_BENCH, "use -o FILE.json, -o FILE.csv or -o FILE.md"},
    {"endpoint", 0, LATER, "URL", 0, 0, 0, C_BENCH, "only carat itself is measured so far"},
    {"endpoint-model", 0, LATER, "NAME", 0, 0, 0, C_BENCH, "only carat itself is measured so far"},
    {"save", 0, LATER, "NAME", 0, 0, 0, C_BENCH, "use -o FILE.json to keep a record"},
    {"against", 0, LATER, "NAME", 0, 0, 0, C_BENCH, "records are not compared so far"},
    {"plan", 0, LATER, "SIZE", 0, 0, 0, C_BENCH, "measure synthetic:SIZE instead"},
    {NULL, 0, FLAG, NULL, 0, 0, 0, 0, NULL},
};

enum { N_OPTIONS = sizeof options / sizeof options[0] - 1 };

/* ---- nearest names ---- */

static int distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    int row[LONGEST + 1];
    size_t na = strlen(a), nb = strlen(b);
    if (na > LONGEST || nb > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= nb; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = change < other ? change : other;
        }
    }
    return row[nb];
}

const char *nearest(const char *word, const char *const *known)
{
    const char *best = NULL;
    int least = (int)strlen(word) / 3 + 2; /* further away it is no longer a slip of the finger */
    for (; *known; known++) {
        int d = distance(word, *known);
        size_t n = strlen(word);
        if (n >= 3 && strncmp(word, *known, n) == 0)
            d = 1; /* --max for --max-tokens */
        if (d < least) {
            least = d;
            best = *known;
        }
    }
    return best;
}

/* ---- parsing ---- */

static const option *by_name(const char *name, size_t n)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (strlen(options[i].name) == n && memcmp(options[i].name, name, n) == 0)
            return &options[i];
    return NULL;
}

static const option *by_letter(char letter)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (options[i].letter == letter && letter)
            return &options[i];
    return NULL;
}

static int unknown(const args *a, uint32_t bit, const char *word)
{
    const char *names[N_OPTIONS + 1];
    size_t n = 0;
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (options[i].commands & bit)
            names[n++] = options[i].name;
    names[n] = NULL;
    const char *near = strncmp(word, "--", 2) == 0 ? nearest(word + 2, names) : NULL;
    if (near)
        return fail(EXIT_USAGE, "unknown option '%s'; did you mean --%s?", word, near);
    return fail(EXIT_USAGE, "unknown option '%s'; carat %s --help lists what there is%s", word, a->command,
                word[1] != '-' ? ", and -- in front of a text that begins with a dash makes it a text" : "");
}

static int number(const option *o, const char *value, size_t n, double *v)
{
    char text[64], *end = text;
    errno = 0;
    if (n > 0 && n < sizeof text) {
        memcpy(text, value, n);
        text[n] = '\0';
        *v = strtod(text, &end);
    }
    bool whole = o->kind == REAL || (end > text && floor(*v) == *v);
    if (end > text && *end == '\0' && !isnan(*v) && whole && *v >= o->min && *v <= o->max &&
        strspn(text, "0123456789.+-eE") == n)
        return -1;
    const char *kind = o->kind == REAL ? "number" : "whole number";
    if (o->max >= INT_TOP)
        return fail(EXIT_USAGE, "--%s: expected a %s of %g or more, found '%.*s'", o->name, kind, o->min, (int)n,
                    value);
    return fail(EXIT_USAGE, "--%s: expected a %s from %g to %.10g, found '%.*s'", o->name, kind, o->min, o->max, (int)n,
                value);
}

static int list(const option *o, const char *value, ints *into)
{
    into->n = 0;
    for (const char *p = value;; p++) {
        double v = 0;
        size_t n = strcspn(p, ",");
        int status = number(o, p, n, &v);
        if (status >= 0)
            return status;
        if (into->n == MANY)
            return fail(EXIT_USAGE, "--%s: more than %d values", o->name, MANY);
        into->at[into->n++] = (int32_t)v;
        p += n;
        if (*p == '\0')
            return -1;
    }
}

static int assign(args *a, const option *o, const char *value)
{
    char *field = (char *)a + o->field;
    double v = 0;
    int status = -1;
    switch (o->kind) {
    case FLAG: *(bool *)(void *)field = true; break;
    case INT:
        status = number(o, value, strlen(value), &v);
        if (status < 0)
            *(int32_t *)(void *)field = (int32_t)v;
        break;
    case REAL:
        status = number(o, value, strlen(value), &v);
        if (status < 0)
            *(double *)(void *)field = v;
        break;
    case SEED: {
        char *end = NULL;
        errno = 0;
        unsigned long long seed = strtoull(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0)
            return fail(EXIT_USAGE, "--seed: expected a whole number from 0 to 18446744073709551615, found '%s'",
                        value);
        a->seed = seed;
        a->has_seed = true;
        break;
    }
    case TEXT: *(const char **)(void *)field = value; break;
    case TEXTS: {
        strings *s = (strings *)(void *)field;
        if (s->n == MANY)
            return fail(EXIT_USAGE, "--%s may be given at most %d times", o->name, MANY);
        s->at[s->n++] = value;
        break;
    }
    case INTS: status = list(o, value, (ints *)(void *)field); break;
    case LATER: return fail(EXIT_USAGE, "--%s is not there yet: %s", o->name, o->help);
    }
    return status;
}

static const char *command_names(uint32_t bits)
{
    for (const command *c = commands; c->name; c++)
        if (c->bit & bits)
            return c->name;
    return "another command";
}

static int take(args *a, uint32_t bit, const option *o, const char *spelled, const char *value)
{
    if (!(o->commands & bit))
        return fail(EXIT_USAGE, "%s is an option of carat %s, not of carat %s", spelled, command_names(o->commands),
                    a->command);
    if (value == NULL)
        return fail(EXIT_USAGE, "%s needs a value: %s %s", spelled, spelled, o->arg);
    return assign(a, o, value);
}

static int one_long(args *a, uint32_t bit, int argc, char **argv, int *i)
{
    const char *word = argv[*i], *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    const option *o = by_name(word + 2, n - 2);
    if (o == NULL)
        return unknown(a, bit, word);
    char spelled[48];
    snprintf(spelled, sizeof spelled, "--%s", o->name);
    if (o->arg == NULL && equals)
        return fail(EXIT_USAGE, "--%s takes no value", o->name);
    const char *value = o->arg == NULL ? "" : equals ? equals + 1 : *i + 1 < argc ? argv[++*i] : NULL;
    return take(a, bit, o, spelled, value);
}

static int some_short(args *a, uint32_t bit, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    for (const char *p = word + 1; *p; p++) {
        const option *o = by_letter(*p);
        if (o == NULL)
            return unknown(a, bit, word);
        char spelled[3] = {'-', *p, '\0'};
        const char *value = o->arg == NULL ? "" : p[1] ? p + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        int status = take(a, bit, o, spelled, value);
        if (status >= 0 || o->arg)
            return status;
    }
    return -1;
}

static void args_default(args *a)
{
    const char *name = a->command;
    *a = (args){.command = name,
                .backend = "auto",
                .temp = NAN,
                .top_p = NAN,
                .min_p = NAN,
                .repeat_penalty = NAN,
                .presence_penalty = NAN,
                .frequency_penalty = NAN,
                .top_k = -1,
                .max_tokens = -2,
                .top = 10};
}

static int check_words(const args *a)
{
    static const char *const backends[] = {"auto", "ref", "cpu", "cuda", NULL};
    const char *named[] = {a->backend, a->base_backend};
    int status = -1;
    for (size_t k = 0; k < 2; k++) {
        size_t i = 0;
        if (named[k] == NULL)
            continue;
        while (backends[i] && strcmp(backends[i], named[k]) != 0)
            i++;
        if (backends[i] == NULL)
            return fail(EXIT_USAGE, "expected a backend auto, ref, cpu or cuda, found '%s'", named[k]);
    }
    if (a->head && strcmp(a->head, "full") != 0 && strcmp(a->head, "screened") != 0)
        return fail(EXIT_USAGE, "--head: expected full or screened, found '%s'", a->head);
    if (a->raw && a->chat)
        return fail(EXIT_USAGE, "--raw and --chat exclude each other");
    if (a->path && strcmp(a->path, "prompt") != 0 && strcmp(a->path, "decode") != 0)
        return fail(EXIT_USAGE, "--path: expected prompt or decode, found '%s'", a->path);
    if (a->top_p <= 0) /* NAN, not given, is not */
        return fail(EXIT_USAGE, "--top-p: expected a number above 0, up to 1");
    if (a->repeat_penalty <= 0)
        return fail(EXIT_USAGE, "--repeat-penalty: expected a number above 0");
    if (a->kv)
        kv_known(a->kv, &status);
    return status;
}

int args_parse(args *a, uint32_t bit, int argc, char **argv)
{
    bool only_words = false;
    args_default(a);
    a->words = argv;
    for (int i = 0; i < argc; i++) { /* help is help wherever it stands, whatever else is wrong */
        if (strcmp(argv[i], "--") == 0)
            break;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            args_help(bit);
            return print_end() < 0 ? EXIT_DONE : EXIT_FAILED;
        }
    }
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        int status = -1;
        if (!only_words && strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        }
        if (!only_words && strncmp(word, "--", 2) == 0)
            status = one_long(a, bit, argc, argv, &i);
        else if (!only_words && word[0] == '-' && word[1] != '\0')
            status = some_short(a, bit, argc, argv, &i);
        else
            argv[a->n_words++] = argv[i];
        if (status >= 0)
            return status;
    }
    return check_words(a);
}

/* ---- help ---- */

static void wrapped(const char *text, size_t from, size_t width)
{
    size_t column = from;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column + n > width && column > from) {
            printf("\n%*s", (int)from, "");
            column = from;
        }
        printf("%.*s", (int)n, text);
        column += n;
        text += n;
        if (*text == ' ') {
            text++;
            if (column + 1 + strcspn(text, " ") <= width)
                putchar(' ');
            column++;
        }
    }
    putchar('\n');
}

void args_help(uint32_t bit)
{
    const command *c = commands;
    while (c->name && c->bit != bit)
        c++;
    if (c->name == NULL)
        return;
    printf("%s: %s\n\nusage: carat %s\n", c->name, c->help, c->usage);
    if (c->more)
        printf("\n%s\n", c->more);
    printf("\noptions:\n");
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        char left[64];
        if (!(o->commands & bit) || o->kind == LATER)
            continue;
        snprintf(left, sizeof left, "  %c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                 o->letter ? "," : " ", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        printf("%-29s ", left);
        if (strlen(left) > 29)
            printf("\n%30s", "");
        wrapped(o->help, 30, 100);
    }
}
