"""Where to compute, and in which number format: decided here and nowhere else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from charrnn.architectures import training_memory
from charrnn.config import Config
from charrnn.errors import ResourceError, UsageError
from charrnn.model import sequence

#: Where Linux tells a container how many bytes of memory it may use, with control groups of version 2 and of version 1.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_TYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """A device and the format of its matrix products; the weights are always float32."""

    device: torch.device
    precision: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context in which the forward pass runs."""
        dtype = _TYPES[self.precision]
        if dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=dtype)

    @property
    def scales_loss(self) -> bool:
        """Whether gradients could underflow, so that the loss has to be scaled (Micikevicius et al. 2018)."""
        return self.precision == "fp16"

    @property
    def has_graphs(self) -> bool:
        """Whether a whole training step can be captured on the device and replayed, without the host in between."""
        return self.device.type == "cuda"

    def __str__(self) -> str:
        name = self.device.type
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        elif self.device.type == "cpu":
            name = f"cpu ({torch.get_num_threads()} threads)"
        amx = self.device.type == "cpu" and self.precision == "bf16" and sequence.available()
        return f"{name}, {self.precision}{' on AMX' if amx else ''}"


def choose_compute(device: str = "auto", precision: str = "auto", local: int | None = None) -> Compute:
    """Settle ``auto``: cuda, mps, cpu; fp16 on CUDA (cuDNN's fastest recurrent kernels take nothing else), bf16 on a
    CPU that has the instructions, fp32 elsewhere.

    Args:
        local: which of the machine's GPUs, where there are several processes with one each.

    Raises:
        ResourceError: the device asked for is not there.
        UsageError: the precision does not go with the device.
    """
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if has[name])
    if not has[device]:
        raise ResourceError(f"--device {device}: no such device here; --device cpu always works")
    if precision == "auto":
        precision = {"cuda": "fp16", "mps": "fp32", "cpu": "bf16" if cpu_has_bf16() else "fp32"}[device]
    if precision == "fp16" and device == "cpu":
        raise UsageError("--precision fp16: needs a GPU; on a CPU use bf16 or fp32")
    if device == "cuda":
        # What is asked for in float32, such as every closing figure, is computed in it: PyTorch's default for cuDNN is
        # TensorFloat-32, of 10 bits. Products in float16 are not affected.
        torch.backends.cudnn.allow_tf32 = False
        if local is not None:
            if local >= (there := torch.cuda.device_count()):
                raise ResourceError(
                    f"--device cuda: there are more processes than GPUs, {there}; "
                    "start one for each GPU, or --device cpu"
                )
            torch.cuda.set_device(local)
            return Compute(torch.device(device, local), precision)
    return Compute(torch.device(device), precision)


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; emulated, it would be slower than fp32."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory where the device computes; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return min(_host_memory(), default=None)


def _host_memory() -> Iterator[int]:
    """Bytes that the machine has, and that this process's container may use of them, where the system tells."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in _LIMITS:
        with contextlib.suppress(ValueError, OSError):  # no such file, or no number: "max"
            yield int(limit.read_text())


def check_memory(
    config: Config, symbols: int, characters: int, compute: Compute, processes: int = 1, neighbours: int = 1
) -> None:
    """Refuse a training that is too large for the machine, before anything is allocated.

    A system that promises more memory than it has ends a process that believes it, without a word.

    Args:
        config: settled settings.
        symbols: V, size of the vocabulary.
        characters: N, length of the training text.
        processes: how many share the streams.
        neighbours: how many of them share the machine.

    Raises:
        ResourceError: less memory than is certainly needed.
    """
    training = config.training
    weights, stream = training_memory(config.model, symbols, min(training.sequence_length, characters))
    parts = processes * training.accumulation
    streams = min(-(-training.batch_size // parts), max(1, characters // training.sequence_length))
    needed, there = weights + streams * stream, memory_of(compute.device)
    if there is None:
        return
    if compute.device.type != "cuda":  # of which each has its own
        there //= neighbours
    if needed <= there:
        return
    advice = "choose a smaller --hidden-size or --num-layers"
    if there >= weights + stream:
        fitting = (there - weights) // stream
        advice = f"try --accumulation {-(-training.batch_size // (processes * fitting))}, or a smaller --batch-size"
    raise ResourceError(
        f"training needs {needed / 1e9:,.1f} GB of memory or more, and there are {there / 1e9:,.1f}: "
        f"{weights / 1e9:,.1f} for the weights and what is kept of each, {stream / 1e6:,.1f} MB for each of "
        f"{streams:,} streams at once; {advice}"
    )
