#!/usr/bin/env python3
"""Measures carat beside llama.cpp on the same file in one run, sample by sample in turn, so that a machine whose speed
wanders (a shared one does, by a third) is as unkind to one as to the other. Started by ../measure_peers.sh.

Decode (tg128), prompts (pp512, pp2048), start to first token, resident memory; llama.cpp's perplexity on request. Ours runs
as a user would start it, a process per sample; llama.cpp's process stays, asleep while ours runs: the share of a core that
it then takes is measured and recorded. Standard library only; writes a markdown table (stdout) and a JSON record.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT = "The capital of France is"  # six tokens with <bos>
TESTS = {"tg128": ("tg", 128), "pp512": ("pp", 512), "pp2048": ("pp", 2048)}


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


def ours_speed(args, test):
    kind, n = TESTS[test]
    command = [
        args.carat,
        "bench",
        "-m",
        args.model,
        "-t",
        str(args.threads),
        f"--{kind}",
        str(n),
        "--repeats",
        "1",
        "--json",
    ]
    doc = run_ours(command)
    for run in doc["runs"]:
        if run["test"] == test:
            return run["tok_s"], run.get("share"), doc
    sys.exit(f"{' '.join(command)}: no run called {test} in the answer")


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


def table(doc):
    rows = [
        "| | carat | spread | llama.cpp | spread | carat / llama.cpp |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    names = {
        "tg128": "decode, tok/s (128 tokens)",
        "pp512": "prompt of 512, tok/s",
        "pp2048": "prompt of 2048, tok/s",
        "first": "start to first token, s (6 tokens)",
    }
    for key, name in names.items():
        cells, medians = [], []
        for engine in ("carat", "llama.cpp"):
            s = doc["results"].get(engine, {}).get(key)
            digits = 3 if key == "first" else 1
            medians.append(s["median"] if s else None)
            cells += (
                [f"{s['median']:.{digits}f}", f"{s['min']:.{digits}f} - {s['max']:.{digits}f}"]
                if s
                else ["-", "-"]
            )
        ratio = f"{medians[0] / medians[1]:.2f}" if all(medians) else "-"
        rows.append(f"| {name} | {' | '.join(cells)} | {ratio} |")
    memory = []
    for engine in ("carat", "llama.cpp"):
        m = doc["results"].get(engine, {}).get("memory")
        memory += [f"{m['rss_mb']:.0f}", f"peak {m['peak_mb']:.0f}"] if m else ["-", "-"]
    rows.append(f"| resident memory, MB | {' | '.join(memory)} | |")
    if "perplexity" in doc["results"]["llama.cpp"]:
        p = doc["results"]["llama.cpp"]["perplexity"]
        rows.append(f"| perplexity ({p['tokens']} tokens) | | | {p['ppl']:.4f} | | |")
    return "\n".join(rows)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--carat", help="our program; leave it out to measure llama.cpp alone")
    ap.add_argument("--python", required=True, help="a Python with llama-cpp-python")
    ap.add_argument("--model", required=True)
    ap.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    ap.add_argument("--repeats", type=int, default=7)
    ap.add_argument("--tests", default="tg128,pp512,pp2048", help="which of " + ",".join(TESTS))
    ap.add_argument("--perplexity", metavar="FILE", help="also llama.cpp's perplexity of a text, -c 512")
    ap.add_argument("--chunks", type=int, default=40)
    ap.add_argument(
        "--patience", type=float, default=180, help="seconds for taking disturbed samples again; 0: never"
    )
    ap.add_argument("-o", "--output", help="the JSON record")
    args = ap.parse_args()
    tests = [t for t in args.tests.split(",") if t]
    unknown = [t for t in tests if t not in TESTS]
    if unknown or args.repeats < 1:
        ap.error(f"tests are {', '.join(TESTS)}, found {unknown}; repeats at least 1")

    load = os.getloadavg()[0]
    if load > 0.5 * args.threads:
        say(f"warning: load average {load:.2f}: something else is running, the figures will wander")
    samples = {"carat": {}, "llama.cpp": {}}
    shares, idle, machine = {}, [], {}

    def add(engine, key, value):
        samples[engine].setdefault(key, []).append(value)

    watch = Watch(args.patience)
    llama = Llama(args.python, args.model, args.threads)
    about = llama.ask(do="about")
    llama.ask(
        do="tg", n=128
    )  # pages in, threads up; the contexts of the tests are made here, outside the clock
    for test in tests:
        kind, n = TESTS[test]
        llama.ask(do=kind, n=n)
    if args.carat:
        ours_speed(args, tests[0])
    for i in range(args.repeats):
        for test in tests:
            kind, n = TESTS[test]
            order = ("carat", "llama.cpp") if (i % 2 == 0) else ("llama.cpp", "carat")
            for engine in order:
                if engine == "llama.cpp":
                    answer = watch.take(lambda: llama.ask(do=kind, n=n), llama)
                    add(engine, test, answer["tok_s"])
                    time.sleep(0.3)  # OpenMP's threads spin for a moment before they sleep
                elif args.carat:
                    cpu, t = llama.cpu_seconds(), time.perf_counter()
                    speed, share, doc = watch.take(lambda: ours_speed(args, test), llama)
                    idle.append((llama.cpu_seconds() - cpu) / (time.perf_counter() - t))
                    add(engine, test, speed)
                    if share is not None:
                        shares.setdefault(test, []).append(share)
                    if "machine" in doc:
                        machine = doc["machine"]
        say(
            f"round {i + 1} of {args.repeats}: "
            + ", ".join(
                f"{t} " + " / ".join(f"{samples[e][t][-1]:.1f}" for e in samples if t in samples[e])
                for t in tests
            )
        )
    results = {"carat": {}, "llama.cpp": {}}
    if not args.carat:
        time.sleep(1)
        cpu, t = llama.cpu_seconds(), time.perf_counter()
        time.sleep(2)
        idle.append((llama.cpu_seconds() - cpu) / (time.perf_counter() - t))
    if args.perplexity:
        results["llama.cpp"]["perplexity"] = llama.ask(
            do="ppl", file=args.perplexity, chunk=512, chunks=args.chunks
        )
    llama.close()

    for _ in range(args.repeats):
        engine, whole = watch.take(lambda: theirs_first(args))
        add("llama.cpp", "first", engine)
        add("llama.cpp", "first_with_python", whole)
        if args.carat:
            add("carat", "first", watch.take(lambda: ours_first(args)))
    llama = Llama(args.python, args.model, args.threads)
    llama.ask(do="first", text=PROMPT)
    llama.ask(do="tg", n=128)
    results["llama.cpp"]["memory"] = llama.ask(do="memory")
    llama.close()
    if args.carat:
        rss, peak = ours_memory(args)
        results["carat"]["memory"] = {"rss_mb": rss, "peak_mb": peak}

    for engine, tests_of in samples.items():
        results[engine].update({key: summary(values) for key, values in tests_of.items()})
    for test, values in shares.items():
        results["carat"][test]["share"] = statistics.median(values)
    noisy = sum(o > Watch.QUIET for o in watch.others)
    if noisy:
        say(
            f"warning: {noisy} of {len(watch.others)} samples had a neighbour taking up to {max(watch.others):.2f} cores"
        )
    doc = {
        "others_cores": watch.others,
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "cpu": cpu_name(),
        "threads": args.threads,
        "repeats": args.repeats,
        "system": platform.platform(),
        "load_before": load,
        "machine": machine,
        "model": {
            "file": os.path.basename(args.model),
            "bytes": os.path.getsize(args.model),
            "sha256": sha256(args.model),
        },
        "engines": {"llama.cpp": about},
        "llama_cpu_while_idle": max(idle) if idle else None,
        "results": results,
    }
    if args.carat:
        version = subprocess.run([args.carat, "--version"], capture_output=True, text=True)
        doc["engines"]["carat"] = version.stdout.strip()
    if doc["llama_cpu_while_idle"] and doc["llama_cpu_while_idle"] > 0.05:
        say(
            f"warning: llama.cpp's process took {doc['llama_cpu_while_idle']:.0%} of a core while it should have slept"
        )
    if args.output:
        with open(args.output + ".part", "w") as f:
            json.dump(doc, f, indent=1)
            f.write("\n")
        os.replace(args.output + ".part", args.output)
        say(f"written: {args.output}")
    print(
        f"{doc['cpu']}, {args.threads} threads, {doc['model']['file']}, medians of {args.repeats}, {doc['date']}, carat "
        f"{doc['commit']}, llama.cpp {about['version']} (llama-cpp-python {about['bindings']}), samples taken in turn\n"
    )
    print(table(doc))


if __name__ == "__main__":
    main()
