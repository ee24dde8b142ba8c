/* What a file is: directory, metadata, the verdict that opening it would give, and the memory a session would need.
 * Reads no weights. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/internal.h"
#include "base/system.h"

enum { SHOWN = 160, FIRST = 6 }; /* bytes of a string, elements of an array that are shown */

struct carat_inspection {
    ct_tensors *tensors;
    ct_gemma gemma; /* configuration and backend only: enough for sums of memory */
    carat_model_info info;
    const char *warnings[CT_MAX_WARNINGS];
    ct_error verdict; /* code CT_OK: carat would run it */
    char name[256], key[256], value[1024];
};

/* Would every matrix find a kernel? */
static ct_status types_check(const ct_tensors *t, const ct_backend *b, ct_error *err)
{
    for (size_t i = 0; i < ct_tensors_count(t); i++) {
        const ct_tensor *x = ct_tensors_at(t, i);
        if (x->n_dims > 1 && !b->supports(x->dtype, CT_WEIGHT_MATRIX))
            return ct_fail(err, CT_EUNSUPPORTED, "type",
                           "tensor '%.*s' is %s, which the %s backend does not compute with",
                           (int)(x->name.len < 64 ? x->name.len : 64), x->name.data, x->dtype->name, b->name);
    }
    return CT_OK;
}

carat_status carat_inspect(carat_inspection **out, const char *path, carat_error *err)
{
    API_REQUIRE(out, "somewhere to put what was found");
    *out = NULL;
    API_REQUIRE(path && path[0], "the path of a model");
    ct_error e = {0};
    ct_vocab *vocab = NULL;
    carat_inspection *i = ct_calloc(1, sizeof *i);
    if (i == NULL)
        return ct_api_error(err, ct_fail(&e, CT_ENOMEM, path, "out of memory while reading '%s'", path), &e);
    ct_status st = ct_tensors_open(&i->tensors, path, &e);
    if (st != CT_OK)
        goto done;
    i->gemma.backend = ct_backend_get("auto");
    i->gemma.ops = i->gemma.backend->ops(NULL);
    ct_status would = ct_config_read(&i->gemma.cfg, i->tensors, &i->verdict);
    if (would == CT_OK)
        would = types_check(i->tensors, i->gemma.backend, &i->verdict);
    if (would == CT_OK)
        would = ct_vocab_create(&vocab, i->tensors, &i->verdict);
    if (would == CT_ENOMEM || would == CT_EIO) { /* the machine's trouble is no verdict on the file */
        st = would;
        e = i->verdict;
        goto done;
    }
    i->verdict.code = would;
    for (size_t k = 0; k < ct_tensors_count(i->tensors); k++)
        i->gemma.weight_bytes += ct_tensors_at(i->tensors, k)->bytes;
    ct_api_info_fill(&i->info, i->tensors, &i->gemma.cfg, i->warnings);
    i->info.backend = i->gemma.backend->name;
    i->info.isa = i->gemma.ops ? i->gemma.ops->isa : "";
    i->info.weight_bytes = i->gemma.weight_bytes;
    i->info.has_text = vocab != NULL;
    i->info.has_turns = vocab && ct_vocab_has_turns(vocab);
    *out = i;
    i = NULL;
done:
    ct_vocab_free(vocab);
    carat_inspection_free(i);
    return ct_api_error(err, st, &e);
}

void carat_inspection_free(carat_inspection *i)
{
    if (i == NULL)
        return;
    ct_tensors_close(i->tensors);
    ct_free(i);
}

const carat_model_info *carat_inspection_info(const carat_inspection *i) { return i ? &i->info : NULL; }

const char *carat_inspection_verdict(const carat_inspection *i)
{
    return i && i->verdict.code != CT_OK ? i->verdict.text : NULL;
}

size_t carat_inspection_tensors(const carat_inspection *i) { return i ? ct_tensors_count(i->tensors) : 0; }

void carat_inspection_tensor(carat_inspection *i, size_t n, carat_tensor_info *t)
{
    const ct_tensor *x = i ? ct_tensors_at(i->tensors, n) : NULL;
    if (t == NULL)
        return;
    *t = (carat_tensor_info){.name = "", .type = ""};
    if (x == NULL)
        return;
    snprintf(i->name, sizeof i->name, "%.*s", (int)(x->name.len < sizeof i->name ? x->name.len : sizeof i->name - 1),
             x->name.data);
    t->name = i->name;
    t->type = x->dtype->name;
    memcpy(t->ne, x->ne, sizeof t->ne);
    t->bytes = x->bytes;
    t->n_dims = x->n_dims;
}

/* ---- metadata as text ---- */

static size_t put(carat_inspection *i, size_t at, const char *s, size_t n)
{
    size_t room = sizeof i->value - 1 - at, give = n < room ? n : room;
    memcpy(i->value + at, s, give);
    i->value[at + give] = '\0';
    return at + give;
}

static size_t put_string(carat_inspection *i, size_t at, ct_str s, size_t most)
{
    at = put(i, at, s.data, s.len < most ? s.len : most);
    return s.len > most ? put(i, at, "...", 3) : at;
}

