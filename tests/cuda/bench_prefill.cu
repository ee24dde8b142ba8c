/* Speed of the prompt side's kernels, beside what the card itself was just measured to do.
 *
 *     nvcc -std=c++17 -O3 -gencode=arch=compute_90a,code=sm_90a -Isrc tests/cuda/bench_prefill.cu src/cuda/{gemm,flash,expand}.cu -ldl
 *     bench_prefill [products | attention | expansion]
 *
 * The ceilings: a large bf16 product by cuBLASLt (loaded at run time; without it that column is empty) and a copy. Then the
 * products of the models' shapes, expansion of packed weights, attention. Random data, medians, the spread of the middle half. */
#include "prefill_util.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include "cuda/dequant.cuh"
#include "cuda/expand.cuh"

/* ---- cuBLASLt, for comparison ---- */

#define FUNCTIONS(F)                                                                                          \
    F(Create)                                                                                                 \
    F(MatmulDescCreate)                                                                                       \
    F(MatmulDescSetAttribute) F(MatrixLayoutCreate) F(MatmulPreferenceCreate) F(MatmulPreferenceSetAttribute) \
        F(MatmulAlgoGetHeuristic) F(Matmul)

static struct {
#define F(name) decltype(&cublasLt##name) name;
    FUNCTIONS(F)
#undef F
    cublasLtHandle_t handle;
    void *space;
    bool there;
} lt;

#define SPACE ((size_t)64 << 20)

static void lt_open(void)
{
    void *lib = dlopen("libcublasLt.so.13", RTLD_NOW);
    if (!lib) {
        printf("no cuBLASLt: %s\n", dlerror());
        return;
    }
#define F(name) lt.name = (decltype(&cublasLt##name))dlsym(lib, "cublasLt" #name);
    FUNCTIONS(F)
#undef F
    MUST(lt.Create(&lt.handle));
    lt.space = device(SPACE);
    lt.there = true;
}

/* y[n][out] f32 = x[n][k] w[out][k]^T, column-major for the library: y^T = w x^T. Milliseconds. */
static float lt_time(float *y, const __nv_bfloat16 *x, const __nv_bfloat16 *w, int32_t n, int32_t k, int32_t out,
                     int32_t times)
{
    if (!lt.there)
        return 0.0f;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulPreference_t pref;
    cublasOperation_t trans = CUBLAS_OP_T;
    size_t space = SPACE;
    MUST(lt.MatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    MUST(lt.MatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &trans, sizeof trans));
    MUST(lt.MatrixLayoutCreate(&a, CUDA_R_16BF, (uint64_t)k, (uint64_t)out, k));
    MUST(lt.MatrixLayoutCreate(&b, CUDA_R_16BF, (uint64_t)k, (uint64_t)n, k));
    MUST(lt.MatrixLayoutCreate(&c, CUDA_R_32F, (uint64_t)out, (uint64_t)n, out));
    MUST(lt.MatmulPreferenceCreate(&pref));
    MUST(lt.MatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &space, sizeof space));
    cublasLtMatmulHeuristicResult_t found[8];
    int n_found = 0;
    MUST(lt.MatmulAlgoGetHeuristic(lt.handle, op, a, b, c, c, pref, 8, found, &n_found));
    float best = 1e9f, one = 1.0f, zero = 0.0f;
    for (int i = 0; i < n_found && i < 4; i++) {
        float ms = time_of(
            [&]() {
                MUST(lt.Matmul(lt.handle, op, &one, w, a, x, b, &zero, y, c, y, c, &found[i].algo, lt.space, SPACE, 0));
            },
            2, times, NULL);
        best = ms < best ? ms : best;
    }
    return best;
}

static double tflops(double operations, float ms) { return operations / ((double)ms * 1e9); }

/* ---- products ---- */

static double ceiling; /* TFLOP/s of the large product */

