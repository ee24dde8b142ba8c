/* The tokenizer of a checkpoint folder: which files there are, what tokenizer_config.json adds, and the keys that the directory
 * gets. How the two kinds of tokenizer files are read: tokenizer_json.c, tokenizer_model.c. */
#include "formats/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "formats/directory.h"
#include "formats/tokenizer_parts.h"

#define CONFIG_FILE "tokenizer_config.json"
#define CHAT_KEY "tokenizer.chat_template"
#define CHAT_MAX (1 << 20) /* Gemma's has 1.5 kB */

/* What is of interest in tokenizer_config.json. Names are kept where they lie in its text. */
struct config {
    ct_json_str bos, eos, unknown, pad;
    bool add_bos, add_eos;
};

/* ---- tokens -------------------------------------------------------------------------------------------------------- */

bool ct_token_is_byte(ct_str s)
{
    if (s.len != 6 || memcmp(s.data, "<0x", 3) != 0 || s.data[5] != '>')
        return false;
    for (int i = 3; i < 5; i++)
        if (!(s.data[i] >= '0' && s.data[i] <= '9') && !(s.data[i] >= 'A' && s.data[i] <= 'F'))
            return false;
    return true;
}

bool ct_token_is_image(ct_str s) { return ct_str_is(s, "<image_soft_token>"); }

int32_t ct_token_added_type(ct_str s, bool special)
{
    if (special || ct_str_is(s, "<mask>"))
        return CT_TOKEN_CONTROL;
    size_t i = 7;
    if (s.len < 9 || memcmp(s.data, "<unused", 7) != 0)
        return CT_TOKEN_USER;
    while (i < s.len && s.data[i] >= '0' && s.data[i] <= '9')
        i++;
    return i == s.len - 1 && s.data[i] == '>' ? CT_TOKEN_CONTROL : CT_TOKEN_USER;
}

static void tokenizer_deinit(struct tokenizer *k)
{
    ct_tokens_deinit(&k->table);
    ct_free(k->merges);
    ct_free(k->merge_spans);
}

/* ---- tokenizer_config.json ----------------------------------------------------------------------------------------- */

static void read_template(ct_json *j, ct_json_str *chat)
{
    ct_json_str key, name, text;
    if (ct_json_null(j))
        return;
    if (ct_json_peek(j) != CT_JSON_ARRAY) {
        ct_json_string(j, chat);
        return;
    }
    ct_json_array(j); /* several, with names */
    while (ct_json_more(j)) {
        name = text = (ct_json_str){0};
        ct_json_object(j);
        while (ct_json_key(j, &key)) {
            if (ct_json_is(key, "name"))
                ct_json_string(j, &name);
            else if (ct_json_is(key, "template"))
                ct_json_string(j, &text);
            else
                ct_json_skip(j);
        }
        if (ct_json_is(name, "default") || chat->len == 0)
            *chat = text;
    }
}

/* A special token: its text, or an object that has it, or null. */
static ct_status read_name(ct_json *j, ct_json_str *name, ct_error *err)
{
    struct added_token a;
    if (ct_json_peek(j) == CT_JSON_OBJECT) {
        ct_status st = ct_added_token_read(j, &a, err);
        *name = a.text;
        return st;
    }
    if (!ct_json_null(j))
        ct_json_string(j, name);
    return ct_json_status(j);
}

/* Added tokens by id: what tokenizer.model does not know of, or knows by another name. */
static ct_status read_decoder(struct tokenizer *k, ct_json *j, ct_error *err)
{
    struct token_table *table = &k->table;
    uint32_t n_model = table->n;
    ct_json_str key;
    ct_str text;
    char buf[CT_TOKEN_ESCAPED];
    bool changed = false;
    ct_status st = CT_OK;
    ct_json_object(j);
    while (st == CT_OK && ct_json_key(j, &key)) {
        struct added_token a;
        uint64_t id = 0;
        for (size_t i = 0; i < key.len && id < CT_TOKENS_MAX; i++)
            id = key.data[i] >= '0' && key.data[i] <= '9' ? 10 * id + (uint64_t)(key.data[i] - '0') : CT_TOKENS_MAX;
        if (key.len == 0 || id >= CT_TOKENS_MAX)
            ct_json_fail(j, "an id below 2^20 as the key of an added token", "another one");
        st = ct_json_status(j) == CT_OK ? ct_added_token_read(j, &a, err) : ct_json_status(j);
        if (st != CT_OK || !ct_token_text(j, a.text, buf, &text))
            break;
        int32_t type = ct_token_added_type(text, a.special);
        ct_str known = id < n_model ? ct_tokens_at(table, (uint32_t)id) : (ct_str){"", 0};
        if (id >= n_model) {
            st = ct_tokens_put(table, id, text, type, 0, err);
            changed = true;
        } else {
            table->types[id] = type;
            if (known.len != text.len || memcmp(known.data, text.data, text.len) != 0) {
                st = ct_tokens_rename(table, (uint32_t)id, text, err);
                changed = true;
            }
        }
    }
    if (st == CT_OK)
        st = ct_json_status(j);
    if (st == CT_OK && table->n == n_model + 1 && ct_token_is_image(ct_tokens_at(table, n_model)))
        table->n--;
    return st == CT_OK && changed ? ct_tokens_index(table, err) : st;
}

