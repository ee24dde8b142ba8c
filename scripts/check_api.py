#!/usr/bin/env python3
"""What the public headers promise about each function, as far as a machine can read it.

    scripts/check_api.py [HEADER...]      default: include/*.h

Above each CARAT_API function stands a comment of its own. A function that returns a status names the errors that tell its
caller something; one that hands out a pointer says who owns it; and which threads may call it is said there or in the
heading of its section (`/* ---- sessions: one thread at a time each ---- */`). Prints one line for each breach.
"""
import glob
import re
import sys

COMMENT = re.compile(r"/\*.*?\*/", re.S)
DECLARATION = re.compile(r"^CARAT_API\s+([^;{]+?)\b(carat_\w+)\s*\(([^;]*)\)\s*;", re.S | re.M)
OWNER = re.compile(r"\b(own|owns|yours|borrow|borrowed|borrows|static)\b", re.I)


def functions(path):
    """[(name, what it returns, parameters, its comment, its section's heading, line)] of a header, in order."""
    text = open(path, encoding="utf-8").read()
    comments = {m.end(): m for m in COMMENT.finditer(text)}
    found = []
    for m in DECLARATION.finditer(text):
        before = text[: m.start()].rstrip()
        above = comments.get(len(before))
        # one blank line between a comment and a declaration would make it somebody else's
        own = above and text[above.end() : m.start()] == "\n" and not above[0].startswith("/* ----")
        comment = above[0] if own else ""
        headings = [c[0] for end, c in comments.items() if end < m.start() and c[0].startswith("/* ----")]
        line = text.count("\n", 0, m.start()) + 1
        found.append((m[2], m[1].strip(), m[3], comment, headings[-1] if headings else "", line))
    return found


def error_names(paths):
    names = set()
    for path in paths:
        names |= set(re.findall(r"^\s+CARAT_(E[A-Z]+) = -\d+", open(path, encoding="utf-8").read(), re.M))
    return names


def breaches_of(path, known):
    text = open(path, encoding="utf-8").read()
    found = functions(path)
    breaches = []
    # No declaration may slip past the pattern above.
    marks = len(re.findall(r"^CARAT_API\b", text, re.M))
    if marks != len(found):
        breaches.append("%s: %d lines begin with CARAT_API, %d could be read as declarations" % (path, marks, len(found)))
    for name, returns, parameters, comment, heading, line in found:
        def breach(what):
            breaches.append("%s:%d: %s: %s" % (path, line, name, what))

        if len(comment) < 12:
            breach("expected a comment right above it")
            continue
        if not re.search(r"\bthreads?\b", comment + heading):
            breach("says nothing about threads, and neither does the heading of its section")
        named = set(re.findall(r"\b(E[A-Z]{2,})\b", comment))
        for strange in sorted(named - known):
            breach("names the error %s, which carat_status has not" % strange)
        if returns == "carat_status" and not named and not re.search(r"\b[Ee]rrors\b", comment):
            breach("names no error")
        hands_out = "*" in returns or re.search(r"\*\s*\*", parameters) or re.search(r"_(free|close|deinit)$", name)
        if hands_out and not OWNER.search(comment):
            breach("hands out or takes back memory, and does not say whose it is")
    return breaches


def main(paths):
    paths = paths or sorted(glob.glob("include/*.h"))
    known = error_names(set(paths) | {"include/carat.h"})
    breaches = [b for path in paths for b in breaches_of(path, known)]
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
