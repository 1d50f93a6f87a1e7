"""From a prompt to text: the context, the loop that draws, and what comes out of it."""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding import choosers
from charrnn.decoding.alphabet import Alphabet
from charrnn.decoding.engine import Drawing, Engine, Frontier, State
from charrnn.decoding.filters import FILTERS, compose, is_whole, log_softmax, option
from charrnn.errors import UsageError

#: Texts that are generated side by side, each with a state of its own: more would only fill memory.
MOST_AT_ONCE = 1 << 16
_WINDOW = 256  # of a prompt that is fed at once: bounds the memory of its logits


@dataclass(frozen=True)
class Sampling:
    """How to draw. Lengths are in the model's unit: characters, or bytes.

    Raises:
        UsageError: a value out of range, or two that say nothing together.
    """

    length: int = 500
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    greedy: bool = False
    samples: int = 1
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_whole(1, length=self.length)
        check_whole(1, MOST_AT_ONCE, samples=self.samples)
        check_whole(0, seed=self.seed)
        check_stop(self.stop)
        filters = {name: getattr(self, name) for name in FILTERS}
        compose(filters)
        drawing = [option(name) for name, value in filters.items() if value is not None]
        if self.greedy and drawing:
            raise UsageError(f"{drawing[0]}: nothing is drawn with --greedy; leave one out")
        if self.greedy and self.samples > 1:
            raise UsageError("--samples: with --greedy all would be the same; --beam K finds several")


def check_whole(least: int, most: float = math.inf, **values: Any) -> None:
    """Raises UsageError for a setting that is no whole number, less than ``least``, or more than ``most``."""
    for name, value in values.items():
        if not is_whole(value) or not least <= value <= most:
            asked = f"of at least {least}" if most == math.inf else f"from {least} to {most:,}"
            raise UsageError(f"{option(name)}: expected a whole number {asked}, got {value!r:.40}")


def check_stop(stop: Any) -> None:
    """Raises UsageError for stop strings that are none."""
    if not isinstance(stop, tuple | list) or not all(isinstance(text, str) and text for text in stop):
        raise UsageError(f"--stop: expected texts that are not empty, got {stop!r}")


@dataclass(frozen=True)
class Sample:
    """A generated text, without its prompt.

    ``nats`` is the surprisal of its characters, given a newline and the prompt, under the model itself, in the engine's
    precision: no filter changes it. ``characters`` counts them in the model's unit; ``data`` is the text's exact bytes,
    from which ``text`` differs only where they are not UTF-8. ``score`` is what a beam search ranks by.
    """

    text: str
    nats: float
    characters: int
    seed: int | None = None
    data: bytes = b""
    score: float | None = None

    @property
    def log_probability(self) -> float:
        """Natural logarithm of the text's probability."""
        return -self.nats

    @property
    def bits_per_char(self) -> float:
        """Mean surprisal of a character (of a byte, in a model of bytes), bits."""
        return self.nats / float(np.log(2)) / self.characters


