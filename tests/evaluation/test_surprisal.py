"""Surprisal: exact, once per character, the same figure however it is computed."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.ensemble import EnsembleEngine
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.evaluation import surprisal
from charrnn.evaluation.metrics import measure
from charrnn.evaluation.surprisal import cross_entropy, surprisals, surprisals_of_lines
from charrnn.model.network import CharRNN
from charrnn.model.torch_engine import TorchEngine
from charrnn.presets import MODEL

V = 9


def model(**changes) -> CharRNN:
    config = dataclasses.replace(MODEL, **{"hidden_size": 12, "embedding_size": 5, **changes})
    return CharRNN(config, V, torch.Generator().manual_seed(1)).eval()


def whole(pieces, N: int) -> np.ndarray:
    """Pieces put together; fails if a character is scored twice or never."""
    nats, times = np.zeros(N), np.zeros(N, int)
    for start, piece in pieces:
        nats[start : start + len(piece)] += piece
        times[start : start + len(piece)] += 1
    assert (times == 1).all()
    return nats


def reference(network: CharRNN, ids: np.ndarray, first: int) -> np.ndarray:
    """One pass of torch in float64 over the whole text."""
    inputs = torch.tensor([first, *ids[:-1].tolist()])[:, None]
    with torch.no_grad():
        logits, _ = network.double()(inputs, network.initial_state(1))
    network.float()
    return -logits[:, 0].log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)].numpy()


def test_the_nats_of_what_is_nearly_certain_are_not_rounded_away():
    logits = np.float32([[17, 0], [1017, 1000]])  # exp of either overflows in float32, or vanishes beside the other
    expected = math.log1p(math.exp(-17))
    assert cross_entropy(logits, np.array([0, 0])) == pytest.approx([expected] * 2, rel=1e-6)
    assert cross_entropy(logits, np.array([1, 1])) == pytest.approx([17 + expected] * 2, rel=1e-12)


@pytest.mark.parametrize("N", [1, 2, 127, 128, 129, 1000])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_character_is_scored_once_and_equals_an_independent_pass(N, cell):
    network, ids = model(cell=cell), np.random.default_rng(N).integers(0, V, N)
    for engine in (TorchEngine(network), NumpyEngine(network.config, V, network.weights())):
        assert np.allclose(whole(surprisals(engine, ids, 3), N), reference(network, ids, 3), atol=1e-5)


def test_warmed_lanes_equal_one_lane():
    network = model()
    ids = np.random.default_rng(0).integers(0, V, 5 * surprisal.MIN_LANE + 77)
    engine = TorchEngine(network)
    lanes, one = whole(surprisals(engine, ids, 3), len(ids)), whole(surprisals(engine, ids, 3, exact=True), len(ids))
    assert abs(lanes.mean() - one.mean()) / math.log(2) < 1e-4
    assert np.allclose(lanes, one, atol=1e-3)


@dataclasses.dataclass
class One:
    """One of several processes that score a text together."""

    rank: int
    size: int

    def totals(self, values: np.ndarray) -> np.ndarray:
        return values


@pytest.mark.parametrize("lanes", [1, 2, 5])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_processes_score_each_character_once_between_them_as_one_does(lanes, size):
    network = model()
    ids = np.random.default_rng(0).integers(0, V, lanes * surprisal.MIN_LANE + 77)
    engine, vocabulary = TorchEngine(network), Vocabulary.of("abcdefgh")
    alone = whole(surprisals(engine, ids, 3), len(ids))
    parts = [list(surprisals(engine, ids, 3, together=One(rank, size))) for rank in range(size)]
    together = whole([piece for part in parts for piece in part], len(ids))
    assert np.allclose(together, alone, atol=1e-6)
    shares = [measure(part, ids, vocabulary, 1, One(rank, size)) for rank, part in enumerate(parts)]
    figures = measure([(0, alone)], ids, vocabulary, 1)
    assert sum(share.nats for share in shares) == pytest.approx(figures.nats, rel=1e-6)
    assert sum(share.unseen for share in shares) == figures.unseen > 0


@pytest.mark.parametrize("window", [1, 7, 128, 300, 333, 5000])
def test_windows_start_from_an_empty_state_and_the_character_before(window):
    network, N = model(), min(1000, 150 * window)
    ids = np.random.default_rng(1).integers(0, V, N)
    nats = whole(surprisals(TorchEngine(network), ids, 3, window=window), N)
    expected = np.concatenate(
        [reference(network, ids[s : s + window], 3 if s == 0 else ids[s - 1]) for s in range(0, N, window)]
    )
    assert np.allclose(nats, expected, atol=1e-5)


@pytest.mark.parametrize("window", [130, 1000, 10**8, 10**30])
def test_a_window_longer_than_the_text_computes_no_more_than_the_text(window):
    network, N, steps = model(), 131, []

    class Counting(TorchEngine):
        def run(self, ids, state):
            steps.append(len(ids))
            return super().run(ids, state)

    ids = np.random.default_rng(1).integers(0, V, N)
    whole(surprisals(Counting(network), ids, 3, window=window), N)
    assert sum(steps) <= 2 * N


def test_windows_may_be_of_any_length_and_are_scored_as_many_at_once_as_memory_allows():
    cells = []

    class Uniform:
        def initial_state(self, batch_size):
            return ()

        def run(self, ids, state):
            cells.append(ids.size)
            return np.zeros((*ids.shape, 2), np.float32), ()

    for window in (1, 100, 500, 1 << 16, (1 << 16) + 1, 70_000):
        nats = whole(surprisals(Uniform(), np.zeros(70_001, np.uint8), 0, window=window), 70_001)
        assert np.allclose(nats, math.log(2))
    assert max(cells) <= 128 * 256


def test_the_length_of_the_windows_that_are_computed_at_once_changes_nothing(monkeypatch):
    network, ids = model(), np.random.default_rng(2).integers(0, V, 3000)
    engine = NumpyEngine(network.config, V, network.weights())
    expected = whole(surprisals(engine, ids, 3), 3000)
    monkeypatch.setattr(surprisal, "WINDOW", 37)
    assert np.allclose(whole(surprisals(engine, ids, 3), 3000), expected, atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 2, 128])
def test_lines_are_scored_as_if_each_were_the_whole_text(at_once, monkeypatch):
    monkeypatch.setattr(surprisal, "MAX_LANES", at_once)
    network = model()
    engine = NumpyEngine(network.config, V, network.weights())
    lines = [np.random.default_rng(k).integers(0, V, k) for k in (5, 1, 200, 129, 2, 130)]
    logits, state = engine.run(np.array([[3]]), engine.initial_state(1))
    for line, nats in zip(lines, surprisals_of_lines(engine, lines, logits[0], state), strict=True):
        assert len(nats) == len(line)
        assert np.allclose(nats, reference(network, line, 3), atol=1e-5)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("N", [1, 127, 128, 161, 191, 192, 255, 256, 1000])
def test_lanes_are_as_many_as_there_is_room_for_and_each_has_read_what_stands_before_it(N, members, monkeypatch):
    for name, value in (("WARMUP", 32), ("MIN_LANE", 64), ("MAX_LANES", 4), ("WINDOW", 20)):
        monkeypatch.setattr(surprisal, name, value)
    network, ids = model(), np.random.default_rng(N).integers(0, V, N)
    one = NumpyEngine(network.config, V, network.weights())
    lanes = {1: 1, 127: 1, 128: 2, 161: 2, 191: 2, 192: 3, 255: 3, 256: 4, 1000: 4}[N]
    starts = [lane * N // lanes for lane in range(lanes)]
    expected = [
        reference(network, ids[max(0, start - 32) : stop], ids[start - 33] if start else 3)[min(start, 32) :]
        for start, stop in zip(starts, [*starts[1:], N], strict=True)
    ]
    found = list(surprisals(EnsembleEngine([one] * members), ids, 3))
    assert {start for start, _ in found} >= set(starts)
    assert np.allclose(whole(found, N), np.concatenate(expected), atol=1e-5)
    exact = whole(surprisals(EnsembleEngine([one] * members), ids, 3, exact=True), N)
    assert np.allclose(exact, reference(network, ids, 3), atol=1e-5)


def test_a_uniform_model_gives_log2_of_its_symbols():
    network = model()
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    ids = np.random.default_rng(0).integers(0, V - 1, 500)
    figures = measure(surprisals(TorchEngine(network), ids, 3), ids, Vocabulary(tuple(range(97, 97 + V - 1))), 500)
    assert figures.bits_per_char == pytest.approx(math.log2(V), abs=1e-6)
    assert figures.perplexity == pytest.approx(V, abs=1e-5)
    assert figures.unseen == 0
