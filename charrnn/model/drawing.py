"""Drawing on the device: one meeting with the host per block of characters, not one per character.

On a GPU a step of a small model is computed sooner than it can be launched, so steps are captured as a CUDA graph that
one call replays. What is random has to be known before: a character is the argmax of logits and Gumbel noise (Maddison
et al. 2014, "A* Sampling"), which has the distribution of the softmax, and the noise is a hash of one number from the
sequence's own generator, so that a sample does not depend on who else is in the batch.

Products are float32, not TF32: rounded differently for one sequence and for many, a seed would soon give two texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from charrnn.cells import connect
from charrnn.decoding.alphabet import Alphabet
from charrnn.decoding.engine import Frontier
from charrnn.model.base import State
from charrnn.model.graphs import Graphs, Run
from charrnn.model.network import CharRNN
from charrnn.model.torch_engine import TorchEngine

#: Characters of each sequence that are drawn between two meetings of host and device.
BLOCK = 64
#: Of these, how many in one graph. A shorter rest of a text is launched step by step: it should not be long.
STEPS = 32
#: Runs before the capture: the first one chooses and loads kernels, which must not happen during a capture. A block's
#: worth of them, for while stop strings end some of the samples in every block, no graph would be used again.
WARM_UP = 2
#: Noise, in numbers, that is made at once: bounds the memory, some 40 bytes for each.
NOISE = 2**24


class DrawingTorchEngine(TorchEngine):
    """A :class:`TorchEngine` that also draws; see :class:`~charrnn.decoding.engine.Drawing`.

    It does so on any device; it pays on a GPU.
    """

    def __init__(self, model: CharRNN, device: str | torch.device = "cpu") -> None:
        super().__init__(model, device)
        self.network = model
        self.graphs = Graphs(self.device) if self.device.type == "cuda" else None
        self._desk: Desk | None = None

    def steps(self, batch_size: int) -> int:
        """How many characters of each of B sequences are drawn in one graph."""
        return max(1, min(STEPS, NOISE // (batch_size * self.symbols)))

    def block(self, batch_size: int) -> int:
        """See :class:`~charrnn.decoding.engine.Drawing`: whole graphs."""
        steps = self.steps(batch_size)
        return BLOCK // steps * steps

    @torch.no_grad()
    def draw(
        self,
        count: int,
        frontier: Frontier,
        generators: Sequence[Generator],
        alphabet: Alphabet,
        temperature: float,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], Frontier]:
        """See :class:`~charrnn.decoding.engine.Drawing`; sequence b takes one number for each character."""
        T, B = count, len(generators)
        numbers = np.stack([generator.bit_generator.random_raw(T) for generator in generators])  # (B, T)
        keys = torch.from_numpy(numbers.view(np.int64)).to(self.device).t()
        desk, steps = self._laid(T, B, alphabet), self.steps(B)
        desk.begin(frontier, temperature)
        ids, nats = desk.ids.new_empty((T, B)), desk.nats.new_empty((T, B))
        for start in range(0, T, steps):
            window = slice(start, min(start + steps, T))
            length = window.stop - start
            desk.keys[:length] = keys[window]
            run = partial(self._draw, desk, length)
            if self.graphs is None or length < steps:
                run()
            else:
                desk.replayed(self.graphs, run)
            ids[window], nats[window] = desk.ids[:length], desk.nats[:length]
        logits, state = desk.logits.clone(), tuple(part.clone() for part in desk.state)
        # One copy to the host; it waits for all of the above.
        found = torch.cat((ids, nats.view(torch.int64), desk.places[None])).cpu().numpy()
        return found[:T], found[T:-1].view(np.float64), Frontier(logits, state, found[-1])

    def _laid(self, count: int, batch_size: int, alphabet: Alphabet) -> Desk:
        """The desk for T characters of B sequences.

        One is kept, for its graph keeps its memory; the few characters that some sequences need to the end of a
        UTF-8 character do not take its place.
        """
        desk, steps = self._desk, self.steps(batch_size)
        if desk is None or desk.shape != (batch_size, *alphabet.mask.shape):
            desk = Desk(min(count, steps), self.initial_state(batch_size), alphabet)
            if count >= steps:
                self._desk = desk
        desk.take(alphabet)
        return desk

    def _draw(self, desk: Desk, count: int) -> None:
        """Draw T = ``count`` characters of each sequence: a fixed sequence of operations on the desk's tensors."""
        head, several = self.network.head, len(desk.mask) > 1
        scores = gumbel(desk.keys[:count], self.symbols).mul_(desk.temperature)  # (T, B, V)
        scores[0].add_(desk.logits)
        scores[1:].add_(head.bias)
        if not several:
            scores.add_(desk.mask)
        places = desk.places
        state = [tuple(part[k] for part in desk.state) for k in range(len(self.network.layers))]
        chosen: list[Tensor] = []  # (B,) each
        outputs: list[Tensor] = []  # what the head reads, (B, H) each
        for t in range(count):
            if t:
                scores[t].addmm_(outputs[-1], head.weight.t())  # in place: one kernel adds what was there
            if several:
                scores[t].add_(desk.mask[places])
            chosen.append(scores[t].argmax(-1))
            if several:
                places = desk.following[places, chosen[-1]]
            x, state = self._advance(chosen[-1], state)
            outputs.append(x)
        # The model's own logits once more, without noise: a single large product.
        logits = head(torch.stack(outputs))  # (T, B, V)
        before = torch.cat((desk.logits[None], logits[:-1]))
        ids = torch.stack(chosen)  # (T, B)
        desk.nats[:count] = -before.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        desk.ids[:count] = ids
        desk.logits.copy_(logits[-1])
        desk.places.copy_(places)
        for part, layers in zip(desk.state, zip(*state, strict=True), strict=True):
            torch.stack(layers, out=part)

    def _advance(self, ids: Tensor, state: list[State]) -> tuple[Tensor, list[State]]:
        """One step of :meth:`CharRNN.forward`, ids (B,) and for each layer parts (B, H), up to what the head reads.

        By the fused cell: over a single step, the fused layer's preparations take longer than its work.
        """
        model, after = self.network, []
        x = model.embedding(ids)  # (B, E)
        for k, layer in enumerate(model.layers):
            cell = getattr(torch, f"{layer.mode}_cell".lower())  # lstm_cell, gru_cell, rnn_tanh_cell
            found = cell(x, state[k] if len(state[k]) > 1 else state[k][0], *layer.parameters())
            parts: State = found if isinstance(found, tuple) else (found,)
            after.append(parts)
            y = model.norms[k](parts[0]) if model.config.layer_norm else parts[0]  # (B, H)
            x = connect(torch, model.config.connections, x, y)
        return x if model.projection is None else model.projection(x), after


