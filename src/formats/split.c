/* Split GGUF files: NAME-00001-of-0000N.gguf and the N - 1 files beside it become one tensor directory.
 *
 * The first part has the metadata, and may have no tensors; every part is a whole GGUF file whose
 * split.no and split.count say which of how many it is. So each is read and proved by the reader (gguf.c), and here their
 * tensors are put in one row, each still pointing into the mapping of its own part. Metadata of later parts is not kept. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "formats/directory.h"

#define MAX_PARTS 65535 /* split.count has 16 bits */
#define ENDING 32       /* room for "-00001-of-00003.gguf" */

struct split {
    uint32_t no, count; /* no counts from 0 */
    uint32_t tensors;   /* of all parts; UINT32_MAX when the file does not say */
};

static const char *ending(char out[ENDING], uint32_t no, uint32_t count)
{
    snprintf(out, ENDING, "-%05u-of-%05u.gguf", no + 1, count);
    return out;
}

static ct_status read_split(const ct_tensors *t, struct split *s, ct_error *err)
{
    *s = (struct split){.no = 0, .count = 0, .tensors = UINT32_MAX};
    ct_status st = ct_kv_u32(t, "split.no", &s->no, err);
    if (st == CT_OK)
        st = ct_kv_u32(t, "split.count", &s->count, err);
    if (st == CT_OK)
        st = ct_kv_u32(t, "split.tensors.count", &s->tensors, err);
    if (st != CT_OK)
        return st;
    if (s->count > MAX_PARTS || (s->count > 1 && s->no >= s->count))
        return ct_fail(err, CT_EFORMAT, t->path,
                       "'%s' is damaged: expected a part of at most %d (split.no, split.count), found that it claims "
                       "to be part %llu of %u",
                       ct_path_tail(t->path), MAX_PARTS, (unsigned long long)s->no + 1, s->count);
    return CT_OK;
}

/* The path of part `no`, given that of the first; NULL when out of memory. The endings are equally long. */
static char *part_path(const char *first, uint32_t no, uint32_t count)
{
    char end[ENDING], *path = ct_strdup(first);
    ending(end, no, count);
    if (path)
        memcpy(path + strlen(path) - strlen(end), end, strlen(end));
    return path;
}

static ct_status out_of_memory(const ct_tensors *t, ct_error *err)
{
    return ct_fail(err, CT_ENOMEM, t->path, "out of memory for the parts of '%s'", ct_path_tail(t->path));
}

static ct_status map_and_read(ct_tensors **out, const char *path, ct_error *err)
{
    ct_map map;
    ct_status st = ct_map_open(&map, path, err);
    return st != CT_OK ? st : ct_gguf_read(out, path, map, err);
}

/* Moves tensors and mapping of a part behind those of t. */
static ct_status join(ct_tensors *t, ct_tensors *part, ct_error *err)
{
    if (part->n_tensors > CT_MAX_TENSORS - t->n_tensors)
        return ct_fail(err, CT_EUNSUPPORTED, part->path,
                       "'%s': expected at most %d tensors in all parts, found more: not a Gemma 3",
                       ct_path_tail(part->path), CT_MAX_TENSORS);
    for (size_t i = 0; i < part->n_tensors; i++) {
        ct_tensor *x = ct_tensors_push(t);
        if (x == NULL)
            return out_of_memory(t, err);
        *x = part->tensors[i];
    }
    if (!ct_tensors_add_map(t, part->map, part->path))
        return out_of_memory(t, err); /* until here, the part closes it */
    part->map = (ct_map){0};
    t->file_bytes += part->file_bytes;
    return CT_OK;
}

static ct_status add_part(ct_tensors *t, uint32_t no, const struct split *s, ct_error *err)
{
    char end[ENDING];
    ct_tensors *part = NULL;
    struct split found;
    char *path = part_path(t->path, no, s->count);
    ct_status st = CT_OK;
    if (path == NULL)
        return out_of_memory(t, err);
    if (!ct_is_file(path)) {
        st = ct_fail(err, CT_ENOTFOUND, path,
                     "'%s' is the first of %u parts; expected part %u beside it, a file ending in %s, and found none: "
                     "download all parts",
                     ct_path_tail(t->path), s->count, no + 1, ending(end, no, s->count));
        goto done;
    }
    if ((st = map_and_read(&part, path, err)) != CT_OK || (st = read_split(part, &found, err)) != CT_OK)
        goto done;
    if (found.no != no || found.count != s->count) {
        st = ct_fail(
            err, CT_EFORMAT, path,
            "expected part %u of %u by the name of '%s', found that it is part %u of %u: parts of different models?",
            no + 1, s->count, ct_path_tail(path), found.no + 1, found.count);
        goto done;
    }
    st = join(t, part, err);
done:
    ct_tensors_close(part);
    ct_free(path);
    return st;
}

/* May t be opened as what its name and its keys say it is? */
static ct_status check_first(const ct_tensors *t, const struct split *s, ct_error *err)
{
    char end[ENDING], first[ENDING];
    size_t n = strlen(ending(end, s->no, s->count)), length = strlen(t->path);
    bool named = length >= n && strcmp(t->path + length - n, end) == 0;
    ending(first, 0, s->count);
    if (s->no > 0)
        return ct_fail(err, CT_EUNSUPPORTED, t->path,
                       "expected the first part of a split model, found '%s', part %u of %u: name the file ending in "
                       "%s, and all of "
                       "them are read",
                       ct_path_tail(t->path), s->no + 1, s->count, first);
    if (!named)
        return ct_fail(err, CT_EUNSUPPORTED, t->path,
                       "'%s' is the first of %u parts of a split model: expected a name ending in %s, by which the "
                       "others are found; rename the parts",
                       ct_path_tail(t->path), s->count, first);
    return CT_OK;
}

ct_status ct_gguf_open_memory(ct_tensors **out, const char *name, const void *data, size_t size, ct_error *err)
{
    *out = NULL;
    ct_tensors *t = NULL;
    struct split s;
    ct_status st = ct_gguf_read(&t, name, ct_map_borrow(data, size), err);
    if (st == CT_OK && (st = read_split(t, &s, err)) == CT_OK && s.count > 1)
        st = ct_fail(err, CT_EUNSUPPORTED, name,
                     "expected a whole model in memory, found part %u of %u: open the files instead", s.no + 1,
                     s.count);
    if (st == CT_OK) {
        *out = t;
        t = NULL;
    }
    ct_tensors_close(t);
    return st;
}

ct_status ct_gguf_open(ct_tensors **out, const char *path, ct_error *err)
{
    *out = NULL;
    ct_tensors *t = NULL;
    struct split s;
    ct_status st = map_and_read(&t, path, err);
    if (st != CT_OK || (st = read_split(t, &s, err)) != CT_OK)
        goto done;
    if (s.count > 1) {
        if ((st = check_first(t, &s, err)) != CT_OK)
            goto done;
        for (uint32_t i = 1; i < s.count; i++)
            if ((st = add_part(t, i, &s, err)) != CT_OK)
                goto done;
        if (s.tensors != UINT32_MAX && s.tensors != t->n_tensors) {
            st = ct_fail(err, CT_EFORMAT, path,
                         "'%s' is damaged: expected %u tensors in its %u parts (split.tensors.count), found %zu",
                         ct_path_tail(path), s.tensors, s.count, t->n_tensors);
            goto done;
        }
        if ((st = ct_tensors_index(t, err)) != CT_OK)
            goto done;
    }
    *out = t;
    t = NULL;
done:
    ct_tensors_close(t);
    return st;
}
