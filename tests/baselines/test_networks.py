"""The baselines' networks: equal to their equations worked out slowly, in whatever windows a text is read, and trained,
resumed, sampled and scored as the recurrent one is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from charrnn.architectures import ARCHITECTURES, state_shapes, title, weight_shapes
from charrnn.checkpoint import Checkpoint
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data.corpus import Corpus, prepare
from charrnn.decoding.engine import engine_for
from charrnn.errors import CheckpointError, UsageError
from charrnn.evaluation.evaluator import evaluate
from charrnn.model.base import Network
from charrnn.model.build import build
from charrnn.model.noise import Noise
from charrnn.training import session
from charrnn.training.dynamic import adapt

V = 9
SMALL = {
    "nn": ModelConfig(model="nn", context=5, hidden_size=7, dropout=0.0),
    "tcn": ModelConfig(model="tcn", num_layers=3, hidden_size=6, kernel_size=3, dropout=0.0),
    "transformer": ModelConfig(model="transformer", num_layers=2, hidden_size=8, num_heads=2, context=6, dropout=0.0),
}
kinds = pytest.mark.parametrize("kind", SMALL)
Weights = dict[str, NDArray[Any]]


def network(kind: str, seed: int = 0) -> Network:
    """In evaluation mode, with biases and gains that are not what they begin as."""
    generator = torch.Generator().manual_seed(seed)
    model = build(SMALL[kind], V, generator).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.3, generator=generator))
    return model


def run(model: Network, ids: NDArray[Any], cuts: list[int] | None = None) -> NDArray[np.float32]:
    """Logits (T, B, V) of a text read in windows that end at ``cuts``."""
    state = model.initial_state(ids.shape[1])
    parts = []
    with torch.no_grad():
        for window in np.split(ids, cuts or []):
            logits, state = model(torch.from_numpy(window), state)
            parts.append(logits.numpy())
    return np.concatenate(parts)


def text(length: int, batch: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, V, (length, batch))


# ---------------------------------------------------------------------- by their equations, one place at a time


def norm(x: NDArray[Any], weights: Weights, name: str) -> NDArray[Any]:
    centred = x - x.mean()
    result: NDArray[Any] = centred / np.sqrt((centred**2).mean() + 1e-5) * weights[f"{name}.weight"]
    return result + weights[f"{name}.bias"]


def linear(x: NDArray[Any], weights: Weights, name: str) -> NDArray[Any]:
    result: NDArray[Any] = weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]
    return result


def nn_slowly(config: ModelConfig, w: Weights, ids: list[int]) -> list[NDArray[Any]]:
    tables = w["embedding.weight"].reshape(V, config.context, config.hidden_size)
    found = []
    for t in range(len(ids)):
        last = ids[max(0, t - config.context + 1) : t + 1][::-1]
        hidden = np.tanh(w["bias"] + sum(tables[symbol, j] for j, symbol in enumerate(last)))
        found.append(linear(hidden, w, "head"))
    return found


def tcn_slowly(config: ModelConfig, w: Weights, ids: list[int]) -> list[NDArray[Any]]:
    """With torch's own dilated convolution over the whole text, zeros before it."""
    x = torch.from_numpy(w["embedding.weight"][ids])  # (T, H)
    H, K = config.hidden_size, config.kernel_size
    for layer in range(config.num_layers):
        name = f"layers.{layer}"
        u = F.layer_norm(x, (H,), *(torch.from_numpy(w[f"{name}.norm.{part}"]) for part in ("weight", "bias")))
        kernel = torch.from_numpy(w[f"{name}.convolution.weight"]).view(2 * H, K, H).transpose(1, 2)
        padded = F.pad(u.t()[None], ((K - 1) * 2**layer, 0))
        y = F.conv1d(padded, kernel, torch.from_numpy(w[f"{name}.convolution.bias"]), dilation=2**layer)[0]
        gated = torch.tanh(y[:H]) * torch.sigmoid(y[H:])
        x = x + torch.stack([torch.from_numpy(linear(place.numpy(), w, f"{name}.output")) for place in gated.t()])
    return [linear(norm(place.numpy(), w, "norm"), w, "head") for place in x]


