#!/usr/bin/env python3
"""Holds carat against what independent engines said of the default model: tests/golden/*.json, made by scripts/make_golden.py.

    test_golden.py CARAT [tiny|model]

model (the default): $CARAT_TEST_MODEL, or the default model in the cache; exit status 77 (skipped) when there is none.
tiny: the repository's two fixtures, whole and cut into parts, no download. Standard library only. See the table of tolerances below for why they are so.
"""

import concurrent.futures
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time

import lib_split

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GOLDEN = os.path.join(ROOT, "tests", "golden")
TINY = os.path.join(ROOT, "tests", "fixtures", "tiny")
CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
MODEL = os.environ.get("CARAT_TEST_MODEL") or os.path.join(CACHE, "carat", "gemma-3-270m-q4_k_m.gguf")

# Against the float64 forward of the same file. The golden files hold, for every prompt, how far that forward itself moves when
# it rounds as a path may: "bf16" (matrix inputs and cache, the exact path) and "int8" (one plane in groups of 32, and a bf16
# cache: the prompt path). Two implementations that round equally coarsely differ in which way each number falls, so one prompt
# may well be twice as far off as the simulation of it (SPREAD); over all prompts together such luck averages out (TOGETHER).
# ref rounds nothing but its float32 outputs: 0.02 is the promise (issue: "log-probabilities within 0.02").
REF_TOP = 0.02
SPREAD = (
    3.0  # one prompt: largest difference of the 20, over the largest simulated one of any prompt of that path
)
TOGETHER = 1.5  # all prompts: root mean square difference, over the simulated one
# Greedy text may part from the golden one where the first two choices are this close, and only to the second choice. The exact
# path (decode: KL 1e-4, so about 0.014 per log-probability, and a difference of two of them) allows 0.05; behind an int8 prompt
# (KL 2e-3: 0.063 each) the cache itself is that much off: 0.2.
# The fixture's random weights magnify every rounding about five times more than trained ones do (compare the files).
MARGIN = {"exact": 0.05, "prompt": 0.2, "tiny": 0.3}
REF_SECONDS = 90  # ref is slow on purpose: as many of the short prompts as fit

failures = []


def check(ok, text):
    if not ok:
        failures.append(text)
        print("FAIL: " + text, flush=True)
    return ok


def golden(name):
    with open(os.path.join(GOLDEN, name), encoding="utf-8") as f:
        return json.load(f)


