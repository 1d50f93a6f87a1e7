"""Random numbers of a training step that do not depend on how many processes share its streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """The source of a step's random numbers, of which this process needs those of its own streams.

    Every process draws for all streams, alike, and keeps its share: so each stream meets the same masks however many
    processes there are. A mask has one number for each stream and unit, not for each character, so that costs little.

    Attributes:
        generator: on the model's device, in the same state in every process.
        here: which of the streams are this process's; ``None`` where all are.
        streams: B, how many there are in all processes.
    """

    generator: torch.Generator | None = None
    here: slice | None = None
    streams: int = 0

    def drawn(self, draw: Callable[[torch.Size], Tensor], shape: torch.Size, axis: int = 0) -> Tensor:
        """What ``draw`` gives of this shape, which has the streams here on ``axis``: drawn for all of them, and cut."""
        if self.here is None:
            return draw(shape)
        whole = draw(torch.Size((*shape[:axis], self.streams, *shape[axis + 1 :])))
        return whole[(slice(None),) * axis + (self.here,)]


#: All streams are here, and torch's own generator is drawn from.
ANY = Noise()
