/* The vocabulary of text_fixture.h as tokenizer.json and as tokenizer.model, whole or spoiled on purpose. Merges are found here
 * by trying everything, another way than the product's. Test code: it aborts when memory is short. */
#ifndef CARAT_TESTS_TOKENIZER_FILES_H
#define CARAT_TESTS_TOKENIZER_FILES_H

#include "text_fixture.h"

enum {                         /* how a tokenizer.json is spelled */
       JSON_MODEL_FIRST = 1,   /* the model in front of the added tokens */
       JSON_MERGES_FIRST = 2,  /* in the model, merges in front of the vocabulary */
       JSON_OLD_MERGES = 4,    /* "left right" */
       JSON_ESCAPED = 8,       /* everything beyond ASCII as \u.... */
       JSON_OTHER_MERGES = 16, /* the first two merges of ordinary pieces change places */
       JSON_IMAGE = 32,        /* <image_soft_token> behind the vocabulary */
       JSON_SEQUENCE = 64,     /* the normalizer in a sequence */
       JSON_OTHER_ORDER = 128  /* the vocabulary by falling ids */
};

static inline void put_z(gguf_bytes *b, const char *z) { gguf_put(b, z, strlen(z)); }

/* What stands in the quotes. U+2581 for spaces, as the file has it. */
static inline void put_inner(gguf_bytes *b, const char *s, int how)
{
    char text[16];
    for (const uint8_t *p = (const uint8_t *)s; *p; p++) {
        if (*p == '"' || *p == '\\') {
            gguf_put(b, "\\", 1);
            gguf_put(b, p, 1);
        } else if (*p == ' ') {
            put_z(b, how & JSON_ESCAPED ? "\\u2581" : "\xe2\x96\x81");
        } else if (*p < 0x20) {
            snprintf(text, sizeof text, "\\u%04x", *p);
            put_z(b, text);
        } else if (*p < 0x80 || !(how & JSON_ESCAPED)) {
            gguf_put(b, p, 1);
        } else {
            int n = *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;
            uint32_t c = *p & (0x3fu >> n);
            for (int i = 0; i < n; i++)
                c = c << 6 | (*++p & 0x3fu);
            if (c >= 0x10000)
                snprintf(text, sizeof text, "\\u%04X\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + (c & 0x3ff));
            else
                snprintf(text, sizeof text, "\\u%04X", c);
            put_z(b, text);
        }
    }
}

static inline void put_quoted(gguf_bytes *b, const char *s, int how)
{
    put_z(b, "\"");
    put_inner(b, s, how);
    put_z(b, "\"");
}

/* U+2581 for the spaces of a token. */
static inline void spell_wide(char out[64], const char *s)
{
    char *o = out;
    for (; *s; s++) {
        if (*s == ' ') {
            memcpy(o, "\xe2\x96\x81", 3);
            o += 3;
        } else {
            *o++ = *s;
        }
    }
    *o = '\0';
}

struct split {
    char left[64], right[64];
    uint32_t id, chars_left, chars_right;
    float score;
};

static inline uint32_t count_chars(const char *s)
{
    uint32_t n = 0;
    for (; *s; s++)
        n += ((uint8_t)*s & 0xc0) != 0x80;
    return n;
}

static inline int split_order(const void *a, const void *b)
{
    const struct split *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->chars_left != y->chars_left)
        return x->chars_left > y->chars_left ? -1 : 1;
    if (x->chars_right != y->chars_right)
        return x->chars_right > y->chars_right ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* All merges in order; the number of them. Runs and tags have the score of the best piece, as in SentencePiece's files. */
static inline size_t fixture_splits(const struct fixture *f, struct split *out, size_t room)
{
    size_t n = 0;
    for (uint32_t id = 0; id < f->n; id++) {
        char whole[64];
        spell_wide(whole, f->tokens[id]);
        if (f->types[id] != 1 && f->types[id] != 4)
            continue;
        for (size_t cut = 1; cut < strlen(whole); cut++) {
            struct split s = {.id = id, .score = f->types[id] == 4 ? 0 : f->scores[id]};
            bool left = false, right = false;
            if (((uint8_t)whole[cut] & 0xc0) == 0x80)
                continue;
            memcpy(s.left, whole, cut);
            memcpy(s.right, whole + cut, strlen(whole) - cut);
            for (uint32_t k = 0; k < f->n; k++) {
                char other[64];
                spell_wide(other, f->tokens[k]);
                left |= strcmp(other, s.left) == 0;
                right |= strcmp(other, s.right) == 0;
            }
            s.chars_left = count_chars(s.left);
            s.chars_right = count_chars(s.right);
            if (left && right) {
                assert_true(n < room);
                out[n++] = s;
            }
        }
    }
    qsort(out, n, sizeof *out, split_order);
    return n;
}

static inline void put_added(gguf_bytes *b, const struct fixture *f, int how)
{
    char text[64];
    bool first = true;
    put_z(b, "\"added_tokens\": [");
    for (uint32_t id = 0; id < f->n; id++) {
        if (f->types[id] != 3 && f->types[id] != 4)
            continue;
        bool special = f->types[id] == 3 && strncmp(f->tokens[id], "<unused", 7) != 0;
        snprintf(text, sizeof text, "%s{\"id\": %u, \"content\": ", first ? "" : ", ", id);
        put_z(b, text);
        put_quoted(b, f->tokens[id], how);
        put_z(b,
              ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": ");
        put_z(b, special ? "true}" : "false}");
        first = false;
    }
    if (how & JSON_IMAGE) {
        snprintf(text, sizeof text, ", {\"id\": %u, \"content\": ", f->n);
        put_z(b, text);
        put_z(b, "\"<image_soft_token>\", \"special\": true}");
    }
    put_z(b, "]");
}

static inline void put_merges(gguf_bytes *b, const struct fixture *f, int how)
{
    static struct split splits[FIXTURE_MAX];
    size_t n = fixture_splits(f, splits, FIXTURE_MAX);
    for (size_t i = 0; i + 1 < n && how & JSON_OTHER_MERGES; i++)
        if (f->types[splits[i].id] == 1 && splits[i].id != splits[i + 1].id) {
            struct split swap = splits[i];
            splits[i] = splits[i + 1];
            splits[i + 1] = swap;
            break;
        }
    put_z(b, "\"merges\": [");
    for (size_t i = 0; i < n; i++) {
        put_z(b, i ? ", " : "");
        if (how & JSON_OLD_MERGES) { /* the space between the two is the only one that is one */
            put_z(b, "\"");
            put_inner(b, splits[i].left, how);
            put_z(b, " ");
            put_inner(b, splits[i].right, how);
            put_z(b, "\"");
            continue;
        }
        put_z(b, "[");
        put_quoted(b, splits[i].left, how);
        put_z(b, ",");
        put_quoted(b, splits[i].right, how);
        put_z(b, "]");
    }
    put_z(b, "]");
}

static inline void put_vocab(gguf_bytes *b, const struct fixture *f, int how)
{
    char text[32];
    put_z(b, "\"vocab\": {");
    for (uint32_t i = 0; i < f->n; i++) {
        uint32_t id = how & JSON_OTHER_ORDER ? f->n - 1 - i : i;
        put_z(b, i ? ",\n" : "\n");
        put_quoted(b, f->tokens[id], how);
        snprintf(text, sizeof text, ": %u", id);
        put_z(b, text);
    }
    put_z(b, "}");
}

static inline void put_model(gguf_bytes *b, const struct fixture *f, int how)
{
    put_z(b, "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": \"<unk>\", "
             "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": true, "
             "\"byte_fallback\": true, \"ignore_merges\": false, ");
    if (how & JSON_MERGES_FIRST)
        put_merges(b, f, how);
    else
        put_vocab(b, f, how);
    put_z(b, ", ");
    if (how & JSON_MERGES_FIRST)
        put_vocab(b, f, how);
    else
        put_merges(b, f, how);
    put_z(b, "}");
}

/* A tokenizer.json; the caller frees data. */
static inline gguf_bytes tokenizer_json(const struct fixture *f, int how)
{
    static const char replace[] =
        "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}";
    gguf_bytes b = {0};
    put_z(&b, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, ");
    if (how & JSON_MODEL_FIRST)
        put_model(&b, f, how);
    else
        put_added(&b, f, how);
    put_z(&b, ", \"normalizer\": ");
    put_z(&b, how & JSON_SEQUENCE ? "{\"type\": \"Sequence\", \"normalizers\": [" : "");
    put_z(&b, replace);
    put_z(&b, how & JSON_SEQUENCE ? "]}" : "");
    put_z(&b,
          ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \" \"}, \"behavior\": "
          "\"MergedWithPrevious\", \"invert\": false}, \"post_processor\": null, \"decoder\": {\"type\": \"Fuse\"}, ");
    if (how & JSON_MODEL_FIRST)
        put_added(&b, f, how);
    else
        put_model(&b, f, how);
    put_z(&b, "}");
    return b;
}

/* ---- tokenizer.model ---- */

static inline void put_varint(gguf_bytes *b, uint64_t v)
{
    uint8_t c;
    for (; v >= 128; v >>= 7) {
        c = (uint8_t)(v | 128);
        gguf_put(b, &c, 1);
    }
    c = (uint8_t)v;
    gguf_put(b, &c, 1);
}

static inline void put_message(gguf_bytes *b, uint32_t field, const void *data, size_t n)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, n);
    gguf_put(b, data, n);
}

