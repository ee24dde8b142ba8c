#!/usr/bin/env python3
"""carat convert as a user drives it: what comes out opens and says the same, what cannot be done is one sentence, and whatever
ends it early leaves nothing behind.

    test_convert.py PROGRAM

Needs the tiny fixture only. What a machine does not allow (small disks, the control of memory) is left out with a message.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath("carat")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TINY = os.path.join(ROOT, "tests", "fixtures", "tiny", "tiny.gguf")
FOLDER = tempfile.mkdtemp(prefix="carat-convert-")
ENV = dict(os.environ, CARAT_MODEL=TINY, NO_COLOR="1", XDG_CACHE_HOME=os.path.join(FOLDER, "cache"))


def path(*names):
    return os.path.join(FOLDER, *names)


def carat(*args, front=(), timeout=300):
    return subprocess.run(list(front) + [PROGRAM] + [str(a) for a in args], capture_output=True, env=ENV, timeout=timeout)


class Case(unittest.TestCase):
    def ok(self, *args):
        r = carat(*args)
        self.assertEqual(r.returncode, 0, "%r: %s" % (args, r.stderr.decode(errors="replace")))
        return r.stdout

    def refused(self, status, words, *args, **kw):
        before = sorted(os.listdir(FOLDER))
        r = carat(*args, **kw)
        text = r.stderr.decode(errors="replace")
        self.assertEqual(r.returncode, status, "%r: %s" % (args, text))
        self.assertRegex(text, r"\Acarat: [^\n]{15,400}\n\Z")
        self.assertIn(words, text)
        self.assertEqual(r.stdout, b"")
        self.assertEqual(sorted(os.listdir(FOLDER)), before)

    def logits(self, model):
        r = json.loads(self.ok("logits", "--json", "--ids", "2 30 40 50", "--top", "5", "-b", "ref", "-m", model))
        return r["top"]


class Converts(Case):
    def test_types(self):
        want = self.logits(TINY)
        for kind in ("f32", "bf16", "q8_0"):
            out = path(kind + ".gguf")
            r = json.loads(self.ok("convert", TINY, out, "--type", kind, "--json"))
            self.assertEqual(r["format"], "GGUF")
            self.assertEqual(r["bytes"], os.path.getsize(out))
            self.assertEqual(r["path"], out)
            self.assertGreater(r["seconds"], 0)
            seen = json.loads(self.ok("inspect", out, "--json"))
            self.assertIsNone(seen.get("verdict") or seen.get("refused"))
            got = self.logits(out)
            for (a, x), (b, y) in zip(want, got):
                self.assertEqual(a, b)
                self.assertAlmostEqual(x, y, delta={"f32": 1e-5, "bf16": 0.1}.get(kind, 0.2))

    def test_folders(self):
        want = self.logits(TINY)
        text = self.ok("tokenize", "--json", "Hello there, tiny \u00e9 model")
        for kind, form, near in (("bf16", "Hugging Face", 0.1), ("mlx8", "MLX", 0.2)):
            out = path("folder-" + kind)
            r = json.loads(self.ok("convert", TINY, out, "--type", kind, "--json", "-q"))
            self.assertEqual((r["format"], r["path"]), (form, out))
            self.assertEqual(r["bytes"], os.path.getsize(os.path.join(out, "model.safetensors")))
            names = set(os.listdir(out))
            self.assertEqual(names, {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"})
            for name in names - {"model.safetensors"}:
                with open(os.path.join(out, name), encoding="utf-8") as f:
                    json.load(f)
            for (a, x), (b, y) in zip(want, self.logits(out)):
                self.assertEqual(a, b)
                self.assertAlmostEqual(x, y, delta=near)
            self.assertEqual(self.ok("tokenize", "--json", "Hello there, tiny \u00e9 model", "-m", out), text)
            self.refused(1, "with something in it", "convert", TINY, out, "--type", kind, "--force")
        self.ok("convert", path("folder-bf16"), path("folder-again"), "--type", "mlx4", "--group", "32", "-q")
        with open(path("folder-again", "config.json")) as f:
            self.assertEqual(json.load(f)["quantization"], {"group_size": 32, "bits": 4, "mode": "affine"})
        self.ok("convert", path("folder-again"), path("again.gguf"), "--type", "q8_0", "-q")
        self.assertEqual(self.ok("tokenize", "--json", "Hello there, tiny \u00e9 model", "-m", path("again.gguf")), text)

    def test_calibrated(self):
        text = path("text")
        with open(text, "w") as f:
            f.write("Once upon a time there was a tiny model that knew nothing. " * 60)
        for kind in ("q4_0", "mlx4"):
            names = [path(n + kind + (".gguf" if kind == "q4_0" else "")) for n in ("plain", "made", "read", "again")]
            self.ok("convert", TINY, names[0], "--type", kind, "-q")
            self.ok("convert", TINY, names[1], "--type", kind, "-q", "--calibrate", text, "--imatrix", path("im.gguf"))
            for n in names[2:]:
                self.ok("convert", TINY, n, "--type", kind, "-q", "--imatrix", path("im.gguf"))
            data = []
            for n in names:
                with open(n if kind == "q4_0" else os.path.join(n, "model.safetensors"), "rb") as f:
                    data.append(f.read())
            self.assertNotEqual(data[0], data[1])
            self.assertNotEqual(data[0], data[2])
            self.assertEqual(data[2], data[3])
            self.assertEqual(len(data[1]), len(data[2]))  # not each byte: the file has sums, in f32
        self.refused(3, "text", "convert", TINY, path("x.gguf"), "--type", "q4_0", "--imatrix", text)
        self.refused(2, "none", "convert", TINY, path("x.gguf"), "--type", "q4_0", "--calibrate", path("none"))

    def test_threads_change_nothing(self):
        for n in (1, 3):
            self.ok("convert", TINY, path("t%d.gguf" % n), "--type", "q8_0", "-t", n, "-q")
        with open(path("t1.gguf"), "rb") as a, open(path("t3.gguf"), "rb") as b:
            self.assertEqual(a.read(), b.read())

    def test_is_said(self):
        r = carat("convert", TINY, path("said.gguf"), "--type", "q8_0")
        self.assertRegex(r.stdout.decode(), r"said\.gguf: GGUF, [0-9.]+ MiB, [0-9.]+ bits per weight")
        self.assertIn("their losses add", r.stderr.decode())
        r = carat("convert", TINY, path("said.gguf"), "--type", "q8_0", "--force", "-q")
        self.assertEqual((r.returncode, r.stderr), (0, b""))


class Refuses(Case):
    def test_words(self):
        self.refused(2, "--type T", "convert", TINY)
        self.refused(2, "expected a type", "convert", TINY, path("x.gguf"))
        self.refused(2, "q4_k_m", "convert", TINY, path("x.gguf"), "--type", "q4_k_x")
        self.refused(2, "MLX", "convert", TINY, path("x.gguf"), "--type", "mlx4")
        self.refused(2, "from 32 to 128", "convert", TINY, path("x"), "--type", "mlx4", "--group", "16")
        self.refused(2, "convert", "run", "--type", "q8_0", "Hi")

    def test_files(self):
        self.refused(3, "No such file", "convert", path("none.gguf"), path("x.gguf"), "--type", "bf16")
        self.refused(3, "No such file", "convert", TINY, path("none", "x.gguf"), "--type", "bf16")
        same = shutil.copy(TINY, path("same.gguf"))
        os.symlink("same.gguf", path("link.gguf"))
        for out in (same, path("link.gguf"), os.path.join(FOLDER, ".", "same.gguf")):
            self.refused(1, "is what is read", "convert", same, out, "--type", "bf16", "--force")
        with open(path("there.gguf"), "w") as f:
            f.write("before")
        self.refused(1, "is there already", "convert", TINY, path("there.gguf"), "--type", "bf16")
        with open(path("there.gguf")) as f:
            self.assertEqual(f.read(), "before")
        self.ok("convert", TINY, path("there.gguf"), "--type", "bf16", "--force", "-q")
        if os.geteuid() != 0:
            os.mkdir(path("locked"), 0o500)
            self.refused(1, "Permission denied", "convert", TINY, path("locked", "x.gguf"), "--type", "bf16")

    def test_room(self):
        free = os.statvfs(FOLDER)
        if free.f_bavail * free.f_frsize > 107e9:
            self.skipTest("the disk would hold it")
        self.refused(1, "needs 108.", "convert", "synthetic:27b", path("x.gguf"), "--type", "f32")

    def test_largest_file(self):
        front = ["sh", "-c", 'ulimit -f 1000; exec "$@"', "sh"]
        self.refused(1, "File too large", "convert", TINY, path("x.gguf"), "--type", "bf16", front=front)

    def test_small_disk(self):
        os.makedirs(path("disk"), exist_ok=True)
        mount = "mount -t tmpfs -o size=1m none '%s'" % path("disk")
        for front in (["unshare", "-m"], ["unshare", "-rm"]):
            try:
                if subprocess.run(front + ["sh", "-c", mount], capture_output=True).returncode == 0:
                    break
            except OSError:
                pass
        else:
            self.skipTest("no small disk can be mounted here")
        front += ["sh", "-c", mount + '; "$@"; s=$?; ls -A "%s"; exit $s' % path("disk"), "sh"]
        self.refused(1, "its disk has 0.00 GB left", "convert", TINY, path("disk", "x.gguf"), "--type", "bf16", front=front)


class Ends(Case):
    def test_interrupted(self):
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)):
            out = path("interrupted.gguf")
            p = subprocess.Popen([PROGRAM, "convert", "synthetic:4b", out, "--type", "q8_0", "-t", "1"], env=ENV,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while not [n for n in os.listdir(FOLDER) if n.startswith("interrupted")]:
                time.sleep(0.01)
            time.sleep(0.2)
            p.send_signal(number)
            p.communicate(timeout=60)
            self.assertEqual(p.returncode, status)
            self.assertEqual([n for n in os.listdir(FOLDER) if n.startswith("interrupted")], [])

    def test_memory(self):
        """A model much larger than what it takes: 16 MB a thread are plenty."""
        front = ["sh", "-c", "ulimit -v 300000; exec \"$@\"", "sh"]
        with open(PROGRAM, "rb") as f:
            if re.search(rb"__asan_init|__tsan_init", f.read()):
                self.skipTest("a sanitizer takes all the address space there is")
        out = path("large.gguf")
        r = carat("convert", "synthetic:270m:f16", out, "--type", "q8_0", "-t", "2", front=front)
        self.assertEqual(r.returncode, 0, r.stderr)
        os.remove(out)


if __name__ == "__main__":
    try:
        unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=1)
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
