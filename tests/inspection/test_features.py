"""Features against labels written down by hand."""

from __future__ import annotations

import signal

import pytest

from charrnn.errors import UsageError
from charrnn.inspection.features import features_of


def values(text: str, name: str, *given: str) -> list[float]:
    return next(f for f in features_of(text, given) if f.name == name).values.tolist()


def test_features_worked_out_by_hand() -> None:
    assert values('a "b" c', "quotes") == [0, 0, 1, 1, 0, 0, 0]
    assert values('"\n\nb', "quotes") == [1, 1, 0, 0]
    assert values("“a”", "quotes") == [1, 1, 0]
    assert values("f(a[0]))", "brackets") == [0, 1, 1, 2, 2, 1, 0, 0]
    assert values("ab\ncd", "column") == [1, 2, 0, 1, 2]
    assert values("  a b\n\tc", "indentation") == [1, 2, 2, 2, 2, 0, 1, 1]
    assert values("x # y\nz", "comment") == [0, 0, 1, 1, 1, 0, 0]
    assert values("aÉ1", "capital") == [0, 1, 0]
    assert values("see http://x.y/ z", "url") == [0] * 4 + [1] * 11 + [0] * 2


def test_ones_own_feature_comes_first_and_replaces_a_built_in_one() -> None:
    found = features_of("abca", ("space=[bc]",))
    assert found[0].name == "space"
    assert found[0].values.tolist() == [0, 1, 1, 0]
    assert [f.name for f in found].count("space") == 1


@pytest.mark.parametrize("given", ["abc", "=x", "a=", "a=("])
def test_a_bad_feature_is_one_line(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        features_of("text", (given,))
    assert "--feature" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pattern_that_takes_for_ever_is_ended_by_ctrl_c() -> None:
    """An alarm stands for Ctrl-C: nothing else gets a turn while a pattern is matched."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            features_of("a" * 60 + "!", ("slow=(a+)+$",))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
