/* Tokenizes many texts in one process, for scripts/check_tokenizer.py.
 *
 *     tokenize_many MODEL [--special] [--decode] < texts > ids
 *
 * MODEL is a GGUF file, or a folder with tokenizer.model or tokenizer.json.
 *
 * Standard input is a series of texts, each a 32-bit little-endian length and that many bytes. For each text a line of ids
 * is written; with --decode the text that streaming decode makes of those ids follows on a line of its own, in hexadecimal.
 * With --ids the texts are lists of decimal ids instead, and only the decoded line is written.
 * Times and memory go to standard error. A test tool, never installed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/system.h"
#include "text/vocab.h"
#include "tokenizer_open.h"

static void print_hex(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%02x", (unsigned)(unsigned char)s[i]);
}

static void print_decoded(const ct_vocab *v, const ct_ids *a, char *buf, size_t cap)
{
    ct_detok d = {0};
    for (size_t i = 0; i < a->n; i++)
        print_hex(buf, ct_detok_next(&d, v, a->ids[i], true, buf, cap));
    print_hex(buf, ct_detok_flush(&d, buf, cap));
    putchar('\n');
}

int main(int argc, char **argv)
{
    bool special = false, decode = false, from_ids = false;
    for (int i = 2; i < argc; i++) {
        special = special || strcmp(argv[i], "--special") == 0;
        decode = decode || strcmp(argv[i], "--decode") == 0;
        from_ids = from_ids || strcmp(argv[i], "--ids") == 0;
    }
    if (argc < 2) {
        fprintf(stderr, "usage: tokenize_many MODEL [--special] [--decode | --ids] < texts\n");
        return 2;
    }
    ct_error err = {0};
    ct_tensors *t = NULL;
    ct_vocab *v = NULL;
    uint64_t start = ct_now_ns();
    if (open_tokenizer(&t, argv[1], &err) != CT_OK) {
        fprintf(stderr, "%s: %s\n", err.where, err.text);
        return 3;
    }
    double opened = ct_seconds_since(start);
    if (ct_vocab_create(&v, t, &err) != CT_OK || v == NULL) {
        fprintf(stderr, "%s: %s\n", err.where, v ? err.text : "no vocabulary");
        return 3;
    }
    double made = ct_seconds_since(start) - opened;
    ct_tensors_close(t);

    size_t cap = ct_detok_max(v), bytes = 0, count = 0;
    size_t rss = ct_rss_bytes();
    char *buf = malloc(cap);
    double spent = 0;
    unsigned char head[4];
    ct_ids ids = {0};
    while (buf && fread(head, 1, 4, stdin) == 4) {
        size_t n = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        char *text = malloc(n + 1);
        if (text == NULL || fread(text, 1, n, stdin) != n) {
            fprintf(stderr, "the input ends inside a text\n");
            return 1;
        }
        text[n] = '\0';
        ids.n = 0;
        if (from_ids) {
            char *at = text;
            for (char *end; strtol(at, &end, 10), end != at; at = end)
                if (ct_ids_push(&ids, (int32_t)strtol(at, NULL, 10), &err) != CT_OK)
                    return 1;
        } else {
            start = ct_now_ns();
            if (ct_tokenize(v, text, n, false, special, &ids, &err) != CT_OK) {
                fprintf(stderr, "%s\n", err.text);
                return 1;
            }
            spent += ct_seconds_since(start);
            for (size_t i = 0; i < ids.n; i++)
                printf(i ? " %d" : "%d", ids.ids[i]);
            putchar('\n');
        }
        if (decode || from_ids)
            print_decoded(v, &ids, buf, cap);
        bytes += n;
        count++;
        free(text);
    }
    fprintf(stderr,
            "open %.1f ms, vocabulary %.1f ms; %zu texts, %zu bytes in %.3f s: %.1f MB/s; memory %.1f MiB at first, "
            "%.1f at most\n",
            opened * 1e3, made * 1e3, count, bytes, spent, spent > 0 ? (double)bytes / spent * 1e-6 : 0.0,
            (double)rss / 1048576.0, (double)ct_rss_peak_bytes() / 1048576.0);
    ct_ids_deinit(&ids);
    free(buf);
    ct_vocab_free(v);
    return 0;
}
