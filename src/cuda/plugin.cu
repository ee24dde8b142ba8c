/* The backend cuda as the program meets it: the door of the plug-in, memory of the card, and how fast it reads.
 *
 * ops.cu has the table of operations, stream.cu the steps around them. It knows no model. */
#include <stdio.h>

#include "cuda/stream.cuh"

int cu_overlap = 0;

static struct {
    int sms;
    char isa[16];
} device;

ct_status cu_failed(ct_error *err, int e, const char *what)
{
    return ct_fail(err, CT_EIO, "cuda", "the CUDA device reported '%s' in %s: the session is lost, -b cpu goes on without it",
                   cudaGetErrorString((cudaError_t)e), what);
}

/* ---- memory ---- */

static ct_status buffer_alloc(ct_buffer *b, size_t bytes, ct_error *err)
{
    memset(b, 0, sizeof *b);
    size_t room = 0, all = 0;
    cudaError_t e = cudaMalloc(&b->device, bytes ? bytes : 1);
    if (e == cudaSuccess && ((e = cudaMemset(b->device, 0, bytes)) != cudaSuccess || (e = cudaStreamSynchronize(0)) != cudaSuccess))
        cudaFree(b->device);
    if (e != cudaSuccess) {
        b->device = NULL;
        cudaGetLastError();
        cudaMemGetInfo(&room, &all);
        return ct_fail(err, CT_ENOMEM, "cuda", "%.2f GB of the device's memory are needed, and %.2f of its %.2f GB are free (%s)",
                       (double)bytes * 1e-9, (double)room * 1e-9, (double)all * 1e-9, cudaGetErrorString(e));
    }
    b->bytes = bytes;
    b->impl = b->device;
    return CT_OK;
}

static void buffer_free(ct_buffer *b)
{
    cudaFree(b->device);
    memset(b, 0, sizeof *b);
}

size_t cu_memory_free(void)
{
    size_t room = 0, all = 0, spare = (size_t)256 << 20; /* of the driver's own, and what packing takes for a moment */
    cudaMemGetInfo(&room, &all);
    return room > spare ? room - spare : 0;
}

static ct_status read_device(const ct_buffer *b, size_t off, void *dst, size_t bytes, ct_error *err)
{
    int e = (int)cudaMemcpy(dst, (const uint8_t *)b->device + off, bytes, cudaMemcpyDeviceToHost);
    return e ? cu_failed(err, e, "a copy from its memory") : CT_OK;
}

static ct_status write_device(const ct_buffer *b, size_t off, const void *src, size_t bytes, ct_error *err)
{
    int e = (int)cudaMemcpy((uint8_t *)b->device + off, src, bytes, cudaMemcpyHostToDevice);
    if (!e)
        e = (int)cudaStreamSynchronize(0); /* of pageable memory the copy may return before all has arrived */
    return e ? cu_failed(err, e, "a copy into its memory") : CT_OK;
}

static size_t weight_bytes(const ct_weight *w)
{
    if (w->use == CT_WEIGHT_VECTOR)
        return (size_t)w->cols * sizeof(float);
    return ct_cu_weight_size(w->dtype->type, w->rows, w->cols);
}

static void weight_free(ct_weight *w)
{
    if (w->buf.impl)
        buffer_free(&w->buf);
    memset(&w->buf, 0, sizeof w->buf);
}

