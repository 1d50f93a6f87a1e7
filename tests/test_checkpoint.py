"""Checkpoints: what was saved comes back, what was damaged is refused."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from charrnn import checkpoint as checkpoints
from charrnn.checkpoint import Checkpoint, locate, read_document, run_name
from charrnn.errors import CheckpointError, ResourceError
from charrnn.files import atomic_write


@pytest.fixture
def saved(tiny_checkpoint, tmp_path) -> Path:
    checkpoint = dataclasses.replace(
        tiny_checkpoint(hidden_size=3, embedding_size=2),
        corpus={"name": "poems"},
        record={"steps": 3},
        state={"hidden.0": np.arange(6, dtype=np.float32), "generator": np.arange(9, dtype=np.uint8)},
        progress={"step": 3, "best_nats": 1.5},
    )
    checkpoint.save(tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def test_everything_saved_comes_back(saved, tiny_checkpoint):
    loaded = Checkpoint.load(saved, with_state=True)
    original = tiny_checkpoint(hidden_size=3, embedding_size=2)
    assert loaded.config == original.config
    assert loaded.vocabulary == original.vocabulary
    assert loaded.vocabulary.counts == original.vocabulary.counts
    assert loaded.corpus == {"name": "poems"}
    assert loaded.progress == {"step": 3, "best_nats": 1.5}
    assert loaded.weights.keys() == original.weights.keys()
    for name, array in original.weights.items():
        assert np.array_equal(loaded.weights[name], array)
    assert np.array_equal(loaded.state["generator"], np.arange(9, dtype=np.uint8))


def test_training_state_is_left_out_unless_asked_for(saved):
    loaded = Checkpoint.load(saved)
    assert loaded.state == {}
    assert loaded.progress == {}


def test_every_truncation_is_refused(saved, tmp_path):
    data = saved.read_bytes()
    part = tmp_path / "part.safetensors"
    for length in [*range(0, 400), *range(400, len(data), 97), len(data) - 1]:
        part.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            Checkpoint.load(part)


def test_flipped_bits_are_refused(saved, tmp_path):
    data = saved.read_bytes()
    flipped = tmp_path / "flipped.safetensors"
    rng = np.random.default_rng(0)
    for place in rng.choice(len(data), 600, replace=False):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        flipped.write_bytes(changed)
        try:
            loaded = Checkpoint.load(flipped)
        except CheckpointError:
            continue
        # A flip may fall on white space that pads the header: then nothing that was read may differ.
        original = Checkpoint.load(saved)
        assert loaded.config == original.config
        assert loaded.vocabulary == original.vocabulary
        assert all(np.array_equal(loaded.weights[name], original.weights[name]) for name in original.weights)


def edit(path: Path, change) -> Path:
    """Rewrite a checkpoint's document and tensors, with a digest that fits: not damage, but a strange file."""
    document, tensors = read_document(path), load(path.read_bytes())
    change(document, tensors)
    document["sha256"] = checkpoints._digest(document, tensors)
    path.write_bytes(save(tensors, metadata={"charrnn": json.dumps(document)}))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, t: t.pop("head.bias"), "head.bias is missing"),
        (lambda d, t: t.update(extra=np.zeros(1, np.float32)), "extra does not belong"),
        (lambda d, t: t.update({"head.bias": np.zeros(3, np.float32)}), r"expected float32 \(11,\).* \(3,\)"),
        (lambda d, t: t.update({"head.bias": t["head.bias"].astype(np.float64)}), "float64"),
        (lambda d, t: t["head.bias"].fill(np.nan), "not finite"),
        (lambda d, t: d["config"]["model"].update(hidden_size=10**9), "hidden-size"),
        (lambda d, t: d["config"]["model"].update(shape=3), "shape"),
        (lambda d, t: d["config"]["model"].pop("cell"), "lacks cell"),
        (lambda d, t: d.update(vocabulary={"unit": "char", "codes": [3, 2]}), "vocabulary"),
        (lambda d, t: d.update(vocabulary=[]), "not a charrnn checkpoint"),
        (lambda d, t: d.pop("record"), "record"),
        (lambda d, t: d.update(format=99), "format 99"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_its_own_description_is_refused_in_one_line(saved, change, message):
    def changed(document, tensors):
        tensors.update({name: array.copy() for name, array in tensors.items()})
        change(document, tensors)

    with pytest.raises(CheckpointError, match=message) as error:
        Checkpoint.load(edit(saved, changed))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\x80\x04pickle", b"PK\x03\x04" + bytes(100), b"\xff" * 64, b"[1, 2]" * 9]
)
def test_other_files_are_refused_without_being_run(tmp_path, data):
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="not a charrnn checkpoint"):
        Checkpoint.load(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None, {"x": "y"}, {"charrnn": "{"}, {"charrnn": "7"}, {"charrnn": "[1]"}, {"charrnn": "{}"}, {"charrnn": "NaN"},
        {"charrnn": "[" * 9999},
    ],
)  # fmt: skip
def test_tensors_with_another_description_are_no_checkpoint(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"head.bias": np.zeros(3, np.float32)}, metadata=metadata))
    expected = f"{path}: not a charrnn checkpoint, or damaged; nothing was loaded"
    for read in (read_document, Checkpoint.load):
        assert complaint(lambda read=read: read(path)) == expected


