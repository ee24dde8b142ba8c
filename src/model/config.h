/* What a Gemma 3 is: its numbers, read from a tensor directory and checked. The five sizes are rows of a table in config.c;
 * letters as in docs/MODEL.md. Knows nothing of backends. */
#ifndef CT_MODEL_CONFIG_H
#define CT_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/tensors.h"

#define CT_MAX_LAYERS 128
#define CT_MAX_WARNINGS 16

typedef struct ct_config {
    char size[8];       /* "270m", "1b", ... or "" for a shape that Google did not publish */
    int32_t layers;     /* L */
    int32_t dim;        /* D */
    int32_t heads;      /* H */
    int32_t kv_heads;   /* K */
    int32_t head_dim;   /* d: read, never derived */
    int32_t ffn;        /* F */
    int32_t vocab;      /* tokens that may be chosen; logits beyond are masked */
    int32_t embed_rows; /* rows of the embedding: >= vocab (spare rows on 4b and up) */
    int32_t window;     /* W of the local layers */
    int32_t context;    /* positions trained for */
    float eps;
    float attn_scale;                              /* d^-0.5; 27b: (D/H)^-0.5 */
    float embed_scale;                             /* sqrt(D) rounded to bf16 */
    float softcap;                                 /* of the final logits, 0 = none */
    double theta_global, theta_local, rope_factor; /* rope_factor divides the angle on global layers only */
    bool global[CT_MAX_LAYERS];
    int32_t n_warnings; /* what was filled in, ignored or repaired, a sentence each */
    char warnings[CT_MAX_WARNINGS][CT_ERROR_TEXT];
} ct_config;

/* EUNSUPPORTED for other architectures and for encoders, EFORMAT for numbers out of Gemma 3's range or that contradict the
 * tensors' shapes (both values named), ENOTFOUND for missing keys and tensors. */
ct_status ct_config_read(ct_config *cfg, const ct_tensors *t, ct_error *err);

#endif
