/* MLX's quantized tensors in a folder: X.weight, X.scales and X.biases become one tensor X.weight of an mlx type.
 *
 * For the reader of folders only. The files decide what is quantized and how (by what is there, and by the shapes); config.json
 * is believed where it agrees, and what does not agree is an error, never a guess. */
#ifndef CT_FORMATS_MLX_H
#define CT_FORMATS_MLX_H

#include "formats/json.h"
#include "formats/safetensors.h"

typedef enum mlx_mode { MLX_AFFINE, MLX_MXFP4, MLX_MXFP8, MLX_NVFP4 } mlx_mode;

/* What a configuration says of a module: nothing (not given), or bits, group and mode. */
struct mlx_setting {
    bool given;
    mlx_mode mode;
    uint64_t bits, group;
};

struct mlx_module {
    ct_str name; /* as in the directory: "model.layers.0.mlp.up_proj" */
    struct mlx_setting how;
};

/* Zeroed at first: a config.json without a word of quantization. */
struct mlx_config {
    struct mlx_setting all; /* for modules without a word of their own */
    struct mlx_module *modules;
    size_t n_modules, room;
};

/* Reads the value of "quantization" or "quantization_config" of config.json, MLX's. Names are kept in t. EUNSUPPORTED: a mode that
 * nobody knows. */
ct_status ct_mlx_config_read(struct mlx_config *c, ct_tensors *t, ct_json *j);
void ct_mlx_config_deinit(struct mlx_config *c);

/* Pushes every quantized tensor of the list that is not vision, and marks what belongs to it as taken; an incomplete copy of a
 * tied head is marked and left out, with a note. Their bytes are made on demand: t->source and t->made are this function's. EFORMAT
 * says which tensor contradicts which, or config.json; EUNSUPPORTED names a way of quantizing that carat does not read. */
ct_status ct_mlx_push(ct_tensors *t, struct st_list *list, const struct mlx_config *c, ct_error *err);

#endif
