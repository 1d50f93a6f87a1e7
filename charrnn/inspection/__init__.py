"""Looking inside a trained model: every view is a function from a subject to a report, and a line in ``VIEWS``.

    checkpoint + text ──▶ Subject ──view──▶ Report (blocks, JSON document) ──▶ terminal, HTML file, JSON

A view's function has the view's name and lives in the module of that name; what it needs beside the subject are its
options here, from which the command line is made. This file imports nothing heavy, so that ``--help`` stays quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from charrnn.errors import UsageError

if TYPE_CHECKING:
    from charrnn.inspection.report import Report
    from charrnn.inspection.subject import Subject


@dataclass(frozen=True)
class Option:
    """One option of a view, ``--name``: its default fixes its type; a tuple may be given several times.

    ``maximum`` is there where more would fill memory, or take for ever, and show nothing that anyone could read.
    """

    default: int | float | tuple[str, ...]
    help: str
    minimum: int = 1
    maximum: int | None = None
    metavar: str | None = None


@dataclass(frozen=True)
class View:
    """What the command line needs to know of a view.

    ``length`` is how many characters of text it looks at by default; ``None``: it looks at no text, 0: at all of the
    text if one is named, and at its own otherwise. ``argument`` is the name and the help of what stands before the
    checkpoint. ``cells``: it is about a recurrent model's cells. ``several``:
    it takes several checkpoints, to be set side by side, and a subject for each.
    """

    help: str
    length: int | None
    argument: tuple[str, str] | None = None
    options: tuple[tuple[str, Option], ...] = ()
    cells: bool = False
    several: bool = False


#: Characters that a view looks at, at most: of each, all that happened inside is in memory.
LONGEST = 100_000
_SEEDS = 2**63 - 1

VIEWS: dict[str, View] = {
    "text": View(
        "How surprising each character was, and what was likelier.", 2000,
        options=(("top", Option(5, "How many of the likeliest characters to keep for each.")),),
    ),
    "cells": View(
        "Which cells track quotes, columns, brackets ... or your own pattern.", 20_000,
        options=(
            ("feature", Option((), "Your own: characters inside a match of the pattern.", metavar="NAME=REGEX")),
            ("top", Option(3, "How many cells to keep for each feature.")),
            ("seed", Option(0, "Seed of the mixed labels and of the untrained network.", minimum=0, maximum=_SEEDS)),
        ),
        cells=True,
    ),
    "cell": View(
        "The text painted with what one cell does.", 2000,
        argument=("LAYER.UNIT", "Which cell, both counted from 0, as inspect cells names it: 1.37."),
        cells=True,
    ),
    "gates": View("How long each gate is shut or open.", 5000, cells=True),
    "gradients": View(
        "How far back a loss reaches: the vanishing gradient, measured.", 5000,
        options=(
            ("reach", Option(200, "How many characters back to look.", maximum=2000)),
            ("places", Option(16, "How many characters' losses to average over.", maximum=1000)),
        ),
        cells=True,
        several=True,
    ),
    "beam": View(
        "The tree of a beam search beside the greedy path.", None,
        argument=("PROMPT", "The text to continue."),
        options=(
            ("width", Option(4, "How many beams to keep.", maximum=100)),
            ("depth", Option(20, "How many characters to search ahead.", maximum=200)),
        ),
    ),
    "embeddings": View(
        "The characters' vectors in two dimensions, and nearest neighbours.", None,
        options=(("top", Option(5, "How many neighbours to list for each.")),),
    ),
    "novelty": View(
        "How much of a sample is copied from the training text.", 0,
        options=(
            ("length", Option(2000, "Characters to draw from the model where no --text is given.", maximum=LONGEST)),
            ("order", Option(12, "Longest n-gram to count.")),
            ("seed", Option(0, "Seed of the sample.", minimum=0, maximum=_SEEDS)),
        ),
    ),
}  # fmt: skip


def inspect(name: str, subjects: Subject | Sequence[Subject], *arguments: str, **options: Any) -> Report:
    """Run a view by its name, of one subject or, where it takes several, of each of them.

    Raises:
        UsageError: it is about cells, and a model has none.
    """
    subjects = subjects if isinstance(subjects, Sequence) else [subjects]
    for subject in subjects:
        kind = subject.checkpoint.config.model.kind
        if VIEWS[name].cells and kind != "recurrent":
            raise UsageError(f"inspect {name}: a model of kind {kind} has no cells; take an rnn, an lstm or a gru")
    report: Report = getattr(import_module(f"{__name__}.{name}"), name)(*subjects, *arguments, **options)
    return report
