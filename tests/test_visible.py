"""What a terminal would obey, made visible: all of Unicode against the names that it gives its characters."""

from __future__ import annotations

import unicodedata

import pytest

from charrnn.visible import show, show_line

#: What Unicode gives the property Bidi_Control, by name.
DIRECTIONS = {
    "ARABIC LETTER MARK", "LEFT-TO-RIGHT MARK", "RIGHT-TO-LEFT MARK", "LEFT-TO-RIGHT EMBEDDING",
    "RIGHT-TO-LEFT EMBEDDING", "POP DIRECTIONAL FORMATTING", "LEFT-TO-RIGHT OVERRIDE", "RIGHT-TO-LEFT OVERRIDE",
    "LEFT-TO-RIGHT ISOLATE", "RIGHT-TO-LEFT ISOLATE", "FIRST STRONG ISOLATE", "POP DIRECTIONAL ISOLATE",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b[2J\x07\x7f\r\0", "␛[2J␇␡␍␀"),
        ("\u202eabc\u2066", "<U+202E>abc<U+2066>"),
        ("\x9b31m", "<U+009B>31m"),
        ("\ud800 \U0010fffd \uffff \u2028", "<U+D800> <U+10FFFD> <U+FFFF> <U+2028>"),
        ("naïve 世界 🎭", "naïve 世界 🎭"),
    ],
)
def test_control_characters_are_shown_not_obeyed(text: str, shown: str) -> None:
    assert show(text) == shown
    assert show_line(text) == shown.replace("\n", "␊")


def test_of_all_of_unicode_only_what_is_obeyed_changes() -> None:
    for code in [*range(0x3100), *range(0xD700, 0x10100), *range(0x1F300, 0x1F700), *range(0xE0000, 0xE0200)]:
        character = chr(code)
        kind, name = unicodedata.category(character), unicodedata.name(character, "")
        if kind == "Cc" and code < 0x80 and character not in "\n\t":
            assert unicodedata.name(show(character)).startswith("SYMBOL FOR "), hex(code)
        elif name in DIRECTIONS or (kind in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp") and character not in "\n\t"):
            assert show(character) == f"<U+{code:04X}>"
        else:
            assert show(character) == character, hex(code)
