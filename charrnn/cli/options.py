"""Options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charrnn.cli.output import check_output
from charrnn.errors import UsageError
from charrnn.presets import PRESETS

if TYPE_CHECKING:
    from charrnn.data.corpus import PrepareSettings

TEXT = "Text"  # the panel of --help for what decides how text is read

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a report.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notices.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there under that name.")]

Checkpoint = Annotated[
    str | None,
    typer.Argument(
        metavar="CHECKPOINT", help="A file, a run's folder or a run's name. Default: the run trained last.",
        show_default=False,
    ),
]  # fmt: skip
Checkpoints = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A file, a run's folder or a run's name; the mean of the probabilities of several. Default: the run "
        "trained last.",
        show_default=False,
    ),
]
Shares = Annotated[
    str | None,
    typer.Option(
        "--shares",
        metavar="P,P...",
        help="What part each of several models has in the mean; where it learns from a text, to begin with. Default: "
        "equal ones.",
    ),
]
DEVICES = ("auto", "cpu", "cuda", "mps")


def known_device(device: str) -> str:
    """The device, if there is one of that name; a callback of every ``--device``.

    Raises:
        UsageError: there is none.
    """
    if device not in DEVICES:
        raise UsageError(f"--device: expected one of {', '.join(DEVICES)}, got {device!r}")
    return device


Device = Annotated[
    str, typer.Option("--device", metavar="|".join(DEVICES), callback=known_device, help="Where to compute.")
]


def writable_page(path: Path | None) -> Path | None:
    """Where a page goes, before anything is computed for it; a callback of every ``--html``.

    Raises:
        UsageError: no file can be written there.
    """
    if path is not None:
        check_output("--html", path)
    return path


Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", callback=writable_page, help="Write one self-contained HTML file."),
]

ScoredSplit = Annotated[
    str | None,
    typer.Option(
        "--split", metavar="train|validation|test", help="Which split of a corpus to score. Default: validation."
    ),
]

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings from a TOML file, such as a run's config.toml."),
]
Preset = Annotated[
    str,
    typer.Option("--preset", metavar="|".join(PRESETS), help="Size of the model; auto fits text, device and time."),
]

Unit = Annotated[
    str | None,
    typer.Option(
        "--unit",
        metavar="char|byte",
        help="What one character is: a Unicode code point or a byte. Default: char.",
        rich_help_panel=TEXT,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="A,B,C",
        help="Percentages for train, validation and test, cut in that order. Default: 90,5,5.",
        rich_help_panel=TEXT,
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        "--pattern", metavar="GLOB", help="Which files of a folder to take, such as '*.py'.", rich_help_panel=TEXT
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        metavar="NAME",
        help="The text's encoding, such as cp1252. Default: UTF-8, strictly, or what a byte order mark says.",
        rich_help_panel=TEXT,
    ),
]
Newlines = Annotated[
    str | None,
    typer.Option(
        "--newlines",
        metavar="keep|lf",
        help="Keep line ends as they are, or fold CRLF and CR to LF. Default: keep.",
        rich_help_panel=TEXT,
    ),
]
MinCount = Annotated[
    int | None,
    typer.Option(
        "--min-count",
        metavar="N",
        help="Characters that occur less often than this become unknown. Default: 1.",
        rich_help_panel=TEXT,
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", metavar="FOLDER", help="The corpus's folder. Default: corpora/NAME.")
]


def parse_split(value: str) -> tuple[float, float, float]:
    """ "90,5,5" → (90.0, 5.0, 5.0).

    Raises:
        UsageError: it is not three numbers.
    """
    try:
        train, validation, test = map(float, value.split(","))
    except ValueError as error:
        raise UsageError(f"--split {value}: must be three percentages, such as 90,5,5") from error
    return train, validation, test


def prepare_settings(
    unit: str | None = None,
    split: str | None = None,
    pattern: str | None = None,
    encoding: str | None = None,
    newlines: str | None = None,
    min_count: int | None = None,
) -> PrepareSettings | None:
    """The settings that the options above give; None where none of them was used.

    Raises:
        UsageError: a value that cannot be meant.
    """
    from charrnn.data.corpus import PrepareSettings

    given = {
        "unit": unit,
        "split": parse_split(split) if split is not None else None,
        "pattern": pattern,
        "encoding": encoding,
        "newlines": newlines,
        "min_count": min_count,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return PrepareSettings(**given, given=frozenset(given)) if given else None  # type: ignore[arg-type]
