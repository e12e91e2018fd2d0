"""JSON documents that carry their own SHA-256.

A flipped bit in a setting often leaves another valid setting: only a digest tells. It is the entry
`sha256` of the document, over all its other entries as JSON with sorted keys and without spaces.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sparc.common.documents import parse_object

DIGEST = "sha256"


def seal(document: Mapping[str, Any]) -> bytes:
    """A document with its digest, as indented JSON."""
    return (json.dumps(with_digest(document), indent=2, ensure_ascii=False) + "\n").encode()


def unseal(content: bytes) -> dict[str, Any]:
    """A document without its digest.

    Raises:
        ValueError: It is no JSON object, or not the one that was sealed.
    """
    return without_digest(parse_object(content))


def with_digest(document: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a document and their digest, for a part of a larger one."""
    return {**document, DIGEST: _digest(document)}


def without_digest(document: Mapping[str, Any]) -> dict[str, Any]:
    """The opposite of `with_digest`.

    Raises:
        ValueError: They are not the entries that were sealed.
    """
    entries = {key: value for key, value in document.items() if key != DIGEST}
    if document.get(DIGEST) != _digest(entries):
        raise ValueError(f"its content does not fit its {DIGEST}")
    return entries


def _digest(document: Mapping[str, Any]) -> str:
    plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(plain.encode()).hexdigest()
