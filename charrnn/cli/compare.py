"""``charrnn compare``: several models on one text, in one table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import options
from charrnn.cli.output import present

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from charrnn.evaluation.comparison import Scored
    from charrnn.inspection.report import Report

#: So many models make a map.
MAPPED = 5


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
    errors: Annotated[
        bool,
        typer.Option(
            "--errors",
            help="Also show which errors only one of two models makes, closing brackets and quotes by distance, and "
            "what would remove the errors of the best recurrent model.",
        ),
    ] = False,
    encoding: options.Encoding = None,
    newlines: options.Newlines = None,
    json: options.Json = False,
    html: options.Html = None,
) -> None:
    """Set models beside each other: bits per character, and the paired difference of each to the best.

    All score the same text, every character once. The best model comes first. The interval of a difference is its
    own: models find the same passages hard, so a difference is surer than the figures that it is between. Five or
    more models are also drawn on a map, where those that foresee the same characters lie close to each other.
    """
    from charrnn.checkpoint import Checkpoint, locate
    from charrnn.evaluation.comparison import compare as set_beside
    from charrnn.evaluation.comparison import score
    from charrnn.evaluation.evaluator import spelled, text_to_score, trained_on

    models = [Checkpoint.load(locate(name)) for name in checkpoints]
    scored = []
    keep = errors or len(models) >= MAPPED
    with _rereadable(text) as readable:
        readable = readable or str(trained_on(models[0]).path)
        for model in models:
            found = text_to_score(model, readable, split, encoding=encoding, newlines=newlines)
            scored.append(score(model, found.ids, found.bytes, keep=keep))
        ranked = set_beside(scored)
        codes = None
        if errors:
            codes = spelled(models[0], readable, split, encoding=encoding, newlines=newlines).codes
    document: dict[str, Any] = {
        "schema": 1,
        "text": "standard input" if text == "-" else found.name,
        "split": found.split,
        "unit": models[0].vocabulary.unit,
        "characters": scored[0].figures.characters,
        "models": [entry.to_json() for entry in ranked],
        "map": _map([entry.scored for entry in ranked]) if len(models) >= MAPPED else None,
        "errors": None if codes is None else _errors([entry.scored for entry in ranked], codes),
    }
    present(_report(document), *(model["checkpoint"] for model in document["models"]), json=json, html=html)


@contextlib.contextmanager
def _rereadable(text: str | None) -> Iterator[str | None]:
    """The name of a text that can be read once for each model: standard input is copied to a file."""
    if text != "-":
        yield text
        return
    from charrnn.data.sources import gather

    with gather([text]) as found:
        yield str(found.sources[0].path)


def _map(models: Sequence[Scored]) -> dict[str, Any]:
    from charrnn.evaluation.likeness import map_of

    places, variance = map_of([model.nats for model in models])
    return {
        "variance": variance.tolist(),
        "models": [
            {"checkpoint": str(model.checkpoint.path), "x": x, "y": y}
            for model, (x, y) in zip(models, places.tolist(), strict=True)
        ],
    }


def _errors(models: Sequence[Scored], codes: NDArray[np.integer[Any]]) -> dict[str, Any]:
    """What ``--errors`` adds to the document, given the models, best first, and the text."""
    from charrnn.errors import TextError
    from charrnn.evaluation.characters import classes_of
    from charrnn.evaluation.distance import by_distance
    from charrnn.evaluation.errors import HALF, by_classes
    from charrnn.evaluation.evaluator import corpus_codes, trained_on
    from charrnn.evaluation.taxonomy import TRAINING, taxonomy

    recurrent = (k for k, model in enumerate(models) if model.checkpoint.config.model.kind == "recurrent")
    chosen = next(recurrent, 0)
    best = models[chosen]
    vocabulary = best.checkpoint.vocabulary
    found = missing = None
    try:
        trained = trained_on(best.checkpoint, advice="the kinds of its errors need it")
        training = corpus_codes(trained, "train", TRAINING)
    except TextError as error:
        missing = str(error)
    else:
        oracles = taxonomy(best.nats, codes, training, vocabulary)
        total = sum(sum(oracle.errors) for oracle in oracles)
        found = {
            "model": chosen,
            "checkpoint": str(best.checkpoint.path),
            "errors": total,
            "training_characters": len(training),
            "oracles": [oracle.to_json(total) for oracle in oracles],
        }
    each = [model.nats for model in models]
    return {
        "below": HALF,
        "classes": by_classes(each, classes_of(codes, vocabulary.unit)),
        "closings": by_distance(each, codes),
        "taxonomy": found,
        "taxonomy_missing": missing,
    }


def _report(document: dict[str, Any]) -> Report:
    from charrnn.checkpoint import short_names
    from charrnn.data.vocabulary import NOUNS
    from charrnn.inspection.differences import error_blocks, map_blocks
    from charrnn.inspection.report import Block, Chart, Note, Report, Series, Table

    def spread(value: float, interval: list[float] | None) -> str:
        return f"{value:.4f}" + ("" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.4f}")

    models, noun = document["models"], NOUNS[document["unit"]]
    names = short_names([Path(model["checkpoint"]) for model in models])
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
    speed = f"{document['unit']}s/s"  # short, so that the table fits in 60 columns
    blocks: list[Block] = [
        Table(["run", f"bits per {noun}", "perplexity", "worse by, bits"], figures),
        Table(["run", "model", "parameters", "bytes", "trained, s", speed], costs),
    ]
    where = document["text"] + (f", {document['split']} split" if document["split"] else "")
    note = f"{where}: {document['characters']:,} {noun}s, best first; ± is half of a 95 % interval."
    unseen = [f"{name} {model['unseen']:,}" for name, model in zip(names, models, strict=True) if model["unseen"]]
    if unseen:
        note += f" Outside the vocabulary: {', '.join(unseen)}."
    sizes = Series("models", [m["parameters"] for m in models], [m["bits_per_char"] for m in models], names)
    chart = Chart("Size and figure", "parameters", f"bits per {noun}", [sizes], log_x=True)
    blocks += [chart] if len(models) > 2 else []
    blocks += [*map_blocks(document["map"], names), *error_blocks(document["errors"], names)]
    return Report("Comparison", [Note(note), *blocks], document)
