"""What is scored when a user names a text, and the figures of texts that were generated."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from charrnn.checkpoint import Checkpoint
from charrnn.data.corpus import Corpus, PrepareSettings, prepare
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.generator import Sample
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.errors import CharRNNError
from charrnn.evaluation import surprisal
from charrnn.evaluation.evaluator import (
    SHORT_TEXT,
    evaluate,
    in_float32,
    read_text,
    score_lines,
    scoring_engine,
    text_to_score,
    trained_on,
)
from charrnn.model.torch_engine import TorchEngine

Make = Callable[..., Checkpoint]
WIDTHS = "\x7f\x80\u07ff\u0800\uffff\U00010000"  # both sides of where UTF-8 takes one byte more


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A prepared text, ``corpora/cats``, beside its file."""
    monkeypatch.chdir(tmp_path)
    Path("cats.txt").write_text("the cat sat on the mat\n" * 40)
    return prepare(["cats.txt"])


@pytest.fixture
def model(corpus: Corpus, tiny_checkpoint: Make) -> Checkpoint:
    return replace(tiny_checkpoint(corpus.vocabulary), corpus=corpus.description())


def said(code: int, call: Callable[..., object], *arguments: object, **options: object) -> str:
    """The one line of the error that a call ends with, and the exit status of a command that does."""
    with pytest.raises(CharRNNError) as caught:
        call(*arguments, **options)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_text_is_found_as_a_corpus_by_name_or_path_or_as_a_file(model: Checkpoint, corpus: Corpus) -> None:
    for name in (None, "cats", str(corpus.path)):
        found = text_to_score(model, name)
        assert (found.name, found.split, found.bytes) == ("cats", "validation", corpus.splits["validation"].bytes)
        assert np.array_equal(found.ids, corpus.ids("validation"))
        assert np.array_equal(text_to_score(model, name, "train").ids, corpus.ids("train"))
    found = text_to_score(model, "cats.txt")
    assert (found.name, found.split, found.bytes) == ("cats.txt", None, 23 * 40)
    Path("cats").write_text("a file of that name")  # means itself
    assert text_to_score(model, "cats").bytes == 19


def test_standard_input_is_meant_by_a_dash_whatever_else_is_called_so(
    model: Checkpoint, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.path.rename("corpora/-")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"the hat")))
    assert text_to_score(model, "-").bytes == 7


def test_a_plain_text_is_read_as_the_options_have_it(model: Checkpoint) -> None:
    Path("dos.txt").write_bytes("thé cat\r\nsat\r\n".encode("cp1252"))
    found = text_to_score(model, "dos.txt", encoding="cp1252", newlines="lf")
    assert np.array_equal(found.ids, model.vocabulary.encode("thé cat\nsat\n"))
    assert found.bytes == 13
    _, _, lines = score_lines(model, "dos.txt", encoding="cp1252")
    assert [line.text for line in lines] == ["thé cat", "sat"]


def test_what_cannot_be_scored_is_said_in_one_line(model: Checkpoint, tiny_checkpoint: Make) -> None:
    Path("mark.txt").write_bytes(b"\xef\xbb\xbf")  # a byte order mark alone is a text of no characters
    Path("blank.txt").write_text("\n\r\n\n")
    assert "nosuch" in said(3, text_to_score, model, "nosuch")
    assert "empty" in said(3, evaluate, model, text_to_score(model, "mark.txt").ids, 0)
    for name in ("mark.txt", "blank.txt"):
        assert "no line" in said(3, score_lines, model, name)
    assert "--split" in said(2, text_to_score, model, "cats.txt", "train")
    for options in ({"encoding": "utf-8"}, {"newlines": "keep"}):
        assert "plain text" in said(2, text_to_score, model, "cats", **options)
    assert "--unit byte" in said(3, text_to_score, tiny_checkpoint(Vocabulary.of("the", "byte")), "cats")


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_lines_show_what_a_corpus_does_not_keep_and_cost_what_they_cost_alone(
    corpus: Corpus, tiny_checkpoint: Make, unit: str
) -> None:
    Path("rare.txt").write_text("the cat\nsat\n" * 30 + "a Q\n", encoding="utf-8")
    kept = prepare(["rare.txt"], settings=PrepareSettings(min_count=2, unit=unit, split=(50, 20, 30)))  # type: ignore[arg-type]
    model = tiny_checkpoint(kept.vocabulary)
    name, split, lines = score_lines(model, "rare", "test")
    assert (name, split) == ("rare", "test")
    assert [line.text for line in lines][-2:] == ["sat", "a \ufffd"]
    for line in lines:
        ids = kept.vocabulary.encode(line.text.replace("\ufffd", "Q"))
        alone = evaluate(model, ids, len(line.text) if unit == "byte" else len(line.text.encode()))
        assert line.figures.nats == pytest.approx(alone.nats, rel=1e-5)
        assert line.figures.unseen == alone.unseen == line.text.count("\ufffd")
        assert (line.figures.characters, line.figures.bytes) == (alone.characters, alone.bytes)


