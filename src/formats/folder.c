/* Which files of a folder make a model: the shards that an index names, or those that are there, config.json and its like; and where
 * the folder of a model lies in Hugging Face's cache. What is in the files is checkpoint.c's. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "formats/checkpoint.h"
#include "formats/tokenizer.h"

#define INDEX "model.safetensors.index.json"
#define TEXT_MAX ((size_t)64 << 20) /* of config.json and the like; an index of 65536 tensors has 8 MB */

static ct_status out_of_memory(const char *path, ct_error *err)
{
    return ct_fail(err, CT_ENOMEM, path, "out of memory while opening '%s'", ct_path_tail(path));
}

/* folder/name, for ct_free; NULL when out of memory. */
static char *join(const char *folder, ct_str name)
{
    size_t n = strlen(folder), room = n + name.len + 2;
    char *path = ct_alloc(room);
    if (path)
        snprintf(path, room, "%s%s%.*s", folder, n > 0 && folder[n - 1] == '/' ? "" : "/", (int)name.len, name.data);
    return path;
}

static char *join_z(const char *folder, const char *name) { return join(folder, (ct_str){name, strlen(name)}); }

/* ---- Hugging Face's cache ------------------------------------------------------------------------------------------ */

/* One name of a folder: what a listing is for. */
struct one {
    char name[256];
    size_t n;
};

static bool see_folder(void *arg, const char *name)
{
    struct one *o = arg;
    if (name[0] != '.' && strlen(name) < sizeof o->name && o->n++ == 0)
        memcpy(o->name, name, strlen(name) + 1);
    return true;
}

/* The commit that refs/main names, or the only one that is there. */
static ct_status read_commit(char commit[256], const char *cache, const char *snapshots, ct_error *err)
{
    ct_status st = CT_OK;
    char *data = NULL, *ref = join_z(cache, "refs/main");
    size_t size = 0, n = 0;
    struct one only = {.n = 0};
    if (ref == NULL)
        return out_of_memory(cache, err);
    if (ct_is_file(ref)) {
        if ((st = ct_file_read(&data, &size, ref, err)) != CT_OK)
            goto done;
        while (n < size && n < 255 && ((data[n] >= '0' && data[n] <= '9') || (data[n] >= 'a' && data[n] <= 'z')))
            n++;
        memcpy(commit, data, n);
        commit[n] = '\0';
        if (n == 0)
            st = ct_fail(err, CT_EFORMAT, ref,
                         "expected a commit in '%s', found something else: download the model again",
                         ct_path_tail(ref));
        goto done;
    }
    if ((st = ct_list_folder(snapshots, see_folder, &only, err)) != CT_OK)
        goto done;
    if (only.n == 1)
        memcpy(commit, only.name, sizeof only.name);
    else
        st = ct_fail(err, CT_ENOTFOUND, cache,
                     "expected refs/main or one snapshot in '%s', found %zu: name the folder of a snapshot",
                     ct_path_tail(cache), only.n);
done:
    ct_free(ref);
    ct_free(data);
    return st;
}

/* *out is the folder of the files: path itself, or a snapshot if path is a model's folder in a cache. For ct_free. */
static ct_status find_folder(char **out, const char *path, ct_error *err)
{
    char commit[256];
    ct_status st = CT_OK;
    *out = NULL;
    char *snapshots = join_z(path, "snapshots"), *config = join_z(path, "config.json");
    if (snapshots == NULL || config == NULL) {
        st = out_of_memory(path, err);
        goto done;
    }
    if (ct_is_file(config) || !ct_is_folder(snapshots)) {
        *out = ct_strdup(path);
    } else {
        if ((st = read_commit(commit, path, snapshots, err)) != CT_OK)
            goto done;
        *out = join_z(snapshots, commit);
        if (*out && !ct_is_folder(*out)) {
            st = ct_fail(err, CT_ENOTFOUND, path,
                         "expected the snapshot '%s' in '%s', found none: download the model again", commit,
                         ct_path_tail(path));
            ct_free(*out);
            *out = NULL;
            goto done;
        }
    }
    if (*out == NULL)
        st = out_of_memory(path, err);
done:
    ct_free(snapshots);
    ct_free(config);
    return st;
}

/* ---- the files of a folder ----------------------------------------------------------------------------------------- */

static bool begins(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), m = strlen(with);
    return n >= m && strcmp(s + n - m, with) == 0;
}

/* Names of shards, and what else may explain that there are none. */
struct listing {
    ct_tensors *t;
    ct_str *names; /* [n], in t */
    size_t n, room;
    bool whole;        /* model.safetensors is among them */
    bool short_memory; /* ends the walk */
    char gguf[256], other[256];
};

