"""A text in another order, so that charrnn's contiguous split of it is the split of Karpathy, Johnson & Fei-Fei 2016.

    python benchmarks/interleave.py TEXT OUTPUT [--split 80,10,10]

Their program, char-rnn, cuts a text into streams and splits each of them (CharSplitLMMinibatchLoader.lua), so that text
for test lies between text for training and is easier than what comes after all of it. Here the parts for training of
100 streams come first, then those for validation, then those for test: 99 joins in each, nothing twice. Fewer than
ten thousand characters at the end are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

STREAMS = 100


def interleaved(text: str, split: tuple[int, int, int]) -> str:
    """The text in that order; ``split`` is in percent."""
    length = len(text) // (STREAMS * 100) * 100  # so that a percentage of it is a whole number
    streams = [text[k * length : (k + 1) * length] for k in range(STREAMS)]
    first, second = length * split[0] // 100, length * (split[0] + split[1]) // 100
    parts = slice(first), slice(first, second), slice(second, None)
    return "".join(stream[part] for part in parts for stream in streams)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--split", default="80,10,10", help="percent for training, validation and test")
    given = parser.parse_args()
    try:
        first, second, third = map(int, given.split.split(","))
        text = given.text.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise SystemExit(f"{given.text}, --split {given.split}: {error}") from None
    if min(first, second, third) < 0 or first + second + third != 100:
        raise SystemExit(f"--split {given.split}: expected three whole percentages that add up to 100")
    if not (found := interleaved(text, (first, second, third))):
        raise SystemExit(f"{given.text}: has {len(text):,} characters; {STREAMS * 100:,} are the fewest")
    given.output.write_bytes(found.encode())


if __name__ == "__main__":
    main()
