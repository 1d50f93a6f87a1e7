"""Compression by a model against gzip, bzip2 and xz: bytes, and how long it takes.

    python benchmarks/compress.py [--json FILE] [--checkpoint NAME...] [--text FILE] [--whole NAME...]

Tiny Shakespeare is split 90/10 as its models were trained. ``validation`` is what they have never seen: what a model is
worth that both sides have already. ``whole`` is all of the text by a model that was trained on nine tenths of it, and
has to be sent along: there ``with_model`` counts, the compressed text and the checkpoint's file. What is
compressed is decoded and compared, and the seconds are of both. ``promised`` is what ``charrnn eval`` says, in bytes.

gzip, bzip2 and xz are Python's own modules at their highest levels (9, 9, and 9 with ``extreme``). Seconds are of the
clock and of the process; on a busy machine only the second say something.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import lzma
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from report import header, text_file

from charrnn.architectures import title
from charrnn.checkpoint import Checkpoint, locate
from charrnn.compression.container import compress
from charrnn.compression.symbols import Spelling
from charrnn.evaluation.evaluator import evaluate

OTHERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip -9", lambda data: gzip.compress(data, 9)),
    "bzip2": ("bzip2 -9", lambda data: bz2.compress(data, 9)),
    "xz": ("xz -9e", lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
}


def timed(run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a function returns, and its seconds."""
    clock, process = time.perf_counter(), time.process_time()
    result = run()
    return result, {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - process}


def by_model(name: str, data: bytes) -> dict[str, Any]:
    """Sizes and seconds of one checkpoint on one text."""
    checkpoint = Checkpoint.load(locate(name))
    assert checkpoint.path is not None
    ids = Spelling(checkpoint.vocabulary).symbols(data).ids
    promised = evaluate(checkpoint, ids, len(data), device="cpu").nats / math.log(2) / 8
    done, both_ways = timed(lambda: compress(checkpoint, data))  # which decodes, and compares
    size, weights = len(done.blob), checkpoint.path.stat().st_size
    return {
        "checkpoint": name,
        "model": title(checkpoint.config.model),
        "engine": list(done.kinds),
        "bytes": size,
        "promised": promised,
        "over_promise": size / promised - 1,
        "model_bytes": weights,
        "with_model": size + weights,
        "both_ways": both_ways,
        "characters_per_cpu_second": 2 * len(ids) / both_ways["cpu_seconds"],
    }


def by_others(data: bytes) -> dict[str, Any]:
    """Sizes and seconds of the others."""
    rows = {}
    for name, (_, function) in OTHERS.items():
        found, seconds = timed(lambda function=function: function(data))
        rows[name] = {"bytes": len(found), **seconds}
    return rows


def show(name: str, size: int, cpu_seconds: float, whole: int, more: str = "") -> None:
    """A row of the table."""
    print(f"{name:44}{size:12,}{size / whole:13.1%}{cpu_seconds:8.1f}{more}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--checkpoint", nargs="*", default=[], metavar="NAME", help="for the validation split")
    parser.add_argument("--whole", nargs="*", default=[], metavar="NAME", help="for all of the text")
    parser.add_argument("--text", type=Path, metavar="FILE", help="default: tiny Shakespeare")
    arguments = parser.parse_args()
    data = text_file(arguments.text, "shakespeare.txt").read_bytes()
    texts = {"validation": (data[len(data) * 9 // 10 :], arguments.checkpoint), "whole": (data, arguments.whole)}
    document: dict[str, Any] = {**header("compress"), "texts": {}}
    for name, (text, names) in texts.items():
        if not names:
            continue
        print(f"\n{name}, {len(text):,} bytes:\n")
        print(f"{'':44}{'bytes':>12}{'of the text':>13}{'CPU s':>8}{'over eval':>11}{'with the model':>16}")
        row = document["texts"][name] = {"bytes": len(text), "charrnn": [], **by_others(text)}
        for other, (command, _) in OTHERS.items():
            show(command, row[other]["bytes"], row[other]["cpu_seconds"], len(text))
        for checkpoint in names:
            one = by_model(checkpoint, text)
            row["charrnn"].append(one)
            more = f"{one['over_promise']:11.2%}{one['with_model']:16,}"
            show(f"{one['model']}, {checkpoint}", one["bytes"], one["both_ways"]["cpu_seconds"], len(text), more)
            if arguments.json:
                arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