static size_t put_number(carat_inspection *i, size_t at, ct_kv_type type, const uint8_t *p, size_t *size)
{
    char text[64] = "?";
    int64_t wide = 0;
    uint64_t plain = 0;
    float f = 0;
    double d = 0;
    switch (type) {
    case CT_KV_U8:
    case CT_KV_I8:
    case CT_KV_BOOL: *size = 1; break;
    case CT_KV_U16:
    case CT_KV_I16: *size = 2; break;
    case CT_KV_U32:
    case CT_KV_I32:
    case CT_KV_F32: *size = 4; break;
    default: *size = 8; break;
    }
    for (size_t b = 0; b < *size; b++) /* files are little-endian */
        plain |= (uint64_t)p[b] << 8 * b;
    const unsigned shift = (unsigned)(64 - 8 * *size);
    wide = (int64_t)(plain << shift) >> shift;
    uint32_t low = (uint32_t)plain;
    switch (type) {
    case CT_KV_BOOL: snprintf(text, sizeof text, "%s", plain ? "true" : "false"); break;
    case CT_KV_F32:
        memcpy(&f, &low, 4);
        snprintf(text, sizeof text, "%.9g", (double)f);
        break;
    case CT_KV_F64:
        memcpy(&d, &plain, 8);
        snprintf(text, sizeof text, "%.17g", d);
        break;
    case CT_KV_I8:
    case CT_KV_I16:
    case CT_KV_I32:
    case CT_KV_I64: snprintf(text, sizeof text, "%" PRId64, wide); break;
    default: snprintf(text, sizeof text, "%" PRIu64, plain); break;
    }
    return put(i, at, text, strlen(text));
}

size_t carat_inspection_keys(const carat_inspection *i) { return i ? ct_tensors_kv_count(i->tensors) : 0; }

void carat_inspection_key(carat_inspection *i, size_t n, const char **key, const char **value)
{
    const ct_kv_pair *kv = i ? ct_tensors_kv_at(i->tensors, n) : NULL;
    if (key)
        *key = "";
    if (value)
        *value = "";
    if (kv == NULL)
        return;
    snprintf(i->key, sizeof i->key, "%.*s", (int)(kv->key.len < sizeof i->key ? kv->key.len : sizeof i->key - 1),
             kv->key.data);
    i->value[0] = '\0';
    size_t size = 0, at = 0;
    if (kv->type == CT_KV_STRING) {
        put_string(i, 0, ct_kv_str(kv, 0), SHOWN);
    } else if (kv->type == CT_KV_ARRAY) {
        char head[64];
        snprintf(head, sizeof head, "%" PRIu64 " of [", kv->count);
        at = put(i, 0, head, strlen(head));
        const uint8_t *p = kv->data;
        for (uint64_t k = 0; k < kv->count && k < FIRST; k++) {
            at = k > 0 ? put(i, at, ", ", 2) : at;
            if (kv->spans) {
                at = put_string(i, at, ct_kv_str(kv, k), 32);
            } else {
                at = put_number(i, at, kv->elem_type, p, &size);
                p += size;
            }
        }
        put(i, at, kv->count > FIRST ? ", ...]" : "]", kv->count > FIRST ? 6 : 1);
    } else {
        put_number(i, 0, kv->type, kv->data, &size);
    }
    if (key)
        *key = i->key;
    if (value)
        *value = i->value;
}

/* ---- memory ---- */

carat_status carat_inspection_memory(const carat_inspection *i, int32_t context, const char *kv, carat_memory *out,
                                     carat_error *err)
{
    API_REQUIRE(i, "an inspection");
    API_REQUIRE(out, "somewhere to put the sums");
    API_REQUIRE(context >= 0, "a context of 0 (what the model was trained for) or more");
    *out = (carat_memory){0};
    ct_error e = {0};
    if (i->verdict.code != CT_OK)
        return ct_api_error(err, i->verdict.code, &i->verdict);
    int32_t type_k, type_v;
    ct_status st = ct_kv_types(kv, &type_k, &type_v, &e);
    if (st != CT_OK)
        return ct_api_error(err, st, &e);
    context = context > 0 ? context : i->gemma.cfg.context;
    if (context > i->gemma.cfg.context)
        return ct_api_error(
            err,
            ct_fail(&e, CT_EINVAL, "context",
                    "expected a context of at most the %d positions the model was trained for, found %d",
                    i->gemma.cfg.context, context),
            &e);
    ct_session_options plain = {.type_k = type_k, .type_v = type_v}, o = plain;
    o.snapshots = carat_session_options_default().snapshots;
    size_t rest = 0, without = 0, made = ct_gemma_bytes(i->tensors, i->gemma.backend);
    size_t need = ct_session_need(&i->gemma, &o, context, ct_cores(), &out->cache_local, &out->cache_global, &rest);
    ct_session_need(&i->gemma, &plain, context, ct_cores(), NULL, NULL, &without);
    out->weights = made > 0 ? made : i->gemma.weight_bytes; /* 0: read in place, from the file's own pages */
    out->snapshots = rest - without;
    out->activations = without;
    if (need == SIZE_MAX || !ct_add_ok(out->weights, need, &out->total))
        return ct_api_error(
            err, ct_fail(&e, CT_EINVAL, "context", "a context of %d is more than memory can be", context), &e);
    return ct_api_error(err, CT_OK, NULL);
}
