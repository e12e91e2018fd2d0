"""What all shards of a cache must have in common and nothing else in the cache says.

`CACHE.md` section 6.2 is normative.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from sparc.common.cache.info import AGREEMENT_FILE
from sparc.common.documents import DocumentKind, seal
from sparc.common.errors import CacheError, DamagedCacheError
from sparc.common.files.folder import Folder
from sparc.common.text import listed, printable, reason
from sparc.common.versions import software_versions

KIND = DocumentKind("sparc-shards", 1, CacheError)

_DECISIVE = ("sparc", "numpy", "torch", "timm", "open_clip_torch", "transformers")
_FURTHER = ("pillow", "tokenizers", "torchvision")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """What shards have in common.

    Attributes:
        shards: Into how many the chunks were divided last.
        thumbnails: Longest side of the thumbnails, in pixels; 0: none are made. None: no shard has
            decided it, since none encodes images.
        versions: Version by package, of the software on which the features depend.
    """

    shards: int
    thumbnails: int | None
    versions: Mapping[str, str]


def deciding_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of what decides, beside the weights, what an encoder makes of a picture or text.

    Args:
        packages: The packages of the encoders.
    """
    packages = list(packages)
    known = software_versions((*_FURTHER, *packages))
    return {name: known[name] for name in known if name in (*_DECISIVE, *_FURTHER, *packages)}


def read_agreement(folder: Folder) -> Agreement | None:
    """What the shards that began have in common; None where there are none to be gathered.

    Raises:
        CacheError: Another version wrote it.
        DamagedCacheError: It is not what was written.
    """
    try:
        content = folder.read(AGREEMENT_FILE)
    except FileNotFoundError:
        return None
    where = f"{folder}/{AGREEMENT_FILE}"
    try:
        return KIND.sealed(Agreement, content, where=where)
    except ValueError as error:
        raise DamagedCacheError(
            f"{where} is damaged: {reason(error)}; remove it, and run the shards that are left on "
            "machines with the same software as the others"
        ) from error


def agree(folder: Folder, wanted: Agreement) -> Agreement:
    """Refuse a shard that would make other features, or other thumbnails, than those before it.

    Returns:
        What the shards have in common, this one included; `record` it once nothing else is refused.

    Raises:
        CacheError: The message says in what the shard differs.
    """
    before = read_agreement(folder)
    if before is None:
        return wanted
    differing = [
        name
        for name, version in wanted.versions.items()
        if before.versions.get(name, version) != version
    ]
    if differing:
        there = listed([f"{name} {before.versions[name]}" for name in differing])
        here = listed([f"{name} {wanted.versions[name]}" for name in differing])
        install = " ".join(f"{n}=={before.versions[n]}" for n in differing if n != "sparc")
        raise CacheError(
            printable(
                f"{folder}: the other shards are made with {there}, this one would be with {here}, "
                "whose features may be others: use the same software on every machine"
                + (f" (pip install {install})" if install else "")
            )
        )
    sides = before.thumbnails, wanted.thumbnails
    if None not in sides and sides[0] != sides[1]:
        raise CacheError(
            f"{folder}: the other shards keep thumbnails of {sides[0]} pixels, this one of "
            f"{sides[1]}: give --thumbnails {sides[0]}"
        )
    return Agreement(
        shards=wanted.shards,
        thumbnails=sides[0] if sides[1] is None else sides[1],
        versions={**before.versions, **wanted.versions},
    )


def record(folder: Folder, agreement: Agreement) -> None:
    """Record what the shards have in common, for those that begin later."""
    if read_agreement(folder) != agreement:
        folder.write(AGREEMENT_FILE, seal(KIND.document(dataclasses.asdict(agreement))))
