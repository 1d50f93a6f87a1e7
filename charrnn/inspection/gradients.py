"""How far back a loss reaches: the vanishing gradient, measured (Bengio et al. 1994; Pascanu et al. 2013)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.cells import CELLS
from charrnn.checkpoint import Checkpoint, short_names
from charrnn.inspection.activations import run
from charrnn.inspection.report import Block, Chart, Note, Report, Series, Table
from charrnn.inspection.subject import Subject
from charrnn.training.run import Run

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


def profile(subject: Subject, reach: int, places: int) -> tuple[dict[str, NDArray[np.float64]], int]:
    """Norms as :func:`gradient_norms` has them, (``reach``,) each, mean over so many places of a text, and how many."""
    T = len(subject.ids)
    warmup = min(WARMUP, T - 1 - reach)
    starts = np.unique(np.linspace(0, T - 1 - reach - warmup, places).astype(int))
    stretches = np.asarray(subject.ids)[starts + np.arange(warmup + reach + 1)[:, None]]  # (warmup + reach + 1, B)
    groups = np.array_split(stretches, -(-len(starts) * reach // AT_ONCE), axis=1)
    found = [gradient_norms(subject.checkpoint, group, warmup) for group in groups]
    shares = [group.shape[1] / len(starts) for group in groups]
    norms = {
        name: np.sum([share * each[name] for share, each in zip(shares, found, strict=True)], 0) for name in found[0]
    }
    return norms, len(starts)


def gradients(subject: Subject, *others: Subject, reach: int = 200, places: int = 16) -> Report:
    """Mean norm of d loss_t / d h_{t−k}, and of the inputs', for k = 1, 2, 4 ... ``reach``; of several models those of
    the inputs, and of the last layer's states, side by side. Beside them the gradients' norms while each was trained,
    where its run is there.

    Raises:
        TextError: a text is too short.
    """
    subjects = (subject, *others)
    for each in subjects:
        each.require(2)
    room = min(len(each.ids) - 1 for each in subjects)
    short = f" The text reaches back {room:,} characters, and not {reach:,}." if room < reach else ""
    reach = min(reach, room)
    ks, names = distances(reach), short_names([each.checkpoint.path or Path("model") for each in subjects])
    models: list[dict[str, Any]] = []
    note = (
        "How far back a loss reaches: norms of its gradient, through all paths, at the character k before the one "
        "predicted: at its vector (the input), and at the state once it was read."
    )
    blocks: list[Block] = [Note(note + short)]
    for name, each in zip(names, subjects, strict=True):
        norms, count = profile(each, reach, places)
        faded = np.flatnonzero(norms["input"] < norms["input"][0] / 100)
        reached = f"is more than 1 % of that at k = 1 for {reach:,} characters"
        if len(faded):
            reached = f"falls below 1 % of that at k = 1 after {faded[0] + 1:,} characters"
        models.append(
            {
                "checkpoint": str(each.checkpoint.path),
                "cell": each.checkpoint.config.model.cell,
                "text": each.name,
                "places": count,
                "faded": int(faded[0] + 1) if len(faded) else None,
                "norms": {part: [float(values[k - 1]) for k in ks] for part, values in norms.items()},
            }
        )
        taken = f"{count} place" + ("" if count == 1 else "s")
        if count < places:
            taken += f" (the text has no room for {places:,})"
        blocks.append(Note(f"{name}: mean over {taken}; the gradient at the input {reached}."))
    sections = {"the input and the states of all layers": models[0]["norms"]}
    if others:
        last = [f" layer {each.checkpoint.config.model.num_layers - 1}" for each in subjects]
        sections = {
            "the input": {name: model["norms"]["input"] for name, model in zip(names, models, strict=True)},
            "the state of the last layer": {
                f"{name}, {part}": model["norms"][part + layer]
                for name, model, layer in zip(names, models, last, strict=True)
                for part in CELLS[model["cell"]].state
            },
        }
    for where, lines in sections.items():
        series = [Series(name, list(map(float, ks)), values) for name, values in lines.items()]
        chart = Chart(f"Gradient at {where}", "characters before", "norm", series, "lines", log_x=True, log_y=True)
        rows = [[k, *(values[n] for values in lines.values())] for n, k in enumerate(ks)]
        blocks += [chart, Table(["k", *lines], rows, f"Norms at {where}")]
    training = [found for name, each in zip(names, subjects, strict=True) if (found := while_trained(name, each))]
    if training:
        title = "Gradients' norms while training"
        blocks.append(Chart(title, "step", "norm before clipping", training, "lines", log_y=True))
    document = {
        "schema": 1,
        **{key: models[0][key] for key in ("text", "cell", "places")},
        "distances": ks,
        "norms": models[0]["norms"],
        "models": models,
    }
    return Report("Gradients", blocks, document)


def while_trained(name: str, subject: Subject) -> Series | None:
    """The gradient norms in a run's ``metrics.jsonl``, before they were clipped; None where there are none."""
    path = subject.checkpoint.path
    lines = Run(path.parent).metrics() if path is not None else []
    norms = [(line["step"], line.get("gradient_norm")) for line in lines]
    found = [(float(step), norm) for step, norm in norms if isinstance(norm, float) and 0 < norm < math.inf]
    if len(found) < 2:
        return None
    clip = subject.checkpoint.config.training.clip
    said = f"clipped at {clip:g}" if clip else "not clipped"
    return Series(f"{name}, {said}", [step for step, _ in found], [norm for _, norm in found])
