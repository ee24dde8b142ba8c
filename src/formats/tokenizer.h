/* Tokenizers of checkpoint folders: tokenizer.json and tokenizer.model become the tokenizer.ggml.* arrays of a tensor
 * directory, the same as in a GGUF file, and back.
 *
 * Readers push keys between ct_tensors_new and ct_tensors_index; what they push lasts as long as the directory and borrows
 * nothing of the files. A key that is there already is left alone, so that what config.json says may be pushed first. What
 * the arrays mean, and whether they make a vocabulary, is for text/vocab.c to say. */
#ifndef CT_FORMATS_TOKENIZER_H
#define CT_FORMATS_TOKENIZER_H

#include "base/file.h"
#include "formats/tensors.h"

/* The tokenizer of a folder: tokenizer.model where there is one, else tokenizer.json, with what tokenizer_config.json and the
 * files of chat templates add. Nothing is pushed, and CT_OK returned, where the folder has neither. EFORMAT (damaged),
 * EUNSUPPORTED (sound, but not a tokenizer of Gemma's kind), EIO, ENOMEM. */
ct_status ct_tokenizer_read(ct_tensors *t, const char *folder, ct_error *err);
/* One of the two; ENOTFOUND where it is not there. */
ct_status ct_tokenizer_json_read(ct_tensors *t, const char *folder, ct_error *err);
ct_status ct_tokenizer_model_read(ct_tensors *t, const char *folder, ct_error *err);

/* The files alone, mapped or in memory (which may go afterwards); path is for sentences. config is the tokenizer_config.json
 * beside it, or NULL. */
ct_status ct_tokenizer_json_parse(ct_tensors *t, const char *path, const ct_map *map, const ct_map *config,
                                  ct_error *err);
ct_status ct_tokenizer_model_parse(ct_tensors *t, const char *path, const ct_map *map, const ct_map *config,
                                   ct_error *err);

/* Writes the tokenizer of any directory as a tokenizer.json, by way of a temporary name. Merges are made again of the pieces
 * and their scores, in the order that the SentencePiece converter of Hugging Face gives them. ENOTFOUND when the directory
 * has no tokenizer, EFORMAT when its arrays are not sound. */
ct_status ct_tokenizer_json_write(const char *path, const ct_tensors *t, ct_error *err);
/* The same of tokenizer_config.json: special tokens, what is put in front of a text, the chat template if there is one. */
ct_status ct_tokenizer_config_write(const char *path, const ct_tensors *t, ct_error *err);

#endif
