/* carat describe: the table of options as the source of manual pages (scdoc's language) and as completion for three shells.
 *
 * The build runs it and installs what it prints (packaging/), so that what is described is what there is. Each shell's rules
 * of quoting are in the functions that write for it; nothing here knows an option by name. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"

/* ---- what there is to describe ---- */

static bool described(const command *c) { return c->run != cmd_later && c->run != cmd_describe; }

static bool has(const command *c, const option *o) { return o->kind != LATER && (o->commands & c->bit) != 0; }

/* How the value of an option is completed: with file names, with words, or not at all. */
enum way { NOTHING, FILES, WORDS };

static enum way way_of(const option *o, char *words, size_t cap)
{
    static const struct {
        const char *arg, *words; /* NULL: file names */
    } known[] = {{"MODEL", NULL}, {"FILE", NULL}, {"DIR", NULL}, {"TYPE[,TYPE]", "bf16 f16 f32 q8 q4"}};
    words[0] = '\0';
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].arg, o->arg) == 0) {
            snprintf(words, cap, "%s", known[i].words ? known[i].words : "");
            return known[i].words ? WORDS : FILES;
        }
    if (!islower((unsigned char)o->arg[0]))
        return NOTHING;
    snprintf(words, cap, "%s", o->arg);
    for (char *p = words; (p = strchr(p, '|')) != NULL;)
        *p = ' ';
    return WORDS;
}

/* The words that a command's first argument is one of, as in "eval perplexity|kl [MODEL]"; false if there are none. */
static bool first_words(const command *c, char *words, size_t cap)
{
    const char *p = c->usage + strlen(c->name);
    p += strspn(p, " ");
    size_t n = strcspn(p, " "), at = 0;
    if (memchr(p, '|', n) == NULL || !islower((unsigned char)*p))
        return false;
    for (; at < n && at + 1 < cap; at++)
        words[at] = p[at] == '|' ? ' ' : p[at];
    words[at] = '\0';
    return true;
}

/* s with a string in place of each of some characters; and newlines as spaces. */
static void put_as(const char *s, const char *special, const char *before, const char *instead)
{
    for (; *s; s++) {
        if (*s == '\n')
            putchar(' ');
        else if (strchr(special, *s) && instead)
            printf("%s", instead);
        else
            printf("%s%c", strchr(special, *s) ? before : "", *s);
    }
}

/* ---- manual pages ---- */

static void man_text(const char *s) { put_as(s, "_*\\", "\\", NULL); }

static void man_options(const command *c)
{
    printf("# OPTIONS\n");
    for (const option *o = options; o->name; o++) {
        if (!has(c, o))
            continue;
        printf("\n");
        if (o->letter)
            printf("*-%c*, ", o->letter);
        printf("*--%s*", o->name);
        if (o->arg) {
            printf(" _");
            put_as(o->arg, "_*\\", "\\", NULL);
            printf("_");
        }
        printf("\n\t");
        man_text(o->help);
        printf("\n");
    }
}

static void man_command(const command *c)
{
    printf("carat-%s(1) \"carat %s\" \"User commands\"\n\n# NAME\n\ncarat-%s - ", c->name, carat_version(), c->name);
    man_text(c->help);
    printf("\n\n# SYNOPSIS\n\n*carat* ");
    man_text(c->usage);
    printf(" [OPTION]...\n\n");
    if (c->more) {
        printf("# DESCRIPTION\n\n");
        man_text(c->more);
        printf("\n\n");
    }
    man_options(c);
    printf("\n# SEE ALSO\n\n*carat*(1) for models, exit status and environment\n");
}

static void man_overview(void)
{
    printf(
        "carat(1) \"carat %s\" \"User commands\"\n\n"
        "# NAME\n\ncarat - run, measure and inspect Gemma 3 on this machine\n\n"
        "# SYNOPSIS\n\n*carat* _COMMAND_ ...\n\n*carat* --help | --version\n\n*carat* help _COMMAND_\n\n# COMMANDS\n",
        carat_version());
    for (const command *c = commands; c->name; c++)
        if (described(c)) {
            printf("\n*carat-%s*(1): *carat* ", c->name);
            man_text(c->usage);
            printf("\n\t");
            man_text(c->help);
            printf("\n");
        }
    printf(
        "\n# MODELS\n\n"
        "A _MODEL_ is a GGUF file of Gemma 3, a folder of safetensors with its config.json, the name of a model in "
        "Hugging Face's cache (google/gemma-3-1b-it), or *synthetic:*_SIZE_[*:*_TYPE_], made in memory at the real "
        "shapes for measuring. Where none is named: *$CARAT\\_MODEL*, else the default model that *make bench* fetched "
        "into the "
        "cache.\n\n"
        "# EXIT STATUS\n\n"
        "*0*\n\tdone\n\n*1*\n\tit failed while running\n\n*2*\n\twrong usage\n\n"
        "*3*\n\tthe model or the backend asked for cannot be used: missing, damaged, unsupported, NaN in its weights "
        "or "
        "logits\n\n*130*\n\tinterrupted\n\n"
        "An error is one sentence on standard error, also with *-q*: what was expected, what was found, where.\n\n"
        "# ENVIRONMENT\n\n"
        "*CARAT\\_MODEL*\n\tthe model where none is named\n\n"
        "*XDG\\_CACHE\\_HOME*\n\tits folder _carat_ has the default model; without it, _~/.cache/carat_\n\n"
        "*NO\\_COLOR*\n\tno colours, whatever its value\n\n"
        "# EXAMPLES\n\n"
        "*carat run \"The capital of France is\"*\n\n*carat bench --quick*\n\n"
        "*carat inspect --memory -c 32768 model.gguf*\n");
}

