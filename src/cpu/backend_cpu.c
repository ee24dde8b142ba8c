/* The cpu backend: its table of operations per instruction set, and weights into tiles.
 *
 * Adding an instruction set is a row of `sets` and its override functions; the tables are built once, at first use. */
#include <pthread.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/features.h"

static bool always(void) { return true; }

static void override_c(struct kernels *k)
{
    ct_cpu_linear_c(k);
    ct_cpu_rows_c(k);
    ct_cpu_attend_c(k);
}

#if defined(__x86_64__)
static void override_avx2(struct kernels *k)
{
    ct_cpu_linear_avx2(k);
    ct_cpu_rows_avx2(k);
    ct_cpu_attend_avx2(k);
}

static void override_avx512f(struct kernels *k)
{
    ct_cpu_linear_avx512f(k);
    ct_cpu_rows_avx512f(k);
    ct_cpu_attend_avx512f(k);
}

/* Rows have no use for VNNI and BF16. */
static void override_avx512(struct kernels *k)
{
    ct_cpu_linear_avx512(k);
    ct_cpu_attend_avx512(k);
}
#elif defined(__aarch64__)
static void override_neon(struct kernels *k)
{
    ct_cpu_linear_neon(k);
    ct_cpu_rows_neon(k);
    ct_cpu_attend_neon(k);
}
#endif

/* Slowest first; each is laid over the ones before it. */
static const struct {
    const char *name;
    bool (*here)(void);
    void (*override)(struct kernels *k);
} sets[] = {
    {"c", always, override_c},
#if defined(__x86_64__)
    {"avx2", ct_cpu_has_avx2, override_avx2},
    {"avx512f", ct_cpu_has_avx512f, override_avx512f},
    {"avx512", ct_cpu_has_avx512, override_avx512},
#elif defined(__aarch64__)
    {"neon", ct_cpu_has_neon, override_neon},
    {"i8mm", ct_cpu_has_i8mm, ct_cpu_gemm_i8mm},
#endif
};

enum { N_SETS = sizeof sets / sizeof sets[0] };

static const char *const isa_names[] = {
#if defined(__x86_64__)
    "avx512", "avx512f", "avx2",
#elif defined(__aarch64__)
    "i8mm", "neon",
#endif
    "c", NULL};

