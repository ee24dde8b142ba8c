/* Ids to text, one at a time, whole characters only.
 *
 * Every piece goes byte by byte through one small buffer. A character leaves it when it is whole; a byte that cannot begin
 * or go on a character leaves as U+FFFD. One U+FFFD for each broken byte, as Hugging Face's ByteFallback decoder writes
 * them; that one, seeing a whole run of byte pieces at once, spoils the sound characters of such a run, too: here they
 * live. */
#include "text/pieces.h"

static const char replacement[3] = "\xef\xbf\xbd"; /* U+FFFD */

static void held_drop(ct_detok *d, int32_t n)
{
    d->n_held -= n;
    for (int32_t i = 0; i < d->n_held; i++)
        d->held[i] = d->held[i + n];
}

/* Moves what is settled from held to out; with `last` everything is. Returns the new end of out. */
static size_t held_settle(ct_detok *d, bool last, char *out, size_t at)
{
    while (d->n_held > 0) {
        int step = ct_utf8_step(d->held, (size_t)d->n_held);
        if (step < 0 && !last)
            break;
        if (step > 0) {
            memcpy(out + at, d->held, (size_t)step);
            at += (size_t)step;
            held_drop(d, step);
        } else {
            memcpy(out + at, replacement, sizeof replacement);
            at += sizeof replacement;
            held_drop(d, 1);
        }
    }
    return at;
}

size_t ct_detok_max(const ct_vocab *v)
{
    return 3 * (v->max_piece + 8); /* every byte broken, and what was held before */
}

bool ct_detok_sound(const ct_detok *d) { return d->n_held >= 0 && d->n_held <= 3; }

size_t ct_detok_next(ct_detok *d, const ct_vocab *v, int32_t id, bool special, char *out, size_t cap)
{
    if ((ct_vocab_is_control(v, id) && !special) || cap < ct_detok_max(v))
        return 0;
    ct_str piece = ct_vocab_piece(v, id);
    size_t at = 0;
    for (size_t i = 0; i < piece.len; i++) {
        d->held[d->n_held++] = (uint8_t)piece.data[i]; /* at most three bytes are held between calls: ct_detok_sound */
        at = held_settle(d, false, out, at);
    }
    return at;
}

size_t ct_detok_flush(ct_detok *d, char *out, size_t cap)
{
    return cap < sizeof replacement * sizeof d->held ? 0 : held_settle(d, true, out, 0);
}
