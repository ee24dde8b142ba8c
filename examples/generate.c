/* Text from a prompt, as it is made: what `carat run` does, in a page.
 *
 *     cc generate.c $(pkg-config --cflags --libs carat) -o generate
 *     ./generate gemma-3-270m-q4_k_m.gguf "The capital of France is" 16 0
 *
 * The last two, which may be left out: how many tokens at most, and the temperature (0: always the likeliest token).
 * Everything is freed on one path, whatever failed; what failed is one sentence in err. */
#include <stdio.h>
#include <stdlib.h>

#include "carat.h"

/* The prompt's continuation to standard output, piece by piece; CARAT_OK when it ended or the limit is reached. */
static carat_status generate(carat_session *s, const carat_model *m, const char *prompt, long limit,
                             const carat_sampling *how, carat_error *err)
{
    carat_model_info info;
    carat_token token;
    char *text;
    carat_status st = carat_session_prompt(s, prompt, SIZE_MAX, CARAT_AUTO, NULL, err);
    if (st != CARAT_OK)
        return st;
    carat_model_get_info(m, &info);
    text = (char *)malloc(info.text_max); /* the most that one token can complete */
    if (text == NULL) {
        snprintf(err->text, sizeof err->text, "no memory for %zu bytes of text", info.text_max);
        return CARAT_ENOMEM;
    }
    while (limit-- > 0 && (st = carat_session_next(s, how, &token, err)) == CARAT_OK && !carat_is_end(m, token)) {
        fwrite(text, 1, carat_session_text(s, token, text, info.text_max), stdout);
        fflush(stdout);
    }
    fwrite(text, 1, carat_session_text(s, -1, text, info.text_max), stdout); /* of a character never finished */
    free(text);
    return st;
}

int main(int argc, char **argv)
{
    carat_model *m = NULL;
    carat_session *s = NULL;
    carat_sampling how;
    carat_error err;
    carat_status st;
    if (argc < 3) {
        fprintf(stderr, "usage: generate MODEL PROMPT [TOKENS [TEMPERATURE]]\n");
        return 2;
    }
    st = carat_model_open(&m, argv[1], NULL, &err);
    if (st == CARAT_OK)
        st = carat_session_create(&s, m, NULL, &err);
    if (st == CARAT_OK) {
        how = carat_sampling_default(m);
        if (argc > 4)
            how.temperature = strtod(argv[4], NULL);
        st = generate(s, m, argv[2], argc > 3 ? strtol(argv[3], NULL, 10) : 128, &how, &err);
        putchar('\n');
    }
    if (st != CARAT_OK)
        fprintf(stderr, "generate: %s\n", err.text);
    carat_session_free(s);
    carat_model_close(m);
    return st == CARAT_OK ? 0 : 1;
}
