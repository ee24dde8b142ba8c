/* tokenizer.json and tokenizer_config.json out of the tokenizer.ggml.* arrays of any directory: what Hugging Face's tokenizers
 * reads back as the same tokenizer.
 *
 * Merges are not in a vocabulary with scores; they follow from it (token_table.h). What surrounds them is Gemma's and always the
 * same, but for the special tokens. An entry a line: half of the size that indenting it would give. */
#include <string.h>

#include "base/mem.h"
#include "formats/directory.h"
#include "formats/stream.h"
#include "formats/token_table.h"
#include "formats/tokenizer.h"
#include "formats/tokenizer_parts.h"

#define IMAGE_ID 262144 /* of <image_soft_token>, in all folders of Gemma 3 */
#define NO_ID UINT32_MAX

/* The arrays as a table, and the ids that have names. */
struct source {
    const ct_tensors *t;
    const char *path;
    struct token_table table;
    const ct_kv_pair *merges; /* NULL: by scores */
    uint32_t bos, eos, unknown, pad;
    bool add_bos;
};

/* ---- the arrays ---------------------------------------------------------------------------------------------------- */

/* Special in the sense of Hugging Face: left out when a text is decoded without special tokens. */
static bool is_special(const struct source *s, uint32_t id)
{
    static const char *const names[] = {"<pad>",
                                        "<eos>",
                                        "<bos>",
                                        "<unk>",
                                        "<start_of_turn>",
                                        "<end_of_turn>",
                                        "<start_of_image>",
                                        "<end_of_image>",
                                        "<image_soft_token>"};
    ct_str text = ct_tokens_at(&s->table, id);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (ct_str_is(text, names[i]))
            return true;
    return id == s->bos || id == s->eos || id == s->unknown || id == s->pad;
}

/* An array of the tokenizer by its type; NULL in *kv when it is not there. */
static ct_status find_array(const struct source *s, const char *key, ct_kv_type elem, const ct_kv_pair **kv,
                            ct_error *err)
{
    *kv = ct_tensors_kv(s->t, key);
    bool right = *kv == NULL || ((*kv)->type == CT_KV_ARRAY &&
                                 ((*kv)->elem_type == elem || (elem == CT_KV_I32 && (*kv)->elem_type == CT_KV_U32)));
    return right ? CT_OK
                 : ct_fail(err, CT_EFORMAT, s->path,
                           "'%s': expected %s to be an array as tokenizers have it, found another type",
                           ct_path_tail(s->path), key);
}

static ct_status put_token(struct source *s, uint32_t id, ct_str text, int32_t type, float score, ct_error *err)
{
    char wide[3 * CT_TOKEN_BYTES];
    if (score != score)
        return ct_fail(err, CT_EFORMAT, s->path, "'%s': expected a number as the score of token %u, found NaN",
                       ct_path_tail(s->path), id);
    if (type == CT_TOKEN_USER && text.len > 0 && text.len <= CT_TOKEN_BYTES && memchr(text.data, ' ', text.len)) {
        size_t n = 0;
        for (size_t i = 0; i < text.len; i++) {
            bool space = text.data[i] == ' ';
            memcpy(wide + n, space ? "\xe2\x96\x81" : text.data + i, space ? 3 : 1);
            n += space ? 3 : 1;
        }
        text = (ct_str){wide, n};
    }
    return ct_tokens_put(&s->table, id, text, type, score, err);
}

static ct_status named_id(const struct source *s, const char *key, const char *usual, uint32_t *id, ct_error *err)
{
    *id = NO_ID;
    ct_status st = ct_kv_u32(s->t, key, id, err);
    if (st != CT_OK)
        return st;
    if (*id == NO_ID) {
        int32_t found = ct_tokens_find(&s->table, (ct_str){usual, strlen(usual)});
        *id = found < 0 ? NO_ID : (uint32_t)found;
    } else if (*id >= s->table.n) {
        return ct_fail(err, CT_EFORMAT, s->path, "'%s': %s: expected an id below %u, found %u", ct_path_tail(s->path),
                       key, s->table.n, *id);
    }
    return CT_OK;
}