static inline void put_number(gguf_bytes *b, uint32_t field, uint64_t v)
{
    put_varint(b, field << 3);
    put_varint(b, v);
}

static inline void put_piece(gguf_bytes *b, const void *text, size_t n, float score, int32_t type)
{
    gguf_bytes piece = {0};
    put_message(&piece, 1, text, n);
    put_varint(&piece, 2 << 3 | 5);
    gguf_put(&piece, &score, 4);
    if (type != 1)
        put_number(&piece, 3, (uint64_t)type);
    put_message(b, 1, piece.data, piece.n);
    free(piece.data);
}

/* The kind of model (2: BPE) and the table that changes characters: none for Gemma. */
static inline void put_specs(gguf_bytes *b, uint64_t kind, const char *charsmap)
{
    gguf_bytes train = {0}, normal = {0};
    put_number(&train, 3, kind);
    put_number(&train, 4, 262144);
    put_number(&train, 35, 1);
    put_message(b, 2, train.data, train.n);
    put_message(&normal, 1, "identity", 8);
    put_message(&normal, 2, charsmap, strlen(charsmap));
    put_number(&normal, 3, 0);
    put_message(b, 3, normal.data, normal.n);
    free(train.data);
    free(normal.data);
}

/* A tokenizer.model as SentencePiece writes it: added tokens are user-defined ones with the score 0; the caller frees data. */
static inline gguf_bytes tokenizer_model(const struct fixture *f)
{
    gguf_bytes b = {0};
    for (uint32_t id = 0; id < f->n; id++) {
        char text[64];
        spell_wide(text, f->tokens[id]);
        put_piece(&b, text, strlen(text), f->types[id] == 1 ? f->scores[id] : 0,
                  f->types[id] == 3 && id == 3  ? 2
                  : f->types[id] == 3 && id > 3 ? 4
                                                : f->types[id]);
    }
    put_specs(&b, 2, "");
    return b;
}

#endif