/* decoder: added tokens count, because the other file is a tokenizer.model. */
static ct_status read_config(struct config *c, struct tokenizer *k, bool decoder, ct_json *j, ct_json_str *chat,
                             ct_error *err)
{
    static const struct {
        const char *key;
        size_t offset;
    } names[] = {{"bos_token", offsetof(struct config, bos)},
                 {"eos_token", offsetof(struct config, eos)},
                 {"unk_token", offsetof(struct config, unknown)},
                 {"pad_token", offsetof(struct config, pad)}};
    ct_json_str key;
    ct_status st = CT_OK;
    bool decoded = false;
    ct_json_object(j);
    while (st == CT_OK && ct_json_key(j, &key)) {
        ct_json_str *name = NULL;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (ct_json_is(key, names[i].key))
                name = (ct_json_str *)(void *)((char *)c + names[i].offset);
        if (name) {
            st = read_name(j, name, err);
        } else if (ct_json_is(key, "add_bos_token") && ct_json_peek(j) == CT_JSON_BOOL) {
            ct_json_bool(j, &c->add_bos);
        } else if (ct_json_is(key, "add_eos_token") && ct_json_peek(j) == CT_JSON_BOOL) {
            ct_json_bool(j, &c->add_eos);
        } else if (ct_json_is(key, "chat_template")) {
            read_template(j, chat);
        } else if (decoder && !decoded && ct_json_is(key, "added_tokens_decoder")) {
            st = read_decoder(k, j, err);
            decoded = true;
        } else {
            ct_json_skip(j);
        }
    }
    return st == CT_OK ? ct_json_end(j) : st;
}

/* ---- keys ---------------------------------------------------------------------------------------------------------- */

static ct_status no_memory(const struct tokenizer *k, ct_error *err)
{
    return ct_fail(err, CT_ENOMEM, k->table.path, "out of memory for the tokens of '%s'", ct_path_tail(k->table.path));
}

/* An array of n elements in memory of the directory; strings have spans. */
static bool put_array(ct_tensors *t, const char *key, ct_kv_type elem, uint64_t n, const void *data, ct_span *spans)
{
    ct_kv_pair *kv = data ? ct_kv_push(t) : NULL;
    if (kv == NULL) {
        ct_free(spans);
        return false;
    }
    *kv = (ct_kv_pair){
        .key = {key, strlen(key)}, .type = CT_KV_ARRAY, .elem_type = elem, .count = n, .data = data, .spans = spans};
    return true;
}

/* Strings, copied. GGUF files spell the spaces of user-defined tokens as spaces, since those are matched in raw text. */
static bool put_tokens(ct_tensors *t, const struct token_table *table)
{
    size_t bytes = 0, at = 0;
    for (uint32_t id = 0; id < table->n; id++)
        bytes += table->spans[id].len;
    char *text = ct_tensors_alloc(t, bytes + 1);
    ct_span *spans = ct_calloc(table->n, sizeof *spans);
    if (text == NULL || spans == NULL) {
        ct_free(spans);
        return false;
    }
    for (uint32_t id = 0; id < table->n; id++) {
        ct_str s = ct_tokens_at(table, id);
        spans[id].at = (uint32_t)at;
        for (size_t i = 0; i < s.len;) {
            bool space = table->types[id] == CT_TOKEN_USER && s.len - i >= 3 &&
                         memcmp(s.data + i, "\xe2\x96\x81", 3) == 0;
            text[at++] = space ? ' ' : s.data[i];
            i += space ? 3 : 1;
        }
        spans[id].len = (uint32_t)(at - spans[id].at);
    }
    return put_array(t, "tokenizer.ggml.tokens", CT_KV_STRING, table->n, text, spans);
}

static bool put_merges(ct_tensors *t, const struct tokenizer *k)
{
    size_t bytes = k->n_merges > 0 ? (size_t)k->merge_spans[k->n_merges - 1].at + k->merge_spans[k->n_merges - 1].len
                                   : 0;
    char *text = ct_tensors_alloc(t, bytes + 1);
    ct_span *spans = ct_calloc((size_t)k->n_merges + 1, sizeof *spans);
    if (text && spans && bytes > 0) {
        memcpy(text, k->merges, bytes);
        memcpy(spans, k->merge_spans, k->n_merges * sizeof *spans);
    }
    if (spans == NULL)
        return false;
    return put_array(t, "tokenizer.ggml.merges", CT_KV_STRING, k->n_merges, text, spans);
}

