"""Steps on a GPU that cost the host one call: captured as a CUDA graph, replayed, never far ahead of the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import torch

from charrnn.model.graphs import Graphs, Run

#: Steps run plainly before their like is captured: the first ones choose kernels and load them, which may not happen
#: during a capture. They are steps of the training like any other.
WARM_UP = 3
#: Steps that may be launched and not yet computed. A training under a time limit looks at the clock before each step:
#: it must not have queued minutes of work when the time is over. Four are enough that the device never idles.
AHEAD = 4


class CUDA(Graphs):
    """What :class:`GraphedStep` needs of a CUDA device.

    Args:
        device: the device.
        generator: the source of all random numbers in a step.
    """

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        super().__init__(device, generator)
        events = (torch.cuda.Event(blocking=True) for _ in range(AHEAD))  # type: ignore[no-untyped-call]
        self.events = list(events)

    def wait(self, step: int) -> None:
        """Wait until the step ``AHEAD`` before this one is computed; an event never recorded is not waited for."""
        self.events[step % AHEAD].synchronize()

    def launched(self, step: int) -> None:
        """Note that this step is on its way."""
        self.events[step % AHEAD].record(torch.cuda.current_stream(self.device))


class GraphedStep:
    """``step(T)``, called plainly the first times and replayed from then on; one graph per window length.

    Args:
        step: a fixed sequence of tensor operations on tensors that stay where they are, the same for each T.
        device: where it runs.
        failed: told of the error if capturing fails; from then on each step runs plainly.
        capture: False to never capture a step that takes decisions or numbers from the host.
    """

    def __init__(
        self,
        step: Callable[[int], None],
        device: CUDA,
        failed: Callable[[RuntimeError], None],
        *,
        capture: bool = True,
    ) -> None:
        self.step, self.device, self.failed, self.capture = step, device, failed, capture
        self.launches = 0
        self.seen: Counter[int] = Counter()
        self.graphs: dict[int, Run] = {}

    def __call__(self, length: int) -> None:
        """Launch the step; returns before it is computed."""
        self.device.wait(self.launches)
        run = partial(self.step, length)
        self.seen[length] += 1
        if self.capture and length not in self.graphs and self.seen[length] > WARM_UP:
            try:
                self.graphs[length] = self.device.capture(run)
            except RuntimeError as error:  # of CUDA (also out of memory), or of torch's own checks
                self.capture = False
                self.graphs.clear()
                self.failed(error)
        if length in self.graphs:
            self.graphs[length]()
        elif self.capture:
            self.device.warm_up(run)
        else:
            run()
        self.device.launched(self.launches)
        self.launches += 1
