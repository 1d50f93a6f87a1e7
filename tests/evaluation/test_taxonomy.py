"""The taxonomy of errors, on a text whose errors are taken apart by hand, and against a slow one."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from charrnn.data.vocabulary import Vocabulary, to_codes
from charrnn.evaluation import taxonomy as module
from charrnn.evaluation.ngram import NGram
from charrnn.evaluation.taxonomy import ORDER, Oracle, lowest_order, taxonomy

#: What the n-gram models learn from it is that u follows q, for their vocabulary has no other letters.
TRAINING = "saw " * 6 + "rare " * 2 + "qu" * 20
VOCABULARY = Vocabulary.of("qu\n")
TEXT = 'saw Mary, saw Mary\nrare"saw qu'


def codes(text: str) -> np.ndarray:
    return to_codes(text, "char")


def taken_apart(text: str, wrong: list[int], probability: float = 0.25) -> dict[str, dict[str, int]]:
    """The steps that remove errors, by kind, of a model that gives all other characters 0.9."""
    nats = np.full(len(text), -math.log(0.9), np.float32)
    nats[wrong] = -math.log(probability)
    found = taxonomy(nats, codes(text), codes(TRAINING), VOCABULARY)
    assert sum(sum(oracle.errors) for oracle in found) == len(wrong)
    return {o.name: {s: n for s, n in zip(o.steps, o.errors, strict=True) if n} for o in found}


def test_a_text_that_is_all_errors_by_hand() -> None:
    assert taken_apart(TEXT, list(range(len(TEXT)))) == {
        "n-gram": {"n up to 2": 1},  # the u
        "long memory": {"in the last 100": 7},  # aw and ary of saw and Mary, the second time, aw the third
        "rare word": {"never seen": 6, "seen up to 2x": 4},  # Mary, M of the second, q; rare
        "word model": {"after a space or quote": 2, "after a newline": 1},  # s, three times
        "punctuation": {"": 2},
        "rest": {"boost of 0.3": 7},  # aw at the beginning, and what is between words
    }


def test_no_errors_and_single_ones() -> None:
    nothing: dict[str, dict[str, int]] = {
        name: {} for name in ("n-gram", "long memory", "rare word", "word model", "punctuation", "rest")
    }
    assert taken_apart(TEXT, []) == nothing
    assert taken_apart(TEXT, [29]) == nothing | {"n-gram": {"n up to 2": 1}}
    assert taken_apart(TEXT, [0]) == nothing | {"word model": {"after a newline": 1}}
    assert taken_apart(TEXT, [3], 0.45) == nothing | {"rest": {"boost of 0.1": 1}}
    assert taken_apart(TEXT, [3], 1e-9) == nothing | {"rest": {"boost of 0.5": 1}}


@pytest.mark.parametrize(
    ("gap", "removed"),
    [(97, "in the last 100"), (98, "in the last 500"), (497, "in the last 500"), (498, "in the last 1,000"),
     (997, "in the last 1,000"), (998, None)],
)  # fmt: skip
def test_how_far_the_memory_reaches(gap: int, removed: str | None) -> None:
    """The word's first letter is ``gap`` + 3 characters after that of the same word before."""
    text = "saw" + "." * gap + "saw"
    found = taken_apart(text, [len(text) - 1])
    assert found["long memory"] == ({removed: 1} if removed else {})
    assert sum(map(len, found.values())) == 1


def test_a_word_within_another_is_remembered_but_not_within_itself() -> None:
    assert taken_apart("coleslaw law", [10])["long memory"] == {"in the last 100": 1}
    assert taken_apart("law slawed", [7])["long memory"] == {}
    assert taken_apart("sasa", [3])["long memory"] == {}


def test_only_the_end_of_a_long_training_text_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRAINING", 40)  # the qu's
    assert taken_apart(TEXT, [1])["rare word"] == {"never seen": 1}


def test_shares_sum_to_one() -> None:
    oracle = Oracle("x", ("a", "b"), (1, 3))
    assert oracle.to_json(8) == {
        "oracle": "x",
        "errors": 4,
        "share": 0.5,
        "steps": [{"step": "a", "errors": 1, "share": 0.125}, {"step": "b", "errors": 3, "share": 0.375}],
    }
    assert Oracle("x", ("",), (0,)).to_json(0)["share"] == 0
    nats = np.random.default_rng(0).exponential(1, len(TEXT)).astype(np.float32)
    found = taxonomy(nats, codes(TEXT), codes(TRAINING), VOCABULARY)
    total = int((nats > math.log(2)).sum())
    assert sum(oracle.to_json(total)["share"] for oracle in found) == pytest.approx(1)


def prose(seed: int, length: int) -> str:
    random = np.random.default_rng(seed)
    words = ["the", "then", "he", "saw", "Mary", "met", "a", "can't", "zebra", "7", "(or)", '"yes"', "tell", "\n"]
    drawn = random.choice(words, length, p=(weights := 1 / np.arange(1, len(words) + 1)) / weights.sum())
    return " ".join(drawn)


def test_equals_a_slow_one_character_by_character() -> None:
    training, text = prose(0, 300), prose(1, 120) + " Zoë!"
    vocabulary = Vocabulary.of(training + "\n")
    nats = np.random.default_rng(2).exponential(1.2, len(text)).astype(np.float32)
    models = [NGram.of(vocabulary.encode(training), vocabulary, order) for order in range(1, ORDER + 1)]
    p = [np.exp(-np.concatenate([part for _, part in m.surprisals(vocabulary.encode(text))])) for m in models]
    spans = [match.span() for match in re.finditer(r"[A-Za-zë]+(?:'[A-Za-zë]+)*", text)]
    often = re.findall(r"[A-Za-zë]+(?:'[A-Za-zë]+)*", training)
    expected = dict.fromkeys(("n-gram", "long memory", "rare word", "word model", "punctuation", "rest"), 0)
    for place in np.flatnonzero(nats > math.log(2)).tolist():
        word = next(((a, b) for a, b in spans if a <= place < b), None)
        spelled = "" if word is None else text[slice(*word)]
        if text[place] != "ë" and max(probabilities[place] for probabilities in p) >= 0.5:
            kind = "n-gram"
        elif word and place > word[0] and spelled in text[max(0, word[0] - 1000) : word[0]]:
            kind = "long memory"
        elif word and often.count(spelled) <= 5:
            kind = "rare word"
        elif text[place - 1] in ' "\n':
            kind = "word model"
        else:
            kind = "punctuation" if text[place] in '()"!' else "rest"
        expected[kind] += 1
    found = taxonomy(nats, codes(text), codes(training), vocabulary)
    assert {oracle.name: sum(oracle.errors) for oracle in found} == expected
    assert min(expected.values()) > 0
    everywhere = lowest_order(np.arange(len(text)), codes(text), codes(training), vocabulary)
    right = np.array(p) >= 0.5
    right[:, text.index("ë")] = False
    assert everywhere.tolist() == np.where(right.any(0), right.argmax(0) + 1, ORDER + 1).tolist()
