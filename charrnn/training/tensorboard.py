"""TensorBoard as one more listener: the extra ``charrnn[tensorboard]``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from charrnn.errors import UsageError
from charrnn.training.events import Event, Preview, Report
from charrnn.training.run import TENSORBOARD


def writer_class() -> Any:
    """TensorBoard's writer.

    Raises:
        UsageError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("--tensorboard: is not installed; pip install 'charrnn[tensorboard]'") from error
    return SummaryWriter


def logged(events: Iterable[Event], folder: Path) -> Iterator[Event]:
    """Write figures and samples for TensorBoard below a run's folder, and pass the events on."""
    writer = writer_class()(str(folder / TENSORBOARD))
    try:
        for event in events:
            if isinstance(event, Report):
                for name, value in event.to_json().items():
                    if name != "step":
                        writer.add_scalar(name, value, event.step)
            elif isinstance(event, Preview):
                indented = "\n".join("    " + line for line in event.text.splitlines())
                writer.add_text("sample", indented, event.step)
            yield event
    finally:
        writer.close()
