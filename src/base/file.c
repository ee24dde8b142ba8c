/* Files: see file.h. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"

static ct_status fail_errno(ct_error *err, const char *path, const char *doing)
{
    int e = errno;
    return ct_fail(err, e == ENOENT ? CT_ENOTFOUND : CT_EIO, path, "cannot %s '%s': %s", doing, path, strerror(e));
}

static int64_t changed_ns(const struct stat *sb)
{
#if defined(__APPLE__)
    const struct timespec t = sb->st_mtimespec;
#else
    const struct timespec t = sb->st_mtim;
#endif
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

ct_status ct_map_open(ct_map *m, const char *path, ct_error *err)
{
    *m = (ct_map){0};
    ct_status st = CT_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, path, "open");
    struct stat sb;
    if (fstat(fd, &sb) != 0) {
        st = fail_errno(err, path, "examine");
        goto done;
    }
    if (!S_ISREG(sb.st_mode)) {
        st = ct_fail(err, CT_EIO, path, "expected a regular file, found a %s: '%s'",
                     S_ISDIR(sb.st_mode) ? "folder" : "special file", path);
        goto done;
    }
    if (sb.st_size == 0)
        goto done;
    void *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        st = fail_errno(err, path, "map");
        goto done;
    }
    *m = (ct_map){p, (size_t)sb.st_size, (uint64_t)sb.st_dev, (uint64_t)sb.st_ino, changed_ns(&sb), false};
done:
    close(fd);
    return st;
}

ct_status ct_map_check(const ct_map *m, const char *path, ct_error *err)
{
    struct stat sb;
    if (m->data == NULL || m->borrowed || stat(path, &sb) != 0 || (uint64_t)sb.st_dev != m->device ||
        (uint64_t)sb.st_ino != m->inode)
        return CT_OK;
    if ((size_t)sb.st_size == m->size && changed_ns(&sb) == m->changed_ns)
        return CT_OK;
    return ct_fail(
        err, CT_EIO, path,
        "'%s' changed while it was read (it had %zu bytes, and has %lld): wait until it is complete, or copy it "
        "first",
        path, m->size, (long long)sb.st_size);
}

void ct_map_close(ct_map *m)
{
    if (m->data && !m->borrowed)
        munmap((void *)(uintptr_t)m->data, m->size);
    *m = (ct_map){0};
}

void ct_map_forget(const ct_map *m, size_t off, size_t size)
{
    if (m->data == NULL || m->borrowed || off >= m->size)
        return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t end = size > m->size - off ? m->size : off + size;
    size_t from = ct_round_up(off, page), to = end & ~(page - 1); /* only pages that lie wholly inside */
    if (from < to)
        madvise((void *)(uintptr_t)(m->data + from), to - from, MADV_DONTNEED);
}

ct_status ct_file_read(char **data, size_t *size, const char *path, ct_error *err)
{
    *data = NULL;
    *size = 0;
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, path, "open");
    ct_status st = CT_OK;
    char *buf = NULL;
    size_t used = 0, room = 0;
    for (;;) {
        if (room - used < 2) {
            size_t bigger = room ? room * 2 : 65536;
            char *grown = bigger > room ? ct_realloc(buf, bigger) : NULL;
            if (grown == NULL) {
                st = ct_fail(err, CT_ENOMEM, path, "out of memory while reading '%s' (%zu bytes so far)", path, used);
                goto done;
            }
            buf = grown;
            room = bigger;
        }
        ssize_t n = read(fd, buf + used, room - used - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            st = fail_errno(err, path, "read");
            goto done;
        }
        if (n == 0)
            break;
        used += (size_t)n;
    }
    buf[used] = '\0';
    *data = buf;
    *size = used;
    buf = NULL;
done:
    ct_free(buf);
    if (!standard)
        close(fd);
    return st;
}

struct ct_writer {
    int fd;
    char *path, *temp;
};

static void writer_free(ct_writer *w)
{
    ct_free(w->path);
    ct_free(w->temp);
    ct_free(w);
}

ct_status ct_writer_open(ct_writer **out, const char *path, ct_error *err)
{
    *out = NULL;
    size_t n = strlen(path) + 32;
    ct_writer *w = ct_calloc(1, sizeof *w);
    if (w == NULL || (w->path = ct_strdup(path)) == NULL || (w->temp = ct_alloc(n)) == NULL) {
        if (w)
            writer_free(w);
        return ct_fail(err, CT_ENOMEM, path, "out of memory while writing '%s'", path);
    }
    snprintf(w->temp, n, "%s.tmp%ld", path, (long)getpid());
    w->fd = open(w->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        ct_status st = fail_errno(err, path, "create");
        writer_free(w);
        return st;
    }
    *out = w;
    return CT_OK;
}

ct_status ct_writer_put(ct_writer *w, const void *data, size_t size, ct_error *err)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = write(w->fd, (const char *)data + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_errno(err, w->path, "write");
        at += (size_t)n;
    }
    return CT_OK;
}

