"""``charrnn sweep``: one corpus, a grid of settings, one table and one picture."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import options
from charrnn.cli.settings import config_of, with_settings
from charrnn.cli.train import stopping
from charrnn.errors import Stopped, UsageError
from charrnn.presets import check_preset

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
    config: options.ConfigFile = None,
    preset: options.Preset = "auto",
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
    from charrnn.data.workers import cores
    from charrnn.training.grid import common_settings, parse_grid, points_of
    from charrnn.training.group import Group
    from charrnn.training.sweep import Sweep, check_name, environments

    if Group.launched().size > 1:
        raise UsageError("sweep: starts its trainings itself, one after another; start it without torchrun")
    # What can be refused without a text comes first: preparing one writes it.
    values = parse_grid(grid or [])
    common = common_settings(values, config_of(settings), Config() if config is None else Config.read_toml(config))
    points_of(values, common)
    if scored not in _SPLITS:
        raise UsageError(f"--scored {scored}: expected one of {', '.join(_SPLITS)}")
    check_preset(preset)
    if name is not None:
        check_name(name)
    reading = options.prepare_settings(unit, split, pattern, encoding, newlines, min_count)
    places = environments(common.training.device)
    with progress_bar("preparing", quiet) as progress:
        prepared = resolve(
            corpus,
            settings=reading,
            progress=progress,
            notify=lambda line: note(line, quiet),
            processes=cores(),
        )
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
        said = f"{row.nats_per_char:.4f} nats, {_time(row.seconds)}" if done else row.status
        if row.error and not swept.stopping:  # then the last line says how to go on, with all of it
            said += f": {row.error}"
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
    """The rows, best first, then those without a figure. A pipe gets all of it; a terminal too narrow for that what
    matters most, and folds long names."""
    from charrnn.cli.console import out

    rows = sorted(swept.rows.values(), key=lambda row: (row.nats_per_char is None, row.nats_per_char or 0.0))
    best = rows[0] if rows[0].nats_per_char is not None else None

    def figure(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    columns = {
        "": ["*" if row is best else "" for row in rows],
        "run": [_short(row) for row in rows],
        "parameters": ["" if row.parameters is None else f"{row.parameters:,}" for row in rows],
        "validation": [figure(row.validation_nats_per_char) for row in rows],
        swept.scored: [figure(row.nats_per_char) or row.status for row in rows],
        "bits": [figure(row.bits_per_char) for row in rows],
        "time": ["" if row.seconds is None else _time(row.seconds) for row in rows],
    }
    widths = {title: max(map(len, (title, *cells))) for title, cells in columns.items()}
    if out().is_terminal:
        for title in ("validation", "bits", "time"):
            if sum(width + 2 for width in widths.values()) - 2 > out().width and title != swept.scored:
                del widths[title]
    caption = f"nats per character, best first (*), and bits of the same; {swept.folder}/sweep.svg shows them"
    following = f"next: charrnn sample {shlex.quote(best.run)}" if best else ""
    if out().is_terminal:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for k, title in enumerate(widths):
            table.add_column(title, justify="left" if k < 2 else "right", overflow="fold", no_wrap=title != "run")
        for k, row in enumerate(rows):
            table.add_row(*(Text(columns[title][k]) for title in widths), style="bold" if row is best else "")
        out().print(table)
        out().print(Text(f"\n{caption}", "dim"))
        out().print(Text(following, "green"))
        return
    for line in (list(widths), *([columns[title][k] for title in widths] for k in range(len(rows)))):
        cells = zip(line, widths.values(), strict=True)
        print("  ".join(cell.ljust(w) if k < 2 else cell.rjust(w) for k, (cell, w) in enumerate(cells)).rstrip())
    print(f"\n{caption}\n{following}".rstrip())
