/* The linear op: activations into planes once, tiles cut into tasks, kernels called through the table.
 *
 * Up to DOT_MAX rows of a kind (prompt or exact) go straight from the packed tile, four at a time; more rows go through
 * panels: two tiles are unpacked into the worker's scratch and multiplied with all rows, six at a time. Which of the two
 * makes no difference to the bits. Tasks are cut by bytes of weights, so that each takes some microseconds. */
#include "cpu/cpu.h"

#include <string.h>

#define DOT_MAX 8        /* rows; beyond it, unpacking once pays */
#define TASK_BYTES 49152 /* weights per task when they are streamed: 3 us at a core's share of memory */

/* Rows from which a matrix is a stream so long that the hardware's prefetcher follows it best left alone, for one row of
 * activations: the head in q8_0 takes 2.9 ms like this, 4.1 when asked ahead. Of the layers' matrices, 0.3 to 2 MB each, the
 * opposite is true; more rows keep a core so busy that it looks ahead too little by itself (head, eight rows: 13.6 ms without
 * asking, 7.9 with); and a super-block is read here and there (head of a 4B in q6_k: 28.8 ms without, 11.1 with). */
#define LONG_STREAM 65536

struct job {
    const struct kernels *k;
    struct acts a;
    struct init init[CT_LINEAR_MAX];
    const ct_weight *const *w;
    const struct tile_type *tt[CT_LINEAR_MAX];
    const ct_view *y;
    bool geglu;          /* two matrices, one output */
    const int32_t *list; /* these tiles of one matrix only; NULL = all */
    int32_t first_task[CT_LINEAR_MAX + 1];
    int32_t per_task[CT_LINEAR_MAX]; /* tiles */
    int32_t n_tiles[CT_LINEAR_MAX];
    uint8_t *panels; /* per worker */
    size_t panel_bytes;
};

/* q or f32 columns, scales and mins (two of each per group at worst). */
static size_t panel_size(int32_t cols)
{
    size_t k = (size_t)cols;
    return ct_round_up(k * 64, 64) + (k / 32 + 1) * 4 * 64;
}

static size_t align64(size_t n) { return ct_round_up(n, 64); }

size_t ct_cpu_linear_scratch(const ct_limits *l)
{
    size_t n = (size_t)l->rows, k = (size_t)l->max_cols, groups = k / 32 + 1;
    size_t acts = 2 * align64(n * k) + 2 * align64(n * groups * 4) + 2 * align64(n * groups * 8) +
                  2 * align64(n * (k + 1) * 2);
    return acts + CT_LINEAR_MAX * align64(n * groups * 8) + (size_t)l->threads * 2 * panel_size(l->max_cols) + 4096;
}

struct prepare {
    const struct kernels *k;
    struct acts *a;
    bool ints, bf16;
};

#define PREPARE_ROWS 4 /* so that eight sequences at once are work for two threads */

static void prepare_task(void *arg, int32_t task, int32_t worker)
{
    (void)worker;
    const struct prepare *p = arg;
    const struct acts *a = p->a;
    int32_t to = (task + 1) * PREPARE_ROWS < a->n ? (task + 1) * PREPARE_ROWS : a->n;
    for (int32_t i = task * PREPARE_ROWS; i < to; i++) {
        size_t r = (size_t)i, cols = (size_t)a->cols, groups = (size_t)a->groups, pitch = ct_round_up(cols, 2);
        const float *x = a->x + r * a->stride;
        bool exact = i >= a->n_prompt;
        if (p->ints)
            p->k->quantize(x, a->cols, a->hi + r * cols, exact ? a->lo + r * cols : NULL, a->scale + r * groups,
                           a->sum + r * groups * 2, a->scaled_sum + r * groups);
        for (size_t h = 0; a->half_sum && h < 2 * groups; h++)
            a->half_sum[r * groups * 2 + h] = a->scale[r * groups + h / 2] * (float)a->sum[r * groups * 2 + h];
        if (p->bf16)
            p->k->split_bf16(x, a->cols, a->bhi + r * pitch, exact ? a->blo + r * pitch : NULL);
    }
}

