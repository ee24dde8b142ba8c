/* Writes the tokenizer of a model as a folder has it, for scripts/check_tokenizer.py and cli.tokenizer_files.
 *
 *     write_tokenizer MODEL FOLDER
 *
 * MODEL is a GGUF file, or a folder with tokenizer.model or tokenizer.json; FOLDER gets tokenizer.json and
 * tokenizer_config.json. The time goes to standard error. A test tool, never installed. */
#include <stdio.h>

#include "base/system.h"
#include "formats/tokenizer.h"
#include "tokenizer_open.h"

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: write_tokenizer MODEL FOLDER\n");
        return 2;
    }
    ct_error err = {0};
    ct_tensors *t = NULL;
    char path[4096];
    int status = 3;
    if (open_tokenizer(&t, argv[1], &err) != CT_OK)
        goto done;
    uint64_t start = ct_now_ns();
    snprintf(path, sizeof path, "%s/tokenizer.json", argv[2]);
    if (ct_tokenizer_json_write(path, t, &err) != CT_OK)
        goto done;
    fprintf(stderr, "tokenizer.json written in %.1f ms\n", ct_seconds_since(start) * 1e3);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", argv[2]);
    if (ct_tokenizer_config_write(path, t, &err) == CT_OK)
        status = 0;
done:
    if (status != 0)
        fprintf(stderr, "%s\n", err.text);
    ct_tensors_close(t);
    return status;
}
