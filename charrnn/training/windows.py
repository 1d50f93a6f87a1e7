"""Where a step's window comes from: cut out by the host, or gathered on the device from the text that lies there.

Both ways are :meth:`Streams.window <charrnn.data.streams.Streams.window>`: the host calls ``move`` before a step, and
the step takes ``window(T)``.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charrnn.data.streams import NOTHING, Streams

#: Characters of windows that the host cuts out together: fewer and longer reads of a text in a file.
TOGETHER = 1 << 18


class HostWindows:
    """Windows cut out of a text that may be larger than memory, and copied to the device."""

    def __init__(self, streams: Streams, device: torch.device) -> None:
        self.streams, self.device = streams, device
        self.place = (0, 0)
        self._together = max(1, TOGETHER // (len(streams.starts) * streams.sequence_length))
        self._cut: tuple[int, int] | None = None  # epoch and first window of what is cut out
        self._parts: tuple[NDArray[np.int64], ...] = ()

    def move(self, epoch: int, index: int) -> None:
        """Go to a window."""
        self.place = (epoch, index)

    def window(self, length: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets there, each (T, B)."""
        epoch, index = self.place
        first = index - index % self._together
        if self._cut != (epoch, first):
            count = min(self._together, self.streams.windows - first)
            self._parts, self._cut = self.streams.window(epoch, first, count), (epoch, first)
        begin = self.streams.span(index)[0] - self.streams.span(first)[0]
        inputs, targets = (
            torch.from_numpy(part[begin : begin + length]).to(self.device, non_blocking=True) for part in self._parts
        )
        return inputs, targets


class DeviceWindows:
    """Windows gathered on the device; of the host they need two numbers a step, and no step waits for them.

    The text lies in the device's memory, in the smallest signed type that holds V symbols (torch lacks kernels for
    unsigned ones): one byte a character up to 128 of them, two up to 32,768.
    """

    def __init__(self, streams: Streams, device: torch.device, symbols: int) -> None:
        self.streams = streams
        ids = streams.ids.astype(np.min_scalar_type(-symbols))
        self.ids, self.starts, self.lengths = (
            torch.from_numpy(array).to(device) for array in (ids, streams.starts, streams.lengths)
        )
        self.offset, self.begin = torch.zeros(2, dtype=torch.int64, device=device).unbind()

    def move(self, epoch: int, index: int) -> None:
        """Go to a window; ``fill_`` takes a number along with the launch, so the host does not wait."""
        self.offset.fill_(self.streams.offset(epoch))
        self.begin.fill_(self.streams.span(index)[0])

    def window(self, length: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets there, each (T, B); only kernels, no copy and no wait, so it can be captured."""
        steps = self.begin + torch.arange(length, device=self.ids.device)[:, None]  # (T, 1)
        places = self.streams.places(self.offset, self.starts, steps)  # (T, B)
        targets = self.ids[places].long().masked_fill_(steps >= self.lengths, NOTHING)
        inputs = self.ids[places - 1].long().masked_fill_(places == 0, self.streams.first)
        return inputs, targets


def fits(streams: Streams, device: torch.device) -> bool:
    """Whether the device has room for the text, and twice as much for everything else."""
    return device.type != "cuda" or 6 * len(streams.ids) < torch.cuda.mem_get_info(device)[0]
