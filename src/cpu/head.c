/* The screened head (linear_top): a rough copy of the matrix is read whole, the matrix itself where it matters.
 *
 * Rows of the matrix are scored by tiles of 16, with linear's own kernels, so a logit that is right has linear's bits on every
 * instruction set. In order:
 *   1. all logits from the rough copy, and the best of each tile;
 *   2. the `top` tiles of the best rough logits are scored: the top-th of their right logits is a bound from below for
 *      the top-th of all;
 *   3. every other tile that may reach the bound is scored, and those of the columns asked for by name.
 * Where more than a third may (flat distributions), and for many rows of activations, the matrix is read whole. Nothing here
 * depends on the number of threads. What the rough copy is: model/rough.c; what it saves: docs/SPEED.md. */
#include "cpu/cpu.h"

#include <math.h>
#include <string.h>

#define TASK_TILES 512
#define GROUP 16 /* tiles of a group, which are looked through only if the best of them may matter */

struct head_job {
    ct_view y;
    const ct_rough *rough;
    float *best;   /* [n][tiles] largest rough logit of each tile */
    float *groups; /* [n][groups] and of each group */
    uint8_t *in;   /* [tiles] LISTED: is in the list; REACHES: may reach the bound of the row looked at */
    int32_t tiles, n_groups;
    int32_t t; /* the row */
    float reach, bound;
};

enum { LISTED = 1, REACHES = 2 };

struct heap { /* the `size` largest so far, the least first */
    float *v;
    int32_t n, size;
};

size_t ct_cpu_head_scratch(const ct_limits *l)
{
    size_t tiles = (size_t)l->head_out / TILE + 1, groups = tiles / GROUP + 1;
    if (l->head_out == 0)
        return 0;
    return (CT_SCREEN_ROWS * (tiles + groups) + tiles + CT_SCREEN_MAX) * 4 + tiles + 1024;
}

/* Spelled so that it becomes four vectors. */
static float best_of(const float *v)
{
    float m[4];
    for (int32_t r = 0; r < 4; r++) {
        float a = v[r] > v[r + 4] ? v[r] : v[r + 4], b = v[r + 8] > v[r + 12] ? v[r + 8] : v[r + 12];
        m[r] = a > b ? a : b;
    }
    float a = m[0] > m[1] ? m[0] : m[1], b = m[2] > m[3] ? m[2] : m[3];
    return a > b ? a : b;
}

static void best_task(void *arg, int32_t task, int32_t worker)
{
    (void)worker;
    const struct head_job *j = arg;
    int32_t from = task * TASK_TILES, to = from + TASK_TILES < j->tiles ? from + TASK_TILES : j->tiles;
    for (int32_t t = 0; t < j->y.rows; t++) {
        const float *y = ct_view_row(j->y, t);
        float *best = j->best + (size_t)t * (size_t)j->tiles, *groups = j->groups + (size_t)t * (size_t)j->n_groups;
        for (int32_t i = from; i < to; i++) {
            float last[TILE];
            int32_t n = j->y.cols - i * TILE;
            for (int32_t r = 0; n < TILE && r < TILE; r++)
                last[r] = r < n ? y[i * TILE + r] : -INFINITY;
            best[i] = best_of(n < TILE ? last : y + i * TILE);
            if (i % GROUP == 0 || best[i] > groups[i / GROUP])
                groups[i / GROUP] = best[i];
        }
    }
}

/* Could a tile have one of the largest? Where nobody says no, as of NaN, it could. */
static void reach_task(void *arg, int32_t task, int32_t worker)
{
    (void)worker;
    const struct head_job *j = arg;
    const float *best = j->best + (size_t)j->t * (size_t)j->tiles, *y = ct_view_row(j->y, j->t);
    int32_t from = task * TASK_TILES, to = from + TASK_TILES < j->tiles ? from + TASK_TILES : j->tiles;
    for (int32_t i = from; i < to; i++) {
        if (best[i] + j->reach * j->rough->most[i] < j->bound || j->in[i] != 0)
            continue;
        float most[TILE];
        const float *v = y + i * TILE, *spread = j->rough->spread + i * TILE;
        int32_t n = j->y.cols - i * TILE;
        if (n < TILE)
            for (int32_t r = 0; r < TILE; r++)
                most[r] = r < n ? v[r] + j->reach * spread[r] : -INFINITY;
        else
            for (int32_t r = 0; r < TILE; r++)
                most[r] = v[r] + j->reach * spread[r];
        j->in[i] = best_of(most) < j->bound ? 0 : REACHES;
    }
}

static void heap_take(struct heap *h, float x)
{
    float *v = h->v;
    int32_t i;
    if (h->n < h->size) {
        for (i = h->n++; i > 0 && v[(i - 1) / 2] > x; i = (i - 1) / 2)
            v[i] = v[(i - 1) / 2];
        v[i] = x;
        return;
    }
    if (!(x > v[0]))
        return;
    i = 0;
    for (int32_t c; (c = 2 * i + 1) < h->n; i = c) {
        if (c + 1 < h->n && v[c + 1] < v[c])
            c++;
        if (v[c] >= x)
            break;
        v[i] = v[c];
    }
    v[i] = x;
}

