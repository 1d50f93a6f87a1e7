"""Features of a text that a cell may track: one value for each character, as it stands once that character is read.

A built-in feature is a function of the text and a line in ``FEATURES``; a user's is a regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charrnn.errors import UsageError

Kind = Literal["auc", "rho"]


@dataclass(frozen=True)
class Feature:
    """Values for each character, (T,): 0 and 1, judged by AUC, or numbers, judged by Spearman's rho."""

    name: str
    kind: Kind
    values: NDArray[np.float64]

    @property
    def varies(self) -> bool:
        """Whether there is enough of it to judge: some 0 and some 1, or more than one number."""
        if self.kind == "auc":
            return bool(min(self.values.sum(), (1 - self.values).sum()) >= 10)
        return len(np.unique(self.values)) > 1


def inside_quotes(text: str) -> Iterator[int]:
    """Between two double quotes, straight or curly; an empty line ends a quote that was never closed.

    >>> list(inside_quotes('a "b" c'))
    [0, 0, 1, 1, 0, 0, 0]
    """
    inside, before = 0, ""
    for character in text:
        if character == '"':
            inside = 1 - inside
        elif character in "“«":
            inside = 1
        elif character in "”»" or (character == before == "\n"):
            inside = 0
        yield inside
        before = character


def bracket_depth(text: str) -> Iterator[int]:
    """How many of ( [ { are open; a closing one too many counts for nothing."""
    depth = 0
    for character in text:
        depth = max(0, depth + (character in "([{") - (character in ")]}"))
        yield depth


def since(pattern: str) -> Callable[[str], Iterator[int]]:
    """Characters since the last match of a pattern for one character; before the first, since the beginning.

    >>> list(since(" ")("a bc d"))
    [1, 0, 1, 2, 0, 1]
    """
    found = re.compile(pattern).match

    def count(text: str) -> Iterator[int]:
        distance = 0
        for character in text:
            distance = 0 if found(character) else distance + 1
            yield distance

    return count


def indentation(text: str) -> Iterator[int]:
    """White space at the start of the line, as far as it has been read."""
    count, leading = 0, True
    for character in text:
        if character == "\n":
            count, leading = 0, True
        elif leading and character in " \t":
            count += 1
        else:
            leading = False
        yield count


def matching(pattern: str) -> Callable[[str], Iterator[int]]:
    """1 for the characters inside a match of a pattern."""
    compiled = re.compile(pattern, re.MULTILINE)

    def label(text: str) -> Iterator[int]:
        inside = bytearray(len(text))
        for match in compiled.finditer(text):
            inside[match.start() : match.end()] = b"\1" * (match.end() - match.start())
        return iter(inside)

    return label


FEATURES: dict[str, tuple[Kind, Callable[[str], Iterator[int]]]] = {
    "quotes": ("auc", inside_quotes),
    "brackets": ("rho", bracket_depth),
    "column": ("rho", since(r"\n")),
    "since space": ("rho", since(r"\s")),
    "since sentence end": ("rho", since(r"[.!?]")),
    "indentation": ("rho", indentation),
    "comment": ("auc", matching(r"(?:#|//)[^\n]*|/\*[\s\S]*?\*/")),
    "space": ("auc", matching(r" ")),
    "newline": ("auc", matching(r"\n")),
    "digit": ("auc", matching(r"\d")),
    "capital": ("auc", lambda text: (int(character.isupper()) for character in text)),
    "sentence end": ("auc", matching(r"[.!?]")),
    "url": ("auc", matching(r"https?://\S+")),
}


def custom(given: str) -> tuple[str, Callable[[str], Iterator[int]]]:
    """Name and labels of a user's ``NAME=REGEX``.

    Raises:
        UsageError: not of that form, or no regular expression.
    """
    name, equals, pattern = given.partition("=")
    if not (name and equals and pattern):
        raise UsageError(f"--feature {given!r}: expected NAME=REGEX, such as 'vowel=[aeiou]'")
    try:
        return name, matching(pattern)
    except re.error as error:
        raise UsageError(f"--feature {name}: not a regular expression ({error})") from None


def features_of(text: str, given: tuple[str, ...] = ()) -> list[Feature]:
    """All features of a text, the user's first; one of a built-in's name takes its place."""
    chosen: dict[str, tuple[Kind, Callable[[str], Iterator[int]]]] = {}
    for name, label in map(custom, given):
        chosen[name] = ("auc", label)
    for name, builtin in FEATURES.items():
        chosen.setdefault(name, builtin)
    return [Feature(name, kind, _array(label(text))) for name, (kind, label) in chosen.items()]


def _array(values: Iterator[Any]) -> NDArray[np.float64]:
    return np.fromiter(values, np.float64)
