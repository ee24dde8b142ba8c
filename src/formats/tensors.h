/* The tensor directory: what every file format is turned into, and all that the rooms to the right know of files.
 *
 * Tensors by name with type, shape and bytes, and metadata as typed key-value pairs. Readers (gguf.c, later safetensors and
 * MLX) fill one and prove every claim of the file before anyone sees it: inside, bytes lie in the file, shapes multiply
 * without overflow, rows are whole blocks. A directory is immutable and may be shared by threads. */
#ifndef CT_FORMATS_TENSORS_H
#define CT_FORMATS_TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "quant/dtype.h"

/* A run of bytes inside the file: not NUL-terminated, any bytes at all. */
typedef struct ct_str {
    const char *data;
    size_t len;
} ct_str;

/* Value types carry GGUF's ids. */
typedef enum ct_kv_type {
    CT_KV_U8 = 0,
    CT_KV_I8,
    CT_KV_U16,
    CT_KV_I16,
    CT_KV_U32,
    CT_KV_I32,
    CT_KV_F32,
    CT_KV_BOOL,
    CT_KV_STRING,
    CT_KV_ARRAY,
    CT_KV_U64,
    CT_KV_I64,
    CT_KV_F64
} ct_kv_type;

/* Where a string of an array lies: half of what a ct_str takes, and never more than its eight bytes of length in the file. */
typedef struct ct_span {
    uint32_t at, len;
} ct_span;

typedef struct ct_kv_pair {
    ct_str key;
    ct_kv_type type;
    ct_kv_type elem_type; /* of an array */
    uint64_t count;       /* elements of an array, 1 otherwise */
    const uint8_t *data;  /* the value's bytes as in the file (of a string or array: behind its lengths) */
    size_t len;           /* of a string, 0 otherwise */
    const ct_span *spans; /* [count] of an array of strings, in data; else NULL: ct_kv_str reads them */
} ct_kv_pair;

typedef struct ct_tensor {
    ct_str name;
    const ct_dtype_info *dtype;
    int32_t n_dims; /* 1..4 */
    size_t ne[4];   /* ne[0] is contiguous (the row, "in"); unused ones are 1 */
    size_t n_elems;
    const uint8_t *data; /* bytes long; aligned only as the file aligns it. NULL where they are made: ct_tensor_bytes */
    size_t bytes;
} ct_tensor;

typedef struct ct_tensors ct_tensors;

/* How the tensors of a directory are called: "blk.0.attn_q.weight", or "model.layers.0.self_attn.q_proj.weight" (the names of Gemma 3's
 * text checkpoints on the hub, whatever stands in front of them in the files). */
typedef enum ct_naming { CT_NAMES_GGUF, CT_NAMES_HF } ct_naming;

/* Opens whatever path names: a GGUF file (or the first part of a split one), a folder of safetensors with config.json, the folder
 * of a model in Hugging Face's cache, one .safetensors file beside such a config.json, or "synthetic:SIZE[:TYPE]". Errors as below. */
ct_status ct_tensors_open(ct_tensors **out, const char *path, ct_error *err);

/* Opens a GGUF file, or all parts of a split one, given the first (NAME-00001-of-0000N.gguf). EIO/ENOTFOUND, EFORMAT (damaged or lying), EUNSUPPORTED (sound, but a type or version carat lacks). */
ct_status ct_gguf_open(ct_tensors **out, const char *path, ct_error *err);
/* The same of size bytes in the caller's memory, which must outlive the directory; name stands for a path in sentences. Parts of
 * a split model are EUNSUPPORTED: nobody knows where the others are. */
ct_status ct_gguf_open_memory(ct_tensors **out, const char *name, const void *data, size_t size, ct_error *err);
/* Makes a synthetic Gemma 3 model in memory: spec is "SIZE[:TYPE]" without the "synthetic:" prefix (sizes 270m 1b 4b 12b 27b;
 * types bf16 (default) f16 q8_0 q4_0 q4_k_m mlx4 mlx8). Same names, shapes and metadata keys as a GGUF file, no tokenizer.* keys.
 * Deterministic. EINVAL names the sizes and types that exist. */
