#!/usr/bin/env python3
"""Files that mean harm, given to the program: exit 3 and one clean sentence from every command that opens a model, whatever the
lie. Each case is the tiny fixture with one thing changed; what the reader, the vocabulary and the session do with forty thousand
others is tested in C (unit.hostile_*).

    test_hostile.py PROGRAM
"""
import os
import resource
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath("carat")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TINY = open(os.path.join(ROOT, "tests", "fixtures", "tiny", "tiny.gguf"), "rb").read()
FOLDER = tempfile.TemporaryDirectory(prefix="carat-hostile-")


def after(text, occurrence=0):
    """Offset behind a string of the header."""
    at = -1
    for _ in range(occurrence + 1):
        at = TINY.index(text, at + 1)
    return at + len(text)


def patched(at, value):
    return TINY[:at] + value + TINY[at + len(value):]


def u32(v):
    return struct.pack("<I", v)


def u64(v):
    return struct.pack("<Q", v)


def with_key(name, kind, value):
    """The fixture with one key more in front, and one of padding: the tensors' places are counted from a multiple of 32."""
    def entry(name, kind, value):
        return u64(len(name)) + name + u32(kind) + value

    key = entry(name, kind, value)
    key += entry(b"padding", 8, u64((5 - len(key)) % 32) + b" " * ((5 - len(key)) % 32))
    assert len(key) % 32 == 0
    return TINY[:16] + u64(struct.unpack("<Q", TINY[16:24])[0] + 1 + 1) + key + TINY[24:]


KEY, SHAPE = 4, 4  # a key is followed by its type, a tensor's name by its number of dimensions
ARRAY = KEY + 4  # ... and an array's element type

CASES = {
    "truncated in the header": (TINY[:1000], "truncated"),
    "truncated in the weights": (TINY[:-5000], "truncated"),
    "an empty file": (b"", "empty"),
    "tensor count": (patched(8, u64(2 ** 63)), "tensors"),
    "key count": (patched(16, u64(2 ** 32)), "metadata keys"),
    "key length": (patched(24, u64(2 ** 64 - 1)), "claims"),
    "value type": (patched(after(b"general.architecture"), u32(13)), "expected a value type of 0 to 12"),
    "array length": (patched(after(b"tokenizer.ggml.scores") + ARRAY, u64(2 ** 61)), "claims"),
    "array element type": (patched(after(b"tokenizer.ggml.scores") + KEY, u32(5)), "expected an array of 32-bit floats"),
    "layers beyond an array": (patched(after(b"gemma3.block_count") + KEY, u32(2 ** 31)), "gemma3.block_count"),
    "heads": (patched(after(b"gemma3.attention.head_count") + KEY, u32(0)), "head_count"),
    "width": (patched(after(b"gemma3.embedding_length") + KEY, u32(2 ** 32 - 32)), "embedding_length"),
    "another architecture": (TINY.replace(b"gemma3", b"gemma9", 1), "architecture"),
    "dimension of zero": (patched(after(b"token_embd.weight") + SHAPE, u64(0)), "token_embd.weight"),
    "dimensions that overflow": (patched(after(b"token_embd.weight") + SHAPE, u64(2 ** 63)), "token_embd.weight"),
    "tensor type": (patched(after(b"token_embd.weight") + SHAPE + 16, u32(99)), "type 99"),
    "offset outside": (patched(after(b"token_embd.weight") + SHAPE + 20, u64(2 ** 40)), "truncated"),
    "two tensors in one place": (patched(after(b"output_norm.weight") + SHAPE + 12, u64(32)), "overlap"),
    "a name twice": (TINY.replace(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight", 1), "twice"),
    "a missing tensor": (TINY.replace(b"blk.1.attn_q.weight", b"blk.1.attn_z.weight", 1), "blk.1.attn_q.weight"),
    "a key twice": (with_key(b"gemma3.block_count", 4, u32(7)), "twice"),
    "length of a text": (patched(after(b"tokenizer.ggml.model") + KEY, u64(2 ** 63)), "claims"),
    "truth of two": (with_key(b"tokenizer.ggml.flag", 7, b"\2"), "0 or 1"),
    "alignment of three": (with_key(b"general.alignment", 4, u32(3)), "power of two"),
    "alignment of gigabytes": (with_key(b"general.alignment", 4, u32(2 ** 31)), "tensor"),
    "alignment as a text": (with_key(b"general.alignment", 8, u64(2) + b"32"), "general.alignment"),
    "number of dimensions": (patched(after(b"token_embd.weight"), u32(2 ** 31)), "1 to 4 dimensions"),
    "an encoder": (with_key(b"gemma3.attention.causal", 7, b"\0"), "encoder"),
    "attention both ways": (with_key(b"gemma3.use_bidirectional_attention", 7, b"\1"), "encoder"),
    "pooling": (with_key(b"gemma3.pooling_type", 4, u32(1)), "encoder"),
    "a piece beyond the vocabulary": (with_key(b"tokenizer.ggml.eot_token_id", 4, u32(2 ** 31)), "below 661"),
    "a byte with a sign": (TINY.replace(b"<0x10>", b"<0x-1>", 1), "<0x-1>"),
    "a byte twice": (TINY.replace(b"<0x10>", b"<0x11>", 1), "<0x11>"),
}


class Hostile(unittest.TestCase):
    def refused(self, words, *args):
        limit = 2 << 30  # of address space: nobody needs more to refuse three megabytes
        r = subprocess.run([PROGRAM, *args], input=b"", capture_output=True, timeout=120,
                           env=dict(os.environ, NO_COLOR="1", CARAT_MODEL=""),
                           preexec_fn=None if "sanitize" in SANITIZED else lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        text = r.stderr.decode(errors="replace")
        self.assertEqual(r.returncode, 3, "%r: %d %s" % (args, r.returncode, text))
        self.assertTrue(text.startswith("carat: ") and text.count("\n") == 1, text)
        self.assertIn(words, text)
        self.assertIn("expected", text)
        self.assertIn("found", text)
        self.assertTrue(all(c >= " " for c in text[:-1]), text)
        self.assertEqual(r.stdout, b"")


# Sanitizers reserve terabytes of addresses.
SANITIZED = "sanitize" if b"__asan_" in open(PROGRAM, "rb").read() or b"__tsan_" in open(PROGRAM, "rb").read() else ""


def case(name, data, words):
    def test(self):
        path = os.path.join(FOLDER.name, name.replace(" ", "-") + ".gguf")
        with open(path, "wb") as f:
            f.write(data)
        self.refused(words, "run", "-q", "-n", "1", path, "hello")
        self.refused(words, "logits", "--ids", "2", path)
    return test


for title, (content, expected) in CASES.items():
    setattr(Hostile, "test_" + title.replace(" ", "_"), case(title, content, expected))

if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
