"""Score a text or a split with a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from charrnn.checkpoint import Checkpoint
from charrnn.data.corpus import Corpus, PrepareSettings, is_corpus, resolve
from charrnn.data.reading import Reader
from charrnn.data.registry import is_registered
from charrnn.data.sources import gather
from charrnn.data.vocabulary import Vocabulary, to_codes
from charrnn.decoding.engine import Engine
from charrnn.errors import TextError, UsageError
from charrnn.evaluation.metrics import Figures, measure
from charrnn.evaluation.surprisal import Ids, surprisals, surprisals_of_lines

#: Texts up to this many characters are scored by the numpy engine: importing torch would take longer.
SHORT_TEXT = 20_000


def scoring_engine(checkpoint: Checkpoint, characters: int, device: str = "auto") -> Engine:
    """The engine that scores so many characters soonest, in float32."""
    if device in ("auto", "cpu") and characters <= SHORT_TEXT:
        from charrnn.decoding.numpy_engine import NumpyEngine

        return NumpyEngine.from_checkpoint(checkpoint)
    from charrnn.model.compute import choose_compute
    from charrnn.model.torch_engine import TorchEngine

    return TorchEngine.from_checkpoint(checkpoint, choose_compute(device, "fp32").device)


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


@dataclass(frozen=True)
class Text:
    """A text to score: in the checkpoint's ids (N,), with its length in UTF-8 bytes and where it came from."""

    name: str
    split: str | None
    ids: Ids
    bytes: int


def text_to_score(
    checkpoint: Checkpoint,
    text: str | None,
    split: str | None = None,
    *,
    encoding: str | None = None,
    newlines: str | None = None,
) -> Text:
    """What a user names as text to score: a file or ``-``, a corpus and its split, or (``None``) the model's own.

    Raises:
        TextError: it is missing, empty or cannot be read.
        UsageError: a split of something that has none.
    """
    corpus = trained_on(checkpoint) if text is None else _corpus(text)
    if corpus is None:
        if split is not None:
            raise UsageError(f"--split {split}: {text} is a plain text and is scored whole; prepare it to have splits")
        assert text is not None
        return read_text(checkpoint.vocabulary, text, encoding=encoding, newlines=newlines)
    if encoding is not None or newlines is not None:
        raise UsageError(f"--encoding, --newlines: {corpus.path} is prepared; they are for a plain text")
    ids, num_bytes = corpus_ids(checkpoint, corpus, split or "validation")
    return Text(corpus.name, split or "validation", ids, num_bytes)


def _corpus(text: str) -> Corpus | None:
    """The corpus that a name stands for, unless it names a file, a folder of texts or standard input."""
    path = Path(text)
    if text == "-" or (path.exists() and not is_corpus(path)):
        return None
    if is_corpus(path) or is_registered(text) or is_corpus(Path("corpora") / text):
        return resolve(text)
    return None


def read_text(vocabulary: Vocabulary, name: str, *, encoding: str | None = None, newlines: str | None = None) -> Text:
    """Read a text in a vocabulary's ids, a piece at a time."""
    pieces = list(_encoded(vocabulary, name, encoding, newlines))
    ids = np.concatenate([ids for ids, _ in pieces]) if pieces else np.zeros(0, np.uint8)
    return Text(name, None, ids, sum(count for _, count in pieces))


def _encoded(
    vocabulary: Vocabulary, name: str, encoding: str | None, newlines: str | None
) -> Iterator[tuple[Ids, int]]:
    """Pieces of a text as ids of the smallest type, each with its length in UTF-8 bytes."""
    dtype = np.min_scalar_type(len(vocabulary))
    for piece in _pieces(vocabulary, name, encoding, newlines):
        if vocabulary.unit == "byte":
            data = piece.encode("latin-1")
            yield vocabulary.encode_codes(np.frombuffer(data, np.uint8)).astype(dtype), len(data)
        else:
            num_bytes = len(piece) if piece.isascii() else len(piece.encode("utf-8", "surrogatepass"))
            yield vocabulary.encode_codes(to_codes(piece, "char")).astype(dtype), num_bytes


def _pieces(vocabulary: Vocabulary, name: str, encoding: str | None, newlines: str | None) -> Iterator[str]:
    """A text in pieces; the bytes of a byte model as the characters of the same numbers."""
    # Checks the options, and says what is wrong with them.
    settings = PrepareSettings(unit=vocabulary.unit, encoding=encoding, newlines=newlines or "keep")  # type: ignore[arg-type]
    with gather([name]) as found:
        yield from Reader(found.sources, unit=settings.unit, encoding=settings.encoding, newlines=settings.newlines)


def score_lines(
    checkpoint: Checkpoint,
    name: str,
    *,
    encoding: str | None = None,
    newlines: str | None = None,
    device: str = "auto",
) -> tuple[list[str], list[Figures]]:
    """The lines of a text, without their ends and without empty ones, and the figures of each scored on its own.

    Raises:
        TextError: no line has a character.
    """
    vocabulary = checkpoint.vocabulary
    whole = "".join(_pieces(vocabulary, name, encoding, newlines))
    if vocabulary.unit == "byte":
        whole = whole.encode("latin-1").decode("utf-8", "replace")
    lines = [line for line in whole.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line]
    if not lines:
        raise TextError(f"{name}: has no line with a character to score")
    ids: Sequence[Ids] = [vocabulary.encode(line) for line in lines]
    engine = scoring_engine(checkpoint, sum(map(len, ids)), device)
    nats = surprisals_of_lines(engine, ids, vocabulary.index("\n"))
    figures = [
        measure([(0, surprise)], line_ids, vocabulary, len(line.encode("utf-8", "surrogatepass")))
        for line, line_ids, surprise in zip(lines, ids, nats, strict=True)
    ]
    return lines, figures
