#!/usr/bin/env python3
"""What the program says of itself to man, bash, zsh and fish: every option of its help is there, and completion loads and completes in
the real shells (bash through its completion function and through a terminal; the others where they are installed).

    test_describe.py PROGRAM
"""
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath("carat")
BUILD = os.environ.get("CARAT_BUILD", "build/release")
FOLDER = tempfile.mkdtemp(prefix="carat-describe-")


def run(*words, **kw):
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **kw)


def describe(*words):
    r = run(PROGRAM, "describe", *words)
    assert r.returncode == 0, r.stderr
    return r.stdout


def saved(what):
    path = os.path.join(FOLDER, what)
    with open(path, "w", encoding="utf-8") as f:
        f.write(describe(what))
    return path


def options_of(command):
    """[(letter or "", name)] as --help lists them."""
    return re.findall(r"^  (?:-(\w),|   ) --([\w-]+)", run(PROGRAM, command, "--help").stdout, re.M)


COMMANDS = describe("commands").split()


class Table(unittest.TestCase):
    def test_commands(self):
        overview = run(PROGRAM, "--help").stdout
        listed = re.findall(r"^  (\w+) +(.*)", overview, re.M)
        self.assertEqual(COMMANDS, [name for name, text in listed if "not there yet" not in text])
        page = describe("man")
        for name in COMMANDS:
            self.assertIn("*carat-%s*(1)" % name, page)

    def test_every_option_everywhere(self):
        bash, zsh, fish = describe("bash"), describe("zsh"), describe("fish")
        for command in COMMANDS:
            options = options_of(command)
            self.assertGreater(len(options), 5, command)
            page = describe("man", command)
            in_bash = re.search(r"^        %s\)\n            options='(.*)'" % command, bash, re.M)[1].split()
            in_zsh = re.search(r"^        %s\)\n(.*?)\n            ;;" % command, zsh, re.M | re.S)[1]
            for letter, name in options:
                where = "%s --%s" % (command, name)
                self.assertRegex(page, r"(?m)^(\*-%s\*, )?\*--%s\*( _|$)" % (letter or "x", name), where)
                self.assertIn("--" + name, in_bash, where)
                self.assertRegex(in_zsh, r"--%s[=}'\[]" % name, where)
                line = re.search(r"^complete .*seen_subcommand_from ([\w ]+)' -l %s( -s %s)?( |$)" % (name, letter or "x"),
                                 fish, re.M)
                self.assertIn(command, line[1].split(), where)
                if letter:
                    self.assertIn("-" + letter, in_bash, where)
                    self.assertRegex(in_zsh, r"\{-%s\+?," % letter, where)
                    self.assertIsNotNone(line[2], where)
            self.assertEqual(len(re.findall(r"^\*(?:-\w\*, \*)?--", page, re.M)), len(options), command)
            self.assertEqual(len([w for w in in_bash if w.startswith("--")]), len(options), command)

    def test_refusals(self):
        for words in [[], ["tcsh"], ["man", "nosuch"], ["man", "serve"], ["bash", "zsh"], ["man", "run", "chat"]]:
            r = run(PROGRAM, "describe", *words)
            self.assertEqual((r.returncode, r.stdout), (2, ""), words)
            self.assertEqual(r.stderr.count("\n"), 1, words)

    def test_pages(self):
        if shutil.which("scdoc") is None:
            self.skipTest("scdoc is not installed")
        pages = [describe("man")] + [describe("man", name) for name in COMMANDS]
        for page in pages:
            r = run("scdoc", input=page)
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn(".SH NAME", r.stdout)
        built = os.path.join(BUILD, "packaging", "described", "man1")
        if os.path.isdir(built) and os.listdir(built):
            self.assertEqual(sorted(os.listdir(built)), sorted(["carat.1"] + ["carat-%s.1" % name for name in COMMANDS]))


# What is typed, and what the shell must and must not offer.
CASES = [
    ("carat be", {"bench"}, {"run"}),
    ("carat help in", {"inspect"}, {"bench"}),
    ("carat bench --qu", {"--quick", "--quiet"}, {"--stop"}),
    ("carat eval per", {"perplexity"}, {"kl"}),
    ("carat run --kv q", {"q8", "q4"}, {"bf16"}),
    ("carat run -b re", {"ref"}, {"auto"}),
    ("carat inspect --me", {"--memory"}, {"--pp"}),
    ("carat run -m mod", {"model.gguf"}, {"run"}),
    ("carat eval kl --base mod", {"model.gguf"}, {"run"}),
    ("carat inspect mod", {"model.gguf"}, {"run"}),
]


