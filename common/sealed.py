"""JSON documents that carry their own SHA-256.

A flipped bit in a setting often leaves another valid setting: only a digest tells. It is the entry
`sha256` of the document, over all its other entries as JSON with sorted keys and without spaces.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sparc.common.documents import parse_object

_DIGEST = "sha256"


def seal(document: Mapping[str, Any]) -> bytes:
    """A document with its digest, as indented JSON."""
    sealed = {**document, _DIGEST: _digest(document)}
    return (json.dumps(sealed, indent=2, ensure_ascii=False) + "\n").encode()


def unseal(content: bytes) -> dict[str, Any]:
    """A document without its digest.

    Raises:
        ValueError: It is no JSON object, or not the one that was sealed.
    """
    document = parse_object(content)
    found = document.pop(_DIGEST, None)
    if found != _digest(document):
        raise ValueError(f"its content does not fit its {_DIGEST}")
    return document


def _digest(document: Mapping[str, Any]) -> str:
    plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(plain.encode()).hexdigest()
