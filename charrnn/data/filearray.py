"""A long array that stays in its files and is read where it is looked at.

Not a memory map: the system kills a process that looks at a mapped file where somebody has cut it off.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.errors import TextError

#: Items that are read together rather than one by one.
BLOCK = 1 << 16


class FileArray:
    """A one-dimensional array in files, as far as readers of a text need one.

    A slice is another one, without reading; an array of places is an array of what stands there; ``np.asarray`` reads
    all of it.

    Args:
        files: which follow each other: of each its path, where its items begin, in bytes, and how many they are.
        dtype: of the items.
        below: every item must be less.
    """

    ndim = 1

    def __init__(self, files: Sequence[tuple[Path, int, int]], dtype: np.dtype[Any], below: int) -> None:
        self.dtype, self._below = dtype, below
        self._files = [_File(path, offset) for path, offset, _ in files]
        self._bounds = np.cumsum([0, *(length for _, _, length in files)])
        self._start, self._length = 0, int(self._bounds[-1])

    def __len__(self) -> int:
        return self._length

    @property
    def shape(self) -> tuple[int]:
        """(N,)"""
        return (self._length,)

    def __getitem__(self, key: Any) -> Any:
        """Raises TextError where the file no longer has what it had, IndexError beyond its end."""
        if isinstance(key, slice):
            start, stop, step = key.indices(self._length)
            if step != 1:
                return np.asarray(self)[key]
            view = object.__new__(FileArray)
            view.__dict__ = {**self.__dict__, "_start": self._start + start, "_length": max(0, stop - start)}
            return view
        places = np.asarray(key)
        if places.size and not -self._length <= places.min() <= places.max() < self._length:
            raise IndexError(f"index out of range for {self._length:,} items")
        places = np.where(places < 0, places + self._length, places)
        # A window of a text has a stream in each column, which lies in one piece.
        columns = places.reshape(len(places), -1).T if places.ndim else places.reshape(1, 1)
        found = np.empty(columns.shape, self.dtype)
        for column, items in zip(columns, found, strict=True):
            self._gather(column, items)
        return found.T.reshape(places.shape) if places.ndim else found[0, 0]

    def _gather(self, places: NDArray[np.intp], items: NDArray[Any]) -> None:
        """Read what stands at these places, (n,), into ``items``."""
        low, high = int(places.min()), int(places.max())
        if high - low < BLOCK:
            items[:] = self._read(low, high + 1)[places - low]
            return
        for at in np.split(np.arange(len(places)), np.flatnonzero(np.abs(np.diff(places)) > BLOCK // 2) + 1):
            if len(at) < len(places):
                self._gather(places[at], items[at[0] : at[-1] + 1])
            else:  # a long slow walk
                for half in np.array_split(at, 2):
                    self._gather(places[half], items[half[0] : half[-1] + 1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self._read(0, self._length)
        return array if dtype is None else array.astype(dtype, copy=False)

    def astype(self, dtype: Any) -> NDArray[Any]:
        """All of it, in another type."""
        return np.asarray(self).astype(dtype)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        """The items from ``start`` to ``stop``, (stop - start,)."""
        items = np.empty(stop - start, self.dtype)
        start, stop = start + self._start, stop + self._start
        first = int(np.searchsorted(self._bounds, start, "right")) - 1
        at = start
        for file, begin, end in zip(self._files[first:], self._bounds[first:], self._bounds[first + 1 :], strict=False):
            if at >= stop:
                break
            upto = min(stop, int(end))
            file.read_into(items[at - start : upto - start], int(at - begin))
            at = upto
        if len(items) and items.max() >= self._below:
            folder = self._files[first].path.parent
            raise TextError(f"{folder}: has been changed while it was in use; run charrnn prepare again")
        return items


class _File:
    """One of the files, open until the last view of the array is gone."""

    def __init__(self, path: Path, offset: int) -> None:
        self.path, self._offset = path, offset
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def read_into(self, items: NDArray[Any], begin: int) -> None:
        """Fill ``items`` with those from ``begin`` on."""
        left, at = memoryview(items.data).cast("B"), self._offset + begin * items.itemsize
        while left:
            data = self._data(len(left), at)
            if not data:
                raise TextError(f"{self.path}: has been cut off while it was in use; run charrnn prepare again")
            left[: len(data)] = data
            left, at = left[len(data) :], at + len(data)

    def _data(self, size: int, at: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, at)
        with self._lock:  # Windows
            self._file.seek(at)
            return self._file.read(size)
