/* Backends that are there or not: libcarat-cuda.so, looked for once, beside the program or library that this is part of, in
 * ../lib/carat from there, and where `make install` puts it. A file that is no plug-in of this very build is refused in a
 * sentence. It knows nothing of what a plug-in does; once loaded, one stays until the process ends. */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/plugin.h"

#define NAME "libcarat-cuda.so"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct {
    const ct_backend *backend;
    ct_error why;
} cuda;

/* The folder of the object that holds this code: the program's, or libcarat.so's. Empty when nobody knows. A relative name is what
 * the program was called, not where it is: read in the working directory, it would run whatever lies beside a model there. */
static void own_folder(char *out, size_t room)
{
    Dl_info info;
    char file[PATH_MAX];
    out[0] = '\0';
    void (*self)(char *, size_t) = own_folder;
    void *at;
    memcpy(&at, &self, sizeof at);
    if (dladdr(at, &info) == 0 || info.dli_fname == NULL)
        return;
    if (info.dli_fname[0] == '/') {
        if (realpath(info.dli_fname, file) == NULL)
            return;
    } else {
        ssize_t n = readlink("/proc/self/exe", file, sizeof file - 1);
        if (n <= 0)
            return;
        file[n] = '\0';
    }
    const char *slash = strrchr(file, '/');
    size_t n = slash ? (size_t)(slash - file) : room;
    if (n < room) {
        memcpy(out, file, n);
        out[n] = '\0';
    }
}

static ct_status try_one(const char *path)
{
    static const ct_handshake want = CT_HANDSHAKE;
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL) {
        const char *why = dlerror();
        return ct_fail(&cuda.why, CT_EUNSUPPORTED, path, "the plug-in '%.80s' could not be loaded: %.120s", path,
                       why ? why : "no reason given");
    }
    const ct_plugin *p = dlsym(lib, "carat_cuda_plugin");
    ct_status st;
    if (p == NULL || memcmp(&p->is, &want, sizeof want) != 0) {
        st = ct_fail(&cuda.why, CT_EUNSUPPORTED, path,
                     "the plug-in '%.100s' is of another carat than this one (%s): build both together, make cuda",
                     path, want.version);
    } else {
        st = p->open(&cuda.backend, &cuda.why);
    }
    if (st != CT_OK)
        dlclose(lib);
    return st;
}

static void look(void)
{
    static const char *const places[] = {"", "/../lib/carat", "/../" CARAT_LIBDIR "/carat", "/carat", NULL};
    char folder[512], path[640];
    own_folder(folder, sizeof folder);
    for (int i = 0; folder[0] && places[i]; i++) {
        snprintf(path, sizeof path, "%s%s/%s", folder, places[i], NAME);
        FILE *f = fopen(path, "rb"); /* so that a plug-in which is there and does not load is told from none */
        if (f == NULL)
            continue;
        fclose(f);
        try_one(path);
        return;
    }
    ct_fail(&cuda.why, CT_EUNSUPPORTED, "cuda",
            "this carat has no CUDA plug-in (%s beside the program): make cuda builds it", NAME);
}

ct_status ct_cuda_backend(const ct_backend **out, ct_error *err)
{
    pthread_once(&once, look);
    *out = cuda.backend;
    if (cuda.backend)
        return CT_OK;
    return ct_fail(err, cuda.why.code, "cuda", "%s", cuda.why.text);
}
