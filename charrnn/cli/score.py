"""``charrnn score``: which of several texts is likelier, and what in a text is least likely."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import options
from charrnn.cli.output import present
from charrnn.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from charrnn.decoding.ensemble import Model
    from charrnn.evaluation.evaluator import Spelled
    from charrnn.inspection.report import Table

#: Characters shown before and after one of the least likely.
_BEFORE, _AFTER = 24, 12
_MOST = 10_000  # least likely characters


def score(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts to set beside each other.", show_default=False)
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            metavar="NAME",
            help="A file, a run's folder or a run's name; given repeatedly, the mean of the probabilities of several. "
            "Default: the run trained last.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="F|-",
            help="Texts to set beside each other, one a line; or, with --worst, the text to search: a file, a corpus, "
            "or - for standard input.",
        ),
    ] = None,
    worst: Annotated[
        int | None,
        typer.Option(
            "--worst", min=1, max=_MOST, metavar="N", help="The N least likely characters of --text: likely typos."
        ),
    ] = None,
    split: options.ScoredSplit = None,
    encoding: options.Encoding = None,
    newlines: options.Newlines = None,
    device: options.Device = "auto",
    json: options.Json = False,
    html: options.Html = None,
) -> None:
    """Rank texts by their probability, or point at the least likely characters of one.

    Each text is scored on its own, without its line end, as if a newline stood before it: the figures of eval
    --per-line. The likeliest comes first; a longer text is mostly a less likely one.
    """
    if texts and (text is not None or worst is not None):
        raise UsageError("--text, --worst: are for a text in a file; leave out the texts on the command line")
    if texts and any(value is not None for value in (split, encoding, newlines)):
        raise UsageError("--split, --encoding, --newlines: are for --text F; add it, or leave them out")
    if not texts and text is None and worst is None:
        raise UsageError("name the texts to rank, or a file with one a line: --text F; --worst N searches a text")
    if texts and not all(texts):
        raise UsageError("a text to rank is empty; every one needs a character")
    from charrnn.decoding.ensemble import load
    from charrnn.evaluation.evaluator import score_lines, score_texts, spelled
    from charrnn.inspection.report import Report

    model = load(checkpoint)
    document: dict[str, Any] = {"schema": 1, "checkpoint": str(model.path)}
    if worst is not None:
        whole = spelled(model, text, split, encoding=encoding, newlines=newlines)
        document |= _worst(model, whole, worst, device)
        report, show = Report("Scores", [_worst_table(document)], document), partial(_show_worst, document)
        present(report, str(model.path), json=json, html=html, show=show)
        return
    name, which = None, None
    if texts:
        lines = score_texts(model, texts, device)
    else:
        name, which, lines = score_lines(model, text, split, encoding=encoding, newlines=newlines, device=device)
    lines = sorted(lines, key=lambda line: line.figures.nats)
    best = lines[0].figures.nats
    rows = [
        {
            "text": line.text,
            "characters": line.figures.characters,
            "unseen": line.figures.unseen,
            "bits": line.figures.nats / math.log(2),
            "bits_per_char": line.figures.bits_per_char,
            # JSON has no infinity.
            "times_less_probable": math.exp(min(line.figures.nats - best, 709.0)),
        }
        for line in lines
    ]
    document |= {"text": name, "split": which, "alternatives": rows}
    # A page has a table, a terminal lines that may be as long as they are.
    report, show = Report("Scores", [_ranking_table(document)], document), partial(_show_ranking, document)
    present(report, str(model.path), json=json, html=html, show=show)


def _worst(model: Model, whole: Spelled, count: int, device: str) -> dict[str, Any]:
    import numpy as np

    from charrnn.evaluation.unlikely import least_likely

    bits_per_char, found = least_likely(model, whole.ids, count, device)
    places = np.array([one.at for one in found])
    lines, columns = _positions(whole, places)
    worst = [
        {
            "line": line,
            "column": column,
            "offset": one.at,
            "character": whole.text(slice(one.at, one.at + 1)),
            "before": whole.text(slice(max(0, one.at - _BEFORE), one.at)),
            "after": whole.text(slice(one.at + 1, one.at + 1 + _AFTER)),
            "bits": one.bits,
            "expected": [{"character": model.vocabulary.character(k), "probability": p} for k, p in one.expected],
        }
        for one, line, column in zip(found, lines.tolist(), columns.tolist(), strict=True)
    ]
    figures = {"characters": len(whole.ids), "bits_per_char": bits_per_char}
    return {"text": whole.name, "split": whole.split, **figures, "worst": worst}


def _positions(whole: Spelled, places: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Lines and columns of places, counted from 1 as editors do: a CRLF ends one line, and bytes of one character of
    UTF-8 are in one column."""
    import numpy as np

    codes = whole.codes
    following = np.append(codes[1:], 0)
    ends = np.flatnonzero((codes == ord("\n")) | ((codes == ord("\r")) & (following != ord("\n"))))
    before = np.searchsorted(ends, places)
    starts = np.append(0, ends + 1)[before]
    begins = np.ones(len(codes), np.intp) if whole.unit == "char" else ((codes & 0xC0) != 0x80).astype(np.intp)
    counted = np.cumsum(begins)
    columns = counted[places] - counted[starts] + begins[starts]
    return before + 1, np.maximum(columns, 1)


