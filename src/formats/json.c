/* The JSON reader: see json.h. Numbers are converted by strtod on a copy of at most NUMBER_MAX bytes, in whatever locale: a text
 * has a point, and where the locale wants a comma the copy gets one. */
#include "formats/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "formats/directory.h"

#define NUMBER_MAX 64 /* the longest that a writer of doubles prints is 25 */

void ct_json_init(ct_json *j, const char *path, const void *data, size_t size, ct_error *err)
{
    *j = (ct_json){.path = path, .data = data, .size = size, .due = true, .err = err};
    if (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) /* some editors put a byte order mark in front */
        j->at = 3;
}

bool ct_json_fail(ct_json *j, const char *expected, const char *found)
{
    if (j->status == CT_OK)
        j->status = ct_fail(j->err, CT_EFORMAT, j->path, "'%s' is damaged: expected %s at byte %zu, found %s",
                            ct_path_tail(j->path), expected, j->at, found);
    return false;
}

/* An error at this byte. */
static bool fail_here(ct_json *j, const char *expected)
{
    char found[] = "the character ' '";
    if (j->at >= j->size)
        return ct_json_fail(j, expected, "the end of the text");
    uint8_t c = j->data[j->at];
    found[sizeof found - 3] = (char)c;
    return ct_json_fail(j, expected,
                        c > ' ' && c < 0x7f ? found
                        : c <= ' '          ? "white space or a control character"
                                            : "a byte beyond ASCII");
}

static void skip_space(ct_json *j)
{
    while (j->at < j->size &&
           (j->data[j->at] == ' ' || j->data[j->at] == '\n' || j->data[j->at] == '\r' || j->data[j->at] == '\t'))
        j->at++;
}

static bool in_object(const ct_json *j) { return j->depth > 0 && (j->is_object >> (j->depth - 1) & 1); }

/* The byte that comes next behind white space; 0 at the end, which no JSON text has elsewhere. */
static uint8_t next_byte(ct_json *j)
{
    skip_space(j);
    return j->at < j->size ? j->data[j->at] : 0;
}

/* Steps over the comma that parts this value (or key) from the one before, once; false at the end of the level, which is left. */
static bool separate(ct_json *j)
{
    uint8_t c = next_byte(j), close = in_object(j) ? '}' : ']';
    if (c == close) {
        j->at++;
        j->depth--;
        j->first = false;
        return false;
    }
    if (j->first) {
        j->first = false;
        return true;
    }
    if (c != ',')
        return fail_here(j, close == '}' ? "',' or '}'" : "',' or ']'");
    j->at++;
    if (next_byte(j) == close)
        return fail_here(j, "another value behind the ','");
    return true;
}

ct_json_type ct_json_peek(ct_json *j)
{
    if (j->status != CT_OK)
        return CT_JSON_ERROR;
    uint8_t c = next_byte(j);
    if (c == ',' && !j->first && !j->due) { /* what stands behind it */
        size_t at = j->at++;
        c = next_byte(j);
        j->at = at;
    }
    switch (c) {
    case '{': return CT_JSON_OBJECT;
    case '[': return CT_JSON_ARRAY;
    case '"': return CT_JSON_STRING;
    case 't':
    case 'f': return CT_JSON_BOOL;
    case 'n': return CT_JSON_NULL;
    case '}':
    case ']':
    case 0:
        if (c != 0 || j->at >= j->size)
            return CT_JSON_NONE;
        break;
    default:
        if (c == '-' || (c >= '0' && c <= '9'))
            return CT_JSON_NUMBER;
    }
    fail_here(j, "a value");
    return CT_JSON_ERROR;
}

/* Steps up to a value of this kind, if one is due: at the start, behind a key, and where ct_json_more said so. */
static bool begin_value(ct_json *j, ct_json_type type, const char *expected)
{
    static const char *const names[] = {"an error", "the end",  "null",     "true or false",
                                        "a number", "a string", "an array", "an object"};
    if (j->status != CT_OK)
        return false;
    if (!j->due)
        return ct_json_fail(j, "a key, or the end", "that a value is asked for");
    ct_json_type found = ct_json_peek(j);
    if (found != type)
        return found != CT_JSON_ERROR && ct_json_fail(j, expected, names[found]);
    j->due = false;
    return true;
}