static void product_line(const char *name, int32_t n, int32_t k, int32_t m, const int32_t *outs, bool gated)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < m; i++)
        sum += outs[i];
    float *x = device_normal((size_t)n * (size_t)k, 1, 1.0f), *y = (float *)device((size_t)n * (size_t)sum * 4);
    __nv_bfloat16 *w = device_bf16((size_t)sum * (size_t)k, 2, 0.02f),
                  *xb = device_bf16((size_t)n * (size_t)k, 1, 1.0f);
    size_t bytes = ct_cuda_gemm_scratch(n, k, sum), at = 0;
    void *scratch = device(bytes);
    ct_cu_weight cw[CT_LINEAR_MAX];
    ct_cu_mat my[CT_LINEAR_MAX], mx = {x, n, k, (size_t)k};
    for (int32_t i = 0; i < m; i++) {
        ct_cu_weight one = {(const uint8_t *)(w + at * (size_t)k), CT_BF16, outs[i], k, (size_t)k * 2};
        ct_cu_mat out = {y + at * (size_t)n, n, outs[i], (size_t)outs[i]};
        cw[i] = one;
        my[i] = out;
        at += (size_t)outs[i];
    }
    ct_cu_mat16 x16 = {scratch, n, k, ct_cu_pitch16(k)};
    double ops = 2.0 * n * (double)k * sum;
    int32_t times = n > 4096 ? 9 : 21;
    float spread, ours = time_of(
                      [&]() {
                          if (gated)
                              MUST(ct_cuda_gemm_geglu(NULL, 0, my[0], mx, cw[0], cw[1], true, scratch, bytes));
                          else
                              MUST(ct_cuda_gemm(NULL, 0, m, my, mx, cw, true, scratch, bytes));
                      },
                      3, times, &spread);
    float rounding = time_of([&]() { MUST(ct_cuda_round(0, x16, mx)); }, 2, times, NULL);
    float theirs = lt_time(y, xb, w, n, k, sum, times);
    printf("%-22s n %5d  %7.3f ms %4.0f TFLOP/s (%2.0f %%, spread %.1f %%), of that rounding %.3f; product alone "
           "%4.0f; cuBLASLt "
           "%.3f ms %4.0f\n",
           name, n, ours, tflops(ops, ours), 100.0 * tflops(ops, ours) / ceiling, 100.0 * spread, rounding,
           tflops(ops, ours - rounding), theirs, theirs > 0 ? tflops(ops, theirs) : 0.0);
    MUST(cudaFree(x));
    MUST(cudaFree(y));
    MUST(cudaFree(w));
    MUST(cudaFree(xb));
    MUST(cudaFree(scratch));
}

/* A whole feed-forward block of 12b, with weights of a type (random bytes, which are finite in the types asked for). */
static void ffn_line(const char *name, ct_dtype type, int32_t n)
{
    const int32_t d = 3840, f = 15360;
    ct_cu_weight w[3];
    for (int32_t i = 0; i < 3; i++) {
        int32_t rows = i < 2 ? f : d, cols = i < 2 ? d : f;
        size_t bytes = ct_cu_weight_size(type, rows, cols);
        void *p = type == CT_BF16 ? (void *)device_bf16(bytes / 2, 9 + (uint32_t)i, 0.02f)
                                  : (void *)device_normal(bytes / 4 + 1, 9 + (uint32_t)i, 1.0f);
        ct_cu_weight one = {(const uint8_t *)p, type, rows, cols, ct_cu_pitch(type, cols)};
        w[i] = one;
    }
    float *x = device_normal((size_t)n * d, 1, 1.0f), *y = (float *)device((size_t)n * d * 4);
    size_t bytes = ct_cuda_gemm_scratch(n, f, 2 * f);
    void *scratch = device(bytes);
    ct_cu_mat16 x16 = {device((size_t)n * ct_cu_pitch16(d) * 2), n, d, ct_cu_pitch16(d)};
    ct_cu_mat16 h16 = {device((size_t)n * ct_cu_pitch16(f) * 2), n, f, ct_cu_pitch16(f)};
    ct_cu_mat mx = {x, n, d, (size_t)d}, my = {y, n, d, (size_t)d};
    double ops = 6.0 * n * (double)d * f;
    float spread, ms = time_of(
                      [&]() {
                          MUST(ct_cuda_round(0, x16, mx));
                          MUST(ct_cuda_gemm_geglu_half(NULL, 0, h16, x16, w[0], w[1], true, scratch, bytes));
                          MUST(ct_cuda_gemm_half(NULL, 0, 1, &my, h16, &w[2], true, scratch, bytes));
                      },
                      2, 15, &spread);
    printf("12b ffn %-6s n %5d  %7.3f ms %4.0f TFLOP/s (%2.0f %%, spread %.1f %%)\n", name, n, ms, tflops(ops, ms),
           100.0 * tflops(ops, ms) / ceiling, 100.0 * spread);
    for (int32_t i = 0; i < 3; i++)
        MUST(cudaFree((void *)w[i].p));
    MUST(cudaFree(x));
    MUST(cudaFree(y));
    MUST(cudaFree(scratch));
    MUST(cudaFree(x16.p));
    MUST(cudaFree(h16.p));
}

