#!/usr/bin/env python3
"""Makes tests/golden/*.json: what independent engines say, for tests/cli/test_golden.py to hold carat against.

Sources: ids from Hugging Face tokenizers; log-probabilities and greedy text from the float64 forward (oracle/forward_f64.py)
and, as a second opinion with its own arithmetic, from llama.cpp (peers/llama_worker.py). Each file records the versions and
the sha256 of the model. Needs numpy, gguf and tokenizers; --peer names the Python that has llama-cpp-python.

    make_golden.py --model gemma-3-270m-q4_k_m.gguf --tokenizer tokenizer.json.xz --wiki wiki.test.raw --peer VENV/bin/python
    make_golden.py tiny tiny-types       the fixtures' files: nothing but the repository, numpy and gguf
"""
import argparse
import hashlib
import importlib.metadata
import json
import lzma
import os
import platform
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "oracle"))
import forward_f64 as oracle  # noqa: E402
import numpy as np  # noqa: E402

BENCH = {
    "capital": "The capital of France is",
    "short": "Write a haiku about artificial intelligence:",
    "medium": "Explain the water cycle:",
    "long": "Write a detailed step-by-step recipe for chocolate chip cookies:",
}
TEXTS = [
    "", " ", "  ", "a", "\n", "\t", "Hello, world!", " Hello world", "Hello world ", "The quick brown fox jumps over the lazy dog.",
    "a\nb", "a\n\n\nb", "x  y   z", "    indented", "\tif (x) {\n\t\treturn 0;\n\t}", "1234567890", "3.14159 -2e-10 0x7fff",
    "日本語のテキスト", "中文分词没有空格。", "한국어 문장입니다.", "Привет, мир! Как дела?", "Γειά σου Κόσμε", "שלום עולם", "مرحبا بالعالم",
    "नमस्ते दुनिया", "สวัสดีชาวโลก", "Tiếng Việt có dấu", "naïve café", "e\u0301 decomposed, \u00e9 composed", "😀🤖👩‍👩‍👧‍👦🏳️‍🌈🇫🇷👍🏽",
    "ﷺ 𓀀 \ufffd", "hello\r\nworld\r", "\x00\x01\x7f", "don't stop; I'll, we've", "https://example.com/a?b=c&d=1#e", " " * 40 + "x",
    "\n" * 35 + "end", "\t" * 33 + "|", "▁▁x ▁ y", "<table><tr><td>x</td></tr></table>", "> </div>\n<h1>T</h1>", "<b>bold</b> <i>it</i><code>c</code>",
    "<unused5> <unused6241> <mask> <pad>", "<bos>hi<eos>", "<start_of_turn>user\nWrite a poem.<end_of_turn>\n<start_of_turn>model\n",
    "<start_of_image> [multimodal] <unk> </s> <0x41>", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "=" * 80,
    "def f(x):\n    return {k: v**2 for k, v in x.items()}  # ok\n", "SELECT * FROM t WHERE a >= 1 AND b LIKE '%x_';",
    "{\"key\": [1, 2.5, null, true], \"s\": \"\\u00e9\\n\"}", "$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$",
    "\u200b\u200czero\u200dwidth\ufeff", "Ｆｕｌｌ ｗｉｄｔｈ　ideographic space", "MiXeD CaSe camelCase snake_case kebab-case", "ÅÄÖ ß ẞ ı İ ﬁ ﬂ ½ ²",
    "one\u00a0nbsp\u2003em\u2028line\u2029par",
]
SHORT_PROMPTS = {
    "code": "#include <stdio.h>\n\nint main(void)\n{\n\tprintf(\"Hello, ",
    "list": "1. Mercury\n2. Venus\n3. Earth\n4.",
    "german": "Der schnelle braune Fuchs springt über den",
    "japanese": "日本の首都は",
    "html": "<table>\n<tr><td>1</td><td>one</td></tr>\n<tr><td>2</td><td>",
}
ENDS = (1, 106)  # <eos>, <end_of_turn>


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


class Peer:
    """llama_worker.py at the other end of two pipes."""

    def __init__(self, python, model, threads=2):
        args = [python, os.path.join(HERE, "peers", "llama_worker.py"), model, str(threads)]
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("llama.cpp's process ended early")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def engines(*packages):
    out = {"python": platform.python_version()}
    for name in packages:
        out[name] = importlib.metadata.version(name)
    return out