def transformer_slowly(config: ModelConfig, w: Weights, ids: list[int]) -> list[NDArray[Any]]:
    """With complex numbers, whose product with e^(iθ) is the rotation, and no mask: who is not seen is not there."""
    H, heads = config.hidden_size, config.num_heads
    D = H // heads
    rates = 10_000.0 ** (-np.arange(D // 2) / (D // 2))

    def turned(x: NDArray[Any], place: int) -> NDArray[Any]:  # (H,) → (heads, D/2) complex
        pairs = x.reshape(heads, D)
        result: NDArray[Any] = (pairs[:, : D // 2] + 1j * pairs[:, D // 2 :]) * np.exp(1j * place * rates)
        return result

    x = [w["embedding.weight"][symbol].astype(np.float64) for symbol in ids]
    for layer in range(config.num_layers):
        name = f"layers.{layer}"
        parts = [linear(norm(v, w, f"{name}.norm_attention"), w, f"{name}.attention") for v in x]
        for t in range(len(x)):
            places = range(max(0, t - config.context + 1), t + 1)
            query = turned(parts[t][:H], t)
            scores = np.array([(query * turned(parts[s][H : 2 * H], s).conj()).real.sum(-1) for s in places])
            shares = np.exp(scores / np.sqrt(D) - (scores / np.sqrt(D)).max(0))  # (places, heads)
            shares /= shares.sum(0)
            values = np.array([parts[s][2 * H :].reshape(heads, D) for s in places])
            attended = (shares[..., None] * values).sum(0).reshape(H)
            x[t] = x[t] + linear(attended, w, f"{name}.output")
        for t in range(len(x)):
            wide = linear(norm(x[t], w, f"{name}.norm_feed"), w, f"{name}.widen")
            gelu = F.gelu(torch.from_numpy(wide)).numpy()
            x[t] = x[t] + linear(gelu, w, f"{name}.narrow")
    return [linear(norm(v, w, "norm"), w, "head") for v in x]


SLOWLY = {"nn": nn_slowly, "tcn": tcn_slowly, "transformer": transformer_slowly}


@kinds
def test_logits_are_those_of_the_equations(kind: str) -> None:
    model = network(kind)
    ids = text(17, 2)
    found = run(model, ids)
    for b in range(2):
        slow = SLOWLY[kind](SMALL[kind], model.weights(), ids[:, b].tolist())
        np.testing.assert_allclose(found[:, b], np.array(slow), rtol=1e-4, atol=1e-4)


@kinds
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 29), unique=True).map(sorted), seed=st.integers(0, 100))
def test_a_text_may_be_read_in_windows_of_any_lengths(kind: str, cuts: list[int], seed: int) -> None:
    model, ids = network(kind), text(30, 2, seed)
    np.testing.assert_allclose(run(model, ids, cuts), run(model, ids), rtol=1e-4, atol=1e-5)


@kinds
def test_a_character_is_seen_as_far_as_said_and_never_by_those_before_it(kind: str) -> None:
    config = SMALL[kind]
    reach = {"nn": 5, "tcn": 1 + 2 * (2**3 - 1), "transformer": 2 * (6 - 1) + 1}[kind]  # characters that see it
    assert kind != "nn" or reach == config.context
    model, ids, place = network(kind), text(40, 1), 10
    other = ids.copy()
    other[place] = (other[place] + 1) % V
    differs = (run(model, ids) != run(model, other)).any((1, 2))
    assert np.flatnonzero(differs).tolist() == list(range(place, place + reach))


@kinds
def test_a_state_set_to_zero_is_that_before_a_text(kind: str) -> None:
    model, ids = network(kind), torch.from_numpy(text(20, 3))
    with torch.no_grad():
        _, state = model(ids, model.initial_state(3))
        keep = torch.tensor([[1.0], [0.0], [1.0]])
        emptied, _ = model(ids, tuple(part * keep for part in state))
        fresh, _ = model(ids, model.initial_state(3))
        carried, _ = model(ids, state)
    torch.testing.assert_close(emptied[:, 1], fresh[:, 1])
    torch.testing.assert_close(emptied[:, 0], carried[:, 0])
    assert not torch.allclose(carried[:, 1], fresh[:, 1])


@kinds
def test_the_stated_shapes_are_the_networks(kind: str) -> None:
    model = network(kind)
    assert weight_shapes(SMALL[kind], V) == {name: tuple(p.shape) for name, p in model.named_parameters()}
    _, state = model(torch.from_numpy(text(4, 3)), model.initial_state(3))
    assert state_shapes(SMALL[kind], 3) == tuple(tuple(part.shape) for part in state)
    assert title(SMALL[kind]).split()[0] in ("n-NN", "TCN", "Transformer")


@kinds
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    model = network(kind).double()
    ids = torch.from_numpy(text(9, 2))
    state = tuple(part.double() for part in model.initial_state(2))

    def loss() -> torch.Tensor:
        logits, _ = model(ids[:-1], state)
        return F.cross_entropy(logits.flatten(0, 1), ids[1:].flatten())

    loss().backward()  # type: ignore[no-untyped-call]
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        way = torch.empty_like(parameter).normal_(generator=generator)
        with torch.no_grad():
            parameter += 1e-6 * way
            above = loss()
            parameter -= 2e-6 * way
            below = loss()
            parameter += 1e-6 * way
        assert float((above - below) / 2e-6) == pytest.approx(float((parameter.grad * way).sum()), abs=1e-7), name


@pytest.mark.parametrize("kind", ["tcn", "transformer", "nn"])
def test_dropout_repeats_with_its_generator_and_is_off_outside_training(kind: str) -> None:
    config = dataclasses.replace(SMALL[kind], dropout=0.5)
    model, ids = build(config, V, torch.Generator().manual_seed(0)), torch.from_numpy(text(8, 2))

    def once(seed: int) -> torch.Tensor:
        with torch.no_grad():
            return model(ids, model.initial_state(2), Noise(torch.Generator().manual_seed(seed)))[0]  # type: ignore[no-any-return]

    model.train()
    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))
    model.eval()
    assert torch.equal(once(1), once(2))


