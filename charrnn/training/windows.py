"""Where a step's window comes from: cut out by the host, or gathered on the device from the text that lies there.

Both ways are :meth:`Streams.window <charrnn.data.streams.Streams.window>`: the host calls ``move`` before a step, and
the step takes ``window(T)``.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charrnn.data.streams import NOTHING, Streams

#: Characters of windows that the host cuts out together: fewer and longer reads of a text in a file.
TOGETHER = 1 << 18

#: Epoch and window.
Place = tuple[int, int]
#: Inputs and targets.
Arrays = tuple[NDArray[np.int64], NDArray[np.int64]]


class HostWindows:
    """Windows cut out of a text that may be larger than memory, in blocks of several.

    A thread cuts out the next block while the device computes, so that no step waits for the disk; each block is
    copied to the device at once.
    """

    def __init__(self, streams: Streams, device: torch.device) -> None:
        self.streams, self.device = streams, device
        self.place = (0, 0)
        self._together = max(1, TOGETHER // (len(streams.starts) * streams.sequence_length))
        self._cut: Place | None = None  # of the first window of the block
        self._block: tuple[Tensor, ...] = ()
        self._thread = ThreadPoolExecutor(1, "windows")
        self._ahead: tuple[Place, Future[Arrays]] | None = None

    def move(self, epoch: int, index: int) -> None:
        """Go to a window."""
        self.place = (epoch, index)

    def window(self, length: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets there, each (T, B)."""
        epoch, index = self.place
        first = index - index % self._together
        if self._cut != (epoch, first):
            self._block, self._cut = tuple(map(self._to_device, self._taken((epoch, first)))), (epoch, first)
        begin = self.streams.span(index)[0] - self.streams.span(first)[0]
        inputs, targets = (part[begin : begin + length] for part in self._block)
        return inputs, targets

    def _taken(self, place: Place) -> Arrays:
        """The block that begins with a window, and the next one on its way."""
        there, block = self._ahead or (None, None)
        arrays = block.result() if block and there == place else self._arrays(place)
        epoch, first = place
        following = first + self._together
        after = (epoch, following) if following < self.streams.windows else (epoch + 1, 0)
        self._ahead = after, self._thread.submit(self._arrays, after)
        return arrays

    def _arrays(self, place: Place) -> Arrays:
        epoch, first = place
        return self.streams.window(epoch, first, min(self._together, self.streams.windows - first))

    def _to_device(self, part: NDArray[np.int64]) -> Tensor:
        tensor = torch.from_numpy(part)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()  # or the host would wait for the copy
        return tensor.to(self.device, non_blocking=True)


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
