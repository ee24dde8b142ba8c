#!/usr/bin/env python3
"""Folders of safetensors given to the program: by their path, by the path of a shard, as Hugging Face's cache keeps them and by the
name they have there; what it says of them, and one clean sentence with exit 3 for each thing that may be wrong with them.

    test_folder.py PROGRAM
"""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.abspath("carat")
HIDDEN, VOCAB = 32, 16
CONFIG = {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": HIDDEN, "num_hidden_layers": 2,
          "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "sliding_window": 8,
          "max_position_embeddings": 256, "query_pre_attn_scalar": 32, "eos_token_id": 1, "vocab_size": VOCAB}


def tensors():
    """{name: shape} of a text model of two layers."""
    shapes = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "model.norm.weight": [HIDDEN]}
    for i in range(2):
        for name, shape in {"input_layernorm": [HIDDEN], "post_attention_layernorm": [HIDDEN], "pre_feedforward_layernorm": [HIDDEN],
                            "post_feedforward_layernorm": [HIDDEN], "self_attn.q_norm": [32], "self_attn.k_norm": [32],
                            "self_attn.q_proj": [64, HIDDEN], "self_attn.k_proj": [32, HIDDEN], "self_attn.v_proj": [32, HIDDEN],
                            "self_attn.o_proj": [HIDDEN, 64], "mlp.gate_proj": [64, HIDDEN], "mlp.up_proj": [64, HIDDEN],
                            "mlp.down_proj": [HIDDEN, 64]}.items():
            shapes["model.layers.%d.%s.weight" % (i, name)] = shape
    return shapes


def shard(shapes):
    """Bytes of a file of small random bf16 numbers, the same for a name each time."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, shape in shapes.items():
        n, numbers = 1, random.Random(name[name.rfind("model."):])  # whatever stands in front
        for size in shape:
            n *= size
        part = b"".join(struct.pack("<f", numbers.uniform(-0.2, 0.2))[2:] for _ in range(n))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


class Folder(unittest.TestCase):
    def setUp(self):
        self.room = tempfile.mkdtemp(prefix="carat-folder-")
        self.folder = os.path.join(self.room, "model")
        os.mkdir(self.folder)
        self.addCleanup(shutil.rmtree, self.room)
        self.write("config.json", CONFIG)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, what):
        with open(self.path(name), "wb") as f:
            f.write(what if isinstance(what, bytes) else json.dumps(what).encode())

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def whole(self):
        self.write("model.safetensors", shard(tensors()))

    def shards(self, prefix="", vision=False):
        names = [n for n in tensors()]
        weight_map = {}
        for i, part in enumerate((names[::2], names[1::2])):
            file = "model-%05d-of-00002.safetensors" % (i + 1)
            shapes = {prefix + n: tensors()[n] for n in part}
            if vision and i == 0:
                shapes["vision_tower.vision_model.post_layernorm.bias"] = [8]
            weight_map.update({n: file for n in shapes})
            self.write(file, shard(shapes))
        self.write("model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": weight_map})

    def carat(self, *words, **env):
        return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=300,
                              env={**os.environ, "HOME": self.room, "XDG_CACHE_HOME": "", "HF_HOME": "", "HF_HUB_CACHE": "", **env})

    def logits(self, model, **env):
        r = self.carat("logits", "-m", model, "--ids", "2 5 7 9", "-t", "1", **env)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def refused(self, words, model=None):
        r = self.carat("logits", "-m", model or self.folder, "--ids", "2 5")
        self.assertEqual((r.returncode, r.stdout), (3, ""), r.stderr)
        self.assertEqual(r.stderr.count("\n"), 1, r.stderr)
        self.assertIn(words, r.stderr)

    def test_ways_to_name_it(self):
        self.whole()
        expected = self.logits(self.folder)
        self.assertEqual(self.logits(self.path("model.safetensors")), expected)
        hub = os.path.join(self.room, "hub", "models--some--gemma-3")
        os.makedirs(os.path.join(hub, "refs"))
        os.makedirs(os.path.join(hub, "snapshots"))
        shutil.copytree(self.folder, os.path.join(hub, "snapshots", "0123abc"))
        self.assertEqual(self.logits(hub), expected)  # one snapshot needs no ref
        shutil.copytree(self.folder, os.path.join(hub, "snapshots", "ffff"))
        self.refused("name the folder of a snapshot", hub)
        with open(os.path.join(hub, "refs", "main"), "w") as f:
            f.write("0123abc\n")
        self.assertEqual(self.logits(hub), expected)
        self.assertEqual(self.logits("some/gemma-3", HF_HUB_CACHE=os.path.join(self.room, "hub")), expected)
        self.assertEqual(self.logits("some/gemma-3", HF_HOME=self.room), expected)
        self.refused("Hugging Face's cache has no folder", "some/gemma-4")
        with open(os.path.join(hub, "refs", "main"), "w") as f:
            f.write("eeee")
        self.refused("expected the snapshot 'eeee'", hub)

    def test_shards_and_prefixes(self):
        self.whole()
        expected = self.logits(self.folder)
        os.remove(self.path("model.safetensors"))
        for prefix in ("", "base_model.model.", "language_"):
            self.shards("language_model." if prefix == "language_" else prefix, vision=prefix == "language_")
            self.assertEqual(self.logits(self.folder), expected)
        r = self.carat("inspect", self.folder)
        self.assertIn("safetensors, 2 shards, bf16", r.stdout)
        self.assertIn("the vision tower is skipped (1 tensors", r.stdout + r.stderr)
        self.assertEqual(self.logits(self.path("model-00002-of-00002.safetensors")), expected)
        os.remove(self.path("model.safetensors.index.json"))
        self.assertEqual(self.logits(self.folder), expected)  # all that are there
        os.remove(self.path("model-00001-of-00002.safetensors"))
        self.refused("expected 2 shards in")

    def test_missing_files(self):
        self.refused("found no .safetensors file")
        self.write("model.gguf", b"GGUF")
        self.refused("name the GGUF file itself, 'model.gguf'")
        os.remove(self.path("model.gguf"))
        self.write("pytorch_model.bin", b"PK")
        self.refused("a PyTorch checkpoint")
        self.shards()
        os.remove(self.path("model-00002-of-00002.safetensors"))
        self.refused("found no 'model-00002-of-00002.safetensors'")
        self.shards()
        os.remove(self.path("config.json"))
        self.refused("expected config.json in")

    def test_lies(self):
        self.shards()
        index = json.loads(self.read("model.safetensors.index.json"))
        first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
        index["weight_map"] = {n: second if f == first else first for n, f in index["weight_map"].items()}
        self.write("model.safetensors.index.json", index)
        self.refused("found it in another file")
        self.shards()
        whole = self.read(first)
        self.write(first, whole[:-1])
        self.refused("truncated or damaged")
        self.write(first, whole + b"x")
        self.refused("bytes behind the header, as its tensors have")
        self.write(first, b"version https://git-lfs.github.com/spec/v1\n")
        self.refused("git lfs pull")
        self.shards()
        self.write("config.json", b"<html>")
        self.refused("a web page")
        self.write("config.json", {**CONFIG, "hidden_size": 64})
        self.refused("expected hidden_size 64, found that the shape of 'model.norm.weight' says 32")
        self.write("config.json", {**CONFIG, "model_type": "gemma2"})
        self.refused("Gemma 2")
        self.write("config.json", {**CONFIG, "quantization_config": {"quant_method": "gptq", "bits": 4}})
        self.refused("quantized by GPTQ")
        self.write("config.json", CONFIG)
        self.write("generation_config.json", b"[")
        self.refused("generation_config.json")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
