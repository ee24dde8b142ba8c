#!/usr/bin/env python3
"""The program on a machine that fails: every call of the system failing once, files that shrink while they are mapped, full
disks, little memory, signals at any time. Whatever happens is an exit status and one sentence, what lies under a final name is
whole, and nothing else is left.

    test_failing.py PROGRAM

Needs the tiny fixture, and tools/carat_faulty for the first two. What a machine does not allow (control groups, small disks) is
left out with a message. CARAT_TEST_BRIEF=1 takes every seventh call only: sanitizers are slow.
"""
import concurrent.futures
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib_split

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath("carat")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FAULTY = os.path.join(os.environ.get("CARAT_TOOLS", os.path.join(os.path.dirname(PROGRAM), "tools")), "carat_faulty")
TINY = os.path.join(ROOT, "tests", "fixtures", "tiny", "tiny.gguf")
FOLDER = tempfile.mkdtemp(prefix="carat-failing-")
# A copy: what a fault cuts must never be the tree's own.
ENV = dict(os.environ, CARAT_MODEL=shutil.copy(TINY, os.path.join(FOLDER, "default.gguf")), NO_COLOR="1", XDG_CACHE_HOME=os.path.join(FOLDER, "cache"))
BRIEF = 7 if os.environ.get("CARAT_TEST_BRIEF") else 1
SENTENCE = re.compile(rb"\Acarat: [^\n]{15,400}\n\Z")
random.seed(5)


def path(*names):
    return os.path.join(FOLDER, *names)


def write(name, data):
    with open(path(name), "wb") as f:
        f.write(data)
    return path(name)


def read(name):
    with open(name, "rb") as f:
        return f.read()


def run(args, program=PROGRAM, stdin=b"", limit="", timeout=300, **env):
    command = [program] + [str(a) for a in args]
    if limit:
        command = ["sh", "-c", limit + '; exec "$@"', "sh"] + command
    return subprocess.run(command, input=stdin, capture_output=True, env=dict(ENV, **env), timeout=timeout, cwd=FOLDER)


def without_free(out):
    """Output without the memory that happens to be free: it moves from run to run."""
    return re.sub(rb'"available": \d+', b'"available": 0', out)


def sanitized():
    with open(PROGRAM, "rb") as f:
        data = f.read()
    return b"__asan_init" in data or b"__tsan_init" in data


class Failing(unittest.TestCase):
    def told(self, r, what, codes=(1, 3)):
        """One sentence and a status that says so."""
        self.assertIn(r.returncode, codes, "%s: %r" % (what, r.stderr[-2000:]))
        lines = [line + b"\n" for line in r.stderr.split(b"\n")[:-1] if not line.startswith(b"carat: warning")]
        self.assertRegex(b"".join(lines), SENTENCE, what)


