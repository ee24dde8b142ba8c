#!/usr/bin/env python3
"""How far carat, and mlx-lm, are from the exact arithmetic of an MLX folder's own weights.

    python3 scripts/judge_mlx.py [--carat build/release/carat] [--prompts tests/golden/logits.json] [--most 300] FOLDER...

The judge is the forward pass in double precision (scripts/oracle/forward_f64.py) with weights that numpy decodes from the folder's
bits; each prompt of the golden file is asked for its next token. Printed: the largest difference of log-probabilities over the five
tokens that the judge finds most likely, and how often the first choice is another. Needs numpy, gguf, mlx[cpu] (to read the files)
and mlx-lm (the opponent; left out with --no-mlx-lm). Exit status 1 if carat is further off than 0.1 nat.
"""
import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts/oracle"))
import forward_f64 as oracle  # noqa: E402

NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
         "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}


def unpack(words, scales, biases, bits):
    """[rows, in bits / 32] u32, [rows, groups] twice -> float64 [rows, in]."""
    rows, group = words.shape[0], 32 * words.shape[1] // (bits * scales.shape[1])
    data = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        q = data
    elif bits == 4:
        q = np.stack([data & 15, data >> 4], axis=-1)
    else:
        q = np.packbits(np.unpackbits(data, axis=1, bitorder="little").reshape(rows, -1, bits), axis=-1, bitorder="little")
    q = q.reshape(rows, scales.shape[1], group)
    return (q * scales[:, :, None] + biases[:, :, None]).reshape(rows, -1)


def load(folder):
    config = json.loads((folder / "config.json").read_text())
    raw = {}
    for shard in sorted(folder.glob("model*.safetensors")):
        raw.update(mx.load(str(shard)))
    quantization = config["quantization"]

    def floats(name):
        return np.array(raw[name].astype(mx.float32)).astype(np.float64)

    m = oracle.Model.__new__(oracle.Model)
    c = m.cfg = oracle.Config.__new__(oracle.Config)
    c.L, c.D, c.F = config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]
    c.H, c.K, c.Hd = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    c.eps, c.W = config["rms_norm_eps"], config["sliding_window"]
    c.is_local = [(i + 1) % 6 != 0 for i in range(c.L)]
    c.theta_global, c.theta_local, c.factor_global = config["rope_theta"], 1e4, 1.0
    c.attn_scale = config["query_pre_attn_scalar"] ** -0.5
    m.w = {}
    for name in raw:
        stem, kind = name.rsplit(".", 1)
        if kind != "weight":
            continue
        if stem + ".scales" in raw:
            w = unpack(np.array(raw[name]), floats(stem + ".scales"), floats(stem + ".biases"),
                       quantization.get(stem, quantization)["bits"])
        else:
            w = floats(name) + (1 if "norm" in stem else 0)
        layer = re.match(r"model\.layers\.(\d+)\.(.*)", stem)
        to = f"blk.{layer[1]}.{NAMES[layer[2]]}" if layer else {"model.norm": "output_norm", "model.embed_tokens": "token_embd"}[stem]
        m.w[to + ".weight"] = w
    m.V = m.w["token_embd.weight"].shape[0]
    m.embed_scale = float(oracle.round_bf16(np.sqrt(c.D)))
    m.act = m.act_prompt = m.act_decode = m.round_kv = oracle.ROUND["f64"]
    return m


def carat(program, folder, ids, *more):
    out = subprocess.run([program, "logits", "-m", str(folder), "--ids", " ".join(map(str, ids)), "--top", "20", "--json", "-q", *more],
                         capture_output=True, check=True).stdout
    return dict(json.loads(out)["top"])


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--carat", default=str(ROOT / "build/release/carat"))
    p.add_argument("--prompts", default=str(ROOT / "tests/golden/logits.json"))
    p.add_argument("--most", type=int, default=300, help="leave out prompts of more tokens")
    p.add_argument("--no-mlx-lm", action="store_true")
    p.add_argument("folders", nargs="+", type=Path)
    args = p.parse_args()
    prompts = [q["ids"] for q in json.loads(Path(args.prompts).read_text())["prompts"] if len(q["ids"]) <= args.most]
    failed = False
    for folder in args.folders:
        m = load(folder)
        opponents = {"carat": lambda ids: carat(args.carat, folder, ids), "carat --exact": lambda ids: carat(args.carat, folder, ids, "--exact")}
        if not args.no_mlx_lm:
            from mlx_lm.utils import load_model
            theirs = load_model(folder)[0]

            def ask(ids):
                z = theirs(mx.array([ids]))[0, -1].astype(mx.float32)
                return dict(enumerate(np.array(z - mx.logsumexp(z)).tolist()))
            opponents["mlx-lm"] = ask
        worst, first = dict.fromkeys(opponents, 0.0), dict.fromkeys(opponents, 0)
        for ids in prompts:
            want = oracle.log_softmax(m.logits(m.hidden(ids)[-1:]))[0]
            top = np.argsort(-want)[:5]
            for name, how in opponents.items():
                got = how(ids)
                worst[name] = max(worst[name], max(abs(got.get(int(t), -99.0) - want[t]) for t in top))
                first[name] += max(got, key=got.get) != top[0]
        for name in opponents:
            print(f"{folder.name}: {name:14} at most {worst[name]:.4f} nat, another first choice in {first[name]} of {len(prompts)}", flush=True)
        failed = failed or worst["carat"] > 0.1 or worst["carat --exact"] > 0.1
        del m
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
