"""A sweep: one corpus, a grid of settings, a run for each point, and one table of what they reach.

Each point is trained and scored by charrnn's own ``train`` and ``eval`` in a process of its own, so that each row is
what anyone gets who types its two commands, and no point can take another with it. What is finished is read from the
files, not remembered: a sweep may be killed at any moment, and the same again goes on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import charrnn
from charrnn.checkpoint import BEST, LAST, SWEEP, read_document
from charrnn.config import Config, flag, plain
from charrnn.data.corpus import Corpus
from charrnn.errors import CheckpointError, DivergedError, ResourceError, Stopped, UsageError
from charrnn.files import TEMPORARY, Hold, atomic_write, clear_temporaries
from charrnn.training.grid import Grid, cheapest_first, points_of
from charrnn.training.plot import sweep_plot
from charrnn.training.run import EXHAUSTED, FINISHED, Run, is_name

PICTURE = "sweep.svg"
#: What may become of a point. "waiting" includes the one that is being trained.
WAITING, DONE, DIVERGED, STOPPED, FAILED = "waiting", "done", "diverged", "stopped", "failed"
#: Exit codes above it are signals.
_KILLED = 128
_ROOT = Path("checkpoints")


#: Of a row, what is a number once it is known.
_FIGURES = (
    "parameters", "characters", "seconds", "validation_nats_per_char", "nats_per_char", "bits_per_char", "exit_code"
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A point's line in the table.

    ``nats_per_char`` and ``bits_per_char`` are of the split that the sweep scores, and None unless the status is
    "done"; ``characters`` and ``seconds`` are those of the training, its interruptions left out.
    """

    run: str
    settings: dict[str, Any]
    train: str
    eval: str
    status: str = WAITING
    parameters: int | None = None
    characters: int | None = None
    seconds: float | None = None
    validation_nats_per_char: float | None = None
    nats_per_char: float | None = None
    bits_per_char: float | None = None
    exit_code: int | None = None
    error: str | None = None

    @property
    def folder(self) -> Path:
        return _ROOT / self.run

    @property
    def log(self) -> Path:
        """What its processes say; beside the folder, which ``train`` makes itself."""
        return self.folder.with_name(self.folder.name + ".log")

    def check(self) -> None:
        """Raises TypeError where a figure is none."""
        for name, value in dataclasses.asdict(self).items():
            if name in _FIGURES and value is not None and type(value) not in (int, float):
                raise TypeError(f"{name}: {value!r}")

    def settled(self) -> bool:
        """Whether there is nothing left to do. The same training would diverge again; any other failure may pass."""
        return self.status == DIVERGED or (self.status == DONE and (self.folder / BEST).is_file())


