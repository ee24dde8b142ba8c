#!/usr/bin/env python3
"""The table of types of one model, made by one command: for each type bits per weight, size of the file, memory, perplexity, KL
against the 16-bit weights, top-1 agreement, decode and prefill speed.

    scripts/types_table.py [-m MODEL] [-f TEXT] [--types q8_0,q4_k_m,mlx4,...] [--chunks N] [-t THREADS] [--work FOLDER]
                           [-o TABLE.md] [--json FILE] [--imatrix FILE]

MODEL is converted to bf16 once, and that to every type, with `carat convert`; `carat eval kl` compares each with the bf16 file
over TEXT (the short text that carat ships, unless -f names one), `carat bench` measures pp512 and tg128. A type that fails is a
row that says why. Where MODEL itself is quantized, the table says so: its bf16 has the rounding of the first quantization already,
so losses look smaller than they are from the weights that were trained. The bf16 row has a KL too: the base is computed by the exact
path, each row as prompts are by default. Standard library only.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CARAT = os.environ.get("CARAT", os.path.join(ROOT, "carat"))
TYPES = "bf16,q8_0,mlx8,q6_k,q5_k_m,q5_1,q5_0,q4_k_m,q4_1,iq4_nl,q4_0,mlx4,q3_k_m"


def carat(*args):
    r = subprocess.run([CARAT] + [str(a) for a in args] + ["--json", "-q"], capture_output=True, text=True)
    if r.returncode != 0:
        raise RuntimeError((r.stderr or "carat ended with status %d" % r.returncode).strip().replace("carat: ", ""))
    return json.loads(r.stdout)


def size_of(path):
    if os.path.isdir(path):
        return sum(os.path.getsize(os.path.join(path, n)) for n in os.listdir(path) if n.endswith(".safetensors"))
    return os.path.getsize(path)


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)


def measure(kind, base, out, a):
    row = {"type": kind}
    if kind != "bf16":
        more = ["--imatrix", a.imatrix] if a.imatrix else []
        row.update(convert=carat("convert", base, out, "--type", kind, "--force", *a.threads, *more))
    row["bytes"] = size_of(out)
    row["bits_per_weight"] = row["convert"]["bits_per_weight"] if kind != "bf16" else 16.0
    text = ["-f", a.f] if a.f else []
    chunks = ["--chunks", a.chunks] if a.chunks else []
    row.update(carat("eval", "kl", "--base", base, out, *text, *chunks, *a.threads))
    row["memory"] = carat("inspect", out, "--memory", "-c", 2048)["memory"]["total"]
    for run in carat("bench", out, "--pp", 512, "--tg", 128, "--repeats", a.repeats, *a.threads)["runs"]:
        row[run["test"]] = run["tok_s"]
    return row


def cells(row):
    if "failed" in row:
        return [row["type"], row["failed"]] + [""] * 7
    return [row["type"], "%.2f" % row["bits_per_weight"], "%.0f" % (row["bytes"] / 1e6), "%.0f" % (row["memory"] / 1e6),
            "%.3f" % row["ppl"], "%.2e" % row["kl_mean"], "%.2f" % (100 * row["top1_agree"]), "%.1f" % row["tg128"],
            "%.0f" % row["pp512"]]


def table(rows, notes):
    head = ["type", "bits/weight", "file, MB", "memory at 2048, MB", "perplexity", "KL, nats", "same first choice, %", "tg128, tok/s",
            "pp512, tok/s"]
    lines = ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head)] + [cells(r) for r in rows]]
    return "\n".join(lines) + "\n" + "".join("\n%s\n" % n for n in notes)


def main():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-m", default=os.environ.get("CARAT_MODEL") or os.path.join(cache, "carat", "gemma-3-270m-q4_k_m.gguf"))
    p.add_argument("-f")
    p.add_argument("-t")
    p.add_argument("-o")
    p.add_argument("--json")
    p.add_argument("--work")
    p.add_argument("--imatrix")
    p.add_argument("--types", default=TYPES)
    p.add_argument("--chunks", type=int)
    p.add_argument("--repeats", type=int, default=3)
    a = p.parse_args()
    a.threads = ["-t", a.t] if a.t else []
    work = a.work or tempfile.mkdtemp(prefix="carat-types-")
    os.makedirs(work, exist_ok=True)
    rows, notes = [], []
    try:
        kinds = sorted({t["type"] for t in carat("inspect", a.m)["tensors"] if len(t["shape"]) > 1})
        quantized = [k for k in kinds if k not in ("f32", "f16", "bf16")]
        if quantized:
            notes.append("The 16-bit weights are those of a quantized file (%s) decoded: the losses are understated." % ", ".join(quantized))
        base = os.path.join(work, "bf16.gguf")
        carat("convert", a.m, base, "--type", "bf16", "--force", *a.threads)
        for kind in [k for k in a.types.split(",") if k]:
            out = base if kind == "bf16" else os.path.join(work, kind + ("" if kind.startswith("mlx") else ".gguf"))
            try:
                rows.append(measure(kind, base, out, a))
            except RuntimeError as e:
                rows.append({"type": kind, "failed": str(e)})
            if kind != "bf16":
                remove(out)
            print(" | ".join(cells(rows[-1])), file=sys.stderr, flush=True)
    finally:
        if a.work is None:
            shutil.rmtree(work, ignore_errors=True)
    text = table(rows, notes)
    print(text, end="")
    for path, data in ((a.o, text), (a.json, json.dumps({"model": a.m, "rows": rows, "notes": notes}, indent=1) + "\n")):
        if path:
            with open(path, "w", encoding="utf-8") as f:
                f.write(data)
    return 1 if any("failed" in r for r in rows) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, OSError) as e:
        sys.exit("types_table.py: %s" % e)
