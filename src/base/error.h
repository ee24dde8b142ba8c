/* Errors as sentences.
 *
 * A function that can fail returns a ct_status and fills a nullable ct_error with one sentence: what was expected, what
 * was found, where, what to try. No errno, no globals, nothing printed. Who turns the sentence into an exit status or a
 * line on a terminal lives in cli/; this file does not know. */
#ifndef CT_BASE_ERROR_H
#define CT_BASE_ERROR_H

#include <stdarg.h>

typedef enum ct_status {
    CT_OK = 0,
    CT_EINVAL = -1,       /* the caller's arguments make no sense                          */
    CT_ENOMEM = -2,       /* memory could not be had                                       */
    CT_EIO = -3,          /* the operating system refused to open, read, map or write      */
    CT_EFORMAT = -4,      /* a file is damaged or lies about itself                        */
    CT_EUNSUPPORTED = -5, /* a file is sound, but holds something carat does not handle    */
    CT_ENUMERIC = -6,     /* NaN or infinity where a number belongs                        */
    CT_ECONTEXT = -7,     /* the context is full                                           */
    CT_EINTERRUPTED = -8, /* the caller asked to stop                                      */
    CT_ENOTFOUND = -9,    /* a named thing (model, tensor, key) is not there               */
    CT_EINTERNAL = -10    /* an invariant of our own does not hold                         */
} ct_status;

#define CT_ERROR_TEXT 240
#define CT_ERROR_WHERE 64

typedef struct ct_error {
    ct_status code;
    char where[CT_ERROR_WHERE]; /* file, tensor or option that the sentence is about; may be empty */
    char text[CT_ERROR_TEXT];   /* the sentence, NUL-terminated, cut with an ellipsis if too long  */
} ct_error;

/* Fills *err (when not NULL) and returns code, so that `return ct_fail(...)` reads well. `where` may be NULL. Control characters
 * become question marks. */
ct_status ct_fail(ct_error *err, ct_status code, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Short name of a status, for logs and tests ("format", "io", ...). Never NULL. */
const char *ct_status_name(ct_status code);

#endif
