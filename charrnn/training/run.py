"""A run's folder: checkpoints, settings, figures, samples, a picture and a card, written as events come."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charrnn.checkpoint import BEST, LAST, Checkpoint, run_name
from charrnn.config import Config
from charrnn.errors import CheckpointError, ResourceError, UsageError
from charrnn.files import TEMPORARY, Hold, Log, atomic_write, clear_temporaries, link, make_folder, read_json, remove
from charrnn.training.card import model_card
from charrnn.training.events import Event, Finished, Preview, Report, Snapshot, Started, WentBack
from charrnn.training.plot import loss_plot
from charrnn.visible import show

#: Told, in a line, what a user may want to know.
Notify = Callable[[str], None]

CONFIG, METRICS, SAMPLES, PLOT, CARD = "config.toml", "metrics.jsonl", "samples.txt", "loss.svg", "README.md"
TENSORBOARD = "tensorboard"
#: Why a run cannot go on: there is nothing left to do.
FINISHED, EXHAUSTED = "the run is finished", "the run stopped early"
_FILES = (BEST, CONFIG, METRICS, SAMPLES, PLOT, CARD)
#: How a run is refused that another process trains.
TRAINED_ELSEWHERE = "is being trained by another process; wait for its end, or choose another --run NAME"


def is_name(name: str) -> bool:
    """Whether a run's folder may be called so."""
    plain = name.isprintable() and name not in ("", "..") and Path(name).name == name and name[0] not in ".-"
    return plain and not _is_own(name)


def save_name(number: int) -> str:
    """The name of the checkpoint to go on from that was saved ``number`` saves before the latest.

    >>> save_name(0), save_name(1)
    ('last.safetensors', 'last-1.safetensors')
    """
    return LAST if number == 0 else LAST.replace(".", f"-{number}.")


def _is_saved(name: str) -> bool:
    middle = name.removeprefix("last").removesuffix(".safetensors").removeprefix("-")
    return name == LAST or (middle.isdecimal() and name == save_name(int(middle)))


def _report(line: str) -> dict[str, Any] | None:
    """The figures of a line of ``metrics.jsonl``, if they can be drawn: anybody may have written to the file."""
    try:
        report = read_json(line)
        figures = [report["step"], report["train_nats_per_char"], report.get("validation_nats_per_char", 0)]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    known = all(type(figure) in (int, float) and 0 <= figure < 1e15 for figure in figures) and figures[0] > 0
    return report if known else None


def _is_own(name: str) -> bool:
    """Whether a run's folder has a file of that name."""
    return name in _FILES or _is_saved(name)


