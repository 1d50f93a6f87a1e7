"""What is looked at: a checkpoint and a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.checkpoint import Checkpoint
from charrnn.errors import TextError


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
        vocabulary = checkpoint.vocabulary
        if vocabulary.unit == "byte":
            text = text.encode("utf-8", "surrogatepass").decode("latin-1")
            text = text[:length]
            return cls(checkpoint, vocabulary.encode_codes(np.frombuffer(text.encode("latin-1"), np.uint8)), text, name)
        text = text[:length]
        return cls(checkpoint, vocabulary.encode(text), text, name)

    def require(self, characters: int) -> None:
        """Raises TextError where the text is shorter than a view needs."""
        if len(self.ids) < characters:
            raise TextError(
                f"{self.name}: has {len(self.ids)} characters, this view needs {characters}; name a longer --text"
            )

    @property
    def symbols(self) -> list[str]:
        """The characters as they are shown; bytes above 127 as ``\\xNN``."""
        if self.checkpoint.vocabulary.unit == "char":
            return list(self.text)
        return [c if c < "\x80" else f"\\x{ord(c):02x}" for c in self.text]
