"""Writing an activation cache, chunk by chunk, so that it can be killed and resumed anywhere.

The protocol on disk is `CACHE.md`, which is normative. A `CacheWriter` must be the only one in its
folder: hold `sparc.common.lock.exclusive` around it.
"""

import dataclasses
import importlib.metadata
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from numcodecs import BitRound
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from sparc.common import tables
from sparc.common.cache import (
    ACTIVATIONS,
    CLASSES_FILE,
    INFO_FILE,
    MASKS_FILE,
    REJECT_PARTS,
    REJECTS_FILE,
    ROWS_FILE,
    ActivationCache,
    CacheInfo,
)
from sparc.common.config import to_mapping
from sparc.common.errors import CacheError
from sparc.common.lock import LOCK_FILE, exclusive
from sparc.common.storage import PARTIAL, Folder
from sparc.common.streams import StreamInfo, StreamOrigin
from sparc.common.text import shorten

ROWS_PER_CHUNK = 4096
LARGEST_FLOAT16 = 65_504.0

_PACKAGES = ("sparc", "numpy", "open_clip_torch", "timm", "torch", "transformers", "zarr")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The rows of a dataset, before anything is encoded.

    Attributes:
        dataset: The folder or URL that the pictures come from.
        dataset_format: Which reader read it.
        split: Its split; empty where it has none.
        rows: A table of schema `tables.ROWS`.
        classes: A table of schema `tables.CLASSES`.
        masks: A table of schema `tables.MASKS`, if masks were asked for.
    """

    dataset: str
    dataset_format: str
    split: str
    rows: pa.Table
    classes: pa.Table
    masks: pa.Table | None = None


class CacheWriter:
    """Begins a cache, or goes on with one that was made from the same dataset.

    Args:
        location: The cache's folder or URL.
        manifest: The dataset's rows.
        rows_per_chunk: Rows a chunk; must be the same when going on.

    Raises:
        CacheError: The folder holds something else, or a cache of another dataset or setting.
    """

    def __init__(
        self, location: Any, manifest: Manifest, *, rows_per_chunk: int = ROWS_PER_CHUNK
    ) -> None:
        self.folder = location if isinstance(location, Folder) else Folder(location)
        self._rows = manifest.rows
        wanted = CacheInfo(
            dataset=manifest.dataset,
            dataset_format=manifest.dataset_format,
            split=manifest.split,
            rows=len(manifest.rows),
            rows_per_chunk=rows_per_chunk,
            manifest_digest=tables.manifest_digest(manifest.rows),
            streams=(),
            versions=_versions(),
        )
        if wanted.rows == 0:
            raise CacheError(f"{manifest.dataset} has no rows to encode")
        found = CacheInfo.read(self.folder) if self.folder.exists(INFO_FILE) else None
        if found is None:
            _refuse_other_content(self.folder)
        self.folder.remove_partial_files()
        # A cache without streams holds nothing: it is begun anew rather than defended.
        if found is not None and found.streams:
            _refuse_other_dataset(self.folder, found, wanted, manifest.rows)
            for name, table in ((ROWS_FILE, manifest.rows), (CLASSES_FILE, manifest.classes)):
                if not self.folder.exists(name):  # a person removed it because it was damaged
                    tables.write_table(self.folder, name, table)
            _refuse_other_classes(self.folder, manifest.classes)
            self.info = found
        else:
            tables.write_table(self.folder, ROWS_FILE, manifest.rows)
            tables.write_table(self.folder, CLASSES_FILE, manifest.classes)
            self.folder.remove(MASKS_FILE)
            self.info = wanted
            self._write_info()
        if manifest.masks is not None and not self.folder.exists(MASKS_FILE):
            tables.write_table(self.folder, MASKS_FILE, manifest.masks)
        store = self.folder.zarr_store(ACTIVATIONS, read_only=False)
        self._group = zarr.open_group(store, mode="a")
        self._arrays: dict[str, tuple[Any, Any]] = {}
        self._keep_bits: dict[str, int | None] = {}

    def open_stream(self, stream: StreamInfo) -> list[int]:
        """Add a stream, or go on with it.

        Args:
            stream: What the stream is and what makes it.

        Returns:
            The chunks that are still to be written, in order.

        Raises:
            CacheError: The cache holds a stream of that name that was made in another way.
        """
        if stream.name in self.info.streams:
            cache = ActivationCache(self.folder)
            found = cache.streams[stream.name]
            if len(cache.missing_chunks(stream.name)) < self.info.chunks:
                _refuse_other_stream(self.folder, found, stream)
            elif found != stream:
                # Nothing of it was written: it is made anew, under the settings of today.
                self._list_streams(name for name in self.info.streams if name != stream.name)
        if stream.name not in self.info.streams:
            self._create(stream)
            self._list_streams((*self.info.streams, stream.name))
        group: Any = self._group[stream.name]
        config = {"write_empty_chunks": True}
        self._keep_bits[stream.name] = stream.keep_bits
        self._arrays[stream.name] = (
            group["features"].with_config(config),
            group["valid"].with_config(config),
        )
        missing = ActivationCache(self.folder).missing_chunks(stream.name)
        for chunk in missing:
            # An interrupted attempt may have rejected rows that will turn out well this time.
            self.folder.remove(_reject_part(stream.name, chunk))
        return missing

    def write(
        self,
        stream: str,
        chunk: int,
        features: npt.NDArray[Any],
        reasons: Mapping[int, str] | None = None,
    ) -> None:
        """Write a chunk of a stream: from then on it is done.

        Args:
            stream: A stream that `open_stream` opened.
            chunk: Which chunk.
            features: (rows of the chunk, dim), any float type; rows with a reason are ignored.
            reasons: Why a row has no feature, by row of the cache. All other rows are valid.

        Raises:
            CacheError: A value does not fit float16, or a valid feature is zero or not finite.
        """
        rows = self.info.chunk_rows(chunk)
        array, valid_array = self._arrays[stream]
        if features.shape != (len(rows), array.shape[1]):
            raise CacheError(
                f"stream {stream}, chunk {chunk}: features of shape {features.shape} where "
                f"({len(rows)}, {array.shape[1]}) belongs"
            )
        reasons = dict(reasons or {})
        valid = np.ones(len(rows), dtype=np.bool_)
        valid[[row - rows.start for row in reasons]] = False
        stored = np.where(valid[:, None], features, 0)
        _check_values(stream, rows, stored, valid, array.dtype)
        # Rejects first, flags last: a chunk with flags is done, and nothing of it is missing.
        self._write_rejects(stream, chunk, reasons)
        narrow = stored.astype(array.dtype)
        array[rows.start : rows.stop] = _rounded(narrow, self._keep_bits[stream])
        valid_array[rows.start : rows.stop] = valid

    def finish(self) -> None:
        """Gather the rejects of all chunks into one table; call it when every chunk is written."""
        parts = list(self.folder.files(REJECT_PARTS))
        if parts or not self.folder.exists(REJECTS_FILE):
            tables.write_table(self.folder, REJECTS_FILE, ActivationCache(self.folder).rejects())
        self.folder.remove(REJECT_PARTS)

    # ------------------------------------------------------------------ how it lies in Zarr

    def _create(self, stream: StreamInfo) -> None:
        rows, per_chunk = self.info.rows, self.info.rows_per_chunk
        # What an interrupted attempt left is not listed in cache.json, so nothing of it counts.
        group = self._group.create_group(stream.name, overwrite=True, attributes=to_mapping(stream))
        group.create_array(
            "features",
            shape=(rows, stream.dim),
            chunks=(per_chunk, stream.dim),
            dtype=stream.dtype,
            compressors=(*_compressors(stream), Crc32cCodec()),
            fill_value=0,
            dimension_names=("row", f"{stream.name}_dim"),
        )
        group.create_array(
            "valid",
            shape=(rows,),
            chunks=(per_chunk,),
            dtype="bool",
            compressors=(Crc32cCodec(),),
            fill_value=False,
            dimension_names=("row",),
        )

    def _write_rejects(self, stream: str, chunk: int, reasons: Mapping[int, str]) -> None:
        if not reasons:
            return
        rows = sorted(reasons)
        part = pa.table(
            {
                "row": rows,
                "stream": [stream] * len(rows),
                "sample_id": self._rows["sample_id"].take(rows),
                "reason": [reasons[row] for row in rows],
            },
            schema=tables.REJECTS,
        )
        buffer = io.BytesIO()
        pq.write_table(part, buffer)
        self.folder.write(_reject_part(stream, chunk), buffer.getvalue())

    def _list_streams(self, names: Iterable[str]) -> None:
        self.info = dataclasses.replace(self.info, streams=tuple(names))
        self._write_info()

    def _write_info(self) -> None:
        self.folder.write(INFO_FILE, self.info.to_json())


def write_arrays(
    location: Any,
    features: Mapping[str, npt.NDArray[Any]],
    *,
    modality: Mapping[str, Literal["image", "text"]] | None = None,
    sample_ids: Sequence[str] | None = None,
    captions: Sequence[str | None] | None = None,
    label_ids: Sequence[Sequence[int]] | None = None,
    classes: pa.Table | None = None,
    dtype: Literal["float16", "float32"] = "float32",
    rows_per_chunk: int = ROWS_PER_CHUNK,
) -> ActivationCache:
    """Make a cache from features that you already have.

    Args:
        location: The cache's folder or URL.
        features: By stream name, (rows, dim) each, with the same number of rows: arrays, or what
            NumPy makes arrays of. A row that is zero or not finite is not valid in that stream.
        modality: `image` or `text` by stream; image where it says nothing.
        sample_ids: What the rows' pictures are called; by default the row numbers.
        captions: The rows' captions.
        label_ids: The rows' classes, as `class_id` of `classes`.
        classes: A table of schema `tables.CLASSES`: class_id (from 0), key, name, parent_id, depth.
        dtype: Type to store.
        rows_per_chunk: Rows a chunk.

    Returns:
        The cache, opened for reading.

    Raises:
        CacheError: The arguments do not agree in the number of rows, or the folder holds something
            else.
    """
    features = {name: np.asarray(values) for name, values in features.items()}
    rows = _common_rows(features)
    for what, given in (
        ("sample_ids", sample_ids),
        ("captions", captions),
        ("label_ids", label_ids),
    ):
        if given is not None and len(given) != rows:
            raise CacheError(f"{what}: {len(given)} for {rows} rows")
    ids = list(sample_ids) if sample_ids is not None else [str(row) for row in range(rows)]
    table = pa.table(
        {
            "row": range(rows),
            "sample_id": ids,
            "image": pa.nulls(rows, pa.string()),
            "caption": list(captions) if captions is not None else pa.nulls(rows, pa.string()),
            "label_ids": [list(x) for x in label_ids] if label_ids is not None else [[]] * rows,
        },
        schema=tables.ROWS,
    )
    manifest = Manifest(
        dataset="arrays",
        dataset_format="arrays",
        split="",
        rows=table,
        classes=classes if classes is not None else tables.empty(tables.CLASSES),
    )
    folder = Folder(location)
    with exclusive(folder):
        writer = CacheWriter(folder, manifest, rows_per_chunk=rows_per_chunk)
        for name, values in features.items():
            info = StreamInfo(
                name=name,
                modality=(modality or {}).get(name, "image"),
                dim=values.shape[1],
                dtype=dtype,
                origin=StreamOrigin(spec="array"),
            )
            missing = set(writer.open_stream(info))
            for chunk in range(writer.info.chunks):
                span = writer.info.chunk_rows(chunk)
                part = values[span.start : span.stop]
                reasons = bad_features(part, span.start, dtype=dtype)
                if chunk in missing:
                    writer.write(name, chunk, part, reasons)
                else:
                    _require_equal(ActivationCache(folder), name, chunk, part, reasons)
        writer.finish()
    return ActivationCache(folder)


def _require_equal(
    cache: ActivationCache,
    stream: str,
    chunk: int,
    features: npt.NDArray[Any],
    reasons: Mapping[int, str],
) -> None:
    """Refuse to take a chunk for written that holds other features."""
    stored = cache.features(stream, chunk)
    wanted = features.astype(stored.dtype)
    wanted[[row - cache.info.chunk_rows(chunk).start for row in reasons]] = 0
    if not np.array_equal(stored, wanted):
        raise CacheError(
            f"{cache.folder} holds other features of stream {stream} (chunk {chunk} differs): "
            "choose another folder"
        )


def _common_rows(features: Mapping[str, npt.NDArray[Any]]) -> int:
    if not features:
        raise CacheError("there are no features to write")
    first, *_ = features
    for name, values in features.items():
        if values.ndim != 2:
            raise CacheError(f"stream {name}: features of shape {values.shape}, not (rows, dim)")
        if len(values) != len(features[first]):
            raise CacheError(
                f"stream {name} has {len(values)} rows, stream {first} {len(features[first])}"
            )
    return len(features[first])


def bad_features(
    features: npt.NDArray[Any], first_row: int, *, dtype: Literal["float16", "float32"]
) -> dict[int, str]:
    """Why features cannot be used, by row: those that hold NaN or infinity, or are zero as stored.

    Args:
        features: (rows, dim).
        first_row: The row of the cache that `features[0]` belongs to.
        dtype: Type to store, in which the smallest values become zero.
    """
    finite = np.isfinite(features).all(axis=1)
    zero = ~_stored(features, np.dtype(dtype)).any(axis=1)
    reasons = {int(i) + first_row: "the feature is not finite" for i in np.flatnonzero(~finite)}
    reasons |= {int(i) + first_row: "the feature is zero" for i in np.flatnonzero(zero)}
    return reasons


def _stored(features: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The features in the stored type; what does not fit becomes infinite without a warning."""
    with np.errstate(over="ignore"):
        return features.astype(dtype, copy=False)


