#!/usr/bin/env python3
"""Makes tests/fixtures/tiny/*.gguf: two Gemma 3 so small that they live in the repository, with matrices of every weight type.

tiny.gguf has F32 F16 BF16 Q4_0 Q5_0 Q8_0 Q4_K Q6_K. Its shape is deliberately unlike any real one where that catches mistakes:
the query width (128) is not the hidden width (256), two key-value heads serve four query heads, the window (16) is shorter
than a test's prompt, and one local layer follows the global one. tiny-types.gguf has Q4_1 Q5_1 Q2_K Q3_K Q5_K IQ4_NL IQ4_XS:
wider where rows must be whole blocks of 256, and each of its matrices has another type in every layer.
Weights are random, scaled so that the text is varied: the branches outweigh the embedding (else a tied head would repeat its
input) and the logits are a few units wide (else every token would be as likely).
The vocabulary is laid out as Gemma's: control tokens, runs of newlines and spaces, HTML tags, all bytes, merged pieces
by rank, single characters, runs of tabs.

Seeded: the same bytes each time (numpy's RandomState is frozen). Needs numpy and gguf from PyPI.
    python3 scripts/make_tiny.py [FOLDER]
"""
import collections
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

sys.path.insert(0, str(Path(__file__).resolve().parent / "oracle"))
from encode import encode  # noqa: E402

HIDDEN, LAYERS, KV_HEADS, HEAD_DIM, WINDOW, CONTEXT = 256, 7, 2, 32, 16, 2048
VOCAB = 661  # not a multiple of anything that kernels like
N_MERGES = 160

# Types per layer of: q, k, v, attn_output, gate, up, down. Rows of 128 (attn_output) and 384 (down) have no K types.
MIX = [
    (T.Q4_0, T.Q5_0, T.Q8_0, T.Q4_0, T.Q4_0, T.Q5_0, T.Q5_0),
    (T.Q5_0, T.Q8_0, T.Q4_K, T.Q5_0, T.Q4_K, T.Q4_K, T.Q4_0),
    (T.Q4_K, T.Q6_K, T.Q6_K, T.Q8_0, T.Q5_0, T.Q4_0, T.Q8_0),
    (T.Q6_K, T.F16, T.BF16, T.F16, T.Q6_K, T.Q4_K, T.Q5_0),
    (T.F16, T.BF16, T.F32, T.BF16, T.Q4_0, T.Q6_K, T.Q4_0),
    (T.BF16, T.F32, T.Q4_0, T.F32, T.Q8_0, T.Q4_0, T.Q4_0),
    (T.Q8_0, T.Q4_K, T.F16, T.Q5_0, T.Q4_0, T.Q5_0, T.Q5_0),
]

REST = [T.Q4_1, T.Q5_1, T.Q2_K, T.Q3_K, T.Q5_K, T.IQ4_NL, T.IQ4_XS]
REST_MIX = [[REST[(layer + matrix) % 7] for matrix in range(7)] for layer in range(LAYERS)]

TEXT = """The capital of France is Paris. The water of the sea rises as vapour into the air, where it cools and falls
again as rain on the hills and the fields; rivers carry it back to the sea. There is no end to this and no beginning.
Write a list of the things that you need, then mix the butter with the sugar, add the eggs one at a time, stir in the
flour and the chocolate, and bake the cookies until they are brown at the edges. An engine that reads a model has to be
right before it is fast: the reference is slow, and that is why it can be trusted. One two three four five six seven."""


def merges(text, n):
    """The n first pieces of a byte-pair encoding of text: the most frequent pair each time, ties by the alphabet."""
    words = [list("▁" + w) for w in text.split()]
    pieces = []
    while len(pieces) < n:
        pairs = collections.Counter(p for w in words for p in zip(w, w[1:]))
        (a, b), _ = min(pairs.items(), key=lambda kv: (-kv[1], kv[0]))
        if a + b not in pieces:
            pieces.append(a + b)
        for w in words:
            i = 0
            while i + 1 < len(w):
                if (w[i], w[i + 1]) == (a, b):
                    w[i:i + 2] = [a + b]
                i += 1
    return pieces


