/* exp for any vectors: 2^n times a polynomial on [-ln2/2, ln2/2], within 2 ulp; 0 below -104, inf above 88.8, NaN stays.
 * Cephes-style two-part reduction by ln 2; Taylor coefficients to degree 7 leave 2^-27. Included after vec_<isa>.h. */
#ifndef CT_CPU_EXP_VEC_H
#define CT_CPU_EXP_VEC_H

INLINE vf vf_exp(vf x)
{
    const vf n = vf_rint(x * vf_set(1.44269504088896341f));
    const vf r = vf_fnma(n, vf_set(-2.12194440e-4f), vf_fnma(n, vf_set(0.693359375f), x));
    vf p = vf_set(1.0f / 5040);
    p = vf_fma(p, r, vf_set(1.0f / 720));
    p = vf_fma(p, r, vf_set(1.0f / 120));
    p = vf_fma(p, r, vf_set(1.0f / 24));
    p = vf_fma(p, r, vf_set(1.0f / 6));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    /* Outside the range r is meaningless (inf - inf): say what the limit is. */
    vf y = vf_gt(x, vf_set(89.0f), vf_set(__builtin_inff()), vf_scale2(p, n));
    return vf_gt(vf_set(-104.0f), x, vf_set(0), y);
}

#endif
