"""The two consoles, results on stdout and everything else on stderr, and how text is shown on them.

Rich is imported where it is used: ``charrnn --help`` does not need it from here.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

#: What changes the direction of the text around it, so that it can make a line lie about its content.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@cache
def out() -> Console:
    """Results: standard output. A character that its encoding lacks is printed as its number, and is no error."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # for the commands to end as all others do

    return Output(highlight=False, markup=False, emoji=False)


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
            if sys.stderr.isatty():  # by words, not wherever the terminal ends
                width = shutil.get_terminal_size().columns
                line = textwrap.fill(show(line), width, break_long_words=False, break_on_hyphens=False)
            print(show(line), file=sys.stderr)


def print_json(document: Mapping[str, object]) -> None:
    """One JSON document on stdout: nothing else is printed there with ``--json``."""
    print(json.dumps(document, indent=2, allow_nan=False))


def show(text: str) -> str:
    """The text with what a terminal would obey made visible: control, bidirectional and unassigned characters.

    Newlines and tabs stay.

    >>> show("red \\x1b[31m, back \\u202e, bell \\x07")
    'red ␛[31m, back <U+202E>, bell ␇'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures
    if code == 0x7F:
        return "␡"
    if character in _BIDI or unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp"):
        return f"<U+{code:04X}>"
    return character


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
    picture = unicodedata.name(_shown(character), "") if code < 0x80 else ""  # controls have no names, pictures do
    name = unicodedata.name(character, "") or picture.removeprefix("SYMBOL FOR ") or "no name"
    return f"U+{code:04X} {name}"


class Facts:
    """A report for people, one fact a line: call it with each, then print it.

    Values are data, never markup, and are shown, not obeyed. On a terminal long values fold under themselves; a pipe
    gets each whole, on one line.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str]] = []

    def __call__(self, title: str, value: str, style: str = "") -> None:
        self._rows.append((title, show(value), style))

    def print(self) -> None:
        """Print the facts on stdout."""
        from rich.table import Table
        from rich.text import Text

        if not out().is_terminal:
            width = max(len(title) for title, _, _ in self._rows)
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
