"""Cuts a GGUF file into parts as llama.cpp's gguf-split does: metadata in the first, tensors in order over all of them.

split(path, folder, parts, empty_first=False) -> paths of the parts. Standard library only; a part of tests, not a test.
"""

import os
import struct

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def read(data):
    """-> (metadata as it stands, number of keys, [(description without the offset, bytes)])"""
    magic, version, n_tensors, n_keys = struct.unpack_from("<4sIQQ", data)
    assert magic == b"GGUF" and version == 3
    at = 24

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0]

    def skip_string():
        nonlocal at
        length = take("Q")
        at += length

    def value(kind):
        nonlocal at
        if kind == 8:
            skip_string()
        elif kind == 9:
            inner, count = take("I"), take("Q")
            for _ in range(count):
                value(inner)
        else:
            at += SIZES[kind]

    for _ in range(n_keys):
        skip_string()
        value(take("I"))
    metadata, found = data[24:at], []
    for _ in range(n_tensors):
        start = at
        skip_string()
        for _ in range(take("I")):
            take("Q")
        take("I")
        found.append((data[start:at], take("Q")))
    base = (at + 31) // 32 * 32
    ends = [o for _, o in found[1:]] + [len(data) - base]
    return metadata, n_keys, [(text, data[base + o : base + end]) for (text, o), end in zip(found, ends)]


def key(name, form, kind, number):
    return struct.pack("<Q", len(name)) + name + struct.pack("<I" + form, kind, number)


def split(path, folder, parts, empty_first=False):
    with open(path, "rb") as f:
        metadata, n_keys, tensors = read(f.read())
    cuts = [len(tensors) * i // parts for i in range(parts + 1)]
    if empty_first:
        cuts[1:-1] = [len(tensors) * i // (parts - 1) for i in range(parts - 1)]
    paths = []
    for i in range(parts):
        mine = tensors[cuts[i] : cuts[i + 1]]
        keys = key(b"split.no", "H", 2, i) + key(b"split.count", "H", 2, parts)
        keys += key(b"split.tensors.count", "i", 5, len(tensors))
        out = struct.pack("<4sIQQ", b"GGUF", 3, len(mine), 3 + (n_keys if i == 0 else 0))
        out += (metadata if i == 0 else b"") + keys
        body = b""
        for text, data in mine:
            out += text + struct.pack("<Q", len(body))
            body += data + bytes(-len(data) % 32)
        out += bytes(-len(out) % 32)
        paths.append(os.path.join(folder, f"split-{i + 1:05d}-of-{parts:05d}.gguf"))
        with open(paths[-1], "wb") as f:
            f.write(out + body)
    return paths