static bool put_arrays(ct_tensors *t, const struct tokenizer *k)
{
    const struct token_table *table = &k->table;
    float *scores = ct_tensors_alloc(t, table->n * sizeof *scores);
    int32_t *types = ct_tensors_alloc(t, table->n * sizeof *types);
    if (scores == NULL || types == NULL)
        return false;
    if (table->n > 0)
        memcpy(types, table->types, table->n * sizeof *types);
    for (uint32_t id = 0; id < table->n;
         id++) /* as converters have it: added tokens last, bytes outside of the order */
        scores[id] = types[id] == CT_TOKEN_NORMAL ? table->scores[id] : types[id] == CT_TOKEN_BYTE ? 0.0f : -1000.0f;
    const char *model = k->merges ? "gpt2" : "llama";
    return ct_kv_put_string(t, "tokenizer.ggml.model", model, strlen(model)) &&
           ct_kv_put_string(t, "tokenizer.ggml.pre", "default", 7) && put_tokens(t, table) &&
           put_array(t, "tokenizer.ggml.token_type", CT_KV_I32, table->n, types, NULL) &&
           (k->merges ? put_merges(t, k) : put_array(t, "tokenizer.ggml.scores", CT_KV_F32, table->n, scores, NULL));
}

/* The id of a special token, by its name in the configuration or its usual text. */
static ct_status put_id(ct_tensors *t, const struct tokenizer *k, const char *key, ct_json_str name, const char *usual,
                        ct_error *err)
{
    char buf[CT_TOKEN_ESCAPED], quote[CT_QUOTE];
    ct_str text = {usual, strlen(usual)};
    if (name.len > CT_TOKEN_ESCAPED)
        name.len = 0;
    if (name.len > 0)
        text = name.escaped ? (ct_str){buf, ct_json_unescape(name, buf)} : (ct_str){name.data, name.len};
    int32_t id = ct_tokens_find(&k->table, text);
    if (id < 0 && name.len > 0)
        return ct_fail(err, CT_EFORMAT, k->table.path,
                       "'%s': expected the token '%s', which the tokenizer's configuration names, found none: they are "
                       "not of the same "
                       "model",
                       ct_path_tail(k->table.path), ct_quote(quote, text));
    if (id < 0 || ct_kv_pushed(t, key))
        return CT_OK;
    return ct_kv_put_u32(t, key, (uint32_t)id) ? CT_OK : no_memory(k, err);
}

static ct_status put_flag(ct_tensors *t, const struct tokenizer *k, const char *key, bool v, ct_error *err)
{
    return ct_kv_pushed(t, key) || ct_kv_put_bool(t, key, v) ? CT_OK : no_memory(k, err);
}

static ct_status put_chat(ct_tensors *t, const struct tokenizer *k, ct_json_str chat, ct_error *err)
{
    if (chat.len == 0 || ct_kv_pushed(t, CHAT_KEY))
        return CT_OK;
    if (chat.len > CHAT_MAX)
        return ct_fail(err, CT_EFORMAT, CONFIG_FILE, "'%s': expected a chat template of at most %d bytes, found %zu",
                       CONFIG_FILE, CHAT_MAX, chat.len);
    char *text = ct_alloc(chat.len);
    bool ok = text && ct_kv_put_string(t, CHAT_KEY, text, ct_json_unescape(chat, text));
    ct_free(text);
    return ok ? CT_OK : no_memory(k, err);
}

static ct_status put_all(ct_tensors *t, const struct tokenizer *k, const struct config *c, ct_error *err)
{
    if (!put_arrays(t, k))
        return no_memory(k, err);
    ct_status st = put_id(t, k, "tokenizer.ggml.bos_token_id", c->bos, "<bos>", err);
    if (st == CT_OK)
        st = put_id(t, k, "tokenizer.ggml.eos_token_id", c->eos, "<eos>", err);
    if (st == CT_OK)
        st = put_id(t, k, "tokenizer.ggml.eot_token_id", (ct_json_str){0}, "<end_of_turn>", err);
    if (st == CT_OK)
        st = put_id(t, k, "tokenizer.ggml.unknown_token_id", c->unknown, "<unk>", err);
    if (st == CT_OK)
        st = put_id(t, k, "tokenizer.ggml.padding_token_id", c->pad, "<pad>", err);
    if (st == CT_OK)
        st = put_flag(t, k, "tokenizer.ggml.add_bos_token", c->add_bos, err);
    if (st == CT_OK)
        st = put_flag(t, k, "tokenizer.ggml.add_eos_token", c->add_eos, err);
    return st == CT_OK ? put_flag(t, k, "tokenizer.ggml.add_space_prefix", false, err) : st;
}

