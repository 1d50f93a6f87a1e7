"""Where models differ, as blocks: what ``compare --errors`` and its map of models look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from charrnn.inspection.report import Bars, Block, Chart, Note, Series, Table

#: Series in a chart; there are no more colours and marks.
SERIES = 6
#: Models beside the best in one table, so that it fits in 60 columns.
BESIDE = 2
#: Closings that a mean must be of to be drawn.
FEWEST = 5


def map_blocks(found: dict[str, Any] | None, names: Sequence[str]) -> list[Block]:
    """The map of models; ``found`` is the document's ``map``."""
    if found is None:
        return []
    if not any(found["variance"]):
        return [Note("No map of the models: they predict alike.")]
    models = found["models"]
    series = Series("models", [model["x"] for model in models], [model["y"] for model in models], names)
    edge = 1.2 * max(abs(model[axis]) for model in models for axis in "xy")
    x, y = (f"{share:.0%} of variance" for share in found["variance"])
    return [
        Chart("Models by their predictions", x, y, [series], limits=(-edge, edge)),
        Note("Distances are root mean squares of the differences of the probabilities given to the text's characters."),
    ]


def error_blocks(found: dict[str, Any] | None, names: Sequence[str]) -> list[Block]:
    """Errors by class, closings by distance, and the taxonomy; ``found`` is the document's ``errors``."""
    if found is None:
        return []
    note = Note(
        "An error is a character given less than half the probability. Of the best and another model, how many errors "
        "only one makes:"
    )
    return [
        *([note] if len(names) > 1 else []),
        *_classes(found["classes"], names),
        *_closings(found["closings"], names),
        *_taxonomy(found["taxonomy"], names),
        *([] if found["taxonomy_missing"] is None else [Note(f"No taxonomy of errors: {found['taxonomy_missing']}.")]),
    ]


def _classes(classes: list[dict[str, Any]], names: Sequence[str]) -> list[Block]:
    """Errors of each model if it is alone; else, in tables of few models, what only one of two gets wrong."""
    total = {
        key: [sum(parts) for parts in zip(*(row[key] for row in classes), strict=True)]
        for key in ("errors", "only_best", "only_other")
    }
    rows = [*classes, {"class": "all", "characters": sum(row["characters"] for row in classes), **total}]
    tables: list[Block] = []
    for at in range(0, len(names) - 1, BESIDE):
        others = range(at, min(at + BESIDE, len(names) - 1))
        columns = ["class", "characters"]
        for k in others:
            columns += [f"only {names[0]}", f"only {names[k + 1]}"]
        cells = [
            [row["class"], row["characters"], *(row[key][k] for k in others for key in ("only_best", "only_other"))]
            for row in rows
        ]
        tables.append(Table(columns, cells))
    if not tables:
        cells = [[row["class"], row["characters"], row["errors"][0]] for row in rows]
        tables.append(Table(["class", "characters", "errors"], cells))
    return tables


def _closings(kinds: list[dict[str, Any]], names: Sequence[str]) -> list[Block]:
    """A chart for each kind that closes often enough at two distances, or a note that there is none."""
    charts: list[Block] = []
    for kind in kinds:
        bins = [one for one in kind["bins"] if one["closings"] >= FEWEST]
        if len(bins) < 2:
            continue
        middles = [math.sqrt(one["from"] * one["to"]) for one in bins]
        series = [
            Series(name, middles, [one["probabilities"][k] for one in bins]) for k, name in enumerate(names[:SERIES])
        ]
        label = "characters since it was opened"
        title = f"Closing a {kind['kind']} ({kind['closings']:,})"
        charts.append(Chart(title, label, "mean probability", series, "lines", log_x=True, limits=(1.0, 0.0)))
    if not charts:
        few = f"the text has fewer than {FEWEST} at each of two distances"
        charts.append(Note(f"No chart of closing brackets and quotes: {few}."))
    elif len(names) > SERIES:
        charts.append(Note(f"The charts show the best {SERIES} models."))
    return charts


def _taxonomy(found: dict[str, Any] | None, names: Sequence[str]) -> list[Block]:
    if found is None:
        return []
    oracles = found["oracles"]
    rows = [
        [oracle["oracle"], step["step"], step["errors"], step["share"]]
        for oracle in oracles
        for step in oracle["steps"]
        if step["errors"]
    ]
    note = (
        f"{found['errors']:,} errors, each of the first kind whose oracle would remove it. n-gram: one of the n-gram "
        f"models of {found['training_characters']:,} characters of the training text is right; long memory: in a word "
        "that stands in the last 1000 characters, after its first letter; rare word: in a word that the training text "
        "has at most 5 times; word model: after a space, quote or newline; rest: by what would have to be added to the "
        "probability."
    )
    return [
        Bars(f"The errors of {names[found['model']]}", [o["oracle"] for o in oracles], [o["share"] for o in oracles]),
        Note(note),
        Table(["errors", "removed by", "number", "share"], rows),
    ]
