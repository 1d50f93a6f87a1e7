"""The settings of :mod:`charrnn.config` as options of a command: each is declared once, there."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from charrnn.config import Config, ModelConfig, Setting, Settings, TrainingConfig, flag

_GROUPS: dict[type[Settings], str] = {ModelConfig: "Model", TrainingConfig: "Training"}


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command with a ``**settings`` parameter one option per setting."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    for group, panel in _GROUPS.items():
        for item in dataclasses.fields(group):
            kind = _annotation(item.name, item.metadata["setting"], panel)
            parameters.append(
                inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            )
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _annotation(name: str, setting: Setting, panel: str) -> Any:
    kind = {"int": int, "float": float, "bool": bool}.get(setting.kind, str)
    option = flag(name)
    if kind is bool:
        option += "/" + flag(f"no_{name}")
    metavar = {"duration": "TIME", "interval": "STEPS|TIME"}.get(setting.kind)
    if setting.choices:
        metavar = "|".join(setting.choices)
    return Annotated[
        kind | None,
        typer.Option(option, help=setting.help, metavar=metavar, rich_help_panel=panel, show_default=False),
    ]


def config_of(values: dict[str, Any]) -> Config:
    """The settings that were given on the command line."""
    groups = [group(**{name: values[name] for name in group.names() if name in values}) for group in _GROUPS]
    return Config(*groups)  # type: ignore[arg-type]
