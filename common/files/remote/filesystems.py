"""What differs between the file systems of fsspec: how they are opened, and what they can promise.

S3 (s3fs) decides between two writers by the tag of what is to be replaced. Google Cloud (gcsfs),
Azure (adlfs) and memory decide who makes an object that is not there; where one is to be
replaced, they are asked first what it holds (`RemoteFiles.replace`).
"""

import os
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from inspect import signature
from typing import Any, NamedTuple

import fsspec
from fsspec import AbstractFileSystem

_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Protocols of stores without folders: a name with slashes needs none."""

_CACHING = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Protocols whose file systems keep listings, which other processes and machines outdate."""

_IN_PARTS = "max_concurrency"


class Head(NamedTuple):
    """What a store says of an object.

    Attributes:
        tag: Changes with the content; None where the store cannot replace an object by its tag.
        age: Seconds since the object was written, by the store's clock; None where it has none.
    """

    tag: str | None
    age: float | None


def open_filesystem(location: str | os.PathLike[str]) -> tuple[AbstractFileSystem, str]:
    """The file system of a path or URL, and the path as that spells it.

    Raises:
        ImportError: The package of the URL's protocol is not installed.
        ValueError: The protocol is unknown, or the URL of a store names no bucket.
    """
    location = os.fspath(location)
    is_store = "::" not in location and location.partition("://")[0] in _CACHING
    settings = {"use_listings_cache": False} if is_store else {}
    filesystem, root = fsspec.core.url_to_fs(location, **settings)
    if is_store and not root.strip("/"):
        raise ValueError("it names no bucket")
    return filesystem, root


def has_folders(filesystem: AbstractFileSystem) -> bool:
    """Whether folders have to be made before there can be files in them."""
    return not _is_one_of(filesystem, _OBJECT_STORES)


def read_whole(filesystem: AbstractFileSystem, path: str) -> bytes:
    """An object, by one request, whose length and checksum the store's client compares."""
    # s3fs would ask for the size first, and join parts without looking at their lengths. (Before
    # 2026 it did neither, and knew no such setting.)
    is_known = _is_s3(filesystem) and _IN_PARTS in signature(filesystem._cat_file).parameters
    return bytes(filesystem.cat_file(path, **({_IN_PARTS: 1} if is_known else {})))


def head(filesystem: AbstractFileSystem, path: str) -> Head:
    """What the store says of an object.

    Raises:
        FileNotFoundError: There is none.
    """
    if not _is_s3(filesystem):
        filesystem.info(path)
        return Head(None, None)
    bucket, key, _ = filesystem.split_path(path)
    answer = filesystem.call_s3("head_object", Bucket=bucket, Key=key)
    return Head(answer.get("ETag"), _age(answer))


def write(
    filesystem: AbstractFileSystem,
    path: str,
    content: bytes,
    *,
    new: bool = False,
    instead_of: str | None = None,
) -> str | None:
    """Write an object.

    Args:
        filesystem: The file system.
        path: The object.
        content: What it shall hold.
        new: Only where there is none.
        instead_of: Only in the place of the object with this tag.

    Returns:
        The tag of what was written, where it is known.

    Raises:
        OSError: See `sparc.common.files.remote.answers.is_refused`, among others.
    """
    settings: dict[str, Any] = {"mode": "create"} if new else {}
    if instead_of is not None:
        settings["IfMatch"] = instead_of
    answer = filesystem.pipe_file(path, content, **settings)
    return answer.get("ETag") if _is_s3(filesystem) and isinstance(answer, Mapping) else None


def _age(answer: Mapping[str, Any]) -> float | None:
    try:
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        modified: datetime = answer["LastModified"]
        # Both are given in whole seconds: the object may be one younger than they say.
        return max(0.0, (now - modified).total_seconds() - 1)
    except (KeyError, TypeError, ValueError):
        return None


def _is_s3(filesystem: AbstractFileSystem) -> bool:
    return _is_one_of(filesystem, ("s3", "s3a")) and hasattr(filesystem, "call_s3")


def _is_one_of(filesystem: AbstractFileSystem, protocols: tuple[str, ...]) -> bool:
    own = filesystem.protocol
    return any(name in protocols for name in ((own,) if isinstance(own, str) else own))
