"""The compressed file: who can decode it, what has to come out, and the bits.

    magic "CRNN", version 1, kinds of engine, checkpoint, probe, SHA-256 of the text, characters, CRC-32, words

Little-endian. Digests are the first bytes of a SHA-256: of the checkpoint, as its own file records it, and of what the
model expects here at the first steps of a made-up text, the *probe*, by which another machine or version is found out
before it decodes. The CRC-32 is of everything else in the file. The words are those of :func:`coding.encode`.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from charrnn.checkpoint import BEST, Checkpoint, read_document, runs_below
from charrnn.compression.coding import Progress, Walk, Words, coder, coding_engine, decode, encode, one_thread
from charrnn.compression.symbols import Spelling
from charrnn.data.vocabulary import Vocabulary
from charrnn.decoding.engine import Engine
from charrnn.decoding.ensemble import Model, members
from charrnn.errors import CharRNNError, CheckpointError, ResourceError, TextError

MAGIC, VERSION = b"CRNN", 1
#: How the members of a model are run, as bits, and what people call that.
KINDS = {
    "kernel": "the compiled kernel",
    "numpy": "numpy",
    "counts": "an n-gram model's counts",
    "torch": "torch",
}
_PROBE_STEPS = 64


@dataclass(frozen=True)
class Header:
    """What stands before the words: digests as bytes, ``kinds`` as bits, ``count`` of characters."""

    kinds: int
    checkpoint: bytes
    probe: bytes
    text: bytes
    count: int

    FIELDS: ClassVar[struct.Struct] = struct.Struct("<4sBB16s8s16sQ")
    SIZE: ClassVar[int] = FIELDS.size + 4

    def pack(self, words: Words) -> bytes:
        """The whole file."""
        fields = (MAGIC, VERSION, self.kinds, self.checkpoint, self.probe, self.text, self.count)
        head, tail = self.FIELDS.pack(*fields), words.astype("<u4").tobytes()
        return head + struct.pack("<I", zlib.crc32(tail, zlib.crc32(head))) + tail

    @classmethod
    def unpack(cls, blob: bytes, name: str) -> tuple[Self, Words]:
        """Header and words of a file that people call ``name``.

        Raises:
            TextError: it is none, of another version, or damaged.
        """
        if len(blob) < 5 or blob[:4] != MAGIC:
            raise TextError(f"{name}: is not a file that charrnn compress has written")
        if blob[4] != VERSION:
            raise TextError(
                f"{name}: format {blob[4]}, this charrnn reads format {VERSION}; use the version that wrote it"
            )
        head, tail = blob[: cls.FIELDS.size], blob[cls.SIZE :]
        if blob[len(head) : cls.SIZE] != struct.pack("<I", zlib.crc32(tail, zlib.crc32(head))) or len(tail) % 4:
            raise TextError(f"{name}: is damaged or cut short (its checksum does not match); take another copy")
        _, _, *fields = cls.FIELDS.unpack(head)
        return cls(*fields), np.frombuffer(tail, "<u4").astype(np.uint32)


@dataclass(frozen=True)
class Compressed:
    """A compressed file, and what is said of it."""

    blob: bytes
    characters: int
    unseen: int
    kinds: tuple[str, ...]


def compress(model: Model, data: bytes, progress: Progress | None = None) -> Compressed:
    """Compress any bytes, and decode them again.

    Raises:
        CheckpointError: the checkpoint has no file that could be named to decode it.
        ResourceError: they were not the same.
    """
    checkpoint, spelling = identity(model), Spelling(model.vocabulary)
    symbols = spelling.symbols(data)
    count = len(symbols)

    def report(before: int) -> Progress | None:
        return progress and (lambda done, _: progress(before + done, 2 * count))

    kinds, engine = coding_engine(model)
    with one_thread(kinds):
        words = encode(engine, model.vocabulary, symbols, spelling.values, report(0))
        probe = _probe(engine, model.vocabulary, count)
        header = Header(_bits(kinds), checkpoint, probe, _text_digest(data), count)
        blob = header.pack(words)
        try:
            same = decode(engine, model.vocabulary, Header.unpack(blob, "")[1], count, spelling.values, report(count))
            good = spelling.data(same) == data
        except (TextError, UnicodeError):
            good = False
    if not good:
        raise ResourceError(
            "what was compressed does not decode to the same: this machine does not compute the same twice"
        )
    return Compressed(blob, count, len(symbols.ranks), kinds)


def decompress(model: Model, blob: bytes, name: str, progress: Progress | None = None) -> bytes:
    """The bytes that a file, which people call ``name``, was made of: the very same, or an error.

    Raises:
        TextError: it is not such a file, or damaged.
        CheckpointError: this model, or this machine, cannot decode it.
    """
    header, words = Header.unpack(blob, name)
    if header.checkpoint != identity(model):
        raise CheckpointError(
            f"{name}: was compressed with another checkpoint than {model.path}; name the one whose SHA-256 begins with "
            f"{header.checkpoint.hex()} (charrnn info --json shows it)"
        )
    kinds, engine = coding_engine(model)
    if header.kinds != _bits(kinds):
        there, here = (_named(bits) for bits in (header.kinds, _bits(kinds)))
        raise CheckpointError(f"{name}: was compressed by {there}, and here is only {here}; decompress it there")
    spelling = Spelling(model.vocabulary)
    elsewhere = CheckpointError(
        f"{name}: was compressed where other probabilities are computed than here, on another machine or with other "
        "versions of charrnn, numpy or torch; decompress it there"
    )
    with one_thread(kinds):
        if header.probe != _probe(engine, model.vocabulary, header.count):
            raise elsewhere
        try:
            symbols = decode(engine, model.vocabulary, words, header.count, spelling.values, progress)
            data = spelling.data(symbols)
        except (TextError, UnicodeError) as error:
            raise elsewhere from error
    if _text_digest(data) != header.text:
        raise elsewhere
    return data


def find(blob: bytes, name: str, root: Path = Path("checkpoints")) -> Path:
    """The best checkpoint of a run below ``root`` that a file was compressed with.

    Raises:
        TextError: it is not such a file, or damaged.
        CheckpointError: there is none.
    """
    header, _ = Header.unpack(blob, name)
    for path in sorted(runs_below(root, BEST)):
        try:
            if read_document(path).get("sha256", "").startswith(header.checkpoint.hex()):
                return path
        except (CharRNNError, AttributeError):
            continue  # another run's damage
    raise CheckpointError(
        f"{name}: no run under {root}/ has the checkpoint that it was compressed with, whose SHA-256 begins with "
        f"{header.checkpoint.hex()}; name its file, or the several"
    )


def identity(model: Model) -> bytes:
    """The first bytes of the SHA-256 of a checkpoint's content; of several, of theirs one after another.

    Raises:
        CheckpointError: one is of no file.
    """
    digests = [bytes.fromhex(_recorded(checkpoint)) for checkpoint in members(model)]
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest())[:16]


def _recorded(checkpoint: Checkpoint) -> str:
    if not checkpoint.sha256:
        raise CheckpointError("the model is of no file, and what it compresses could never be decoded; save it first")
    return checkpoint.sha256


def _probe(engine: Engine, vocabulary: Vocabulary, count: int) -> bytes:
    """What is computed and coded here at the first steps of any text of ``count`` characters, digested."""
    stream, walk, digest = coder(), Walk(engine, vocabulary, count), hashlib.sha256()
    encoder, family = stream.queue.RangeEncoder(), stream.model.Categorical(perfect=False)
    for step in range(min(_PROBE_STEPS, walk.length)):
        expected = walk.expected(step)
        ids = ((31 * step + np.arange(len(expected))) % engine.symbols).astype(np.int32)
        encoder.encode(ids, family, expected)
        walk.feed(ids)
        digest.update(expected.astype("<u4").tobytes())
    digest.update(encoder.get_compressed().astype("<u4").tobytes())
    return digest.digest()[:8]


def _text_digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def _bits(kinds: tuple[str, ...]) -> int:
    return sum(1 << k for k, kind in enumerate(KINDS) if kind in kinds)


def _named(bits: int) -> str:
    return " and ".join(words for k, words in enumerate(KINDS.values()) if bits >> k & 1) or "something else"
