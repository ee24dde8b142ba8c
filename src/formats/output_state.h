/* The inside of an output, for the writers of this room only; everyone else has output.h. */
#ifndef CT_FORMATS_OUTPUT_STATE_H
#define CT_FORMATS_OUTPUT_STATE_H

#include "formats/output.h"

/* Where a tensor goes: one run of bytes in a file, or, split into what its blocks are made of, three. */
struct out_place {
    uint32_t file;
    uint32_t scale_bytes, quant_bytes; /* of a block; scale_bytes 0: one run */
    uint64_t at, scales, biases;       /* offsets in the file */
};

struct ct_output {
    ct_folder *folder; /* NULL: a single file */
    ct_writer **files; /* [n_files] */
    size_t n_files, n_tensors, bytes;
    struct out_place *places; /* [n_tensors] */
    const ct_out_tensor *tensors;
};

/* Room for all of it; the writers open the files. NULL when out of memory. */
ct_output *ct_output_new(const ct_out_tensor *tensors, size_t n_tensors, size_t n_files);

#endif