static struct kernels kernels[N_SETS];
static ct_ops tables[N_SETS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void build_tables(void)
{
    for (int i = 0; i < N_SETS; i++) {
        if (i > 0)
            kernels[i] = kernels[i - 1];
        if (sets[i].here()) /* its file is compiled for the set: even filling a table may take instructions of it */
            sets[i].override(&kernels[i]);
        tables[i] = (ct_ops){
            .isa = sets[i].name,
            .impl = &kernels[i],
            .embed = ct_cpu_embed,
            .rope_table = ct_cpu_rope_table,
            .rmsnorm = ct_cpu_rmsnorm,
            .linear = ct_cpu_linear,
            .head_norm = ct_cpu_head_norm,
            .rope = ct_cpu_rope,
            .norm_rope = ct_cpu_norm_rope,
            .kv_store = ct_cpu_kv_store,
            .attention = ct_cpu_attention,
            .geglu = ct_cpu_geglu,
            .linear_geglu = ct_cpu_linear_geglu,
            .norm_add = ct_cpu_norm_add,
            .norm_add_norm = ct_cpu_norm_add_norm,
            .softcap = ct_cpu_softcap,
            .gather = ct_cpu_gather,
            .linear_top = ct_cpu_linear_top,
        };
    }
}

static const ct_ops *ops(const char *isa)
{
    pthread_once(&once, build_tables);
    for (int i = N_SETS - 1; i >= 0; i--)
        if (sets[i].here() && (isa == NULL || strcmp(isa, sets[i].name) == 0))
            return &tables[i];
    return NULL;
}

static ct_status buffer_alloc(ct_buffer *b, size_t bytes, ct_error *err)
{
    *b = (ct_buffer){.host = ct_pages_alloc(bytes, bytes >= CT_HUGE_FROM), .bytes = bytes};
    if (b->host == NULL)
        return ct_fail(err, CT_ENOMEM, "cpu", "out of memory: %zu MiB could not be had", bytes >> 20);
    return CT_OK;
}

static void buffer_free(ct_buffer *b)
{
    ct_pages_free(b->host, b->bytes);
    *b = (ct_buffer){0};
}

static bool supports(const ct_dtype_info *t, ct_weight_use use)
{
    return use == CT_WEIGHT_VECTOR || ct_tile_type(t->type) != NULL;
}

struct pack_job {
    const ct_weight *w;
    const struct tile_type *tt;
    const uint8_t *src;
    size_t row_bytes;
    int32_t per_task;
    _Atomic bool finite;
};

static void pack_task(void *arg, int32_t task, int32_t worker)
{
    (void)worker;
    struct pack_job *j = arg;
    int32_t tiles = tile_count(j->w), to = (task + 1) * j->per_task < tiles ? (task + 1) * j->per_task : tiles;
    for (int32_t tile = task * j->per_task; tile < to; tile++) {
        int32_t row = tile * TILE, n = j->w->rows - row < TILE ? j->w->rows - row : TILE;
        uint8_t *dst = (uint8_t *)j->w->buf.host + (size_t)tile * j->tt->bytes(j->w->cols);
        if (!j->tt->pack(dst, j->src + (size_t)row * j->row_bytes, j->row_bytes, n, j->w->cols))
            j->finite = false;
    }
}

static size_t weight_bytes(const ct_weight *w)
{
    const struct tile_type *tt = ct_tile_type(w->dtype->type);
    if (w->use == CT_WEIGHT_VECTOR)
        return ct_round_up((size_t)w->cols * sizeof(float), 64);
    return tt ? (size_t)tile_count(w) * tt->bytes(w->cols) : 0;
}

static void weight_free(ct_weight *w)
{
    if (w->buf.impl) /* memory of its own */
        buffer_free(&w->buf);
    w->buf = (ct_buffer){0};
}

static ct_status weight_load(ct_weight *w, const void *src, ct_pool *pool, bool *in_place, ct_error *err)
{
    *in_place = false;
    const struct tile_type *tt = ct_tile_type(w->dtype->type);
    struct pack_job j = {.w = w, .tt = tt, .src = src, .finite = true};
    if (w->use != CT_WEIGHT_VECTOR && (tt == NULL || !ct_row_bytes(w->dtype, (size_t)w->cols, &j.row_bytes)))
        return ct_fail(err, CT_EUNSUPPORTED, w->name, "the cpu backend cannot pack rows of %d %s weights (tensor %s)",
                       w->cols, w->dtype->name, w->name);
    if (w->buf.host == NULL) {
        ct_status st = buffer_alloc(&w->buf, weight_bytes(w), err);
        if (st != CT_OK)
            return st;
        w->buf.impl = w->buf.host;
    }
    if (w->use == CT_WEIGHT_VECTOR) {
        ct_row_decode(w->dtype, w->buf.host, src, (size_t)w->cols);
        return CT_OK;
    }
    size_t per = ((size_t)1 << 18) / tt->bytes(w->cols);
    j.per_task = per < 1 ? 1 : (int32_t)per;
    ct_pool_run(pool, (tile_count(w) + j.per_task - 1) / j.per_task, pack_task, &j);
    if (!j.finite) {
        weight_free(w);
        return ct_fail(err, CT_ENUMERIC, w->name,
                       "expected finite weights, found NaN or infinity in tensor '%s'; the file is damaged or was "
                       "converted through float16",
                       w->name);
    }
    return CT_OK;
}

static size_t scratch_bytes(const ct_limits *l)
{
    size_t a = ct_cpu_linear_scratch(l) + ct_cpu_head_scratch(l), b = ct_cpu_attention_scratch(l),
           c = (size_t)l->head_dim * 8 + 4096;
    size_t most = a > b ? a : b;
    return most > c ? most : c;
}

const ct_backend *ct_cpu_backend(void)
{
    static const ct_backend cpu = {
        .name = "cpu",
        .default_kv = CT_BF16,
        .isas = isa_names,
        .ops = ops,
        .buffer_alloc = buffer_alloc,
        .buffer_free = buffer_free,
        .weight_bytes = weight_bytes,
        .weight_load = weight_load,
        .weight_free = weight_free,
        .supports = supports,
        .kv_page_bytes = ct_cpu_kv_page_bytes,
        .scratch_bytes = scratch_bytes,
        .int8_rate = ct_cpu_int8_rate,
    };
    return &cpu;
}
