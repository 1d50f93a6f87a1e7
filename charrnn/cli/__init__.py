"""The command line: the only part that knows Typer and Rich, prints, and exits."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from charrnn import __version__
from charrnn.cli.compare import compare
from charrnn.cli.compress import compress_command, decompress_command
from charrnn.cli.eval import evaluate_command
from charrnn.cli.info import info
from charrnn.cli.inspect import inspect_app
from charrnn.cli.prepare import prepare
from charrnn.cli.sample import sample
from charrnn.cli.score import score
from charrnn.cli.sweep import sweep
from charrnn.cli.train import train
from charrnn.errors import CharRNNError

#: Seconds.
_OTHERS_WAIT = 2


class _Commands(TyperGroup):
    """Runs a command; an error that a user can cause becomes one line on stderr and its exit code."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _one_line():  # the options before the command, of which --help and --version print
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _one_line(lambda: self._options(ctx)):
            return super().invoke(ctx)

    def _options(self, ctx: Any) -> set[str]:
        """The options of the command that was called."""
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        return {option for parameter in command.params for option in parameter.opts} if command else set()


#: Options of which less takes less memory.
_SIZES = ("--batch-size", "--hidden-size", "--order", "--length", "--samples")


def _lighter(options: set[str], on_device: bool) -> str:
    """What to try where memory did not suffice, by the options that the command has."""
    sizes = [option for option in _SIZES if option in options]
    if on_device and "--device" in options and "--batch-size" not in options:
        return "try --device cpu"
    return f"try a smaller {' or '.join(sizes)}" if sizes else "try a shorter text"


@contextlib.contextmanager
def _one_line(options: Callable[[], set[str]] = set) -> Iterator[None]:
    try:
        yield
    except CharRNNError as error:
        _leave(str(error), error.exit_code)
    except KeyboardInterrupt as error:
        _leave(str(error) or "interrupted", 130)
    except (BrokenPipeError, SystemExit):  # nothing but Rich leaves by SystemExit here, when nobody reads
        _drop_output()
        raise typer.Exit(0) from None
    except OSError as error:
        # A folder or file of the user's that cannot be used, wherever it was met; exit code 2 for a bad name.
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"{where}{error.strerror or error}", 2 if error.errno == errno.ENAMETOOLONG else 6)
    except MemoryError:
        _leave(f"out of memory; {_lighter(options(), False)}", 6)
    except RuntimeError as error:
        # PyTorch has no class of its own for a CPU's memory; a GPU's is a RuntimeError too, in other words.
        if any(said in str(error) for said in ("not enough memory", "can't allocate memory")):
            _leave(f"out of memory; {_lighter(options(), False)}", 6)
        if "out of memory" not in str(error):
            raise
        _leave(f"out of memory on the device; {_lighter(options(), True)}", 6)
    except Exception as error:
        # Typer's own errors are printed by Typer, with what was typed in them.
        if isinstance(getattr(error, "message", None), str):
            from charrnn.visible import show

            error.message = show(error.message)  # type: ignore[attr-defined]
        raise


def _drop_output() -> None:
    """Whoever read our output has enough, or there is no room for it: what is buffered must not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(message: str, code: int) -> None:
    from charrnn.cli.console import note

    if rank := int(os.environ.get("RANK", "0")) if "TORCHELASTIC_RUN_ID" in os.environ else 0:
        # What went wrong in all processes is said by the first one; torchrun then ends the others in a moment.
        time.sleep(_OTHERS_WAIT)
        message = f"process {rank}: {message}"
    note(f"charrnn: {message}")
    raise typer.Exit(code) from None


app = typer.Typer(
    name="charrnn",
    cls=_Commands,
    help="Character-level text generation with recurrent networks: train, sample, measure, look inside.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="First steps:  charrnn train python-stdlib --time-limit 2m   then   charrnn sample --beam 5",
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "prepare": prepare,
    "train": train,
    "sweep": sweep,
    "sample": sample,
    "eval": evaluate_command,
    "info": info,
    "compare": compare,
    "score": score,
    "compress": compress_command,
    "decompress": decompress_command,
}
for name, command in _COMMANDS.items():
    # A paragraph of the docstring is one line, for the terminal to wrap.
    paragraphs = cleandoc(command.__doc__ or "").split("\n\n")
    app.command(name, help="\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))(command)
app.add_typer(inspect_app, name="inspect", cls=_Commands)


def _version(asked: bool) -> None:
    if asked:
        print(f"charrnn {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The ``charrnn`` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that its encoding lacks is printed as its number, and is no error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as end:
        code = _finish(end.code)
        # All files are written and closed. PyTorch's threads may still run while the interpreter takes the process
        # apart, which then aborts now and then (seen after Ctrl-C in a terminal): leave without taking it apart.
        if "torch" in sys.modules and isinstance(code, int | None):
            with contextlib.suppress(OSError, AttributeError):
                sys.stderr.flush()
            os._exit(code or 0)
        sys.exit(code)


def _finish(code: str | int | None) -> str | int | None:
    """Write what is still buffered; another exit code where somebody waits for it and it cannot be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _drop_output()
        if not code and not isinstance(error, BrokenPipeError):
            from charrnn.cli.console import note

            note(f"charrnn: standard output: {error.strerror or error}")
            return 6
    return code
