"""An array in a file is as an array in memory, until somebody cuts the file off."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from charrnn.data import filearray
from charrnn.data.filearray import FileArray
from charrnn.errors import TextError


def both(folder: Path, length: int, dtype: str = "uint16", cuts: tuple[int, ...] = ()) -> tuple[FileArray, np.ndarray]:
    plain = np.random.default_rng(0).integers(0, 200, length).astype(dtype)
    files = []
    for number, piece in enumerate(np.split(plain, sorted(cuts))):
        (folder / f"ids{number}").write_bytes(b"head"[:number] + piece.tobytes())
        files.append((folder / f"ids{number}", min(number, 4), len(piece)))
    return FileArray(files, plain.dtype, 200), plain


@given(data=st.data())
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("block", [4, 1 << 16])
@pytest.mark.parametrize("pread", [True, False])
def test_it_reads_as_an_array_does(tmp_path_factory, data, dtype, block, pread):
    with pytest.MonkeyPatch.context() as patch:
        if not pread:
            patch.delattr(os, "pread", raising=False)
        reads_as_an_array_does(tmp_path_factory.mktemp("array"), data, dtype, block)


def reads_as_an_array_does(folder, data, dtype, block):
    length = data.draw(st.integers(1, 60))
    ours, plain = both(folder, length, dtype, data.draw(st.lists(st.integers(0, length), max_size=5)))
    filearray.BLOCK = block
    for _ in range(data.draw(st.integers(0, 2))):
        start, stop = sorted(data.draw(st.tuples(st.integers(-70, 70), st.integers(-70, 70))))
        if not len(plain[start:stop]):
            break
        ours, plain = ours[start:stop], plain[start:stop]
    assert len(ours) == len(plain)
    assert ours.shape == plain.shape
    assert np.array_equal(np.asarray(ours), plain)
    assert np.array_equal(ours[::2], plain[::2])
    places = data.draw(
        arrays.arrays(
            np.int64, arrays.array_shapes(max_dims=2, max_side=9), elements=st.integers(-len(plain), len(plain) - 1)
        )
    )
    assert np.array_equal(ours[places], plain[places])
    assert ours[places].dtype == plain.dtype
    assert ours[places.flat[0]] == plain[places.flat[0]]
    assert ours.astype(np.int64).dtype == np.asarray(ours, np.int64).dtype == np.int64
    assert np.array_equal(ours.astype(np.int64), plain)
    table = np.arange(1000) * 3
    assert np.array_equal(table[ours], table[plain])
    filearray.BLOCK = 1 << 16


def test_beyond_its_end_it_has_nothing_as_an_array_has(tmp_path):
    np.arange(5, dtype=np.uint8).tofile(tmp_path / "ids")
    array = FileArray([(tmp_path / "ids", 0, 5)], np.dtype(np.uint8), 9)
    for places in (5, -6, [0, 5], [[-6]]):
        with pytest.raises(IndexError):
            array[places]
    assert list(array) == [0, 1, 2, 3, 4]
    assert array[-5] == 0


def test_a_file_that_is_cut_off_or_overwritten_is_one_line(tmp_path):
    ours, plain = both(tmp_path, 5000)
    with (tmp_path / "ids0").open("r+b") as stream:
        stream.truncate(2000)
    assert np.array_equal(ours[np.arange(1000)], plain[:1000])
    with pytest.raises(TextError, match="cut off"):
        ours[np.array([2000])]
    with (tmp_path / "ids0").open("r+b") as stream:
        stream.write(b"\xff" * 100)
    with pytest.raises(TextError, match="changed"):
        ours[np.array([3])]
