/* The prompt side's kernels against double precision on the CPU: products and attention, many shapes, poisoned outputs.
 *
 *     nvcc -std=c++17 -O3 -gencode=arch=compute_90a,code=sm_90a -Isrc tests/cuda/test_prefill.cu src/cuda/{gemm,flash,expand}.cu
 *
 * Run by hand on a machine with a Hopper card: prints a line per family with the largest error, exits with 1 if any is past its
 * limit. Elements are drawn at random from each case; every output is checked for having been written, and what lies around it
 * for not having been. */
#include "prefill_util.h"

static int failures;

/* ---- products ---- */

struct errors {
    double d2, r2, worst; /* squared error and reference; largest error relative to the row's norm */
};

static void report(const char *what, const struct errors *e, double limit, int32_t cases, int32_t bad)
{
    double rel = sqrt(e->d2 / e->r2);
    bool ok = rel <= limit && bad == 0;
    failures += !ok;
    printf("%-34s %4d cases  |out-ref|/|ref| %.2e (limit %.0e)  unwritten or overwritten %d  %s\n", what, cases, rel,
           limit, bad, ok ? "ok" : "FAILED");
}

static double gelu(double x) { return 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }

/* One product, or one gated pair. type: f32, f16 or bf16 weights. */
static void product(struct rng *r, struct errors *e, int32_t *bad, ct_dtype type, int32_t n, int32_t k, int32_t m,
                    const int32_t *outs, bool gated, bool rounded, size_t area)
{
    size_t pitch = ((size_t)k + 127) / 128 * 128, x_stride = (size_t)k + (size_t)(k % 4 == 0 ? 16 : 3);
    float *x = (float *)malloc((size_t)n * x_stride * sizeof(float));
    for (size_t i = 0; i < (size_t)n * x_stride; i++)
        x[i] = normal(r);
    float *dx = (float *)device_copy(x, (size_t)n * x_stride * sizeof(float));
    double *w[CT_LINEAR_MAX];
    ct_cu_weight cw[CT_LINEAR_MAX];
    ct_cu_mat y[CT_LINEAR_MAX];
    int32_t sum = 0;
    for (int32_t i = 0; i < m; i++) {
        size_t rows = ((size_t)outs[i] + 15) / 16 * 16, size = type == CT_F32 ? 4 : 2;
        uint8_t *bytes = (uint8_t *)calloc(rows * pitch, size);
        w[i] = (double *)malloc((size_t)outs[i] * (size_t)k * sizeof(double));
        for (int32_t o = 0; o < outs[i]; o++)
            for (int32_t j = 0; j < k; j++) {
                float f = 0.05f * normal(r);
                size_t at = (size_t)o * pitch + (size_t)j;
                uint16_t h = type == CT_BF16 ? bf16_bits(f) : f16_bits(f);
                if (type == CT_F32)
                    memcpy(bytes + 4 * at, &f, 4);
                else
                    memcpy(bytes + 2 * at, &h, 2);
                double v = type == CT_F32 ? (double)f : type == CT_F16 ? f16_value(h) : bf16_value(h);
                w[i][(size_t)o * (size_t)k + (size_t)j] = rounded ? bf16_value(bf16_bits((float)v)) : v;
            }
        cw[i].p = (uint8_t *)device_copy(bytes, rows * pitch * size);
        cw[i].type = type;
        cw[i].rows = outs[i];
        cw[i].cols = k;
        cw[i].pitch = pitch * size;
        free(bytes);
        y[i].rows = n;
        y[i].cols = i == 0 && outs[i] > 20 && !gated ? outs[i] - 3 : outs[i]; /* fewer than the matrix has */
        y[i].stride = (size_t)outs[i] + (size_t)(i % 2 ? 5 : 16);
        y[i].p = (float *)device(((size_t)n * y[i].stride + 64) * sizeof(float));
        MUST(cudaMemset(y[i].p, 0xff, ((size_t)n * y[i].stride + 64) * sizeof(float)));
        sum += outs[i];
    }
    size_t widest = (size_t)k > 64 ? (size_t)k : 64;
    area = area ? 2 * (256 * ((widest + 63) / 64 * 64) * 2 + 1024) + 2048 : 0;
    size_t scratch_bytes = area ? (size_t)n * pitch * 2 + area : ct_cuda_gemm_scratch(n, k, sum);
    void *scratch = device(scratch_bytes);
    MUST(cudaMemset(scratch, 0xff, scratch_bytes));
    ct_cu_mat mx = {dx, n, k, x_stride};
    if (gated)
        MUST(ct_cuda_gemm_geglu(NULL, 0, y[0], mx, cw[0], cw[1], true, scratch, scratch_bytes));
    else
        MUST(ct_cuda_gemm(NULL, 0, m, y, mx, cw, true, scratch, scratch_bytes));
    MUST(cudaDeviceSynchronize());
    for (int32_t i = 0; i < (gated ? 1 : m); i++) {
        size_t floats = (size_t)n * y[i].stride + 64;
        float *got = (float *)malloc(floats * sizeof(float));
        MUST(cudaMemcpy(got, y[i].p, floats * sizeof(float), cudaMemcpyDeviceToHost));
        for (size_t j = 0; j < floats; j++) {
            bool inside = j / y[i].stride < (size_t)n && j % y[i].stride < (size_t)y[i].cols;
            uint32_t bits;
            memcpy(&bits, &got[j], 4);
            *bad += inside != (bits != 0xffffffff);
        }
        for (int32_t sample = 0; sample < 600; sample++) {
            int32_t row = below(r, n), o = below(r, y[i].cols);
            if (sample < 4) { /* corners */
                row = sample & 1 ? n - 1 : 0;
                o = sample & 2 ? y[i].cols - 1 : 0;
            }
            double want[2] = {0.0, 0.0};
            for (int32_t side = 0; side < (gated ? 2 : 1); side++)
                for (int32_t j = 0; j < k; j++) {
                    float f = x[(size_t)row * x_stride + (size_t)j];
                    want[side] += (rounded ? bf16_value(bf16_bits(f)) : (double)f) *
                                  w[gated ? side : i][(size_t)o * (size_t)k + (size_t)j];
                }
            double ref = gated ? gelu(want[0]) * want[1] : want[0];
            double d = (double)got[(size_t)row * y[i].stride + (size_t)o] - ref;
            e->d2 += d * d;
            e->r2 += ref * ref;
        }
        free(got);
    }
    for (int32_t i = 0; i < m; i++) {
        MUST(cudaFree(y[i].p));
        MUST(cudaFree((void *)cw[i].p));
        free(w[i]);
    }
    MUST(cudaFree(scratch));
    MUST(cudaFree(dx));
    free(x);
}