class Generation:
    """Samples on their way: iterate for the pieces as they are drawn, then read ``samples``.

    Sample n draws with seed ``settings.seed + n`` alone, whatever the number of samples; another kind of engine draws
    another text. It ends after ``settings.length`` characters, or as soon as it ends with one of the stop strings,
    which it keeps: they are part of what was drawn, and of its nats. A model of bytes goes on, by three bytes at most,
    to the end of a character.

    Args:
        engine: the model.
        vocabulary: its symbols.
        prompt: what the text begins with; may be empty.
        settings: how to draw.
        utf8: whether a model of bytes is held to valid UTF-8.
    """

    def __init__(
        self,
        engine: Engine,
        vocabulary: Vocabulary,
        prompt: str = "",
        settings: Sampling | None = None,
        *,
        utf8: bool = True,
    ) -> None:
        self.engine = engine
        self.vocabulary = vocabulary
        self.prompt = prompt
        self.settings = settings or Sampling()
        self.alphabet = Alphabet(vocabulary, utf8)
        N = self.settings.samples
        self._drawn: list[list[str]] = [[] for _ in range(N)]  # pieces, a character for each unit
        self._nats = np.zeros(N)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Pieces of text as they are drawn, each with its sample's number.

        Bytes that are not UTF-8 come as Python's ``surrogateescape`` has it, so that the pieces encode to what was
        drawn.
        """
        settings, vocabulary, alphabet, engine = self.settings, self.vocabulary, self.alphabet, self.engine
        N = settings.samples
        draw, block = drawing(engine, settings)
        stops = [vocabulary.units(ids) for ids in stop_ids(vocabulary, settings.stop)]
        longest = max(map(len, stops), default=0)
        tails = [""] * N  # of each sample as much as a stop string may have begun in
        spelled = [Speller(vocabulary) for _ in range(N)]
        generators = [np.random.default_rng(settings.seed + n) for n in range(N)]

        active, rows = np.arange(N), np.zeros(N, np.int64)  # which samples are still being drawn
        logits, state = read(engine, vocabulary, self.prompt)
        frontier = Frontier(logits[rows], engine.select(state, rows), alphabet.start(N))
        length = 0
        while True:
            count = max(1, min(block(len(active)), settings.length - length))
            ids, nats, frontier = draw(count, frontier, generators, alphabet)
            length += count
            # What is drawn beyond the length only completes a character.
            ended = (length >= settings.length) & alphabet.complete(frontier.places)
            # Added up one after the other, so that a sum depends neither on the batch nor on the block.
            totals = np.add.accumulate(np.concatenate((self._nats[active][None], nats)))  # (1 + T, B)
            # All at once: beside thousands of samples on a GPU, what Python does for each of them takes the time.
            units = vocabulary.units(ids.T)
            keep = []
            for row, (n, done) in enumerate(zip(active.tolist(), ended.tolist(), strict=True)):
                added = units[row * count : (row + 1) * count]
                if stops:
                    added, stopped = until_stop(tails[n], added, stops)
                    tails[n] = (tails[n] + added)[-longest:]
                    done |= stopped
                self._drawn[n].append(added)
                self._nats[n] = totals[len(added), row]
                piece = spelled[n](added, done)
                if piece:
                    yield n, piece
                if not done:
                    keep.append(row)
            if not keep:
                return
            if len(keep) < len(active):
                rows = np.array(keep)
                active, generators = active[rows], [generators[row] for row in keep]
                frontier = Frontier(frontier.logits[rows], engine.select(frontier.state, rows), frontier.places[rows])

    @property
    def samples(self) -> list[Sample]:
        """What has been drawn, in order of the seeds."""
        return [
            finished(self.vocabulary, "".join(drawn), float(nats), seed=self.settings.seed + n)
            for n, (drawn, nats) in enumerate(zip(self._drawn, self._nats, strict=True))
        ]


def generate(
    engine: Engine, vocabulary: Vocabulary, prompt: str = "", settings: Sampling | None = None, *, utf8: bool = True
) -> list[Sample]:
    """Draw samples and return them when all are done; see :class:`Generation`."""
    generation = Generation(engine, vocabulary, prompt, settings, utf8=utf8)
    for _ in generation:
        pass
    return generation.samples


def read(engine: Engine, vocabulary: Vocabulary, prompt: str) -> tuple[NDArray[np.float32], State]:
    """Feed a newline, for a text begins as if one stood before it, and the prompt: logits (1, V) and state after."""
    ids = vocabulary.encode("\n" + prompt)[:, None]  # (T, 1)
    state = engine.initial_state(1)
    for start in range(0, len(ids), _WINDOW):
        logits, state = engine.run(ids[start : start + _WINDOW], state)
    return logits[-1], state


def finished(vocabulary: Vocabulary, units: str, nats: float, **details: Any) -> Sample:
    """The sample of these :meth:`~charrnn.data.vocabulary.Vocabulary.units`."""
    if vocabulary.unit == "char":
        return Sample(units, nats, len(units), data=units.encode("utf-8", "replace"), **details)
    data = units.encode("latin-1")
    return Sample(data.decode("utf-8", "replace"), nats, len(units), data=data, **details)


def stop_ids(vocabulary: Vocabulary, stop: tuple[str, ...]) -> list[list[int]]:
    """The ids of the stop strings that can occur: not empty, nothing in them outside the vocabulary."""
    encoded = (vocabulary.encode(text).tolist() for text in stop)
    return [ids for ids in encoded if ids and vocabulary.unknown not in ids]


def until_stop(before: str, added: str, stops: list[str]) -> tuple[str, bool]:
    """What was added up to the first end of a stop string, which may have begun before; whether there is one.

    >>> until_stop("on", "ce upon a time", ["once", "time"])
    ('ce', True)
    """
    text = before + added
    places = [(text.find(stop, max(0, len(before) + 1 - len(stop))), len(stop)) for stop in stops]
    ends = [place + length for place, length in places if place >= 0]
    return (text[len(before) : min(ends)], True) if ends else (added, False)


def ends_with(ids: list[int], endings: list[list[int]]) -> bool:
    """Whether the ids end with one of these."""
    return any(ids[-len(ending) :] == ending for ending in endings)


Draw = Callable[
    [int, Frontier, list[np.random.Generator], Alphabet], tuple[NDArray[np.int64], NDArray[np.float64], Frontier]
]


def drawing(engine: Engine, settings: Sampling) -> tuple[Draw, Callable[[int], int]]:
    """How characters are drawn, and how many at a time: by the engine, if it can and no other filter than the
    temperature is asked for; else one by one, here."""
    others = [name for name in FILTERS if name != "temperature" and getattr(settings, name) is not None]
    if isinstance(engine, Drawing) and not others:
        temperature = 0.0 if settings.greedy else 1.0 if settings.temperature is None else float(settings.temperature)
        return partial(engine.draw, temperature=temperature), engine.block
    filtered = compose({name: getattr(settings, name) for name in FILTERS})
    choose = choosers.greedy if settings.greedy else choosers.sample

    def draw(
        count: int, frontier: Frontier, generators: list[np.random.Generator], alphabet: Alphabet
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], Frontier]:
        logits, places = frontier.logits, frontier.places
        ids = choose(filtered(logits + alphabet.mask[places]), generators).astype(np.int64)
        nats: NDArray[np.float64] = -log_softmax(logits)[np.arange(len(ids)), ids]
        logits, state = engine.step(ids, frontier.state)
        return ids[None], nats[None], Frontier(logits, state, alphabet.following[places, ids])

    return draw, lambda batch_size: 1


class Speller:
    """Text of units as they come; of bytes, as soon as a character of theirs is complete."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape") if vocabulary.unit == "byte" else None

    def __call__(self, units: str, final: bool) -> str:
        """The text that these units complete; ``final`` for the last ones."""
        return units if self.decoder is None else self.decoder.decode(units.encode("latin-1"), final)
