"""``charrnn inspect VIEW``: one command for each view, made from the registry of views."""

from __future__ import annotations

import inspect as signatures
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from charrnn.cli import options
from charrnn.cli.output import present
from charrnn.errors import UsageError
from charrnn.inspection import LONGEST, VIEWS, Option, View

inspect_app = typer.Typer(
    help="Look inside a trained model.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_TEXT = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="F|-",
        help="Text to look at: a file, a corpus, or - for standard input; else the model's validation text.",
    ),
]
_SAMPLE = Annotated[
    str | None,
    typer.Option(
        "--text", metavar="F|-", help="The sample: a file, a corpus, or - for standard input; else one is drawn."
    ),
]
_LENGTH = Annotated[int, typer.Option("--length", min=1, max=LONGEST, help="Characters of the text to look at.")]


def look(
    name: str,
    arguments: tuple[str, ...],
    checkpoints: list[str] | None,
    chosen: dict[str, Any],
    *,
    text: str | None,
    length: int | None,
    encoding: str | None,
    newlines: str | None,
    as_json: bool,
    html: Path | None,
) -> None:
    """Run a view and show its report where it is wanted: in an HTML file, as JSON, or in the terminal."""
    from charrnn.checkpoint import Checkpoint, locate
    from charrnn.inspection import inspect
    from charrnn.inspection.subject import Subject

    def subject_of(checkpoint: Checkpoint) -> Subject:
        if text is None and length is None:
            return Subject.of(checkpoint, "", "no text")
        return Subject.named(checkpoint, text, length, encoding=encoding, newlines=newlines)

    if text is None and (encoding, newlines) != (None, None):
        raise UsageError("--encoding, --newlines: are for a plain text; name one with --text")
    if text == "-" and len(checkpoints or ()) > 1:
        raise UsageError("--text -: is read once; name a file to look at it with several models")
    subjects = [subject_of(Checkpoint.load(locate(each))) for each in checkpoints or (None,)]
    report = inspect(name, subjects, *arguments, **chosen)
    subject = subjects[0]
    about = [str(each.checkpoint.path) for each in subjects] + ([subject.name] if len(subject.ids) else [])
    present(report, *about, json=as_json, html=html)


def _annotation(name: str, option: Option) -> Any:
    flag = "--" + name.replace("_", "-")
    if isinstance(option.default, tuple):
        return Annotated[list[str] | None, typer.Option(flag, metavar=option.metavar, help=option.help)]
    return Annotated[type(option.default), typer.Option(flag, min=option.minimum, max=option.maximum, help=option.help)]


def command(name: str, view: View) -> Callable[..., None]:
    """The command of a view: a function with the signature that its entry in the registry asks for."""
    annotations: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    if view.argument:
        metavar, help = view.argument
        annotations["argument"] = Annotated[str, typer.Argument(metavar=metavar, help=help)]
    annotations["checkpoint"] = options.Checkpoints if view.several else options.Checkpoint
    defaults["checkpoint"] = None
    if view.length is not None:
        annotations["text"], defaults["text"] = _TEXT if view.length else _SAMPLE, None
    if view.length:
        annotations["text_length"], defaults["text_length"] = _LENGTH, view.length
    for option_name, option in view.options:
        default = None if isinstance(option.default, tuple) else option.default
        annotations[option_name], defaults[option_name] = _annotation(option_name, option), default
    if view.length is not None:
        annotations |= {"encoding": options.Encoding, "newlines": options.Newlines}
        defaults |= {"encoding": None, "newlines": None}
    annotations["as_json"], defaults["as_json"] = options.Json, False
    annotations["html"], defaults["html"] = options.Html, None

    def run(**given: Any) -> None:
        chosen = {n: tuple(given[n] or ()) if isinstance(o.default, tuple) else given[n] for n, o in view.options}
        named = given["checkpoint"]
        look(
            name,
            (given["argument"],) if view.argument else (),
            named if view.several or named is None else [named],
            chosen,
            text=given.get("text"),
            length=given.get("text_length"),
            encoding=given.get("encoding"),
            newlines=given.get("newlines"),
            as_json=given["as_json"],
            html=given["html"],
        )

    run.__doc__ = view.help
    run.__annotations__ = annotations
    run.__signature__ = signatures.Signature(  # type: ignore[attr-defined]
        [
            signatures.Parameter(
                n,
                signatures.Parameter.POSITIONAL_OR_KEYWORD,
                default=defaults.get(n, signatures.Parameter.empty),
                annotation=annotation,
            )
            for n, annotation in annotations.items()
        ]
    )
    return run


for _name, _view in VIEWS.items():
    inspect_app.command(_name)(command(_name, _view))
