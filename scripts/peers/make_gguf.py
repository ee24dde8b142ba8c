#!/usr/bin/env python3
"""Writes a GGUF file with the shapes and weight types of `carat`'s synthetic:SIZE:TYPE, so that another engine can be measured
at a size whose real file need not be downloaded. Its quants are noise, its scales such that activations stay in range; it
has no tokenizer. Standard library only.

    make_gguf.py 12b:q4_0 OUT.gguf          sizes 270m 1b 4b 12b 27b, types q4_0 q4_k_m
"""

import os
import struct
import sys

# hidden, layers, heads, kv heads, head size, ffn, window, context, rope factor: src/formats/synthetic.c
SHAPES = {
    "270m": (640, 18, 4, 1, 256, 2048, 512, 32768, 1),
    "1b": (1152, 26, 4, 1, 256, 6912, 512, 32768, 1),
    "4b": (2560, 34, 8, 4, 256, 10240, 1024, 131072, 8),
    "12b": (3840, 48, 16, 8, 256, 15360, 1024, 131072, 8),
    "27b": (5376, 62, 32, 16, 128, 21504, 1024, 131072, 8),
}
VOCAB = 262144
ALIGN = 32
F32, Q4_0, Q5_0, Q8_0, Q4_K, Q6_K = 0, 2, 6, 8, 12, 14
BLOCKS = {F32: (1, 4), Q4_0: (32, 18), Q5_0: (32, 22), Q8_0: (32, 34), Q4_K: (256, 144), Q6_K: (256, 210)}
# Where a block has its f16 numbers, and what makes its values about as wide as the standard deviation given.
SCALES = {
    Q4_0: [(0, 1 / 4.6)],
    Q5_0: [(0, 1 / 9.2)],
    Q8_0: [(0, 1 / 74)],
    Q4_K: [(0, 1 / 220), (2, 7.5 / 220)],
    Q6_K: [(208, 1 / 1360)],
}
PIECE = 4096  # blocks: the noise repeats, which no engine can tell


def more_bits(layer, layers):
    """llama.cpp's rule of its medium mixtures, see synthetic.c."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def type_for(kind, important, row):
    if kind == "q4_0":
        return Q4_0
    if row % 256:
        return Q8_0 if important else Q5_0
    return Q6_K if important else Q4_K


def tensors(size, kind):
    """(name, type, row, rows) of every tensor."""
    hidden, layers, heads, kv_heads, head, ffn = SHAPES[size][:6]
    q, kv = heads * head, kv_heads * head
    yield "output_norm.weight", F32, hidden, 1
    yield "token_embd.weight", type_for(kind, True, hidden), hidden, VOCAB
    for i in range(layers):
        more = more_bits(i, layers)
        norms = {
            "attn_norm": hidden,
            "attn_q_norm": head,
            "attn_k_norm": head,
            "post_attention_norm": hidden,
            "ffn_norm": hidden,
            "post_ffw_norm": hidden,
        }
        for name, n in norms.items():
            yield f"blk.{i}.{name}.weight", F32, n, 1
        for name, row, rows, important in (
            ("attn_q", hidden, q, False),
            ("attn_k", hidden, kv, False),
            ("attn_v", hidden, kv, more),
            ("attn_output", q, hidden, False),
            ("ffn_gate", hidden, ffn, False),
            ("ffn_up", hidden, ffn, False),
            ("ffn_down", ffn, hidden, more),
        ):
            yield f"blk.{i}.{name}.weight", type_for(kind, important, row), row, rows


def metadata(size, kind):
    hidden, layers, heads, kv_heads, head, ffn, window, context, factor = SHAPES[size]
    a = "gemma3."
    pairs = [
        ("general.architecture", "gemma3"),
        ("general.name", f"Gemma 3 {size} ({kind}, noise)"),
        ("general.file_type", 2 if kind == "q4_0" else 15),
        ("general.quantization_version", 2),
        (a + "context_length", context),
        (a + "embedding_length", hidden),
        (a + "block_count", layers),
        (a + "feed_forward_length", ffn),
        (a + "attention.head_count", heads),
        (a + "attention.head_count_kv", kv_heads),
        (a + "attention.key_length", head),
        (a + "attention.value_length", head),
        (a + "attention.layer_norm_rms_epsilon", 1e-6),
        (a + "attention.sliding_window", window),
        (a + "rope.freq_base", 1e6),
        (a + "vocab_size", VOCAB),
        ("tokenizer.ggml.model", "none"),
    ]
    if factor > 1:
        pairs += [(a + "rope.scaling.type", "linear"), (a + "rope.scaling.factor", float(factor))]
    return pairs


def text(s):
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(v):
    if isinstance(v, str):
        return struct.pack("<I", 8) + text(v)
    return struct.pack("<If", 6, v) if isinstance(v, float) else struct.pack("<II", 4, v)


def piece(kind, sigma):
    """PIECE blocks of a type."""
    if kind == F32:
        return struct.pack("<f", 1.0) * PIECE
    size = BLOCKS[kind][1]
    data = bytearray(os.urandom(PIECE * size))
    for at, factor in SCALES[kind]:
        low, high = struct.pack("<e", sigma * factor)
        data[at::size] = bytes([low]) * PIECE
        data[at + 1 :: size] = bytes([high]) * PIECE
    return bytes(data)


def write(spec, path):
    size, kind = spec.split(":")
    listed = list(tensors(size, kind))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(metadata(size, kind)))
    for key, v in metadata(size, kind):
        head += text(key) + value(v)
    offset = 0
    for name, t, row, rows in listed:
        dims = (row, rows) if rows > 1 else (row,)
        head += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, t, offset)
        elems, size_of = BLOCKS[t]
        offset += -(-(row * rows // elems * size_of) // ALIGN) * ALIGN
    with open(path + ".part", "wb") as f:
        f.write(head + bytes(-len(head) % ALIGN))
        for name, t, row, rows in listed:
            elems, size_of = BLOCKS[t]
            left = row * rows // elems * size_of
            pad = -left % ALIGN
            noise = piece(t, 0.03 if name.startswith("token") else row**-0.5)
            while left > 0:
                f.write(noise[:left])
                left -= len(noise)
            f.write(bytes(pad))
    os.replace(path + ".part", path)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1].split(":")[0] not in SHAPES or sys.argv[1][-4:] not in ("q4_0", "_k_m"):
        sys.exit(__doc__)
    write(sys.argv[1], sys.argv[2])
