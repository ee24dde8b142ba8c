/* A saved session, damaged: what load accepts must be able to go on, what it refuses must leave the session as it was.
 *
 * Input: which of four sound files to begin with, then patches (offset, length, bytes), then cuts. Most damage would end at the
 * checksum, so a flag has it made right again; and a flag gives the input as the file itself. */
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "carat.h"
#include "engine/session_state.h"
#include "fuzz.h"
#include "micro_model.h"

enum { BASES = 4, SUM = sizeof(uint64_t), MAX_BYTES = 1 << 17 };

static carat_model *model;
static carat_session *session;
static char path[64];
static struct {
    uint8_t *data;
    size_t size;
} base[BASES];

static void write_file(const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

static void remove_file(void) { unlink(path); }

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    static const int32_t length[BASES] = {1, 5, 70, 130};
    gguf_writer w;
    carat_error err;
    carat_token ids[200];
    snprintf(path, sizeof path, "%s/carat-fuzz-%ld", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
             (long)getpid());
    atexit(remove_file);
    micro_model(&w, &(micro_options){.layers = 2, .text = MICRO_SCORES});
    MUST(gguf_save(&w, path) == 0);
    gguf_free(&w);
    carat_model_options mo = carat_model_options_default();
    carat_session_options so = carat_session_options_default();
    mo.threads = 1;
    mo.backend = "cpu";
    so.context = 200;
    MUST(carat_model_open(&model, path, &mo, &err) == CARAT_OK);
    MUST(carat_session_create(&session, model, &so, &err) == CARAT_OK);
    for (int i = 0; i < 200; i++)
        ids[i] = (i * 7 + 2) % (int)MICRO_TOKENS;
    for (int b = 0; b < BASES; b++) {
        carat_sampling how = carat_sampling_default(model);
        carat_token token;
        carat_session_reset(session);
        MUST(carat_session_feed(session, ids, (size_t)length[b], &err) == CARAT_OK);
        for (int i = 0; i < b; i++)
            MUST(carat_session_next(session, &how, &token, &err) == CARAT_OK);
        MUST(carat_session_save(session, path, &err) == CARAT_OK);
        char *data;
        MUST(ct_file_read(&data, &base[b].size, path, NULL) == CT_OK);
        base[b].data = (uint8_t *)data;
        MUST(base[b].size <= MAX_BYTES);
    }
    return 0;
}

static size_t damage(uint8_t *file, feed *f, uint8_t flags)
{
    size_t size = base[flags & 3].size;
    memcpy(file, base[flags & 3].data, size);
    while (f->size > 3) {
        uint32_t at = feed_byte(f);
        at |= (uint32_t)feed_byte(f) << 8;
        uint8_t how = feed_byte(f);
        if (at & 0x8000) /* near the end, where the cache and the checksum are */
            at = (uint32_t)(size - (at & 0x7fff) % size);
        else if (!(at & 0x4000)) /* in the header */
            at %= 128;
        at = at < size ? at : (uint32_t)size;
        if (how == 0xff) {
            size = at;
        } else {
            size_t n = how % 16u;
            feed_bytes(f, file + at, n < size - at ? n : size - at);
        }
        if (size == 0)
            break;
    }
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[MAX_BYTES];
    feed f = {data, size};
    uint8_t flags = feed_byte(&f);
    carat_error err = {0};
    carat_token ids[200], token;
    size_t n = 0;
    if (flags & 4) {
        n = f.size < MAX_BYTES ? f.size : MAX_BYTES;
        if (n > 0)
            memcpy(file, f.data, n);
    } else {
        n = damage(file, &f, flags);
    }
    if (!(flags & 8) && n >= 128 + SUM && n % 8 == 0) {
        uint64_t bytes = n, sum;
        if (flags & 16)
            memcpy(file + 40, &bytes, sizeof bytes); /* header: file_bytes */
        sum = ct_session_sum(file, n - SUM);
        memcpy(file + n - SUM, &sum, SUM);
    }
    write_file(file, n);
    /* The session goes on from input to input: what a refused file leaves must be what was there. */
    carat_token before[200];
    size_t length = carat_session_ids(session, before, 200), live = ct_mem_live();
    ct_mem_peak_reset();
    carat_status st = carat_session_load(session, path, &err);
    MUST(ct_mem_live() == live && ct_mem_peak() == live);
    if (st != CARAT_OK) {
        MUST(err.code == st && strlen(err.text) > 20);
        MUST(carat_session_ids(session, ids, 200) == length && memcmp(ids, before, length * sizeof *ids) == 0);
        return 0;
    }
    carat_sampling how = carat_sampling_default(model);
    char text[512];
    MUST(carat_session_length(session) >= 1 && carat_session_length(session) <= 201);
    for (int i = 0; i < 2; i++) {
        carat_status next = carat_session_next(session, &how, &token, &err);
        if (next !=
            CARAT_OK) { /* a full context, numbers in the cache that are none, or saved before there were logits */
            MUST(next == CARAT_ECONTEXT || next == CARAT_ENUMERIC ||
                 (next == CARAT_EINVAL && strstr(err.text, "prompt")));
            break;
        }
        MUST(token >= 0 && token < (int)MICRO_TOKENS);
        MUST(carat_session_text(session, token, text, sizeof text) < sizeof text);
    }
    MUST(carat_session_text(session, -1, text, sizeof text) < sizeof text);
    return 0;
}
