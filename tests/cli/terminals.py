"""Commands run as a user would, under a pseudo-terminal or not, many of them by one process that is ready for all.

``python terminals.py`` reads orders from standard input, a line of JSON each, runs ``charrnn`` with each list of
arguments in a process of its own, and answers with a line: ``[[exit code, stdout and stderr as hexadecimal], ...]``.
"""

from __future__ import annotations

import importlib
import json
import os
import pty
import select
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: What would decide how things are printed, instead of the tests.
_UNSET = {"NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "LINES", "PYTHONIOENCODING", "PYTHONUNBUFFERED"}


@dataclass(frozen=True)
class Said:
    """What a command left: exit code, and all the bytes that it wrote to standard output and standard error."""

    code: int
    data: bytes

    @property
    def text(self) -> str:
        """The bytes as text; terminals end lines with CR LF."""
        return self.data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")


class Charrnn:
    """The program, loaded and ready, in a folder.

    Args:
        encoding: of the three streams, if it is not UTF-8; then the locale is C.
    """

    def __init__(self, folder: Path, encoding: str | None = None) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _UNSET}
        environment |= {"OMP_NUM_THREADS": "1", "TERM": "xterm-256color"}
        if encoding is not None:
            environment |= {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(
        self, commands: Iterable[Sequence[str]], columns: int = 0, output: str = "pipe", **environment: str
    ) -> list[Said]:
        """Run commands, one after another.

        Args:
            columns: of the terminal that all three streams are; 0: they are none.
            output: what standard output is without a terminal: a ``pipe``, a pipe that nobody reads (``closed``), or
                a file.
        """
        order = {"commands": list(commands), "columns": columns, "output": output, "environment": environment}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return [Said(code, bytes.fromhex(data)) for code, data in answer]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _child(arguments: Sequence[str]) -> None:
    from charrnn.cli import main

    code = 1
    try:
        sys.argv = ["charrnn", *arguments]
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()  # as the interpreter does when it ends
            sys.stderr.flush()
        except BaseException:
            traceback.print_exc()
            code = 120
        os._exit(code)


def _read(descriptor: int, process: int) -> tuple[int, bytes]:
    """All that comes until the process ends, and its exit code."""
    data, status = bytearray(), None
    while True:
        ready = select.select([descriptor], [], [], 0.02)[0]
        try:
            piece = os.read(descriptor, 1 << 16) if ready else b""
        except OSError:  # how a terminal says that nobody is at the other end
            piece, ready = b"", []
            status = os.waitpid(process, 0)[1] if status is None else status
        data += piece
        if status is not None and not piece:
            return os.waitstatus_to_exitcode(status), bytes(data)
        if status is None and not piece:
            ended, ending = os.waitpid(process, os.WNOHANG)
            status = ending if ended else None


def _in_terminal(arguments: Sequence[str], columns: int) -> tuple[int, bytes]:
    import fcntl
    import termios

    process, descriptor = pty.fork()
    if not process:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        _child(arguments)
    try:
        return _read(descriptor, process)
    finally:
        os.close(descriptor)


def _in_pipes(arguments: Sequence[str], output: str) -> tuple[int, bytes]:
    descriptor, writer = os.pipe()
    process = os.fork()
    if not process:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(writer, 2)
        if output == "pipe":
            os.dup2(writer, 1)
        elif output == "closed":
            nobody, gone = os.pipe()
            os.close(nobody)
            os.dup2(gone, 1)
        else:
            os.dup2(os.open(output, os.O_WRONLY), 1)
        os.close(writer)
        os.close(descriptor)
        _child(arguments)
    os.close(writer)
    try:
        return _read(descriptor, process)
    finally:
        os.close(descriptor)


def _main() -> None:
    term = os.environ["TERM"]
    for module in ("charrnn.cli", "charrnn.training.session"):  # whose loading takes longer than most commands
        importlib.import_module(module)
    for line in sys.stdin:
        order = json.loads(line)
        os.environ.update({"TERM": term} | order["environment"])
        columns = order["columns"]
        said = []
        for arguments in order["commands"]:
            code, data = _in_terminal(arguments, columns) if columns else _in_pipes(arguments, order["output"])
            said.append((code, data.hex()))
        print(json.dumps(said), flush=True)
        for name in order["environment"]:
            del os.environ[name]


if __name__ == "__main__":
    _main()
