"""Characters to ids and back."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charrnn.data.vocabulary import Unit, Vocabulary, from_codes, to_codes

texts = st.text(st.characters(exclude_categories=["Cs"]))
units = st.sampled_from(["char", "byte"])


@given(texts, units)
def test_decode_undoes_encode(text: str, unit: Unit) -> None:
    vocabulary = Vocabulary.of(text, unit)
    ids = vocabulary.encode(text)
    assert vocabulary.decode_bytes(ids) == text.encode()
    assert vocabulary.decode(ids) == text


def test_what_is_unknown_is_one_replacement_character_in_the_text() -> None:
    assert Vocabulary.of("aé").decode([0, 2, 1, 2]) == "a\ufffdé\ufffd"
    # The second byte of è is unknown, so its first is no character any more either.
    vocabulary = Vocabulary.of("aé", "byte")
    assert vocabulary.decode(vocabulary.encode("aèé")) == "a\ufffd\ufffdé"


@given(st.text())
def test_codes_are_the_numbers_of_the_characters_halves_of_pairs_too(text: str) -> None:
    codes = to_codes(text, "char")
    assert codes.tolist() == [ord(character) for character in text]
    assert from_codes(codes) == from_codes(codes.astype("i8")) == text
    assert to_codes(text, "byte").tobytes() == text.encode("utf-8", "surrogatepass")


@given(texts, texts, units)
def test_units_are_one_character_for_each_id(known: str, text: str, unit: Unit) -> None:
    vocabulary = Vocabulary.of(known, unit)
    ids = vocabulary.encode(text)
    found = vocabulary.units(ids)
    assert len(found) == len(ids)
    assert found == vocabulary.units(ids.tolist())
    missing = "\N{REPLACEMENT CHARACTER}" if unit == "char" else "\xff"
    symbols = text if unit == "char" else text.encode().decode("latin-1")
    for id_, character, symbol in zip(ids.tolist(), found, symbols, strict=True):
        assert character == (missing if id_ == vocabulary.unknown else symbol)


@given(texts)
def test_counts_are_those_of_a_counter(text: str) -> None:
    vocabulary = Vocabulary.of(text)
    assert dict(zip(map(chr, vocabulary.codes), vocabulary.counts, strict=True)) == Counter(text)
    assert list(vocabulary.codes) == sorted(map(ord, set(text)))


@given(texts, units)
def test_how_often_its_characters_occur_does_not_make_a_vocabulary_another(text: str, unit: Unit) -> None:
    one, other = Vocabulary.of(text, unit), Vocabulary.of(text * 2, unit)
    assert one == other
    assert hash(one) == hash(other)
    assert not text or one.counts != other.counts


@given(texts, texts)
def test_the_index_of_a_character_is_its_place_or_that_of_unknown(known: str, text: str) -> None:
    vocabulary = Vocabulary.of(known)
    order = sorted(set(known))
    assert [vocabulary.index(character) for character in order] == list(range(len(order)))
    assert {vocabulary.index(character) for character in set(text) - set(known)} <= {vocabulary.unknown}
    assert [vocabulary.character(vocabulary.index(character)) for character in order] == order


@given(texts, texts, units)
def test_what_is_not_in_the_vocabulary_is_unknown(known: str, text: str, unit: Unit) -> None:
    vocabulary = Vocabulary.of(known, unit)
    symbols = list(text) if unit == "char" else list(text.encode())
    inside = set(known) if unit == "char" else set(known.encode())
    ids = vocabulary.encode(text).tolist()
    assert [i == vocabulary.unknown for i in ids] == [symbol not in inside for symbol in symbols]
    assert len(vocabulary.unseen(text)) == len(set(symbols) - inside)


@given(texts, texts, units)
def test_translation_equals_encoding_anew(mine: str, theirs: str, unit: Unit) -> None:
    one, other = Vocabulary.of(mine, unit), Vocabulary.of(theirs, unit)
    assert one.translation(other)[one.encode(mine)].tolist() == other.encode(mine).tolist()


@given(texts, units)
def test_json_brings_the_same_vocabulary_back(text: str, unit: Unit) -> None:
    vocabulary = Vocabulary.of(text, unit)
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary
    assert again.counts == vocabulary.counts


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"unit": "word", "codes": [1]},
        {"unit": "char", "codes": [2, 1]},
        {"unit": "char", "codes": [1, 1]},
        {"unit": "byte", "codes": [256]},
        {"unit": "char", "codes": ["a"]},
        {"unit": "char", "codes": [True]},
        {"unit": "char", "codes": [-1]},
        {"unit": "char", "codes": [0x110000]},
        {"unit": "char", "codes": [0xD800]},
        {"unit": "char", "codes": [0xDFFF]},
        {"unit": "char", "codes": [1, 2], "counts": [1]},
        {"unit": "char", "codes": [1], "counts": [-1]},
        {"unit": "char", "codes": [1], "counts": [1.0]},
        {"unit": "char", "codes": 1},
    ],
)
def test_what_is_no_vocabulary_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        Vocabulary.from_json(value)


def test_the_outermost_codes_of_each_unit_are_taken() -> None:
    for unit, codes in (("char", [0, 0xD7FF, 0xE000, 0x10FFFF]), ("byte", [0, 255])):
        vocabulary = Vocabulary.from_json({"unit": unit, "codes": codes, "counts": [0] * len(codes)})
        assert list(vocabulary.codes) == codes
        assert len(vocabulary) == vocabulary.unknown + 1 == len(codes) + 1
        every = 0x110000 - 0x800 if unit == "char" else 256
        assert vocabulary.outside == every - len(codes)


def test_a_character_is_shown_as_itself_or_as_the_byte_it_is() -> None:
    assert [Vocabulary.of("aé").character(index) for index in (-1, 0, 1, 2)] == ["\ufffd", "a", "é", "\ufffd"]
    vocabulary = Vocabulary((0x7F, 0x80, 0xE9), "byte")
    assert [vocabulary.character(index) for index in range(4)] == ["\x7f", "\\x80", "\\xe9", "\ufffd"]
    assert vocabulary.unseen("a\ud800é\ud800") == ["\\x61", "\\xed", "\\xa0", "\\xc3", "\\xa9"]
