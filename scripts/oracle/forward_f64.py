#!/usr/bin/env python3
"""Gemma 3 in double precision: the specification as a program, and an oracle for every engine.

Reads any gemma3 GGUF file (gguf-py finds the tensors and decodes their blocks) and computes the whole forward pass in
float64. It shares no code with carat, and refuses to know anything of speed, sampling or tokenizing: ids in, logits out.
Needs numpy and gguf. As a program:

    forward_f64.py MODEL --ids "2 818 5279" --top 20        {"nll": nats of ids 2..n together, "top": [[id, logprob], ...]}
    forward_f64.py MODEL --ids-file IDS --chunk 512 --chunks 2      perplexity by llama-perplexity's protocol
    forward_f64.py MODEL --ids "2 818" --greedy 64          ids, and by how much each first choice led the second
    forward_f64.py MODEL --ids-file IDS --dump OUT.npz [--first P]  log-softmax [T-P, V] of every position from P on

--kv and --act simulate what an engine may round (the cache to bf16; the inputs of the matrices to bf16, or to one or two
int8 planes in groups of 32): they tell how large an honest difference is. The defaults round nothing.
"""

import argparse
import json
import math
import sys

import numpy as np

# Layers of the five text sizes Google published. Only for these do absent keys have known meanings.
N_LAYER_27B = 62
N_LAYER_SCALED_ROPE = (34, 48, 62)  # 4b, 12b, 27b: the global layers' angles are divided by 8


def round_bf16(x):
    """float64 -> the nearest bfloat16 (ties to even) -> float64."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def round_int8(x, planes):
    """Rows in groups of 32, each group with its own scale absmax/127; a second plane takes what the first left over."""
    groups = x.reshape(*x.shape[:-1], -1, 32)
    total = np.zeros_like(groups)
    for _ in range(planes):
        rest = groups - total
        d = np.abs(rest).max(-1, keepdims=True) / 127
        total = total + d * np.rint(np.divide(rest, d, out=np.zeros_like(rest), where=d > 0))
    return total.reshape(x.shape)


ROUND = {
    "f64": lambda x: x,
    "bf16": round_bf16,
    "int8x1": lambda x: round_int8(x, 1),
    "int8x2": lambda x: round_int8(x, 2),
}


def rms_norm(x, w, eps):
    """x [..., n], w [n]. GGUF stores 1 + w of the checkpoint, so w multiplies as it is."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * w


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rope(x, positions, theta, factor):
    """x [T, heads, Hd]; dimension i turns together with i + Hd/2, by position * theta^(-2i/Hd) / factor."""
    half = x.shape[-1] // 2
    angle = positions[:, None] / factor * theta ** (-np.arange(half) / half)  # [T, Hd/2]
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


class Config:
    """What a file's metadata says, with Gemma 3's own values where a key may be absent."""

    def __init__(self, reader):
        def get(*names, default=None):
            for name in names:
                if "gemma3." + name in reader.fields:
                    return reader.fields["gemma3." + name].contents()
            return default

        def scalar(value):  # head counts may be written once per layer
            return value[0] if isinstance(value, list) else value

        arch = reader.fields["general.architecture"].contents()
        if arch != "gemma3":
            raise ValueError(f"general.architecture is {arch!r}, expected 'gemma3'")
        self.L = get("block_count")
        self.D = get("embedding_length")
        self.F = get("feed_forward_length")
        self.H = scalar(get("attention.head_count"))
        self.K = scalar(get("attention.head_count_kv", default=self.H))
        self.Hd = get("attention.key_length", default=256)  # never D / H: no size of Gemma 3 is so
        self.eps = get("attention.layer_norm_rms_epsilon", default=1e-6)
        self.W = get("attention.sliding_window", default=0)
        pattern = get("attention.sliding_window_pattern", default=6)
        if isinstance(pattern, list):  # one bool a layer, true = local
            self.is_local = [bool(v) for v in pattern]
        else:
            self.is_local = [(i + 1) % pattern != 0 for i in range(self.L)]
        if not self.W:
            self.is_local = [False] * self.L
        self.theta_global = get("rope.freq_base", "rope.global.freq_base", default=1e6)
        self.theta_local = get("rope.freq_base_swa", "rope.local.freq_base", default=1e4)
        scaling = get("rope.scaling.type")
        if scaling is None and get("rope.scaling.factor") is None:
            self.factor_global = 8.0 if self.L in N_LAYER_SCALED_ROPE else 1.0
        else:
            self.factor_global = 1.0 if scaling == "none" else get("rope.scaling.factor", default=1.0)
        # 27b divides by the embedding width per head (168), which no key records.
        self.attn_scale = (self.D / self.H if self.L == N_LAYER_27B else self.Hd) ** -0.5


