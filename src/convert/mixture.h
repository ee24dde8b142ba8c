/* Which type each tensor gets where a file's type is the name of a mixture: llama.cpp's own choice, tensor by tensor. */
#ifndef CT_CONVERT_MIXTURE_H
#define CT_CONVERT_MIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/dtype.h"

/* What a rule asks before it takes its first type and not its second. */
enum mixture_when {
    WHEN_NEVER,
    WHEN_ALWAYS,
    WHEN_MORE_BITS,        /* the first and the last eighth of the layers, and every third between */
    WHEN_FIRST_TWO,        /* layers */
    WHEN_FIRST_FOUR,       /* layers */
    WHEN_SIXTEENTH,        /* the first sixteenth of the layers */
    WHEN_EIGHTH,           /* the first eighth of the layers */
    WHEN_EIGHTH_PLAIN,     /* likewise, and there is no importance matrix */
    WHEN_EIGHTH_IMPORTANT, /* likewise, and there is one */
    WHEN_FOUR_QUERIES      /* four or more query heads share a key-value head */
};

struct mixture_rule {
    enum mixture_when when;
    ct_dtype then, otherwise;
};

typedef struct ct_mixture {
    const char *name;   /* lower case, as users type it: "q4_k_m" */
    ct_dtype base;      /* of every matrix without a rule */
    uint32_t file_type; /* what GGUF calls it in general.file_type */
    struct mixture_rule v, down, o;
} ct_mixture;

/* What of the model and the job a choice depends on. */
typedef struct ct_mixture_model {
    int32_t layers, heads, kv_heads;
    bool tied;       /* the embedding is the head */
    bool importance; /* there is an importance matrix */
} ct_mixture_model;

/* By name, in any case; "q4_k" and the like are the M of their kind, as llama.cpp has it. NULL: no such mixture. */
const ct_mixture *ct_mixture_find(const char *name);
/* Rows of the table in order; NULL past the end. */
const ct_mixture *ct_mixture_at(size_t i);

/* The type of a matrix, by its name in GGUF without "blk.N." and ".weight", its layer, and the length of its rows: rows that are no
 * whole blocks fall back to a type with smaller ones. */
const ct_dtype_info *ct_mixture_type(const ct_mixture *m, const ct_mixture_model *model, const char *name,
                                     int32_t layer, size_t row);

#endif