def _ranking_table(document: dict[str, Any]) -> Table:
    from charrnn.inspection.report import Table

    rows = [
        [row["bits"], row["bits_per_char"], _times(row["times_less_probable"]), row["text"]]
        for row in document["alternatives"]
    ]
    return Table(["bits", "per char", "less likely", "text"], rows, "The likeliest first")


def _show_ranking(document: dict[str, Any]) -> None:
    """The texts, the likeliest first: bits in all, bits per character, how many times less probable than the best."""
    from charrnn.visible import show_line

    print(f"{'bits':>10}  {'per char':>8}  {'less likely':>11}  text")
    for row in document["alternatives"]:
        times = _times(row["times_less_probable"])
        print(f"{row['bits']:10.2f}  {row['bits_per_char']:8.4f}  {times:>11}  {show_line(row['text'])}")


def _times(value: float) -> str:
    """How many times less probable, for people.

    >>> _times(1.0), _times(2.345), _times(1234.5), _times(1e30)
    ('best', '2.3x', '1,234x', '1e+30x')
    """
    if value == 1:
        return "best"
    return f"{value:.1f}x" if value < 100 else f"{value:,.0f}x" if value < 1e7 else f"{value:.0e}x"


def _searched(document: dict[str, Any]) -> str:
    """What was searched, and its figures."""
    where = document["text"] + (f", {document['split']} split" if document["split"] else "")
    return f"{where}: {document['characters']:,} characters, {document['bits_per_char']:.4f} bits each"


def _worst_table(document: dict[str, Any]) -> Table:
    from charrnn.inspection.report import Table

    rows = [[one["line"], one["column"], one["bits"], _context(one), _expected(one)] for one in document["worst"]]
    return Table(["line", "column", "bits", "the character in its place", "expected"], rows, _searched(document))


def _show_worst(document: dict[str, Any]) -> None:
    """The least likely characters, each in its line between brackets, and the likeliest in its place."""
    from charrnn.visible import show_line

    print(show_line(_searched(document)))
    for one in document["worst"]:
        place, expected = f"{one['line']:>6}:{one['column']:<4}", ", ".join(_expected(one))
        print(f"{place} {one['bits']:6.2f} bits  {_context(one)}  expected {expected}")


def _context(one: dict[str, Any]) -> str:
    """A character between brackets, in its line."""
    from charrnn.inspection.report import shown

    return f"{_visible(one['before'])}[{shown(one['character'])}]{_visible(one['after'])}"


def _expected(one: dict[str, Any]) -> tuple[str, ...]:
    """The likeliest characters in a place, each with its probability."""
    from charrnn.inspection.report import shown

    return tuple(f"{shown(each['character'])} {each['probability']:.0%}" for each in one["expected"])


def _visible(text: str) -> str:
    """A piece of text on one line, as a terminal shows it."""
    from charrnn.inspection.report import glyph

    return "".join(c if c == " " else glyph(c) for c in text)