static ct_status named_ids(struct source *s, ct_error *err)
{
    ct_status st = named_id(s, "tokenizer.ggml.bos_token_id", "<bos>", &s->bos, err);
    if (st == CT_OK)
        st = named_id(s, "tokenizer.ggml.eos_token_id", "<eos>", &s->eos, err);
    if (st == CT_OK)
        st = named_id(s, "tokenizer.ggml.unknown_token_id", "<unk>", &s->unknown, err);
    if (st == CT_OK)
        st = named_id(s, "tokenizer.ggml.padding_token_id", "<pad>", &s->pad, err);
    s->add_bos = true;
    return st == CT_OK ? ct_kv_bool(s->t, "tokenizer.ggml.add_bos_token", &s->add_bos, err) : st;
}

static ct_status source_open(struct source *s, const ct_tensors *t, ct_error *err)
{
    const ct_kv_pair *tokens, *types, *scores;
    *s = (struct source){.t = t, .path = ct_tensors_path(t)};
    ct_status st = find_array(s, "tokenizer.ggml.tokens", CT_KV_STRING, &tokens, err);
    if (st == CT_OK)
        st = find_array(s, "tokenizer.ggml.token_type", CT_KV_I32, &types, err);
    if (st == CT_OK)
        st = find_array(s, "tokenizer.ggml.scores", CT_KV_F32, &scores, err);
    if (st == CT_OK)
        st = find_array(s, "tokenizer.ggml.merges", CT_KV_STRING, &s->merges, err);
    if (st != CT_OK)
        return st;
    if (tokens == NULL || tokens->count == 0)
        return ct_fail(err, CT_ENOTFOUND, s->path, "'%s': expected a tokenizer to write, found none",
                       ct_path_tail(s->path));
    if (scores)
        s->merges = NULL;
    uint64_t n = tokens->count;
    if ((types && types->count != n) || (scores && scores->count != n) || (scores == NULL && s->merges == NULL) ||
        n > CT_TOKENS_MAX)
        return ct_fail(
            err, CT_EFORMAT, s->path,
            "'%s': expected at most %u tokens, a type and a score (or a list of merges) for each of the %llu found",
            ct_path_tail(s->path), CT_TOKENS_MAX, (unsigned long long)n);
    st = ct_tokens_init(&s->table, s->path, (size_t)n * 8, err);
    for (uint32_t id = 0; id < n && st == CT_OK; id++) {
        ct_str text = ct_kv_str(tokens, id);
        int32_t type = CT_TOKEN_NORMAL;
        float score = 0;
        if (types)
            memcpy(&type, types->data + 4 * (size_t)id, 4);
        if (scores)
            memcpy(&score, scores->data + 4 * (size_t)id, 4);
        if (ct_token_is_byte(text))
            type = CT_TOKEN_BYTE;
        if (type != CT_TOKEN_UNUSED || id + 1 < n) /* one at the end fills a row of the embedding */
            st = put_token(s, id, text, type, score, err);
    }
    if (st == CT_OK)
        st = ct_tokens_index(&s->table, err);
    return st == CT_OK ? named_ids(s, err) : st;
}

/* ---- JSON ---------------------------------------------------------------------------------------------------------- */

static ct_str text_of(const struct source *s, uint32_t id)
{
    return id == NO_ID ? (ct_str){"", 0} : ct_tokens_at(&s->table, id);
}

static bool is_added(const struct source *s, uint32_t id)
{
    return (s->table.types[id] != CT_TOKEN_NORMAL && s->table.types[id] != CT_TOKEN_BYTE) || is_special(s, id);
}

/* Whether the folder names the token of images though the vocabulary ends before it. */
static bool adds_image(const struct source *s)
{
    return s->table.n == IMAGE_ID && ct_tokens_find(&s->table, (ct_str){"<start_of_image>", 16}) >= 0;
}

/* What follows the id of an added token, in both files. */
static void put_added(ct_stream *o, ct_str text, bool special)
{
    ct_stream_text(o, "\"content\": ");
    ct_stream_quoted(o, text);
    ct_stream_format(
        o, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": %s}",
        special ? "true" : "false");
}