static int man(const char *name)
{
    const command *c = commands;
    if (name == NULL) {
        man_overview();
        return -1;
    }
    while (c->name && (strcmp(c->name, name) != 0 || !described(c)))
        c++;
    if (c->name == NULL)
        return fail(EXIT_USAGE, "there is no page of a command '%s'", name);
    man_command(c);
    return -1;
}

/* ---- bash ---- */

static void names(const char *between)
{
    const char *space = "";
    for (const command *c = commands; c->name; c++)
        if (described(c)) {
            printf("%s%s", space, c->name);
            space = between;
        }
}

/* The options whose values are completed in one way, as a pattern; false if there are none. */
static bool bash_pattern(enum way way)
{
    char words[256];
    const char *bar = "        ";
    for (const option *o = options; o->name; o++) {
        if (o->kind == LATER || o->arg == NULL || way_of(o, words, sizeof words) != way)
            continue;
        printf("%s--%s", bar, o->name);
        if (o->letter)
            printf("|-%c", o->letter);
        bar = "|";
    }
    return bar[0] == '|';
}

static void bash_values(void)
{
    char words[256];
    printf("    case $prev in\n");
    if (bash_pattern(FILES))
        printf(") return ;;\n");
    if (bash_pattern(NOTHING))
        printf(") compopt +o default +o bashdefault 2>/dev/null; return ;;\n");
    for (const option *o = options; o->name; o++)
        if (o->kind != LATER && o->arg && way_of(o, words, sizeof words) == WORDS) {
            printf("        --%s", o->name);
            if (o->letter)
                printf("|-%c", o->letter);
            printf(") COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", words);
        }
    printf("    esac\n");
}

/* Where COMPREPLY stays empty, bash completes file names. */
static void bash(void)
{
    char words[256];
    printf("# bash completion for carat; made by: carat describe bash\n"
           "_carat()\n{\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} options= first=\n"
           "    COMPREPLY=()\n"
           "    if [[ $cur == '=' ]]; then # bash cuts --option=value at the sign\n"
           "        cur=\n"
           "    elif [[ $prev == '=' ]]; then\n"
           "        prev=${COMP_WORDS[COMP_CWORD-2]}\n"
           "    fi\n"
           "    if ((COMP_CWORD == 1)) || [[ $COMP_CWORD -eq 2 && ${COMP_WORDS[1]} == help ]]; then\n"
           "        COMPREPLY=($(compgen -W '");
    names(" ");
    printf(" help --help --version' -- \"$cur\"))\n        return\n    fi\n");
    bash_values();
    printf("    case ${COMP_WORDS[1]} in\n");
    for (const command *c = commands; c->name; c++) {
        if (!described(c))
            continue;
        printf("        %s)\n            options='", c->name);
        for (const option *o = options; o->name; o++)
            if (has(c, o) && o->letter)
                printf("--%s -%c ", o->name, o->letter);
            else if (has(c, o))
                printf("--%s ", o->name);
        printf("'\n");
        if (first_words(c, words, sizeof words))
            printf("            first='%s'\n", words);
        printf("            ;;\n");
    }
    printf("    esac\n"
           "    if [[ $cur == -* ]]; then\n"
           "        COMPREPLY=($(compgen -W \"$options\" -- \"$cur\"))\n"
           "    elif ((COMP_CWORD == 2)) && [[ $first ]]; then\n"
           "        COMPREPLY=($(compgen -W \"$first\" -- \"$cur\"))\n"
           "    fi\n"
           "}\n"
           "complete -o bashdefault -o default -F _carat carat\n");
}

/* ---- zsh ---- */

/* Inside single quotes and brackets. */
static void zsh_text(const char *s)
{
    for (; *s; s++)
        if (*s == '\'')
            printf("'\\''");
        else if (strchr("[]:\\", *s))
            printf("\\%c", *s);
        else
            putchar(*s == '\n' ? ' ' : *s);
}

