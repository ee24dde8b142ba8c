/* Whatever a path names becomes a tensor directory: which reader it takes is decided here, by what is there more than by how it is
 * called. What is in a file the readers know. */
#include <string.h>

#include "formats/checkpoint.h"

static bool is_named_safetensors(const char *path)
{
    static const char tail[] = ".safetensors";
    size_t n = strlen(path), m = sizeof tail - 1;
    return n > m && strcmp(path + n - m, tail) == 0 && ct_is_file(path);
}

/* By what is in it: a blob of a cache has no name that says so. */
static bool looks_like_safetensors(const char *path)
{
    ct_map map;
    if (!ct_is_file(path) || ct_map_open(&map, path, NULL) != CT_OK)
        return false;
    bool looks = ct_safetensors_looks(map.data, map.size);
    ct_map_close(&map);
    return looks;
}

ct_status ct_tensors_open(ct_tensors **out, const char *path, ct_error *err)
{
    static const char synthetic[] = "synthetic:";
    *out = NULL;
    if (strncmp(path, synthetic, sizeof synthetic - 1) == 0)
        return ct_synthetic_open(out, path + sizeof synthetic - 1, err);
    if (ct_is_folder(path))
        return ct_checkpoint_open(out, path, err);
    if (is_named_safetensors(path))
        return ct_safetensors_open(out, path, err);
    /* A file is mapped once, so that a change is seen from the first byte on: only what is no GGUF file is looked at again. */
    ct_status st = ct_gguf_open(out, path, err);
    return st == CT_EFORMAT && looks_like_safetensors(path) ? ct_safetensors_open(out, path, err) : st;
}
