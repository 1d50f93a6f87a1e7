"""Score a text or a split with a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.checkpoint import Checkpoint
from charrnn.data.corpus import Corpus, PrepareSettings, is_corpus, resolve
from charrnn.data.reading import Reader
from charrnn.data.registry import is_registered
from charrnn.data.sources import gather
from charrnn.data.vocabulary import Unit, Vocabulary, from_codes, to_codes
from charrnn.decoding.engine import Engine, engine_for
from charrnn.decoding.ensemble import Model, engine_of, members
from charrnn.decoding.generator import Sample, read
from charrnn.errors import TextError, UsageError
from charrnn.evaluation.metrics import Figures, measure
from charrnn.evaluation.surprisal import Ids, Together, surprisals, surprisals_of_lines

#: Texts up to this many characters are scored by the numpy engine: importing torch would take longer.
SHORT_TEXT = 20_000


def scoring_engine(model: Model, characters: int, device: str = "auto") -> Engine:
    """The engine that scores so many characters soonest, in float32."""
    engines = [_scoring_engine(checkpoint, characters, device) for checkpoint in members(model)]
    engine: Engine = engine_of(engines, model)
    return engine


def _scoring_engine(checkpoint: Checkpoint, characters: int, device: str) -> Engine:
    kind = checkpoint.config.model.kind
    if kind == "ngram":
        return engine_for(checkpoint)
    if device in ("auto", "cpu") and characters <= SHORT_TEXT and kind == "recurrent":
        from charrnn.decoding.numpy_engine import NumpyEngine

        return NumpyEngine.from_checkpoint(checkpoint)
    from charrnn.model.compute import choose_compute
    from charrnn.model.torch_engine import TorchEngine

    return TorchEngine.from_checkpoint(checkpoint, choose_compute(device, "fp32").device)


def evaluate(
    model: Model,
    ids: Ids,
    num_bytes: int,
    *,
    device: str = "auto",
    exact: bool = False,
    window: int | None = None,
    engine: Engine | None = None,
    together: Together | None = None,
) -> Figures:
    """Figures of a text given as the model's ids, (N,), and its length in bytes.

    Args:
        together: processes that share the work; each has the whole figures.

    Raises:
        TextError: the text is empty.
    """
    if len(ids) == 0:
        raise TextError("the text to score is empty; a perplexity needs at least one character")
    vocabulary = model.vocabulary
    engine = engine or scoring_engine(model, len(ids), device)
    pieces = surprisals(engine, ids, vocabulary.index("\n"), exact=exact, window=window, together=together)
    return measure(pieces, ids, vocabulary, num_bytes, together)


def corpus_ids(model: Model, corpus: Corpus, split: str) -> tuple[Ids, int]:
    """A split of a corpus in the model's ids, and its bytes.

    Raises:
        TextError: the split is empty, or the corpus has another unit.
    """
    if corpus.vocabulary.unit != model.vocabulary.unit:
        raise TextError(
            f"{corpus.path}: its characters are {corpus.vocabulary.unit}s, the model's {model.vocabulary.unit}s; "
            f"prepare it with --unit {model.vocabulary.unit}"
        )
    ids = corpus.ids(split)
    if corpus.vocabulary.codes != model.vocabulary.codes:
        ids = corpus.vocabulary.translation(model.vocabulary)[ids]
    return ids, corpus.splits[split].bytes


def trained_on(model: Model, root: Path = Path("corpora"), advice: str = "name a text with --text FILE") -> Corpus:
    """The corpus that a model was trained on: where it was then, or below ``root``, by its fingerprint.

    Args:
        advice: what to do where it is not found.

    Raises:
        TextError: it is gone, or its text is no longer the one trained on.
    """
    fingerprint, recorded = model.corpus.get("fingerprint"), str(model.corpus.get("path", ""))
    places = [Path(recorded)] if recorded else []
    places += sorted(root.iterdir()) if root.is_dir() else []
    if fingerprint is None:
        raise TextError(f"{model.path}: there is no one text that was trained on; {advice}")
    for path in places:
        try:
            if is_corpus(path) and (corpus := Corpus.open(path)).fingerprint == fingerprint:
                return corpus
        except TextError:
            if path == Path(recorded):
                raise
            # A damaged corpus that nobody has asked for is no reason not to find another.
    raise TextError(
        f"the text that {model.path or 'the model'} was trained on ({recorded}) is gone or has changed; {advice}"
    )


@dataclass(frozen=True)
class Text:
    """A text to score: in the model's ids (N,), with its length in UTF-8 bytes and where it came from."""

    name: str
    split: str | None
    ids: Ids
    bytes: int


