"""Interpretable cells, found on their own (Karpathy, Johnson & Fei-Fei 2016, without the looking by hand)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.cells import CELLS
from charrnn.checkpoint import Checkpoint
from charrnn.errors import TextError
from charrnn.evaluation.surprisal import cross_entropy
from charrnn.inspection.activations import Activations, States, activations, memory, run
from charrnn.inspection.association import find, halves
from charrnn.inspection.features import features_of
from charrnn.inspection.report import Note, Report, Table, Value
from charrnn.inspection.subject import Subject

#: Characters of the second half over which a clamped model's loss is measured, and steps run at a time.
CLAMPED, WINDOW = 2000, 128
SHORTEST = 200


def cells(subject: Subject, feature: tuple[str, ...] = (), top: int = 3, seed: int = 0) -> Report:
    """The cells that track each feature best, chosen on the first half of the text and scored on the second.

    Beside each: the same with mixed labels, the best cell of an untrained network of the same shape, and what the
    model loses, in bits per character, when the cell's output is held at its mean.

    Raises:
        UsageError: a bad ``NAME=REGEX``.
        TextError: the text is too short, or none of the features varies in it.
    """
    features = features_of(subject.text, feature)
    subject.require(SHORTEST)
    checkpoint, T = subject.checkpoint, len(subject.ids)
    judged = [first.name for first, _ in halves(features, T)]
    if not judged:
        raise TextError(f"{subject.name}: no feature varies in both halves of it; name a longer --text")
    H = checkpoint.config.model.hidden_size
    part = memory(checkpoint)

    record = activations(checkpoint, subject.ids, "".join(CELLS[checkpoint.config.model.cell].state))
    found = find(record[part].reshape(T, -1), features, top, seed)
    random = activations(untrained(checkpoint, seed), subject.ids, part)
    chance = {item.feature: item.score for item in find(random[part].reshape(T, -1), features, 1, seed)}
    picks = sorted({divmod(item.cell, H) for item in found})
    lost = clamp_bits(checkpoint, subject.ids, record, picks)

    listed: list[dict[str, Any]] = []
    rows: list[list[Value]] = []
    for item in found:
        layer, unit = divmod(item.cell, H)
        random_score, bits = chance[item.feature], lost[layer, unit]
        listed.append(
            {
                "layer": layer,
                "unit": unit,
                "feature": item.feature,
                "kind": item.kind,
                "score": item.score,
                "null": item.null,
                "untrained": random_score,
                "clamp_bits": bits,
            }
        )
        scores = [round(score, 3) for score in (item.score, item.null, random_score)]
        rows.append([f"{layer}.{unit}", item.feature, item.kind, *scores, round(bits, 4)])
    columns = ["cell", "feature", "kind", "score", "mixed labels", "untrained", "bits lost if clamped"]
    missing = [item.name for item in features if item.name not in judged]
    note = (
        f"{T:,} characters: cells chosen on the first half, scored on the second. auc: how often the cell is higher "
        "where the feature is on (chance 0.5); rho: rank correlation (chance 0). Mixed labels: the same cell, "
        "with the labels in pieces that stand in another order."
    )
    if missing:
        note += f" Too little in this text to judge: {', '.join(missing)}."
    if found:
        note += f" Look at one with: charrnn inspect cell {rows[0][0]}"
    return Report("Cells", [Note(note), Table(columns, rows)], {"schema": 1, "text": subject.name, "cells": listed})


def untrained(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """A model of the same shape with fresh weights."""
    import dataclasses

    import torch

    from charrnn.model.network import CharRNN

    generator = torch.Generator().manual_seed(seed)
    network = CharRNN(checkpoint.config.model, len(checkpoint.vocabulary), generator)
    return dataclasses.replace(checkpoint, weights=network.weights(), sha256="")


def clamp_bits(
    checkpoint: Checkpoint, ids: NDArray[np.integer[Any]], record: Activations, picks: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], float]:
    """Change in bits per character when a cell's output is held at its mean, for each (layer, unit) of ``picks``.

    All are run side by side, with an untouched model, over the beginning of the second half.

    Args:
        ids: the text, (T,).
        record: all parts of the state over that text.
    """
    config, middle = checkpoint.config.model, len(ids) // 2
    B = 1 + len(picks)
    mask = np.zeros((config.num_layers, B, config.hidden_size), bool)
    for lane, (layer, unit) in enumerate(picks, start=1):
        mask[layer, lane, unit] = True
    means = np.broadcast_to(record["h"].mean(0)[:, None], mask.shape)
    states: States = [
        tuple(np.repeat(record[name][middle - 2, layer][None], B, 0) for name in CELLS[config.cell].state)
        for layer in range(config.num_layers)
    ]
    text = np.asarray(ids[middle - 1 : middle + CLAMPED], np.int64)  # the first only leads to the second
    nats = np.zeros(B)
    for at in range(0, len(text) - 1, WINDOW):
        targets = np.repeat(text[at + 1 : at + 1 + WINDOW, None], B, 1)
        inputs = np.repeat(text[at : at + len(targets), None], B, 1)
        window = run(np, config, checkpoint.weights, inputs, states, keep=frozenset(), hold=(mask, means))
        states = window.states
        nats += cross_entropy(window.logits, targets).sum(0)
    bits = nats / math.log(2) / (len(text) - 1)
    return {pick: float(bits[lane] - bits[0]) for lane, pick in enumerate(picks, start=1)}
