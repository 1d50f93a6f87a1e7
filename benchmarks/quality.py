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
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from report import header, text_file
from table import put, table

from charrnn.checkpoint import read_document
from charrnn.config import Config, ModelConfig, flag
from charrnn.data.corpus import Corpus as Prepared
from charrnn.model.compute import choose_compute
from charrnn.presets import settle
from charrnn.training.plot import loss_plot
from charrnn.training.run import FINISHED, Run
from charrnn.training.session import machine

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS, JSON = HERE / "RESULTS.md", HERE / "results" / "quality.json"
BEGIN, END = "<!-- python benchmarks/quality.py --tables -->\n", "<!-- end of the tables -->\n"

#: Ways to score, by the name of a column.
STATEFUL, WINDOWS, DYNAMIC = "state carried", "`--window 256`", "`--dynamic`"
MIXED, ORDER = "`--dynamic`, with a 12-gram", 12
TOGETHER = "`--dynamic`, with `warpeace-plain` and a 12-gram"
SCORING = {
    STATEFUL: [],
    WINDOWS: ["--window", "256"],
    DYNAMIC: ["--dynamic"],
    MIXED: ["--dynamic", "--dynamic-rate", "0.0002"],
    TOGETHER: ["--dynamic", "--dynamic-rate", "0.0002"],
}


@dataclass(frozen=True)
class Corpus:
    """A text, its split, which part the figures are of, and whether it is put in ``interleave.py``'s order first."""

    file: str
    split: str
    scored: str
    interleaved: bool = False

    def prepare(self, name: str) -> list[str]:
        """The commands for it."""
        file, before = self.file, []
        if self.interleaved:
            file = f"{name}.txt"
            before = [f"python benchmarks/interleave.py {self.file} {file} --split {self.split}"]
        return [*before, f"charrnn prepare {file} --name {name} --split {self.split}"]


CORPORA = {
    "shakespeare": Corpus("shakespeare.txt", "90,10,0", "validation"),
    "warpeace": Corpus("warpeace.txt", "80,10,10", "test"),
    "warpeace-interleaved": Corpus("warpeace.txt", "80,10,10", "test", interleaved=True),
    "linux": Corpus("linux.txt", "90,5,5", "test"),
}


@dataclass(frozen=True)
class Row:
    """A model: what it is trained on, the options of ``charrnn train``, the seeds, the ways to score it.

    ``of`` names the row that it differs from in one thing, and ``change`` says in which: it is a line of that row's own
    table.
    """

    corpus: str
    options: str
    seeds: tuple[int, ...] = (0,)
    scoring: tuple[str, ...] = (STATEFUL,)
    of: str = ""
    change: str = ""


def options(settings: Mapping[str, float | str]) -> str:
    """As they are typed."""
    switches = {True: "--{}", False: "--no-{}"}
    return " ".join(
        switches[value].format(name) if isinstance(value, bool) else f"--{name} {value}"
        for name, value in settings.items()
    )


