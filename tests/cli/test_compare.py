"""``charrnn compare`` as a user meets it."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from charrnn.checkpoint import Checkpoint
from charrnn.cli import console
from charrnn.cli.compare import compare
from charrnn.data.corpus import Corpus, prepare
from charrnn.data.vocabulary import Vocabulary
from charrnn.errors import TextError, UsageError
from charrnn.evaluation.comparison import score

app = typer.Typer()
app.command()(compare)
TEXT = "the cat [bold] sat, the dog [/x] sat\n" * 200


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Callable[..., Checkpoint]) -> None:
    """Three models, one of another alphabet, and one of bytes."""
    monkeypatch.chdir(tmp_path)
    console.out.cache_clear()
    console.err.cache_clear()
    Path("cats.txt").write_text(TEXT)
    corpus = prepare(["cats.txt"])
    other = {"b": Vocabulary.of("abc the\n"), "byte": Vocabulary.of(TEXT, "byte")}
    for seed, name in enumerate(("a", "b", "c", "byte")):
        made = tiny_checkpoint(other.get(name, corpus.vocabulary), seed=seed, cell="gru")
        whole = Checkpoint(made.config, made.vocabulary, made.weights, corpus.description(), {"seconds": 2.5})
        whole.save(Path(f"{name}.safetensors"))


def run(*arguments: str, stdin: bytes | None = None) -> tuple[str, str]:
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    if result.exception:
        raise result.exception
    return result.stdout, result.stderr


def test_the_document_has_all_figures_best_first() -> None:
    document = json.loads(run("a.safetensors", "b.safetensors", "c.safetensors", "--json")[0])
    assert {key: document[key] for key in ("schema", "split")} == {"schema": 1, "split": "validation"}
    assert document["text"] == "cats"
    models = document["models"]
    bits = [model["bits_per_char"] for model in models]
    assert bits == sorted(bits)
    for model in models:
        assert model["difference"] == pytest.approx(model["bits_per_char"] - bits[0], abs=1e-9)
        assert model["bytes"] == Path(model["checkpoint"]).stat().st_size
        assert model["training_seconds"] == 2.5
        assert model["characters_per_second"] > 0
    assert models[0]["difference_interval"] is None
    for model in models[1:]:
        low, high = model["difference_interval"]
        assert low <= model["difference"] <= high
    assert {Path(m["checkpoint"]).stem: m["unseen"] > 0 for m in models} == {"a": False, "b": True, "c": False}


def test_standard_input_is_read_once_and_scored_by_each() -> None:
    document = json.loads(run("a.safetensors", "c.safetensors", "--text", "-", "--json", stdin=b"the cat\n" * 40)[0])
    assert (document["text"], document["split"], document["characters"]) == ("standard input", None, 320)


def test_table_and_page() -> None:
    stdout, _ = run("a.safetensors", "c.safetensors", "--text", "cats.txt")
    assert "Comparison" in stdout
    assert "\x1b" not in stdout
    run("a.safetensors", "b.safetensors", "c.safetensors", "--html", "page.html")
    assert "<svg" in Path("page.html").read_text(encoding="utf-8")


def test_the_page_names_the_text_and_the_files_of_the_models() -> None:
    for name in ("b", "c"):
        Path(f"<{name}>").mkdir()
        Path(f"{name}.safetensors").rename(f"<{name}>/best.safetensors")
    run("<b>", "<c>/best.safetensors", "--html", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert all(html.escape(f"<{name}>/best.safetensors") in page for name in ("b", "c"))
    assert "cats, validation" in page


def test_a_text_of_another_encoding_and_other_line_ends() -> None:
    Path("old.txt").write_bytes(TEXT.replace("cat", "cät").replace("\n", "\r\n").encode("cp1252"))
    Path("new.txt").write_text(TEXT.replace("cat", "cät"), encoding="utf-8")
    models = ("a.safetensors", "c.safetensors", "--errors", "--json", "--text")
    with pytest.raises(TextError, match="--encoding cp1252"):
        run(*models, "old.txt")
    old, new = (
        json.loads(run(*models, *text)[0])
        for text in (["old.txt", "--encoding", "cp1252", "--newlines", "lf"], ["new.txt"])
    )
    assert old["errors"] == new["errors"]
    assert [m["nats_per_char"] for m in old["models"]] == [m["nats_per_char"] for m in new["models"]]
    with pytest.raises(UsageError, match="is prepared; they are for a plain text"):
        run("a.safetensors", "--newlines", "lf")


def test_bytes_and_characters_are_not_set_beside_each_other() -> None:
    Path("accents.txt").write_text("thé cat\n" * 20, encoding="utf-8")
    with pytest.raises(UsageError, match="units"):
        run("a.safetensors", "byte.safetensors", "--text", "accents.txt")


def test_a_plain_comparison_says_nothing_of_errors() -> None:
    document = json.loads(run("a.safetensors", "c.safetensors", "--json")[0])
    assert document["errors"] is document["map"] is None


def test_errors_by_class_distance_and_kind() -> None:
    """The figures are those of the models' surprisals, taken one by one."""
    document = json.loads(run("a.safetensors", "c.safetensors", "--text", "cats.txt", "--errors", "--json")[0])
    nats = []
    for model in document["models"]:
        checkpoint = Checkpoint.load(Path(model["checkpoint"]))
        ids = checkpoint.vocabulary.encode(TEXT)
        nats.append(score(checkpoint, ids, len(ids), keep=True).nats)
        assert nats[-1].sum() / len(TEXT) == pytest.approx(model["nats_per_char"], rel=1e-4)
    wrong = [model > np.log(2) for model in nats]
    newline = np.array([character == "\n" for character in TEXT])
    first = document["errors"]["classes"][0]
    assert (first["class"], first["characters"]) == ("newline", 200)
    assert first["errors"] == [(model & newline).sum() for model in wrong]
    assert first["only_best"] == [(wrong[0] & ~wrong[1] & newline).sum()]
    assert first["only_other"] == [(wrong[1] & ~wrong[0] & newline).sum()]
    assert sum(row["characters"] for row in document["errors"]["classes"]) == len(TEXT)
    (brackets,) = document["errors"]["closings"]
    assert (brackets["kind"], brackets["closings"]) == ("bracket", 400)
    assert [one["closings"] for one in brackets["bins"]] == [200, 200]  # [/x] and [bold]
    closed = np.array([n for n, c in enumerate(TEXT) if c == "]" and TEXT[n - 1] == "x"])
    assert brackets["bins"][0]["probabilities"] == pytest.approx([np.exp(-m[closed]).mean() for m in nats], abs=1e-5)
    taxonomy = document["errors"]["taxonomy"]
    assert taxonomy["model"] == 0
    assert taxonomy["errors"] == wrong[0].sum()
    assert sum(oracle["share"] for oracle in taxonomy["oracles"]) == pytest.approx(1)
    assert taxonomy["training_characters"] == Corpus.open("corpora/cats").splits["train"].characters
    assert taxonomy["oracles"][0]["share"] > 0.8  # n-grams know this text by heart


