/* Text to ids and back: Gemma's vocabulary, BPE by score with byte fallback, streaming decode.
 *
 * The vocabulary comes from the tokenizer.ggml.* arrays of a tensor directory. Ids are the same as Hugging Face tokenizers
 * gives with Gemma's tokenizer.json, for any bytes at all, in time O(n log n). This room does not know models or sessions. */
#ifndef CT_TEXT_VOCAB_H
#define CT_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "formats/tensors.h"

typedef struct ct_vocab ct_vocab; /* immutable; share freely between threads */

/* The most that an open directory and the vocabulary made of it take, above the size of the file. */
#define CT_VOCAB_BYTES ((size_t)64 << 20)

/* Reads the vocabulary. *out is NULL with CT_OK when the directory has no tokenizer: no keys of one (synthetic models), or no
 * tokens and the model "none".
 * Borrows nothing: the directory may be closed afterwards. EFORMAT for wrong types, lengths, ids out of range, duplicate or
 * missing byte pieces; EUNSUPPORTED for tokenizer models that are not Gemma's. */
ct_status ct_vocab_create(ct_vocab **out, const ct_tensors *t, ct_error *err);
void ct_vocab_free(ct_vocab *v);

int32_t ct_vocab_size(const ct_vocab *v);
int32_t ct_vocab_bos(const ct_vocab *v);
bool ct_vocab_add_bos(const ct_vocab *v); /* what the file says of texts given as they are; true when it says nothing */
/* True for the tokens that end a generation: eos, eot and whatever is named so in the file or by its text. */
bool ct_vocab_is_end(const ct_vocab *v, int32_t id);
bool ct_vocab_is_control(const ct_vocab *v, int32_t id);
/* The instruction-tuned models carry a chat template; base models do not. */
bool ct_vocab_has_turns(const ct_vocab *v);
/* Id of a piece by its exact text, or -1. */
int32_t ct_vocab_find(const ct_vocab *v, const char *text, size_t n);
/* The text of a piece as it appears in output: "▁" as space, a byte piece as its byte, control pieces by their name.
 * Borrowed from v. */
ct_str ct_vocab_piece(const ct_vocab *v, int32_t id);

typedef struct ct_ids { /* grown with ct_realloc; free with ct_ids_deinit */
    int32_t *ids;
    size_t n, room;
} ct_ids;
ct_status ct_ids_push(ct_ids *a, int32_t id, ct_error *err);
void ct_ids_deinit(ct_ids *a);

/* Appends the ids of text[0..n) to out. special: pieces like <end_of_turn> in the text become their ids; otherwise they are
 * plain text. bos: puts <bos> first, whatever the text begins with. A byte that is no part of a valid UTF-8 character becomes
 * its own byte piece (nothing is replaced by U+FFFD). Time O(n log n), about 40 bytes of memory for each byte of the longest
 * stretch without a safe cut. ENOMEM only; out then holds a part. */
ct_status ct_tokenize(const ct_vocab *v, const char *text, size_t n, bool bos, bool special, ct_ids *out,
                      ct_error *err);

/* Streaming decode: pieces go in, whole characters come out. Bytes of an unfinished character are held back until it is
 * whole or proven broken (then one U+FFFD for each byte). Zero-initialise to start. A text comes back as it was, but for a
 * literal U+2581, which becomes a space as everywhere in SentencePiece vocabularies. */
typedef struct ct_detok {
    uint8_t held[8];
    int32_t n_held;
} ct_detok;
/* Writes the text that id completes into out (cap >= ct_detok_max(v) bytes), returns its length. Control tokens give no text
 * unless special; a smaller cap gives no text. ct_detok_flush writes what is still held, as U+FFFD (cap >= 24). */
size_t ct_detok_next(ct_detok *d, const ct_vocab *v, int32_t id, bool special, char *out, size_t cap);
size_t ct_detok_flush(ct_detok *d, char *out, size_t cap);
size_t ct_detok_max(const ct_vocab *v);
/* May a state that comes from a file go on? Between calls it holds three bytes at most; next would write behind more than seven. */
bool ct_detok_sound(const ct_detok *d);

/* Gemma's turns by hand. One user turn (system text may be NULL) ready for the model's answer, appended to out as ids:
 * <bos><start_of_turn>user\n{system\n\n}{text, trimmed}<end_of_turn>\n<start_of_turn>model\n. Text is plain: control pieces
 * typed by a user stay text. */
ct_status ct_turn_user(const ct_vocab *v, const char *system, const char *text, size_t n, bool bos, ct_ids *out,
                       ct_error *err);

#endif
