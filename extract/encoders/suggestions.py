"""What a shell may offer for the settings of this stage."""

from collections.abc import Iterable, Mapping
from typing import Any

from sparc.extract.encoders.libraries import LIBRARIES


def encoders(_typed: Mapping[str, Any], incomplete: str) -> Iterable[str]:
    """Streams of the presets; once a stream has a name, also the libraries that a spec begins with.

    The models of a library are for the library to list: importing it takes seconds.
    """
    from sparc.extract.encoders.presets import PRESETS

    listed = [(name, str(spec)) for streams in PRESETS.values() for name, spec in streams.items()]
    chosen, equals, _ = incomplete.partition("=")
    if not equals:
        return [f"{name}={spec}" for name, spec in listed]
    specs = (*dict.fromkeys(spec for _, spec in listed), *(f"{name}:" for name in LIBRARIES))
    return [f"{chosen}={spec}" for spec in specs]


def presets(_typed: Mapping[str, Any], _incomplete: str) -> Iterable[str]:
    """The presets."""
    from sparc.extract.encoders.presets import PRESETS

    return PRESETS
