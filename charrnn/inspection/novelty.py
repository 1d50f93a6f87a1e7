"""How much of a sample is copied from the training text (after McCoy et al. 2023, RAVEN)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from charrnn.data.corpus import Corpus
from charrnn.decoding.engine import engine_for
from charrnn.decoding.generator import Sampling, generate
from charrnn.evaluation.evaluator import trained_on
from charrnn.inspection.report import Note, Painted, Report, Table, shown
from charrnn.inspection.subject import Subject

PIECE = 1 << 20


class SuffixAutomaton:
    """All substrings of a text in linear space (Blumer et al. 1985).

    State s stands for substrings that end at the same places: those of lengths ``length[link[s]] + 1`` to
    ``length[s]``, each a suffix of the longest.
    """

    def __init__(self, text: Iterable[int]) -> None:
        self.next: list[dict[int, int]] = [{}]
        self.link, self.length = [-1], [0]
        self.prefix: list[int] = []  # the state of each prefix of the text
        for symbol in text:
            self._extend(symbol)

    def _add(self, edges: dict[int, int], link: int, length: int) -> int:
        self.next.append(edges)
        self.link.append(link)
        self.length.append(length)
        return len(self.next) - 1

    def _extend(self, symbol: int) -> None:
        last = self.prefix[-1] if self.prefix else 0
        state = self._add({}, 0, self.length[last] + 1)
        self.prefix.append(state)
        p = last
        while p >= 0 and symbol not in self.next[p]:
            self.next[p][symbol] = state
            p = self.link[p]
        if p < 0:
            return
        q = self.next[p][symbol]
        if self.length[q] > self.length[p] + 1:
            clone = self._add(dict(self.next[q]), self.link[q], self.length[p] + 1)
            while p >= 0 and self.next[p].get(symbol) == q:
                self.next[p][symbol] = clone
                p = self.link[p]
            self.link[q] = q = clone
        self.link[state] = q


def copied_lengths(sample: Sequence[int], training: Iterable[Sequence[int]]) -> list[int]:
    """For each character of the sample, the longest text ending there that occurs in the training text.

    The automaton is the sample's, and the training text, in pieces, runs through it once: time linear in both, memory
    in the sample alone.

    >>> copied_lengths([1, 2, 3, 9, 1], [[5, 1, 2], [3, 3]])
    [1, 2, 3, 0, 1]
    """
    automaton = SuffixAutomaton(sample)
    edges, link, length = automaton.next, automaton.link, automaton.length
    found = [0] * len(edges)
    state = matched = 0
    for piece in training:
        for symbol in piece:
            while symbol not in edges[state]:
                if state == 0:
                    break
                state = link[state]
                matched = length[state]
            else:
                state = edges[state][symbol]
                matched += 1
                if matched > found[state]:
                    found[state] = matched
    by_length = sorted(range(1, len(edges)), key=length.__getitem__)
    for s in reversed(by_length):  # whatever matches in a state, its link's longest text, a suffix, matches too
        if found[s] and link[s] > 0:
            found[link[s]] = length[link[s]]
    for s in by_length:  # and where nothing matches, a suffix may
        if not found[s]:
            found[s] = found[link[s]]
    return [found[s] for s in automaton.prefix]


def unseen_shares(lengths: Sequence[int], order: int) -> list[float]:
    """Share of the sample's n-grams that the training text lacks, for n = 1 ... ``order``, or the sample's length."""
    array = np.asarray(lengths)
    return [float((array[n - 1 :] < n).mean()) for n in range(1, min(order, len(array)) + 1)]


def training_codes(corpus: Corpus) -> Iterator[list[int]]:
    """The training split as character (or byte) numbers; −1 for what its vocabulary lacks."""
    codes = np.append(np.asarray(corpus.vocabulary.codes, np.int64), -1)
    ids = corpus.ids("train")
    for at in range(0, len(ids), PIECE):
        yield codes[ids[at : at + PIECE]].tolist()


def draw(subject: Subject, length: int, seed: int) -> Subject:
    """A sample of the model itself, at temperature 1: what ``charrnn sample --seed`` draws."""
    checkpoint = subject.checkpoint
    settings = Sampling(length=length, seed=seed)
    utf8 = bool(checkpoint.corpus.get("utf8", True))
    (sample,) = generate(engine_for(checkpoint), checkpoint.vocabulary, settings=settings, utf8=utf8)
    text = sample.text if checkpoint.vocabulary.unit == "char" else sample.data.decode("latin-1")
    return Subject.spelled(checkpoint, text, f"sample with seed {seed}")


def novelty(subject: Subject, length: int = 2000, order: int = 12, seed: int = 0) -> Report:
    """What of a text — the one given, or ``length`` characters drawn from the model — is verbatim in the training text.

    Raises:
        TextError: the training text is gone or has changed.
    """
    corpus = trained_on(subject.checkpoint)
    if not len(subject.ids):
        subject = draw(subject, length, seed)
    lengths = copied_lengths([ord(c) for c in subject.text], training_codes(corpus))
    shares = unseen_shares(lengths, order)
    longest = max(lengths)
    end = lengths.index(longest) + 1
    copy = subject.symbols[end - longest : end]
    note = (
        f"{len(lengths):,} characters of {subject.name} against the training text of {corpus.name}. The longest "
        f"stretch copied has {longest:,} characters: {shown(''.join(copy[:60]))}{'…' if longest > 60 else ''}"
    )
    symbols, scale = subject.symbols, "length of the copy that ends here"
    hovers = [f"{shown(c)}  {n:,} characters up to here are copied" for c, n in zip(symbols, lengths, strict=True)]
    painted = Painted(symbols, lengths, 0.0, float(max(20, longest)), scale, hovers)
    table = Table(["n", "n-grams not in the training text"], [[n, share] for n, share in enumerate(shares, 1)])
    document = {
        "schema": 1,
        "text": subject.name,
        "sample": subject.text,
        "training_text": corpus.name,
        "longest": {"length": longest, "text": "".join(copy), "start": end - longest},
        "unseen_ngrams": [{"n": n, "share": share} for n, share in enumerate(shares, 1)],
        "copied_lengths": lengths,
    }
    return Report("Novelty", [Note(note), table, painted], document)
