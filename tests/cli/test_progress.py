#!/usr/bin/env python3
"""Bars while a model is fetched or loaded and a long prompt is read: on a terminal's stderr, gone when the text comes; nowhere else.

    test_progress.py PROGRAM
"""
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath("carat")
# Made in memory: slow enough to need a bar, and no download. 1100 tokens: three chunks, two of them before the end.
WORDS = ["run", "synthetic:270m:q4_0", "--ids", " ".join(["2"] + ["818"] * 1099), "-n", "2", "--temp", "0", "-c", "2048"]


def on_a_terminal(*words, program=(PROGRAM, *WORDS), **env):
    """Exit status, and what comes on stdout (a pipe) and on stderr (a terminal)."""
    master, slave = pty.openpty()
    full = dict(os.environ, **dict({"TERM": "xterm"}, **env))
    p = subprocess.Popen([*program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, env=full)
    os.close(slave)
    seen = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        seen += block
    out = p.stdout.read()
    p.stdout.close()
    os.close(master)
    return p.wait(), out.decode(), seen.decode()


class Progress(unittest.TestCase):
    def test_a_terminal(self):
        status, out, err = on_a_terminal()
        self.assertEqual(status, 0, err)
        self.assertRegex(out, r"^\d+ \d+\n$")  # two ids, and nothing of a bar
        self.assertRegex(err, r"\rreading the prompt \[#+ *\] (512|1024)/1100\x1b\[K")
        bars = re.findall(r"\r([\w ]+) \[(#*) *\] ([\d/]+(?: %)?)\x1b\[K", err)
        self.assertTrue(bars)
        for what, full, _ in bars:
            self.assertIn(what, ("loading", "reading the prompt"))
            self.assertLessEqual(len(full), 24)
        self.assertTrue(err.endswith("\r\x1b[K"), repr(err[-60:]))  # taken away in the end
        self.assertNotRegex(err, r"\x1b\[[0-9;]*m")  # no colours, with or without NO_COLOR

    def test_no_bar(self):
        for words, env in [(["-q"], {}), ([], {"TERM": "dumb"})]:
            status, out, err = on_a_terminal(*words, **env)
            self.assertEqual((status, err), (0, ""), (words, env))
        r = subprocess.run([PROGRAM, *WORDS], capture_output=True, text=True, timeout=600)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertRegex(r.stdout, r"^\d+ \d+\n$")


class Fetch(unittest.TestCase):
    """The package client draws the bar of a fetch: it is asked to on a terminal, and to be silent elsewhere."""

    def test_the_client_is_told(self):
        folder = tempfile.mkdtemp(prefix="carat-progress-")
        client = os.path.join(folder, "client")
        with open(client, "w", encoding="ascii") as f:
            f.write('echo "$@" > %s/asked\nexit 1\n' % folder)
        env = {"CARAT_PIP": "sh " + client, "XDG_CACHE_HOME": folder}
        fetch = [sys.executable, "scripts/fetch-model"]
        for terminal in (True, False):
            if terminal:
                status = on_a_terminal(program=fetch, **env)[0]
            else:
                status = subprocess.run(fetch, capture_output=True, timeout=600, env=dict(os.environ, **env)).returncode
            self.assertEqual(status, 1)
            with open(os.path.join(folder, "asked"), encoding="ascii") as f:
                asked = f.read()
            self.assertIn("--progress-bar " + ("on" if terminal else "off"), asked)
            self.assertEqual("--quiet" in asked, not terminal)
        shutil.rmtree(folder)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
