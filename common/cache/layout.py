"""The metadata of a cache's Zarr group, as `CACHE.md` prescribes them: documents, byte for byte.

Nothing here touches a cache. A writer writes these documents, a reader compares with them,
and a repair puts them where one is lost.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.core.metadata.v3 import ArrayV3Metadata
from zarr.storage import MemoryStore

from sparc.common.config import to_mapping
from sparc.common.documents import DIGEST, with_digest, without_digest
from sparc.common.parsing import parse_object
from sparc.common.streams.info import StreamInfo
from sparc.common.text import reason

DOCUMENT = "zarr.json"
"""What Zarr calls the metadata of a group or an array."""

ARRAYS = ("features", "valid")

STREAM_DOCUMENTS = (DOCUMENT, f"features/{DOCUMENT}", f"valid/{DOCUMENT}")
"""The metadata of a stream, below its folder; the first two say what made it."""

CUT = "captions_cut"
"""The attribute of a text stream's `valid` that counts captions cut at the encoder's context, by
chunk."""

CHECKSUMS = "crc32c"
"""The attribute of a stream's `valid` that says what checksums the chunks of both arrays end in."""

Checksums = dict[str, list[int | None]]
"""By array, the checksum of every chunk; None where it is not recorded."""

CHECKSUM_BYTES = 4
"""What CRC32C adds to a chunk."""


def root_document(attributes: dict[str, Any]) -> bytes:
    """The metadata of the group of all streams."""
    store: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(store), attributes=attributes)
    return store[DOCUMENT].to_bytes()


def stream_documents(
    stream: StreamInfo,
    *,
    rows: int,
    rows_per_chunk: int,
    cut: Mapping[int, int] | None = None,
    checksums: Checksums | None = None,
) -> dict[str, bytes]:
    """The metadata of a stream's group and arrays, by file below the stream's folder.

    What made the stream stands in the group's attributes, and again in those of `features`: one
    document that is lost can be restored from the other.

    Args:
        stream: The stream.
        rows: Rows of the cache.
        rows_per_chunk: Rows in every chunk but the last.
        cut: How many captions were cut at the encoder's context, by chunk.
        checksums: What the chunks end in.
    """
    store: dict[str, Buffer] = {}
    made_by = to_mapping(stream)
    records: dict[str, Any] = {}
    if cut:
        records[CUT] = {str(chunk): cut[chunk] for chunk in sorted(cut)}
    if checksums and any(c is not None for listed in checksums.values() for c in listed):
        records[CHECKSUMS] = checksums
    group = zarr.create_group(MemoryStore(store), attributes=made_by)
    group.create_array(
        "features",
        shape=(rows, stream.dim),
        chunks=(rows_per_chunk, stream.dim),
        dtype=stream.dtype,
        compressors=(*_compressors(stream), Crc32cCodec()),
        fill_value=0,
        dimension_names=("row", f"{stream.name}_dim"),
        attributes=made_by,
    )
    group.create_array(
        "valid",
        shape=(rows,),
        chunks=(rows_per_chunk,),
        dtype="bool",
        compressors=(Crc32cCodec(),),
        fill_value=False,
        dimension_names=("row",),
        attributes=with_digest(records) if records else {},
    )
    return {name: store[name].to_bytes() for name in sorted(store)}


def array_faults(stored: bytes, wanted: bytes) -> list[str]:
    """In what an array's metadata differ from those that they should be, attributes aside.

    Read by Zarr first: another version of it may spell the same things in another way.
    """
    should = ArrayV3Metadata.from_dict(json.loads(wanted)).to_dict()
    try:
        document = ArrayV3Metadata.from_dict(parse_object(stored)).to_dict()
    except Exception as error:  # Zarr raises almost anything at damaged metadata
        return [f"has metadata that are not readable: {reason(error)}"]
    return [
        f"has {key.replace('_', ' ')} {_shown(document.get(key))}, not {_shown(value)}"
        for key, value in should.items()
        if key != "attributes" and document.get(key) != value
    ]


def group_differs(stored: bytes, wanted: bytes) -> bool:
    """Whether the metadata of a group say something else than they should."""
    try:
        document = parse_object(stored)
        return any(document.get(key) != value for key, value in json.loads(wanted).items())
    except ValueError:
        return True


