/* Forty thousand damaged files, the same ones each time: every field of a header given every interesting value, cuts at
 * every kind of place, bits turned over, pieces moved and exchanged between files.
 *
 * Each file is opened in memory with a page behind it that may not be touched (a split model and a saved session as files), and
 * where it opens it is configured, loaded and run for a token. Allowed are a right end and a sentence; never a crash, a read
 * beyond the end, or memory beyond the file's size and CT_VOCAB_BYTES. The seed of each damage is its number: a failure names
 * file and number. */
#include "gguf_try.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/rng.h"
#include "base/system.h"
#include "carat.h"
#include "engine/session_state.h"
#include "micro_model.h"
#include "text/vocab.h"

#define TINY CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny.gguf"
#define TYPES CARAT_SOURCE_DIR "/tests/fixtures/tiny/tiny-types.gguf"

static struct {
    size_t tried, refused, ran;
    size_t at[4]; /* of the refused: by the directory, the configuration, the vocabulary, the weights or the run */
} count;
static ct_pool *pool;

static void refusal(ct_status st, const ct_error *err, int where, const char *name, size_t number)
{
    bool known = st == CT_EFORMAT || st == CT_EUNSUPPORTED || st == CT_ENOTFOUND || st == CT_ENUMERIC;
    if (!known)
        fail_msg("%s, damage %zu: %s: %s", name, number, ct_status_name(st), err->text);
    assert_sentence(st, err);
    count.refused++;
    count.at[where]++;
}

static ct_status run_a_token(ct_gemma *m, ct_error *err)
{
    ct_session *s = NULL;
    const ct_session_options opt = {.context = m->cfg.context < 64 ? 0 : 64, .chunk = 16, .type_k = -1, .type_v = -1};
    const ct_sampling how = {.temperature = 1, .top_k = 8, .top_p = 0.9, .repeat_penalty = 1, .penalty_last = -1};
    const int32_t ids[2] = {m->cfg.vocab > 2 ? 2 : 0, 1};
    int32_t token = -1;
    ct_status st = ct_session_create(&s, m, pool, &opt, err);
    if (st == CT_OK)
        st = ct_session_feed(s, ids, m->cfg.context < 2 ? 1 : 2, false, NULL, NULL, NULL, err);
    if (st == CT_OK)
        st = ct_session_sample(s, &how, &token, NULL, err);
    if (st == CT_OK)
        assert_true(token >= 0 && token < m->cfg.vocab);
    ct_session_free(s);
    return st;
}

/* One damaged file from its first byte to a token. */
static void try_whole(const uint8_t *data, size_t n, const char *name, size_t number)
{
    ct_error err = {0};
    ct_tensors *t = NULL;
    ct_vocab *v = NULL;
    ct_gemma m = {0};
    bool needs;
    int where = 0;
    const uint8_t *file = guarded(data, n);
    size_t before = ct_mem_live();
    count.tried++;
    ct_mem_peak_reset();
    ct_status st = ct_gguf_open_memory(&t, name, file, n, &err);
    assert_true(ct_mem_peak() - before <= n + CT_DIRECTORY_BYTES);
    if (st == CT_OK) {
        ct_config cfg;
        where = 1;
        st = ct_config_read(&cfg, t, &err);
    }
    if (st == CT_OK) {
        where = 2;
        st = ct_vocab_create(&v, t, &err);
    }
    if (st == CT_OK && v) {
        static const char text[] = "hello <b> \xff aba\n\n";
        ct_ids ids = {0};
        assert_int_equal(ct_tokenize(v, text, sizeof text - 1, true, true, &ids, NULL), CT_OK);
        ct_ids_deinit(&ids);
    }
    ct_vocab_free(v);
    if (st == CT_OK) {
        where = 3;
        st = ct_gemma_load(&m, t, ct_backend_get("cpu"), NULL, pool, &needs, &err);
    }
    if (st != CT_OK && ct_mem_peak() - before > n + CT_VOCAB_BYTES)
        fail_msg("%s, damage %zu: %zu bytes for a file of %zu", name, number, ct_mem_peak() - before, n);
    if (st == CT_OK)
        st = run_a_token(&m, &err);
    if (st == CT_OK)
        count.ran++;
    else
        refusal(st, &err, where, name, number);
    ct_gemma_free(&m);
    ct_tensors_close(t);
    assert_int_equal(ct_mem_live(), before);
}

