"""Pages in a real browser: nothing of a text is obeyed, all of it is there, and nothing is fetched."""

from __future__ import annotations

import html.parser
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Vocabulary
from charrnn.inspection import inspect
from charrnn.inspection.html import page
from charrnn.inspection.report import glyph
from charrnn.inspection.subject import Subject

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TEXT = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "</span></div><style>*{display:none}</style>&lt;&amp; 日本 e\u0301 \u202eabc\u202c \x1b[31m 👩‍🚀\n"
) * 3


class Dom(html.parser.HTMLParser):
    """What a browser has made of a page: its elements, its title, and the text of its painted characters."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.title, self.characters, self._inside = "", [""], ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        if tag == "span":
            assert dict(attrs)["tabindex"] == "0"
            self.characters.append("")
        self._inside = tag if tag in ("title", "span") else self._inside

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag in ("title", "span") else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "title":
            self.title += data
        elif self._inside == "span":
            self.characters[-1] += data


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_shows_every_character_of_a_text_and_obeys_none(
    tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    checkpoint = tiny_checkpoint(Vocabulary.of(TEXT))
    (tmp_path / "page.html").write_text(page(inspect("text", Subject.of(checkpoint, TEXT))), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]  # fmt: skip
    done = subprocess.run(
        [str(BROWSER), *options, "--dump-dom", f"file://{tmp_path / 'page.html'}"],
        capture_output=True, encoding="utf-8", timeout=120, check=True,
    )  # fmt: skip
    dom = Dom(done.stdout)
    assert dom.title == "Surprise · charrnn"
    assert dom.characters[1:] == [glyph(character) for character in TEXT]
    assert not {"script", "img", "link", "iframe"} & set(dom.elements)
    assert dom.elements.count("style") == 1
