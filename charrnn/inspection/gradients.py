"""How far back a loss reaches: the vanishing gradient, measured (Bengio et al. 1994; Pascanu et al. 2013)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.cells import CELLS
from charrnn.checkpoint import Checkpoint
from charrnn.inspection.activations import run
from charrnn.inspection.report import Chart, Note, Report, Series, Table
from charrnn.inspection.subject import Subject

#: Characters read before each stretch, so that it begins with a state that the model would have.
WARMUP = 200
#: Steps of all stretches together whose graph is in memory at once.
AT_ONCE = 4000


def gradient_norms(
    checkpoint: Checkpoint, ids: NDArray[np.integer[Any]], warmup: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Norms of the gradient of the last character's loss, in float64, averaged over B stretches of text.

    Args:
        ids: (warmup + K + 1, B); the loss is −log p, in nats, of the last row given the rows before.

    Returns:
        (K,) each, entry k − 1 for the character k before the one predicted: ``input`` for its vector, and
        ``h layer 0``, ``c layer 0`` ... for the state once it was read.
        Each is the total derivative, through all paths.
    """
    import torch

    config = checkpoint.config.model
    weights = {name: torch.from_numpy(array.astype(np.float64)) for name, array in checkpoint.weights.items()}
    text = torch.from_numpy(np.asarray(ids, np.int64))
    states = run(torch, config, weights, text[:warmup], keep=frozenset()).states if warmup else None
    weights["embedding.weight"].requires_grad_()  # so that all that follows from an input is in the graph
    names = CELLS[config.cell].state
    record = run(torch, config, weights, text[warmup:-1], states, keep=frozenset(names))
    loss = torch.nn.functional.cross_entropy(record.logits[-1], text[-1], reduction="sum")
    wanted = {"input": record.inputs}
    wanted |= {f"{name} layer {k}": part[name] for k, part in enumerate(record.parts) for name in names}
    every = [tensor for tensors in wanted.values() for tensor in tensors]
    found = iter(torch.autograd.grad(loss, every, allow_unused=True))
    result = {}
    for name, tensors in wanted.items():
        gradients = [next(found) for _ in tensors]
        norms = [0.0 if g is None else float(g.norm(dim=-1).mean()) for g in gradients]
        result[name] = np.asarray(norms[::-1])
    return result


def distances(reach: int) -> list[int]:
    """1, 2, 4 ... and the reach itself.

    >>> distances(10)
    [1, 2, 4, 8, 10]
    """
    return [*(1 << n for n in range((reach - 1).bit_length())), reach]


def gradients(subject: Subject, reach: int = 200, places: int = 16) -> Report:
    """Mean norm of d loss_t / d h_{t−k}, and of the inputs', for k = 1, 2, 4 ... ``reach``.

    Raises:
        TextError: the text is too short.
    """
    subject.require(2)
    T = len(subject.ids)
    reach = min(reach, T - 1)
    warmup = min(WARMUP, T - 1 - reach)
    starts = np.unique(np.linspace(0, T - 1 - reach - warmup, places).astype(int))
    stretches = np.asarray(subject.ids)[starts + np.arange(warmup + reach + 1)[:, None]]  # (warmup + reach + 1, B)
    groups = np.array_split(stretches, -(-len(starts) * reach // AT_ONCE), axis=1)
    found = [gradient_norms(subject.checkpoint, group, warmup) for group in groups]
    shares = [group.shape[1] / len(starts) for group in groups]
    norms = {
        name: np.sum([share * each[name] for share, each in zip(shares, found, strict=True)], 0) for name in found[0]
    }

    ks = distances(reach)
    rows = [[k, *(float(values[k - 1]) for values in norms.values())] for k in ks]
    series = [Series(name, list(map(float, ks)), [float(values[k - 1]) for k in ks]) for name, values in norms.items()]
    chart = Chart("Gradient of a loss", "characters before", "norm", series, "lines", log_x=True, log_y=True)
    inputs = norms["input"]
    faded = np.flatnonzero(inputs < inputs[0] / 100)
    reached = f"after {faded[0] + 1} characters" if len(faded) else f"not within {reach} characters"
    note = (
        f"Norms of d loss(t) / d state(t - k), mean over {len(starts)} places. "
        f"The gradient at the input falls below 1 % of that at k = 1 {reached}."
    )
    document = {
        "schema": 1,
        "text": subject.name,
        "cell": subject.checkpoint.config.model.cell,
        "places": len(starts),
        "distances": ks,
        "norms": {name: [float(values[k - 1]) for k in ks] for name, values in norms.items()},
    }
    return Report("Gradients", [Note(note), chart, Table(["k", *norms], rows)], document)