@pytest.mark.parametrize("header", [b"[1, 2]", b"7", b'"__metadata__"', b"null", b"{}", b"\xff\xff"])
def test_a_header_that_is_no_table_of_tensors_is_no_checkpoint(tmp_path, header):
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(9))
    assert "not a charrnn checkpoint" in complaint(lambda: Checkpoint.load(path))


def test_tensors_changed_in_place_are_damaged(saved):
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(data)
    assert complaint(lambda: Checkpoint.load(saved)) == (
        f"{saved}: damaged (its SHA-256 does not match); use another checkpoint of the run"
    )


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(saved, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"x\.safetensors.*No space left"):
        Checkpoint.load(saved).save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["x.safetensors"]


def test_an_error_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with contextlib.suppress(RuntimeError), atomic_write(path) as stream:
        stream.write(b"new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_written_files_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "f") as stream:
            stream.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_a_checkpoint_is_found_by_file_folder_name_or_as_the_latest(saved, tmp_path):
    root = tmp_path / "checkpoints"
    for age, name in ((200, "old"), (100, "new")):
        (root / name).mkdir(parents=True)
        Checkpoint.load(saved).save(root / name / "best.safetensors")
        os.utime(root / name / "best.safetensors", (10**9 - age, 10**9 - age))
    assert locate(str(saved), root) == saved
    assert locate(str(root / "old"), root) == root / "old" / "best.safetensors"
    assert locate("old", root) == root / "old" / "best.safetensors"
    assert locate(None, root) == root / "new" / "best.safetensors"
    with pytest.raises(CheckpointError, match="new, old"):
        locate("none", root)
    with pytest.raises(CheckpointError, match="charrnn train"):
        locate(None, tmp_path / "empty")


def test_a_run_in_a_folder_of_runs_is_found_and_those_of_a_sweep_are_never_the_run_trained_last(saved, tmp_path):
    root = tmp_path / "checkpoints"
    for age, name in ((300, "alone"), (200, "grid/lstm-2"), (100, "swept/lstm-2")):
        (root / name).mkdir(parents=True)
        Checkpoint.load(saved).save(root / name / "best.safetensors")
        os.utime(root / name / "best.safetensors", (10**9 - age, 10**9 - age))
    (root / "swept" / "sweep.json").write_text("{}")
    for name in ("grid/lstm-2", "swept/lstm-2"):
        assert locate(name, root) == root / name / "best.safetensors"
        assert run_name(root / name, root) == name
    assert locate(None, root) == root / "grid/lstm-2" / "best.safetensors"
    with pytest.raises(CheckpointError, match="such as swept/lstm-2"):
        locate("swept", root)
    with pytest.raises(CheckpointError, match="alone, grid/lstm-2, swept/lstm-2"):
        locate("none", root)
    assert run_name(tmp_path, root) == str(tmp_path)


def complaint(read) -> str:
    with pytest.raises(CheckpointError) as error:
        read()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_that_cannot_be_read_is_one_line(saved, tmp_path, monkeypatch):
    nowhere = tmp_path / "nowhere"
    assert complaint(lambda: read_document(nowhere)) == (
        f"{nowhere}: no such checkpoint; charrnn train CORPUS makes one"
    )
    assert complaint(lambda: read_document(tmp_path)) == f"{tmp_path}: cannot be read (Is a directory)"

    def fails(path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fails)  # of the tensors: the header was read before
    assert complaint(lambda: Checkpoint.load(saved)) == f"{saved}: cannot be read (Input/output error)"


def test_a_header_may_be_as_long_and_have_as_many_marks_as_the_limits_say_and_no_more(saved, monkeypatch):
    size = int.from_bytes(saved.read_bytes()[:8], "little")
    header = saved.read_bytes()[8 : 8 + size]
    marks = sum(header.count(mark) for mark in (b"[", b"{", b'"'))
    for limit, most in (("_MAX_HEADER", size), ("_MAX_MARKS", marks)):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, limit, most)
            assert Checkpoint.load(saved).record == {"steps": 3}
            patch.setattr(checkpoints, limit, most - 1)
            assert "nothing was loaded" in complaint(lambda: Checkpoint.load(saved))


