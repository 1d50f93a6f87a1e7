"""``charrnn train``: corpus or text → a run."""

from __future__ import annotations

import math
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import options
from charrnn.cli.settings import config_of, with_settings
from charrnn.errors import Stopped, UsageError

if TYPE_CHECKING:
    from charrnn.cli.console import Facts
    from charrnn.data.corpus import Corpus
    from charrnn.training.events import Finished
    from charrnn.training.session import Session


@with_settings
def train(
    corpus: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CORPUS",
            help="A prepared corpus, files, folders, globs, '-', or a registered name: python-stdlib, shakespeare.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="[FOLDER/]NAME", help="The run's name. Default: the corpus's."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a stopped run, bit for bit: --run NAME, or the last one.")
    ] = False,
    init_from: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="Start from a trained model's weights (fine-tuning).")
    ] = None,
    config: options.ConfigFile = None,
    preset: options.Preset = "auto",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard too, to the run's folder (an extra).")
    ] = False,
    unit: options.Unit = None,
    split: options.Split = None,
    pattern: options.Pattern = None,
    encoding: options.Encoding = None,
    newlines: options.Newlines = None,
    min_count: options.MinCount = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    **settings: Any,
) -> None:
    """Train a model on a text.

    Everything has a sensible default: --preset auto chooses the size of the model and the length of training from
    the text, the device and --time-limit, and says what it chose. Ctrl-C saves and stops; --resume goes on.
    """
    from charrnn.checkpoint import LAST, locate
    from charrnn.cli.console import note, print_json, progress_bar
    from charrnn.config import Config
    from charrnn.training.group import Group
    from charrnn.training.run import refuse_if_trained

    group = Group.launched()
    quiet = quiet or not group.leads
    given = config_of(settings)
    if config is not None:
        given = given.over(Config.read_toml(config))

    def notify(line: str) -> None:
        note(line, quiet)

    if tensorboard:
        from charrnn.training.tensorboard import recorder

        recorder()
    text_settings = options.prepare_settings(unit, split, pattern, encoding, newlines, min_count)
    anew = init_from is not None or force or config is not None or text_settings is not None or preset != "auto"
    if resume and anew:
        raise UsageError(
            "--resume: goes on with a run's own settings; leave out --init-from, --force, --config, --preset "
            "and how text is read"
        )
    if not resume and not corpus:
        raise UsageError("no text to train on; try: charrnn train python-stdlib --time-limit 2m")
    if group.leads and (resume or (force and run is not None)):  # what takes no time comes before PyTorch, which does
        refuse_if_trained(locate(run, file=LAST).parent if resume else Path("checkpoints", str(run)))
    with group.together():
        group = group.join()

    def going_on(name: str | None, named: list[str]) -> Session:
        notify("loading PyTorch ...")
        from charrnn.training import session as sessions

        return sessions.resume(given, name=name, named=named, notify=notify, group=group)

    def beginning(name: str | None, force: bool) -> Session:
        from charrnn.data.corpus import Corpus, resolve
        from charrnn.data.workers import cores

        found = None
        if group.leads:
            with progress_bar("preparing", quiet) as progress:
                found = resolve(
                    corpus or (), settings=text_settings, progress=progress, notify=notify, processes=cores()
                )
        path = group.told(found and found.path)
        prepared = found or Corpus.open(str(path))
        notify(f"{prepared.name}: {_describe(prepared)}; loading PyTorch ...")
        from charrnn.training import session as sessions

        return sessions.begin(
            prepared, given, name=name, preset=preset, init_from=init_from, force=force, notify=notify, group=group
        )

    try:
        with group.together():
            if (code := group.ended()) is not None:
                raise typer.Exit(code)
            begun = group.remembered()
            if begun is not None and group.told(Path("checkpoints", begun, LAST).is_file()):
                session = going_on(begun, [])
            elif begun is not None:  # a process was lost before the first save
                session = beginning(begun, force=True)
            else:
                session = going_on(run, corpus or []) if resume else beginning(run, force)
            group.remember(session.run.name)
            finished = _follow(session, quiet, tensorboard)
            if group.leads:
                group.end(0)
    except Stopped as stopped:
        if group.leads:
            raise
        raise typer.Exit(stopped.exit_code) from None
    if not group.leads:
        return
    if json:
        print_json(document(session, finished))
    elif not quiet:
        _closing(session, finished)


