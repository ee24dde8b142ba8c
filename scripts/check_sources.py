#!/usr/bin/env python3
"""House rules that can be read off the sources: functions the library may not call, opening comments, length, tabs.

Exceptions are lines of scripts/lint-allow.txt with a reason. Prints one line for each breach and exits with 1 if there
is any; a file over 600 lines only earns a warning.
"""
import os
import re
import subprocess
import sys

# The library returns and explains; it never ends the process, prints, or looks at the environment.
LIBRARY = "exit _exit _Exit quick_exit abort printf fprintf vprintf vfprintf dprintf puts fputs putchar perror getenv " \
          "secure_getenv setenv putenv system popen signal setlocale srand rand random time localtime gmtime asctime ctime"
# Nobody: these cannot know the size of what they write, or cannot report an error.
UNSAFE = "strcpy strcat sprintf vsprintf gets stpcpy atoi atol atoll atof strtok strerror_r alloca"
# Memory is counted, and made to fail by tests, in base/mem.c alone.
MEMORY = "malloc calloc realloc free strdup strndup aligned_alloc posix_memalign memalign asprintf vasprintf reallocarray"

LIMIT = 600
CALL = re.compile(r"(?<![\w.>])([A-Za-z_]\w*)\s*\(")


def allowed():
    """{(kind, path, name)} of scripts/lint-allow.txt: kind path name reason..."""
    entries = set()
    for line in open("scripts/lint-allow.txt", encoding="utf-8"):
        words = line.split(None, 3)
        if words and not words[0].startswith("#"):
            if len(words) < 4:
                sys.exit("scripts/lint-allow.txt: expected 'kind path name reason', found: " + line.strip())
            entries.add(tuple(words[:3]))
    return entries


def without_comments(text):
    """The text with comments and literals blanked, newlines kept, so that line numbers stay right."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def main():
    allow = allowed()
    breaches, warnings = [], []
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "src", "include", "tests"],
        check=True, capture_output=True, text=True).stdout.split("\0")
    for path in sorted(p for p in tracked if p.endswith((".c", ".h", ".def", ".cu", ".cuh")) and os.path.exists(p)):
        text = open(path, encoding="utf-8").read()
        lines = text.split("\n")
        if not text.lstrip().startswith("/*") or text.find("*/") > 3000:
            breaches.append("%s:1: a file opens with a comment that says its role and what it refuses to know" % path)
        if len(lines) - 1 > LIMIT:
            warnings.append("%s: %d lines; files aim at %d" % (path, len(lines) - 1, LIMIT))
        for number, line in enumerate(lines, 1):
            if "\t" in line or line != line.rstrip():
                breaches.append("%s:%d: a tab, or spaces at the end of the line" % (path, number))
        room = path.split("/")[1] if path.startswith("src/") else None
        banned = dict.fromkeys(UNSAFE.split(), "it is unsafe, or cannot report an error")
        if room:
            banned.update(dict.fromkeys(MEMORY.split(), "memory comes from base/mem.h"))
            if room != "cli":
                banned.update(dict.fromkeys(LIBRARY.split(), "the library returns and explains"))
        for number, line in enumerate(without_comments(text).split("\n"), 1):
            for m in CALL.finditer(line):
                name = m[1]
                if name in banned and ("call", path, name) not in allow:
                    breaches.append("%s:%d: %s() is not called here: %s" % (path, number, name, banned[name]))
    for warning in warnings:
        print("warning: " + warning)
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
