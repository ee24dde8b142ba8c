#!/usr/bin/env bash
# Where the program looks for its plug-in: beside itself, wherever it is called from and by whatever name, and never in the folder
# somebody happens to work in, which may be somebody else's with a model in it. What is no plug-in of this build is refused in a
# sentence: status 3 for who asked for it by name, the CPU for who did not.
set -u
carat=$(realpath "$1")
tiny=$PWD/tests/fixtures/tiny/tiny.gguf
cc=${CC:-cc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "test_plugin: $*"; exit 1; }
mkdir -p "$work/bin" "$work/models" "$work/other/bin" "$work/lib/carat"
cp "$carat" "$work/bin/carat" || fail "no program to copy"
ln -s ../bin/carat "$work/other/carat"

# refuses WORDS COMMAND...: status 3 and one line with the words in it
refuses() {
    local words=$1 out status
    shift
    out=$("$@" check -b cuda --quick 2>&1)
    status=$?
    [ $status -eq 3 ] || fail "$*: expected status 3, found $status: $out"
    [ "$(wc -l <<<"$out")" -eq 1 ] || fail "$*: expected one line, found $out"
    case $out in *"$words"*) ;; *) fail "$*: expected '$words', found $out" ;; esac
}
called() { (cd "$work/models" && exec -a carat "$work/bin/carat" "$@"); } # as a shell that found it on its PATH may call it

refuses "no CUDA plug-in" "$work/bin/carat"
refuses "no CUDA plug-in" called
for place in models other .; do # where people work, where a link lies, one folder up: not beside the program
    printf 'no library' >"$work/$place/libcarat-cuda.so"
done
refuses "no CUDA plug-in" called
cd "$work/models" || exit 1
refuses "no CUDA plug-in" "$work/bin/carat"
refuses "no CUDA plug-in" ../bin/carat
refuses "no CUDA plug-in" "$work/other/carat"
PATH=$work/bin:$PATH refuses "no CUDA plug-in" carat

printf 'no library' >"$work/lib/carat/libcarat-cuda.so"
refuses "lib/carat/libcarat-cuda.so' could not be loaded" called
printf 'no library' >"$work/bin/libcarat-cuda.so" # nearer
for name in "$work/bin/carat" ../bin/carat "$work/other/carat" called; do
    refuses "bin/libcarat-cuda.so' could not be loaded" "$name"
done
out=$(called logits -m "$tiny" --ids "2 5" --top 1 --json 2>&1) || fail "auto with a damaged plug-in: $out"

if echo 'const char carat_cuda_plugin[4096] = "of another build";' >"$work/p.c" && $cc -shared -fPIC "$work/p.c" -o "$work/p.so" 2>/dev/null; then
    mv "$work/p.so" "$work/bin/libcarat-cuda.so"
    refuses "of another carat" called
    echo 'int nothing;' >"$work/p.c" && $cc -shared -fPIC "$work/p.c" -o "$work/bin/libcarat-cuda.so" || fail "$cc"
    refuses "of another carat" called
    out=$(called logits -m "$tiny" --ids "2 5" --top 1 --json 2>&1) || fail "auto with another's plug-in: $out"
else
    echo "not checked: plug-ins of other builds (no compiler)"
fi
echo "test_plugin: all passed"