#: What predicts tiny Shakespeare best. The other rows change what they must.
RECIPE: dict[str, float | str] = {
    "hidden-size": 1024, "embedding-size": 128, "layer-norm": False, "dropout": 0.2, "output-dropout": 0.2,
    "batch-size": 32, "sequence-length": 128, "learning-rate": 0.0035, "epochs": 4, "validate-every": 246,
}  # fmt: skip
LIGHTER = {"dropout": 0.15, "output-dropout": 0.15}
HEAVIER: dict[str, float | str] = {
    "dropout": 0.25, "output-dropout": 0.25, "epochs": 8, "validate-every": 637,
}  # fmt: skip
HEAVIEST = HEAVIER | {"layer-norm": True, "connections": "dense", "dropout": 0.4, "output-dropout": 0.4}
#: What a row of the ablations lacks, and what it changes for that.
ABLATIONS: dict[str, tuple[str, dict[str, float | str]]] = {
    "dropout": ("dropout between layers and before the output", {"dropout": 0, "output-dropout": 0}),
    "whole-weights": ("recurrent weights that are all there", {"weight-dropout": 0.2}),
    "averaging": ("averaged weights", {"averaging": 0}),
    "schedule": ("a learning rate that falls", {"schedule": "constant"}),
    "resets": ("states emptied now and then", {"state-reset": 0}),
    "units": ("half of the units: 512", {"hidden-size": 512, "learning-rate": 0.005}),
    "decay": ("weight decay", {"weight-decay": 0}),
    "windows": ("windows of 128: 64", {"sequence-length": 64}),
    "batch": ("batches of 32: 64", {"batch-size": 64}),
}
#: A training short enough that one thing after another can be tried on it,
STUDY: dict[str, float | str] = {
    "hidden-size": 256, "embedding-size": 64, "layer-norm": False, "dropout": 0.1, "output-dropout": 0.1,
    "batch-size": 64, "sequence-length": 64, "learning-rate": 0.01, "epochs": 4,
}  # fmt: skip
#: and the things: what, and by which settings.
TRIED: dict[str, tuple[str, dict[str, float | str]]] = {
    "input": ("dropout of the input", {"input-dropout": 0.1}),
    "between": ("no dropout between layers", {"dropout": 0}),
    "output": ("no dropout before the output", {"output-dropout": 0}),
    "weights": ("recurrent weights dropped", {"weight-dropout": 0.2}),
    "no-decay": ("no weight decay", {"weight-decay": 0}),
    "decay": ("ten times the weight decay", {"weight-decay": 0.1}),
    "averaging": ("no averaged weights", {"averaging": 0}),
    "residual": ("residual connections", {"connections": "residual"}),
    "dense": ("dense connections", {"connections": "dense"}),
    "norm": ("layer normalisation", {"layer-norm": True}),
    "norm-residual": ("both residual and normalised", {"layer-norm": True, "connections": "residual"}),
    "norm-dense": ("both dense and normalised", {"layer-norm": True, "connections": "dense"}),
    "deep": ("four layers", {"num-layers": 4}),
    "deep-residual": (
        "four layers, residual and normalised", {"num-layers": 4, "connections": "residual", "layer-norm": True}
    ),
    "vectors-16": ("vectors of 16 for characters", {"embedding-size": 16}),
    "vectors-256": ("vectors of 256", {"embedding-size": 256}),
    "windows-32": ("windows of 32", {"sequence-length": 32}),
    "windows-128": ("windows of 128", {"sequence-length": 128}),
    "batch-32": ("batches of 32", {"batch-size": 32}),
    "batch-128": ("batches of 128", {"batch-size": 128}),
    "resets": ("states never emptied", {"state-reset": 0}),
    "constant": ("a constant learning rate", {"schedule": "constant"}),
    "slower": ("half the learning rate", {"learning-rate": 0.005}),
    "faster": ("twice the learning rate", {"learning-rate": 0.02}),
}  # fmt: skip
ROWS = {
    "shakespeare": Row("shakespeare", options(RECIPE), (0, 1, 2), (STATEFUL, WINDOWS)),
    "small": Row("shakespeare", "--preset small"),
    "base": Row("shakespeare", "--preset base"),
    "large": Row("shakespeare", "--preset large", scoring=(STATEFUL, WINDOWS, DYNAMIC)),
    "warpeace-plain": Row("warpeace", options(RECIPE | HEAVIER), scoring=(STATEFUL, MIXED)),
    "warpeace": Row("warpeace", options(RECIPE | HEAVIEST), scoring=(STATEFUL, TOGETHER)),
    "linux": Row("linux", options(RECIPE | LIGHTER | {"epochs": 4, "validate-every": 1364})),
    "study": Row("shakespeare", options(STUDY), (0, 1, 2)),
} | {
    f"{prefix}-{name}": Row("shakespeare", options(settings | change), of=of, change=title)
    for prefix, of, settings, changes in (
        ("ablation", "shakespeare", RECIPE, ABLATIONS), ("study", "study", STUDY, TRIED)
    )
    for name, (title, change) in changes.items()
}  # fmt: skip
#: Above the columns of a table of rows that differ from another in one thing, by that other.
DIFFERENCES = {
    "shakespeare": "`shakespeare`, seed 0, without | that is | nats per character | more than with it",
    "study": "`study`, seed 0, with | that is | nats per character | more than without",
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
    last = folder / "last.safetensors"
    command = training_of(name, seed)
    if last.is_file():
        check(last, row, seed)
        finish(run)
    else:
        charrnn(*command, "-q")
    if not row.of:
        curve = loss_plot(Run(folder).metrics(), f"{name}, seed {seed}")
        (HERE / "curves" / f"{name}-{seed}.svg").write_text(curve, encoding="utf-8")
    figures = {}
    for way in row.scoring:
        scoring = ["eval", run, *beside(way, row.corpus), "--split", CORPORA[row.corpus].scored, *SCORING[way]]
        found = json.loads(charrnn(*scoring, "--json"))
        figures[way] = {"command": "charrnn " + shlex.join(scoring), **{k: found[k] for k in KEPT}}
    described = json.loads(charrnn("info", run, "--json"))
    record = {key: described[key] for key in ("parameters", "config", "record", "sha256")}
    # What was scored is the best of a training that is longer.
    whole = read_document(last)["record"]
    training = {key: whole[key] for key in ("steps", "epochs", "seconds")}
    return {
        "seed": seed,
        "date": header("quality")["date"],
        "command": "charrnn " + shlex.join(command),
        "training": training,
        "figures": figures,
        "record": record,
    }


def training_of(name: str, seed: int = 0) -> list[str]:
    """What trains a row, without ``charrnn``."""
    row = ROWS[name]
    return ["train", row.corpus, *shlex.split(row.options), "--seed", str(seed), "--run", f"quality/{name}-{seed}"]


def counting(corpus: str) -> list[str]:
    """What counts a text, without ``charrnn``."""
    return ["train", corpus, "--model", "ngram", "--order", str(ORDER), "--run", f"quality/{corpus}-{ORDER}-gram"]


def beside(way: str, corpus: str) -> list[str]:
    """The runs that are asked with a row's own: of the row of plain networks, trained before it, and of counts."""
    if way not in (MIXED, TOGETHER):
        return []
    plain = training_of(f"{corpus}-plain") if way == TOGETHER else []
    if plain and not (ROOT / "checkpoints" / plain[-1]).is_dir():
        charrnn(*plain, "-q")
    return [*plain[-1:], counted(corpus)]


def counted(corpus: str) -> str:
    """The run that counted a text."""
    *_, run = command = counting(corpus)
    if not (ROOT / "checkpoints" / run).is_dir():
        charrnn(*command, "-q")
    return run


def check(last: Path, row: Row, seed: int) -> None:
    """Raises SystemExit if a run was begun with other settings than the row's: it is from before a change."""
    values: dict[str, Any] = {}
    for option, _, value in (each.partition(" ") for each in pairs(row.options)):
        name = option.removeprefix("--").removeprefix("" if value else "no-").replace("-", "_")
        values[name] = literal(value) if value else not option.startswith("--no-")
    preset = values.pop("preset", "auto")
    model = {name: values.pop(name) for name in [*values] if name in ModelConfig.names()}
    given = Config.from_mapping({"model": model, "training": values | {"seed": seed}}, "the row")
    characters = Prepared.open(ROOT / "corpora" / row.corpus).splits["train"].characters
    expected = settle(given, characters=characters, machine=machine(choose_compute()), preset=preset).config
    found = read_document(last)["config"]
    for group, settings in expected.to_mapping().items():
        for name, value in settings.items():
            before = found[group].get(name, value)  # older runs lack newer settings
            if before != value:
                raise SystemExit(
                    f"{last}: has {flag(name)} {before}, the row {value}; remove the run to train it again"
                )


def literal(text: str) -> int | float | str:
    """A value as it was typed."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def finish(run: str) -> None:
    """Go on with a training that was stopped.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, "-m", "charrnn", "train", "--resume", "--run", run, "-q"]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if done.returncode and FINISHED not in done.stderr:
        raise SystemExit(done.stderr)


