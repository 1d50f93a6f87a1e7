"""Probabilities as whole numbers, and bits that come to what they promise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from charrnn.checkpoint import Checkpoint
from charrnn.compression import coding
from charrnn.compression.coding import WHOLE, coding_engine, decode, encode, shares
from charrnn.compression.symbols import Spelling, Symbols
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding import native_engine
from charrnn.decoding.filters import log_softmax
from charrnn.decoding.native_engine import NativeEngine

LOGITS = arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(2, 9)), elements=st.floats(-1e4, 1e4, width=32))


@given(LOGITS)
def test_shares_are_whole_numbers_that_make_up_the_whole(logits: np.ndarray) -> None:
    V = logits.shape[1]
    found = shares(logits)
    assert (found == np.rint(found)).all()
    assert (found >= 0).all()
    assert (found.sum(-1) == WHOLE - V).all()
    exact = np.exp(log_softmax(logits))
    np.testing.assert_allclose((found + 1) / WHOLE, exact, rtol=0.004, atol=(V + 1) / WHOLE)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_shares_of_what_is_no_number_are_shares_too(odd: float) -> None:
    for logits in ([[0, odd, 1]], [[odd, odd, odd]]):
        found = shares(np.array(logits, np.float32))
        assert found.min() >= 0
        assert found.sum() == WHOLE - 3


class Fixed:
    """An engine that expects the same everywhere."""

    def __init__(self, logits: list[float]) -> None:
        self.logits = np.array(logits, np.float32)
        self.symbols = len(logits)

    def initial_state(self, batch_size: int) -> tuple:
        return ()

    def step(self, ids: np.ndarray, state: tuple) -> tuple[np.ndarray, tuple]:
        return np.tile(self.logits, (len(ids), 1)), state


def test_the_coder_spends_what_the_shares_say() -> None:
    # constriction turns probabilities into whole numbers itself: it must leave these as they are.
    vocabulary = Vocabulary.of("\nab")
    engine = Fixed([0.0, -3.0, -30.0, -8.0])
    expected = (shares(engine.logits[None])[0] + 1) / WHOLE
    for symbol in range(4):
        ids = np.full(1000, symbol)
        words = encode(engine, vocabulary, Symbols(ids, np.zeros(1000 * (symbol == 3), np.int64)), 1)
        assert words.nbytes * 8 == pytest.approx(-1000 * math.log2(expected[symbol]), abs=64)
        assert (decode(engine, vocabulary, words, 1000, 1).ids == ids).all()


@settings(max_examples=30)
@given(st.integers(0, 70), st.data())
def test_any_number_of_lanes_gives_the_same_text_back(count: int, data: st.DataObject) -> None:
    vocabulary, spelling = Vocabulary.of("\nab"), Spelling(Vocabulary.of("\nab"))
    symbols = spelling.symbols(data.draw(st.text("ab\nz\U0010ffff", min_size=count, max_size=count)).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coding, "LEAST_LANE", data.draw(st.integers(10, 30)))
        engine = Fixed([0.0, 1.0, -1.0, -8.0])
        words = encode(engine, vocabulary, symbols, spelling.values)
        again = decode(engine, vocabulary, words, count, spelling.values)
    assert np.array_equal(again.ids, symbols.ids)
    assert np.array_equal(again.ranks, symbols.ranks)


MODELS = {
    "lstm": {},
    "gru": {"cell": "gru"},
    "wide": {"hidden_size": 80, "num_layers": 1},
    "normed": {"layer_norm": True, "connections": "dense"},
    "numpy": {},  # as where the kernel was not compiled
}


@pytest.mark.parametrize("kind", MODELS)
def test_sizes_are_those_that_eval_promises(
    kind: str, tiny_checkpoint: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    from charrnn.evaluation.evaluator import evaluate

    if kind == "numpy":
        monkeypatch.setattr(native_engine, "_native", None)
    checkpoint = tiny_checkpoint(**MODELS[kind])
    generator = np.random.default_rng(0)
    text = "".join(generator.choice([*"\n abcdefghé"], 6000, p=[0.09] * 10 + [0.1]))
    spelling = Spelling(checkpoint.vocabulary)
    symbols = spelling.symbols(text.encode())
    promised = evaluate(checkpoint, symbols.ids, len(text.encode())).nats / math.log(2) / 8
    monkeypatch.setattr(coding, "LEAST_LANE", 1500)
    kinds, engine = coding_engine(checkpoint)
    words = encode(engine, checkpoint.vocabulary, symbols, spelling.values)
    assert kinds == ("numpy" if native_engine._native is None else "kernel",)
    assert words.nbytes == pytest.approx(promised, rel=0.01, abs=24)


@pytest.mark.skipif(native_engine._native is None, reason="the kernel was not compiled")
def test_the_kernel_gives_the_same_bits_with_any_number_of_threads_and_any_instructions(
    tiny_checkpoint: Callable[..., Checkpoint],
) -> None:
    checkpoint = tiny_checkpoint(hidden_size=40)
    spelling = Spelling(checkpoint.vocabulary)
    symbols = spelling.symbols(b"abba cadef\n" * 8)
    found = []
    for threads, level in ((1, 2), (2, 2), (3, 1), (1, 0)):
        engine = NativeEngine(checkpoint.config.model, len(checkpoint.vocabulary), checkpoint.weights, level=level)
        engine._timed = lambda function, characters, *rest, e=engine, n=threads: function(e._model, n, e.level, *rest)
        found.append(encode(engine, checkpoint.vocabulary, symbols, spelling.values).tobytes())
    assert set(found) == {found[0]}


def test_products_in_order_are_those_of_blas_but_for_rounding(tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    from charrnn.decoding.numpy_engine import NumpyEngine

    checkpoint = tiny_checkpoint(connections="dense", layer_norm=True, tie_weights=True, hidden_size=32)
    parts = (checkpoint.config.model, len(checkpoint.vocabulary), checkpoint.weights)
    ids = np.array([[1, 2], [3, 4], [5, 1]])
    (plain, _), (logits, _) = (
        engine.run(ids, engine.initial_state(2)) for engine in (NumpyEngine(*parts), NumpyEngine(*parts, ordered=True))
    )
    np.testing.assert_allclose(plain, logits, rtol=1e-4, atol=1e-5)