def test_without_the_training_text_there_is_a_note_and_no_taxonomy() -> None:
    shutil.rmtree("corpora")
    arguments = ("a.safetensors", "c.safetensors", "--text", "cats.txt", "--errors")
    document = json.loads(run(*arguments, "--json")[0])
    assert document["errors"]["taxonomy"] is None
    assert "gone" in document["errors"]["taxonomy_missing"]
    assert "No taxonomy of errors" in run(*arguments)[0]


def test_five_models_are_on_a_map_and_copies_coincide() -> None:
    names = ["a", "a", "c", "b", "a"]
    document = json.loads(run(*(f"{name}.safetensors" for name in names), "--json")[0])
    models = document["map"]["models"]
    assert [model["checkpoint"] for model in models] == [model["checkpoint"] for model in document["models"]]
    (first, *rest) = ([m["x"], m["y"]] for m in models if Path(m["checkpoint"]).stem == "a")
    assert rest == [pytest.approx(first, abs=1e-6)] * 2
    assert sum(document["map"]["variance"]) == pytest.approx(1)


def test_models_that_predict_alike_are_said_to_and_not_drawn() -> None:
    stdout, _ = run(*["a.safetensors"] * 5)
    assert "No map of the models: they predict alike." in stdout
    assert "of variance" not in stdout
    document = json.loads(run(*["a.safetensors"] * 5, "--json")[0])
    assert document["map"]["variance"] == [0, 0]


def test_standard_input_and_bytes_have_errors_too() -> None:
    text = "thé (cat) “sat”\n".encode() * 20
    document = json.loads(run("byte.safetensors", "--text", "-", "--errors", "--json", stdin=text)[0])
    counts = {row["class"]: row["characters"] for row in document["errors"]["classes"]}
    assert (counts["newline"], counts["bracket"], sum(counts.values())) == (20, 40, len(text))


def test_the_page_and_the_view_show_errors() -> None:
    models = [f"{name}.safetensors" for name in "abcab"]
    run(*models, "--text", "cats.txt", "--errors", "--html", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    for shown in ("Models by their predictions", "Closing a bracket", "The errors of", "word model"):
        assert shown in page
    assert "Closing a bracket" in run(*models, "--errors")[0]
