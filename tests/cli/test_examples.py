#!/usr/bin/env python3
"""The programs of examples/, built beside the tests, do what their first comment says. With the tiny model: no download."""
import os
import subprocess
import sys

TINY = "tests/fixtures/tiny/tiny.gguf"
FOLDER = os.path.join(os.environ.get("CARAT_BUILD", "build/release"), "examples")


def run(*words):
    return subprocess.run([os.path.join(FOLDER, words[0]), *words[1:]], capture_output=True, text=True,
                          errors="replace", timeout=300)


def batch(carat):
    prompts = ["The capital of France is", "one two", "Water", "a", "zero"]
    got = run("batch", TINY, *prompts)
    assert got.returncode == 0, got.stderr
    assert got.stderr == "", got.stderr
    for prompt in prompts:  # what a run of its own writes
        alone = subprocess.run([carat, "run", TINY, prompt, "--raw", "--temp", "0", "-n", "24"], capture_output=True,
                               text=True, errors="replace", timeout=300)
        assert alone.returncode == 0, alone.stderr
        assert prompt + alone.stdout.rstrip("\n") in got.stdout, (prompt, alone.stdout, got.stdout)
    assert got.stdout.count("\n") >= len(prompts)
    assert run("batch").returncode == 2
    missing = run("batch", "no/such/file.gguf", "a")
    assert missing.returncode == 1 and missing.stderr.startswith("batch: "), missing.stderr


def main():
    if not os.path.isdir(FOLDER):
        print("examples were not built")
        return 77
    batch(sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
