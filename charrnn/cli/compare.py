"""``charrnn compare``: several models on one text, in one table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import options

if TYPE_CHECKING:
    from charrnn.inspection.report import Report


def compare(
    checkpoints: Annotated[list[str], typer.Argument(metavar="A B...", help="Files, run folders or run names.")],
    text: Annotated[
        str | None,
        typer.Option(
            metavar="F|-",
            help="Text to score: a file, a corpus, or - for standard input. Default: what the "
            "first model was trained on.",
        ),
    ] = None,
    split: options.ScoredSplit = None,
    json: options.Json = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one self-contained HTML file.")] = None,
) -> None:
    """Set models beside each other: bits per character, and the paired difference of each to the best.

    All score the same text, every character once. The best model comes first. The interval of a difference is its
    own: models find the same passages hard, so a difference is surer than the figures that it is between.
    """
    from charrnn.checkpoint import Checkpoint, locate
    from charrnn.evaluation.comparison import compare as set_beside
    from charrnn.evaluation.comparison import score
    from charrnn.evaluation.evaluator import text_to_score, trained_on

    models = [Checkpoint.load(locate(name)) for name in checkpoints]
    scored = []
    with _rereadable(text) as readable:
        readable = readable or str(trained_on(models[0]).path)
        for model in models:
            found = text_to_score(model, readable, split)
            scored.append(score(model, found.ids, found.bytes))
    document: dict[str, Any] = {
        "schema": 1,
        "text": "standard input" if text == "-" else found.name,
        "split": found.split,
        "characters": scored[0].figures.characters,
        "models": [entry.to_json() for entry in set_beside(scored)],
    }
    if html is not None:
        from charrnn.cli.inspect import write
        from charrnn.inspection.html import page

        write(html, page(_report(document)))
    if json:
        from charrnn.cli.console import print_json

        print_json(document)
    elif html is None:
        from charrnn.cli.console import out
        from charrnn.cli.render import render

        render(out(), _report(document))


@contextlib.contextmanager
def _rereadable(text: str | None) -> Iterator[str | None]:
    """The name of a text that can be read once for each model: standard input is copied to a file."""
    if text != "-":
        yield text
        return
    from charrnn.data.sources import gather

    with gather([text]) as found:
        yield str(found.sources[0].path)


def _names(paths: list[str]) -> list[str]:
    """Short names for a table: a run's folder where that tells them apart."""
    short = [Path(path).parent.name or path for path in paths]
    return short if len(set(short)) == len(short) else paths


def _report(document: dict[str, Any]) -> Report:
    from charrnn.inspection.report import Chart, Note, Report, Series, Table

    def spread(value: float, interval: list[float] | None) -> str:
        return f"{value:.4f}" + ("" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.4f}")

    models = document["models"]
    names = _names([model["checkpoint"] for model in models])
    figures = [
        [
            name,
            spread(model["bits_per_char"], model["bits_per_char_interval"]),
            f"{model['perplexity']:.4f}",
            spread(model["difference"], model["difference_interval"]) if k else "best",
        ]
        for k, (name, model) in enumerate(zip(names, models, strict=True))
    ]
    costs = [
        [
            name,
            model["model"],
            model["parameters"],
            model["bytes"],
            model["training_seconds"],
            int(model["characters_per_second"]),
        ]
        for name, model in zip(names, models, strict=True)
    ]
    blocks = [
        Table(["run", "bits per character", "perplexity", "worse by, bits"], figures),
        Table(["run", "model", "parameters", "bytes", "trained, s", "characters/s"], costs),
    ]
    where = document["text"] + (f", {document['split']} split" if document["split"] else "")
    note = f"{where}: {document['characters']:,} characters, best first; ± is half of a 95 % interval."
    unseen = [f"{name} {model['unseen']:,}" for name, model in zip(names, models, strict=True) if model["unseen"]]
    if unseen:
        note += f" Characters outside the vocabulary: {', '.join(unseen)}."
    sizes = Series("models", [m["parameters"] for m in models], [m["bits_per_char"] for m in models], names)
    chart = Chart("Size and figure", "parameters", "bits per character", [sizes], log_x=True)
    return Report("Comparison", [Note(note), *blocks, *([chart] if len(models) > 2 else [])], document)