def text_to_score(
    model: Model,
    text: str | None,
    split: str | None = None,
    *,
    encoding: str | None = None,
    newlines: str | None = None,
    default: str = "validation",
) -> Text:
    """What a user names as text to score: a file or ``-``, a corpus and its split, or (``None``) the model's own.

    Without a split, a corpus's ``default`` is meant.

    Raises:
        TextError: it is missing, empty or cannot be read.
        UsageError: a split of something that has none.
    """
    named = text_or_corpus(model, text, split, encoding=encoding, newlines=newlines)
    if isinstance(named, str):
        return read_text(model.vocabulary, named, encoding=encoding, newlines=newlines)
    ids, num_bytes = corpus_ids(model, named, split or default)
    return Text(named.name, split or default, ids, num_bytes)


def text_or_corpus(
    model: Model,
    text: str | None,
    split: str | None = None,
    *,
    encoding: str | None = None,
    newlines: str | None = None,
) -> Corpus | str:
    """The corpus that a user means, or the name of a plain text.

    Raises:
        UsageError: an option that is for the other of the two.
    """
    corpus = trained_on(model) if text is None else _corpus(text)
    if corpus is None:
        if split is not None:
            raise UsageError(f"--split {split}: {text} is a plain text and is scored whole; prepare it to have splits")
        assert text is not None
        return text
    if encoding is not None or newlines is not None:
        raise UsageError(f"--encoding, --newlines: {corpus.path} is prepared; they are for a plain text")
    return corpus


def _corpus(text: str) -> Corpus | None:
    """The corpus that a name stands for, unless it names a file, a folder of texts or standard input."""
    path = Path(text)
    if text == "-" or (not is_corpus(path) and path.exists()):
        return None
    if is_corpus(path) or is_registered(text) or is_corpus(Path("corpora") / text):
        return resolve(text)
    return None


def read_text(vocabulary: Vocabulary, name: str, *, encoding: str | None = None, newlines: str | None = None) -> Text:
    """Read a text in a vocabulary's ids, a piece at a time."""
    pieces = list(_encoded(vocabulary, name, encoding, newlines))
    ids = np.concatenate([ids for ids, _ in pieces]) if pieces else np.zeros(0, np.uint8)
    return Text(name, None, ids, sum(count for _, count in pieces))


def corpus_codes(corpus: Corpus, split: str, last: int | None = None) -> NDArray[np.uint32]:
    """The text of a split, or the ``last`` so many characters of it: code points or bytes, (N,).

    For what the corpus does not keep there is U+FFFD or, among bytes, 0xFF, which UTF-8 lacks.
    """
    ids = corpus.ids(split)
    lost = 0xFF if corpus.vocabulary.unit == "byte" else 0xFFFD
    codes: NDArray[np.uint32] = np.asarray([*corpus.vocabulary.codes, lost], np.uint32)[ids[-last if last else 0 :]]
    return codes


def _encoded(
    vocabulary: Vocabulary, name: str, encoding: str | None, newlines: str | None
) -> Iterator[tuple[Ids, int]]:
    """Pieces of a text as ids of the smallest type, each with its length in UTF-8 bytes."""
    dtype = np.min_scalar_type(len(vocabulary))
    for codes in text_codes(vocabulary, name, encoding, newlines):
        yield vocabulary.encode_codes(codes).astype(dtype), _utf8_length(codes, vocabulary.unit)


def text_codes(
    vocabulary: Vocabulary, name: str, encoding: str | None = None, newlines: str | None = None
) -> Iterator[NDArray[np.integer[Any]]]:
    """A text in pieces, as code points or, for a byte model, as bytes."""
    # Checks the options, and says what is wrong with them.
    settings = PrepareSettings(unit=vocabulary.unit, encoding=encoding, newlines=newlines or "keep")  # type: ignore[arg-type]
    with gather([name]) as found:
        for piece in Reader(found.sources, unit=settings.unit, encoding=settings.encoding, newlines=settings.newlines):
            codes = to_codes(piece, "char")  # of bytes, the reader makes the characters of the same numbers
            yield codes.astype(np.uint8) if settings.unit == "byte" else codes


def _utf8_length(codes: NDArray[np.integer[Any]], unit: Unit) -> int:
    """Bytes of the UTF-8 form of code points; bytes are their own."""
    longer = (0x80, 0x800, 0x10000) if unit == "char" else ()
    return len(codes) + sum(int((codes >= bound).sum()) for bound in longer)


def ids_of(vocabulary: Vocabulary, sample: Sample) -> Ids:
    """A generated text in the model's ids, (T,)."""
    if vocabulary.unit == "char":
        return vocabulary.encode(sample.text)
    return vocabulary.encode_codes(np.frombuffer(sample.data, np.uint8))


