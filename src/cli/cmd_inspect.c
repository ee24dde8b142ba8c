/* carat inspect: what a file is, what is in it, the memory a session needs, and whether carat would run it. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/system.h"

enum { MEMORY_ROWS = 5 };

static int memory_json(buffer *b, const args *a, const carat_inspection *i, int32_t context)
{
    carat_memory mem;
    carat_error e = {0};
    if (carat_inspection_memory(i, context, a->kv, &mem, &e) != CARAT_OK)
        return fail_error(&e, false);
    json_open(b, "memory", '{');
    json_int(b, "context", context ? context : carat_inspection_info(i)->context);
    json_uint(b, "weights", mem.weights);
    json_uint(b, "cache_local", mem.cache_local);
    json_uint(b, "cache_global", mem.cache_global);
    json_uint(b, "snapshots", mem.snapshots);
    json_uint(b, "activations", mem.activations);
    json_uint(b, "total", mem.total);
    json_uint(b, "available", ct_memory_available());
    json_close(b, '}');
    return -1;
}

/* One row for the context asked for, else a few up to what the model was trained for. */
static int memory_table(buffer *b, const args *a, const carat_inspection *i)
{
    static const int32_t usual[MEMORY_ROWS] = {2048, 8192, 32768, 65536, 131072};
    const int32_t trained = carat_inspection_info(i)->context;
    char w[24], l[24], g[24], s[24], x[24], t[24];
    carat_error e = {0};
    size_t available = ct_memory_available();
    putf(b, "\n%10s  %10s  %10s  %12s  %10s  %10s  %10s\n", "context", "weights", "local ring", "global pages",
         "snapshots", "work space", "total");
    for (int32_t k = 0; k < MEMORY_ROWS; k++) {
        carat_memory mem;
        int32_t context = a->context ? a->context : k + 1 < MEMORY_ROWS && usual[k] < trained ? usual[k] : trained;
        if (carat_inspection_memory(i, context, a->kv, &mem, &e) != CARAT_OK)
            return fail_error(&e, false);
        putf(b, "%10d  %10s  %10s  %12s  %10s  %10s  %10s%s\n", context, human_bytes(w, (double)mem.weights),
             human_bytes(l, (double)mem.cache_local), human_bytes(g, (double)mem.cache_global),
             human_bytes(s, (double)mem.snapshots), human_bytes(x, (double)mem.activations),
             human_bytes(t, (double)mem.total), available > 0 && mem.total > available ? "  more than there is" : "");
        if (context >= trained || a->context)
            break;
    }
    if (available > 0)
        putf(b, "\nThis machine has %s available. Caches are reserved at once and taken as they fill.\n",
             human_bytes(t, (double)available));
    return -1;
}

static int as_json(buffer *b, const args *a, carat_inspection *i)
{
    const carat_model_info *m = carat_inspection_info(i);
    int status = -1;
    json_open(b, NULL, '{');
    json_str(b, "path", m->path);
    json_str(b, "format", m->format);
    json_str(b, "size", m->size);
    json_uint(b, "file_bytes", m->file_bytes);
    json_uint(b, "weight_bytes", m->weight_bytes);
    json_uint(b, "parameters", m->parameters);
    json_open(b, "shape", '{');
    json_int(b, "layers", m->layers);
    json_int(b, "dim", m->dim);
    json_int(b, "heads", m->heads);
    json_int(b, "kv_heads", m->kv_heads);
    json_int(b, "head_dim", m->head_dim);
    json_int(b, "ffn", m->ffn);
    json_int(b, "vocab", m->vocab);
    json_int(b, "window", m->window);
    json_int(b, "context", m->context);
    json_close(b, '}');
    json_bool(b, "has_text", m->has_text);
    json_bool(b, "has_turns", m->has_turns);
    json_str(b, "refused", carat_inspection_verdict(i));
    json_open(b, "warnings", '[');
    for (int32_t k = 0; k < m->n_warnings; k++)
        json_str(b, NULL, m->warnings[k]);
    json_close(b, ']');
    if (carat_inspection_verdict(i) == NULL)
        status = memory_json(b, a, i, a->context);
    json_open(b, "metadata", '{');
    for (size_t k = 0; k < carat_inspection_keys(i) && !a->memory; k++) {
        const char *key, *value;
        carat_inspection_key(i, k, &key, &value);
        json_str(b, key, value);
    }
    json_close(b, '}');
    json_open(b, "tensors", '[');
    for (size_t k = 0; k < carat_inspection_tensors(i) && !a->memory; k++) {
        carat_tensor_info t;
        carat_inspection_tensor(i, k, &t);
        json_open(b, NULL, '{');
        json_str(b, "name", t.name);
        json_str(b, "type", t.type);
        json_open(b, "shape", '['); /* outermost first; ne is innermost first */
        for (int32_t d = t.n_dims - 1; d >= 0; d--)
            json_uint(b, NULL, t.ne[d]);
        json_close(b, ']');
        json_uint(b, "bytes", t.bytes);
        json_close(b, '}');
    }
    json_close(b, ']');
    json_close(b, '}');
    return status;
}

