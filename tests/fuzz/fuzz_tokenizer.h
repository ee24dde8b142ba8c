/* What must hold of a tokenizer that was read from any bytes: the fuzz targets of both kinds of files share it. */
#ifndef CARAT_TESTS_FUZZ_TOKENIZER_H
#define CARAT_TESTS_FUZZ_TOKENIZER_H

#include <unistd.h>

#include "formats/directory.h"
#include "formats/tokenizer.h"
#include "fuzz.h"
#include "fuzz_text.h"

typedef ct_status parse_fn(ct_tensors *t, const char *path, const ct_map *map, const ct_map *config, ct_error *err);

/* The vocabulary of it takes texts, or is refused in a sentence. */
static inline void vocabulary_of(ct_tensors *t)
{
    static const char text[] = "  hello ab\n\n<b>\xe2\x96\x81<start_of_turn>\xff\xe8\xaa\x9e";
    ct_error err = {0};
    ct_vocab *v;
    ct_status st = ct_vocab_create(&v, t, &err);
    if (st != CT_OK)
        must_be_a_sentence(st, &err);
    if (v)
        put_through(v, text, sizeof text - 1, false, NULL);
    ct_vocab_free(v);
}

/* What was written can be read, if it could be written. */
static inline void written_and_read(ct_tensors *t)
{
    char path[64];
    ct_error err = {0};
    ct_map map;
    snprintf(path, sizeof path, "/tmp/carat-fuzz-%ld.json", (long)getpid());
    ct_status st = ct_tokenizer_json_write(path, t, &err);
    if (st != CT_OK) {
        must_be_a_sentence(st, &err);
        return;
    }
    MUST(ct_map_open(&map, path, &err) == CT_OK);
    unlink(path);
    ct_tensors *again = ct_tensors_new("again", "folder");
    MUST(again != NULL);
    MUST(ct_tokenizer_json_parse(again, path, &map, NULL, &err) == CT_OK);
    ct_map_close(&map);
    ct_tensors_close(again);
}

/* Input: the file; behind the first byte 0xff, which no text has and a model rarely, a tokenizer_config.json. */
static inline void tokenizer_from(parse_fn *parse, const uint8_t *data, size_t size)
{
    const uint8_t *mark = size > 0 ? memchr(data, 0xff, size) : NULL;
    size_t n = mark ? (size_t)(mark - data) : size;
    ct_map map = ct_map_borrow(data, n), config = ct_map_borrow(mark ? mark + 1 : NULL, mark ? size - n - 1 : 0);
    ct_error err = {0};
    size_t before = ct_mem_live();
    ct_mem_peak_reset();
    ct_tensors *t = ct_tensors_new("fuzz", "folder");
    MUST(t != NULL);
    ct_status st = parse(t, "fuzz", &map, mark ? &config : NULL, &err);
    MUST(ct_mem_peak() - before <= size + ((size_t)1 << 20));
    if (st == CT_OK)
        st = ct_tensors_index(t, &err);
    if (st == CT_OK) {
        vocabulary_of(t);
        written_and_read(t);
    } else {
        must_be_a_sentence(st, &err);
    }
    ct_tensors_close(t);
    MUST(ct_mem_live() == before);
}

#endif
