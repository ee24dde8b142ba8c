/* Writes a tensor of a model to standard output as float32, decoded by the table of weight types; or, with a type in place
 * of a model, decodes blocks from standard input. What scripts/check_dtypes.py compares with an independent decoder.
 *
 *     dump_tensor MODEL TENSOR > floats       MODEL is a GGUF file or synthetic:SIZE[:TYPE]
 *     dump_tensor --list MODEL                name, type, elements of each tensor
 *     dump_tensor --blocks TYPE < bytes > floats
 *     dump_tensor --random TYPE BLOCKS SEED SIGMA > bytes
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "formats/tensors.h"

static int fail(const char *text)
{
    fprintf(stderr, "dump_tensor: %s\n", text);
    return 1;
}

/* A mebi-element at a time: blocks are independent. */
static int decode_to_stdout(const ct_dtype_info *t, const uint8_t *src, size_t n_blocks)
{
    size_t step = (1u << 20) / (size_t)t->block_elems;
    float *row = ct_alloc(step * (size_t)t->block_elems * sizeof *row);
    int rc = row == NULL;
    for (size_t i = 0; i < n_blocks && rc == 0; i += step) {
        size_t n = n_blocks - i < step ? n_blocks - i : step;
        t->decode(row, src + i * (size_t)t->block_bytes, n);
        rc = fwrite(row, sizeof *row * (size_t)t->block_elems, n, stdout) != n;
    }
    ct_free(row);
    return rc;
}

static int blocks(const char *type)
{
    const ct_dtype_info *t = ct_dtype_by_name(type);
    char *data;
    size_t size;
    ct_error err = {0};
    if (t == NULL)
        return fail("unknown type");
    if (ct_file_read(&data, &size, "-", &err) != CT_OK)
        return fail(err.text);
    int rc = size % (size_t)t->block_bytes ? fail("the input is no whole number of blocks")
                                           : decode_to_stdout(t, (const uint8_t *)data, size / (size_t)t->block_bytes);
    ct_free(data);
    return rc;
}

static int random_blocks(char **argv)
{
    const ct_dtype_info *t = ct_dtype_by_name(argv[0]);
    size_t n = strtoull(argv[1], NULL, 10);
    if (t == NULL)
        return fail("unknown type");
    uint8_t *data = ct_calloc(n, (size_t)t->block_bytes);
    if (data == NULL)
        return fail("out of memory");
    t->random(data, n, strtoull(argv[2], NULL, 10), 0, 0, strtof(argv[3], NULL));
    int rc = fwrite(data, (size_t)t->block_bytes, n, stdout) != n;
    ct_free(data);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--blocks") == 0)
        return blocks(argv[2]);
    if (argc == 6 && strcmp(argv[1], "--random") == 0)
        return random_blocks(argv + 2);
    if (argc != 3)
        return fail("usage: dump_tensor MODEL TENSOR | --list MODEL | --blocks TYPE | --random TYPE BLOCKS SEED SIGMA");
    int list = strcmp(argv[1], "--list") == 0;
    const char *model = argv[1 + list];
    ct_error err = {0};
    ct_tensors *t;
    ct_status st = strncmp(model, "synthetic:", 10) == 0 ? ct_synthetic_open(&t, model + 10, &err)
                                                         : ct_gguf_open(&t, model, &err);
    if (st != CT_OK)
        return fail(err.text);
    int rc = 0;
    const ct_tensor *x;
    for (size_t i = 0; list && (x = ct_tensors_at(t, i)) != NULL; i++)
        printf("%.*s %s %zu\n", (int)x->name.len, x->name.data, x->dtype->name, x->n_elems);
    if (!list) {
        x = ct_tensors_find(t, argv[2]);
        const uint8_t *data = x ? ct_tensor_bytes(t, x) : NULL;
        rc = data ? decode_to_stdout(x->dtype, data, x->n_elems / (size_t)x->dtype->block_elems)
                  : fail(x ? "out of memory" : "no such tensor");
    }
    ct_tensors_close(t);
    return rc;
}
