"""``charrnn sweep``: one corpus, a grid of settings, one table and one picture."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import options
from charrnn.cli.settings import config_of, with_settings
from charrnn.cli.train import stopping
from charrnn.errors import Stopped, UsageError
from charrnn.presets import PRESETS

if TYPE_CHECKING:
    from charrnn.training.sweep import Row, Sweep

_SPLITS = ("validation", "test")


@with_settings
def sweep(
    corpus: Annotated[
        list[str], typer.Argument(metavar="CORPUS", help="What to train on, as train takes it.", show_default=False)
    ],
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="SETTING=V,V", help="A setting and its values, such as cell=rnn,lstm; as many as wanted."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The sweep's name. Default: CORPUS-sweep.")] = None,
    scored: Annotated[
        str, typer.Option(metavar="|".join(_SPLITS), help="The split that the points are compared on.")
    ] = "validation",
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings from a TOML file, such as a run's config.toml.")
    ] = None,
    preset: Annotated[
        str, typer.Option(metavar="|".join(PRESETS), help="Size of the model; auto fits text, device and time.")
    ] = "auto",
    unit: options.Unit = None,
    split: options.Split = None,
    pattern: options.Pattern = None,
    encoding: options.Encoding = None,
    newlines: options.Newlines = None,
    min_count: options.MinCount = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    **settings: Any,
) -> None:
    """Train a model at each point of a grid of settings, and compare them.

    Each point is a run, checkpoints/NAME/POINT, made by the train and eval commands that its row names; sweep.json
    holds the table, sweep.svg the picture. The same command again goes on where it was stopped. With --device cuda one
    process runs on each GPU, otherwise one in all.
    """
    from charrnn.cli.console import note, print_json, progress_bar
    from charrnn.config import Config
    from charrnn.data.corpus import resolve
    from charrnn.training.grid import common_settings, parse_grid, points_of
    from charrnn.training.sweep import Sweep, check_name, environments

    # What can be refused without a text comes first: preparing one writes it.
    values = parse_grid(grid or [])
    common = common_settings(values, config_of(settings), Config() if config is None else Config.read_toml(config))
    points_of(values, common)
    if scored not in _SPLITS:
        raise UsageError(f"--scored {scored}: expected one of {', '.join(_SPLITS)}")
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: expected one of {', '.join(PRESETS)}")
    if name is not None:
        check_name(name)
    reading = options.prepare_settings(unit, split, pattern, encoding, newlines, min_count)
    places = environments(common.training.device)
    with progress_bar("preparing", quiet) as progress:
        prepared = resolve(corpus, settings=reading, progress=progress, notify=lambda line: note(line, quiet))
    how = {"unit": unit, "split": split, "pattern": pattern, "encoding": encoding, "newlines": newlines}
    given = {f"--{key}": str(value) for key, value in {**how, "min-count": min_count}.items() if value is not None}
    typed = [word for option in given.items() for word in option]
    swept = Sweep(prepared, values, common, name=name, preset=preset, scored=scored, reading=typed, named=corpus)
    with swept.opened(force=force):
        _follow(swept, places, quiet)
    if json:
        print_json(swept.document())
    else:
        _table(swept)
    failed = [row for row in swept.rows.values() if row.exit_code]
    if failed:
        first, rest = failed[0], f"{len(failed)} of {len(swept.rows)} points failed"
        note(f"charrnn: {rest}, first {first.run}: {first.error}; see {first.log}")
        raise typer.Exit(first.exit_code or 1)


def _follow(swept: Sweep, places: list[dict[str, str]], quiet: bool) -> None:
    """Run what is left, a line for each beginning and end; Ctrl-C and SIGTERM let the children save and stop."""
    from charrnn.cli.console import note

    number = {run: f"[{k}/{len(swept.rows)}]" for k, run in enumerate(swept.rows, 1)}
    left = sum(not row.settled() for row in swept.rows.values())
    note(f"{swept.name}: {len(number)} points, {left} to train, {len(places)} at a time", quiet)

    def started(row: Row) -> None:
        note(f"{number[row.run]} {_short(row)}: training", quiet)

    def ended(row: Row) -> None:
        done = row.nats_per_char is not None
        said = f"{row.nats_per_char:.4f} nats, {_time(row.seconds)}" if done else f"{row.status}: {row.error}"
        note(f"{number[row.run]} {_short(row)}: {said}", quiet)

    with stopping(swept.stop) as stopped_by:
        swept.run(places, started, ended)
    if stopped_by:
        code = Stopped.INTERRUPTED if stopped_by[0] == signal.SIGINT else Stopped.TERMINATED
        raise Stopped(f"stopped and saved; go on with: {swept.command()}", code)


def _short(row: Row) -> str:
    return row.folder.name


def _time(seconds: float | None) -> str:
    """A length of time, short enough for a table.

    >>> _time(7.4), _time(130), _time(3900)
    ('7s', '2m10s', '1h05m')
    """
    minutes, second = divmod(round(seconds or 0), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}h{minute:02}m" if hours else f"{minutes}m{second:02}s" if minutes else f"{second}s"


def _table(swept: Sweep) -> None:
    """The rows, best first, then those without a figure; a terminal folds long names, a pipe gets each whole."""
    from charrnn.cli.console import out

    rows = sorted(swept.rows.values(), key=lambda row: (row.nats_per_char is None, row.nats_per_char or 0.0))
    both = ["validation"] if swept.scored != "validation" and any(r.validation_nats_per_char for r in rows) else []
    titles = ["", "run", "parameters", *both, swept.scored, "bits", "time"]

    def figure(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    lines = []
    for k, row in enumerate(rows):
        done = row.nats_per_char is not None
        loss = figure(row.nats_per_char) if done else row.status
        validation = [figure(row.validation_nats_per_char)] if both else []
        size = "" if row.parameters is None else f"{row.parameters:,}"
        spent = "" if row.seconds is None else _time(row.seconds)
        mark = "*" if done and k == 0 else ""
        lines.append([mark, _short(row), size, *validation, loss, figure(row.bits_per_char), spent])
    caption = f"nats per character, best first (*), and bits of the same; {swept.folder}/sweep.svg shows them"
    best = next((row for row in rows if row.nats_per_char is not None), None)
    if out().is_terminal:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for k, title in enumerate(titles):
            table.add_column(title, justify="left" if k < 2 else "right", overflow="fold", no_wrap=k != 1)
        for line in lines:
            table.add_row(*map(Text, line), style="bold" if line[0] else "")
        out().print(table)
        out().print(Text(caption, "dim"))
        if best:
            out().print(Text(f"next  charrnn sample {shlex.quote(best.run)}", "green"))
        return
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
    for line in (titles, *lines):
        cells = [
            text.ljust(w) if k < 2 else text.rjust(w) for k, (text, w) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print(f"\n{caption}")
    if best:
        print(f"next: charrnn sample {shlex.quote(best.run)}")
