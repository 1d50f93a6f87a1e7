"""What a text larger than memory costs, and what more devices would gain.

    python benchmarks/scale.py text [--gigabytes 10]             # free space in the temporary folder: 2.2 times as much
    python benchmarks/scale.py parts                             # what a core reads in a second
    python benchmarks/scale.py devices [--shapes 2x512 3x1024]   # CPUs
    torchrun --nproc-per-node 8 benchmarks/scale.py devices --device cuda    # with the all-reduce of 8 GPUs
    python benchmarks/scale.py processes                         # on a machine with two cores or more
    python benchmarks/scale.py table                             # the tables of all that has been measured, in docs

``text``: War and Peace, repeated into files of 100 MB, is prepared by ``charrnn prepare`` and trained on for 200 steps;
beside it a text of 10 MB, in turns, medians of three. Memory is the peak of the largest process (ru_maxrss).

``processes``: characters per second of ``charrnn train`` with one thread, with two, and of two processes of one thread.

``devices``: seconds of a step of one process with so many streams, and of summing a gradient over all processes: over
two on this machine by gloo, or over those of torchrun. From these follows by calculation what a step would take on more
of the same: it computes with the streams that a device has then, and sums in a ring, 2 (N - 1) messages of 1 / N of the
gradient, each of which takes a latency and its bytes over the bandwidth. Nothing is taken to overlap.
"""

from __future__ import annotations

import argparse
import codecs
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from growth import MEGABYTE, VALIDATION, repeat, run
from report import header, text_file
from table import put, table

HERE = Path(__file__).parent
TEXT, PARTS, PROCESSES, DEVICES = (
    HERE / "results" / f"scale-{name}.json" for name in ("text", "parts", "processes", "devices")
)
DOCUMENT = HERE.parent / "docs" / "scale.md"
FILE = 100  # megabytes
WINDOW = 64
#: Streams of one device whose steps are measured; and numbers of devices that are calculated.
STREAMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
#: Streams in all where they are the same for any number of devices; and of each device where they are not.
SAME, EACH = 1024, 64
#: Bytes of a sum that takes nothing but the messages' latency.
SMALL = 4096
CYRILLIC = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n"