static void fill_init(struct init *init, const struct acts *a)
{
    size_t n = (size_t)a->n * (size_t)a->groups;
    if (init->halves == 2) {
        for (size_t i = 0; i < 2 * n; i++)
            init->v[i] = -init->offset * a->sum[i];
    } else {
        for (size_t i = 0; i < n; i++)
            init->v[i] = -init->offset * (a->sum[2 * i] + a->sum[2 * i + 1]);
    }
}

/* Stores one row's 16 results of a tile, fewer at the last tile of a matrix. */
static void put(const ct_view *y, const ct_weight *w, int32_t row, int32_t tile, const float *v)
{
    int32_t n = w->rows - tile * TILE < TILE ? w->rows - tile * TILE : TILE;
    float *dst = ct_view_row(*y, row) + tile * TILE;
    if (n == TILE)
        memcpy(dst, v, TILE * sizeof *v);
    else
        memcpy(dst, v, (size_t)n * sizeof *v);
}

/* Rows from..to straight from the packed tile: of matrix i, or of gate, then up. Tiles are not taken in pairs: that saves loads
 * of activations, but cuts the one stream of weights in two. */
static void dot_rows(const struct job *j, int32_t i, int32_t tile, int32_t from, int32_t to, bool exact)
{
    const struct kernels *k = j->k;
    const struct tile_type *tt = j->tt[i], *tt_up = j->tt[1];
    _Alignas(64) float out[DOT_ROWS * TILE], up[DOT_ROWS * TILE];
    for (int32_t row = from; row < to; row += DOT_ROWS) {
        int32_t n = to - row < DOT_ROWS ? to - row : DOT_ROWS;
        k->dot[tt->kernel](tt, tile_at(j->w[i], tt, tile), &j->a, &j->init[i], row, n, exact, out);
        if (j->geglu) {
            k->dot[tt_up->kernel](tt_up, tile_at(j->w[1], tt_up, tile), &j->a, &j->init[1], row, n, exact, up);
            k->geglu(out, out, up, n * TILE);
        }
        for (int32_t t = 0; t < n; t++)
            put(&j->y[i], j->w[i], row + t, tile, out + t * TILE);
    }
}

static void panel_init(struct panel *p, uint8_t *mem, int32_t cols)
{
    size_t groups = (size_t)cols / 32 + 1;
    p->q = mem;
    p->scale = (float *)(void *)(mem + (size_t)cols * 64);
    p->min = p->scale + groups * 2 * TILE;
    p->tile = NULL;
}

/* Two tiles against rows from..to: tile and tile+1 of one matrix, or the same tile of gate and up. */
static void panel_rows(const struct job *j, int32_t i, int32_t tile, bool second, const struct panel *p, int32_t from,
                       int32_t to, bool exact)
{
    _Alignas(64) float out[2 * GEMM_ROWS * TILE];
    const struct tile_type *tt = j->tt[i];
    bool both = second && (!j->geglu || (j->tt[1] == tt)); /* gate and up of two types: one after the other */
    for (int32_t row = from; row < to; row += GEMM_ROWS) {
        int32_t n = to - row < GEMM_ROWS ? to - row : GEMM_ROWS;
        float *up = out + n * TILE;
        j->k->gemm[tt->kind](tt, &p[0], both ? &p[1] : NULL, &j->a, &j->init[i], row, n, exact, out);
        if (j->geglu && !both) {
            _Alignas(64) float other[2 * GEMM_ROWS * TILE];
            j->k->gemm[j->tt[1]->kind](j->tt[1], &p[1], NULL, &j->a, &j->init[1], row, n, exact, other);
            memcpy(up, other, (size_t)n * TILE * sizeof *up);
        }
        if (j->geglu)
            j->k->geglu(out, out, up, n * TILE);
        for (int32_t t = 0; t < n; t++)
            put(&j->y[i], j->w[i], row + t, tile, out + t * TILE);
        if (second && !j->geglu)
            for (int32_t t = 0; t < n; t++)
                put(&j->y[i], j->w[i], row + t, tile + 1, up + t * TILE);
    }
}

