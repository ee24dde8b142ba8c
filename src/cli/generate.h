/* What run and chat share: a model and a session made of the options, and one text as it comes out of the session. */
#ifndef CARAT_CLI_GENERATE_H
#define CARAT_CLI_GENERATE_H

#include "cli/cli.h"

typedef struct generation {
    const args *a;
    progress bar; /* of a long prompt: whoever feeds one clears it */
    carat_model *m;
    carat_session *s;
    carat_model_info info;
    carat_sampling how;
    carat_logit_bias *bias; /* owned; `how` points to it */
    char *piece;            /* [text_max] */
    /* the text under way, or the last one */
    buffer text;
    size_t shown;   /* bytes of it already printed */
    buffer id_list; /* "2, 818" for --json, or the output of a model without text */
    int32_t prompt_tokens, tokens;
    const char *stop; /* "length", "end", "context", "stop", "interrupted"; NULL: no text yet */
    double ttft_s, tok_s;
} generation;

/* The steps of opening, each -1 or a status with its sentence printed: which options make sense, the model that word names,
 * sampling options and a session. close accepts any state in between. */
int generation_check(const args *a);
int generation_model(generation *g, const char *word);
int generation_session(generation *g);
void generation_close(generation *g);

uint64_t fresh_seed(void);

/* Continues what the session holds, printing as it goes (not with --json), until the text ends or `most` tokens (-1: no
 * limit); started: when its prompt began to be fed, ct_now_ns. -1 with g->stop set, or a status. */
int generation_text(generation *g, int64_t most, uint64_t started);
/* Ends the last line of a printed text. -1 or a status. */
int generation_newline(const generation *g);
/* The keys of --json, into an open object; what --stats says, on stderr. */
void generation_json(const generation *g, buffer *b);
void generation_stats(const generation *g);

#endif
