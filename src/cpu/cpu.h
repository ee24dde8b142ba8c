/* The cpu backend's own declarations: drivers of the operations, and how they find their kernels. */
#ifndef CT_CPU_CPU_H
#define CT_CPU_CPU_H

#include "backend/backend.h"
#include "cpu/kernels.h"

static inline const struct kernels *ct_cpu_kernels(const ct_ctx *c) { return c->ops->impl; }

/* linear.c */
void ct_cpu_linear(ct_ctx *c, int32_t m, const ct_view *y, ct_view x, const ct_weight *const *w, const ct_rows *rows);
void ct_cpu_linear_geglu(ct_ctx *c, ct_view y, ct_view x, const ct_weight *gate, const ct_weight *up,
                         const ct_rows *rows);
void ct_cpu_embed(ct_ctx *c, ct_view y, const ct_weight *w, const ct_rows *rows, float scale);
size_t ct_cpu_linear_scratch(const ct_limits *l);
/* linear for at most CT_SCREEN_ROWS exact rows, of some tiles only (all: NULL); leaves what is taken of the scratch alone. */
void ct_cpu_linear_tiles(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, const int32_t *list, int32_t n);

/* head.c */
void ct_cpu_linear_top(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, const ct_rough *rough,
                       ct_screen *const *how);
size_t ct_cpu_head_scratch(const ct_limits *l);

/* rows.c */
void ct_cpu_rope_table(ct_ctx *c, ct_view cs, const ct_rows *rows, const ct_rope *how);
void ct_cpu_rmsnorm(ct_ctx *c, ct_view y, ct_view x, const ct_weight *w, float eps);
void ct_cpu_head_norm(ct_ctx *c, ct_view x, const ct_weight *w, int32_t heads, float eps);
void ct_cpu_rope(ct_ctx *c, ct_view x, ct_view cs, int32_t heads);
void ct_cpu_norm_rope(ct_ctx *c, ct_view x, const ct_weight *w, ct_view cs, int32_t heads, float eps);
void ct_cpu_geglu(ct_ctx *c, ct_view y, ct_view gate, ct_view up);
void ct_cpu_norm_add(ct_ctx *c, ct_view x, ct_view y, const ct_weight *w, float eps);
void ct_cpu_norm_add_norm(ct_ctx *c, ct_view z, ct_view x, ct_view y, const ct_weight *w, const ct_weight *w_next,
                          float eps);
void ct_cpu_softcap(ct_ctx *c, ct_view x, float cap);
void ct_cpu_gather(ct_ctx *c, ct_view y, ct_view x, const int32_t *index);

/* attention.c */
size_t ct_cpu_kv_page_bytes(ct_dtype type_k, ct_dtype type_v, int32_t kv_heads, int32_t head_dim);
void ct_cpu_kv_store(ct_ctx *c, ct_view k, ct_view v, const ct_kv *kv, const ct_rows *rows);
void ct_cpu_attention(ct_ctx *c, ct_view o, ct_view q, const ct_kv *kv, const ct_rows *rows, const ct_attn *how);
size_t ct_cpu_attention_scratch(const ct_limits *l);

/* rate.c: operations per second of the int8 dot product, all threads; its inner loops, rate_<isa>.c. */
double ct_cpu_int8_rate(ct_pool *pool);
int32_t ct_cpu_rate_avx2(int64_t rounds);
int32_t ct_cpu_rate_avx512f(int64_t rounds);
int32_t ct_cpu_rate_avx512(int64_t rounds);
int32_t ct_cpu_rate_neon(int64_t rounds);
int32_t ct_cpu_rate_i8mm(int64_t rounds);

#endif
