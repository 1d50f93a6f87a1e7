"""``charrnn info`` as a user meets it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file
from typer.testing import CliRunner

from charrnn.checkpoint import Checkpoint, read_document
from charrnn.cli import console
from charrnn.cli.info import info
from charrnn.config import Config
from charrnn.data.corpus import Corpus, prepare
from charrnn.errors import CheckpointError
from charrnn.presets import TRAINING

app = typer.Typer()
app.command()(info)
RECORD = {
    "steps": 10, "epochs": 0.5, "seconds": 3.0, "characters": 1000, "compute": "cpu",
    "validation_nats_per_char": 1.5, "environment": {"python": "3"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.chdir(tmp_path)
    console.out.cache_clear()
    Path("cats.txt").write_text("the cat sat\n" * 60)
    return prepare(["cats.txt"])


@pytest.fixture
def save(corpus: Corpus, tiny_checkpoint: Callable[..., Checkpoint]) -> Callable[..., Path]:
    """``save(path, record, progress)``: a checkpoint as a training would leave it."""

    def make(path: str, record: dict[str, Any] = RECORD, progress: dict[str, Any] | None = None) -> Path:
        made = tiny_checkpoint(corpus.vocabulary)
        whole = Checkpoint(Config(made.config.model, TRAINING), made.vocabulary, made.weights, corpus.description(),
                           record, progress=progress or {})  # fmt: skip
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        whole.save(Path(path))
        return Path(path)

    return make


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception:
        raise result.exception
    return result.stdout


def test_a_corpus_is_found_by_every_name_that_it_has(corpus: Corpus, save: Callable[..., Path]) -> None:
    for name in ("cats", "corpora/cats", str(corpus.path.resolve())):
        assert json.loads(run(name, "--json"))["kind"] == "corpus"
    Path("checkpoints/cats").mkdir(parents=True)  # not a run before it has a checkpoint
    assert json.loads(run("cats", "--json"))["kind"] == "corpus"
    save("checkpoints/cats/best.safetensors")
    assert json.loads(run("cats", "--json"))["kind"] == "checkpoint"
    assert json.loads(run(str(corpus.path.resolve()), "--json"))["kind"] == "corpus"


def test_it_says_where_the_model_came_from(corpus: Corpus, save: Callable[..., Path]) -> None:
    origin = {"path": "checkpoints/other/best.safetensors", "sha256": "ab" * 32}
    for init_from, said in ((origin, "other/best.safetensors, SHA-256 abababab"), ("other", "other")):
        save("checkpoints/cats/best.safetensors", RECORD | {"init_from": init_from})
        lines = run().splitlines()
        assert any(line.startswith("began from") and said in line for line in lines)
    told = "\n".join(lines)
    for part in ("cats, 1 source,", str(corpus.description()["path"]), corpus.fingerprint):
        assert part in told
    save("checkpoints/cats/best.safetensors")
    assert "began from" not in run()


@pytest.mark.parametrize(("folder", "said"), [("checkpoints/it's mine", "it's mine"), ("else where", "else where")])
def test_the_command_to_go_on_with_can_be_typed(save: Callable[..., Path], folder: str, said: str) -> None:
    (line,) = [
        line for line in run(str(save(f"{folder}/last.safetensors", progress={"step": 1}))).splitlines()
        if line.startswith("resume")
    ]  # fmt: skip
    assert shlex.split(line)[1:] == ["charrnn", "train", "--resume", "--run", said]


@pytest.mark.parametrize(
    ("part", "value"),
    [(name, value) for name in ("record", "corpus", "progress", "sha256") for value in (None, 3, [1])]
    + [("config", "training"), ("record", {"steps": 1}), ("record", RECORD | {"steps": "many"})]
    + [("record", RECORD | {"environment": [1]}), ("corpus", {"name": "cats"})],
)
def test_a_garbled_document_is_one_line(save: Callable[..., Path], part: str, value: Any) -> None:
    document = read_document(save("whole.safetensors"))
    if value is None:
        del document[part]
    elif part == "config":
        document["config"]["training"] = {}
    else:
        document[part] = value
    save_file({"x": np.zeros(1, np.float32)}, "bad.safetensors", metadata={"charrnn": json.dumps(document)})
    with pytest.raises(CheckpointError) as caught:
        run("bad.safetensors")
    assert str(caught.value).startswith("bad.safetensors: ")
    assert "\n" not in str(caught.value)
