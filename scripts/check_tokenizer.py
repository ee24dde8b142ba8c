#!/usr/bin/env python3
"""Compares carat's tokenizer with Hugging Face `tokenizers`, id by id, and its streaming decode byte by byte.

    scripts/check_tokenizer.py TOKENIZER_JSON MODEL --tool build/tools/tokenize_many [--carat ./carat]
                               [--texts FILE ...] [--count 6000] [--seed 1]

TOKENIZER_JSON is Gemma's tokenizer.json (or tokenizer.json.xz); MODEL a GGUF file, or a folder with tokenizer.model or tokenizer.json
(of which --carat wants the weights as well). Thousands of generated texts go through the tool in one
process; with --carat a few go through `carat tokenize` as well. Needs the Python package `tokenizers`.

What is compared:
  special    all texts with --special against the tokenizer as it is (it matches every added token);
  plain      all texts without --special against a tokenizer whose control tokens (as the model file types them:
             everything added but the user-defined runs, HTML tags and [multimodal]) were never added;
  untouched  texts without control pieces, where both of Hugging Face's tokenizers must agree as well;
  files      each --texts file whole and in pieces;
  decode     decode(encode(x)) == x, but for U+2581, which becomes a space; random ids against Hugging Face's decoder
             where no run of byte pieces mixes sound and broken characters (there the two differ on purpose).
Added tokens behind the end of the vocabulary (<image_soft_token>: the text models have no row for it) are taken out on
Hugging Face's side.
Exit status 0: no difference.
"""
import argparse
import json
import lzma
import random
import re
import struct
import subprocess
import sys

from tokenizers import Tokenizer

HTML = """table caption thead tbody tfoot tr th td h1 h2 h3 h4 h5 h6 blockquote strong em b i u s sub sup code a html body img
span bbox ul li div iframe footer""".split()
CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
           "<end_of_image>", "<unused0>", "<unused5>", "<unused98>", "<unused99>", "<unused6241>", "<unused123>"]
NEARLY = ["<unused", "<unused6242>", "<unused05>", "<start_of_turn", "<bos", "bos>", "<0x0A>", "<0x00>", "<0xff>", "[multimodal]",
          "[multimodal", "<Table>", "<table >", "</>", "<>", "<br>", "<hr/>", "<p>", "</p>", "<a href=\"x\">", "< b>", "<image_soft_token",
          "<|im_start|>", "<?>", "<=>", "<()>", ">▁</", "> </"]
