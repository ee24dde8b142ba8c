/* Gemma's turns by hand: what its chat template would write, made of ids directly.
 *
 * Control pieces are pushed as ids and the texts between them are tokenized as plain text, so nothing that a user types can
 * end a turn or begin one. There is no system turn: its text goes in front of the user's, inside the first user turn. */
#include "base/mem.h"
#include "text/pieces.h"

/* Length of the white space that s begins with, 0 if none: what Python's str.strip removes, since the template's `trim` is
 * that. */
static size_t space_at(const char *s, size_t n)
{
    const uint8_t *u = (const uint8_t *)s;
    if (n == 0)
        return 0;
    if (u[0] < 0x80)
        return u[0] == ' ' || (u[0] >= 0x09 && u[0] <= 0x0d) || (u[0] >= 0x1c && u[0] <= 0x1f);
    int len = ct_utf8_step(u, n);
    if (len == 2)
        return u[0] == 0xc2 && (u[1] == 0x85 || u[1] == 0xa0) ? 2 : 0; /* U+0085 U+00A0 */
    if (len != 3)
        return 0;
    unsigned c = (u[0] & 0x0fu) << 12 | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu);
    return c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
                   c == 0x3000
               ? 3
               : 0;
}

static ct_str trim(const char *s, size_t n)
{
    size_t step;
    while ((step = space_at(s, n)) > 0) {
        s += step;
        n -= step;
    }
    while (n > 0) {
        size_t last = 1; /* length of the last character */
        while (last < 3 && last < n && ((uint8_t)s[n - last] & 0xc0) == 0x80)
            last++;
        if (space_at(s + n - last, last) != last)
            break;
        n -= last;
    }
    return (ct_str){s, n};
}

static ct_status push_piece(const ct_vocab *v, const char *name, ct_ids *out, ct_error *err)
{
    int32_t id = ct_vocab_find(v, name, strlen(name));
    if (id < 0)
        return ct_fail(err, CT_EUNSUPPORTED, "vocabulary",
                       "the model has no token %s, so it knows no turns: give the prompt as it "
                       "is (--raw)",
                       name);
    return ct_ids_push(out, id, err);
}

ct_status ct_turn_user(const ct_vocab *v, const char *system, const char *text, size_t n, bool bos, ct_ids *out,
                       ct_error *err)
{
    ct_str said = trim(text, n);
    size_t n_system = system ? strlen(system) : 0, at = 5, bytes;
    if (!ct_add_ok(said.len, n_system, &bytes) || !ct_add_ok(bytes, 5 + 2, &bytes))
        return ct_fail(err, CT_ENOMEM, "text", "no memory for a turn of %zu bytes", said.len);
    char *turn = ct_alloc(bytes);
    if (turn == NULL)
        return ct_fail(err, CT_ENOMEM, "text", "no memory for a turn of %zu bytes", bytes);
    memcpy(turn, "user\n", 5);
    if (system) {
        memcpy(turn + at, system, n_system);
        memcpy(turn + at + n_system, "\n\n", 2);
        at += n_system + 2;
    }
    if (said.len > 0)
        memcpy(turn + at, said.data, said.len);
    at += said.len;
    ct_status st = bos ? ct_ids_push(out, v->bos, err) : CT_OK;
    if (st == CT_OK)
        st = push_piece(v, "<start_of_turn>", out, err);
    if (st == CT_OK)
        st = ct_tokenize(v, turn, at, false, false, out, err);
    if (st == CT_OK)
        st = push_piece(v, "<end_of_turn>", out, err);
    if (st == CT_OK)
        st = ct_tokenize(v, "\n", 1, false, false, out, err);
    if (st == CT_OK)
        st = push_piece(v, "<start_of_turn>", out, err);
    if (st == CT_OK)
        st = ct_tokenize(v, "model\n", 6, false, false, out, err);
    ct_free(turn);
    return st;
}
