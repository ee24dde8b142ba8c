#!/bin/sh
# Whether others read what carat writes: files of `carat convert` opened by llama.cpp, mlx-lm and transformers, the same greedy text
# asked of both sides; and the types of mixtures, tensor by tensor, against llama.cpp's own quantizer.
#
#   scripts/check_convert.sh [-m MODEL] [-t THREADS] [-n TOKENS] [--work FOLDER] [--types q8_0,q4_k_m,...] [--skip llama,mlx,hf]
#
# Each peer lives in a Python environment of its own: llama-cpp-python in $CARAT_PEERS_VENV (else build/peers, which `scripts/deps
# peers` makes), mlx-lm and mlx-cpu in $CARAT_MLX_VENV, transformers with torch in $CARAT_TF_VENV. Who is not there is left out,
# and said so. Prints a line for each comparison; exit status 1 when one fails, 77 when nobody was there to compare with.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
case ${1:-} in
-h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
export CARAT="${CARAT:-$root/carat}"
[ -x "$CARAT" ] || { echo "check_convert.sh: no program at $CARAT: run make first" >&2; exit 2; }
[ -n "${CARAT_PEERS_VENV:-}" ] || CARAT_PEERS_VENV=$root/build/peers
export CARAT_PEERS_VENV
exec python3 -B "$here/peers/convert.py" "$@"
