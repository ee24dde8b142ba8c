/* JSON read value by value, without a tree: for safetensors headers, configurations and the 33 MB of a tokenizer.json.
 *
 * A reader walks a text in memory once, from front to back, and allocates nothing. Errors stick: after the first, every call
 * says no, and ct_json_status has the sentence; so a caller asks once, at the end of what it reads. Strict: RFC 8259, valid
 * UTF-8, at most CT_JSON_DEPTH levels. What keys mean, and whether one comes twice, is the caller's business.
 *
 *     ct_json_object(&j);
 *     while (ct_json_key(&j, &key)) {
 *         if (ct_json_is(key, "bits")) ct_json_u64(&j, &bits);
 *         else ct_json_skip(&j);
 *     }
 *     return ct_json_end(&j); */
#ifndef CT_FORMATS_JSON_H
#define CT_FORMATS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define CT_JSON_DEPTH 64

typedef enum ct_json_type {
    CT_JSON_ERROR, /* an error has happened */
    CT_JSON_NONE,  /* the end of the object, array or text */
    CT_JSON_NULL,
    CT_JSON_BOOL,
    CT_JSON_NUMBER,
    CT_JSON_STRING,
    CT_JSON_ARRAY,
    CT_JSON_OBJECT
} ct_json_type;

/* What lies between the quotes of a string, as in the text: with escapes, if `escaped`. Borrowed from the text. */
typedef struct ct_json_str {
    const char *data;
    size_t len;
    bool escaped;
} ct_json_str;

/* The caller's memory; private but for at. */
typedef struct ct_json {
    const char *path; /* for sentences, borrowed */
    const uint8_t *data;
    size_t size, at;    /* at: bytes read so far */
    uint64_t is_object; /* bit per level */
    int32_t depth;      /* open objects and arrays */
    bool first, due;    /* nothing was read at this level yet; a value comes next, and may be read */
    ct_status status;
    ct_error *err; /* nullable, the caller's */
} ct_json;

void ct_json_init(ct_json *j, const char *path, const void *data, size_t size, ct_error *err);

/* What comes next. Where a key is due this is CT_JSON_STRING, at the end of an object or array CT_JSON_NONE. */
ct_json_type ct_json_peek(ct_json *j);

/* Enter an object or an array. Its loop (ct_json_key, ct_json_more) leaves it when it says no. */
bool ct_json_object(ct_json *j);
bool ct_json_array(ct_json *j);
/* The next key of the object, whose value is to be read or skipped then; false behind the last one. */
bool ct_json_key(ct_json *j, ct_json_str *key);
/* Whether the array has another value. */
bool ct_json_more(ct_json *j);

/* The next value, of a type that is known. False, and an error, where it is of another. A u64 is a number without sign, point
 * and exponent; an i64 may have a sign. */
bool ct_json_string(ct_json *j, ct_json_str *s);
bool ct_json_f64(ct_json *j, double *v);
bool ct_json_u64(ct_json *j, uint64_t *v);
bool ct_json_i64(ct_json *j, int64_t *v);
bool ct_json_bool(ct_json *j, bool *v);
/* Reads a null if that is what comes next. */
bool ct_json_null(ct_json *j);
/* Any value, with all that is in it. What it spans in the text may be read later by a reader of its own. */
bool ct_json_skip(ct_json *j);

/* Nothing but white space may be left. EFORMAT with the sentence if it is not so, or if anything went wrong before. */
ct_status ct_json_end(ct_json *j);
ct_status ct_json_status(const ct_json *j);
/* An error of the caller's own at this place: "'config.json' is damaged: expected <expected> at byte 123, found <found>". */
bool ct_json_fail(ct_json *j, const char *expected, const char *found);

/* Writes the characters of a string to out (s.len bytes are enough), returns how many bytes. Characters may be NUL. */
size_t ct_json_unescape(ct_json_str s, char *out);
/* Whether a string has these characters. */
bool ct_json_is(ct_json_str s, const char *z);

#endif
