"""``charrnn eval``: checkpoint + text → figures."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import options
from charrnn.errors import UsageError

if TYPE_CHECKING:
    from charrnn.decoding.ensemble import Model
    from charrnn.evaluation.metrics import Figures


def evaluate_command(
    checkpoints: options.Checkpoints = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="F|-",
            help="Text to score: a file, a corpus, or - for standard input. Default: the "
            "validation split of what the model was trained on.",
        ),
    ] = None,
    split: options.ScoredSplit = None,
    perplexity: Annotated[bool, typer.Option("--perplexity", help="Print only the perplexity.")] = False,
    bits_per_char: Annotated[bool, typer.Option("--bits-per-char", help="Print only bits per character.")] = False,
    nats_per_char: Annotated[bool, typer.Option("--nats-per-char", help="Print only nats per character.")] = False,
    bits_per_byte: Annotated[bool, typer.Option("--bits-per-byte", help="Print only bits per byte.")] = False,
    window: Annotated[
        int | None,
        typer.Option(min=1, metavar="T", help="Score in windows from an empty state, as Transformers are scored."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Walk the text in one lane, however long it is.")] = False,
    dynamic: Annotated[
        bool,
        typer.Option(
            "--dynamic",
            help="Dynamic evaluation: the model goes on learning from what it has already scored. Another figure, to "
            "be named with it.",
        ),
    ] = False,
    dynamic_rate: Annotated[
        float | None,
        typer.Option("--dynamic-rate", metavar="R", help="Learning rate of --dynamic, of networks. Default: 0.0003."),
    ] = None,
    shares: options.Shares = None,
    per_line: Annotated[
        bool, typer.Option("--per-line", help="Score each line on its own: bits per character, bits in all, the line.")
    ] = False,
    encoding: options.Encoding = None,
    newlines: options.Newlines = None,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how well a model predicts a text: perplexity, bits per character.

    Every character is scored once, in order, in float32, with the state carried from the first to the last.
    """
    from charrnn.cli.console import note, print_json, progress_bar
    from charrnn.decoding.ensemble import load, shares_of
    from charrnn.evaluation.evaluator import evaluate, text_to_score
    from charrnn.evaluation.metrics import METRICS

    flags = {
        "perplexity": perplexity,
        "bits_per_char": bits_per_char,
        "nats_per_char": nats_per_char,
        "bits_per_byte": bits_per_byte,
    }
    asked = [name for name in METRICS if flags[name]]
    if len(asked) > 1:
        raise UsageError(f"--{asked[1].replace('_', '-')}: only one figure can be printed alone; --json has all")
    if window is not None and exact:
        raise UsageError("--exact: has no meaning with --window; leave one of them out")
    if per_line and (window is not None or exact):
        raise UsageError("--per-line: each line is scored whole; leave out --window and --exact")
    if dynamic_rate is not None and not dynamic:
        raise UsageError("--dynamic-rate: is for --dynamic; add it")
    if dynamic and (window is not None or exact or per_line):
        raise UsageError("--dynamic: walks the text in one lane; leave out --window, --exact and --per-line")
    model = load(checkpoints, shares=shares)
    if per_line:
        _per_line(model, text, split, encoding, newlines, device, asked, json)
        return
    begin = time.monotonic()
    found = text_to_score(model, text, split, encoding=encoding, newlines=newlines)
    rate = None
    if dynamic:
        from charrnn.training.dynamic import Adaptation, adapt, only_counts

        how = Adaptation.of(model, dynamic_rate)
        rate = None if only_counts(model) else how.learning_rate
        with progress_bar("scoring", quiet or json) as progress:
            model, figures = adapt(model, found.ids, found.bytes, settings=how, device=device, progress=progress)
    else:
        figures = evaluate(model, found.ids, found.bytes, device=device, exact=exact, window=window)
    seconds = time.monotonic() - begin
    scored = Scored(str(model.path), found.name, found.split, figures, seconds, window, dynamic, rate, shares_of(model))
    if figures.unseen:
        note(f"{figures.unseen:,} {model.vocabulary.noun}s of the text are not in the model's vocabulary", quiet)
    if json:
        print_json(document(scored))
    elif asked:
        print(f"{METRICS[asked[0]](figures):.6g}")
    else:
        _print(scored, model.vocabulary.noun)


