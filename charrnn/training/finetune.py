"""Fine-tuning: a trained model's weights for another corpus."""

from __future__ import annotations

import numpy as np
import torch

from charrnn.architectures import BY_SYMBOL
from charrnn.checkpoint import Arrays, Checkpoint
from charrnn.data.corpus import Corpus
from charrnn.errors import CheckpointError
from charrnn.model.build import build


def fit_vocabulary(checkpoint: Checkpoint, corpus: Corpus, seed: int) -> tuple[Checkpoint, str]:
    """A checkpoint's weights for another corpus's vocabulary: rows matched by character, new ones drawn.

    Returns:
        the checkpoint with ``corpus.vocabulary``, and one line that says what changed.

    Raises:
        CheckpointError: the units differ.
    """
    old, new = checkpoint.vocabulary, corpus.vocabulary
    if old.unit != new.unit:
        raise CheckpointError(f"{checkpoint.path}: its characters are {old.unit}s, the corpus's {new.unit}s")
    fresh = build(checkpoint.config.model, len(new), torch.Generator().manual_seed(seed)).weights()
    table = new.translation(old)  # (V new,) old id, or unknown's
    known = table != old.unknown
    known[-1] = True
    weights: Arrays = {}
    for name, array in checkpoint.weights.items():
        rows = np.array(array)
        if name in BY_SYMBOL:
            rows = np.where(known.reshape(-1, *[1] * (array.ndim - 1)), array[table], fresh[name])
        weights[name] = rows.astype(np.float32)
    added, dropped = int((~known).sum()), len(old) - int(known.sum())
    note = f"vocabulary: {int(known.sum()) - 1} characters kept, {added} new, {dropped} dropped"
    return Checkpoint(checkpoint.config, new, weights, {}, {}, path=checkpoint.path), note
