"""One training from its first word to its last file: text, settings, device, folder, loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from charrnn.checkpoint import LAST, Checkpoint, locate, read_document
from charrnn.config import Config, TrainingConfig, plain, typed
from charrnn.data.corpus import Corpus
from charrnn.data.sources import corpus_name
from charrnn.errors import CheckpointError, TextError, UsageError
from charrnn.evaluation.evaluator import trained_on
from charrnn.model import sequence
from charrnn.model.compute import Compute, check_memory, choose_compute
from charrnn.presets import check_preset, counted, settle
from charrnn.provenance import environment
from charrnn.training.counting import Counting
from charrnn.training.events import Event
from charrnn.training.finetune import fit_vocabulary
from charrnn.training.group import ALONE, Group
from charrnn.training.run import EXHAUSTED, FINISHED, Notify, Run, rewind
from charrnn.training.trainer import Trainer

#: What may differ when a run goes on; everything else would make it another run.
RESUMABLE = (
    "epochs", "steps", "time_limit", "validate_every", "save_every", "keep", "patience", "accumulation", "device",
    "precision",
)  # fmt: skip
COUNTS_ALONE = "--model ngram: counts in one process, there are {}; start it without torchrun"
#: What was the case before there was a setting for it.
BEFORE = TrainingConfig(state_reset=0.0, keep=2, accumulation=1)


@dataclass(frozen=True)
class Session:
    """A run that is ready: iterate over ``events()`` to train it."""

    run: Run
    trainer: Trainer | Counting
    corpus: Corpus
    notify: Notify = lambda line: None
    group: Group = ALONE

    def events(self) -> Iterator[Event]:
        """Train, the first process writing the run's folder."""
        self.trainer.saved = lambda first: _saved(self.run, self.group, self.notify, first)
        if not self.group.leads:
            return self.trainer.run()
        return self.run.record(self.trainer.run(), self.notify, self.trainer.config.training.keep or 1)

    def stop(self) -> None:
        """Ask for an end after this step; the state is saved."""
        self.trainer.stop_requested = True


def _saved(run: Run, group: Group, notify: Notify, first: int = 0) -> Checkpoint:
    """What a run goes on from, for every process the same: the first finds it, and makes it the latest."""
    with group.first_alone():
        return run.saved(notify, first) if group.leads else Checkpoint.load(run.last, with_state=True)


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
    group: Group = ALONE,
) -> Session:
    """Start a new run.

    Args:
        group: the processes that train together; each begins the same.

    Raises:
        UsageError, TextError, CheckpointError, ResourceError: as the message says.
    """
    given.training.check_one_length()
    given.model.check_kind()
    check_preset(preset)
    characters = corpus.splits["train"].characters
    if characters < 2:
        raise TextError(f"{corpus.path}: {characters} character(s) to train on; at least 2 are needed")
    start = origin = None
    command = ["charrnn", "train", *corpus.arguments()]
    if init_from is not None:
        if preset != "auto":
            raise UsageError(f"--preset {preset}: the size is that of --init-from {init_from}; leave one of them out")
        start, given = _start(init_from, corpus, given, root, notify)
        origin = {"path": str(start.path), "sha256": read_document(start.path)["sha256"]} if start.path else None
        command += ["--init-from", init_from]
    if given.model.kind == "ngram":
        if group.size > 1:
            raise UsageError(COUNTS_ALONE.format(group.size))
        counting = Counting(counted(given, preset), corpus)
        run = Run.create(root, name, corpus.name, counting.config, command, force=force)
        return Session(run, counting, corpus, notify)
    compute = _compute(given.training.device or "auto", given.training.precision or "auto", group)
    if compute.device.type == "cpu" and not sequence.compiled():
        notify("note: installed without a C compiler, so training and sampling are slower than they could be")
    choice = settle(given, characters=characters, machine=machine(compute), preset=preset)
    for reason in choice.reasons:
        notify(reason)
    config = group.told(choice.config)
    check_memory(config, len(corpus.vocabulary), characters, compute, group.size, group.neighbours)
    # First what can fail, then the folder: a run that cannot start must not take the place of another.
    trainer = Trainer(config, corpus, compute, start=start, origin=origin, notify=notify, group=group)
    run = Run.create(root, name, corpus.name, config, command, force=force) if group.leads else Run(root, root)
    return Session(dataclasses.replace(run, folder=group.told(run.folder)), trainer, corpus, notify, group)


def _compute(device: str, precision: str, group: Group) -> Compute:
    compute = choose_compute(device, precision, group.local if group.size > 1 else None)
    mine, first = ((of.device.type, of.precision) for of in (compute, group.told(compute)))
    if mine != first:
        have = " and ".join(" in ".join(each) for each in (first, mine))
        raise UsageError(f"the processes would compute on {have}; name --device and --precision")
    return compute


def machine(compute: Compute) -> str:
    """The presets' name for a device."""
    if compute.device.type != "cpu":
        return compute.device.type
    return "cpu-amx" if compute.precision == "bf16" and sequence.available() else f"cpu-{compute.precision}"


def _start(init_from: str, corpus: Corpus, given: Config, root: Path, notify: Notify) -> tuple[Checkpoint, Config]:
    source = Checkpoint.load(locate(init_from, root))
    theirs = source.config.model
    rates = ("input_dropout", "dropout", "output_dropout", "weight_dropout")
    for key, value in given.model.to_mapping().items():
        if key not in rates and value != (theirs.kind if key == "model" else getattr(theirs, key)):
            has = getattr(theirs, key)
            said = " ".join(typed(key, value))
            raise UsageError(f"{said}: {source.path} has {plain(has)}; fine-tuning keeps the model")
    start, note = fit_vocabulary(source, corpus, given.training.seed or 0)
    notify(f"starting from {source.path}; {note}")
    return start, Config(given.model.over(theirs), given.training)


