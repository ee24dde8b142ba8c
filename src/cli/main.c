/* The program: which command, and the texts that name them. The commands are in cmd_*.c, their options in options.c. */
#include "cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

const command commands[] = {
    {"run", "run [MODEL] PROMPT", "generate text",
     "The text streams to stdout, everything else goes to stderr. Without a MODEL: $CARAT_MODEL, else the default "
     "model that\n"
     "`make bench` fetched. PROMPT may be - for standard input; one newline at its end is dropped.",
     C_RUN, cmd_run},
    {"chat", "chat [MODEL]", "talk to an instruction-tuned model",
     "A line is a message, /help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves. Where standard input is "
     "no\n"
     "terminal, or with -f FILE, each line of it is a message (or a command), and nothing but answers is printed.",
     C_CHAT, cmd_chat},
    {"bench", "bench [MODEL...]", "measure speed, share of the machine, memory and quality",
     "Without --pp or --tg: three prompts, greedy and at temperature 0.7, and the perplexity of a short text. With "
     "them: fixed\n"
     "lengths without sampling, as llama-bench's pp and tg.",
     C_BENCH, cmd_bench},
    {"eval", "eval perplexity|kl [MODEL] [-f FILE]", "quality against a text, or against another model or type",
     "perplexity: of a text, in chunks of -c tokens whose second half is scored.\n"
     "kl: how far MODEL's distributions are from those of --base, over the same tokens.\n"
     "Without -f the short text that carat ships is used.",
     C_EVAL, cmd_eval},
    {"inspect", "inspect [MODEL]", "what a file is, and the memory it needs", NULL, C_INSPECT, cmd_inspect},
    {"convert", "convert IN OUT --type T", "between formats and types",
     "IN is any model that carat opens. OUT is a file or folder that is not there yet; its form follows from the type "
     "and, for\n"
     "bf16, f16 and f32, from its name: a GGUF file if it ends in .gguf, else a Hugging Face folder.",
     C_CONVERT, cmd_convert},
    {"pull", "pull OWNER/NAME[@REV] [FILE.gguf]", "fetch a model",
     "From the Hugging Face hub, or the one that HF_ENDPOINT names, into the cache that its own tools use. Without a "
     "FILE: a\n"
     "checkpoint of safetensors with what belongs to it. Goes on where it was interrupted; prints where the model is.",
     C_PULL, cmd_pull},
    {"check", "check [-b BACKEND]", "every kernel of every backend on this machine against the reference", NULL,
     C_CHECK, cmd_check},
    {"tokenize", "tokenize [MODEL] TEXT | -f FILE", "text to ids", NULL, C_TOKENIZE, cmd_tokenize},
    {"detokenize", "detokenize [MODEL] IDS | -f FILE", "ids to text", NULL, C_DETOKENIZE, cmd_detokenize},
    {"logits", "logits [MODEL] TEXT | --ids IDS", "the most likely next tokens", NULL, C_LOGITS, cmd_logits},
    {"tune", "tune", "train a model (not there yet)", NULL, C_TUNE, cmd_later},
    {"serve", "serve", "an HTTP server (not there yet)", NULL, C_SERVE, cmd_later},
    {"describe", "describe bash|zsh|fish|man [COMMAND]", "completion for a shell, or the source of a manual page",
     "What the build installs, made of the tables of commands and options. To try: source <(carat describe bash)",
     C_DESCRIBE, cmd_describe},
    {NULL, NULL, NULL, NULL, 0, NULL},
};

static void overview(FILE *to)
{
    fprintf(to, "carat %s: Gemma 3 on this machine\n\nusage: carat COMMAND ...\n\n", carat_version());
    for (const command *c = commands; c->name; c++)
        if (c->run != cmd_describe) /* for packagers */
            fprintf(to, "  %-11s %s\n", c->name, c->help);
    fprintf(
        to,
        "\ncarat COMMAND --help lists a command's options. MODEL is a GGUF file, a folder of safetensors\n"
        "or synthetic:SIZE[:TYPE].\n"
        "Exit status: 0 done, 1 failed while running, 2 wrong usage, 3 the model cannot be used, 130 interrupted.\n");
}

static int version(void)
{
    printf("carat %s\n", carat_version());
    return print_end() < 0 ? EXIT_DONE : EXIT_FAILED;
}

static int no_such(const char *word)
{
    const char *names[sizeof commands / sizeof commands[0]];
    size_t n = 0;
    for (const command *c = commands; c->name; c++)
        names[n++] = c->name;
    names[n] = NULL;
    const char *near = nearest(word, names);
    if (near)
        return fail(EXIT_USAGE, "unknown command '%s'; did you mean carat %s?", word, near);
    return fail(EXIT_USAGE, "unknown command '%s'; carat --help lists them%s", word,
                strchr(word, ' ') || names_model(word) ? ", and carat run generates text" : "");
}

int main(int argc, char **argv)
{
    static args a; /* large, and lives as long as the program */
    signals_start();
    if (argc < 2) {
        overview(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    bool help = strcmp(word, "help") == 0;
    if (strcmp(word, "--version") == 0 || strcmp(word, "version") == 0)
        return version();
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (help && argc == 2)) {
        overview(stdout);
        return print_end() < 0 ? EXIT_DONE : EXIT_FAILED;
    }
    if (help)
        word = argv[2];
    const command *c = commands;
    while (c->name && strcmp(c->name, word) != 0)
        c++;
    if (c->name == NULL)
        return no_such(word);
    if (help) {
        args_help(c->bit);
        return print_end() < 0 ? EXIT_DONE : EXIT_FAILED;
    }
    a.command = c->name;
    int status = args_parse(&a, c->bit, argc - 2, argv + 2);
    if (status >= 0)
        return status;
    if (a.version)
        return version();
    return signals_end(c->run(&a));
}
