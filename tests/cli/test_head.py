#!/usr/bin/env python3
"""The screened head on the default model: the same tokens as the full one's, however they are chosen, and fewer rows read.
Skipped where the default model is not there.

    test_head.py PROGRAM
"""
import json
import os
import subprocess
import sys

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath("carat")
CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
MODEL = os.path.join(CACHE, "carat", "gemma-3-270m-q4_k_m.gguf")
VOCAB = 262144

# options, share of the vocabulary that may be scored: what hangs on all logits gets all of them
CASES = [
    (["--temp", "0"], 0.2),
    (["--temp", "1", "--seed", "7"], 0.3),
    (["--temp", "1", "--seed", "7", "--top-k", "300", "--top-p", "1"], 0.5),
    (["--temp", "0", "--repeat-penalty", "1.3", "--presence-penalty", "0.5", "--logit-bias", "9999:30"], 0.3),
    (["--temp", "1.5", "--seed", "7", "--top-k", "0", "--top-p", "0.9"], 1.0),
]


def run(head, options):
    args = [PROGRAM, "run", "-m", MODEL, "--raw", "--ignore-eos", "-n", "48", "--json", "--head", head] + options
    args.append("The history of the city of Rome begins")
    return json.loads(subprocess.run(args, check=True, capture_output=True, timeout=300).stdout)


def main():
    if not os.path.exists(MODEL):
        print("skipped: no default model")
        return 77
    for options, most in CASES:
        full, screened = run("full", options), run("screened", options)
        assert full["ids"] == screened["ids"], (options, full["text"], screened["text"])
        assert full["head_rows"] == VOCAB, full["head_rows"]
        assert screened["head_rows"] <= most * VOCAB, (options, screened["head_rows"])
        assert most == 1.0 or screened["head_rows"] >= 64, screened["head_rows"]
    print("%d ways of choosing: the same tokens" % len(CASES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
