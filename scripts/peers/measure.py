#!/usr/bin/env python3
"""Measures carat beside llama.cpp on the same files in one run, sample by sample in turn, so that a machine whose speed
wanders (a shared one does, by half) is as unkind to one as to the other. Started by ../measure_peers.sh.

The cases are CASES below: decode, prompts, batches, start to first token and memory of the default model, then decode and
prompts of files of the real shapes at 1B and 12B (make_gguf.py writes them). Ours runs as a user would start it, a process
per sample; llama.cpp's process stays, asleep while ours runs: the share of a core that it then takes is measured and
recorded. Standard library only; writes a markdown table (stdout) and a JSON record.
"""

import argparse
import collections
import datetime
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT = "The capital of France is"  # six tokens with <bos>

# name; model ("" the default one, else a size and type of make_gguf.py); what carat bench is asked; what the peer is asked
# (None: it has no such thing); row of the table; what is asked of it; the case whose median of ours is the ratio's other side.
Case = collections.namedtuple("Case", "name model ours theirs row asked beside", defaults=(None,))
CASES = [
    Case("decode", "", ["--tg", "128"], {"do": "tg", "n": 128}, "decode, full head", "1.6x or 90 %"),
    Case("screened", "", ["--tg", "128", "--head", "screened"], None, "decode, screened head", "1.3x full", "decode"),
    Case("pp512", "", ["--pp", "512"], {"do": "pp", "n": 512}, "prompt of 512", "2x, 40 %"),
    Case("pp2048", "", ["--pp", "2048"], {"do": "pp", "n": 2048}, "prompt of 2048", "2x, 40 %"),
    Case("exact512", "", ["--pp", "512", "--exact"], {"do": "pp", "n": 512}, "prompt of 512, `--exact`", "1.2x"),
    Case("exact2048", "", ["--pp", "2048", "--exact"], {"do": "pp", "n": 2048}, "prompt of 2048, `--exact`", ""),
    Case("batch8", "", ["--tg", "64", "--batch", "8"], {"do": "tb", "n": 64, "seqs": 8}, "decode of 8 at once", ""),
    Case("batch8x", "", ["--tg", "64", "--batch", "8"], None, "the same beside one", "4x one", "decode"),
    Case("1b", "1b:q4_0", ["--tg", "64"], {"do": "tg", "n": 64}, "1B Q4_0, decode", "85 %"),
    Case("12b", "12b:q4_0", ["--tg", "16"], {"do": "tg", "n": 16}, "12B Q4_0, decode", "85 %"),
    Case("12b-pp64", "12b:q4_0", ["--pp", "64"], {"do": "pp", "n": 64}, "12B Q4_0, prompt of 64", "20 tok/s, 3.5x"),
    Case("12b-k", "12b:q4_k_m", ["--tg", "16"], {"do": "tg", "n": 16}, "12B Q4_K_M, decode", "85 %"),
]
WHOLE = ["first", "memory"]  # cases of a process from its start
NAMES = [c.name for c in CASES] + WHOLE


def say(text):
    print(text, file=sys.stderr, flush=True)


def busy_seconds():
    """Core-seconds that all processes together, and the host that lends the cores, have used so far."""
    with open("/proc/stat") as f:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Takes samples again while other work takes more than QUIET cores: with as many threads as cores, one neighbour
    halves any engine's speed. When patience (seconds of retaken samples and waits, in all) is used up, samples are kept
    as they are; how noisy each was is in the record."""

    QUIET = 0.08

    def __init__(self, patience):
        self.others, self.patience = [], patience

    def take(self, sample, llama=None):
        """sample() -> anything; llama: the peer's process, whose core-seconds are not a neighbour's."""

        def own():
            children = resource.getrusage(resource.RUSAGE_CHILDREN)
            myself = resource.getrusage(resource.RUSAGE_SELF)
            peer = llama.cpu_seconds() if llama else 0
            return children.ru_utime + children.ru_stime + myself.ru_utime + myself.ru_stime + peer

        while True:
            busy, mine, t = busy_seconds(), own(), time.perf_counter()
            value = sample()
            wall = time.perf_counter() - t
            others = max(0.0, (busy_seconds() - busy - (own() - mine)) / wall)
            if others <= self.QUIET or self.patience <= 0:
                self.others.append(round(others, 3))
                return value
            time.sleep(2)
            self.patience -= wall + 2


class Llama:
    def __init__(self, python, model, threads):
        worker = os.path.join(HERE, "llama_worker.py")
        self.process = subprocess.Popen(
            [python, worker, model, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"llama.cpp's process ended early, status {self.process.wait()}, at {request}")
        return json.loads(line)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def run_ours(command):
    """One JSON document, or an end with the program's own sentence."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def ours_speed(args, case, model):
    """(tokens per second, share of the machine, the whole document) of one sample."""
    command = [args.carat, "bench", "-m", model, "-t", str(args.threads), *case.ours, "--repeats", "1", "--json"]
    doc = run_ours(command)
    if len(doc["runs"]) != 1:
        sys.exit(f"{' '.join(command)}: expected one run in the answer, found {len(doc['runs'])}")
    return doc["runs"][0]["tok_s"], doc["runs"][0].get("share"), doc