static bool enter(ct_json *j, bool object)
{
    if (!begin_value(j, object ? CT_JSON_OBJECT : CT_JSON_ARRAY, object ? "an object" : "an array"))
        return false;
    if (j->depth == CT_JSON_DEPTH)
        return ct_json_fail(j, "at most 64 levels", "more");
    j->at++;
    uint64_t bit = (uint64_t)1 << j->depth++;
    j->is_object = object ? j->is_object | bit : j->is_object & ~bit;
    j->first = true;
    return true;
}

bool ct_json_object(ct_json *j) { return enter(j, true); }
bool ct_json_array(ct_json *j) { return enter(j, false); }

/* Four hexadecimal digits at p; -1 if they are none. */
static int32_t hex4(const uint8_t *p)
{
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = p[i], low = c | 0x20;
        if (c >= '0' && c <= '9')
            v = v << 4 | (c - '0');
        else if (low >= 'a' && low <= 'f')
            v = v << 4 | (low - 'a' + 10);
        else
            return -1;
    }
    return v;
}

/* Proves the escape at `at`, behind which it leaves it. */
static bool read_escape(ct_json *j)
{
    if (j->size - j->at < 2)
        return fail_here(j, "the rest of an escape");
    uint8_t c = j->data[j->at + 1];
    if (c != 'u') {
        if (c == 0 || strchr("\"\\/bfnrt", c) == NULL)
            return fail_here(j, "an escape of JSON");
        j->at += 2;
        return true;
    }
    int32_t unit = j->size - j->at < 6 ? -1 : hex4(j->data + j->at + 2);
    if (unit < 0)
        return fail_here(j, "four hexadecimal digits behind \\u");
    if (unit >= 0xd800 && unit < 0xe000) { /* half of a pair of surrogates */
        bool pair = unit < 0xdc00 && j->size - j->at >= 12 && j->data[j->at + 6] == '\\' && j->data[j->at + 7] == 'u' &&
                    hex4(j->data + j->at + 8) >= 0xdc00 && hex4(j->data + j->at + 8) < 0xe000;
        if (!pair)
            return fail_here(j, "two surrogates that make a character");
        j->at += 6;
    }
    j->at += 6;
    return true;
}

/* A string, its opening quote next. */
static bool read_string(ct_json *j, ct_json_str *s)
{
    size_t start = ++j->at;
    s->escaped = false;
    for (;;) {
        while (j->at < j->size && j->data[j->at] >= ' ' && j->data[j->at] < 0x80 && j->data[j->at] != '"' &&
               j->data[j->at] != '\\')
            j->at++;
        if (j->at >= j->size)
            return fail_here(j, "the end of a string");
        uint8_t c = j->data[j->at];
        if (c == '"')
            break;
        if (c == '\\') {
            s->escaped = true;
            if (!read_escape(j))
                return false;
        } else if (c >= 0x80) {
            int step = ct_utf8_step(j->data + j->at, j->size - j->at);
            if (step <= 0)
                return fail_here(j, "UTF-8");
            j->at += (size_t)step;
        } else {
            return fail_here(j, "an escape in place of a control character");
        }
    }
    s->data = (const char *)j->data + start;
    s->len = j->at++ - start;
    return true;
}

bool ct_json_key(ct_json *j, ct_json_str *key)
{
    if (j->status != CT_OK)
        return false;
    if (!in_object(j) || j->due)
        return ct_json_fail(j, "a value", "that a key is asked for");
    if (!separate(j))
        return false;
    if (next_byte(j) != '"')
        return fail_here(j, "a key in quotes");
    if (!read_string(j, key))
        return false;
    if (next_byte(j) != ':')
        return fail_here(j, "':'");
    j->at++;
    j->due = true;
    return true;
}