class Terminal:
    """A shell on a terminal: types, and reads until it has seen what is wanted and then a little silence; or gives up."""

    def __init__(self, *words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(FOLDER)
            os.execve(shutil.which(words[0]), list(words), dict(os.environ, TERM="dumb", PS1="> ", HOME=FOLDER,
                                                                PATH=os.path.dirname(PROGRAM) + ":" + os.environ["PATH"]))

    def read(self, wanted, patience=20):
        got, until = b"", time.time() + patience
        while time.time() < until:
            if select.select([self.fd], [], [], 0.3)[0]:
                try:
                    got += os.read(self.fd, 65536)
                except OSError:
                    break
            elif all(w.encode() in got for w in wanted):
                break
        return got.decode(errors="replace")

    def send(self, text, *wanted):
        os.write(self.fd, text.encode())
        return self.read(wanted)

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


class Shells(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        open(os.path.join(FOLDER, "model.gguf"), "w").close()

    def bash(self, line):
        words = line.split(" ")
        quoted = " ".join("'%s'" % w for w in words)
        script = "source %s/bash; COMP_WORDS=(%s); COMP_CWORD=%d; _carat; printf '%%s\\n' \"${COMPREPLY[@]}\"" % (
            FOLDER, quoted, len(words) - 1)
        r = run("bash", "--norc", "--noprofile", "-c", script, cwd=FOLDER)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(r.stderr, "")
        return set(r.stdout.split())

    def test_bash(self):
        if shutil.which("bash") is None:
            self.skipTest("bash is not installed")
        saved("bash")
        for line, offered, not_offered in CASES:
            got = self.bash(line)
            if "model.gguf" in offered:  # left to bash's own file names
                self.assertEqual(got, set(), line)
                continue
            self.assertLessEqual(offered, got, line)
            self.assertFalse(not_offered & got, line)
        self.assertEqual(self.bash("carat run --kv = bf"), {"bf16"})  # bash cuts --kv=bf into three words
        self.assertEqual(self.bash("carat eval kl --path = "), {"prompt", "decode"})

    def test_bash_on_a_terminal(self):
        if shutil.which("bash") is None:
            self.skipTest("bash is not installed")
        t = Terminal("bash", "--norc", "--noprofile", "-i")
        t.send("source %s; echo rea''dy\n" % saved("bash"), "ready")
        for typed, wanted in [("carat ben\t", "carat bench "), ("--quic\t", "--quick"), ("mod\t", "model.gguf"),
                              ("\x15carat run --kv=bf\t", "--kv=bf16")]:
            self.assertIn(wanted, t.send(typed, wanted))
        t.close()

    def test_zsh_on_a_terminal(self):
        if shutil.which("zsh") is None:
            self.skipTest("zsh is not installed")
        r = run("zsh", "-f", "-n", saved("zsh"))
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        t = Terminal("zsh", "-f", "-i")
        t.send("PS1='> '; autoload -Uz compinit; compinit -u -d %s/dump; source %s/zsh; print rea''dy\n" % (FOLDER, FOLDER), "ready")
        for line, offered, not_offered in CASES:
            got = t.send("\x15" + line + "\t\t", *offered)
            for word in offered:
                self.assertIn(word, got, (line, got))
            for word in not_offered:
                self.assertNotIn(word, got.replace(line, ""), (line, got))
        self.assertIn("--kv=bf16", t.send("\x15carat run --kv=bf\t", "--kv=bf16"))
        t.close()

    def test_zsh_from_a_folder(self):
        if shutil.which("zsh") is None:
            self.skipTest("zsh is not installed")
        shutil.copy(saved("zsh"), os.path.join(FOLDER, "_carat"))
        t = Terminal("zsh", "-f", "-i")
        t.send("PS1='> '; fpath=(%s $fpath); autoload -Uz compinit; compinit -u -d %s/dump2; print rea''dy\n" % (FOLDER, FOLDER), "ready")
        self.assertIn("bench", t.send("carat ben\t", "bench"))
        t.close()

    def test_fish(self):
        if shutil.which("fish") is None:
            self.skipTest("fish is not installed")
        path = saved("fish")
        env = dict(os.environ, HOME=FOLDER, XDG_CONFIG_HOME=FOLDER, XDG_DATA_HOME=FOLDER)
        for line, offered, not_offered in CASES:
            r = run("fish", "--no-config", "-c", "source %s; complete -C '%s'" % (path, line), cwd=FOLDER, env=env)
            self.assertEqual((r.returncode, r.stderr), (0, ""), line)
            got = {w.split("\t")[0] for w in r.stdout.splitlines()}
            self.assertLessEqual(offered, got, line)
            self.assertFalse(not_offered & got, line)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
