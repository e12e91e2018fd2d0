"""The installed distribution: its dependencies, and the extras that are there or missing."""

import importlib.metadata
import platform
from collections.abc import Iterator

from packaging.requirements import Requirement

from sparc.common.text import listed
from sparc.common.versions import DISTRIBUTION
from sparc.pipelines.doctor.finding import Finding

_FOR = {
    "transformers": "encoders of transformers",
    "s3": "datasets, caches, runs and reports behind s3:// URLs",
    "distributed": "extraction and analysis on a Dask cluster",
    "numba": "faster training on a CPU",
    "browse": "the map of latents in `sparc-analyze browse`",
    "hdf5": "importing features from HDF5",
    "lance": "importing features from Lance",
    "tensorboard": "`--tensorboard` in training",
    "wandb": "`--wandb` in training",
    "examples": "the scripts and the notebook in `examples/`",
}
"""Extras that users install, and what for; others are for `make demo` and for developers."""


def software() -> Iterator[Finding]:
    """The installation."""
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "sparc",
            "not installed as a distribution",
            "`pip install -e .` in the checkout",
            is_fault=True,
        )
        return
    yield Finding(
        "sparc", f"{DISTRIBUTION} {distribution.version}, Python {platform.python_version()}"
    )
    required = [Requirement(line) for line in distribution.requires or ()]
    yield from _dependencies([r for r in required if _applies(r, "")])
    for extra, use in _FOR.items():
        yield _extra(extra, use, [r for r in required if _applies(r, extra)])


def _dependencies(required: list[Requirement]) -> Iterator[Finding]:
    faults = [(r, fault) for r in required if (fault := _fault(r))]
    for requirement, fault in faults:
        yield Finding("package", fault, f"`pip install '{_plain(requirement)}'`", is_fault=True)
    if not faults:
        shown = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "timm", "zarr")]
        yield Finding("packages", f"all {len(required)} that are needed, with {listed(shown)}")


def _extra(extra: str, use: str, required: list[Requirement]) -> Finding:
    faults = {_plain(r): fault for r in required if (fault := _fault(r))}
    if not faults:
        return Finding("extra", f"{extra}: {use}")
    packages = " ".join(f"'{package}'" for package in faults)
    why = listed(list(faults.values()))
    return Finding("extra", f"{extra}: {use} ({why})", f"`pip install {packages}`")


def _applies(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement is one of an extra; empty: of the distribution itself."""
    marker = requirement.marker
    if marker is None:
        return not extra
    return marker.evaluate({"extra": extra}) and (not extra or not marker.evaluate({"extra": ""}))


def _fault(requirement: Requirement) -> str:
    """What is wrong with a package that is required; empty: nothing."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} is {version}, needed is {requirement.specifier}"


def _plain(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"