def tidy(value):
    """Six decimals are far below any tolerance, and keep the files small."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, (list, tuple)):
        return [tidy(v) for v in value]
    if isinstance(value, dict):
        return {k: tidy(v) for k, v in value.items()}
    return value


def write(folder, name, document):
    """One line for every entry of a list, so that a diff shows which entry changed."""
    parts = []
    for key, value in tidy(document).items():
        if isinstance(value, list):
            text = "[\n" + ",\n".join("  " + json.dumps(v, ensure_ascii=True) for v in value) + "\n ]"
        else:
            text = json.dumps(value, ensure_ascii=True)
        parts.append(f" {json.dumps(key)}: {text}")
    path = os.path.join(folder, name)
    with open(path + ".part", "w") as f:
        f.write("{\n" + ",\n".join(parts) + "\n}\n")
    os.replace(path + ".part", path)
    print(f"{path}: {os.path.getsize(path)} bytes", file=sys.stderr)


def load_tokenizer(path, without=()):
    from tokenizers import Tokenizer

    data = json.loads(lzma.open(path).read() if path.endswith(".xz") else open(path, "rb").read())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] not in without]
    return Tokenizer.from_str(json.dumps(data))


def make_tokenizer(args, peer):
    """Plain text: control pieces (what the model file or Hugging Face marks as such) are taken out of the added tokens, so
    that other pieces spell them; user-defined ones (runs of newlines, HTML tags) stay."""
    from gguf import GGUFReader

    fields = GGUFReader(args.model).fields
    types = fields["tokenizer.ggml.token_type"].contents()
    pieces = fields["tokenizer.ggml.tokens"].contents()
    control = {p for p, t in zip(pieces, types) if t == 3}
    whole = load_tokenizer(args.tokenizer)
    control |= {t.content for t in whole.get_added_tokens_decoder().values() if t.special}
    plain = load_tokenizer(args.tokenizer, control)
    cases, odd = [], []
    for text in TEXTS:
        case = {"text": text, "plain": plain.encode(text, add_special_tokens=False).ids,
                "special": whole.encode(text, add_special_tokens=False).ids}
        cases.append(case)
        if peer:
            for kind in ("plain", "special"):
                theirs = peer.ask(do="tokenize", text=text, bos=False, special=kind == "special")["ids"]
                if theirs != case[kind]:
                    odd.append({"text": text, "kind": kind, "llama.cpp": theirs})
    write(args.out, "tokenizer.json", {
        "about": "ids without <bos>; special: control pieces in the text become their ids; plain: they are text",
        "engines": engines("tokenizers"), "model_sha256": args.sha, "cases": cases, "llama.cpp_differs": odd})


def deviation(model, ids, best, exact, exact_nll):
    """How far what model now simulates is from the exact row [V]: largest and root mean square difference of the best 20's
    log-probabilities, KL of the row, difference of the nll per id."""
    nll, row = model.score(ids)
    off = [float(row[i]) - p for i, p in best]
    return {"top": max(map(abs, off)), "rms": float(np.sqrt(np.mean(np.square(off)))),
            "kl": float(np.sum(np.exp(exact) * (exact - row))), "nll_per_id": float(abs(nll - exact_nll) / max(len(ids) - 1, 1))}


def simulate(model, prompt="f64", decode="f64", kv="f64"):
    model.act_prompt, model.act_decode, model.round_kv = oracle.ROUND[prompt], oracle.ROUND[decode], oracle.ROUND[kv]


def logits_of(model, peer, name, ids):
    simulate(model)
    nll, row = model.score(ids)
    best = oracle.top(row, 20)
    entry = {"name": name, "n": len(ids), "ids": ids, "nll": float(nll), "top": best}
    simulate(model, "bf16", "bf16", "bf16")
    entry["bf16"] = deviation(model, ids, best, row, nll)
    simulate(model, "int8x1", "bf16", "bf16")
    entry["int8"] = deviation(model, ids, best, row, nll)
    simulate(model)
    if peer:
        entry["llama.cpp"] = peer.ask(do="score", ids=ids, top=20)
    print(name, tidy(nll), tidy(best[0]), tidy(entry["bf16"]), tidy(entry["int8"]), file=sys.stderr)
    return entry


LOGITS_ABOUT = ("float64 forward: nll of ids 2..n together, top 20 behind the last id. bf16, int8: how far the same forward moves "
                "when matrix inputs and cache are rounded so (see deviation in scripts/make_golden.py)")


def make_logits(args, model, peer, hf):
    def ids_of(text):
        return [2] + hf.encode(text, add_special_tokens=False).ids

    with open(args.wiki, encoding="utf-8", newline="") as f:
        wiki = ids_of(f.read(8000))[:700]
    prompts = {name: ids_of(text) for name, text in {**BENCH, **SHORT_PROMPTS}.items()}
    prompts["bos"] = [2]
    for n in (64, 511, 512, 513, 514, 700):  # on both sides of the window of 512, and well behind it
        prompts[f"wiki{n}"] = wiki[:n]
    write(args.out, "logits.json", {
        "about": LOGITS_ABOUT, "engines": args.versions, "model_sha256": args.sha,
        "prompts": [logits_of(model, peer, name, ids) for name, ids in prompts.items()]})


def make_greedy(args, model, peer, hf):
    cases = []
    for name, text in BENCH.items():
        ids = [2] + hf.encode(text, add_special_tokens=False).ids
        simulate(model)
        steps = model.greedy(ids, 64, ENDS)
        simulate(model, "int8x1", "bf16", "bf16")
        rounded = [s[0] for s in model.greedy(ids, 64, ENDS)]
        simulate(model)
        out = [s[0] for s in steps]
        shown = [i for i in out if i not in ENDS]
        case = {"name": name, "prompt": text, "prompt_ids": ids, "ids": out, "text": hf.decode(shown, skip_special_tokens=False),
                "logprob": [s[1] for s in steps], "margin": [s[2] for s in steps], "second": [s[3] for s in steps],
                "rounded_ids": rounded}
        if peer:
            theirs = peer.ask(do="greedy", ids=ids, n=64, stop=ENDS)["steps"]
            case["llama.cpp_ids"] = [s[0] for s in theirs]
        same = next((i for i, (a, b) in enumerate(zip(out, rounded)) if a != b), len(out))
        print(name, repr(case["text"]), "least margin", tidy(min(case["margin"])), "rounded alike for", same, file=sys.stderr)
        cases.append(case)
    write(args.out, "greedy.json", {
        "about": "float64 greedy continuation of <bos> + prompt; margin: log-probability by which a choice led the second; "
                 "rounded_ids: int8 prompt, bf16 decode, bf16 cache simulated",
        "engines": args.versions, "model_sha256": args.sha, "cases": cases})


def make_tiny(args, name):
    """A fixture has random weights, so any ids do; the lengths are what matters: on both sides of the window."""
    path = os.path.join(args.tiny, name + ".gguf")
    model = oracle.Model(path)
    w, v = model.cfg.W, model.V
    rng = np.random.default_rng(3)
    prompts = []
    for length in sorted({1, 2, 3, 17, w - 1, w, w + 1, 2 * w, 2 * w + 1, 5 * w + 3}):
        if length < 1:
            continue
        for kind in range(2):
            ids = [2 % v] + [int(i) for i in rng.integers(0, v, length - 1)]
            prompts.append(logits_of(model, None, f"{length}{'ab'[kind]}", ids))
    cases = []
    for length in (3, w - 2, 2 * w):
        ids = [2 % v] + [int(i) for i in rng.integers(0, v, length - 1)]
        steps = model.greedy(ids, 2 * w + 8)
        cases.append({"prompt_ids": ids, "ids": [s[0] for s in steps], "margin": [s[2] for s in steps]})
    write(args.out, name + ".json", {
        "about": LOGITS_ABOUT + "; greedy: no end token stops it", "engines": engines("numpy", "gguf"),
        "model_sha256": sha256(path), "window": w, "prompts": prompts, "greedy": cases})


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("what", nargs="*", default=["tokenizer", "logits", "greedy", "tiny", "tiny-types"], help="which files; default: all five")
    ap.add_argument("--model", default=os.path.expanduser("~/.cache/carat/gemma-3-270m-q4_k_m.gguf"))
    ap.add_argument("--tiny", default=os.path.join(ROOT, "tests", "fixtures", "tiny"), help="the folder of the fixtures")
    ap.add_argument("--tokenizer", help="Gemma 3's tokenizer.json, or .xz of it")
    ap.add_argument("--wiki", help="wiki.test.raw of WikiText-2")
    ap.add_argument("--peer", help="a Python with llama-cpp-python; without it the files lack llama.cpp's opinion")
    ap.add_argument("--out", default=os.path.join(ROOT, "tests", "golden"))
    args = ap.parse_args()
    what = args.what
    os.makedirs(args.out, exist_ok=True)
    for name in ("tiny", "tiny-types"):
        if name in what:
            make_tiny(args, name)
    if not {"tokenizer", "logits", "greedy"} & set(what):
        return
    if not args.tokenizer or ("logits" in what and not args.wiki):
        ap.error("--tokenizer and --wiki are needed for all but the fixtures")
    args.sha = sha256(args.model)
    peer = Peer(args.peer, args.model) if args.peer else None
    args.versions = engines("numpy", "gguf", "tokenizers")
    if peer:
        about = peer.ask(do="about")
        args.versions["llama.cpp"] = f"{about['version']} (llama-cpp-python {about['bindings']})"
    if "tokenizer" in what:
        make_tokenizer(args, peer)
    if {"logits", "greedy"} & set(what):
        hf = load_tokenizer(args.tokenizer)
        model = oracle.Model(args.model)
        if "logits" in what:
            make_logits(args, model, peer, hf)
        if "greedy" in what:
            make_greedy(args, model, peer, hf)
    if peer:
        peer.close()


if __name__ == "__main__":
    main()
