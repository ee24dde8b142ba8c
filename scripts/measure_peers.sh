#!/bin/sh
# Measures carat and llama.cpp, in turn, on the same files: decode, prompts, batches, time to first token and memory of the
# default model; decode and prompts at 1B and 12B. About ten minutes on a quiet machine with two cores.
#
#   scripts/measure_peers.sh [-m MODEL] [-t THREADS] [-r REPEATS] [--large-repeats N] [-o RECORD.json] [--alone]
#       [--cases decode,pp512,...] [--skip 12b,12b-pp64,12b-k] [--perplexity WIKI.test.raw] [--patience S]
#
# The cases are listed by --cases help. Those at 1B and 12B need files of noise in the real shapes (0.6, 6.6 and 7.3 GB), which
# are written once to $CARAT_PEERS_MODELS or ~/.cache/carat/peers-models; 12B needs 16 GB of memory.
# llama.cpp is llama-cpp-python from PyPI, compiled for this machine (GGML_NATIVE) in a virtual environment of its own:
# $CARAT_PEERS_VENV where that is set, else build/peers if `scripts/deps peers` made it, else ~/.cache/carat/peers, made now
# (some minutes, once; needs python3 with venv, a C++ compiler). --alone measures llama.cpp without ours.
# Samples that other processes disturb are taken again, for at most --patience seconds in all.
# The record goes to bench/YEAR-MONTH-CPU.json unless -o says otherwise.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/carat
package=${CARAT_PEERS_PACKAGE:-llama-cpp-python==0.3.36}

die() { printf 'measure_peers.sh: %s\n' "$*" >&2; exit 1; }

model=${CARAT_MODEL:-$cache/gemma-3-270m-q4_k_m.gguf}
carat=${CARAT:-$root/carat}
threads=2
repeats=7
output=
perplexity=
chunks=40
patience=90
large_repeats=3
cases=
skip=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --alone) carat=; shift; continue ;;
    -m | -t | -r | -o | --perplexity | --chunks | --patience | --cases | --skip | --large-repeats) [ $# -gt 1 ] || die "$1 wants a value" ;;
    *) die "unknown argument '$1' (see --help)" ;;
    esac
    case $1 in
    -m) model=$2 ;;
    -t) threads=$2 ;;
    -r) repeats=$2 ;;
    -o) output=$2 ;;
    --perplexity) perplexity=$2 ;;
    --chunks) chunks=$2 ;;
    --patience) patience=$2 ;;
    --cases) cases=$2 ;;
    --skip) skip=$2 ;;
    --large-repeats) large_repeats=$2 ;;
    esac
    shift 2
done
[ -f "$model" ] || die "no model at $model: make bench fetches the default one, -m names another"
[ -z "$carat" ] || [ -x "$carat" ] || die "no program at $carat: run make first, or give --alone"

venv=${CARAT_PEERS_VENV:-}
if [ -z "$venv" ]; then
    venv=$cache/peers
    if [ -x "$root/build/peers/bin/python" ] && "$root/build/peers/bin/python" -c 'import llama_cpp' 2>/dev/null; then
        venv=$root/build/peers
    fi
fi
if ! "$venv/bin/python" -c 'import llama_cpp, numpy' 2>/dev/null; then
    echo "measure_peers.sh: building $package in $venv (some minutes, once)" >&2
    mkdir -p "$venv"
    python3 -m venv "$venv" || die "python3 cannot make a virtual environment in $venv (Debian: python3-venv)"
    source_dir=$(mktemp -d)
    trap 'rm -rf "$source_dir"' EXIT INT TERM
    "$venv/bin/pip" install -q numpy >&2 || die "cannot install numpy"
    "$venv/bin/pip" download -q --no-deps --no-binary llama-cpp-python -d "$source_dir" "$package" >&2 ||
        die "cannot download $package"
    tar -xzf "$source_dir"/llama_cpp_python-*.tar.gz -C "$source_dir" || die "cannot unpack $package"
    # Files dated after this machine's clock make ninja configure forever.
    find "$source_dir" -exec touch -h -d 2020-01-01 {} +
    CMAKE_ARGS="${CMAKE_ARGS:--DGGML_NATIVE=ON -DLLAVA_BUILD=OFF}" \
        "$venv/bin/pip" install -q "$source_dir"/llama_cpp_python-*/ >&2 || die "building $package failed"
fi

if [ -z "$output" ]; then
    cpu=$(awk -F': *' '/^model name/ && !n { n = $2 } /^cpu family/ && !f { f = " f" $2 } /^model\t/ && !m { m = "m" $2 }
        END { print n f m }' /proc/cpuinfo 2>/dev/null | tr '[:upper:]' '[:lower:]' | tr -cs '[:alnum:]\n' '-')
    mkdir -p "$root/bench"
    output=$root/bench/$(date +%Y-%m)-${cpu:-$(uname -m)}.json
fi
set -- --python "$venv/bin/python" --model "$model" --threads "$threads" --repeats "$repeats" --output "$output" --patience "$patience" \
    --models "${CARAT_PEERS_MODELS:-$cache/peers-models}" --large-repeats "$large_repeats" --skip "$skip"
[ -z "$cases" ] || set -- "$@" --cases "$cases"
[ -z "$carat" ] || set -- "$@" --carat "$carat"
[ -z "$perplexity" ] || set -- "$@" --perplexity "$perplexity" --chunks "$chunks"
exec python3 "$here/peers/measure.py" "$@"
