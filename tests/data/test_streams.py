"""Streams: every character a target exactly once an epoch, in unbroken order within each stream."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from charrnn.data.streams import NOTHING, Streams


def epoch_of(streams: Streams, epoch: int):
    """Inputs and targets of a whole epoch, (steps, B)."""
    windows = [streams.window(epoch, k) for k in range(streams.windows)]
    return np.concatenate([w[0] for w in windows]), np.concatenate([w[1] for w in windows])


shapes = st.tuples(st.integers(2, 400), st.integers(1, 40), st.integers(1, 50), st.integers(0, 3), st.integers(0, 99))


@given(shapes)
def test_every_character_is_a_target_exactly_once_per_epoch(shape):
    N, B, T, epoch, seed = shape
    streams = Streams(np.arange(N), B, T, first=-7, seed=seed)
    _, targets = epoch_of(streams, epoch)
    assert sorted(targets[targets != NOTHING].tolist()) == list(range(N))


@given(shapes)
def test_inputs_are_the_characters_before_the_targets_and_a_newline_before_the_first(shape):
    N, B, T, epoch, seed = shape
    inputs, targets = epoch_of(Streams(np.arange(N), B, T, first=-7, seed=seed), epoch)
    there = targets != NOTHING
    expected = np.where(targets == 0, -7, targets - 1)
    assert (inputs[there] == expected[there]).all()


@given(shapes)
def test_each_stream_is_one_unbroken_text_over_its_windows(shape):
    N, B, T, epoch, seed = shape
    _, targets = epoch_of(Streams(np.arange(N), B, T, first=-7, seed=seed), epoch)
    for stream in targets.T:
        stream = stream[stream != NOTHING]
        assert (np.diff(stream) % N == 1 % N).all()


@given(shapes)
def test_windows_are_no_longer_than_asked_and_nearly_equal(shape):
    N, B, T, _, seed = shape
    streams = Streams(np.arange(N), B, T, first=0, seed=seed)
    lengths = {len(streams.window(0, k)[0]) for k in range(streams.windows)}
    assert max(lengths) <= T
    assert max(lengths) - min(lengths) <= 1


def test_boundaries_move_from_epoch_to_epoch_and_repeat_with_the_seed():
    streams = Streams(np.arange(1000), 4, 16, first=0, seed=5)
    offsets = [streams.offset(epoch) for epoch in range(6)]
    assert offsets[0] == 0
    assert len(set(offsets)) == 6
    assert offsets == [Streams(np.arange(1000), 4, 16, first=0, seed=5).offset(epoch) for epoch in range(6)]


def test_a_short_text_gets_fewer_streams():
    assert Streams(np.arange(10), 64, 128, first=0).batch_size == 1
    assert Streams(np.arange(100), 64, 10, first=0).batch_size == 10


@given(shapes)
def test_targets_are_counted_without_looking_at_them(shape):
    N, B, T, epoch, seed = shape
    streams = Streams(np.arange(N), B, T, first=0, seed=seed)
    for index in range(streams.windows):
        assert streams.count(index) == (streams.window(epoch, index)[1] != NOTHING).sum()
    assert sum(streams.count(index) for index in range(streams.windows)) == N


def test_a_text_that_streams_do_not_divide_is_cut_as_evenly_as_can_be():
    streams = Streams(np.arange(10), 3, 2, first=-7)
    assert (streams.batch_size, streams.length, streams.windows) == (3, 4, 2)
    assert (streams.starts.tolist(), streams.lengths.tolist()) == ([0, 3, 6], [3, 3, 4])
    assert [(streams.span(index), streams.count(index)) for index in range(2)] == [((0, 2), 6), ((2, 4), 4)]
    first, second = streams.window(0, 0), streams.window(0, 1)
    assert [part.tolist() for part in first] == [[[-7, 2, 5], [0, 3, 6]], [[0, 3, 6], [1, 4, 7]]]
    assert [part.tolist() for part in second] == [[[1, 4, 7], [2, 5, 8]], [[2, 5, 8], [NOTHING, NOTHING, 9]]]
    together = streams.window(0, 0, count=2)
    assert all(
        np.array_equal(whole, np.concatenate(parts)) for whole, *parts in zip(together, first, second, strict=True)
    )
    offset = streams.offset(3)
    assert 0 < offset < 10
    # In another epoch the streams run over the end of the text, whose beginning has the newline before it.
    targets = np.concatenate([streams.window(3, index)[1] for index in range(2)])
    assert targets.T[2].tolist() == [(offset + place) % 10 for place in range(6, 10)]
    assert (Streams(np.arange(2), 9, 1, 0).batch_size, Streams(np.arange(1), 9, 5, 0).batch_size) == (2, 1)