def in_float32(
    model: Model, prompt: str, samples: Sequence[Sample], device: str = "auto", engine: Engine | None = None
) -> list[Sample]:
    """Generated texts with the figures that scoring gives them, whatever precision drew or found them; those that a
    search has ranked, ranked by these.

    Args:
        engine: what scores; the usual one if None.
    """
    vocabulary = model.vocabulary
    texts = [ids_of(vocabulary, sample) for sample in samples]
    engine = engine or scoring_engine(model, len(prompt) + sum(map(len, texts)), device)
    costs = surprisals_of_lines(engine, texts, *read(engine, vocabulary, prompt))
    scored = []
    for sample, cost in zip(samples, costs, strict=True):
        nats = float(cost.sum())
        # What a search ranks by is the log-probability over a function of the length.
        score = None if sample.score is None else sample.score * (nats / sample.nats if sample.nats else 1.0)
        scored.append(replace(sample, nats=nats, score=score))
    return sorted(scored, key=lambda sample: -(sample.score or 0.0))


@dataclass(frozen=True)
class Line:
    """A line of a text, without its end, and its figures, as if it were the whole text.

    ``text`` has U+FFFD for what a corpus does not keep (see ``--min-count``) and for bytes that are not UTF-8.
    """

    text: str
    figures: Figures


@dataclass(frozen=True)
class Spelled:
    """A text as the model's ids and as what they stand for, code points or bytes, (N,) each."""

    name: str
    split: str | None
    ids: Ids
    codes: NDArray[np.integer[Any]]
    unit: Unit

    def text(self, place: slice) -> str:
        """A piece of it; U+FFFD stands for bytes that are not UTF-8."""
        if self.unit == "byte":
            return self.codes[place].astype(np.uint8).tobytes().decode("utf-8", "replace")
        return from_codes(self.codes[place])


def spelled(
    model: Model,
    text: str | None,
    split: str | None = None,
    *,
    encoding: str | None = None,
    newlines: str | None = None,
) -> Spelled:
    """What a user names as text, as in :func:`text_to_score`, in its own characters too.

    Raises:
        TextError: it is missing or cannot be read.
        UsageError: a split of something that has none.
    """
    vocabulary = model.vocabulary
    named = text_or_corpus(model, text, split, encoding=encoding, newlines=newlines)
    if isinstance(named, str):
        codes = np.concatenate([np.zeros(0, np.uint8), *text_codes(vocabulary, named, encoding, newlines)])
        return Spelled(named, split, vocabulary.encode_codes(codes), codes, vocabulary.unit)
    split = split or "validation"
    ids, _ = corpus_ids(model, named, split)
    return Spelled(named.name, split, ids, corpus_codes(named, split), vocabulary.unit)


def score_lines(
    model: Model,
    text: str | None,
    split: str | None = None,
    *,
    encoding: str | None = None,
    newlines: str | None = None,
    device: str = "auto",
) -> tuple[str, str | None, list[Line]]:
    """Name and split of what a user names as text, as in :func:`text_to_score`, and its lines that are not empty.

    Raises:
        TextError: it is missing or cannot be read, or no line has a character.
        UsageError: a split of something that has none.
    """
    whole = spelled(model, text, split, encoding=encoding, newlines=newlines)
    codes = whole.codes
    ends = np.flatnonzero((codes == ord("\n")) | (codes == ord("\r"))).tolist()
    places = [slice(before + 1, end) for before, end in pairwise([-1, *ends, len(codes)]) if end > before + 1]
    if not places:
        raise TextError(f"{whole.name}: has no line with a character to score")
    return whole.name, whole.split, _score(model, whole, places, device)


def score_texts(model: Model, texts: Sequence[str], device: str = "auto") -> list[Line]:
    """Each of some texts that are not empty, as if it were the whole text; halves of surrogate pairs are bytes, as
    Python's ``surrogateescape`` has them."""
    unit = model.vocabulary.unit
    coded = [
        to_codes(text, unit) if unit == "char" else np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
        for text in texts
    ]
    codes = np.concatenate(coded)
    ends = np.cumsum([0, *map(len, coded)]).tolist()
    whole = Spelled("", None, model.vocabulary.encode_codes(codes), codes, unit)
    return _score(model, whole, [slice(*pair) for pair in pairwise(ends)], device)


def _score(model: Model, whole: Spelled, places: Sequence[slice], device: str) -> list[Line]:
    """The pieces of a text, each on its own."""
    vocabulary = model.vocabulary
    engine = scoring_engine(model, sum(place.stop - place.start for place in places), device)
    nats = surprisals_of_lines(engine, [whole.ids[place] for place in places], *read(engine, vocabulary, ""))
    lines = []
    for place, surprise in zip(places, nats, strict=True):
        num_bytes = _utf8_length(whole.codes[place], vocabulary.unit)
        figures = measure([(0, surprise)], whole.ids[place], vocabulary, num_bytes)
        lines.append(Line(whole.text(place), figures))
    return lines
