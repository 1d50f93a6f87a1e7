"""CUDA graphs: operations recorded once and launched with one call, for steps that compute sooner than they launch."""

from __future__ import annotations

from collections.abc import Callable

import torch

Run = Callable[[], None]


class Graphs:
    """What records operations on a device.

    Args:
        device: a CUDA device.
        generator: the source of the random numbers in them, if there are any; each replay draws new ones, as plain runs
            would.
    """

    def __init__(self, device: torch.device, generator: torch.Generator | None = None) -> None:
        self.device, self.generator = device, generator
        # Warm-up and capture share one side stream: nothing can be captured on the default stream, and cuBLAS keeps
        # a workspace per stream, which so exists before the capture.
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # One memory for all graphs: what is recorded here leaves nothing there, so the next may use it.
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, run: Run) -> None:
        """Run on the side stream, after what the current stream has to do and before what it will get to do."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            run()
        current.wait_stream(self.stream)

    def capture(self, run: Run) -> Run:
        """Record what ``run`` would launch, without computing it; returns what computes it, each time it is called.

        Raises:
            RuntimeError: something in it cannot be captured.
        """
        graph = torch.cuda.CUDAGraph()
        if self.generator is not None:
            graph.register_generator_state(self.generator)
        current = torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                run()
        finally:
            # torch.cuda.graph leaves the side stream current if ending a broken capture raises.
            torch.cuda.set_stream(current)
        return graph.replay
