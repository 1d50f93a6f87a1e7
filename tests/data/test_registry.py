"""The standard library as a text, and the download against a server on the loopback address."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pooch
import pytest
from typer.testing import CliRunner

from charrnn.cli import app
from charrnn.data import registry
from charrnn.data.corpus import resolve
from charrnn.data.reading import Reader
from charrnn.data.registry import Remote, download, registered, stdlib_sources
from charrnn.errors import ResourceError, TextError

TEXT = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 3000
SHA = hashlib.sha256(TEXT).hexdigest()
SHARED = Path(__file__).parents[3] / "shared" / "corpora"


class Handler(BaseHTTPRequestHandler):
    """Each path is a kind of server; what it does wrong begins after half of the text."""

    asked = 0
    gone = threading.Event()  # the test is over: nothing needs to stall any longer
    ELSEWHERE: ClassVar = {
        "/moved": "/ok",
        "/lured": "/other",
        "/circle": "/circle",
        "/file": "file:///etc/hostname",
        "/nowhere": "http://127.0.0.1:1/",
        "/garbled": "http://[::/",
    }

    def do_GET(self) -> None:
        type(self).asked += 1
        codes = {"/broken": 500, "/missing": 404} | dict.fromkeys(self.ELSEWHERE, 302)
        self.send_response(codes.get(self.path, 200))
        if self.path in self.ELSEWHERE:
            self.send_header("Location", self.ELSEWHERE[self.path])
        if self.path == "/silent":
            self.gone.wait(20)
        length = {"/endless": 1 << 40, "/longer": 2 * len(TEXT), "/nonsense": "many"}.get(self.path, len(TEXT))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        half = len(TEXT) // 2
        with contextlib.suppress(OSError):  # the other end has had enough
            match self.path:
                case "/cut":
                    self.wfile.write(TEXT[:half])
                case "/reset":
                    self.wfile.write(TEXT[:half])
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                case "/other":
                    self.wfile.write(TEXT.swapcase())
                case "/stalled":
                    self.wfile.write(TEXT[:half])
                    self.gone.wait(20)
                case "/trickle":
                    for byte in TEXT:
                        self.wfile.write(bytes([byte]))
                        if self.gone.wait(0.002):
                            break
                case "/endless":
                    while True:
                        self.wfile.write(TEXT)
                case _:
                    self.wfile.write(TEXT)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        Handler.asked = 0
        Handler.gone.clear()
        yield f"http://127.0.0.1:{running.server_port}"
        Handler.gone.set()
        running.shutdown()
        thread.join()


def test_a_download_is_checked_kept_and_not_repeated(server: str, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    remote = Remote(f"{server}/ok", SHA, len(TEXT))
    path = download("play", remote, tmp_path / "d", lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == TEXT
    assert calls == sorted(calls)
    assert calls[-1] == (len(TEXT), len(TEXT))
    assert download("play", remote, tmp_path / "d") == path
    assert Handler.asked == 1
    path.write_bytes(b"somebody else's text")
    assert download("play", remote, tmp_path / "d").read_bytes() == TEXT


@pytest.mark.parametrize(
    ("page", "sha", "line"),
    [
        ("/ok", "0" * 64, "its SHA-256 differs"),
        ("/broken", SHA, "answered 500"),
        ("/missing", SHA, "answered 404"),
        ("/cut", SHA, "was cut"),
        ("/reset", SHA, "was cut"),
        ("/longer", SHA, "was cut"),
        ("/nonsense", SHA, "127.0.0.1"),
        ("/lured", SHA, "its SHA-256 differs"),
        ("/circle", SHA, "answered 302"),
        ("/file", SHA, "cannot be downloaded"),
        ("/nowhere", SHA, "cannot be downloaded"),
        ("/garbled", SHA, "127.0.0.1"),
        ("/silent", SHA, "no answer"),
        ("/stalled", SHA, "was cut"),
        ("/trickle", SHA, "too slow"),
        ("/endless", SHA, "is not the text expected"),
    ],
)
@pytest.mark.parametrize("before", [None, b"somebody else's text"], ids=["new", "replacing"])
def test_a_failed_download_is_one_line_in_bounded_time_and_leaves_all_as_it_was(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, sha: str, line: str, before: bytes | None
) -> None:
    monkeypatch.setattr(registry, "TIMEOUT", 0.3)
    if page == "/trickle":  # on a busy machine the others may take longer
        monkeypatch.setattr(registry, "LIMIT", 0.3)
    if before is not None:
        (tmp_path / "play.txt").write_bytes(before)
    began = time.monotonic()
    with pytest.raises(TextError) as caught:
        download("play", Remote(server + page, sha, len(TEXT)), tmp_path)
    assert time.monotonic() - began < 10
    assert caught.value.exit_code == 3
    assert line in str(caught.value)
    assert "python-stdlib" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == ({"play.txt": before} if before else {})


def test_a_downloaded_text_may_be_read_by_whom_the_umask_lets(server: str, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = download("play", Remote(f"{server}/ok", SHA, len(TEXT)), tmp_path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_text_that_has_moved_is_followed(server: str, tmp_path: Path) -> None:
    assert download("play", Remote(f"{server}/moved", SHA, len(TEXT)), tmp_path).read_bytes() == TEXT


class FullDisk:
    """What a download does to the disk, in order; the operation of that number fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, failure: int) -> None:
        self._done, self._number, self._failure = 0, number, failure
        make, counted = os.mkdir, self._counted(os.mkdir)
        # A folder that is there is not made again.
        monkeypatch.setattr(os, "mkdir", lambda path, mode: (make if os.path.isdir(path) else counted)(path, mode))
        monkeypatch.setattr(os, "replace", self._counted(os.replace))
        monkeypatch.setattr(pooch.downloaders, "open", self._open, raising=False)

    def _counted(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            number, self._done = self._done, self._done + 1
            if number == self._number:
                if operation.__name__ == "close":
                    operation()
                raise OSError(self._failure, os.strerror(self._failure))
            return operation(*arguments, **options)

        return act

    def _open(self, path: Path, mode: str) -> Any:
        file = self._counted(open)(path, mode)
        operations = {name: self._counted(getattr(file, name)) for name in ("write", "flush", "close")}
        return SimpleNamespace(**operations)


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS])
def test_a_disk_that_fails_at_any_operation_is_one_line_and_leaves_all_as_it_was(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    monkeypatch.setattr(registry, "CHUNK", len(TEXT) // 4)
    for before in ({}, {"play.txt": b"somebody else's text"}):
        for number in range(100):
            folder = tmp_path / f"{len(before)}-{number}"
            for name, data in before.items():
                folder.mkdir()
                (folder / name).write_bytes(data)
            try:
                with monkeypatch.context() as patch:
                    FullDisk(patch, number, failure)
                    download("play", Remote(f"{server}/ok", SHA, len(TEXT)), folder)
                break  # there are no more operations
            except ResourceError as error:
                said = str(error)
            assert said.startswith(f"{folder}: ")
            assert "\n" not in said
            # Only where the disk is full do room and its size help.
            assert (f"no room for play ({len(TEXT)} bytes)" in said) == (failure in (errno.ENOSPC, errno.EDQUOT))
            assert {path.name: path.read_bytes() for path in folder.glob("*")} == before
        assert 10 < number < 99
        assert (folder / "play.txt").read_bytes() == TEXT


def test_what_a_killed_download_left_is_cleared_by_the_next_and_what_a_living_one_writes_is_not(
    server: str, tmp_path: Path
) -> None:
    program = (
        "from pathlib import Path; from charrnn.data.registry import Remote, download; "
        f"download('play', Remote('{server}/stalled', '{SHA}', {len(TEXT)}), Path({str(tmp_path)!r}))"
    )
    others = {".play.txt.x.tmp", ".play.txt.tmp", ".player.txt.1.tmp", ".play.txt.1.old", f".play.txt.{10**30}.tmps"}
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / f".play.txt.{10**30}.tmp").touch()
    remote = Remote(f"{server}/ok", SHA, len(TEXT))
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        half_made = tmp_path / f".play.txt.{process.pid}.tmp"
        end = time.monotonic() + 60
        while not (half_made.is_file() and half_made.stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        assert download("play", remote, tmp_path).read_bytes() == TEXT
        assert {path.name for path in tmp_path.iterdir()} == {*others, "play.txt", half_made.name}
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert half_made.is_file()
    assert download("play", remote, tmp_path).read_bytes() == TEXT
    assert {path.name for path in tmp_path.iterdir()} == {*others, "play.txt"}
    assert Handler.asked == 2


@pytest.mark.parametrize(("page", "code"), [("/broken", 3), ("/cut", 3), ("/other", 3), ("/ok", 6)])
def test_the_command_ends_with_the_line_and_its_code(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.REMOTE, "shakespeare", Remote(server + page, SHA, len(TEXT)))
    if code == 6:
        FullDisk(monkeypatch, 5, errno.ENOSPC)
    result = CliRunner().invoke(app, ["prepare", "shakespeare"])
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert re.fullmatch(r"charrnn: [^\n]+\n", result.stderr)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_without_a_network_the_line_names_the_offline_corpus(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"no network.*python-stdlib, which needs no network"):
        download("play", Remote("http://127.0.0.1:1/x", SHA, 1), tmp_path)


def test_a_missing_file_resolves_to_the_registered_text(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.REMOTE, "shakespeare", Remote(f"{server}/ok", SHA, len(TEXT)))
    monkeypatch.chdir(tmp_path)
    corpus = resolve("shakespeare.txt", root=Path("corpora"))
    assert corpus.path == Path("corpora/shakespeare")
    assert corpus.characters == len(TEXT)
    assert resolve("shakespeare").fingerprint == corpus.fingerprint
    monkeypatch.setitem(registry.REMOTE, "shakespeare", Remote("http://127.0.0.1:1/", "0" * 64, 1))
    assert resolve("shakespeare.txt").fingerprint == corpus.fingerprint  # prepared once, no network needed
    Path("shakespeare.txt").write_text("my own text\n" * 9)
    assert resolve("shakespeare.txt").characters == 108


def test_the_standard_library_is_megabytes_of_sorted_text_without_tests() -> None:
    sources = stdlib_sources()
    places = [source.path.as_posix() for source in sources]
    assert places == sorted(places)
    assert not any({"test", "tests", "idle_test", "site-packages"} & set(source.path.parts[-4:]) for source in sources)
    assert any(place.endswith("/argparse.py") for place in places)
    reader = Reader(sources)
    assert 3e6 < sum(map(len, reader)) < 4e7
    assert "utf-8" in reader.encodings


def test_the_coding_line_of_a_library_file_is_obeyed(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_bytes("# -*- coding: latin-1 -*-\n# é\n".encode("latin-1"))
    (tmp_path / "a.py").write_text("# é\n", encoding="utf-8")
    (tmp_path / "c.py").write_text("# coding: nonsense\n")
    (tmp_path / "empty.py").touch()
    sources = stdlib_sources(tmp_path)
    assert [source.path.name for source in sources] == ["a.py", "b.py"]
    assert "".join(Reader(sources)) == "# é\n# -*- coding: latin-1 -*-\n# é\n"


def test_a_python_without_sources_says_so(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no library sources"):
        stdlib_sources(tmp_path)


def test_other_names_are_not_registered(tmp_path: Path) -> None:
    assert registered("hamlet", tmp_path) is None
    assert registered("python-stdlib", tmp_path) == stdlib_sources()


def test_only_programs_of_the_library_itself_are_text(tmp_path: Path) -> None:
    wanted = ["a.py", "b/a.py", "b/testing.py", "tests.py"]
    others = ["b/test/x.py", "tests/x.py", ".b/x.py", "site-packages/x.py", "_sysconfigdata_x.py", "x.txt", "x.pyc"]
    for name in (*others, *reversed(wanted)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1\n")
    (tmp_path / "folder.py").mkdir()
    sources = stdlib_sources(tmp_path)
    assert [source.path for source in sources] == [tmp_path / name for name in wanted]
    assert {(source.name, source.encoding) for source in sources} == {(str(tmp_path / name), None) for name in wanted}
    (tmp_path / "a.py").write_bytes("# coding: latin-1\n# é".encode("latin-1"))
    assert [source.encoding for source in stdlib_sources(tmp_path)] == ["iso-8859-1", None, None, None]


def test_a_name_with_and_without_its_ending_is_registered_and_no_other() -> None:
    names = [
        "shakespeare",
        "shakespeare.txt",
        "python-stdlib",
        "python-stdlib.txt",
        "shakespeare.txt.txt",
        "hamlet",
        "",
    ]
    assert [name for name in names if registry.is_registered(name)] == names[:3]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared corpora are not here")
def test_the_size_and_the_hash_of_shakespeare_are_those_of_the_text() -> None:
    data = (SHARED / "shakespeare.txt").read_bytes()
    remote = registry.REMOTE["shakespeare"]
    assert (remote.size, remote.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_meter_never_goes_back_or_past_its_end_and_ends_what_would_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    now = [0.0]
    monkeypatch.setattr(registry.time, "monotonic", lambda: now[0])
    meter = registry._Meter(lambda done, size: calls.append((done, size)), 100)
    for count in (60, 30, 30):
        meter.update(count)
    meter.reset()
    now[0] = registry.LIMIT
    meter.update(200 + (1 << 16))
    assert calls == [(60, 100), (90, 100), (100, 100), (100, 100)]
    with pytest.raises(ValueError, match="more bytes"):
        meter.update(1)
    now[0] += 0.001
    with pytest.raises(TimeoutError):
        meter.update(1)
    another = registry._Meter(None, 100)
    another.update(200 + (1 << 16))
    with pytest.raises(ValueError, match="more bytes"):
        another.update(1)
