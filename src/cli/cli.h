/* What the files of the command line share. This room is the library's first user: of src/ it includes base/ alone, and
 * everything it knows of models comes through include/.
 *
 * A command is a function from parsed arguments to an exit status. Text and results go to stdout, everything else to stderr;
 * an error is one sentence that begins "carat: ". Read main.c, then options.c, then any cmd_*.c. */
#ifndef CARAT_CLI_H
#define CARAT_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "carat.h"
#include "carat_jobs.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNUSABLE = 3, EXIT_INTERRUPTED = 130 };

/* ---- arguments (options.c) ---- */

enum {
    C_RUN = 1 << 0,
    C_CHAT = 1 << 1,
    C_BENCH = 1 << 2,
    C_EVAL = 1 << 3,
    C_INSPECT = 1 << 4,
    C_CONVERT = 1 << 5,
    C_PULL = 1 << 6,
    C_CHECK = 1 << 7,
    C_TOKENIZE = 1 << 8,
    C_DETOKENIZE = 1 << 9,
    C_LOGITS = 1 << 10,
    C_TUNE = 1 << 11,
    C_SERVE = 1 << 12,
    C_DESCRIBE = 1 << 13
};

#define MANY 64 /* values of a repeatable option, or of a list */

typedef struct strings {
    const char *at[MANY];
    int32_t n;
} strings;

typedef struct ints {
    int32_t at[MANY];
    int32_t n;
} ints;

/* Values as given; fields of options that were not given hold the defaults of args_default(). */
typedef struct args {
    const char *command;
    char **words; /* positional arguments: the first n_words places of argv, which parsing has sorted */
    int32_t n_words;
    bool help, version, quiet, verbose, no_color, json;
    const char *model, *backend, *isa, *kv;
    int32_t threads, context, max_tokens;
    double temp, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty; /* NAN: the model's own */
    int32_t top_k;                                                                  /* -1: the model's own */
    uint64_t seed;
    bool has_seed, raw, chat, stats, exact, deterministic, ignore_eos, no_bos, special, memory, quick;
    const char *file, *ids, *head, *system, *session, *base, *base_backend, *path, *revision;
    const char *type, *imatrix, *calibrate; /* convert */
    int32_t group;
    bool force;
    strings stop, bias, output;
    int32_t top, chunks, repeats, timeout;
    ints pp, tg, depth, batch;
} args;

/* Returns -1 to go on, else the exit status (an error was printed, or help). */
int args_parse(args *a, uint32_t bit, int argc, char **argv);
void args_help(uint32_t bit);
/* The word of `known` (NULL-terminated) that is nearest to word, or NULL if none is near. */
const char *nearest(const char *word, const char *const *known);

/* ---- commands ---- */

typedef struct command {
    const char *name, *usage, *help, *more;
    uint32_t bit;
    int (*run)(args *a);
} command;

extern const command commands[]; /* ends with a NULL name */

int cmd_run(args *a);
int cmd_bench(args *a);
int cmd_eval(args *a);
int cmd_inspect(args *a);
int cmd_check(args *a);
int cmd_tokenize(args *a);
int cmd_detokenize(args *a);
int cmd_logits(args *a);
int cmd_chat(args *a);
int cmd_describe(args *a);
int cmd_convert(args *a);
int cmd_pull(args *a);
int cmd_later(args *a); /* tune, serve */

/* ---- what commands share (common.c) ---- */

/* Prints "carat: ..." as one line on stderr and returns status. */
int fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void note(const args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* not with -q */
/* The exit status of an error, its sentence printed. opening: while a model was opened, when whatever is wrong is the model. */
int fail_error(const carat_error *e, bool opening);

/* ---- signals (signals.c) ---- */

void signals_start(void);
bool keep_going(void *arg); /* false after Ctrl-C, SIGTERM or SIGHUP; the next one ends the program at once */
bool interrupted(void);
bool ending(void); /* not only this answer: the program was asked to end */
/* From here on a signal asks instead of ending the program: whoever calls this polls. */
void signals_polled(void);
/* Between two answers: what Ctrl-C asked is done with. It ends the talk, by an end of the input; or, where a person types, it is
 * ignored, and only the fourth one within an answer ends the program. */
void signals_between(bool ignored);
/* At the end of the program: its status, or the end by the signal that asked for it. */
int signals_end(int status);

/* -m, else the word, else $CARAT_MODEL, else the default model; into path[cap]. -1, or an exit status. */
int model_path(const args *a, const char *word, char *path, size_t cap);
/* Where Hugging Face's tools keep what is theirs, and what they download, by the variables they know. */
void hub_home(char *path, size_t cap);
void hub_cache(char *path, size_t cap);
bool names_model(const char *word); /* an existing GGUF file or folder, or synthetic:... */
/* Splits the positional words into model and text: one word is the text unless the text comes from elsewhere. -1 or a status. */
int model_and_text(const args *a, const char *what, bool text_elsewhere, const char **model, const char **text);
/* Opens with the options of a; notes its warnings. -1 or a status. */
int model_open(const args *a, const char *path, bool vocab_only, carat_model **m);

/* Reads `-f FILE`, `-`, or takes the word itself; *data is the caller's (ct_free). -1 or a status. */
int read_input(const char *file, const char *word, char **data, size_t *n);
/* "2 818", "[2, 818]", or "-" for standard input; *ids is the caller's (ct_free). -1 or a status. */
int parse_ids(const char *text, carat_token **ids, size_t *n);
/* Offset of the first byte that is not UTF-8, or n. */
size_t utf8_check(const char *s, size_t n);
bool kv_known(const char *kv, int *status); /* prints the sentence if not */

/* ---- output (output.c) ---- */

typedef struct buffer { /* grows; a failed growth is remembered in `failed` and told once at the end */
    char *data;
    size_t n, room;
    bool failed;
    int32_t depth;
    uint32_t started; /* bit per depth: a comma is due */
} buffer;

void put(buffer *b, const char *s, size_t n);
void putz(buffer *b, const char *s);
void putf(buffer *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void put_clean(buffer *b, const char *s); /* control characters as spaces: a file's names reach a terminal */
void buffer_free(buffer *b);
/* Writes it to stdout, or to a file by way of a temporary name. -1 or a status. */
int buffer_print(const buffer *b);
int buffer_save(const buffer *b, const char *path);

/* JSON: key NULL inside arrays and at the top. Invalid UTF-8 becomes U+FFFD; NaN and infinity become null. */
void json_open(buffer *b, const char *key, char bracket);
void json_close(buffer *b, char bracket);
void json_text(buffer *b, const char *key, const char *s, size_t n);
void json_str(buffer *b, const char *key, const char *s);
void json_int(buffer *b, const char *key, int64_t v);
void json_uint(buffer *b, const char *key, uint64_t v);
void json_real(buffer *b, const char *key, double v);
void json_bool(buffer *b, const char *key, bool v);

/* Writes to stdout at once. -1, or a status when it cannot (quietly if the reader has gone). */
int print_now(const char *s, size_t n);
int print_end(void); /* flushes; -1 or a status */
bool use_color(const args *a, int fd);
/* "241 MiB"; into out[24]. */
const char *human_bytes(char *out, double bytes);

/* A bar on a terminal's stderr that replaces itself, without colours; nothing elsewhere, nor with -q. clear takes it away. */
typedef struct progress {
    bool on;
    uint64_t begun_ns, last_ns;
    char label[64];
    bool drawn;
} progress;
void progress_init(progress *p, const args *a);
void progress_show(void *p, const char *what, double done, double total);
void progress_clear(progress *p);

#endif