def _describe(corpus: Corpus) -> str:
    parts = (f"{split.characters:,} for {name}" for name, split in corpus.splits.items() if split.characters)
    return f"{corpus.characters:,} {corpus.vocabulary.unit}s ({', '.join(parts)}), {corpus.distinct:,} distinct"


def _follow(session: Session, quiet: bool, tensorboard: bool) -> Finished:
    """Train under the terminal view; Ctrl-C and SIGTERM stop after the step and save."""
    from charrnn.cli.view import view
    from charrnn.training.events import Finished

    finished: Finished | None = None
    events = session.events()
    if tensorboard and session.group.leads:
        from charrnn.training.tensorboard import logged

        events = logged(events, session.run.folder, session.notify)
    # What starts several processes passes a signal on that they have had already.
    with stopping(session.stop, once=not session.group.torchrun) as stopped_by, view(session, quiet) as show:
        for event in events:
            show(event)
            if isinstance(event, Finished):
                finished = event
    assert finished is not None
    if finished.reason == "stopped":
        # Another process may have had the signal.
        code = Stopped.INTERRUPTED if stopped_by[:1] == [signal.SIGINT] else Stopped.TERMINATED
        raise Stopped(
            f"stopped and saved at step {finished.step:,}; "
            f"go on with: charrnn train --resume --run {shlex.quote(session.run.name)}",
            code,
        )
    return finished


@contextmanager
def stopping(stop: Callable[[], None], once: bool = True) -> Iterator[list[int]]:
    """While inside, the first SIGINT, SIGTERM or SIGHUP calls ``stop`` and is noted; a second one acts as usual, or,
    if not ``once``, does nothing more.

    A terminal that is closed sends SIGHUP; where that is ignored, as under ``nohup``, it stays so.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        stop()
        for each, before in previous.items() if once else ():
            signal.signal(each, before)

    previous = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        previous[hangup] = signal.getsignal(hangup)
    for each in previous:
        signal.signal(each, handle)
    try:
        yield received
    finally:
        for each, before in previous.items():
            signal.signal(each, before)


def document(session: Session, finished: Finished) -> dict[str, object]:
    """The JSON of a finished training."""
    from charrnn.evaluation.metrics import perplexity

    nats = finished.validation_nats_per_char
    return {
        "schema": 1,
        "run": session.run.name,
        "best": str(session.run.best),
        "last": str(session.run.last),
        "steps": finished.step,
        "epochs": round(finished.epoch, 4),
        "seconds": round(finished.seconds, 3),
        "characters_per_second": round(finished.characters / max(finished.seconds, 1e-9), 1),
        "parameters": session.trainer.num_parameters,
        "validation": None
        if nats is None
        else {"nats_per_char": nats, "bits_per_char": nats / math.log(2), "perplexity": perplexity(nats)},
    }


def _closing(session: Session, finished: Finished) -> None:
    """The last words of a run: the figures, where the files are, and what to type next."""
    from charrnn.cli.console import Facts
    from charrnn.evaluation.metrics import perplexity

    fact = Facts()
    noun = session.corpus.vocabulary.noun
    nats = finished.validation_nats_per_char
    if nats is not None:
        fact(
            "validation",
            f"{nats / math.log(2):.4f} bits per {noun} = {nats:.4f} nats, "
            f"perplexity {perplexity(nats):.3f}, over {finished.validation_characters:,} {noun}s",
            "bold",
        )
    if session.trainer.config.model.kind == "ngram":
        fact("counted", f"{session.trainer.num_parameters:,} n-grams in {_time(finished.seconds)}")
    else:
        _tell_training(fact, finished)
    fact("files", f"{session.run.folder}/")
    fact("next", f"charrnn sample {shlex.quote(session.run.name)}", "green")
    fact.print()


def _tell_training(fact: Facts, finished: Finished) -> None:
    early = " (stopped early: no new best)" if finished.reason == "early" else ""
    fact(
        "trained",
        f"{finished.step:,} steps, {finished.epoch:.2f} epochs, {_time(finished.seconds)}{early}; "
        f"best at step {finished.best_step or finished.step:,}",
    )


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60} s"
