"""Text as it can be shown: what a terminal or a browser would obey, made visible."""

from __future__ import annotations

import unicodedata

#: What changes the direction of the text around it, so that it can make a line lie about its content.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def show(text: str) -> str:
    """The text with what a terminal would obey made visible: control, bidirectional and unassigned characters.

    Newlines and tabs stay.

    >>> show("red \\x1b[31m, back \\u202e, bell \\x07")
    'red ␛[31m, back <U+202E>, bell ␇'
    """
    if text.isprintable():  # most texts; nothing that is changed below is
        return text
    return "".join(map(_shown, text))


def show_line(text: str) -> str:
    """The same on one line, so that a name cannot pass for a line of its own.

    >>> show_line("notes\\n.txt")
    'notes␊.txt'
    """
    return show(text).replace("\n", "␊")


def _shown(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures
    if code == 0x7F:
        return "␡"
    if character in _BIDI or unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp"):
        return f"<U+{code:04X}>"
    return character
