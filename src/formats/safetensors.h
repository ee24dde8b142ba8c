/* What lies in the files of a folder, before it becomes a directory: every tensor of every shard, proved to lie where it says.
 *
 * For the readers of a folder only: safetensors.c fills the list, mlx.c makes one tensor of what belongs together, folder.c pushes
 * the rest. */
#ifndef CT_FORMATS_SAFETENSORS_H
#define CT_FORMATS_SAFETENSORS_H

#include "formats/directory.h"

/* As they are called in the headers; safetensors.c has a row for each. */
typedef enum st_type {
    ST_BOOL,
    ST_U8,
    ST_I8,
    ST_F4,
    ST_F6_E2M3,
    ST_F6_E3M2,
    ST_F8_E4M3,
    ST_F8_E5M2,
    ST_F8_E8M0,
    ST_F8_E4M3FNUZ,
    ST_F8_E5M2FNUZ,
    ST_I16,
    ST_U16,
    ST_F16,
    ST_BF16,
    ST_I32,
    ST_U32,
    ST_F32,
    ST_I64,
    ST_U64,
    ST_F64,
    ST_C64,
    ST_N_TYPES
} st_type;

struct st_tensor {
    ct_str name; /* as ct_tensors_naming says where it is text's; lives as long as the directory */
    st_type type;
    int32_t n_dims;      /* 0..4; more only of what is skipped */
    size_t shape[4];     /* as in the file, outermost first; unused ones are 1 */
    size_t n_elems;      /* may be 0 */
    const uint8_t *data; /* in the shard's mapping, at any address */
    size_t bytes;
    uint32_t shard; /* index in the directory's more */
    bool vision;    /* of the vision tower or the projector: skipped */
    bool taken;     /* pushed by now, or a part of what was: mlx.c says so */
};

struct st_list {
    struct st_tensor *at;
    size_t n, room;
    uint32_t *by_name; /* [n] indices in order of the names, once all shards are read */
};

/* Reads the header of a shard, which is t->more[shard], checks all of it, and appends its tensors to the list; names are kept in t. */
ct_status ct_safetensors_read(struct st_list *list, ct_tensors *t, size_t shard, ct_error *err);
/* Makes by_name. EFORMAT when a tensor is there twice, in one shard or in two. */
ct_status ct_st_index(struct st_list *list, const ct_tensors *t, ct_error *err);
/* NULL when there is none. */
struct st_tensor *ct_st_find(const struct st_list *list, ct_str name);
/* The name of a tensor of a file in a directory's naming; out has room for CT_ST_NAME_EXTRA bytes more than the name. */
#define CT_ST_NAME_EXTRA 6
ct_str ct_st_canonical(char *out, const char *name, size_t n, bool *vision);
/* Whether the first bytes look like a safetensors file of this size. */
bool ct_safetensors_looks(const uint8_t *data, size_t size);
const char *ct_st_type_name(st_type type);

/* Appends a tensor whose bytes are of one of the dtype table's float types and lie in the file. */
ct_status ct_st_push(ct_tensors *t, const struct st_tensor *x, ct_error *err);

#endif
