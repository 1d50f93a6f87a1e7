"""TensorBoard as one more listener: the extra ``charrnn[tensorboard]``."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from charrnn.errors import UsageError
from charrnn.files import Log
from charrnn.training.events import Event, Preview, Report
from charrnn.training.run import TENSORBOARD, Notify


def recorder() -> Callable[[Event | None], bytes]:
    """What turns an event into TensorBoard's records, of which there may be none, and None into a file's first one.

    TensorBoard's own writer is not used: it writes in a thread, whose errors come late, with a traceback.

    Raises:
        UsageError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import RecordWriter, summary
        from torch.utils.tensorboard.writer import event_pb2  # type: ignore[attr-defined]
    except ImportError as error:
        raise UsageError("--tensorboard: is not installed; pip install 'charrnn[tensorboard]'") from error

    def contents(event: Event | None) -> Iterator[dict[str, Any]]:
        match event:
            case None:
                yield {"file_version": "brain.Event:2"}
            case Report():
                for name, value in event.to_json().items():
                    if name != "step":
                        yield {"step": event.step, "summary": summary.scalar(name, value)}  # type: ignore[no-untyped-call]
            case Preview():
                indented = "\n".join("    " + line for line in event.text.splitlines())
                yield {"step": event.step, "summary": summary.text("sample", indented)}  # type: ignore[no-untyped-call]

    def records(event: Event | None) -> bytes:
        buffer = io.BytesIO()
        for content in contents(event):
            RecordWriter(buffer).write(event_pb2.Event(wall_time=time.time(), **content).SerializeToString())
        return buffer.getvalue()

    return records


def logged(events: Iterable[Event], folder: Path, notify: Notify) -> Iterator[Event]:
    """Write figures and samples for TensorBoard below a run's folder, and pass the events on.

    Args:
        notify: told, in a line, that they cannot be written, which ends nothing.
    """
    records = recorder()
    # A new file each time: what follows a record that was cut short would not be read.
    name = f"events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}"
    log = Log(folder / TENSORBOARD / name, notify)
    with contextlib.suppress(OSError):  # the log will say it
        log.path.parent.mkdir(exist_ok=True)
    try:
        log.write(records(None))
        for event in events:
            log.write(records(event))
            yield event
    finally:
        log.close()
