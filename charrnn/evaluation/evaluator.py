"""Score a text or a split with a checkpoint."""

from __future__ import annotations

from pathlib import Path

from charrnn.checkpoint import Checkpoint
from charrnn.data.corpus import Corpus
from charrnn.decoding.engine import Engine
from charrnn.errors import TextError
from charrnn.evaluation.metrics import Figures, measure
from charrnn.evaluation.surprisal import Ids, surprisals

#: Texts up to this many characters are scored by the numpy engine: importing torch would take longer.
SHORT_TEXT = 20_000


def scoring_engine(checkpoint: Checkpoint, characters: int, device: str = "auto") -> Engine:
    """The engine that scores so many characters soonest, in float32."""
    if device == "cpu" or device == "auto":
        from charrnn.decoding.numpy_engine import NumpyEngine

        if characters <= SHORT_TEXT:
            return NumpyEngine.from_checkpoint(checkpoint)
    from charrnn.decoding.torch_engine import TorchEngine

    return TorchEngine.from_checkpoint(checkpoint, device)


def evaluate(
    checkpoint: Checkpoint,
    ids: Ids,
    num_bytes: int,
    *,
    device: str = "auto",
    exact: bool = False,
    window: int | None = None,
    engine: Engine | None = None,
) -> Figures:
    """Figures of a text given as the checkpoint's ids, (N,), and its length in bytes.

    Raises:
        TextError: the text is empty.
    """
    if len(ids) == 0:
        raise TextError("the text to score is empty; a perplexity needs at least one character")
    vocabulary = checkpoint.vocabulary
    engine = engine or scoring_engine(checkpoint, len(ids), device)
    pieces = surprisals(engine, ids, vocabulary.index("\n"), exact=exact, window=window)
    return measure(pieces, ids, vocabulary, num_bytes)


def corpus_ids(checkpoint: Checkpoint, corpus: Corpus, split: str) -> tuple[Ids, int]:
    """A split of a corpus in the checkpoint's ids, and its bytes.

    Raises:
        TextError: the split is empty, or the corpus has another unit.
    """
    if corpus.vocabulary.unit != checkpoint.vocabulary.unit:
        raise TextError(
            f"{corpus.path}: its characters are {corpus.vocabulary.unit}s, the model's {checkpoint.vocabulary.unit}s; "
            f"prepare it with --unit {checkpoint.vocabulary.unit}"
        )
    ids = corpus.ids(split)
    if corpus.vocabulary.codes != checkpoint.vocabulary.codes:
        ids = corpus.vocabulary.translation(checkpoint.vocabulary)[ids]
    return ids, corpus.splits[split].bytes


def trained_on(checkpoint: Checkpoint) -> Corpus:
    """The corpus that a checkpoint was trained on.

    Raises:
        TextError: it is gone, or its text is no longer the one trained on.
    """
    path = Path(str(checkpoint.corpus.get("path", "")))
    if not checkpoint.corpus.get("path") or not (path / "corpus.json").is_file():
        raise TextError(
            f"the corpus that {checkpoint.path} was trained on is not at {path}; name a text with --text FILE"
        )
    corpus = Corpus.open(path)
    if corpus.fingerprint != checkpoint.corpus.get("fingerprint"):
        raise TextError(f"{path}: not the text that {checkpoint.path} was trained on; name a text with --text FILE")
    return corpus
