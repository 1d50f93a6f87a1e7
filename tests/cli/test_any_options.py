"""Any options: each combination gives a result, or one clear line and a documented exit code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import call, ends_well
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from charrnn.config import ModelConfig, Setting, TrainingConfig, flag
from charrnn.inspection import VIEWS

TEXT = "".join(f"{n} green bottles é 日\r\n" for n in range(30))
#: Few sizes, so that an example takes milliseconds.
SMALL = ["--num-layers", "1", "--hidden-size", "4", "--embedding-size", "3", "--device", "cpu"]

#: What people and programs type where a number belongs.
ODD = [
    "0", "-1", "-0", "1.5", "1e3", "1e-320", "1e300", "1e999", "nan", "inf", "-inf", "", " ", "word", "True", "٣",
    "0x10", str(2**31), str(2**63), str(-(2**63) - 1), "9" * 400, "9" * 5000, "9" * 5000 + "s", "3\n4", "\udc80",
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
            assert done.code == 0, done.stderr
        yield folder


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
        [
            "",
            "1",
            "1,2",
            "1,2,3",
            "0,50,50",
            "nan,nan,nan",
            "inf,-inf,100",
            "1e400,0,0",
            "50,50,0,0",
            "a,b,c",
            "-5,100,5",
        ],
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
RESUME = given(options(SETTINGS | {"--run": word("small"), "--json": SWITCH}), st.sampled_from(["1", "2", "3", "4"]))
PREPARE = given(
    options(TEXT_OPTIONS | {"--name": word("made"), "--output": word("out/made"), "--json": SWITCH, "--quiet": SWITCH}),
    st.lists(SOURCES, min_size=1, max_size=3),
)
#: A page of the name of a run would be taken for it from then on.
PAGE = often(st.sampled_from(["page.html", "out/page.html", "."]), [name for name in NAMES if name != "small"])
SAMPLE = given(
    options({
        "--prompt": st.text(max_size=5).map(lambda text: text.encode("utf-8", "replace").decode()),
        "--prompt-file": word("text.txt", "-", "bytes.bin", "empty.txt"),
        "--adapt": word("text.txt", "-", "empty.txt"), "--adapt-rate": number(0, 0.01),
        "--stop": often(st.text(max_size=3), ["", "\udc80"]), "--samples": whole(1, 4),
        "--temperature": number(0.01, 9), "--top-k": whole(1, 9), "--top-p": number(0.01, 1), "--greedy": SWITCH,
        "--seed": whole(0, 9),
        "--beam": whole(1, 5), "--length-penalty": number(0, 2), "--no-repeat-ngram": whole(1, 4),
        "--show-probabilities": SWITCH, "--html": PAGE,
        "--device": word("auto", "cpu"), "--json": SWITCH, "--quiet": SWITCH,
    }),
    CHECKPOINTS,
    often(st.integers(1, 9).map(str), [value for value in ODD if not value.isdecimal() or len(value) == 1]),
)  # fmt: skip
NAMED = {"--text": word("text.txt", "bytes.bin", "empty.txt", "text", "-"), "--encoding": TEXT_OPTIONS["--encoding"],
         "--newlines": TEXT_OPTIONS["--newlines"], "--json": SWITCH}  # fmt: skip
SCORED = NAMED | {"--split": word("train", "validation", "test")}
EVAL = given(
    options(SCORED | {
        "--perplexity": SWITCH, "--bits-per-char": SWITCH, "--nats-per-char": SWITCH, "--bits-per-byte": SWITCH,
        "--window": whole(1, 50), "--exact": SWITCH, "--dynamic": SWITCH, "--dynamic-rate": number(0, 0.01),
        "--per-line": SWITCH, "--device": word("auto", "cpu"), "--quiet": SWITCH,
    }),
    CHECKPOINTS,
)  # fmt: skip
COMPARE = given(options(SCORED | {"--errors": SWITCH, "--html": PAGE}), CHECKPOINTS)
SCORE = given(
    options(SCORED | {
        "--checkpoint": word("small", "bytes"), "--worst": whole(1, 9), "--html": PAGE,
        "--device": word("auto", "cpu"),
    }),
    st.lists(often(st.sampled_from(["4 green", "é\n"]), [*ODD, *NAMES]), max_size=3),
)  # fmt: skip
COMPRESS = given(
    st.booleans(),
    options({"--output": st.sampled_from(["out.crnn", "out.crnn", "out/x", ".", "", "a\nb", "\x1b[31m", "x" * 300]),
             "--force": SWITCH, "--json": SWITCH, "--quiet": SWITCH}),
    often(st.sampled_from(["text.txt", "bytes.bin", "empty.txt", "out.crnn", "text.txt.crnn"]), ["missing", *NAMES]),
    CHECKPOINTS,
)  # fmt: skip
INSPECT = given(st.sampled_from(sorted(VIEWS)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        options(NAMED | {
            "--length": whole(1, 600), "--html": PAGE,
            **{flag(option): st.sampled_from(["a=b", "a=[", "=", "a=(?P<", "", "digit=\\d"])
               if isinstance(spec.default, tuple) else whole(1, 12) for option, spec in VIEWS[name].options},
        }),
        often(st.sampled_from({"cell": ["0.0", "0.3"]}.get(name, ["4 green", "é"])), [*ODD, "9.9", "0.0.0", "-1.0"]),
    )
), CHECKPOINTS)  # fmt: skip


def check_resume(arguments: list[str], steps: str) -> None:
    # Without steps, 1e300 epochs are a length too.
    ends_well("train", "--resume", *arguments, "--steps", steps)


def check_prepare(arguments: list[str], sources: list[str]) -> None:
    ends_well("prepare", "--force", *arguments, "--", *sources, stdin=TEXT)


def check_sample(arguments: list[str], checkpoints: list[str], length: str) -> None:
    ends_well("sample", f"--length={length}", *arguments, "--", *checkpoints, stdin="4 green")


def check_eval(arguments: list[str], checkpoints: list[str]) -> None:
    ends_well("eval", *arguments, "--", *checkpoints, stdin=TEXT)


def check_compare(arguments: list[str], checkpoints: list[str]) -> None:
    ends_well("compare", *arguments, "--", *checkpoints, stdin=TEXT)


def check_score(arguments: list[str], texts: list[str]) -> None:
    ends_well("score", *arguments, "--", *texts, stdin=TEXT)


def check_compress(back: bool, arguments: list[str], file: str, checkpoints: list[str]) -> None:
    if not Path("text.txt.crnn").exists():
        ends_well("compress", "text.txt", "small")
    ends_well("decompress" if back else "compress", *arguments, "--", file, *checkpoints)


def check_inspect(view: tuple[str, list[str], str], checkpoints: list[str]) -> None:
    name, arguments, argument = view
    first = [argument] if VIEWS[name].argument else []
    ends_well("inspect", name, *arguments, "--", *first, *checkpoints[:1], stdin=TEXT)


#: How a command is asked, and with how many examples that takes some seconds, or some minutes.
ASKED: dict[str, tuple[Callable[[], None], int, int]] = {
    "train": (TRAIN(check_train), 60, 1500),
    "train --resume": (RESUME(check_resume), 50, 3000),
    "prepare": (PREPARE(check_prepare), 150, 3000),
    "sample": (SAMPLE(check_sample), 300, 6000),
    "eval": (EVAL(check_eval), 200, 4000),
    "compare": (COMPARE(check_compare), 100, 3000),
    "score": (SCORE(check_score), 100, 3000),
    "compress": (COMPRESS(check_compress), 60, 3000),
    "inspect": (INSPECT(check_inspect), 150, 3000),
}
#: What fails is short as it is: to make it shorter would take minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
HEALTH = [HealthCheck.too_slow, HealthCheck.nested_given]


@pytest.mark.parametrize("command", ASKED)
def test_any_options_give_a_result_or_one_line(command: str) -> None:
    check, few, _ = ASKED[command]
    settings(max_examples=few, phases=PHASES, suppress_health_check=HEALTH, derandomize=True, database=None)(check)()


@pytest.mark.slow
@pytest.mark.parametrize("command", ASKED)
def test_thousands_of_options_give_a_result_or_one_line(command: str) -> None:
    check, _, many = ASKED[command]
    settings(max_examples=many, phases=PHASES, suppress_health_check=HEALTH)(check)()


#: What once ended in a traceback, in two lines, or in the system's killing the process.
FOUND = [
    (2, ["train", "text.txt", "--save-every", "9" * 5000]),
    (2, ["train", "text.txt", "--config", "huge.toml"]),
    (2, ["train", "text.txt", "--config", "deep.toml"]),
    (2, ["train", "text.txt", "--config", "hexadecimal.toml"]),
    (2, ["train", "text.txt", "--run", "a\nb"]),
    (6, ["train", "text.txt", "--hidden-size", "16384", "--num-layers", "64"]),
    (3, ["prepare", "a\nb"]),
    (3, ["prepare", "text.txt", "--encoding", "punycode", "--force"]),
    (4, ["sample", "a\nb"]),
    (0, ["sample", "small", "--beam", "2", "--length-penalty", "1e300", "--length", "9", "--json"]),
    (5, ["sample", "small", "--adapt", "text.txt", "--adapt-rate", "1e36", "--beam", "2", "--length", "9"]),
    (5, ["train", "text.txt", "--learning-rate", "1e9", "--clip", "0", "--steps", "2", *SMALL, "--run", "wild"]),
    (0, ["sample", "bytes", "--stop", "\udc80", "--length", "3"]),
    (2, ["sample", "small", "--samples", "1000000000000"]),
    (2, ["sample", "small", "--beam", "1000000000000"]),
    (2, ["inspect", "beam", "a", "small", "--width", "1000000000"]),
    (2, ["inspect", "beam", "a", "small", "--depth", "1000000000"]),
    (0, ["inspect", "beam", "a", "small", "--depth", "200", "--width", "20"]),
    (2, ["inspect", "novelty", "small", "--length", "1000000000000"]),
    (2, ["inspect", "novelty", "small", "--seed", "9" * 30]),
    (2, ["inspect", "cells", "small", "--seed", "9" * 30]),
    (2, ["inspect", "gradients", "small", "--places", "1000000000000"]),
    (2, ["inspect", "text", "small", "--html", ""]),
    (2, ["compare", "small", "--text", "text.txt", "--html", "."]),
]


@pytest.mark.parametrize(("code", "arguments"), FOUND)
def test_what_once_was_no_line_is_one_now(code: int, arguments: list[str]) -> None:
    Path("huge.toml").write_text("[training]\nseed = " + "9" * 5000)
    Path("deep.toml").write_text("a = " + "[" * 5000)
    Path("hexadecimal.toml").write_text("[model]\ndropout = 0x" + "f" * 5000)
    assert ends_well(*arguments) == code