def ask(carat, *args):
    """The JSON document that a command prints; None, and a failure, when it does not."""
    done = subprocess.run([carat, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
    shown = " ".join(a if len(a) < 60 else a[:57] + "..." for a in args)
    if done.returncode != 0:
        check(
            False,
            f"carat {shown}: exit status {done.returncode}: {done.stderr.decode(errors='replace').strip()[-300:]}",
        )
        return None
    try:
        return json.loads(done.stdout.decode("utf-8"))
    except ValueError as e:
        check(False, f"carat {shown}: standard output is not one JSON document ({e}): {done.stdout[:200]!r}")
        return None


def test_ids(carat, model):
    """Every text, as a file of exact bytes, with control pieces as text and as ids."""
    cases = golden("tokenizer.json")["cases"]
    with tempfile.TemporaryDirectory() as folder:

        def one(job):
            number, case, kind = job
            path = os.path.join(folder, f"{number}{kind}.txt")
            with open(path, "wb") as f:
                f.write(case["text"].encode("utf-8"))
            return ask(
                carat,
                "tokenize",
                "-m",
                model,
                "--json",
                "--no-bos",
                *(["--special"] if kind == "special" else []),
                "-f",
                path,
            )

        jobs = [
            (n, c, k)
            for n, c in enumerate(cases)
            for k in ("plain", "special")
            if k == "plain" or c["plain"] != c["special"]
        ]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(one, jobs))
    for (_, case, kind), ids in zip(jobs, answers):
        if ids is not None:
            check(ids == case[kind], f"ids ({kind}) of {case['text']!r}: expected {case[kind]}, found {ids}")
    print(f"tokenize: {len(jobs)} texts")


def log_probs(carat, model, prompt, *options):
    """(largest difference, mean square, difference of nll per id) over the golden 20, or None."""
    ids = " ".join(map(str, prompt["ids"]))
    # More than 20 are asked for: at their end, near-equal ones may change places.
    doc = ask(carat, "logits", "-m", model, "--ids", ids, "--top", "60", "--json", *options)
    if doc is None:
        return None
    top = doc["top"]
    name = f"{prompt['name']} {' '.join(options)}"
    check(all(a[1] >= b[1] for a, b in zip(top, top[1:])), f"{name}: top is not in order")
    check(
        all(math.isfinite(p) and p <= 0 for _, p in top), f"{name}: a log-probability that is none: {top[:3]}"
    )
    found = dict(map(tuple, top))
    missing = [i for i, _ in prompt["top"] if i not in found]
    if not check(not missing, f"{name}: ids {missing} of the golden top 20 are not among carat's {len(top)}"):
        return None
    off = [found[i] - p for i, p in prompt["top"]]
    per_id = abs(doc["nll"] - prompt["nll"]) / max(prompt["n"] - 1, 1)
    return max(map(abs, off)), sum(x * x for x in off) / len(off), per_id


def test_rounded(carat, model, prompts, path, options):
    """A path that rounds, against its simulation: path is "bf16" or "int8"."""
    limit = SPREAD * max(p[path]["top"] for p in prompts)
    # A sum of n - 1 independent errors grows with the root of n - 1: so must the limit of their mean shrink.
    nll_unit = SPREAD * max(p[path]["nll_per_id"] * math.sqrt(p["n"] - 1) for p in prompts)
    results = [(p, log_probs(carat, model, p, *options)) for p in prompts]
    results = [(p, r) for p, r in results if r is not None]
    for p, (worst, _, per_id) in results:
        limit_nll = nll_unit / math.sqrt(max(p["n"] - 1, 1))
        check(
            worst <= limit,
            f"{p['name']} {' '.join(options)}: a log-probability is off by {worst:.4f}, limit {limit:.4f}",
        )
        check(
            per_id <= limit_nll,
            f"{p['name']} {' '.join(options)}: nll per id is off by {per_id:.4f}, limit {limit_nll:.4f}",
        )
    if results:
        rms = math.sqrt(sum(r[1] for _, r in results) / len(results))
        simulated = math.sqrt(sum(p[path]["rms"] ** 2 for p, _ in results) / len(results))
        check(
            rms <= TOGETHER * simulated,
            f"{' '.join(options)}: rms {rms:.4f} over {len(results)} prompts, limit {TOGETHER * simulated:.4f}",
        )
        nll = max(r[2] * math.sqrt(max(p["n"] - 1, 1)) for p, r in results)
        print(
            f"logits {' '.join(options)}: {len(results)} prompts, worst {max(r[0] for _, r in results):.4f} of {limit:.4f}, "
            f"rms {rms:.4f} of {TOGETHER * simulated:.4f}, nll {nll:.4f} of {nll_unit:.4f}"
        )


def test_ref(carat, model, prompts):
    start, done, worst = time.monotonic(), 0, 0.0
    for p in sorted(prompts, key=lambda p: p["n"]):
        if done and time.monotonic() - start > REF_SECONDS:
            break
        r = log_probs(carat, model, p, "-b", "ref", "--kv", "f32")
        if r is not None:
            done, worst = done + 1, max(worst, r[0], r[2])
            check(
                r[0] <= REF_TOP,
                f"{p['name']} -b ref: a log-probability is off by {r[0]:.5f}, limit {REF_TOP}",
            )
            check(r[2] <= REF_TOP, f"{p['name']} -b ref: nll per id is off by {r[2]:.5f}, limit {REF_TOP}")
    print(f"logits -b ref: {done} prompts, worst {worst:.6f} of {REF_TOP}")


def same_until(found, case, margin, name):
    """Checks ids against the golden greedy ones; a parting is forgiven where margin allows. Returns how many agreed."""
    want = case["ids"]
    for i, (a, b) in enumerate(zip(found, want)):
        if a != b:
            lead = case["margin"][i]
            ok = lead <= margin and ("second" not in case or a == case["second"][i] or lead <= margin / 4)
            check(ok, f"{name}: id {i} is {a}, golden {b}, which led by {lead:.4f} (forgiven up to {margin})")
            return i
    check(len(found) == len(want), f"{name}: {len(found)} ids, golden {len(want)}")
    return len(want)


def test_greedy(carat, model):
    for case in golden("greedy.json")["cases"]:
        for path, options in (("prompt", []), ("exact", ["--exact"])):
            doc = ask(
                carat,
                "run",
                "-m",
                model,
                "-b",
                "cpu",
                "--temp",
                "0",
                "-n",
                "64",
                "--json",
                *options,
                case["prompt"],
            )
            if doc is None:
                continue
            name = f"greedy {case['name']} {' '.join(options)}".rstrip()
            check(
                doc["prompt_tokens"] == len(case["prompt_ids"]),
                f"{name}: {doc['prompt_tokens']} prompt tokens, expected {len(case['prompt_ids'])}",
            )
            found = list(doc["ids"])
            want = list(case["ids"])
            if doc["stop"] == "end" and want and want[-1] in (1, 106) and found and found[-1] not in (1, 106):
                case = dict(
                    case, ids=want[:-1]
                )  # whether the end token itself is listed is a matter of taste
            agreed = same_until(found, case, MARGIN[path], name)
            if agreed == len(case["ids"]) == len(found):
                check(doc["text"] == case["text"], f"{name}: text {doc['text']!r}, golden {case['text']!r}")
            print(f"{name}: {agreed} of {len(case['ids'])} ids alike")


def test_tiny(carat, name):
    model = os.path.join(TINY, name + ".gguf")
    doc = golden(name + ".json")
    with open(model, "rb") as f:
        same = hashlib.sha256(f.read()).hexdigest() == doc["model_sha256"]
    if not check(same, f"tests/golden/{name}.json is of another fixture: run scripts/make_golden.py {name}"):
        return
    prompts = doc["prompts"]
    test_ref(carat, model, prompts)
    test_rounded(carat, model, prompts, "int8", ["-b", "cpu"])
    test_rounded(carat, model, prompts, "bf16", ["-b", "cpu", "--exact"])
    for number, case in enumerate(doc["greedy"]):
        for backend, margin in (("ref", 0.005), ("cpu", MARGIN["tiny"])):
            ids = " ".join(map(str, case["prompt_ids"]))
            answer = ask(
                carat,
                "run",
                "-m",
                model,
                "-b",
                backend,
                "--temp",
                "0",
                "-n",
                str(len(case["ids"])),
                "--ignore-eos",
                "--exact",
                "--kv",
                "f32" if backend == "ref" else "bf16",
                "--json",
                "--ids",
                ids,
            )
            if answer is not None:
                agreed = same_until(answer["ids"], case, margin, f"{name} greedy {number} -b {backend}")
                print(f"{name} greedy {number} -b {backend}: {agreed} of {len(case['ids'])} ids alike")


def test_split(carat, name):
    """The same model in parts gives the same numbers, all of them; a later part, or too few parts, a sentence."""
    whole = os.path.join(TINY, name + ".gguf")
    ids = " ".join(map(str, golden(name + ".json")["prompts"][-1]["ids"]))
    want = ask(carat, "logits", "-m", whole, "--ids", ids, "--top", "661", "--json")
    for parts, empty_first in ((2, False), (5, False), (3, True)):
        with tempfile.TemporaryDirectory() as folder:
            paths = lib_split.split(whole, folder, parts, empty_first)
            found = ask(carat, "logits", "-m", paths[0], "--ids", ids, "--top", "661", "--json")
            if want is not None and found is not None:
                for key in ("top", "nll"):
                    check(found[key] == want[key], f"{name} in {parts} parts: {key} is not that of the whole file")
            for path, words in ((paths[1], "expected the first part"), (paths[0], f"part {parts} beside it")):
                done = subprocess.run(
                    [carat, "logits", "-m", path, "--ids", ids], stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
                text = done.stderr.decode(errors="replace")
                check(
                    done.returncode == 3 and words in text,
                    f"{os.path.basename(path)}: exit status {done.returncode}, expected 3 and '{words}' in: {text}",
                )
                if path == paths[1]:
                    os.remove(paths[-1])  # now the first part misses one
    print(f"{name}: split in 2, 5 and 3 parts")


def main():
    if len(sys.argv) < 2 or (len(sys.argv) > 2 and sys.argv[2] not in ("tiny", "model")):
        print(__doc__)
        return 2
    carat = os.path.abspath(sys.argv[1])
    if len(sys.argv) > 2 and sys.argv[2] == "tiny":
        for name in ("tiny", "tiny-types"):
            test_tiny(carat, name)
            test_split(carat, name)
    else:
        if not os.path.isfile(MODEL):
            print(
                f"skipped: no model at {MODEL} (make bench fetches it; CARAT_TEST_MODEL names another place)"
            )
            return 77
        size = os.path.getsize(MODEL)
        if size != 253113024:
            print(f"skipped: {MODEL} has {size} bytes; the golden files are of one that has 253113024")
            return 77
        prompts = golden("logits.json")["prompts"]
        test_ids(carat, MODEL)
        test_rounded(carat, MODEL, prompts, "int8", ["-b", "cpu"])
        test_rounded(carat, MODEL, prompts, "bf16", ["-b", "cpu", "--exact"])
        test_greedy(carat, MODEL)
        test_ref(carat, MODEL, [p for p in prompts if p["n"] <= 20])
    print(f"{len(failures)} failures" if failures else "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
