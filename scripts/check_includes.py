#!/usr/bin/env python3
"""Who may include whom: the walls between the rooms of src/, checked from the sources alone.

ROOMS is the table of the design: a room may include itself, the rooms named, and what those may include. The public
headers of include/ stand beside the rooms: only the rooms of PUBLIC see them. Conditionals on an operating system or an
instruction set belong in base/ and in the names of files; CONDITIONALS lists the few files that choose between them.
Prints one line for each breach and exits with 1 if there is any.
"""
import os
import re
import sys

ROOMS = {
    "base": [],
    "quant": ["base"],
    "formats": ["quant"],
    "text": ["formats"],
    "backend": ["quant"],
    "ref": ["backend"],
    "cpu": ["backend"],
    "cuda": ["backend"],
    "metal": ["backend"],
    "model": ["backend", "formats"],
    "train": ["model"],
    "engine": ["model", "text"],
    "bench": ["engine"],
    "convert": ["formats", "quant", "model"],
    "check": ["backend", "ref"],
    "fetch": ["formats"],
    "api": ["bench", "check", "convert", "engine", "fetch", "train"],
    "serve": ["base"],
    "cli": ["base", "serve"],
}
PUBLIC = {"api", "serve", "cli"}
CONDITIONALS = {
    "src/cpu/features.c": "asks the machine what it has",
    "src/cpu/backend_cpu.c": "names the tables of the instruction sets that were built in",
    "src/cpu/rate.c": "chooses the loop that measures the machine's rate",
}
MACHINE = re.compile(r"\b(__linux__|__APPLE__|_WIN32|__x86_64__|__i386__|__aarch64__|__arm__|__AVX\w*|__SSE\w*|__ARM_\w+)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def closure(room):
    seen, todo = set(), [room]
    while todo:
        r = todo.pop()
        if r not in seen:
            seen.add(r)
            todo += ROOMS[r]
    return seen


def sources(folder):
    for where, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            if name.endswith((".c", ".h", ".def", ".cu", ".cuh", ".m")):
                yield os.path.join(where, name).replace(os.sep, "/")


def main():
    breaches = []
    headers = {name for name in os.listdir("include")} if os.path.isdir("include") else set()
    for path in sources("src"):
        room = path.split("/")[1]
        if room not in ROOMS:
            breaches.append("%s:1: room '%s' is not in the table of scripts/check_includes.py" % (path, room))
            continue
        allowed = closure(room)
        for number, line in enumerate(open(path, encoding="utf-8"), 1):
            at = "%s:%d: " % (path, number)
            if re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line):
                machine = MACHINE.search(line)
                if machine and room != "base" and path not in CONDITIONALS:
                    breaches.append(at + "a conditional on %s outside base/: use a file's suffix, or base/" % machine[1])
            m = INCLUDE.match(line)
            if not m:
                continue
            quoted, name = m[1] == '"', m[2]
            if name in headers:
                if room not in PUBLIC:
                    breaches.append(at + "%s/ includes the public %s: only %s may" % (room, name, ", ".join(sorted(PUBLIC))))
            elif not quoted:
                continue  # the system's
            elif "/" not in name or name.split("/")[0] not in ROOMS:
                breaches.append(at + 'expected "room/file.h", found "%s"' % name)
            elif name.split("/")[0] not in allowed:
                others = ", ".join(sorted(allowed - {room})) or "nothing else"
                breaches.append(at + "%s/ includes %s: it may include %s" % (room, name, others))
            elif not os.path.exists("src/" + name):
                breaches.append(at + "includes %s, which does not exist" % name)
    for path in sources("include"):
        for number, line in enumerate(open(path, encoding="utf-8"), 1):
            m = INCLUDE.match(line)
            if m and "/" in m[2] and m[2].split("/")[0] in ROOMS:
                breaches.append("%s:%d: a public header includes the inside: %s" % (path, number, m[2]))
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
