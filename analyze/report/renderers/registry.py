"""The renderers of the summary that `--summary FILE` may name by the suffix of its file.

To add one, write a file in this folder with a function from a `Page` to the file's text:

    def render(page: Page) -> str:
        rows = [
            f"<tr><td>{html.escape(line.text)}<td>{column.cell(line).text}"
            for section in page.sections
            for _, line in page.shown(section)
            for column in page.columns
        ]
        return f"<p>{html.escape(page.explanation())}<table>{''.join(rows)}</table>"

Then add a line to `RENDERERS`:

    ".html": f"{_HERE}.html:render",

`page` says what a page holds: titles and notes too, which this example leaves out. Its texts come
from reports, which are not trusted: escape them. The text must contain the beginning of
`Page.reading`, by which `--summary` recognises a summary that it may replace.

Every command line reads this module: it imports no renderer.
"""

from pathlib import Path

from sparc.common.errors import ConfigError

_HERE = "sparc.analyze.report.renderers"

RENDERERS: dict[str, str] = {".txt": f"{_HERE}.text:render"}
"""`module:function` by the suffix of the files."""


def check_suffix(file: Path) -> None:
    """Check that there is a renderer for a file.

    Raises:
        ConfigError: Its suffix is another one.
    """
    if file.suffix.lower() not in RENDERERS:
        known = ", ".join(RENDERERS)
        raise ConfigError(f"summary {file}: its suffix must be one of {known}, to say how it looks")