KEPT = ("characters", "nats_per_char", "bits_per_char", "bits_per_char_interval", "shares")


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
        if given.rows or given.seeds:
            parser.error("--tables: prints them all; it takes neither rows nor --seeds")
        print(tables(), end="")
        return
    for name in given.rows or ROWS:
        measure(name, given.text_folder, given.seeds)


def prepared(name: str, texts: Path | None) -> None:
    """Prepare a corpus unless it is there.

    Raises:
        SystemExit: the text is not there, or the corpus that has its name is split otherwise.
    """
    corpus = CORPORA[name]
    if not (ROOT / "corpora" / name).is_dir():
        text = text_file(texts and texts / corpus.file, corpus.file)
        with tempfile.TemporaryDirectory() as folder:
            if corpus.interleaved:
                whole, text = text, Path(folder, text.name)
                order = [str(HERE / "interleave.py"), str(whole), str(text), "--split", corpus.split]
                subprocess.run([sys.executable, *order], check=True)
            charrnn("prepare", str(text), "--name", name, "--split", corpus.split)
    split = Prepared.open(ROOT / "corpora" / name).settings.split
    if list(split) != list(map(float, corpus.split.split(","))):
        raise SystemExit(f"corpora/{name}: is split {split}, the row is of {corpus.split}; remove it")


