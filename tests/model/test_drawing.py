"""Drawing on the device, against choosing from the logits of other engines. Only real graphs need a GPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from charrnn.cells import CELLS
from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.alphabet import Alphabet
from charrnn.decoding.engine import Drawing, Frontier, engine_for
from charrnn.decoding.filters import log_softmax
from charrnn.decoding.generator import Sample, Sampling, generate, read
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.model import drawing
from charrnn.model.drawing import STEPS, WARM_UP, DrawingTorchEngine, Run, gumbel, splitmix64
from charrnn.model.torch_engine import TorchEngine

Make = Callable[..., Checkpoint]

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Recorded:
    """Stands in for CUDA's graphs: what it captures reads and writes the same tensors each time, as they do."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.warmed, self.captured, self.replayed = fails, 0, 0, 0

    def warm_up(self, run: Run) -> None:
        self.warmed += 1
        run()

    def capture(self, run: Run) -> Run:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            run()

        return replay


def chi_square_is_likely(counts: np.ndarray, expected: np.ndarray) -> bool:
    """Within five standard deviations of what the statistic is when the counts come from there."""
    degrees = len(counts) - 1
    return float(((counts - expected) ** 2 / expected).sum()) < degrees + 5 * np.sqrt(2 * degrees)


def pairs(checkpoint: Checkpoint, samples: list[Sample]) -> list[tuple[float, float]]:
    """Nats of each sample without a prompt: as it has them, and of its text at once, by numpy."""
    engine, vocabulary = NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary
    found = []
    for sample in samples:
        codes = np.frombuffer(sample.data, np.uint8) if vocabulary.unit == "byte" else None
        drawn = vocabulary.encode(sample.text) if codes is None else vocabulary.encode_codes(codes)
        ids = np.concatenate((vocabulary.encode("\n"), drawn))
        logits, _ = engine.run(ids[:-1, None], engine.initial_state(1))
        found.append((sample.nats, -float(log_softmax(logits[:, 0])[np.arange(len(drawn)), drawn].sum())))
    return found


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("connections", ["plain", "residual", "dense"])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("tie_weights", [False, True])
def test_every_architecture_draws_by_the_model(
    tiny_checkpoint: Make, cell: str, connections: str, layer_norm: bool, tie_weights: bool
) -> None:
    checkpoint = tiny_checkpoint(
        cell=cell, connections=connections, layer_norm=layer_norm, tie_weights=tie_weights, num_layers=3
    )
    engine, vocabulary = DrawingTorchEngine.from_checkpoint(checkpoint), checkpoint.vocabulary
    assert isinstance(engine, Drawing)
    greedy = Sampling(length=150, greedy=True)
    (ours,) = generate(engine, vocabulary, "ab", greedy)
    (theirs,) = generate(NumpyEngine.from_checkpoint(checkpoint), vocabulary, "ab", greedy)
    assert ours.text == theirs.text
    assert ours.nats == pytest.approx(theirs.nats, abs=1e-3)
    for found, expected in pairs(checkpoint, generate(engine, vocabulary, "", Sampling(length=150, samples=3))):
        assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_first_two_characters_have_the_models_distribution(tiny_checkpoint: Make, temperature: float) -> None:
    checkpoint = tiny_checkpoint(Vocabulary.of("\n abc"))
    engine, vocabulary, N = DrawingTorchEngine.from_checkpoint(checkpoint), checkpoint.vocabulary, 20_000
    alphabet, V = Alphabet(vocabulary), len(vocabulary)
    logits, state = read(engine, vocabulary, "")
    rows = np.zeros(N, np.int64)
    frontier = Frontier(logits[rows], engine.select(state, rows), alphabet.start(N))
    generators = [np.random.default_rng(n) for n in range(N)]
    ids, _, _ = engine.draw(2, frontier, generators, alphabet, temperature)

    first = np.exp(log_softmax((logits + alphabet.mask) / temperature))  # (1, V)
    allowed = np.arange(V - 1)
    after, _ = engine.step(allowed, engine.select(state, allowed * 0))
    second = np.exp(log_softmax((after + alphabet.mask) / temperature))
    expected = N * first[0, :-1, None] * second[:, :-1]
    counts = np.bincount(ids[0] * (V - 1) + ids[1], minlength=(V - 1) ** 2)
    often = expected.reshape(-1) > 5  # of rarer ones the statistic says nothing
    assert often.sum() > 10
    assert chi_square_is_likely(counts[often], expected.reshape(-1)[often])