/* ---- where the fields of a sound file are --------------------------------------------------------------------------- */

typedef struct fields {
    struct {
        uint32_t at, width;
    } f[4000];
    size_t n, end; /* end of the header */
} fields;

static uint64_t number_at(const uint8_t *p, size_t bytes)
{
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return v;
}

static uint64_t field(fields *x, const uint8_t *data, size_t *at, size_t bytes)
{
    assert_true(x->n < sizeof x->f / sizeof *x->f);
    x->f[x->n].at = (uint32_t)*at;
    x->f[x->n++].width = (uint32_t)bytes;
    *at += bytes;
    return number_at(data + *at - bytes, bytes);
}

static void value_fields(fields *x, const uint8_t *data, size_t *at, uint64_t type)
{
    static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == GGUF_STRING) {
        *at += field(x, data, at, 8);
    } else if (type == GGUF_ARRAY) {
        uint64_t elem = field(x, data, at, 4), n = field(x, data, at, 8);
        for (uint64_t i = 0; i < n; i++)
            if (i < 4 || i + 2 > n)
                value_fields(x, data, at, elem);
            else
                *at += elem == GGUF_STRING ? 8 + number_at(data + *at, 8) : size[elem];
    } else {
        field(x, data, at, size[type]);
    }
}

/* The file is sound: no check. */
static void find_fields(fields *x, const uint8_t *data)
{
    size_t at = 0;
    x->n = 0;
    field(x, data, &at, 4);
    field(x, data, &at, 4);
    uint64_t tensors = field(x, data, &at, 8), keys = field(x, data, &at, 8);
    for (uint64_t i = 0; i < keys; i++) {
        at += field(x, data, &at, 8);
        uint64_t type = field(x, data, &at, 4);
        value_fields(x, data, &at, type);
    }
    for (uint64_t i = 0; i < tensors; i++) {
        at += field(x, data, &at, 8);
        uint64_t dims = field(x, data, &at, 4);
        for (uint64_t k = 0; k < dims; k++)
            field(x, data, &at, 8);
        field(x, data, &at, 4);
        field(x, data, &at, 8);
    }
    x->end = at;
}

/* ---- damage --------------------------------------------------------------------------------------------------------- */

static const uint64_t interesting[] = {0,
                                       1,
                                       2,
                                       3,
                                       31,
                                       32,
                                       64,
                                       127,
                                       128,
                                       255,
                                       65535,
                                       65536,
                                       (1ull << 31) - 1,
                                       1ull << 31,
                                       UINT32_MAX,
                                       1ull << 32,
                                       (1ull << 32) + 32,
                                       1ull << 61,
                                       INT64_MAX,
                                       1ull << 63,
                                       UINT64_MAX - 31,
                                       UINT64_MAX,
                                       0x7fc000007fc00000ull /* NaN, twice */};
enum { N_INTERESTING = sizeof interesting / sizeof *interesting };

typedef struct base {
    const char *name;
    uint8_t *data, *scratch; /* scratch has room for a longer file */
    size_t n;
    fields fields;
    bool owned;
} base;

static uint64_t rnd(size_t number, uint64_t k) { return ct_rng_u64(20261123, number, k); }

/* Every field with every interesting value, or with `some` of them drawn. */
static void damage_fields(base *b, size_t some)
{
    for (size_t i = 0; i < b->fields.n; i++)
        for (size_t v = 0; v < (some ? some : N_INTERESTING + 2); v++) {
            uint8_t was[8], *at = b->data + b->fields.f[i].at;
            size_t width = b->fields.f[i].width, number = i * 100 + v,
                   k = some ? rnd(number, 1) % (N_INTERESTING + 2) : v;
            uint64_t old = number_at(at, width), now = k < N_INTERESTING    ? interesting[k]
                                                       : k == N_INTERESTING ? old + 1
                                                                            : old - 1;
            if (memcmp(&now, &old, width) == 0)
                continue;
            memcpy(was, at, width);
            memcpy(at, &now, width);
            try_whole(b->data, b->n, b->name, number);
            memcpy(at, was, width);
        }
}