def attributes_of(document: bytes) -> dict[str, Any] | None:
    """The attributes in the metadata of a group or an array; None where they cannot be read."""
    try:
        attributes = parse_object(document)["attributes"]
    except (ValueError, KeyError):
        return None
    return attributes if isinstance(attributes, dict) else None


def records_of(document: bytes) -> dict[str, Any]:
    """What is recorded of a stream's chunks, in the metadata of its `valid`.

    Raises:
        ValueError: It is not what was written. Early caches have no digest of their records: of
            these, only entries that are no records are noticed.
    """
    attributes = attributes_of(document)
    if attributes is None:
        raise ValueError("its attributes are not a JSON object")
    if DIGEST in attributes:
        return without_digest(attributes)
    unknown = sorted(attributes.keys() - {CUT, CHECKSUMS})
    if unknown:
        raise ValueError(f"{_shown(unknown[0])} is not a record of chunks")
    return attributes


def recorded_cut(attributes: Mapping[str, Any]) -> dict[int, int]:
    """How many captions were cut, by chunk, as far as the attributes of `valid` say it."""
    counts = attributes.get(CUT)
    if not isinstance(counts, dict):
        return {}
    return {int(k): n for k, n in counts.items() if k.isdecimal() and type(n) is int and n >= 0}


def recorded_checksums(attributes: Mapping[str, Any], chunks: int) -> Checksums:
    """What the chunks should end in, as far as the attributes of `valid` say it."""
    recorded = attributes.get(CHECKSUMS)
    listed = {name: recorded.get(name) if isinstance(recorded, dict) else None for name in ARRAYS}
    return {
        name: [c if type(c) is int else None for c in values]
        if isinstance(values, list) and len(values) == chunks
        else [None] * chunks
        for name, values in listed.items()
    }


def chunk_bytes(stream: StreamInfo, name: str, *, rows_per_chunk: int) -> int | None:
    """Bytes of every chunk of an array; None where they depend on what is in it."""
    if name == "valid":
        return rows_per_chunk + CHECKSUM_BYTES
    if stream.compression != "none":
        return None
    return decoded_bytes(stream, name, rows_per_chunk=rows_per_chunk) + CHECKSUM_BYTES


def decoded_bytes(stream: StreamInfo, name: str, *, rows_per_chunk: int) -> int:
    """Bytes of the values of every chunk of an array."""
    if name == "valid":
        return rows_per_chunk
    return rows_per_chunk * stream.dim * np.dtype(stream.dtype).itemsize


def claimed_bytes(stream: StreamInfo, content: bytes) -> int | None:
    """What a compressed chunk of features says that it decompresses to; None where it does not.

    Args:
        stream: The stream.
        content: The chunk, with the checksum behind it.
    """
    if stream.compression == "lz4":  # a Blosc header: four bytes, then the length
        return int.from_bytes(content[4:8], "little")
    # A Zstandard frame (RFC 8878, 3.1.1): magic, descriptor, window, dictionary, content size.
    if content[:4] != b"\x28\xb5\x2f\xfd" or len(content) < 18:
        return None
    single, width = content[4] >> 5 & 1, content[4] >> 6
    start = 5 + (1 - single) + (0, 1, 2, 4)[content[4] & 3]
    length = (single, 2, 4, 8)[width]
    end = _end_of_blocks(content, start + length) + (4 if content[4] & 4 else 0)
    if not length or end + CHECKSUM_BYTES != len(content):  # more frames behind it, of any size
        return None
    claimed = int.from_bytes(content[start : start + length], "little")
    return claimed + (256 if width == 1 else 0)


def _end_of_blocks(content: bytes, start: int) -> int:
    """Where the blocks of a Zstandard frame end: each has its kind and length in three bytes."""
    is_last = False
    while not is_last and start < len(content):
        header = int.from_bytes(content[start : start + 3], "little")
        is_last, is_one_byte = bool(header & 1), header >> 1 & 3 == 1
        start += 3 + (1 if is_one_byte else header >> 3)
    return start


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)


def _compressors(stream: StreamInfo) -> tuple[Any, ...]:
    if stream.compression == "lz4":
        itemsize = np.dtype(stream.dtype).itemsize
        return (BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=itemsize),)
    return (ZstdCodec(level=3),) if stream.compression == "zstd" else ()