def _reject_part(stream: str, chunk: int) -> str:
    return f"{REJECT_PARTS}/{stream}-{chunk:08d}.parquet"


def _compressors(stream: StreamInfo) -> tuple[Any, ...]:
    if stream.compression == "lz4":
        itemsize = np.dtype(stream.dtype).itemsize
        return (BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=itemsize),)
    return (ZstdCodec(level=3),) if stream.compression == "zstd" else ()


def _rounded(values: npt.NDArray[Any], keep_bits: int | None) -> npt.NDArray[Any]:
    """The values with so many mantissa bits, the rest zero: what the BitRound filter does.

    Rounded here and not by a filter of Zarr's, since decoding then needs nothing that is not in
    the Zarr specification.
    """
    if keep_bits is None:
        return values
    return np.asarray(BitRound(keepbits=keep_bits).encode(values)).view(values.dtype)


def _check_values(
    stream: str,
    rows: range,
    features: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    dtype: np.dtype[Any],
) -> None:
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        row = rows.start + int(np.flatnonzero(~finite)[0])
        raise CacheError(f"stream {stream}, row {row}: the feature is not finite")
    if (
        dtype == np.float16
        and (largest := float(np.abs(features).max(initial=0))) > LARGEST_FLOAT16
    ):
        raise CacheError(
            f"stream {stream}: the value {largest:g} does not fit float16 (at most "
            f"{LARGEST_FLOAT16:,.0f}); extract this stream with --dtype float32, under another "
            "name or into another folder"
        )
    zero = valid & ~_stored(features, dtype).any(axis=1)
    if zero.any():
        row = rows.start + int(np.flatnonzero(zero)[0])
        raise CacheError(f"stream {stream}, row {row}: the feature is zero")


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _refuse_other_content(folder: Folder) -> None:
    """Without cache.json only what an interrupted start of a cache leaves may be there."""
    tables_of_ours = (ROWS_FILE, CLASSES_FILE, MASKS_FILE, INFO_FILE)
    for name in folder.files():
        began = name.endswith(PARTIAL) and name.startswith(tables_of_ours)
        if name not in (*tables_of_ours, LOCK_FILE) and not began:
            raise CacheError(
                f"{folder} is not empty and not a cache (it holds {name}): choose another"
            )


