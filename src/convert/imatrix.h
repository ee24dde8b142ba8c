/* The importance matrix: for every linear layer the mean square of each of its inputs over a text. An error in column j of a matrix
 * costs in proportion to it; encoders weigh with it (encode.h).
 *
 * calibrate.c collects one, imatrix.c reads and writes llama.cpp's two kinds of files. Entries are named as GGUF names tensors,
 * whatever the model's files call them. */
#ifndef CT_CONVERT_IMATRIX_H
#define CT_CONVERT_IMATRIX_H

#include "model/model.h"
#include "model/names.h"

typedef struct ct_imatrix_entry {
    char name[CT_NAME_MAX]; /* "blk.0.attn_q.weight" */
    size_t cols;
    float *mean;   /* [cols] mean square; finite, not negative */
    uint64_t rows; /* that the mean was taken over; of a legacy file the number of chunks */
} ct_imatrix_entry;

typedef struct ct_imatrix {
    ct_imatrix_entry *entries; /* [n] */
    size_t n;
    uint32_t chunks, chunk_size; /* of the text, in tokens; chunk_size 0: unknown */
    char text[256];              /* what it was collected over, for people; may be empty */
} ct_imatrix;

/* Reads a file of either kind. ENOTFOUND, EIO, EFORMAT (damaged, or no importance matrix), EUNSUPPORTED (several matrices to a name, as
 * mixtures of experts have), ENUMERIC (NaN, infinity, a negative square), ENOMEM. */
ct_status ct_imatrix_read(ct_imatrix **out, const char *path, ct_error *err);
/* The same of size bytes in memory, which are not needed afterwards; name stands for a path in sentences. */
ct_status ct_imatrix_read_memory(ct_imatrix **out, const char *name, const void *data, size_t size, ct_error *err);
/* Writes a GGUF file if path ends in ".gguf", the older binary form otherwise; by way of a temporary name. */
ct_status ct_imatrix_write(const ct_imatrix *im, const char *path, ct_error *err);
void ct_imatrix_free(ct_imatrix *im); /* NULL is fine */
/* [cols] of a tensor by its GGUF name, borrowed; NULL if there is none of that width. */
const float *ct_imatrix_find(const ct_imatrix *im, const char *name, size_t cols);

/* Room for n entries, all zero. NULL when out of memory. */
ct_imatrix *ct_imatrix_new(size_t n);
bool ct_imatrix_set(ct_imatrix_entry *e, const char *name, size_t name_len, size_t cols);

typedef struct ct_calibration { /* how it goes on; every field may be 0 */
    bool (*keep_going)(void *arg);
    void (*progress)(void *arg, double done, double total); /* in tokens */
    void *arg;
} ct_calibration;

/* Runs the model over ids[n] in chunks of `chunk` tokens, each beginning with bos in place of its first id, and collects. Takes the
 * exact path. The sums have one order: the same for any number of threads. EINVAL for fewer ids than a chunk, EUNSUPPORTED for a
 * backend whose memory the CPU cannot read, ENUMERIC if an input is NaN or infinite, ENOMEM, EINTERRUPTED. */
ct_status ct_calibrate(ct_imatrix **out, const ct_gemma *m, ct_pool *pool, const int32_t *ids, size_t n, int32_t chunk,
                       int32_t bos, const ct_calibration *how, ct_error *err);

#endif
