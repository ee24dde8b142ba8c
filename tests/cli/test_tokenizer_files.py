#!/usr/bin/env python3
"""Tokenizers of folders give the ids of the GGUF file: what carat writes of one, and, where they are at hand, Gemma's own files.

The tiny fixture is written as tokenizer.json and read again, always. With ../shared/data/gemma3-tokenizer and the default model:
Gemma's tokenizer.json, a tokenizer.model made here of the GGUF's arrays as SentencePiece lays it out, and the tokenizer.json that
carat writes of the GGUF, which must have every piece, merge and added token of Gemma's, in the same order.
"""
import json
import lzma
import os
import random
import struct
import subprocess
import sys
import tempfile

TOOLS = os.environ.get("CARAT_TOOLS", "build/release/tools")
TINY = "tests/fixtures/tiny/tiny.gguf"
MODEL = os.environ.get("CARAT_TEST_MODEL", os.path.expanduser("~/.cache/carat/gemma-3-270m-q4_k_m.gguf"))
DATA = "../shared/data/gemma3-tokenizer/"


def ids_of(model, texts, *flags):
    data = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    done = subprocess.run([TOOLS + "/tokenize_many", model, *flags], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    print("    %s: %s" % (os.path.basename(model), done.stderr.decode().split(";")[0]))
    return done.stdout


def write(model, folder):
    done = subprocess.run([TOOLS + "/write_tokenizer", model, folder], stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert sorted(os.listdir(folder)) == ["tokenizer.json", "tokenizer_config.json"], os.listdir(folder)


def some_texts(count):
    r = random.Random(1)
    parts = ["the ", "Hello", " world", "  ", "\n\n", "\t", "<b>", "</table>", "<start_of_turn>", "<end_of_turn>", "<unused5>", "ab", "naïve ",
             "日本語", "Привет", "😀", "▁▁", "3.14", "\r\n", "=" * 40, " " * 33, "\ufffd", "x", "<0x41>", "[multimodal]", "don't"]
    texts = ["".join(r.choice(parts) for _ in range(r.randint(1, 40))).encode() for _ in range(count)]
    return texts + [bytes(r.randrange(256) for _ in range(r.randint(1, 60))) for _ in range(count // 10)]


def same_ids(reference, others, count):
    texts = some_texts(count)
    for flags in ([], ["--special"]):
        want = ids_of(reference, texts, *flags)
        for other in others:
            assert ids_of(other, texts, *flags) == want, "%s gives other ids than %s %s" % (other, reference, flags)
    print("    the same ids for %d texts, with and without control tokens" % len(texts))


def varint(v):
    out = b""
    while v >= 128:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def sentencepiece(definition):
    """Gemma's tokenizer.model as far as it is known: added tokens user-defined with the score 0, pieces by falling scores."""
    added = {a["id"]: a for a in definition["added_tokens"]}
    out, score = [], 0.0
    for text, i in definition["model"]["vocab"].items():
        kind = 2 if i == 3 else 3 if i < 3 else 4 if i in added else 6 if text.startswith("<0x") and len(text) == 6 else 1
        piece = field(1, text.encode()) + b"\x15" + struct.pack("<f", score if kind == 1 else 0.0)
        score -= kind == 1
        out.append(field(1, piece + (b"\x18" + varint(kind) if kind != 1 else b"")))
    return b"".join(out) + field(2, b"\x18\x02") + field(3, field(1, b"identity") + field(2, b"") + b"\x18\x00\x20\x00")


def real(folder):
    definition = json.loads(lzma.open(DATA + "tokenizer.json.xz").read())
    own, model, written = (os.path.join(folder, n) for n in ("json", "model", "written"))
    for name in (own, model, written):
        os.mkdir(name)
    with open(own + "/tokenizer.json", "wb") as f:
        f.write(lzma.open(DATA + "tokenizer.json.xz").read())
    config = lzma.open(DATA + "tokenizer_config.json.xz").read()
    for name in (own, model):
        with open(name + "/tokenizer_config.json", "wb") as f:
            f.write(config)
    with open(model + "/tokenizer.model", "wb") as f:
        f.write(sentencepiece(definition))
    write(MODEL, written)
    with open(written + "/tokenizer.json", encoding="utf-8") as f:
        again = json.load(f)
    for key in definition:
        if key != "model":
            assert again[key] == definition[key], key
    for key in definition["model"]:
        assert again["model"][key] == definition["model"][key], key
    assert list(again["model"]["vocab"]) == list(definition["model"]["vocab"])
    print("    written: %d pieces, %d merges, %d added tokens, as in Gemma's own file" %
          (len(again["model"]["vocab"]), len(again["model"]["merges"]), len(again["added_tokens"])))
    with open(written + "/tokenizer_config.json", encoding="utf-8") as f:
        assert json.load(f)["added_tokens_decoder"] == json.loads(config)["added_tokens_decoder"]
    same_ids(MODEL, [own, model, written], 3000)


def main():
    if not os.path.exists(TOOLS + "/write_tokenizer"):
        print("skipped: no %s/write_tokenizer; build the tests" % TOOLS)
        return 77
    with tempfile.TemporaryDirectory() as folder:
        tiny = os.path.join(folder, "tiny")
        os.mkdir(tiny)
        write(TINY, tiny)
        same_ids(TINY, [tiny], 500)
        if os.path.exists(MODEL) and os.path.exists(DATA + "tokenizer.json.xz"):
            real(folder)
        else:
            print("Gemma's own files were left out: they want %s and %s" % (MODEL, DATA))
    return 0


if __name__ == "__main__":
    sys.exit(main())