/* How many bytes each type takes: the type of a model is a mixture. */
static void types(buffer *b, carat_inspection *i)
{
    struct {
        char name[16];
        size_t n, bytes;
    } seen[32];
    size_t n_seen = 0;
    for (size_t k = 0; k < carat_inspection_tensors(i); k++) {
        carat_tensor_info t;
        size_t s = 0;
        carat_inspection_tensor(i, k, &t);
        while (s < n_seen && strcmp(seen[s].name, t.type) != 0)
            s++;
        if (s == n_seen && n_seen < 32) {
            snprintf(seen[s].name, sizeof seen[s].name, "%s", t.type);
            seen[s].n = seen[s].bytes = 0;
            n_seen++;
        }
        if (s < n_seen) {
            seen[s].n++;
            seen[s].bytes += t.bytes;
        }
    }
    for (size_t s = 0; s < n_seen; s++) {
        char bytes[24];
        putf(b, "  %-6s %4zu tensors  %10s\n", seen[s].name, seen[s].n, human_bytes(bytes, (double)seen[s].bytes));
    }
}

/* A column of names. */
static void name(buffer *b, const char *s)
{
    size_t n = strlen(s);
    putz(b, "  ");
    put_clean(b, s);
    putf(b, "%*s", n < 44 ? (int)(45 - n) : 1, "");
}

static int as_text(buffer *b, const args *a, carat_inspection *i)
{
    const carat_model_info *m = carat_inspection_info(i);
    const char *refused = carat_inspection_verdict(i);
    char bytes[24];
    put_clean(b, m->path);
    putf(b, ": %s, %s\n", m->format, human_bytes(bytes, (double)m->file_bytes));
    if (m->layers > 0) {
        putf(b, "  Gemma 3 %s, %.1f M parameters, %s\n", m->size[0] ? m->size : "of a size of its own",
             (double)m->parameters * 1e-6,
             !m->has_text   ? "without a tokenizer"
             : m->has_turns ? "instruction-tuned"
                            : "base");
        putf(b, "  %d layers, width %d, %d heads (%d for keys) of %d, ffn %d, vocabulary %d, window %d, context %d\n",
             m->layers, m->dim, m->heads, m->kv_heads, m->head_dim, m->ffn, m->vocab, m->window, m->context);
    }
    if (refused) {
        putz(b, "  carat would refuse it: ");
        put_clean(b, refused);
        putz(b, "\n");
    }
    for (int32_t k = 0; k < m->n_warnings; k++) {
        putz(b, "  warning: ");
        put_clean(b, m->warnings[k]);
        putz(b, "\n");
    }
    if (!a->memory) {
        putf(b, "\n");
        types(b, i);
        putf(b, "\nmetadata:\n");
        for (size_t k = 0; k < carat_inspection_keys(i); k++) {
            const char *key, *value;
            carat_inspection_key(i, k, &key, &value);
            name(b, key);
            put_clean(b, value); /* a chat template has many lines: one here */
            putz(b, "\n");
        }
        putf(b, "\ntensors:\n");
        for (size_t k = 0; k < carat_inspection_tensors(i); k++) {
            carat_tensor_info t;
            char shape[96] = "";
            size_t at = 0;
            carat_inspection_tensor(i, k, &t);
            for (int32_t d = t.n_dims - 1; d >= 0; d--)
                at += (size_t)snprintf(shape + at, sizeof shape - at, d > 0 ? "%zu x " : "%zu", t.ne[d]);
            name(b, t.name);
            putf(b, "%-6s %-18s %10s\n", t.type, shape, human_bytes(bytes, (double)t.bytes));
        }
    }
    return refused ? -1 : memory_table(b, a, i);
}

int cmd_inspect(args *a)
{
    char path[4096];
    carat_inspection *i = NULL;
    carat_error e = {0};
    buffer b = {0};
    if (a->n_words > 1)
        return fail(EXIT_USAGE, "expected one model, found '%s' and '%s'", a->words[0], a->words[1]);
    int status = model_path(a, a->n_words == 1 ? a->words[0] : NULL, path, sizeof path);
    if (status >= 0)
        return status;
    if (carat_inspect(&i, path, &e) != CARAT_OK)
        return fail_error(&e, true);
    status = a->json ? as_json(&b, a, i) : as_text(&b, a, i);
    if (status < 0)
        status = buffer_print(&b);
    if (status < 0)
        status = EXIT_DONE;
    buffer_free(&b);
    carat_inspection_free(i);
    return status;
}
