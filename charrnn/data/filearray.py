"""A long array that stays in its file and is read where it is looked at.

Not a memory map: the system kills a process that looks at a mapped file where somebody has cut it off.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.errors import TextError

#: Items that are read together rather than one by one.
BLOCK = 1 << 16


class FileArray:
    """A one-dimensional array in a file, as far as readers of a text need one.

    A slice is another one, without reading; an array of places is an array of what stands there; ``np.asarray`` reads
    all of it.

    Args:
        path: the file.
        dtype: of its items, which are raw bytes from ``offset`` on.
        length: N, number of items.
        below: every item must be less.
    """

    ndim = 1

    def __init__(self, path: Path, dtype: np.dtype[Any], offset: int, length: int, below: int) -> None:
        self.path, self.dtype, self._below = path, dtype, below
        self._file = path.open("rb", buffering=0)  # closed with the last view of it
        self._offset, self._length = offset, length

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
            view.__dict__ = {**self.__dict__, "_length": max(0, stop - start)}
            view._offset += start * self.dtype.itemsize
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
        size = self.dtype.itemsize
        items = np.empty(stop - start, self.dtype)
        left, at = memoryview(items.data).cast("B"), self._offset + start * size
        while left:
            data = os.pread(self._file.fileno(), len(left), at)
            if not data:
                raise TextError(f"{self.path}: has been cut off while it was in use; run charrnn prepare again")
            left[: len(data)] = data
            left, at = left[len(data) :], at + len(data)
        if len(items) and items.max() >= self._below:
            raise TextError(f"{self.path}: has been changed while it was in use; run charrnn prepare again")
        return items
