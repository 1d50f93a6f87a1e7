"""The two consoles, results on stdout and everything else on stderr, and what is printed on them.

Rich is imported where it is used: ``charrnn --help`` does not need it from here.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

from charrnn.visible import show, show_line

if TYPE_CHECKING:
    from rich.console import Console


@cache
def out() -> Console:
    """Results: standard output."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


@cache
def err() -> Console:
    """Progress, notices and errors: standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def note(line: str, quiet: bool = False) -> None:
    """One line for the user that is no result; on stderr, and not with ``--quiet``.

    Nothing fails because nobody reads it: a training goes on when the terminal or the pipe is gone.
    """
    if not quiet and sys.stderr is not None:
        with suppress(OSError):
            line = show_line(line)
            if sys.stderr.isatty():  # by words, not wherever the terminal ends
                width = shutil.get_terminal_size().columns
                line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
            print(line, file=sys.stderr)


def print_json(document: Mapping[str, object]) -> None:
    """One JSON document on stdout: nothing else is printed there with ``--json``."""
    print(json.dumps(document, indent=2, allow_nan=False))


def name_of(character: str) -> str:
    """A character for a table: itself where it can be seen, then its number and name where it cannot.

    >>> name_of("é"), name_of("\\n"), name_of("\\u200b"), name_of("\\x1b")
    ('é', '\\\\n', 'U+200B ZERO WIDTH SPACE', 'U+001B ESCAPE')
    """
    escapes = {"\n": "\\n", "\r": "\\r", "\t": "\\t", " ": "space"}
    if character in escapes:
        return escapes[character]
    if character.isprintable() and not unicodedata.combining(character) and show(character) == character:
        return character
    code = ord(character)
    picture = unicodedata.name(show(character), "") if code < 0x80 else ""  # controls have no names, pictures do
    name = unicodedata.name(character, "") or picture.removeprefix("SYMBOL FOR ") or "no name"
    return f"U+{code:04X} {name}"


class Facts:
    """A report for people, one fact a line: call it with each, then print it.

    Values are data, never markup, and are shown, not obeyed. On a terminal long values fold under themselves; a pipe
    gets each whole, on one line, as does a terminal too narrow for two columns.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str]] = []

    def __call__(self, title: str, value: str, style: str = "") -> None:
        self._rows.append((title, show_line(value), style))

    def print(self) -> None:
        """Print the facts on stdout."""
        from rich.table import Table
        from rich.text import Text

        width = max(len(title) for title, _, _ in self._rows)
        if not out().is_terminal or out().width < 2 * width:
            for title, value, _ in self._rows:
                print(f"{title:<{width}}  {value}")
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for title, value, style in self._rows:
            table.add_row(title, Text(value, style))
        out().print(table)


@contextmanager
def progress_bar(description: str, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, fed with (done bytes, total bytes); None where stderr is no terminal or must be quiet."""
    if quiet or not err().is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task(show(description), total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield report