def resume(
    given: Config,
    *,
    root: Path = Path("checkpoints"),
    name: str | None = None,
    named: Sequence[str] = (),
    notify: Notify = lambda line: None,
    group: Group = ALONE,
) -> Session:
    """Go on with a run from its ``last`` checkpoint, bit for bit.

    Args:
        named: the corpus as the user named it, if at all; it must be the run's own.
        group: the processes that train together; there may be more or fewer than there were.

    Raises:
        UsageError: settings other than a new length were given, or the run is finished.
        CheckpointError, TextError: the run or its corpus is missing or damaged.
    """
    given.training.check_one_length()
    path = group.told(locate(name, root, LAST) if group.leads else Path())
    run = Run.held(path.parent, root) if group.leads else Run(path.parent, root)
    last = _saved(run, group, notify)
    counts = last.config.model.kind == "ngram"
    if counts and group.size > 1:
        raise UsageError(COUNTS_ALONE.format(group.size))
    if counts and run.has_card:
        raise UsageError(f"{path}: {FINISHED}; an n-gram model counts once")
    if not last.progress:
        raise CheckpointError(f"{path}: holds no training state; resume from the run's {LAST}")
    changes = given.to_mapping()
    for table, values in changes.items():
        for key, value in values.items():
            if table == "model" or key not in RESUMABLE:
                current = last.config.model.kind if key == "model" else getattr(getattr(last.config, table), key)
                if value != current:
                    how = "train a new run" if table == "model" else "use --init-from"
                    raise UsageError(
                        f"{' '.join(typed(key, value))}: the run has {plain(current)}; for other settings {how}"
                    )
    if counts:
        counting = Counting(counted(Config(last.config.model, given.training), "auto"), _corpus(last, named))
        for log in run.logs(notify):
            log.cut(0)
        return Session(run, counting, counting.corpus, notify)
    longer = any(
        getattr(given.training, name) != getattr(last.config.training, name) for name in given.training.lengths()
    )
    theirs = Config(training=last.config.training.over(BEFORE))
    config = Config(last.config.model, Config(training=_only(given.training)).over(theirs).training)
    needed = set(TrainingConfig.names()) - {*TrainingConfig.LENGTHS, "validate_every"}
    lacking = sorted(name for name in needed if getattr(config.training, name) is None)
    if lacking or not config.training.lengths():
        raise CheckpointError(f"{path}: its configuration lacks {[*lacking, 'a length'][0]}")
    corpus = _corpus(last, named)
    compute = _compute(config.training.device, config.training.precision, group)
    _say_differences(last, compute, group, notify)
    trainer = Trainer(config, corpus, compute, resume=last, notify=notify, group=group)
    # The card is what a training writes last. A finished one without it was killed in between, and has its end to come.
    if trainer.progress() >= 1 and run.has_card:
        raise UsageError(
            f"{path}: {FINISHED} ({trainer.step:,} steps); go on with a longer --epochs, --steps or --time-limit"
        )
    if trainer.exhausted() and run.has_card:
        raise UsageError(f"{path}: {EXHAUSTED}; go on with a larger --patience, or --patience 0")
    notify(f"going on with {path.parent} at step {trainer.step:,}")
    group.wait()  # until all have looked at what is there
    if group.leads:
        rewind(run.logs(notify), last)
    if longer and group.leads:
        notify("the length has changed: the learning rate follows the new length from here")
        origin = ["--init-from", trainer.origin["path"]] if trainer.origin else []
        run.write_config(config, ["charrnn", "train", *corpus.arguments(), *origin])
    return Session(run, trainer, corpus, notify, group)


def _corpus(last: Checkpoint, named: Sequence[str]) -> Corpus:
    """What a run was trained on, which is what a user names, if anything.

    Raises:
        CheckpointError, TextError, UsageError: it is gone, is another one than it was, or is not what is named.
    """
    corpus = trained_on(last, advice="put it back, or begin anew with charrnn train CORPUS --init-from")
    if (corpus.vocabulary.unit, corpus.vocabulary.codes) != (last.vocabulary.unit, last.vocabulary.codes):
        raise CheckpointError(f"{last.path}: has other characters than {corpus.path}, which it was trained on")
    if named and corpus_name(named[0]) != corpus.name and Path(named[0]).resolve() != corpus.path.resolve():
        raise UsageError(f"{' '.join(named)}: the run was trained on {corpus.path}; --resume needs no CORPUS")
    return corpus


def _only(training: TrainingConfig) -> TrainingConfig:
    values = {key: value for key, value in training.to_mapping().items() if key in RESUMABLE}
    return dataclasses.replace(TrainingConfig(), **values)


def _say_differences(last: Checkpoint, compute: Compute, group: Group, notify: Notify) -> None:
    """Bit for bit holds on the same kind of machine: say where this one differs."""
    recorded, now = last.record.get("environment"), environment(group.size)
    then = dict(recorded) if isinstance(recorded, dict) else {}
    then["compute"], now["compute"] = last.record.get("compute"), str(compute)
    for one in (then, now):
        one.setdefault("processes", "1")
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            notify(f"note: {key} was {then.get(key)}, is {now.get(key)}: figures may differ in their last digits")