static void linear_task(void *arg, int32_t task, int32_t worker)
{
    const struct job *j = arg;
    int32_t i = 0;
    while (task >= j->first_task[i + 1])
        i++;
    const ct_weight *w = j->w[i];
    int32_t tiles = j->n_tiles[i], from = (task - j->first_task[i]) * j->per_task[i];
    int32_t to = from + j->per_task[i] < tiles ? from + j->per_task[i] : tiles;
    int32_t prompts = j->a.n_prompt, exacts = j->a.n - prompts;
    bool can = j->k->unpack[j->tt[i]->kernel] && (!j->geglu || j->k->unpack[j->tt[1]->kernel]);
    bool panel_prompt = can && prompts > DOT_MAX, panel_exact = can && exacts > DOT_MAX;
    if (!panel_prompt || !panel_exact)
        for (int32_t i_tile = from; i_tile < to; i_tile++) {
            int32_t tile = j->list ? j->list[i_tile] : i_tile;
            if (!panel_prompt)
                dot_rows(j, i, tile, 0, prompts, false);
            if (!panel_exact)
                dot_rows(j, i, tile, prompts, j->a.n, true);
        }
    if (!panel_prompt && !panel_exact)
        return;
    uint8_t *mem = j->panels + (size_t)worker * 2 * j->panel_bytes;
    struct panel p[2];
    panel_init(&p[0], mem, w->cols);
    panel_init(&p[1], mem + j->panel_bytes, w->cols);
    for (int32_t tile = from; tile < to; tile += j->geglu ? 1 : 2) {
        bool second = j->geglu || tile + 1 < to;
        j->k->unpack[j->tt[i]->kernel](j->tt[i], tile_at(w, j->tt[i], tile), w->cols, &p[0]);
        if (j->geglu)
            j->k->unpack[j->tt[1]->kernel](j->tt[1], tile_at(j->w[1], j->tt[1], tile), w->cols, &p[1]);
        else if (second)
            j->k->unpack[j->tt[i]->kernel](j->tt[i], tile_at(w, j->tt[i], tile + 1), w->cols, &p[1]);
        if (panel_prompt)
            panel_rows(j, i, tile, second, p, 0, prompts, false);
        if (panel_exact)
            panel_rows(j, i, tile, second, p, prompts, j->a.n, true);
    }
}