@dataclass(frozen=True)
class Run:
    """The folder of one training: ``checkpoints/NAME``, or ``checkpoints/FOLDER/NAME`` where several go together.

    ``hold`` keeps other trainings out of it; who only reads needs none.
    """

    folder: Path
    root: Path = Path("checkpoints")
    hold: Hold | None = None

    @property
    def name(self) -> str:
        """The run's name, as ``sample`` and ``eval`` take it."""
        return run_name(self.folder, self.root)

    @property
    def best(self) -> Path:
        """The checkpoint for use."""
        return self.folder / BEST

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.folder / LAST

    @property
    def has_card(self) -> bool:
        """Whether the training came to an end, if only for now."""
        return (self.folder / CARD).is_file()

    @classmethod
    def create(
        cls, root: Path, name: str | None, corpus: str, config: Config, command: Sequence[str], *, force: bool = False
    ) -> Run:
        """Make and hold a new run's folder; without a name, the corpus's if it can be one, numbered if it is taken
        (unless ``force``).

        Raises:
            UsageError: the name cannot be one, or a run of that name exists and ``force`` is not given, or it is being
                trained.
        """
        if not is_name(corpus):
            corpus = "run"
        if name is None and force:
            name = corpus
        if name is None:
            taken = {path.name for path in root.iterdir()} if root.is_dir() else set()
            names = (corpus if number == 1 else f"{corpus}-{number}" for number in range(1, len(taken) + 2))
            name = next(candidate for candidate in names if candidate not in taken)
        parts = name.split("/")
        if len(parts) > 2 or not all(map(is_name, parts)):
            raise UsageError(
                f"--run {name}: a run's name is a folder's that does not begin with . or -, with at most one other "
                "and a / before it"
            )
        folder = root / name
        if len(parts) > 1 and any((folder.parent / file).is_file() for file in (BEST, LAST, CONFIG)):
            raise UsageError(f"--run {name}: {folder.parent} is a run itself; choose another folder")
        if folder.exists() and any(folder.iterdir()):
            if not force:
                raise UsageError(
                    f"{folder}: a run of that name exists; go on with it by --resume, replace it by --force, "
                    "or choose another --run NAME"
                )
            if not cls.holds_only_its_own(folder):
                raise UsageError(f"{folder}: holds other files than a run's; --force will not remove them")
        make_folder(folder)
        run = cls.held(folder, root)
        for path in folder.iterdir():  # and not the folder itself, which is what is held
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        run.write_config(config, command)
        return run

    @classmethod
    def held(cls, folder: Path, root: Path) -> Run:
        """An existing run, to be trained.

        Raises:
            UsageError: another process trains it.
        """
        run = cls(folder, root, Hold(folder, TRAINED_ELSEWHERE))
        clear_temporaries(folder)
        return run

    @staticmethod
    def holds_only_its_own(folder: Path) -> bool:
        """Whether nothing is in a folder but what runs write, so that it can be replaced."""
        return all(
            path.name == TENSORBOARD if path.is_dir() else _is_own(path.name) or path.name.endswith(TEMPORARY)
            for path in folder.iterdir()
        )

    def write_config(self, config: Config, command: Sequence[str]) -> None:
        """Write ``config.toml``; ``command`` is what trains the same again with it, without ``--config``.

        Names of files may hold characters that neither TOML nor UTF-8 has.
        """
        again = shlex.join([*command, "--config", str(self.folder / CONFIG)])
        with atomic_write(self.folder / CONFIG) as stream:
            stream.write(config.to_toml(show(f"The settings of run {self.name}. The same again:\n{again}")).encode())

    def logs(self, notify: Notify) -> tuple[Log, Log]:
        """The files that grow: figures and samples."""
        return Log(self.folder / METRICS, notify), Log(self.folder / SAMPLES, notify)

    def record(self, events: Iterable[Event], notify: Notify, keep: int = 1) -> Iterator[Event]:
        """Write each event to the folder and pass it on.

        Args:
            notify: told, in a line, of what could not be written though the training goes on.
            keep: how many checkpoints to go on from are kept, the latest included.

        Raises:
            ResourceError: a checkpoint cannot be written.
        """
        metrics, samples = logs = self.logs(notify)
        try:
            for log in logs:
                log.write(b"")  # they are there from the beginning, if empty
            for event in events:
                match event:
                    case Started():
                        remove(self.folder / CARD)  # it was of an earlier end
                    case Report():
                        metrics.write(json.dumps(event.to_json(), allow_nan=False).encode() + b"\n")
                    case Preview():
                        samples.write(f"──── step {event.step}\n{event.text}\n\n".encode())
                    case Snapshot(checkpoint, best=True):
                        self._check_held()
                        checkpoint.save(self.best)
                    case Snapshot(checkpoint):
                        self._check_held()
                        sizes = {log.path.name: size for log in logs if (size := log.size()) is not None}
                        self._save(
                            dataclasses.replace(checkpoint, progress={**checkpoint.progress, "files": sizes}), keep
                        )
                        self._picture(notify)
                    case WentBack(checkpoint):
                        rewind(logs, checkpoint)
                    case Finished():
                        self._picture(notify)
                        self._card(event, notify)
                yield event
        finally:
            for log in logs:
                log.close()
            if self.hold is not None:
                self.hold.close()

    def _check_held(self) -> None:
        if self.hold is not None:
            self.hold.check()

    def _save(self, checkpoint: Checkpoint, keep: int) -> None:
        """Save the state to go on from, and keep those before it as ``last-1`` and so on."""

        def move_on() -> None:
            numbers = [number for number in range(1, keep) if (self.folder / save_name(number - 1)).is_file()]
            for number in reversed(numbers):
                # Each has a name at every moment, and the latest always its own.
                link(self.folder / save_name(number - 1), self.folder / save_name(number))

        # Not before the new one is there: a disk that is full leaves them all as they are.
        checkpoint.save(self.last, move_on)
        for path in self.folder.glob("last-*"):
            if _is_saved(path.name) and path.name not in map(save_name, range(keep)):
                path.unlink()

    def saved(self, notify: Notify, first: int = 0) -> Checkpoint:
        """The latest whole checkpoint to go on from; it takes the place of later ones.

        Args:
            notify: told which ones are not whole.
            first: leave so many later ones out, if there are earlier ones.

        Raises:
            CheckpointError: none is whole; the line is about the latest.
            ResourceError: the folder cannot be written to.
        """
        damaged: CheckpointError | None = None
        earlier = (self.folder / save_name(number) for number in itertools.count(1))
        paths = [self.last, *itertools.takewhile(Path.is_file, earlier)]
        for path in paths[first:] or paths[-1:]:
            try:
                found = Checkpoint.load(path, with_state=True)
            except CheckpointError as error:
                damaged = damaged or error
                continue
            if damaged is not None:
                notify(f"warning: {damaged}; going on from the one before it, {path}")
            if path != self.last:
                # Or the next save would keep the one that is no good, and in the place of this.
                link(path, self.last)
            return found
        assert damaged is not None
        raise damaged

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; one that was cut short by a crash, or is no report's, is left out."""
        path = self.folder / METRICS
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        return [report for line in lines if (report := _report(line)) is not None]

    def _picture(self, notify: Notify) -> None:
        self._beside(PLOT, lambda: loss_plot(self.metrics(), self.name), notify)

    def _card(self, finished: Finished, notify: Notify) -> None:
        if self.best.is_file():
            self._beside(CARD, lambda: self._described(finished), notify)

    def _described(self, finished: Finished) -> str:
        best = Checkpoint.load(self.best)
        try:
            return model_card(self.name, best, finished)
        except (KeyError, TypeError, ValueError) as error:  # not one that this run wrote
            raise CheckpointError(f"{self.best}: its record lacks or garbles {error}") from error

    def _beside(self, name: str, content: Callable[[], str], notify: Notify) -> None:
        """Write what can be made again: no training ends because it could not be."""
        try:
            with atomic_write(self.folder / name) as stream:
                stream.write(content().encode(errors="backslashreplace"))
        except (ResourceError, CheckpointError) as error:
            notify(f"warning: {error}")


def refuse_if_trained(folder: Path) -> None:
    """Raises UsageError if another process trains the run in this folder now."""
    if folder.is_dir():
        Hold(folder, TRAINED_ELSEWHERE).close()


def rewind(logs: Iterable[Log], checkpoint: Checkpoint) -> None:
    """Take back what was written to the logs after ``checkpoint`` was saved."""
    sizes = checkpoint.progress.get("files")
    if not isinstance(sizes, dict):
        return
    for log in logs:
        if isinstance(size := sizes.get(log.path.name), int) and size >= 0:
            log.cut(size)
