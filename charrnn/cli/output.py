"""Files that a user names for a result."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from charrnn.errors import UsageError

if TYPE_CHECKING:
    from charrnn.inspection.report import Report


def check_output(option: str, path: Path) -> None:
    """Raises UsageError where no file can be written; ``option`` is what named it."""
    if not path.name or path.is_dir():
        raise UsageError(f"{option} {path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no such folder; make it, or name another file")
    if (path.is_file() or not path.exists()) and not os.access(path.resolve().parent, os.W_OK):
        raise UsageError(f"{option} {path}: the folder cannot be written to; name a file elsewhere")


def write_output(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; a link stays one, and a pipe or a device is written to, and not replaced.

    Raises:
        ResourceError: it cannot be written there.
    """
    from charrnn.files import atomic_write

    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with atomic_write(path.resolve(), len(data)) as stream:
        stream.write(data)


def write_page(path: Path, report: Report, *about: str) -> None:
    """Write a report as an HTML file, and say so; ``about`` names what it is of, under its title.

    Raises:
        ResourceError: it cannot be written there.
    """
    from charrnn.cli.console import note
    from charrnn.inspection.html import page

    write_output(path, page(report, " · ".join(about)).encode("utf-8", "replace"))
    note(f"wrote {path}")


def present(report: Report, *about: str, json: bool, html: Path | None, show: Callable[[], None] | None = None) -> None:
    """Show a report where it is wanted: in an HTML file, as JSON, or in the terminal, there by ``show`` if given."""
    if html is not None:
        write_page(html, report, *about)
    if json:
        from charrnn.cli.console import print_json

        print_json(report.document)
    elif html is None and show is not None:
        show()
    elif html is None:
        from charrnn.cli.console import out
        from charrnn.cli.render import render

        render(out(), report)