@pytest.mark.parametrize("unit", ["char", "byte"])
@pytest.mark.parametrize("how", [{}, {"temperature": 0.6}, {"temperature": 3.0}])
def test_a_seed_repeats_and_a_batch_does_not_matter(
    tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch, unit: str, how: dict[str, float]
) -> None:
    vocabulary = Vocabulary.of("\n abé你🎉xyz", unit)  # type: ignore[arg-type]
    checkpoint = tiny_checkpoint(vocabulary)
    engine = DrawingTorchEngine.from_checkpoint(checkpoint)
    together = generate(engine, vocabulary, "ab", Sampling(length=150, seed=7, samples=5, stop=("ab",), **how))  # type: ignore[arg-type]
    assert len({sample.text for sample in together}) == 5
    for n, one in enumerate(together):
        # Less memory, so that fewer are drawn at a time: that does not matter either.
        monkeypatch.setattr(drawing, "NOISE", 7 * len(vocabulary))
        alone = Sampling(length=150, seed=7 + n, stop=("ab",), **how)  # type: ignore[arg-type]
        (other,) = generate(DrawingTorchEngine.from_checkpoint(checkpoint), vocabulary, "ab", alone)
        assert (one.data, one.seed) == (other.data, 7 + n)
        assert one.nats == pytest.approx(other.nats, abs=1e-3)


@pytest.mark.parametrize("text", ["\n abé", "日本語", "ж", "🎉你\n"])
def test_bytes_stay_utf8(tiny_checkpoint: Make, text: str) -> None:
    vocabulary = Vocabulary.of(text, "byte")
    checkpoint = tiny_checkpoint(vocabulary)
    engine = DrawingTorchEngine.from_checkpoint(checkpoint)
    for length in (1, 70, 129):
        for temperature in (0.3, 3.0):
            samples = generate(engine, vocabulary, "", Sampling(length=length, samples=5, temperature=temperature))
            for sample in samples:
                assert sample.data.decode("utf-8") == sample.text
                assert length <= sample.characters <= length + 3
            for found, expected in pairs(checkpoint, samples):
                assert found == pytest.approx(expected, abs=1e-3)


