"""Classes of characters and words, against labels written down by hand and regular expressions."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from charrnn.data.vocabulary import from_codes, to_codes
from charrnn.evaluation.characters import CLASSES, classes_of, punctuation_in, words_of

#: A letter for each class, in their order.
SHORT = "n_bqwido"


def labels(text: str) -> str:
    return "".join(SHORT[c] for c in classes_of(to_codes(text, "char")))


def test_classes_worked_out_by_hand() -> None:
    text = "He said\t\"no [7]\",\r\ndon’t é1a! 'x' 日_本"
    hand = "wi_wiii_qwi_bdbqonnwiiii_wdwo_qwq_wow"
    assert labels(text) == hand
    assert labels("e\u0301a") == "wii"  # a mark is part of the letter that it is on
    assert labels("'a' a'") == "qwq_wq"
    assert labels("a''b") == "wqqw"


def test_bytes_above_127_are_letters() -> None:
    text = np.frombuffer("né “a".encode(), np.uint8)
    assert "".join(SHORT[c] for c in classes_of(text, "byte")) == "wii_wiii"
    assert not punctuation_in(np.array([0xAB, 0xBB]), "byte").any()
    assert punctuation_in(np.array([0xAB, 0xBB]), "char").all()


def test_an_empty_text_has_no_classes_and_no_words() -> None:
    found = classes_of(np.zeros(0, np.uint32))
    assert found.tolist() == []
    assert [ends.tolist() for ends in words_of(found)] == [[], []]


@given(st.text(st.sampled_from("aZé'’1 \n(\"_日"), max_size=40))
def test_words_are_runs_of_letters_with_apostrophes_between(text: str) -> None:
    classes = classes_of(to_codes(text, "char"))
    assert len(classes) == len(text)
    assert set(classes.tolist()) <= set(range(len(CLASSES)))
    starts, stops = words_of(classes)
    expected = [match.span() for match in re.finditer(r"[aZé日]+(?:['’][aZé日]+)*", text)]
    assert list(zip(starts.tolist(), stops.tolist(), strict=True)) == expected


def test_punctuation_and_symbols() -> None:
    text = "a.1 +—“ \n"
    assert punctuation_in(to_codes(text, "char")).tolist() == [c in ".+—“" for c in text]
    assert from_codes(to_codes(text, "char")) == text
