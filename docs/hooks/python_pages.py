"""What the pages on Python need besides mkdocstrings: settings, and stages that are called.

`<!-- settings of sparc.train.config:TrainConfig -->` becomes a table of settings, whose names,
options of the command line, defaults and meanings are those that the configuration declares. A
package that can be called, as `sparc.train` can, is shown by its own name, not as `__call__`. Names
such as `sparc.train.TrainConfig`, in docstrings and on other pages, become links.
"""

import dataclasses
import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.pages import Page

from sparc.common.lazy import import_home

_DIRECTIVE = re.compile(r"<!-- settings of ([\w.]+:\w+) -->")

_NAMED = re.compile(r"<(a|pre|autoref)\b.*?</\1>|<code>(sparc(?:\.\w+)+)</code>", re.DOTALL)
"""A name of ours in a text; or a link or a block of code, in which none is looked for."""

_log = get_plugin_logger("python_pages")


def settings(home: str) -> str:
    """The settings of a configuration class, `module:name`, as a table in Markdown."""
    lines = ["| setting | option | what it is | default |", "|---|---|---|---|"]
    for field in dataclasses.fields(import_home(home)):
        said = field.metadata
        if not said.get("help"):
            _log.warning(f"{home} does not say what {field.name} is")
            continue
        plain = f"--{field.name.replace('_', '-')}"
        option = f"--no-{plain[2:]}" if said["default"] is True else said["flag"] or plain
        by = said["default_by"]
        default = f"by {by}" if by else _shown(said["default"])
        meaning = said["help"].replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
        lines.append(f"| `{field.name}` | `{option}` | {meaning} | {default} |")
    return "\n".join(lines)


def _shown(default: Any) -> str:
    if default == "" or default == () or default is None:
        return ""
    return f"`{', '.join(map(str, default)) if isinstance(default, tuple) else default}`"


def on_page_markdown(markdown: str, **_others: object) -> str:
    """Put the tables of settings into a page."""
    return _DIRECTIVE.sub(lambda directive: settings(directive[1]), markdown)


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, **_others: object) -> str:
    """Show how a stage is called, and link what is named to where it is described.

    A page in `api/` is called after the stage that it is on. What no page describes stays as it is.
    """
    if page.file.src_uri.startswith("api/"):
        html = re.sub(r'<span class="\w+">__call__</span>', f"sparc.{page.file.name}", html)
    if "autorefs" not in config.plugins:
        return html
    return _NAMED.sub(_linked, html)


def _linked(match: re.Match[str]) -> str:
    name = match[2]
    return f'<autoref identifier="{name}" optional>{match[0]}</autoref>' if name else match[0]
