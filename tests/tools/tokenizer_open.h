/* What tools that want a tokenizer and nothing else open: a GGUF file, or a folder with weights or without. */
#ifndef CARAT_TESTS_TOKENIZER_OPEN_H
#define CARAT_TESTS_TOKENIZER_OPEN_H

#include "formats/directory.h"
#include "formats/tokenizer.h"

static inline ct_status open_tokenizer(ct_tensors **t, const char *path, ct_error *err)
{
    if (!ct_is_folder(path))
        return ct_gguf_open(t, path, err);
    *t = ct_tensors_new(path, "folder");
    if (*t == NULL)
        return ct_fail(err, CT_ENOMEM, path, "no memory");
    ct_status st = ct_tokenizer_read(*t, path, err);
    return st == CT_OK ? ct_tensors_index(*t, err) : st;
}

#endif
