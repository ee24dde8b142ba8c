/* Compares instruction sets of the cpu backend on one model, one thread, by the processor time that the process used: that
 * stays meaningful on a busy machine. Rounds are interleaved, the best of each set counts.
 *
 *     bench_isa MODEL [ISA...]        default: avx2 avx512f avx512
 *
 * Prints tokens per second of a prompt of 512, of decode, and the bytes of weights that decode read per second. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "carat.h"

enum { PROMPT = 512, DECODE = 64, ROUNDS = 3, MOST = 8 };

struct row {
    const char *isa;
    carat_model *model;
    double prompt, decode, bytes; /* tokens per second, twice; bytes per token */
};

static int fail(const carat_error *err)
{
    fprintf(stderr, "bench_isa: %s\n", err->text);
    return 1;
}

static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static int measure(struct row *r)
{
    carat_error err = {0};
    carat_session *s = NULL;
    carat_session_options opt = carat_session_options_default();
    opt.context = PROMPT + DECODE + 8;
    carat_sampling how = carat_sampling_default(r->model);
    how.temperature = 0;
    carat_token ids[PROMPT], token;
    const float *logits;
    for (int i = 0; i < PROMPT; i++)
        ids[i] = i == 0 ? 2 : 1000 + i * 7919 % 9000;
    int rc = 1;
    if (carat_session_create(&s, r->model, &opt, &err) != 0)
        goto done;
    double start = seconds();
    if (carat_session_feed(s, ids, PROMPT, &err) != 0 || carat_session_logits(s, &logits, &err) != 0)
        goto done;
    double rate = PROMPT / (seconds() - start);
    r->prompt = rate > r->prompt ? rate : r->prompt;
    start = seconds();
    for (int i = 0; i < DECODE; i++)
        if (carat_session_next(s, &how, &token, &err) != 0 || carat_session_logits(s, &logits, &err) != 0)
            goto done;
    rate = DECODE / (seconds() - start);
    r->decode = rate > r->decode ? rate : r->decode;
    rc = 0;
done:
    if (rc != 0)
        fail(&err);
    carat_session_free(s);
    return rc;
}

int main(int argc, char **argv)
{
    static const char *const all[] = {"avx2", "avx512f", "avx512"};
    if (argc < 2 || argc > 2 + MOST) {
        fprintf(stderr, "usage: bench_isa MODEL [ISA...]\n");
        return 2;
    }
    struct row rows[MOST] = {0};
    int n = argc > 2 ? argc - 2 : 3, rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        carat_error err = {0};
        carat_model_options opt = carat_model_options_default();
        carat_model_info info = {0};
        opt.backend = "cpu";
        opt.isa = rows[i].isa = argc > 2 ? argv[2 + i] : all[i];
        opt.threads = 1;
        if (carat_model_open(&rows[i].model, argv[1], &opt, &err) != 0)
            rc = fail(&err);
        if (rc == 0)
            carat_model_get_info(rows[i].model, &info);
        rows[i].bytes = (double)info.decode_bytes;
    }
    for (int round = 0; round < ROUNDS && rc == 0; round++)
        for (int i = 0; i < n && rc == 0; i++)
            rc = measure(&rows[i]);
    for (int i = 0; i < n; i++) {
        if (rc == 0)
            printf("%-8s pp%d %7.1f tok/s   tg%d %6.1f tok/s, %5.1f GB/s\n", rows[i].isa, PROMPT, rows[i].prompt,
                   DECODE, rows[i].decode, rows[i].decode * rows[i].bytes * 1e-9);
        carat_model_close(rows[i].model);
    }
    return rc;
}
