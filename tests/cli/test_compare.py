"""``charrnn compare`` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from charrnn.checkpoint import Checkpoint
from charrnn.cli import console
from charrnn.cli.compare import compare
from charrnn.data.corpus import prepare
from charrnn.data.vocabulary import Vocabulary
from charrnn.errors import UsageError

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


def test_bytes_and_characters_are_not_set_beside_each_other() -> None:
    Path("accents.txt").write_text("thé cat\n" * 20, encoding="utf-8")
    with pytest.raises(UsageError, match="units"):
        run("a.safetensors", "byte.safetensors", "--text", "accents.txt")
