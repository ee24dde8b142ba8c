/* Errors as sentences: the only place that formats one. See error.h for what a sentence must say. */
#include "base/error.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Names in a sentence may come from a file that means harm: no control character, of ASCII or C1, may reach a terminal. */
static void disarm(char *s)
{
    for (unsigned char *p = (unsigned char *)s; *p; p++) {
        bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
        if (p[0] < 0x20 || p[0] == 0x7f || c1)
            p[0] = '?';
        if (c1)
            p[1] = '?';
    }
}

ct_status ct_fail(ct_error *err, ct_status code, const char *where, const char *fmt, ...)
{
    if (err == NULL)
        return code;
    err->code = code;
    snprintf(err->where, sizeof err->where, "%s", where ? where : "");
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof err->text)
        memcpy(err->text + sizeof err->text - 4, "...", 4); /* a cut sentence shows that it is cut */
    disarm(err->where);
    disarm(err->text);
    return code;
}

const char *ct_status_name(ct_status code)
{
    switch (code) {
    case CT_OK: return "ok";
    case CT_EINVAL: return "invalid";
    case CT_ENOMEM: return "memory";
    case CT_EIO: return "io";
    case CT_EFORMAT: return "format";
    case CT_EUNSUPPORTED: return "unsupported";
    case CT_ENUMERIC: return "numeric";
    case CT_ECONTEXT: return "context";
    case CT_EINTERRUPTED: return "interrupted";
    case CT_ENOTFOUND: return "notfound";
    case CT_EINTERNAL: return "internal";
    }
    return "unknown";
}
