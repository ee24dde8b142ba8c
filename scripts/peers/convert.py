"""What check_convert.sh does: converts with carat, asks peers to open what came out, compares.

Standard library only; the peers run in environments of their own, by llama_worker.py and convert_worker.py.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CARAT = os.environ["CARAT"]
PROMPTS = ["The capital of France is", "Once upon a time", "def fibonacci(n):"]
# llama.cpp's numbers of the mixtures: llama.h, enum llama_ftype
FTYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13,
          "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30}


def run(*args, **kw):
    r = subprocess.run([str(a) for a in args], capture_output=True, text=True, **kw)
    if r.returncode != 0:
        raise RuntimeError("%s: %s" % (" ".join(str(a) for a in args[:4]), (r.stderr or r.stdout)[-400:].strip()))
    return r.stdout


def carat(*args):
    return run(CARAT, *args)


def environment(variable, module):
    """The Python of a peer's environment, or None."""
    python = os.path.join(os.environ.get(variable, ""), "bin", "python")
    if not os.path.exists(python):
        return None
    return python if subprocess.run([python, "-c", "import " + module], capture_output=True).returncode == 0 else None


class Check:
    def __init__(self, args):
        self.args, self.failed, self.done = args, 0, 0
        self.ids = [json.loads(carat("tokenize", "--json", "-m", args.m, p)) for p in PROMPTS]

    def line(self, ok, what, says):
        self.done += 1
        self.failed += not ok
        print("%-6s %-28s %s" % ("ok" if ok else "FAILED", what, says), flush=True)

    def path(self, name):
        return os.path.join(self.args.work, name)

    def convert(self, source, name, kind, *more):
        out = self.path(name)
        if os.path.isdir(out):
            shutil.rmtree(out)
        return out, json.loads(carat("convert", source, out, "--type", kind, "--json", "--force", "-q", "-t", self.args.t, *more))

    def greedy(self, model, ids):
        text = carat("run", "-m", model, "--ids", " ".join(map(str, ids)), "--raw", "--temp", "0", "-n", self.args.n, "--ignore-eos",
                     "--exact", "--json", "-q", "-t", self.args.t)
        return json.loads(text)["ids"]

    def compare(self, what, model, peer):
        """peer(ids) gives [[id, margin to the second choice]...]. The texts must be the same, or part at a tie."""
        same, words = 0, []
        for ids in self.ids:
            ours, theirs = self.greedy(model, ids), peer(ids)
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b[0]), None)
            same += at is None or theirs[at][1] < self.args.tie
            words.append("same %d tokens" % len(ours) if at is None
                         else "parts at token %d, where the first two choices are %.3f nats apart" % (at + 1, theirs[at][1]))
        self.line(same == len(self.ids), what, "; ".join(words))

    def types(self, path):
        tensors = json.loads(carat("inspect", path, "--json"))["tensors"]
        return {t["name"]: (t["type"], tuple(t["shape"] if "shape" in t else t["ne"])) for t in tensors}


def worker(python, what, path, ids, args):
    out = run(python, os.path.join(HERE, "convert_worker.py"), what, path, json.dumps(ids), args.n, args.t)
    return json.loads(out.strip().split("\n")[-1])


def llama_greedy(python, path, prompts, args):
    asked = "".join(json.dumps({"do": "greedy", "ids": ids, "n": int(args.n)}) + "\n" for ids in prompts)
    out = run(python, os.path.join(HERE, "llama_worker.py"), path, args.t, input=asked)
    answers = [json.loads(line) for line in out.split("\n") if line.startswith("{")]
    return {tuple(ids): [[s[0], s[2]] for s in a["steps"]] for ids, a in zip(prompts, [a for a in answers if "steps" in a])}


def check_llama(c, python, bf16):
    for kind in c.args.types:
        ours, _ = c.convert(bf16, "ours-%s.gguf" % kind, kind)
        theirs = c.path("theirs-%s.gguf" % kind)
        if kind in FTYPES:
            run(python, os.path.join(HERE, "convert_worker.py"), "quantize", bf16, theirs, FTYPES[kind], c.args.t)
            a, b = c.types(ours), c.types(theirs)
            wrong = [n for n in sorted(set(a) | set(b)) if a.get(n) != b.get(n)]
            c.line(not wrong, kind + " types", "%d tensors as llama.cpp has them" % len(a) if not wrong else
                   "%d differ, first %s: %s, llama.cpp %s" % (len(wrong), wrong[0], a.get(wrong[0]), b.get(wrong[0])))
            os.remove(theirs)
        answers = llama_greedy(python, ours, c.ids, c.args)
        c.compare(kind + " in llama.cpp", ours, lambda ids: answers[tuple(ids)])
        os.remove(ours)


def check_folder(c, python, what, folder):
    answers = worker(python, what, folder, c.ids, c.args)
    c.compare("%s in %s" % (os.path.basename(folder), what), folder, lambda ids: answers["greedy"][c.ids.index(ids)])
    for ids, theirs in zip(c.ids, answers["ids"]):
        if theirs != ids:
            c.line(False, "tokenizer in " + what, "expected %s, found %s" % (ids, theirs))
            break
    else:
        c.line(True, "tokenizer in " + what, "the same ids of %d texts" % len(c.ids))


def main():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    p = argparse.ArgumentParser()
    p.add_argument("-m", default=os.environ.get("CARAT_MODEL") or os.path.join(cache, "carat", "gemma-3-270m-q4_k_m.gguf"))
    p.add_argument("-t", default="1")
    p.add_argument("-n", default="24")
    p.add_argument("--work")
    p.add_argument("--types", default="bf16,q8_0,q6_k,q5_k_m,q4_k_m,q3_k_m,q4_0")
    p.add_argument("--skip", default="")
    p.add_argument("--tie", type=float, default=0.05, help="choices nearer than this may go either way, in nats")
    args = p.parse_args()
    args.types = [t for t in args.types.split(",") if t]
    own = args.work is None
    args.work = args.work or tempfile.mkdtemp(prefix="carat-check-")
    os.makedirs(args.work, exist_ok=True)
    c = Check(args)
    try:
        bf16, _ = c.convert(args.m, "bf16.gguf", "bf16")
        peers = [("llama", "CARAT_PEERS_VENV", "llama_cpp"), ("mlx", "CARAT_MLX_VENV", "mlx_lm"), ("hf", "CARAT_TF_VENV", "transformers, torch")]
        for name, variable, module in peers:
            python = None if name in args.skip.split(",") else environment(variable, module)
            if python is None:
                print("%-6s %-28s no environment with it at $%s" % ("-", name, variable), flush=True)
            elif name == "llama":
                check_llama(c, python, bf16)
            elif name == "mlx":
                for kind, group in (("mlx4", "64"), ("mlx4", "32"), ("mlx8", "64"), ("mlx8", "32")):
                    folder, _ = c.convert(bf16, "%s-g%s" % (kind, group), kind, "--group", group)
                    check_folder(c, python, "mlx-lm", folder)
                    shutil.rmtree(folder)
            else:
                folder, _ = c.convert(bf16, "hf-bf16", "bf16")
                check_folder(c, python, "transformers", folder)
                shutil.rmtree(folder)
    finally:
        if own:
            shutil.rmtree(args.work, ignore_errors=True)
    print("%d of %d comparisons hold" % (c.done - c.failed, c.done))
    return 77 if c.done == 0 else 1 if c.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as e:
        sys.exit("check_convert: %s" % e)
