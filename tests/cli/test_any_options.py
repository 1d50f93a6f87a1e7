"""Any options: each combination gives a result, or one clear line and a documented exit code."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from charrnn.cli import app, console
from charrnn.config import ModelConfig, Setting, TrainingConfig, flag
from charrnn.inspection import VIEWS

TEXT = "".join(f"{n} green bottles é 日\r\n" for n in range(30))
#: Documented in the README; whatever a user types, the program ends with one of these.
CODES = {0, 2, 3, 4, 5, 6}
#: Few sizes, so that an example takes milliseconds.
SMALL = ["--num-layers", "1", "--hidden-size", "4", "--embedding-size", "3", "--device", "cpu"]

#: What people and programs type where a number belongs.
ODD = [
    "0", "-1", "-0", "1.5", "1e3", "1e-320", "1e300", "1e999", "nan", "inf", "-inf", "", " ", "word", "True", "٣", "0x10",
    str(2**31), str(2**63), str(-(2**63) - 1), "9" * 400, "9" * 5000, "9" * 5000 + "s", "3\n4", "\udc80",
]  # fmt: skip
NAMES = ["small", "nowhere", "", ".", "..", "../x", "a/b/c", "-x", "x" * 300, "x" * 5000, "a\nb", "\udc80", "\x1b[31m"]


@pytest.fixture(scope="module", autouse=True)
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a text, and a corpus and two runs of it."""
    folder = tmp_path_factory.mktemp("any")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("text.txt").write_text(TEXT)
        Path("bytes.bin").write_bytes(bytes(range(256)))
        Path("empty.txt").write_text("")
        for name, *more in (["small"], ["bytes", "--unit", "byte"]):
            done = call("train", "text.txt", "--run", name, "--steps", "2", "--batch-size", "2", *more, *SMALL)
            assert done.exit_code == 0, done.stderr
        yield folder


def call(*arguments: str, stdin: str = "") -> Result:
    """Run a command in this process, as in a pipe."""
    console.out.cache_clear()
    console.err.cache_clear()
    return CliRunner().invoke(app, list(arguments), input=stdin)


def ends_well(*arguments: str, stdin: str = "") -> Result:
    """Run a command, and hold it to the promise."""
    done = call(*arguments, stdin=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, done.exception)
    assert done.exit_code in CODES, (arguments, done.exit_code, done.stderr)
    assert "Traceback" not in done.output
    if done.exit_code:
        errors = [line for line in done.stderr.splitlines() if line.startswith("charrnn: ")]
        usage = "Usage: " in done.stderr  # options that Typer itself refuses, in a frame
        assert len(errors) == (not usage), (arguments, done.stderr)
        assert usage or done.stderr.endswith(errors[0] + "\n"), (arguments, done.stderr)
    elif "--json" in arguments:
        json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    return done


def often(usual: st.SearchStrategy[str], odd: list[str]) -> st.SearchStrategy[str]:
    """Mostly what is meant, so that several options together get far, and sometimes what is not."""
    return st.integers(0, 7).flatmap(lambda n: usual if n else st.sampled_from(odd))


def whole(low: int, high: int) -> st.SearchStrategy[str]:
    return often(st.integers(low, high).map(str), ODD)


def number(low: float, high: float) -> st.SearchStrategy[str]:
    return often(st.floats(low, high).map(repr), ODD)


def word(*usual: str) -> st.SearchStrategy[str]:
    return often(st.sampled_from(usual), NAMES)


#: A switch, that has no value.
SWITCH = st.none()


@st.composite
def options(draw: st.DrawFn, known: dict[str, st.SearchStrategy[str | None]]) -> list[str]:
    """Some of these options, each with a value of its own."""
    arguments = []
    for name in draw(st.lists(st.sampled_from(sorted(known)), max_size=6, unique=True)):
        value = draw(known[name])
        arguments += [name] if value is None else [f"{name}={value}"]
    return arguments


