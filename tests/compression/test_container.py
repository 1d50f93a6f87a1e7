"""Any file comes back byte for byte, or is refused: never another text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn.checkpoint import Checkpoint
from charrnn.compression import coding, container
from charrnn.compression.container import Header, compress, decompress, find
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding import native_engine
from charrnn.decoding.ensemble import Ensemble
from charrnn.errors import CheckpointError, ResourceError, TextError, UsageError
from charrnn.evaluation.ngram import NGram

DATA = "abba é, 日\r\n\0fed".encode() + b"\xff\xc3("
needs_kernel = pytest.mark.skipif(native_engine._native is None, reason="the kernel was not compiled")
Saved = Callable[..., Checkpoint]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Callable[..., Checkpoint]) -> Saved:
    """``saved(vocabulary, seed, **settings)``: a small model that was written to a file and read again."""
    folder = tmp_path_factory.mktemp("saved")

    def make(vocabulary: Vocabulary | None = None, seed: int = 0, **settings: object) -> Checkpoint:
        path = folder / f"{len(list(folder.iterdir()))}.safetensors"
        tiny_checkpoint(vocabulary, seed, **settings).save(path)
        return Checkpoint.load(path)

    return make


@pytest.fixture(scope="module")
def model(saved: Saved) -> Checkpoint:
    return saved()


@pytest.fixture(scope="module")
def blob(model: Checkpoint) -> bytes:
    return compress(model, DATA).blob


@pytest.fixture(scope="module")
def readers(saved: Saved, model: Checkpoint) -> list[Checkpoint | Ensemble]:
    every_byte = saved(Vocabulary(tuple(range(256)), "byte"), hidden_size=4, num_layers=1)
    few_bytes = saved(Vocabulary((10, 97, 0xFF), "byte"), cell="gru", layer_norm=True)
    nothing = saved(Vocabulary(()), hidden_size=4)
    return [model, every_byte, few_bytes, Ensemble((model, saved(seed=1, cell="rnn"))), nothing]


@settings(max_examples=40)
@given(
    st.integers(0, 4),
    st.one_of(st.binary(max_size=60), st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))),
    st.sampled_from([coding.LEAST_LANE, 9]),
)
def test_any_bytes_come_back(readers: list[Checkpoint | Ensemble], which: int, data: bytes, lane: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coding, "LEAST_LANE", lane)
        done = compress(readers[which], data)
        assert decompress(readers[which], done.blob, "x") == data


@pytest.mark.parametrize("kind", ["nn", "tcn", "transformer", "ngram"])
def test_the_baselines_compress_too(kind: str, tmp_path: Path) -> None:
    import torch

    from charrnn.model.build import build

    vocabulary = Vocabulary.of("\n abcdef")
    small = {"hidden_size": 8, "dropout": 0.0}
    more = {
        "nn": small | {"context": 4},
        "tcn": small | {"num_layers": 2, "kernel_size": 2},
        "transformer": small | {"num_layers": 1, "num_heads": 2, "context": 6},
        "ngram": {"order": 3},
    }
    config = ModelConfig(model=kind, **more[kind])  # type: ignore[arg-type]
    record: dict[str, object] = {}
    if kind == "ngram":
        ids = vocabulary.encode("abba cab\n" * 9).astype(np.uint8)
        weights = {"text": ids}
        record["parameters"] = int(sum(len(level.shares) for level in NGram.of(ids, vocabulary, 3).levels))
    else:
        weights = build(config, len(vocabulary), torch.Generator().manual_seed(0)).weights()
    Checkpoint(Config(config, TrainingConfig()), vocabulary, weights, record=record).save(tmp_path / "m")
    model, threads = Checkpoint.load(tmp_path / "m"), torch.get_num_threads()
    done = compress(model, DATA)
    torch.set_num_threads(2)
    try:
        assert decompress(model, done.blob, "x") == DATA
        assert compress(model, DATA).blob == done.blob
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert done.kinds == ("counts" if kind == "ngram" else "torch",)


def test_every_cut_and_every_flipped_bit_is_refused(model: Checkpoint, blob: bytes) -> None:
    damaged = [blob[:size] for size in range(len(blob))] + [blob + b"\0", blob + bytes(4)]
    for bit in range(8 * len(blob)):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for data in damaged:
        assert refused(lambda data=data: decompress(model, data, "x"), TextError) is None


def test_what_passes_the_checksum_and_is_another_text_is_refused(model: Checkpoint, blob: bytes) -> None:
    header, words = Header.unpack(blob, "x")
    forged = [
        dataclasses.replace(header, count=count).pack(words) for count in (0, 1, header.count - 1, header.count + 1)
    ]
    forged += [dataclasses.replace(header, text=bytes(16)).pack(words)]
    forged += [header.pack(words[:-1]), header.pack(words[:0])]
    for bit in range(0, 32 * len(words), 5):
        other = words.copy()
        other[bit // 32] ^= np.uint32(1 << bit % 32)
        forged.append(header.pack(other))
    for data in forged:
        # Bits that nothing was coded in may change: then the text is the same.
        assert refused(lambda data=data: decompress(model, data, "x"), CheckpointError) in (None, DATA)


def test_another_checkpoint_is_refused(model: Checkpoint, blob: bytes, saved: Saved) -> None:
    other = saved(seed=1)
    with pytest.raises(CheckpointError, match=f"another checkpoint.*{model.sha256[:32]}"):
        decompress(other, blob, "x")
    both = Ensemble((model, other))
    done = compress(both, DATA).blob
    assert decompress(both, done, "x") == DATA
    for one in (model, Ensemble((other, model))):
        with pytest.raises(CheckpointError, match="another checkpoint"):
            decompress(one, done, "x")
    with pytest.raises(CheckpointError, match="no file"):
        compress(dataclasses.replace(model, sha256=""), DATA)


@needs_kernel
def test_another_engine_is_refused(model: Checkpoint, blob: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_engine, "_native", None)
    with pytest.raises(CheckpointError, match="the compiled kernel, and here is only numpy"):
        decompress(model, blob, "x")
    assert decompress(model, compress(model, DATA).blob, "x") == DATA


def test_other_probabilities_are_refused(model: Checkpoint, blob: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "_PER_NAT", np.nextafter(coding._PER_NAT, np.float32(400)) + np.float32(0.01))
    with pytest.raises(CheckpointError, match="other probabilities"):
        decompress(model, blob, "x")
    # And where the probe does not find it out, the text does.
    monkeypatch.setattr(container, "_probe", lambda *_: Header.unpack(blob, "x")[0].probe)
    monkeypatch.setattr(coding, "_PER_NAT", np.float32(100))
    with pytest.raises(CheckpointError, match="other probabilities"):
        decompress(model, blob, "x")


def test_what_does_not_decode_here_is_not_written(model: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    right = container.decode

    def wrong(*arguments: object) -> object:
        symbols = right(*arguments)  # type: ignore[arg-type]
        symbols.ids[0] += 1
        return symbols

    monkeypatch.setattr(container, "decode", wrong)
    with pytest.raises(ResourceError, match="does not decode to the same"):
        compress(model, DATA)


def test_the_run_that_it_was_compressed_with_is_found(
    model: Checkpoint, blob: bytes, saved: Saved, tmp_path: Path
) -> None:
    for name, one in (("a", saved(seed=2)), ("b", model), ("c", saved(seed=3))):
        (tmp_path / name).mkdir()
        one.save(tmp_path / name / "best.safetensors")
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "best.safetensors").write_bytes(b"damaged")
    assert find(blob, "x", tmp_path) == tmp_path / "b" / "best.safetensors"
    (tmp_path / "b" / "best.safetensors").unlink()
    with pytest.raises(CheckpointError, match=model.sha256[:32]):
        find(blob, "x", tmp_path)


def test_without_the_library_one_line_says_how_to_get_it(model: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(UsageError, match=r"pip install 'charrnn\[compress\]'"):
        compress(model, DATA)
