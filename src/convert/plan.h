/* What becomes of each tensor: private to this room. */
#ifndef CT_CONVERT_PLAN_H
#define CT_CONVERT_PLAN_H

#include "convert/convert.h"
#include "convert/encode.h"
#include "convert/mixture.h"
#include "formats/output.h"
#include "model/config.h"

/* The form that type and name of the output ask for. */
enum form { FORM_GGUF, FORM_FOLDER };

struct target {
    enum form form;
    const ct_mixture *mixture;    /* of a GGUF file; of a folder of plain floats its type */
    const ct_dtype_info *grouped; /* MLX's type of the matrices; NULL in the other forms */
};

/* EINVAL: no such type, or OUT's name is one of another form. */
ct_status ct_target_of(struct target *g, const char *out, const ct_convert_options *opt, ct_error *err);

struct plan_item {
    const ct_tensor *src;
    float add;               /* to every element: the 1 that norms have in GGUF alone */
    const ct_encoder *how;   /* NULL: the bytes as they are */
    const float *importance; /* [ne[0]] or NULL */
};

struct plan {
    struct target target;
    ct_config cfg;
    bool tied; /* the embedding is the head */
    const ct_imatrix *importance;
    size_t embed_rows;       /* of the embedding, as it is written */
    struct plan_item *items; /* [n] */
    ct_out_tensor *out;      /* [n] */
    size_t n, room;
};

/* Reads t's configuration and fills *p. ct_plan_free in any case. Errors as of ct_config_read; EUNSUPPORTED for a type that carat does
 * not write. */
ct_status ct_plan_make(struct plan *p, const ct_tensors *t, const struct target *g, const ct_imatrix *importance,
                       ct_conversion *result, ct_error *err);
void ct_plan_free(struct plan *p);

/* Everything of a folder but the weights, into the folder that is being made. t is what was read. */
ct_status ct_folder_write(const char *folder, const ct_tensors *t, const struct plan *p, ct_conversion *result,
                          ct_error *err);

/* The keys of a GGUF file: those of t, cut and changed where they speak of types and sizes. kv borrows of t and of itself. */
struct metadata {
    ct_kv_pair *kv; /* [n] */
    size_t n;
    uint8_t file_type[4], version[4]; /* values that kv points to */
};
ct_status ct_metadata_make(struct metadata *m, const ct_tensors *t, const struct plan *p, ct_error *err);
void ct_metadata_free(struct metadata *m);

/* Remembers a sentence for the user; dropped when there are too many. */
void ct_conversion_note(ct_conversion *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
