"""The one-file checkpoint: tensors and one JSON document, checked, written whole or not at all, no pickle.

A checkpoint is a safetensors file. Its metadata has one key, ``charrnn``, with a JSON document: format version,
configuration, vocabulary, corpus, training record, and the SHA-256 of everything else. Weights carry PyTorch's names;
the training state in ``last.safetensors`` is tensors named ``state.*`` and numbers in the document.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.architectures import TEXT, state_shapes, weight_shapes
from charrnn.config import MODELS, Config, ModelConfig
from charrnn.data.vocabulary import Vocabulary
from charrnn.errors import CheckpointError, UsageError
from charrnn.files import atomic_write, read_json

FORMAT = 1
BEST, LAST = "best.safetensors", "last.safetensors"
#: A folder of runs with this file is a sweep.
SWEEP = "sweep.json"
_KEY = "charrnn"
#: Every code point there is takes 12 MB, and the most tensors some ten thousand brackets and quotation marks; more
#: would only fill memory.
_MAX_HEADER, _MAX_MARKS = 16 << 20, 200_000
_STATE = "state."
#: The largest weight: products of a few, summed over the widest layers, stay finite in float32.
LARGEST_WEIGHT = 1e9
#: Bytes of a training state besides arrays as large as the model's: a generator's state, a few numbers.
_SLACK = 1 << 20

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be run anywhere, and where it came from.

    ``weights`` are float32 arrays under PyTorch's names; ``record`` is what training says of itself (steps, epochs,
    seconds, validation, versions); ``corpus`` names the text (name, path, fingerprint, splits, sources). ``state`` and
    ``progress`` (tensors and numbers) are all that training needs to go on; empty in a checkpoint only for use.
    ``path`` and ``sha256`` are of the file that it was read from.
    """

    config: Config
    vocabulary: Vocabulary
    weights: Arrays
    corpus: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    state: Arrays = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    sha256: str = ""

    @property
    def parameters(self) -> int:
        """Number of trained values; of an n-gram model, the n-grams that it counts."""
        if self.config.model.kind == "ngram":
            return int(self.record["parameters"])
        return sum(array.size for array in self.weights.values())

    def save(self, path: Path, before: Callable[[], object] = lambda: None) -> None:
        """Write the checkpoint to ``path``, atomically and durably.

        Args:
            before: done once it is whole and durable, and what was at ``path`` is still there.

        Raises:
            ResourceError: no space left.
        """
        from safetensors.numpy import save

        document: dict[str, Any] = {
            "format": FORMAT,
            "config": self.config.to_mapping(),
            "vocabulary": self.vocabulary.to_json(),
            "corpus": self.corpus,
            "record": self.record,
            "progress": self.progress,
        }
        tensors = {name: np.ascontiguousarray(array) for name, array in self.weights.items()}
        tensors |= {_STATE + name: np.ascontiguousarray(array) for name, array in self.state.items()}
        document["sha256"] = _digest(document, tensors)
        blob = save(tensors, metadata={_KEY: json.dumps(document, allow_nan=False)})
        with atomic_write(path, len(blob), before) as stream:
            stream.write(blob)

    @classmethod
    def load(cls, path: Path, *, with_state: bool = False) -> Checkpoint:
        """Read and verify a checkpoint file; ``with_state`` for the training state too.

        Raises:
            CheckpointError: missing, not a checkpoint, damaged, or of another version.
        """
        document, tensors = _read(path)
        config, vocabulary = parts_of(path, document)
        weights = {k: v for k, v in tensors.items() if not k.startswith(_STATE)}
        _check_weights(path, config.model, vocabulary, weights)
        state = {k.removeprefix(_STATE): v for k, v in tensors.items() if k.startswith(_STATE)}
        return cls(
            config,
            vocabulary,
            weights,
            dict(document["corpus"]),
            dict(document["record"]),
            state if with_state else {},
            dict(document["progress"]) if with_state else {},
            path,
            document["sha256"],
        )


