"""The training loop: truncated back-propagation through time, as events."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import time
from collections.abc import Callable, Generator, Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from charrnn import provenance
from charrnn.checkpoint import LARGEST_WEIGHT, Arrays, Checkpoint
from charrnn.config import Config, due
from charrnn.data.corpus import Corpus
from charrnn.data.streams import NOTHING, Streams
from charrnn.decoding.generator import Sampling, generate
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.errors import DivergedError, UsageError
from charrnn.evaluation.evaluator import evaluate
from charrnn.evaluation.metrics import unknown_cost
from charrnn.model.base import State
from charrnn.model.build import build
from charrnn.model.compute import Compute
from charrnn.model.noise import Noise
from charrnn.model.torch_engine import TorchEngine
from charrnn.training.events import Event, Finished, Preview, Report, Snapshot, Started, WentBack
from charrnn.training.graph import CUDA, GraphedStep
from charrnn.training.group import ALONE, Group
from charrnn.training.optimizer import AdamW
from charrnn.training.schedules import learning_rate
from charrnn.training.state import capture, restore
from charrnn.training.windows import DeviceWindows, HostWindows, fits

PREVIEW_LENGTH = 240
#: Without --validate-every: at each of so many equal parts of the run ...
VALIDATIONS = 20
#: ... but under a time limit, only when this many times its cost has passed since the last one,
VALIDATION_COST = 20
#: and else only when this many times its characters have been trained on: each costs half as much to score.
VALIDATION_SHARE = 4
#: A loss has leapt if two reports in a row are by so many nats per character above the last calm one. With few streams,
#: one odd page may do that: there they must be as far above a guess among all V symbols.
LEAP, FEW_STREAMS = 1.0, 8
#: How often a run that diverges goes back, each time with half the learning rate.
MOST_DIVERGENCES = 3


class Trainer:
    """One run of training. Truncated BPTT as in Mikolov et al. 2010: windows of parallel streams, the hidden state
    carried over and detached, teacher forcing, AdamW, clipped gradients, averaged weights.

    Everything that the next step depends on is in :meth:`snapshot`; a trainer made from one goes on bit for bit.

    A step has two parts. The host's (:meth:`_advance`) is arithmetic: which window, what learning rate. The device's
    (:meth:`_step`) is a fixed sequence of tensor operations on tensors that stay where they are, so that a GPU can
    be given it as a whole; host and device meet only at reports, validations and saves.

    Args:
        config: settled settings.
        corpus: the text.
        compute: device and precision.
        start: checkpoint whose weights to begin with (already fitted to the corpus's vocabulary).
        origin: what the record says of ``start``: its path and SHA-256.
        resume: a ``last`` checkpoint to go on from.
        notify: told, in a line, what a user may want to know.
        group: the processes that share the streams. Each has a trainer; all take the same steps and come to the same
            decisions, for what they rest on is the sum or the largest of what each has seen.
    """

    def __init__(
        self,
        config: Config,
        corpus: Corpus,
        compute: Compute,
        *,
        start: Checkpoint | None = None,
        origin: dict[str, str] | None = None,
        resume: Checkpoint | None = None,
        notify: Callable[[str], None] = lambda line: None,
        group: Group = ALONE,
    ) -> None:
        self.config, self.corpus, self.compute, self.origin, self.notify = config, corpus, compute, origin, notify
        self.group = group
        training = config.training
        vocabulary = corpus.vocabulary
        self.model = build(config.model, len(vocabulary), torch.Generator().manual_seed(training.seed))
        if start is not None:
            self.model.load_weights(start.weights)
        self.model.to(compute.device)
        self.replicated = group.replicated(self.model, compute.device)
        self.parameters: list[Tensor] = list(self.model.parameters())
        self.averaged = copy.deepcopy(self.model).eval()
        self.averaged_parameters: list[Tensor] = list(self.averaged.parameters())
        # Made once: moving a cuDNN layer to its device, even if it is there, gives its weights new places in memory.
        self.engine = TorchEngine(self.averaged, compute.device)
        self.generator = torch.Generator(compute.device).manual_seed(training.seed)
        self.rate = training.learning_rate
        matrices = [p for p in self.parameters if p.dim() > 1]
        others = [p for p in self.parameters if p.dim() <= 1]
        self.optimizer = AdamW(
            [(matrices, training.weight_decay), (others, 0.0)],
            # A number would be part of a captured step; a tensor is read each time.
            lr=torch.tensor(self.rate, device=compute.device) if compute.has_graphs else self.rate,
            betas=(0.9, training.beta2),
        )
        self.scaler = self._new_scaler()
        self.streams = Streams(
            corpus.ids("train"),
            training.batch_size,
            training.sequence_length,
            vocabulary.index("\n"),
            training.seed,
            (group.rank, group.size),
        )
        if self.streams.batch_size < group.size:
            raise UsageError(
                f"{group.size} processes: there are {self.streams.batch_size} streams to share; start fewer processes, "
                "or give more text or a larger --batch-size"
            )
        here = len(self.streams.starts)
        if here < training.accumulation:
            raise UsageError(f"--accumulation {training.accumulation}: there are only {here} streams to take apart")
        bounds = [here * n // training.accumulation for n in range(training.accumulation + 1)]
        self.parts = [slice(*pair) for pair in pairwise(bounds)]
        self.noise = self._noise()
        resident = compute.has_graphs and fits(self.streams, compute.device)
        self.windows: HostWindows | DeviceWindows = (
            DeviceWindows(self.streams, compute.device, len(vocabulary))
            if resident
            else HostWindows(self.streams, compute.device)
        )
        self.state = self.model.initial_state(len(self.streams.starts))
        # What a step needs of the host beside the window, filled before each.
        self.count, self.weight = torch.ones(2, device=compute.device).unbind()
        self.sampling = 0.0
        self._launch: Callable[[int], None] = self._step
        if compute.has_graphs:
            # Scheduled sampling has a rate that the host sets; a window
            # that the host cuts out is another piece of memory each time; processes wait for each other in a step, and
            # the generator is set back between its parts.
            self._launch = GraphedStep(
                self._step,
                CUDA(compute.device, self.generator),
                self._without_graphs,
                capture=resident and training.scheduled_sampling == 0 and group.size == len(self.parts) == 1,
            )
        self.validation = corpus.ids("validation") if corpus.splits["validation"].characters else None
        self.unknown_cost = unknown_cost(vocabulary)
        self.step = 0
        self.characters = 0
        self.seconds = 0.0
        self.best_nats = math.inf
        self.best_step: int | None = None
        self.best_weights: Arrays | None = None
        self.without_best = 0
        self.validation_seconds = 0.0
        self.last_validation = (0, 0.0)
        self.stop_requested = False
        #: Where to go back to after a divergence: the last save, or the one so many before it.
        self.saved: Callable[[int], Checkpoint] | None = None
        self.divergences = self.unsaved_divergences = 0
        self.calm_nats: float | None = None
        self.leaps = 0
        # Since the last report: on the device, so that no step waits for a figure.
        self.sum_nats = torch.zeros((), dtype=torch.float32, device=compute.device)
        self.sum_characters = 0
        # Of the last step.
        self.nats, self.norm = torch.zeros(2, device=compute.device).unbind()
        if resume is not None:
            restore(self, resume)

    # ------------------------------------------------------------------ the loop

    def run(self) -> Iterator[Event]:
        """Train to the end, to a request to stop (``stop_requested``), or to early stopping.

        Raises:
            DivergedError: loss or gradient is no longer finite, or the loss has leapt, for the fourth time or with
                nothing to go back to; nothing is saved from that state.
        """
        yield Started(
            self.num_parameters,
            str(self.compute),
            self.step,
            self.streams.windows,
            self.streams.batch_size,
        )
        if self.step == 0:
            # So that a run can be resumed, and a divergence undone, from its first moment.
            self._check_weights()
            yield Snapshot(self.snapshot(), best=False)
        # One that was killed after its last save has only its end to make up for.
        reason = "early" if self.exhausted() else None
        while reason is None:
            try:
                reason = yield from self._train()
            except DivergedError as error:
                yield self._go_back(error)
        yield self._finish(reason)

    def _train(self) -> Generator[Event, None, str]:
        """The loop, until an end; why it ended."""
        training = self.config.training
        clock = time.monotonic() - self.seconds
        since_report = (self.characters, self.seconds)
        last_save = (self.step, self.seconds)
        reason = "done"
        while self.progress() < 1:
            self._advance()
            self.seconds, stop_requested = self.group.most(time.monotonic() - clock, self.stop_requested)
            finished = self.progress() >= 1
            validate, improved = self._validation_due(finished), False
            # What else is due at this step is done before stopping: an uninterrupted run would have done it. And a
            # loss that may be leaping is watched a little longer, for nothing may be saved meanwhile.
            stopping = bool(stop_requested) and not finished and self._calm()
            save = stopping or finished
            save = save or due(training.save_every, self.step - last_save[0], self.seconds - last_save[1])
            if validate or finished or self.step % report_every(self.step) == 0:
                report = self._report(since_report)
                validate = validate and not self.leaps
                if validate:
                    nats = self._validate()
                    (self.seconds,) = self.group.most(time.monotonic() - clock)
                    report = dataclasses.replace(report, validation_nats_per_char=nats)
                    improved = self._remember(nats)
                yield report
                since_report = (self.characters, time.monotonic() - clock)
                if finished and self.leaps:
                    raise self._diverged(f"the loss has leapt to {report.train_nats_per_char:.3g} nats per character")
            # The end is saved if its report was calm: an odd page in its last step is no reason to lose it.
            save = (save or validate) and (finished or self._calm())
            if save and self.validation is None:
                self.best_step, improved = self.step, True
            if validate or (finished and self.validation is None):
                yield Preview(self.step, self._preview() if self.group.leads else "")
            if improved or (stopping and self.best_step is None):
                # A run that is stopped before its first validation can be sampled from too.
                self._check_weights()
                yield Snapshot(self.snapshot(with_state=False), best=True)
            early = validate and self.exhausted()
            if save or early:
                self._check_weights()
                yield Snapshot(self.snapshot(), best=False)
                last_save = (self.step, self.seconds)
                self.unsaved_divergences = 0
            if validate:  # sampling and saving are no part of the next figure of speed
                since_report = (self.characters, time.monotonic() - clock)
            if early or stopping:
                reason = "early" if early else "stopped"
                break
        (self.seconds,) = self.group.most(max(self.seconds, time.monotonic() - clock))
        return reason

    def _go_back(self, error: DivergedError) -> WentBack:
        """After a divergence, be as at the last save, but with half the learning rate.

        Raises:
            DivergedError: it was the last time, or there is nothing to go back to.
        """
        if self.saved is None or self.divergences >= MOST_DIVERGENCES:
            raise error
        step, seconds, divergences = self.step, self.seconds, self.divergences + 1
        # Whatever is wrong may have been so when it was saved, though it was not seen: the second time, one further.
        checkpoint = self.saved(self.unsaved_divergences)
        self.unsaved_divergences += 1
        restore(self, checkpoint)
        self.divergences = divergences
        self.seconds = seconds  # lost, but spent
        self.notify(
            f"warning: step {step:,}: {error.reason}; back to step {self.step:,}, "
            f"with a learning rate of {self.highest_rate():g}"
        )
        return WentBack(checkpoint)

    def highest_rate(self) -> float:
        """The learning rate at its highest, halved for each divergence."""
        return math.ldexp(self.config.training.learning_rate, -self.divergences)

    @property
    def num_parameters(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters)

    def exhausted(self) -> bool:
        """Whether early stopping is asked for, and as many validations as it allows have found no new best."""
        return 0 < self.config.training.patience <= self.without_best

    def progress(self) -> float:
        """How much of the run is done, 0 to 1, by steps or by time."""
        training = self.config.training
        if training.time_limit is not None:
            # The last validation belongs to the time asked for.
            return self.seconds / max(training.time_limit - 1.5 * self.validation_seconds, 1e-9)
        return self.step / self.total_steps()

    def total_steps(self) -> int:
        """Length of the run in steps, if steps or epochs set it."""
        training = self.config.training
        if training.steps is not None:
            return training.steps
        return max(1, round(training.epochs * self.streams.windows))

    def _advance(self) -> None:
        """One optimiser step on one window of every stream; on a GPU it is launched, not waited for."""
        training = self.config.training
        epoch, index = divmod(self.step, self.streams.windows)
        begin, end = self.streams.span(index)
        count = self.streams.count(index)
        if index == 0:
            # The streams' boundaries have moved: what the states remember is not what stands before the windows.
            for part in self.state:
                part.zero_()
        progress = self.progress()
        self.rate = learning_rate(
            progress,
            highest=self.highest_rate(),
            schedule=training.schedule,
            warmup=training.warmup,
            final=training.final_learning_rate,
        )
        if isinstance(self.optimizer.lr, Tensor):
            self.optimizer.lr.fill_(self.rate)
        else:
            self.optimizer.lr = self.rate
        # The average's horizon grows with the run: it covers a fixed share of the steps so far.
        self.weight.fill_(1 / max(1.0, training.averaging * (self.step + 1)))
        self.count.fill_(count)
        self.sampling = training.scheduled_sampling * min(progress, 1.0)
        self.windows.move(epoch, index)
        self._launch(end - begin)
        self.step += 1
        self.characters += count
        self.sum_characters += count

    def _step(self, length: int) -> None:
        """The device's part: a window of T = ``length`` steps, forward, backward, update, average, sums for the report.

        Nothing here may ask the device for a value, nor keep a tensor made on the way: a captured step runs without
        this code, in the memory it was captured in.
        """
        training = self.config.training
        inputs, targets = self.windows.window(length)  # (T, B) each
        self.model.train()
        if training.state_reset > 0:
            self._empty_some(training.state_reset)
        if training.scheduled_sampling > 0:
            inputs = self._mix_own_draws(inputs, self.sampling)
        learnt: list[tuple[Tensor, State]] = []
        drawn = self.generator.get_state() if len(self.parts) > 1 else None
        for streams in self.parts:
            if learnt and drawn is not None:
                self.generator.set_state(drawn)  # each part draws the step's masks, and takes its own
            with self._exchanging(streams):
                learnt.append(self._learn(inputs[:, streams], targets[:, streams], streams))
        nats = sum((each for each, _ in learnt[1:]), learnt[0][0])
        states = zip(*(state for _, state in learnt), strict=True)
        # Whether a scaled gradient overflowed stays a tensor from unscale_ to the fused optimiser, which then leaves
        # all as it was, and to the scale's update. Which of the three comes next is the scaler's own, on the host;
        # after the update it is as before, so it need not run in a replay.
        self.scaler.unscale_(self.optimizer)  # type: ignore[arg-type]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, training.clip or math.inf)
        self.scaler.step(self.optimizer)  # type: ignore[arg-type]
        self.scaler.update()
        # Also before the next capture: a gradient that is there would be added to, where it lies.
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.norm.copy_(norm)
            for part, after in zip(self.state, states, strict=True):
                # Exact: half precision numbers are float32 numbers.
                part.copy_(after[0] if len(after) == 1 else torch.cat(after, 1))
            if self.corpus.unknown:  # as in every other figure, what the unknown symbol stands for is paid for
                nats = nats + self.unknown_cost * (targets == self.corpus.vocabulary.unknown).sum()
            self.nats.copy_(nats)
            self.sum_nats += nats
            # One weight for each, as a tensor: a number would be part of a captured step.
            torch._foreach_lerp_(self.averaged_parameters, self.parameters, [self.weight] * len(self.parameters))

    def _learn(self, inputs: Tensor, targets: Tensor, streams: slice) -> tuple[Tensor, State]:
        """Forward and backward for some of the streams here, (T, B) each; their nats, and the state after them."""
        # The casts of the weights that autocast keeps die with the context, so none outlives a capture.
        with self.compute.autocast():
            logits, after = self.replicated(inputs, tuple(part[:, streams] for part in self.state), self._of(streams))
        nats = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=NOTHING, reduction="sum")
        # The mean of the processes' gradients is to be that of the sum of their losses.
        self.scaler.scale(nats * self.group.size / self.count).backward()  # type: ignore[no-untyped-call]
        return nats.detach(), after

    def _exchanging(self, streams: slice) -> contextlib.AbstractContextManager[None]:
        """Where processes exchange gradients: in the last part of a step."""
        last = streams == self.parts[-1] or self.group.size == 1
        return contextlib.nullcontext() if last else self.replicated.no_sync()  # type: ignore[operator]

    def _without_graphs(self, error: RuntimeError) -> None:
        """After a failed capture. It computed nothing, so the tensors are as the last step left them; this mends what
        torch keeps beside them."""
        # They would lie in the lost graph's memory.
        self.optimizer.zero_grad()
        # It may stand between unscale_ and update.
        scaler, self.scaler = self.scaler, self._new_scaler()
        self.scaler.load_state_dict(scaler.state_dict())
        # It may take itself for captured still, and would refuse to draw.
        generator, self.generator = self.generator, torch.Generator(self.compute.device)
        self.generator.set_state(generator.get_state())
        self.noise = self._noise()
        reason = str(error).partition("\n")[0]
        self.notify(f"note: steps are not captured as a CUDA graph, so they may be slower ({reason})")

    def _noise(self) -> Noise:
        if self.group.size == 1:
            return Noise(self.generator)
        return Noise(self.generator, self.streams.here, self.streams.batch_size)

    def _of(self, streams: slice) -> Noise:
        """The noise of some of the streams here."""
        if len(self.parts) == 1:
            return self.noise
        first = self.streams.here.start
        here = slice(first + streams.start, first + streams.stop)
        return dataclasses.replace(self.noise, here=here, streams=self.streams.batch_size)

    def _new_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.compute.device.type, enabled=self.compute.scales_loss)

    def _empty_some(self, rate: float) -> None:
        """Begin some streams anew. Otherwise a network meets the empty state only where its streams begin, and may do
        anything in the middle of a line: one in a hundred lanes ran away, its cells growing for ever."""

        def kept(shape: torch.Size) -> Tensor:
            return self.state[0].new_empty(shape).bernoulli_(1 - rate, generator=self.generator)

        keep = self.noise.drawn(kept, torch.Size((self.state[0].shape[1], 1)))
        for part in self.state:
            part.mul_(keep)

    @torch.no_grad()
    def _mix_own_draws(self, inputs: Tensor, rate: float) -> Tensor:
        """Scheduled sampling (Bengio et al. 2015) in two passes (Mihaylova & Martins 2019): a first pass with the true
        characters gives the distributions that replaced inputs are drawn from; so the fused layers stay in use."""
        with self.compute.autocast():
            logits, _ = self.model(inputs, self.state, self.noise)
        logits = logits.float()
        logits[..., self.corpus.vocabulary.unknown] = -math.inf

        def uniform(shape: torch.Size) -> Tensor:
            return torch.rand(shape, device=inputs.device, generator=self.generator)

        # By the inverse of the distribution: one number for each character, whoever draws it.
        points = self.noise.drawn(uniform, inputs.shape, axis=1)[..., None]
        sums = logits.softmax(-1).cumsum(-1)
        drawn = torch.searchsorted(sums, points * sums[..., -1:], right=True).squeeze(-1)
        drawn.clamp_(max=self.corpus.vocabulary.unknown - 1)  # where rounding has made of a number below 1 a 1
        own = self.noise.drawn(uniform, inputs.shape, axis=1) < rate
        own[0] = False  # the draw for the first input belongs to the window before
        return torch.where(own, drawn.roll(1, 0), inputs)

    # ------------------------------------------------------------------ figures

    def _diverged(self, reason: str) -> DivergedError:
        times = f" ({self.divergences + 1} times)" if self.divergences else ""
        clip = ", or --clip 1" if self.config.training.clip == 0 else ""
        return DivergedError(
            f"training diverged at step {self.step:,}{times}: {reason}; nothing of it was saved. Begin anew with a "
            f"lower --learning-rate than {self.highest_rate():g}{clip}",
            reason,
        )

    def _check_weights(self) -> None:
        """Before anything is saved.

        Raises:
            DivergedError: what would be saved is not finite, or so large that nothing finite comes of it.
        """
        self._finite_figures()
        if not all(bool((p.abs() <= LARGEST_WEIGHT).all()) for p in self.parameters):
            raise self._diverged("weights are no longer finite")

    def _finite_figures(self) -> tuple[float, float]:
        """Nats per character since the last report, and the last gradient's norm.

        Raises:
            DivergedError: they are not finite; where the loss is scaled, a norm need not be.
        """
        (nats,) = self.group.total(self.sum_nats)
        nats, norm = nats / max(1, self.sum_characters), float(self.norm)
        if not math.isfinite(nats) or (not math.isfinite(norm) and not self.compute.scales_loss):
            raise self._diverged(f"loss {nats:g}, gradient norm {norm:g}")
        return nats, norm

    def _report(self, since: tuple[int, float]) -> Report:
        nats, norm = self._finite_figures()
        self._watch(nats)
        report = Report(
            step=self.step,
            epoch=self.step / self.streams.windows,
            seconds=self.seconds,
            learning_rate=self.rate,
            train_nats_per_char=nats,
            gradient_norm=norm if math.isfinite(norm) else 0.0,
            characters_per_second=(self.characters - since[0]) / max(self.seconds - since[1], 1e-9),
            progress=min(1.0, self.progress()),
        )
        self.sum_nats.zero_()
        self.sum_characters = 0
        return report

    def _watch(self, nats: float) -> None:
        """Notice a loss that leaps, by the nats per character of a report.

        Raises:
            DivergedError: it has stayed up for a second report.
        """
        if nats <= self._highest():
            self.calm_nats, self.leaps = nats, 0
        elif self.leaps:
            raise self._diverged(f"the loss has leapt to {nats:.3g} nats per character")
        else:
            self.leaps = 1

    def _highest(self) -> float:
        """Nats per character above which a report's loss has leapt."""
        guess = math.log(len(self.corpus.vocabulary)) + (self.unknown_cost if self.corpus.unknown else 0.0)
        if self.calm_nats is None:  # at first it guesses; one that was trained on other text may be surer, and wrong
            return guess * (1 if self.origin is None else 2) + LEAP
        return LEAP + (max(self.calm_nats, guess) if self.streams.batch_size < FEW_STREAMS else self.calm_nats)

    def _calm(self) -> bool:
        """Whether the loss is not leaping, as far as can be seen since the last report, and in the last step: a
        thousand calm ones before it would hide it."""
        since_report, last = self.group.total(self.sum_nats, self.nats)
        losses = since_report / max(1, self.sum_characters), last / float(self.count)
        return not self.leaps and not any(loss > self._highest() for loss in losses)

    def _validation_due(self, at_end: bool) -> bool:
        if self.validation is None:
            return False
        if at_end:
            return True
        training = self.config.training
        steps, seconds = self.step - self.last_validation[0], self.seconds - self.last_validation[1]
        if training.validate_every is not None:
            return due(training.validate_every, steps, seconds)
        if training.time_limit is not None:
            return seconds >= max(training.time_limit / VALIDATIONS, VALIDATION_COST * self.validation_seconds)
        least = math.ceil(
            VALIDATION_SHARE * len(self.validation) / (self.streams.batch_size * training.sequence_length)
        )
        return self.step % max(least, self.total_steps() // VALIDATIONS) == 0

    def _validate(self) -> float:
        """Nats per character of the whole validation split with the averaged weights, in training's precision."""
        assert self.validation is not None
        begin = time.monotonic()
        with self.compute.autocast():
            figures = self._evaluate()
        # The shortest so far: on a busy machine one may take far longer than it costs.
        (seconds,) = self.group.most(time.monotonic() - begin)
        self.validation_seconds = min(seconds, self.validation_seconds or seconds)
        self.last_validation = (self.step, self.seconds)
        return figures

    def _evaluate(self) -> float:
        assert self.validation is not None
        return evaluate(self._checkpoint({}), self.validation, 1, engine=self.engine, together=self.group).nats_per_char

    def _remember(self, nats: float) -> bool:
        if not math.isfinite(nats):
            raise self._diverged("validation is not finite")
        if nats < self.best_nats:
            self.best_nats, self.best_step, self.without_best = nats, self.step, 0
            self.best_weights = {name: array.copy() for name, array in self.averaged.weights().items()}
            return True
        self.without_best += 1
        return False

    def _preview(self) -> str:
        recurrent = self.config.model.kind == "recurrent"
        engine = NumpyEngine.from_checkpoint(self._checkpoint({})) if recurrent else self.engine
        settings = Sampling(length=PREVIEW_LENGTH, temperature=0.8, seed=self.config.training.seed)
        return generate(engine, self.corpus.vocabulary, settings=settings, utf8=self.corpus.utf8)[0].text

    def _finish(self, reason: str) -> Finished:
        """The closing figure: ``best`` again, in float32, over the whole split; whoever stops a run does not wait."""
        nats, count = None, 0
        if reason != "stopped" and self.validation is not None and self.best_weights is not None:
            self.averaged.load_weights(self.best_weights)
            nats, count = self._evaluate(), len(self.validation)
        return Finished(
            reason,
            self.step,
            self.step / self.streams.windows,
            self.seconds,
            self.characters,
            self.best_step,
            nats,
            count,
        )

    # ------------------------------------------------------------------ state

    def _checkpoint(self, record: dict[str, Any]) -> Checkpoint:
        return Checkpoint(
            self.config, self.corpus.vocabulary, self.averaged.weights(), self.corpus.description(), record
        )

    def snapshot(self, *, with_state: bool = True) -> Checkpoint:
        """The averaged weights for use, and with them all that the next step depends on."""
        record = {
            "steps": self.step,
            "epochs": self.step / self.streams.windows,
            "seconds": round(self.seconds, 3),
            "characters": self.characters,
            "best_step": self.best_step,
            "validation_nats_per_char": None if math.isinf(self.best_nats) else self.best_nats,
            "parameters": self.num_parameters,
            "compute": str(self.compute),
            "precision": self.compute.precision,
            "environment": provenance.environment(self.group.size),
            **({"init_from": self.origin} if self.origin else {}),
            **({"divergences": self.divergences} if self.divergences else {}),
        }
        checkpoint = self._checkpoint(record)
        if not with_state:
            return checkpoint
        arrays, progress = capture(self)
        return dataclasses.replace(checkpoint, state=arrays, progress=progress)


def report_every(step: int) -> int:
    """Steps between reports: 10 up to step 9,999, then 100, from 100,000 on 1,000: the log grows ever more slowly."""
    return max(10, int(10 ** (len(str(step)) - 3)))