@pytest.mark.parametrize("batch_size", [None, 5000])
def test_a_state_may_be_as_large_as_its_model_explains_and_no_larger(saved, batch_size):
    checkpoint = Checkpoint.load(saved)
    training = dataclasses.replace(checkpoint.config.training, batch_size=batch_size)
    checkpoint = dataclasses.replace(checkpoint, config=dataclasses.replace(checkpoint.config, training=training))
    weights = 4 * checkpoint.parameters  # bytes
    hidden = 4 * 2 * (batch_size or 0) * 3  # of two layers of three units
    most = 7 * weights + 4 * hidden + (1 << 20)
    for size in (most, most + 1):
        dataclasses.replace(checkpoint, state={"x": np.zeros(size, np.uint8)}).save(saved)
        if size == most:
            assert len(Checkpoint.load(saved, with_state=True).state["x"]) == most
        else:
            assert "more than its model explains" in complaint(lambda: Checkpoint.load(saved))


@pytest.mark.parametrize(
    ("value", "fits"),
    [(1e9, True), (-1e9, True), (1.0001e9, False), (-1.0001e9, False), (np.nan, False), (np.inf, False)],
)
def test_weights_are_refused_from_where_sums_of_them_are_no_numbers(saved, value, fits):
    def harm(document, tensors):
        tensors["head.bias"] = np.array([value, *[0] * 10], np.float32)

    edit(saved, harm)
    if fits:
        assert Checkpoint.load(saved).weights["head.bias"][0] == np.float32(value)
    else:
        assert "head.bias holds values that are not finite" in complaint(lambda: Checkpoint.load(saved))


