"""Versions of the software that has influence on what the commands write."""

import importlib.metadata
import platform
from collections.abc import Iterable

DISTRIBUTION = "sparc-sae"
"""What this package is called on the package index, where `sparc` is another one."""

_PACKAGES = (
    "numba",
    "numpy",
    "open_clip_torch",
    "pyarrow",
    "safetensors",
    "scipy",
    "timm",
    "torch",
    "transformers",
    "triton",
    "zarr",
)


def software_versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Versions of SPARC, as `sparc`, of Python, and of the packages that are installed.

    Args:
        more: Further packages to name, such as those of an encoder library.
    """
    versions = {"sparc": _version_of(DISTRIBUTION), "python": platform.python_version()}
    versions |= {package: _version_of(package) for package in dict.fromkeys((*_PACKAGES, *more))}
    return {name: version for name, version in versions.items() if version is not None}


def _version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


__version__ = _version_of(DISTRIBUTION) or "unknown"
"""That of SPARC; unknown where it is not installed."""


def version_line() -> str:
    """What `--version` shows."""
    return f"{DISTRIBUTION} {__version__}"
