"""Small models with random weights, of the characters of one text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from charrnn.checkpoint import Checkpoint
from charrnn.data.vocabulary import Unit, Vocabulary

_TEXT = 'He said "no (never)", and went.\n\nShe: "I saw 12 of them; <b>bold</b>?"\n\tThen [bold] nothing &c.\n' * 6


@pytest.fixture
def text() -> str:
    """A text with quotes, brackets, markup of HTML and of Rich."""
    return _TEXT


@pytest.fixture
def model(tiny_checkpoint: Callable[..., Checkpoint]) -> Callable[..., Checkpoint]:
    """``model("gru", **settings)``: a model of the text's characters that has learnt nothing."""

    def make(cell: str = "lstm", unit: Unit = "char", **settings: Any) -> Checkpoint:
        return tiny_checkpoint(Vocabulary.of(_TEXT, unit), cell=cell, **settings)

    return make