def test_the_text_trained_on_is_known_by_its_fingerprint(model: Checkpoint, corpus: Corpus) -> None:
    assert trained_on(model).path == corpus.path
    Path("other.txt").write_text("another text\n" * 40)
    prepare(["other.txt"])
    Path("corpora/a-file").write_text("no corpus")
    corpus.path.rename("corpora/moved")
    assert trained_on(model).path.name == "moved"  # found below the root, past what is not it
    assert trained_on(model, Path("corpora")).fingerprint == corpus.fingerprint
    assert "gone or has changed" in said(3, trained_on, model, Path("nowhere"))
    Path("corpora/moved").rename("elsewhere")
    assert "--text" in said(3, trained_on, model)
    assert "no one text" in said(3, trained_on, replace(model, corpus={}))


def test_bytes_are_those_of_utf8_and_ids_take_as_few_as_they_can(tmp_path: Path) -> None:
    text = WIDTHS + "a" + WIDTHS[::-1]
    (tmp_path / "wide.txt").write_text(text, encoding="utf-8")
    for vocabulary, size in ((Vocabulary.of(text), 1), (Vocabulary(tuple(range(300))), 2)):
        found = read_text(vocabulary, str(tmp_path / "wide.txt"))
        assert found.bytes == len(text.encode())
        assert found.ids.dtype.itemsize == size
        assert np.array_equal(found.ids, vocabulary.encode(text))
    found = read_text(Vocabulary.of(text, "byte"), str(tmp_path / "wide.txt"))
    assert found.bytes == len(found.ids) == len(text.encode())


def test_short_texts_are_scored_without_torch_and_long_ones_with_it(tiny_checkpoint: Make) -> None:
    for device in ("auto", "cpu"):
        assert isinstance(scoring_engine(tiny_checkpoint(), SHORT_TEXT, device), NumpyEngine)
    assert isinstance(scoring_engine(tiny_checkpoint(), SHORT_TEXT + 1, "cpu"), TorchEngine)


def test_exact_is_one_lane_and_a_window_forgets(tiny_checkpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surprisal, "WARMUP", 1)  # so that lanes are far from exact
    model, ids = tiny_checkpoint(), np.random.default_rng(0).integers(0, 9, 2100)
    engine, first = NumpyEngine.from_checkpoint(model), 0
    one, lanes, windows = (
        sum(float(nats.sum()) for _, nats in surprisal.surprisals(engine, ids, first, **how))
        for how in ({"exact": True}, {}, {"window": 9})
    )
    assert abs(one - lanes) > 0.1
    assert evaluate(model, ids, 1, exact=True).nats == pytest.approx(one, abs=1e-6)
    assert evaluate(model, ids, 1).nats == pytest.approx(lanes, abs=1e-6)
    assert evaluate(model, ids, 1, window=9).nats == pytest.approx(windows, abs=1e-6)


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_generated_texts_get_the_figures_of_scoring_and_are_ranked_by_them(tiny_checkpoint: Make, unit: str) -> None:
    vocabulary = Vocabulary.of("\n abé", unit)  # type: ignore[arg-type]
    model = tiny_checkpoint(vocabulary)
    texts = ["ab", "é a", "b", "a\nbé"]

    def cost(text: str) -> float:
        return evaluate(model, vocabulary.encode(text), 1).nats

    before = [Sample(text, 2.0, 9, data=text.encode(), score=-(1.0 + n)) for n, text in enumerate(texts)]
    expected = {text: cost("bé" + text) - cost("bé") for text in texts}
    for sample, one in zip(before, in_float32(model, "bé", [replace(one, score=None) for one in before]), strict=True):
        assert (one.text, one.score) == (sample.text, None)
        assert one.nats == pytest.approx(expected[one.text], abs=1e-4)
    ranked = in_float32(model, "bé", before)
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)  # type: ignore[type-var]
    for one in ranked:  # the penalty of its length, which the score holds, stays
        assert one.score == pytest.approx(-(1.0 + texts.index(one.text)) * expected[one.text] / 2, rel=1e-4)
    (certain,) = in_float32(model, "", [Sample("a", 0.0, 1, data=b"a", score=0.0)])
    assert certain.score == 0
