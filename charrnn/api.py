"""charrnn from Python, for notebooks and scripts:

    import charrnn
    model = charrnn.train("python-stdlib", time_limit="2m")  # or: model = charrnn.load("python-stdlib")
    print(model.generate("def ", length=200, temperature=0.8))
    model.score("def main():").bits_per_char

What goes wrong is one of ``charrnn.errors``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from charrnn.architectures import title
from charrnn.checkpoint import Checkpoint, locate
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.engine import Engine, engine_for
from charrnn.errors import UsageError
from charrnn.evaluation.evaluator import evaluate, in_float32
from charrnn.evaluation.metrics import Figures
from charrnn.presets import PRESETS

if TYPE_CHECKING:
    from charrnn.training.events import Event


class Model:
    """A trained model: generates text and scores text. Made by :func:`load` or :func:`train`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def __repr__(self) -> str:
        return f"<charrnn {title(self.checkpoint.config.model)}, {self.checkpoint.path}>"

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's characters."""
        return self.checkpoint.vocabulary

    @cached_property
    def engine(self) -> Engine:
        """The model as steps: ids (B,) and state to logits (B, V) and state. It is the one of ``charrnn sample``, which
        may round weights to 8 bits; see :mod:`charrnn.decoding.native_engine`."""
        return engine_for(self.checkpoint)

    def generate(self, prompt: str = "", *, length: int = 500, beam: int | None = None, **settings: Any) -> str:
        """Text that goes on from ``prompt``, without it.

        Args:
            prompt: what stands before; a newline is taken to stand before it.
            length: characters (bytes, in a model of bytes).
            beam: the likeliest text that a search over this many hypotheses finds, instead of a draw.
            settings: of :class:`charrnn.decoding.generator.Sampling` (temperature, top_k, top_p, greedy, seed, stop),
                or with ``beam`` of :class:`charrnn.decoding.beam.BeamSearch` (length_penalty, no_repeat_ngram, stop).

        Raises:
            UsageError: no such setting, or one out of range.
        """
        from charrnn.decoding.beam import BeamSearch, beam_search
        from charrnn.decoding.generator import Sampling, generate

        utf8 = bool(self.checkpoint.corpus.get("utf8", True))
        known = {field.name for field in fields(Sampling if beam is None else BeamSearch)} - {"samples"}
        _check_names(settings, known, "generate()" if beam is None else "generate() with beam")
        if beam is not None:
            search = BeamSearch(beam=beam, length=length, **settings)
            found = beam_search(self.engine, self.vocabulary, prompt, search, utf8=utf8)
            return in_float32(self.checkpoint, prompt, found)[0].text
        settings.setdefault("seed", int(np.random.default_rng().integers(2**31)))
        return generate(self.engine, self.vocabulary, prompt, Sampling(length=length, **settings), utf8=utf8)[0].text

    def score(self, text: str) -> Figures:
        """The figures of a text, as ``eval`` has them: ``bits_per_char``, ``perplexity``, ``nats``, ``unseen`` ...

        Raises:
            TextError: the text is empty.
        """
        return evaluate(self.checkpoint, self.vocabulary.encode(text), len(text.encode("utf-8", "surrogatepass")))


def load(checkpoint: str | Path | None = None, *, root: Path | str = "checkpoints") -> Model:
    """A trained model: a file, a run's folder, a run's name below ``root``, or (``None``) the run trained last.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    return Model(Checkpoint.load(locate(None if checkpoint is None else str(checkpoint), Path(root))))


def train(
    source: str | Path | Sequence[str],
    *,
    run: str | None = None,
    root: Path | str = "checkpoints",
    corpora: Path | str = "corpora",
    preset: str = "auto",
    init_from: str | None = None,
    force: bool = False,
    on_event: Callable[[Event], None] | None = None,
    **settings: Any,
) -> Model:
    """Train a model on a text, as ``charrnn train`` does, and load it.

    Args:
        source: a prepared corpus, a file, a folder, a registered name, or several.
        on_event: called with each of :mod:`charrnn.training.events`, for progress.
        settings: of :mod:`charrnn.config`, such as ``hidden_size=256, epochs=10, time_limit="2m"``.

    Raises:
        CharRNNError: with one line that says what is wrong.
    """
    from charrnn.data.corpus import resolve
    from charrnn.training import session

    _check_names(settings, {*ModelConfig.names(), *TrainingConfig.names()}, "train()")
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r}: expected one of {', '.join(PRESETS)}")
    config = Config(*(group(**{k: v for k, v in settings.items() if k in group.names()}) for group in _GROUPS))
    names = [str(source)] if isinstance(source, str | Path) else list(map(str, source))
    if not names:
        raise UsageError("no text to train on; name a file, a corpus, or python-stdlib")
    corpus = resolve(names, root=Path(corpora))
    running = session.begin(corpus, config, root=Path(root), name=run, preset=preset, init_from=init_from, force=force)
    for event in running.events():
        if on_event is not None:
            on_event(event)
    return load(running.run.best)


def _check_names(settings: Iterable[str], known: Set[str], where: str) -> None:
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UsageError(f"{unknown[0]}: no such setting of {where}; known are {', '.join(sorted(known))}")


_GROUPS: tuple[Any, ...] = (ModelConfig, TrainingConfig)
