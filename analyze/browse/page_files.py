"""The files of the page itself, the same in every site: the folder `page` of this package."""

import hashlib
from importlib import resources
from importlib.resources.abc import Traversable

START = "index.html"
ENDINGS = (".html", ".css", ".js", ".svg")


def page_files() -> dict[str, bytes]:
    """By name in the site, the content of each file: `index.html`, all others below `assets`."""
    page = resources.files("sparc.analyze.browse").joinpath("page")
    files = dict(_files(page, "")) if page.is_dir() else {}
    return {name if name == START else f"assets/{name}": files[name] for name in sorted(files)}


def digest(files: dict[str, bytes]) -> str:
    """Identifies the page, so that a site of another version of it is made again."""
    total = hashlib.sha256()
    for name, content in files.items():
        total.update(f"{name} {len(content)} ".encode() + content)
    return total.hexdigest()


def _files(folder: Traversable, below: str) -> "list[tuple[str, bytes]]":
    result = []
    for entry in folder.iterdir():
        name = below + entry.name
        if entry.is_dir():
            result += _files(entry, f"{name}/")
        elif entry.name.endswith(ENDINGS):
            result.append((name, entry.read_bytes()))
    return result