def test_a_run_that_is_not_found_is_answered_by_what_there_is(saved, tmp_path):
    root = tmp_path / "checkpoints"
    (root / "begun").mkdir(parents=True)
    assert complaint(lambda: locate("begun", root)) == f"{root / 'begun'}: the run has no best.safetensors yet"
    assert complaint(lambda: locate("begun", root, "last.safetensors")) == (
        f"{root / 'begun'}: the run has no last.safetensors yet; begin it anew with train --force"
    )
    assert "start with: charrnn train" in complaint(lambda: locate(str(root / "begun"), root))
    names = [f"grid/{n}" for n in range(9)]
    for count, name in enumerate(names, start=1):
        (root / name).mkdir(parents=True)
        (root / name / "best.safetensors").touch()
        more = "" if count < 9 else " and 1 more"
        assert complaint(lambda: locate("none", root)) == (
            f"none: no checkpoint, run folder or run of that name; runs here: {', '.join(names[: min(count, 8)])}{more}"
        )
        assert complaint(lambda: locate("grid", root)) == (
            f"{root / 'grid'}: holds {count} run(s); name one of them, such as grid/0"
        )
    (root / "best.safetensors").touch()
    (root / "a" / "b" / "c").mkdir(parents=True)
    (root / "a" / "best.safetensors").mkdir()  # not a file
    (root / "a" / "b" / "c" / "best.safetensors").touch()  # below what can be named
    assert "runs here: grid/0, grid/1" in complaint(lambda: locate("none", root))
    assert run_name(root / "a" / "b" / "c", root) == str(root / "a" / "b" / "c")


def hostile(document: str, header: dict | None = None, size: int | None = None, tail: int = 0) -> bytes:
    """A safetensors file with this document, these tensors in its header, another size in front, zeros behind."""
    data = json.dumps({"__metadata__": {"charrnn": document}, **(header or {})}).encode()
    return (len(data) if size is None else size).to_bytes(8, "little") + data + bytes(tail)


