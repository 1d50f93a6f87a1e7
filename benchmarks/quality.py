"""How well models predict: every row of RESULTS.md by the commands that a stranger can run, and the table of them.

    python benchmarks/quality.py [ROW ...] [--seeds N ...] [--text-folder FOLDER]   # what is missing
    python benchmarks/quality.py --tables   # print the tables of what has been measured

Each training is a run below ``checkpoints/quality/``, made by ``charrnn train`` and measured by ``charrnn eval``. A
stopped one goes on, a finished one is kept. With the figures the JSON holds the commands, the seed and what the
checkpoint records of itself; learning curves are copied to ``benchmarks/curves/``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from report import header, text_file
from table import table

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS, JSON = HERE / "RESULTS.md", HERE / "results" / "quality.json"
BEGIN, END = "<!-- python benchmarks/quality.py --tables -->\n", "<!-- end of the tables -->\n"

#: Ways to score, by the name of a column.
STATEFUL, WINDOWS, DYNAMIC = "state carried", "`--window 256`", "`--dynamic`"
SCORING = {STATEFUL: [], WINDOWS: ["--window", "256"], DYNAMIC: ["--dynamic"]}


@dataclass(frozen=True)
class Corpus:
    """A text, its split, and which part the figures are of."""

    file: str
    split: str
    scored: str


CORPORA = {
    "shakespeare": Corpus("shakespeare.txt", "90,10,0", "validation"),
    "warpeace": Corpus("warpeace.txt", "80,10,10", "test"),
    "linux": Corpus("linux.txt", "90,5,5", "test"),
}


@dataclass(frozen=True)
class Row:
    """A model: what it is trained on, the options of ``charrnn train``, the seeds, the ways to score it."""

    corpus: str
    options: str
    seeds: tuple[int, ...] = (0,)
    scoring: tuple[str, ...] = (STATEFUL,)


#: What made a 2 x 512 LSTM predict tiny Shakespeare best; close to ``--preset large --epochs 20``.
RECIPE = (
    "--hidden-size 512 --dropout 0.25 --output-dropout 0.25 --weight-dropout 0.3 --batch-size 32 --sequence-length 128 "
    "--learning-rate 0.005 --averaging 0.1 --state-reset 0.005"
)
ROWS = {
    "shakespeare": Row("shakespeare", f"{RECIPE} --epochs 20", (0, 1, 2), (STATEFUL, WINDOWS, DYNAMIC)),
    "warpeace": Row("warpeace", "--preset large --epochs 12", (0,), (STATEFUL, DYNAMIC)),
    "linux": Row("linux", "--preset large --epochs 6", (0,), (STATEFUL, DYNAMIC)),
}


def charrnn(*arguments: str) -> str:
    """Run a command of charrnn's at the repository's root; its standard output.

    Raises:
        SystemExit: it failed.
    """
    print("charrnn", shlex.join(arguments), flush=True)
    done = subprocess.run([sys.executable, "-m", "charrnn", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def trained(name: str, row: Row, seed: int) -> dict[str, Any]:
    """One training of a row: commands, figures by way of scoring, the checkpoint's own record."""
    run = f"quality/{name}-{seed}"
    folder = ROOT / "checkpoints" / run
    command = ["train", row.corpus, *shlex.split(row.options), "--seed", str(seed), "--run", run]
    if not (folder / "README.md").is_file():  # the card, which is written last
        charrnn(*(["train", "--resume", "--run", run] if (folder / "last.safetensors").is_file() else command), "-q")
    curves = HERE / "curves"
    curves.mkdir(exist_ok=True)
    shutil.copyfile(folder / "loss.svg", curves / f"{name}-{seed}.svg")
    figures = {}
    for way in row.scoring:
        scoring = ["eval", run, "--split", CORPORA[row.corpus].scored, *SCORING[way]]
        found = json.loads(charrnn(*scoring, "--json"))
        figures[way] = {"command": "charrnn " + shlex.join(scoring), **{k: found[k] for k in KEPT}}
    described = json.loads(charrnn("info", run, "--json"))
    record = {key: described[key] for key in ("parameters", "config", "record", "sha256")}
    return {"seed": seed, "command": "charrnn " + shlex.join(command), "figures": figures, "record": record}


