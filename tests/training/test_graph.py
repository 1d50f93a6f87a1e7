"""Steps as on a GPU, played on the CPU, are the CPU's own, captured or not; and on CUDA where there is one."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from charrnn.checkpoint import Checkpoint
from charrnn.config import Config, ModelConfig, TrainingConfig
from charrnn.data.corpus import Corpus, PrepareSettings, prepare
from charrnn.model.compute import Compute
from charrnn.presets import settle
from charrnn.training import graph, session, trainer
from charrnn.training.events import Report
from charrnn.training.graph import AHEAD, WARM_UP, GraphedStep
from charrnn.training.trainer import Trainer

CPU = torch.device("cpu")


class GraphCompute(Compute):
    """A CPU that takes itself for a device with graphs."""

    has_graphs = True


class ScalingCompute(GraphCompute):
    """One that scales the loss, too, though it computes in float32: powers of two change nothing."""

    scales_loss = True


class PlayedDevice:
    """A device whose captures only remember what to call, as they compute nothing."""

    def __init__(self, device=CPU, generator=None):
        self.log = []

    def warm_up(self, run):
        self.log.append("plain")
        run()

    def capture(self, run):
        def replay():
            self.log.append("replay")
            run()

        self.log.append("capture")
        return replay

    def wait(self, step):
        self.log.append(f"wait {step}")

    def launched(self, step):
        self.log.append(f"launched {step}")

    def done(self):
        """What was done, waits aside."""
        return [word for word in self.log if " " not in word]


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    """800 characters to train on, one of them unknown; with 4 streams and T = 16 windows of 16 and of 15."""
    drawn = "".join(np.random.default_rng(0).choice(list("abcd\n"), 1000))
    (tmp_path / "text.txt").write_text(drawn[:400] + "x" + drawn[401:])
    settings = PrepareSettings(split=(80, 20, 0), min_count=2)
    return prepare([str(tmp_path / "text.txt")], root=tmp_path / "corpora", settings=settings)


def config(steps=80, **training) -> Config:
    model = ModelConfig(
        num_layers=2, hidden_size=16, embedding_size=8, dropout=0.2, output_dropout=0.1, input_dropout=0.1,
        weight_dropout=0.2,
    )  # fmt: skip
    values = {"steps": steps, "batch_size": 4, "sequence_length": 16, "learning_rate": 0.01, "validate_every": "20"}
    given = Config(model, TrainingConfig(**{**values, **training}))
    return settle(given, characters=800, machine="cpu-fp32").config


def make(corpus, compute, given=None, **options) -> Trainer:
    return Trainer(given or config(), corpus, compute, **options)


def losses(running: Trainer, steps: int, first: int = 0) -> list[float]:
    """Nats of each step."""
    found = []
    for _ in range(first, steps):
        before = float(running.sum_nats)
        running._advance()
        found.append(float(running.sum_nats) - before)
    return found


def assert_alike(ours: Trainer, theirs: Trainer):
    for name, weight in theirs.averaged.weights().items():
        assert np.allclose(ours.averaged.weights()[name], weight, atol=1e-5), name
    for a, b in zip(ours.parameters, theirs.parameters, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    for a, b in zip(ours.state, theirs.state, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    assert float(ours.norm) == pytest.approx(float(theirs.norm), rel=1e-4)
    assert ours.characters == theirs.characters
    assert torch.equal(ours.generator.get_state(), theirs.generator.get_state())


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(trainer, "CUDA", PlayedDevice)


@pytest.mark.parametrize("kind", [GraphCompute, ScalingCompute])
def test_steps_as_on_a_gpu_are_the_steps_of_the_cpu(corpus, played, kind):
    ours, theirs = make(corpus, kind(CPU, "fp32")), make(corpus, Compute(CPU, "fp32"))
    assert corpus.unknown
    assert theirs.streams.windows == 13  # so 80 steps are six epochs, with a window of each length in all of them
    assert losses(ours, 80) == pytest.approx(losses(theirs, 80), rel=1e-3)
    assert_alike(ours, theirs)
    done = ours._launch.device.done()
    assert done.count("capture") == len(ours._launch.graphs) == 2
    assert done.count("plain") == 2 * WARM_UP
    assert done.count("replay") == 80 - 2 * WARM_UP


def test_averages_rate_and_count_reach_the_step_through_tensors(corpus, played):
    ours = make(corpus, GraphCompute(CPU, "fp32"))
    losses(ours, 13)
    assert float(ours.count) == ours.streams.count(12)
    assert float(ours.weight) == pytest.approx(1 / max(1.0, ours.config.training.averaging * 13))
    assert isinstance(ours.optimizer.lr, torch.Tensor)
    assert float(ours.optimizer.lr) == pytest.approx(ours.rate)


def test_a_capture_that_fails_costs_a_notice_and_no_step(corpus, monkeypatch):
    class Failing(PlayedDevice):
        """Fails at the second capture, in the middle of the step."""

        def capture(self, run):
            if "capture" not in self.log:
                return super().capture(run)
            for parameter in ours.parameters:
                parameter.grad = torch.full_like(parameter, torch.nan)
            ours.scaler.unscale_(ours.optimizer)
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")

    monkeypatch.setattr(trainer, "CUDA", Failing)
    notices = []
    ours = make(corpus, ScalingCompute(CPU, "fp32"), notify=notices.append)
    theirs = make(corpus, Compute(CPU, "fp32"))
    assert losses(ours, 80) == pytest.approx(losses(theirs, 80), rel=1e-3)
    assert_alike(ours, theirs)
    assert len(notices) == 1
    assert notices[0].endswith("(operation not permitted when stream is capturing)")
    assert ours.scaler.get_scale() == 2.0**16
    assert ours.scaler.state_dict()["_growth_tracker"] == 80


def test_an_overflow_leaves_all_as_it_was_and_lowers_the_scale(corpus, played):
    ours = make(corpus, ScalingCompute(CPU, "fp32"))
    losses(ours, 10)
    before = [parameter.clone() for parameter in ours.parameters]
    ours.scaler._scale.fill_(float("inf"))
    ours._advance()
    assert all(torch.equal(a, b) for a, b in zip(before, ours.parameters, strict=True))
    assert all(int(state["step"]) == 10 for state in ours.optimizer.state.values())


def test_scheduled_sampling_is_never_captured(corpus, played):
    given = config(scheduled_sampling=0.5)
    ours, theirs = make(corpus, GraphCompute(CPU, "fp32"), given), make(corpus, Compute(CPU, "fp32"), given)
    assert losses(ours, 30) == pytest.approx(losses(theirs, 30), rel=1e-3)
    assert ours._launch.device.done() == []


def test_each_length_warms_up_and_is_captured_once_and_no_step_is_lost_or_repeated():
    ran, device = [], PlayedDevice()
    launch = GraphedStep(ran.append, device, pytest.fail)
    lengths = [16] * 5 + [15] * 5 + [16, 15]
    for length in lengths:
        launch(length)
    assert ran == lengths
    once = ["plain"] * WARM_UP + ["capture"] + ["replay"] * (5 - WARM_UP)
    assert device.done() == [*once, *once, "replay", "replay"]
    steps = [word for word in device.log if " " in word]
    assert steps == [f"{what} {k}" for k in range(len(lengths)) for what in ("wait", "launched")]


class Recorded:
    """Stands in for torch.cuda: notes every call in order."""

    def __init__(self, fails=False):
        self.log, self.current, self.fails = [], "default", fails

    def install(self, monkeypatch):
        outer = self

        class Stream:
            def __init__(self, name):
                self.name = str(name)

            def wait_stream(self, other):
                outer.log.append(f"{self.name} waits for {other.name}")

        class Event:
            made = 0

            def __init__(self, blocking):
                assert blocking
                self.name = f"event {Event.made}"
                Event.made += 1

            def synchronize(self):
                outer.log.append(f"host waits for {self.name}")

            def record(self, stream):
                outer.log.append(f"{self.name} on {stream.name}")

        class CUDAGraph:
            def register_generator_state(self, generator):
                outer.log.append(f"registers {generator}")

            def replay(self):
                outer.log.append(f"replay on {outer.current}")

        @contextlib.contextmanager
        def stream(stream):
            before, outer.current = outer.current, stream.name
            yield
            outer.current = before

        @contextlib.contextmanager
        def capturing(captured, pool, stream):
            assert pool == "pool"
            outer.current = stream.name
            yield
            if outer.fails:  # as torch does, without going back to the stream before
                raise RuntimeError("broken")
            outer.current = "default"

        def set_stream(stream):
            outer.current = stream.name

        for name, value in {
            "Stream": lambda device: Stream("side"), "Event": Event, "CUDAGraph": CUDAGraph, "stream": stream,
            "graph": capturing, "set_stream": set_stream, "graph_pool_handle": lambda: "pool",
            "current_stream": lambda device: Stream(self.current),
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)
        return graph.CUDA(CPU, "generator")


def test_the_streams_and_events_of_cuda_are_in_order(monkeypatch):
    recorded = Recorded()
    device = recorded.install(monkeypatch)
    launch = GraphedStep(lambda length: recorded.log.append(f"step on {recorded.current}"), device, pytest.fail)
    for _ in range(WARM_UP + 2):
        launch(16)
    assert recorded.current == "default"
    plain = ["side waits for default", "step on side", "default waits for side"]
    expected = []
    for k in range(WARM_UP + 2):
        expected.append(f"host waits for event {k % AHEAD}")
        if k == WARM_UP:
            expected += ["registers generator", "step on side"]
        expected += plain if k < WARM_UP else ["replay on default"]
        expected.append(f"event {k % AHEAD} on default")
    assert recorded.log == expected


def test_after_a_broken_capture_the_next_step_runs_where_the_others_did(monkeypatch):
    recorded = Recorded(fails=True)
    device = recorded.install(monkeypatch)
    errors, ran = [], []
    launch = GraphedStep(lambda length: ran.append(recorded.current), device, errors.append)
    for _ in range(WARM_UP + 3):
        launch(16)
    assert ran == ["side"] * (WARM_UP + 1) + ["default"] * 3  # one of those on the side is the capture
    assert len(errors) == 1


def test_a_run_as_on_a_gpu_goes_on_bit_for_bit_and_also_elsewhere(corpus, played, tmp_path, monkeypatch):
    def as_on(compute):
        monkeypatch.setattr(session, "choose_compute", lambda device, precision, local: compute)

    gpu, cpu = ScalingCompute(CPU, "fp32"), Compute(CPU, "fp32")
    as_on(gpu)
    whole = session.begin(corpus, config(), root=tmp_path / "whole")
    list(whole.events())
    ends = {}
    for first, second in [(gpu, gpu), (gpu, cpu), (cpu, gpu)]:
        as_on(first)
        begun = session.begin(corpus, config(), root=tmp_path / "parts", name=f"run{len(ends)}")
        while begun.trainer.step < 30:
            begun.trainer._advance()
        begun.stop()
        list(begun.events())
        as_on(second)
        resumed = session.resume(Config(), root=tmp_path / "parts", name=begun.run.name)
        assert resumed.trainer.step == 31
        assert all(state["step"].device == CPU for state in resumed.trainer.optimizer.state.values())
        assert isinstance(resumed.trainer.optimizer.lr, torch.Tensor) == (second is gpu)
        list(resumed.events())
        ends[len(ends)] = Checkpoint.load(resumed.run.last, with_state=True)
    expected = Checkpoint.load(whole.run.last, with_state=True)
    for name, array in expected.state.items():
        if name.startswith(("model.", "optimizer.", "hidden.", "generator")):
            assert np.array_equal(ends[0].state[name], array), name
            for end in ends.values():
                assert np.allclose(end.state[name], array, atol=1e-4), name


def test_reports_validations_and_saves_leave_every_tensor_where_a_captured_step_expects_it(
    corpus, played, tmp_path, monkeypatch
):
    monkeypatch.setattr(session, "choose_compute", lambda device, precision, local: GraphCompute(CPU, "fp32"))
    running = session.begin(corpus, config(save_every="15"), root=tmp_path / "runs")
    ours = running.trainer

    def refuse(layer):
        raise AssertionError("on CUDA this moves the layer's weights")

    monkeypatch.setattr(torch.nn.RNNBase, "flatten_parameters", refuse)

    def places():
        tensors = [*ours.parameters, *ours.averaged_parameters, *ours.state, ours.sum_nats, ours.norm, ours.count]
        tensors += [ours.weight, ours.windows.ids, ours.windows.offset, ours.windows.begin]
        tensors += [value for state in ours.optimizer.state.values() for value in state.values()]
        return [tensor.data_ptr() for tensor in tensors]

    seen = set()
    events = running.events()
    for event in events:
        seen.add(tuple(places()))
        if isinstance(event, Report) and event.step > 60:
            break
    assert len(seen) == 1


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_on_cuda_captured_steps_are_the_plain_ones(corpus, cell, precision):
    given = config(learning_rate=0.001)
    given = dataclasses.replace(given, model=dataclasses.replace(given.model, cell=cell))
    compute, notices = Compute(torch.device("cuda"), precision), []
    ours, theirs = make(corpus, compute, given, notify=notices.append), make(corpus, compute, given)
    theirs._launch.capture = False
    assert losses(ours, 80) == pytest.approx(losses(theirs, 80), rel=1e-2)
    assert notices == []
    assert len(ours._launch.graphs) == 2
    assert torch.equal(ours.generator.get_state(), theirs.generator.get_state())


@needs_cuda
def test_on_cuda_no_step_waits_for_the_device(corpus):
    ours = make(corpus, Compute(torch.device("cuda"), "fp16"))
    ours._launch.capture = False
    losses(ours, 3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(30):
            ours._advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_cuda
def test_on_cuda_a_failed_capture_leaves_a_run_that_goes_on(corpus):
    compute, notices = Compute(torch.device("cuda"), "fp16"), []
    ours, theirs = make(corpus, compute, notify=notices.append), make(corpus, compute)
    step = ours._launch.step

    def waiting(length):
        step(length)
        float(ours.norm)

    ours._launch.step, theirs._launch.capture = waiting, False
    assert losses(ours, 30) == pytest.approx(losses(theirs, 30), rel=1e-2)
    assert len(notices) == 1
