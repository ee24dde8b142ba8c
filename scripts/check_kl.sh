#!/bin/sh
# The accuracy that carat promises, measured on the default model with carat itself: perplexity of the cpu against exact
# arithmetic's, and the cpu's distributions against ref's, for prompt and decode rows.
#
#   scripts/check_kl.sh [-m MODEL] [-f wiki.test.raw] [-t THREADS] [--chunks 2] [--ppl-chunks 40] [--skip-ppl] [--skip-kl]
#
# Prints a table with the budgets; exit status 1 when one is missed. ref is slow on purpose: two chunks take minutes.
# The perplexity budget holds for the default model, -c 512 and 40 chunks alone: with other chunks it is shown, not judged.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

die() { printf 'check_kl.sh: %s\n' "$*" >&2; exit 2; }

carat=${CARAT:-$root/carat}
model=${CARAT_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/carat/gemma-3-270m-q4_k_m.gguf}
text=$root/../shared/data/wikitext-2/wiki.test.raw
threads=
chunks=2
ppl_chunks=40
ppl=yes
kl=yes
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --skip-ppl) ppl=; shift; continue ;;
    --skip-kl) kl=; shift; continue ;;
    -m | -f | -t | --chunks | --ppl-chunks) [ $# -gt 1 ] || die "$1 wants a value" ;;
    *) die "unknown argument '$1' (see --help)" ;;
    esac
    case $1 in
    -m) model=$2 ;;
    -f) text=$2 ;;
    -t) threads=$2 ;;
    --chunks) chunks=$2 ;;
    --ppl-chunks) ppl_chunks=$2 ;;
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
if [ -n "$ppl" ]; then
    run eval perplexity "$model" -f "$text" -c 512 --chunks "$ppl_chunks" >"$work/perplexity" || die "carat eval perplexity failed"
    run eval perplexity "$model" -f "$text" -c 512 --chunks "$ppl_chunks" --exact >"$work/perplexity_exact" ||
        die "carat eval perplexity --exact failed"
fi
if [ -n "$kl" ]; then
    for path in prompt decode; do
        run eval kl --base "$model" --base-backend ref "$model" -f "$text" -c 512 --chunks "$chunks" --path $path >"$work/$path" ||
            die "carat eval kl --path $path failed"
    done
fi
python3 - "$work" "$ppl_chunks" "$(wc -c <"$model")" <<'PYTHON'
import json
import os
import sys

folder, ppl_chunks, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
missed = 0
print("| what | found | budget | |\n| --- | ---: | ---: | --- |")


def row(what, found, budget, ok):
    global missed
    missed += ok is False
    print(f"| {what} | {found} | {budget} | {'' if ok is None else 'ok' if ok else 'MISSED'} |")


def load(name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return None
    with open(path) as f:
        return json.load(f)


# Exact arithmetic (double precision, weights as the file has them) gives 17.13 on the default model's first 40 chunks.
judged = ppl_chunks == 40 and size == 253113024
for name, what in (("perplexity", "perplexity"), ("perplexity_exact", "perplexity, --exact")):
    doc = load(name)
    if doc:
        off = doc["ppl"] / 17.13 - 1
        row(f"{what} ({doc['tokens']} tokens)", f"{doc['ppl']:.4f} ({off:+.2%})", "17.13 +- 0.4 %", abs(off) <= 0.004 if judged else None)
for name, kl, top1 in (("prompt", 2e-3, 0.965), ("decode", 1e-4, 0.99)):
    doc = load(name)
    if doc:
        row(f"KL to ref, {name} ({doc['tokens']} tokens)", f"{doc['kl_mean']:.3g} (p99 {doc['kl_p99']:.3g})", f"{kl:.0e}", doc["kl_mean"] <= kl)
        row(f"same first choice, {name}", f"{doc['top1_agree']:.2%}", f"> {top1:.1%}", doc["top1_agree"] > top1)
sys.exit(1 if missed else 0)
PYTHON