def vocabulary():
    """(text, score, type) by id. Types: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte."""
    v = [(t, -1000.0, 3) for t in ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")]
    v += [("[multimodal]", -1000.0, 4)]
    v += [(f"<unused{i}>", -1000.0, 3) for i in range(3)]
    v += [("<start_of_turn>", -1000.0, 3), ("<end_of_turn>", -1000.0, 3)]
    v += [("\n" * n, -1000.0, 4) for n in range(1, 32)]
    v += [(" " * n, -1000.0, 4) for n in range(2, 32)]
    v += [(t, -1000.0, 4) for t in ("<table>", "<tr>", "<td>", "</table>", "</tr>", "</td>", "<b>", "</b>", "<h1>", "</h1>")]
    v += [(f"<0x{i:02X}>", 0.0, 6) for i in range(256)]
    singles = ["▁"] + sorted(set(chr(c) for c in range(0x21, 0x7f))) + list("äöüßéèñçÄÖÜ€–“”…日本語Привет😀")
    normal = merges(TEXT, N_MERGES) + singles
    v += [(t, -float(i), 1) for i, t in enumerate(normal)]
    v += [("\t" * n, -1000.0, 4) for n in range(1, 32)]
    assert len(v) == len({t for t, _, _ in v}), "a piece twice"
    assert len(v) <= VOCAB, len(v)
    v += [(f"<unused{i}>", -1000.0, 3) for i in range(3, 3 + VOCAB - len(v))]
    return v


def make(out, name, heads, ffn, mix, embedding, seed):
    rng = np.random.RandomState(seed)
    w = gguf.GGUFWriter(out, "gemma3")
    w.add_name(name)
    w.add_context_length(CONTEXT)
    w.add_embedding_length(HIDDEN)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(ffn)
    w.add_head_count(heads)
    w.add_head_count_kv(KV_HEADS)
    w.add_key_length(HEAD_DIM)
    w.add_value_length(HEAD_DIM)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_sliding_window(WINDOW)
    w.add_rope_freq_base(1000000.0)
    w.add_quantization_version(2)
    v = vocabulary()
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list([t.encode() for t, _, _ in v])
    w.add_token_scores([s for _, s, _ in v])
    w.add_token_types([k for _, _, k in v])
    w.add_bos_token_id(2)
    w.add_eos_token_id(1)
    w.add_unk_token_id(3)
    w.add_pad_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_add_space_prefix(False)

    def norm(name, n, mean):
        w.add_tensor(name, (mean + 0.15 * mean * rng.standard_normal(n)).astype(np.float32))

    def matrix(name, rows, row, kind, sigma):
        w.add_tensor(name, encode(sigma * rng.standard_normal((rows, row)), kind), raw_dtype=kind)

    norm("output_norm.weight", HIDDEN, 4.0)
    matrix("token_embd.weight", VOCAB, HIDDEN, embedding, 0.05)
    q, kv = heads * HEAD_DIM, KV_HEADS * HEAD_DIM
    for i, kinds in enumerate(mix):
        p = f"blk.{i}."
        norm(p + "attn_norm.weight", HIDDEN, 1.0)
        matrix(p + "attn_q.weight", q, HIDDEN, kinds[0], HIDDEN ** -0.5)
        matrix(p + "attn_k.weight", kv, HIDDEN, kinds[1], HIDDEN ** -0.5)
        matrix(p + "attn_v.weight", kv, HIDDEN, kinds[2], HIDDEN ** -0.5)
        norm(p + "attn_q_norm.weight", HEAD_DIM, 1.5)
        norm(p + "attn_k_norm.weight", HEAD_DIM, 1.5)
        matrix(p + "attn_output.weight", HIDDEN, q, kinds[3], q ** -0.5)
        norm(p + "post_attention_norm.weight", HIDDEN, 2.0)
        norm(p + "ffn_norm.weight", HIDDEN, 1.0)
        matrix(p + "ffn_gate.weight", ffn, HIDDEN, kinds[4], HIDDEN ** -0.5)
        matrix(p + "ffn_up.weight", ffn, HIDDEN, kinds[5], HIDDEN ** -0.5)
        matrix(p + "ffn_down.weight", HIDDEN, ffn, kinds[6], ffn ** -0.5)
        norm(p + "post_ffw_norm.weight", HIDDEN, 2.0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print(f"{out}: {out.stat().st_size} bytes")


def main():
    root = Path(__file__).resolve().parent.parent
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "tests/fixtures/tiny"
    out.mkdir(parents=True, exist_ok=True)
    make(out / "tiny.gguf", "carat tiny", 4, 384, MIX, T.Q6_K, 20250312)
    make(out / "tiny-types.gguf", "carat tiny types", 8, 512, REST_MIX, T.Q5_K, 20250313)


if __name__ == "__main__":
    main()
