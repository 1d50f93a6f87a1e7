"""``charrnn compress`` and ``charrnn decompress``: any file, by what a model expects of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from charrnn.cli import options
from charrnn.cli.output import check_output, write_output
from charrnn.errors import UsageError

SUFFIX = ".crnn"

_Input = Annotated[str, typer.Argument(metavar="FILE", help="Any file, text or not.", show_default=False)]
_Compressed = Annotated[
    str, typer.Argument(metavar="FILE", help="What charrnn compress has written.", show_default=False)
]
_CompressedTo = Annotated[
    str | None, typer.Option("--output", metavar="FILE", help=f"Where to write. Default: FILE{SUFFIX}.")
]
_DecompressedTo = Annotated[
    str | None, typer.Option("--output", metavar="FILE", help=f"Where to write. Default: FILE without {SUFFIX}.")
]
_Force = Annotated[bool, typer.Option("--force", help="Replace the output if it is there.")]
_Coders = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CHECKPOINT",
        help="As compress was given them. Default: the run under checkpoints/ that the file was compressed with.",
        show_default=False,
    ),
]


def compress_command(
    file: _Input,
    checkpoints: options.Checkpoints = None,
    output: _CompressedTo = None,
    force: _Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compress a file by a model: what the model expects takes few bits.

    No bit is lost, whatever the file holds; it is decoded once more before success is said. The checkpoint is needed to
    decompress, and so is the same way to compute: promised is this machine, with any number of threads, and this
    version of charrnn. Elsewhere it may be refused; it is never decoded to something else.
    """
    from charrnn.cli.console import Facts, note, print_json, progress_bar
    from charrnn.compression.coding import coder
    from charrnn.compression.container import KINDS, compress
    from charrnn.decoding.ensemble import load

    coder()
    target = _target(file + SUFFIX if output is None else output, force)
    model = load(checkpoints)
    data = _bytes(file)
    begin = time.monotonic()
    with progress_bar("compressing", quiet or json) as progress:
        done = compress(model, data, progress)
    write_output(target, done.blob)
    seconds = time.monotonic() - begin
    size, bits = len(done.blob), 8 * len(done.blob)
    document: dict[str, Any] = {
        "schema": 1,
        "checkpoint": str(model.path),
        "file": file,
        "output": str(target),
        "bytes": len(data),
        "compressed_bytes": size,
        "ratio": size / len(data) if data else None,
        "characters": done.characters,
        "unseen": done.unseen,
        "bits_per_char": bits / done.characters if data else None,
        "bits_per_byte": bits / len(data) if data else None,
        "engine": list(done.kinds),
        "seconds": round(seconds, 4),
    }
    if json:
        print_json(document)
        return
    if done.unseen:
        note(f"{done.unseen:,} characters of the file are not in the model's vocabulary, and cost the most", quiet)
    fact = Facts()
    fact("model", document["checkpoint"])
    fact("file", f"{file}: {len(data):,} bytes")
    fact("compressed", f"{target}: {size:,} bytes" + (f", {size / len(data):.1%} of the file" if data else ""), "bold")
    if data:
        fact("bits per character", f"{document['bits_per_char']:.4f}, all that the file has counted")
    computed = " and ".join(dict.fromkeys(KINDS[kind] for kind in done.kinds))
    fact("checked", f"decodes to the same; by {computed}, {seconds:.2f} s")
    fact.print()


def decompress_command(
    file: _Compressed,
    checkpoints: _Coders = None,
    output: _DecompressedTo = None,
    force: _Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Restore a file that charrnn compress has written, byte for byte.

    It takes the checkpoint that compressed it, on the machine and with the version that did. What cannot be decoded is
    refused, and nothing is written.
    """
    from charrnn.cli.console import Facts, print_json, progress_bar
    from charrnn.compression.coding import coder
    from charrnn.compression.container import decompress, find
    from charrnn.decoding.ensemble import load

    coder()
    if output is None and (not file.endswith(SUFFIX) or Path(file).name == SUFFIX):
        raise UsageError(f"{file}: does not end in {SUFFIX}; say with --output FILE where to write")
    target = _target(file.removesuffix(SUFFIX) if output is None else output, force)
    blob = _bytes(file)
    model = load(checkpoints or [str(find(blob, file))])
    begin = time.monotonic()
    with progress_bar("decompressing", quiet or json) as progress:
        data = decompress(model, blob, file, progress)
    write_output(target, data)
    seconds = time.monotonic() - begin
    document: dict[str, Any] = {
        "schema": 1,
        "checkpoint": str(model.path),
        "file": file,
        "output": str(target),
        "bytes": len(data),
        "compressed_bytes": len(blob),
        "seconds": round(seconds, 4),
    }
    if json:
        print_json(document)
        return
    fact = Facts()
    fact("model", document["checkpoint"])
    fact("file", f"{file}: {len(blob):,} bytes")
    fact("decompressed", f"{target}: {len(data):,} bytes, the same as were compressed, {seconds:.2f} s", "bold")
    fact.print()


def _target(name: str, force: bool) -> Path:
    """Where to write.

    Raises:
        UsageError: no file can be there, or one is, and is not to be replaced.
    """
    path = Path(name)
    check_output("--output", path)
    if path.exists() and not force:
        raise UsageError(f"{name}: is there already; add --force to replace it, or name another --output")
    return path


def _bytes(name: str) -> bytes:
    """All of a file, as it is.

    Raises:
        TextError: it cannot be read.
    """
    from charrnn.data.reading import unreadable
    from charrnn.errors import TextError

    try:
        return Path(name).read_bytes()
    except IsADirectoryError as error:
        raise TextError(f"{name}: is a folder; name one file, such as an archive of it") from error
    except OSError as error:
        raise unreadable(name, error) from error
    except ValueError as error:  # a NUL in the name
        raise TextError(f"{name!r}: cannot be the name of a file") from error
