"""Readers of files against files that are not what they should be.

Each takes a whole file and changes it: a value in its document, with a digest that fits, or any of its bytes. A reader
returns something that can be used, or raises the error of its kind, in one line; and so do the commands.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import call, ends_well, refused
from safetensors.numpy import load, save

from charrnn import checkpoint as checkpoints
from charrnn.checkpoint import Checkpoint, read_document
from charrnn.config import Config
from charrnn.data.corpus import SPLITS, Corpus
from charrnn.decoding.engine import engine_for
from charrnn.decoding.generator import Sampling, generate
from charrnn.errors import CheckpointError, TextError, UsageError
from charrnn.evaluation.evaluator import evaluate

TEXT = "".join(f"{n} green bottles é 日\r\n" for n in range(30))
#: What stands where something else should.
VALUES: list[Any] = [
    None, True, False, 0, 1, 2, 3, -1, 255, 2**31, 2**63, 10**15, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308,
    float("nan"), float("inf"), -float("inf"), "", "x", "1", "nan", "\0", "a\nb", "\ud800", "\U0010ffff", "..",
    "x" * 5000, [], {}, [[]], {"": 0}, [0], [3, 2], [0xD800], [10**400], ["x"] * 3, {"x": [{}]},
]  # fmt: skip
Where = tuple[Any, ...]


@pytest.fixture(scope="module", autouse=True)
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a text, a corpus and a run of it, that the program made."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("text.txt").write_text(TEXT)
        options = ["--hidden-size", "4", "--num-layers", "1", "--embedding-size", "3", "--batch-size", "2"]
        options += ["--sequence-length", "8", "--device", "cpu", "--precision", "fp32", "--validate-every", "1"]
        done = call("train", "text.txt", "--run", "whole", "--steps", "2", *options)
        assert done.code == 0, done.stderr
        yield folder


# ---------------------------------------------------------------------- changes


def put(value: Any, where: Where, new: Any) -> None:
    """Set what stands at a place of a document; ``...`` removes it."""
    for key in where[:-1]:
        value = value[key]
    if new is ...:
        del value[where[-1]]
    else:
        value[where[-1]] = new


def place(value: Any, chance: random.Random) -> Where:
    """Any place of a document, those at the surface as likely as those below."""
    where: list[Any] = []
    while isinstance(value, dict | list) and value and (not where or chance.random() < 0.8):
        key = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
        where.append(key)
        value = value[key]
    return tuple(where)


def changed(document: Any, chance: random.Random) -> Any:
    """A copy with one to three things changed, dropped, added, or of another type."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        where = place(document, chance)
        if not where:
            return chance.choice(VALUES)
        parent = document
        for key in where[:-1]:
            parent = parent[key]
        now = parent[where[-1]]
        numeric = isinstance(now, int | float)
        match chance.randrange(7):
            case 0:
                new = ...
            case 1 if isinstance(parent, dict):
                where, new = (*where[:-1], chance.choice(["x", "", "a\nb", "\ud800", "steps", "files"])), now
            case 2:
                new = chance.choice(([now], {"x": now}, str(now), [now, now]))
            case 3 if numeric:
                new = chance.choice((-now, now + 1, now - 1, now * 2, now * 10**9, str(now)[:9]))
            case 4 if isinstance(now, list) and now:
                new = chance.choice((now[:-1], now + now, now[::-1], now[:1] * len(now)))
            case _:
                new = copy.deepcopy(chance.choice(VALUES))
        put(document, where, new)
    return document


def scrambled(data: bytes, chance: random.Random) -> bytes:
    """Bytes with some changed, lost, repeated or added."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 50))):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del changed[at : at + chance.choice((1, 2, 8, 1000))]
            case 2:
                changed[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 2, 9))))
            case 3:
                changed[at:at] = changed[at : at + chance.choice((1, 8, 100))]
            case 4:
                changed[at : at + 1] = chance.choice((b"0", b"-", b"9" * 5000, b"\n", b"[", b'"', b"{", b"e400", b"\0"))
    return bytes(changed)


def filled(array: Any, real: float, whole: int) -> Any:
    """All the same number: another one in floats than in whole numbers."""
    return np.full_like(array, real if array.dtype.kind == "f" else whole)


TENSORS: list[Callable[[Any], Any]] = [
    lambda array: array.astype(np.float64),
    lambda array: array.astype(np.float16),
    lambda array: array.astype(np.int32),
    lambda array: array.astype(bool),
    lambda array: array.astype(np.uint16),
    lambda array: np.atleast_1d(array)[:1],
    lambda array: array[None],
    lambda array: array.reshape(-1),
    lambda array: np.atleast_1d(array)[:0],
    lambda array: array.T.copy(),
    lambda array: np.array(7, array.dtype),
    lambda array: np.ones(3, np.float32),
    lambda array: filled(array, np.nan, 255),
    lambda array: filled(array, np.inf, 0),
    lambda array: filled(array, 1e38, 1),
    lambda array: np.concatenate([array.reshape(-1)] * 2),
]


def changed_tensors(tensors: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Tensors with one or two changed, dropped, added, or of another type or shape."""
    tensors = dict(tensors)
    for _ in range(chance.choice((1, 1, 2))):
        name = chance.choice(sorted(tensors))
        match chance.randrange(8):
            case 0:
                del tensors[name]
            case 1:
                new = chance.choice(["x", "a\nb", "state.best.x", "state.x", "", "head.weight.x"])
                tensors[new] = tensors[name]
            case _:
                with np.errstate(all="ignore"):
                    tensors[name] = chance.choice(TENSORS)(tensors[name])
    return tensors


