"""Characters and their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["char", "byte"]
Ids = NDArray[np.integer]
#: What a symbol of a text is called.
NOUNS: Mapping[Unit, str] = {"char": "character", "byte": "byte"}

CODE_POINTS = 0x110000
#: Unicode scalar values: all code points but the surrogates.
UNICODE_SCALARS = CODE_POINTS - 0x800


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a model: its characters in code-point order, then one more, ``unknown``.

    A character is a Unicode code point (``unit="char"``) or a byte (``unit="byte"``); ``codes`` holds their
    numbers in ascending order, so ``codes[i]`` is the character with id ``i``. The id of ``unknown`` is
    ``len(codes)``; whatever is outside the vocabulary goes through it, and it is never generated.

    >>> v = Vocabulary.of("hello")
    >>> v.encode("hole").tolist(), v.encode("help").tolist(), v.unknown
    ([1, 3, 2, 0], [1, 0, 2, 4], 4)
    >>> v.decode([1, 0, 2, 2, 3])
    'hello'
    """

    codes: tuple[int, ...]
    unit: Unit = "char"
    counts: tuple[int, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, text: str, unit: Unit = "char") -> Vocabulary:
        """The vocabulary of a text."""
        codes, counts = np.unique(to_codes(text, unit), return_counts=True)
        return cls(tuple(codes.tolist()), unit, tuple(counts.tolist()))

    def __post_init__(self) -> None:
        limit = CODE_POINTS if self.unit == "char" else 0x100
        codes = self.codes
        if any(b <= a for a, b in pairwise(codes)) or any(not 0 <= c < limit for c in codes):
            raise ValueError("vocabulary codes must be distinct, ascending and within their unit's range")
        if self.counts and (len(self.counts) != len(codes) or min(self.counts) < 0):
            raise ValueError("vocabulary counts must be one for each code, and not negative")

    def __len__(self) -> int:
        """Number of symbols V, ``unknown`` included."""
        return len(self.codes) + 1

    @property
    def noun(self) -> str:
        """What one symbol of a text is called: its figures are of characters or of bytes."""
        return NOUNS[self.unit]

    @property
    def unknown(self) -> int:
        """The id of the symbol for everything outside the vocabulary."""
        return len(self.codes)

    @property
    def outside(self) -> int:
        """How many characters the ``unknown`` symbol stands for."""
        return (UNICODE_SCALARS if self.unit == "char" else 256) - len(self.codes)

    @cached_property
    def _codes(self) -> NDArray[np.int64]:
        return np.asarray(self.codes, np.int64)

    @cached_property
    def _units(self) -> NDArray[np.uint32]:
        """Code points by id; the last, of ``unknown``, is U+FFFD, or a byte that UTF-8 does not have."""
        return np.array((*self.codes, 0xFFFD if self.unit == "char" else 0xFF), "<u4")

    def encode_codes(self, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        """Ids of an array of code points or byte values of any shape."""
        if not self.codes:
            return np.full(codes.shape, self.unknown, np.int64)
        places = np.searchsorted(self._codes, codes)
        places = np.minimum(places, len(self.codes) - 1)
        return np.where(self._codes[places] == codes, places, self.unknown)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of a text, shape (N,): one per code point, or one per byte of its UTF-8 form."""
        return self.encode_codes(to_codes(text, self.unit))

    def units(self, ids: Sequence[int] | Ids) -> str:
        """One character for each id; a byte b is ``chr(b)`` (as in Latin-1), which is not what it means in a text."""
        return self._units[np.asarray(ids, np.int64)].tobytes().decode("utf-32-le", "surrogatepass")

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of ids; ``unknown`` and bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int] | Ids) -> bytes:
        """The exact bytes of ids (``unit="byte"``), or the UTF-8 form of their text."""
        return self.units(ids).encode("utf-8", "replace") if self.unit == "char" else self.units(ids).encode("latin-1")

    def character(self, index: int) -> str:
        """One character as text; bytes above 127 appear as ``\\xNN``."""
        if not 0 <= index < len(self.codes):
            return "\N{REPLACEMENT CHARACTER}"
        code = self.codes[index]
        return chr(code) if self.unit == "char" or code < 0x80 else f"\\x{code:02x}"

    def index(self, character: str) -> int:
        """Id of one character of the vocabulary, or ``unknown``."""
        return self.encode(character).item()

    def unseen(self, text: str) -> list[str]:
        """The distinct characters of ``text`` that the vocabulary lacks, in order of appearance."""
        known = set(self.codes)
        if self.unit == "char":
            return [c for c in dict.fromkeys(text) if ord(c) not in known]
        return [f"\\x{b:02x}" for b in dict.fromkeys(text.encode("utf-8", "surrogatepass")) if b not in known]

    def translation(self, other: Vocabulary) -> NDArray[np.int64]:
        """Table from this vocabulary's ids to ``other``'s, shape (V,): ``other_ids = table[ids]``."""
        return np.append(other.encode_codes(self._codes), other.unknown)

    def to_json(self) -> dict[str, object]:
        """As stored in a corpus and a checkpoint."""
        return {"unit": self.unit, "codes": list(self.codes), "counts": list(self.counts)}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Vocabulary:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: it is not a vocabulary.
        """
        unit, codes, counts = value.get("unit"), value.get("codes"), value.get("counts", [])
        if unit not in ("char", "byte") or not _integers(codes) or not _integers(counts):
            raise ValueError("not a vocabulary")
        if any(0xD800 <= code < 0xE000 for code in codes):  # type: ignore[attr-defined]
            raise ValueError("not a vocabulary: halves of surrogate pairs are no characters")
        return cls(tuple(codes), unit, tuple(counts))  # type: ignore[arg-type]


def _integers(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def to_codes(text: str, unit: Unit) -> NDArray[np.integer]:
    """Code points of a text, or the bytes of its UTF-8 form, shape (N,)."""
    if unit == "byte":
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def from_codes(codes: NDArray[np.integer]) -> str:
    """The text of code points, (N,)."""
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