static void products(struct rng *r)
{
    static const int32_t ns[] = {1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300, 513, 1100};
    static const int32_t ks[] = {64, 128, 640, 1152, 8, 72, 100, 333, 3840};
    static const int32_t outs[] = {1, 16, 40, 100, 128, 129, 256, 257, 300, 640, 1000};
    static const ct_dtype types[] = {CT_BF16, CT_F16, CT_F32};
    static const char *const names[] = {"bf16", "f16", "f32"};
    char line[64];
    for (int32_t t = 0; t < 3; t++)
        for (int32_t gated = 0; gated < 2; gated++) {
            struct errors near = {0, 0, 0}, full = {0, 0, 0};
            int32_t bad = 0, cases = 0;
            for (int32_t i = 0; i < 14; i++, cases += 2) {
                int32_t m = gated ? 2 : 1 + below(r, 4), o[CT_LINEAR_MAX], k = ks[below(r, 9)];
                for (int32_t j = 0; j < 4; j++)
                    o[j] = outs[below(r, 11)];
                if (gated)
                    o[1] = o[0];
                /* A small area makes several parts of a call. */
                size_t area = i % 3 == 2;
                product(r, &near, &bad, types[t], ns[i], k, m, o, gated, true, area);
                product(r, &full, &bad, types[t], ns[i], k, m, o, gated, false, area);
            }
            snprintf(line, sizeof line, "%s %s, rounded inputs", gated ? "gated" : "product", names[t]);
            report(line, &near, 1e-5, cases / 2, bad); /* the tensor cores cut their sums off */
            snprintf(line, sizeof line, "%s %s, exact inputs", gated ? "gated" : "product", names[t]);
            report(line, &full, types[t] == CT_BF16 ? 3e-3 : 4e-3, cases / 2, bad);
        }
}

