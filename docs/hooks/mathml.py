"""Turns formulas, `$…$` and `$$…$$`, into MathML when the site is built.

Browsers draw MathML themselves: no script, no font and no request is needed to read a formula.
`pymdownx.arithmatex` finds the formulas, latex2mathml translates them.
"""

from html import unescape
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger

_log = get_plugin_logger("mathml")


def translate(tex: str, *, block: bool) -> Element:
    """MathML of a formula.

    Args:
        tex: The formula without delimiters.
        block: Whether it stands in a line of its own.
    """
    math: Element = convert_to_element(tex, display="block" if block else "inline")
    # Within HTML the element's name says what it is.
    math.attrib.pop("xmlns", None)
    math.set("alttext", tex)
    unknown = sorted({word for word in math.itertext() if word.startswith("\\")})
    if unknown:
        _log.warning(f"latex2mathml does not know {', '.join(unknown)} in the formula {tex}")
    return math


class _Formulas(Treeprocessor):
    def run(self, root: Element) -> None:
        for element in root.iter():
            if element.get("class") == "arithmatex" and element.text:
                # \(…\) or \[…\], escaped as HTML is
                tex = unescape(element.text).strip()[2:-2].strip()
                element.text = None
                element.append(translate(tex, block=element.tag == "div"))


class MathMLExtension(Extension):
    """Comes after `pymdownx.arithmatex`, with `generic: true`."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Translate what the tree holds, after inline patterns, which have priority 20."""
        md.treeprocessors.register(_Formulas(md), "mathml", priority=4)


def on_config(config: MkDocsConfig) -> None:
    """Have the formulas of every page translated."""
    config.markdown_extensions.append(MathMLExtension())
