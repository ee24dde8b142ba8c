/* Feeds files to a fuzz target without a fuzzer: replay FILE-OR-FOLDER... Cases that were once found, and the corpus, run this
 * way in every ctest. A folder that is not there is no error: nothing was found yet. */
#include <dirent.h>
#include <sys/stat.h>

#include "base/file.h"
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static size_t files;

static int feed_file(const char *path)
{
    char *data;
    size_t size;
    ct_error err;
    if (ct_file_read(&data, &size, path, &err) != CT_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    /* A copy of its very size: what reads a byte too many is caught. */
    uint8_t *exact = malloc(size ? size : 1);
    MUST(exact != NULL);
    memcpy(exact, data, size);
    ct_free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    files++;
    return 0;
}

int main(int argc, char **argv)
{
    int status = 0;
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        if (ct_is_file(argv[i])) {
            status |= feed_file(argv[i]);
            continue;
        }
        DIR *folder = opendir(argv[i]);
        for (struct dirent *e; folder && (e = readdir(folder)) != NULL;) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            if (ct_is_file(path))
                status |= feed_file(path);
        }
        if (folder)
            closedir(folder);
    }
    printf("%zu files\n", files);
    return files == 0 ? 1 : status;
}
