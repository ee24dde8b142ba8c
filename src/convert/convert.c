/* The conversion itself: checks at the door, then blocks of rows from the input through f32 into the output, many at a time, in
 * an order that changes no byte. A run of rows is decoded, encoded and written by one thread in buffers that stay in its cache;
 * pages of the input are given back behind it. */
#include "convert/convert.h"

#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "convert/plan.h"

enum {
    RUN_ELEMS = 65536, /* of a task: 256 KB of floats */
    AT_ONCE = 64       /* tasks between two questions whether to go on */
};

struct scratch {
    uint8_t *bytes; /* what was read, then what is written */
    float *floats;
};

struct work {
    ct_tensors *in;
    const struct plan *plan;
    ct_output *out;
    struct scratch *scratch; /* [threads] */
    size_t item;             /* the tensor at hand */
    size_t first, run, end;  /* its rows: of task 0, of each task, behind the last */
    atomic_bool failed;
    ct_error error; /* of the first that failed */
};

static void failed(struct work *w, const ct_error *e)
{
    if (!atomic_exchange(&w->failed, true))
        w->error = *e;
}

static size_t rows_of(const ct_out_tensor *x) { return x->bytes == 0 ? 0 : x->ne[1] * x->ne[2] * x->ne[3]; }

/* Rows first .. first + n of the tensor at hand, through f32. */
static ct_status one_run(struct work *w, struct scratch *s, size_t first, size_t n, ct_error *err)
{
    const struct plan_item *item = &w->plan->items[w->item];
    const ct_out_tensor *out = &w->plan->out[w->item];
    size_t cols = out->ne[0], from, to;
    if (!ct_row_bytes(item->src->dtype, cols, &from) || !ct_row_bytes(out->dtype, cols, &to))
        return ct_fail(err, CT_EINTERNAL, out->name, "rows of '%s' are no whole blocks", out->name);
    const uint8_t *src = ct_tensor_part(w->in, item->src, first * from, n * from, s->bytes);
    if (item->how == NULL)
        return ct_output_put(w->out, w->item, first * to, src, n * to, err);
    ct_row_decode(item->src->dtype, s->floats, src, n * cols);
    for (size_t i = 0; item->add != 0 && i < n * cols; i++)
        s->floats[i] += item->add;
    for (size_t r = 0; r < n; r++)
        if (!ct_encode(item->how, s->bytes + r * to, s->floats + r * cols, cols, item->importance))
            return ct_fail(err, CT_ENUMERIC, out->name,
                           "expected numbers that %s can hold in row %zu of '%s', found NaN, infinity, or one beyond "
                           "65504",
                           out->dtype->name, first + r, out->name);
    return ct_output_put(w->out, w->item, first * to, s->bytes, n * to, err);
}

static void task(void *arg, int32_t index, int32_t worker)
{
    struct work *w = arg;
    ct_error e = {0};
    size_t first = w->first + (size_t)index * w->run;
    size_t n = w->end - first < w->run ? w->end - first : w->run;
    if (!atomic_load(&w->failed) && one_run(w, &w->scratch[worker], first, n, &e) != CT_OK)
        failed(w, &e);
}

static size_t run_of(const ct_out_tensor *x) { return x->ne[0] >= RUN_ELEMS ? 1 : RUN_ELEMS / x->ne[0]; }

static ct_status one_tensor(struct work *w, size_t item, ct_pool *pool, const ct_convert_job *job, double *done,
                            double total, ct_error *err)
{
    const ct_out_tensor *x = &w->plan->out[item];
    const ct_tensor *src = w->plan->items[item].src;
    size_t from = src->bytes / (src->n_elems / src->ne[0]), rows = rows_of(x);
    w->item = item;
    w->run = run_of(x);
    for (size_t row = 0; row < rows; row = w->end) {
        if (job->keep_going && !job->keep_going(job->arg))
            return ct_fail(err, CT_EINTERRUPTED, NULL, "interrupted while converting '%s'", x->name);
        w->first = row;
        w->end = rows - row < w->run * AT_ONCE ? rows : row + w->run * AT_ONCE;
        ct_pool_run(pool, (int32_t)((w->end - row + w->run - 1) / w->run), task, w);
        if (atomic_load(&w->failed)) {
            if (err)
                *err = w->error;
            return w->error.code;
        }
        ct_tensor_forget_part(w->in, src, row * from, (w->end - row) * from);
        *done += (double)((w->end - row) * from);
        if (job->progress)
            job->progress(job->arg, "converting", *done, total);
    }
    ct_tensor_forget(w->in, src);
    return CT_OK;
}

/* Room for the longest run of any tensor, once for each thread. */
static ct_status get_scratch(struct work *w, int32_t threads, ct_error *err)
{
    size_t elems = 0, bytes = 0;
    for (size_t i = 0; i < w->plan->n; i++) {
        const ct_out_tensor *x = &w->plan->out[i];
        size_t n = run_of(x) * x->ne[0], from, to;
        if (!ct_row_bytes(w->plan->items[i].src->dtype, n, &from) || !ct_row_bytes(x->dtype, n, &to))
            return ct_fail(err, CT_EINTERNAL, x->name, "rows of '%s' are no whole blocks", x->name);
        elems = n > elems ? n : elems;
        bytes = from > bytes ? from : bytes;
        bytes = to > bytes ? to : bytes;
    }
    for (int32_t i = 0; i < threads; i++) {
        w->scratch[i].bytes = ct_alloc(bytes);
        w->scratch[i].floats = ct_calloc(elems, sizeof(float));
        if (w->scratch[i].bytes == NULL || w->scratch[i].floats == NULL)
            return ct_fail(err, CT_ENOMEM, NULL, "out of memory for %zu bytes of work space a thread",
                           bytes + elems * 4);
    }
    return CT_OK;
}

