/* make_seeds FOLDER: what fuzzing begins with, a folder for each target, written from scratch and the same each time. A fuzzer
 * finds its way from there; what it found worth keeping lies in tests/fuzz/corpus. */
#include <sys/stat.h>

#include "base/rng.h"
#include "micro_model.h"

static const char *folder;

static void seed(const char *target, const char *name, const void *data, size_t n)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, target);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/seed-%s", folder, target, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

static void model(const char *name, micro_options o)
{
    gguf_writer w;
    micro_model(&w, &o);
    seed("gguf", name, w.file.data, w.file.n);
    gguf_free(&w);
}

/* A key of every type, and nothing else. */
static void keys(void)
{
    static const uint8_t v[8] = {1, 0, 1, 0, 1, 0, 1, 0};
    gguf_writer w;
    gguf_begin(&w, 3, 64);
    for (uint32_t type = GGUF_U8; type <= GGUF_F64; type++) {
        static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
        char key[2] = {(char)('a' + type), 0}, array[2] = {(char)('A' + type), 0};
        if (size[type] > 0) {
            gguf_kv(&w, key, type, v, size[type]);
            gguf_kv_array(&w, array, type, 8 / size[type], v, 8);
        }
    }
    gguf_kv_string(&w, "s", "text");
    gguf_kv_strings(&w, "S", 3, (const char *const[]){"", "one", "\xe2\x96\x81two"});
    gguf_tensor(&w, "x", 4, (const uint64_t[]){2, 1, 2, 1}, 0, "0123456789abcdef", 16);
    gguf_tensor(&w, "y", 1, (const uint64_t[]){32}, 8, "0123456789abcdef0123456789abcdef??", 34);
    gguf_end(&w);
    seed("gguf", "keys", w.file.data, w.file.n);
    gguf_free(&w);
}

static void texts(void)
{
    static const char *const text[] = {"",
                                       "hello hello",
                                       "  hello\n\n\n<b>ab</b> \t<start_of_turn>user<end_of_turn>",
                                       "aéaé ▁▁a語本 😀",
                                       "\xff\xe2\x96\xc2\xed\xa0\x80 <0x41><0x-1>",
                                       "llllheheheaaaabababab abababab"};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        char name[16];
        snprintf(name, sizeof name, "%zu", i);
        seed("tokenize", name, text[i], strlen(text[i]));
    }
}

/* Programs for the targets that read their input as one: chance, with the flags that lead furthest. */
static void programs(const char *target, const uint8_t *flags, size_t n_flags, size_t bytes)
{
    for (size_t i = 0; i < n_flags; i++) {
        uint8_t data[1024];
        char name[16];
        for (size_t k = 0; k < bytes; k++)
            data[k] = (uint8_t)(ct_rng_u64(1, i, k) % (k % 3 ? 64 : 256));
        data[0] = flags[i];
        snprintf(name, sizeof name, "%zu", i);
        seed(target, name, data, bytes);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_seeds FOLDER\n");
        return 2;
    }
    folder = argv[1];
    mkdir(folder, 0777);
    model("plain", (micro_options){.layers = 1});
    model("scores", (micro_options){.layers = 1, .text = MICRO_SCORES, .chat = true});
    model("merges", (micro_options){.layers = 2, .text = MICRO_MERGES, .version = 2});
    model("halves", (micro_options){.layers = 2, .halves = true});
    keys();
    texts();
    programs("vocab", (const uint8_t[]){0, 4, 8, 16, 32, 64, 1, 2, 68, 12}, 10, 300);
    programs("session", (const uint8_t[]){0, 1, 2, 3, 4, 8, 16, 19}, 8, 12);
    programs("sampler", (const uint8_t[]){0, 1, 2, 4, 16, 32, 64, 128}, 8, 400);
    seed("session", "whole", "\3", 1);
    return 0;
}