bool ct_json_more(ct_json *j)
{
    if (j->status != CT_OK)
        return false;
    if (j->depth == 0 || in_object(j) || j->due)
        return ct_json_fail(j, "a value or a key", "that an array is asked for");
    j->due = separate(j);
    return j->due;
}

bool ct_json_string(ct_json *j, ct_json_str *s)
{
    return begin_value(j, CT_JSON_STRING, "a string") && read_string(j, s);
}

static bool is_digit(const ct_json *j) { return j->at < j->size && j->data[j->at] >= '0' && j->data[j->at] <= '9'; }

static bool read_digits(ct_json *j)
{
    if (!is_digit(j))
        return fail_here(j, "a digit");
    while (is_digit(j))
        j->at++;
    return true;
}

/* A number by its grammar, its first byte next; where it lies in *from .. j->at, whether it is whole in *whole. */
static bool read_number(ct_json *j, size_t *from, bool *whole)
{
    *from = j->at;
    *whole = true;
    if (j->data[j->at] == '-')
        j->at++;
    bool zero = j->at < j->size && j->data[j->at] == '0';
    if (!read_digits(j))
        return false;
    if (zero && j->at - *from > 1 + (size_t)(j->data[*from] == '-'))
        return ct_json_fail(j, "a number without leading zeros", "one with them");
    if (j->at < j->size && j->data[j->at] == '.') {
        *whole = false;
        j->at++;
        if (!read_digits(j))
            return false;
    }
    if (j->at < j->size && (j->data[j->at] | 0x20) == 'e') {
        *whole = false;
        j->at++;
        if (j->at < j->size && (j->data[j->at] == '+' || j->data[j->at] == '-'))
            j->at++;
        if (!read_digits(j))
            return false;
    }
    return true;
}

/* Digits as a number; false if they are more than 2^64 - 1. */
static bool whole_number(const uint8_t *p, size_t n, uint64_t *v)
{
    *v = 0;
    for (size_t i = 0; i < n; i++)
        if (__builtin_mul_overflow(*v, 10u, v) || __builtin_add_overflow(*v, (uint64_t)(p[i] - '0'), v))
            return false;
    return true;
}

bool ct_json_f64(ct_json *j, double *v)
{
    size_t from;
    bool whole;
    if (!begin_value(j, CT_JSON_NUMBER, "a number") || !read_number(j, &from, &whole))
        return false;
    char text[NUMBER_MAX + 1], *end;
    size_t n = j->at - from;
    if (n > NUMBER_MAX)
        return ct_json_fail(j, "a number of at most 64 digits", "a longer one");
    memcpy(text, j->data + from, n);
    text[n] = '\0';
    *v = strtod(text, &end);
    if (*end == '.') { /* the program around this library set a locale with another decimal point */
        *end = ',';
        *v = strtod(text, &end);
    }
    if (*end != '\0' || !isfinite(*v))
        return ct_json_fail(j, "a number within the range of a double", "a larger one");
    return true;
}

bool ct_json_u64(ct_json *j, uint64_t *v)
{
    size_t from;
    bool whole;
    if (!begin_value(j, CT_JSON_NUMBER, "a whole number, not negative") || !read_number(j, &from, &whole))
        return false;
    if (!whole || j->data[from] == '-' || !whole_number(j->data + from, j->at - from, v))
        return ct_json_fail(j, "a whole number from 0 to 2^64 - 1", "another number");
    return true;
}

bool ct_json_i64(ct_json *j, int64_t *v)
{
    size_t from;
    bool whole;
    uint64_t u;
    if (!begin_value(j, CT_JSON_NUMBER, "a whole number") || !read_number(j, &from, &whole))
        return false;
    bool minus = j->data[from] == '-';
    if (!whole || !whole_number(j->data + from + minus, j->at - from - minus, &u) || u > (uint64_t)INT64_MAX)
        return ct_json_fail(j, "a whole number of at most 63 bits", "another number");
    *v = minus ? -(int64_t)u : (int64_t)u;
    return true;
}

