/* Whatever a path names becomes a tensor directory: which reader it takes is decided here, by what the path is and not by how it
 * ends. What is in a file the readers know. */
#include <string.h>

#include "base/file.h"
#include "formats/tensors.h"

ct_status ct_tensors_open(ct_tensors **out, const char *path, ct_error *err)
{
    static const char synthetic[] = "synthetic:";
    *out = NULL;
    if (strncmp(path, synthetic, sizeof synthetic - 1) == 0)
        return ct_synthetic_open(out, path + sizeof synthetic - 1, err);
    if (ct_is_folder(path))
        return ct_fail(err, CT_EUNSUPPORTED, path,
                       "'%s' is a folder: folders of safetensors are not read yet, GGUF files are", path);
    return ct_gguf_open(out, path, err);
}
