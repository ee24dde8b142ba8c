#!/usr/bin/env python3
"""carat chat as a person and as a script use it: turns, history of a talk, commands, Ctrl-C, Ctrl-D, saving, refusals.

    test_chat.py PROGRAM

Needs the tiny fixture only: as it is a base model, and once more with a chat template in it, as an instruction-tuned one.
"""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

import lib_split

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath("carat")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TINY = os.path.join(ROOT, "tests", "fixtures", "tiny", "tiny.gguf")
FOLDER = tempfile.mkdtemp(prefix="carat-chat-")
TUNED = os.path.join(FOLDER, "tuned.gguf")
STATE = os.path.join(FOLDER, "state")
ENV = dict(os.environ, NO_COLOR="1", HOME=FOLDER, XDG_STATE_HOME=STATE, TERM="xterm")
for name in ("CARAT_MODEL", "LC_ALL", "LC_CTYPE", "LANG", "EDITRC"):
    ENV.pop(name, None)
BOS, START, END = 2, 9, 10  # of the fixture's vocabulary


def write_tuned():
    """The fixture with a chat template: what makes a model instruction-tuned. Nobody reads the template itself."""
    with open(TINY, "rb") as f:
        metadata, n_keys, tensors = lib_split.read(f.read())
    name, text = b"tokenizer.chat_template", b"{{ bos_token }}<start_of_turn>"
    out = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), n_keys + 1) + metadata
    out += struct.pack("<Q", len(name)) + name + struct.pack("<IQ", 8, len(text)) + text
    body = b""
    for described, data in tensors:
        out += described + struct.pack("<Q", len(body))
        body += data + bytes(-len(data) % 32)
    out += bytes(-len(out) % 32)
    with open(TUNED, "wb") as f:
        f.write(out + body)


def carat(*args, stdin=""):
    stdin = stdin.encode() if isinstance(stdin, str) else stdin
    return subprocess.run([PROGRAM] + [str(a) for a in args], input=stdin, capture_output=True, env=ENV, timeout=120)


def tokens(text):
    return json.loads(carat("tokenize", "-m", TINY, "--json", "--no-bos", "-", stdin=text).stdout)


def user_turn(text):
    return [START] + tokens("user\n" + text) + [END] + tokens("\n") + [START] + tokens("model\n")


def generated(ids, n=8, *more):
    """What follows these ids; ref computes a row in one way whatever its role, so the history's roles do not matter."""
    r = carat("run", TINY, "--ids", " ".join(map(str, ids)), "-n", n, "--seed", 5, "-b", "ref", "--json", *more)
    return json.loads(r.stdout)["ids"]


class Case(unittest.TestCase):
    def script(self, text, *args, status=0):
        r = carat("chat", *args, stdin=text)
        self.assertEqual(r.returncode, status, r.stderr.decode(errors="replace"))
        return r

    def turns(self, text, *args, status=0):
        """The turns of a script: JSON, one a line."""
        out = self.script(text, *args, "--json", "--seed", 5, "-b", "ref", "-n", 8, status=status).stdout
        return [json.loads(line) for line in out.decode().split("\n") if line]

    def refused(self, status, words, *args, stdin=""):
        r = carat("chat", *args, stdin=stdin)
        text = r.stderr.decode(errors="replace")
        self.assertEqual(r.returncode, status, text)
        self.assertTrue(text.startswith("carat: "), text)
        self.assertEqual(text.count("\n"), 1, text)
        self.assertIn(words, text)