@dataclass(frozen=True)
class Scored:
    """A measurement: of which model and text, how, in how many seconds."""

    checkpoint: str
    text: str
    split: str | None
    figures: Figures
    seconds: float
    window: int | None = None
    dynamic: bool = False
    rate: float | None = None
    """Learning rate of dynamic evaluation, where that is what was done to a network."""
    shares: tuple[float, ...] | None = None
    """What part each of several models has in the mean; at the end, if that was learnt."""


def document(scored: Scored) -> dict[str, object]:
    """The JSON of a measurement."""
    figures = scored.figures
    interval = figures.bits_interval
    return {
        "schema": 1,
        "checkpoint": scored.checkpoint,
        "text": scored.text,
        "split": scored.split,
        "characters": figures.characters,
        "unseen": figures.unseen,
        "nats_per_char": figures.nats_per_char,
        "bits_per_char": figures.bits_per_char,
        "perplexity": figures.perplexity,
        "perplexity_seen": figures.perplexity_seen,
        "bits_per_byte": figures.bits_per_byte,
        "bits_per_char_interval": None if interval is None else list(interval),
        "window": scored.window,
        "dynamic": scored.dynamic,
        "dynamic_rate": scored.rate,
        "shares": None if scored.shares is None else list(scored.shares),
        "seconds": round(scored.seconds, 4),
    }


def _print(scored: Scored, noun: str) -> None:
    """Of a text of bytes, bits per character are bits per byte: they are said once."""
    from charrnn.cli.console import Facts

    figures, seconds, split = scored.figures, scored.seconds, scored.split
    fact = Facts()
    fact("model", scored.checkpoint)
    if scored.shares:
        at_the_end = " at the end" if scored.dynamic else ""
        fact("shares", ", ".join(f"{share:.3g}" for share in scored.shares) + at_the_end)
    fact("text", scored.text + (f", {split} split" if split else "") + f": {figures.characters:,} {noun}s")
    interval = figures.bits_interval
    spread = f"  (95 % interval {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
    fact(f"bits per {noun}", f"{figures.bits_per_char:.4f}{spread}", "bold")
    fact(f"nats per {noun}", f"{figures.nats_per_char:.4f}")
    fact("perplexity", f"{figures.perplexity:.4f}" if figures.perplexity < 1e4 else f"{figures.perplexity:,.0f}")
    if figures.unseen and figures.perplexity_seen is not None:
        fact("without unseen", f"{figures.perplexity_seen:.4f}  ({figures.unseen:,} {noun}s unseen)")
    if noun != "byte":
        fact("bits per byte", f"{figures.bits_per_byte:.4f}")
    how = "state carried from first to last"
    if scored.window:
        how = f"windows of {scored.window}, each from an empty state"
    if scored.dynamic:
        at_rate = "" if scored.rate is None else f", at rate {scored.rate:g},"
        how = f"dynamic evaluation: learning{at_rate} from what was scored before"
    fact("scored", f"{how}, float32, {seconds:.2f} s ({figures.characters / max(seconds, 1e-9):,.0f} {noun}s/s)")
    fact.print()


def _per_line(
    model: Model, text: str | None, split: str | None, encoding: str | None, newlines: str | None, device: str,
    asked: list[str], json: bool,
) -> None:  # fmt: skip
    """One row a line of the text, each scored as if it were the whole text, without its line end."""
    from charrnn.cli.console import print_json
    from charrnn.evaluation.evaluator import score_lines
    from charrnn.evaluation.metrics import METRICS
    from charrnn.visible import show

    name, which, lines = score_lines(model, text, split, encoding=encoding, newlines=newlines, device=device)
    rows: list[dict[str, Any]] = []
    for line in lines:
        rows.append(
            {
                "line": line.text,
                "characters": line.figures.characters,
                "unseen": line.figures.unseen,
                "nats": line.figures.nats,
                **{name: metric(line.figures) for name, metric in METRICS.items()},
            }
        )
    if json:
        print_json({"schema": 1, "checkpoint": str(model.path), "text": name, "split": which, "lines": rows})
        return
    figure = asked[0] if asked else "bits_per_char"
    # Whatever Rich is told to take it for.
    visible = show if sys.stdout is not None and sys.stdout.isatty() else str
    for row in rows:
        value = f"{row[figure]:.4f}" if math.isfinite(row[figure]) else "inf"
        total = "" if asked else f"\t{row['nats'] / math.log(2):.2f}"
        print(f"{value}{total}\t{visible(row['line'])}")