static ct_status weight_load(ct_weight *w, const void *src, ct_pool *pool, bool *in_place, ct_error *err)
{
    (void)pool;
    *in_place = false;
    if (w->buf.device == NULL) {
        ct_status st = buffer_alloc(&w->buf, weight_bytes(w), err);
        if (st != CT_OK)
            return st;
    }
    size_t bytes = (size_t)w->cols / (size_t)w->dtype->block_elems * (size_t)w->dtype->block_bytes * (size_t)w->rows;
    uint8_t *staged = NULL;
    int e = 0, bad = 0;
    if (w->use == CT_WEIGHT_VECTOR) {
        float some[1024];
        for (int at = 0; at < w->cols && !e; at += 1024) {
            int n = w->cols - at < 1024 ? w->cols - at : 1024;
            w->dtype->decode(some, (const uint8_t *)src + (size_t)at * w->dtype->block_bytes, (size_t)n);
            e = (int)cudaMemcpy((float *)w->buf.device + at, some, (size_t)n * 4, cudaMemcpyHostToDevice);
        }
    } else if (ct_cu_is_float(w->dtype->type)) {
        size_t row = bytes / (size_t)w->rows, pitch = ct_cu_pitch(w->dtype->type, w->cols);
        e = (int)cudaMemset(w->buf.device, 0, weight_bytes(w));
        if (!e)
            e = (int)cudaMemcpy2D(w->buf.device, pitch, src, row, row, (size_t)w->rows, cudaMemcpyHostToDevice);
    } else {
        size_t at = (bytes + 15) / 16 * 16;
        e = (int)cudaMallocAsync((void **)&staged, at + 16, 0);
        if (!e)
            e = (int)cudaMemcpyAsync(staged, src, bytes, cudaMemcpyHostToDevice, 0);
        if (!e)
            e = (int)cudaMemsetAsync(staged + at, 0, 16, 0);
        if (!e)
            e = cu_repack(0, (uint8_t *)w->buf.device, staged, w->dtype->type, w->rows, w->cols, (int *)(staged + at));
        if (!e)
            e = (int)cudaMemcpy(&bad, staged + at, sizeof bad, cudaMemcpyDeviceToHost);
        if (staged)
            cudaFreeAsync(staged, 0);
    }
    if (!e)
        e = (int)cudaStreamSynchronize(0);
    if (e) {
        weight_free(w);
        return cu_failed(err, e, "packing of a weight");
    }
    if (bad) {
        weight_free(w);
        return ct_fail(err, CT_ENUMERIC, w->name,
                       "expected finite weights, found NaN or infinity in tensor '%s'; the file is damaged or was converted "
                       "through float16",
                       w->name);
    }
    return CT_OK;
}

static bool supports(const ct_dtype_info *t, ct_weight_use use)
{
    bool known = false;
    (void)use;
#define ROW(T) known = true
    CT_CU_EACH_TYPE(t->type, ROW)
#undef ROW
    return known;
}

static size_t kv_page_bytes(ct_dtype k, ct_dtype v, int32_t kv_heads, int32_t d)
{
    return ct_cu_kv_part(k, kv_heads, d) + ct_cu_kv_part(v, kv_heads, d);
}

/* ---- what the card can do ---- */

static __global__ void fill_some(uint4 *p, size_t n)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x)
        p[i] = make_uint4((unsigned)i * 2654435761u, (unsigned)i ^ 0x9e3779b9u, (unsigned)(i * 40503u), (unsigned)i);
}

static __global__ void __launch_bounds__(512) read_all(const uint4 *p, size_t n, unsigned *sink)
{
    unsigned s = 0;
    size_t step = (size_t)gridDim.x * blockDim.x, i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    for (; i + 3 * step < n; i += 4 * step) {
        uint4 a = __ldcs(p + i), b = __ldcs(p + i + step), c = __ldcs(p + i + 2 * step), d = __ldcs(p + i + 3 * step);
        s ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
    }
    if (s == 0x12345678u)
        *sink = s;
}

static double read_rate(void)
{
    size_t bytes = (size_t)2 << 30, room = cu_memory_free();
    if (bytes > room / 2)
        bytes = room / 2;
    uint4 *p = NULL;
    double best = 0;
    cudaEvent_t a, b;
    if (bytes < (size_t)256 << 20 || cudaMalloc((void **)&p, bytes + 16) != cudaSuccess)
        return 0;
    cudaEventCreate(&a);
    cudaEventCreate(&b);
    fill_some<<<1024, 512>>>(p, bytes / 16);
    for (int pass = 0; pass < 10; pass++) {
        float ms = 0;
        cudaEventRecord(a);
        read_all<<<device.sms * 4, 512>>>(p, bytes / 16, (unsigned *)(p + bytes / 16));
        cudaEventRecord(b);
        if (cudaEventSynchronize(b) != cudaSuccess || cudaEventElapsedTime(&ms, a, b) != cudaSuccess)
            break;
        if (pass > 0 && (double)bytes / (ms * 1e-3) > best)
            best = (double)bytes / (ms * 1e-3);
    }
    cudaEventDestroy(a);
    cudaEventDestroy(b);
    cudaFree(p);
    return best;
}