def setting(name: str, spec: Setting) -> st.SearchStrategy[str | None]:
    """Values of one setting of :mod:`charrnn.config`, from what it says of itself."""
    if spec.choices:
        return word(*spec.choices)
    if spec.kind == "bool":
        return SWITCH
    if spec.kind in ("duration", "interval"):
        return often(st.sampled_from(["1", "2", "1s", "0.5s", "1d"]), [*ODD, "0s", "-1s", "1e9d", "s", "99999999d"])
    low, high = spec.minimum, spec.maximum
    assert low is not None
    assert high is not None
    beyond = [repr(type(high)(bound)) for bound in (low - 1, high + 1, high * 2)]
    if spec.kind == "float":
        return often(st.floats(low, high).map(repr), [*ODD, *beyond, repr(low), repr(high)])
    return often(st.integers(int(low), min(int(high), 9)).map(str), [*ODD, *beyond])


SETTINGS = {
    flag(item.name): setting(item.name, item.metadata["setting"])
    for group in (ModelConfig, TrainingConfig)
    for item in dataclasses.fields(group)
}
TEXT_OPTIONS: dict[str, st.SearchStrategy[str | None]] = {
    "--unit": word("char", "byte"),
    "--split": often(
        st.sampled_from(["90,5,5", "100,0,0", "50,0,50", "0.1,99.9,0", "33.3,33.3,33.4"]),
        ["", "1", "1,2", "1,2,3", "0,50,50", "nan,nan,nan", "inf,-inf,100", "1e400,0,0", "50,50,0,0", "a,b,c", "-5,100,5"],
    ),
    "--pattern": word("*.txt", "*", "[", "**/*"),
    "--encoding": word("utf-8", "cp1252", "utf-16", "utf-7", "ascii", "base64", "idna", "punycode", "unicode_escape"),
    "--newlines": word("keep", "lf"),
    "--min-count": whole(1, 3),
}
SOURCES = st.sampled_from(["text.txt"] * 8 + ["bytes.bin", "empty.txt", "missing", "-", "*.txt", ".", *NAMES])
CHECKPOINTS = st.lists(st.sampled_from(["small"] * 8 + ["bytes", "text.txt", *NAMES]), max_size=2)


def check_train(arguments: list[str], source: str, length: str | None) -> None:
    given_length = [] if length is None else ["--steps", length]
    ends_well("train", "--run", "again", "--force", *SMALL, *arguments, *given_length, "--", source, stdin=TEXT)


TRAIN = given(
    options(SETTINGS | TEXT_OPTIONS | {"--preset": word("auto"), "--init-from": word("small"), "--run": word("again"),
                                       "--config": word("checkpoints/small/config.toml", "text.txt"),
                                       "--json": SWITCH, "--quiet": SWITCH, "--tensorboard": SWITCH}),
    SOURCES,
    st.sampled_from(["1", "2", "2"]),
)  # fmt: skip
RESUME = given(options(SETTINGS | {"--run": word("small"), "--steps": whole(1, 4), "--json": SWITCH}))
PREPARE = given(
    options(TEXT_OPTIONS | {"--name": word("made"), "--output": word("out/made"), "--json": SWITCH, "--quiet": SWITCH}),
    st.lists(SOURCES, min_size=1, max_size=3),
)
SAMPLE = given(
    options({
        "--prompt": st.text(max_size=5).map(lambda text: text.encode("utf-8", "replace").decode()),
        "--prompt-file": word("text.txt", "-", "bytes.bin", "empty.txt"),
        "--adapt": word("text.txt", "-", "empty.txt"), "--adapt-rate": number(0, 0.01),
        "--stop": often(st.text(max_size=3), ["", "\udc80"]), "--samples": whole(1, 4), "--temperature": number(0.01, 9),
        "--top-k": whole(1, 9), "--top-p": number(0.01, 1), "--greedy": SWITCH, "--seed": whole(0, 9),
        "--beam": whole(1, 5), "--length-penalty": number(0, 2), "--no-repeat-ngram": whole(1, 4),
        "--device": word("auto", "cpu"), "--json": SWITCH, "--quiet": SWITCH,
    }),
    CHECKPOINTS,
    often(st.integers(1, 9).map(str), [value for value in ODD if not value.isdecimal() or len(value) == 1]),
)  # fmt: skip
SCORED = {"--text": word("text.txt", "bytes.bin", "empty.txt", "text", "-"), "--split": word("train", "validation", "test"),
          "--json": SWITCH}  # fmt: skip