/* Cuts at, before and behind the fields, and at places drawn. */
static void damage_lengths(base *b, size_t at_fields, size_t at_random)
{
    size_t step = b->fields.n / at_fields ? b->fields.n / at_fields : 1;
    for (size_t i = 0; i < b->fields.n; i += step)
        for (size_t k = 0; k < 3; k++)
            try_whole(b->data, b->fields.f[i].at + (k == 2 ? b->fields.f[i].width / 2 : k) - (k == 1 && i > 0 ? 2 : 0),
                      b->name, i);
    for (size_t i = 0; i < at_random; i++)
        try_whole(b->data, rnd(i, 2) % b->n, b->name, i);
    try_whole(b->data, b->n - 1, b->name, 0);
}

static void damage_bits(base *b, size_t rounds)
{
    for (size_t i = 0; i < rounds; i++) {
        size_t flips = 1 + rnd(i, 3) % 4;
        for (int back = 0; back < 2; back++) { /* turned over twice it is as before */
            for (size_t k = 0; k < flips; k++) {
                uint64_t r = rnd(i, 10 + k);
                size_t at = r % 8 < 7 ? (r >> 8) % b->fields.end : (r >> 8) % b->n;
                b->data[at] ^= (uint8_t)(1u << (r >> 3) % 8);
            }
            if (back == 0)
                try_whole(b->data, b->n, b->name, i);
        }
    }
}

/* A piece of this file or of another put over or between what is here, or taken out. */
static void damage_splices(base *b, const base *other, size_t rounds)
{
    for (size_t i = 0; i < rounds; i++) {
        const base *from = rnd(i, 4) % 2 ? other : b;
        size_t at = rnd(i, 5) % b->fields.end, len = 1 + rnd(i, 6) % 200, source = rnd(i, 7) % from->fields.end,
               n = b->n;
        if (rnd(i, 8) % 2) { /* whole fields rather than any bytes */
            at = b->fields.f[rnd(i, 5) % b->fields.n].at;
            source = from->fields.f[rnd(i, 7) % from->fields.n].at;
        }
        len = len < b->n - at ? len : b->n - at;
        len = len < from->n - source ? len : from->n - source;
        memcpy(b->scratch, b->data, n);
        switch (rnd(i, 9) % 3) {
        case 0: memcpy(b->scratch + at, from->data + source, len); break;
        case 1:
            memmove(b->scratch + at + len, b->scratch + at, n - at);
            memcpy(b->scratch + at, from->data + source, len);
            n += len;
            break;
        default: memmove(b->scratch + at, b->scratch + at + len, n - at - len); n -= len;
        }
        try_whole(b->scratch, n, b->name, i);
    }
}

static void base_make(base *b, const char *name, uint8_t *data, size_t n)
{
    *b = (base){.name = name, .data = data, .n = n, .scratch = malloc(n + 256)};
    assert_non_null(b->scratch);
    find_fields(&b->fields, b->data);
}

static void base_file(base *b, const char *path)
{
    char *data;
    size_t n;
    assert_int_equal(ct_file_read(&data, &n, path, NULL), CT_OK);
    base_make(b, path, (uint8_t *)data, n);
    b->owned = true;
}

static void base_micro(base *b, const char *name, micro_options o)
{
    gguf_writer w;
    micro_model(&w, &o);
    base_make(b, name, w.file.data, w.file.n);
    w.file.data = NULL;
    gguf_free(&w);
}

static void base_free(base *b)
{
    if (b->owned)
        ct_free(b->data);
    else
        free(b->data);
    free(b->scratch);
}

static int begin(void **state)
{
    (void)state;
    return ct_pool_create(&pool, 1, NULL);
}

static int end(void **state)
{
    (void)state;
    ct_pool_free(pool);
    print_message(
        "%zu damaged files: %zu refused (%zu by the directory, %zu by the configuration, %zu by the vocabulary, %zu by "
        "the weights or the run), %zu ran\n",
        count.tried, count.refused, count.at[0], count.at[1], count.at[2], count.at[3], count.ran);
    return 0;
}

