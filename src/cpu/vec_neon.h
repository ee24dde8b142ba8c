/* Vectors of Arm NEON with the dot product extension for the templates (*_vec.h): 4 lanes, a tile's 16 rows are four parts.
 *
 * The dot step is s8 x s8: quants below 128 are signed as they are, wide ones (offset 128) become signed by flipping the top
 * bit, which also takes their offset out. */
#ifndef CT_CPU_VEC_NEON_H
#define CT_CPU_VEC_NEON_H

#include <arm_neon.h>
#include <string.h>

#include "cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#ifndef KERNEL
#define KERNEL(name) name##_neon
#endif
#define LANES 4
#define PARTS 4
#define VECS 2       /* vectors of results that a block product works on at once: 12 integer and 12 float sums */
#define FEW_ROWS 2   /* so many rows of a dot product have all parts in registers at once */
#define CHAIN_MAX 16 /* accumulators of attention's loops */
#define RATE_REGISTER "w"
#define RATE_CHAINS 16
typedef int32x4_t vi;
typedef float32x4_t vf;

/* Floats: + - * / are the compiler's own on vectors. */
INLINE vf vf_load(const void *p) { return vld1q_f32((const float *)p); }
INLINE void vf_store(void *p, vf v) { vst1q_f32((float *)p, v); }
INLINE vf vf_set(float x) { return vdupq_n_f32(x); }
INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }  /* a b + c */
INLINE vf vf_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); } /* c - a b */
INLINE vf vf_max(vf a, vf b) { return vmaxq_f32(a, b); }
INLINE vf vf_from_int(vi a) { return vcvtq_f32_s32(a); }
INLINE vf vf_of_bits(vi a) { return vreinterpretq_f32_s32(a); }
INLINE vf vf_rint(vf a) { return vrndnq_f32(a); }
INLINE vf vf_abs(vf a) { return vabsq_f32(a); }
INLINE vf vf_gt(vf x, vf limit, vf then, vf otherwise) /* x > limit ? then : otherwise; NaN is not greater */
{
    return vbslq_f32(vcgtq_f32(x, limit), then, otherwise);
}
INLINE float vf_sum(vf a) { return vaddvq_f32(a); }
INLINE float vf_top(vf a) { return vmaxvq_f32(a); }
INLINE bool vf_not_finite(vf a) /* of any lane */
{
    return vminvq_u32(vcleq_f32(vabsq_f32(a), vdupq_n_f32(3.4028235e38f))) == 0;
}
INLINE vf vf_f16(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)(const void *)p)));
}

INLINE vi vi_round(vf a) { return vcvtnq_s32_f32(a); } /* to nearest, ties to even */
INLINE vi vi_load(const void *p) { return vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)p)); }
INLINE void vi_store(void *p, vi v) { vst1q_u8((uint8_t *)p, vreinterpretq_u8_s32(v)); }
INLINE vi vi_set8(int8_t x) { return vreinterpretq_s32_s8(vdupq_n_s8(x)); }
INLINE vi vi_set32(int32_t x) { return vdupq_n_s32(x); }
INLINE vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
INLINE vi vi_or(vi a, vi b) { return vorrq_s32(a, b); }
INLINE vi vi_add32(vi a, vi b) { return vaddq_s32(a, b); }
INLINE vi vi_xor(vi a, vi b) { return veorq_s32(a, b); }
INLINE vi vi_sub32(vi a, vi b) { return vsubq_s32(a, b); }
INLINE vi vi_shl16(vi a, int n)
{
    return vreinterpretq_s32_u16(vshlq_u16(vreinterpretq_u16_s32(a), vdupq_n_s16((int16_t)n)));
}
INLINE vi vi_shr16(vi a, int n) { return vi_shl16(a, -n); }
INLINE vi vi_shr32(vi a, int n) { return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n))); }
#define vi_shr16i(a, n) vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(a), n))
#define vi_shr32i(a, n) vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), n))
#define vi_shl32i(a, n) vshlq_n_s32(a, n)
#define vi_sar32i(a, n) vshrq_n_s32(a, n)

INLINE vi vi_u8(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, 4);
    uint8x8_t b = vreinterpret_u8_u32(vdup_n_u32(four));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(b))));
}
INLINE vi vi_s8(const uint8_t *p)
{
    uint32_t four;
    memcpy(&four, p, 4);
    int8x8_t b = vreinterpret_s8_u32(vdup_n_u32(four));
    return vmovl_s16(vget_low_s16(vmovl_s8(b)));
}
INLINE vi vi_u16(const uint8_t *p)
{
    return vreinterpretq_s32_u32(vmovl_u16(vld1_u16((const uint16_t *)(const void *)p)));
}
INLINE int32_t vi_sum(vi a) { return vaddvq_s32(a); }