# ---------------------------------------------------------------------- checkpoints

RUN = Path("checkpoints/fuzz")


def written(document: Any, tensors: dict[str, Any]) -> bytes:
    """A checkpoint file of any document and tensors, with a digest that fits wherever there can be one."""
    if isinstance(document, dict) and "sha256" in document:
        plain = {key: value for key, value in document.items() if key != "sha256"}
        with suppress(ValueError, TypeError):
            document = {**plain, "sha256": checkpoints._digest(plain, tensors)}
    return save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata={"charrnn": json.dumps(document)})


def check_checkpoint(data: bytes, *, resume: bool) -> bool:
    """Whether a file that may be a checkpoint is one; either way all that reads it behaves."""
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir()
    path = RUN / "last.safetensors"
    path.write_bytes(data)
    found = refused(lambda: Checkpoint.load(path, with_state=True), CheckpointError)
    told = [ends_well("info", str(path), *more, codes={0, 4}) for more in ([], ["--json"])]
    if found is not None:
        assert told[1] == 0
        usable(found)
    if found is not None and resume:
        ends_well("train", "--resume", "--run", "fuzz", "--steps", "4", codes={0, 2, 3, 4, 5})
    return found is not None


def usable(found: Checkpoint) -> None:
    """Generate and score with a checkpoint, as one does."""
    utf8 = bool(found.corpus.get("utf8", True))
    draw = partial(generate, engine_for(found), found.vocabulary, "4 g", Sampling(length=3), utf8=utf8)
    refused(draw, CheckpointError)
    figures = evaluate(found, found.vocabulary.encode("4 green"), 7)
    assert np.isfinite(figures.nats_per_char)


def whole_checkpoint() -> tuple[dict[str, Any], dict[str, Any]]:
    path = Path("checkpoints/whole/last.safetensors")
    return read_document(path), load(path.read_bytes())


def trained(seed: int) -> bool:
    """Whether an example is trained on too: that takes a hundred times as long as to read it."""
    return seed < 60 or seed % 10 == 0


def fuzz_documents(count: int) -> None:
    document, tensors = whole_checkpoint()
    whole = sum(
        check_checkpoint(written(changed(document, random.Random(seed)), tensors), resume=trained(seed))
        for seed in range(count)
    )
    assert 0 < whole < count


def fuzz_tensors(count: int) -> None:
    document, tensors = whole_checkpoint()
    for seed in range(count):
        check_checkpoint(written(document, changed_tensors(tensors, random.Random(seed))), resume=trained(seed))


def fuzz_checkpoint_bytes(count: int) -> None:
    data = Path("checkpoints/whole/last.safetensors").read_bytes()
    for seed in range(count):
        check_checkpoint(scrambled(data, random.Random(seed)), resume=True)


# ---------------------------------------------------------------------- corpora

CORPUS = Path("corpora/fuzz")


def check_corpus(document: bytes, ids: bytes, *, train: bool) -> bool:
    """Whether a folder that may be a corpus is one; either way all that reads it behaves."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    shutil.rmtree(RUN, ignore_errors=True)
    CORPUS.mkdir()
    (CORPUS / "corpus.json").write_bytes(document)
    (CORPUS / "ids.npy").write_bytes(ids)
    found = refused(lambda: Corpus.open(CORPUS), TextError)
    told = [ends_well("info", str(CORPUS), *more, codes={0, 3}) for more in ([], ["--json"])]
    assert told == [0 if found is not None else 3] * 2
    if found is not None:
        text = "".join(found.text(split) for split in SPLITS)
        assert len(text) == found.characters or found.vocabulary.unit == "byte"
        assert found.characters <= found.bytes
        refused(found.check_sources, TextError)
        small = ["--hidden-size", "4", "--num-layers", "1", "--device", "cpu", "--precision", "fp32"]
        if train:
            ends_well("train", "--steps", "2", *small, "--run", "fuzz", "--force", str(CORPUS), codes={0, 2, 3})
    return found is not None


def whole_corpus() -> tuple[Any, bytes]:
    path = Path("corpora/text")
    return json.loads((path / "corpus.json").read_text()), (path / "ids.npy").read_bytes()


def fuzz_corpora(count: int) -> None:
    document, ids = whole_corpus()
    whole = sum(
        check_corpus(json.dumps(changed(document, random.Random(seed))).encode(), ids, train=trained(seed))
        for seed in range(count)
    )
    assert 0 < whole < count


def fuzz_corpus_bytes(count: int) -> None:
    document, ids = whole_corpus()
    text = json.dumps(document).encode()
    for seed in range(count):
        chance = random.Random(seed)
        first = chance.random() < 0.5
        check_corpus(
            *((scrambled(text, chance), ids) if first else (text, scrambled(ids, chance))), train=trained(seed)
        )


# ---------------------------------------------------------------------- settings


def toml(value: Any) -> str:
    """A value as TOML has it; what TOML has no form of, as JSON would."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case float() if value != value or value in (float("inf"), -float("inf")):
            return str(value)
        case int() if not isinstance(value, bool) and abs(value) > 2**64:
            return hex(value)
    return json.dumps(value)


