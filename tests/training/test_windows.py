"""Windows gathered on the device are those that the host cuts out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charrnn.data.streams import NOTHING, Streams
from charrnn.training.windows import DeviceWindows, HostWindows

CPU = torch.device("cpu")


@given(
    st.integers(2, 400), st.integers(1, 40), st.integers(1, 50), st.integers(0, 99),
    st.sampled_from([5, 128, 129, 256, 40_000]),
)  # fmt: skip
def test_both_ways_give_every_window_of_an_epoch(N, B, T, seed, symbols):
    ids = np.random.default_rng(seed).integers(symbols, size=N).astype(np.min_scalar_type(symbols - 1))
    streams = Streams(ids, B, T, first=symbols - 1, seed=seed)
    ways = HostWindows(streams, CPU), DeviceWindows(streams, CPU, symbols)
    nothing = newlines = 0
    for epoch in range(3):
        for index in range(streams.windows):
            expected = streams.window(epoch, index)
            begin, end = streams.span(index)
            for way in ways:
                way.move(epoch, index)
                found = way.window(end - begin)
                assert all(part.dtype == torch.int64 for part in found)
                assert all(np.array_equal(f, e) for f, e in zip(found, expected, strict=True))
            nothing += int((expected[1] == NOTHING).sum())
            places = streams.places(streams.offset(epoch), streams.starts, np.arange(begin, end)[:, None])
            newlines += int((places == 0).sum())
            assert (expected[0][places == 0] == symbols - 1).all()
    assert newlines >= 3
    assert nothing == 3 * (streams.batch_size * streams.length - N)


@pytest.mark.parametrize(("largest", "size"), [(127, 1), (128, 2), (32_767, 2), (32_768, 4)])
def test_the_text_on_the_device_is_as_small_as_its_ids_allow(largest, size):
    ids = np.array([0, largest, 1], np.uint32)
    windows = DeviceWindows(Streams(ids, 1, 3, first=0), CPU, int(ids.max()) + 1)
    assert windows.ids.element_size() == size
    assert windows.ids.tolist() == ids.tolist()
