"""Options of a command line from the fields of a configuration class."""

import dataclasses
import inspect
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from sparc.common.cli.completion import autocompletion
from sparc.common.cli.suggestions import constants
from sparc.common.errors import ConfigError

_FORMER = "former_"
"""Begins the name of a parameter for a setting's former name: no field is called so."""


_LONGEST_METAVAR = 40
"""Characters of a list of choices that stands beside its option."""


def options_of(config_class: type | None, table: str) -> list[inspect.Parameter]:
    """An option for each field, and `--config`.

    Args:
        config_class: A configuration class; None has no options.
        table: The table of the `--config` file that holds its settings.
    """
    if config_class is None:
        return []
    hints = typing.get_type_hints(config_class)
    file_option = _keyword(
        "config",
        Path | None,
        typer.Option(
            "--config", metavar="FILE.toml", help=f"Settings from this file's [{table}] table."
        ),
    )
    fields = dataclasses.fields(config_class)
    decided = config_class() if any(f.metadata["default_by"] for f in fields) else None
    return [
        file_option,
        *(_option(f, hints[f.name], _default_shown(f, decided)) for f in fields),
        *(_former_option(f, hints[f.name]) for f in fields if f.metadata["former"]),
    ]


def _former_option(field: "dataclasses.Field[Any]", hint: Any) -> inspect.Parameter:
    """The option of a renamed setting as it was called before: it works, and no help shows it."""
    flag = "--" + field.metadata["former"].replace("_", "-")
    return _keyword(
        _FORMER + field.name, _annotation(hint), typer.Option(_both_ways(flag, hint), hidden=True)
    )


def _default_shown(field: "dataclasses.Field[Any]", config: Any) -> str:
    """The end of an option's help: its default, or nothing where that is nothing.

    Args:
        field: The field of the configuration.
        config: The configuration where nothing is given, for what another setting decides.
    """
    declared = field.metadata["default"]
    shown = "" if declared in (None, (), "") else _shown(declared)
    if decider := field.metadata["default_by"]:
        decided = _shown(getattr(config, field.name))
        if decided != shown:
            decision = f"{decider} {getattr(config, decider)}"
            shown = f"{decided or 'none'} with {decision}, else {shown or 'none'}"
    return f" [default: {shown}]" if shown else ""


def _option(field: "dataclasses.Field[Any]", hint: Any, default: str) -> inspect.Parameter:
    """The command line option of one configuration field: absent means 'as configured'."""
    flag = flag_of(field)
    # An absent option must differ from one that repeats the default, so typer's default is
    # None, and the real one is part of the help.
    choices = field.metadata["choices"]
    suggest = field.metadata["suggest"]
    if suggest is None and choices is not None:
        suggest = constants(*choices)
    metavar = f"<{'|'.join(choices)}>" if choices is not None else None
    if metavar is not None and len(metavar) > _LONGEST_METAVAR:
        metavar = "<name>"  # the help lists them
    info = typer.Option(
        _both_ways(flag, hint),
        help=field.metadata["help"] + default,
        show_default=False,
        metavar=metavar,
        autocompletion=autocompletion(suggest) if suggest is not None else None,
    )
    return _keyword(field.name, _annotation(hint), info)


def flag_of(field: "dataclasses.Field[Any]") -> str:
    """What a setting is called on the command line, `--` included."""
    return str(field.metadata["flag"] or "--" + field.name.replace("_", "-"))


def _both_ways(flag: str, hint: Any) -> str:
    """A flag as typer declares it: a switch can be turned off as well."""
    return f"{flag}/--no-{flag.removeprefix('--')}" if _without_none(hint) is bool else flag


def _annotation(hint: Any) -> Any:
    """What typer converts to: None where the option is absent."""
    inner = _without_none(hint)
    return (list[get_args(inner)[0]] if get_origin(inner) is tuple else inner) | None  # type: ignore[misc]


def typed_settings(config_class: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """The settings among typer's arguments that were typed, by field; they are taken out of these.

    Raises:
        ConfigError: One was typed under its present name and its former one.
    """
    typed: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        for argument in (field.name, _FORMER + field.name):
            value = arguments.pop(argument, None)
            if value in (None, [], ()):
                continue
            if field.name in typed:
                former = field.metadata["former"]
                raise ConfigError(f"{field.name} is given twice, once by its former name {former}")
            typed[field.name] = value
    return typed


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = [a for a in get_args(hint) if a is not type(None)]
        return inner
    return hint


def _keyword(name: str, annotation: Any, info: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, info],
    )


DEBUG = _keyword(
    "debug", bool, typer.Option("--debug", help="Show the traceback of an error."), default=False
)
