"""Configuration: one frozen dataclass a command, which is its TOML table and its options alike.

A command's configuration class declares every setting once, with `option(default, help)`.
`load_config` builds it from a TOML table overridden by what was typed; `sparc.common.cli` turns
the same fields into command line options. Cross-field rules live in the class's `__post_init__`
and raise `ConfigError`. This module must not know any particular configuration class.
"""

import dataclasses
import difflib
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from sparc.common.errors import ConfigError, UnknownSettingError
from sparc.common.files.paths import path_here
from sparc.common.parsing import read_toml
from sparc.common.text import shorten

T = TypeVar("T")

Suggest = Callable[[Mapping[str, Any], str], Iterable[str]]
"""What a shell may offer for a value, by the arguments typed so far (by parameter) and the value's
beginning. It reads folders of this machine and is quick: see `sparc.common.cli.suggestions`."""

TABLES = (
    *("extract", "import_features", "train", "align", "match", "join", "save", "export"),
    *("import_dictionary", "analyze", "compare", "concepts", "show", "search", "bias", "name"),
    *("browse", "stability", "localize", "pipeline"),
)
"""The tables that one `--config FILE.toml` may hold: one for each command with settings."""


class _Unset:
    """The type of `UNSET`."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset()
"""What a setting holds until another one decides its default: see `sparc.common.defaults`."""


def option(
    default: Any,
    help: str,
    *,
    flag: str | None = None,
    former: str | None = None,
    former_values: Mapping[str, str] | None = None,
    added: bool = False,
    swept: bool = False,
    changeable: bool = False,
    choices: Collection[str] | None = None,
    default_by: str | None = None,
    suggest: Suggest | None = None,
) -> Any:
    """Declare a setting of a configuration dataclass.

    Args:
        default: The value where neither TOML nor the command line says otherwise. Immutable.
        help: One line for `--help`.
        flag: The option's name on the command line where it is not the field's own name
            (`--stream` for a repeatable field called `streams`).
        former: What the setting was called before. Configuration files, command lines and
            documents of artefacts may still say it.
        former_values: What choices were called before, and what they are called now.
        added: Whether records were written before there was such a setting: while it has its
            default a record leaves it out, so that earlier versions read it and its bytes stay.
        swept: Whether a sweep may vary it between its runs.
        changeable: Whether a resumed run may change it.
        choices: What the setting may be, such as the names in a registry. They are looked up
            whenever a value is checked, so that what was registered since is known.
        default_by: The setting that may decide another default. The field is then `UNSET` where
            no value is given, and the class's `__post_init__` has to call
            `sparc.common.defaults.set_defaults`.
        suggest: What a shell offers for it; without it, the choices.
    """
    metadata = {
        "default": default,
        "help": help,
        "flag": flag,
        "former": former,
        "former_values": former_values or {},
        "added": added,
        "swept": swept,
        "changeable": changeable,
        "choices": choices,
        "default_by": default_by,
        "suggest": suggest,
    }
    return dataclasses.field(default=UNSET if default_by else default, metadata=metadata)


def declared(
    config_class: type[Any], what: Literal["added", "swept", "changeable", "default_by"]
) -> list[str]:
    """The settings that were declared so, in the order of their fields."""
    return [f.name for f in dataclasses.fields(config_class) if f.metadata[what]]


def load_config(
    config_class: type[T], table: str, path: Path | None, overrides: Mapping[str, Any]
) -> T:
    """Build a configuration from a TOML file's table, overridden by options.

    Args:
        config_class: A frozen dataclass whose fields were declared with `option`.
        table: Which of `TABLES` to read from the file.
        path: The TOML file; None reads nothing. Its keys are names of fields or of options.
        overrides: Settings by field name; they win over the file.

    Raises:
        ConfigError: The file cannot be read, a key is unknown, a value has the wrong type, or the
            class refuses the combination.
    """
    source = f"{path} [{table}]" if path is not None else "configuration"
    values: dict[str, Any] = {}
    if path is not None:
        written = with_current_names(config_class, _read_table(path, table), source=source)
        values = lists_of_one(config_class, written)
    return from_mapping(config_class, {**values, **overrides}, source=source)


def from_mapping(config_class: type[T], values: Mapping[str, Any], *, source: str) -> T:
    """Build a configuration from plain values, checking names and types.

    Args:
        config_class: A dataclass.
        values: Settings by field name, present or former; TOML and JSON types (lists stand for
            tuples).
        source: Where the values come from, for the error message.

    Raises:
        UnknownSettingError: No field has that name.
        ConfigError: A setting is missing, given twice, or of the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(config_class)
    arguments: dict[str, Any] = {}
    for name, value in with_current_names(config_class, values, source=source).items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            advice = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(fields)}"
            raise UnknownSettingError(f"{source}: unknown setting {name!r}{advice}", name)
        arguments[name] = _convert(value, hints[name], f"{source}: {name}")
        if former := fields[name].metadata.get("former_values"):
            arguments[name] = former.get(arguments[name], arguments[name])
        choices = fields[name].metadata.get("choices")
        if choices is not None:
            require_choice(arguments[name], choices, f"{source}: {name}")
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in arguments:
            raise ConfigError(f"{source}: {name} is missing")
    return config_class(**arguments)


def settings_from(config_class: type[T], settings: Mapping[str, Any], *, source: str) -> T:
    """Build a configuration from the arguments of a call in Python.

    Args:
        config_class: A frozen dataclass whose fields were declared with `option`.
        settings: Settings by the names of fields or of options: paths and NumPy's numbers as well,
            one text where a list of texts is expected, and a mapping for texts `NAME=VALUE`.
        source: Which call, for the error message.

    Raises:
        UnknownSettingError: No setting has that name.
        ConfigError: A setting is given twice, of the wrong type, or impossible.
    """
    plain = {name: _typed(value) for name, value in settings.items()}
    current = with_current_names(config_class, plain, source=source)
    return from_mapping(config_class, lists_of_one(config_class, current), source=source)


