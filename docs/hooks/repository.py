"""Shows pages of the repository that are not in `docs/`, and makes links between all pages hold.

Links are written as they hold in the repository, so that pages are read there, too. Here a link to
a page of the site leads to it, wherever that lies in the repository, and one to any other file
leads to the repository's address.
"""

import posixpath
import tomllib
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

ELSEWHERE = {
    "formats/cache.md": "common/CACHE.md",
    "formats/run.md": "train/RUN.md",
    "formats/report.md": "analyze/REPORT.md",
    "formats/site.md": "analyze/browse/SITE.md",
    "recipes.md": "train/RECIPES.md",
    "parallel.md": "train/PARALLEL.md",
    "figures.md": "tests/benchmarks/README.md",
    "security.md": "SECURITY.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""By page of the site, the file of the repository that it shows."""


class Links(Treeprocessor):
    """Rewrites the links of a page, before MkDocs follows them."""

    page = ""
    """The page that is converted, below `docs/`."""

    sources: dict[str, str]
    """By page of the site, its file in the repository."""

    repository: str
    """The address below which the repository's files are shown."""

    def run(self, root: Element) -> None:
        """Rewrite all links of a page in place."""
        for element in root.iter():
            for key in ("href", "src"):
                link = element.get(key)
                if link is not None:
                    element.set(key, self.target(link))

    def target(self, link: str) -> str:
        """Where a link leads on the site."""
        scheme, host, path, _, anchor = urlsplit(link)
        if scheme or host or not path:
            return link
        source = self.sources.get(self.page, f"docs/{self.page}")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        after = f"#{anchor}" if anchor else ""
        for page, shown in self.sources.items():
            if shown == file:
                return posixpath.relpath(page, posixpath.dirname(self.page) or ".") + after
        if (ROOT / file).exists() and not file.startswith(".."):
            return f"{self.repository}/blob/main/{file}{after}"
        return link  # MkDocs warns that it leads nowhere


class _LinksExtension(Extension):
    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        # Before `relpath` of MkDocs, which has priority 0.
        md.treeprocessors.register(_links, "repository", priority=3)


_links = Links()


def on_config(config: MkDocsConfig) -> None:
    """Have every page's links rewritten."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    _links.repository = project["urls"]["Homepage"]
    config.markdown_extensions.append(_LinksExtension())


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that lie elsewhere."""
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    here = [file.src_uri for file in files if file.inclusion.value > InclusionLevel.DRAFT.value]
    _links.sources = {page: f"docs/{page}" for page in here} | ELSEWHERE


def on_page_markdown(_markdown: str, *, page: Page, **_others: object) -> None:
    """Remember which page comes next."""
    _links.page = page.file.src_uri
