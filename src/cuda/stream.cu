/* Streams of the backend cuda: memory of a step, page tables, recorded steps.
 *
 * A step begins by sending its rows to the card. Steps that repeat are captured as a graph at their second time, and from then on
 * begin() plays it back and the ops are not asked for. What ops do is ops.cu's. */
#include <string.h>

#include "cuda/stream.cuh"

void cu_note(struct stream *st, int e, const char *op)
{
    if (e && !st->error) {
        st->error = e;
        st->op = op;
    }
#ifndef NDEBUG
    if (!st->error && !st->capturing && (e = (int)cudaStreamSynchronize(st->s)) != 0) {
        st->error = e;
        st->op = op;
    }
#endif
}

struct sizes {
    size_t planes[2], attention, up, more, half, rows;
};

static struct sizes sizes_of(const ct_limits *l)
{
    struct sizes z;
    int passed = l->rows < CU_PASS ? l->rows : CU_PASS;
    z.rows = ((size_t)l->rows * 4 * sizeof(int32_t) + 255) / 256 * 256;
    z.planes[0] = (planes_bytes(l->rows, l->max_cols) + 255) / 256 * 256;
    z.planes[1] = (planes_bytes(passed, l->max_cols) + 255) / 256 * 256;
    z.attention = (cu_attention_scratch(l->rows, l->heads, l->head_dim, l->context) + 255) / 256 * 256;
    z.up = (size_t)l->rows * half_pitch(l->max_out) * sizeof(float);
    z.half = ((size_t)l->rows * half_pitch(l->max_cols) * sizeof(uint16_t) + 255) / 256 * 256;
    size_t gemm = ct_cuda_gemm_scratch(0, l->max_cols, l->max_out * 2);
    size_t flash = ct_cuda_flash_scratch(l->rows, l->heads, l->head_dim);
    z.more = ((gemm > flash ? gemm : flash) + 255) / 256 * 256;
    return z;
}

size_t cu_scratch_bytes(const ct_limits *l)
{
    struct sizes z = sizes_of(l);
    return z.rows + z.planes[0] + z.planes[1] + z.attention + z.up + z.half + z.more;
}

void cu_stream_free(void *stream)
{
    struct stream *st = (struct stream *)stream;
    if (st == NULL)
        return;
    if (st->s)
        cudaStreamSynchronize(st->s);
    for (int i = 0; i < GRAPHS; i++)
        if (st->graphs[i].exec)
            cudaGraphExecDestroy(st->graphs[i].exec);
    for (int i = 0; i < TABLES; i++) {
        cudaFree(st->tables[i].dev);
        cudaFreeHost(st->tables[i].mirror);
    }
    ct_cuda_gemm_free(st->gemm);
    cudaFree(st->scratch);
    cudaFreeHost(st->mapped);
    cudaFreeHost(st->runs);
    if (st->s)
        cudaStreamDestroy(st->s);
    cudaFreeHost(st);
}

ct_status cu_stream_create(void **stream, const ct_limits *l, ct_error *err)
{
    struct sizes z = sizes_of(l);
    struct stream *st = NULL;
    *stream = NULL;
    int e = (int)cudaMallocHost((void **)&st, sizeof *st);
    if (e)
        return cu_failed(err, e, "making a stream");
    memset((void *)st, 0, sizeof *st);
    st->rows = l->rows;
    st->context = l->context;
    st->hint = -1;
    e = (int)cudaStreamCreateWithFlags(&st->s, cudaStreamNonBlocking);
    if (!e)
        e = (int)cudaHostAlloc((void **)&st->mapped, (size_t)l->rows * 4 * sizeof(int32_t), cudaHostAllocMapped);
    if (!e)
        e = (int)cudaMallocHost((void **)&st->runs, (size_t)l->rows * sizeof *st->runs);
    if (!e)
        e = ct_cuda_gemm_create(&st->gemm);
    size_t total = cu_scratch_bytes(l);
    if (!e)
        e = (int)cudaMalloc((void **)&st->scratch, total);
    if (!e)
        e = (int)cudaMemset(st->scratch, 0, total);
    if (!e)
        e = (int)cudaStreamSynchronize(0);
    if (e) {
        cu_stream_free(st);
        if (e == (int)cudaErrorMemoryAllocation) {
            cudaGetLastError();
            return ct_fail(err, CT_ENOMEM, "cuda", "work space needs %.2f GB of the device's memory, and %.2f GB are free",
                           (double)total * 1e-9, (double)cu_memory_free() * 1e-9);
        }
        return cu_failed(err, e, "making a stream");
    }
    uint8_t *at = st->scratch;
    st->dev = (int32_t *)at;
    at += z.rows;
    for (int i = 0; i < 2; i++) {
        st->planes[i] = at;
        st->planes_room[i] = z.planes[i];
        at += z.planes[i];
    }
    st->attention = at;
    st->attention_bytes = z.attention;
    at += z.attention;
    st->up = (float *)at;
    st->up_stride = half_pitch(l->max_out);
    at += z.up;
    st->half = (uint16_t *)at;
    at += z.half;
    st->more = at;
    st->more_bytes = z.more;
    *stream = st;
    return CT_OK;
}

