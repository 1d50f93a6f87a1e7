"""One training from its first word to its last file: text, settings, device, folder, loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from charrnn.checkpoint import LAST, Checkpoint, locate
from charrnn.config import Config, TrainingConfig
from charrnn.data.corpus import Corpus
from charrnn.errors import CheckpointError, UsageError
from charrnn.evaluation.evaluator import trained_on
from charrnn.model.compute import Compute, choose_compute
from charrnn.presets import settle
from charrnn.provenance import environment
from charrnn.training.events import Event
from charrnn.training.finetune import fit_vocabulary
from charrnn.training.run import Run
from charrnn.training.trainer import Trainer

Notify = Callable[[str], None]
#: What may differ when a run goes on; everything else would make it another run.
RESUMABLE = ("epochs", "steps", "time_limit", "validate_every", "save_every", "patience", "device", "precision")


@dataclass(frozen=True)
class Session:
    """A run that is ready: iterate over ``events()`` to train it."""

    run: Run
    trainer: Trainer
    corpus: Corpus

    def events(self) -> Iterator[Event]:
        """Train, writing the run's folder."""
        return self.run.record(self.trainer.run())

    def stop(self) -> None:
        """Ask for an end after this step; the state is saved."""
        self.trainer.stop_requested = True


def begin(
    corpus: Corpus,
    given: Config,
    *,
    root: Path = Path("checkpoints"),
    name: str | None = None,
    preset: str = "auto",
    init_from: str | None = None,
    force: bool = False,
    notify: Notify = lambda line: None,
) -> Session:
    """Start a new run.

    Raises:
        UsageError, TextError, CheckpointError, ResourceError: as the message says.
    """
    if len(given.training.lengths()) > 1:
        options = ", ".join("--" + length.replace("_", "-") for length in given.training.lengths())
        raise UsageError(f"{options}: only one of them can say how long to train")
    start = None
    if init_from is not None:
        start, given = _start(init_from, corpus, given, root, notify)
    compute = choose_compute(given.training.device or "auto", given.training.precision or "auto")
    characters = corpus.splits["train"].characters
    choice = settle(given, characters=characters, machine=machine(compute), preset=preset)
    for reason in choice.reasons if start is None else choice.reasons[1:]:
        notify(reason)
    run = Run.create(root, name, corpus.name, choice.config, force=force)
    return Session(run, Trainer(choice.config, corpus, compute, start=start), corpus)


def machine(compute: Compute) -> str:
    """The presets' name for a device."""
    return f"cpu-{compute.precision}" if compute.device.type == "cpu" else compute.device.type


def _start(init_from: str, corpus: Corpus, given: Config, root: Path, notify: Notify) -> tuple[Checkpoint, Config]:
    source = Checkpoint.load(locate(init_from, root))
    theirs = source.config.model
    rates = ("input_dropout", "dropout", "output_dropout", "weight_dropout")
    for key, value in given.model.to_mapping().items():
        if key not in rates and value != getattr(theirs, key):
            option = "--" + key.replace("_", "-")
            raise UsageError(f"{option} {value}: {source.path} has {getattr(theirs, key)}; fine-tuning keeps the model")
    start, note = fit_vocabulary(source, corpus, given.training.seed or 0)
    notify(f"starting from {source.path}; {note}")
    return start, Config(given.model.over(theirs), given.training)


def resume(
    given: Config, *, root: Path = Path("checkpoints"), name: str | None = None, notify: Notify = lambda line: None
) -> Session:
    """Go on with a run from its ``last`` checkpoint, bit for bit.

    Raises:
        UsageError: settings other than a new length were given, or the run is finished.
        CheckpointError, TextError: the run or its corpus is missing or damaged.
    """
    path = locate(name, root, LAST)
    last = Checkpoint.load(path, with_state=True)
    if not last.progress:
        raise CheckpointError(f"{path}: holds no training state; resume from the run's {LAST}")
    changes = given.to_mapping()
    for table, values in changes.items():
        for key, value in values.items():
            if table == "model" or key not in RESUMABLE:
                current = getattr(getattr(last.config, table), key)
                if value != current:
                    option = "--" + key.replace("_", "-")
                    raise UsageError(f"{option} {value}: the run has {current}; for other settings use --init-from")
    longer = bool(given.training.lengths())
    config = Config(last.config.model, Config(training=_only(given.training)).over(last.config).training)
    corpus = trained_on(last)
    compute = choose_compute(config.training.device, config.training.precision)
    _say_differences(last, compute, notify)
    trainer = Trainer(config, corpus, compute, resume=last)
    if trainer.progress() >= 1:
        raise UsageError(
            f"{path}: the run is finished ({trainer.step:,} steps); "
            "go on with a longer --epochs, --steps or --time-limit"
        )
    notify(f"going on with {path.parent} at step {trainer.step:,}")
    if longer:
        notify("the length has changed: the learning rate follows the new length from here")
    run = Run(path.parent)
    run.rewind(last)
    return Session(run, trainer, corpus)


def _only(training: TrainingConfig) -> TrainingConfig:
    values = {key: value for key, value in training.to_mapping().items() if key in RESUMABLE}
    return dataclasses.replace(TrainingConfig(), **values)


def _say_differences(last: Checkpoint, compute: Compute, notify: Notify) -> None:
    """Bit for bit holds on the same kind of machine: say where this one differs."""
    then, now = dict(last.record.get("environment", {})), environment()
    then["compute"], now["compute"] = last.record.get("compute"), str(compute)
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            notify(f"note: {key} was {then.get(key)}, is {now.get(key)}: figures may differ in their last digits")
