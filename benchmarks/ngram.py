"""What counting gets to: n-grams with interpolated modified Kneser-Ney smoothing, the baseline of Karpathy, Johnson &
Fei-Fei 2016, on their texts.

    python benchmarks/ngram.py [--json FILE] [--corpora FOLDER] [--orders 1 2 3 ...]

Nats per character of validation and test, on two kinds of splits:

- ``contiguous``: charrnn's, the text's beginning, then validation, then test;
- ``interleaved``: what char-rnn, and by all signs the paper, has: the text is cut into 100 streams and each of them is
  split, so that test text lies between training text and is easier (CharSplitLMMinibatchLoader.lua). Each stream's
  part is scored as a text of its own, as char-rnn starts it from an empty state.

The paper's figures belong beside the second. Seconds to count and to score; memory is the peak of a process that did
this alone (ru_maxrss). A text that is not there is skipped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from report import header

from charrnn.data.corpus import SPLITS, Corpus, PrepareSettings, prepare
from charrnn.data.vocabulary import Vocabulary
from charrnn.evaluation.metrics import measure
from charrnn.evaluation.ngram import NGram
from charrnn.evaluation.surprisal import Ids

#: Text, its split in percent, kinds of splits.
CORPORA = {
    "shakespeare": ((90.0, 10.0, 0.0), ("contiguous",)),
    "warpeace": ((80.0, 10.0, 10.0), ("contiguous", "interleaved")),
    "linux": ((90.0, 5.0, 5.0), ("contiguous", "interleaved")),
}
#: The paper's 20-gram on its test split; of another file of the Linux kernel than ours.
PAPER = {"warpeace": 1.195, "linux": 0.889}
STREAMS, WINDOW = 100, 100
ORDERS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20)

#: A split: one text, or as many as there are streams.
Texts = Sequence[Ids]


def contiguous(corpus: Corpus) -> dict[str, Texts]:
    """The splits that the corpus has."""
    return {name: [corpus.ids(name)] for name in SPLITS if corpus.splits[name].characters}


def interleaved(corpus: Corpus) -> dict[str, Texts]:
    """The splits that char-rnn makes: of each of the streams so many windows for training, validation and test."""
    ids = np.concatenate([texts[0] for texts in contiguous(corpus).values()])
    windows = len(ids) // (STREAMS * WINDOW)
    streams = ids[: windows * STREAMS * WINDOW].reshape(STREAMS, -1)
    first, second, _ = (int(windows * percent / 100) * WINDOW for percent in corpus.settings.split)
    train, validation, test = np.split(streams, [first, first + second], axis=1)
    return {"train": [train.ravel()], "validation": list(validation), "test": list(test)}


def nats_per_char(model: NGram, texts: Texts, vocabulary: Vocabulary) -> float:
    """Of all texts together."""
    figures = [measure(model.surprisals(ids), ids, vocabulary, len(ids)) for ids in texts]
    return sum(each.nats for each in figures) / sum(each.characters for each in figures)


def row(folder: str, kind: str, order: int) -> dict[str, float]:
    """Figures of one order on a corpus, and what they took."""
    corpus = Corpus.open(folder)
    splits = {"contiguous": contiguous, "interleaved": interleaved}[kind](corpus)
    began = time.perf_counter()
    model = NGram.of(splits.pop("train")[0], corpus.vocabulary, order)
    counted = time.perf_counter()
    figures = {name: nats_per_char(model, texts, corpus.vocabulary) for name, texts in splits.items()}
    return {
        **figures,
        "ngrams": sum(len(level.keys) for level in model.levels),
        "count_seconds": counted - began,
        "score_seconds": time.perf_counter() - counted,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
        / 1e6,
    }


def apart(*arguments: Any) -> dict[str, float]:
    """The same in a process of its own, whose peak of memory is then this row's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(row, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    beside = Path(__file__).resolve().parents[2] / "shared" / "corpora"
    parser.add_argument("--corpora", type=Path, default=beside, metavar="FOLDER", help=f"default: {beside}")
    parser.add_argument("--orders", nargs="+", type=int, default=ORDERS, metavar="N")
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    for name, (split, kinds) in CORPORA.items():
        text = arguments.corpora / f"{name}.txt"
        if not text.is_file():
            print(f"{name} skipped: there is no {text}; name the texts' folder with --corpora FOLDER")
            continue
        with tempfile.TemporaryDirectory() as folder:
            corpus = prepare([str(text)], output=Path(folder, name), settings=PrepareSettings(split=split))
            results[name] = {"split": split, "characters": corpus.characters}
            for kind in kinds:
                paper = f"; the paper's 20-gram: {PAPER[name]} on test" if kind == "interleaved" else ""
                print(f"\n{name}, {kind} {','.join(f'{share:g}' for share in split)}{paper}")
                print(
                    f"{'order':>5}{'validation':>12}{'test':>9}{'n-grams':>14}{'count':>10}{'score':>10}{'memory':>12}"
                )
                results[name][kind] = {}
                for order in arguments.orders:
                    results[name][kind][order] = of = apart(str(corpus.path), kind, order)
                    test = f"{of['test']:9.4f}" if "test" in of else " " * 9
                    print(
                        f"{order:5}{of['validation']:12.4f}{test}{of['ngrams']:14,.0f}{of['count_seconds']:8.1f} s"
                        f"{of['score_seconds']:8.1f} s{of['megabytes']:9,.0f} MB",
                        flush=True,
                    )
    if arguments.json and results:
        command = " ".join(["python benchmarks/ngram.py --orders", *map(str, arguments.orders)])
        document = {**header("ngram"), "command": command, "paper": PAPER, "results": results}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
