"""What training does with clocks: it asks the one that never goes back, and takes a leap of it as time that passed."""

from __future__ import annotations

import itertools
import json
import math
import time

import pytest
from runs import small_config, small_corpus

from charrnn.config import Config
from charrnn.data.corpus import Corpus
from charrnn.training import session
from charrnn.training.events import Finished, Snapshot


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return small_corpus(tmp_path)


class Clock:
    """Seconds since any moment; each look at it takes a tenth of one, and before one of them the machine slept."""

    def __init__(self, leap_at: float = math.inf, leap: float = 0.0) -> None:
        self.now, self.looks, self.leap_at, self.leap = 1000.0, 0, leap_at, leap

    def __call__(self) -> float:
        self.looks += 1
        self.now += 0.1 + (self.leap if self.looks == self.leap_at else 0.0)
        return self.now


def seconds_of(running: session.Session) -> list[float]:
    """Those of the lines of ``metrics.jsonl``."""
    lines = (running.run.folder / "metrics.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        assert 0 <= line["characters_per_second"] < 1e6
    return [json.loads(line)["seconds"] for line in lines]


LENGTHS = pytest.mark.parametrize("length", [{"steps": 60}, {"steps": None, "time_limit": 20.0}], ids=["steps", "time"])


@LENGTHS
def test_a_wall_clock_that_is_set_back_and_forth_changes_nothing(corpus, tmp_path, monkeypatch, length):
    seen = []
    for name, wall in (("right", time.time), ("wrong", itertools.cycle((1e9, -1e9, 0.0)).__next__)):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", wall)
            patch.setattr(time, "time_ns", lambda wall=wall: int(wall() * 1e9))
            patch.setattr(time, "monotonic", Clock())
            given = small_config(**length, validate_every="7s", save_every="3s")
            running = session.begin(corpus, given, root=tmp_path / name, name="run")
            events = list(running.events())
        saves = [event.checkpoint.record["steps"] for event in events if isinstance(event, Snapshot) and not event.best]
        seen.append((seconds_of(running), saves, events[-1].reason, events[-1].step))
    right, wrong = seen
    assert wrong == right
    seconds, saves, reason, _ = right
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert len(saves) > 3
    assert reason == "done"


@LENGTHS
@pytest.mark.parametrize("leap", [60.0, 1e9])
@pytest.mark.parametrize("leap_at", [1, 2, 40])
def test_a_machine_that_slept_while_it_trained_lets_it_go_on_or_ends_it_in_time(
    corpus, tmp_path, monkeypatch, length, leap, leap_at
):
    given = small_config(**length, validate_every="7s", save_every="3s")
    running = session.begin(corpus, given, root=tmp_path / "runs", name="run")
    with monkeypatch.context() as patch:
        clock = Clock(leap_at, leap)
        patch.setattr(time, "monotonic", clock)
        *_, finished = running.events()
    assert isinstance(finished, Finished)
    assert finished.reason == "done"
    assert 0 <= finished.seconds <= clock.now - 1000
    seconds = seconds_of(running)
    assert seconds == sorted(seconds)
    assert min(seconds) >= 0
    if "time_limit" in length:
        assert clock.looks < 400
    else:
        assert finished.step == 60
    with pytest.raises(Exception, match="is finished"):
        session.resume(Config(), root=tmp_path / "runs", name="run")
