"""What a person sees while a model trains: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from charrnn.architectures import description
from charrnn.cli.console import err, note
from charrnn.training.advice import advice
from charrnn.training.events import Event, Preview, Report, Started
from charrnn.visible import show

if TYPE_CHECKING:
    from charrnn.training.session import Session

_BITS = 1 / math.log(2)
_SAMPLE_LINES = 7


@contextmanager
def view(session: Session, quiet: bool) -> Iterator[Callable[[Event], None]]:
    """A listener for the session's events, and the screen it draws on."""
    if quiet:
        yield lambda event: None
    elif err().is_terminal and not err().is_dumb_terminal:
        from rich.live import Live

        screen = TrainingView(session)
        with Live(screen, console=err(), refresh_per_second=8, transient=True) as live:
            screen.print = live.console.print
            yield screen.show
    else:
        yield PlainView(session).show


class History:
    """What both views keep: the reports so far, and the advice they lead to."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.reports: list[Report] = []
        self.best: float | None = None
        self.advice: str | None = None
        self.notice: str | None = None
        self.printed = 0.0

    def add(self, report: Report) -> None:
        while self.reports and self.reports[-1].step >= report.step:  # training has gone back
            self.reports.pop()
        self.reports.append(report)
        nats = report.validation_nats_per_char
        if nats is not None:
            self.best = nats if self.best is None else min(self.best, nats)
        if nats is not None or self.session.trainer.validation is None:
            self.advice = advice(self.reports, self.session.trainer.config.training.clip)


def heading(session: Session, event: Started) -> str:
    """What is trained on what, where."""
    model = session.trainer.config.model
    if model.kind == "ngram":  # how many n-grams there are is known when they are counted
        return f"{session.run.name}: {description(model)}, counting"
    return (
        f"{session.run.name}: {description(model)}, {event.parameters:,} "
        f"parameters, {event.batch_size} streams, {event.windows_per_epoch:,} steps an epoch; {event.compute}"
    )


def figures(report: Report, unit: str) -> str:
    """One line of a report, bits per character or byte."""
    line = f"step {report.step:,}  epoch {report.epoch:.2f}  train {report.train_nats_per_char * _BITS:.3f}"
    if report.validation_nats_per_char is not None:
        line += f"  validation {report.validation_nats_per_char * _BITS:.3f}"
    return line + f" bits/{unit}  {report.characters_per_second:,.0f} {unit}s/s  gradient {report.gradient_norm:.2f}"


class PlainView(History):
    """One line per validation, for pipes and logs."""

    def show(self, event: Event) -> None:
        """Print what belongs in a log."""
        match event:
            case Started():
                note(heading(self.session, event))
            case Report():
                self.add(event)
                # Without validation text, twenty lines in all.
                unvalidated = self.session.trainer.validation is None and event.progress >= self.printed + 0.05
                if event.validation_nats_per_char is not None or unvalidated:
                    self.printed = event.progress
                    note(f"{event.progress:4.0%}  {figures(event, self.session.corpus.vocabulary.unit)}")
                    if self.advice != self.notice and self.advice is not None:
                        note(f"advice: {self.advice}")
                    self.notice = self.advice


class TrainingView(History):
    """The live screen: heading, bar with time left, figures, a sample, a line of advice."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.heading = ""
        self.sample = ""
        self.sample_step = 0
        self.print: Callable[..., None] = err().print

    def show(self, event: Event) -> None:
        """Take an event; the screen redraws itself several times a second."""
        match event:
            case Started():
                from rich.text import Text

                self.heading = heading(self.session, event)
                self.print(Text(show(self.heading), "bold"))
            case Report():
                self.add(event)
            case Preview():
                self.sample, self.sample_step = event.text, event.step

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if not self.reports:
            return Text("first steps ...", "dim")
        report = self.reports[-1]
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        bar.add_row(ProgressBar(total=1, completed=report.progress), Text(self._left(report)))
        parts: list[Any] = [bar, self._figures(report)]
        if self.sample:
            text = Text(show(self.sample), overflow="fold")
            lines = text.wrap(err(), max(20, err().width - 4))[:_SAMPLE_LINES]
            parts.append(Panel(Text("\n").join(lines), title=f"sample after step {self.sample_step:,}",
                               title_align="left", border_style="dim"))  # fmt: skip
        if self.advice:
            parts.append(Text(f"advice: {self.advice}", "yellow"))
        parts.append(Text("Ctrl-C saves and stops", "dim"))
        return Group(*parts)

    def _left(self, report: Report) -> str:
        if report.progress < 0.005:
            return f"{report.progress:.0%}"
        left = report.seconds * (1 - report.progress) / report.progress
        return f"{report.progress:.0%}  {_clock(report.seconds)} done, {_clock(left)} left"

    def _figures(self, report: Report) -> Any:
        from rich.text import Text

        vocabulary = self.session.corpus.vocabulary
        validations = [r.validation_nats_per_char for r in self.reports if r.validation_nats_per_char is not None]
        parts = [
            (f"bits per {vocabulary.noun}: train ", "dim"),
            (f"{report.train_nats_per_char * _BITS:.3f}", "bold"),
        ]
        if validations and self.best is not None:
            parts += [
                ("  validation ", "dim"),
                (f"{validations[-1] * _BITS:.3f}", "bold green" if validations[-1] <= self.best else "bold"),
                (f" (best {self.best * _BITS:.3f})", "dim"),
            ]
        speed = f"{report.characters_per_second:,.0f} {vocabulary.unit}s/s"
        parts.append((
            f"\nstep {report.step:,}  epoch {report.epoch:.2f}  {speed}  gradient norm {report.gradient_norm:.2f}  "
            f"learning rate {report.learning_rate:.1e}", "dim",
        ))  # fmt: skip
        return Text.assemble(*parts)


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"
