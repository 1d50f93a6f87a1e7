"""A run's folder: checkpoints, settings, figures, samples, a picture and a card, written as events come."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charrnn.checkpoint import BEST, LAST, Checkpoint, run_name
from charrnn.config import Config
from charrnn.errors import UsageError
from charrnn.files import atomic_write
from charrnn.training.card import model_card
from charrnn.training.events import Event, Finished, Preview, Report, Snapshot
from charrnn.training.plot import loss_plot

CONFIG, METRICS, SAMPLES, PLOT, CARD = "config.toml", "metrics.jsonl", "samples.txt", "loss.svg", "README.md"
TENSORBOARD = "tensorboard"
#: Why a run cannot go on: there is nothing left to do.
FINISHED, EXHAUSTED = "the run is finished", "the run stopped early"
_FILES = (BEST, LAST, CONFIG, METRICS, SAMPLES, PLOT, CARD, TENSORBOARD)


def is_name(name: str) -> bool:
    """Whether a run's folder may be called so."""
    return name.isprintable() and name not in ("", "..") and Path(name).name == name and name[0] not in ".-"


@dataclass(frozen=True)
class Run:
    """The folder of one training: ``checkpoints/NAME``, or ``checkpoints/FOLDER/NAME`` where several go together."""

    folder: Path
    root: Path = Path("checkpoints")

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

    @classmethod
    def create(
        cls, root: Path, name: str | None, corpus: str, config: Config, command: Sequence[str], *, force: bool = False
    ) -> Run:
        """Make a new run's folder; without a name, the corpus's, numbered if it is taken (unless ``force``).

        Raises:
            UsageError: the name cannot be one, or a run of that name exists and ``force`` is not given.
        """
        if name is None and force:
            name = corpus
        if name is None:
            taken = {path.name for path in root.iterdir()} if root.is_dir() else set()
            names = (corpus if number == 1 else f"{corpus}-{number}" for number in range(1, len(taken) + 2))
            name = next(candidate for candidate in names if candidate not in taken)
        parts = name.split("/")
        if len(parts) > 2 or not all(map(is_name, parts)):
            raise UsageError(
                f"--run {name}: a run's name is a folder's name with a letter first, with at most one other and a / "
                "before it"
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
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(folder, root)
        run.write_config(config, command)
        return run

    @staticmethod
    def holds_only_its_own(folder: Path) -> bool:
        """Whether nothing is in a folder but what runs write, so that it can be replaced."""
        return all(path.name in _FILES or path.name.endswith(".tmp") for path in folder.iterdir())

    def write_config(self, config: Config, command: Sequence[str]) -> None:
        """Write ``config.toml``; ``command`` is what trains the same again with it, without ``--config``."""
        again = shlex.join([*command, "--config", str(self.folder / CONFIG)])
        with atomic_write(self.folder / CONFIG) as stream:
            stream.write(config.to_toml(f"The settings of run {self.name}. The same again:\n{again}").encode())

    def rewind(self, checkpoint: Checkpoint) -> None:
        """Take back what was written to the logs after ``checkpoint`` was saved."""
        for name, size in checkpoint.progress.get("files", {}).items():
            path = self.folder / Path(name).name
            if path.is_file() and path.stat().st_size > size:
                with path.open("r+b") as stream:
                    stream.truncate(size)

    def record(self, events: Iterable[Event]) -> Iterator[Event]:
        """Write each event to the folder and pass it on."""
        with (self.folder / METRICS).open("ab") as metrics, (self.folder / SAMPLES).open("ab") as samples:
            for event in events:
                match event:
                    case Report():
                        metrics.write(json.dumps(event.to_json(), allow_nan=False).encode() + b"\n")
                        metrics.flush()
                    case Preview():
                        samples.write(f"──── step {event.step}\n{event.text}\n\n".encode())
                        samples.flush()
                    case Snapshot(checkpoint, best=True):
                        checkpoint.save(self.best)
                    case Snapshot(checkpoint):
                        sizes = {METRICS: metrics.tell(), SAMPLES: samples.tell()}
                        progress = {**checkpoint.progress, "files": sizes}
                        dataclasses.replace(checkpoint, progress=progress).save(self.last)
                        self._picture()
                    case Finished():
                        self._picture()
                        self._card(event)
                yield event

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; a line cut short by a crash is left out."""
        lines = []
        path = self.folder / METRICS
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                lines.append(value)
        return lines

    def _picture(self) -> None:
        with atomic_write(self.folder / PLOT) as stream:
            stream.write(loss_plot(self.metrics(), self.name).encode())

    def _card(self, finished: Finished) -> None:
        if self.best.is_file():
            with atomic_write(self.folder / CARD) as stream:
                stream.write(model_card(self.name, Checkpoint.load(self.best), finished).encode())