ct_status ct_synthetic_open(ct_tensors **out, const char *spec, ct_error *err);
void ct_tensors_close(ct_tensors *t);
/* EIO if a file of the directory was changed since it was opened: what was read of it may be of no one file. */
ct_status ct_tensors_check(const ct_tensors *t, ct_error *err);

const char *ct_tensors_path(const ct_tensors *t);   /* as opened, or "synthetic:..." */
const char *ct_tensors_file(const ct_tensors *t);   /* the (first) file that holds tensors; NULL of a synthetic model */
const char *ct_tensors_format(const ct_tensors *t); /* "GGUF v3", "synthetic", ... */
ct_naming ct_tensors_naming(const ct_tensors *t);
/* Whether norm weights are stored without the 1 that is added to them: so they are in folders, not in GGUF files. */
bool ct_tensors_norms_centred(const ct_tensors *t);
/* What the reader left out or filled in, a sentence each; NULL past the last one. */
const char *ct_tensors_note(const ct_tensors *t, size_t i);
size_t ct_tensors_file_bytes(
    const ct_tensors *t); /* of all parts of a file; of a synthetic model the bytes of its tensors */
size_t ct_tensors_count(const ct_tensors *t);
const ct_tensor *ct_tensors_at(const ct_tensors *t, size_t i); /* file order; NULL past the end */
const ct_tensor *ct_tensors_find(const ct_tensors *t, const char *name);
size_t ct_tensors_kv_count(const ct_tensors *t);
const ct_kv_pair *ct_tensors_kv_at(const ct_tensors *t, size_t i);
const ct_kv_pair *ct_tensors_kv(const ct_tensors *t, const char *key); /* NULL when absent */

/* The bytes of a tensor. For a mapped file this is tensor->data; a tensor without is made on first use (NULL when out
 * of memory). Call from one thread. */
const uint8_t *ct_tensor_bytes(ct_tensors *t, const ct_tensor *tensor);
/* The bytes [off, off + bytes) of it, whole blocks, from any thread: where they lie in the file, or scratch (room for them, the
 * caller's), in which they were just made: so a large tensor never lies in memory as a whole. */
const uint8_t *ct_tensor_part(const ct_tensors *t, const ct_tensor *tensor, size_t off, size_t bytes, void *scratch);
/* The tensor's bytes will not be needed again soon: mapped pages or generated memory are given back. */
void ct_tensor_forget(ct_tensors *t, const ct_tensor *tensor);
/* The same for a run of a mapped tensor's bytes, so that a large one need not lie in memory twice while it is packed; of a
 * generated tensor nothing is given back before ct_tensor_forget. */
void ct_tensor_forget_part(ct_tensors *t, const ct_tensor *tensor, size_t off, size_t bytes);

/* Typed getters. Absent key: *v is left as it is and CT_OK returned (so callers set the default first). A value of another
 * type that cannot hold the number is EFORMAT naming the key, the type expected and the type found. u32 accepts any
 * non-negative integer type that fits, and an array of integers that are all the same (a value per layer; EUNSUPPORTED when
 * they differ); f64 accepts F32, F64 and integers. */
ct_status ct_kv_u32(const ct_tensors *t, const char *key, uint32_t *v, ct_error *err);
ct_status ct_kv_f64(const ct_tensors *t, const char *key, double *v, ct_error *err);
ct_status ct_kv_bool(const ct_tensors *t, const char *key, bool *v, ct_error *err);
ct_status ct_kv_string(const ct_tensors *t, const char *key, ct_str *v, ct_error *err);

/* String i of a value of type string (then i is 0) or of an array of strings. Borrowed from the file. */
static inline ct_str ct_kv_str(const ct_kv_pair *kv, uint64_t i)
{
    const char *data = (const char *)kv->data;
    return kv->spans ? (ct_str){data + kv->spans[i].at, kv->spans[i].len} : (ct_str){data, kv->len};
}

static inline bool ct_str_is(ct_str s, const char *z)
{
    size_t n = 0;
    while (n < s.len && z[n] != '\0' && z[n] == s.data[n])
        n++;
    return n == s.len && z[n] == '\0';
}

#endif