static void small_models(void **state)
{
    (void)state;
    base b[3];
    base_micro(&b[0], "micro-scores", (micro_options){.layers = 1, .text = MICRO_SCORES, .chat = true});
    base_micro(&b[1], "micro-merges", (micro_options){.layers = 2, .text = MICRO_MERGES, .version = 2});
    base_micro(&b[2], "micro-halves", (micro_options){.layers = 1, .halves = true});
    for (int i = 0; i < 3; i++) {
        size_t ran = count.ran;
        try_whole(b[i].data, b[i].n, b[i].name, 0);
        assert_int_equal(count.ran, ran + 1); /* sound, it runs */
        damage_fields(&b[i], 0);
        damage_lengths(&b[i], 100, 100);
        damage_bits(&b[i], 3000);
        damage_splices(&b[i], &b[(i + 1) % 3], 3000);
    }
    for (int i = 0; i < 3; i++)
        base_free(&b[i]);
}

static void tiny_models(void **state)
{
    (void)state;
    base b[2];
    base_file(&b[0], TINY);
    base_file(&b[1], TYPES);
    for (int i = 0; i < 2; i++) {
        size_t ran = count.ran;
        try_whole(b[i].data, b[i].n, b[i].name, 0);
        assert_int_equal(count.ran, ran + 1);
        damage_fields(&b[i], 2);
        damage_lengths(&b[i], 100, 100);
        damage_bits(&b[i], 200);
        damage_splices(&b[i], &b[1 - i], 300);
    }
    for (int i = 0; i < 2; i++)
        base_free(&b[i]);
}

/* ---- files of which there must be several, or a model -------------------------------------------------------------- */

static char folder[64];

static void write_file(const char *path, const void *data, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0 && write(fd, data, n) == (ssize_t)n);
    close(fd);
}

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "%s/carat-hostile-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(folder));
}

/* Three parts of one model, one of them damaged. */
static void split_sets(void **state)
{
    (void)state;
    enum { PARTS = 3, ROUNDS = 300 };
    gguf_writer w[PARTS];
    char path[PARTS][128];
    fields *x = malloc(sizeof *x);
    assert_non_null(x);
    make_folder();
    for (uint32_t i = 0; i < PARTS; i++) {
        char name[32];
        uint8_t data[64] = {(uint8_t)i};
        gguf_begin(&w[i], 3, 32);
        gguf_kv_u16(&w[i], "split.no", (uint16_t)i);
        gguf_kv_u16(&w[i], "split.count", PARTS);
        gguf_kv_i32(&w[i], "split.tensors.count", PARTS);
        snprintf(name, sizeof name, "blk.%u.weight", i);
        gguf_tensor(&w[i], name, 1, (const uint64_t[]){16}, 0, data, sizeof data);
        gguf_end(&w[i]);
        snprintf(path[i], sizeof path[i], "%s/m-%05u-of-%05u.gguf", folder, i + 1, PARTS);
    }
    for (size_t part = 0; part < PARTS; part++) {
        gguf_bytes *file = &w[part].file;
        for (uint32_t i = 0; i < PARTS; i++)
            write_file(path[i], w[i].file.data, w[i].file.n);
        find_fields(x, file->data);
        for (size_t i = 0; i < x->n * 6 + ROUNDS; i++) {
            uint8_t copy[2048];
            size_t n = file->n;
            ct_error err = {0};
            ct_tensors *t = NULL;
            memcpy(copy, file->data, n);
            if (i < x->n * 6)
                memcpy(copy + x->f[i / 6].at, &interesting[rnd(i, 1) % N_INTERESTING], x->f[i / 6].width);
            else if (i % 2)
                copy[rnd(i, 2) % n] ^= (uint8_t)(1u << rnd(i, 3) % 8);
            else
                n = rnd(i, 2) % n;
            write_file(path[part], copy, n);
            size_t before = ct_mem_live();
            count.tried++;
            ct_mem_peak_reset();
            ct_status st = ct_gguf_open(&t, path[0], &err);
            assert_true(ct_mem_peak() - before <= 3 * 2048 + CT_DIRECTORY_BYTES);
            if (st == CT_OK) {
                use_everything(t);
                count.ran++;
            } else {
                refusal(st, &err, 0, path[part], i);
            }
            ct_tensors_close(t);
            assert_int_equal(ct_mem_live(), before);
        }
    }
    for (int i = 0; i < PARTS; i++) {
        unlink(path[i]);
        gguf_free(&w[i]);
    }
    free(x);
    rmdir(folder);
}

