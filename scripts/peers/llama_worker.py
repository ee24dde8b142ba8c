"""llama.cpp as a measured peer: one process that loads a model and answers requests, one JSON line each way.

Driven by measure.py and make_golden.py. Calls the C functions through llama-cpp-python's bindings only, as llama-bench
does: no sampler, no Python work per token beyond the call itself, logits of the last token alone for prompts, flash
attention and everything else at llama.cpp's defaults, the sliding window's cache at its small size (llama-bench's choice).
Between requests it waits in a read: its OpenMP threads sleep (measure.py checks that).

Arguments: MODEL THREADS. Requests (stdin):  {"do": "pp", "n": 512}  {"do": "tg", "n": 128}  {"do": "tb", "n": 64, "seqs": 8}
{"do": "memory"}  {"do": "about"}
{"do": "score", "ids": [...], "top": 20}  {"do": "greedy", "ids": [...], "n": 64}  {"do": "tokenize", "text": ...}
{"do": "ppl", "file": ..., "chunk": 512, "chunks": 40}  {"do": "first", "text": ...}  {"do": "free"}
"""

import ctypes
import json
import math
import os
import sys
import time


def status_kb(key):
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1])
    return 0


import numpy as np  # noqa: E402  (before the baseline: Python's own memory is not the engine's)
import llama_cpp as lib  # noqa: E402

BASELINE_KB = status_kb("VmRSS")
QUIET = lib.llama_log_callback(lambda level, text, data: None)


