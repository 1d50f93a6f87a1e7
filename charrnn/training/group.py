"""The processes of one training, as ``torchrun`` starts them: what each asks of the others.

Each process has some of the streams, and takes the same steps: gradients are averaged by PyTorch's own
DistributedDataParallel, and whatever decides what comes next is the same number in all of them. The first process
alone writes files and talks.

What is exchanged beside gradients goes by gloo, between the hosts: no GPU waits for it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from charrnn.errors import CharRNNError, ResourceError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
#: How long a process may take to prepare a text or to write a file while the others wait for it. One whose connection
#: is closed is noticed at once.
PATIENCE = timedelta(days=1)
#: Seconds that the others may take to come.
MEETING = 600
#: Keys of torchrun's store, which outlives the processes: the latest meeting's name; the run that was begun; the exit
#: code of an end that is none of a lost process's.
_MEETING, _RUN, _ENDED = "charrnn meeting", "charrnn run", "charrnn ended"


class LostError(ResourceError):
    """Another process of the training is gone."""


@dataclass(frozen=True)
class Group:
    """The processes of one training; this one is ``rank`` of ``size``, with the accelerator ``local`` of its machine.

    Alone, as by default, each method gives back what it was given.

    Attributes:
        neighbours: processes on this machine, this one included.
        torchrun: whether it was started by that.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    neighbours: int = 1
    torchrun: bool = False
    store: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def launched(cls) -> Group:
        """As ``torchrun`` says in the environment; alone without it."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        rank, size, local, neighbours = (int(os.environ[name]) for name in names)
        return cls(rank, size, local, neighbours, True)

    @property
    def leads(self) -> bool:
        """Whether this process writes and talks."""
        return self.rank == 0

    def join(self) -> Group:
        """The group once it has found all its processes, before anything else is asked of them.

        Raises:
            ResourceError: they do not come.
        """
        if not self.torchrun:
            return self
        import torch.distributed as dist

        store, _, _ = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
        if self.size > 1:
            # In the store are the addresses of processes that are gone, too: whoever reads one waits for nobody.
            own = dist.PrefixStore(meet(store, self.rank, self.size), store)  # type: ignore[attr-defined]
            dist.init_process_group("gloo", store=own, rank=self.rank, world_size=self.size, timeout=PATIENCE)
        return replace(self, store=store)

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

    # What is kept for those that torchrun starts in the place of these. The first process writes, and reads for all.

    def remember(self, run: str) -> None:
        """Note that this training has begun a run, by its name."""
        if self.store is not None and self.leads:
            self.store.set(_RUN, run)

    def remembered(self) -> str | None:
        """The run that this training had begun before one of its processes was lost."""
        return self._noted(_RUN)

    def ended(self) -> int | None:
        """The exit code with which this training had ended by itself: it is not to begin again."""
        code = self._noted(_ENDED)
        return None if code is None else int(code)

    def end(self, code: int) -> None:
        """Note that this training has ended by itself."""
        if self.store is not None:
            self.store.set(_ENDED, str(code))

    def _noted(self, key: str) -> str | None:
        if self.store is None:
            return None
        return self.told(self.store.get(key).decode() if self.leads and self.store.check([key]) else None)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """While inside, that another process is gone is an error of one line; any other end is noted as such.

        Raises:
            LostError: it is gone.
        """
        try:
            yield
        except LostError:
            raise
        except CharRNNError as error:
            self.end(error.exit_code)
            raise
        except RuntimeError as error:
            said = str(error)
            if self.size > 1 and any(word in said for word in _LOST):
                raise LostError(
                    f"another process of the training is gone ({said.partition(chr(10))[0]:.80}); see what it says"
                ) from error
            raise


#: What errors of gloo and NCCL say when another process is gone.
_LOST = ("Connection", "peer", "timed out", "Timed out", "Broken pipe", "NCCL", "Gloo", "gloo")
ALONE = Group()


def meet(store: Any, rank: int, size: int, patience: float = MEETING) -> str:
    """A name for this meeting of all processes, that no earlier one had, however often each was started before.

    The first process gives the name. Who comes under it says who it is, and begins once the first has named it as
    one of those that are here: under an old name there is nobody who would.

    Args:
        store: torchrun's, which has what earlier processes left.

    Raises:
        ResourceError: they do not come.
    """
    me, until = os.urandom(16).hex(), time.monotonic() + patience

    def waiting() -> Iterator[None]:
        while time.monotonic() < until:
            yield
            time.sleep(0.02)
        raise ResourceError(f"process {rank} of {size}: the others have not come in {patience:g} s; begin again")

    if rank == 0:
        store.set(_MEETING, me)
        keys = [f"{me} {other}" for other in range(1, size)]
        next(None for _ in waiting() if store.check(keys))
        store.set(f"{me} all", " ".join(store.get(key).decode() for key in keys))
        return me
    for _ in waiting():
        if not store.check([_MEETING]):
            continue
        name: str = store.get(_MEETING).decode()
        store.set(f"{name} {rank}", me)
        if store.check([f"{name} all"]) and me in store.get(f"{name} all").decode().split():
            return name
    raise AssertionError
