"""Dynamic evaluation: a model that goes on learning from the text it has already scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charrnn.checkpoint import Checkpoint, within_reach
from charrnn.decoding.ensemble import Ensemble, Model, mixture
from charrnn.decoding.ensemble import members as members_of
from charrnn.errors import DivergedError, TextError, UsageError
from charrnn.evaluation.metrics import Figures, measure
from charrnn.evaluation.surprisal import Ids, Piece, cross_entropy
from charrnn.model.build import build
from charrnn.model.compute import choose_compute
from charrnn.training.optimizer import AdamW

#: Windows over which the mean is taken that tells whether learning has diverged.
STRETCH = 32
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

    def __post_init__(self) -> None:
        if not 0 <= self.learning_rate < math.inf:
            raise UsageError(
                f"--dynamic-rate, --adapt-rate: expected a finite number from 0, got {self.learning_rate:g}"
            )


class Learner:
    """A model that reads a text once, window by window: first it is asked, then it learns the answer.

    Krause et al. 2018 with Adam's scaling instead of statistics of the training text, which a checkpoint lacks.
    Computes in float32, without dropout, in one lane with the state carried along.

    Args:
        checkpoint: the model to begin with; it is left as it is.
        device: where to compute, as ``--device`` has it.
    """

    def __init__(self, checkpoint: Checkpoint, settings: Adaptation, device: str = "auto") -> None:
        self.checkpoint = checkpoint
        self.device = choose_compute(device, "fp32").device
        model = checkpoint.config.model
        rates: dict[str, Any] = {name: 0.0 for name in model.to_mapping() if name.endswith("dropout")}
        undropped = replace(model, **rates)
        self.model = build(undropped, len(checkpoint.vocabulary))
        self.model.load_weights(checkpoint.weights)
        # In evaluation mode cuDNN's layers give no gradients.
        self.model.to(self.device).train()
        self.optimizer = AdamW(
            [(list(self.model.parameters()), 0.0)], lr=settings.learning_rate, betas=(0.0, settings.BETA2)
        )
        self.state = self.model.initial_state(1)
        self._logits: Tensor | None = None

    def predict(self, ids: Ids) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Read characters (T,) → logits (T, V) of what follows each."""
        window = torch.as_tensor(np.asarray(ids, np.int64), device=self.device)[:, None]
        logits, state = self.model(window, self.state)  # (T, 1, V)
        self.state = tuple(part.detach() for part in state)
        self._logits = logits[:, 0]
        array: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = self._logits.detach().float().cpu().numpy()
        return array

    def learn(self, targets: Ids) -> None:
        """One step on what did follow the characters read last, (T,)."""
        assert self._logits is not None, "predict first"
        truth = torch.as_tensor(np.asarray(targets, np.int64), device=self.device)
        F.cross_entropy(self._logits.float(), truth).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._logits = None

    def adapted(self) -> Checkpoint:
        """The model as it is now."""
        weights = {k: np.array(array) for k, array in self.model.weights().items()}
        return replace(self.checkpoint, weights=weights, sha256="")


def surprisals_on_the_way(learners: Sequence[Learner], ids: Ids, first: int, window: int) -> Iterator[Piece]:
    """Score a text while learning from it.

    A window is scored, and its surprisals are yielded, before any learner is told what it says: no character's score
    depends on itself or on a later one. Several learners speak as their ensemble does, and each learns by itself.

    Args:
        learners: the models; left as the text has made them.
        ids: the text, (N,).
        first: id of the newline that is taken to stand before the text.
        window: T.

    Yields:
        pieces that cover 0..N-1 in order.

    Raises:
        DivergedError: a learner's figures are no longer finite, or over a stretch twice as bad as a guess among all
            symbols, or as what had learnt nothing yet where that was worse.
    """
    before, guess = first, math.log(learners[0].model.symbols)
    calm = stretch = 0.0
    for start in range(0, len(ids), window):
        targets = np.asarray(ids[start : start + window])
        inputs = np.concatenate(([before], targets[:-1]))
        logits = [learner.predict(inputs) for learner in learners]
        if not all(np.isfinite(each).all() for each in logits):
            raise DivergedError(DIVERGED)
        nats = cross_entropy(mixture(logits), targets)
        # The first window is scored by what has learnt nothing yet.
        calm = calm or max(guess, float(nats.mean()))
        stretch += float(nats.sum())
        if (start + window) % (STRETCH * window) == 0:
            if stretch > 2 * calm * STRETCH * window:
                raise DivergedError(DIVERGED)
            stretch = 0.0
        yield start, nats
        for learner in learners:
            learner.learn(targets)
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
    learners = [Learner(checkpoint, settings, device) for checkpoint in members_of(model)]
    pieces = surprisals_on_the_way(learners, ids, vocabulary.index("\n"), settings.window)
    figures = measure(_told(pieces, len(ids), progress), ids, vocabulary, num_bytes)
    adapted = tuple(learner.adapted() for learner in learners)
    if not all(within_reach(array) for each in adapted for array in each.weights.values()):
        raise DivergedError(DIVERGED)
    return adapted[0] if len(adapted) == 1 else Ensemble(adapted), figures


def _told(pieces: Iterator[Piece], total: int, progress: Callable[[int, int], None] | None) -> Iterator[Piece]:
    for start, nats in pieces:
        yield start, nats
        if progress is not None:
            progress(start + len(nats), total)
