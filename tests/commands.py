"""Commands in this process, as in a pipe, and the promise that each of them keeps."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from charrnn.cli import app, console
from charrnn.errors import CharRNNError

T = TypeVar("T")

#: Documented in the README; whatever a user types, and whatever a file holds, the program ends with one of these.
CODES = frozenset({0, 2, 3, 4, 5, 6})


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    stdout: str
    stderr: str


@cache
def _command() -> Any:
    return get_command(app)  # takes ten times as long as most commands here


def call(*arguments: str, stdin: str = "") -> Done:
    """Run a command; what it raises comes through."""
    console.out.cache_clear()
    console.err.cache_clear()
    with CliRunner().isolation(input=stdin) as (stdout, stderr, *_):
        code: Any = 0
        try:
            _command().main(args=list(arguments), prog_name="charrnn")
        except SystemExit as end:
            code = end.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        return Done(code, stdout.getvalue().decode(), stderr.getvalue().decode())


def ends_well(*arguments: str, stdin: str = "", codes: frozenset[int] | set[int] = CODES) -> int:
    """Run a command: it has a result, or says in one line, the last, why not, and ends with one of the codes."""
    done = call(*arguments, stdin=stdin)
    assert done.code in codes, (arguments, done)
    if done.code:
        lines = done.stderr.splitlines()
        # What Typer itself refuses, it refuses in a frame.
        expected = [] if done.code == 2 and "Usage: " in done.stderr else lines[-1:]
        assert [line for line in lines if line.startswith("charrnn: ")] == expected, (arguments, done)
    elif "--json" in arguments:
        json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    return done.code


def refused(read: Callable[[], T], kind: type[CharRNNError]) -> T | None:
    """What a reader returns, or None where it raises an error of its kind, in one line."""
    try:
        return read()
    except CharRNNError as raised:
        error = raised
    assert isinstance(error, kind), error
    assert len(str(error).splitlines()) == 1, error
    return None
