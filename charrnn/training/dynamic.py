"""Dynamic evaluation: a model that goes on learning from the text it has already scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np

from charrnn.architectures import TEXT
from charrnn.baselines.ngram import NGramEngine
from charrnn.checkpoint import Checkpoint, within_reach
from charrnn.decoding.ensemble import Ensemble, Floats, Model, members, mixture, normalised
from charrnn.errors import DivergedError, TextError, UsageError
from charrnn.evaluation.metrics import Figures, measure
from charrnn.evaluation.surprisal import Ids, Piece, cross_entropy

#: An n-gram model counts anew when it has read so many characters, and this part of what it counted last.
LEAST_READ, READ_SHARE = 64, 1 / 256
#: Windows over which an ensemble's shares are averaged, and as how many count those that it begins with if they were
#: given; equal ones count as one.
SHARES_WINDOWS, GIVEN_WINDOWS = 128, 32
DIVERGED = "learning from the text diverged; its learning rate is too high for this model"


@dataclass(frozen=True)
class Adaptation:
    """How a model learns from what it reads.

    The defaults were chosen on 24,000 characters of tiny Shakespeare's training text, with a model that had not been
    trained on them; see benchmarks/RESULTS.md.

    Args:
        learning_rate: of Adam without momentum: each weight's gradient over the root mean square of those so far.
        window: characters between two steps, and how far gradients go back.

    Raises:
        UsageError: a rate that is negative or no number.
    """

    learning_rate: float = 3e-4
    window: int = 32

    #: Decay of the mean of squared gradients.
    BETA2: ClassVar[float] = 0.999

    @classmethod
    def of(cls, model: Model, learning_rate: float | None) -> Adaptation:
        """A model's, at the rate that a user gives, if at all.

        Raises:
            UsageError: a rate that is none, or for what has none.
        """
        if learning_rate is None:
            return cls()
        if only_counts(model):
            raise UsageError("--dynamic-rate, --adapt-rate: an n-gram model counts; it has no learning rate")
        return cls(learning_rate)

    def __post_init__(self) -> None:
        if not 0 <= self.learning_rate < math.inf:
            raise UsageError(
                f"--dynamic-rate, --adapt-rate: expected a finite number from 0, got {self.learning_rate:g}"
            )


class Reader(Protocol):
    """What reads a text once, window by window: first it is asked, then it learns the answer."""

    def predict(self, ids: Ids) -> Floats:
        """Read characters (T,) → logits (T, V) of what follows each."""
        ...

    def learn(self, targets: Ids) -> None:
        """Be told what did follow the characters read last, (T,)."""
        ...

    def adapted(self) -> Model:
        """The model as it is now."""
        ...


class Recounter:
    """An n-gram model as a :class:`Reader`: it counts what it has read with what it was made of, every now and then.

    Args:
        checkpoint: the model to begin with; it is left as it is.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.engine = NGramEngine.from_checkpoint(checkpoint)
        self.state = self.engine.initial_state(1)
        self._read: list[Ids] = []
        self._unread = self._enough()

    def predict(self, ids: Ids) -> Floats:
        """Read characters (T,) → logits (T, V) of what follows each."""
        logits, self.state = self.engine.run(np.asarray(ids, np.int64)[:, None], self.state)
        return logits[:, 0]

    def learn(self, targets: Ids) -> None:
        """Note what did follow the characters read last, (T,), and count if that is due."""
        self._read.append(np.asarray(targets))
        self._unread -= len(targets)
        if self._unread <= 0:
            self.checkpoint = self.adapted()
            before = self.state[0][:, 0, 0]
            self.engine = NGramEngine.from_checkpoint(self.checkpoint)
            self.state = self.engine.initial_state(1)
            # A short text may have grown longer n-grams than it had: their contexts begin with nothing.
            self.state[0][len(self.state[0]) - len(before) :, 0, 0] = before
            self._unread = self._enough()
            self._read = []

    def adapted(self) -> Checkpoint:
        """The model as it is now."""
        text = self.checkpoint.weights[TEXT]
        read = np.concatenate([text, *(part.astype(text.dtype) for part in self._read)])
        return replace(self.checkpoint, weights={TEXT: read}, sha256="")

    def _enough(self) -> int:
        return max(LEAST_READ, round(READ_SHARE * len(self.checkpoint.weights[TEXT])))