ct_status ct_writer_put_at(ct_writer *w, uint64_t at, const void *data, size_t size, ct_error *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(w->fd, (const char *)data + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_errno(err, w->path, "write");
        done += (size_t)n;
    }
    return CT_OK;
}

ct_status ct_writer_commit(ct_writer *w, ct_error *err)
{
    ct_status st = CT_OK;
    if (fsync(w->fd) != 0 && errno != EINVAL && errno != ENOSYS)
        st = fail_errno(err, w->path, "flush");
    if (close(w->fd) != 0 && st == CT_OK)
        st = fail_errno(err, w->path, "close");
    if (st == CT_OK && rename(w->temp, w->path) != 0)
        st = fail_errno(err, w->path, "rename into place");
    if (st != CT_OK)
        unlink(w->temp);
    writer_free(w);
    return st;
}

void ct_writer_abandon(ct_writer *w)
{
    if (w == NULL)
        return;
    close(w->fd);
    unlink(w->temp);
    writer_free(w);
}

ct_status ct_file_write(const char *path, const void *data, size_t size, ct_error *err)
{
    ct_writer *w;
    ct_status st = ct_writer_open(&w, path, err);
    if (st != CT_OK)
        return st;
    st = ct_writer_put(w, data, size, err);
    if (st == CT_OK)
        return ct_writer_commit(w, err);
    ct_writer_abandon(w);
    return st;
}

/* ---- folders ---- */

struct ct_folder {
    char *path, *temp;
};

static void folder_free(ct_folder *f)
{
    ct_free(f->path);
    ct_free(f->temp);
    ct_free(f);
}

ct_status ct_folder_open(ct_folder **out, const char *path, ct_error *err)
{
    *out = NULL;
    size_t n = strlen(path) + 32;
    ct_status st = CT_OK;
    ct_folder *f = ct_calloc(1, sizeof *f);
    if (f == NULL || (f->path = ct_strdup(path)) == NULL || (f->temp = ct_alloc(n)) == NULL) {
        st = ct_fail(err, CT_ENOMEM, path, "out of memory while writing '%s'", path);
        goto done;
    }
    for (size_t end = strlen(f->path); end > 1 && f->path[end - 1] == '/';) /* or the other name would lie inside */
        f->path[--end] = '\0';
    snprintf(f->temp, n, "%s.tmp%ld", f->path, (long)getpid());
    if (mkdir(f->temp, 0777) != 0) {
        st = fail_errno(err, path, "create the folder");
        goto done;
    }
    *out = f;
    f = NULL;
done:
    if (f)
        folder_free(f);
    return st;
}

const char *ct_folder_path(const ct_folder *f) { return f->temp; }

ct_status ct_folder_commit(ct_folder *f, ct_error *err)
{
    ct_status st = CT_OK;
    if (rename(f->temp, f->path) != 0) {
        st = fail_errno(err, f->path, "rename into place");
        ct_folder_abandon(f);
        return st;
    }
    folder_free(f);
    return st;
}

void ct_folder_abandon(ct_folder *f)
{
    char path[4096];
    if (f == NULL)
        return;
    DIR *d = opendir(f->temp);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (snprintf(path, sizeof path, "%s/%s", f->temp, e->d_name) < (int)sizeof path)
            unlink(path); /* says no to . and .. */
    if (d)
        closedir(d);
    rmdir(f->temp);
    folder_free(f);
}

/* ---- what is there ---- */

bool ct_is_file(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISREG(sb.st_mode);
}

bool ct_is_folder(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
}

bool ct_is_there(const char *path)
{
    struct stat sb;
    return lstat(path, &sb) == 0;
}

bool ct_is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

size_t ct_disk_free(const char *path)
{
    struct statvfs v;
    char parent[4096] = ".";
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/')
        n--;
    while (n > 0 && path[n - 1] != '/')
        n--;
    if (n >= sizeof parent)
        return SIZE_MAX;
    if (n > 0) {
        memcpy(parent, path, n);
        parent[n] = '\0';
    }
    if (statvfs(parent, &v) != 0 || v.f_blocks == 0) /* some file systems do not say */
        return SIZE_MAX;
    uint64_t unit = v.f_frsize ? v.f_frsize : v.f_bsize, bytes;
    return __builtin_mul_overflow((uint64_t)v.f_bavail, unit, &bytes) || bytes > SIZE_MAX ? SIZE_MAX : (size_t)bytes;
}

ct_status ct_list_folder(const char *path, bool (*each)(void *arg, const char *name), void *arg, ct_error *err)
{
    DIR *d = opendir(path);
    if (d == NULL)
        return fail_errno(err, path, "list");
    const struct dirent *e;
    bool go = true;
    while (go && (e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            go = each(arg, e->d_name);
    closedir(d);
    return CT_OK;
}