/* The whole of a feed-forward block: x gate^T and x up^T, down. */
static void feed_forward(struct rng *r)
{
    static const int32_t ns[] = {1, 65, 200, 300, 700};
    struct errors e = {0, 0, 0};
    int32_t bad = 0;
    for (int32_t i = 0; i < 5; i++) {
        const int32_t n = ns[i], d = i % 2 ? 640 : 328, f = i % 2 ? 1000 : 2048;
        size_t pitch[3] = {(size_t)(d + 127) / 128 * 128, (size_t)(d + 127) / 128 * 128, (size_t)(f + 127) / 128 * 128};
        int32_t rows[3] = {f, f, d}, cols[3] = {d, d, f};
        uint16_t *w[3];
        ct_cu_weight cw[3];
        for (int32_t j = 0; j < 3; j++) {
            w[j] = (uint16_t *)calloc((size_t)rows[j] * pitch[j], 2);
            for (int32_t o = 0; o < rows[j]; o++)
                for (int32_t c = 0; c < cols[j]; c++)
                    w[j][(size_t)o * pitch[j] + (size_t)c] = bf16_bits(0.05f * normal(r));
            ct_cu_weight one = {(const uint8_t *)device_copy(w[j], (size_t)rows[j] * pitch[j] * 2), CT_BF16, rows[j],
                                cols[j], pitch[j] * 2};
            cw[j] = one;
        }
        float *x = (float *)malloc((size_t)n * d * 4), *y = (float *)malloc((size_t)n * d * 4);
        for (size_t j = 0; j < (size_t)n * d; j++)
            x[j] = normal(r);
        float *dx = (float *)device_copy(x, (size_t)n * d * 4), *dy = (float *)device((size_t)n * d * 4);
        MUST(cudaMemset(dy, 0xff, (size_t)n * d * 4));
        size_t bytes = ct_cuda_gemm_scratch(n, f, 2 * f);
        void *scratch = device(bytes);
        ct_cu_mat16 x16 = {device((size_t)n * ct_cu_pitch16(d) * 2), n, d, ct_cu_pitch16(d)};
        ct_cu_mat16 h16 = {device((size_t)n * ct_cu_pitch16(f) * 2), n, f, ct_cu_pitch16(f)};
        MUST(cudaMemset(h16.p, 0xff, (size_t)n * h16.pitch * 2));
        ct_cu_mat mx = {dx, n, d, (size_t)d}, my = {dy, n, d, (size_t)d};
        MUST(ct_cuda_round(0, x16, mx));
        MUST(ct_cuda_gemm_geglu_half(NULL, 0, h16, x16, cw[0], cw[1], true, scratch, bytes));
        MUST(ct_cuda_gemm_half(NULL, 0, 1, &my, h16, &cw[2], true, scratch, bytes));
        MUST(cudaMemcpy(y, dy, (size_t)n * d * 4, cudaMemcpyDeviceToHost));
        for (size_t j = 0; j < (size_t)n * d; j++)
            bad += !isfinite(y[j]);
        double *middle = (double *)malloc((size_t)f * sizeof(double));
        for (int32_t sample = 0; sample < 6; sample++) {
            int32_t row = sample == 0 ? n - 1 : below(r, n);
            for (int32_t o = 0; o < f; o++) {
                double g = 0.0, u = 0.0;
                for (int32_t c = 0; c < d; c++) {
                    g += (double)x[(size_t)row * d + c] * bf16_value(w[0][(size_t)o * pitch[0] + (size_t)c]);
                    u += (double)x[(size_t)row * d + c] * bf16_value(w[1][(size_t)o * pitch[1] + (size_t)c]);
                }
                middle[o] = gelu(g) * u;
            }
            for (int32_t o = 0; o < d; o += 7) {
                double want = 0.0;
                for (int32_t c = 0; c < f; c++)
                    want += middle[c] * bf16_value(w[2][(size_t)o * pitch[2] + (size_t)c]);
                double diff = (double)y[(size_t)row * d + o] - want;
                e.d2 += diff * diff;
                e.r2 += want * want;
            }
        }
        free(middle);
        free(x);
        free(y);
        for (int32_t j = 0; j < 3; j++) {
            free(w[j]);
            MUST(cudaFree((void *)cw[j].p));
        }
        MUST(cudaFree(dx));
        MUST(cudaFree(dy));
        MUST(cudaFree(scratch));
        MUST(cudaFree(x16.p));
        MUST(cudaFree(h16.p));
    }
    report("feed-forward bf16, exact inputs", &e, 5e-3, 5, bad);
}

