/* A folder's checkpoint on its way to a directory: its configuration, and the steps from the files to metadata and tensors. For the
 * readers of a folder only. */
#ifndef CT_FORMATS_CHECKPOINT_H
#define CT_FORMATS_CHECKPOINT_H

#include "formats/safetensors.h"

/* What config.json says of the text model: numbers by the rows of hf_config.c, each with a bit that says whether it is there. */
enum {
    HF_VOCAB,
    HF_HIDDEN,
    HF_FFN,
    HF_LAYERS,
    HF_HEADS,
    HF_KV_HEADS,
    HF_HEAD_DIM,
    HF_WINDOW,
    HF_CONTEXT,
    HF_PATTERN,
    HF_OLD_PATTERN,
    HF_INTS
};
enum { HF_EPS, HF_THETA, HF_LOCAL_THETA, HF_QUERY_SCALAR, HF_FINAL_CAP, HF_ATTENTION_CAP, HF_REALS };
enum { HF_TIED, HF_BOTH_WAYS, HF_BOOLS };
#define HF_WORD 48        /* of a string that is kept: longer ones are cut */
#define HF_MAX_LAYERS 512 /* of layer_types */
#define HF_MAX_ENDS 8

struct hf_rope {
    char type[HF_WORD]; /* "" where there is none */
    double factor;      /* 0: not said */
    double theta;       /* likewise */
};

struct hf_text {
    uint32_t ints[HF_INTS], has_ints, seen_ints; /* seen: a null, too */
    double reals[HF_REALS];
    uint32_t has_reals, seen_reals;
    bool bools[HF_BOOLS];
    uint32_t has_bools, seen_bools;
    struct hf_rope rope, local_rope; /* of global layers, and of local ones where that is said */
    bool local[HF_MAX_LAYERS];       /* layer_types */
    uint32_t n_layer_types;
    char activation[HF_WORD];
    char model_type[HF_WORD];
};

struct hf_config {
    struct hf_text text;                             /* text_config, or the top level where there is none */
    char model_type[HF_WORD], architecture[HF_WORD]; /* of the top level, the first of the list */
    char quant_method[HF_WORD];                      /* of quantization_config; "": there is none */
    ct_str quantization;                             /* MLX's object, JSON in config.json's mapping; len 0: none */
    uint32_t ends[HF_MAX_ENDS], n_ends, bos;         /* eos_token_id; bos UINT32_MAX: not said */
};

/* The files beside the shards; maps of size 0 are not there. */
struct checkpoint_text {
    ct_map config, generation, index;
    const char *config_path, *generation_path, *index_path;
};

/* Reads config.json and refuses, by name, what is not a Gemma 3 that writes text in a type that carat reads. */
ct_status ct_hf_config_read(struct hf_config *c, const char *path, const ct_map *map, ct_error *err);
/* The key of an integer in config.json, and the default of the class. */
const char *ct_hf_int_key(size_t i);
uint32_t ct_hf_int_missing(size_t i);
double ct_hf_real_missing(size_t i);
/* EUNSUPPORTED: quantized by someone else's method. */
ct_status ct_hf_refuse_method(const char *method, const char *path, ct_error *err);
/* Adds what generation_config.json says: its ends to c, its sampling to the metadata of t. */
ct_status ct_hf_generation_read(struct hf_config *c, ct_tensors *t, const char *path, const ct_map *map, ct_error *err);
/* Pushes the metadata of a Gemma 3: what config.json says, else what the shapes of t's tensors (indexed) say, else the defaults of
 * transformers' class. EFORMAT, with both values, where config and shapes contradict each other. */
ct_status ct_hf_config_put(const struct hf_config *c, ct_tensors *t, const char *path, ct_error *err);

/* The distinct files that an index names, sorted; *names and what it points to belong to t. */
ct_status ct_hf_index_files(ct_str **names, size_t *n, ct_tensors *t, const char *path, const ct_map *map,
                            ct_error *err);

/* Fills t, whose shards are mapped, from them and the text; then it still wants its tokenizer and an index. */
ct_status ct_checkpoint_read(ct_tensors *t, const struct checkpoint_text *text, ct_error *err);

/* A folder, the folder of a model in Hugging Face's cache, or one .safetensors file: see ct_tensors_open. */
ct_status ct_checkpoint_open(ct_tensors **out, const char *path, ct_error *err);
ct_status ct_safetensors_open(ct_tensors **out, const char *path, ct_error *err);

#endif
