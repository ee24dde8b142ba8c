"""Floats into the blocks of GGUF's types, for making test data: plain rounding, no search for the best scales.

encode(x [rows, n], type) -> array for GGUFWriter. What gguf-py can write itself, it writes; the types that it only reads are
packed here. Test models need every value of every field, not the least error. Needs numpy and gguf.
"""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)


def halves(*values):
    """[blocks] float16 each -> [blocks, 2 * len(values)] bytes."""
    return np.stack(values, 1).astype("<f2").view(np.uint8)


def with_minimum(x, size, top, bits):
    """Quants 0..top of groups of `size` of 256 with scales and minima of `bits` bits: x = d S q - dmin M. -> d, dmin, S, M, q."""
    b = x.reshape(-1, 256 // size, size).astype(np.float32)
    most = 2**bits - 1
    low, high = np.minimum(b.min(2), 0), np.maximum(b.max(2), 0)
    scale, minimum = (high - low) / top, -low
    d = (scale.max(1) / most).astype(np.float16)
    dmin = (minimum.max(1) / most).astype(np.float16)
    s = np.clip(np.rint(scale / d.astype(np.float32)[:, None]), 1, most).astype(np.uint8)
    m = np.clip(np.rint(minimum / dmin.astype(np.float32)[:, None]), 0, most).astype(np.uint8)
    step = d.astype(np.float32)[:, None] * s
    base = dmin.astype(np.float32)[:, None] * m
    q = np.clip(np.rint((b + base[:, :, None]) / step[:, :, None]), 0, top).astype(np.uint8)
    return d, dmin, s, m, q


def signed_scales(x, size, peak, limit):
    """Scales -limit..limit-1 for groups of `size` of 256, signed: the largest element of a group becomes `peak` (negative).
    -> d, S [blocks, groups], elements over their scale."""
    b = x.reshape(-1, 256 // size, size).astype(np.float32)
    largest = np.take_along_axis(b, np.abs(b).argmax(2)[:, :, None], 2)[:, :, 0]
    scale = largest / peak
    d = (np.abs(scale).max(1) / (limit - 1)).astype(np.float16)
    s = np.clip(np.rint(scale / d.astype(np.float32)[:, None]), -limit, limit - 1).astype(np.int8)
    s[s == 0] = 1
    return d, s, b / (d.astype(np.float32)[:, None] * s)[:, :, None]


def nearest_iq4(v):
    return np.abs(v[..., None] - IQ4).argmin(-1).astype(np.uint8)


def six_bit_pairs(s, m):
    """The 12 bytes that hold eight scales and eight minima of q4_k and q5_k."""
    packed = np.empty((len(s), 12), np.uint8)
    packed[:, 0:4] = s[:, :4] | (s[:, 4:] >> 4) << 6
    packed[:, 4:8] = m[:, :4] | (m[:, 4:] >> 4) << 6
    packed[:, 8:12] = (s[:, 4:] & 15) | (m[:, 4:] & 15) << 4
    return packed


def four_runs(q):
    """q [blocks, 256] of two bits -> 64 bytes: two halves of 128, each four runs of 32 that share bytes."""
    q = q.reshape(-1, 2, 4, 32)
    return (q[:, :, 0] | q[:, :, 1] << 2 | q[:, :, 2] << 4 | q[:, :, 3] << 6).reshape(-1, 64)


def q2_k(x):
    d, dmin, s, m, q = with_minimum(x, 16, 3, 4)
    return s | m << 4, four_runs(q), halves(d, dmin)


def q3_k(x):
    d, s, v = signed_scales(x, 16, -4, 32)
    q = (np.clip(np.rint(v), -4, 3) + 4).astype(np.uint8).reshape(-1, 256)
    runs = q.reshape(-1, 8, 32) >> 2
    hmask = np.bitwise_or.reduce(runs << np.arange(8, dtype=np.uint8)[None, :, None], axis=1)
    u = (s + 32).astype(np.uint8)
    low = u[:, :8] & 15 | (u[:, 8:] & 15) << 4
    high = np.bitwise_or.reduce(u.reshape(-1, 4, 4) >> 4 << (2 * np.arange(4, dtype=np.uint8))[None, :, None], axis=1)
    return hmask, four_runs(q & 3), low, high, halves(d)


def q4_k(x):
    d, dmin, s, m, q = with_minimum(x, 32, 15, 6)
    return halves(d, dmin), six_bit_pairs(s, m), (q[:, 0::2] | q[:, 1::2] << 4).reshape(-1, 128)


def q5_k(x):
    d, dmin, s, m, q = with_minimum(x, 32, 31, 6)
    high = np.bitwise_or.reduce(q >> 4 << np.arange(8, dtype=np.uint8)[None, :, None], axis=1)
    low = q & 15
    return halves(d, dmin), six_bit_pairs(s, m), high, (low[:, 0::2] | low[:, 1::2] << 4).reshape(-1, 128)


def q6_k(x):
    d, s, v = signed_scales(x, 16, -32, 128)
    q = (np.clip(np.rint(v), -32, 31) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    ql = np.concatenate([q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4, q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4], axis=2)
    qh = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    return ql.reshape(-1, 128), qh.reshape(-1, 64), s.view(np.uint8), halves(d)


def iq4_nl(x):
    b = x.reshape(-1, 32).astype(np.float32)
    largest = np.take_along_axis(b, np.abs(b).argmax(1)[:, None], 1)[:, 0]
    d = (largest / -127).astype(np.float16)
    q = nearest_iq4(b / d.astype(np.float32)[:, None])
    return halves(d), q[:, :16] | q[:, 16:] << 4


def iq4_xs(x):
    d, s, v = signed_scales(x, 32, -127, 32)
    q = nearest_iq4(v)
    u = (s + 32).astype(np.uint8)
    high = np.bitwise_or.reduce((u >> 4).astype(np.uint16) << (2 * np.arange(8, dtype=np.uint16))[None, :], axis=1)
    low = u[:, 0::2] & 15 | (u[:, 1::2] & 15) << 4
    qs = (q[:, :, :16] | q[:, :, 16:] << 4).reshape(-1, 128)
    return halves(d), high.astype("<u2")[:, None].view(np.uint8), low, qs


PACK = {T.Q2_K: q2_k, T.Q3_K: q3_k, T.Q4_K: q4_k, T.Q5_K: q5_k, T.Q6_K: q6_k, T.IQ4_NL: iq4_nl, T.IQ4_XS: iq4_xs}


def encode(x, kind):
    if kind == T.F32:
        return x.astype(np.float32)
    if kind == T.F16:
        return x.astype(np.float16)
    if kind in PACK:
        return np.concatenate(PACK[kind](x), axis=1).reshape(x.shape[0], -1)
    return gguf.quants.quantize(x.astype(np.float32), kind)
