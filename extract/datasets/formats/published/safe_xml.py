"""Reading XML that is not trusted, with the parser of Python's standard library.

Entities, by which a small file becomes a large one or another file's content, are refused; so are
documents nested more deeply than annotations ever are. This module must not know what they mean.
"""

from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

_DEEPEST = 100
"""Most levels of elements."""


def parse_xml(data: bytes) -> Element:
    """The root of a document.

    Raises:
        ValueError: It is not XML, declares entities, or is nested too deeply.
    """
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> NoReturn:
        raise ValueError("it has entities of its own, which are not read")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.SkippedEntityHandler = refuse  # of a document type in another file, which is not read
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"it is not XML: {error}") from error
    return builder.close()
