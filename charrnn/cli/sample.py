"""``charrnn sample``: checkpoint → text on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charrnn.cli import options
from charrnn.errors import TextError, UsageError

if TYPE_CHECKING:
    from charrnn.decoding.beam import BeamSearch
    from charrnn.decoding.engine import Engine
    from charrnn.decoding.ensemble import Model
    from charrnn.decoding.generator import Sample, Sampling
    from charrnn.inspection.text import Surprise

CHOOSING, SEARCH, INSIDE = "Choosing", "Beam search", "Looking inside"  # panels of --help
_FLUSH_EVERY = 0.01  # seconds: as smooth as an eye can see, without a system call per character


def sample(
    checkpoints: options.Checkpoints = None,
    shares: options.Shares = None,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="What the text begins with.")] = None,
    prompt_file: Annotated[
        str | None, typer.Option("--prompt-file", metavar="FILE", help="The same from a file; - for standard input.")
    ] = None,
    adapt: Annotated[
        str | None,
        typer.Option(
            "--adapt",
            metavar="F|-",
            help="Let the model learn from this text first, as eval --dynamic does: a file, the training split of a "
            "corpus, or - for standard input. The checkpoint stays as it is.",
        ),
    ] = None,
    adapt_rate: Annotated[
        float | None,
        typer.Option("--adapt-rate", metavar="R", help="Learning rate of --adapt, of networks. Default: 0.0003."),
    ] = None,
    length: Annotated[
        int, typer.Option("--length", metavar="N", help="Characters to generate (bytes, for a model of bytes).")
    ] = 500,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", metavar="TEXT", help="End with the first of these strings; may be given repeatedly."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="How many texts.")] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            metavar="T",
            help="Below 1 more predictable, above 1 more surprising. Default: 1.",
            rich_help_panel=CHOOSING,
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", metavar="K", help="Only the K likeliest characters.", rich_help_panel=CHOOSING),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            metavar="P",
            help="Only the likeliest characters that together reach probability P, after --temperature and --top-k.",
            rich_help_panel=CHOOSING,
        ),
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Always the likeliest character.", rich_help_panel=CHOOSING)
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            help="Repeats a sample exactly. Default: a new one each time, named on stderr.",
            rich_help_panel=CHOOSING,
        ),
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(
            "--beam",
            metavar="K",
            help="Search for the likeliest text, K at a time; with --samples, the best of the K.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(
            "--length-penalty",
            metavar="A",
            help="Above 0, longer texts rank higher; matters with --stop. Default: 0.6.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    no_repeat_ngram: Annotated[
        int | None,
        typer.Option(
            "--no-repeat-ngram",
            metavar="N",
            help="Never generate the same N characters in a row twice.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    clamp: Annotated[
        list[str] | None,
        typer.Option(
            "--clamp",
            metavar="LAYER.UNIT=VALUE",
            help="Hold a cell's output at a value from -1 to 1; inspect cells names cells. May be given repeatedly.",
            rich_help_panel=INSIDE,
        ),
    ] = None,
    show_probabilities: Annotated[
        bool,
        typer.Option(
            "--show-probabilities",
            help="Show how likely each character was, and what was likelier; the text is shown, not written out.",
            rich_help_panel=INSIDE,
        ),
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="|".join(options.DEVICES),
            callback=options.known_device,
            help="Where to compute; auto is the CPU, which is faster but for large batches.",
        ),
    ] = "auto",
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            callback=options.writable_page,
            help="Write --show-probabilities as one self-contained HTML file.",
            rich_help_panel=INSIDE,
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    encoding: options.Encoding = None,
    newlines: options.Newlines = None,
) -> None:
    """Generate text with a trained model.

    Prompt and continuation go to standard output as they are drawn. A stop string is kept in the text.
    """
    given = locals()
    settings = _settings(given)
    if sys.stdout is None:
        raise UsageError("standard output is closed, and the text goes there; send it to a file with > FILE")
    text = _prompt(prompt, prompt_file)

    from charrnn.decoding.beam import BeamSearch
    from charrnn.decoding.ensemble import load

    model = load(checkpoints, shares=shares)
    if adapt is not None:
        model = _adapted(model, given)
    _warn(model, text, stop or [], quiet)
    try:
        if isinstance(settings, BeamSearch):
            _search(model, text, settings, given)
        else:
            _draw(model, text, settings, given)
    except BrokenPipeError:
        # Whoever read our output has enough. What is still buffered must not fail again when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _settings(given: dict[str, Any]) -> Sampling | BeamSearch:
    """The settings that the options give.

    Raises:
        UsageError: the first option that is out of range, or says nothing beside another.
    """
    from charrnn.decoding.beam import BeamSearch
    from charrnn.decoding.filters import FILTERS, option
    from charrnn.decoding.generator import Sampling, check_whole

    if given["prompt"] is not None and given["prompt_file"] is not None:
        raise UsageError("--prompt and --prompt-file: give one of them")
    if given["html"] is not None and not given["show_probabilities"]:
        raise UsageError("--html: is a page of --show-probabilities; add it")
    for name in ("adapt_rate", "encoding", "newlines"):
        if given[name] is not None and given["adapt"] is None:
            raise UsageError(f"{option(name)}: is for --adapt FILE; add it")
    if given["prompt_file"] == given["adapt"] == "-":
        raise UsageError("--prompt-file - and --adapt -: there is one standard input; name a file for one of them")
    drawing = {name: given[name] for name in (*FILTERS, "seed") if given[name] is not None}
    searching = {name: given[name] for name in ("length_penalty", "no_repeat_ngram") if given[name] is not None}
    length, samples, stop = given["length"], given["samples"], tuple(given["stop"] or ())
    if given["greedy"] and given["beam"] is not None:
        raise UsageError("--greedy and --beam: give one of them; --beam 1 is greedy")
    for chosen in ("greedy", "beam"):
        if given[chosen] and drawing:
            raise UsageError(f"{option(next(iter(drawing)))}: nothing is drawn with --{chosen}; leave one out")
    if given["beam"] is None:
        if searching:
            raise UsageError(f"{option(next(iter(searching)))}: works with --beam K")
        drawing.setdefault("seed", int.from_bytes(os.urandom(4), "little"))
        return Sampling(length=length, greedy=given["greedy"], samples=samples, stop=stop, **drawing)
    search = BeamSearch(beam=given["beam"], length=length, stop=stop, **searching)
    check_whole(1, samples=samples)
    if samples > search.beam:
        raise UsageError(f"--samples: --beam {search.beam} finds {search.beam} at most; use a wider beam")
    return search


def _prompt(prompt: str | None, file: str | None) -> str:
    """The prompt's text; what of it no Unicode text can have becomes U+FFFD.

    Raises:
        TextError: the file cannot be read, or is not UTF-8.
    """
    if file is None:
        # An argument's bytes that are not UTF-8 come as lone surrogates.
        return (prompt or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    where = "standard input" if file == "-" else file
    try:
        if file == "-":
            if sys.stdin is None:
                raise TextError("--prompt-file -: standard input is closed; pipe the prompt into it, or name a file")
            data = sys.stdin.buffer.read()
        else:
            data = Path(file).read_bytes()
        return data.decode("utf-8").removeprefix("\ufeff")  # a byte order mark is no part of the text
    except OSError as error:
        raise TextError(f"--prompt-file {file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TextError(f"--prompt-file: {where} is not UTF-8 at byte {error.start}; convert it first") from error


def _adapted(model: Model, given: dict[str, Any]) -> Model:
    """The model after it has read a text once, learning as it goes."""
    from charrnn.cli.console import note, progress_bar
    from charrnn.decoding.ensemble import shares_of
    from charrnn.evaluation.evaluator import text_to_score

    quiet = given["quiet"]
    reading = {name: given[name] for name in ("encoding", "newlines")}
    text = text_to_score(model, given["adapt"], default="train", **reading)
    from charrnn.training.dynamic import Adaptation, adapt

    how = Adaptation.of(model, given["adapt_rate"])
    with progress_bar("reading", quiet) as progress:
        adapted, figures = adapt(model, text.ids, text.bytes, settings=how, device=given["device"], progress=progress)
    noun = model.vocabulary.noun
    found = shares_of(adapted)
    shares = f"; shares {', '.join(f'{share:.3g}' for share in found)}" if found else ""
    said = f"{figures.bits_per_char:.4f} bits per {noun} on the way{shares}"
    note(f"learnt from {figures.characters:,} {noun}s, {said}", quiet)
    return adapted


def _warn(model: Model, prompt: str, stop: list[str], quiet: bool) -> None:
    """Say which characters the model has never seen."""
    from charrnn.cli.console import name_of, note

    unseen = model.vocabulary.unseen(prompt)
    if unseen:
        named = ", ".join(name_of(c) if len(c) == 1 else c for c in unseen[:8])
        more = f" and {len(unseen) - 8} more" if len(unseen) > 8 else ""
        note(f"the model has never seen {named}{more}; it reads the unknown symbol instead", quiet)
    for text in stop:
        if model.vocabulary.unseen(text):
            note(f"--stop {text}: never happens, the model does not have all of its characters", quiet)


def _draw(model: Model, prompt: str, settings: Sampling, given: dict[str, Any]) -> None:
    """Sample, or choose greedily: the first text streams, the others follow when all are done."""
    from charrnn.cli.console import note
    from charrnn.decoding.generator import Generation

    seed = settings.seed
    engine = _engine(model, given, settings.samples)
    generation = Generation(engine, model.vocabulary, prompt, settings, utf8=model.corpus.get("utf8", True))
    paper = None if given["json"] or given["show_probabilities"] else Paper(prompt)
    headings = [f"sample {n + 1} of {settings.samples}, seed {seed + n}" for n in range(settings.samples)]
    several = settings.samples > 1
    began = time.perf_counter()
    try:
        if paper:
            paper.begin(headings[0] if several else None)
        waiting: list[list[str]] = [[] for _ in range(settings.samples)]
        for n, piece in generation:
            if n == 0 and paper:
                paper.write(piece)
            elif n:
                waiting[n].append(piece)
        seconds = time.perf_counter() - began
        if paper:
            paper.end()
            for heading, pieces in zip(headings[1:], waiting[1:], strict=True):
                paper.begin(heading)
                paper.write("".join(pieces))
                paper.end()
    finally:
        if given["seed"] is None and not given["greedy"] and not given["json"]:
            note(f"again: --seed {seed}", given["quiet"])
    if not paper:
        from charrnn.evaluation.evaluator import in_float32

        scored = in_float32(model, prompt, generation.samples, given["device"], _held(engine))
        _report(model, prompt, scored, seconds, None if given["greedy"] else seed, given, headings, _held(engine))


def _search(model: Model, prompt: str, settings: BeamSearch, given: dict[str, Any]) -> None:
    """Beam search: the best, or the n best, and their figures on stderr."""
    from charrnn.cli.console import note
    from charrnn.decoding.beam import beam_search
    from charrnn.evaluation.evaluator import in_float32

    engine = _engine(model, given, settings.beam)
    began = time.perf_counter()
    found = beam_search(engine, model.vocabulary, prompt, settings, utf8=model.corpus.get("utf8", True))
    seconds = time.perf_counter() - began
    best = in_float32(model, prompt, found, given["device"], _held(engine))[: given["samples"]]
    if given["json"] or given["show_probabilities"]:
        headings = [f"{rank} of {len(best)}" for rank in range(1, len(best) + 1)]
        _report(model, prompt, best, seconds, None, given, headings, _held(engine))
        return
    paper = Paper(prompt)
    noun = model.vocabulary.noun
    for rank, one in enumerate(best, 1):
        paper.begin(f"{rank} of {len(best)}" if given["samples"] > 1 else None)
        paper.write(one.data.decode("utf-8", "surrogateescape"))
        paper.end()
        note(f"log-probability {one.log_probability:.4f}, {one.bits_per_char:.4f} bits per {noun}", given["quiet"])


def _engine(model: Model, given: dict[str, Any], batch: int) -> Engine:
    """What draws: the usual engine, or one with some outputs held.

    Raises:
        UsageError: --clamp for several models, for one without cells, or on another device.
    """
    from charrnn.decoding.engine import engine_for

    if not given["clamp"]:
        return engine_for(model, given["device"], batch)
    from charrnn.decoding.clamped import ClampedEngine, parse_clamps
    from charrnn.decoding.ensemble import members

    checkpoint, *others = members(model)
    if others or given["device"] not in ("auto", "cpu"):
        raise UsageError("--clamp: holds cells of one model, on a CPU; leave out the other models and --device")
    return ClampedEngine(checkpoint, parse_clamps(given["clamp"], checkpoint.config.model))


def _held(engine: Engine) -> Engine | None:
    """The engine itself if outputs are held in it: then figures are by it too."""
    from charrnn.decoding.clamped import ClampedEngine

    return engine if isinstance(engine, ClampedEngine) else None


def _probabilities(model: Model, prompt: str, one: Sample, held: Engine | None) -> tuple[list[str], Surprise]:
    """A sample's characters as they are shown, and how surprising each was."""
    from charrnn.evaluation.evaluator import ids_of, scoring_engine
    from charrnn.inspection.subject import symbols_of
    from charrnn.inspection.text import surprise

    ids = ids_of(model.vocabulary, one)
    engine = held or scoring_engine(model, len(prompt) + len(ids))
    unit = model.vocabulary.unit
    symbols = symbols_of(one.text if unit == "char" else one.data.decode("latin-1"), unit)
    return symbols, surprise(engine, model.vocabulary, ids, prompt=prompt)