class Readers:
    """Several as one :class:`Reader` of their ensemble. Each learns by itself, at the same time as the others, and the
    ensemble what share each deserves: the mean, over the last windows, of how likely it is that a character came from
    each (online EM; Cappé & Moulines 2009).

    Args:
        readers: K of them.
        shares: to begin with; None for equal ones.
    """

    def __init__(self, readers: Sequence[Reader], shares: Sequence[float] | None = None) -> None:
        self.readers = readers
        self.shares = normalised(np.ones(len(readers))) if shares is None else tuple(shares)
        self._logits: list[Floats] = []
        self._windows = 1 if shares is None else GIVEN_WINDOWS
        self._threads = ThreadPoolExecutor(len(readers))  # in PyTorch they do not wait for each other

    def predict(self, ids: Ids) -> Floats:
        """Read characters (T,) → logits (T, V) of what follows each."""
        self._logits = list(self._threads.map(lambda reader: reader.predict(ids), self.readers))
        return mixture(self._logits, self.shares)

    def learn(self, targets: Ids) -> None:
        """Tell each what did follow the characters read last, (T,)."""
        parts = np.log(self.shares)[:, None] - [cross_entropy(logits, targets) for logits in self._logits]  # (K, T)
        from_each = np.exp(parts - np.logaddexp.reduce(parts))
        self._windows = min(self._windows + 1, SHARES_WINDOWS)
        self.shares = normalised(self.shares + (from_each.mean(axis=1) - self.shares) / self._windows)
        list(self._threads.map(lambda reader: reader.learn(targets), self.readers))

    def adapted(self) -> Ensemble:
        """The ensemble as it is now."""
        checkpoints = [checkpoint for reader in self.readers for checkpoint in members(reader.adapted())]
        return Ensemble(tuple(checkpoints), self.shares)


def reader_of(model: Model, settings: Adaptation, device: str = "auto") -> Reader:
    """What reads a text with a model and learns from it."""
    if isinstance(model, Ensemble):
        return Readers([reader_of(checkpoint, settings, device) for checkpoint in model.members], model.shares)
    if model.config.model.kind == "ngram":
        return Recounter(model)
    from charrnn.training.learner import Learner  # with PyTorch, which takes a while to load

    return Learner(model, settings, device)


def only_counts(model: Model) -> bool:
    """Whether there is no network in it, so that a learning rate means nothing."""
    return all(checkpoint.config.model.kind == "ngram" for checkpoint in members(model))


def surprisals_on_the_way(reader: Reader, ids: Ids, first: int, window: int) -> Iterator[Piece]:
    """Score a text while learning from it.

    A window is scored, and its surprisals are yielded, before the reader is told what it says: no character's score
    depends on itself or on a later one.

    Args:
        reader: the model; left as the text has made it.
        ids: the text, (N,).
        first: id of the newline that is taken to stand before the text.
        window: T.

    Yields:
        pieces that cover 0..N-1 in order.

    Raises:
        DivergedError: a network's learning rate is too high.
    """
    before = first
    for start in range(0, len(ids), window):
        targets = np.asarray(ids[start : start + window])
        logits = reader.predict(np.concatenate(([before], targets[:-1])))
        yield start, cross_entropy(logits, targets)
        reader.learn(targets)
        before = int(targets[-1])


def adapt(
    model: Model,
    ids: Ids,
    num_bytes: int,
    *,
    settings: Adaptation | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Model, Figures]:
    """The model that dynamic evaluation of a text leaves, and the text's figures under it.

    Args:
        ids: the text in the model's ids, (N,).
        num_bytes: its length in bytes.
        progress: told (characters done, N).

    Raises:
        TextError: the text is empty.
        DivergedError: the learning rate is too high for this model and text.
    """
    if len(ids) == 0:
        raise TextError("the text to learn from is empty")
    settings = settings or Adaptation()
    vocabulary = model.vocabulary
    reader = reader_of(model, settings, device)
    pieces = surprisals_on_the_way(reader, ids, vocabulary.index("\n"), settings.window)
    figures = measure(_told(pieces, len(ids), progress), ids, vocabulary, num_bytes)
    adapted = reader.adapted()
    if not all(within_reach(array) for each in members(adapted) for array in each.weights.values()):
        raise DivergedError(DIVERGED)
    return adapted, figures


def _told(pieces: Iterator[Piece], total: int, progress: Callable[[int, int], None] | None) -> Iterator[Piece]:
    for start, nats in pieces:
        yield start, nats
        if progress is not None:
            progress(start + len(nats), total)