def measure(name: str, texts: Path | None, seeds: list[int] | None) -> None:
    """Train and score a row; the JSON is written after each training."""
    row = ROWS[name]
    if unknown := sorted(set(seeds or ()) - set(row.seeds)):
        raise SystemExit(f"--seeds {unknown[0]}: the row {name} is of seeds {', '.join(map(str, row.seeds))}")
    prepared(row.corpus, texts)
    for seed in seeds or row.seeds:
        run = trained(name, row, seed)
        document = json.loads(JSON.read_text()) if JSON.is_file() else {"rows": {}}
        before = document["rows"].get(name, {})
        same = before.get("options") == row.options
        others = [one for one in before.get("runs", []) if same and one["seed"] != seed]
        runs = sorted([*others, run], key=lambda one: one["seed"])
        document["rows"][name] = {"corpus": row.corpus, "options": row.options, "runs": runs}
        JSON.write_text(json.dumps(document | header("quality"), indent=1) + "\n", encoding="utf-8")
        put(RESULTS, BEGIN, tables(), END)


def tables() -> str:
    """Figures of each row, mean over its seeds, what each ingredient is worth, and commands and records below."""
    rows = json.loads(JSON.read_text())["rows"]
    lines, details = [], []
    for name in (name for name in ROWS if name in rows and not ROWS[name].of):
        runs = rows[name]["runs"]
        for way in runs[0]["figures"]:
            nats = [run["figures"][way]["nats_per_char"] for run in runs]
            each = ", ".join(f"{value:.4f}" for value in nats)
            lines.append([name, way, f"{mean(nats):.4f}", each if len(nats) > 1 else "", minutes(runs)])
        details.append(detail(name, runs))
    parts = [table("row | scored | nats per character | by seed | minutes of training", lines)]
    for of, head in DIFFERENCES.items():
        figures = {
            name: run["figures"][STATEFUL]["nats_per_char"]
            for name in ROWS
            for run in rows.get(name, {}).get("runs", ())
            if run["seed"] == 0
        }
        others = sorted((name for name in figures if ROWS[name].of == of), key=lambda name: figures[name], reverse=True)
        if others and of in figures:
            changed = [(ROWS[name].change, typed(name), figures[name]) for name in others]
            parts.append(table(head, ([*what, f"{n:.4f}", f"{n - figures[of]:+.4f}"] for *what, n in changed)))
    return "\n".join([*parts, *details])


def typed(name: str) -> str:
    """The options in which a row differs from the one it is compared with."""
    whole = pairs(ROWS[ROWS[name].of].options)
    return f"`{' '.join(option for option in pairs(ROWS[name].options) if option not in whole)}`"


def pairs(options: str) -> list[str]:
    """Each option with its value."""
    return ["--" + each.strip() for each in options.split("--")[1:]]


def minutes(runs: list[dict[str, Any]]) -> str:
    """Training time of each run, mean."""
    return f"{mean(run['training']['seconds'] for run in runs) / 60:.0f}"


def detail(name: str, runs: list[dict[str, Any]]) -> str:
    """Commands, and what the first checkpoint records."""
    first = runs[0]
    corpus = CORPORA[ROWS[name].corpus]
    commands = [
        *corpus.prepare(ROWS[name].corpus),
        first["command"],
        *(["charrnn " + shlex.join(training_of(f"{name}-plain"))] if TOGETHER in first["figures"] else []),
        *(["charrnn " + shlex.join(counting(ROWS[name].corpus))] if {MIXED, TOGETHER} & {*first["figures"]} else []),
        *(figure["command"] for figure in first["figures"].values()),
    ]
    record, model, training = first["record"]["record"], first["record"]["config"]["model"], first["training"]
    said = (
        f"{model['cell'].upper()} {model['num_layers']} x {model['hidden_size']}, {record['parameters']:,} parameters, "
        f"{training['steps']:,} steps, {training['epochs']:.1f} epochs (best after {record['epochs']:.1f}), "
        f"{record['compute']}"
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
