"""What is looked at: a checkpoint and a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.checkpoint import Checkpoint
from charrnn.data.corpus import Corpus
from charrnn.data.vocabulary import Unit, from_codes, to_codes
from charrnn.errors import TextError
from charrnn.evaluation.evaluator import corpus_ids, text_codes, text_or_corpus


@dataclass(frozen=True)
class Subject:
    """A checkpoint and a text; views that need no text get an empty one.

    Attributes:
        ids: the text in the checkpoint's ids, (T,).
        text: one character for each id; the bytes of a byte model as the characters of the same numbers.
        name: what the user would call the text.
    """

    checkpoint: Checkpoint
    ids: NDArray[np.integer[Any]]
    text: str
    name: str

    @classmethod
    def of(cls, checkpoint: Checkpoint, text: str, name: str = "text", length: int | None = None) -> Subject:
        """The first ``length`` characters (or bytes, for a byte model) of a text."""
        if checkpoint.vocabulary.unit == "byte":
            text = text.encode("utf-8", "surrogatepass").decode("latin-1")
        return cls.spelled(checkpoint, text[:length], name)

    @classmethod
    def spelled(cls, checkpoint: Checkpoint, text: str, name: str) -> Subject:
        """A text that has one character for each id already."""
        return cls(checkpoint, checkpoint.vocabulary.encode_codes(to_codes(text, "char")), text, name)

    @classmethod
    def named(
        cls,
        checkpoint: Checkpoint,
        name: str | None,
        length: int | None = None,
        *,
        encoding: str | None = None,
        newlines: str | None = None,
    ) -> Subject:
        """The beginning of what a user names as text, as :func:`~charrnn.evaluation.evaluator.text_to_score` takes it.

        Raises:
            TextError: it is missing, or cannot be read as text.
            UsageError: an encoding of a corpus.
        """
        found = text_or_corpus(checkpoint, name, encoding=encoding, newlines=newlines)
        if isinstance(found, Corpus):
            return cls.of_corpus(checkpoint, found, length)
        pieces: list[str] = []
        for codes in text_codes(checkpoint.vocabulary, found, encoding, newlines):
            pieces.append(from_codes(codes))
            if length is not None and sum(map(len, pieces)) >= length:
                break
        return cls.spelled(checkpoint, "".join(pieces)[:length], found)

    @classmethod
    def of_corpus(
        cls, checkpoint: Checkpoint, corpus: Corpus, length: int | None = None, split: str = "validation"
    ) -> Subject:
        """The beginning of a split of a prepared corpus, or all of it.

        Raises:
            TextError: the split is empty, or the corpus has another unit.
        """
        ids, _ = corpus_ids(checkpoint, corpus, split)
        codes = np.append(np.asarray(corpus.vocabulary.codes, np.int64), 0xFFFD)[corpus.ids(split)[:length]]
        text = codes.astype("<u4").tobytes().decode("utf-32-le")
        return cls(checkpoint, np.asarray(ids[:length]), text, f"{corpus.name}, {split}")

    def require(self, characters: int) -> None:
        """Raises TextError where the text is shorter than a view needs."""
        if len(self.ids) < characters:
            raise TextError(
                f"{self.name}: has {len(self.ids):,} characters, this view needs {characters:,}; name a longer --text"
            )

    @property
    def symbols(self) -> list[str]:
        """The characters as they are shown; bytes above 127 as ``\\xNN``."""
        return symbols_of(self.text, self.checkpoint.vocabulary.unit)


def symbols_of(text: str, unit: Unit) -> list[str]:
    """The characters of a text as they are shown; of bytes, given as the characters of the same numbers, those above
    127 as ``\\xNN``."""
    return [c if unit == "char" or c < "\x80" else f"\\x{ord(c):02x}" for c in text]