static void free_scratch(struct work *w, int32_t threads)
{
    for (int32_t i = 0; w->scratch && i < threads; i++) {
        ct_free(w->scratch[i].bytes);
        ct_free(w->scratch[i].floats);
    }
    ct_free(w->scratch);
}

static ct_status copy_all(ct_tensors *t, const struct plan *p, ct_output *out, ct_pool *pool, const ct_convert_job *job,
                          ct_conversion *result, ct_error *err)
{
    int32_t threads = ct_pool_threads(pool);
    struct work w = {.in = t, .plan = p, .out = out, .scratch = ct_calloc((size_t)threads, sizeof *w.scratch)};
    double done = 0;
    ct_status st = CT_ENOMEM;
    if (w.scratch == NULL)
        ct_fail(err, st, NULL, "out of memory for the work of %d threads", threads);
    else
        st = get_scratch(&w, threads, err);
    for (size_t i = 0; i < p->n && st == CT_OK; i++)
        st = one_tensor(&w, i, pool, job, &done, (double)result->bytes_in, err);
    free_scratch(&w, threads);
    return st;
}

static bool not_empty(void *arg, const char *name)
{
    (void)name;
    *(bool *)arg = false;
    return false;
}

/* What can be said before anything is written. */
static ct_status check_names(const ct_tensors *t, const char *out, enum form form, bool force, ct_error *err)
{
    if (ct_is_same(ct_tensors_path(t), out))
        return ct_fail(err, CT_EIO, out, "'%s' is what is read: give the output another name", out);
    if (ct_is_folder(out)) {
        bool empty = true;
        ct_status st = ct_list_folder(out, not_empty, &empty, err);
        if (st == CT_OK && (form == FORM_GGUF || !empty))
            st = ct_fail(err, CT_EIO, out, "'%s' is a folder%s: give another name, or remove it first", out,
                         empty ? "" : " with something in it");
        return st;
    }
    if (ct_is_there(out) && form == FORM_FOLDER)
        return ct_fail(err, CT_EIO, out, "'%s' is there, and is no folder: give another name, or remove it first", out);
    if (ct_is_there(out) && !force)
        return ct_fail(err, CT_EIO, out, "'%s' is there already: give another name, or --force to replace it", out);
    return CT_OK;
}

static ct_status check_room(const char *out, size_t need, ct_error *err)
{
    size_t have = ct_disk_free(out);
    if (need <= have)
        return CT_OK;
    return ct_fail(err, CT_EIO, out, "'%s' needs %.2f GB, and its disk has %.2f GB left: free some, or write elsewhere",
                   out, (double)need * 1e-9, (double)have * 1e-9);
}

static void sum_up(const struct plan *p, ct_conversion *r)
{
    r->tensors = p->n;
    for (size_t i = 0; i < p->n; i++) {
        const ct_out_tensor *x = &p->out[i];
        size_t rows = rows_of(x), all = p->items[i].src->n_elems / x->ne[0];
        r->bytes_in += p->items[i].src->bytes / all * rows;
        if (x->n_dims > 1) {
            r->weights += x->ne[0] * rows;
            r->weight_bytes += x->bytes;
        }
    }
}

static ct_status create(ct_output **o, const char *out, const ct_tensors *t, const struct plan *p, size_t shard,
                        ct_conversion *result, ct_error *err)
{
    struct metadata m = {0};
    ct_status st;
    if (p->target.form == FORM_GGUF) {
        st = ct_metadata_make(&m, t, p, err);
        if (st == CT_OK)
            st = ct_gguf_create(o, out, m.kv, m.n, p->out, p->n, err);
        ct_metadata_free(&m);
        return st;
    }
    bool mlx = p->target.grouped != NULL;
    result->format = mlx ? "MLX" : "Hugging Face";
    st = ct_safetensors_create(o, out, mlx ? "mlx" : "pt", shard, p->out, p->n, err);
    return st == CT_OK ? ct_folder_write(ct_output_folder(*o), t, p, result, err) : st;
}

ct_status ct_convert(ct_tensors *t, const char *out, const ct_convert_options *opt, ct_pool *pool,
                     const ct_convert_job *job, ct_conversion *result, ct_error *err)
{
    struct target g;
    struct plan p = {0};
    ct_output *o = NULL;
    *result = (ct_conversion){.format = "GGUF"};
    ct_status st = ct_target_of(&g, out, opt, err);
    if (st == CT_OK)
        st = check_names(t, out, g.form, opt->force, err);
    if (st == CT_OK)
        st = ct_plan_make(&p, t, &g, opt->importance, result, err);
    if (st != CT_OK)
        goto done;
    sum_up(&p, result);
    size_t need = 0;
    for (size_t i = 0; i < p.n; i++)
        need += p.out[i].bytes;
    if ((st = check_room(out, need, err)) != CT_OK || (st = create(&o, out, t, &p, opt->shard, result, err)) != CT_OK)
        goto done;
    result->bytes_out = ct_output_bytes(o);
    st = copy_all(t, &p, o, pool, job, result, err);
    if (st == CT_OK)
        st = ct_tensors_check(t, err);
    if (st == CT_OK) {
        st = ct_output_commit(o, err);
        o = NULL;
    }
done:
    ct_output_abandon(o);
    ct_plan_free(&p);
    return st;
}