def test_stop_ends_the_text_and_is_kept(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    engine, vocabulary = DrawingTorchEngine.from_checkpoint(checkpoint), checkpoint.vocabulary
    (free,) = generate(engine, vocabulary, "", Sampling(length=300, seed=2))
    for start in (62, 63, 64, 100):  # within a block, and across the end of one
        stop = free.text[start : start + 3]
        (stopped,) = generate(engine, vocabulary, "", Sampling(length=300, seed=2, stop=("never!", stop)))
        assert stopped.text == free.text[: free.text.index(stop) + 3]
        ((found, expected),) = pairs(checkpoint, [stopped])
        assert found == pytest.approx(expected, abs=1e-3)


def test_extreme_temperatures_and_a_masked_favourite(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    checkpoint.weights["head.bias"][-1] = 90  # unknown, by far the likeliest
    engine, vocabulary = DrawingTorchEngine.from_checkpoint(checkpoint), checkpoint.vocabulary
    greedy = generate(engine, vocabulary, "", Sampling(length=80, greedy=True))[0].text
    assert generate(engine, vocabulary, "", Sampling(length=80, temperature=1e-310))[0].text == greedy
    for temperature in (1.0, 1e300):
        (sample,) = generate(engine, vocabulary, "", Sampling(length=2000, temperature=temperature))
        assert "\N{REPLACEMENT CHARACTER}" not in sample.text
    counts = np.bincount(vocabulary.encode(sample.text))  # hotter than any difference between the logits
    assert chi_square_is_likely(counts, np.full(len(counts), 2000 / len(counts)))


def test_the_frontier_is_a_value(tiny_checkpoint: Make) -> None:
    vocabulary = Vocabulary.of("\n aé你", "byte")
    engine, alphabet = DrawingTorchEngine.from_checkpoint(tiny_checkpoint(vocabulary)), Alphabet(vocabulary)
    logits, state = engine.run(np.array([[1, 2, 3]]), engine.initial_state(3))
    frontier = Frontier(logits[0], state, alphabet.start(3))
    for count in (5, 64):
        kept = [np.asarray(part).copy() for part in (frontier.logits, *frontier.state, frontier.places)]
        results = [
            engine.draw(count, frontier, [np.random.default_rng(n) for n in range(3)], alphabet, 1.0) for _ in range(2)
        ]
        for one, other in zip(results[0][:2], results[1][:2], strict=True):
            np.testing.assert_array_equal(one, other)
        for before, after in zip(kept, (frontier.logits, *frontier.state, frontier.places), strict=True):
            np.testing.assert_array_equal(before, np.asarray(after))
        frontier = results[0][2]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("unit", ["char", "byte"])
def test_graphs_are_used_for_whole_windows_and_change_nothing(tiny_checkpoint: Make, unit: str, fails: bool) -> None:
    vocabulary = Vocabulary.of("\n abé你", unit)  # type: ignore[arg-type]
    checkpoint = tiny_checkpoint(vocabulary)
    plain, graphed = (DrawingTorchEngine.from_checkpoint(checkpoint) for _ in range(2))
    graphed.graphs = recorded = Recorded(fails=fails)  # type: ignore[assignment]
    length = 8 * STEPS + 5
    for turn in range(2):  # the second one with another prompt and temperature, in the same graph
        how = Sampling(length=length, samples=3, seed=turn, temperature=1.0 + turn)
        ours, theirs = (generate(engine, vocabulary, "ba"[turn], how) for engine in (graphed, plain))
        assert [sample.data for sample in ours] == [sample.data for sample in theirs]
        assert [sample.nats for sample in ours] == [sample.nats for sample in theirs]
    assert recorded.warmed == WARM_UP
    assert (recorded.captured, recorded.replayed) == ((0, 0) if fails else (1, 16 - WARM_UP))


def test_a_batch_of_another_size_gets_its_own_graph(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    engine, vocabulary = DrawingTorchEngine.from_checkpoint(checkpoint), checkpoint.vocabulary
    engine.graphs = recorded = Recorded()  # type: ignore[assignment]
    texts = []
    for samples in (1, 3, 1):
        drawn = generate(engine, vocabulary, "", Sampling(length=4 * STEPS, samples=samples))
        texts.append(drawn[0].text)
    assert recorded.captured == 3
    assert len(set(texts)) == 1


def test_splitmix64_gives_the_numbers_of_its_reference() -> None:
    # The first outputs of splitmix64.c for the seed 1234567, as the tests of its many ports have them.
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    keys = torch.tensor([[1234567], [-1]])
    found = splitmix64(keys, 5)
    assert found.shape == (2, 1, 5)
    assert [number % 2**64 for number in found[0, 0].tolist()] == known
    torch.testing.assert_close(splitmix64(keys[1:], 3), found[1:, :, :3])


def test_noise_is_gumbel_finite_and_independent() -> None:
    generators = [np.random.default_rng(seed) for seed in range(50)]
    numbers = np.stack([generator.bit_generator.random_raw(64) for generator in generators])
    noise = gumbel(torch.from_numpy(numbers.view(np.int64)), 66).double()  # (50, 64, 66)
    assert noise.isfinite().all()
    uniform = torch.exp(-torch.exp(-noise))  # its distribution function
    sets = [uniform, uniform[0], uniform[:, 0], uniform[:, :, 0]]  # all, one sequence, one step, one character
    for values in sets:
        counts = torch.histc(values, 100, 0, 1).numpy()
        assert chi_square_is_likely(counts, np.full(100, values.numel() / 100))
    for one, other in ((uniform[1:], uniform[:-1]), (uniform[:, 1:], uniform[:, :-1])):
        assert abs(float(torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1])) < 0.01
    neighbours = torch.stack((uniform[..., 1:].flatten(), uniform[..., :-1].flatten()))
    assert abs(float(torch.corrcoef(neighbours)[0, 1])) < 0.01
    extreme = gumbel(torch.arange(-5000, 5000) * 2**50, 100)
    assert extreme.isfinite().all()


def test_the_largest_noise_is_as_large_and_as_frequent_as_it_should_be() -> None:
    noise = gumbel(torch.arange(200_000), 50)
    for level in (5.0, 8.0, 11.0):
        expected = noise.numel() * -np.expm1(-np.exp(-level))
        assert abs(int((noise > level).sum()) - expected) < 5 * np.sqrt(expected)


def test_only_cuda_draws_by_itself(tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for kind in (DrawingTorchEngine, TorchEngine):
        monkeypatch.setattr(kind, "__init__", lambda self, model, device: made.append((type(self), device)))
    engine_for(tiny_checkpoint(), "cuda")
    engine_for(tiny_checkpoint(), "mps")
    engine_for(tiny_checkpoint(), "auto", 100)
    assert made == [(DrawingTorchEngine, "cuda"), (TorchEngine, "mps"), (DrawingTorchEngine, "cuda")]


@needs_cuda
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("unit", ["char", "byte"])
def test_a_graph_draws_what_plain_steps_draw(tiny_checkpoint: Make, cell: str, unit: str) -> None:
    vocabulary = Vocabulary.of("\n abé你", unit)  # type: ignore[arg-type]
    checkpoint = tiny_checkpoint(vocabulary, cell=cell, connections="residual", layer_norm=True, tie_weights=True)
    plain, graphed = (DrawingTorchEngine.from_checkpoint(checkpoint, "cuda") for _ in range(2))
    plain.graphs = None
    for turn in range(2):
        for samples in (1, 5):
            how = Sampling(length=8 * STEPS + 5, samples=samples, seed=turn, temperature=1.0 + turn)
            ours, theirs = (generate(engine, vocabulary, "ab", how) for engine in (graphed, plain))
            assert graphed._desk is not None
            assert graphed._desk.replayed._replay is not None
            assert [sample.data for sample in ours] == [sample.data for sample in theirs]
            for found, expected in pairs(checkpoint, generate(graphed, vocabulary, "", how)):
                assert found == pytest.approx(expected, abs=1e-2)


@needs_cuda
def test_cuda_and_cpu_make_the_same_noise() -> None:
    keys = torch.arange(-500, 500) * 2**50
    torch.testing.assert_close(splitmix64(keys.cuda(), 60).cpu(), splitmix64(keys, 60))
    torch.testing.assert_close(gumbel(keys.cuda(), 60).cpu(), gumbel(keys, 60), rtol=1e-4, atol=1e-5)
