"""The TensorBoard listener writes what it is told, and passes it on, whatever becomes of its file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from disk import Disk, Operation

from charrnn.training import tensorboard
from charrnn.training.events import Preview, Report
from charrnn.training.tensorboard import logged

EVENTS = [
    Report(10, 0.5, 1.0, 0.01, 2.5, 0.4, 1000.0, 0.1, 2.25),
    Preview(10, "a text"),
    Report(20, 1.0, 2.0, 0.01, 2.5, 0.4, 1000.0, 0.2),
]


def test_figures_and_samples_are_written_and_passed_on(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert list(logged(EVENTS, tmp_path, pytest.fail)) == EVENTS
    written = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in written.Scalars("validation_nats_per_char")] == [(10, 2.25)]
    assert [event.step for event in written.Scalars("train_nats_per_char")] == [10, 20]
    (sample,) = written.Tensors("sample/text_summary")
    assert (sample.step, sample.tensor_proto.string_val[0]) == (10, b"    a text")


@pytest.fixture
def plain(monkeypatch):
    """Records that can be told apart, and are made without TensorBoard."""
    monkeypatch.setattr(tensorboard, "recorder", lambda: lambda event: b"." if event is None else event.to_bytes())
    for kind in (Report, Preview):
        monkeypatch.setattr(kind, "to_bytes", lambda event: f"<{event.step}>".encode(), raising=False)


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("for_good", [False, True])
def test_a_disk_that_fails_at_any_operation_is_said_once_and_ends_nothing(
    plain, tmp_path, monkeypatch, failure, for_good
):
    whole = b".<10><10><20>"
    for number in range(100):
        told: list[str] = []

        def before(at: int, operation: Operation, half, number=number) -> None:
            if at == number or (for_good and at > number):
                half()
                raise OSError(failure, "refused")

        folder = tmp_path / str(number)
        folder.mkdir()
        with monkeypatch.context() as patch:
            disk = Disk(patch, before)
            assert list(logged(EVENTS, folder, told.append)) == EVENTS
        written = b"".join(path.read_bytes() for path in (folder / "tensorboard").iterdir())
        if len(disk.operations) <= number:
            break
        (line,) = told
        assert line.startswith(f"warning: {folder / 'tensorboard'}")
        assert line.endswith(" cannot be written (refused); going on without it")
        assert len(written) < len(whole)  # a record is there as a whole or not at all
        assert written.replace(b"<10>", b"").replace(b"<20>", b"") in (b"", b".")
    assert number == 5
    assert (written, told) == (whole, [])


def test_a_file_in_the_place_of_its_folder_is_said_once_and_ends_nothing(plain, tmp_path: Path):
    (tmp_path / "tensorboard").touch()
    told: list[str] = []
    assert list(logged(EVENTS, tmp_path, told.append)) == EVENTS
    (line,) = told
    assert "cannot be written (Not a directory)" in line
