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
from charrnn.inspection.report import Branch, Report, Tree, glyph
from charrnn.inspection.subject import Subject

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
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


def browsed(html: str, folder: Path, script: str = "") -> Dom:
    """A page as a browser 1000 wide sees it; what a script, added for the test, returns becomes the title."""
    if script:
        html += f"<script>document.title = (() => {{ {script} }})()</script>"
    (folder / "page.html").write_text(html, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", "--window-size=1000,800",
               f"--user-data-dir={folder / 'profile'}"]  # fmt: skip
    done = subprocess.run(
        [str(BROWSER), *options, "--dump-dom", f"file://{folder / 'page.html'}"],
        capture_output=True, encoding="utf-8", timeout=120, check=True,
    )  # fmt: skip
    return Dom(done.stdout)


@needs_browser
def test_a_browser_shows_every_character_of_a_text_and_obeys_none(
    tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    checkpoint = tiny_checkpoint(Vocabulary.of(TEXT))
    dom = browsed(page(inspect("text", Subject.of(checkpoint, TEXT))), tmp_path)
    assert dom.title == "Surprise · charrnn"
    assert dom.characters[1:] == [glyph(character) for character in TEXT]
    assert not {"script", "img", "link", "iframe"} & set(dom.elements)
    assert dom.elements.count("style") == 1


@needs_browser
def test_a_deep_tree_makes_its_box_wide_and_not_the_page(tmp_path: Path) -> None:
    root = Branch("end", "0.1")
    for n in range(100):
        root = Branch(f"trunk{n}", "0.5", children=[root, Branch("side", "0.0123, dropped")])
    script = """
        const box = document.querySelector(".tree"), rows = [...document.querySelectorAll("li small")]
        return [document.documentElement.scrollWidth <= 1000, box.scrollWidth > 2000,
                rows.every(row => row.getClientRects().length == 1)].join()"""
    assert browsed(page(Report("Deep", [Tree("Tree", root)])), tmp_path, script).title == "true,true,true"


@needs_browser
def test_a_mark_stands_on_its_own_circle_and_not_on_what_follows(
    tmp_path: Path, tiny_checkpoint: Callable[..., Checkpoint]
) -> None:
    text = "e\u0301a\u0308x" * 3
    html = page(inspect("text", Subject.of(tiny_checkpoint(Vocabulary.of(text)), text)))
    script = """
        const pen = document.createElement("canvas").getContext("2d")
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
        let drawn = 0, outside = 0
        while (walk.nextNode()) for (const [sign] of walk.currentNode.data.matchAll(/\u25cc\\p{M}/gu)) {
            pen.font = getComputedStyle(walk.currentNode.parentNode).font
            const ink = pen.measureText(sign)
            drawn += 1
            outside += ink.actualBoundingBoxRight > ink.width + 1
        }
        return [drawn > 12, outside].join()"""  # those of the text, and of the table
    assert browsed(html, tmp_path, script).title == "true,0"