class Turns(Case):
    def test_ids_of_turns(self):
        one, two = self.turns("Hello\nAnd then?\n", TUNED)
        history = [BOS] + user_turn("Hello")
        self.assertEqual(one["prompt_tokens"], len(history))
        self.assertEqual(one["ids"], generated(history))
        # The answer was cut, so its end of turn is added, and the newline behind it, which no model writes.
        history += one["ids"] + [END] + tokens("\n") + user_turn("And then?")
        self.assertEqual(two["ids"], generated(history))
        self.assertEqual(two["length"], len(history) + len(two["ids"]))
        self.assertEqual((one["turn"], two["turn"]), (1, 2))

    def test_an_answer_that_ends(self):
        bias = ["--logit-bias", "%d:1000" % END]
        one, two = self.turns("Hello\nMore\n", TUNED, *bias)
        self.assertEqual((one["stop"], one["ids"], one["text"]), ("end", [], ""))
        # Its own end of turn is there already.
        self.assertEqual(two["length"], len([BOS] + user_turn("Hello") + [END] + tokens("\n") + user_turn("More")) + 1)

    def test_system_text(self):
        for args, text in ((["--system", "Be brief."], "Hi\nHi\n"), ([], "/system Be brief.\nHi\nHi\n")):
            one, two = self.turns(text, TUNED, *args)
            self.assertEqual(one["ids"], generated([BOS] + user_turn("Be brief.\n\nHi")))
            self.assertEqual(two["prompt_tokens"], len(tokens("\n") + [END] + user_turn("Hi")))
        again = self.turns("Hi\n/reset\nHi\n/system \"\"\n/reset\nHi\n", TUNED, "--system", "Be brief.")
        self.assertEqual(again[0]["ids"], again[1]["ids"])
        self.assertEqual(again[2]["ids"], generated([BOS] + user_turn("Hi")))
        shown = self.script("/system\n/system One\n/system\n", TUNED).stderr.decode()
        self.assertIn("no system text", shown)
        self.assertIn("the system text is: One", shown)

    def test_what_a_message_is(self):
        for text, message in (("  Hello \n", "Hello"), ("Hello\r\n", "Hello"), ("Hello", "Hello"), ("a\\\nb\n", "a\nb"),
                              ('"""a\n\nb"""\n', "a\n\nb"), ('"""\na\nb\n"""\n', "a\nb"), ('"""a"""\n', "a"),
                              ('"""\n/help\n"""\n', "/help"), (" /reset\n", "/reset"), ("/usr/bin\n", "/usr/bin"),
                              ("<end_of_turn>\n", "<end_of_turn>"), ("\n\n \nHello\n\n", "Hello"), ('"""a\nb', "a\nb")):
            with self.subTest(text):
                got = self.turns(text, TUNED)
                self.assertEqual(len(got), 1)
                self.assertEqual(got[0]["ids"], generated([BOS] + user_turn(message)))

    def test_seeds(self):
        first, after_reset = self.turns("Hello\n/reset\nHello\n", TUNED)
        self.assertEqual(first["ids"], after_reset["ids"])
        r = self.script("Hello\n", TUNED, "--stats", "-n", 3, "--seed", 77)
        self.assertIn(b"seed 77", r.stderr)
        self.assertNotIn(b"seed", r.stdout)

    def test_text_and_files(self):
        out = self.script("Hello\nMore\n", TUNED, "--seed", 5, "-b", "ref", "-n", 8).stdout.decode(errors="replace")
        texts = [t["text"] for t in self.turns("Hello\nMore\n", TUNED)]
        self.assertEqual(out, "".join(t if t.endswith("\n") else t + "\n" for t in texts))
        path = os.path.join(FOLDER, "script.txt")
        with open(path, "w") as f:
            f.write("Hello\nMore\n")
        self.assertEqual([t["text"] for t in self.turns("", TUNED, "-f", path)], texts)
        self.assertEqual(self.script("", TUNED).stdout, b"")


