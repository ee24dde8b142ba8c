/* The cache's folders, links and parts: see cache.h. */
#include "fetch/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

/* A string made of others, for ct_free; NULL: out of memory. */
__attribute__((format(printf, 1, 2))) static char *text(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n >= 0 ? ct_alloc((size_t)n + 1) : NULL;
    va_start(ap, fmt);
    if (s)
        vsnprintf(s, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return s;
}

static ct_status out_of_memory(ct_error *err) { return ct_fail(err, CT_ENOMEM, "cache", "out of memory for a path"); }

static ct_status fail_errno(ct_error *err, const char *path, const char *doing)
{
    const int e = errno;
    size_t n = strlen(path);
    return ct_fail(
        err, CT_EIO, path, "cannot %s '%s%s': %s%s", doing, n > 100 ? "..." : "", n > 100 ? path + n - 100 : path,
        strerror(e),
        e == ENOSPC || e == EDQUOT || e == EFBIG ? "; what came so far is kept, and pulling goes on from there" : "");
}

/* The folder of a path, and those above it. */
static ct_status make_folders(const char *path, bool whole, ct_error *err)
{
    ct_status st = CT_OK;
    char *p = ct_strdup(path);
    if (p == NULL)
        return out_of_memory(err);
    for (char *s = p + 1; st == CT_OK && *s; s++) {
        if (*s != '/')
            continue;
        *s = '\0';
        if (!ct_is_folder(p) && mkdir(p, 0777) != 0 && errno != EEXIST)
            st = fail_errno(err, p, "make the folder");
        *s = '/';
    }
    if (st == CT_OK && whole && !ct_is_folder(p) && mkdir(p, 0777) != 0 && errno != EEXIST)
        st = fail_errno(err, p, "make the folder");
    ct_free(p);
    return st;
}

ct_status ct_cache_init(ct_cache *c, const char *hub, const char *repo, ct_error *err)
{
    const char *slash = strchr(repo, '/');
    const int owner = (int)(slash - repo);
    ct_status st = CT_OK;
    c->root = text("%s/models--%.*s--%s", hub, owner, repo, slash + 1);
    c->locks = text("%s/.locks/models--%.*s--%s", hub, owner, repo, slash + 1);
    char *blobs = c->root ? text("%s/blobs", c->root) : NULL;
    if (c->root == NULL || c->locks == NULL || blobs == NULL)
        st = out_of_memory(err);
    if (st == CT_OK)
        st = make_folders(blobs, true, err);
    if (st == CT_OK)
        st = make_folders(c->locks, true, err);
    ct_free(blobs);
    return st;
}

void ct_cache_deinit(ct_cache *c)
{
    ct_free(c->root);
    ct_free(c->locks);
    *c = (ct_cache){0};
}

/* UINT64_MAX: there is no such file. */
static uint64_t file_size(const char *path)
{
    struct stat sb;
    return path && stat(path, &sb) == 0 && S_ISREG(sb.st_mode) && sb.st_size >= 0 ? (uint64_t)sb.st_size : UINT64_MAX;
}

uint64_t ct_cache_have(const ct_cache *c, const ct_hub_file *f, bool *whole)
{
    char *blob = text("%s/blobs/%s", c->root, f->etag), *part = text("%s/blobs/%s.incomplete", c->root, f->etag);
    uint64_t n = file_size(part);
    *whole = file_size(blob) == f->size;
    ct_free(blob);
    ct_free(part);
    return *whole ? f->size : f->hashed && n <= f->size ? n : 0;
}

size_t ct_cache_room(const ct_cache *c)
{
    char *inside = text("%s/blobs/x", c->root);
    size_t room = inside ? ct_disk_free(inside) : SIZE_MAX;
    ct_free(inside);
    return room;
}

char *ct_cache_path(const ct_cache *c, const char *commit, const char *file)
{
    return text("%s/snapshots/%s%s%s", c->root, commit, file ? "/" : "", file ? file : "");
}

ct_status ct_cache_link(const ct_cache *c, const char *commit, const ct_hub_file *f, ct_error *err)
{
    char *path = ct_cache_path(c, commit, f->name), *temp = path ? text("%s.tmp%ld", path, (long)getpid()) : NULL;
    char *up = ct_strdup(""), *target = NULL, found[512];
    ct_status st = CT_OK;
    for (const char *p = f->name; up && *p; p++) { /* a file below a folder climbs further */
        char *further = *p == '/' ? text("%s../", up) : NULL;
        if (*p != '/')
            continue;
        ct_free(up);
        up = further;
    }
    target = up ? text("../../%sblobs/%s", up, f->etag) : NULL;
    if (path == NULL || temp == NULL || target == NULL) {
        st = out_of_memory(err);
        goto done;
    }
    ssize_t n = readlink(path, found, sizeof found);
    if (n > 0 && (size_t)n == strlen(target) && memcmp(found, target, (size_t)n) == 0)
        goto done;
    if ((st = make_folders(path, false, err)) != CT_OK)
        goto done;
    unlink(temp);
    if (symlink(target, temp) != 0) {
        st = fail_errno(err, path, "link");
    } else if (rename(temp, path) != 0) {
        st = fail_errno(err, path, "put a link into place at");
        unlink(temp);
    }
done:
    ct_free(path);
    ct_free(temp);
    ct_free(up);
    ct_free(target);
    return st;
}

ct_status ct_cache_point(const ct_cache *c, const char *revision, const char *commit, ct_error *err)
{
    if (strcmp(revision, commit) == 0)
        return CT_OK;
    char *path = text("%s/refs/%s", c->root, revision);
    ct_status st = path ? make_folders(path, false, err) : out_of_memory(err);
    if (st == CT_OK)
        st = ct_file_write(path, commit, strlen(commit), err);
    ct_free(path);
    return st;
}

/* ---- parts ---- */

static ct_status lock(ct_part *p, bool (*keep_going)(void *), void *arg, ct_error *err)
{
    p->lock = open(p->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (p->lock < 0)
        return fail_errno(err, p->lock_path, "open");
    while (flock(p->lock, LOCK_EX | LOCK_NB) != 0) {
        const struct timespec t = {.tv_nsec = 100000000};
        if (errno == ENOLCK || errno == EINVAL || errno == EOPNOTSUPP)
            return CT_OK; /* a file system without locks: who pulls twice at once there gets one of both, whole */
        if (errno != EWOULDBLOCK && errno != EINTR)
            return fail_errno(err, p->lock_path, "lock");
        if (keep_going && !keep_going(arg))
            return ct_fail(err, CT_EINTERRUPTED, "cache", "interrupted");
        nanosleep(&t, NULL);
    }
    return CT_OK;
}

static ct_status hash_what_is_there(ct_part *p, bool (*keep_going)(void *), void *arg, ct_error *err)
{
    enum { STEP = 1 << 18 };
    ct_status st = CT_OK;
    char *data = ct_alloc(STEP);
    if (data == NULL)
        return out_of_memory(err);
    while (st == CT_OK) {
        ssize_t n = read(p->fd, data, STEP);
        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            st = fail_errno(err, p->path, "read");
        } else if (keep_going && !keep_going(arg)) {
            st = ct_fail(err, CT_EINTERRUPTED, "cache", "interrupted");
        } else {
            ct_sha256_add(&p->sum, data, (size_t)n);
            p->size += (uint64_t)n;
        }
    }
    ct_free(data);
    return st;
}

ct_status ct_part_open(ct_part *p, const ct_cache *c, const ct_hub_file *f, bool (*keep_going)(void *), void *arg,
                       bool *there, ct_error *err)
{
    *p = (ct_part){.f = f, .fd = -1, .lock = -1};
    *there = false;
    p->blob = text("%s/blobs/%s", c->root, f->etag);
    p->path = text("%s/blobs/%s.incomplete", c->root, f->etag);
    p->lock_path = text("%s/%s.lock", c->locks, f->etag);
    if (p->blob == NULL || p->path == NULL || p->lock_path == NULL)
        return out_of_memory(err);
    ct_status st = lock(p, keep_going, arg, err);
    if (st != CT_OK)
        return st;
    if (file_size(p->blob) == f->size) {
        *there = true;
        return CT_OK;
    }
    p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (p->fd < 0)
        return fail_errno(err, p->path, "open");
    ct_sha256_init(&p->sum);
    const uint64_t size = file_size(p->path);
    if (!f->hashed || size > f->size)
        return ct_part_restart(p, err);
    return hash_what_is_there(p, keep_going, arg, err);
}

ct_status ct_part_put(ct_part *p, const void *data, size_t size, ct_error *err)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = write(p->fd, (const char *)data + at, size - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail_errno(err, p->path, "write");
        ct_sha256_add(&p->sum, (const char *)data + at, (size_t)n);
        p->size += (uint64_t)n;
        at += (size_t)n;
    }
    return CT_OK;
}

