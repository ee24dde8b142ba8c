#!/usr/bin/env bash
# What the libraries of this build show of themselves: scripts/check_symbols.py says what is asked of them.
build=${CARAT_BUILD:-build/release}
command -v nm >/dev/null || { echo "skipped: no nm; scripts/deps lint installs it"; exit 77; }
grep -q '^CARAT_SANITIZE:STRING=.' "$build/CMakeCache.txt" && { echo "skipped: sanitizers add symbols of their own"; exit 77; }
[ -e "$build/libcarat.so" ] || { echo "skipped: no $build/libcarat.so (another kind of system?)"; exit 77; }
exec python3 -B scripts/check_symbols.py "$build"
