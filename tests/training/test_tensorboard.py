"""The TensorBoard listener writes what it is told, and passes it on."""

import pytest

from charrnn.training.events import Preview, Report
from charrnn.training.tensorboard import logged


def test_figures_and_samples_are_written_and_passed_on(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = [Report(10, 0.5, 1.0, 0.01, 2.5, 0.4, 1000.0, 0.1, 2.25), Preview(10, "a text")]
    assert list(logged(events, tmp_path)) == events
    written = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert written.Scalars("validation_nats_per_char")[0].value == 2.25
    assert written.Scalars("train_nats_per_char")[0].step == 10
