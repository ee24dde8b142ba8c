/* The registry of backends, and the check that a table has no holes. Adding a backend is one line of `all`. */
#include "backend/backend.h"

#include <string.h>

/* Slowest first; a plug-in, if it is there, comes behind them. "auto" takes the last. */
static const ct_backend *(*const all[])(void) = {ct_ref_backend, ct_cpu_backend};

enum { N_BACKENDS = sizeof all / sizeof all[0] };

static const struct {
    const char *name;
    bool required;
    size_t offset;
} slots[] = {
#define REQUIRED true
#define OPTIONAL false
#define CT_OP(name, need, args) {#name, need, offsetof(ct_ops, name)},
#include "backend/ops.def"
#undef CT_OP
#undef REQUIRED
#undef OPTIONAL
};

enum { N_SLOTS = sizeof slots / sizeof slots[0] };

const ct_backend *ct_backend_at(size_t i)
{
    const ct_backend *plugin = NULL;
    if (i < N_BACKENDS)
        return all[i]();
    return i == N_BACKENDS && ct_cuda_backend(&plugin, NULL) == CT_OK ? plugin : NULL;
}

ct_status ct_backend_find(const ct_backend **out, const char *name, ct_error *err)
{
    bool any = strcmp(name, "auto") == 0;
    *out = any ? all[N_BACKENDS - 1]() : NULL;
    if (any || strcmp(name, "cuda") == 0) {
        ct_status st = ct_cuda_backend(out, err);
        if (any && st != CT_OK)
            *out = all[N_BACKENDS - 1]();
        return any ? CT_OK : st;
    }
    for (size_t i = 0; i < N_BACKENDS; i++)
        if (strcmp(all[i]()->name, name) == 0)
            *out = all[i]();
    return *out ? CT_OK
                : ct_fail(err, CT_ENOTFOUND, "backend", "there is no backend '%s'; try auto, ref, cpu or cuda", name);
}

const ct_backend *ct_backend_get(const char *name)
{
    const ct_backend *b;
    return ct_backend_find(&b, name, NULL) == CT_OK ? b : NULL;
}

const char *ct_op_name(size_t i, bool *required)
{
    if (i >= N_SLOTS)
        return NULL;
    if (required)
        *required = slots[i].required;
    return slots[i].name;
}

ct_status ct_ops_check(const char *backend, const ct_ops *ops, ct_error *err)
{
    for (size_t i = 0; i < N_SLOTS; i++) {
        void (*fn)(void);
        memcpy(&fn, (const char *)ops + slots[i].offset, sizeof fn);
        if (slots[i].required && fn == NULL)
            return ct_fail(err, CT_EINTERNAL, backend, "backend %s (%s) does not fill the required operation '%s'",
                           backend, ops->isa, slots[i].name);
    }
    return CT_OK;
}

ct_status ct_buffer_read(const ct_backend *b, const ct_buffer *buf, size_t off, void *dst, size_t bytes, ct_error *err)
{
    if (buf->host == NULL)
        return b->read(buf, off, dst, bytes, err);
    memcpy(dst, (const uint8_t *)buf->host + off, bytes);
    return CT_OK;
}

ct_status ct_buffer_write(const ct_backend *b, const ct_buffer *buf, size_t off, const void *src, size_t bytes,
                          ct_error *err)
{
    if (buf->host == NULL)
        return b->write(buf, off, src, bytes, err);
    memcpy((uint8_t *)buf->host + off, src, bytes);
    return CT_OK;
}