static float heap_least(const struct heap *h) { return h->n == h->size ? h->v[0] : -INFINITY; }

static float length_of(const float *x, int32_t n)
{
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return (float)sqrt(sum);
}

/* The tiles that have the `top` largest of the best rough logits of tiles. */
static int32_t list_best(struct head_job *j, struct heap *heap, int32_t *list, int32_t listed)
{
    const float *best = j->best + (size_t)j->t * (size_t)j->tiles;
    const float *groups = j->groups + (size_t)j->t * (size_t)j->n_groups;
    heap->n = 0;
    for (int32_t g = 0; g < j->n_groups; g++)
        heap_take(heap, groups[g]);
    float least = heap_least(heap); /* there are as many tiles at least that are as good */
    heap->n = 0;
    for (int32_t g = 0; g < j->n_groups; g++)
        for (int32_t i = g * GROUP; groups[g] >= least && i < (g + 1) * GROUP && i < j->tiles; i++)
            heap_take(heap, best[i]);
    least = heap_least(heap);
    for (int32_t g = 0; g < j->n_groups; g++)
        for (int32_t i = g * GROUP; groups[g] >= least && i < (g + 1) * GROUP && i < j->tiles; i++)
            if (best[i] >= least && j->in[i] == 0) {
                j->in[i] = LISTED;
                list[listed++] = i;
            }
    return listed;
}

/* The other tiles that row j->t wants: behind the first ones, which have their right logits by now. */
static int32_t list_rest(ct_ctx *c, struct head_job *j, struct heap *heap, const ct_screen *how, int32_t *list,
                         int32_t first, int32_t listed)
{
    const float *row = ct_view_row(j->y, j->t);
    heap->n = 0;
    for (int32_t i = 0; i < first; i++)
        for (int32_t r = list[i] * TILE; r < list[i] * TILE + TILE && r < j->y.cols; r++)
            heap_take(heap, row[r]);
    j->bound = heap_least(heap);
    ct_pool_run(c->pool, (j->tiles + TASK_TILES - 1) / TASK_TILES, reach_task, j);
    for (int32_t i = 0; i < how->n_also; i++)
        if (how->also[i] >= 0 && how->also[i] < j->y.cols && j->in[how->also[i] / TILE] == 0)
            j->in[how->also[i] / TILE] = REACHES;
    for (int32_t i = 0; i < j->tiles; i++)
        if (j->in[i] == REACHES) {
            j->in[i] = LISTED;
            list[listed++] = i;
        }
    return listed;
}

void ct_cpu_linear_top(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, const ct_rough *rough,
                       ct_screen *const *how)
{
    int32_t n = x.rows, tiles = (y.cols + TILE - 1) / TILE, listed = 0;
    ct_arena_reset(c->scratch);
    if (n > CT_SCREEN_ROWS) {
        listed = tiles;
        ct_cpu_linear_tiles(c, y, x, w, NULL, 0);
        goto done;
    }
    struct head_job j = {.y = y, .rough = rough, .tiles = tiles, .n_groups = (tiles + GROUP - 1) / GROUP};
    j.best = ct_arena_alloc(c->scratch, (size_t)n * (size_t)tiles * sizeof *j.best);
    j.groups = ct_arena_alloc(c->scratch, (size_t)n * (size_t)j.n_groups * sizeof *j.groups);
    j.in = ct_arena_alloc(c->scratch, (size_t)tiles);
    int32_t *list = ct_arena_alloc(c->scratch, (size_t)tiles * sizeof *list);
    struct heap heap = {.v = ct_arena_alloc(c->scratch, (size_t)CT_SCREEN_MAX * sizeof *heap.v)};
    memset(j.in, 0, (size_t)tiles);

    ct_cpu_linear_tiles(c, y, x, &rough->w, NULL, 0);
    ct_pool_run(c->pool, (tiles + TASK_TILES - 1) / TASK_TILES, best_task, &j);
    for (j.t = 0; j.t < n; j.t++) {
        heap.size = how[j.t]->top;
        listed = list_best(&j, &heap, list, listed);
    }
    ct_cpu_linear_tiles(c, y, x, w, list, listed);
    int32_t first = listed;
    for (j.t = 0; j.t < n; j.t++) {
        heap.size = how[j.t]->top;
        j.reach = CT_SCREEN_SIGMAS * length_of(ct_view_row(x, j.t), x.cols);
        listed = list_rest(c, &j, &heap, how[j.t], list, first, listed);
    }
    if (listed > tiles / 3) {
        listed = tiles;
        ct_cpu_linear_tiles(c, y, x, w, NULL, 0);
    } else {
        ct_cpu_linear_tiles(c, y, x, w, list + first, listed - first);
    }
done:
    for (int32_t t = 0; t < n; t++)
        how[t]->scored = listed * TILE < y.cols ? listed * TILE : y.cols;
}
