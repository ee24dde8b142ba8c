/* A hub's description of a revision, read: its commit, and of each file name, size and the name of its content. Whatever else it says
 * is passed over, and so are files whose names could not be kept. */
#include <string.h>

#include "base/mem.h"
#include "fetch/hub.h"
#include "formats/json.h"

#define MAX_FILES 100000

void ct_hub_list_deinit(ct_hub_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        ct_free(l->files[i].name);
    ct_free(l->files);
    *l = (ct_hub_list){0};
}

/* A short word without escapes or NULs, or "". */
static void word(ct_json *j, char *to, size_t cap)
{
    ct_json_str s;
    to[0] = '\0';
    if (ct_json_null(j) || !ct_json_string(j, &s) || s.escaped || s.len >= cap)
        return;
    memcpy(to, s.data, s.len);
    to[s.len] = '\0';
}

static void size(ct_json *j, uint64_t *to)
{
    if (!ct_json_null(j))
        ct_json_u64(j, to);
}

struct entry {
    ct_json_str name;
    uint64_t size, lfs_size;
    char blob[CT_ETAG], sha256[CT_ETAG];
};

static void read_lfs(ct_json *j, struct entry *e)
{
    ct_json_str key;
    if (ct_json_null(j) || !ct_json_object(j))
        return;
    while (ct_json_key(j, &key)) {
        if (ct_json_is(key, "sha256"))
            word(j, e->sha256, sizeof e->sha256);
        else if (ct_json_is(key, "size"))
            size(j, &e->lfs_size);
        else
            ct_json_skip(j);
    }
}

static void read_entry(ct_json *j, struct entry *e)
{
    ct_json_str key;
    *e = (struct entry){.size = UINT64_MAX, .lfs_size = UINT64_MAX};
    if (!ct_json_object(j))
        return;
    while (ct_json_key(j, &key)) {
        if (ct_json_is(key, "rfilename"))
            ct_json_string(j, &e->name);
        else if (ct_json_is(key, "size"))
            size(j, &e->size);
        else if (ct_json_is(key, "blobId"))
            word(j, e->blob, sizeof e->blob);
        else if (ct_json_is(key, "lfs"))
            read_lfs(j, e);
        else
            ct_json_skip(j);
    }
}

/* False: no memory. */
static bool add(ct_hub_list *l, const struct entry *e)
{
    if (l->n == l->room) {
        size_t room = l->room ? l->room * 2 : 32;
        ct_hub_file *grown = ct_realloc(l->files, room * sizeof *grown);
        if (grown == NULL)
            return false;
        l->files = grown;
        l->room = room;
    }
    char *name = ct_alloc(e->name.len + 1);
    if (name == NULL)
        return false;
    size_t n = ct_json_unescape(e->name, name);
    name[n] = '\0';
    if (strlen(name) != n || !ct_hub_file_ok(name)) {
        ct_free(name);
        return true;
    }
    ct_hub_file *f = &l->files[l->n++];
    *f = (ct_hub_file){.name = name, .size = e->lfs_size != UINT64_MAX ? e->lfs_size : e->size};
    f->hashed = ct_hub_is_sha256(e->sha256);
    bool git = strlen(e->blob) == 40 && strspn(e->blob, "0123456789abcdef") == 40; /* what git calls a content */
    if (f->hashed || git)
        memcpy(f->etag, f->hashed ? e->sha256 : e->blob, sizeof f->etag);
    return true;
}

ct_status ct_hub_list_read(ct_hub_list *l, const char *path, const void *data, size_t n, ct_error *err)
{
    ct_json j;
    ct_json_str key;
    struct entry e;
    *l = (ct_hub_list){0};
    ct_json_init(&j, path, data, n, err);
    if (ct_json_object(&j)) {
        while (ct_json_key(&j, &key)) {
            if (ct_json_is(key, "sha")) {
                word(&j, l->commit, sizeof l->commit);
            } else if (ct_json_is(key, "siblings")) {
                if (!ct_json_array(&j))
                    break;
                while (ct_json_more(&j)) {
                    read_entry(&j, &e);
                    if (ct_json_status(&j) != CT_OK)
                        break;
                    if (l->n == MAX_FILES)
                        return ct_fail(err, CT_EFORMAT, path, "expected a list of at most %d files", MAX_FILES);
                    if (!add(l, &e))
                        return ct_fail(err, CT_ENOMEM, path, "out of memory for a list of files");
                }
            } else {
                ct_json_skip(&j);
            }
        }
    }
    ct_status st = ct_json_end(&j);
    if (st == CT_OK && (strlen(l->commit) != 40 || strspn(l->commit, "0123456789abcdef") != 40))
        return ct_fail(err, CT_EFORMAT, path,
                       "expected the commit of a revision, found '%.60s': is the endpoint right?", l->commit);
    return st;
}