static void zsh_option(const option *o)
{
    char words[256];
    bool again = o->kind == TEXTS;
    printf(" \\\n                ");
    if (o->letter && !again)
        printf("'(-%c --%s)'", o->letter, o->name);
    printf("%s", again ? "'*'" : "");
    if (o->letter)
        printf("{-%c%s,--%s%s}", o->letter, o->arg ? "+" : "", o->name, o->arg ? "=" : "");
    else
        printf("--%s%s", o->name, o->arg ? "=" : "");
    printf("'[");
    zsh_text(o->help);
    printf("]");
    if (o->arg) {
        enum way way = way_of(o, words, sizeof words);
        printf(":");
        zsh_text(o->arg);
        if (way == WORDS)
            printf(":(%s)", words);
        else
            printf("%s", way == FILES ? ":_files" : ": ");
    }
    printf("'");
}

static void zsh(void)
{
    char words[256];
    printf("#compdef carat\n# made by: carat describe zsh\n"
           "_carat() {\n"
           "    local -a list\n"
           "    list=(\n");
    for (const command *c = commands; c->name; c++)
        if (described(c)) {
            printf("        '%s:", c->name);
            zsh_text(c->help);
            printf("'\n");
        }
    printf("        'help:the options of a command'\n"
           "    )\n"
           "    if ((CURRENT == 2)) || [[ $CURRENT -eq 3 && $words[2] == help ]]; then\n"
           "        _describe command list\n"
           "        return\n"
           "    fi\n"
           "    local name=$words[2]\n"
           "    shift words\n"
           "    ((CURRENT--))\n"
           "    case $name in\n");
    for (const command *c = commands; c->name; c++) {
        if (!described(c))
            continue;
        printf("        %s)\n            _arguments -s", c->name);
        for (const option *o = options; o->name; o++)
            if (has(c, o))
                zsh_option(o);
        if (first_words(c, words, sizeof words))
            printf(" \\\n                '1:what:(%s)'", words);
        printf(" \\\n                '*:file:_files'\n            ;;\n");
    }
    printf("    esac\n}\n"
           "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
           "    _carat \"$@\"\n"
           "else\n"
           "    compdef _carat carat\n"
           "fi\n");
}

/* ---- fish ---- */

static void fish_text(const char *s) { put_as(s, "'\\", "\\", NULL); }

static void fish(void)
{
    char words[256];
    printf("# fish completion for carat; made by: carat describe fish\n");
    for (const command *c = commands; c->name; c++) {
        if (!described(c))
            continue;
        printf("complete -c carat -n __fish_use_subcommand -f -a %s -d '", c->name);
        fish_text(c->help);
        printf("'\n");
        if (first_words(c, words, sizeof words))
            printf("complete -c carat -n '__fish_seen_subcommand_from %s' -a '%s'\n", c->name, words);
    }
    printf("complete -c carat -n __fish_use_subcommand -f -a help -d 'the options of a command'\n"
           "complete -c carat -n '__fish_seen_subcommand_from help' -f -a '");
    names(" ");
    printf("'\n");
    for (const option *o = options; o->name; o++) {
        if (o->kind == LATER)
            continue;
        printf("complete -c carat -n '__fish_seen_subcommand_from");
        for (const command *c = commands; c->name; c++)
            if (described(c) && has(c, o))
                printf(" %s", c->name);
        printf("' -l %s", o->name);
        if (o->letter)
            printf(" -s %c", o->letter);
        if (o->arg) {
            enum way way = way_of(o, words, sizeof words);
            printf("%s", way == FILES ? " -r -F" : " -x");
            if (way == WORDS)
                printf(" -a '%s'", words);
        }
        printf(" -d '");
        fish_text(o->help);
        printf("'\n");
    }
}

int cmd_describe(args *a)
{
    const char *what = a->n_words > 0 ? a->words[0] : "";
    int status = -1;
    if (a->n_words > (strcmp(what, "man") == 0 ? 2 : 1))
        return fail(EXIT_USAGE, "expected no more than what to describe, found '%s'", a->words[a->n_words - 1]);
    if (strcmp(what, "man") == 0)
        status = man(a->n_words > 1 ? a->words[1] : NULL);
    else if (strcmp(what, "commands") == 0) {
        names("\n");
        printf("\n");
    } else if (strcmp(what, "bash") == 0)
        bash();
    else if (strcmp(what, "zsh") == 0)
        zsh();
    else if (strcmp(what, "fish") == 0)
        fish();
    else
        return fail(EXIT_USAGE, "expected man, commands, bash, zsh or fish, found '%s'", what);
    if (status < 0)
        status = print_end();
    return status < 0 ? EXIT_DONE : status;
}