KEPT = ("characters", "nats_per_char", "bits_per_char", "bits_per_char_interval")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--text-folder", type=Path, help="where the texts are; default: ../shared/corpora")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these of a row's seeds")
    parser.add_argument("--tables", action="store_true", help="only print the tables of RESULTS.md, from the JSON")
    given = parser.parse_args()
    if unknown := sorted(set(given.rows) - set(ROWS)):
        raise SystemExit(f"{unknown[0]}: no such row; there are {', '.join(ROWS)}")
    if given.tables:
        print(tables(), end="")
        return
    for name in given.rows or ROWS:
        measure(name, given.text_folder, given.seeds)


def measure(name: str, texts: Path | None, seeds: list[int] | None) -> None:
    """Train and score a row; the JSON is written after each training."""
    row = ROWS[name]
    corpus = CORPORA[row.corpus]
    if not (ROOT / "corpora" / row.corpus).is_dir():
        text = text_file(texts and texts / corpus.file, corpus.file)
        charrnn("prepare", str(text), "--name", row.corpus, "--split", corpus.split)
    for seed in seeds or row.seeds:
        run = trained(name, row, seed)
        document = json.loads(JSON.read_text()) if JSON.is_file() else {"rows": {}}
        others = [one for one in document["rows"].get(name, {}).get("runs", []) if one["seed"] != seed]
        runs = sorted([*others, run], key=lambda one: one["seed"])
        document["rows"][name] = {"corpus": row.corpus, "options": row.options, "runs": runs}
        JSON.write_text(json.dumps(header("quality") | document, indent=1) + "\n", encoding="utf-8")
        write()


def write() -> None:
    """Put the tables in their place in RESULTS.md."""
    before, _, rest = RESULTS.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    RESULTS.write_text(before + BEGIN + "\n" + tables() + "\n" + END + after, encoding="utf-8")


def tables() -> str:
    """Figures of each row, mean over its seeds, and the commands and records below."""
    rows = json.loads(JSON.read_text())["rows"]
    lines, details = [], []
    for name, row in rows.items():
        runs = row["runs"]
        for way in runs[0]["figures"]:
            nats = [run["figures"][way]["nats_per_char"] for run in runs]
            each = ", ".join(f"{value:.4f}" for value in nats)
            lines.append([name, way, f"{mean(nats):.4f}", each if len(nats) > 1 else "", minutes(runs)])
        details.append(detail(name, runs))
    return table("row | scored | nats per character | by seed | minutes of training", lines) + "\n" + "\n".join(details)


def minutes(runs: list[dict[str, Any]]) -> str:
    """Training time of each run, mean."""
    return f"{mean(run['record']['record']['seconds'] for run in runs) / 60:.0f}"


def detail(name: str, runs: list[dict[str, Any]]) -> str:
    """Commands, and what the first checkpoint records."""
    first = runs[0]
    corpus = CORPORA[ROWS[name].corpus]
    prepare = f"charrnn prepare {corpus.file} --name {ROWS[name].corpus} --split {corpus.split}"
    commands = [prepare, first["command"], *(figure["command"] for figure in first["figures"].values())]
    record, model = first["record"]["record"], first["record"]["config"]["model"]
    said = (
        f"{model['cell'].upper()} {model['num_layers']} x {model['hidden_size']}, {record['parameters']:,} parameters, "
        f"{record['steps']:,} steps, {record['epochs']:.1f} epochs, {record['compute']}"
    )
    seeds = ", ".join(str(run["seed"]) for run in runs)
    return (
        f"### {name}\n\n{said}; seeds {seeds}; [learning curve](curves/{name}-{first['seed']}.svg).\n\n"
        + "```\n"
        + "\n".join(commands)
        + "\n```\n"
    )


if __name__ == "__main__":
    main()