/* list: n_list tiles of the one matrix, or NULL. Uses the scratch behind what is taken of it. */
static void run(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w, const ct_rows *rows,
                bool geglu, const int32_t *list, int32_t n_list)
{
    const struct kernels *k = ct_cpu_kernels(c);
    int32_t n = x.rows, cols = x.cols;
    size_t used = c->scratch->used;
    struct job j = {.k = k, .w = w, .y = y, .geglu = geglu, .list = list};
    struct acts *a = &j.a;
    *a = (struct acts){.n = n,
                       .n_prompt = c->exact ? 0 : rows->n_prompt,
                       .cols = cols,
                       .groups = cols / 32,
                       .x = ct_view_row(x, 0),
                       .stride = x.stride};
    bool ints = false, bf16 = false, half_mins = false;
    a->ahead = n > 1 || list || w[0]->rows < LONG_STREAM || w[0]->dtype->block_elems == 256;
    for (int32_t i = 0; i < m; i++) {
        j.tt[i] = ct_tile_type(w[i]->dtype->type);
        ints = ints || j.tt[i]->kind == TILE_INT;
        bf16 = bf16 || j.tt[i]->kind == TILE_BF16;
        half_mins = half_mins || (j.tt[i]->has_min && j.tt[i]->halves == 2);
    }
    size_t sn = (size_t)n, groups = (size_t)a->groups, pitch = ct_round_up((size_t)cols, 2);
    if (ints) {
        a->hi = ct_arena_alloc(c->scratch, sn * (size_t)cols);
        a->lo = ct_arena_alloc(c->scratch, sn * (size_t)cols);
        a->scale = ct_arena_alloc(c->scratch, sn * groups * 4);
        a->scaled_sum = ct_arena_alloc(c->scratch, sn * groups * 4);
        a->sum = ct_arena_alloc(c->scratch, sn * groups * 8);
        if (half_mins)
            a->half_sum = ct_arena_alloc(c->scratch, sn * groups * 8);
    }
    if (bf16) {
        a->bhi = ct_arena_alloc(c->scratch, sn * pitch * 2);
        a->blo = ct_arena_alloc(c->scratch, sn * pitch * 2);
    }
    if (ints || bf16) {
        struct prepare p = {.k = k, .a = a, .ints = ints, .bf16 = bf16};
        ct_pool_run(c->pool, (n + PREPARE_ROWS - 1) / PREPARE_ROWS, prepare_task, &p);
    }
    for (int32_t i = 0; i < m; i++) {
        j.init[i] = (struct init){.offset = j.tt[i]->offset, .halves = j.tt[i]->halves};
        if (j.tt[i]->kind != TILE_INT)
            continue;
        for (int32_t e = 0; e < i; e++) /* q and k, gate and up: mostly the same offset */
            if (j.tt[e]->kind == TILE_INT && j.init[e].offset == j.init[i].offset &&
                j.init[e].halves == j.init[i].halves)
                j.init[i].v = j.init[e].v;
        if (j.init[i].v == NULL) {
            j.init[i].v = ct_arena_alloc(c->scratch, sn * groups * 4 * (size_t)j.init[i].halves);
            fill_init(&j.init[i], a);
        }
    }
    j.panel_bytes = panel_size(cols);
    j.panels = ct_arena_alloc(c->scratch, (size_t)ct_pool_threads(c->pool) * 2 * j.panel_bytes);
    bool blocks = a->n_prompt > DOT_MAX || n - a->n_prompt > DOT_MAX;
    int32_t outputs = geglu ? 1 : m;
    for (int32_t i = 0; i < outputs; i++) {
        size_t per = TASK_BYTES / j.tt[i]->bytes(cols);
        j.per_task[i] = blocks ? (geglu ? 1 : 2) : per < 1 ? 1 : (int32_t)per;
        j.n_tiles[i] = list ? n_list : tile_count(w[i]);
        j.first_task[i + 1] = j.first_task[i] + (j.n_tiles[i] + j.per_task[i] - 1) / j.per_task[i];
    }
    ct_pool_run(c->pool, j.first_task[outputs], linear_task, &j);
    c->scratch->used = used;
}

void ct_cpu_linear(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w, const ct_rows *rows)
{
    ct_arena_reset(c->scratch);
    run(c, m, y, x, w, rows, false, NULL, 0);
}

void ct_cpu_linear_geglu(ct_ctx *c, ct_view y, ct_view x, const ct_weight *gate, const ct_weight *up,
                         const ct_rows *rows)
{
    const ct_weight *const w[2] = {gate, up};
    ct_arena_reset(c->scratch);
    run(c, 2, &y, x, w, rows, true, NULL, 0);
}

void ct_cpu_linear_tiles(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, const int32_t *list, int32_t n)
{
    if (list == NULL || n > 0)
        run(c, 1, &y, x, &w, &(ct_rows){.n = x.rows}, false, list, n);
}

/* Rows of the embedding, one lane of a tile each. */
struct embed_job {
    const ct_weight *w;
    const struct tile_type *tt;
    const ct_rows *rows;
    ct_view y;
    float scale;
};

static void embed_task(void *arg, int32_t i, int32_t worker)
{
    (void)worker;
    const struct embed_job *j = arg;
    float *y = ct_view_row(j->y, i);
    int32_t token = j->rows->token[i];
    ct_tile_row(j->tt, tile_at(j->w, j->tt, token / TILE), j->w->cols, token % TILE, y);
    for (int32_t k = 0; k < j->w->cols; k++)
        y[k] *= j->scale;
}

void ct_cpu_embed(ct_ctx *c, ct_view y, const ct_weight *w, const ct_rows *rows, float scale)
{
    struct embed_job j = {.w = w, .tt = ct_tile_type(w->dtype->type), .rows = rows, .y = y, .scale = scale};
    ct_pool_run(c->pool, rows->n, embed_task, &j);
}
