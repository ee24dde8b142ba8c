/* The safetensors writer: a folder with one file, or with several of at most 5 GB and the index of them. Types of blocks that MLX
 * has go out as the three tensors it knows them by. What else such a folder needs is written beside it by convert/. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "formats/output_state.h"
#include "formats/stream.h"

#define SHARD_BYTES 5000000000u /* what transformers takes for a file unless told otherwise */
#define PATH_ROOM 4096

static const char *type_name(ct_dtype type)
{
    return type == CT_F32 ? "F32" : type == CT_F16 ? "F16" : type == CT_BF16 ? "BF16" : NULL;
}

/* Which file each tensor is in; returns how many files that makes. */
static size_t deal(ct_output *o, size_t shard)
{
    uint64_t used = 0;
    uint32_t file = 0;
    for (size_t i = 0; i < o->n_tensors; i++) {
        if (used > 0 && used + o->tensors[i].bytes > shard) {
            file++;
            used = 0;
        }
        o->places[i].file = file;
        used += o->tensors[i].bytes;
    }
    return (size_t)file + 1;
}

static bool file_name(char out[PATH_ROOM], const char *folder, size_t file, size_t n_files)
{
    int n = n_files == 1 ? snprintf(out, PATH_ROOM, "%s/model.safetensors", folder)
                         : snprintf(out, PATH_ROOM, "%s/model-%05zu-of-%05zu.safetensors", folder, file + 1, n_files);
    return n > 0 && n < PATH_ROOM;
}

/* One tensor of the header, [begin, begin + bytes) behind it. ending: of the name, in place of ".weight". */
static void describe(ct_stream *s, const ct_out_tensor *x, const char *ending, const char *type, size_t cols,
                     uint64_t begin, uint64_t bytes)
{
    size_t n = strlen(x->name), stem = n > 7 && strcmp(x->name + n - 7, ".weight") == 0 ? n - 7 : n;
    ct_stream_format(s, ",\"%.*s%s\":{\"dtype\":\"%s\",\"shape\":[", (int)stem, x->name, stem < n ? ending : "", type);
    for (int32_t d = x->n_dims - 1; d > 0; d--)
        ct_stream_format(s, "%zu,", x->ne[d]);
    ct_stream_format(s, "%zu],\"data_offsets\":[%llu,%llu]}", cols, (unsigned long long)begin,
                     (unsigned long long)(begin + bytes));
}

/* Places of tensor i from `begin` on, relative to the end of the header; returns the end. */
static uint64_t place(ct_output *o, size_t i, ct_stream *s, uint64_t begin)
{
    const ct_out_tensor *x = &o->tensors[i];
    struct out_place *p = &o->places[i];
    ct_mlx m;
    p->at = begin;
    if (!ct_mlx_of(x->dtype, &m)) {
        describe(s, x, ".weight", type_name(x->dtype->type), x->ne[0], begin, x->bytes);
        return begin + x->bytes;
    }
    const char *type = type_name(m.scales);
    size_t groups = x->bytes / (size_t)x->dtype->block_bytes, per_row = x->ne[0] / (size_t)m.group;
    p->scale_bytes = m.scales == CT_F32 ? 4 : 2;
    p->quant_bytes = (uint32_t)x->dtype->block_bytes - 2 * p->scale_bytes;
    p->scales = begin + groups * p->quant_bytes;
    p->biases = p->scales + groups * p->scale_bytes;
    describe(s, x, ".weight", "U32", x->ne[0] * (size_t)m.bits / 32, begin, p->scales - begin);
    describe(s, x, ".scales", type, per_row, p->scales, p->biases - p->scales);
    describe(s, x, ".biases", type, per_row, p->biases, begin + x->bytes - p->biases);
    return begin + x->bytes;
}