EVAL = given(
    options(SCORED | {
        "--perplexity": SWITCH, "--bits-per-char": SWITCH, "--nats-per-char": SWITCH, "--bits-per-byte": SWITCH,
        "--window": whole(1, 50), "--exact": SWITCH, "--dynamic": SWITCH, "--dynamic-rate": number(0, 0.01),
        "--per-line": SWITCH, "--encoding": TEXT_OPTIONS["--encoding"], "--newlines": TEXT_OPTIONS["--newlines"],
        "--device": word("auto", "cpu"), "--quiet": SWITCH,
    }),
    CHECKPOINTS,
)  # fmt: skip
COMPARE = given(options(SCORED | {"--html": word("page.html", "out/page.html", ".")}), CHECKPOINTS)
INSPECT = st.sampled_from(sorted(VIEWS)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        options({
            "--text": word("text.txt", "bytes.bin", "empty.txt", "-"), "--length": whole(1, 600), "--json": SWITCH,
            "--html": word("page.html", "out/page.html", "."),
            **{flag(option): st.sampled_from(["a=b", "a=[", "=", "a=(?P<", "", "digit=\\d"])
               if isinstance(spec.default, tuple) else whole(1, 12) for option, spec in VIEWS[name].options},
        }),
        often(st.sampled_from({"cell": ["0.0", "0.3"]}.get(name, ["4 green", "é"])), [*ODD, "9.9", "0.0.0", "-1.0"]),
    )
)  # fmt: skip


def few(count: int) -> settings:
    return settings(max_examples=count, suppress_health_check=[HealthCheck.too_slow])


def check_prepare(arguments: list[str], sources: list[str]) -> None:
    ends_well("prepare", "--force", *arguments, "--", *sources, stdin=TEXT)


def check_sample(arguments: list[str], checkpoints: list[str], length: str) -> None:
    ends_well("sample", f"--length={length}", *arguments, "--", *checkpoints, stdin="4 green")


def check_eval(arguments: list[str], checkpoints: list[str]) -> None:
    ends_well("eval", *arguments, "--", *checkpoints, stdin=TEXT)


def check_compare(arguments: list[str], checkpoints: list[str]) -> None:
    ends_well("compare", *arguments, "--", *checkpoints, stdin=TEXT)


def check_inspect(view: tuple[str, list[str], str], checkpoints: list[str]) -> None:
    name, arguments, argument = view
    first = [argument] if VIEWS[name].argument else []
    ends_well("inspect", name, *arguments, "--", *first, *checkpoints[:1], stdin=TEXT)


@few(60)
@TRAIN
def test_train_takes_any_options(arguments: list[str], source: str, length: str) -> None:
    check_train(arguments, source, length)


@few(25)
@RESUME
def test_resume_takes_any_options(arguments: list[str]) -> None:
    ends_well("train", "--resume", *arguments)


@few(100)
@PREPARE
def test_prepare_takes_any_options(arguments: list[str], sources: list[str]) -> None:
    check_prepare(arguments, sources)


@few(120)
@SAMPLE
def test_sample_takes_any_options(arguments: list[str], checkpoints: list[str], length: str) -> None:
    check_sample(arguments, checkpoints, length)


@few(80)
@EVAL
def test_eval_takes_any_options(arguments: list[str], checkpoints: list[str]) -> None:
    check_eval(arguments, checkpoints)


@few(40)
@COMPARE
def test_compare_takes_any_options(arguments: list[str], checkpoints: list[str]) -> None:
    check_compare(arguments, checkpoints)


@few(80)
@given(INSPECT, CHECKPOINTS)
def test_inspect_takes_any_options(view: tuple[str, list[str], str], checkpoints: list[str]) -> None:
    check_inspect(view, checkpoints)