/* ---- files --------------------------------------------------------------------------------------------------------- */

typedef ct_status tokens_fn(struct tokenizer *k, const ct_map *map, ct_error *err);

static ct_status parse(ct_tensors *t, const char *path, const ct_map *map, const ct_map *config, tokens_fn *tokens,
                       ct_error *err)
{
    struct tokenizer k = {0};
    struct config c = {.add_bos = true};
    ct_json_str chat = {0};
    k.table.path = path;
    ct_status st = tokens(&k, map, err);
    if (st == CT_OK && config) {
        ct_json j;
        ct_json_init(&j, CONFIG_FILE, config->data, config->size, err);
        st = read_config(&c, &k, tokens == ct_tokenizer_model_tokens, &j, &chat, err);
    }
    if (st == CT_OK)
        st = put_all(t, &k, &c, err);
    if (st == CT_OK)
        st = put_chat(t, &k, chat, err);
    tokenizer_deinit(&k);
    return st;
}

ct_status ct_tokenizer_json_parse(ct_tensors *t, const char *path, const ct_map *map, const ct_map *config,
                                  ct_error *err)
{
    return parse(t, path, map, config, ct_tokenizer_json_tokens, err);
}

ct_status ct_tokenizer_model_parse(ct_tensors *t, const char *path, const ct_map *map, const ct_map *config,
                                   ct_error *err)
{
    return parse(t, path, map, config, ct_tokenizer_model_tokens, err);
}

/* A file of the folder, its path in *path (ct_free); not there: ENOTFOUND, or nothing and CT_OK if it may be absent. */
static ct_status open_in(ct_map *map, char **path, const char *folder, const char *name, bool optional, ct_error *err)
{
    size_t n = strlen(folder) + strlen(name) + 2;
    *map = (ct_map){0};
    *path = ct_alloc(n);
    if (*path == NULL)
        return ct_fail(err, CT_ENOMEM, folder, "out of memory while opening '%s'", ct_path_tail(folder));
    snprintf(*path, n, "%s/%s", folder, name);
    ct_error e;
    ct_status st = ct_map_open(map, *path, &e);
    if (st == CT_ENOTFOUND && optional)
        return CT_OK;
    if (st != CT_OK && err)
        *err = e;
    return st;
}

/* A template in a file of its own, which goes before the one in the configuration. */
static ct_status read_chat_file(ct_tensors *t, const char *folder, ct_error *err)
{
    ct_map map;
    char *path;
    ct_status st = open_in(&map, &path, folder, "chat_template.jinja", true, err);
    if (st == CT_OK && map.size > CHAT_MAX)
        st = ct_fail(err, CT_EFORMAT, path, "'%s': expected a chat template of at most %d bytes, found %zu",
                     ct_path_tail(path), CHAT_MAX, map.size);
    if (st == CT_OK && map.size > 0 && !ct_kv_pushed(t, CHAT_KEY) &&
        !ct_kv_put_string(t, CHAT_KEY, (const char *)map.data, map.size))
        st = ct_fail(err, CT_ENOMEM, path, "out of memory for '%s'", ct_path_tail(path));
    ct_map_close(&map);
    ct_free(path);
    return st;
}

static ct_status read_folder(ct_tensors *t, const char *folder, const char *name, tokens_fn *tokens, ct_error *err)
{
    ct_map map = {0}, config = {0};
    char *path = NULL, *config_path = NULL;
    ct_status st = open_in(&map, &path, folder, name, false, err);
    if (st == CT_OK)
        st = open_in(&config, &config_path, folder, CONFIG_FILE, true, err);
    if (st == CT_OK)
        st = read_chat_file(t, folder, err);
    if (st == CT_OK)
        st = parse(t, path, &map, config.size > 0 ? &config : NULL, tokens, err);
    ct_map_close(&config);
    ct_map_close(&map);
    ct_free(config_path);
    ct_free(path);
    return st;
}

ct_status ct_tokenizer_json_read(ct_tensors *t, const char *folder, ct_error *err)
{
    return read_folder(t, folder, "tokenizer.json", ct_tokenizer_json_tokens, err);
}

ct_status ct_tokenizer_model_read(ct_tensors *t, const char *folder, ct_error *err)
{
    return read_folder(t, folder, "tokenizer.model", ct_tokenizer_model_tokens, err);
}

ct_status ct_tokenizer_read(ct_tensors *t, const char *folder, ct_error *err)
{
    ct_error e;
    ct_status st = ct_tokenizer_model_read(t, folder, &e);
    if (st == CT_ENOTFOUND)
        st = ct_tokenizer_json_read(t, folder, &e);
    if (st == CT_ENOTFOUND)
        return CT_OK;
    if (st != CT_OK && err)
        *err = e;
    return st;
}