/* ---- expansion ---- */

static void expansion_line(const char *name, ct_dtype type, double copy)
{
    const int32_t rows = 15360, cols = 3840;
    size_t bytes = ct_cu_weight_size(type, rows, cols), pitch = (size_t)cols;
    uint8_t *w = (uint8_t *)device_normal(bytes / 4 + 1, 3, 1.0f);
    uint8_t *dst = (uint8_t *)device(3 * (size_t)rows * pitch * 2);
    ct_cu_weight cw = {w, type, rows, cols, ct_cu_pitch(type, cols)};
    int32_t turn = 0;
    float spread,
        ms = time_of(
            [&]() {
                MUST(ct_cu_expand(0, dst + (size_t)(turn++ % 3) * (size_t)rows * pitch * 2, pitch, &cw, 0, rows));
            },
            3, 21, &spread);
    double moved = (double)bytes + (double)rows * (double)pitch * 2.0, rate = moved / ((double)ms * 1e6);
    printf("expand %-7s %.3f ms, %4.0f GB/s moved (%2.0f %% of the copy, spread %.1f %%)\n", name, ms, rate,
           100.0 * rate / copy, 100.0 * spread);
    MUST(cudaFree(w));
    MUST(cudaFree(dst));
}

/* ---- attention ---- */

static void attention_line(struct rng *r, const char *name, ct_dtype k, ct_dtype v, int32_t heads, int32_t kv_heads,
                           int32_t d, int32_t n, int32_t pos, int32_t window)
{
    int32_t ring = window ? (window - 1 + n + CT_KV_PAGE - 1) / CT_KV_PAGE + 1 : 0;
    struct cache c = cache_make(r, k, v, kv_heads, d, ring, ring ? ring : (pos + n + CT_KV_PAGE - 1) / CT_KV_PAGE, 1);
    size_t cols = (size_t)heads * (size_t)d;
    float *q = device_normal((size_t)n * cols, 5, 2.0f), *o = (float *)device((size_t)n * cols * 4);
    ct_cu_mat mo = {o, n, (int32_t)cols, cols}, mq = {q, n, (int32_t)cols, cols};
    ct_cu_run run = {0, n, 0, pos};
    double keys = 0.0;
    for (int32_t i = 0; i < n; i++)
        keys += window && pos + i >= window ? window : pos + i + 1;
    double ops = 4.0 * keys * (double)cols;
    float spread,
        ms = time_of(
            [&]() {
                MUST(ct_cuda_flash(0, mo, mq, &c.kv, &run, 1, heads, window, 1.0f / sqrtf((float)d), false, NULL, 0));
            },
            3, 21, &spread);
    printf("attention %-9s H %2d/%2d d %d  n %5d at %5d  W %4d  %7.3f ms %4.0f TFLOP/s (%2.0f %%, spread %.1f %%)\n",
           name, heads, kv_heads, d, n, pos, window, ms, tflops(ops, ms), 100.0 * tflops(ops, ms) / ceiling,
           100.0 * spread);
    MUST(cudaFree(q));
    MUST(cudaFree(o));
    cache_free(&c);
}

static void products_of_12b(void)
{
    static const int32_t ns[] = {2048, 64, 128, 256, 512, 1024, 4096, 8192};
    const int32_t square[] = {8192}, qkv[] = {4096, 2048, 2048}, o[] = {3840}, gate[] = {15360, 15360}, down[] = {3840};
    product_line("8192", 8192, 8192, 1, square, false);
    for (int32_t i = 0; i < 8; i++) {
        product_line("12b qkv", ns[i], 3840, 3, qkv, false);
        product_line("12b o", ns[i], 4096, 1, o, false);
        product_line("12b gate up geglu", ns[i], 3840, 2, gate, true);
        product_line("12b down", ns[i], 15360, 1, down, false);
        ffn_line("bf16", CT_BF16, ns[i]);
    }
    ffn_line("q4_0", CT_Q4_0, 2048);
    ffn_line("q8_0", CT_Q8_0, 2048);
    ffn_line("q4_k", CT_Q4_K, 2048);
}