def _report(
    model: Model,
    prompt: str,
    samples: Sequence[Sample],
    seconds: float,
    seed: int | None,
    given: dict[str, Any],
    headings: Sequence[str],
    held: Engine | None,
) -> None:
    """Samples with their figures, as JSON; or painted with their probabilities, also as a page."""
    from charrnn.cli.output import present
    from charrnn.decoding.ensemble import shares_of
    from charrnn.inspection.report import Block, Note, Report

    shows = [_probabilities(model, prompt, one, held) for one in samples] if given["show_probabilities"] else []
    blocks: list[Block] = []
    for heading, (symbols, surprise) in zip(headings, shows, strict=False):  # no shows without the option
        blocks += [Note(heading)] if len(samples) > 1 else []
        blocks += [surprise.painted(symbols), surprise.table(symbols)]
    listed = []
    for number, one in enumerate(samples):
        entry: dict[str, Any] = {"text": one.text, "nats": one.nats, "log_probability": one.log_probability}
        entry |= {"seed": one.seed if seed is not None else None, "characters": one.characters}
        if shows:
            symbols, surprise = shows[number]
            entry["probabilities"] = surprise.to_json(symbols)
        listed.append(entry if one.score is None else entry | {"score": one.score})
    document = {
        "schema": 1,
        "checkpoint": str(model.path),
        "shares": shares_of(model),
        "adapted_to": given["adapt"],
        "prompt": prompt,
        "samples": listed,
        "characters_per_second": sum(one.characters for one in samples) / max(seconds, 1e-9),
    }
    about = [str(model.path)] + ([f"after {prompt!r}"] if prompt else [])
    present(Report("Probabilities", blocks, document), *about, json=given["json"], html=given["html"])


