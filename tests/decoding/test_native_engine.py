"""The compiled engine against the numpy engine on the same rounded weights, and against itself in every other way."""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from charrnn.cells import CELLS, connect
from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding import native_engine
from charrnn.decoding.alphabet import Alphabet
from charrnn.decoding.beam import BeamSearch, beam_search
from charrnn.decoding.engine import Drawing, Frontier, engine_for
from charrnn.decoding.filters import log_softmax
from charrnn.decoding.generator import Sampling, generate
from charrnn.decoding.native_engine import NativeEngine
from charrnn.decoding.numpy_engine import NumpyEngine

Make = Callable[..., Checkpoint]

pytestmark = pytest.mark.skipif(native_engine._native is None, reason="the kernel is not compiled here")


def rounded(weight: NDArray[Any]) -> NDArray[np.float32]:
    """Eight bits, with the largest magnitude of each row as 127."""
    scale = np.abs(weight).max(1, keepdims=True).astype(np.float64) / 127
    scale[scale == 0] = 1
    return (np.round(weight / scale) * scale).astype(np.float32)


class Reference:
    """The network by its equations, with every product as the kernel has it: of rounded weights and rounded states."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.weights, self.config = checkpoint.weights, checkpoint.config.model
        self.symbols = len(checkpoint.vocabulary)
        self.cell = CELLS[self.config.cell]

    def initial_state(self, batch_size: int) -> tuple[NDArray[np.float32], ...]:
        shape = (self.config.num_layers, batch_size, self.config.hidden_size)
        return tuple(np.zeros(shape, np.float32) for _ in self.cell.state)

    def select(self, state: Any, rows: Any) -> Any:
        return tuple(part[:, rows] for part in state)

    def read(self, x: NDArray[Any], outputs: list[NDArray[Any]]) -> NDArray[Any]:
        """What is read above the layers whose outputs these are, x being the character's vector."""
        for y in outputs:
            x = connect(np, self.config.connections, x, y)
        return x

    def given(self, weight: NDArray[Any], ids: Any, states: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """weight times what is read above the layers of these states: for each state a matrix that is found by reading
        unit vectors, and rounded."""
        if "projection.weight" in self.weights and weight.shape[1] == self.config.embedding_size and states:
            weight = weight @ self.weights["projection.weight"]
        nothing = [np.zeros((1, self.config.hidden_size)) for _ in states]
        silence = np.zeros((1, self.config.embedding_size))
        normed = self.config.layer_norm
        shifts = [self.weights[f"norms.{j}.bias"][None] if normed else nothing[j] for j in range(len(states))]
        of_character = self.read(self.weights["embedding.weight"][ids], [shift.repeat(len(ids), 0) for shift in shifts])
        total = of_character @ weight.T
        for j, h in enumerate(states):
            units = np.eye(self.config.hidden_size)
            many = [each.repeat(len(units), 0) for each in nothing]
            many[j] = units * self.weights[f"norms.{j}.weight"] if normed else units
            matrix = (self.read(silence.repeat(len(units), 0), many) @ weight.T).T
            h = np.floor(h * np.float32(127) + np.float32(0.5)) / 127
            if normed:
                matrix = matrix - matrix.mean(1, keepdims=True)
                h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
            total += h @ rounded(matrix).T
        return total.astype(np.float32)

    def step(self, ids: Any, state: Any) -> Any:
        layers: list[Any] = []
        for k in range(self.config.num_layers):
            w = f"layers.{k}."
            from_input = self.given(self.weights[w + "weight_ih_l0"], ids, [parts[0] for parts in layers])
            h = np.floor(state[0][k] * np.float32(127) + np.float32(0.5)) / 127
            from_hidden = (h @ rounded(self.weights[w + "weight_hh_l0"]).T).astype(np.float32)
            parts, _ = self.cell.step(
                np,
                from_input + self.weights[w + "bias_ih_l0"],
                from_hidden + self.weights[w + "bias_hh_l0"],
                tuple(part[k] for part in state),
            )
            layers.append(parts)
        head = self.weights["embedding.weight" if self.config.tie_weights else "head.weight"]
        logits = self.given(head, ids, [parts[0] for parts in layers]) + self.weights["head.bias"]
        return logits, tuple(map(np.stack, zip(*layers, strict=True)))

    def run(self, ids: Any, state: Any) -> Any:
        rows = []
        for each in ids:
            logits, state = self.step(each, state)
            rows.append(logits)
        return np.stack(rows), state


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("hidden_size", [1, 12, 67, 130])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_is_the_network_with_rounded_weights_and_states(
    tiny_checkpoint: Make, cell: str, num_layers: int, hidden_size: int, batch_size: int
) -> None:
    _agrees(tiny_checkpoint(cell=cell, num_layers=num_layers, hidden_size=hidden_size), batch_size)


@pytest.mark.parametrize("connections", ["plain", "residual", "dense"])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("tie_weights", [False, True])
@pytest.mark.parametrize("embedding_size", [9, 67])  # of a residual stack, the vectors are added only if as wide
def test_is_the_network_however_layers_are_connected(
    tiny_checkpoint: Make, connections: str, layer_norm: bool, tie_weights: bool, embedding_size: int
) -> None:
    how = {"connections": connections, "layer_norm": layer_norm, "tie_weights": tie_weights}
    checkpoint = tiny_checkpoint(num_layers=3, hidden_size=67, embedding_size=embedding_size, **how)
    _agrees(checkpoint, 3)


def _agrees(checkpoint: Checkpoint, batch_size: int) -> None:
    hidden_size = checkpoint.config.model.hidden_size
    # As large as trained weights are; the fixture's are such that a wide network is chaotic.
    smaller = {name: array / hidden_size**0.5 for name, array in checkpoint.weights.items()}
    checkpoint = dataclasses.replace(checkpoint, weights=smaller)
    ours = NativeEngine.from_checkpoint(checkpoint)
    reference = Reference(checkpoint)
    ids = np.random.default_rng(0).integers(0, ours.symbols, (40, batch_size))
    expected, expected_state = reference.run(ids, reference.initial_state(batch_size))
    found, state = ours.run(ids, ours.initial_state(batch_size))
    # Where a state or a weight is half way between two integers, the last bit decides which one: rare, and then a small
    # difference, which a normalised state makes larger.
    difference = np.abs(log_softmax(found) - log_softmax(expected))
    assert np.median(difference) < (1e-3 if checkpoint.config.model.layer_norm else 1e-4)
    assert difference.max() < 2e-2
    for ours_part, reference_part in zip(state, expected_state, strict=True):
        np.testing.assert_allclose(ours_part, reference_part, atol=2e-2)
    state = ours.initial_state(batch_size)
    for t in range(len(ids)):
        logits, state = ours.step(ids[t], state)
        np.testing.assert_array_equal(logits, found[t])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("unit", ["char", "byte"])
@pytest.mark.parametrize("how", [{}, {"temperature": 0.6}, {"temperature": 2.5}, {"greedy": True}])
def test_draws_what_choosing_from_its_own_logits_draws(
    tiny_checkpoint: Make, cell: str, unit: str, how: dict[str, Any]
) -> None:
    vocabulary = Vocabulary.of("\n abé你🎉xyz", unit)  # type: ignore[arg-type]
    engine = NativeEngine.from_checkpoint(tiny_checkpoint(vocabulary, cell=cell))
    settings = Sampling(length=150, seed=5, samples=3, **how) if "greedy" not in how else Sampling(length=150, **how)

    class Steps:
        """The same engine without its own drawing, so that Python chooses."""

        symbols, step, run = engine.symbols, engine.step, engine.run
        initial_state, select = engine.initial_state, engine.select

    assert not isinstance(Steps(), Drawing)
    ours = generate(engine, vocabulary, "ab", settings)
    theirs = generate(Steps(), vocabulary, "ab", settings)
    for one, other in zip(ours, theirs, strict=True):
        assert one.data == other.data
        assert one.nats == pytest.approx(other.nats, abs=1e-4)


def test_threads_that_start_late_draw_one_sequence_of_bytes_like_the_others(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(Vocabulary.of("\n abé你🎉xyz", "byte"), hidden_size=40)
    engine, alphabet = NativeEngine.from_checkpoint(checkpoint), Alphabet(checkpoint.vocabulary)
    logits, state = engine.run(np.array([[1]]), engine.initial_state(1))

    def drawn(threads: int, seed: int) -> list[int]:
        engine._choices = (threads,)
        frontier = Frontier(logits[-1], state, alphabet.start(1))
        return engine.draw(8, frontier, [np.random.default_rng(seed)], alphabet, 1.0)[0][:, 0].tolist()

    assert all(drawn(16, seed) == drawn(1, seed) for seed in range(100))


def test_every_processor_and_any_number_of_threads_give_the_same_numbers(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(hidden_size=150, num_layers=3)
    vocabulary, alphabet = checkpoint.vocabulary, Alphabet(checkpoint.vocabulary)
    found = []
    for level in (0, 1, 2):
        for threads in (1, 2, 3, 16):
            engine = NativeEngine(checkpoint.config.model, len(vocabulary), checkpoint.weights, level=level)
            engine._choices = (threads,)
            logits, state = engine.run(np.array([[1, 2], [3, 4]]), engine.initial_state(2))
            generators = [np.random.default_rng(seed) for seed in (1, 2)]
            frontier = Frontier(logits[-1], state, alphabet.start(2))
            ids, nats, frontier = engine.draw(60, frontier, generators, alphabet, 1.0)
            found.append((ids, nats, frontier.logits, *frontier.state))
    for other in found[1:]:
        for one, array in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, array)


@pytest.mark.parametrize("faster", [1, 2])
def test_work_that_is_worth_it_runs_with_the_threads_that_are_faster_at_present(
    tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, faster: int
) -> None:
    clock, used = [0.0], []

    def kernel(model: object, threads: int, level: int, seconds: dict[int, float]) -> None:
        used.append(threads)
        clock[0] += seconds[threads]

    monkeypatch.setattr(native_engine.time, "perf_counter", lambda: clock[0])
    engine = NativeEngine.from_checkpoint(tiny_checkpoint())
    assert engine._choices == (1, 1), "a small model gains nothing from threads"
    engine._choices = (1, 2)
    enough = native_engine._WORTH_STARTING // engine.num_bytes + 1
    fast, slow = ({faster: quick, 3 - faster: 3.0} for quick in (1.0, 9.0))
    for _ in range(320):
        engine._timed(kernel, enough, fast)
    assert used.count(3 - faster) < 10, "the slower is tried now and then"
    assert used[31:].count(3 - faster) > 3
    del used[:]
    for _ in range(320):  # now it is the faster one
        engine._timed(kernel, enough, slow)
    assert used.count(3 - faster) > 250
    del used[:]
    for _ in range(100):
        engine._timed(kernel, enough - 1, fast)
    assert set(used) == {1}


def test_a_large_model_has_threads_to_choose_from_as_many_as_cores(
    tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tiny_checkpoint(hidden_size=256, num_layers=3)
    products = 5 * 4 * 256 * 256 + 256 * len(checkpoint.vocabulary)
    for cores, expected in ((1, 1), (2, 2), (64, products // native_engine._PER_THREAD)):
        allowed = {0: range(cores)}  # to this process
        monkeypatch.setattr(os, "sched_getaffinity", allowed.__getitem__)
        engine = NativeEngine.from_checkpoint(checkpoint)
        assert (engine.num_bytes, engine._choices) == (products, (1, expected))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on a Mac
    for count, expected in ((2, 2), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert NativeEngine.from_checkpoint(checkpoint)._choices == (1, expected)
    assert engine.block(1) == 600_000_000 // products
    assert engine.block(100) == 600_000_000 // (100 * products)
    assert engine.block(10_000) == 1
    assert NativeEngine.from_checkpoint(tiny_checkpoint()).block(64) == 512 // 64 + 8  # the stop strings of many


@pytest.mark.parametrize("connections", ["residual", "dense"])
def test_the_weights_that_a_character_takes_are_those_of_all_states_below(
    tiny_checkpoint: Make, connections: str
) -> None:
    engine = NativeEngine.from_checkpoint(tiny_checkpoint(num_layers=3, connections=connections))
    # Each of 3 layers reads itself and the 0, 1, 2 below it; the output reads all 3.
    assert engine.num_bytes == (3 + 0 + 1 + 2) * 4 * 12 * 12 + 3 * 12 * engine.symbols


def test_one_slow_call_is_chance_and_a_call_is_timed_by_all_the_characters_of_its_batch(
    tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, used, takes = [0.0], [], [{1: 1.0, 2: 2.0}]

    def kernel(model: object, threads: int, *rest: object) -> None:
        used.append(threads)
        clock[0] += takes[0][threads]

    monkeypatch.setattr(native_engine.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(native_engine, "_native", SimpleNamespace(model=lambda *_: None, run=kernel, draw=kernel))
    monkeypatch.setattr(native_engine, "_WORTH_STARTING", 0)
    engine = NativeEngine.from_checkpoint(tiny_checkpoint())
    engine._choices = (1, 2)
    state = engine.initial_state(8)
    alphabet = Alphabet(tiny_checkpoint().vocabulary)
    frontier = Frontier(np.zeros((8, engine.symbols), np.float32), state, alphabet.start(8))
    for call in (
        lambda: engine.run(np.zeros((4, 8), np.int64), state),
        lambda: engine.draw(4, frontier, [np.random.default_rng(0)] * 8, alphabet, 1.0),
    ):
        engine._seconds.clear()
        call()
        call()
        assert engine._seconds == {1: 1 / 32, 2: 2 / 32}
    takes[0] = {1: 1000.0, 2: 2.0}
    del used[:]
    for _ in range(10):
        call()
    assert used == [1] * 8 + [2] * 2  # 1.1 ** 8 is more than 2


def test_the_likeliest_that_tie_are_drawn_alike_however_cold_it_is(tiny_checkpoint: Make) -> None:
    engine, alphabet = NativeEngine.from_checkpoint(tiny_checkpoint()), Alphabet(tiny_checkpoint().vocabulary)
    logits = np.zeros((1, engine.symbols), np.float32)
    logits[0, [2, 5]] = 3
    frontier = Frontier(logits, engine.initial_state(1), alphabet.start(1))
    for temperature in (1e-310, 1e-300, 1e-30, 0.01):
        generators = [np.random.default_rng(seed) for seed in range(40)]
        drawn = {int(engine.draw(1, frontier, [each], alphabet, temperature)[0][0, 0]) for each in generators}
        assert drawn == {2, 5}


def test_the_last_character_with_any_probability_is_drawn_at_the_edge_and_masked_ones_never(
    tiny_checkpoint: Make,
) -> None:
    checkpoint = tiny_checkpoint()
    engine, alphabet = NativeEngine.from_checkpoint(checkpoint), Alphabet(checkpoint.vocabulary)
    V = engine.symbols

    class Edge:
        def __init__(self, value: float) -> None:
            self.value = value

        def random(self, count: int) -> NDArray[np.float64]:
            return np.full(count, self.value)

    for seed in range(50):
        logits = np.random.default_rng(seed).normal(0, 20, (1, V)).astype(np.float32)
        logits[0, -1] = 90  # unknown, by far the likeliest, is masked
        frontier = Frontier(logits, engine.initial_state(1), alphabet.start(1))
        for value in (0.0, 0.5, 1 - 2**-53):
            for temperature in (0.0, 1e-310, 0.5, 1.0, 1e300):
                ids, nats, _ = engine.draw(1, frontier, [Edge(value)], alphabet, temperature)  # type: ignore[list-item]
                assert 0 <= ids[0, 0] < V - 1
                assert nats[0, 0] == pytest.approx(-log_softmax(logits)[0, ids[0, 0]], abs=1e-4)
                if temperature < 1e-300:
                    assert ids[0, 0] == logits[0, :-1].argmax()


def test_state_is_a_value(tiny_checkpoint: Make) -> None:
    engine = NativeEngine.from_checkpoint(tiny_checkpoint())
    alphabet = Alphabet(tiny_checkpoint().vocabulary)
    logits, state = engine.step(np.array([1, 2, 3]), engine.initial_state(3))
    kept = [logits.copy(), *(part.copy() for part in state)]
    first, _ = engine.step(np.array([4, 4, 4]), state)
    again, _ = engine.step(np.array([4, 4, 4]), state)
    np.testing.assert_array_equal(first, again)
    frontier = Frontier(logits, state, alphabet.start(3))
    engine.draw(5, frontier, [np.random.default_rng(0)] * 3, alphabet, 1.0)
    for before, after in zip(kept, [logits, *state], strict=True):
        np.testing.assert_array_equal(before, after)
    chosen = engine.select(state, np.array([2, 0, 0]))
    np.testing.assert_array_equal(chosen[0][:, 1], state[0][:, 0])


def test_a_row_of_zeros_and_a_large_vocabulary(tiny_checkpoint: Make) -> None:
    vocabulary = Vocabulary.of("".join(map(chr, range(0x4E00, 0x4E00 + 3000))) + "\n")
    checkpoint = tiny_checkpoint(vocabulary)
    checkpoint.weights["head.weight"][5] = 0
    checkpoint.weights["layers.1.weight_hh_l0"][:] = 0
    ours = NativeEngine.from_checkpoint(checkpoint)
    reference = Reference(checkpoint)
    ids = np.random.default_rng(0).integers(0, ours.symbols, (20, 1))
    found, _ = ours.run(ids, ours.initial_state(1))
    expected, _ = reference.run(ids, reference.initial_state(1))
    np.testing.assert_allclose(log_softmax(found), log_softmax(expected), atol=1e-2)
    (sample,) = generate(ours, vocabulary, "", Sampling(length=50, seed=1))
    assert len(sample.text) == 50


def test_what_it_cannot_run_goes_to_numpy(tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(engine_for(tiny_checkpoint(), "auto"), NativeEngine)
    assert isinstance(engine_for(tiny_checkpoint(tie_weights=True, embedding_size=12), "cpu", 100), NativeEngine)
    assert isinstance(engine_for(tiny_checkpoint(connections="dense", layer_norm=True), "auto"), NativeEngine)
    many = Vocabulary.of("".join(map(chr, range(0x4E00, 0x4E00 + 1100))))
    assert isinstance(engine_for(tiny_checkpoint(many), "auto"), NativeEngine)
    assert isinstance(engine_for(tiny_checkpoint(many, connections="dense"), "auto"), NumpyEngine)
    assert isinstance(engine_for(tiny_checkpoint(connections="residual", num_layers=9), "auto"), NumpyEngine)
    monkeypatch.setattr(native_engine, "_native", None)  # no compiler when it was installed
    assert isinstance(engine_for(tiny_checkpoint(), "auto"), NumpyEngine)


def test_beam_search_finds_what_it_finds_by_numpy_on_the_rounded_weights(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    ours, reference = engine_for(checkpoint), Reference(checkpoint)
    found, expected = (
        beam_search(engine, checkpoint.vocabulary, "a", BeamSearch(4, 12))[0] for engine in (ours, reference)
    )
    assert found.text == expected.text
    assert found.nats == pytest.approx(expected.nats, abs=2e-2)


def test_wrong_arrays_are_errors_and_not_crashes(tiny_checkpoint: Make) -> None:
    engine = NativeEngine.from_checkpoint(tiny_checkpoint())
    state = engine.initial_state(2)
    with pytest.raises(IndexError, match="index 99 of"):
        engine.run(np.array([[1, 99]]), state)
    with pytest.raises(IndexError, match="index -1 of"):
        engine.run(np.array([[-1, 0]]), state)
    with pytest.raises(ValueError, match="array 2: expected 288 bytes, got 192"):
        engine.run(np.array([[1, 2, 3]]), state)
    logits = np.zeros((1, 2, engine.symbols), np.float32)
    logits.flags.writeable = False
    ids = np.zeros((1, 2), np.int64)
    with pytest.raises((BufferError, ValueError)):
        native_engine._native.run(engine._model, 1, 2, 1, 2, (ids, logits, *state))
    with pytest.raises(ValueError, match="-1"):
        native_engine._native.run(engine._model, 1, 2, -1, 2, (ids, logits, *state))
    with pytest.raises(ValueError, match="layers"):
        native_engine._native.model(1, 4, 2, 1000, 12, 9, True, False, ())
    with pytest.raises(IndexError):
        native_engine._native.model(1, 4, 2, 2, 12, 9, True, False, ())
    with pytest.raises(ValueError, match=r"name|valid"):
        native_engine._native.run(object(), 1, 2, 1, 2, (ids, logits, *state))


def test_a_model_is_freed(tiny_checkpoint: Make) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    checkpoint = tiny_checkpoint(hidden_size=256)
    for turn in range(60):
        NativeEngine.from_checkpoint(checkpoint)
        gc.collect()
        if turn == 10:
            before = resident()
    assert resident() - before < 20e6  # each is more than a megabyte
