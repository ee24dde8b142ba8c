#!/usr/bin/env python3
"""scripts/check_api.py finds what it is there to find, in headers that are each wrong in one way."""
import os
import subprocess
import sys
import tempfile

HEADING = "/* ---- things: one thread at a time each ---- */\n\n"
GOOD = "/* Makes a thing; you own *out. EINVAL for a bad name. */\n" \
       "CARAT_API carat_status carat_thing_create(carat_thing **out, const char *name, carat_error *err);\n"


def found(text):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "carat_thing.h")
        with open(path, "w", encoding="utf-8") as header:
            header.write(text)
        run = subprocess.run([sys.executable, "-B", "scripts/check_api.py", path], capture_output=True, text=True)
    assert run.stderr == "", run.stderr
    assert run.returncode == (1 if run.stdout else 0)
    return run.stdout


assert found(HEADING + GOOD) == "", found(HEADING + GOOD)
for wrong, word in [
        (HEADING + GOOD[GOOD.index("CARAT_API"):], "expected a comment"),
        (HEADING + GOOD.replace("*/\n", "*/\n\n"), "expected a comment"),
        (GOOD, "nothing about threads"),
        (HEADING + GOOD.replace("EINVAL", "nothing"), "names no error"),
        (HEADING + GOOD.replace("EINVAL", "EWRONG"), "EWRONG"),
        (HEADING + GOOD.replace("you own *out", "here it is"), "whose it is"),
        (HEADING + GOOD.replace("carat_thing_create(", "thing_create("), "could be read")]:
    assert word in found(wrong), (word, found(wrong), wrong)
