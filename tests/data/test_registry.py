"""The standard library as a text, and the download against a server on the loopback address."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from charrnn.data import registry
from charrnn.data.corpus import resolve
from charrnn.data.reading import Reader
from charrnn.data.registry import Remote, download, registered, stdlib_sources
from charrnn.errors import TextError

TEXT = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 3000
SHA = hashlib.sha256(TEXT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Content-Length", str(len(TEXT)))
        self.end_headers()
        self.wfile.write(TEXT[: len(TEXT) // 2] if self.path == "/cut" else TEXT)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        Handler.asked = 0
        yield f"http://127.0.0.1:{running.server_port}"
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
        ("/cut", SHA, "was cut"),
    ],
)
def test_a_failed_download_is_one_line_and_leaves_nothing(
    server: str, tmp_path: Path, page: str, sha: str, line: str
) -> None:
    with pytest.raises(TextError) as caught:
        download("play", Remote(server + page, sha, len(TEXT)), tmp_path)
    assert line in str(caught.value)
    assert "python-stdlib" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


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
    assert "".join(Reader(sources)) == "# é\n# -*- coding: latin-1 -*-\n# é\n"


def test_a_python_without_sources_says_so(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no library sources"):
        stdlib_sources(tmp_path)


def test_other_names_are_not_registered(tmp_path: Path) -> None:
    assert registered("hamlet", tmp_path) is None
