"""Which characters may come next: never ``unknown``, and in a model of bytes only what keeps the text valid UTF-8.

A small automaton: each sequence is in one place, each place has its row of a mask, and each character leads to the
next place. For characters there is one place; for bytes, those of Unicode's table 3-7 (well-formed UTF-8 sequences),
which has no overlong forms, no surrogates and nothing above U+10FFFF.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from charrnn.data.vocabulary import Vocabulary
from charrnn.errors import CheckpointError

Places = NDArray[np.int64]

_LAST, _TWO, _THREE = 1, 2, 3  # continuation bytes still to come: one, two, three of any kind
_AFTER_E0, _AFTER_ED, _AFTER_F0, _AFTER_F4 = 4, 5, 6, 7

#: Table 3-7 as edges: from place, first byte, last byte, to place. Place 0 is between characters.
_UTF8 = (
    (0, 0x00, 0x7F, 0),
    (0, 0xC2, 0xDF, _LAST),
    (0, 0xE0, 0xE0, _AFTER_E0),
    (0, 0xE1, 0xEC, _TWO),
    (0, 0xED, 0xED, _AFTER_ED),
    (0, 0xEE, 0xEF, _TWO),
    (0, 0xF0, 0xF0, _AFTER_F0),
    (0, 0xF1, 0xF3, _THREE),
    (0, 0xF4, 0xF4, _AFTER_F4),
    (_LAST, 0x80, 0xBF, 0),
    (_TWO, 0x80, 0xBF, _LAST),
    (_THREE, 0x80, 0xBF, _TWO),
    (_AFTER_E0, 0xA0, 0xBF, _LAST),
    (_AFTER_ED, 0x80, 0x9F, _LAST),
    (_AFTER_F0, 0x90, 0xBF, _TWO),
    (_AFTER_F4, 0x80, 0x8F, _TWO),
)


class Alphabet:
    """What may be generated with a vocabulary.

    Args:
        vocabulary: the model's.
        utf8: whether a model of bytes is held to valid UTF-8; without meaning for characters.

    Attributes:
        mask: (places, V), 0 where the character may come, -inf where not; to be added to logits.
        following: (places, V), the place after the character.

    Raises:
        CheckpointError: nothing at all can be generated.
    """

    mask: NDArray[np.float32]
    following: Places

    def __init__(self, vocabulary: Vocabulary, utf8: bool = True) -> None:
        V = len(vocabulary)
        edges = _UTF8 if utf8 and vocabulary.unit == "byte" else ((0, 0, 0x10FFFF, 0),)
        places = 1 + max(edge[0] for edge in edges)
        self.following = np.full((places, V), -1)
        codes = np.array(vocabulary.codes, np.int64)
        for start, first, last, end in edges:
            self.following[start, :-1][(codes >= first) & (codes <= last)] = end
        # A vocabulary may lack every byte that could follow some other: what leads there is closed as well.
        for _ in range(places):
            stuck = np.flatnonzero((self.following < 0).all(1))
            self.following[np.isin(self.following, stuck)] = -1
        if (self.following[0] < 0).all():
            raise CheckpointError("the model's vocabulary has no characters that could be generated")
        self.mask = np.where(self.following < 0, np.float32(-np.inf), np.float32(0))

    def start(self, batch_size: int) -> Places:
        """The places (B,) of sequences that are about to begin a character."""
        return np.zeros(batch_size, np.int64)

    def complete(self, places: Places) -> NDArray[np.bool_]:
        """Which sequences (B,) are at the end of a character."""
        return np.equal(places, 0)
