"""What decoding and evaluation need from a model: steps, with the state passed in and returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from charrnn.checkpoint import Checkpoint
from charrnn.decoding.alphabet import Alphabet, Places
from charrnn.decoding.ensemble import Model, engine_of, members
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.errors import ResourceError

#: Per part of the cell's state one array (L, B, H), the engine's own kind: ``(h,)`` or ``(h, c)``.
State = tuple[Any, ...]

#: From this many sequences on, ``auto`` looks for an accelerator; for fewer, importing torch costs more than it saves.
LARGE_BATCH = 64


class Engine(Protocol):
    """A model that runs forward. All arrays that cross this edge, but the state's, are numpy's, on the CPU."""

    symbols: int
    """V, with ``unknown``."""

    def initial_state(self, batch_size: int) -> State:
        """The empty state of B sequences."""
        ...

    def step(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[NDArray[np.float32], State]:
        """Feed one character to each sequence: ids (B,) → logits (B, V) of the next one, new state."""
        ...

    def run(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[NDArray[np.float32], State]:
        """Feed T characters to each sequence: ids (T, B) → logits (T, B, V), new state; equal to T steps."""
        ...

    def select(self, state: State, rows: NDArray[np.integer[Any]]) -> State:
        """The state whose sequence b is sequence ``rows[b]`` of ``state`` (for beams)."""
        ...


@dataclass(frozen=True)
class Frontier:
    """Where B sequences stand: logits (B, V) of their next character and their state, of the engine's own kinds, and
    their places (B,) in the alphabet."""

    logits: Any
    state: State
    places: Places


@runtime_checkable
class Drawing(Engine, Protocol):
    """An engine that also draws, many characters a call: choosing one at a time in Python would take longer than the
    model does."""

    def block(self, batch_size: int) -> int:
        """How many characters of each of B sequences are best drawn at a time."""
        ...

    def draw(
        self,
        count: int,
        frontier: Frontier,
        generators: Sequence[Generator],
        alphabet: Alphabet,
        temperature: float,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], Frontier]:
        """Draw T = ``count`` characters for each sequence, b by ``generators[b]`` alone; 0 is the likeliest character.

        Returns:
            ids (T, B), their surprisals (T, B) in nats under the model itself, and where the sequences stand then.
        """
        ...


def engine_for(model: Model, device: str = "auto", batch: int = 1) -> Engine:
    """The engine to run ``batch`` sequences on ``device``: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    On a CPU the compiled one, or numpy where there is none; on an accelerator torch. ``auto`` takes an accelerator only
    for a batch of ``LARGE_BATCH`` or more: for fewer, torch takes longer to import than they take to draw. An ensemble
    has one engine for each of its members.

    Raises:
        ResourceError: the device asked for is not there.
    """
    engine: Engine = engine_of([_engine_for(checkpoint, device, batch) for checkpoint in members(model)], model)
    return engine


def _engine_for(checkpoint: Checkpoint, device: str, batch: int) -> Engine:
    kind = checkpoint.config.model.kind
    if device == "cpu" or (device == "auto" and batch < LARGE_BATCH) or kind == "ngram":
        return _on_cpu(checkpoint)
    import torch

    available: dict[str, Callable[[], bool]] = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device == "auto":
        device = next((name for name, there in available.items() if there()), "cpu")
        if device == "cpu":
            return _on_cpu(checkpoint)
    elif not available[device]():
        raise ResourceError(f"--device {device}: torch sees no such device here; use --device cpu")
    from charrnn.model.drawing import DrawingTorchEngine
    from charrnn.model.torch_engine import TorchEngine

    engine = DrawingTorchEngine if device == "cuda" and kind == "recurrent" else TorchEngine
    return engine.from_checkpoint(checkpoint, device)


def _on_cpu(checkpoint: Checkpoint) -> Engine:
    kind = checkpoint.config.model.kind
    if kind == "ngram":
        from charrnn.baselines.ngram import NGramEngine

        return NGramEngine.from_checkpoint(checkpoint)
    if kind != "recurrent":
        from charrnn.model.torch_engine import TorchEngine

        return TorchEngine.from_checkpoint(checkpoint)
    from charrnn.decoding import native_engine

    if native_engine.runs(checkpoint.config.model, len(checkpoint.vocabulary)):
        return native_engine.NativeEngine.from_checkpoint(checkpoint)
    return NumpyEngine.from_checkpoint(checkpoint)