def ours_first(args):
    """Seconds from starting the process to the first byte of text on its standard output."""
    command = [
        args.carat,
        "run",
        "-q",
        "-m",
        args.model,
        "-t",
        str(args.threads),
        "--temp",
        "0",
        "-n",
        "4",
        PROMPT,
    ]
    t = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    first = process.stdout.read(1)
    seconds = time.perf_counter() - t
    process.stdout.read()
    if process.wait() != 0 or not first:
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}, no text")
    return seconds


def ours_memory(args):
    """(resident at the end of 128 tokens, peak) in MB, watched from outside."""
    command = [
        args.carat,
        "run",
        "-q",
        "-m",
        args.model,
        "-t",
        str(args.threads),
        "--temp",
        "0",
        "--ignore-eos",
        "-n",
        "128",
        PROMPT,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    resident, peak = [0.0], 0.0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as f:
                text = f.read()
            rss, high = re.search(r"VmRSS:\s+(\d+)", text), re.search(r"VmHWM:\s+(\d+)", text)
            if rss and high:
                resident.append(int(rss[1]) / 1024)
                peak = int(high[1]) / 1024
        except OSError:
            break
        time.sleep(0.01)
    if process.wait() != 0:
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}")
    return max(resident[-8:]), peak  # the very last ones may have been seen while it was ending


def theirs_first(args):
    """Loading to first token by llama.cpp's own clock, and the whole process with Python's start: a fresh process each."""
    t = time.perf_counter()
    llama = Llama(args.python, args.model, args.threads)
    answer = llama.ask(do="first", text=PROMPT)
    whole = time.perf_counter() - t
    llama.close()
    return answer["seconds"], whole


def summary(samples):
    middle = statistics.median(samples)
    return {
        "median": middle,
        "min": min(samples),
        "max": max(samples),
        "mad": statistics.median(abs(s - middle) for s in samples),
        "samples": samples,
    }


def cpu_name():
    try:
        with open("/proc/cpuinfo") as f:
            info = f.read()
    except OSError:
        return platform.processor() or platform.machine()

    def field(name):
        m = re.search(rf"^{name}\s*:\s*(.+)$", info, re.M)
        return m[1].strip() if m else ""

    return f"{field('model name')} (family {field('cpu family')}, model {field('model')})"


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def commit():
    done = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def cells(s, digits=1):
    return [f"{s['median']:.{digits}f}", f"{s['min']:.{digits}f} - {s['max']:.{digits}f}"] if s else ["-", "-"]