def one_config(
    config_class: type[T], config: T | None, settings: Mapping[str, Any], *, source: str
) -> T:
    """The configuration of a call in Python that takes one, or single settings.

    Args:
        config_class: As for `settings_from`.
        config: The configuration, if one was given.
        settings: Single settings.
        source: Which call, for the error message.

    Raises:
        ConfigError: Both are given, or as for `settings_from`.
    """
    if config is None:
        return settings_from(config_class, settings, source=source)
    if settings:
        raise ConfigError(
            f"{source}: {', '.join(settings)} beside a config: put all settings into the config, "
            "or give single settings alone"
        )
    return config


def _typed(value: Any) -> Any:
    """A setting of a call as a configuration file gives it."""
    if isinstance(value, Mapping):
        return [f"{name}={text}" for name, text in value.items()]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def with_current_names(
    config_class: type, values: Mapping[str, Any], *, source: str
) -> dict[str, Any]:
    """Settings under the names of fields, where they are given by options or by former names.

    Args:
        config_class: A dataclass.
        values: Settings by name; unknown names stay.
        source: Where the values come from, for the error message.

    Raises:
        ConfigError: A setting is given under two names.
    """
    names: dict[str, str] = {}
    for field in dataclasses.fields(config_class):
        names |= {_option_name(field): field.name}
        if former := field.metadata.get("former"):
            names |= {former: field.name}
    result: dict[str, Any] = {}
    for key, value in values.items():
        spelled = key.replace("-", "_")
        name = names.get(spelled, spelled)
        if name in result:
            raise ConfigError(f"{source}: {name} is given twice, once as {key!r}")
        result[name] = value
    return result


def lists_of_one(config_class: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a person writes them: where a list of texts is expected, a text is a list of one.

    Args:
        config_class: A dataclass.
        values: Settings by the names of fields.
    """
    hints = typing.get_type_hints(config_class)
    lists = {name for name, hint in hints.items() if hint == tuple[str, ...]}
    return {
        name: [value] if name in lists and isinstance(value, str) else value
        for name, value in values.items()
    }


def to_mapping(config: Any) -> dict[str, Any]:
    """The settings of a configuration as plain JSON values, in the order of declaration."""
    return {
        f.name: plain(getattr(config, f.name))
        for f in dataclasses.fields(config)
        if not (f.metadata.get("added") and getattr(config, f.name) == plain_default(f))
    }


def plain_default(field: "dataclasses.Field[Any]") -> Any:
    """The default that a setting is declared with, whatever another one may decide."""
    return field.metadata.get("default", field.default)


def first_difference(
    one: Any, other: Any, *, ignore: Collection[str] = ()
) -> tuple[str, Any, Any] | None:
    """The first setting in which two configurations of a class differ; None if they are the same.

    Args:
        one: A configuration.
        other: Another one.
        ignore: Settings that may differ.

    Returns:
        Its name, and its value in both.
    """
    for field in dataclasses.fields(one):
        values = plain(getattr(one, field.name)), plain(getattr(other, field.name))
        if field.name not in ignore and values[0] != values[1]:
            return (field.name, *values)
    return None


def _option_name(field: "dataclasses.Field[Any]") -> str:
    """What the command line calls a setting, spelled like a field."""
    return (field.metadata.get("flag") or field.name).removeprefix("--").replace("-", "_")


def _read_table(path: Path, table: str) -> Mapping[str, Any]:
    document = read_toml(path, "configuration")
    for key, value in document.items():
        if key not in TABLES or not isinstance(value, dict):
            raise ConfigError(
                f"{path}: unknown entry {key!r} at the top level; settings lie in the tables "
                + ", ".join(f"[{name}]" for name in TABLES)
            )
    return typing.cast("Mapping[str, Any]", document.get(table, {}))


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    return to_mapping(value) if dataclasses.is_dataclass(value) else value


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Convert a TOML or JSON value to the annotated type, refusing what does not fit."""
    if hint is Any:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = [a for a in arguments if a is not type(None)]
        return _convert(value, inner, where)
    if origin is Literal:
        if not any(type(value) is type(known) and value == known for known in arguments):
            _refuse_choice(value, arguments, where)
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, not {_shown(value)}")
        return tuple(_convert(item, arguments[0], f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a table, not {_shown(value)}")
        return {key: _convert(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a table, not {_shown(value)}")
        return from_mapping(hint, value, source=where)
    if hint is Path and isinstance(value, str | Path):
        return path_here(value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where} must be of type {hint.__name__}, not {_shown(value)}")
    return value


def require_at_least(config: object, name: str, smallest: float) -> None:
    """Refuse a setting below its least value, infinite or NaN, with a `ConfigError`."""
    value = getattr(config, name)
    if not smallest <= value < math.inf:
        raise ConfigError(f"{name} must be at least {smallest}, not {value}")


def require_choice(value: Any, choices: Collection[str], where: str) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        ConfigError: Lists the choices.
    """
    if value not in choices:
        _refuse_choice(value, choices, where)


def _refuse_choice(value: Any, choices: Collection[Any], where: str) -> NoReturn:
    known = ", ".join(map(str, choices))
    raise ConfigError(f"{where} must be one of {known}, not {_shown(value)}")


def _shown(value: Any) -> str:
    return shorten(repr(value), 100)