static bool see_file(void *arg, const char *name)
{
    struct listing *l = arg;
    size_t n = strlen(name);
    char *to = ends(name, ".gguf") ? l->gguf : ends(name, ".bin") || ends(name, ".pth") ? l->other : NULL;
    if (to && n < 256)
        memcpy(to, name, n + 1);
    if (!ends(name, ".safetensors") || name[0] == '.' || begins(name, "consolidated") || begins(name, "adapter"))
        return true;
    if (l->n == l->room) {
        l->room = l->room ? l->room * 2 : 16;
        ct_str *more = ct_tensors_alloc(l->t, l->room * sizeof *more);
        if (more && l->n > 0)
            memcpy(more, l->names, l->n * sizeof *more);
        l->names = more;
    }
    char *copy = ct_tensors_alloc(l->t, n);
    l->short_memory = copy == NULL || l->names == NULL;
    if (l->short_memory)
        return false;
    memcpy(copy, name, n);
    l->names[l->n++] = (ct_str){copy, n};
    l->whole = l->whole || strcmp(name, "model.safetensors") == 0;
    return true;
}

static bool name_less(const void *arg, uint32_t a, uint32_t b)
{
    const ct_str *names = arg;
    return ct_str_compare(names[a], names[b]) < 0;
}

static ct_status none_there(const struct listing *l, const char *folder, ct_error *err)
{
    if (l->gguf[0])
        return ct_fail(err, CT_ENOTFOUND, folder,
                       "expected .safetensors files in '%s', found none: name the GGUF file itself, '%s'",
                       ct_path_tail(folder), l->gguf);
    if (l->other[0])
        return ct_fail(
            err, CT_EUNSUPPORTED, folder,
            "expected .safetensors files in '%s', found '%s', a PyTorch checkpoint: convert it to safetensors first",
            ct_path_tail(folder), l->other);
    return ct_fail(err, CT_ENOTFOUND, folder, "expected a model in the folder '%s', found no .safetensors file",
                   ct_path_tail(folder));
}

/* Without an index: model.safetensors, or all that are there; a set of which a number is missing is noticed by the numbers. */
static ct_status list_files(ct_str **names, size_t *n, ct_tensors *t, const char *folder, ct_error *err)
{
    struct listing l = {.t = t};
    ct_status st = ct_list_folder(folder, see_file, &l, err);
    if (st == CT_OK && l.short_memory)
        return out_of_memory(folder, err);
    if (st != CT_OK)
        return st;
    if (l.n == 0)
        return none_there(&l, folder, err);
    *names = ct_tensors_alloc(t, l.n * sizeof **names);
    uint32_t *order = ct_calloc(l.n, sizeof *order);
    if (*names == NULL || order == NULL) {
        ct_free(order);
        return out_of_memory(folder, err);
    }
    ct_sort(order, l.n, name_less, l.names);
    *n = 0;
    for (size_t i = 0; i < l.n; i++)
        if (!l.whole || ct_str_is(l.names[order[i]], "model.safetensors"))
            (*names)[(*n)++] = l.names[order[i]];
    ct_free(order);
    return CT_OK;
}

/* "model-00002-of-00005.safetensors": no and count, or false. */
static bool shard_number(ct_str s, unsigned *no, unsigned *count)
{
    static const char tail[] = ".safetensors";
    size_t n = sizeof "00001-of-00002.safetensors" - 1;
    *no = *count = 0;
    if (s.len < n + 1)
        return false;
    const char *p = s.data + s.len - n;
    if (memcmp(p + 5, "-of-", 4) != 0 || memcmp(p + 14, tail, sizeof tail - 1) != 0)
        return false;
    for (size_t i = 0; i < 5; i++) {
        if (p[i] < '0' || p[i] > '9' || p[9 + i] < '0' || p[9 + i] > '9')
            return false;
        *no = *no * 10 + (unsigned)(p[i] - '0');
        *count = *count * 10 + (unsigned)(p[9 + i] - '0');
    }
    return true;
}