def measure_text(gigabytes: int, runs: int, text: Path) -> dict[str, Any]:
    """Seconds, peak memory and characters per second on a large text and on 10 MB."""
    sizes = {"small": 10, "large": 1000 * gigabytes}
    found: dict[str, Any] = {name: {"megabytes": size, "train": []} for name, size in sizes.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in sizes.items():
            Path(folder, name).mkdir()
            for number in range(-(-size // FILE)):
                repeat(text, min(size, FILE), Path(folder, name, f"{number:04}.txt"))
            share = 100 * VALIDATION / size
            split = f"{100 - share:.8f},{share:.8f},0"
            found[name]["prepare"] = run(folder, "prepare", name, "--split", split, "--name", name)
            print(name, found[name]["prepare"], flush=True)
            for path in Path(folder, name).iterdir():  # the corpus is all that training needs
                path.unlink()
        for _ in range(runs):
            for name in sizes:
                steps = ("--steps", "200", "--validate-every", "200", "--hidden-size", "256", "--num-layers", "2")
                figures = run(folder, "train", f"corpora/{name}", *steps, "--run", name, "--force")
                figures["characters_per_second"] = trained_rate(Path(folder, "checkpoints", name))
                found[name]["train"].append(figures)
                print(name, figures, flush=True)
    for row in found.values():
        row["train"] = {key: statistics.median(one[key] for one in row["train"]) for key in row["train"][0]}
    return found


def trained_rate(run: Path) -> float:
    """Characters per second of a run, as its last report says."""
    *_, last = (run / "metrics.jsonl").read_text().splitlines()
    return float(json.loads(last)["characters_per_second"])


def measure_parts(runs: int, text: Path) -> dict[str, float]:
    """Millions of bytes that one core counts and writes as ids in a second of its time, medians, by kind of text."""
    from charrnn.data.parts import Part, Placed, count, write_ids
    from charrnn.data.reading import Source
    from charrnn.data.settings import PrepareSettings
    from charrnn.data.vocabulary import Vocabulary
    from charrnn.files import CHUNK

    plain = text.read_bytes().removeprefix(codecs.BOM_UTF8)
    lines = plain.replace(b"\r\n", b"\n")
    kinds = {"ASCII, LF": lines, "ASCII, CRLF": lines.replace(b"\n", b"\r\n"), "Cyrillic, LF": CYRILLIC.encode()}
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            for kind, data in kinds.items():
                path, ids = Path(folder, "text"), Path(folder, "ids.npy")
                path.write_bytes(data * (FILE * MEGABYTE // len(data)))
                part, size = Part((Source(kind, path),), PrepareSettings(), CHUNK), path.stat().st_size
                began = time.process_time()
                counted = count(part, lambda more: None)
                end = counted.characters
                vocabulary = Vocabulary(tuple(counted.codes))
                write_ids(Placed(part, vocabulary, "\n", 0, end, (0, end, end, end), ids), lambda more: None)
                found[kind].append(size / MEGABYTE / (time.process_time() - began))
                print(kind, found[kind][-1], flush=True)
    return {kind: statistics.median(rates) for kind, rates in found.items()}


def measure_processes(shapes: list[str], runs: int, text: Path) -> dict[str, dict[str, float]]:
    """Characters per second by how many threads and processes there are, for each shape; all in turns, medians."""
    two = "torch.distributed.run --standalone --nproc-per-node 2 -m -- charrnn"
    ways = {"one thread": ("charrnn", 1), "two threads": ("charrnn", 2), "two processes": (two, 1)}
    found: dict[str, dict[str, list[float]]] = {shape: {way: [] for way in ways} for shape in shapes}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            for shape in shapes:
                layers, size = shape.split("x")
                for way, (module, threads) in ways.items():
                    command = (
                        f"-m {module} train {text} --run run --force -q --num-layers {layers} --hidden-size {size}"
                    )
                    subprocess.run(
                        [sys.executable, *shlex.split(command), "--steps", "100", "--validate-every", "100"],
                        cwd=folder,
                        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                        check=True,
                        stderr=subprocess.DEVNULL,
                    )
                    found[shape][way].append(trained_rate(Path(folder, "checkpoints/run")))
                    print(shape, way, found[shape][way][-1], flush=True)
    return {shape: {way: statistics.median(rates) for way, rates in row.items()} for shape, row in found.items()}


def measure_steps(shape: str, device: str, text: Path, seconds: float) -> dict[str, Any]:
    """Seconds of a step by how many streams a device has, and the bytes of a gradient."""
    from report import in_turns
    from training import begin, synchronise

    from charrnn.data.corpus import prepare
    from charrnn.model.compute import choose_compute

    layers, size = map(int, shape.split("x"))
    compute = choose_compute(device)
    with tempfile.TemporaryDirectory() as folder:
        corpus = prepare([str(text)], output=Path(folder, "text"))
        trainers = {n: begin(corpus, compute, "lstm", layers, size, n, WINDOW) for n in STREAMS}

        def step(streams: int) -> int:
            trainers[streams]._advance()
            return 1

        steps = {str(n): lambda n=n: step(n) for n in STREAMS}  # type: ignore[misc]
        rates = in_turns(steps, seconds, synchronise(device))
    weights = sum(parameter.numel() for parameter in trainers[STREAMS[0]].parameters)
    return {"bytes": 4 * weights, "seconds": {n: 1 / rates[str(n)] for n in STREAMS}}


def measure_sum(sizes: list[int], device: str) -> dict[int, float] | None:
    """Seconds of an all-reduce of so many bytes in the group that there is, medians; in its first process."""
    import torch
    import torch.distributed as dist

    taken = {}
    for size in sizes:
        tensor, times = torch.ones(size // 4, device=device), []
        for _ in range(30):
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(tensor)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        taken[size] = statistics.median(times[5:])
    return taken if dist.get_rank() == 0 else None


def _second(rank: int, sizes: list[int], address: str, queue: Any) -> None:
    """One of two processes on this machine."""
    import torch.distributed as dist

    dist.init_process_group("gloo", f"file://{address}", rank=rank, world_size=2)
    queue.put(measure_sum(sizes, "cpu"))


def sums(sizes: list[int], device: str) -> tuple[int, dict[int, float]] | None:
    """How many processes, and seconds of their sums; None in all of torchrun's processes but the first."""
    import torch
    import torch.distributed as dist

    if "TORCHELASTIC_RUN_ID" in os.environ:
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
        found = measure_sum(sizes, device)
        return None if found is None else (dist.get_world_size(), found)
    context = torch.multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        queue = context.Queue()
        both = [context.Process(target=_second, args=(n, sizes, f"{folder}/meeting", queue)) for n in range(2)]
        for process in both:
            process.start()
        found = next(each for each in (queue.get(timeout=120), queue.get(timeout=120)) if each is not None)
        for process in both:
            process.join()
    return 2, found


def link(processes: int, small: float, large: float, size: int) -> tuple[float, float]:
    """Latency in seconds and bandwidth in bytes per second of a message, from sums in a ring of few and many bytes.

    >>> link(2, 2e-4, 2e-4 + 1e-3, 1_000_000)
    (0.0001, 1000000000.0)
    """
    messages = 2 * (processes - 1)
    latency = small / messages
    return latency, size / processes / max((large - small) / messages, 1e-12)


def sum_seconds(devices: int, size: int, latency: float, bandwidth: float) -> float:
    """Of a sum of ``size`` bytes in a ring.

    >>> sum_seconds(1, 4000, 1e-3, 1e6), sum_seconds(4, 4000, 1e-3, 1e6)
    (0.0, 0.012)
    """
    return 2 * (devices - 1) * (latency + size / devices / bandwidth)


def calculated(row: dict[str, Any], latency: float, bandwidth: float, *, same: bool) -> list[dict[str, float]]:
    """Steps on 1 to 1,024 devices: ``same``, the same streams in all; or as many for each."""
    rows = []
    for count in COUNTS:
        streams = SAME // count if same else EACH
        compute = row["seconds"][str(streams)] if str(streams) in row["seconds"] else _between(row["seconds"], streams)
        step = compute + sum_seconds(count, row["bytes"], latency, bandwidth)
        rate = streams * count * WINDOW / step
        rows.append({"devices": count, "streams": streams, "step": step, "compute": compute, "rate": rate})
    return rows


def _between(seconds: dict[str, float], streams: int) -> float:
    """Of a number of streams that was not measured: on the line between those beside it."""
    below = max(n for n in map(int, seconds) if n <= streams)
    above = min(n for n in map(int, seconds) if n >= streams)
    share = (streams - below) / (above - below)
    return (1 - share) * seconds[str(below)] + share * seconds[str(above)]


def where(document: dict[str, Any]) -> str:
    """On what, and when."""
    return f"{document['machine']}, {document['date'][:10]}"


def text_table() -> str:
    """A large text beside a small one."""
    document = json.loads(TEXT.read_text())
    rows = []
    for row in document["results"].values():
        prepared, trained = row["prepare"], row["train"]
        rate = row["megabytes"] / prepared["seconds"]
        rows.append(
            [
                f"{row['megabytes']:,} MB",
                f"{prepared['seconds']:.1f} s, {rate:.0f} MB/s, {prepared['megabytes']:.0f} MB",
                f"{trained['characters_per_second']:,.0f} characters/s, {trained['megabytes']:.0f} MB",
            ]
        )
    return f"Time, rate and peak memory of the largest process, LSTM 2 x 256 ({where(document)}):\n\n" + table(
        "text | prepare | train, 200 steps", rows
    )


def parts_table() -> str:
    """How quickly a core reads."""
    document = json.loads(PARTS.read_text())
    rows = [[kind, f"{rate:.0f} MB/s"] for kind, rate in document["results"].items()]
    return f"Text counted and written by a core in a second of its time ({where(document)}):\n\n" + table(
        "text | rate", rows
    )


def processes_table() -> str:
    """One process beside two."""
    document = json.loads(PROCESSES.read_text())
    rows = [[shape, *(f"{rate:,.0f}" for rate in row.values())] for shape, row in document["results"].items()]
    return f"Characters/s of training an LSTM, 64 streams ({where(document)}):\n\n" + table(
        "layers x units | one thread | two threads | two processes of one thread", rows
    )


def devices_tables() -> str:
    """What more of the same would gain."""
    document = json.loads(DEVICES.read_text())
    latency, bandwidth, parts = document["latency"], document["bandwidth"], []
    for shape, row in document["results"].items():
        both = (calculated(row, latency, bandwidth, same=same) for same in (True, False))
        rows = [
            [
                f"{one['devices']:,}",
                f"{one['streams']:,}",
                *(figure for each in (one, other) for figure in (_milliseconds(each), f"{each['rate']:,.0f}")),
            ]
            for one, other in zip(*both, strict=True)
        ]
        parts.append(
            f"LSTM {shape}, gradient of {row['bytes'] / MEGABYTE:.1f} MB, windows of {WINDOW} ({document['device']},\n"
            f"{where(document)}); a message takes {1e6 * latency:.0f} us and {bandwidth / 1e9:.2f} GB/s, measured with "
            f"{document['processes']} processes:\n\n"
            + table(
                f"devices | streams each, of {SAME:,} | step, ms | characters/s | step with {EACH} each, ms | "
                "characters/s",
                rows,
            )
        )
    return "\n".join(parts)


def _milliseconds(row: dict[str, float]) -> str:
    """Of computing and of summing."""
    return f"{1000 * row['compute']:.0f} + {1000 * (row['step'] - row['compute']):.0f}"


#: What a table is made of, and between which marks it stands.
TABLES = {
    TEXT: ("texts", text_table),
    PARTS: ("parts", parts_table),
    PROCESSES: ("processes", processes_table),
    DEVICES: ("devices", devices_tables),
}


def write() -> None:
    """Put the tables of what has been measured in their places."""
    for path, (name, text) in TABLES.items():
        if path.is_file():
            put(DOCUMENT, f"<!-- table of {name} -->\n", text(), f"<!-- end of the table of {name} -->\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("text", "parts", "processes", "devices", "table"))
    parser.add_argument("--gigabytes", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--shapes", nargs="+", metavar="LxH")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each number of streams")
    parser.add_argument("--text", type=Path, metavar="FILE", help="default: War and Peace from the shared corpora")
    given = parser.parse_args()
    first = int(os.environ.get("RANK", "0")) == 0
    if given.what != "table":
        text = text_file(given.text, "warpeace.txt")
    results: dict[str, Any]
    if given.what == "text":
        results = measure_text(given.gigabytes, given.runs, text)
        TEXT.write_text(json.dumps(header("scale text") | {"results": results}, indent=1) + "\n")
    elif given.what == "parts":
        results = measure_parts(given.runs, text)
        PARTS.write_text(json.dumps(header("scale parts") | {"results": results}, indent=1) + "\n")
    elif given.what == "processes":
        results = measure_processes(given.shapes or ["2x128", "2x256", "2x512"], given.runs, text)
        PROCESSES.write_text(json.dumps(header("scale processes") | {"results": results}, indent=1) + "\n")
    elif given.what == "devices":
        if given.device == "cuda" and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise SystemExit("devices --device cuda: sums are of several GPUs; start it with torchrun")
        shapes = given.shapes or ["2x512", "3x1024"]
        results = {shape: measure_steps(shape, given.device, text, given.seconds) for shape in shapes} if first else {}
        large = 1 << 25
        found = sums([SMALL, large], given.device)
        if found is not None:
            processes, taken = found
            latency, bandwidth = link(processes, taken[SMALL], taken[large], large)
            document = header("scale devices", given.device) | {"processes": processes, "latency": latency}
            DEVICES.write_text(json.dumps(document | {"bandwidth": bandwidth, "results": results}, indent=1) + "\n")
    if first:
        write()


if __name__ == "__main__":
    main()