@unittest.skipUnless(os.path.exists(FAULTY), "there is no tools/carat_faulty in this build")
class EveryCall(Failing):
    """Each command, each kind of call, the n-th of them failing, alone or with all that follow."""

    def every(self, name, args, kinds, stdin=b"", same=True, out=None):
        env = {"CARAT_FAULT_REPORT": path(name + ".report")}
        calls = {}
        for kind in kinds:
            calls[kind] = 0
            folder = path(name)
            os.makedirs(folder, exist_ok=True)
            r = run([a.replace("@", folder) for a in args], FAULTY, stdin, CARAT_FAULT=kind + ":0", **env)
            self.assertEqual(r.returncode, 0, "%s: %r" % (name, r.stderr))
            calls[kind] = int(read(env["CARAT_FAULT_REPORT"]).split()[0])
            sound = without_free(r.stdout)
            shutil.rmtree(folder)

        def one(job):
            kind, n, forever = job
            what = "%s, %s %d%s" % (name, kind, n, forever)
            folder = path("%s-%s-%d%s" % (name, kind, n, forever.replace(":", "")))
            os.makedirs(folder)
            r = run([a.replace("@", folder) for a in args], FAULTY, stdin, CARAT_FAULT="%s:%d%s" % (kind, n, forever))
            if r.returncode != 0:
                self.told(r, what)
            elif same and kind != "open":
                self.assertEqual(without_free(r.stdout), sound, what)
            for left in os.listdir(folder):
                self.assertNotIn(".tmp", left, what)
                if out:
                    self.assertTrue(out(os.path.join(folder, left)), what)
            shutil.rmtree(folder)
            return r.returncode != 0

        jobs = [(kind, n, f) for kind in kinds for n in range(1, calls[kind] + 1, BRIEF) for f in ("", ":forever")]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            told = sum(pool.map(one, jobs))
        print("%s: %d calls failed, %d told, the others borne" % (name, len(jobs), told), flush=True)
        return told

    def test_run(self):
        args = ["run", "--raw", "-t", "2", "-n", "3", "--seed", "1", "-c", "128", "Hello"]
        self.assertGreater(self.every("run", args, ["alloc", "map", "thread", "stat", "open", "lock"]), 100 / BRIEF)

    def test_run_session(self):
        def sound(file):
            return read(file)[:8] == b"CARATSES"

        args = ["run", "--raw", "-t", "1", "-n", "3", "--seed", "1", "-c", "128", "--session", "@/s", "-f", "-"]
        kinds = ["write", "sync", "close", "rename", "open", "read"]
        self.assertGreater(self.every("session", args, kinds, b"Hello there\n", out=sound), 10 / BRIEF)

    def test_chat(self):
        script = b"Hi\n/save @/x\n".replace(b"@", FOLDER.encode()) + b"And you?\n/load " + FOLDER.encode() + b"/x\nBye\n"
        args = ["chat", "--chat", "-t", "1", "-n", "2", "--seed", "1", "-c", "256", "-q"]
        self.assertGreater(self.every("chat", args, ["write", "rename", "map", "lock"], script, same=False), 3)

    def test_looking(self):
        self.every("inspect", ["inspect", "--json"], ["alloc", "map", "stat"])
        self.every("tokenize", ["tokenize", "--json", "Hello \u00e9 there"], ["alloc"])
        self.every("detokenize", ["detokenize", "2 30 40"], ["alloc"])

    def test_working(self):
        self.every("logits", ["logits", "--json", "-t", "1", "--ids", "2 30 40", "--top", "400"], ["lock", "map"])
        text = write("text", b"Once upon a time there was a tiny model that knew nothing. " * 30)
        args = ["eval", "perplexity", "-t", "1", "-c", "16", "--chunks", "2", "--json", "-f", text]
        self.every("eval", args, ["read", "map", "lock"], same=False)
        args = ["bench", "--tg", "2", "--repeats", "1", "-t", "1", "-o", "@/r.md", "-o", "@/r.json"]
        self.every("bench", args, ["write", "sync", "close", "rename", "map"], same=False, out=os.path.getsize)

    def test_convert(self):
        def sound(file):
            return read(file)[:4] == b"GGUF" and os.path.getsize(file) > 2000000

        args = ["convert", TINY, "@/out.gguf", "--type", "q8_0", "-t", "2", "--json"]
        kinds = ["write", "sync", "close", "rename", "open", "alloc", "map", "thread"]
        self.assertGreater(self.every("convert", args, kinds, same=False, out=sound), 30 / BRIEF)

    def test_convert_folder(self):
        def sound(folder):
            return sorted(os.listdir(folder)) == ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                                  "tokenizer_config.json"]

        args = ["convert", TINY, "@/out", "--type", "mlx4", "-t", "1", "--json"]
        kinds = ["sync", "close", "rename", "open"]
        self.assertGreater(self.every("convert-folder", args, kinds, same=False, out=sound), 10 / BRIEF)

    def test_short_and_interrupted(self):
        """Calls that do only a part, or are interrupted by a signal, are no failures at all."""
        args = ["run", "--raw", "-t", "1", "-n", "3", "--seed", "1", "-c", "128", "--session", path("short"), "-f", "-"]
        a = run(args, FAULTY, b"Hello there\n" * 3)
        whole = read(path("short"))
        os.remove(path("short"))
        b = run(args, FAULTY, b"Hello there\n" * 3, CARAT_FAULT="short:1")
        self.assertEqual((a.returncode, a.stdout), (b.returncode, b.stdout), b.stderr)
        self.assertEqual(read(path("short")), whole)