class Base(Case):
    def test_says_what_to_expect(self):
        r = self.script("Hello\n", TINY, "-n", 2)
        self.assertIn(b"not instruction-tuned", r.stderr)
        self.assertIn(b"continues your text", r.stderr)
        self.assertEqual(self.script("Hello\n", TINY, "-n", 2, "-q").stderr, b"")
        self.assertIn(b"Gemma's turns as --chat asks", self.script("Hello\n", TINY, "-n", 2, "--chat").stderr)
        self.assertNotIn(b"instruction-tuned", self.script("Hello\n", TUNED, "-n", 2).stderr)

    def test_text_goes_on(self):
        one, two = self.turns("Hello\nmore\n", TINY)
        history = [BOS] + tokens("Hello")
        self.assertEqual(one["ids"], generated(history))
        history += one["ids"] + tokens(("" if one["text"].endswith("\n") else "\n") + "more")
        self.assertEqual(two["ids"], generated(history))
        self.assertEqual([t["ids"] for t in self.turns("Hello\nmore\n", TUNED, "--raw")], [one["ids"], two["ids"]])
        self.assertEqual(self.turns("Hello\n", TINY, "--chat")[0]["ids"], generated([BOS] + user_turn("Hello")))

    def test_limit(self):
        r = self.script("Hello\n", TINY, "--json", "--ignore-eos")
        self.assertEqual(json.loads(r.stdout)["tokens"], 128)

    def test_an_end_is_forgotten(self):
        one, two = self.turns("Hello\nmore\n", TINY, "--logit-bias", "1:1000")
        self.assertEqual((one["stop"], one["length"]), ("end", 1 + len(tokens("Hello"))))
        self.assertEqual(two["length"], 1 + len(tokens("Hello") + tokens("\nmore")))


class Commands(Case):
    def test_save_and_load(self):
        path = os.path.join(FOLDER, "a talk.carat")
        whole = self.turns("Hello\nMore\nAnd?\n", TUNED)
        saved = self.turns("Hello\nMore\n/save %s\n" % path, TUNED)
        loaded = self.turns("Something else\n/load %s\nAnd?\n" % path, TUNED)
        self.assertEqual([t["ids"] for t in whole], [t["ids"] for t in saved + loaded[1:]])
        self.assertEqual(whole[2]["length"], loaded[1]["length"])
        home = self.turns("/load ~/a talk.carat\nAnd?\n", TUNED)
        self.assertEqual(home[0]["ids"], whole[2]["ids"])

    def test_session_option(self):
        path = os.path.join(FOLDER, "kept.carat")
        whole = self.turns("Hello\nMore\n", TUNED)
        parts = [self.turns(text, TUNED, "--session", path)[0]["ids"] for text in ("Hello\n", "More\n")]
        self.assertEqual([t["ids"] for t in whole], parts)

    def test_load_refusals(self):
        path = os.path.join(FOLDER, "damaged.carat")
        with open(path, "wb") as f:
            f.write(b"no session\n" * 20)
        for command, status, words in (("/load " + path, 3, b"carat: "), ("/load no-such-file", 3, b"no-such-file"),
                                       ("/load", 2, b"/load FILE"), ("/save", 2, b"/save FILE"),
                                       ("/save x", 2, b"nothing to save"), ("/reset now", 2, b"found 'now'")):
            with self.subTest(command):
                r = self.script(command + "\nHello\n", TUNED, "-n", 2, status=status)
                self.assertIn(words, r.stderr)
                self.assertEqual(r.stdout, b"", "a script does not talk past a failure")

    def test_words(self):
        self.assertIn(b"did you mean /reset?", self.script("/rest\n", TUNED, status=2).stderr)
        self.assertIn(b"/help lists them", self.script("/xyzzyx\n", TUNED, status=2).stderr)
        r = self.script("/help\n/?\n", TUNED)
        self.assertEqual(r.stdout, b"")
        for word in (b"/reset", b"/system", b"/save", b"/load", b"/stats", b"/bye", b'"""', b"Ctrl-C"):
            self.assertEqual(r.stderr.count(word) % 2, 0)
            self.assertIn(word, r.stderr)
        for word in ("/bye", "/quit"):
            self.assertEqual(len(self.turns("Hello\n%s\nMore\n" % word, TUNED)), 1)
        stats = self.script("/stats\nHello\n/stats\n", TUNED, "-n", 3).stderr
        self.assertIn(b"0 turns, 0 of the context's 2048 tokens", stats)
        self.assertIn(b"1 turns, ", stats)
        self.assertIn(b"generated  3 tokens", stats)

    def test_context_full(self):
        r = self.script("Hello\n/stats\n" + "word " * 100 + "\n", TUNED, "-c", 64, "-n", 8, "--seed", 5, status=1)
        self.assertIn(b"/reset", r.stderr)
        self.assertIn(b"nothing is lost", r.stderr)
        r = self.script("Hello\n/stats\n/reset\n/stats\n", TUNED, "-c", 64, "--ignore-eos", "--json")
        self.assertEqual(json.loads(r.stdout)["stop"], "context")
        self.assertIn(b"/reset begins a new one", r.stderr)
        self.assertIn(b"0 of the context's 64 tokens", r.stderr)

    def test_refusals(self):
        self.refused(2, "at most the model", TINY, "Hello")
        self.refused(2, "no tokenizer", "synthetic:270m:q4_0", "-t", 1)
        self.refused(2, "instruction-tuned", TINY, "--system", "x")
        self.refused(2, "--raw asks for none", TUNED, "--raw", "--system", "x")
        self.refused(2, "turns", TINY, "-q", stdin="/system x\n")
        self.refused(2, "no-such.txt", TUNED, "-f", "no-such.txt")
        self.refused(2, "cannot read", TUNED, "-f", FOLDER)
        self.refused(3, "no-such.gguf", "no-such.gguf")
        self.refused(2, "byte 1 is 0xff", TUNED, stdin=b"a\xffb\n")