static ct_status check_numbers(const ct_str *names, size_t n, const char *folder, ct_error *err)
{
    unsigned no, count, next = 1, all = 0;
    for (size_t i = 0; i < n; i++) {
        if (!shard_number(names[i], &no, &count))
            continue;
        all = count;
        if (no != next)
            break;
        next++;
    }
    if (all == 0 || next == all + 1)
        return CT_OK;
    return ct_fail(err, CT_ENOTFOUND, folder,
                   "expected %u shards in '%s', found no part %u of them: download all files", all,
                   ct_path_tail(folder), next);
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

struct opening {
    const char *folder;
    ct_str only; /* one file of it, and nothing but it; len 0: all */
    ct_tensors *t;
    struct checkpoint_text text;
    char *config, *generation, *index;
};

/* Maps a small file beside the shards; a map of size 0 when it is not there and may be absent. */
static ct_status map_text(ct_map *map, char **path, const char *folder, const char *name, bool optional, ct_error *err)
{
    *path = join_z(folder, name);
    if (*path == NULL)
        return out_of_memory(folder, err);
    if (optional && !ct_is_file(*path))
        return CT_OK;
    if (!ct_is_file(*path))
        return ct_fail(err, CT_ENOTFOUND, *path, "expected %s in '%s', found none: download the whole model", name,
                       ct_path_tail(folder));
    ct_status st = ct_map_open(map, *path, err);
    if (st != CT_OK)
        return st;
    const char *kind = map->size > 0 && map->data[0] == '{' ? NULL : ct_sniff(map->data, map->size);
    if (kind)
        return ct_fail(err, CT_EFORMAT, *path, "expected a JSON file, found that '%s' is %s", ct_path_tail(*path),
                       kind);
    if (map->size > TEXT_MAX)
        return ct_fail(err, CT_EFORMAT, *path, "expected at most %zu bytes of %s, found %zu: not the file of a Gemma 3",
                       TEXT_MAX, name, map->size);
    return CT_OK;
}

static ct_status map_shard(struct opening *o, ct_str name, size_t n, ct_error *err)
{
    ct_map map;
    char *path = join(o->folder, name);
    if (path == NULL)
        return out_of_memory(o->folder, err);
    ct_status st = CT_OK;
    if (!ct_is_file(path))
        st = ct_fail(err, CT_ENOTFOUND, path,
                     "expected %zu file%s of weights in '%s', found no '%.*s': download it again", n, n == 1 ? "" : "s",
                     ct_path_tail(o->folder), (int)name.len, name.data);
    else if ((st = ct_map_open(&map, path, err)) == CT_OK && !ct_tensors_add_map(o->t, map, path)) {
        ct_map_close(&map);
        st = out_of_memory(o->folder, err);
    }
    ct_free(path);
    return st;
}

static ct_status map_shards(struct opening *o, ct_error *err)
{
    ct_str *names = NULL;
    size_t n = 0;
    ct_status st = CT_OK;
    if (o->text.index.size > 0) {
        st = ct_hf_index_files(&names, &n, o->t, o->index, &o->text.index, err);
        bool listed = o->only.len == 0;
        for (size_t i = 0; i < n && !listed; i++)
            listed = ct_str_compare(names[i], o->only) == 0;
        if (st == CT_OK && !listed) { /* a file beside a model that it is no part of */
            ct_map_close(&o->text.index);
            names = &o->only;
            n = 1;
        }
    } else if (o->only.len > 0) {
        names = &o->only;
        n = 1;
    } else {
        st = list_files(&names, &n, o->t, o->folder, err);
        if (st == CT_OK)
            st = check_numbers(names, n, o->folder, err);
    }
    for (size_t i = 0; i < n && st == CT_OK; i++)
        st = map_shard(o, names[i], n, err);
    return st;
}

static ct_status open_all(ct_tensors **out, const char *path, const char *folder, ct_str only, ct_error *err)
{
    struct opening o = {.folder = folder, .only = only};
    *out = NULL;
    o.t = ct_tensors_new(path, "safetensors");
    ct_status st = o.t ? CT_OK : out_of_memory(path, err);
    if (st == CT_OK)
        st = map_text(&o.text.index, &o.index, folder, INDEX, true, err);
    if (st == CT_OK)
        st = map_shards(&o, err); /* first: what is not a model at all has no config.json either */
    if (st == CT_OK)
        st = map_text(&o.text.config, &o.config, folder, "config.json", false, err);
    if (st == CT_OK)
        st = map_text(&o.text.generation, &o.generation, folder, "generation_config.json", true, err);
    if (st != CT_OK)
        goto done;
    o.text.config_path = o.config;
    o.text.generation_path = o.generation;
    o.text.index_path = o.index;
    if ((st = ct_checkpoint_read(o.t, &o.text, err)) != CT_OK || (st = ct_tokenizer_read(o.t, folder, err)) != CT_OK ||
        (st = ct_tensors_index(o.t, err)) != CT_OK)
        goto done;
    *out = o.t;
    o.t = NULL;
done:
    ct_map_close(&o.text.index);
    ct_map_close(&o.text.config);
    ct_map_close(&o.text.generation);
    ct_free(o.index);
    ct_free(o.config);
    ct_free(o.generation);
    ct_tensors_close(o.t);
    return st;
}

ct_status ct_checkpoint_open(ct_tensors **out, const char *path, ct_error *err)
{
    char *folder;
    *out = NULL;
    ct_status st = find_folder(&folder, path, err);
    if (st != CT_OK)
        return st;
    st = open_all(out, path, folder, (ct_str){NULL, 0}, err);
    ct_free(folder);
    return st;
}

ct_status ct_safetensors_open(ct_tensors **out, const char *path, ct_error *err)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    char *folder = ct_strdup(path);
    *out = NULL;
    if (folder == NULL)
        return out_of_memory(path, err);
    if (slash == NULL)
        memcpy(folder, ".", 2); /* a path has a character at least */
    else
        folder[n > 0 ? n : 1] = '\0';
    const char *name = slash ? slash + 1 : path;
    ct_status st = open_all(out, path, folder, (ct_str){name, strlen(name)}, err);
    ct_free(folder);
    return st;
}
