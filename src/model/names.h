/* One table of Gemma 3's tensors: name in each file format, field of the model, expected shape.
 *
 * For this room and convert/. Loader, checks and calibration walk the table; nobody else spells a tensor's name. */
#ifndef CT_MODEL_NAMES_H
#define CT_MODEL_NAMES_H

#include "model/model.h"

#define CT_NAME_MAX 64

typedef struct ct_name {
    const char *gguf; /* without "blk.N." and ".weight" */
    const char *hf;   /* in folders: without "model.layers.N." and ".weight" */
    bool per_layer;   /* field is an offset into ct_layer, else into ct_gemma */
    bool optional;
    char rows, cols; /* letters of ct_name_dim; rows 1 = a vector */
    ct_weight_use use;
    size_t field;
} ct_name;

/* Rows of the table; NULL past the end. */
const ct_name *ct_name_at(size_t i);
/* The row with this GGUF name; it must be one of the table. */
const ct_name *ct_name_row(const char *gguf);
/* The whole name in a file that names its tensors so. */
void ct_name_format(const ct_name *n, ct_naming naming, int32_t layer, char out[CT_NAME_MAX]);
/* V embedding rows, D, F, d head size, q = H*d, k = K*d, 1. */
int32_t ct_name_dim(const ct_config *cfg, char letter);

/* Finds a tensor and proves its shape. *out is NULL with CT_OK for an optional one that is not there. */
ct_status ct_name_find(const ct_tensor **out, const ct_tensors *t, const ct_name *n, int32_t layer,
                       const ct_config *cfg, ct_error *err);
/* All of them; and nothing in the file that would change the result is left unread. Adds warnings for what is ignored. */
ct_status ct_names_check(ct_config *cfg, const ct_tensors *t, ct_error *err);

/* A sentence for cfg->warnings, formatted as ct_fail does; dropped when the list is full. */
#define CT_WARN(cfg, ...)                             \
    do {                                              \
        ct_error warning_;                            \
        ct_fail(&warning_, CT_OK, NULL, __VA_ARGS__); \
        ct_config_warn(cfg, &warning_);               \
    } while (0)
void ct_config_warn(ct_config *cfg, const ct_error *sentence);

#endif