class Terminal(Case):
    """Typing, on a pseudo-terminal."""

    def start(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(PROGRAM, [PROGRAM, "chat"] + [str(a) for a in args], ENV)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 200, 0, 0))
        self.seen = b""
        self.over = False

    def wait_for(self, text, seconds=60):
        """Everything up to and with text (a pattern), which is then forgotten."""
        until = time.time() + seconds
        while True:
            found = re.search(text, self.seen)
            if found:
                got, self.seen = self.seen[: found.end()], self.seen[found.end() :]
                return got
            if self.over or time.time() > until:
                self.fail("waited for %r, found %r" % (text, self.seen))
            if select.select([self.fd], [], [], 0.5)[0]:
                try:
                    more = os.read(self.fd, 4096)
                except OSError:  # the other side has closed
                    more = b""
                self.over = more == b""
                self.seen += more

    def prompt(self, text=rb"\n>>> ", seconds=60):
        """The same for a prompt, and until the terminal is the line editor's: it writes its prompt a moment earlier, and a
        key that comes in between is the terminal's."""
        got = self.wait_for(text, seconds)
        until = time.time() + seconds
        while EDITS and termios.tcgetattr(self.fd)[3] & termios.ICANON and time.time() < until:
            time.sleep(0.01)
        return got

    def type(self, text):
        os.write(self.fd, text.encode() if isinstance(text, str) else text)

    def ended(self):
        until = time.time() + 60
        while time.time() < until:
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = None
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        self.fail("it did not end: %r" % self.seen)

    def tearDown(self):
        if getattr(self, "pid", None):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.fd)

    def test_talk(self):
        self.start(TUNED, "-n", 4, "--seed", 1)
        self.assertIn(b"/help lists the commands", self.prompt(rb">>> "))
        self.type("Hello\r")
        self.assertIn(b"stopped after 4 tokens", self.prompt())
        self.type("/stats\r")
        self.assertIn(b"1 turns", self.prompt())
        self.type("/rest\r")
        self.assertIn(b"did you mean /reset?", self.prompt())
        self.type('"""one\r')
        self.prompt(rb"\.\.\. ")
        self.type('two"""\r')
        self.prompt()
        self.type("/stats\r")
        self.assertIn(b"2 turns", self.prompt())
        self.type("/reset\r")
        self.assertIn(b"a new talk begins", self.prompt())
        self.type(b"\x04")
        self.assertEqual(self.ended(), 0)

    def test_ctrl_c_stops_the_answer(self):
        self.start(TUNED, "--ignore-eos", "-b", "ref", "--seed", 1)
        self.prompt(rb">>> ")
        self.type("Hello\r")
        self.wait_for(rb"Hello\r*\n[^\n]*.{20}")
        self.type(b"\x03")
        self.prompt(rb">>> ", 30)
        self.type("/stats\r")
        self.assertIn(b"stopped: interrupted", self.prompt())
        self.type("And?\r")  # the talk goes on
        self.wait_for(rb"And\?\r*\n[^\n]*.{20}")
        self.type(b"\x03")
        self.prompt(rb">>> ", 30)
        self.type("/stats\r")
        self.assertIn(b"2 turns", self.prompt())
        self.type("/bye\r")
        self.assertEqual(self.ended(), 0)

    def test_ctrl_c_takes_the_message_back(self):
        """Stopped while a long message is read: the talk is as if it had not been typed."""
        path = os.path.join(FOLDER, "taken-back.carat")
        self.start(TUNED, "-b", "ref", "--seed", 5, "-n", 8)
        self.prompt(rb">>> ")
        self.type("Hello\r")
        self.prompt()
        self.type("word " * 370 + "\r")  # seconds of work, asked about after each 512 tokens
        until = time.time() + 30
        while EDITS and not termios.tcgetattr(self.fd)[3] & termios.ICANON and time.time() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        self.type(b"\x03")
        self.assertIn(b"not part of the talk", self.prompt(rb"\n>>> "))
        self.type("/save %s\r" % path)
        self.prompt()
        self.type("/bye\r")
        self.assertEqual(self.ended(), 0)
        self.assertEqual(self.turns("/load %s\nMore\n" % path, TUNED)[0]["ids"], self.turns("Hello\nMore\n", TUNED)[1]["ids"])

    def test_ctrl_c_at_the_prompt(self):
        self.start(TUNED, "-n", 2)
        self.prompt(rb">>> ")
        if EDITS:
            self.type("half a line")
            self.wait_for(rb"half a line")
            self.type(b"\x03")
            self.assertNotIn(b"again leaves", self.prompt())
        self.type(b"\x03")
        self.assertIn(b"Ctrl-C again leaves", self.prompt())
        self.type("/stats\r")  # something else in between: it counts anew
        self.assertIn(b"0 turns", self.prompt())
        self.type(b"\x03")
        self.prompt()
        self.type(b"\x03")
        self.assertEqual(self.ended(), 0)

    def test_terminal_is_left_as_found(self):
        self.start(TUNED, "-n", 2)
        self.prompt(rb">>> ")
        self.type("Hello\r")
        self.prompt()
        os.kill(self.pid, signal.SIGTERM)
        until = time.time() + 30
        while time.time() < until and not termios.tcgetattr(self.fd)[3] & termios.ICANON:
            time.sleep(0.05)
        self.assertTrue(termios.tcgetattr(self.fd)[3] & termios.ICANON)
        self.assertTrue(termios.tcgetattr(self.fd)[3] & termios.ECHO)
        self.assertEqual(self.ended(), -signal.SIGTERM)

    def test_history(self):
        if not EDITS:
            self.skipTest("built without libedit")
        path = os.path.join(STATE, "carat", "chat_history")
        if os.path.exists(path):
            os.remove(path)
        self.start(TUNED, "-n", 2, "--seed", 1)
        self.prompt(rb">>> ")
        self.type("grüße first\r")
        self.prompt()
        self.type("/bye\r")
        self.assertEqual(self.ended(), 0)
        with open(path, "rb") as f:
            self.assertEqual(f.read().decode(), "grüße first\n/bye\n")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.start(TUNED, "-n", 2, "--seed", 1)
        self.prompt(rb">>> ")
        self.type(b"\x10\x10")  # twice up
        self.wait_for("grüße first".encode())
        self.type(b"\x05!\r")
        self.prompt()
        self.type(b"\x04")
        self.assertEqual(self.ended(), 0)
        with open(path, "rb") as f:
            self.assertEqual(f.read().decode().split("\n")[2], "grüße first!")


if __name__ == "__main__":
    if not os.path.exists(PROGRAM):
        print("the program %s was not built" % PROGRAM)
        sys.exit(77)
    with open(PROGRAM, "rb") as f:
        EDITS = b"el_gets" in f.read()
    write_tuned()
    try:
        done = unittest.main(argv=[sys.argv[0]] + sys.argv[2:], exit=False)
    finally:
        import shutil

        shutil.rmtree(FOLDER, ignore_errors=True)
    sys.exit(0 if done.result.wasSuccessful() else 1)