/* All of them, each behind what head makes of its id. */
static void put_all_added(ct_stream *o, const struct source *s, const char *head)
{
    const char *comma = "\n";
    for (uint32_t id = 0; id < s->table.n; id++) {
        if (!is_added(s, id))
            continue;
        ct_stream_text(o, comma);
        ct_stream_format(o, head, id);
        put_added(o, ct_tokens_at(&s->table, id), is_special(s, id));
        comma = ",\n";
    }
    if (adds_image(s)) {
        ct_stream_text(o, comma);
        ct_stream_format(o, head, (uint32_t)IMAGE_ID);
        put_added(o, (ct_str){"<image_soft_token>", 18}, true);
    }
}

/* What puts <bos> in front of a text. */
static void put_post_processor(ct_stream *o, const struct source *s)
{
    static const char *const sequence[] = {"A", "A", "B"};
    if (!s->add_bos || s->bos == NO_ID) {
        ct_stream_text(o, "null");
        return;
    }
    ct_str bos = text_of(s, s->bos);
    ct_stream_text(o, "{\"type\": \"TemplateProcessing\", \"single\": [");
    for (size_t i = 0; i < 3; i++) {
        ct_stream_text(o, i == 1 ? "], \"pair\": [" : i == 2 ? ", " : "");
        ct_stream_text(o, "{\"SpecialToken\": {\"id\": ");
        ct_stream_quoted(o, bos);
        ct_stream_format(o, ", \"type_id\": %d}}, {\"Sequence\": {\"id\": \"%s\", \"type_id\": %d}}", i == 2,
                         sequence[i], i == 2);
    }
    ct_stream_text(o, "], \"special_tokens\": {");
    ct_stream_quoted(o, bos);
    ct_stream_text(o, ": {\"id\": ");
    ct_stream_quoted(o, bos);
    ct_stream_format(o, ", \"ids\": [%u], \"tokens\": [", s->bos);
    ct_stream_quoted(o, bos);
    ct_stream_text(o, "]}}}");
}

static void put_pair(ct_stream *o, bool first, ct_str left, ct_str right)
{
    ct_stream_text(o, first ? "\n[" : ",\n[");
    ct_stream_quoted(o, left);
    ct_stream_text(o, ",");
    ct_stream_quoted(o, right);
    ct_stream_text(o, "]");
}

static ct_status put_merges_made(ct_stream *o, const struct source *s, ct_error *err)
{
    struct merge_list list;
    struct ct_merge m;
    bool first = true;
    ct_status st = ct_merges_init(&list, &s->table, err);
    for (; st == CT_OK && ct_merges_next(&list, &m); first = false) {
        ct_str whole = ct_tokens_at(&s->table, m.id);
        put_pair(o, first, (ct_str){whole.data, m.left}, (ct_str){whole.data + m.left, whole.len - m.left});
    }
    if (st == CT_OK && list.status != CT_OK)
        st = ct_fail(err, list.status, s->path,
                     list.status == CT_ENOMEM ? "out of memory for the merges of '%s'"
                                              : "'%s': expected at most 2^20 merges, found more",
                     ct_path_tail(s->path));
    ct_merges_deinit(&list);
    return st;
}

static ct_status put_merges_kept(ct_stream *o, const struct source *s, ct_error *err)
{
    for (uint64_t i = 0; i < s->merges->count; i++) {
        ct_str line = ct_kv_str(s->merges, i);
        const char *gap = line.len > 0 ? memchr(line.data, ' ', line.len) : NULL;
        size_t left = gap ? (size_t)(gap - line.data) : 0, right = gap ? line.len - left - 1 : 0;
        if (left == 0 || right == 0 || memchr(gap + 1, ' ', right) != NULL)
            return ct_fail(
                err, CT_EFORMAT, s->path,
                "'%s': tokenizer.ggml.merges[%llu]: expected two pieces with one space between them, found other text",
                ct_path_tail(s->path), (unsigned long long)i);
        put_pair(o, i == 0, (ct_str){line.data, left}, (ct_str){gap + 1, right});
    }
    return CT_OK;
}

