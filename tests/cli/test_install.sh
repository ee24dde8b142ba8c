#!/usr/bin/env bash
# The installed copy, as somebody else's project meets it: the headers alone in C99 to C++17, the examples built through
# pkg-config and find_package, shared and static, and through ctypes. All of them must write what `carat run` writes.
set -euo pipefail
carat=$1
build=${CARAT_BUILD:-build/release}
cmake=${CARAT_CMAKE:-cmake}
cc=${CC:-$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$build/CMakeCache.txt")}
sanitize=$(sed -n 's/^CARAT_SANITIZE:STRING=//p' "$build/CMakeCache.txt")
flags=(-Wall -Wextra -Wpedantic -Werror)
[ -z "$sanitize" ] || flags+=("-fsanitize=$sanitize")
case $(uname -s) in Darwin) so=dylib search=DYLD_LIBRARY_PATH ;; *) so=so search=LD_LIBRARY_PATH ;; esac

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
fail() { echo "test_install: $*" >&2; exit 1; }
same() { [ "$2" = "$3" ] || fail "$1: expected '$2', found '$3'"; }

# ---- DESTDIR: everything under the prefix inside it, and the copy works wherever it is moved to ----
DESTDIR=$tmp/stage "$cmake" --install "$build" --prefix /opt/somewhere >"$tmp/install.log"
same "paths under DESTDIR" "$tmp/stage/opt/somewhere" "$(find "$tmp/stage" -mindepth 2 -maxdepth 2)"
root="$tmp/a place"
mv "$tmp/stage/opt/somewhere" "$root"
lib=$(dirname "$(find "$root" -name libcarat.a)")
for path in bin/carat include/carat.h include/carat_jobs.h share/doc/carat/examples/generate.c; do
    [ -e "$root/$path" ] || fail "$path was not installed"
done
if grep -rIl "$PWD" "$root/include" "$lib/cmake" "$lib/pkgconfig"; then
    fail "these name the folder carat was built in"
fi

# ---- one version everywhere, and the soname that goes with it ----
version=$(sed -n 's/^#define CARAT_VERSION "\(.*\)"/\1/p' include/carat.h)
same "carat --version" "carat $version" "$("$root/bin/carat" --version | head -n 1)"
if command -v readelf >/dev/null; then
    dynamic=$(readelf -d "$lib/libcarat.so")
    same soname "libcarat.so.${version%.*}" "$(sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p' <<<"$dynamic")"
    [ -e "$lib/libcarat.so.${version%.*}" ] || fail "no file has the library's soname"
    strange=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic" |
        grep -Ev '^(libc|libm|libpthread|libdl|ld-linux.*)\.so' || true)
    [ -n "$sanitize" ] || same "libraries needed besides libc" "" "$strange"
else
    echo "not checked: the soname (no readelf)"
fi

# ---- each header alone; then a program in each language ----
run_example() { # NAME PROGRAM...: must write what carat does
    same "$1" "$want" "$(env "$search=$lib" "${@:2}" tests/fixtures/tiny/tiny.gguf "one two" 16 0 | od -An -c)"
}
want=$("$carat" run tests/fixtures/tiny/tiny.gguf "one two" -n 16 --temp 0 | od -An -c)
[ "$(wc -w <<<"$want")" -gt 8 ] || fail "carat run wrote too little to compare with: $want"
cxx=()
for compiler in g++ clang++; do
    echo 'int main() { return 0; }' >"$tmp/x.cc"
    if $compiler "$tmp/x.cc" -o "$tmp/x" 2>/dev/null; then cxx+=("$compiler"); fi
done
[ ${#cxx[@]} -gt 0 ] || echo "not checked: C++ (no compiler; scripts/deps test installs one)"
cxx11=(${cxx[@]+"${cxx[@]/%/ -x c++ -std=c++11}"})
cxx17=(${cxx[@]+"${cxx[@]/%/ -x c++ -std=c++17}"})
for language in "$cc -x c -std=c99" "$cc -x c -std=c11" "$cc -x c -std=c17" ${cxx[@]+"${cxx11[@]}" "${cxx17[@]}"}; do
    for header in "$root"/include/carat*.h; do
        printf '#include "%s"\nint main(void) { return carat_version()[0] == 0; }\n' "${header##*/}" >"$tmp/alone.c"
        $language "${flags[@]}" -I"$root/include" -fsyntax-only "$tmp/alone.c" || fail "${header##*/} alone: $language"
    done
done
for language in "$cc -x c -std=c99" ${cxx[@]+"${cxx11[@]}"}; do
    $language "${flags[@]}" -I"$root/include" examples/generate.c -x none -L"$lib" -lcarat -o "$tmp/generate"
    run_example "$language" "$tmp/generate"
done

# ---- pkg-config: every example, shared and static ----
if command -v pkg-config >/dev/null; then
    export PKG_CONFIG_PATH="$lib/pkgconfig"
    same "pkg-config --modversion" "$version" "$(pkg-config --modversion carat)"
    for example in examples/*.c; do
        name=$(basename "$example" .c)
        compile="$cc ${flags[*]} $example $(pkg-config --cflags carat)"
        eval "$compile $(pkg-config --libs carat) -o '$tmp/$name-shared'"
        # Beside the shared one, the linker takes the static library only when it is named.
        static=$(pkg-config --static --libs carat)
        eval "$compile ${static/-lcarat/\"\$lib/libcarat.a\"} -o '$tmp/$name-static'"
        if command -v ldd >/dev/null && ldd "$tmp/$name-static" | grep libcarat; then
            fail "$name-static is not static"
        fi
    done
    run_example "pkg-config, shared" "$tmp/generate-shared"
    run_example "pkg-config, static" "$tmp/generate-static"
else
    echo "not checked: pkg-config (scripts/deps test installs it)"
fi

# ---- find_package ----
mkdir "$tmp/user"
cat >"$tmp/user/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(user C)
find_package(carat ${version%.*} REQUIRED)
find_package(carat 99 QUIET)
if(carat_FOUND)
  message(FATAL_ERROR "version 99 was found")
endif()
find_package(carat REQUIRED CONFIG)
foreach(kind carat carat_static)
  add_executable(with_\${kind} $PWD/examples/generate.c)
  target_link_libraries(with_\${kind} PRIVATE carat::\${kind})
endforeach()
END
"$cmake" -S "$tmp/user" -B "$tmp/user/build" -DCMAKE_PREFIX_PATH="$root" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_C_FLAGS="${sanitize:+-fsanitize=$sanitize}" >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "find_package"; }
"$cmake" --build "$tmp/user/build" >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "building with find_package"; }
run_example "find_package, shared" "$tmp/user/build/with_carat"
run_example "find_package, static" "$tmp/user/build/with_carat_static"

# ---- Python ----
if [ -n "$sanitize" ]; then
    echo "not checked: ctypes (a sanitized library needs a sanitized Python)"
else
    export CARAT_LIBRARY="$lib/libcarat.$so"
    run_example ctypes python3 -B examples/generate.py
    if python3 -B examples/generate.py no/such/file.gguf x 2>"$tmp/error"; then
        fail "generate.py found a file that is not there"
    fi
    grep -q "no/such/file.gguf" "$tmp/error" || fail "generate.py: no sentence from the library: $(cat "$tmp/error")"
fi
echo "test_install: all passed"