/* A saved session of the tiny model. Half of the damage has the checksum made right again, or nothing else would be tried. */
static void sessions(void **state)
{
    (void)state;
    enum { TOKENS = 40, CONTEXT = 64, HEADER = 128, FIELDS = HEADER / 4 };
    char path[128], *data;
    size_t n;
    carat_error e;
    carat_model *m;
    carat_session *s;
    carat_token ids[TOKENS], have[CONTEXT + 1], token;
    carat_model_options mo = carat_model_options_default();
    carat_session_options so = carat_session_options_default();
    make_folder();
    snprintf(path, sizeof path, "%s/session", folder);
    mo.threads = 1;
    so.context = CONTEXT;
    assert_int_equal(carat_model_open(&m, TINY, &mo, &e), CARAT_OK);
    assert_int_equal(carat_session_create(&s, m, &so, &e), CARAT_OK);
    carat_sampling how = carat_sampling_default(m);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 37 + 2) % 661;
    assert_int_equal(carat_session_feed(s, ids, TOKENS, &e), CARAT_OK);
    assert_int_equal(carat_session_next(s, &how, &token, &e), CARAT_OK);
    assert_int_equal(carat_session_save(s, path, &e), CARAT_OK);
    assert_int_equal(ct_file_read(&data, &n, path, NULL), CT_OK);
    uint8_t *copy = malloc(n);
    assert_non_null(copy);
    for (size_t i = 0; i < FIELDS * N_INTERESTING + 600; i++) {
        size_t size = n, k = i / N_INTERESTING;
        memcpy(copy, data, n);
        if (k < FIELDS)
            memcpy(copy + k * 4, &interesting[i % N_INTERESTING], k % 2 ? 4 : 8);
        else if (i % 3 == 0)
            copy[rnd(i, 1) % HEADER] ^= (uint8_t)(1u << rnd(i, 2) % 8);
        else if (i % 3 == 1)
            memcpy(copy + rnd(i, 1) % (n - 8), &interesting[rnd(i, 2) % N_INTERESTING], 8);
        else
            size = rnd(i, 1) % n;
        if (i % 2 && size % 8 == 0 && size > HEADER) {
            uint64_t sum = ct_session_sum(copy, size - 8);
            memcpy(copy + size - 8, &sum, 8);
        }
        write_file(path, copy, size);
        size_t length = carat_session_ids(s, have, CONTEXT + 1), before = ct_mem_live();
        count.tried++;
        ct_mem_peak_reset();
        carat_status st = carat_session_load(s, path, &e);
        assert_true(ct_mem_live() == before && ct_mem_peak() == before);
        if (st != CARAT_OK) {
            carat_token now[CONTEXT + 1];
            ct_error err = {.code = (ct_status)e.code};
            snprintf(err.text, sizeof err.text, "%s", e.text);
            if (st == CARAT_ECONTEXT)
                err.code = CT_EFORMAT; /* too long for this context: as good a refusal */
            refusal(err.code, &err, 0, path, i);
            assert_int_equal(carat_session_ids(s, now, CONTEXT + 1), length);
            assert_memory_equal(now, have, length * sizeof *now);
            continue;
        }
        char text[4096];
        st = carat_session_next(s, &how, &token, &e);
        assert_true(st == CARAT_OK || st == CARAT_ENUMERIC || st == CARAT_ECONTEXT || st == CARAT_EINVAL);
        if (st == CARAT_OK)
            assert_true(token >= 0 && token < 661 && carat_session_text(s, token, text, sizeof text) < sizeof text);
        count.ran++;
    }
    free(copy);
    ct_free(data);
    unlink(path);
    rmdir(folder);
    carat_session_free(s);
    carat_model_close(m);
}

/* Stands behind the others: none of them was left out. */
static void more_than_ten_thousand(void **state)
{
    (void)state;
    assert_true(count.tried > 10000 && count.refused > 10000 && count.ran > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_models),
        cmocka_unit_test(tiny_models),
        cmocka_unit_test(split_sets),
        cmocka_unit_test(sessions),
        cmocka_unit_test(more_than_ten_thousand),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