static void attentions(struct rng *r)
{
    static const struct {
        const char *name;
        ct_dtype k, v;
    } kinds[] = {
        {"bf16", CT_BF16, CT_BF16}, {"f16", CT_F16, CT_F16}, {"q8", CT_Q8_0, CT_Q8_0}, {"q4", CT_Q4_1, CT_Q4_1}};
    for (int32_t i = 0; i < 4; i++) {
        ct_dtype k = kinds[i].k, v = kinds[i].v;
        attention_line(r, kinds[i].name, k, v, 16, 8, 256, 2048, 0, 1024);
        attention_line(r, kinds[i].name, k, v, 16, 8, 256, 2048, 0, 0);
        attention_line(r, kinds[i].name, k, v, 16, 8, 256, 2048, 6144, 0);
        attention_line(r, kinds[i].name, k, v, 16, 8, 256, 2048, 6144, 1024);
        attention_line(r, kinds[i].name, k, v, 32, 16, 128, 2048, 6144, 0);
        attention_line(r, kinds[i].name, k, v, 32, 16, 128, 2048, 6144, 1024);
    }
    attention_line(r, "bf16", CT_BF16, CT_BF16, 16, 8, 256, 8192, 0, 0);
    attention_line(r, "bf16", CT_BF16, CT_BF16, 16, 8, 256, 8192, 0, 1024);
    attention_line(r, "bf16", CT_BF16, CT_BF16, 16, 8, 256, 512, 0, 1024);
    attention_line(r, "bf16", CT_BF16, CT_BF16, 4, 1, 256, 2048, 2048, 512);
}

static void expansions(double copy)
{
    static const struct {
        const char *name;
        ct_dtype type;
    } types[] = {{"f32", CT_F32},   {"f16", CT_F16},   {"q4_0", CT_Q4_0},     {"q4_1", CT_Q4_1},    {"q5_0", CT_Q5_0},
                 {"q5_1", CT_Q5_1}, {"q8_0", CT_Q8_0}, {"q2_k", CT_Q2_K},     {"q3_k", CT_Q3_K},    {"q4_k", CT_Q4_K},
                 {"q5_k", CT_Q5_K}, {"q6_k", CT_Q6_K}, {"iq4_nl", CT_IQ4_NL}, {"iq4_xs", CT_IQ4_XS}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        expansion_line(types[i].name, types[i].type, copy);
}

int main(int argc, char **argv)
{
    struct rng r = {5};
    cudaDeviceProp prop;
    MUST(cudaGetDeviceProperties(&prop, 0));
    printf("%s, %d multiprocessors\n", prop.name, prop.multiProcessorCount);
    lt_open();
    size_t big = (size_t)8192 * 8192;
    __nv_bfloat16 *a = device_bf16(big, 1, 1.0f), *b = device_bf16(big, 2, 0.02f);
    float *y = (float *)device(big * 4);
    float ms = lt_time(y, a, b, 8192, 8192, 8192, 9);
    ceiling = ms > 0 ? tflops(2.0 * 8192.0 * 8192.0 * 8192.0, ms) : 784.0;
    float copied = time_of([&]() { MUST(cudaMemcpyAsync(b, a, big * 2, cudaMemcpyDeviceToDevice, 0)); }, 2, 11, NULL);
    double copy = 2.0 * (double)big * 2.0 / ((double)copied * 1e6);
    printf("ceilings: product 8192 %.0f TFLOP/s; copy %.0f GB/s\n", ceiling, copy);
    MUST(cudaFree(a));
    MUST(cudaFree(b));
    MUST(cudaFree(y));

    const char *what = argc > 1 ? argv[1] : "";
    if (!*what || strcmp(what, "products") == 0)
        products_of_12b();
    if (!*what || strcmp(what, "attention") == 0)
        attentions(&r);
    if (!*what || strcmp(what, "expansion") == 0)
        expansions(copy);
    return 0;
}
