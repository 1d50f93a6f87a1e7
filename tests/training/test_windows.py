"""Windows gathered on the device are those that the host cuts out."""

import threading
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charrnn.data.streams import NOTHING, Streams
from charrnn.errors import TextError
from charrnn.training import windows
from charrnn.training.windows import DeviceWindows, HostWindows, fits

CPU = torch.device("cpu")


@given(
    st.integers(2, 400), st.integers(1, 40), st.integers(1, 50), st.integers(0, 99),
    st.sampled_from([5, 128, 129, 256, 40_000]), st.sampled_from([1, 100, 1 << 18]),
)  # fmt: skip
def test_both_ways_give_every_window_of_an_epoch(N, B, T, seed, symbols, at_once):
    ids = np.random.default_rng(seed).integers(symbols, size=N).astype(np.min_scalar_type(symbols - 1))
    streams = Streams(ids, B, T, first=symbols - 1, seed=seed)
    with mock.patch.object(windows, "TOGETHER", at_once):
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


@pytest.mark.parametrize(("at_once", "reads"), [(1, 10), (8 * 5 * 4, 3), (1 << 18, 1)])
def test_the_host_cuts_out_several_windows_at_a_time_as_far_as_the_epoch_goes(at_once, reads, monkeypatch):
    monkeypatch.setattr(windows, "TOGETHER", at_once)
    cut = []

    class Counted(Streams):
        def window(self, epoch, index, count=1):
            cut.append((epoch, index, count))
            return super().window(epoch, index, count)

    streams = Counted(np.zeros(8 * 50, np.uint8), 8, 5, first=0)
    host = HostWindows(streams, CPU)
    for epoch in range(2):
        for index in range(10):
            host.move(epoch, index)
            host.window(5)
    # The last window of the second epoch has been followed by a block that is not needed.
    host._thread.shutdown()
    assert [sum(count for of, _, count in cut if of == epoch) for epoch in range(2)] == [10, 10]
    assert len(cut) == 2 * reads + 1


def test_the_next_block_is_cut_out_while_this_one_is_used_and_its_failure_is_seen_when_it_is_needed(monkeypatch):
    monkeypatch.setattr(windows, "TOGETHER", 10)
    begun = {index: threading.Event() for index in (0, 2, 4)}

    class Failing(Streams):
        def window(self, epoch, index, count=1):
            begun[index].set()
            if index == 4:
                raise TextError("cut off")
            return super().window(epoch, index, count)

    host = HostWindows(Failing(np.zeros(30, np.uint8), 1, 5, first=0), CPU)
    for index in range(4):
        host.move(0, index)
        host.window(5)
        assert begun[index - index % 2 + 2].wait(60)
    host.move(0, 4)
    with pytest.raises(TextError, match="cut off"):
        host.window(5)


def test_going_back_takes_no_block_for_another(monkeypatch):
    monkeypatch.setattr(windows, "TOGETHER", 10)
    streams = Streams(np.arange(60, dtype=np.uint8), 2, 5, first=0)
    host = HostWindows(streams, CPU)
    for place in [(0, 0), (0, 1), (0, 5), (0, 2), (3, 1), (0, 0), (1, 0)]:
        host.move(*place)
        for found, expected in zip(host.window(5), streams.window(*place), strict=True):
            assert np.array_equal(found, expected)


def test_a_text_lies_on_the_device_where_there_is_room_for_six_times_as_much(monkeypatch):
    streams = Streams(np.zeros(1000, np.uint8), 4, 5, first=0)
    for free, expected in ((6001, True), (6000, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**9))
        assert fits(streams, torch.device("cuda")) is expected
        assert fits(streams, CPU)


@pytest.mark.parametrize(("largest", "size"), [(127, 1), (128, 2), (32_767, 2), (32_768, 4)])
def test_the_text_on_the_device_is_as_small_as_its_ids_allow(largest, size):
    ids = np.array([0, largest, 1], np.uint32)
    there = DeviceWindows(Streams(ids, 1, 3, first=0), CPU, int(ids.max()) + 1)
    assert there.ids.element_size() == size
    assert there.ids.tolist() == ids.tolist()