def _digest(document: Mapping[str, Any], tensors: Arrays) -> str:
    """SHA-256 of the document without its digest, and of the tensors by name, type, shape and bytes."""
    plain = {key: value for key, value in document.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _header(path: Path) -> tuple[dict[str, Any], int, int]:
    """The JSON header of a safetensors file, where its tensors begin, and the size of the file."""
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            whole = os.fstat(stream.fileno()).st_size
            if not 2 <= size <= min(_MAX_HEADER, whole):
                raise CheckpointError(f"{path}: not a charrnn checkpoint (no safetensors header); nothing was loaded")
            data = stream.read(size)
        if sum(map(data.count, (b"[", b"{", b'"'))) > _MAX_MARKS:
            raise ValueError
        header = read_json(data)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint; charrnn train CORPUS makes one") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a charrnn checkpoint, or damaged; nothing was loaded") from error
    return header, 8 + size, whole


def read_document(path: Path) -> dict[str, Any]:
    """The JSON document of a checkpoint, without reading (or verifying) its tensors.

    Raises:
        CheckpointError: missing, not a charrnn checkpoint, or of another version.
    """
    return _document(path, _header(path)[0])


def _document(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    try:
        document = dict(read_json(header["__metadata__"][_KEY]))
        version = document["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a charrnn checkpoint, or damaged; nothing was loaded") from error
    if version != FORMAT:
        raise CheckpointError(
            f"{path}: format {version!r}, this charrnn reads format {FORMAT}; use the version that wrote it"
        )
    return document


def parts_of(path: Path, document: Mapping[str, Any]) -> tuple[Config, Vocabulary]:
    """The configuration and the vocabulary that a checkpoint's document states.

    Raises:
        CheckpointError: it lacks them, or they cannot be meant.
    """
    try:
        config = Config.from_mapping(document["config"], str(path), CheckpointError)
        vocabulary = Vocabulary.from_json(document["vocabulary"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a charrnn checkpoint (its description lacks or garbles {error})") from error
    try:
        config.model.check_kind()
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}") from None
    missing = [name for name in MODELS[config.model.kind] if getattr(config.model, name) is None]
    if missing:
        raise CheckpointError(f"{path}: its configuration lacks {missing[0]}")
    for name, kind in (("corpus", dict), ("record", dict), ("progress", dict), ("sha256", str)):
        if not isinstance(document.get(name), kind):
            raise CheckpointError(f"{path}: not a charrnn checkpoint (its description lacks or garbles {name!r})")
    if config.model.kind == "ngram" and type(document["record"].get("parameters")) is not int:
        raise CheckpointError(f"{path}: its record does not say how many n-grams it counts")
    return config, vocabulary


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    header, begin, whole = _header(path)
    document = _document(path, header)
    _check_size(path, document, header, begin, whole)
    try:
        tensors = load(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); use another checkpoint of the run") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if document.get("sha256") != _digest(document, tensors):
        raise CheckpointError(f"{path}: damaged (its SHA-256 does not match); use another checkpoint of the run")
    return document, tensors


def _check_size(path: Path, document: Mapping[str, Any], header: Mapping[str, Any], begin: int, whole: int) -> None:
    """Before a file is read into memory: that it is as long as it says, and no longer than its model explains.

    Raises:
        CheckpointError: it is not.
    """
    try:
        end = max(
            (int(value["data_offsets"][1]) for name, value in header.items() if name != "__metadata__"), default=0
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged (its header lacks or garbles {error})") from error
    if begin + end != whole:
        raise CheckpointError(
            f"{path}: damaged ({whole:,} bytes long, {begin + end:,} expected); use another checkpoint of the run"
        )
    config, vocabulary = parts_of(path, document)
    if config.model.kind == "ngram":
        return  # its one tensor is a text, of any length
    weights = 4 * sum(map(math.prod, weight_shapes(config.model, len(vocabulary)).values()))
    hidden = 4 * sum(map(math.prod, state_shapes(config.model, config.training.batch_size or 0)))
    # To go on takes the weights, their average, the best of it, two averages of the gradient, and the hidden state.
    if end > 8 * weights + 2 * hidden + _SLACK:
        raise CheckpointError(f"{path}: {whole:,} bytes are more than its model explains; nothing was loaded")


def within_reach(array: NDArray[np.floating[Any]]) -> bool:
    """Whether these can be weights. Finite is not enough: sums of larger ones are infinite, and figures none."""
    return bool((np.abs(array) <= LARGEST_WEIGHT).all())


def _check_weights(path: Path, config: ModelConfig, vocabulary: Vocabulary, weights: Arrays) -> None:
    expected = weight_shapes(config, len(vocabulary))
    for name in sorted(expected.keys() ^ weights.keys()):
        state = "is missing" if name in expected else "does not belong to the model"
        raise CheckpointError(f"{path}: tensor {name} {state}")
    if config.kind == "ngram":
        text = weights[TEXT]
        if text.ndim != 1 or text.dtype.kind != "u" or not text.size > 0 or text.max() >= len(vocabulary):
            raise CheckpointError(f"{path}: {TEXT}: expected ids below {len(vocabulary)}, and found others, or none")
        return
    for name, shape in expected.items():
        array = weights[name]
        if array.shape != shape or array.dtype != np.float32:
            raise CheckpointError(
                f"{path}: {name}: expected float32 {shape} from the config, found {array.dtype} {array.shape}"
            )
        if not within_reach(array):
            raise CheckpointError(f"{path}: {name} holds values that are not finite, or larger than any training's")


def locate(given: str | None, root: Path = Path("checkpoints"), file: str = BEST) -> Path:
    """The checkpoint file a user means: a file, a run's folder, a run's name, or (``None``) the run trained last.

    A run's name may have a folder before it (``grid/lstm-2``). The run trained last is never one of a sweep: its runs
    are there to be compared, and the one that happened to come last is nobody's choice.

    Raises:
        CheckpointError: there is none; the line says where was looked and how to make one. Or a folder may not be read.
    """
    if given is None:
        runs = [path for path in runs_below(root, file) if not (path.parent.parent / SWEEP).is_file()]
        if not runs:
            raise CheckpointError(f"no trained model under {root}/; start with: charrnn train python-stdlib")
        return max(runs, key=lambda path: path.stat().st_mtime_ns)
    for path in (Path(given), root / given):
        with _permitted():
            # Where only the latest save is gone, there is one before it.
            if (path / file).is_file() or (file == LAST and (path / "last-1.safetensors").is_file()):
                return path / file
            if path.is_file():
                return path
        if path.is_dir() and path.parent != Path(given).parent:
            if inside := sorted(path.glob(f"*/{file}")):
                one = run_name(inside[0].parent, root)
                raise CheckpointError(f"{path}: holds {len(inside)} run(s); name one of them, such as {one}")
            anew = "; begin it anew with train --force" if file == LAST else ""
            raise CheckpointError(f"{path}: the run has no {file} yet{anew}")
    known = sorted(run_name(path.parent, root) for path in runs_below(root, file))
    more = f" and {len(known) - 8} more" if len(known) > 8 else ""
    hint = f"runs here: {', '.join(known[:8])}{more}" if known else "start with: charrnn train python-stdlib"
    raise CheckpointError(f"{given}: no checkpoint, run folder or run of that name; {hint}")


@contextlib.contextmanager
def _permitted() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise CheckpointError(f"{error.filename}: cannot be read ({error.strerror})") from error


def runs_below(root: Path, file: str) -> list[Path]:
    """That file of every run below ``root``, in its own folder or in one of a folder of runs.

    Raises:
        CheckpointError: ``root`` may not be read.
    """
    with _permitted():
        if root.is_dir():
            os.listdir(root)  # of which glob would say nothing
    return [path for path in (*root.glob(f"*/{file}"), *root.glob(f"*/*/{file}")) if path.is_file()]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of checkpoints for a table: their runs' folders where these tell them apart, else the paths.

    >>> short_names([Path("a/best.safetensors"), Path("b/best.safetensors")]), short_names([Path("x")])
    (['a', 'b'], ['x'])
    """
    short = [path.parent.name or str(path) for path in paths]
    return short if len(set(short)) == len(short) else list(map(str, paths))


def run_name(folder: Path, root: Path = Path("checkpoints")) -> str:
    """What to type for the run in ``folder``: its name below ``root`` where it has one, else its path.

    >>> run_name(Path("checkpoints/notes")), run_name(Path("checkpoints/grid/lstm-2")), run_name(Path("/tmp/notes"))
    ('notes', 'grid/lstm-2', '/tmp/notes')
    """
    place, top = folder.resolve(), root.resolve()
    if top in place.parents[:2]:
        return place.relative_to(top).as_posix()
    return str(folder)
