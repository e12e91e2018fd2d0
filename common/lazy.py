"""Names that are imported only when they are first used: those of packages and of registries.

Must not know what the names stand for.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def import_home(home: str) -> Any:
    """What `module:name` names, imported now; registries say so where their entries live."""
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(module), name)


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: The package's `__name__`.
        homes: By name, the module that it lives in.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