class Engine:
    def __init__(self, path, threads):
        lib.llama_log_set(QUIET, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self.path, self.threads, self.contexts = path, threads, {}
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.n_vocab = lib.llama_vocab_n_tokens(self.vocab)

    def context(self, n_ctx, outputs=1, seqs=1):
        """A context of n_ctx positions of seqs sequences that gives `outputs` rows of logits; kept for the next request."""
        key = (n_ctx, outputs, seqs)
        if key not in self.contexts:
            params = lib.llama_context_default_params()
            params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, min(n_ctx, 512), min(n_ctx, 512)
            params.n_threads = params.n_threads_batch = self.threads
            params.n_seq_max = seqs
            params.swa_full = False
            params.no_perf = True
            if hasattr(params, "n_outputs_max"):
                params.n_outputs_max = max(outputs, 1)
            ctx = lib.llama_init_from_model(self.model, params)
            if not ctx:
                raise SystemExit(f"llama.cpp cannot make a context of {n_ctx}")
            self.contexts[key] = ctx
        ctx = self.contexts[key]
        lib.llama_memory_clear(lib.llama_get_memory(ctx), True)
        return ctx

    def free(self):
        for ctx in self.contexts.values():
            lib.llama_free(ctx)
        self.contexts = {}

    @staticmethod
    def feed(ctx, ids):
        """Runs ids behind what ctx holds; the last one's logits are made."""
        array = (ctypes.c_int32 * len(ids))(*ids)
        for i in range(0, len(ids), 512):
            n = min(512, len(ids) - i)
            part = ctypes.cast(ctypes.byref(array, 4 * i), ctypes.POINTER(ctypes.c_int32))
            if lib.llama_decode(ctx, lib.llama_batch_get_one(part, n)) != 0:
                raise SystemExit("llama_decode failed")

    def rows(self, ctx, ids, first):
        """Yields (position, logits [V] float64) from `first` on."""
        batch = lib.llama_batch_init(512, 0, 1)
        for start in range(0, len(ids), 512):
            part = ids[start : start + 512]
            batch.n_tokens = len(part)
            for i, token in enumerate(part):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, start + i, 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = start + i >= first
            if lib.llama_decode(ctx, batch) != 0:
                raise SystemExit("llama_decode failed")
            for i in range(len(part)):
                if start + i >= first:
                    row = np.ctypeslib.as_array(lib.llama_get_logits_ith(ctx, i), (self.n_vocab,))
                    yield start + i, row.astype(np.float64)
        lib.llama_batch_free(batch)

    def last_row(self, ctx):
        return np.ctypeslib.as_array(lib.llama_get_logits_ith(ctx, -1), (self.n_vocab,)).astype(np.float64)

    def tokenize(self, text, bos=True, special=False):
        raw = text.encode("utf-8", "surrogateescape")
        room = len(raw) + 2
        ids = (ctypes.c_int32 * room)()
        n = lib.llama_tokenize(self.vocab, raw, len(raw), ids, room, bos, special)
        if n < 0:
            raise SystemExit("llama_tokenize failed")
        return list(ids[:n])


def log_softmax(row):
    row = row - row.max()
    return row - math.log(np.exp(row).sum())


def top(row, n):
    best = np.argsort(-row, kind="stable")[:n]
    return [[int(i), float(row[i])] for i in best]


def do_pp(e, req):
    ctx = e.context(req["n"])
    ids = [2] + [(7919 * i) % (e.n_vocab - 1000) + 500 for i in range(req["n"] - 1)]
    t = time.perf_counter()
    e.feed(ctx, ids)
    lib.llama_synchronize(ctx)
    return {"tok_s": req["n"] / (time.perf_counter() - t)}


def do_tg(e, req):
    n = req["n"]
    ctx = e.context(max(n + 2, 256))
    tokens = (ctypes.c_int32 * n)(*([2] + [(7919 * i) % (e.n_vocab - 1000) + 500 for i in range(n - 1)]))
    batches = []
    for i in range(n):
        at = ctypes.cast(ctypes.byref(tokens, 4 * i), ctypes.POINTER(ctypes.c_int32))
        batches.append(lib.llama_batch_get_one(at, 1))
    t = time.perf_counter()
    for batch in batches:
        lib.llama_decode(ctx, batch)
        lib.llama_synchronize(ctx)
    return {"tok_s": n / (time.perf_counter() - t)}


def do_tb(e, req):
    """Decode of several sequences at once, one token of each per call; tokens per second of all together."""
    n, seqs = req["n"], req["seqs"]
    ctx = e.context(max(n + 2, 256) * seqs, seqs, seqs)
    batch = lib.llama_batch_init(seqs, 0, 1)
    batch.n_tokens = seqs
    t = time.perf_counter()
    for i in range(n):
        for q in range(seqs):
            batch.token[q], batch.pos[q], batch.n_seq_id[q] = (7919 * i + 31 * q) % (e.n_vocab - 1000) + 500, i, 1
            batch.seq_id[q][0], batch.logits[q] = q, 1
        if lib.llama_decode(ctx, batch) != 0:
            raise SystemExit("llama_decode failed")
        lib.llama_synchronize(ctx)
    seconds = time.perf_counter() - t
    lib.llama_batch_free(batch)
    return {"tok_s": n * seqs / seconds}


def do_score(e, req):
    ids, nll, row = req["ids"], 0.0, None
    ctx = e.context(max(len(ids), 512), 512)
    for i, row in e.rows(ctx, ids, 0):
        row = log_softmax(row)
        if i + 1 < len(ids):
            nll -= row[ids[i + 1]]
    return {"nll": nll, "top": top(row, req["top"])}


def do_greedy(e, req):
    ctx = e.context(len(req["ids"]) + req["n"])
    e.feed(ctx, req["ids"])
    out = []
    for i in range(req["n"]):
        a, b = top(log_softmax(e.last_row(ctx)), 2)
        out.append([a[0], a[1], a[1] - b[1], b[0]])
        if a[0] in req.get("stop", ()):
            break
        if i + 1 < req["n"]:
            e.feed(ctx, [a[0]])
    return {"steps": out}


def do_ppl(e, req):
    """llama-perplexity's protocol: see forward_f64.py."""
    with open(req["file"], "rb") as f:
        ids = e.tokenize(f.read().decode("utf-8"))
    c, nll, count = req["chunk"], 0.0, 0
    ctx = None
    for n in range(min(req["chunks"], len(ids) // c)):
        part = [2] + ids[n * c + 1 : (n + 1) * c]
        ctx = e.context(c, 512)
        for i, row in e.rows(ctx, part, c // 2):
            if i + 1 < c:
                row -= row.max()
                nll -= row[part[i + 1]] - math.log(np.exp(row.astype(np.float32)).sum(dtype=np.float64))
                count += 1
    return {"ppl": math.exp(nll / count), "tokens": count}


def main():
    path, threads = sys.argv[1], int(sys.argv[2])
    t = time.perf_counter()
    e = Engine(path, threads)
    loaded = time.perf_counter() - t
    do = {"pp": do_pp, "tg": do_tg, "tb": do_tb, "score": do_score, "greedy": do_greedy, "ppl": do_ppl}
    for line in sys.stdin:
        req = json.loads(line)
        if req["do"] in do:
            answer = do[req["do"]](e, req)
        elif req["do"] == "first":  # everything from loading to the first token, but not Python's own start
            ids = e.tokenize(req["text"])
            ctx = e.context(4096)
            e.feed(ctx, ids)
            token = top(e.last_row(ctx), 1)[0][0]
            answer = {"seconds": time.perf_counter() - t, "load": loaded, "tokens": len(ids), "token": token}
        elif req["do"] == "memory":
            answer = {
                "rss_mb": (status_kb("VmRSS") - BASELINE_KB) / 1024,
                "peak_mb": (status_kb("VmHWM") - BASELINE_KB) / 1024,
                "python_mb": BASELINE_KB / 1024,
            }
        elif req["do"] == "tokenize":
            answer = {"ids": e.tokenize(req["text"], req.get("bos", True), req.get("special", False))}
        elif req["do"] == "free":
            e.free()
            answer = {}
        elif req["do"] == "about":
            answer = {
                "engine": "llama.cpp",
                "version": lib.llama_version().decode() if hasattr(lib, "llama_version") else "",
                "bindings": lib.__version__,
                "features": lib.llama_print_system_info().decode(),
            }
        else:
            answer = {"error": f"unknown request {req['do']!r}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
