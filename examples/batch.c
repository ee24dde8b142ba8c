/* Several prompts answered at once: each is a sequence of one batch, begins and ends when it likes, and is printed when it is done.
 *
 *     cc examples/batch.c $(pkg-config --cflags --libs carat) -o batch
 *     ./batch gemma-3-270m-q4_k_m.gguf "The capital of France is" "Water boils at" "One, two, three,"
 *
 * There are two seats, so the third prompt takes the place of whoever is done first. What a sequence writes does not depend on its
 * neighbours. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "carat.h"
#include "carat_batch.h"

enum { SEATS = 2, TOKENS = 24 };

struct seat {
    int prompt; /* index into argv, 0 = free */
    int tokens;
    char text[4096];
    size_t n;
};

static int complain(const carat_error *err)
{
    fprintf(stderr, "batch: %s\n", err->text);
    return 1;
}

/* The text of a token behind what the seat has; a text that would not fit is cut off. */
static void add_text(carat_batch *b, struct seat *seat, int32_t seq, carat_token token, size_t text_max)
{
    if (sizeof seat->text - seat->n >= text_max)
        seat->n += carat_batch_text(b, seq, token, seat->text + seat->n, sizeof seat->text - seat->n);
}

int main(int argc, char **argv)
{
    carat_model *m = NULL;
    carat_batch *b = NULL;
    carat_error err;
    int next = 2, busy = 0, failed = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: batch MODEL PROMPT...\n");
        return 2;
    }
    carat_batch_options opt = carat_batch_options_default();
    opt.sequences = SEATS;
    opt.context = 512;
    if (carat_model_open(&m, argv[1], NULL, &err) != CARAT_OK || carat_batch_create(&b, m, &opt, &err) != CARAT_OK) {
        carat_model_close(m);
        return complain(&err);
    }
    carat_model_info info;
    carat_model_get_info(m, &info);
    carat_sampling how = carat_sampling_default(m);
    how.temperature = 0;
    struct seat seats[SEATS] = {{0}};
    carat_error why[SEATS];
    do {
        carat_batch_item items[SEATS];
        size_t n = 0;
        for (int i = 0; i < SEATS; i++) { /* a free seat takes the next prompt; who sits goes on */
            int32_t seq = i;              /* the lowest free number is given out first, so seat and sequence agree */
            if (seats[i].prompt == 0 && next < argc) {
                seats[i] = (struct seat){.prompt = next++};
                if (carat_batch_add(b, &seq, &err) != CARAT_OK ||
                    carat_batch_prompt(b, seq, argv[seats[i].prompt], SIZE_MAX, CARAT_AUTO, NULL, &err) != CARAT_OK) {
                    failed |= complain(&err);
                    carat_batch_remove(b, seq);
                    seats[i].prompt = 0;
                }
            }
            if (seats[i].prompt == 0)
                continue;
            items[n] = carat_batch_item_default();
            items[n].seq = seq;
            items[n].how = &how;
            items[n].err = &why[n];
            n++;
        }
        busy = (int)n;
        if (n > 0 && carat_batch_step(b, items, n, &err) != CARAT_OK) {
            failed = complain(&err);
            break;
        }
        for (size_t k = 0; k < n; k++) {
            struct seat *seat = &seats[items[k].seq];
            if (items[k].status != CARAT_OK) /* this one cannot go on; the others do */
                failed |= complain(&why[k]);
            else if (items[k].token >= 0 && !items[k].end)
                add_text(b, seat, items[k].seq, items[k].token, info.text_max);
            seat->tokens += items[k].token >= 0;
            if (items[k].status == CARAT_OK && !items[k].end && seat->tokens < TOKENS)
                continue;
            add_text(b, seat, items[k].seq, -1, info.text_max);
            printf("%s%.*s\n", argv[seat->prompt], (int)seat->n, seat->text);
            carat_batch_remove(b, items[k].seq);
            seat->prompt = 0;
        }
    } while (busy > 0 || next < argc);
    carat_batch_free(b);
    carat_model_close(m);
    return failed;
}
