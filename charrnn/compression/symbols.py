"""Any bytes as symbols of a model, and back: what the vocabulary lacks is ``unknown`` and its place among the rest.

A model of characters reads UTF-8. A byte that is none, as Python's ``surrogateescape`` finds them, is a value of its
own that ``unknown`` stands for too, beside the Unicode scalar values outside the vocabulary: so every file has
symbols, and no two files have the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.data.vocabulary import Vocabulary, from_codes, to_codes

Ids = NDArray[np.int64]

#: Where ``surrogateescape`` puts a byte from 0x80 on that is not UTF-8, and how many there are.
_STRAY, _STRAYS = 0xDC80, 0x80
_SURROGATES = 0x800  # code points from U+D800 on that are no scalar values


@dataclass(frozen=True)
class Symbols:
    """A text as a model's ids, (N,), and, for each that is ``unknown``, in order, which of its values it is, (M,)."""

    ids: Ids
    ranks: Ids

    def __len__(self) -> int:
        return len(self.ids)


class Spelling:
    """Bytes ↔ symbols of a vocabulary.

    >>> spelling = Spelling(Vocabulary.of("abc"))
    >>> found = spelling.symbols(b"cab\\xff!")
    >>> found.ids.tolist(), found.ranks.tolist(), spelling.data(found)
    ([2, 0, 1, 3, 3], [1112188, 33], b'cab\\xff!')
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._text = vocabulary.unit == "char"

    @property
    def values(self) -> int:
        """How many values ``unknown`` stands for."""
        return self.vocabulary.outside + (_STRAYS if self._text else 0)

    @cached_property
    def _before(self) -> Ids:
        """For each known character how many values outside the vocabulary come before it; never falls."""
        return self._scalar(np.array(self.vocabulary.codes, np.int64)) - np.arange(len(self.vocabulary.codes))

    def symbols(self, data: bytes) -> Symbols:
        """The symbols of these bytes, whatever they are."""
        codes: NDArray[np.integer[Any]] = np.frombuffer(data, np.uint8)
        if self._text:
            codes = to_codes(data.decode("utf-8", "surrogateescape"), "char")
        ids = self.vocabulary.encode_codes(codes)
        missing = codes[ids == self.vocabulary.unknown].astype(np.int64)
        ranks = self._scalar(missing) - np.searchsorted(np.array(self.vocabulary.codes, np.int64), missing)
        stray = self._stray(missing)
        ranks[stray] = self.vocabulary.outside + missing[stray] - _STRAY
        return Symbols(ids, ranks)

    def data(self, symbols: Symbols) -> bytes:
        """The bytes of these symbols."""
        lost = symbols.ids == self.vocabulary.unknown
        codes = np.append(np.array(self.vocabulary.codes, np.int64), 0)[symbols.ids]
        codes[lost] = self._missing(symbols.ranks)
        if not self._text:
            return codes.astype(np.uint8).tobytes()
        return from_codes(codes).encode("utf-8", "surrogateescape")

    def _missing(self, ranks: Ids) -> Ids:
        """Code points, or bytes, of values outside the vocabulary."""
        codes = ranks + np.searchsorted(self._before, ranks, side="right")
        if self._text:
            codes[codes >= 0xD800] += _SURROGATES
            stray = ranks >= self.vocabulary.outside
            codes[stray] = _STRAY + ranks[stray] - self.vocabulary.outside
        return codes

    def _stray(self, codes: Ids) -> NDArray[np.bool_]:
        return (codes >= _STRAY) & (codes < _STRAY + _STRAYS) & self._text

    def _scalar(self, codes: Ids) -> Ids:
        """The place of each among all that a character can be; of half a surrogate pair, none that matters."""
        return codes - _SURROGATES * ((codes >= 0xE000) & self._text)
