"""How a text is read and split."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields
from typing import cast

from charrnn.data.reading import Newlines, check_encoding
from charrnn.data.vocabulary import Unit
from charrnn.errors import UsageError


@dataclass(frozen=True)
class PrepareSettings:
    """What decides, together with the text, what the prepared corpus is.

    Attributes:
        split: percentages of the characters, in the order train, validation, test.
        pattern: which files of a folder to take, such as ``*.py``.
        encoding: a codec's name; None is strict UTF-8, or what a byte order mark says.
        newlines: "keep" leaves line ends as they are, "lf" makes CRLF and CR into LF.
        min_count: characters that occur less often become ``unknown``.
        given: the names of the settings that were asked for; None is all of them. What was not is a default
            for text yet to be prepared, and no demand on a corpus that is there.

    Raises:
        UsageError: a value that cannot be meant.
    """

    unit: Unit = "char"
    split: tuple[float, float, float] = (90, 5, 5)
    pattern: str | None = None
    encoding: str | None = None
    newlines: Newlines = "keep"
    min_count: int = 1
    given: frozenset[str] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.unit not in ("char", "byte"):
            raise UsageError(f"--unit {self.unit}: must be char or byte")
        if self.newlines not in ("keep", "lf"):
            raise UsageError(f"--newlines {self.newlines}: must be keep or lf")
        shares = ",".join(f"{share:g}" for share in self.split)
        if len(self.split) != 3 or not all(0 <= share <= 100 for share in self.split):
            raise UsageError(f"--split {shares}: must be three percentages, such as 90,5,5")
        if abs(sum(self.split) - 100) > 1e-6:
            raise UsageError(f"--split {shares}: adds up to {sum(self.split):g}, not to 100")
        if self.split[0] <= 0:
            raise UsageError(f"--split {shares}: leaves nothing to train on; its first number must be above 0")
        if self.min_count < 1:
            raise UsageError(f"--min-count {self.min_count}: must be 1 or more")
        if self.encoding is not None:
            if self.unit == "byte":
                raise UsageError(f"--encoding {self.encoding}: has no meaning with --unit byte; leave one of them out")
            check_encoding(self.encoding)

    def to_json(self) -> dict[str, object]:
        return {**{name: getattr(self, name) for name in _settings()}, "split": [float(share) for share in self.split]}

    @classmethod
    def from_json(cls, value: dict[str, object]) -> PrepareSettings:
        known = {name: value[name] for name in _settings()}
        if not isinstance(known["pattern"], str | None) or not isinstance(known["min_count"], int):
            raise ValueError("its settings are of other types")
        known["split"] = tuple(cast("list[float]", known["split"]))
        return cls(**known)  # type: ignore[arg-type]

    def differences(self, other: PrepareSettings) -> str:
        """How what was given differs from ``other``, as options: "--unit byte --split 80,10,10"; "" if it does not."""
        mine, others = self.to_json(), other.to_json()
        compared = mine if self.given is None else [name for name in mine if name in self.given]
        return " ".join(
            f"--{name.replace('_', '-')} {_shown(mine[name])}" for name in compared if mine[name] != others[name]
        )


def _settings() -> list[str]:
    """The names of what decides, which is stored and compared."""
    return [field.name for field in fields(PrepareSettings) if field.compare]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(f"{share:g}" for share in value)
    return "(none)" if value is None else shlex.quote(str(value))
