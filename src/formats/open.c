/* Whatever a path names becomes a tensor directory: which reader it takes is decided here, by what is there more than by how it is
 * called. What is in a file the readers know. */
#include <string.h>

#include "formats/checkpoint.h"

static bool is_safetensors(const char *path)
{
    static const char tail[] = ".safetensors";
    size_t n = strlen(path), m = sizeof tail - 1;
    ct_map map;
    if (n > m && strcmp(path + n - m, tail) == 0)
        return ct_is_file(path);
    if (!ct_is_file(path) || ct_map_open(&map, path, NULL) != CT_OK)
        return false; /* the reader of GGUF files says why */
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
    return is_safetensors(path) ? ct_safetensors_open(out, path, err) : ct_gguf_open(out, path, err);
}
