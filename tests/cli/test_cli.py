#!/usr/bin/env python3
"""The program as a user drives it: every command, every refusal with its exit status and its one sentence, JSON, streaming,
seeds, signals. Needs the tiny fixture only; what needs more says so and is left out.

    test_cli.py PROGRAM
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
FOLDER = tempfile.mkdtemp(prefix="carat-cli-")
ENV = dict(os.environ, CARAT_MODEL=TINY, NO_COLOR="1", XDG_CACHE_HOME=os.path.join(FOLDER, "cache"))


def carat(*args, stdin=b"", env=None, timeout=120):
    if isinstance(stdin, str):
        stdin = stdin.encode()
    return subprocess.run([PROGRAM] + [a if isinstance(a, bytes) else str(a) for a in args], input=stdin, capture_output=True,
                          env=dict(ENV, **(env or {})), timeout=timeout)


class Case(unittest.TestCase):
    def ok(self, *args, **kw):
        r = carat(*args, **kw)
        self.assertEqual(r.returncode, 0, "%r: %s" % (args, r.stderr.decode(errors="replace")))
        return r.stdout

    def json(self, *args, **kw):
        return json.loads(self.ok(*args, "--json", **kw))

    def refused(self, status, words, *args, **kw):
        r = carat(*args, **kw)
        text = r.stderr.decode(errors="replace")
        self.assertEqual(r.returncode, status, "%r: %s" % (args, text))
        self.assertTrue(text.startswith("carat: "), text)
        self.assertEqual(text.count("\n"), 1, "one sentence: %r" % text)
        self.assertEqual(r.stdout, b"", args)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, text)
        return text


class Front(Case):
    def test_help_and_version(self):
        self.assertTrue(self.ok("--version").startswith(b"carat "))
        overview = self.ok("--help").decode()
        for name in "run chat bench eval inspect convert pull check tokenize detokenize logits tune serve".split():
            self.assertIn("\n  %s " % name, overview)
            page = self.ok(name, "--help").decode()
            self.assertIn("usage: carat " + name, page)
            self.assertEqual(page, self.ok("help", name).decode())
            for line in page.split("\n"):
                self.assertLessEqual(len(line), 120, line)
        self.assertIn("--temp", self.ok("run", "--help").decode())
        self.assertNotIn("--pp", self.ok("run", "--help").decode())

    def test_wrong_usage(self):
        r = carat()
        self.assertEqual((r.returncode, r.stdout), (2, b""))
        self.refused(2, "did you mean carat bench", "bnech")
        self.refused(2, "unknown command", "The capital of France is")
        self.refused(2, "did you mean --temp?", "run", "--tmep", "1", "x")
        self.refused(2, "did you mean --max-tokens?", "run", "--max", "1", "x")
        self.refused(2, "unknown option '-x'", "run", "-x")
        self.refused(2, "an option of carat bench", "run", "--pp", "1", "x")
        self.refused(2, "needs a value", "run", "x", "--temp")
        self.refused(2, "takes no value", "run", "x", "--stats=1")

    def test_values(self):
        for option, value in [("--temp", "-1"), ("--temp", "hot"), ("--temp", "nan"), ("--temp", ""), ("--top-k", "1.5"),
                              ("--top-k", "-1"), ("--top-p", "1.1"), ("--top-p", "0"), ("--min-p", "2"), ("-n", "-2"),
                              ("-n", "99999999999"), ("-t", "0"), ("-t", "5000"), ("-c", "0"), ("-c", "x"), ("--seed", "-1"),
                              ("--seed", "99999999999999999999"), ("--seed", "1x"), ("--repeat-penalty", "0"),
                              ("--presence-penalty", "1e9"), ("--logit-bias", "5"), ("--logit-bias", "x:1"),
                              ("--logit-bias", "9999999:1"), ("--logit-bias", "5:inf"), ("--stop", ""), ("--kv", "int3"),
                              ("--kv", "f32,"), ("-b", "gpu"), ("--head", "half")]:
            self.refused(2, [], "run", "x", option, value)

    def test_not_there_yet(self):
        for name in "tune serve".split():
            self.refused(2, "not there yet", name)
        for args in (["--report", "d"], ["--endpoint", "u"], ["--save", "n"], ["--against", "n"], ["--plan", "12b"],
                     ["-o", "x.html"]):
            self.refused(2, "not there yet", "bench", *args)
        self.refused(3, "cuda", "run", "x", "-b", "cuda")

    def test_screened_head(self):
        """A small vocabulary is read whole, which nobody may notice; test_head.py has a large one."""
        full, screened = (self.json("run", "Hello there", "-n", 24, "--seed", 7, "--head", head) for head in ("full", "screened"))
        self.assertEqual(full["ids"], screened["ids"])
        self.assertEqual(full["head_rows"], screened["head_rows"])
        r = carat("run", "Hello", "-n", 4, "--head", "screened", "--stats")
        self.assertIn("rows in full", r.stderr.decode())

    def test_model_resolution(self):
        self.refused(2, ["is a model", "missing"], "run", TINY)
        self.refused(2, "is a model", "run", "synthetic:270m")
        self.refused(2, "named twice", "run", TINY, "x", "-m", TINY)
        self.refused(3, "make bench", "run", "x", env={"CARAT_MODEL": ""})
        self.refused(3, "no-such.gguf", "run", "-m", "no-such.gguf", "x")
        self.refused(3, ".safetensors", "run", "-m", FOLDER, "x")
        self.refused(3, "", "run", "-m", "synthetic:13b", "x")
        cache = os.path.join(FOLDER, "cache", "carat")
        os.makedirs(cache, exist_ok=True)
        link = os.path.join(cache, "small.gguf")
        if not os.path.exists(link):
            os.symlink(TINY, link)
        self.assertTrue(self.json("run", "small", "Hi", "-n", 1)["model"].endswith("small.gguf"))

    def test_damaged_models(self):
        with open(TINY, "rb") as f:
            data = f.read()
        for name, content in [("empty", b""), ("text", b"hello, I am no model\n" * 10), ("head", data[:100]),
                              ("half", data[:len(data) // 2]), ("short", data[:-1]), ("magic", b"GGUX" + data[4:]),
                              ("version", data[:4] + b"\x63\0\0\0" + data[8:])]:
            path = os.path.join(FOLDER, name + ".gguf")
            with open(path, "wb") as f:
                f.write(content)
            for command in (["run", "-m", path, "-q", "x"], ["inspect", path], ["tokenize", "-m", path, "x"],
                            ["logits", "-m", path, "--ids", "2"], ["eval", "perplexity", path], ["bench", path]):
                self.refused(3, [], *command)


class Run(Case):
    def test_text_and_json(self):
        out = self.ok("run", "Hello", "-n", 12, "--seed", 7)
        self.assertTrue(out.endswith(b"\n"))
        doc = self.json("run", "Hello", "-n", 12, "--seed", 7)
        self.assertEqual(doc["seed"], 7)
        self.assertEqual(len(doc["ids"]), doc["tokens"])
        self.assertIn(doc["stop"], ("length", "end"))
        for key in ("text", "prompt_tokens", "ttft_s", "tok_s", "model", "backend", "isa", "threads", "context", "memory"):
            self.assertIn(key, doc)
        self.assertEqual(out.decode("utf-8").rstrip("\n"), doc["text"].rstrip("\n"))
        self.assertEqual(out, self.ok("run", TINY, "Hello", "-n", 12, "--seed", 7))
        self.assertEqual(out, self.ok("run", "--max-tokens=12", "--seed=7", "--", "Hello"))
        self.assertEqual(self.json("run", "Hello", "-n", 0)["tokens"], 0)

    def test_seeds_and_threads(self):
        first = self.json("run", "Once upon a time", "-n", 40, "--seed", 3, "-t", 1)["ids"]
        for threads in (2, 3, 7):
            self.assertEqual(first, self.json("run", "Once upon a time", "-n", 40, "--seed", 3, "-t", threads)["ids"])
        self.assertNotEqual(first, self.json("run", "Once upon a time", "-n", 40, "--seed", 4)["ids"])
        a, b = (self.json("run", "x", "-n", 1)["seed"] for _ in range(2))
        self.assertNotEqual(a, b)
        greedy = [self.json("run", "x", "-n", 20, "--temp", 0, "--seed", s)["ids"] for s in (1, 2)]
        self.assertEqual(*greedy)

    def test_sources(self):
        direct = self.ok("run", "Hello there", "-n", 8, "--seed", 1)
        path = os.path.join(FOLDER, "prompt.txt")
        with open(path, "w") as f:
            f.write("Hello there\n")
        self.assertEqual(direct, self.ok("run", "-f", path, "-n", 8, "--seed", 1))
        self.assertEqual(direct, self.ok("run", "-f", "-", "-n", 8, "--seed", 1, stdin="Hello there"))
        self.assertEqual(direct, self.ok("run", "-", "-n", 8, "--seed", 1, stdin="Hello there\n"))
        ids = json.loads(self.ok("tokenize", "--json", "Hello there"))
        self.assertEqual(direct, self.ok("run", "--ids", " ".join(map(str, ids)), "-n", 8, "--seed", 1))
        self.assertEqual(direct, self.ok("run", "--ids", json.dumps(ids), "-n", 8, "--seed", 1))

    def test_bad_prompts(self):
        self.refused(2, "empty", "run", "")
        self.refused(2, "empty", "run", "-", stdin="")
        self.refused(2, "empty", "run", "-", stdin="\n")
        self.refused(2, "missing", "run")
        self.refused(2, "quotes", "run", "a", "b", "c")
        self.refused(2, ["UTF-8", "byte 3", "0xff"], "run", "-", stdin=b"abc\xffdef")
        self.refused(2, ["UTF-8", "byte 0"], "run", "-", stdin=b"\xed\xa0\x80")
        self.refused(2, "no-such.txt", "run", "-f", "no-such.txt")
        self.refused(1, ["context", "16"], "run", "word " * 200, "-c", 16)
        self.refused(2, "found 'x'", "run", "--ids", "2 x")
        self.refused(2, "none", "run", "--ids", " ")
        self.refused(2, "vocabulary", "run", "--ids", "2 999999")
        self.refused(2, "exclude", "run", "-f", "a", "--ids", "2")
        self.refused(2, "exclude", "run", "--raw", "--chat", "x")
        self.refused(2, "turns", "run", "--raw", "--system", "s", "x")

    def test_context_ends_text(self):
        r = carat("run", "Hello", "-n", "-1", "-c", "32", "--ignore-eos", "--json", "--seed", "1")
        doc = json.loads(r.stdout)
        self.assertEqual((r.returncode, doc["stop"], doc["context"]), (0, "context", 32))
        self.assertIn(doc["prompt_tokens"] + doc["tokens"], (32, 33))
        self.assertIn(b"full", r.stderr)

    def test_sampling_options(self):
        plain = self.json("run", "Hello", "-n", 6, "--temp", 0)["ids"]
        banned = self.json("run", "Hello", "-n", 6, "--temp", 0, "--logit-bias", "%d:-1000" % plain[0])["ids"]
        self.assertNotIn(plain[0], banned)
        self.assertEqual(self.json("run", "Hello", "-n", 3, "--temp", 0, "--logit-bias", "77:1000")["ids"], [77] * 3)
        apart = self.json("run", "Hello", "-n", 30, "--temp", 0, "--presence-penalty", 100)["ids"]
        self.assertEqual(len(set(apart)), len(apart))
        self.assertEqual(plain, self.json("run", "Hello", "-n", 6, "--top-k", 1, "--seed", 5)["ids"])
        for kv in ("bf16", "f16", "f32", "f32,bf16"):
            self.json("run", "Hello", "-n", 2, "--kv", kv)
        self.json("run", "Hello", "-n", 2, "--exact", "--deterministic", "--head", "full", "-b", "ref")
        self.json("run", "Hello", "-n", 2, "--chat", "--system", "Be brief.")

    def test_stop_strings(self):
        doc = self.json("run", "Hello", "-n", 60, "--seed", 1, "--ignore-eos")
        text = doc["text"]
        stop = text[len(text) // 2:][:3]
        cut = text[:text.index(stop)]
        for json_too in (True, False):
            if json_too:
                got = self.json("run", "Hello", "-n", 60, "--seed", 1, "--ignore-eos", "--stop", "never there", "--stop", stop)
                self.assertEqual((got["text"], got["stop"]), (cut, "stop"))
                self.assertLessEqual(got["tokens"], doc["tokens"])
            else:
                out = self.ok("run", "Hello", "-n", 60, "--seed", 1, "--ignore-eos", "--stop", stop).decode()
                self.assertEqual(out.rstrip("\n"), cut.rstrip("\n"))
        # What could begin a stop string is held back, and given at the end when it does not become one.
        held = self.json("run", "Hello", "-n", 60, "--seed", 1, "--ignore-eos", "--stop", text[-2:] + "never")
        self.assertEqual(held["text"], text)

    def test_stats_go_to_stderr(self):
        r = carat("run", "Hello", "-n", "5", "--seed", "9", "--stats")
        self.assertIn(b"seed 9", r.stderr)
        self.assertNotIn(b"seed", r.stdout)

    def test_streams(self):
        p = subprocess.Popen([PROGRAM, "run", "Hello", "-n", "-1", "-c", "2048", "--ignore-eos", "--seed", "1"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV)
        first = os.read(p.stdout.fileno(), 1)
        self.assertEqual(len(first), 1)
        self.assertIsNone(p.poll(), "text came before the end")
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=30)
        self.assertEqual(p.returncode, 130, err)
        self.assertTrue(out.endswith(b"\n"))

    def test_closed_pipe(self):
        p = subprocess.Popen([PROGRAM, "run", "Hello", "-n", "-1", "-c", "2048", "--ignore-eos"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=ENV)
        os.read(p.stdout.fileno(), 1)
        p.stdout.close()
        err = p.stderr.read()
        p.wait(timeout=30)
        p.stderr.close()
        self.assertEqual(err, b"")
        self.assertNotEqual(p.returncode, 0)

    def test_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "w") as full:
            r = subprocess.run([PROGRAM, "run", "Hello", "-n", "3"], stdout=full, stderr=subprocess.PIPE, env=ENV)
        self.assertEqual(r.returncode, 1)
        self.assertTrue(r.stderr.startswith(b"carat: cannot write"))


class Text(Case):
    def test_round_trip(self):
        for text in ("Hello world", " two  spaces\n\n\n", "naïve – 日本語 👩‍👩‍👧", "\t<h1>x</h1>", "<end_of_turn>"):
            ids = json.loads(self.ok("tokenize", "--json", "-f", "-", stdin=text))
            self.assertEqual(ids[0], 2)
            bare = json.loads(self.ok("tokenize", "--json", "--no-bos", "-", stdin=text))
            self.assertEqual(ids[1:], bare)
            self.assertEqual(self.ok("tokenize", "-", stdin=text).decode(), " ".join(map(str, ids)) + "\n")
            self.assertEqual(self.ok("detokenize", " ".join(map(str, bare))).decode(), text)
            self.assertEqual(self.ok("detokenize", "-", stdin=json.dumps(bare)).decode(), text)
            self.assertEqual(self.json("detokenize", *bare)["text"], text)

    def test_any_bytes(self):
        junk = bytes(range(256)) * 3
        ids = json.loads(self.ok("tokenize", "--json", "--no-bos", "-", stdin=junk))
        self.assertGreater(len(ids), 256)
        self.json("detokenize", *ids[:100])
        self.assertEqual(json.loads(self.ok("tokenize", "--json", "-", stdin="")), [2])

    def test_special(self):
        plain = json.loads(self.ok("tokenize", "--json", "--no-bos", "<end_of_turn>"))
        special = json.loads(self.ok("tokenize", "--json", "--no-bos", "--special", "<end_of_turn>"))
        self.assertEqual(len(special), 1)
        self.assertGreater(len(plain), 1)
        self.assertEqual(self.ok("detokenize", special[0]), b"")
        self.assertEqual(self.ok("detokenize", "--special", special[0]), b"<end_of_turn>")

    def test_refusals(self):
        self.refused(2, "missing", "tokenize")
        self.refused(2, "missing", "detokenize")
        self.refused(2, "vocabulary", "detokenize", "999999")
        self.refused(2, "tokenizer", "tokenize", "-m", "synthetic:270m:q4_0", "x")


class Numbers(Case):
    def test_logits(self):
        doc = self.json("logits", "--ids", "2 5 9", "--top", 7)
        self.assertEqual(set(doc), {"nll", "top"})
        self.assertEqual(len(doc["top"]), 7)
        values = [p for _, p in doc["top"]]
        self.assertEqual(values, sorted(values, reverse=True))
        self.assertLessEqual(sum(2.718281828459045 ** p for p in values), 1.0001)
        whole = self.json("logits", "--ids", "2 5 9", "--top", 1000000)
        self.assertAlmostEqual(sum(2.718281828459045 ** p for _, p in whole["top"]), 1, places=6)
        # nll adds up: that of a longer text is that of the shorter one plus the surprise of the last id
        a, b = (self.json("logits", "--ids", ids, "--top", 1000000, "--exact") for ids in ("2 5", "2 5 9"))
        self.assertAlmostEqual(a["nll"] - dict(a["top"])[9], b["nll"], places=4)
        self.assertEqual(self.json("logits", "--ids", "2")["nll"], 0)
        self.ok("logits", "Hello", "--top", 3)
        self.refused(2, "vocabulary", "logits", "--ids", "2 999999")
        self.refused(2, "missing", "logits")
        ref, cpu = (dict(self.json("logits", "--ids", "2 5 9", "--exact", "-b", b)["top"]) for b in ("ref", "cpu"))
        for i in list(ref)[:5]:
            self.assertAlmostEqual(ref[i], cpu[i], delta=0.1)  # the fixture's logits are large

    def test_eval(self):
        text = "The quick brown fox jumps over the lazy dog. " * 30
        doc = self.json("eval", "perplexity", "-f", "-", "-c", 64, "--chunks", 3, stdin=text)
        self.assertEqual((doc["chunks"], doc["tokens"]), (3, 3 * 31))
        for key in ("ppl", "stderr", "tok_s"):
            self.assertGreater(doc[key], 0)
        again = self.json("eval", "perplexity", TINY, "-f", "-", "-c", 64, "--chunks", 3, "-t", 1, stdin=text)
        self.assertEqual(doc["ppl"], again["ppl"])
        self.assertGreater(self.json("eval", "perplexity", "-c", 128)["tokens"], 100)
        for path in ("prompt", "decode"):
            kl = self.json("eval", "kl", "--base", TINY, "--base-backend", "ref", TINY, "-f", "-", "-c", 64, "--chunks", 2, "--path",
                           path, stdin=text)
            self.assertEqual(kl["tokens"], 2 * 31)
            self.assertLess(kl["kl_mean"], 0.05)
            self.assertLessEqual(kl["kl_mean"], kl["kl_p99"])
            self.assertGreater(kl["top1_agree"], 0.8)
        same = self.json("eval", "kl", "--base", TINY, TINY, "--exact", "-f", "-", "-c", 64, "--chunks", 2, stdin=text)
        self.assertEqual((same["kl_mean"], same["top1_agree"]), (0, 1))
        self.refused(2, "two chunks", "eval", "perplexity", "-f", "-", stdin="too short")
        self.refused(2, "perplexity or", "eval")
        self.refused(2, "--base", "eval", "kl", "-f", "-")
        self.refused(2, "kl", "eval", "perplexity", "--base", TINY)
        self.refused(2, "prompt or decode", "eval", "kl", "--base", TINY, "--path", "both")

    def test_inspect(self):
        doc = self.json("inspect", TINY)
        self.assertTrue(doc["format"].startswith("GGUF"))
        self.assertIsNone(doc["refused"])
        self.assertEqual(doc["file_bytes"], os.path.getsize(TINY))
        self.assertEqual(doc["metadata"]["general.architecture"], "gemma3")
        self.assertTrue(any(t["name"] == "token_embd.weight" for t in doc["tensors"]))
        self.assertGreater(doc["memory"]["total"], doc["memory"]["weights"])
        big = self.json("inspect", TINY, "--memory", "-c", 1024, "--kv", "f32")["memory"]
        small = self.json("inspect", TINY, "--memory", "-c", 1024, "--kv", "bf16")["memory"]
        self.assertGreater(big["total"], small["total"])
        self.assertIn(b"token_embd.weight", self.ok("inspect"))
        self.assertIn(b"context", self.ok("inspect", "--memory"))

    def test_bench(self):
        doc = self.json("bench", TINY, "--pp", "16,32", "--tg", "4", "--depth", "0,8", "--batch", "1,3", "--repeats", 2)
        names = [r["test"] for r in doc["runs"]]
        for name in ("pp16", "pp32", "tg4", "pp16@b3", "tg4@d8", "tg4@d8@b3"):
            self.assertIn(name, names)
        self.assertEqual(len(names), 12)
        self.assertGreater(doc["machine"]["bandwidth"], 1e8)
        for r in doc["runs"]:
            self.assertEqual(len(r["samples"]), 2)
            self.assertGreater(r["tok_s"], 0)
        self.refused(2, "--depth and --batch go with", "bench", TINY, "--depth", "8")
        self.refused(2, "from 1 to", "bench", TINY, "--pp", "0")
        self.refused(2, ["--pp", "--tg"], "bench", "synthetic:270m:q4_0", timeout=300)

    def test_bench_texts(self):
        out = [os.path.join(FOLDER, "report." + s) for s in ("json", "csv", "md")]
        args = sum((["-o", o] for o in out), [])
        r = carat("bench", TINY, "-n", "20", "--json", *args)
        if r.returncode == 2 and b"two chunks" in r.stderr:
            self.skipTest("the fixture's context is too small for the main job")
        self.assertEqual(r.returncode, 0, r.stderr)
        doc = json.loads(r.stdout)
        self.assertEqual(len(doc["runs"]), 6)
        for run in doc["runs"]:
            for key in ("prompt", "prompt_tokens", "tokens", "stop", "ttft_s", "tok_s", "samples", "share", "rss_start", "rss_middle",
                        "rss_end", "mean_logprob", "loops", "text"):
                self.assertIn(key, run)
            self.assertLessEqual(run["tokens"], 20)
        self.assertGreater(doc["perplexity"], 1)
        files = []
        for name in out:
            with open(name, encoding="utf-8") as f:
                files.append(f.read())
        self.assertEqual(json.loads(files[0])["runs"], doc["runs"])
        self.assertEqual(len(files[1].strip().split("\n")), 7)
        self.assertIn("| short | 0 |", files[2])
        table = self.ok("bench", TINY, "-n", 20).decode()
        self.assertIn("perplexity", table)

    def test_check(self):
        r = carat("check", "--quick", "--json", "-b", "cpu", timeout=600)
        doc = json.loads(r.stdout)
        self.assertEqual(r.returncode == 0, doc["failed"] == 0)
        self.assertGreater(len(doc["results"]), 5)

    def test_interrupt(self):
        p = subprocess.Popen([PROGRAM, "bench", TINY, "--tg", "1000000", "--repeats", "100"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=ENV)
        time.sleep(1.5)
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=30)
        self.assertEqual(p.returncode, 130)


if __name__ == "__main__":
    if not os.path.exists(PROGRAM):
        print("the program %s was not built" % PROGRAM)
        sys.exit(77)
    if not os.path.exists(TINY):
        print("the fixture %s is missing" % TINY)
        sys.exit(77)
    try:
        done = unittest.main(argv=[sys.argv[0]] + sys.argv[2:], exit=False)
    finally:
        import shutil

        shutil.rmtree(FOLDER, ignore_errors=True)
    sys.exit(0 if done.result.wasSuccessful() else 1)
