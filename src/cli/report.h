/* Records of a benchmark and their forms: a table as it grows, JSON, CSV, Markdown. Keys are documented in docs/BENCH.md. */
#ifndef CARAT_CLI_REPORT_H
#define CARAT_CLI_REPORT_H

#include "cli/cli.h"

enum { MAX_MODELS = 16 };

typedef struct row {
    char test[64]; /* "pp512", "tg128@d4096@b8", "short@t0.7" */
    int32_t model;
    bool is_text;
    double *samples; /* [n_samples] tok/s, owned */
    int32_t n_samples;
    double tok_s, spread, share; /* medians */
    size_t rss;
    carat_bench_case fixed; /* of a fixed length */
    carat_bench_text text;  /* of a text, owned */
} row;

typedef struct bench_model {
    char path[512], format[32], size[16], backend[64], backend_name[32], isa[32];
    carat_model_info info;    /* numbers only: its strings have gone with the model */
    carat_perplexity quality; /* tokens 0: not measured */
} bench_model;

typedef struct records {
    carat_machine machine;
    bench_model models[MAX_MODELS];
    int32_t n_models;
    row *rows;
    int32_t n_rows, room;
    uint64_t seed;
    bool live, color; /* a table as it grows */
} records;

void records_free(records *r);
void report_head(const records *r, int32_t model, bool texts);
void report_live(const records *r, int32_t row);
void report_tail(const records *r, int32_t model);
void report_json(buffer *b, const records *r);
/* Is there a form for this file name? -1, or a status with the sentence printed. */
int report_form(const char *path);
int report_save(const records *r, const char *path);

#endif
