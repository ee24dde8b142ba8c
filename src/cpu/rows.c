/* Ops that treat each row on its own: norms, RoPE, GeGLU, gather. Rows are cut into tasks of a fixed number of rows; a few
 * rows are not worth waking anybody, eight are. */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"

#define ROWS_PER_TASK 4

enum row_op {
    OP_RMSNORM,
    OP_HEAD_NORM,
    OP_ROPE,
    OP_NORM_ROPE,
    OP_GEGLU,
    OP_NORM_ADD,
    OP_NORM_ADD_NORM,
    OP_GATHER,
    OP_SOFTCAP,
    OP_TABLE
};

struct row_job {
    const struct kernels *k;
    enum row_op op;
    ct_view y, x, z;
    const float *w, *w_next;
    int32_t n, heads;
    float eps;
    const int32_t *index;
    const ct_rows *rows;
    const ct_rope *how;
    const double *inv_freq;
};

static void one_row(const struct row_job *j, int32_t i)
{
    const struct kernels *k = j->k;
    int32_t cols = j->x.cols;
    float *x = ct_view_row(j->x, i);
    switch (j->op) {
    case OP_RMSNORM: k->rmsnorm(ct_view_row(j->y, i), x, j->w, cols, j->eps); break;
    case OP_HEAD_NORM:
    case OP_ROPE:
    case OP_NORM_ROPE: {
        int32_t d = cols / j->heads;
        for (int32_t h = 0; h < j->heads; h++) {
            if (j->op != OP_ROPE)
                k->rmsnorm(x + h * d, x + h * d, j->w, d, j->eps);
            if (j->op != OP_HEAD_NORM)
                k->rope(x + h * d, ct_view_row(j->y, i), d);
        }
        break;
    }
    case OP_GEGLU: k->geglu(ct_view_row(j->y, i), x, ct_view_row(j->z, i), cols); break;
    case OP_NORM_ADD: k->norm_add(x, ct_view_row(j->y, i), j->w, cols, j->eps); break;
    case OP_NORM_ADD_NORM:
        k->norm_add(x, ct_view_row(j->y, i), j->w, cols, j->eps);
        k->rmsnorm(ct_view_row(j->z, i), x, j->w_next, cols, j->eps);
        break;
    case OP_SOFTCAP:
        for (int32_t e = 0; e < cols; e++)
            x[e] = j->eps * tanhf(x[e] / j->eps);
        break;
    case OP_GATHER: memcpy(ct_view_row(j->y, i), ct_view_row(j->x, j->index[i]), (size_t)cols * sizeof *x); break;
    case OP_TABLE: {
        int32_t half = j->how->head_dim / 2;
        float *cs = ct_view_row(j->y, i);
        for (int32_t f = 0; f < half; f++) {
            double a = j->rows->pos[i] * j->inv_freq[f];
            cs[f] = (float)cos(a);
            cs[half + f] = (float)sin(a);
        }
        break;
    }
    }
}

static void rows_task(void *arg, int32_t task, int32_t worker)
{
    (void)worker;
    const struct row_job *j = arg;
    int32_t to = (task + 1) * ROWS_PER_TASK < j->n ? (task + 1) * ROWS_PER_TASK : j->n;
    for (int32_t i = task * ROWS_PER_TASK; i < to; i++)
        one_row(j, i);
}

static void run(ct_ctx *c, struct row_job j)
{
    j.k = ct_cpu_kernels(c);
    ct_pool_run(c->pool, (j.n + ROWS_PER_TASK - 1) / ROWS_PER_TASK, rows_task, &j);
}

static const float *vector(const ct_weight *w) { return w->buf.host; }

void ct_cpu_rope_table(ct_ctx *c, ct_view cs, const ct_rows *rows, const ct_rope *how)
{
    ct_arena_reset(c->scratch);
    double *inv = ct_arena_alloc(c->scratch, (size_t)how->head_dim / 2 * sizeof *inv);
    for (int32_t f = 0; f < how->head_dim / 2; f++)
        inv[f] = pow(how->theta, -2.0 * f / how->head_dim) / how->factor;
    run(c, (struct row_job){.op = OP_TABLE, .y = cs, .x = cs, .n = rows->n, .rows = rows, .how = how, .inv_freq = inv});
}

void ct_cpu_rmsnorm(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, float eps)
{
    run(c, (struct row_job){.op = OP_RMSNORM, .y = y, .x = x, .w = vector(w), .n = x.rows, .eps = eps});
}

void ct_cpu_head_norm(ct_ctx *c, ct_view x, const ct_weight *w, int32_t heads, float eps)
{
    run(c, (struct row_job){.op = OP_HEAD_NORM, .x = x, .w = vector(w), .n = x.rows, .heads = heads, .eps = eps});
}

void ct_cpu_rope(ct_ctx *c, ct_view x, ct_view cs, int32_t heads)
{
    run(c, (struct row_job){.op = OP_ROPE, .y = cs, .x = x, .n = x.rows, .heads = heads});
}

void ct_cpu_norm_rope(ct_ctx *c, ct_view x, const ct_weight *w, ct_view cs, int32_t heads, float eps)
{
    run(c,
        (struct row_job){.op = OP_NORM_ROPE, .y = cs, .x = x, .w = vector(w), .n = x.rows, .heads = heads, .eps = eps});
}

void ct_cpu_geglu(ct_ctx *c, ct_view y, ct_view gate, ct_view up)
{
    run(c, (struct row_job){.op = OP_GEGLU, .y = y, .x = gate, .z = up, .n = gate.rows});
}

void ct_cpu_norm_add(ct_ctx *c, ct_view x, ct_view y, const ct_weight *w, float eps)
{
    run(c, (struct row_job){.op = OP_NORM_ADD, .y = y, .x = x, .w = vector(w), .n = x.rows, .eps = eps});
}

void ct_cpu_norm_add_norm(ct_ctx *c, ct_view z, ct_view x, ct_view y, const ct_weight *w, const ct_weight *w_next,
                          float eps)
{
    run(c, (struct row_job){.op = OP_NORM_ADD_NORM,
                            .y = y,
                            .x = x,
                            .z = z,
                            .w = vector(w),
                            .w_next = vector(w_next),
                            .n = x.rows,
                            .eps = eps});
}

/* Rare enough that nobody made it fast. */
void ct_cpu_softcap(ct_ctx *c, ct_view x, float cap)
{
    run(c, (struct row_job){.op = OP_SOFTCAP, .x = x, .n = x.rows, .eps = cap});
}

void ct_cpu_gather(ct_ctx *c, ct_view y, ct_view x, const int32_t *index)
{
    run(c, (struct row_job){.op = OP_GATHER, .y = y, .x = x, .n = y.rows, .index = index});
}