class Sweep:
    """The folder ``checkpoints/NAME`` of a sweep.

    Args:
        name: of the folder; None is the corpus's, with ``-sweep``.
        common: what every point is given beside its own settings.
        reading: options of how the text was read, as they were typed.
        named: what the user named as text.
        scored: the split that the points are compared on.

    Raises:
        UsageError: the name cannot be one, or the grid is too large.
        TextError: the corpus has no such split.
    """

    def __init__(
        self,
        corpus: Corpus,
        grid: Grid,
        common: Config,
        *,
        name: str | None = None,
        preset: str = "auto",
        scored: str = "validation",
        reading: Sequence[str] = (),
        named: Sequence[str] = (),
    ) -> None:
        self.name = f"{corpus.name}-sweep" if name is None else name
        check_name(self.name)
        corpus.ids(scored)
        self.folder = _ROOT / self.name
        self.corpus, self.grid, self.common, self.preset, self.scored = corpus, grid, common, preset, scored
        self.reading = [*reading, *(["--preset", preset] if preset != "auto" else [])]
        self.named = corpus.arguments() if not named or "-" in named else list(named)
        points = cheapest_first(
            points_of(grid, common),
            characters=corpus.splits["train"].characters,
            symbols=len(corpus.vocabulary),
            preset=preset,
            cuda=common.training.device == "cuda",
        )
        self.points = {f"{self.name}/{point.name}": point for point in points}
        self.rows = {
            run: Row(run, point.settings, _command(self._train(run)), _command(self._eval(run, scored)))
            for run, point in self.points.items()
        }
        self._children: set[subprocess.Popen[bytes]] = set()
        self.stopping = False
        # Reentrant: a signal may come while the main thread answers another.
        self._lock = threading.RLock()
        self._inherited: tuple[int, ...] = ()

    # ------------------------------------------------------------------ commands

    def command(self) -> str:
        """What starts the sweep, and goes on with it."""
        grids = [f"{flag(name)[2:]}={','.join(map(plain, values))}" for name, values in self.grid.items()]
        options = [option for grid in grids for option in ("--grid", grid)] + self.common.to_options()
        return _command(["sweep", *self.named, *options, *self.reading, "--scored", self.scored, "--name", self.name])

    def _train(self, run: str) -> list[str]:
        options = self.points[run].config.to_options()
        return ["train", *self.corpus.arguments(), "--run", run, *options, *self.reading]

    def _eval(self, run: str, split: str) -> list[str]:
        device = self.points[run].config.training.device
        return ["eval", run, "--split", split, "--json", *(["--device", device] if device else [])]

    # ------------------------------------------------------------------ the folder

    def document(self) -> dict[str, Any]:
        """All that is known: what ``sweep.json`` holds."""
        done = [row for row in self.rows.values() if row.nats_per_char is not None]
        best = min(done, key=lambda row: row.nats_per_char or 0.0, default=None)
        return {
            "schema": 1,
            "sweep": self.name,
            "command": self.command(),
            **self._definition(),
            "best": best.run if best else None,
            "rows": [dataclasses.asdict(row) for row in self.rows.values()],
        }

    def _definition(self) -> dict[str, Any]:
        """What tells one sweep from another."""
        return {
            "corpus": self.corpus.name,
            "fingerprint": self.corpus.fingerprint,
            "scored": self.scored,
            "preset": self.preset,
            "settings": self.common.to_mapping(),
            "grid": {name: list(values) for name, values in self.grid.items()},
        }

    @contextmanager
    def opened(self, *, force: bool = False) -> Iterator[None]:
        """Take the folder, and the rows of those who had it before; nobody else may have it meanwhile.

        Args:
            force: replace a sweep that is there.

        Raises:
            UsageError: another sweep or something else is there, or this one is running already.
            CheckpointError: its ``sweep.json`` is damaged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # The hold is the training's too: of a sweep that was killed, the training goes on to its end.
        refusal = "this sweep, or a training that it began, is running; wait for its end, or choose another --name"
        with closing(Hold(self.folder, refusal)) as hold:
            self._inherited = hold.inherited
            clear_temporaries(self.folder)
            if force:
                self._clear()
            self._take_over()
            self._write()
            yield

    def _clear(self) -> None:
        held = [path for path in self.folder.iterdir() if not path.name.endswith(TEMPORARY)]
        if not (self.folder / SWEEP).is_file() and held:
            raise UsageError(f"{self.folder}: is there and is no sweep; --force will not remove it")
        for path in held:
            file = path.name in (SWEEP, PICTURE) or path.suffix == ".log"
            if not (Run.holds_only_its_own(path) if path.is_dir() else file):
                raise UsageError(f"{path}: is no part of a sweep; --force will not remove it")
        # The table last: what is left of a removal that was cut short is still a sweep.
        for path in sorted(held, key=lambda path: path.name == SWEEP):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _take_over(self) -> None:
        path = self.folder / SWEEP
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            theirs = {row["run"]: Row(**row) for row in found["rows"]}
            for row in theirs.values():
                row.check()
            definition = {key: found[key] for key in self._definition()}
        except FileNotFoundError:
            if any(not path.name.endswith(TEMPORARY) for path in self.folder.iterdir()):
                raise UsageError(f"{self.folder}: is there and is no sweep; choose another --name") from None
            return
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: is damaged ({error}); remove it, or start again with --force") from error
        for key, value in self._definition().items():
            if definition[key] != value:
                raise UsageError(
                    f"{self.folder}: a sweep with another {key} has that name ({_short(definition[key])}, not "
                    f"{_short(value)}); choose another --name, or replace it by --force"
                )
        for run in self.rows.keys() & theirs.keys():
            if theirs[run].settled():
                self.rows[run] = theirs[run]

    def _write(self) -> None:
        document = self.document()
        with atomic_write(self.folder / SWEEP) as stream:
            stream.write(json.dumps(document, indent=2, allow_nan=False).encode() + b"\n")
        with atomic_write(self.folder / PICTURE) as stream:
            stream.write(sweep_plot(document).encode())

    # ------------------------------------------------------------------ the work

    def run(
        self,
        environments: Sequence[Mapping[str, str]],
        started: Callable[[Row], None] = lambda row: None,
        ended: Callable[[Row], None] = lambda row: None,
    ) -> None:
        """Train and score what is left; inside :meth:`opened`.

        Args:
            environments: of :func:`environments`; so many processes run at a time.
            started: called with each row before its training begins, from another thread.
            ended: called with each row after it is written, likewise.

        Raises:
            ResourceError: the disk is full.
        """
        free: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for environment in environments:
            free.put(environment)

        def work(row: Row) -> None:
            environment = free.get()
            try:
                if self.stopping:
                    return
                started(row)
                row = self._point(row, environment)
                with self._lock:
                    self.rows[row.run] = row
                    self._write()
                ended(row)
            finally:
                free.put(environment)

        with ThreadPoolExecutor(len(environments)) as pool:
            try:
                left = [row for row in self.rows.values() if not row.settled()]
                for future in as_completed([pool.submit(work, row) for row in left]):
                    future.result()
            finally:
                self.stop()  # whatever happened here: the children are not left alone

    def stop(self) -> None:
        """Start nothing more, and ask the processes that run to stop; a training saves before it does."""
        with self._lock:
            self.stopping = True
            for child in self._children:
                child.terminate()

    def _point(self, row: Row, environment: Mapping[str, str]) -> Row:
        if (row.folder / LAST).is_file():
            code, _ = self._call(row, ["train", "--resume", "--run", row.run], environment)
            if code == UsageError.exit_code and any(said in _last_line(row.log) for said in (FINISHED, EXHAUSTED)):
                code = 0  # it was stopped between its last step and its score
        else:
            # Without a state to go on from, what a killed training left is of no use.
            again = ["--force"] if row.folder.exists() else []
            code, _ = self._call(row, [*self._train(row.run), *again], environment)
        row = dataclasses.replace(row, **_trained(row.folder))
        figures: dict[str, dict[str, Any]] = {}
        for split in dict.fromkeys(("validation", self.scored)):
            if code == 0 and self.corpus.splits[split].characters:
                code, said = self._call(row, self._eval(row.run, split), environment)
                figures[split] = json.loads(said) if code == 0 else {}
        if code:
            return dataclasses.replace(row, status=_status(code), exit_code=code, error=_error(row.log, code))
        scored = figures[self.scored]
        return dataclasses.replace(
            row,
            status=DONE,
            exit_code=0,
            validation_nats_per_char=figures.get("validation", {}).get("nats_per_char"),
            nats_per_char=scored["nats_per_char"],
            bits_per_char=scored["bits_per_char"],
        )

    def _call(self, row: Row, arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, bytes]:
        """Run a command of charrnn's: its exit code, and what it printed as its result."""
        with row.log.open("ab") as log:
            log.write(f"$ {_command(arguments)}\n".encode())
            log.flush()
            with self._lock:
                if self.stopping:
                    return Stopped.TERMINATED, b""
                child = subprocess.Popen(
                    [*_python(), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, **environment},
                    # A terminal's Ctrl-C reaches a whole group of processes; the children hear of it once, from here.
                    process_group=0 if os.name == "posix" else None,
                    pass_fds=self._inherited,
                )
                self._children.add(child)
            said, _ = child.communicate()
            with self._lock:
                self._children.discard(child)
            log.write(said)
        # By a signal: the number that a shell gives.
        return child.returncode if child.returncode >= 0 else _KILLED - child.returncode, said


