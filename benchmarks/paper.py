"""The grid of Karpathy, Johnson & Fei-Fei 2016 on War and Peace: RNN, LSTM and GRU of 1, 2 and 3 layers, beside theirs.

    python benchmarks/paper.py [--text-folder FOLDER]   # what is missing
    python benchmarks/paper.py --tables                 # only print the table

A row of the paper's table has as many parameters in each column. Here an RNN has twice the units of the row's name,
which gives it an LSTM's number of recurrent weights; a GRU as many units, so three quarters of them. Several sweeps,
for wider models take more time and want fewer passes. The text is in ``interleave.py``'s order, so that
the split is the paper's. Written are ``benchmarks/results/paper.json``, the figure
``benchmarks/curves/paper.svg``, and the table in RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from quality import HERE, RESULTS, ROOT, charrnn, options, prepared
from report import header
from table import put, table

from charrnn.checkpoint import SWEEP
from charrnn.training.plot import sweep_plot

JSON = HERE / "results" / "paper.json"
BEGIN, END = "<!-- python benchmarks/paper.py --tables -->\n", "<!-- end of the paper's table -->\n"
CORPUS = "warpeace-interleaved"
CELLS, LAYERS = ("rnn", "lstm", "gru"), (1, 2, 3)
NARROW: dict[str, float] = {"batch-size": 32, "dropout": 0, "output-dropout": 0}
WIDE: dict[str, float] = {"batch-size": 32, "dropout": 0.1, "output-dropout": 0.1}
PLAIN: dict[str, float] = {"layer-norm": False}
#: Cells, layers, units and settings of each sweep: the narrower, the more passes they need and the less they learn by
#: heart. Of a cell that is in two sweeps the training counts that is better on validation text.
SWEEPS: dict[str, tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...], dict[str, float]]] = {
    "paper-rnn": (("rnn",), LAYERS, (128, 256), {"epochs": 6} | NARROW | PLAIN),
    "paper-64": (("lstm", "gru"), LAYERS, (64,), {"epochs": 20} | NARROW | PLAIN),
    "paper-128": (("lstm", "gru"), LAYERS, (128,), {"epochs": 8} | NARROW | PLAIN),
    "paper-rnn-512": (("rnn",), LAYERS, (512,), {"epochs": 4} | WIDE | PLAIN),
    "paper-256": (("lstm", "gru"), LAYERS, (256,), {"epochs": 6} | WIDE | PLAIN),
    # One layer of a GRU still learns when the others of its sweep have done so.
    "paper-gru": (("gru",), (1,), (64, 128), {"epochs": 48} | NARROW | PLAIN),
    "paper-gru-32": (("gru",), (1,), (64, 128), {"epochs": 32} | NARROW | PLAIN),
    # Normalised, as theirs were not, and with nothing dropped from 256.
    "normed-256": (("lstm", "gru"), LAYERS, (256,), {"epochs": 6} | NARROW),
    "normed-128": (("lstm", "gru"), LAYERS, (128,), {"epochs": 8} | NARROW),
    "normed-64": (("lstm", "gru"), LAYERS, (64,), {"epochs": 16} | NARROW),
    "normed-512": (("lstm", "gru"), LAYERS, (512,), {"epochs": 4} | WIDE),
    "normed-512-more": (("lstm",), (2,), (512,), {"epochs": 6} | WIDE),
    "normed-512-deep": (("lstm",), (3,), (512,), {"epochs": 6} | WIDE),
    "normed-512-gru": (("gru",), (3,), (512,), {"epochs": 6} | WIDE),
}
#: Nats per character on the paper's test text, for 1, 2 and 3 layers.
PAPER: dict[int, dict[str, tuple[float, ...] | None]] = {
    64: {"lstm": (1.449, 1.442, 1.540), "rnn": (1.446, 1.401, 1.396), "gru": (1.398, 1.373, 1.472)},
    128: {"lstm": (1.277, 1.227, 1.279), "rnn": (1.417, 1.286, 1.277), "gru": (1.230, 1.226, 1.253)},
    256: {"lstm": (1.189, 1.137, 1.141), "rnn": (1.342, 1.256, 1.239), "gru": (1.198, 1.164, 1.138)},
    512: {"lstm": (1.161, 1.092, 1.082), "rnn": None, "gru": (1.170, 1.201, 1.077)},
}


def command(name: str) -> list[str]:
    """Of one sweep, without ``charrnn``."""
    cells, layers, sizes, settings = SWEEPS[name]
    grid = {"cell": cells, "num-layers": layers, "hidden-size": sizes}
    grids = [word for key, values in grid.items() for word in ("--grid", f"{key}={','.join(map(str, values))}")]
    return ["sweep", CORPUS, *grids, *options(settings).split(), "--scored", "test", "--name", name]


def collect() -> dict[str, Any]:
    """What the sweeps have reached so far, as one ``sweep.json`` has it."""
    paths = {name: ROOT / "checkpoints" / name / SWEEP for name in SWEEPS}
    there = [name for name, path in paths.items() if path.is_file()]
    rows = [row for name in there for row in json.loads(paths[name].read_text(encoding="utf-8"))["rows"]]
    return {
        **header("paper"),
        "commands": ["charrnn " + " ".join(command(name)) for name in there],
        "sweep": "War and Peace",
        "scored": "test",
        "rows": [row for row in rows if row["nats_per_char"] is not None],
    }


def tables(document: dict[str, Any]) -> str:
    """Each cell of the grid beside the paper's, for plain and for normalised layers, and the commands."""
    head = "row | " + " | ".join(f"{cell.upper()} {layers}" for cell in CELLS for layers in LAYERS)
    grids = []
    for title, prefix in (("Plain layers, as theirs", "paper-"), ("Normalised layers", "normed-")):
        rows = [row for row in document["rows"] if row["run"].startswith(prefix)]
        if rows:
            grids.append(f"{title}:\n\n{table(head, grid(rows))}")
    minutes = sum(row["seconds"] for row in document["rows"]) / 60
    said = f"{len(document['rows'])} trainings, {minutes:.0f} minutes together"
    plot = "[loss against parameters](curves/paper.svg)"
    return "\n".join([*grids, f"{said}; {plot}:\n\n```", *document["commands"], "```\n"])