class Desk:
    """Tensors that stay where they are: a graph reads and writes the same memory each time.

    Attributes:
        keys: (T, B), a random number for each character to be drawn.
        temperature: ().
        mask, following: (places, V), the alphabet's.
        logits, state, places: (B, V), per part (L, B, H), and (B,): where the sequences stand.
        ids, nats: (T, B), what was drawn, and its surprisals.
        replayed: the drawing of T characters, once it is a graph.
    """

    def __init__(self, steps: int, state: State, alphabet: Alphabet) -> None:
        T, B = steps, state[0].shape[1]
        places, V = alphabet.mask.shape
        floats = state[0].new_zeros
        integers = partial(floats, dtype=torch.int64)
        self.shape, self.state = (B, places, V), state
        self.keys, self.ids, self.places = integers((T, B)), integers((T, B)), integers(B)
        self.mask, self.following = floats((places, V)), integers((places, V))
        self.temperature, self.logits = floats(()), floats((B, V))
        self.nats = floats((T, B), dtype=torch.float64)
        self.replayed = Replayed()
        self._alphabet: Alphabet | None = None

    def take(self, alphabet: Alphabet) -> None:
        """Draw from this alphabet."""
        if self._alphabet is not alphabet:
            self.mask.copy_(torch.from_numpy(alphabet.mask))
            self.following.copy_(torch.from_numpy(alphabet.following))
            self._alphabet = alphabet

    def begin(self, frontier: Frontier, temperature: float) -> None:
        """Continue from there; the frontier itself is left as it was."""
        self.temperature.fill_(min(temperature, 1e30))  # so that however hot, the noise stays finite
        self.logits.copy_(torch.as_tensor(frontier.logits))
        self.places.copy_(torch.from_numpy(frontier.places))
        for part, given in zip(self.state, frontier.state, strict=True):
            part.copy_(given)


class Replayed:
    """Operations run plainly the first times, then captured and replayed.

    Where they cannot be captured they run plainly for good, which is slower and gives the same.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._replay: Run | None = None

    def __call__(self, graphs: Graphs, run: Run) -> None:
        """Launch the operations, the same ones each time; returns before they are computed."""
        self._calls += 1
        if self._calls <= WARM_UP:
            graphs.warm_up(run)
            return
        if self._calls == WARM_UP + 1:
            # Of CUDA (also out of memory), or of torch's own checks.
            with suppress(RuntimeError):
                self._replay = graphs.capture(run)
        (self._replay or run)()


def gumbel(keys: Tensor, size: int) -> Tensor:
    """Numbers from the standard Gumbel distribution: keys (...) of 64 random bits → (..., size), float32.

    -log(-log(1 - u)) of uniform u: the largest, which decide, come from the smallest u, where floats are dense.
    """
    u = _shifted(splitmix64(keys, size), 11).to(torch.float32).mul_(2**-53)
    u.clamp_(2**-54, 1 - 2**-24)  # never 0 or 1, whose noise would be infinite
    return u.neg_().log1p_().neg_().log_().neg_()


def splitmix64(keys: Tensor, size: int) -> Tensor:
    """The first numbers of the generator SplitMix64, started at each key: int64 (...) → (..., size).

    Steele, Lea & Flood (2014), "Fast splittable pseudorandom number generators", with its constants from Vigna's
    https://prng.di.unimi.it/splitmix64.c. Each number is a hash of key and place, so all are made at once. Signed
    numbers stand for unsigned ones of the same bits: sums and products wrap around alike.
    """
    places = torch.arange(1, size + 1, device=keys.device)
    z = keys[..., None] + places * _signed(0x9E3779B97F4A7C15)
    z.bitwise_xor_(_shifted(z, 30)).mul_(_signed(0xBF58476D1CE4E5B9))
    z.bitwise_xor_(_shifted(z, 27)).mul_(_signed(0x94D049BB133111EB))
    return z.bitwise_xor_(_shifted(z, 31))


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def _shifted(z: Tensor, count: int) -> Tensor:
    """z >> count with zeros moved in: torch's own moves in copies of the sign."""
    return (z >> count).bitwise_and_(2 ** (64 - count) - 1)
