"""What is generated, and that its figures are the model's."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding import native_engine
from charrnn.decoding.beam import BeamSearch, beam_search
from charrnn.decoding.engine import Drawing, Frontier, engine_for
from charrnn.decoding.filters import log_softmax
from charrnn.decoding.generator import Generation, Sample, Sampling, drawing, ends_with, generate, until_stop
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.errors import UsageError
from charrnn.model.torch_engine import TorchEngine

Make = Callable[..., Checkpoint]


def score(checkpoint: Checkpoint, prompt: str, data: bytes) -> float:
    """Nats of generated text after newline and prompt: the whole sequence at once, by torch."""
    vocabulary = checkpoint.vocabulary
    engine = TorchEngine.from_checkpoint(checkpoint)
    before = vocabulary.encode("\n" + prompt)
    if vocabulary.unit == "char":
        after = vocabulary.encode(data.decode())
    else:
        after = vocabulary.encode_codes(np.frombuffer(data, np.uint8))
    ids = np.concatenate((before, after))
    logits, _ = engine.run(ids[:-1, None], engine.initial_state(1))
    each = log_softmax(logits[:, 0])[np.arange(len(ids) - 1), ids[1:]]
    return -float(each[len(before) - 1 :].sum())


FILTERED = Sampling(length=120, temperature=0.7, top_k=5, top_p=0.9, seed=4)


@pytest.mark.parametrize("prompt", ["", "a", "abcdefgh" * 100, "nothing of this is known: xyz"])
@pytest.mark.parametrize("how", [Sampling(length=120, seed=1), FILTERED, Sampling(length=120, greedy=True)])
def test_nats_are_the_models_own(tiny_checkpoint: Make, prompt: str, how: Sampling) -> None:
    checkpoint = tiny_checkpoint()
    (sample,) = generate(NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary, prompt, how)
    assert len(sample.text) == sample.characters == 120
    assert sample.nats == pytest.approx(score(checkpoint, prompt, sample.data), abs=1e-3)
    assert sample.log_probability == -sample.nats


def test_a_seed_repeats_and_a_batch_does_not_matter(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    engine, vocabulary = NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary
    together = generate(engine, vocabulary, "ab", Sampling(length=100, seed=7, samples=5, stop=("ab",)))
    assert len({sample.text for sample in together}) == 5
    for n, one in enumerate(together):
        (alone,) = generate(engine, vocabulary, "ab", Sampling(length=100, seed=7 + n, stop=("ab",)))
        assert (one.text, one.seed) == (alone.text, 7 + n)
        assert one.nats == pytest.approx(alone.nats, abs=1e-3)


def test_settings_are_the_documented_ones_and_bad_ones_are_refused() -> None:
    assert Sampling() == Sampling(500, None, None, None, greedy=False, samples=1, seed=0, stop=())
    Sampling(length=1, samples=1 << 16, seed=2**200, stop=["a"])  # type: ignore[arg-type]
    bad: list[tuple[dict[str, Any], str]] = [
        ({"length": 0}, "--length: expected a whole number of at least 1, got 0"),
        ({"seed": -1}, "--seed: expected a whole number of at least 0, got -1"),
        ({"samples": 0}, "--samples: expected a whole number from 1 to 65,536, got 0"),
        ({"samples": 65_537}, "--samples"),
        ({"samples": 1.5}, "--samples"),
        ({"stop": "ab"}, "--stop"),
        ({"stop": ("ab", "")}, "--stop"),
        ({"stop": (1,)}, "--stop"),
        ({"greedy": True, "samples": 2}, "--samples"),
        ({"greedy": True, "top_k": 3}, "--top-k: nothing is drawn with --greedy"),
        ({"greedy": True, "temperature": 1.0}, "--temperature"),
    ]
    for values, said in bad:
        with pytest.raises(UsageError, match=said):
            Sampling(**values)
    Sampling(greedy=True, samples=1)


def test_without_settings_they_are_the_default_ones(tiny_checkpoint: Make) -> None:
    vocabulary = Vocabulary.of("é", "byte")
    engine = NumpyEngine.from_checkpoint(tiny_checkpoint(vocabulary))
    generation = Generation(engine, vocabulary)
    for _ in generation:
        pass
    assert generation.settings == Sampling()
    assert generation.samples == generate(engine, vocabulary)
    assert generation.samples[0].text == "é" * 250, "valid UTF-8, unless it is not asked for"
    (best, *_) = beam_search(engine, vocabulary, "é", BeamSearch(beam=2, length=4))
    assert best.text == "éé"


def test_bits_per_char() -> None:
    assert Sample("abcd", 4 * math.log(8), 4).bits_per_char == pytest.approx(3)


@pytest.mark.skipif(native_engine._native is None, reason="the kernel is not compiled here")
@pytest.mark.parametrize("filters", [{"top_k": 1}, {"top_p": 1e-9}])
def test_engines_that_draw_leave_other_filters_than_the_temperature_to_python(
    tiny_checkpoint: Make, filters: dict[str, Any]
) -> None:
    checkpoint = tiny_checkpoint()
    engine = engine_for(checkpoint)
    for by_itself in (Sampling(), Sampling(temperature=0.5), Sampling(greedy=True)):
        assert drawing(engine, by_itself)[1] == engine.block  # type: ignore[attr-defined]
    greedy = generate(engine, checkpoint.vocabulary, "ab", Sampling(length=60, greedy=True))
    filtered = generate(engine, checkpoint.vocabulary, "ab", Sampling(length=60, **filters))
    assert filtered[0].text == greedy[0].text


def test_a_stop_string_is_found_across_blocks_and_stops_no_one_else(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(seed=8)
    engine, vocabulary = engine_for(checkpoint), checkpoint.vocabulary
    free = generate(engine, vocabulary, "", Sampling(length=200, samples=4, seed=3))
    absent = next(
        pair for a, b in product("abcdefgh", repeat=2) if not any((pair := a + b) in one.text for one in free)
    )
    for at in range(30, 90, 7):
        stop = free[0].text[at : at + 3]
        stopped = generate(engine, vocabulary, "", Sampling(length=200, samples=4, seed=3, stop=(absent, stop)))
        for one, all_of_it in zip(stopped, free, strict=True):
            text = all_of_it.text
            assert one.text == (text[: text.index(stop) + 3] if stop in text else text)
            assert one.nats == pytest.approx(score(checkpoint, "", one.data), rel=0.02)


def test_both_engines_draw_the_same(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    how = Sampling(length=60, seed=3, samples=3)
    texts = [
        [sample.text for sample in generate(kind.from_checkpoint(checkpoint), checkpoint.vocabulary, "a", how)]
        for kind in (NumpyEngine, TorchEngine)
    ]
    assert texts[0] == texts[1]


def test_pieces_are_the_samples(tiny_checkpoint: Make) -> None:
    vocabulary = Vocabulary.of("\n aé你🎉", "byte")
    checkpoint = tiny_checkpoint(vocabulary)
    for utf8 in (True, False):
        how = Sampling(length=50, samples=3, seed=1)
        generation = Generation(NumpyEngine.from_checkpoint(checkpoint), vocabulary, "é", how, utf8=utf8)
        pieces = ["", "", ""]
        for n, piece in generation:
            pieces[n] += piece
        for piece, sample in zip(pieces, generation.samples, strict=True):
            assert piece.encode("utf-8", "surrogateescape") == sample.data
            assert sample.nats == pytest.approx(score(checkpoint, "é", sample.data), abs=1e-3)


@pytest.mark.parametrize("block", [1, 8, 64])
def test_a_sum_of_nats_is_the_same_in_every_batch_and_block(block: int) -> None:
    vocabulary = Vocabulary.of("\nab")
    V = len(vocabulary)

    class Table:
        """Draws of sequence b are those of its generator, and so are their nats, to the last bit."""

        symbols = V

        def initial_state(self, batch_size: int) -> tuple[()]:
            return ()

        def select(self, state: tuple[()], rows: np.ndarray) -> tuple[()]:
            return ()

        def run(self, ids: np.ndarray, state: tuple[()]) -> tuple[np.ndarray, tuple[()]]:
            return np.zeros((*ids.shape, V), np.float32), ()

        step = run

        def block(self, batch_size: int) -> int:
            return block

        def draw(
            self, count: int, frontier: Frontier, generators: list[np.random.Generator], *_: object, **__: object
        ) -> tuple[np.ndarray, np.ndarray, Frontier]:
            points = np.stack([generator.random(count) for generator in generators], 1)
            return (points * (V - 1)).astype(np.int64), points, frontier

    assert isinstance(Table(), Drawing)
    together = generate(Table(), vocabulary, "", Sampling(length=200, samples=9))  # type: ignore[arg-type]
    for n, sample in enumerate(together):
        (alone,) = generate(Table(), vocabulary, "", Sampling(length=200, seed=n))  # type: ignore[arg-type]
        one_by_one = 0.0
        for point in np.random.default_rng(n).random(200).tolist():
            one_by_one += point
        assert (sample.text, sample.nats) == (alone.text, one_by_one)
        assert alone.nats == one_by_one


@given(
    st.text("ab", max_size=6), st.text("ab", min_size=1, max_size=8), st.lists(st.text("ab", min_size=1), min_size=1)
)
def test_a_stop_string_ends_at_the_first_character_that_completes_one(
    before: str, added: str, stops: list[str]
) -> None:
    letters, endings = list(before), [list(stop) for stop in stops]
    expected = (added, False)
    for place, letter in enumerate(added, 1):
        letters.append(letter)
        if ends_with(letters, endings):  # type: ignore[arg-type]
            expected = added[:place], True
            break
    assert until_stop(before, added, stops) == expected


def test_stop_ends_the_text_and_is_kept(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    engine, vocabulary = NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary
    (free,) = generate(engine, vocabulary, "", Sampling(length=300, seed=2))
    stop = free.text[100:102]
    (stopped,) = generate(engine, vocabulary, "", Sampling(length=300, seed=2, stop=("never!", stop)))
    assert stopped.text == free.text[: free.text.index(stop) + 2]


def test_the_prompt_does_not_count_as_a_stop(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint()
    (sample,) = generate(
        NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary, "a", Sampling(length=2, stop=("ab",), seed=1)
    )
    assert sample.characters == 2 or sample.text == "ab"


def test_a_vocabulary_without_newline_begins_with_unknown(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint(Vocabulary.of("abc"))
    (sample,) = generate(NumpyEngine.from_checkpoint(checkpoint), checkpoint.vocabulary, "", Sampling(length=20))
    assert set(sample.text) <= set("abc")
    assert sample.nats == pytest.approx(score(checkpoint, "", sample.data), abs=1e-3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(min_size=1, max_size=8),
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.3, 1.0, 3.0]),
    length=st.integers(1, 30),
)
def test_bytes_stay_utf8(tiny_checkpoint: Make, text: str, seed: int, temperature: float, length: int) -> None:
    vocabulary = Vocabulary.of(text, "byte")
    checkpoint = tiny_checkpoint(vocabulary, seed=seed, num_layers=1, hidden_size=4, embedding_size=3)
    how = Sampling(length=length, temperature=temperature, seed=seed, samples=2)
    for sample in generate(NumpyEngine.from_checkpoint(checkpoint), vocabulary, text, how):
        assert sample.data.decode("utf-8") == sample.text
        assert length <= sample.characters <= length + 3
