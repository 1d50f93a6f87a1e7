"""Brackets and quotes are matched as a slow search and regular expressions match them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.data.vocabulary import to_codes
from charrnn.evaluation.distance import by_distance, closings

Found = dict[str, list[tuple[int, int]]]


def found_in(text: str) -> Found:
    return {
        kind: list(zip(places.tolist(), distances.tolist(), strict=True))
        for kind, (places, distances) in closings(to_codes(text, "char")).items()
    }


def slowly(text: str) -> Found:
    """Each closing bracket looks back for its own; quotes by one regular expression."""
    found: Found = {}
    gone: set[int] = set()
    for place, character in enumerate(text):
        kind = {")": ("(", "parenthesis"), "]": ("[", "bracket"), "}": ("{", "brace")}.get(character)
        if kind is None:
            continue
        for before in reversed(range(place)):
            if text[before] == kind[0] and before not in gone:
                gone |= set(range(before, place))
                found.setdefault(kind[1], []).append((place, place - before))
                break
    inner = r'(?:(?!\n\r?\n)[^"“«])*'
    pattern = f'"{inner}"|“{inner}?”|«{inner}?»'
    quotes = [(match.end() - 1, len(match.group()) - 1) for match in re.finditer(pattern, text)]
    return found | ({"quote": quotes} if quotes else {})


def test_worked_out_by_hand() -> None:
    assert found_in("{ (] } )") == {"brace": [(5, 5)]}
    assert found_in("([)]") == {"parenthesis": [(2, 2)]}
    assert found_in('"a" "b\n\nc" d"') == {"quote": [(2, 2), (12, 3)]}
    assert found_in('"a\r\n\r\n"') == {}
    assert found_in('"a\nb"') == {"quote": [(4, 4)]}
    assert found_in("“a “b” c” ' '") == {"quote": [(5, 2)]}
    assert found_in("») ] }a") == {}


@given(st.text(st.sampled_from("()[]{}a"), max_size=30))
def test_brackets_equal_a_slow_search(text: str) -> None:
    assert found_in(text) == slowly(text)


@given(st.text(st.sampled_from('"“”«»a\r\n'), max_size=30))
def test_quotes_equal_a_regular_expression(text: str) -> None:
    assert found_in(text) == slowly(text)


def test_means_by_distance() -> None:
    """One distance of 1, two of 2 and 3, one of 9, with planted probabilities."""
    text = "() (a) (ab) (abcdefgh) ("
    places = [1, 5, 10, 21]
    first, second = np.full(len(text), 5.0), np.zeros(len(text))
    first[places] = -np.log([0.5, 0.25, 0.75, 0.125])
    ((found),) = by_distance([first.astype(np.float32), second.astype(np.float32)], to_codes(text, "char"))
    assert (found["kind"], found["closings"]) == ("parenthesis", 4)
    assert [(one["from"], one["to"], one["closings"]) for one in found["bins"]] == [(1, 1, 1), (2, 3, 2), (8, 15, 1)]
    assert [p for one in found["bins"] for p in one["probabilities"]] == pytest.approx([0.5, 1, 0.5, 1, 0.125, 1])
    json.dumps(found, allow_nan=False)


def test_a_power_of_two_begins_a_bin() -> None:
    for power in range(20):
        text = "(" + "a" * (2**power - 1) + ")"
        (found,) = by_distance([np.zeros(len(text), np.float32)], to_codes(text, "char"))
        assert [one["from"] for one in found["bins"]] == [2**power]
