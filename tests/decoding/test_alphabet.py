"""The automaton against Python's own UTF-8 decoder."""

from __future__ import annotations

import numpy as np
import pytest

from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.alphabet import Alphabet
from charrnn.errors import CheckpointError

ALL_BYTES = Vocabulary(tuple(range(256)), "byte")


def accepts(alphabet: Alphabet, data: bytes) -> bool:
    """Whether these bytes may be generated and end a character (with all 256 bytes, ids are bytes)."""
    place = 0
    for byte in data:
        if alphabet.mask[place, byte] != 0:
            return False
        place = int(alphabet.following[place, byte])
    return place == 0


def is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def test_every_scalar_value_and_nothing_else() -> None:
    alphabet = Alphabet(ALL_BYTES)
    for code in [*range(0x3000), *range(0xD000, 0xE100), *range(0xFF00, 0x10100), *range(0x10F000, 0x110000)]:
        data = chr(code).encode("utf-8", "surrogatepass")
        assert accepts(alphabet, data) == (not 0xD800 <= code < 0xE000), hex(code)


def test_equals_the_decoder_on_all_short_and_on_random_sequences() -> None:
    alphabet = Alphabet(ALL_BYTES)
    for first in range(256):
        for second in range(256):
            assert accepts(alphabet, bytes((first, second))) == is_utf8(bytes((first, second)))
    rng = np.random.default_rng(0)
    edges = np.array([0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xE0, 0xED, 0xEE, 0xF0, 0xF4, 0xF5])
    for _ in range(20_000):
        data = bytes(rng.choice(edges, rng.integers(3, 5)).tolist())
        assert accepts(alphabet, data) == is_utf8(data), data


def test_unknown_is_never_generated() -> None:
    for vocabulary in (Vocabulary.of("abc"), Vocabulary.of("abc", "byte")):
        for utf8 in (True, False):
            assert np.isneginf(Alphabet(vocabulary, utf8).mask[:, vocabulary.unknown]).all()


def test_a_byte_that_nothing_can_follow_is_closed() -> None:
    alphabet = Alphabet(Vocabulary((0x41, 0x82, 0xC3, 0xE0, 0xF1), "byte"))  # E0 needs A0..BF after it
    np.testing.assert_array_equal(alphabet.mask[0], [0, -np.inf, 0, -np.inf, 0, -np.inf])


def test_without_the_constraint_all_bytes_may_come() -> None:
    alphabet = Alphabet(ALL_BYTES, utf8=False)
    assert alphabet.mask.shape == (1, 257)
    assert (alphabet.mask[0, :256] == 0).all()


def test_nothing_to_generate_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="no characters"):
        Alphabet(Vocabulary(()))
