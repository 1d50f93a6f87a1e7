"""``charrnn prepare``: text → prepared corpus, and a report of what was found in it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from charrnn.cli import options

if TYPE_CHECKING:
    from charrnn.cli.console import Facts
    from charrnn.data.corpus import Corpus

_NAMED = 12  # characters named in a line of the report; a text may have thousands


def prepare(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, folders, globs, '-' for standard input, or a registered name: python-stdlib, shakespeare. "
            ".gz, .bz2 and .xz are unpacked.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The corpus's name. Default: the first source's.")
    ] = None,
    unit: options.Unit = None,
    split: options.Split = None,
    pattern: options.Pattern = None,
    encoding: options.Encoding = None,
    newlines: options.Newlines = None,
    min_count: options.MinCount = None,
    output: options.Output = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn text into a corpus to train on.

    Sources are joined in the order given and written once, as numbers, to corpora/NAME.
    """
    from charrnn.cli.console import note, print_json, progress_bar
    from charrnn.data import corpus as corpora
    from charrnn.data.workers import cores

    settings = options.prepare_settings(unit, split, pattern, encoding, newlines, min_count)
    with progress_bar("preparing", quiet) as progress:
        corpus = corpora.prepare(
            source,
            name=name,
            output=output,
            settings=settings,
            force=force,
            progress=progress,
            notify=lambda line: note(line, quiet),
            processes=cores(),
        )
    if json:
        print_json(summary(corpus))
    else:
        report(corpus).print()


def summary(corpus: Corpus) -> dict[str, object]:
    """What is known of a corpus, for ``--json``."""
    vocabulary = corpus.vocabulary
    return {
        "schema": 1,
        "corpus": corpus.name,
        "path": str(corpus.path),
        "unit": vocabulary.unit,
        "characters": corpus.characters,
        "bytes": corpus.bytes,
        "distinct": corpus.distinct,
        "vocabulary_size": len(vocabulary),
        "unknown": corpus.unknown,
        "splits": {
            name: {
                "start": part.start,
                "end": part.end,
                "characters": part.characters,
                "bytes": part.bytes,
                "unknown": part.unknown,
            }
            for name, part in corpus.splits.items()
        },
        "encodings": list(corpus.encodings),
        "line_ends": corpus.line_ends,
        "utf8": corpus.utf8,
        "sources": [{"path": s.path, "bytes": s.size, "sha256": s.sha256} for s in corpus.sources],
        "settings": corpus.settings.to_json(),
        "fingerprint": corpus.fingerprint,
    }


def report(corpus: Corpus) -> Facts:
    """What is known of a corpus, for people: one line a fact. Characters of the text are data, never markup."""
    from charrnn.cli.console import Facts

    fact = Facts()

    byte = corpus.vocabulary.unit == "byte"
    fact("corpus", str(corpus.path), "bold")
    if len(corpus.sources) > 1:
        fact("sources", f"{len(corpus.sources):,} files")
    fact("bytes" if byte else "characters", f"{corpus.characters:,}" + ("" if byte else f" ({corpus.bytes:,} bytes)"))
    fact("distinct", f"{corpus.distinct:,}{_folded(corpus)}")
    for title, listing in (("rare", rare(corpus)), ("odd", odd(corpus))):
        if listing:
            fact(title, listing)
    fact("encoding", _encoding(corpus))
    fact("line ends", _line_ends(corpus))
    if corpus.line_ends["cr"] and corpus.settings.newlines == "keep":
        fact("", "lone CRs are uncommon: --newlines lf makes every line end a newline", "yellow")
    parts = [f"{split} {part.characters:,}" for split, part in corpus.splits.items()]
    fact("splits", " · ".join(parts))
    if corpus.splits["train"].characters < 2:
        fact("", "there is nothing to train on: use more text, or another --split", "yellow")
    fact("next", shlex.join(["charrnn", "train", *corpus.arguments()]), "green")
    return fact


def rare(corpus: Corpus) -> str:
    """The printable characters that occur once or twice, rarest first: often slips that --min-count removes."""
    vocabulary = corpus.vocabulary
    found = [(n, i) for i, n in enumerate(vocabulary.counts) if n <= 2 and not _is_odd(corpus, i)]
    return _listing(corpus, sorted(found))


def odd(corpus: Corpus) -> str:
    """The characters that are not seen on a page, commonest first: control, invisible, private, replaced."""
    vocabulary = corpus.vocabulary
    found = [(n, i) for i, n in enumerate(vocabulary.counts) if _is_odd(corpus, i)]
    return _listing(corpus, sorted(found, reverse=True))


def _is_odd(corpus: Corpus, index: int) -> bool:
    character = corpus.vocabulary.character(index)
    if len(character) > 1 or character in "\n\r\t":  # bytes above 127 are odd only if they are not UTF-8
        return False
    return not character.isprintable() or character == "\N{REPLACEMENT CHARACTER}"


def _listing(corpus: Corpus, found: list[tuple[int, int]]) -> str:
    from charrnn.cli.console import name_of

    def named(index: int) -> str:
        character = corpus.vocabulary.character(index)
        return character if len(character) > 1 else name_of(character)

    text = ", ".join(f"{named(index)} ×{count:,}" for count, index in found[:_NAMED])
    return text + (f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else "")


def _folded(corpus: Corpus) -> str:
    folded = corpus.distinct - len(corpus.vocabulary.codes)
    if not folded:
        return ""
    return f", of which {folded:,} ({corpus.unknown:,} characters) are folded into unknown"


def _encoding(corpus: Corpus) -> str:
    if corpus.vocabulary.unit == "byte":
        return "bytes" + (", valid UTF-8" if corpus.utf8 else ", not UTF-8")
    names = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8 with a byte order mark"}
    return ", ".join(names.get(encoding, encoding) for encoding in corpus.encodings)


def _line_ends(corpus: Corpus) -> str:
    names = {"lf": "LF", "crlf": "CRLF", "cr": "lone CR"}
    seen = ", ".join(f"{names[kind]} ×{count:,}" for kind, count in corpus.line_ends.items() if count)
    return (seen or "none") + (", folded to LF" if seen and corpus.settings.newlines == "lf" else "")