/* A row's bits are those of the row alone. */
static void product_alone(struct rng *r)
{
    const int32_t n = 300, k = 1152, out = 700;
    size_t pitch = 1152;
    __nv_bfloat16 *w = device_bf16((size_t)out * pitch, 7, 0.05f);
    float *x = device_normal((size_t)n * k, 8, 1.0f), *y = (float *)device((size_t)n * out * 4),
          *one = (float *)device(out * 4);
    size_t bytes = ct_cuda_gemm_scratch(n, k, out);
    void *scratch = device(bytes);
    ct_cu_weight cw = {(const uint8_t *)w, CT_BF16, out, k, pitch * 2};
    ct_cu_mat my = {y, n, out, (size_t)out}, mx = {x, n, k, (size_t)k};
    MUST(ct_cuda_gemm(NULL, 0, 1, &my, mx, &cw, true, scratch, bytes));
    float *all = (float *)malloc((size_t)n * out * 4), *alone = (float *)malloc(out * 4);
    MUST(cudaMemcpy(all, y, (size_t)n * out * 4, cudaMemcpyDeviceToHost));
    int32_t differ = 0;
    for (int32_t i = 0; i < 12; i++) {
        int32_t row = below(r, n);
        ct_cu_mat oy = {one, 1, out, (size_t)out}, ox = {x + (size_t)row * k, 1, k, (size_t)k};
        MUST(ct_cuda_gemm(NULL, 0, 1, &oy, ox, &cw, true, scratch, bytes));
        MUST(cudaMemcpy(alone, one, out * 4, cudaMemcpyDeviceToHost));
        differ += memcmp(alone, all + (size_t)row * out, out * 4) != 0;
    }
    failures += differ > 0;
    printf("%-34s %4d rows   other bits %d  %s\n", "product: rows alone", 12, differ, differ ? "FAILED" : "ok");
    MUST(cudaFree(w));
    MUST(cudaFree(x));
    MUST(cudaFree(y));
    MUST(cudaFree(one));
    MUST(cudaFree(scratch));
    free(all);
    free(alone);
}

/* ---- attention ---- */

struct attn {
    ct_dtype k, v;
    int32_t heads, kv_heads, d, window, ring, runs;
    int32_t pos[4], n[4];
};

static int32_t most(int32_t a, int32_t b) { return a > b ? a : b; }

