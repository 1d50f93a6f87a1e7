"""The processes of one training, as ``torchrun`` starts them: what each asks of the others.

Each process has some of the streams, and takes the same steps: gradients are averaged by PyTorch's own
DistributedDataParallel, and whatever decides what comes next is the same number in all of them. The first process
alone writes files and talks.

What is exchanged beside gradients goes by gloo, between the hosts: no GPU waits for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from charrnn.errors import ResourceError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
#: How long a process may take to prepare a text or to write a file while the others wait for it. One that is gone is
#: noticed at once.
PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Group:
    """The processes of one training; this one is ``rank`` of ``size``, with the accelerator ``local`` of its machine.

    Alone, as by default, each method gives back what it was given.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    restarts: int = 0
    """How often the processes were started again after one of them was lost."""
    may_restart: bool = False

    @classmethod
    def launched(cls) -> Group:
        """As ``torchrun`` says in the environment; alone without it."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS")
        rank, size, local, restarts, most = (int(os.environ.get(name, "0")) for name in names)
        return cls(rank, size, local, restarts, most > 0)

    @property
    def leads(self) -> bool:
        """Whether this process writes and talks."""
        return self.rank == 0

    def join(self) -> None:
        """Find the others, before anything else is asked."""
        if self.size == 1:
            return
        import torch.distributed as dist

        store, _, _ = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
        # torchrun's store outlives its processes, and in it the addresses of those that are gone: whoever reads one
        # before the new process has written its own waits for nobody. Machines need not agree on how often they began.
        if int(os.environ.get("LOCAL_WORLD_SIZE", "0")) == self.size:
            store = dist.PrefixStore(f"charrnn {self.restarts}", store)  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.size, timeout=PATIENCE)

    def replicated(self, model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        """The model whose gradients, after a backward pass, are the mean of all processes'."""
        if self.size == 1:
            return model
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel

        # The default group is gloo's.
        gpus = dist.new_group(backend="nccl") if device.type == "cuda" else None
        return DistributedDataParallel(model, process_group=gpus)

    def total(self, *values: Any) -> list[float]:
        """The sum of each number over all processes, in float64."""
        return [float(total) for total in self.totals(np.array([float(value) for value in values]))]

    def totals(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of an array over all processes."""
        return self._reduced(values, "SUM")

    def most(self, *values: float) -> list[float]:
        """The largest of each number in all processes."""
        return [float(largest) for largest in self._reduced(np.array(values, np.float64), "MAX")]

    def _reduced(self, values: NDArray[np.float64], how: str) -> NDArray[np.float64]:
        if self.size == 1:
            return values
        import torch
        import torch.distributed as dist

        tensor = torch.from_numpy(values.copy())
        dist.all_reduce(tensor, getattr(dist.ReduceOp, how))
        return tensor.numpy()

    def joined(self, part: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """All streams' state, (…, B, …) on axis 1 and on the host, of each process's; ``counts``: streams of each."""
        if self.size == 1:
            return part
        import torch
        import torch.distributed as dist

        mine = part.detach().cpu()
        parts = [mine.new_empty(mine.shape[0], count, *mine.shape[2:]) for count in counts]
        for rank, each in enumerate(parts):  # gloo gathers only tensors of one shape
            if rank == self.rank:
                each.copy_(mine)
            dist.broadcast(each, rank)
        return torch.cat(parts, 1)

    def told(self, value: T) -> T:
        """The first process's value, for all."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process do it, then the others, who find it done."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


#: What errors of gloo and NCCL say when another process is gone.
_LOST = ("Connection", "peer", "timed out", "Timed out", "Broken pipe", "NCCL", "Gloo", "gloo")


@contextlib.contextmanager
def losing() -> Iterator[None]:
    """While inside, that another process is gone is an error of one line.

    Raises:
        ResourceError: it is gone.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        if any(word in str(error) for word in _LOST):
            raise ResourceError(f"another process of the training is gone ({said:.80}); see what it says") from error
        raise


ALONE = Group()