# ---------------------------------------------------------------------- as models of the program


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_text(
        "".join(f"{n} men went to mow, went to mow a meadow, {n % 7}.\n" for n in range(200))
    )
    return prepare([str(folder / "text.txt")], root=folder / "corpora")


def train(folder: Path, corpus: Corpus, kind: str, steps: int = 24, **training: Any) -> Checkpoint:
    model = dataclasses.replace(SMALL[kind], dropout=0.1)
    values = {
        "steps": steps, "batch_size": 4, "sequence_length": 16, "device": "cpu", "precision": "fp32",
        "learning_rate": 0.02, "validate_every": "8", "state_reset": 0.1, **training,
    }  # fmt: skip
    running = session.begin(corpus, Config(model, TrainingConfig(**values)), root=folder, name=kind)
    for _ in running.events():
        pass
    return Checkpoint.load(running.run.best)


@kinds
def test_it_trains_and_what_is_sampled_and_scored_agree(kind: str, tmp_path: Path, corpus: Corpus) -> None:
    checkpoint = train(tmp_path, corpus, kind, steps=60)
    ids = corpus.ids("validation")
    nats = evaluate(checkpoint, ids, len(ids)).nats_per_char
    assert nats < 0.75 * np.log(len(corpus.vocabulary))
    assert nats == pytest.approx(checkpoint.record["validation_nats_per_char"], rel=1e-5)
    # The engine, step by step from the newline, gives the same.
    engine = engine_for(checkpoint)
    state = engine.initial_state(1)
    total, last = 0.0, corpus.vocabulary.index("\n")
    for symbol in ids[:300].tolist():
        logits, state = engine.step(np.array([last]), state)
        row = logits[0].astype(np.float64)
        total += float(np.log(np.exp(row).sum()) - row[symbol])
        last = symbol
    assert total == pytest.approx(evaluate(checkpoint, ids[:300], 300, exact=True).nats, rel=1e-5)
    _, dynamic = adapt(checkpoint, ids, len(ids))
    assert dynamic.nats_per_char < nats