def check_name(name: str) -> None:
    """Raises UsageError where no sweep's folder may be called so."""
    if not is_name(name):
        raise UsageError(f"--name {name}: a sweep's name is one folder's name, without / and not beginning with . or -")


def environments(device: str | None) -> list[dict[str, str]]:
    """What each of the processes that may run at a time adds to the environment: one for each GPU that may be used,
    if the device is "cuda", else one alone.

    Raises:
        ResourceError: there is no GPU.
    """
    if device != "cuda":
        return [{}]
    import torch

    count = torch.cuda.device_count()
    if not count:
        raise ResourceError("--device cuda: no such device here; --device cpu always works")
    mine = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = mine.split(",")[:count] if mine else map(str, range(count))
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names]


def _python() -> list[str]:
    """Python with this charrnn. A working folder's own modules are not to be found, for they may be the text, unless
    charrnn itself lies there."""
    here = Path(charrnn.__file__).parents[1] == Path.cwd()
    return [sys.executable, *([] if here else ["-P"]), "-m", "charrnn"]


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["charrnn", *arguments])


def _trained(folder: Path) -> dict[str, Any]:
    """What a run's last checkpoint says of its training so far."""
    if not (folder / LAST).is_file():
        return {}
    record = read_document(folder / LAST)["record"]
    return {key: record[key] for key in ("parameters", "characters", "seconds")}


def _status(code: int) -> str:
    if code == DivergedError.exit_code:
        return DIVERGED
    return STOPPED if code in (Stopped.TERMINATED, Stopped.INTERRUPTED) or code > _KILLED else FAILED


def _error(log: Path, code: int) -> str:
    line = _last_line(log)
    if code > _KILLED and code != Stopped.INTERRUPTED:
        return f"killed by signal {code - _KILLED}" + (", perhaps for want of memory" if code == 137 else "")
    return f"ended with exit code {code} and no word" if line.startswith("$ ") else line


def _last_line(log: Path) -> str:
    """The last words of a process, which name its error."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("charrnn: ")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
