#!/usr/bin/env python3
"""Compares carat's decoders with gguf-py's and mlx's, bit for bit: random bytes, carat's own random blocks, and the tensors of models.

    python3 scripts/check_dtypes.py [--tool build/release/tools/dump_tensor] [MODEL.gguf ...]

Needs numpy and gguf from PyPI; MLX's types are compared where mlx is there as well (mlx[cpu]). Exit status 1 if a single float differs. NaNs count as equal to NaNs (random bytes make
some where the scale is a half).
"""
import argparse
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np

try:
    import mlx.core as mx
except ImportError:
    mx = None

TYPES = {"f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22),
         "q5_1": (32, 24), "q8_0": (32, 34), "q2_k": (256, 84), "q3_k": (256, 110), "q4_k": (256, 144),
         "q5_k": (256, 176), "q6_k": (256, 210), "iq4_nl": (32, 18), "iq4_xs": (256, 136)}


MLX = {f"mlx{bits}_g{group}{scales}": (group, group * bits // 8 + (8 if scales == "_f32" else 4))
       for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128) for scales in ("", "_f16", "_f32")}
MLX["mxfp4"] = (32, 17)


def mlx_reference(kind, data):
    """Bytes of whole blocks -> float32, by mlx: every block is a row of one group. Negative zeros lose their sign."""
    group, size = MLX[kind]
    blocks = np.frombuffer(data, np.uint8).reshape(-1, size)

    def part(begin, end, dtype):
        return np.ascontiguousarray(blocks[:, begin:end]).view(dtype)

    if kind == "mxfp4":
        values = mx.dequantize(mx.array(part(1, 17, np.uint32)), mx.array(part(0, 1, np.uint8)), group_size=32, bits=4, mode="mxfp4")
    else:
        wide = 4 if kind.endswith("_f32") else 2
        pair = part(0, 2 * wide, {"f32": np.float32, "f16": np.float16}.get(kind[-3:], np.uint16))
        pair = (pair.astype(np.uint32) << 16).view(np.float32) if pair.dtype == np.uint16 else pair.astype(np.float32)
        values = mx.dequantize(mx.array(part(2 * wide, size, np.uint32)), mx.array(pair[:, :1]), mx.array(pair[:, 1:]),
                               group_size=group, bits=int(kind[3]))
    return np.array(values.astype(mx.float32)).reshape(-1) + np.float32(0)


def reference(kind, data):
    """Bytes of whole blocks -> float32, by gguf-py or mlx."""
    if kind in MLX:
        return mlx_reference(kind, data)
    if kind == "f32":
        return np.frombuffer(data, "<f4")
    if kind == "f16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    blocks = np.frombuffer(data, np.uint8).reshape(-1, TYPES[kind][1])
    return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind.upper()]).reshape(-1)


def differences(a, b):
    """How many floats are not the same bits (NaNs aside)."""
    if a.shape != b.shape:
        return max(a.size, b.size)
    return int(np.count_nonzero((a.view(np.uint32) != b.view(np.uint32)) & ~(np.isnan(a) & np.isnan(b))))


def main():
    root = Path(__file__).resolve().parent.parent
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--tool", default=str(root / "build/release/tools/dump_tensor"))
    p.add_argument("models", nargs="*", default=[str(root / "tests/fixtures/tiny" / f) for f in ("tiny.gguf", "tiny-types.gguf")])
    args = p.parse_args()
    np.seterr(all="ignore")
    rng = np.random.RandomState(1)
    bad = 0

    def run(*a, data=None):
        return subprocess.run([args.tool, *a], input=data, stdout=subprocess.PIPE, check=True).stdout

    if mx is None:
        print("mlx is not there: its types are not compared")
    for kind, (_, size) in {**TYPES, **(MLX if mx else {})}.items():
        n = 65536 if size < 8 else 4096
        for source, data in (("random bytes", rng.bytes(n * size)),
                             ("filler", run("--random", kind, str(n), "7", "0.02"))):
            ours, theirs = np.frombuffer(run("--blocks", kind, data=data), "<f4"), reference(kind, data)
            d = differences(ours, theirs)
            bad += d
            print(f"{kind:13} {source:13} {ours.size:8} elements, {d} differ")
            if source == "filler":
                spread = float(np.std(ours.astype(np.float64)))
                ok = bool(np.isfinite(ours).all()) and abs(spread / 0.02 - 1) < 0.03
                bad += not ok
                print(f"{kind:13} filler        standard deviation {spread:.5f}, wanted 0.02{'' if ok else '  WRONG'}")
    for model in args.models:
        counts = {}
        for t in gguf.GGUFReader(model).tensors:
            kind = t.tensor_type.name.lower()
            ours = np.frombuffer(run(model, t.name), "<f4")
            d = differences(ours, reference(kind, np.ascontiguousarray(t.data).tobytes()))
            bad += d
            n, m, e = counts.get(kind, (0, 0, 0))
            counts[kind] = (n + 1, m + ours.size, e + d)
        for kind, (n, m, e) in sorted(counts.items()):
            print(f"{Path(model).name}: {kind:13} {n:4} tensors, {m:10} elements, {e} differ")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