def check_config(data: bytes) -> bool:
    path = Path("config.toml")
    path.write_bytes(data)
    found = refused(lambda: Config.read_toml(path), UsageError)
    if found is not None:
        path.write_text(found.to_toml())
        assert Config.read_toml(path) == found
    return found is not None


def fuzz_configs(count: int) -> None:
    whole = Config.read_toml(Path("checkpoints/whole/config.toml")).to_mapping()
    fine = 0
    for seed in range(count):
        document = changed(whole, random.Random(seed))
        tables = document if isinstance(document, dict) else {"x": document}
        text = "".join(f"{json.dumps(name)} = {toml(values)}\n" for name, values in tables.items())
        fine += check_config(text.encode("utf-8", "surrogatepass"))
    assert 0 < fine < count


def fuzz_config_bytes(count: int) -> None:
    data = Path("checkpoints/whole/config.toml").read_bytes()
    for seed in range(count):
        check_config(scrambled(data, random.Random(seed)))


#: Changes that once ended in a traceback, or were taken for a training's own.
FOUND: list[tuple[Where, Any]] = [
    (("config", "training", "learning_rate"), 10**400),
    (("config", "training", "batch_size"), ...),
    (("record", "seconds"), float("inf")),
    (("record", "seconds"), 10**400),
    (("record", "environment"), [1, 2]),
    (("record", "init_from"), "a file"),
    (("progress", "step"), -(10**9)),
    (("progress", "seconds"), 10**400),
    (("progress", "divergences"), 10**6),
    (("progress", "files"), [1]),
    (("progress", "files"), {"metrics.jsonl": -1}),
    (("vocabulary", "codes", 0), 0xD800),
    (("vocabulary", "counts"), [1]),
    (("corpus", "name"), float("nan")),
]


@pytest.mark.parametrize(("where", "new"), FOUND)
def test_a_checkpoint_of_what_no_training_writes_is_refused_in_one_line_or_used(where: Where, new: Any) -> None:
    document, tensors = whole_checkpoint()
    put(document, where, new)
    check_checkpoint(written(document, tensors), resume=True)


@pytest.mark.parametrize(
    ("where", "new"),
    [
        (("settings", "split"), [10**400, 0, 0]),
        (("settings", "unit"), "byte"),
        (("splits", "train", "bytes"), 0),
        (("splits", "validation", "unknown"), -1),
        (("vocabulary", "codes", 0), 0xDFFF),
        (("characters",), float("inf")),
        (("name",), "a\nb"),
    ],
)
def test_a_corpus_of_what_no_text_gives_is_refused_in_one_line_or_used(where: Where, new: Any) -> None:
    document, ids = whole_corpus()
    put(document, where, new)
    check_corpus(json.dumps(document).encode(), ids, train=True)


def test_weights_too_large_for_finite_figures_are_refused() -> None:
    document, tensors = whole_checkpoint()
    for name, array in tensors.items():
        if not name.startswith("state."):
            assert not check_checkpoint(written(document, {**tensors, name: filled(array, 3e38, 0)}), resume=False)


FUZZ: dict[str, tuple[Callable[[int], None], int]] = {
    "the document of a checkpoint": (fuzz_documents, 60),
    "the tensors of a checkpoint": (fuzz_tensors, 60),
    "the bytes of a checkpoint": (fuzz_checkpoint_bytes, 200),
    "the document of a corpus": (fuzz_corpora, 120),
    "the bytes of a corpus": (fuzz_corpus_bytes, 150),
    "the values of a config": (fuzz_configs, 500),
    "the bytes of a config": (fuzz_config_bytes, 500),
}


@pytest.mark.parametrize("what", FUZZ)
def test_a_changed_file_is_refused_in_one_line_or_can_be_used(what: str) -> None:
    fuzz, few = FUZZ[what]
    fuzz(few)


@pytest.mark.slow
@pytest.mark.parametrize("what", FUZZ)
def test_ten_thousand_changed_files_are_refused_in_one_line_or_can_be_used(what: str) -> None:
    fuzz, _ = FUZZ[what]
    fuzz(10_000)
