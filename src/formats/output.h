/* Files out: what a conversion writes, whatever the format. The opposite of the tensor directory.
 *
 * A writer (write_gguf.c, write_folder.c) is told all tensors and all metadata beforehand, writes what stands in front of the
 * tensors, and knows from then on where every byte belongs; so tensors may be filled in any order, by many threads at once. All
 * of it has a temporary name until commit. What types and names mean is the caller's business. */
#ifndef CT_FORMATS_OUTPUT_H
#define CT_FORMATS_OUTPUT_H

#include "base/file.h"
#include "formats/tensors.h"

typedef struct ct_out_tensor {
    char name[64]; /* as the file spells it */
    const ct_dtype_info *dtype;
    int32_t n_dims; /* 1..4 */
    size_t ne[4];   /* ne[0] is the row, as in ct_tensor */
    size_t bytes;
} ct_out_tensor;

typedef struct ct_output ct_output;

/* A GGUF file, version 3, alignment 32, with these keys (general.alignment and split.* must not be among them) and tensors in
 * this order. Borrows tensors until commit. EIO, ENOTFOUND (the folder it should lie in), ENOMEM. */
ct_status ct_gguf_create(ct_output **out, const char *path, const ct_kv_pair *kv, size_t n_kv,
                         const ct_out_tensor *tensors, size_t n_tensors, ct_error *err);

/* A folder with these tensors in safetensors files, several if they have more than `shard` bytes (0: 5 GB), for who reads `format`: "pt" (transformers)
 * or "mlx". Types: f32, f16, bf16, and MLX's affine ones, whose tensors must be called "....weight". */
ct_status ct_safetensors_create(ct_output **out, const char *path, const char *format, size_t shard,
                                const ct_out_tensor *tensors, size_t n_tensors, ct_error *err);
/* Where other files of that folder are to be written until commit. NULL of a single file. */
const char *ct_output_folder(const ct_output *o);

/* Bytes [off, off + size) of tensor i, whole blocks. Any thread; each byte once. */
ct_status ct_output_put(ct_output *o, size_t i, size_t off, const void *data, size_t size, ct_error *err);
/* All tensors were put: the file or folder gets its name. Frees o, whatever comes of it. */
ct_status ct_output_commit(ct_output *o, ct_error *err);
void ct_output_abandon(ct_output *o); /* removes what was written and frees; NULL is fine */
/* Bytes of all files, known from the beginning. */
size_t ct_output_bytes(const ct_output *o);

/* Bytes of a tensor of this type; false if its rows are no whole blocks, or it is too large. */
bool ct_out_tensor_measure(ct_out_tensor *x);

#endif