def _refuse_other_classes(folder: Folder, wanted: pa.Table) -> None:
    found = tables.read_table(folder, CLASSES_FILE, tables.CLASSES)
    if not found.equals(wanted.select(tables.CLASSES.names).cast(tables.CLASSES)):
        raise CacheError(
            f"{folder} was made with other classes; choose another folder, or repeat the settings "
            "of labels, classes and hierarchy"
        )


def _refuse_other_dataset(
    folder: Folder, found: CacheInfo, wanted: CacheInfo, rows: pa.Table
) -> None:
    difference = next(
        (
            f"{what}: {a} there, {b} now"
            for what, a, b in (
                ("rows", found.rows, wanted.rows),
                ("rows a chunk", found.rows_per_chunk, wanted.rows_per_chunk),
            )
            if a != b
        ),
        None,
    )
    if difference is None and found.manifest_digest != wanted.manifest_digest:
        difference = _first_difference(tables.read_table(folder, ROWS_FILE, tables.ROWS), rows)
    if difference is not None:
        raise CacheError(
            f"{folder} was made from another dataset or with other settings ({difference}): repeat "
            f"what made it, from {shorten(found.dataset, 200)}, or choose another folder"
        )


def _first_difference(found: pa.Table, wanted: pa.Table) -> str:
    for name in ("sample_id", "image", "caption", "label_ids"):
        columns = found.column(name).to_pylist(), wanted.column(name).to_pylist()
        for row, (a, b) in enumerate(zip(*columns, strict=True)):
            if a != b:
                return (
                    f"row {row}, {name}: {shorten(repr(a), 60)} there, {shorten(repr(b), 60)} now"
                )
    return f"the manifest_digest of {INFO_FILE} is not that of {ROWS_FILE}"


def _refuse_other_stream(folder: Folder, found: StreamInfo, wanted: StreamInfo) -> None:
    a, b = _flat(found), _flat(wanted)
    if a["weights_sha256"] and b["weights_sha256"]:
        # The digest tells the weights; the spec may name a file that has been moved.
        del b["spec"]
    for key in b:
        if a.get(key) != b[key]:
            raise CacheError(
                f"{folder}: stream {wanted.name} was made in another way ({key}: {a.get(key)!r} "
                f"there, {b[key]!r} now); give the new stream another name or folder"
            )


def _flat(stream: StreamInfo) -> dict[str, Any]:
    values = to_mapping(stream)
    origin = values.pop("origin")
    return {**values, **origin}