static ct_status put_json(ct_stream *o, const struct source *s, ct_error *err)
{
    uint32_t n = s->table.n;
    ct_stream_text(o, "{\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n\"added_tokens\": [");
    put_all_added(o, s, "{\"id\": %u, ");
    ct_stream_text(o, "\n],\n\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": "
                      "\"\xe2\x96\x81\"},\n\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, "
                      "\"behavior\": \"MergedWithPrevious\", \"invert\": false},\n\"post_processor\": ");
    put_post_processor(o, s);
    ct_stream_text(o, ",\n\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": "
                      "{\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": "
                      "\"Fuse\"}]},\n\"model\": {\"type\": \"BPE\",\n\"dropout\": null,\n\"unk_token\": ");
    if (s->unknown == NO_ID)
        ct_stream_text(o, "null");
    else
        ct_stream_quoted(o, text_of(s, s->unknown));
    ct_stream_text(o, ",\n\"continuing_subword_prefix\": null,\n\"end_of_word_suffix\": null,\n\"fuse_unk\": true,\n"
                      "\"byte_fallback\": true,\n\"ignore_merges\": false,\n\"vocab\": {");
    if (ct_token_is_image(text_of(s, n - 1)))
        n--; /* outside of the text's vocabulary, where folders have it */
    for (uint32_t id = 0; id < n; id++) {
        ct_stream_text(o, id > 0 ? ",\n" : "\n");
        ct_stream_quoted(o, text_of(s, id));
        ct_stream_format(o, ": %u", id);
    }
    ct_stream_text(o, "\n},\n\"merges\": [");
    ct_status st = s->merges ? put_merges_kept(o, s, err) : put_merges_made(o, s, err);
    ct_stream_text(o, "\n]\n}}\n");
    return st;
}

static void put_name(ct_stream *o, const struct source *s, const char *key, uint32_t id)
{
    if (id == NO_ID)
        return;
    ct_stream_format(o, ",\n\"%s\": ", key);
    ct_stream_quoted(o, text_of(s, id));
}

static ct_status put_config(ct_stream *o, const struct source *s, ct_error *err)
{
    ct_str chat = {NULL, 0};
    uint32_t context = 0;
    ct_status st = ct_kv_string(s->t, "tokenizer.chat_template", &chat, err);
    if (st == CT_OK)
        st = ct_kv_u32(s->t, "gemma3.context_length", &context, err);
    ct_stream_format(o, "{\"add_bos_token\": %s,\n\"add_eos_token\": false,\n\"added_tokens_decoder\": {",
                     s->add_bos ? "true" : "false");
    put_all_added(o, s, "\"%u\": {");
    ct_stream_text(o, "\n}");
    put_name(o, s, "bos_token", s->bos);
    if (chat.len > 0) {
        ct_stream_text(o, ",\n\"chat_template\": ");
        ct_stream_quoted(o, chat);
    }
    ct_stream_text(o, ",\n\"clean_up_tokenization_spaces\": false");
    put_name(o, s, "eos_token", s->eos);
    if (context > 0)
        ct_stream_format(o, ",\n\"model_max_length\": %u", context);
    put_name(o, s, "pad_token", s->pad);
    ct_stream_text(o, ",\n\"spaces_between_special_tokens\": false,\n\"tokenizer_class\": \"GemmaTokenizer\"");
    put_name(o, s, "unk_token", s->unknown);
    ct_stream_text(o, ",\n\"use_default_system_prompt\": false}\n");
    return st;
}

typedef ct_status put_fn(ct_stream *o, const struct source *s, ct_error *err);

static ct_status write_file(const char *path, const ct_tensors *t, put_fn *put, ct_error *err)
{
    struct source s;
    ct_writer *w = NULL;
    ct_stream o;
    ct_status st = source_open(&s, t, err), written;
    if (st == CT_OK)
        st = ct_writer_open(&w, path, err);
    if (st != CT_OK)
        goto done;
    ct_stream_begin(&o, w, err);
    st = put(&o, &s, err);
    written = ct_stream_end(&o);
    st = st == CT_OK ? written : st;
    if (st == CT_OK) {
        st = ct_writer_commit(w, err);
        w = NULL;
    }
done:
    ct_writer_abandon(w);
    ct_tokens_deinit(&s.table);
    return st;
}

ct_status ct_tokenizer_json_write(const char *path, const ct_tensors *t, ct_error *err)
{
    return write_file(path, t, put_json, err);
}

ct_status ct_tokenizer_config_write(const char *path, const ct_tensors *t, ct_error *err)
{
    return write_file(path, t, put_config, err);
}