def table(doc):
    rows = [
        "| tok/s | carat | spread | of the machine | llama.cpp | spread | ratio | asked |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    ours, theirs = doc["results"]["carat"], doc["results"]["llama.cpp"]
    for case in CASES:
        a, b = ours.get(case.name), theirs.get(case.name)
        if not a and not b:
            continue
        share = f"{100 * a['share']:.0f} %" if a and a.get("share") else "-"
        other = ours.get(case.beside) if case.beside else b
        ratio = f"{a['median'] / other['median']:.2f}" if a and other else "-"
        rows.append(f"| {case.row} | {' | '.join(cells(a) + [share] + cells(b))} | {ratio} | {case.asked} |")
    a, b = ours.get("first"), theirs.get("first")
    if a or b:
        ratio = f"{a['median'] / b['median']:.2f}" if a and b else "-"
        row = " | ".join(cells(a, 2) + ["-"] + cells(b, 2))
        rows.append(f"| start to first token, seconds (6 tokens) | {row} | {ratio} | 0.3 |")
    a, b = ours.get("memory"), theirs.get("memory")
    if a or b:
        both = [f"{m['rss_mb']:.0f} | peak {m['peak_mb']:.0f}" if m else "- | -" for m in (a, b)]
        ratio = f"{a['peak_mb'] * 2**20 / doc['model']['bytes']:.2f}x the file" if a else "-"
        rows.append(f"| resident memory, MiB | {both[0]} | - | {both[1]} | {ratio} | 1.2x the file |")
    if "perplexity" in theirs:
        p = theirs["perplexity"]
        rows.append(f"| perplexity ({p['tokens']} tokens) | | | | {p['ppl']:.4f} | | | |")
    return "\n".join(rows)


def model_file(args, spec):
    """The path of a model of CASES; writes it where it is not there yet. None where the disk has no room."""
    if spec == "":
        return args.model
    path = os.path.join(args.models, spec.replace(":", "-") + ".gguf")
    if not os.path.exists(path):
        os.makedirs(args.models, exist_ok=True)
        room, need = shutil.disk_usage(args.models).free, (8 if spec.startswith("12b") else 1) << 30
        if room < need:
            say(f"warning: {spec} left out: {args.models} has {room >> 30} GiB free, {need >> 30} are needed")
            return None
        say(f"writing {path} (once)")
        subprocess.run([sys.executable, os.path.join(HERE, "make_gguf.py"), spec, path], check=True)
    return path


class Run:
    """Everything that one run gathers."""

    def __init__(self, args):
        self.args, self.watch = args, Watch(args.patience)
        self.samples = {"carat": {}, "llama.cpp": {}}
        self.results = {"carat": {}, "llama.cpp": {}}
        self.shares, self.idle, self.machine, self.about = {}, [], {}, {}

    def add(self, engine, key, value):
        self.samples[engine].setdefault(key, []).append(value)

    def ours(self, case, model, llama):
        cpu, t = llama.cpu_seconds(), time.perf_counter()
        speed, share, doc = self.watch.take(lambda: ours_speed(self.args, case, model), llama)
        self.idle.append((llama.cpu_seconds() - cpu) / (time.perf_counter() - t))
        self.add("carat", case.name, speed)
        if share:
            self.shares.setdefault(case.name, []).append(share)
        self.machine = doc.get("machine", self.machine)

    def theirs(self, case, llama):
        self.add("llama.cpp", case.name, self.watch.take(lambda: llama.ask(**case.theirs), llama)["tok_s"])
        time.sleep(0.3)  # OpenMP's threads spin for a moment before they sleep

    def of_model(self, spec, cases, repeats):
        """All cases of one model, in rounds; the engines take turns in who is first."""
        model = model_file(self.args, spec)
        if model is None:
            return
        llama = Llama(self.args.python, model, self.args.threads)
        self.about = llama.ask(do="about")
        for case in cases:  # pages in, threads up; the contexts are made here, outside the clock
            if case.theirs:
                llama.ask(**case.theirs)
        for i in range(repeats):
            for case in cases:
                for engine in ("carat", "llama.cpp") if i % 2 == 0 else ("llama.cpp", "carat"):
                    if engine == "llama.cpp" and case.theirs:
                        self.theirs(case, llama)
                    elif engine == "carat" and self.args.carat:
                        self.ours(case, model, llama)
            last = {c.name: [f"{s[c.name][-1]:.1f}" for s in self.samples.values() if c.name in s] for c in cases}
            say(f"{spec or 'default'} {i + 1} of {repeats}: " + ", ".join(f"{k} {' / '.join(v)}" for k, v in last.items()))
        if not self.args.carat:
            time.sleep(1)
            cpu, t = llama.cpu_seconds(), time.perf_counter()
            time.sleep(2)
            self.idle.append((llama.cpu_seconds() - cpu) / (time.perf_counter() - t))
        if self.args.perplexity and spec == "":
            ask = {"do": "ppl", "file": self.args.perplexity, "chunk": 512, "chunks": self.args.chunks}
            self.results["llama.cpp"]["perplexity"] = llama.ask(**ask)
        llama.close()

    def first(self):
        for _ in range(self.args.repeats):
            engine, whole = self.watch.take(lambda: theirs_first(self.args))
            self.add("llama.cpp", "first", engine)
            self.add("llama.cpp", "first_with_python", whole)
            if self.args.carat:
                self.add("carat", "first", self.watch.take(lambda: ours_first(self.args)))

    def memory(self):
        llama = Llama(self.args.python, self.args.model, self.args.threads)
        self.about = llama.ask(do="about")
        llama.ask(do="first", text=PROMPT)
        llama.ask(do="tg", n=128)
        self.results["llama.cpp"]["memory"] = llama.ask(do="memory")
        llama.close()
        if self.args.carat:
            rss, peak = ours_memory(self.args)
            self.results["carat"]["memory"] = {"rss_mb": rss, "peak_mb": peak}


def has_screened(carat):
    """Whether this build's bench knows the screened head."""
    done = subprocess.run([carat, "bench", "--help"], capture_output=True, text=True)
    return bool(re.search(r"--head\b((?!\n +-).)*\bscreened\b", done.stdout, re.S))  # up to the next option


def parse():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--carat", help="our program; leave it out to measure llama.cpp alone")
    ap.add_argument("--python", required=True, help="a Python with llama-cpp-python")
    ap.add_argument("--model", required=True)
    ap.add_argument("--models", required=True, help="folder of the files that make_gguf.py writes")
    ap.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    ap.add_argument("--repeats", type=int, default=7, help="samples of the default model")
    ap.add_argument("--large-repeats", type=int, default=3, help="samples of the other sizes")
    ap.add_argument("--cases", default=",".join(NAMES), help="which of " + ",".join(NAMES))
    ap.add_argument("--skip", default="", help="cases to leave out")
    ap.add_argument("--perplexity", metavar="FILE", help="also llama.cpp's perplexity of a text, -c 512")
    ap.add_argument("--chunks", type=int, default=40)
    ap.add_argument("--patience", type=float, default=90, help="seconds for taking disturbed samples again; 0: never")
    ap.add_argument("-o", "--output", help="the JSON record")
    args = ap.parse_args()
    wanted, skipped = args.cases.split(","), args.skip.split(",")
    unknown = [n for n in wanted + skipped if n and n not in NAMES]
    if unknown or args.repeats < 1 or args.large_repeats < 1:
        ap.error(f"cases are {', '.join(NAMES)}, found {unknown}; repeats are at least 1")
    args.wanted = [n for n in wanted if n and n not in skipped]
    if "screened" in args.wanted and args.carat and not has_screened(args.carat):
        args.wanted.remove("screened")
        say("no screened head in this build: left out")
    return args


def main():
    args = parse()
    load = os.getloadavg()[0]
    if load > 0.5 * args.threads:
        say(f"warning: load average {load:.2f}: something else is running, the figures will wander")
    run = Run(args)
    start = time.perf_counter()
    measured = [c for c in CASES if c.name in args.wanted and c.name != "batch8x"]
    for spec in dict.fromkeys(c.model for c in measured):
        cases = [c for c in measured if c.model == spec]
        run.of_model(spec, cases, args.large_repeats if spec else args.repeats)
        if spec == "" and "first" in args.wanted:
            run.first()
    if "first" in args.wanted and not any(c.model == "" for c in measured):
        run.first()
    if "memory" in args.wanted:
        run.memory()

    for engine, cases in run.samples.items():
        run.results[engine].update({key: summary(values) for key, values in cases.items()})
    for name, values in run.shares.items():
        run.results["carat"][name]["share"] = statistics.median(values)
    if "batch8" in run.results["carat"]:
        run.results["carat"]["batch8x"] = run.results["carat"]["batch8"]
    noisy = sum(o > Watch.QUIET for o in run.watch.others)
    if noisy:
        most = max(run.watch.others)
        say(f"warning: {noisy} of {len(run.watch.others)} samples had a neighbour taking up to {most:.2f} cores")
    doc = {
        "others_cores": run.watch.others,
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "cpu": cpu_name(),
        "threads": args.threads,
        "repeats": args.repeats,
        "large_repeats": args.large_repeats,
        "seconds": round(time.perf_counter() - start),
        "system": platform.platform(),
        "load_before": load,
        "machine": run.machine,
        "model": {
            "file": os.path.basename(args.model),
            "bytes": os.path.getsize(args.model),
            "sha256": sha256(args.model),
        },
        "engines": {"llama.cpp": run.about},
        "llama_cpu_while_idle": max(run.idle) if run.idle else None,
        "results": run.results,
    }
    if args.carat:
        version = subprocess.run([args.carat, "--version"], capture_output=True, text=True)
        doc["engines"]["carat"] = version.stdout.strip()
    if doc["llama_cpu_while_idle"] and doc["llama_cpu_while_idle"] > 0.05:
        say(f"warning: llama.cpp's process took {doc['llama_cpu_while_idle']:.0%} of a core while it should have slept")
    if args.output:
        with open(args.output + ".part", "w") as f:
            json.dump(doc, f, indent=1)
            f.write("\n")
        os.replace(args.output + ".part", args.output)
        say(f"written: {args.output}")
    print(
        f"{doc['cpu']}, {args.threads} threads, {doc['model']['file']}, medians of {args.repeats} (other sizes "
        f"{args.large_repeats}), {doc['date']}, carat {doc['commit']}, llama.cpp {run.about.get('version', '')} "
        f"(llama-cpp-python {run.about.get('bindings', '')}), samples taken in turn, {doc['seconds']} s\n"
    )
    print(table(doc))


if __name__ == "__main__":
    main()