def plot(document: dict[str, Any]) -> str:
    """Loss against parameters, normalised cells as other cells."""
    rows = [
        row | {"settings": row["settings"] | {"cell": f"{row['settings']['cell']}, norm"}}
        if row["run"].startswith("normed-") else row
        for row in document["rows"]
    ]  # fmt: skip
    return sweep_plot(document | {"grid": {"cell": sorted({row["settings"]["cell"] for row in rows})}, "rows": rows})


def grid(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A line of the table for each row of the paper's: ours / theirs."""
    found = {
        (row["settings"]["cell"], row["settings"]["num_layers"], row["settings"]["hidden_size"]): row["nats_per_char"]
        for row in sorted(rows, key=lambda row: -row["validation_nats_per_char"])
    }

    def shown(nats: float | None) -> str:
        return "–" if nats is None else f"{nats:.3f}"

    lines = []
    for size, paper in PAPER.items():
        if not any(size == units // 2 if cell == "rnn" else size == units for cell, _, units in found):
            continue
        line = [str(size)]
        for cell in CELLS:
            for layers, theirs in zip(LAYERS, paper[cell] or [None] * len(LAYERS), strict=True):
                ours = found.get((cell, layers, 2 * size if cell == "rnn" else size))
                line.append(f"{shown(ours)} / {shown(theirs)}")
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text-folder", type=Path, help="where the texts are; default: ../shared/corpora")
    parser.add_argument("--tables", action="store_true", help="only print the table, from the JSON")
    given = parser.parse_args()
    if given.tables:
        print(tables(json.loads(JSON.read_text())), end="")
        return
    prepared(CORPUS, given.text_folder)
    for name in SWEEPS:
        charrnn(*command(name), "-q")
        document = collect()
        JSON.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        (HERE / "curves" / "paper.svg").write_text(plot(document), encoding="utf-8")
        put(RESULTS, BEGIN, tables(document), END)


if __name__ == "__main__":
    main()