/* The header of one file: its length stands in front of it, and is known behind it. */
static ct_status put_header(ct_output *o, size_t file, const char *format, ct_error *err)
{
    ct_stream s;
    uint64_t end = 0;
    uint8_t length[8];
    ct_stream_begin(&s, o->files[file], err);
    ct_stream_u64(&s, 0);
    ct_stream_format(&s, "{\"__metadata__\":{\"format\":\"%s\"}", format);
    for (size_t i = 0; i < o->n_tensors; i++)
        if (o->places[i].file == file)
            end = place(o, i, &s, end);
    ct_stream_text(&s, "}");
    while (s.total % 8 != 0)
        ct_stream_text(&s, " ");
    for (size_t i = 0; i < o->n_tensors; i++)
        if (o->places[i].file == file) {
            o->places[i].at += s.total;
            o->places[i].scales += s.total;
            o->places[i].biases += s.total;
        }
    o->bytes += (size_t)(s.total + end);
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((s.total - 8) >> 8 * i);
    ct_status st = ct_stream_end(&s);
    return st == CT_OK ? ct_writer_put_at(o->files[file], 0, length, 8, err) : st;
}

/* Which file has which tensor, for who opens several. */
static ct_status put_index(ct_output *o, ct_error *err)
{
    static const char *const endings[] = {".weight", ".scales", ".biases"};
    char path[PATH_ROOM], shard[PATH_ROOM];
    ct_writer *w = NULL;
    ct_stream s;
    size_t total = 0;
    if (snprintf(path, sizeof path, "%s/model.safetensors.index.json", ct_folder_path(o->folder)) >= (int)sizeof path)
        return ct_fail(err, CT_EINVAL, NULL, "the folder's path is longer than %d bytes", PATH_ROOM);
    ct_status st = ct_writer_open(&w, path, err);
    if (st != CT_OK)
        return st;
    for (size_t i = 0; i < o->n_tensors; i++)
        total += o->tensors[i].bytes;
    ct_stream_begin(&s, w, err);
    ct_stream_format(&s, "{\n  \"metadata\": {\n    \"total_size\": %zu\n  },\n  \"weight_map\": {", total);
    for (size_t i = 0; i < o->n_tensors; i++) {
        const char *name = o->tensors[i].name;
        size_t n = strlen(name), stem = n > 7 ? n - 7 : n;
        file_name(shard, "", o->places[i].file, o->n_files);
        for (size_t k = 0; k < (o->places[i].scale_bytes > 0 ? 3u : 1u); k++)
            ct_stream_format(&s, "%s\n    \"%.*s%s\": \"%s\"", i + k > 0 ? "," : "", (int)stem, name, endings[k],
                             shard + 1);
    }
    ct_stream_text(&s, "\n  }\n}\n");
    st = ct_stream_end(&s);
    if (st == CT_OK)
        return ct_writer_commit(w, err);
    ct_writer_abandon(w);
    return st;
}

ct_status ct_safetensors_create(ct_output **out, const char *path, const char *format, size_t shard,
                                const ct_out_tensor *tensors, size_t n_tensors, ct_error *err)
{
    char name[PATH_ROOM];
    *out = NULL;
    ct_output *o = ct_output_new(tensors, n_tensors, n_tensors > 0 ? n_tensors : 1);
    if (o == NULL)
        return ct_fail(err, CT_ENOMEM, path, "out of memory while writing '%s'", path);
    o->n_files = deal(o, shard ? shard : SHARD_BYTES);
    ct_status st = ct_folder_open(&o->folder, path, err);
    for (size_t i = 0; i < o->n_files && st == CT_OK; i++) {
        if (!file_name(name, ct_folder_path(o->folder), i, o->n_files))
            st = ct_fail(err, CT_EINVAL, path, "the folder's path is longer than %d bytes", PATH_ROOM);
        else if ((st = ct_writer_open(&o->files[i], name, err)) == CT_OK)
            st = put_header(o, i, format, err);
    }
    if (st == CT_OK && o->n_files > 1)
        st = put_index(o, err);
    if (st == CT_OK)
        *out = o;
    else
        ct_output_abandon(o);
    return st;
}

const char *ct_output_folder(const ct_output *o) { return o->folder ? ct_folder_path(o->folder) : NULL; }