def offsets(begin: int, end: int, dtype: str = "F32", shape: tuple[int, ...] = (1,)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HOSTILE = {
    "a size of 2^63": lambda d: hostile(d, size=2**63),
    "a size beyond the end": lambda d: hostile(d, size=10**7),
    "100 MB of JSON": lambda d: hostile(d + " " * 10**8),
    "16 MB of brackets": lambda d: hostile("[" * (15 << 20)),
    "16 MB of objects": lambda d: hostile("[" + "{}," * (5 << 20) + "0]"),
    "16 MB of numbers": lambda d: hostile("[" + "999," * (3 << 20) + "0]"),
    "16 MB of names": lambda d: hostile(d, {f"t{n:06}": 0 for n in range(10**6)}),
    "nothing but a list": lambda d: (9).to_bytes(8, "little") + b"[1, 2, 3]",
    "offsets that overlap": lambda d: hostile(d, {"head.bias": offsets(0, 4), "head.weight": offsets(0, 4)}, tail=4),
    "offsets that end before they begin": lambda d: hostile(d, {"head.bias": offsets(8, 4)}, tail=4),
    "offsets below zero": lambda d: hostile(d, {"head.bias": offsets(-8, 4)}, tail=4),
    "offsets of 2^63": lambda d: hostile(d, {"head.bias": offsets(0, 2**63)}, tail=4),
    "offsets that are words": lambda d: hostile(d, {"head.bias": {"data_offsets": ["a", "b"]}}, tail=4),
    "a shape of 2^62": lambda d: hostile(d, {"head.bias": offsets(0, 4, shape=(2**62, 4))}, tail=4),
    "a shape below zero": lambda d: hostile(d, {"head.bias": offsets(0, 4, shape=(-1,))}, tail=4),
    "a thousand dimensions": lambda d: hostile(d, {"head.bias": offsets(0, 4, shape=(1,) * 1000)}, tail=4),
    "another type": lambda d: hostile(d, {"head.bias": offsets(0, 4, "F99")}, tail=4),
    "a name with a path": lambda d: hostile(d, {"../../x": offsets(0, 4)}, tail=4),
    "300 MB that no model explains": lambda d: hostile(
        d, {"state.x": offsets(0, 3 * 10**8, "U8", (3 * 10**8,))}, tail=3 * 10**8
    ),
    "10^9 units": lambda d: hostile(d.replace('"hidden_size": 3', '"hidden_size": 1000000000')),
    "10^9 layers": lambda d: hostile(d.replace('"num_layers": 2', '"num_layers": 1000000000')),
    "16384 units of which there are none": lambda d: hostile(d.replace('"hidden_size": 3', '"hidden_size": 16384')),
    "a number of 20,000 digits": lambda d: hostile(d.replace('"hidden_size": 3', '"hidden_size": ' + "9" * 20000)),
    "units that are infinite": lambda d: hostile(d.replace('"hidden_size": 3', '"hidden_size": Infinity')),
}  # fmt: skip

LIES: list[tuple[dict, int, str]] = [
    ({}, 0, "its SHA-256 does not match); use"),
    ({}, 1, "bytes long, "),
    ({"x": offsets(0, 4)}, 3, "bytes long, "),
    ({"x": offsets(0, 4)}, 5, "bytes long, "),
    ({"x": {}}, 4, "its header lacks or garbles 'data_offsets')"),
    ({"x": {"data_offsets": [0]}}, 4, "its header lacks or garbles list index out of range)"),
    ({"x": {"data_offsets": 4}}, 4, "its header lacks or garbles 'int' object is not subscriptable)"),
    ({"x": {"data_offsets": [0, "a"]}}, 4, "its header lacks or garbles invalid literal"),
    ({"x": offsets(0, 4), "y": offsets(0, 4)}, 4, "; use another checkpoint of the run"),
    ({"x": offsets(0, 4, "F99")}, 4, "; use another checkpoint of the run"),
]


@pytest.mark.parametrize(("header", "tail", "message"), LIES)
def test_a_header_that_lies_about_its_tensors_is_damage(saved, header, tail, message):
    saved.write_bytes(hostile(json.dumps(read_document(saved)), header, tail=tail))
    said = complaint(lambda: Checkpoint.load(saved))
    assert said.startswith(f"{saved}: damaged (")
    assert message in said


MEASURED = r"""
import re, sys, time
from pathlib import Path
from charrnn.checkpoint import Checkpoint
from charrnn.errors import CheckpointError
import safetensors.numpy
began = time.perf_counter()
try:
    Checkpoint.load(Path(sys.argv[1]))
except CheckpointError as error:
    peak = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]
    print(time.perf_counter() - began, peak, str(error).count(chr(10)))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_at_once_and_in_little_memory(saved, kind):
    document = json.dumps(read_document(saved))
    assert '"hidden_size": 3' in document
    saved.write_bytes(HOSTILE[kind](document))
    done = subprocess.run([sys.executable, "-c", MEASURED, str(saved)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds, kilobytes, newlines = map(float, done.stdout.split())
    assert newlines == 0
    assert kilobytes < 200_000
    # Speed is no matter for a test on a machine that others use too; what takes ten seconds was not refused at once.
    assert seconds < 10


def test_a_file_of_torch_is_refused_without_being_run(tmp_path):
    import torch

    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"model": Harm()}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="not a charrnn checkpoint"):
        Checkpoint.load(tmp_path / "model.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.slow
def test_every_truncation_and_every_flipped_bit_is_refused_or_changes_nothing(saved, tmp_path, capsys):
    data, original = saved.read_bytes(), Checkpoint.load(saved, with_state=True)
    path = tmp_path / "damaged.safetensors"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            Checkpoint.load(path)
    harmless = 0
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            loaded = Checkpoint.load(path, with_state=True)
        except CheckpointError:
            continue
        harmless += 1
        assert loaded.config == original.config
        assert loaded.vocabulary == original.vocabulary
        assert loaded.progress == original.progress
        for mine, theirs in ((loaded.weights, original.weights), (loaded.state, original.state)):
            assert mine.keys() == theirs.keys()
            assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)
    with capsys.disabled():
        print(f"\n{len(data):,} truncations and {8 * len(data):,} flipped bits, {harmless} of them without effect")
