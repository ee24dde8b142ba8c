/* The job behind carat_convert: a tensor directory goes out again as a file or folder of another type.
 *
 * plan.c decides what becomes of each tensor, metadata.c what the file says of itself, convert.c streams blocks of rows through
 * the pool: from the mapping, through f32, into the file, so that a model of any size takes a few megabytes. */
#ifndef CT_CONVERT_CONVERT_H
#define CT_CONVERT_CONVERT_H

#include "base/pool.h"
#include "convert/imatrix.h"
#include "formats/tensors.h"

#define CT_CONVERT_NOTES 8

typedef struct ct_convert_job { /* how the job talks while it runs; every field may be 0 */
    bool (*keep_going)(void *arg);
    void (*progress)(void *arg, const char *what, double done, double total);
    void *arg;
} ct_convert_job;

typedef struct ct_convert_options {
    const char *type;             /* "q4_k_m", "bf16", "mlx4", ... */
    int32_t group;                /* of mlx types: weights per scale; 0: 64 */
    size_t shard;                 /* bytes of tensors in a file of a folder at most; 0: 5 GB */
    const ct_imatrix *importance; /* borrowed; NULL: every error costs the same */
    bool force;                   /* out may be there, and is replaced in the end: a file, never a folder */
} ct_convert_options;

typedef struct ct_conversion {
    const char *format;           /* of what was written: "GGUF", static */
    size_t bytes_in, bytes_out;   /* of the tensors that were read; of all that was written */
    size_t weights, weight_bytes; /* elements of the matrices and what they take now */
    size_t tensors;
    int32_t n_notes; /* what the user should know: a sentence each */
    char notes[CT_CONVERT_NOTES][CT_ERROR_TEXT];
} ct_conversion;

/* Writes t to out as a file or folder of a type. The calling thread and the pool's. EINVAL: no such type, or one that the form of
 * out cannot hold; EIO: out is there, is the input, or cannot be written, also for want of room; ENUMERIC: NaN or infinity in a
 * weight; EINTERRUPTED. Whatever fails leaves nothing behind, and what was there as it was. */
ct_status ct_convert(ct_tensors *t, const char *out, const ct_convert_options *opt, ct_pool *pool,
                     const ct_convert_job *job, ct_conversion *result, ct_error *err);

/* A sentence about every type there is, for who asked for another one. EINVAL. */
ct_status ct_convert_refuse_type(const char *type, ct_error *err);

#endif