@unittest.skipUnless(os.path.exists(FAULTY), "there is no tools/carat_faulty in this build")
class Mapped(Failing):
    """The model's file while it is mapped, and afterwards."""

    def model(self):
        os.makedirs(path("mapped"), exist_ok=True)
        return shutil.copy(TINY, path("mapped", "model.gguf"))

    def test_shrinks(self):
        for args in (["run", "--raw", "-n", "3", "Hi"], ["eval", "perplexity", "-c", "64", "--chunks", "1"],
                     ["run", "-b", "ref", "--raw", "-n", "3", "Hi"], ["bench", "--tg", "2", "--repeats", "1"]):
            r = run(args + ["-m", self.model()] if args[0] != "bench" else args + [self.model()], FAULTY, CARAT_FAULT="shrink:1")
            self.told(r, args, (1,))
            self.assertIn(b"model.gguf", r.stderr)
            self.assertIn(b"shorter", r.stderr)
            self.assertEqual(r.stdout, b"")

    def test_session_shrinks(self):
        args = ["run", "--raw", "--ids", "2 30 31", "-n", "300", "-c", "512", "--ignore-eos", "--session", path("shrinking")]
        self.assertEqual(run(args + ["-q"]).returncode, 0)
        self.told(run(args, FAULTY, CARAT_FAULT="shrink:2"), "session", (1,))

    def test_part_shrinks(self):
        for folder in ("m", "n"):
            os.makedirs(path("parts", folder))
        parts = lib_split.split(TINY, path("parts", "m"), 3)
        r = run(["run", "--raw", "-n", "3", "-m", parts[0], "Hi"], FAULTY, CARAT_FAULT="shrink:3")
        self.told(r, "part", (1,))
        parts = lib_split.split(TINY, path("parts", "n"), 3)
        r = run(["run", "--raw", "-n", "3", "-m", parts[0], "Hi"], FAULTY, CARAT_FAULT="grow:2")
        self.told(r, "part", (1, 3))
        self.assertIn(b"changed", r.stderr)

    def test_vanishes(self):
        args = ["run", "--raw", "-n", "5", "--seed", "1", "Hi", "-m"]
        sound = run(args + [self.model()], FAULTY)
        gone = run(args + [self.model()], FAULTY, CARAT_FAULT="vanish:1")
        self.assertEqual((gone.returncode, gone.stdout), (0, sound.stdout), gone.stderr)
        self.assertFalse(os.path.exists(path("mapped", "model.gguf")))

    def test_is_written_to(self):
        self.told(run(["run", "--raw", "-n", "5", "Hi", "-m", self.model()], FAULTY, CARAT_FAULT="grow:1"), "grows", (1, 3))

    def while_running(self, backend, change):
        """Changes the file after the first token."""
        model = self.model()
        p = subprocess.Popen([PROGRAM, "run", "-b", backend, "--raw", "--ignore-eos", "-n", "400", "-m", model, "Hi"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
        p.stdout.read(1)
        change(model)
        out, err = p.communicate(timeout=300)
        return subprocess.CompletedProcess([], p.returncode, out, err)

    def test_packed_weights_are_immune(self):
        for change in (lambda m: os.truncate(m, 0), os.remove):
            r = self.while_running("cpu", change)
            self.assertEqual((r.returncode, r.stderr), (0, b""))

    def test_weights_in_place_are_not(self):
        self.told(self.while_running("ref", lambda m: os.truncate(m, 0)), "in place", (1,))
        self.assertEqual(self.while_running("ref", os.remove).returncode, 0)


class Limits(Failing):
    @unittest.skipIf(sanitized(), "a sanitizer takes all the address space there is")
    def test_address_space(self):
        seen = set()
        for kb in (9000, 15000, 20000, 25000, 30000, 40000, 60000, 100000, 200000, 1000000):
            for args in (["run", "--raw", "-t", "2", "-n", "3", "--temp", "0", "Hello"], ["inspect"],
                         ["eval", "perplexity", "-c", "64", "--chunks", "1"]):
                r = run(args, limit="ulimit -v %d" % kb)
                if r.returncode == 127 or b"error while loading shared libraries" in r.stderr:
                    continue  # too little for the program itself: the system says so
                seen.add(r.returncode)
                if r.returncode != 0:
                    self.told(r, "%s in %d kB" % (args, kb))
        self.assertIn(0, seen)
        self.assertTrue(seen & {1, 3}, seen)

    @unittest.skipIf(sanitized(), "a sanitizer takes all the address space there is")
    def test_cache(self):
        """Context and type of cache are counted before the weights are read, where both are known."""
        args = ["run", "-t", "1", "-m", "synthetic:270m:q8_0", "--ids", "2 3", "-n", "1", "-c", "32768", "--kv"]
        r = run(args + ["f32"], limit="ulimit -v 680000")
        self.told(r, "a cache of f32", (1,))
        self.assertIn(b"a session of 32768 tokens 0.2", r.stderr)
        r = run(args + ["q8"], limit="ulimit -v 680000")
        self.assertEqual(r.returncode, 0, r.stderr)

    def groups(self):
        """Folders in which a control group with a limit can be made: (folder, the limit's file)."""
        for folder, limit in (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
            name = os.path.join(folder, "carat-test-%d" % os.getpid())
            try:
                os.makedirs(os.path.join(name, "inner"))
            except OSError:
                continue
            try:
                if os.path.exists(os.path.join(name, "inner", "cgroup.procs")):
                    with open(os.path.join(name, limit), "r+") as f:
                        f.write("150000000")
                    yield name
            except OSError:
                pass
            finally:
                for sub in (os.path.join(name, "inner"), name):
                    try:
                        os.rmdir(sub)
                    except OSError:
                        pass

    def test_control_group(self):
        tried = 0
        for name in self.groups():
            tried += 1
            join = "echo $$ > %s" % os.path.join(name, "inner", "cgroup.procs")
            r = run(["run", "-m", "synthetic:270m:q8_0", "--ids", "2 3", "-n", "2"], limit=join)
            self.told(r, "270m in 150 MB", (1, 3))
            figures = re.search(rb"need ([0-9.]+) GB.* but ([0-9.]+) GB of memory", r.stderr)
            self.assertTrue(figures, r.stderr)
            self.assertGreater(float(figures.group(1)), 0.25)
            self.assertLess(float(figures.group(2)), 0.16)
            if not sanitized():
                r = run(["run", "--raw", "-n", "3", "Hi"], limit=join)
                self.assertEqual(r.returncode, 0, r.stderr)
        if tried == 0:
            self.skipTest("no control group can be made here")


class FullDisk(Failing):
    def test_standard_output(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("there is no /dev/full")
        for args in (["run", "--raw", "-n", "3", "Hi"], ["run", "--raw", "-n", "3", "--json", "Hi"], ["inspect"], ["inspect", "--json"],
                     ["tokenize", "Hi"], ["detokenize", "2 30"], ["logits", "Hi"], ["--help"], ["run", "--help"], ["--version"],
                     ["chat", "--chat", "-n", "2", "-q"], ["eval", "perplexity", "-c", "64", "--chunks", "1"],
                     ["bench", "--tg", "2", "--repeats", "1", "--json"]):
            with open("/dev/full", "wb") as full:
                r = subprocess.run([PROGRAM] + args, input=b"Hi\n", stdout=full, stderr=subprocess.PIPE, env=ENV, timeout=300)
            r.stdout = b""
            self.told(r, args, (1,))

    def small_disk(self):
        """A command in front of which there is a disk of 16 kB at `disk`, or None."""
        os.makedirs(path("disk"), exist_ok=True)
        mount = "mount -t tmpfs -o size=16k none '%s'" % path("disk")
        for front in (["unshare", "-m"], ["unshare", "-rm"]):
            try:
                if subprocess.run(front + ["sh", "-c", mount], capture_output=True).returncode == 0:
                    return front + ["sh", "-c", mount + ' && printf before >"$0" && "$@"; s=$?; cat "$0"; ls -A "${0%/*}" >&2; exit $s']
            except OSError:
                pass
        return None

    def test_saving(self):
        front = self.small_disk()
        if front is None:
            self.skipTest("no small disk can be mounted here")
        file = path("disk", "file")
        for args in (["run", "--ids", "2 30", "-n", "100", "--ignore-eos", "--json", "--session", file + "2"],
                     ["bench", "--tg", "2", "--repeats", "1", "--json", "-o", file + ".md", "-o", file + "2.md", "-o", file + "3.md",
                      "-o", file + "4.md", "-o", file + "5.md", "-o", file + "6.md"]):
            r = subprocess.run(front + [file, PROGRAM] + args, capture_output=True, env=ENV, timeout=300)
            self.assertEqual(r.returncode, 1, r.stderr)
            self.assertIn(b"No space left", r.stderr)
            self.assertTrue(r.stdout.endswith(b"before"))
            self.assertNotIn(b".tmp", r.stderr.split(b"\n", 1)[1])

    def test_largest_file(self):
        """ulimit -f: a write that the system refuses, with a signal that must not end the program."""
        name = write("limited", b"before")
        r = run(["run", "--ids", "2 30", "-n", "100", "--ignore-eos", "--session", path("limited2")], limit="ulimit -f 8")
        self.told(r, "ulimit -f", (1,))
        self.assertFalse(os.path.exists(path("limited2")))
        r = run(["bench", "--tg", "2", "--repeats", "1", "--json", "-o", name + ".md"], limit="ulimit -f 0")
        self.told(r, "ulimit -f", (1,))
        self.assertEqual(sorted(n for n in os.listdir(FOLDER) if n.startswith("limited")), ["limited"])


class Signals(Failing):
    """At random times. 130 after Ctrl-C, else the signal; what is saved is whole; a talk that was saved goes on."""

    COMMANDS = {
        "run": (["run", "--raw", "--ignore-eos", "-n", "300", "-c", "512", "--ids", "2 30", "--session", "@/s"], b""),
        "chat": (["chat", "--chat", "--ignore-eos", "-n", "60", "-c", "512", "-q", "--session", "@/s"], b"Hi\nHo\nHu\n"),
        "eval": (["eval", "perplexity", "-c", "256"], b""),
        "kl": (["eval", "kl", "--base", TINY, "-c", "256"], b""),
        "bench": (["bench", "--tg", "64", "--pp", "128", "-o", "@/r.json"], b""),
        "check": (["check", "--quick", "-b", "cpu"], b""),
    }

    def one(self, name, sig, delay, k):
        folder = path("signal-%s-%d" % (name, k))
        os.makedirs(folder)
        args, stdin = self.COMMANDS[name]
        p = subprocess.Popen([PROGRAM] + [a.replace("@", folder) for a in args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=ENV, restore_signals=True)
        if stdin:
            p.stdin.write(stdin)
            p.stdin.flush()
        else:
            p.stdin.close()
            p.stdin = None
        time.sleep(delay)
        p.send_signal(sig)
        out, err = p.communicate(timeout=120)
        what = "%s, %s after %.3f s: %d %r" % (name, sig, delay, p.returncode, err)
        # -SIGINT: it came before main() had asked for it
        self.assertIn(p.returncode, (0, 130, -sig) if sig == signal.SIGINT else (0, -sig), what)
        for line in err.split(b"\n"):
            self.assertNotIn(b"Sanitizer", line, what)
        if os.path.exists(folder + "/s"):
            r = run(["run", "--raw", "--ids", "7", "-n", "2", "-c", "1024", "--session", folder + "/s"])
            self.assertEqual(r.returncode, 0, what + repr(r.stderr))
        if os.path.exists(folder + "/r.json"):
            json.loads(read(folder + "/r.json"))
        shutil.rmtree(folder)
        return p.returncode != 0

    def test_random(self):
        jobs = []
        for k in range(120 // BRIEF):
            name = list(self.COMMANDS)[k % len(self.COMMANDS)]
            sig = random.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
            jobs.append((name, sig, 0.02 + random.random() ** 2 * 0.5, k))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            ended = sum(pool.map(lambda j: self.one(*j), jobs))
        print("signals: %d of %d programs ended by one" % (ended, len(jobs)), flush=True)
        self.assertGreater(ended, len(jobs) // 4)

    def test_nothing_is_lost(self):
        """A talk that waits for its next line is saved when it is asked to end."""
        for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            file = path("kept-%d" % sig)
            p = subprocess.Popen([PROGRAM, "chat", "--chat", "-n", "3", "-c", "256", "--json", "--session", file],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
            p.stdin.write(b"Hello\n")
            p.stdin.flush()
            self.assertTrue(p.stdout.readline().startswith(b"{"))
            time.sleep(0.3)
            p.send_signal(sig)
            p.wait(timeout=60)
            self.assertEqual(p.returncode, 130 if sig == signal.SIGINT else -sig)
            for f in (p.stdin, p.stdout, p.stderr):
                f.close()
            self.assertEqual(read(file)[:8], b"CARATSES")

    def test_reader_has_gone(self):
        p = subprocess.Popen([PROGRAM, "run", "--raw", "--ignore-eos", "-n", "-1", "-c", "2048", "--ids", "2 30"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
        p.stdout.read(3)
        p.stdout.close()
        err = p.stderr.read()
        p.stderr.close()
        p.wait(timeout=120)
        self.assertIn(p.returncode, (0, -signal.SIGPIPE))
        self.assertEqual(err, b"")

    def test_nohup(self):
        p = subprocess.Popen([PROGRAM, "run", "--raw", "--ignore-eos", "-n", "200", "-c", "512", "--ids", "2 30"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=ENV, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        p.stdout.read(3)
        p.send_signal(signal.SIGHUP)
        p.communicate(timeout=120)
        self.assertEqual(p.returncode, 0)


def tearDownModule():
    shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
