#!/bin/sh
# That the screened head is harmless, and what it saves, on the default model with carat itself: the 64 likeliest tokens at ten
# thousand positions of text, greedy and sampled text beside the full head's, and decode of the two in turns.
#
#   scripts/check_head.sh [-m MODEL] [-f wiki.test.raw] [-t THREADS] [--chunks 40] [--pairs 9] [--tokens 200]
#
# Prints a table; exit status 1 where a token differs. --pairs 0 leaves the speed out. About five minutes on two cores.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

die() { printf 'check_head.sh: %s\n' "$*" >&2; exit 2; }

carat=${CARAT:-$root/carat}
model=${CARAT_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/carat/gemma-3-270m-q4_k_m.gguf}
text=$root/../shared/data/wikitext-2/wiki.test.raw
threads=
chunks=40
pairs=9
tokens=200
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -m | -f | -t | --chunks | --pairs | --tokens) [ $# -gt 1 ] || die "$1 wants a value" ;;
    *) die "unknown argument '$1' (see --help)" ;;
    esac
    case $1 in
    -m) model=$2 ;;
    -f) text=$2 ;;
    -t) threads=$2 ;;
    --chunks) chunks=$2 ;;
    --pairs) pairs=$2 ;;
    --tokens) tokens=$2 ;;
    esac
    shift 2
done
[ -x "$carat" ] || die "no program at $carat: run make first"
[ -f "$model" ] || die "no model at $model: make bench fetches the default one, -m names another"
[ -f "$text" ] || die "no text at $text: -f names wiki.test.raw of WikiText-2"

# Words given to every command, so that -t may be absent.
run() { "$carat" "$@" -b cpu ${threads:+-t "$threads"} --json; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
run eval kl --base "$model" "$model" -f "$text" -c 512 --chunks "$chunks" --exact --head screened >"$work/kl" || die "carat eval kl failed"
n=0
for prompt in "The history of the city" "Once upon a time" "def fibonacci(n):" "Die Hauptstadt von Frankreich"; do
    for how in "--temp 0" "--temp 1 --seed 11" "--temp 1 --seed 12 --repeat-penalty 1.2"; do
        n=$((n + 1))
        for head in full screened; do # $how is words
            # shellcheck disable=SC2086
            run run -m "$model" --raw --ignore-eos -n "$tokens" $how --head $head "$prompt" >"$work/text$n.$head" || die "carat run failed"
        done
    done
done
i=0
while [ "$i" -lt "$pairs" ]; do
    i=$((i + 1))
    for head in full screened; do
        run bench -m "$model" --tg 64 --repeats 3 --head $head >"$work/speed$i.$head" || die "carat bench failed"
    done
done
python3 - "$work" "$n" "$pairs" <<'PYTHON'
import json
import os
import statistics
import sys

folder, texts, pairs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
missed = 0
print("| what | found | asked | |\n| --- | ---: | ---: | --- |")


def row(what, found, asked="", ok=None):
    global missed
    missed += ok is False
    print(f"| {what} | {found} | {asked} | {'' if ok is None else 'ok' if ok else 'MISSED'} |")


def load(name):
    with open(os.path.join(folder, name)) as f:
        return json.load(f)


kl = load("kl")
row(f"the same 64, in order ({kl['tokens']} positions)", f"{kl['top64_agree']:.2%}", "100 %", kl["top64_agree"] == 1)
row("rows scored", f"{kl['head_rows']:.0f}")
row("KL of all logits, scored or not", f"{kl['kl_mean']:.2e} (p99 {kl['kl_p99']:.1e})", "(1e-4 for a default)")
docs = [[load(f"text{i}.{head}") for head in ("full", "screened")] for i in range(1, texts + 1)]
same = sum(a["ids"] == b["ids"] for a, b in docs)
row(f"texts of {len(docs[0][0]['ids'])} tokens that are the same", f"{same} of {texts}", f"{texts}", same == texts)
if pairs:
    speed = {h: [statistics.median(load(f"speed{i}.{h}")["runs"][0]["samples"]) for i in range(1, pairs + 1)] for h in ("full", "screened")}
    for head, v in speed.items():
        row(f"decode, {head}, tok/s (medians of three: {min(v):.0f} to {max(v):.0f})", f"{statistics.median(v):.1f}")
    ratio = [b / a for a, b in zip(speed["full"], speed["screened"])]
    row(f"screened / full in pairs ({min(ratio):.2f} to {max(ratio):.2f})", f"{statistics.median(ratio):.2f}", "1.3")
sys.exit(1 if missed else 0)
PYTHON
