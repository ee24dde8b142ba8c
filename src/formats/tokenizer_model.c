/* tokenizer.model, a SentencePiece model: a protocol buffer, of which a small part is read here, in place and by hand.
 *
 * Fields, from sentencepiece_model.proto: the model has pieces (1), how it was trained (2) and how texts are normalized (3); a
 * piece has a text (1), a score (2, a 32-bit float) and a type (3). Unknown fields are stepped over, as the format wants.
 * Lengths are measured against what is left before anything is believed. */
#include <string.h>

#include "base/half.h"
#include "formats/directory.h"
#include "formats/tokenizer_parts.h"

enum { WIRE_VARINT, WIRE_64, WIRE_BYTES, WIRE_32 = 5 };
enum { MODEL_BPE = 2 };

struct proto {
    const uint8_t *data;
    size_t size, at;
    size_t base; /* where data begins in the file, for sentences */
    const char *path;
    ct_error *err;
    ct_status status; /* sticks */
};

/* One field: what is in it by its wire type. */
struct field {
    uint32_t number, wire;
    uint64_t value; /* of a varint, or bits */
    struct proto bytes;
};

static bool damaged(struct proto *p, const char *expected)
{
    if (p->status == CT_OK)
        p->status = ct_fail(p->err, CT_EFORMAT, p->path,
                            "'%s' is truncated or damaged, or no SentencePiece model: expected %s at byte %zu, found "
                            "something else; download it "
                            "again",
                            ct_path_tail(p->path), expected, p->base + p->at);
    return false;
}

static bool read_varint(struct proto *p, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (p->at == p->size)
            return damaged(p, "the rest of a number");
        uint8_t c = p->data[p->at++];
        *v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80)
            return true;
    }
    return damaged(p, "a number of at most ten bytes");
}

static bool read_fixed(struct proto *p, size_t bytes, uint64_t *v)
{
    *v = 0;
    if (p->size - p->at < bytes)
        return damaged(p, "the rest of a number");
    for (size_t i = 0; i < bytes; i++)
        *v |= (uint64_t)p->data[p->at + i] << 8 * i;
    p->at += bytes;
    return true;
}

/* The next field; false at the end or when something is wrong. */
static bool next_field(struct proto *p, struct field *f)
{
    uint64_t tag, n;
    if (p->status != CT_OK || p->at == p->size || !read_varint(p, &tag))
        return false;
    if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return damaged(p, "a field");
    *f = (struct field){.number = (uint32_t)(tag >> 3), .wire = (uint32_t)(tag & 7)};
    switch (f->wire) {
    case WIRE_VARINT: return read_varint(p, &f->value);
    case WIRE_64: return read_fixed(p, 8, &f->value);
    case WIRE_32: return read_fixed(p, 4, &f->value);
    case WIRE_BYTES: break;
    default: return damaged(p, "a field of a known kind");
    }
    if (!read_varint(p, &n))
        return false;
    if (n > p->size - p->at)
        return damaged(p, "all bytes of a field");
    f->bytes = (struct proto){p->data + p->at, (size_t)n, 0, p->base + p->at, p->path, p->err, CT_OK};
    p->at += (size_t)n;
    return true;
}

static ct_status read_piece(struct tokenizer *k, struct proto p, uint32_t id)
{
    struct field f;
    ct_str text = {"", 0};
    int32_t type = CT_TOKEN_NORMAL;
    float score = 0;
    while (next_field(&p, &f)) {
        if (f.number == 1 && f.wire == WIRE_BYTES)
            text = (ct_str){(const char *)f.bytes.data, f.bytes.size};
        else if (f.number == 2 && f.wire == WIRE_32)
            score = ct_f32_from_bits((uint32_t)f.value);
        else if (f.number == 3 && f.wire == WIRE_VARINT && f.value >= CT_TOKEN_NORMAL && f.value <= CT_TOKEN_BYTE)
            type = (int32_t)f.value; /* the same numbers; of an unknown one the format wants the default */
        else if (f.number <= 2)
            damaged(&p, "a piece with a text and a score");
    }
    if (p.status == CT_OK && score != score)
        damaged(&p, "a piece whose score is a number");
    return p.status == CT_OK ? ct_tokens_put(&k->table, id, text, type, score, p.err) : p.status;
}

/* The one number of a message that matters, its field; def where it is not there. */
static ct_status read_number(struct proto p, uint32_t number, uint64_t def, uint64_t *v)
{
    struct field f;
    *v = def;
    while (next_field(&p, &f))
        if (f.number == number && f.wire == WIRE_VARINT)
            *v = f.value;
    return p.status;
}

/* Tables that change the characters of a text before it is cut: Gemma's is empty. */
static ct_status check_normalizer(struct proto p)
{
    struct field f;
    while (next_field(&p, &f))
        if (f.number == 2 && f.wire == WIRE_BYTES && f.bytes.size > 0)
            return ct_fail(
                p.err, CT_EUNSUPPORTED, p.path,
                "'%s' is not a tokenizer of Gemma's kind: expected one that leaves characters as they are, found "
                "a table of %zu bytes that changes them",
                ct_path_tail(p.path), f.bytes.size);
    return p.status;
}

ct_status ct_tokenizer_model_tokens(struct tokenizer *k, const ct_map *map, ct_error *err)
{
    const char *path = k->table.path;
    static const char *const kinds[] = {"no", "a Unigram", "a BPE", "a word", "a character"};
    const char *kind = map->size == 0 || map->data[0] != 0x0a ? ct_sniff(map->data, map->size) : NULL;
    if (kind)
        return ct_fail(err, CT_EFORMAT, path, "expected '%s' to be a SentencePiece model, found %s", ct_path_tail(path),
                       kind);
    struct proto p = {map->data, map->size, 0, 0, path, err, CT_OK};
    struct field f;
    uint32_t n = 0;
    uint64_t model = 1; /* Unigram, where nothing is said */
    ct_status st = ct_tokens_init(&k->table, path, map->size, err);
    while (st == CT_OK && next_field(&p, &f)) {
        if (f.wire != WIRE_BYTES)
            continue;
        if (f.number == 1)
            st = read_piece(k, f.bytes, n++);
        else if (f.number == 2)
            st = read_number(f.bytes, 3, model, &model);
        else if (f.number == 3)
            st = check_normalizer(f.bytes);
    }
    if (st == CT_OK)
        st = p.status;
    if (st == CT_OK && n == 0)
        st = ct_fail(err, CT_EFORMAT, path, "'%s' is no SentencePiece model: expected pieces, found none",
                     ct_path_tail(path));
    if (st == CT_OK && model != MODEL_BPE)
        st = ct_fail(err, CT_EUNSUPPORTED, path,
                     "'%s' is not a tokenizer of Gemma's kind: expected a BPE model, found %s one", ct_path_tail(path),
                     model < sizeof kinds / sizeof *kinds ? kinds[model] : "another");
    return st == CT_OK ? ct_tokens_index(&k->table, err) : st;
}