static void attention(struct rng *r, const struct attn *a, struct errors *e, int32_t *bad, int32_t *differ)
{
    int32_t rows = 0, longest = 0;
    ct_cu_run runs[4];
    for (int32_t i = 0; i < a->runs; i++) {
        ct_cu_run one = {rows, a->n[i], (a->runs - 1 - i), a->pos[i]};
        runs[i] = one;
        rows += a->n[i];
        longest = most(longest, a->pos[i] + a->n[i]);
    }
    int32_t stride = a->ring ? a->ring : (longest + CT_KV_PAGE - 1) / CT_KV_PAGE;
    struct cache c = cache_make(r, a->k, a->v, a->kv_heads, a->d, a->ring, stride, a->runs);
    size_t cols = (size_t)a->heads * (size_t)a->d, q_stride = cols + 16, o_stride = cols + 32;
    float *q = (float *)malloc((size_t)rows * q_stride * 4), *o = (float *)malloc((size_t)rows * o_stride * 4);
    for (size_t i = 0; i < (size_t)rows * q_stride; i++)
        q[i] = 2.0f * normal(r);
    float *dq = (float *)device_copy(q, (size_t)rows * q_stride * 4),
          *d_o = (float *)device((size_t)rows * o_stride * 4);
    MUST(cudaMemset(d_o, 0xff, (size_t)rows * o_stride * 4));
    ct_cu_mat mo = {d_o, rows, (int32_t)cols, o_stride}, mq = {dq, rows, (int32_t)cols, q_stride};
    float scale = 1.0f / sqrtf((float)a->d);
    MUST(ct_cuda_flash(0, mo, mq, &c.kv, runs, a->runs, a->heads, a->window, scale, false, NULL, 0));
    MUST(cudaDeviceSynchronize());
    MUST(cudaMemcpy(o, d_o, (size_t)rows * o_stride * 4, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < (size_t)rows * o_stride; i++) {
        uint32_t bits;
        memcpy(&bits, &o[i], 4);
        *bad += (i % o_stride < cols) != (bits != 0xffffffff);
    }
    double *p = (double *)malloc((size_t)longest * sizeof(double)),
           *sum = (double *)malloc((size_t)a->d * sizeof(double));
    for (int32_t sample = 0; sample < 14; sample++) {
        int32_t i = below(r, a->runs), t = below(r, a->n[i]), h = below(r, a->heads);
        if (sample < 2 * a->runs) { /* first and last rows */
            i = sample / 2;
            t = sample % 2 ? a->n[i] - 1 : 0;
        }
        int32_t pos = a->pos[i] + t, from = a->window ? most(0, pos - a->window + 1) : 0,
                kh = h / (a->heads / a->kv_heads);
        const float *qr = q + (size_t)(runs[i].first + t) * q_stride + (size_t)h * (size_t)a->d;
        double top = -INFINITY, total = 0.0;
        for (int32_t j = from; j <= pos; j++) {
            const uint8_t *page = cache_page(&c, runs[i].seq, j);
            double s = 0.0;
            for (int32_t x = 0; x < a->d; x++)
                s += (double)qr[x] * cached(page, a->k, a->kv_heads, a->d, kh, j % CT_KV_PAGE, x);
            p[j] = s * (double)scale;
            top = fmax(top, p[j]);
        }
        for (int32_t x = 0; x < a->d; x++)
            sum[x] = 0.0;
        for (int32_t j = from; j <= pos; j++) {
            const uint8_t *page = cache_page(&c, runs[i].seq, j) + c.kv.v_off;
            double w = exp(p[j] - top);
            total += w;
            for (int32_t x = 0; x < a->d; x++)
                sum[x] += w * cached(page, a->v, a->kv_heads, a->d, kh, j % CT_KV_PAGE, x);
        }
        const float *got = o + (size_t)(runs[i].first + t) * o_stride + (size_t)h * (size_t)a->d;
        double d2 = 0.0, r2 = 0.0;
        for (int32_t x = 0; x < a->d; x++) {
            double want = sum[x] / total, diff = (double)got[x] - want;
            d2 += diff * diff;
            r2 += want * want;
        }
        e->d2 += d2;
        e->r2 += r2;
        double rel = sqrt(d2 / r2);
        if (!(rel <= e->worst))
            e->worst = rel;
    }
    for (int32_t sample = 0; sample < 2; sample++) { /* alone, the same bits */
        int32_t i = below(r, a->runs), t = below(r, a->n[i]), row = runs[i].first + t;
        ct_cu_run one = {0, 1, runs[i].seq, a->pos[i] + t};
        ct_cu_mat oo = {d_o, 1, (int32_t)cols, o_stride},
                  oq = {dq + (size_t)row * q_stride, 1, (int32_t)cols, q_stride};
        MUST(ct_cuda_flash(0, oo, oq, &c.kv, &one, 1, a->heads, a->window, scale, true, NULL, 0));
        float *alone = (float *)malloc(cols * 4);
        MUST(cudaMemcpy(alone, d_o, cols * 4, cudaMemcpyDeviceToHost));
        *differ += memcmp(alone, o + (size_t)row * o_stride, cols * 4) != 0;
        free(alone);
    }
    free(p);
    free(sum);
    free(q);
    free(o);
    MUST(cudaFree(dq));
    MUST(cudaFree(d_o));
    cache_free(&c);
}

static void attentions(struct rng *r)
{
    static const ct_dtype pairs[][2] = {{CT_BF16, CT_BF16}, {CT_F16, CT_F16},   {CT_BF16, CT_F16},
                                        {CT_Q8_0, CT_Q8_0}, {CT_Q4_1, CT_Q4_1}, {CT_Q8_0, CT_Q4_1}};
    static const char *const names[] = {"bf16", "f16", "bf16+f16", "q8", "q4", "q8+q4"};
    static const int32_t shapes[][3] = {{4, 1, 256}, {8, 4, 256}, {4, 2, 128}, {2, 2, 256}, {6, 2, 128}, {16, 2, 256}};
    static const int32_t windows[] = {0, 64, 100, 512, 1024};
    static const int32_t counts[] = {1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200, 333};
    for (int32_t t = 0; t < 6; t++) {
        struct errors e = {0, 0, 0};
        int32_t bad = 0, differ = 0, cases = 0;
        for (int32_t i = 0; i < 26; i++, cases++) {
            struct attn a;
            const int32_t *s = shapes[i % 6];
            a.k = pairs[t][0];
            a.v = pairs[t][1];
            a.heads = s[0];
            a.kv_heads = s[1];
            a.d = s[2];
            a.window = windows[i / 2 % 5];
            a.runs = 1 + below(r, 4);
            int32_t chunk = 0, w = a.window ? a.window : 100;
            for (int32_t j = 0; j < a.runs; j++) {
                int32_t depths[] = {0, 0, 1, 63, 64, 65, w - 1, w, w + 1, 2 * w + 7, 3 * w};
                a.pos[j] = depths[below(r, 11)];
                a.n[j] = counts[below(r, 13)];
                chunk = most(chunk, a.n[j]);
            }
            if (i < 13) { /* every count as a whole prompt */
                a.runs = 1;
                a.pos[0] = 0;
                a.n[0] = chunk = counts[i];
            }
            a.ring = a.window && i % 2 ? (a.window - 1 + chunk + CT_KV_PAGE - 1) / CT_KV_PAGE + 1 : 0;
            attention(r, &a, &e, &bad, &differ);
        }
        char line[64];
        snprintf(line, sizeof line, "attention %s", names[t]);
        report(line, &e, t == 0 || t == 2 ? 4e-3 : 3e-3, cases, bad);
        failures += differ > 0 || !(e.worst < 0.02);
        printf("%-34s worst row %.2e; rows alone: other bits %d  %s\n", "", e.worst, differ,
               differ || !(e.worst < 0.02) ? "FAILED" : "ok");
    }
}

int main(void)
{
    struct rng r = {20261123};
    cudaDeviceProp prop;
    MUST(cudaGetDeviceProperties(&prop, 0));
    printf("%s, %d multiprocessors\n", prop.name, prop.multiProcessorCount);
    products(&r);
    feed_forward(&r);
    product_alone(&r);
    attentions(&r);
    printf("%s\n", failures ? "FAILED" : "all right");
    return failures > 0;
}