/* Bytes 0xff where a part's bits of a 64-bit word are set, else 0: bit b is byte b of a quad vector. */
INLINE vi vi_bits(const uint8_t *word, int part)
{
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t b = vcombine_u8(vdup_n_u8(word[part * 2]), vdup_n_u8(word[part * 2 + 1]));
    return vreinterpretq_s32_u8(vtstq_u8(b, vld1q_u8(bit)));
}

/* Bytes 0xff where a has the one bit that each byte of `bit` has set. */
INLINE vi vi_test8(vi a, vi bit)
{
    return vreinterpretq_s32_u8(vtstq_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(bit)));
}

/* Bytes 0..15 to the table's entries. */
INLINE vi vi_look_up(const void *table, vi index)
{
    return vreinterpretq_s32_u8(vqtbl1q_u8(vld1q_u8((const uint8_t *)table), vreinterpretq_u8_s32(index)));
}

/* 16 numbers within int8 to bytes. */
INLINE void vi_store_s8(int8_t *p, const vi v[PARTS])
{
    int16x8_t a = vcombine_s16(vmovn_s32(v[0]), vmovn_s32(v[1])), b = vcombine_s16(vmovn_s32(v[2]), vmovn_s32(v[3]));
    vst1q_s8(p, vcombine_s8(vmovn_s16(a), vmovn_s16(b)));
}

/* p * 2^n for whole n in -300..254: in two factors, as 2^n itself may be no f32. */
INLINE vf vf_scale2(vf p, vf n)
{
    vi i = vi_round(n), a = vi_sar32i(i, 1), b = vi_sub32(i, a), bias = vi_set32(127);
    return p * vf_of_bits(vi_shl32i(vi_add32(a, bias), 23)) * vf_of_bits(vi_shl32i(vi_add32(b, bias), 23));
}

/* The two bf16 numbers of a 32-bit word as floats: the lower (first) and the upper. */
INLINE vf vf_bf16_first(vi a) { return vf_of_bits(vi_shl32i(a, 16)); }
INLINE vf vf_bf16_second(vi a) { return vf_of_bits(vi_and(a, vi_set32((int32_t)0xffff0000))); }

/* ---- the dot step: four quads of weights times four quads of activations ---- */

#define DOT_WIDE_IS_SIGNED true /* sums of wide types start from 0 */

struct xgroup {
    int8x16_t hi[2], lo[2];
};

INLINE void xgroup_make(struct xgroup *x, const int8_t *hi, const int8_t *lo, bool wide, bool exact)
{
    (void)wide;
    UNROLL for (int i = 0; i < 2; i++)
    {
        x->hi[i] = vld1q_s8(hi + i * 16);
        if (exact)
            x->lo[i] = vld1q_s8(lo + i * 16);
    }
}

struct wquads {
    int8x16_t v[4];
};

INLINE void wquads_make(struct wquads *o, const vi w[4], bool wide, bool exact)
{
    (void)exact;
    UNROLL for (int i = 0; i < 4; i++)
    {
        int8x16_t s = vreinterpretq_s8_s32(w[i]);
        o->v[i] = wide ? veorq_s8(s, vdupq_n_s8(-128)) : s;
    }
}

INLINE vi dot_plane(vi acc, const int8x16_t w[4], int8x16_t x)
{
    acc = vdotq_laneq_s32(acc, w[0], x, 0);
    acc = vdotq_laneq_s32(acc, w[1], x, 1);
    acc = vdotq_laneq_s32(acc, w[2], x, 2);
    return vdotq_laneq_s32(acc, w[3], x, 3);
}

INLINE vi dot_step(vi acc, const struct wquads *w, const struct xgroup *x, int step, bool wide, bool exact)
{
    (void)wide;
    if (!exact)
        return dot_plane(acc, w->v, x->hi[step]);
    vi high = vshlq_n_s32(dot_plane(vdupq_n_s32(0), w->v, x->hi[step]), 8);
    return dot_plane(vaddq_s32(acc, high), w->v, x->lo[step]);
}

/* The same instructions on registers alone, for rate.c. */
INLINE vi dot_rate(vi acc, const vi w[4], vi x)
{
    UNROLL for (int i = 0; i < 4; i++) acc = vdotq_s32(acc, vreinterpretq_s8_s32(w[i]), vreinterpretq_s8_s32(x));
    return acc;
}

#endif
