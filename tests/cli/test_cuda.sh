#!/usr/bin/env bash
# The CUDA plug-in where there is no card: it compiles (one architecture), loads without a driver and refuses in a sentence, with
# exit status 3 for who asked for it by name and the CPU for who did not. With a card: the quick check. Skipped without nvcc;
# where a plug-in is looked for, and what is refused, is in test_plugin.sh.
set -u
carat=$1
build=${CARAT_BUILD:-build/release}
plugin=$build/libcarat-cuda.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "test_cuda: $*"; exit 1; }

cp "$carat" "$work/carat" || fail "no program to copy"
if [ ! -e "$plugin" ]; then
    nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
    [ -x "$nvcc" ] || { echo "skipped: no nvcc here to build the plug-in with"; exit 77; }
    build=$build/cuda-test
    cmake -S . -B "$build" -DCARAT_CUDA=ON -DCUDA_ARCHS=90a -DCARAT_TESTS=OFF >"$work/log" 2>&1 &&
        cmake --build "$build" --target carat_cuda >>"$work/log" 2>&1 || { tail -20 "$work/log"; fail "the plug-in does not build"; }
    plugin=$build/libcarat-cuda.so
fi
cp "$plugin" "$work/libcarat-cuda.so" || fail "no plug-in to copy"
export CUDA_VISIBLE_DEVICES=
out=$("$work/carat" check -b cuda --quick 2>&1); status=$?
[ $status -eq 3 ] || fail "without a card: expected status 3, found $status"
case $out in *NVIDIA*) ;; *) fail "without a card: $out" ;; esac
out=$("$work/carat" logits -m tests/fixtures/tiny/tiny.gguf --ids "2 5" --top 1 --json 2>&1) || fail "auto without a card: $out"
unset CUDA_VISIBLE_DEVICES
if nvidia-smi -L >/dev/null 2>&1; then
    "$work/carat" check -b cuda --quick || fail "the check fails"
fi
