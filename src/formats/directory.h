/* The inside of a tensor directory, for the readers of this room only; everyone else has tensors.h.
 *
 * A reader allocates one with ct_tensors_new, pushes metadata and tensors, calls ct_tensors_index, and hands it out.
 * Duplicate names are found by sorting, which no choice of names makes slow. */
#ifndef CT_FORMATS_DIRECTORY_H
#define CT_FORMATS_DIRECTORY_H

#include "base/file.h"
#include "formats/tensors.h"

/* What a directory may hold at most. Gemma 3 27B has 808 tensors, its vision tower 440 more, and some forty keys; with these
 * limits, whatever a file claims, a directory takes no more memory than half the file and CT_DIRECTORY_BYTES. */
#define CT_MAX_KEYS 65536
#define CT_MAX_TENSORS 65536
#define CT_DIRECTORY_BYTES ((size_t)16 << 20)

/* What a directory without a file behind it does for its bytes; all NULL for a mapped file. */
struct tensors_source {
    const uint8_t *(*bytes)(ct_tensors *t, size_t index);
    /* Makes a run of whole blocks of a tensor without data, from any thread, as ct_tensor_part says. */
    void (*part)(const ct_tensors *t, size_t index, size_t off, size_t bytes, void *dst);
    void (*forget)(ct_tensors *t, size_t index);
    void (*close)(ct_tensors *t);
};

/* One more file behind a directory: a later part of a split GGUF, a shard of a folder. */
struct tensors_part {
    ct_map map;
    char *path;
};

#define CT_MAX_NOTES 8

struct ct_tensors {
    char *path;
    const char *format;
    size_t file_bytes;
    ct_map map;                /* of the file, or of the first part; of a folder none */
    struct tensors_part *more; /* [n_more] */
    size_t n_more;
    ct_naming naming;
    bool norms_centred;
    size_t n_notes;
    char notes[CT_MAX_NOTES][CT_ERROR_TEXT];
    ct_tensor *tensors;
    size_t n_tensors, room_tensors;
    ct_kv_pair *kv;
    size_t n_kv, room_kv;
    uint32_t *tensors_by_name, *kv_by_name; /* [n_tensors], [n_kv]: indices in order of the names */
    struct tensors_source source;
    void *made;                        /* belongs to source */
    struct tensors_block *made_values; /* of ct_tensors_alloc */
};

/* Each is NULL or false when out of memory. A pushed entry is zeroed; pointers to entries last until the next push. */
ct_tensors *ct_tensors_new(const char *path, const char *format);
ct_tensor *ct_tensors_push(ct_tensors *t);
ct_kv_pair *ct_kv_push(ct_tensors *t);

/* Zeroed memory, aligned for anything, that lasts as long as the directory: for values that no mapped file holds as they are wanted. */
void *ct_tensors_alloc(ct_tensors *t, size_t bytes);
/* Push a key with a value, both copied. False when out of memory. */
bool ct_kv_put_u32(ct_tensors *t, const char *key, uint32_t v);
bool ct_kv_put_f32(ct_tensors *t, const char *key, float v);
bool ct_kv_put_bool(ct_tensors *t, const char *key, bool v);
bool ct_kv_put_string(ct_tensors *t, const char *key, const char *v, size_t n);
/* Whether a key was pushed; before ct_tensors_index, when ct_tensors_kv cannot say. */
bool ct_kv_pushed(const ct_tensors *t, const char *key);
/* A sentence for the user, see ct_tensors_note; dropped when there are CT_MAX_NOTES. */
void ct_tensors_add_note(ct_tensors *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts a mapping behind those of a directory, which owns it from then on. False when out of memory: then it is still the caller's. */
bool ct_tensors_add_map(ct_tensors *t, ct_map map, const char *path);

/* Sorts the indices 0..n-1, n log n comparisons whatever they stand for; less: whether a stands before b (order.c). */
typedef bool ct_less_fn(const void *arg, uint32_t a, uint32_t b);
void ct_sort(uint32_t *order, size_t n, ct_less_fn *less, const void *arg);
int ct_str_compare(ct_str a, ct_str b);

/* One GGUF file, and nothing of the others where it is a part of a split model. The map goes to the directory, or is closed. */
ct_status ct_gguf_read(ct_tensors **out, const char *path, ct_map map, ct_error *err);

/* Makes the look-ups, after the last push. EFORMAT names a key or tensor that occurs twice. */
ct_status ct_tensors_index(ct_tensors *t, ct_error *err);

/* Bytes of one element of a fixed-size value type; 0 for strings and arrays. Its name for sentences. */
size_t ct_kv_type_bytes(ct_kv_type type);
const char *ct_kv_type_name(ct_kv_type type);

/* A string of a file made fit for a sentence: cut at 40 bytes, everything but printable ASCII replaced. Returns out. */
#define CT_QUOTE 44
const char *ct_quote(char out[CT_QUOTE], ct_str s);
/* The last 80 bytes of a path: a sentence has 240. */
const char *ct_path_tail(const char *path);

/* What the first bytes of a file say it is, as a sentence goes on ("a safetensors file"); NULL when they say nothing. */
const char *ct_sniff(const uint8_t *data, size_t size);

#endif