ct_status ct_part_restart(ct_part *p, ct_error *err)
{
    if (ftruncate(p->fd, 0) != 0 || lseek(p->fd, 0, SEEK_SET) != 0)
        return fail_errno(err, p->path, "empty");
    p->size = 0;
    ct_sha256_init(&p->sum);
    return CT_OK;
}

bool ct_part_proved(const ct_part *p, char hex[CT_SHA256_HEX])
{
    ct_sha256 sum = p->sum;
    ct_sha256_end(&sum, hex);
    return p->size == p->f->size && (!p->f->hashed || strcmp(hex, p->f->etag) == 0);
}

ct_status ct_part_commit(ct_part *p, ct_error *err)
{
    ct_status st = CT_OK;
    if (fsync(p->fd) != 0 && errno != EINVAL && errno != ENOSYS)
        st = fail_errno(err, p->path, "flush");
    if (close(p->fd) != 0 && st == CT_OK)
        st = fail_errno(err, p->path, "close");
    p->fd = -1;
    if (st == CT_OK && rename(p->path, p->blob) != 0)
        st = fail_errno(err, p->blob, "rename into place");
    return st;
}

void ct_part_close(ct_part *p)
{
    if (p->fd >= 0) {
        close(p->fd);
        if (file_size(p->path) == 0)
            unlink(p->path); /* nothing to go on from */
    }
    if (p->lock >= 0)
        close(p->lock); /* and with it the lock; the file stays, or another's lock could be on one that is gone */
    ct_free(p->path);
    ct_free(p->blob);
    ct_free(p->lock_path);
    *p = (ct_part){.fd = -1, .lock = -1};
}