class Paper:
    """Standard output, for generated text.

    A pipe or file gets the exact bytes. A terminal gets them with what it would obey made visible, in whatever
    encoding it has, the prompt dimmed, and a newline at the end. Nothing here is Rich's: text is data, not markup.
    """

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self._terminal = sys.stdout.isatty()
        self._colour = self._terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._flushed = 0.0
        self._last = ""

    def begin(self, heading: str | None = None) -> None:
        """Start a text: its heading, if there are several, and the prompt."""
        if heading is not None:
            self._put(f"--- {heading} ---\n")
        if self.prompt:
            self._put("\x1b[2m" if self._colour else "")
            self.write(self.prompt)
            self._put("\x1b[22m" if self._colour else "")
        self._headed = heading is not None

    def write(self, text: str) -> None:
        """Some text; its first character appears at once."""
        from charrnn.visible import show

        self._put(show(text) if self._terminal else text)
        self._last = text or self._last
        now = time.perf_counter()
        if now - self._flushed > _FLUSH_EVERY:
            sys.stdout.flush()
            self._flushed = now

    def end(self) -> None:
        """End the text; a terminal's next line, and the next text's heading, begin on a line of their own."""
        if (self._terminal or self._headed) and not self._last.endswith("\n"):
            self._put("\n")
        sys.stdout.flush()

    def _put(self, text: str) -> None:
        if self._terminal:
            encoding = sys.stdout.encoding or "ascii"
            sys.stdout.buffer.write(text.encode(encoding, "backslashreplace"))
        else:
            sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
