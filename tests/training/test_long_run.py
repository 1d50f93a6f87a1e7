"""A long run needs no more memory, files or disk at its end than at its beginning."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from runs import small_config, small_corpus

from charrnn.training import session
from charrnn.training.events import Snapshot

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
PROCESS = Path("/proc/self")


@pytest.mark.slow
@pytest.mark.skipif(not PROCESS.exists(), reason="memory and open files are read from /proc")
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_memory_open_files_and_saves_stay_as_they_are_over_thousands_of_steps(tmp_path, cell, capsys):
    """Each step here validates, previews and saves as often as a step in fifty thousand does elsewhere."""
    given = small_config(6000, cell, validate_every="20", save_every="7", keep=3)
    running = session.begin(small_corpus(tmp_path), given, root=tmp_path / "runs", name="run")
    steps, memory, files = [], [], []
    for event in running.events():
        if isinstance(event, Snapshot) and not event.best and running.trainer.step > 1000:
            steps.append(running.trainer.step)
            memory.append(int((PROCESS / "statm").read_text().split()[1]) * PAGE)
            files.append(len(list((PROCESS / "fd").iterdir())))
            assert len(list(running.run.folder.glob("last*"))) <= 3
    slope = np.polyfit(steps, memory, 1)[0]
    with capsys.disabled():
        figures = f"{memory[-1] / 1e6:.0f} MB, {slope:+.1f} bytes a step, {files[-1]} files open"
        print(f"\n{cell}: {len(steps)} saves, {figures}")
    assert len(set(files)) == 1
    assert slope < 400
    assert memory[-1] - memory[0] < 4e6
