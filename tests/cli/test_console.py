"""Notices: for whoever reads them."""

from __future__ import annotations

import os
import sys

import pytest

from charrnn.cli.console import note


def test_nothing_fails_because_nobody_reads_a_notice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", buffering=1)
    for gone in (stream, None):
        monkeypatch.setattr(sys, "stderr", gone)
        note("a line")
    assert capsys.readouterr().out == ""
    monkeypatch.undo()
    os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # what is still buffered can be written when it is closed
    stream.close()