class Model:
    def __init__(self, path, unrounded_scale=False, act="f64", kv="f64", act_decode=None):
        from gguf import GGUFReader
        from gguf.quants import dequantize

        reader = GGUFReader(path)
        self.cfg = Config(reader)
        self.w = {}
        for t in reader.tensors:
            if t.name.startswith(("v.", "mm.")):
                continue  # the vision tower, in files made by Ollama
            data = dequantize(t.data, t.tensor_type).astype(np.float64)
            self.w[t.name] = data.reshape(
                [int(n) for n in t.shape[::-1]]
            )  # ne[0] is the contiguous one: [out, in]
        tokens = reader.fields.get("tokenizer.ggml.tokens")
        rows = self.w["token_embd.weight"].shape[0]
        # Rows behind the last token are padding that no text can mean; they take no part in the softmax.
        self.V = min(rows, len(tokens.data)) if tokens else min(rows, 262144)
        scale = math.sqrt(self.cfg.D)
        self.embed_scale = scale if unrounded_scale else float(round_bf16(np.float64(scale)))
        # Rows of a prompt and rows of decoding may be rounded differently: carat's role of a row.
        self.act_prompt, self.act_decode = ROUND[act], ROUND[act_decode or act]
        self.round_kv = ROUND[kv]
        self.act = self.act_prompt

    def new_cache(self):
        """One (keys, values) a layer, [T, K, Hd] each; every position is kept, the mask does the sliding."""
        empty = np.zeros((0, self.cfg.K, self.cfg.Hd))
        return [(empty, empty) for _ in range(self.cfg.L)]

    def linear(self, x, name):
        return self.act(x) @ self.w[name + ".weight"].T

    def attention(self, x, layer, positions, cache):
        c, p = self.cfg, f"blk.{layer}."
        T = x.shape[0]
        q = self.linear(x, p + "attn_q").reshape(T, c.H, c.Hd)
        k = self.linear(x, p + "attn_k").reshape(T, c.K, c.Hd)
        v = self.linear(x, p + "attn_v").reshape(T, c.K, c.Hd)
        q = rms_norm(
            q, self.w[p + "attn_q_norm.weight"], c.eps
        )  # per head, before the rotation; v has no norm
        k = rms_norm(k, self.w[p + "attn_k_norm.weight"], c.eps)
        local = c.is_local[layer]
        theta, factor = (c.theta_local, 1.0) if local else (c.theta_global, c.factor_global)
        q, k = rope(q, positions, theta, factor), rope(k, positions, theta, factor)

        keys = np.concatenate([cache[layer][0], self.round_kv(k)])
        values = np.concatenate([cache[layer][1], self.round_kv(v)])
        cache[layer] = (keys, values)

        back = positions[:, None] - np.arange(keys.shape[0])[None, :]  # i - j
        allowed = (back >= 0) & (back < c.W) if local else back >= 0  # the window counts the token itself
        out = np.empty((T, c.H, c.Hd))
        for h in range(c.H):
            g = h // (c.H // c.K)
            scores = q[:, h] @ keys[:, g].T * c.attn_scale
            scores = np.where(allowed, scores, -np.inf)
            probs = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, h] = probs / probs.sum(-1, keepdims=True) @ values[:, g]
        return self.linear(out.reshape(T, c.H * c.Hd), p + "attn_output")

    def feed_forward(self, x, layer):
        p = f"blk.{layer}."
        return self.linear(
            gelu_tanh(self.linear(x, p + "ffn_gate")) * self.linear(x, p + "ffn_up"), p + "ffn_down"
        )

    def hidden(self, ids, cache=None, decode=False):
        """ids [T] -> the last norm's output [T, D]. A cache continues where its last call ended."""
        c = self.cfg
        self.act = self.act_decode if decode else self.act_prompt
        cache = self.new_cache() if cache is None else cache
        start = cache[0][0].shape[0]
        positions = np.arange(start, start + len(ids))
        x = self.w["token_embd.weight"][np.asarray(ids)] * self.embed_scale
        for i in range(c.L):
            p = f"blk.{i}."
            a = self.attention(rms_norm(x, self.w[p + "attn_norm.weight"], c.eps), i, positions, cache)
            x = x + rms_norm(a, self.w[p + "post_attention_norm.weight"], c.eps)
            m = self.feed_forward(rms_norm(x, self.w[p + "ffn_norm.weight"], c.eps), i)
            x = x + rms_norm(m, self.w[p + "post_ffw_norm.weight"], c.eps)
        return rms_norm(x, self.w["output_norm.weight"], c.eps)

    def logits(self, hidden):
        """hidden [T, D] -> [T, V]. The head is the embedding, unscaled, unless the file has one of its own; no soft-cap."""
        head = self.w.get("output.weight", self.w["token_embd.weight"])
        return self.act(hidden) @ head[: self.V].T

    def log_probs(self, ids, first=0):
        """Yields (position, log-softmax [V]) from position first on, a few rows at a time: V is large."""
        h = self.hidden(ids)
        for i in range(first, len(ids), 64):
            for j, row in enumerate(log_softmax(self.logits(h[i : i + 64]))):
                yield i + j, row

    def score(self, ids):
        """(nll of ids[1:] given what precedes each, log-softmax [V] behind the last id)."""
        nll, row = 0.0, None
        for i, row in self.log_probs(ids):
            if i + 1 < len(ids):
                nll -= row[ids[i + 1]]
        return nll, row

    def greedy(self, ids, n, stop=()):
        """[(id, logprob, lead over the second choice, id of the second)] of at most n steps; ends behind an id in stop."""
        cache, out = self.new_cache(), []
        h = self.hidden(ids, cache)[-1:]
        for _ in range(n):
            row = log_softmax(self.logits(h))[0]
            a, b = top(row, 2)
            out.append((a[0], a[1], a[1] - b[1], b[0]))
            if a[0] in stop:
                break
            h = self.hidden([a[0]], cache, decode=True)
        return out


