#!/usr/bin/env bash
# Decode speed on an NVIDIA card, at the real shapes of Gemma 3 with random weights: one table, every figure beside what the card was
# measured to read in the same run. Prints JSON lines; needs `make cuda`.
#
#   scripts/measure_cuda.sh [quick] >bench/DATE-CARD.json
set -u
carat=${CARAT:-./carat}
[ -x "$carat" ] || { echo "measure_cuda: no program $carat: make cuda builds it" >&2; exit 1; }
"$carat" check -b cuda --quick >&2 || { echo "measure_cuda: the check fails: no figures" >&2; exit 1; }
run() { # MODEL OPTIONS...
    local model=$1
    shift
    "$carat" bench "synthetic:$model" -b cuda --repeats 5 --json "$@" || echo "{\"model\": \"$model\", \"status\": \"failed\"}"
}
run 270m:q8_0 --tg 128
run 1b:bf16 --tg 128
run 1b:q8_0 --tg 128
run 12b:q4_0 --tg 64 --batch 1,8,64
run 12b:q4_k_m --tg 64 --batch 1,8,64
[ "${1:-}" = quick ] && exit
run 12b:q8_0 --tg 64
run 12b:bf16 --tg 64 --batch 1,8,32,64