/* ---- the door ---- */

static ct_ops table;
static const char *isas[2] = {device.isa, NULL};

static const ct_ops *ops(const char *isa) { return isa == NULL || strcmp(isa, device.isa) == 0 ? &table : NULL; }

static ct_status open_device(const ct_backend **out, ct_error *err)
{
    static ct_backend backend;
    int count = 0, driver = 0;
    cudaDeviceProp prop;
    *out = NULL;
    cudaError_t e = cudaDriverGetVersion(&driver);
    if (e != cudaSuccess || driver == 0)
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "there is no NVIDIA driver on this machine: install one, or use -b cpu");
    e = cudaGetDeviceCount(&count);
    if (e == cudaErrorInsufficientDriver)
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "the NVIDIA driver is for CUDA %d.%d, and this carat was built with CUDA %d.%d: "
                       "install a newer driver, or use -b cpu", driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                       CUDART_VERSION % 1000 / 10);
    if (e == cudaErrorNoDevice || (e == cudaSuccess && count == 0))
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "no NVIDIA card is visible here (is CUDA_VISIBLE_DEVICES empty?): use -b cpu");
    if (e == cudaSuccess)
        e = cudaGetDeviceProperties(&prop, 0);
    size_t room = 0, all = 0;
    if (e == cudaSuccess)
        e = cudaMemGetInfo(&room, &all); /* makes the context: a busy or broken card says so here */
    if (e != cudaSuccess)
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "the NVIDIA card cannot be used now (%s): use -b cpu", cudaGetErrorString(e));
    if (prop.major < 8)
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "%s has compute capability %d.%d, and carat needs 8.0 or more: use -b cpu",
                       prop.name, prop.major, prop.minor);
    cudaFuncAttributes has;
    if (cudaFuncGetAttributes(&has, (const void *)fill_some) != cudaSuccess) {
        cudaGetLastError();
        return ct_fail(err, CT_EUNSUPPORTED, "cuda", "%s (compute capability %d.%d) is not among those that this carat was built for: "
                       "CUDA_ARCHS=%d make cuda builds for it", prop.name, prop.major, prop.minor, prop.major * 10 + prop.minor);
    }
    cu_overlap = prop.major >= 9;
    device.sms = prop.multiProcessorCount;
    snprintf(device.isa, sizeof device.isa, "sm_%d%d", prop.major, prop.minor);
    table.isa = device.isa;
    table.impl = &device;
    cu_ops_fill(&table);
    backend.name = "cuda";
    backend.default_kv = CT_BF16;
    backend.chunk = 2048; /* 512 rows leave half of the tensor cores' time on the table (docs/KERNELS.md) */
    backend.isas = isas;
    backend.ops = ops;
    backend.buffer_alloc = buffer_alloc;
    backend.buffer_free = buffer_free;
    backend.weight_bytes = weight_bytes;
    backend.weight_load = weight_load;
    backend.weight_free = weight_free;
    backend.supports = supports;
    backend.kv_page_bytes = kv_page_bytes;
    backend.scratch_bytes = cu_scratch_bytes;
    backend.read_rate = read_rate;
    backend.memory_free = cu_memory_free;
    backend.read = read_device;
    backend.write = write_device;
    backend.stream_create = cu_stream_create;
    backend.stream_free = cu_stream_free;
    backend.begin = cu_begin;
    backend.end = cu_end;
    *out = &backend;
    return CT_OK;
}

extern "C" __attribute__((visibility("default"))) extern const ct_plugin carat_cuda_plugin = {CT_HANDSHAKE, open_device};
