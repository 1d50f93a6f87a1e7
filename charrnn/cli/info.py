"""``charrnn info``: what a checkpoint, run or corpus is."""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import options
from charrnn.errors import CheckpointError

if TYPE_CHECKING:
    from charrnn.cli.console import Facts
    from charrnn.config import ModelConfig


def info(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH",
            help="A checkpoint, a run or a corpus, by path or name. Default: the run trained last.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say what a checkpoint, run or corpus is: architecture, parameters by part, where it came from."""
    from charrnn.checkpoint import locate, read_document
    from charrnn.cli.console import print_json

    corpus = _corpus_folder(path)
    if corpus is not None:
        from charrnn.cli.prepare import report, summary
        from charrnn.data.corpus import Corpus

        opened = Corpus.open(corpus)
        if json:
            print_json({"kind": "corpus", **summary(opened)})
        else:
            report(opened).print()
        return
    file = locate(path)
    described = description(file, read_document(file))
    if json:
        print_json(described)
    else:
        _facts(described).print()


def _corpus_folder(path: str | None) -> Path | None:
    """The corpus that is meant, unless a run or a checkpoint is."""
    from charrnn.checkpoint import BEST, LAST
    from charrnn.data.corpus import is_corpus

    if path is None:
        return None
    if is_corpus(Path(path)):
        return Path(path)
    folder = Path("corpora", path)
    # Not Path's is_file, which raises where it is forbidden to look: what is said then is the checkpoint's reader's.
    run = any(os.path.isfile(Path("checkpoints", path, file)) for file in (BEST, LAST))
    return folder if is_corpus(folder) and not run else None


def description(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    """What is known of a checkpoint, for ``--json``; its tensors are not read.

    Raises:
        CheckpointError: the document lacks a part.
    """
    from charrnn.architectures import training_memory
    from charrnn.checkpoint import parts_of

    config, vocabulary = parts_of(path, document)
    parameters = (
        {"n-grams": document["record"]["parameters"]}
        if config.model.kind == "ngram"
        else parameters_by_part(config.model, len(vocabulary))
    )
    training = config.training
    memory = None
    if training.sequence_length and training.batch_size:
        weights, stream = training_memory(config.model, len(vocabulary), training.sequence_length)
        memory = weights + -(-training.batch_size // (training.accumulation or 1)) * stream
    return {
        "schema": 1,
        "kind": "checkpoint",
        "path": str(path),
        "bytes": path.stat().st_size,
        "parameters": sum(parameters.values()),
        "parameters_by_part": parameters,
        "training_bytes": memory,
        "vocabulary": {"unit": vocabulary.unit, "symbols": len(vocabulary)},
        "config": config.to_mapping(),
        "corpus": document["corpus"],
        "record": document["record"],
        "resumable": bool(document["progress"]),
        "sha256": document["sha256"],
    }


def parameters_by_part(config: ModelConfig, symbols: int) -> dict[str, int]:
    """How many trained values each part of the network has."""
    from charrnn.architectures import weight_shapes

    parts: dict[str, int] = {}
    for name, shape in weight_shapes(config, symbols).items():
        part = (name.rpartition(".")[0] or name).replace("layers.", "layer ").replace("norms.", "norm ")
        parts[part] = parts.get(part, 0) + math.prod(shape)
    return parts


def _facts(described: dict[str, Any]) -> Facts:
    """What is known of a checkpoint, for people: one line a fact.

    Raises:
        CheckpointError: the record of the training lacks a part, or garbles it.
    """
    from charrnn.cli.console import Facts

    fact = Facts()
    try:
        _tell(fact, described)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{described['path']}: its record of the training lacks or garbles {error}") from error
    return fact


def _tell(fact: Facts, described: dict[str, Any]) -> None:
    from charrnn.architectures import description
    from charrnn.checkpoint import run_name
    from charrnn.config import ModelConfig
    from charrnn.data.vocabulary import NOUNS

    model, training = described["config"]["model"], described["config"]["training"]
    record, corpus, vocabulary = described["record"], described["corpus"], described["vocabulary"]
    fact("checkpoint", f"{described['path']} ({described['bytes'] / 1e6:.1f} MB)", "bold")
    extras = [f"character vectors of {model['embedding_size']}"] if "embedding_size" in model else []
    fact("model", ", ".join([description(ModelConfig.from_mapping(model, "model")), *extras]))
    fact("vocabulary", f"{vocabulary['symbols'] - 1:,} {vocabulary['unit']}s and unknown")
    fact("parameters", f"{described['parameters']:,}")
    for part, count in described["parameters_by_part"].items():
        fact("", f"{count:>12,}  {part}")
    rates = {name: rate for name, rate in model.items() if name.endswith("dropout")}
    if any(rates.values()):
        fact("dropout", ", ".join(f"{name.replace('_', ' ')} {rate:g}" for name, rate in rates.items() if rate))
    if corpus:
        count = corpus["sources"]
        fact("trained on", f"{corpus['name']}, {count:,} source{'s' * (count != 1)}, in {corpus['path']}")
        fact("fingerprint", str(corpus["fingerprint"]))
    if record:
        noun = NOUNS[vocabulary["unit"]]
        fact("training", f"{record['steps']:,} steps, {record['epochs']:.2f} epochs, {record['seconds']:.0f} s, "
             f"{record['characters']:,} {noun}s on {record['compute']}")  # fmt: skip
        nats = record.get("validation_nats_per_char")
        if nats is not None:
            fact("validation", f"{nats / math.log(2):.4f} bits per {noun} ({nats:.4f} nats) during training")
        if "init_from" in record:
            fact("began from", _origin(record["init_from"]))
        fact("made with", ", ".join(f"{key} {value}" for key, value in record["environment"].items()))
    if model.get("model") != "ngram":
        fact("optimiser", f"AdamW, learning rate {training['learning_rate']:g}, {training['schedule']}, "
             f"{training['batch_size']} streams, windows of {training['sequence_length']}")  # fmt: skip
    if described["training_bytes"]:
        fact("memory", f"training takes {described['training_bytes'] / 1e6:,.1f} MB or more, beside the program")
    if described["resumable"]:
        name = shlex.quote(run_name(Path(described["path"]).parent))
        fact("resume", f"charrnn train --resume --run {name}", "green")


def _origin(init_from: Any) -> str:
    """The checkpoint that a training began from, as it was recorded."""
    if isinstance(init_from, dict):
        return f"{init_from['path']}, SHA-256 {str(init_from['sha256'])[:16]}"
    return str(init_from)