@kinds
def test_a_run_that_was_stopped_goes_on_bit_for_bit(kind: str, tmp_path: Path, corpus: Corpus) -> None:
    whole = train(tmp_path / "whole", corpus, kind)
    running = session.begin(
        corpus, Config(dataclasses.replace(SMALL[kind], dropout=0.1), TrainingConfig(
            steps=24, batch_size=4, sequence_length=16, device="cpu", precision="fp32", learning_rate=0.02,
            validate_every="8", state_reset=0.1)), root=tmp_path / "parts", name=kind,
    )  # fmt: skip
    for event in running.events():
        if getattr(event, "step", 0) == 10:
            running.stop()
    going = session.resume(Config(), root=tmp_path / "parts", name=kind)
    for _ in going.events():
        pass
    again = Checkpoint.load(going.run.best)
    assert all(np.array_equal(whole.weights[name], again.weights[name]) for name in whole.weights)


@kinds
def test_it_can_be_fine_tuned_on_a_text_with_other_characters(kind: str, tmp_path: Path, corpus: Corpus) -> None:
    train(tmp_path, corpus, kind)
    (tmp_path / "other.txt").write_text("Zwei Boxkämpfer jagen Eva quer durch Sylt.\n" * 40)
    other = prepare([str(tmp_path / "other.txt")], root=tmp_path / "corpora")
    start = str(tmp_path / kind / "best.safetensors")
    settings = Config(training=TrainingConfig(steps=4, batch_size=2, sequence_length=8, device="cpu"))
    running = session.begin(other, settings, root=tmp_path, name="tuned", init_from=start)
    for _ in running.events():
        pass
    assert Checkpoint.load(running.run.best).config.model.kind == kind


def test_settings_that_a_kind_lacks_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    for config, said in [
        (ModelConfig(model="tcn", cell="gru"), "--cell: of recurrent; a model of kind tcn has none"),
        (ModelConfig(kernel_size=3), "--kernel-size: of tcn; a model of kind recurrent has none"),
        (ModelConfig(model="transformer", hidden_size=30, num_heads=4), "expected a multiple of twice --num-heads 4"),
    ]:
        with pytest.raises(UsageError, match=said):
            session.begin(corpus, Config(config), root=tmp_path)
    assert not list(tmp_path.iterdir())


@kinds
def test_a_checkpoint_with_another_kinds_tensors_is_refused(kind: str, tmp_path: Path, corpus: Corpus) -> None:
    checkpoint = train(tmp_path, corpus, kind, steps=2)
    weights = dict(checkpoint.weights)
    weights.pop("head.bias")
    path = tmp_path / "other.safetensors"
    dataclasses.replace(checkpoint, weights=weights).save(path)
    with pytest.raises(CheckpointError, match=r"tensor head\.bias is missing"):
        Checkpoint.load(path)


def test_every_kind_has_what_the_program_needs_of_it() -> None:
    from charrnn.config import MODELS
    from charrnn.presets import BASELINES

    assert set(MODELS) == set(ARCHITECTURES) == {*BASELINES, "recurrent"}
    for kind, sizes in BASELINES.items():
        for config in sizes.values():
            assert set(config.to_mapping()) | {"dropout"} >= set(MODELS[kind])
