"""Any bytes are symbols of any vocabulary, and only theirs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.compression.symbols import Spelling
from charrnn.data.vocabulary import Vocabulary

VOCABULARIES = [
    Vocabulary.of("\n abc"),
    Vocabulary.of("é日\ufeff\ud7ff\ue000\U0010ffff\0"),
    Vocabulary(()),
    Vocabulary(tuple(range(256)), "byte"),
    Vocabulary((10, 0x80, 0xFF), "byte"),
    Vocabulary((), "byte"),
]
ANY = st.one_of(st.binary(max_size=40), st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")))


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@given(data=ANY)
def test_any_bytes_are_the_same_again(vocabulary: Vocabulary, data: bytes) -> None:
    spelling = Spelling(vocabulary)
    symbols = spelling.symbols(data)
    assert spelling.data(symbols) == data
    assert len(symbols.ranks) == (symbols.ids == vocabulary.unknown).sum()
    assert all(0 <= rank < spelling.values for rank in symbols.ranks)


def test_every_value_that_unknown_stands_for_has_a_place_of_its_own() -> None:
    vocabulary = Vocabulary((ord("b"), 0x80, 0xE9, 0xFF), "byte")
    ranks = [Spelling(vocabulary).symbols(bytes([b])).ranks.tolist() for b in range(256) if b not in vocabulary.codes]
    assert ranks == [[k] for k in range(252)]
    # The scalar values around the surrogates, then the bytes that are not UTF-8.
    spelling = Spelling(Vocabulary.of("ab"))
    found = spelling.symbols("\0cd\ud7ff\ue000\U0010ffff".encode() + b"\x80\xff").ranks.tolist()
    assert found == [0, 0x61, 0x62, 0xD7FF - 2, 0xE000 - 0x800 - 2, 0x110000 - 0x800 - 3, 1_112_062, 1_112_062 + 127]
    assert spelling.values == 1_112_062 + 128


def test_symbols_are_the_ids_that_eval_scores() -> None:
    vocabulary, text = Vocabulary.of("\n abc"), "cab é\r\nabba"
    assert np.array_equal(Spelling(vocabulary).symbols(text.encode()).ids, vocabulary.encode(text))
