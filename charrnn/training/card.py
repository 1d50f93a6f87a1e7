"""The model card: what a run's folder says of itself to people."""

from __future__ import annotations

import math
import shlex

from charrnn.architectures import description
from charrnn.checkpoint import Checkpoint
from charrnn.evaluation.metrics import perplexity
from charrnn.training.events import Finished
from charrnn.visible import show_line


def model_card(name: str, checkpoint: Checkpoint, finished: Finished) -> str:
    """Markdown that tells what the model is, what it was trained on, what it reaches, and how to use it."""
    model, record, corpus = checkpoint.config.model, checkpoint.record, checkpoint.corpus
    lines = [
        f"# {name}",
        "",
        f"A character-level language model, {description(model)}, "
        f"{checkpoint.parameters:,} parameters, made by charrnn {record['environment']['charrnn']}.",
        "",
        f"- Text: `{show_line(str(corpus.get('name')))}`, fingerprint `{str(corpus.get('fingerprint'))[:16]}`, "
        f"{len(checkpoint.vocabulary.codes)} distinct {checkpoint.vocabulary.unit}s.",
        f"- Training: {finished.step:,} steps, {finished.epoch:.2f} epochs, {finished.seconds:.0f} s on "
        f"{record['compute']}. `best.safetensors` is the state after step {record['steps']:,}.",
    ]
    if finished.validation_nats_per_char is not None:
        nats, noun = finished.validation_nats_per_char, checkpoint.vocabulary.noun
        lines.append(
            f"- Validation, {finished.validation_characters:,} {noun}s, stateful, float32: {nats:.4f} nats = "
            f"{nats / math.log(2):.4f} bits per {noun}, perplexity {perplexity(nats):.3f}."
        )
    lines += [
        "",
        "```",
        f"charrnn sample {shlex.quote(name)}",
        f"charrnn eval {shlex.quote(name)}",
        "```",
        "",
        "It writes text like the text it was trained on, errors and opinions included, and knows nothing else. "
        "`best.safetensors` holds the weights, the vocabulary, the settings in `config.toml` and this record; "
        "`last.safetensors` also what training needs to go on.",
    ]
    return "\n".join(lines) + "\n"
