"""The lowest releases that `pyproject.toml` allows, as constraints for pip.

    python tests/support/lowest.py > lowest.txt
    pip install --constraint lowest.txt --editable '.[dev]'

What SPARC does not name itself, pip chooses as ever. An extra may ask for a later release than
the package alone does; all extras together need the latest of these.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def lowest_releases(pyproject: Path) -> dict[str, Version]:
    """The lowest release of each package that a project names, in the order of names.

    Raises:
        ValueError: A requirement has no lower bound.
    """
    project = tomllib.loads(pyproject.read_text())["project"]
    texts = [project["dependencies"], *project["optional-dependencies"].values()]
    lowest: dict[str, Version] = {}
    for requirement in [Requirement(text) for extra in texts for text in extra]:
        if requirement.name == project["name"]:  # an extra that holds another one
            continue
        bounds = [spec.version for spec in requirement.specifier if spec.operator in (">=", "==")]
        if len(bounds) != 1:
            raise ValueError(f"{requirement} says no lowest release: write {requirement.name}>=…")
        version = Version(bounds[0])
        lowest[requirement.name] = max(version, lowest.get(requirement.name, version))
    return dict(sorted(lowest.items()))


if __name__ == "__main__":
    sys.stdout.writelines(f"{n}=={v}\n" for n, v in lowest_releases(PYPROJECT).items())