/* The rows' sequences of a page table, where they have changed. A cache that has gone leaves its place to another. */
static int send_table(struct stream *st, const ct_kv *kv, const ct_rows *rows)
{
    size_t stride = (size_t)kv->table_stride, n = stride * (size_t)kv->sequences;
    int i = 0, e = 0;
    while (i < TABLES && st->tables[i].host != kv->table && st->tables[i].host)
        i++;
    struct table *t = &st->tables[i < TABLES ? i : 0];
    if (t->host != kv->table || t->n < n) {
        cudaFree(t->dev);
        cudaFreeHost(t->mirror);
        t->dev = t->mirror = NULL;
        t->host = kv->table;
        t->n = n;
        e = (int)cudaMalloc((void **)&t->dev, n * sizeof(int32_t));
        if (!e)
            e = (int)cudaMallocHost((void **)&t->mirror, n * sizeof(int32_t));
        if (e)
            return e;
        memset(t->mirror, 0xff, n * sizeof(int32_t));
        e = (int)cudaMemsetAsync(t->dev, 0, n * sizeof(int32_t), st->s);
        for (int g = 0; g < GRAPHS; g++) { /* they hold the old address */
            if (st->graphs[g].exec)
                cudaGraphExecDestroy(st->graphs[g].exec);
            memset(&st->graphs[g], 0, sizeof st->graphs[g]);
        }
    }
    for (int r = 0; r < rows->n && !e; r++) {
        size_t at = (size_t)rows->seq[r] * stride;
        if ((r == 0 || rows->seq[r] != rows->seq[r - 1]) && memcmp(t->mirror + at, kv->table + at, stride * sizeof(int32_t)) != 0) {
            memcpy(t->mirror + at, kv->table + at, stride * sizeof(int32_t));
            e = (int)cudaMemcpyAsync(t->dev + at, t->mirror + at, stride * sizeof(int32_t), cudaMemcpyHostToDevice, st->s);
        }
    }
    return e;
}

static struct graph *graph_of(struct stream *st, const ct_ctx *c, const ct_rows *rows, const ct_kv *kv, int n_index)
{
    for (int i = 0; i < GRAPHS; i++) {
        struct graph *g = &st->graphs[i];
        if (g->times == 0) {
            struct graph now = {rows->n, n_index, st->bucket, 0, kv, c->exact, c->deterministic, NULL};
            *g = now;
        }
        if (g->n == rows->n && g->n_index == n_index && g->bucket == st->bucket && g->kv == kv && g->exact == c->exact &&
            g->deterministic == c->deterministic)
            return g;
    }
    return NULL; /* so many shapes are no habit */
}

bool cu_begin(ct_ctx *c, const ct_rows *rows, const ct_kv *kv, int32_t n_kv, const int32_t *index, int32_t n_index, bool repeats)
{
    STREAM;
    int n = rows->n, e = 0;
    st->error = 0;
    st->op = "the step";
    st->packed.x = NULL;
    st->rounded.x.p = NULL;
    st->rounded.owed = false;
    st->prompt_rows = c->exact || !ct_cuda_gemm_takes(rows->n_prompt, c->deterministic) ? 0 : rows->n_prompt;
    st->pending.k = st->pending.store = false;
    st->capturing = st->replayed = NULL;
    st->n = n;
    st->n_prompt = rows->n_prompt;
    st->longest = 0;
    st->n_runs = 0;
    if (n > st->rows || n_index > st->rows) {
        st->error = (int)cudaErrorInvalidValue;
        return false;
    }
    const int32_t *from[4] = {rows->token, rows->pos, rows->seq, index};
    for (int i = 0; i < 4; i++)
        if (from[i])
            memcpy(st->mapped + (size_t)i * st->rows, from[i], (size_t)(i == 3 ? n_index : n) * sizeof(int32_t));
    for (int i = 0; i < n && rows->pos && rows->seq; i++) {
        ct_cu_run *last = &st->runs[st->n_runs - 1];
        st->longest = rows->pos[i] + 1 > st->longest ? rows->pos[i] + 1 : st->longest;
        if (i > 0 && i != rows->n_prompt && rows->seq[i] == last->seq && rows->pos[i] == last->pos + last->n) {
            last->n++;
        } else {
            ct_cu_run run = {i, 1, rows->seq[i], rows->pos[i]};
            st->runs[st->n_runs++] = run;
        }
    }
    for (st->bucket = 256; st->bucket < st->longest;)
        st->bucket *= 2;
    for (int i = 0; i < n_kv && !e; i++)
        if (i == 0 || kv[i].table != kv[i - 1].table)
            e = send_table(st, &kv[i], rows);
    cu_note(st, e, "begin");
    struct graph *g = repeats && rows->n_prompt == 0 ? graph_of(st, c, rows, kv, n_index) : NULL;
    if (g && g->exec && !e) {
        cu_note(st, (int)cudaGraphLaunch(g->exec, st->s), "the recorded step");
        st->replayed = g;
        return false;
    }
    if (g && ++g->times == 2 && !e) {
        e = (int)cudaStreamBeginCapture(st->s, cudaStreamCaptureModeThreadLocal);
        if (!e)
            st->capturing = g;
        cu_note(st, e, "begin");
    }
    if (n > 0 || n_index > 0)
        cu_note(st, cu_rows_in(st->s, st->mapped, st->dev, st->rows, n > n_index ? n : n_index), "begin");
    return true;
}

ct_status cu_end(ct_ctx *c, ct_error *err)
{
    STREAM;
    if (!st->replayed)
        cu_flush(st);
    if (st->capturing) {
        cudaGraph_t graph = NULL;
        struct graph *g = st->capturing;
        st->capturing = NULL;
        int e = (int)cudaStreamEndCapture(st->s, &graph);
        if (!e)
            e = (int)cudaGraphInstantiate(&g->exec, graph, 0);
        if (graph)
            cudaGraphDestroy(graph);
        if (!e && !st->error)
            e = (int)cudaGraphLaunch(g->exec, st->s);
        cu_note(st, e, "recording a step");
    }
    int e = (int)cudaStreamSynchronize(st->s);
    const char *what = st->error ? st->op : "one of the step's operations";
    if (st->error)
        e = st->error;
    st->error = 0;
    return e ? cu_failed(err, e, what) : CT_OK;
}
