"""Settings whose default another setting decides, as a recipe decides how to learn.

They are declared with `option(…, default_by=NAME)`. A configuration remembers which of them were
left open, so that another value of the deciding setting can decide them again (`changed`). A record
does not: it means the numbers in it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from sparc.common.config import UNSET, plain, with_current_names

T = TypeVar("T")

_LEFT_OPEN = "_left_open"
"""The attribute of a configuration that names the settings which `set_defaults` gave a value."""


def set_defaults(config: Any, defaults: Mapping[str, Any]) -> None:
    """Give every setting that is `UNSET` a value; for a frozen dataclass's `__post_init__`.

    Args:
        config: The configuration, which is changed.
        defaults: Values by name, or functions that compute them from the configuration, in which
            the settings without a function have their values already. What is not listed gets
            the default that it was declared with.
    """
    open_fields = [f for f in dataclasses.fields(config) if getattr(config, f.name) is UNSET]
    values = {f.name: defaults.get(f.name, f.metadata["default"]) for f in open_fields}
    for name in sorted(values, key=lambda name: callable(values[name])):
        value = values[name]
        object.__setattr__(config, name, value(config) if callable(value) else value)
    object.__setattr__(config, _LEFT_OPEN, frozenset(values))


def given_settings(config: Any) -> dict[str, Any]:
    """The settings as plain JSON values, without those that `set_defaults` gave a value."""
    left_open = getattr(config, _LEFT_OPEN, ())
    fields = dataclasses.fields(config)
    return {f.name: plain(getattr(config, f.name)) for f in fields if f.name not in left_open}


def changed(config: T, **changes: Any) -> T:
    """A configuration with other values; what `set_defaults` gave a value gets it from these.

    `dataclasses.replace` would keep the defaults that the former values decided.
    """
    left_open = dict.fromkeys(getattr(config, _LEFT_OPEN, ()), UNSET)
    return dataclasses.replace(config, **{**left_open, **changes})  # type: ignore[type-var]


def recorded_settings(
    config_class: type, values: Mapping[str, Any], *, source: str
) -> dict[str, Any]:
    """The settings of a record, complete: what it leaves out has the default it is declared with.

    So another setting that decides defaults may decide others some day: no record changes.

    Args:
        config_class: A dataclass.
        values: The record's settings by name.
        source: Where they come from, for the error message.

    Raises:
        ConfigError: A setting is given under two names.
    """
    fields = dataclasses.fields(config_class)
    declared = {f.name: f.metadata["default"] for f in fields if f.metadata["default_by"]}
    return {**declared, **with_current_names(config_class, values, source=source)}