static bool read_word(ct_json *j, const char *word)
{
    size_t n = strlen(word);
    if (j->size - j->at < n || memcmp(j->data + j->at, word, n) != 0)
        return fail_here(j, word);
    j->at += n;
    return true;
}

bool ct_json_bool(ct_json *j, bool *v)
{
    if (!begin_value(j, CT_JSON_BOOL, "true or false"))
        return false;
    *v = j->data[j->at] == 't';
    return read_word(j, *v ? "true" : "false");
}

bool ct_json_null(ct_json *j)
{
    return ct_json_peek(j) == CT_JSON_NULL && begin_value(j, CT_JSON_NULL, "null") && read_word(j, "null");
}

bool ct_json_skip(ct_json *j)
{
    int32_t depth = j->depth;
    do { /* one value, or one step inside of it */
        ct_json_str s;
        size_t from;
        bool b;
        if (j->depth > depth && !(in_object(j) ? ct_json_key(j, &s) : ct_json_more(j)))
            continue; /* the level was left, or there was an error */
        switch (ct_json_peek(j)) {
        case CT_JSON_NULL: ct_json_null(j); break;
        case CT_JSON_BOOL: ct_json_bool(j, &b); break;
        case CT_JSON_NUMBER:
            if (begin_value(j, CT_JSON_NUMBER, "a number"))
                read_number(j, &from, &b);
            break;
        case CT_JSON_STRING: ct_json_string(j, &s); break;
        case CT_JSON_ARRAY: ct_json_array(j); break;
        case CT_JSON_OBJECT: ct_json_object(j); break;
        default: fail_here(j, "a value");
        }
    } while (j->status == CT_OK && j->depth > depth);
    return j->status == CT_OK;
}

ct_status ct_json_end(ct_json *j)
{
    if (j->status == CT_OK && (j->depth > 0 || j->due))
        fail_here(j, "a whole value");
    if (j->status == CT_OK && (next_byte(j), j->at < j->size))
        fail_here(j, "nothing behind the value");
    return j->status;
}

ct_status ct_json_status(const ct_json *j) { return j->status; }

/* The character of an escape, which was proved when it was read; how many bytes it took. */
static size_t escape_value(const uint8_t *p, uint32_t *c)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (p[1] == 'u') {
        *c = (uint32_t)hex4(p + 2);
        if (*c < 0xd800 || *c >= 0xe000)
            return 6;
        *c = 0x10000 + ((*c - 0xd800) << 10) + ((uint32_t)hex4(p + 8) - 0xdc00);
        return 12;
    }
    const char *known = strchr(from, p[1]);
    *c = known ? (uint32_t)to[known - from] : p[1];
    return 2;
}

size_t ct_json_unescape(ct_json_str s, char *out)
{
    char *o = out;
    for (size_t i = 0; i < s.len;) {
        uint32_t c;
        if (s.data[i] != '\\') {
            *o++ = s.data[i++];
            continue;
        }
        i += escape_value((const uint8_t *)s.data + i, &c);
        if (c < 0x80) {
            *o++ = (char)c;
        } else if (c < 0x800) {
            *o++ = (char)(0xc0 | c >> 6);
            *o++ = (char)(0x80 | (c & 63));
        } else if (c < 0x10000) {
            *o++ = (char)(0xe0 | c >> 12);
            *o++ = (char)(0x80 | (c >> 6 & 63));
            *o++ = (char)(0x80 | (c & 63));
        } else {
            *o++ = (char)(0xf0 | c >> 18);
            *o++ = (char)(0x80 | (c >> 12 & 63));
            *o++ = (char)(0x80 | (c >> 6 & 63));
            *o++ = (char)(0x80 | (c & 63));
        }
    }
    return (size_t)(o - out);
}

bool ct_json_is(ct_json_str s, const char *z)
{
    char text[256]; /* names that carat knows are shorter */
    size_t n = strlen(z);
    if (!s.escaped)
        return s.len == n && memcmp(s.data, z, n) == 0;
    return s.len <= sizeof text && ct_json_unescape(s, text) == n && memcmp(text, z, n) == 0;
}
