"""What kind of character each of a text is, and where its words are.

A text is given by its code points, (N,); that of a model of bytes by its bytes, of which those above 127 count as
letters, for most of what UTF-8 writes with them is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.data.vocabulary import Unit

Codes = NDArray[np.integer[Any]]
Indices = NDArray[np.intp]

#: Every character is of exactly one class.
CLASSES = ("newline", "space", "bracket", "quote", "word start", "word inside", "digit", "other")
NEWLINE, SPACE, BRACKET, QUOTE, START, INSIDE, DIGIT, OTHER = range(len(CLASSES))

_APOSTROPHES = "'’"
_QUOTES = '"“”„‟‘‚‛«»‹›' + _APOSTROPHES


def classes_of(codes: Codes, unit: Unit = "char") -> NDArray[np.uint8]:
    """The class of each character, (N,), as its place in :data:`CLASSES`.

    A word is a run of letters and the marks on them, with the apostrophes that stand between two of these; "word
    start" is its first letter, "word inside" all else of it. Newlines are ``\\n`` and ``\\r``, brackets ``()[]{}``.

    >>> [CLASSES[c] for c in classes_of(np.array([ord(c) for c in "I’m 7"]))]
    ['word start', 'word inside', 'word inside', 'space', 'digit']
    """

    def kind(character: str) -> int:
        if character in "\n\r":
            return NEWLINE
        if character in "()[]{}":
            return BRACKET
        if unit == "byte" and character > "\x7f":
            return INSIDE
        if character in _QUOTES:
            return QUOTE
        if character.isspace():
            return SPACE
        if character.isalpha() or unicodedata.category(character)[0] == "M":
            return INSIDE
        return DIGIT if character.isdecimal() else OTHER

    found = _each(codes, kind)
    letters = found == INSIDE
    apostrophes = _each(codes, lambda character: character in _APOSTROPHES) == 1
    found[1:-1][apostrophes[1:-1] & letters[:-2] & letters[2:]] = INSIDE
    inside = found == INSIDE
    found[inside & ~np.append(False, inside[:-1])] = START
    return found


def words_of(classes: NDArray[np.uint8]) -> tuple[Indices, Indices]:
    """Where words start and stop, (W,) each, given the characters' classes."""
    inside = (classes == START) | (classes == INSIDE)
    stops = np.flatnonzero(inside & ~np.append(inside[1:], False)) + 1
    return np.flatnonzero(classes == START), stops


def punctuation_in(codes: Codes, unit: Unit = "char") -> NDArray[np.bool_]:
    """Which characters are punctuation or symbols by Unicode, (N,); no byte above 127 is."""

    def kind(character: str) -> int:
        return unicodedata.category(character)[0] in "PS" and (unit == "char" or character < "\x80")

    found: NDArray[np.bool_] = _each(codes, kind) == 1
    return found


def _each(codes: Codes, kind: Callable[[str], int]) -> NDArray[np.uint8]:
    """A number for each character, (N,), worked out once for each different one."""
    table = np.zeros(int(codes.max(initial=0)) + 1, np.uint8)
    for code in np.flatnonzero(np.bincount(codes, minlength=1)).tolist():
        table[code] = kind(chr(code))
    return table[codes]
