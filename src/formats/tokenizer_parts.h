/* What the readers of tokenizer.json and tokenizer.model share, for the tokenizers of this room only: see tokenizer.c. */
#ifndef CT_FORMATS_TOKENIZER_PARTS_H
#define CT_FORMATS_TOKENIZER_PARTS_H

#include "base/file.h"
#include "formats/json.h"
#include "formats/token_table.h"

/* A tokenizer between its file and the directory. */
struct tokenizer {
    struct token_table table;
    /* Merges in place of scores, each "left right"; NULL where the scores say the same. */
    char *merges;
    ct_span *merge_spans;
    uint32_t n_merges;
};

/* Each fills the table, its index included. */
ct_status ct_tokenizer_json_tokens(struct tokenizer *k, const ct_map *map, ct_error *err);
ct_status ct_tokenizer_model_tokens(struct tokenizer *k, const ct_map *map, ct_error *err);

/* A token that a list of added tokens names: special ones are control tokens, and so are those that only look special. */
int32_t ct_token_added_type(ct_str text, bool special);
/* "<0x00>" .. "<0xFF>". */
bool ct_token_is_byte(ct_str text);
/* The token of images, which stands behind the text vocabulary of all Gemma 3, whether the embedding has a row for it or not. */
bool ct_token_is_image(ct_str text);

/* The token that `"<id>": {"content": ..., "special": ...}` or the same with "id" inside describes, its object next. What carat
 * cannot do (matching within words, around spaces) is EUNSUPPORTED. */
struct added_token {
    ct_json_str text;
    uint64_t id;
    bool has_id, special;
};
ct_status ct_added_token_read(ct_json *j, struct added_token *a, ct_error *err);

/* The characters of a string of at most CT_TOKEN_BYTES, where they lie or in buf; a longer one is an error of the reader. */
#define CT_TOKEN_ESCAPED (6 * CT_TOKEN_BYTES)
bool ct_token_text(ct_json *j, ct_json_str s, char buf[CT_TOKEN_ESCAPED], ct_str *out);

#endif
