"""The tree of a beam search beside the greedy path: why the best next character need not begin the best text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.decoding.engine import Engine, State
from charrnn.evaluation.evaluator import scoring_engine
from charrnn.inspection.report import Branch, Note, Report, Table, Tree, shown
from charrnn.inspection.subject import Subject


@dataclass
class Node:
    """A character that was kept at its depth; ``step`` is its own log probability in nats, ``total`` its path's."""

    index: int
    parent: int | None
    symbol: int
    step: float
    total: float
    children: list[Node] = field(default_factory=list)


def log_probabilities(logits: NDArray[np.float32], unknown: int) -> NDArray[np.float64]:
    """log softmax over what can be generated: all but ``unknown``; (B, V)."""
    x = logits.astype(np.float64)
    x[:, unknown] = -np.inf
    x -= x.max(-1, keepdims=True)
    result: NDArray[np.float64] = x - np.log(np.exp(x).sum(-1, keepdims=True))
    return result


def search(
    engine: Engine, logits: NDArray[np.float32], state: State, width: int, depth: int, unknown: int
) -> list[Node]:
    """Beam search that keeps the whole tree; ``width`` 1 is the greedy path.

    Args:
        logits: (1, V), of the first character.
        state: of one sequence, after the prompt.

    Returns:
        all nodes, the root first; the last ``width`` (or fewer) are the beams, best first.
    """
    nodes = [Node(0, None, -1, 0.0, 0.0)]
    beams = [nodes[0]]
    for level in range(depth):
        steps = log_probabilities(logits, unknown)  # (beams, V)
        totals = steps + np.asarray([[node.total] for node in beams])
        order = np.argsort(-totals, axis=None, kind="stable")[:width]
        order = order[np.isfinite(totals.ravel()[order])]
        rows, symbols = np.divmod(order, totals.shape[1])
        after = []
        for row, symbol in zip(rows.tolist(), symbols.tolist(), strict=True):
            node = Node(len(nodes), beams[row].index, symbol, float(steps[row, symbol]), float(totals[row, symbol]))
            beams[row].children.append(node)
            nodes.append(node)
            after.append(node)
        beams = after
        if level + 1 < depth:
            logits, state = engine.step(symbols, engine.select(state, rows))
    return nodes


def probability(nodes: list[Node]) -> float:
    """Of a stretch, given what stands before it."""
    return math.exp(sum(node.step for node in nodes))


def path(nodes: list[Node], node: Node) -> list[Node]:
    """From the first character to ``node``."""
    result = []
    while node.parent is not None:
        result.append(node)
        node = nodes[node.parent]
    return result[::-1]


def along(root: Node, symbols: Sequence[int]) -> list[Node]:
    """The nodes that spell a text, from its first character as far as the search kept it."""
    found = [root]
    for symbol in symbols:
        if not (kept := [node for node in found[-1].children if node.symbol == symbol]):
            break
        found += kept
    return found[1:]


def verdict(best: list[Node], greedy: list[Node]) -> str:
    """What came of it. Texts are compared by their characters: the same one has another probability in the seventh
    figure when it is computed beside others."""
    if [node.symbol for node in best] == [node.symbol for node in greedy]:
        return "Both find the same text here."
    gain = best[-1].total - greedy[-1].total
    times = f"{math.exp(min(abs(gain), 700)):.3g} times as probable"
    if times.startswith("1 "):
        return "The two find different texts, which are equally probable."
    if gain > 0:
        return f"The beam's text is {times} as the greedy one."
    return f"The greedy text is {times}: the beam dropped it."


def beam(subject: Subject, prompt: str, width: int = 4, depth: int = 20) -> Report:
    """The tree of a beam search from a prompt, and the greedy path to set beside it."""
    vocabulary = subject.checkpoint.vocabulary
    engine = scoring_engine(subject.checkpoint, 1)
    ids = np.append(vocabulary.index("\n"), vocabulary.encode(prompt))
    rows, state = engine.run(ids[:, None], engine.initial_state(1))
    logits = rows[-1]
    tree = search(engine, logits, state, width, depth, vocabulary.unknown)
    line = search(engine, logits, state, 1, depth, vocabulary.unknown)

    def text(nodes: list[Node]) -> str:
        return "".join(vocabulary.character(node.symbol) for node in nodes)

    def outcome(nodes: list[Node]) -> dict[str, Any]:
        return {"text": text(nodes), "log_probability": nodes[-1].total, "steps": [math.exp(n.step) for n in nodes]}

    best = path(tree, max(tree[1:], key=lambda node: (len(path(tree, node)), node.total)))
    greedy = path(line, line[-1])
    kept = along(tree[0], [node.symbol for node in greedy])
    winners, followed = {node.index for node in best}, {node.index for node in kept}
    lost = greedy[len(kept) :]  # what the beam dropped of the greedy path
    fork = kept[-1].index if kept else 0

    def branch(node: Node) -> Branch:
        run = [node]
        while len(run[-1].children) == 1 and run[-1].index != fork:  # a stretch without a fork is one branch
            run.append(run[-1].children[0])
        remark = f"{probability(run):.3g}" + (", greedy" if node.index in followed else "")
        if not run[-1].children and len(path(tree, run[-1])) < depth:
            remark += ", dropped"
        return Branch(shown(text(run)), remark, node.index in winners, after(run[-1]))

    def after(node: Node) -> list[Branch]:
        """What follows a node, the rest of the greedy path among it."""
        rest = [Branch(shown(text(lost)), f"{probability(lost):.3g}, greedy alone")] if lost else []
        return [branch(child) for child in node.children] + (rest if node.index == fork else [])

    root = Branch(shown(prompt) or "(no prompt)", "", True, after(tree[0]))
    both = Table(
        ["search", "text", "log probability, nats"],
        [[f"beam of {width}", shown(text(best)), best[-1].total], ["greedy", shown(text(greedy)), greedy[-1].total]],
    )
    steps = Table(
        ["step", *(column for name in ("beam", "greedy") for column in (name, "p", "so far"))],
        [
            [n, *(value for node in pair for value in (shown(text([node])), math.exp(node.step), node.total))]
            for n, pair in enumerate(zip(best, greedy, strict=True), start=1)
        ],
        "Step by step: p of each character, log p so far",
    )
    legend = (
        "In the tree each stretch has its probability after what stands before it. The beam's text is marked, the "
        f"greedy one named; a text that is not among the {width} likeliest of its length is dropped."
    )
    listed = [
        {
            "id": node.index,
            "parent": node.parent,
            "character": vocabulary.character(node.symbol) if node.parent is not None else "",
            "probability": math.exp(node.step),
            "log_probability": node.total,
            "best": node.index in winners,
            "greedy": node.index in followed,
        }
        for node in tree
    ]
    document = {
        "schema": 1,
        "prompt": prompt,
        "width": width,
        "depth": depth,
        "beam": outcome(best),
        "greedy": outcome(greedy),
        "nodes": listed,
    }
    found = Note(verdict(best, greedy))
    return Report("Beam search", [found, both, steps, Note(legend), Tree("What the search kept", root)], document)
