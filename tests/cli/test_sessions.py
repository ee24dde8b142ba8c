#!/usr/bin/env python3
"""carat run --session FILE and the quantised caches, on the tiny fixture: a text written in two runs is the text of one, damage is
refused in one sentence, an interrupted text is kept.

    test_sessions.py PROGRAM
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath("carat")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TINY = os.path.join(ROOT, "tests", "fixtures", "tiny", "tiny.gguf")
FOLDER = tempfile.mkdtemp(prefix="carat-sessions-")
ENV = dict(os.environ, CARAT_MODEL=TINY, NO_COLOR="1", XDG_CACHE_HOME=os.path.join(FOLDER, "cache"))


def run(*args):
    return subprocess.run([PROGRAM, "run"] + [str(a) for a in args], capture_output=True, env=ENV, timeout=120)


def ids(*args):
    r = run("--raw", "--json", "--ignore-eos", "--seed", 3, *args)
    if r.returncode != 0:
        raise AssertionError("%r: %s" % (args, r.stderr.decode(errors="replace")))
    return json.loads(r.stdout)["ids"]


class Sessions(unittest.TestCase):
    def test_goes_on(self):
        for kv in ([], ["--kv", "q8"], ["--kv", "q8,q4"], ["--exact"]):
            file = os.path.join(FOLDER, "goes-on")
            first = ids("--ids", "2 5 9 11 70", "-n", 20, *kv)
            self.assertEqual(ids("--ids", "2 5 9 11 70", "-n", 20, "--session", file, *kv), first)
            again = os.path.join(FOLDER, "again")
            with open(file, "rb") as f, open(again, "wb") as g:
                g.write(f.read())
            more = ids("--ids", "8 8", "-n", 15, "--session", file, "-t", 1, *kv)
            self.assertEqual(ids("--ids", "8 8", "-n", 15, "--session", again, "-t", 3, *kv), more)
            with open(file, "rb") as f, open(again, "rb") as g:
                self.assertEqual(f.read(24), g.read(24))
            os.remove(file)
            os.remove(again)

    def test_refuses(self):
        file = os.path.join(FOLDER, "refuses")
        ids("--ids", "2 5", "-n", 5, "--session", file)
        with open(file, "rb") as f:
            sound = f.read()
        for args in (["--kv", "q8"], ["--exact"], ["-b", "ref"], ["-c", 5]):
            r = run("--ids", "7", "--session", file, *args)
            self.assertIn(r.returncode, (1, 3), args)
            self.assertEqual(r.stderr.count(b"\n"), 1, r.stderr)
            self.assertEqual(r.stdout, b"")
        for damage in (sound[:100], sound[:-1], sound[:300] + b"x" + sound[301:], b"no session at all" * 20):
            with open(file, "wb") as f:
                f.write(damage)
            r = run("--ids", "7", "--session", file)
            self.assertEqual(r.returncode, 3, r.stderr)
            self.assertEqual(r.stderr.count(b"\n"), 1, r.stderr)
            with open(file, "rb") as f:
                self.assertEqual(f.read(), damage)
        r = run("--ids", "2 7", "-n", 3, "--session", os.path.join(FOLDER, "no", "such", "folder"))
        self.assertNotEqual(r.returncode, 0)

    def test_interrupted_is_kept(self):
        file = os.path.join(FOLDER, "interrupted")
        p = subprocess.Popen([PROGRAM, "run", "--raw", "--ignore-eos", "-n", "-1", "--ids", "2 5 9", "--session", file],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
        p.stdout.read(1)
        time.sleep(0.05)
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=60)
        self.assertIn(p.returncode, (0, 130))  # 0: the context was full before the signal came
        self.assertTrue(os.path.getsize(file) > 128)
        if p.returncode == 130:
            ids("--ids", "7", "-n", 3, "--session", file)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
