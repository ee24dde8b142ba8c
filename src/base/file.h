/* Files: mapped read-only, read whole, written to a temporary name and renamed.
 *
 * A mapping is never patched. If the file shrinks while it is mapped, touching the lost pages raises SIGBUS: the library
 * installs no handler; whoever cannot trust the file packs or copies at load. */
#ifndef CT_BASE_FILE_H
#define CT_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

typedef struct ct_map {
    const uint8_t *data; /* NULL when size is 0 */
    size_t size;
    uint64_t device, inode;
    int64_t changed_ns; /* when its content last changed */
    bool borrowed;      /* the caller's memory: neither unmapped nor given back */
} ct_map;

/* Maps a regular file. EIO or ENOTFOUND with the system's reason. close accepts a zeroed map. */
ct_status ct_map_open(ct_map *m, const char *path, ct_error *err);
/* Memory of the caller's in place of a file: it must outlive the map. */
static inline ct_map ct_map_borrow(const void *data, size_t size)
{
    return (ct_map){.data = data, .size = size, .borrowed = true};
}
void ct_map_close(ct_map *m);

/* EIO if the file at path is still the one that was mapped, and its size or time of change is another: what was read may be of
 * both. A file that is gone, or another in its place, has left the mapping as it was. */
ct_status ct_map_check(const ct_map *m, const char *path, ct_error *err);

/* Tells the kernel that [data+off, data+off+size) will not be read again soon: its memory is given back. */
void ct_map_forget(const ct_map *m, size_t off, size_t size);

/* Reads a whole file ("-" is standard input) into memory owned by the caller (ct_free), one NUL behind the last byte. */
ct_status ct_file_read(char **data, size_t *size, const char *path, ct_error *err);

/* Writes size bytes to path by way of a temporary file in the same folder, flushed, then renamed: nobody sees half. */
ct_status ct_file_write(const char *path, const void *data, size_t size, ct_error *err);

/* The same piece by piece: what was put is there as a whole after commit, and not at all after abandon. Both free the writer;
 * after a failure of put, abandon it. */
typedef struct ct_writer ct_writer;
ct_status ct_writer_open(ct_writer **out, const char *path, ct_error *err);
ct_status ct_writer_put(ct_writer *w, const void *data, size_t size, ct_error *err);
/* The same at a place of its own, which put does not notice: from any thread, in any order. */
ct_status ct_writer_put_at(ct_writer *w, uint64_t at, const void *data, size_t size, ct_error *err);
ct_status ct_writer_commit(ct_writer *w, ct_error *err);
void ct_writer_abandon(ct_writer *w); /* NULL is fine */

/* A folder that is there as a whole after commit, and not at all after abandon: its files are written into ct_folder_path, which
 * stands beside the final name until then. commit takes the place of an empty folder, and of nothing else (EIO). */
typedef struct ct_folder ct_folder;
ct_status ct_folder_open(ct_folder **out, const char *path, ct_error *err);
const char *ct_folder_path(const ct_folder *f);
ct_status ct_folder_commit(ct_folder *f, ct_error *err);
void ct_folder_abandon(ct_folder *f); /* removes what was written so far; NULL is fine */

bool ct_is_file(const char *path);
bool ct_is_folder(const char *path);
bool ct_is_there(const char *path); /* anything of that name */
/* Whether two names are one file or folder; false where one of them is not there. */
bool ct_is_same(const char *a, const char *b);
/* Bytes that may still be written beside path, or SIZE_MAX where nobody knows. */
size_t ct_disk_free(const char *path);

/* Calls each with the names in a folder, in no order, "." and ".." left out, until it says no. EIO or ENOTFOUND. */
ct_status ct_list_folder(const char *path, bool (*each)(void *arg, const char *name), void *arg, ct_error *err);

#endif
