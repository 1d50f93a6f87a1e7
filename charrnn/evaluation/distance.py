"""How well closing brackets and quotes are foreseen, against the distance to what they close.

After Karpathy, Johnson & Fei-Fei 2016, who looked at closing braces in the source of Linux.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.evaluation.characters import Codes

Indices = NDArray[np.intp]

_BRACKETS = {"(": "parenthesis", "[": "bracket", "{": "brace"}
_OPENED_BY = {")": "(", "]": "[", "}": "{"}
_QUOTED_BY = {'"': '"', "”": "“", "»": "«"}


def closings(codes: Codes) -> dict[str, tuple[Indices, Indices]]:
    """Where something is closed and how many characters before it was opened, (K,) each, by kind, K >= 1.

    A closing bracket closes the last open one of its kind, and what was opened in between and never closed is
    forgotten; one that closes nothing is left out. Quotes are ``"``, which open and close by turns, “ ” and « »; an
    empty line ends a quote that was never closed. ``'`` is left out, for it is an apostrophe too.

    >>> text = np.array([ord(c) for c in 'f(a[1])+"x"'])
    >>> {kind: (places.tolist(), distances.tolist()) for kind, (places, distances) in closings(text).items()}
    {'bracket': ([5], [2]), 'parenthesis': ([6], [5]), 'quote': ([10], [2])}
    """
    found: dict[str, list[tuple[int, int]]] = {}
    opened: list[tuple[str, int]] = []  # brackets that are open
    waiting = dict.fromkeys(_BRACKETS, 0)  # how many of these, by kind
    quote = ("", 0)  # the open quote, if any, and its place
    places = np.concatenate((np.flatnonzero(np.isin(codes, [ord(c) for c in '()[]{}"“”«»'])), _empty_lines(codes)))
    for place in np.sort(places).tolist():
        character = chr(codes[place])
        if character == "\n":
            quote = ("", 0)
        elif character in _BRACKETS:
            opened.append((character, place))
            waiting[character] += 1
        elif character in _OPENED_BY:
            wanted, last = _OPENED_BY[character], ("", 0)
            while waiting[wanted] and last[0] != wanted:
                last = opened.pop()
                waiting[last[0]] -= 1
            if last[0]:
                found.setdefault(_BRACKETS[wanted], []).append((place, place - last[1]))
        elif quote[0] and quote[0] == _QUOTED_BY.get(character):
            found.setdefault("quote", []).append((place, place - quote[1]))
            quote = ("", 0)
        elif character in _QUOTED_BY.values():
            quote = (character, place)
    columns = {kind: np.array(pairs, np.intp).T for kind, pairs in found.items()}
    return {kind: (both[0], both[1]) for kind, both in sorted(columns.items())}


def _empty_lines(codes: Codes) -> Indices:
    """The newline at the end of each empty line."""
    ends = np.flatnonzero(codes == ord("\n"))
    gaps = np.diff(ends)
    empty: Indices = ends[1:][(gaps == 1) | ((gaps == 2) & (codes[ends[1:] - 1] == ord("\r")))]
    return empty


def by_distance(models: Sequence[NDArray[np.float32]], codes: Codes) -> list[dict[str, Any]]:
    """Mean probabilities of closing characters, as ``compare --errors --json`` lists them.

    Args:
        models: nats of each character, (N,), of each model.
        codes: the text, (N,).

    Returns:
        for each kind its bins, of distances from 2^k to 2^(k+1) − 1, that are not empty.
    """
    listed = []
    for kind, (places, distances) in closings(codes).items():
        bins = np.log2(distances).astype(np.intp)
        counts = np.bincount(bins)
        sums = [np.bincount(bins, np.exp(-nats[places].astype(np.float64))) for nats in models]
        found = [
            {
                "from": 2**k,
                "to": 2 ** (k + 1) - 1,
                "closings": int(counts[k]),
                "probabilities": [float(total[k] / counts[k]) for total in sums],
            }
            for k in np.flatnonzero(counts).tolist()
        ]
        listed.append({"kind": kind, "closings": len(places), "bins": found})
    return listed