EMOJI = ["😀", "🤖", "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "🏳️‍🌈", "❤️", "1️⃣", "👨🏿‍🚀", "🫠", "🧑‍🤝‍🧑", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "\u200d", "\ufe0f"]
WORDS = """the The of and don't naïve café Привет мир 日本語のテキスト こんにちは 中文分词 한국어 مرحبا שלום नमस्ते தமிழ் ไทยภาษา ქართული
ελληνικά Việt Donaudampfschifffahrtsgesellschaft antidisestablishmentarianism https://example.com/a?b=c&d=1 3.14159 1234567890
return; if(x){y} == != <= => -> :: /* */ // # ## ### --- ___ *** ``` "quoted" 'x' \\n \\t e\u0301 \ufeff \u00a0 \u2003 \u3000 \u2028
ﷺ 𓀀 𝔘𝔫𝔦 Ω≈ç√ ½ ⅷ ﬁ Ǆ ß ẞ İ ı \x00 \x01 \x7f \r \r\n \x0b \x0c \x1f""".split(" ")
RANGES = [(0x20, 0x7e), (0xa0, 0x24f), (0x250, 0x5ff), (0x600, 0x1fff), (0x2000, 0x2bff), (0x2c00, 0x4dff), (0x4e00, 0x9fff),
          (0xa000, 0xd7ff), (0xe000, 0xffff), (0x10000, 0x1ffff), (0x20000, 0x2ffff), (0x30000, 0x3ffff), (0xe0000, 0xe01ef),
          (0xf0000, 0x10ffff), (0, 0x1f)]


def some_chars(r):
    low, high = r.choice(RANGES)
    return "".join(chr(r.randint(low, high)) for _ in range(r.randint(1, 12)))


def some_run(r):
    char = r.choice(["\n", "\t", " ", "▁", " ", "\n"])
    return char * r.choice([1, 2, 3, 4, 5, 8, 15, 16, 17, 30, 31, 32, 33, 61, 62, 63, 64, 95, 100, r.randint(1, 130)])


def some_spaces(r):
    return "".join(r.choice([" ", " ", "▁", "\n", "\t", "\r", "x", "\u00a0"]) for _ in range(r.randint(1, 24)))


def some_letters(r):
    letters = r.choice(["ab", "the ", "aeinorst", "=-", "<>/", "\\/", "0123456789", ".,;:", "ATCG", "░█▁", "ハヒ", "एक", "xX ", "<ub>/ "])
    return "".join(r.choice(letters) for _ in range(r.randint(1, 60)))


def make_text(r, lines, vocabulary, control):
    """A mixture of everything; control pieces only if asked for."""
    makers = [lambda: some_chars(r), lambda: some_run(r), lambda: some_spaces(r), lambda: some_letters(r),
              lambda: r.choice(["<%s>", "</%s>"]) % r.choice(HTML), lambda: r.choice(NEARLY), lambda: r.choice(EMOJI),
              lambda: r.choice(WORDS), lambda: " " + r.choice(WORDS), lambda: r.choice(vocabulary), lambda: r.choice(vocabulary),
              lambda: r.choice(lines)[:200] if lines else " line\n", lambda: "".join(r.choice(EMOJI) for _ in range(4))]
    if control:
        makers += [lambda: r.choice(CONTROL)] * 3
    return "".join(r.choice(makers)() for _ in range(r.randint(1, 14)))


def pack(texts):
    return b"".join(struct.pack("<I", len(t)) + t for t in texts)


def run_tool(tool, model, texts, *flags):
    done = subprocess.run([tool, model, *flags], input=pack(texts), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit(f"{tool} failed with {done.returncode}: {done.stderr.decode(errors='replace')}")
    print("    " + done.stderr.decode().strip())
    return done.stdout.decode().split("\n")[:-1]


def load(path):
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8") as f:
        return json.load(f)


def without_control(definition):
    kept = dict(definition)
    kept["added_tokens"] = [a for a in definition["added_tokens"]
                            if not a["special"] and not re.fullmatch(r"<mask>|<unused\d+>", a["content"])]
    return kept


class Check:
    def __init__(self, tool, model):
        self.tool, self.model, self.bad = tool, model, 0

    def differ(self, what, text, want, got):
        self.bad += 1
        if self.bad <= 10:
            at = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
            print(f"DIFFERENT ({what}): {ascii(text[:300])}\n  at {at}: want {want[at:at + 12]!r}\n        got {got[at:at + 12]!r}")

    def ids(self, what, hf, texts, *flags):
        print(f"{what}: {len(texts)} texts, {sum(len(t.encode()) for t in texts)} bytes")
        lines = run_tool(self.tool, self.model, [t.encode() for t in texts], *flags)
        if len(lines) != len(texts):
            sys.exit(f"{what}: {len(texts)} texts gave {len(lines)} lines")
        wants = hf.encode_batch(texts, add_special_tokens=False)
        for text, want, line in zip(texts, wants, lines):
            got = [int(x) for x in line.split()]
            if got != want.ids:
                self.differ(what, text, want.ids, got)

    def round_trip(self, texts):
        print(f"round trip: {len(texts)} texts")
        for flags in (["--decode"], ["--decode", "--special"]):
            lines = run_tool(self.tool, self.model, [t.encode() for t in texts], *flags)
            for text, line in zip(texts, lines[1::2]):
                back = bytes.fromhex(line).decode("utf-8")  # strict: it must be UTF-8
                if back != text.replace("▁", " "):
                    self.differ("round trip", text, text, back)

    def decode(self, hf, r, count, n_vocab, byte_first):
        lists = []
        for _ in range(count):
            ids = []
            while len(ids) < 30:
                kind = r.random()
                if kind < 0.4:
                    ids.append(r.randrange(n_vocab))
                elif kind < 0.7:
                    ids += [byte_first + b for b in chr(r.choice([r.randint(0x80, 0xd7ff), r.randint(0x10000, 0x10ffff)])).encode()]
                    ids.append(r.randrange(494, 2000))
                else:  # a broken run: continuation bytes, and lead bytes cut short
                    ids += [byte_first + r.choice([0x80, 0xbf, 0xff, 0xc0, 0xe2, 0xf0, 0xed])] * r.randint(1, 2)
                    ids.append(r.randrange(494, 2000))
            lists.append(ids)
        print(f"decode: {count} lists of ids")
        lines = run_tool(self.tool, self.model, [" ".join(map(str, ids)).encode() for ids in lists], "--ids")
        skipped = 0
        for ids, line in zip(lists, lines):
            want, got = hf.decode(ids, skip_special_tokens=False), bytes.fromhex(line).decode("utf-8")
            if want != got:
                runs = "".join("B" if byte_first <= i < byte_first + 256 else "." for i in ids)
                mixed = any(mixed_run(bytes(i - byte_first for i in ids[m.start():m.end()])) for m in re.finditer("B+", runs))
                if mixed:
                    skipped += 1
                else:
                    self.differ("decode", " ".join(map(str, ids)), want, got)
        print(f"    {skipped} lists with a run of bytes both sound and broken left out")


def mixed_run(run):
    lossy = run.decode("utf-8", "replace")
    return "\ufffd" in lossy and lossy.strip("\ufffd") != ""


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("tokenizer")
    p.add_argument("model")
    p.add_argument("--tool", required=True, help="the program tests/tools/tokenize_many.c")
    p.add_argument("--carat", help="the program carat, to try `carat tokenize` too")
    p.add_argument("--texts", nargs="*", default=[])
    p.add_argument("--count", type=int, default=6000)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()

    definition = load(a.tokenizer)
    definition["added_tokens"] = [t for t in definition["added_tokens"] if t["id"] < len(definition["model"]["vocab"])]
    full = Tokenizer.from_str(json.dumps(definition))
    plain = Tokenizer.from_str(json.dumps(without_control(definition)))
    vocabulary = [t for t in definition["model"]["vocab"] if not re.fullmatch(r"<unused\d+>|<0x..>|<[a-z_]+>", t)]
    files = {f: open(f, encoding="utf-8", newline="").read() for f in a.texts}
    lines = [line for text in files.values() for line in text.splitlines(True) if line.strip()]
    r = random.Random(a.seed)
    c = Check(a.tool, a.model)

    edges = ["", " ", "▁", "a   b", "   \n", "▁▁ x", " ▁▁", "▁ ▁", "▁▁", " ▁", "▁ ", "  ▁▁  ", "▁▁▁ ▁", "x▁▁y", "x ▁▁ y", "x▁ y", "\n \n",
             "\n▁\n", "  \t  ", " <b> ", "▁<b>▁", "<b>  </b>", "<table><tr>", "> </div>", ">▁</div>", "> </ x", "a> </b", "\r\n\r\n", "\r \r"]
    edges += [c1 * n + tail for c1 in " ▁\n\t<>=-aA.0" for n in (1, 2, 30, 31, 32, 33, 62, 63, 64, 1000) for tail in ("", "x", " x", "\n")]
    edges += CONTROL + NEARLY + EMOJI + ["x" + t + "y" for t in CONTROL + NEARLY] + ["<" + t for t in CONTROL + NEARLY]
    edges += [t[:-1] for t in CONTROL] + [t + t for t in CONTROL] + [t * 3 for t in NEARLY]
    free = edges + [make_text(r, lines, vocabulary, False) for _ in range(a.count)]
    free = [t for t in free if not any(x in t for x in CONTROL) and not re.search(r"<unused\d+>", t)]
    mixed = edges + [make_text(r, lines, vocabulary, True) for _ in range(a.count)]

    c.ids("special", full, mixed + free, "--special")
    c.ids("plain", plain, mixed + free)
    c.ids("untouched", full, free)
    for name, text in files.items():
        c.ids(f"{name}, whole", full, [text], "--special")
        c.ids(f"{name}, whole", plain, [text])
        cuts = sorted(r.randrange(len(text)) for _ in range(300))
        c.ids(f"{name}, in pieces", full, [text[i:j] for i, j in zip([0] + cuts, cuts + [len(text)])], "--special")
    every = ["".join(map(chr, range(i, i + 64))) for i in range(0, 0x110000, 64) if not 0xd800 <= i < 0xe000]
    c.ids("every character", full, every, "--special")
    c.ids("every piece", full, ["".join(vocabulary[i:i + 50]) for i in range(0, len(vocabulary), 50)], "--special")
    c.ids("every piece alone", full, vocabulary, "--special")
    c.round_trip(mixed + free + every)
    c.decode(full, r, 3000, full.get_vocab_size(with_added_tokens=False), definition["model"]["vocab"]["<0x00>"])

    if a.carat:
        for flags, hf in (["--special"], full), ([], plain):
            for text in r.sample(mixed, 5) + ["a   b\n\n", "▁▁ x", "<bos>hi"]:
                done = subprocess.run([a.carat, "tokenize", "-m", a.model, "--json", "--no-bos", *flags, "-f", "-"],
                                      input=text.encode(), stdout=subprocess.PIPE, check=True)
                want = hf.encode(text, add_special_tokens=False).ids
                if json.loads(done.stdout) != want:
                    c.differ("carat tokenize", text, want, json.loads(done.stdout))
    print(f"{c.bad} differences")
    return 1 if c.bad else 0


if __name__ == "__main__":
    sys.exit(main())