def top(row, n):
    """The n largest of row [V] as (id, value), ties by the lower id."""
    n = min(n, row.size)
    best = np.flatnonzero(row >= np.partition(row, -n)[-n])
    order = best[np.lexsort((best, -row[best]))][:n]
    return [(int(i), float(row[i])) for i in order]


def perplexity(model, ids, chunk, n_chunks, bos=2):
    """llama-perplexity's protocol; ids begin with <bos>. Returns (ppl, scored tokens, [nll of each chunk])."""
    nlls, count = [], 0
    for n in range(min(n_chunks, len(ids) // chunk)):
        part = [bos] + list(ids[n * chunk + 1 : (n + 1) * chunk])
        nll = 0.0
        for i, row in model.log_probs(part, chunk // 2):
            if i + 1 < chunk:
                nll -= row[part[i + 1]]
                count += 1
        nlls.append(nll)
        print(f"chunk {n + 1}: {math.exp(sum(nlls) / count):.4f}", file=sys.stderr)
    return math.exp(sum(nlls) / count), count, nlls


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("model")
    ap.add_argument("--ids", help='"2 818 5279"')
    ap.add_argument("--ids-file", help="ids separated by spaces, commas or lines; brackets are ignored")
    ap.add_argument("--top", type=int, default=20)
    ap.add_argument("--greedy", type=int, metavar="N")
    ap.add_argument("--dump", metavar="OUT.npz")
    ap.add_argument("--first", type=int, default=0, help="first position of the dump")
    ap.add_argument("--chunk", type=int)
    ap.add_argument("--chunks", type=int, default=1 << 30)
    ap.add_argument(
        "--unrounded-scale", action="store_true", help="embeddings times sqrt(D) as it is, as llama.cpp does"
    )
    ap.add_argument("--act", choices=ROUND, default="f64", help="inputs of the matrices, simulated")
    ap.add_argument("--act-decode", choices=ROUND, help="the same for decoded rows; default: as --act")
    ap.add_argument("--kv", choices=("f64", "bf16"), default="f64", help="the cache, simulated")
    args = ap.parse_args()
    if (args.ids is None) == (args.ids_file is None):
        ap.error("give --ids or --ids-file")
    text = args.ids if args.ids is not None else open(args.ids_file).read()
    for mark in "[],":
        text = text.replace(mark, " ")
    ids = [int(word) for word in text.split()]
    if not ids:
        ap.error("no ids")
    model = Model(args.model, args.unrounded_scale, args.act, args.kv, args.act_decode)
    if min(ids) < 0 or max(ids) >= model.w["token_embd.weight"].shape[0]:
        ap.error(
            f"ids must be 0 to {model.w['token_embd.weight'].shape[0] - 1}, found {min(ids)} to {max(ids)}"
        )
    if args.chunk:
        ppl, count, nlls = perplexity(model, ids, args.chunk, args.chunks)
        print(json.dumps({"ppl": ppl, "tokens": count, "nll": nlls}))
    elif args.dump:
        rows = np.empty((len(ids) - args.first, model.V), np.float32)
        for i, row in model.log_probs(ids, args.first):
            rows[i - args.first] = row
        np.savez(args.dump, ids=np.array(ids, np.int32), first=args.first, logprobs=rows)
    elif args.greedy is not None:
        print(json.dumps([list(step) for step in model.greedy(ids, args.greedy)]))
    else:
        nll, row = model.score(ids)
        print(json.dumps({"nll": nll, "top": [list(pair) for pair in top(row, args.top)]}))


if __name__ == "__main__":
    main()
