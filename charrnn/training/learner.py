"""A network that goes on learning from what it reads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from charrnn.checkpoint import Checkpoint
from charrnn.decoding.ensemble import Floats
from charrnn.errors import DivergedError
from charrnn.evaluation.surprisal import Ids
from charrnn.model.build import build
from charrnn.model.compute import choose_compute
from charrnn.training.dynamic import DIVERGED, Adaptation
from charrnn.training.optimizer import AdamW

#: Windows over which the mean is taken that tells whether learning has diverged.
STRETCH = 32


class Learner:
    """A network as a :class:`~charrnn.training.dynamic.Reader`: a step of gradient descent a window.

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
        # Left in training mode, as it is built: in evaluation mode cuDNN's layers give no gradients.
        self.model.to(self.device)
        self.optimizer = AdamW(
            [(list(self.model.parameters()), 0.0)], lr=settings.learning_rate, betas=(0.0, settings.BETA2)
        )
        self.state = self.model.initial_state(1)
        self._logits: Tensor | None = None
        # What windows cost: the sum over the last stretch, and of the first, scored by what had learnt nothing yet.
        self._windows, self._stretch, self._first = 0, 0.0, 0.0

    def predict(self, ids: Ids) -> Floats:
        """Read characters (T,) → logits (T, V) of what follows each.

        Raises:
            DivergedError: they are not finite.
        """
        window = torch.as_tensor(np.asarray(ids, np.int64), device=self.device)[:, None]
        logits, state = self.model(window, self.state)  # (T, 1, V)
        self.state = tuple(part.detach() for part in state)
        self._logits = logits[:, 0]
        array: Floats = self._logits.detach().cpu().numpy()
        if not np.isfinite(array).all():
            raise DivergedError(DIVERGED)
        return array

    def learn(self, targets: Ids) -> None:
        """One step on what did follow the characters read last, (T,).

        Raises:
            DivergedError: over a stretch they cost twice as much as a guess among all symbols, or as the first
                window where that was worse.
        """
        assert self._logits is not None, "predict first"
        truth = torch.as_tensor(np.asarray(targets, np.int64), device=self.device)
        loss = F.cross_entropy(self._logits, truth)
        self._watch(float(loss.detach()))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._logits = None

    def adapted(self) -> Checkpoint:
        """The model as it is now."""
        weights = {k: np.array(array) for k, array in self.model.weights().items()}
        return replace(self.checkpoint, weights=weights, sha256="")

    def _watch(self, nats: float) -> None:
        self._first = self._first or max(math.log(self.model.symbols), nats)
        self._windows, self._stretch = self._windows + 1, self._stretch + nats
        if self._windows % STRETCH == 0:
            if self._stretch > 2 * self._first * STRETCH:
                raise DivergedError(DIVERGED)
            self._stretch = 0.0
