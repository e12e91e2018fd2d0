"""Writing an activation cache, chunk by chunk, so that it can be killed and resumed anywhere.

The protocol on disk is `CACHE.md`, which is normative. A `CacheWriter` must be the only one in its
folder: hold `sparc.common.files.lock.exclusive` around it.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import zarr
from numcodecs import BitRound

from sparc.common.cache import tables
from sparc.common.cache.features import differing, find_faults
from sparc.common.cache.layout import (
    DOCUMENT,
    STREAM_DOCUMENTS,
    Checksums,
    array_faults,
    attributes_of,
    group_differs,
    recorded_checksums,
    recorded_cut,
    records_of,
    root_document,
    stream_documents,
)
from sparc.common.cache.reader import (
    ACTIVATIONS,
    ARRAYS_DATASET,
    CLASSES_FILE,
    INFO_FILE,
    MASKS_FILE,
    REJECT_PARTS,
    REJECTS_FILE,
    ROOT_DOCUMENT,
    ROWS_FILE,
    ActivationCache,
    CacheInfo,
)
from sparc.common.cache.resume import (
    recognize,
    refuse_other_classes,
    refuse_other_content,
    refuse_other_dataset,
    stream_difference,
)
from sparc.common.cache.verify import Damage, check_stream, check_tables
from sparc.common.config import from_mapping
from sparc.common.errors import CacheError, ConfigError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.files.zarr_store import zarr_store
from sparc.common.progress import progress, say
from sparc.common.streams.spec import Modality, StreamInfo, StreamOrigin
from sparc.common.text import printable
from sparc.common.versions import software_versions

ROWS_PER_CHUNK = 4096
LARGEST_FLOAT16 = 65_504.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The rows of a dataset, before anything is encoded.

    Attributes:
        dataset: The folder or URL that the images come from.
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
        repair: Check every byte of what is there, and make anew what is damaged. Otherwise only
            what is missing is made.

    Raises:
        CacheError: The folder holds something else, or a cache of another dataset or setting.
    """

    def __init__(
        self,
        location: Any,
        manifest: Manifest,
        *,
        rows_per_chunk: int = ROWS_PER_CHUNK,
        repair: bool = False,
    ) -> None:
        self.folder = location if isinstance(location, Folder) else Folder(location)
        self._rows = manifest.rows
        self._repair = repair
        wanted = CacheInfo(
            dataset=manifest.dataset,
            dataset_format=manifest.dataset_format,
            split=manifest.split,
            rows=len(manifest.rows),
            rows_per_chunk=rows_per_chunk,
            manifest_digest=tables.manifest_digest(manifest.rows),
            streams=(),
            versions=software_versions(),
        )
        if wanted.rows == 0:
            raise CacheError(f"{manifest.dataset} has no rows to encode")
        found = self._find_info(wanted)
        if found is None:
            refuse_other_content(self.folder)
        self.folder.remove_partial_files()
        # A cache without streams holds nothing: it is begun anew rather than defended.
        if found is not None and found.streams:
            refuse_other_dataset(self.folder, found, wanted, manifest.rows)
            self._put_info(found)
            if repair:
                self._remove_damaged_tables(has_masks=manifest.masks is not None)
            for name, table in ((ROWS_FILE, manifest.rows), (CLASSES_FILE, manifest.classes)):
                if not self.folder.exists(name):  # lost, or removed because it was damaged
                    tables.write_table(self.folder, name, table)
            refuse_other_classes(self.folder, manifest.classes)
        else:
            tables.write_table(self.folder, ROWS_FILE, manifest.rows)
            tables.write_table(self.folder, CLASSES_FILE, manifest.classes)
            self.folder.remove(MASKS_FILE)
        if manifest.masks is not None and not self.folder.exists(MASKS_FILE):
            tables.write_table(self.folder, MASKS_FILE, manifest.masks)
        if found is None or not found.streams:
            self._put_info(wanted)
        self._arrays: dict[str, tuple[Any, Any]] = {}
        self._streams: dict[str, StreamInfo] = {}
        self._cut: dict[str, dict[int, int]] = {}
        self._checksums: dict[str, Checksums] = {}

    def open_stream(self, stream: StreamInfo) -> list[int]:
        """Add a stream, or go on with it.

        Args:
            stream: What the stream is and what makes it.

        Returns:
            The chunks that are still to be written, in order.

        Raises:
            CacheError: The cache holds a stream of that name that was made in another way, or
                nothing says any more how its chunks were made.
        """
        name = stream.name
        below = f"{ACTIVATIONS}/{name}"
        self._cut[name] = {}
        self._checksums[name] = recorded_checksums({}, self.info.chunks)
        begun = name in self.info.streams and self._has_chunks(name)
        if begun:
            self._streams[name] = self._restored(stream)
        else:
            # Nothing of it counts: it is made anew, under the settings of today.
            self.folder.remove(below)
            self._streams[name] = stream
            for file, document in self._documents(name).items():
                self.folder.write(f"{below}/{file}", document)
        if name not in self.info.streams:
            names = (*self.info.streams, name)
            self._put_info(dataclasses.replace(self.info, streams=names))
        group: Any = zarr.open_group(zarr_store(self.folder, ACTIVATIONS, read_only=False))[name]
        config = {"write_empty_chunks": True}
        self._arrays[name] = (
            group["features"].with_config(config),
            group["valid"].with_config(config),
        )
        if self._repair and begun:
            self._remove_damaged_chunks(name)
        missing = ActivationCache(self.folder).missing_chunks(name)
        self._forget(name, missing)
        return missing

    def write(
        self,
        stream: str,
        chunk: int,
        features: npt.NDArray[Any],
        reasons: Mapping[int, str] | None = None,
        *,
        cut: int | None = None,
    ) -> None:
        """Write a chunk of a stream: from then on it is done.

        Args:
            stream: A stream that `open_stream` opened.
            chunk: Which chunk.
            features: (rows of the chunk, dim), any float type; rows with a reason are ignored.
            reasons: Why a row has no feature, by row of the cache. All other rows are valid.
            cut: How many of its captions were cut at the encoder's context; None does not say.

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
        is_array = self.info.dataset == ARRAYS_DATASET
        advice = 'give dtype="float32"' if is_array else "extract this stream with --dtype float32"
        _check_values(stream, rows, stored, valid, array.dtype, advice)
        # Rejects first, flags last: a chunk with flags is done, and nothing of it is missing.
        self._write_rejects(stream, chunk, reasons)
        if cut is not None:
            self.count_cut(stream, {chunk: cut})
        narrow = stored.astype(array.dtype)
        array[rows.start : rows.stop] = _rounded(narrow, self._streams[stream].keep_bits)
        valid_array[rows.start : rows.stop] = valid

    def count_cut(self, stream: str, cut: Mapping[int, int]) -> None:
        """Record how many captions were cut at the encoder's context, by chunk."""
        counts = {**self._cut[stream], **cut}
        if counts != self._cut[stream]:
            self._cut[stream] = counts
            self._write_records(stream)

    def uncounted(self, stream: str) -> list[int]:
        """The written chunks of which nothing says how many captions were cut, in order."""
        missing = set(ActivationCache(self.folder).missing_chunks(stream))
        known = missing.union(self._cut[stream])
        return [chunk for chunk in range(self.info.chunks) if chunk not in known]

    def unexplained(self, stream: str, *, thorough: bool) -> list[int]:
        """The rows of written chunks that are not valid, and nothing says why, in order.

        Args:
            stream: A stream that `open_stream` opened.
            thorough: Look even where the table of rejects is there, which holds them all unless
                parts that were not gathered yet are lost.
        """
        if self.folder.exists(REJECTS_FILE) and not thorough:
            return []
        cache = ActivationCache(self.folder)
        valid = np.ones(self.info.rows, dtype=np.bool_)
        for chunk in sorted(set(range(self.info.chunks)).difference(cache.missing_chunks(stream))):
            rows = self.info.chunk_rows(chunk)
            valid[rows.start : rows.stop] = cache.valid(stream, chunk)
        rejects = cache.rejects_so_far()
        of_stream = rejects.filter(pc.equal(rejects.column("stream"), stream))
        explained = of_stream.column("row").to_numpy()
        valid[explained[(explained >= 0) & (explained < len(valid))]] = True
        return [int(row) for row in np.flatnonzero(~valid)]

    def explain(self, stream: str, reasons: Mapping[int, str]) -> None:
        """Say why rows are not valid, in the place of reasons that were lost."""
        by_chunk: dict[int, dict[int, str]] = {}
        for row, reason in reasons.items():
            by_chunk.setdefault(row // self.info.rows_per_chunk, {})[row] = reason
        for chunk, here in by_chunk.items():
            self._write_rejects(stream, chunk, here)

    def discard(self, stream: str, chunks: Collection[int]) -> None:
        """Remove written chunks, to be written again."""
        cache = ActivationCache(self.folder)
        for chunk in chunks:
            for file in reversed(cache.chunk_files(stream, chunk)):
                self.folder.remove(file)
        self._forget(stream, chunks)

    def finish(self) -> None:
        """Gather what is known of single chunks; call it when every chunk is written."""
        for stream in self._streams:
            self._record_checksums(stream)
        parts = list(self.folder.files(REJECT_PARTS))
        if parts or not self.folder.exists(REJECTS_FILE):
            tables.write_table(
                self.folder, REJECTS_FILE, ActivationCache(self.folder).rejects_so_far()
            )
        self.folder.remove(REJECT_PARTS)

    # ------------------------------------------------------------------ how it lies in Zarr

    def _documents(self, stream: str) -> dict[str, bytes]:
        return stream_documents(
            self._streams[stream],
            rows=self.info.rows,
            rows_per_chunk=self.info.rows_per_chunk,
            cut=self._cut[stream],
            checksums=self._checksums[stream],
        )

    def _write_records(self, stream: str) -> None:
        """Write what is recorded of the chunks of a stream, in the attributes of `valid`."""
        file = f"valid/{DOCUMENT}"
        self.folder.write(f"{ACTIVATIONS}/{stream}/{file}", self._documents(stream)[file])

    def _has_chunks(self, stream: str) -> bool:
        """Whether something of a stream was written: both objects of a chunk, damaged or not."""
        files = set(self.folder.files(f"{ACTIVATIONS}/{stream}"))
        chunk_files = ActivationCache(self.folder).chunk_files
        return any(files.issuperset(chunk_files(stream, c)) for c in range(self.info.chunks))

    def _restored(self, wanted: StreamInfo) -> StreamInfo:
        """What made the chunks of a stream; metadata that are lost or damaged are written anew."""
        below = f"{ACTIVATIONS}/{wanted.name}"
        files = {name: f"{below}/{name}" for name in STREAM_DOCUMENTS}
        found = {n: self.folder.read(f) for n, f in files.items() if self.folder.exists(f)}
        accounts = [_stream_info(found.get(name)) for name in STREAM_DOCUMENTS[:2]]
        told = [account for account in accounts if account is not None]
        if not told:
            raise CacheError(
                f"{self.folder}: nothing says any more what made the chunks of stream "
                f"{wanted.name}; remove {below} to have all of them made anew"
            )
        made_by = next((info for info in told if not stream_difference(info, wanted)), told[0])
        if difference := stream_difference(made_by, wanted):
            raise CacheError(
                f"{self.folder}: stream {wanted.name} was made in another way ({difference}); "
                "give the new stream another name or folder"
            )
        self._streams[wanted.name] = made_by
        records: dict[str, Any] = {}
        with suppress(ValueError):  # damaged records are gathered again
            records = records_of(found.get(f"valid/{DOCUMENT}", b""))
        self._cut[wanted.name] = recorded_cut(records)
        self._checksums[wanted.name] = recorded_checksums(records, self.info.chunks)
        for name, document in self._documents(wanted.name).items():
            if name not in found or _differs(name, found[name], document):
                self.folder.write(files[name], document)
        return made_by

    def _record_checksums(self, stream: str) -> None:
        """Record what the chunks end in, so that they cannot be exchanged unnoticed."""
        cache = ActivationCache(self.folder)
        unknown = False
        for name, checksums in self._checksums[stream].items():
            for chunk, checksum in enumerate(checksums):
                if checksum is None:
                    checksums[chunk] = cache.checksum(stream, name, chunk)
                    unknown = True
        if unknown:
            self._write_records(stream)

    def _remove_damaged_tables(self, *, has_masks: bool) -> None:
        cache = ActivationCache(self.folder)
        for damage in check_tables(cache):
            if MASKS_FILE in damage.files and not has_masks:
                raise CacheError(
                    f"{self.folder}: {damage}; repeat the command with --masks, or remove the file"
                )
            self._remove(damage)

    def _remove_damaged_chunks(self, stream: str) -> None:
        cache = ActivationCache(self.folder)
        # Where they are lost, every row without a feature would be told to be without a reason.
        rejects = cache.rejects() if self.folder.exists(REJECTS_FILE) else None
        with progress(cache.info.rows, f"verifying {stream}") as bar:
            for damage in check_stream(cache, stream, rejects, checked=bar.update):
                self._remove(damage)

    def _remove(self, damage: Damage) -> None:
        """Remove what is damaged; what is missing is made afterwards."""
        say(printable(str(damage)))
        # Flags before features: a chunk without flags is not done.
        for name in reversed(damage.files):
            self.folder.remove(name)

    def _forget(self, stream: str, chunks: Collection[int]) -> None:
        """Forget what is known of chunks: they may turn out otherwise this time."""
        recorded = False
        for chunk in chunks:
            self.folder.remove(_reject_part(stream, chunk))
            for checksums in self._checksums[stream].values():
                recorded = recorded or checksums[chunk] is not None
                checksums[chunk] = None
        if recorded:
            self._write_records(stream)
        if not chunks or not self.folder.exists(REJECTS_FILE):
            return
        rejects = tables.read_table(self.folder, REJECTS_FILE, tables.REJECTS)
        places = rejects.column("row").to_numpy() // self.info.rows_per_chunk
        of_stream = pc.equal(rejects.column("stream"), stream).to_numpy()
        kept = rejects.filter(pa.array(~(of_stream & np.isin(places, list(chunks)))))
        if len(kept) < len(rejects):
            tables.write_table(self.folder, REJECTS_FILE, kept)

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
        tables.write_table(self.folder, _reject_part(stream, chunk), part)

    def _find_info(self, wanted: CacheInfo) -> CacheInfo | None:
        """What `cache.json` says, or its copy where it is lost or agrees less with the dataset."""
        copy = CacheInfo.read_copy(self.folder)
        if not self.folder.exists(INFO_FILE):
            return copy if copy is not None and copy.streams else None
        told = [] if copy is None else [copy]
        try:
            told.insert(0, CacheInfo.read(self.folder))
        except CacheError as error:
            if not self._repair:
                raise
            if not told:
                raise CacheError(
                    f"{self.folder}: neither {INFO_FILE} nor {ROOT_DOCUMENT}, which repeats it, "
                    "can be read: extract into another folder"
                ) from error
            say(printable(str(error).partition(";")[0]))
        fields = [f.name for f in dataclasses.fields(CacheInfo) if f.name != "streams"]
        return max(told, key=lambda i: sum(getattr(i, n) == getattr(wanted, n) for n in fields))

    def _put_info(self, info: CacheInfo) -> None:
        """Write `cache.json` and its copy, where they are not there already."""
        self.info = info
        # The copy first: what cache.json does not name yet does not count.
        for name, content in (
            (ROOT_DOCUMENT, root_document(info.to_document())),
            (INFO_FILE, info.to_json()),
        ):
            if not self.folder.exists(name) or self.folder.read(name) != content:
                self.folder.write(name, content)


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

    Where the cache is there already, its chunks must be those of the features; what is missing or
    damaged is made anew.

    Args:
        location: The cache's folder or URL.
        features: By stream name, (rows, dim) each, with the same number of rows: arrays, or what
            NumPy makes arrays of. A row that is zero or not finite is not valid in that stream.
        modality: `image` or `text` by stream; image where it says nothing.
        sample_ids: What the rows' images are called; by default the row numbers. The rows of one
            image must follow one another, with the same labels and, in a stream of images, the
            same feature.
        captions: The rows' captions.
        label_ids: The rows' classes, as `class_id` of `classes`.
        classes: A table of schema `tables.CLASSES`: class_id (from 0), key, name, parent_id, depth.
        dtype: Type to store.
        rows_per_chunk: Rows a chunk.

    Returns:
        The cache, opened for reading.

    Raises:
        CacheError: The arguments do not fit each other, features are no floats, rows of one image
            contradict each other, or the folder holds something else.
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
    if rows_per_chunk < 1:
        raise CacheError(f"rows_per_chunk must be at least 1, not {rows_per_chunk}")
    classes = classes if classes is not None else tables.empty(tables.CLASSES)
    _require_known(features, modality or {}, label_ids or (), classes)
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
    if (contradiction := next(tables.image_faults(table), None)) is not None:
        fault, wrong = contradiction
        raise CacheError(f"row {wrong[0]}: {fault}")
    goes_on = tables.same_image(table)
    for name, values in features.items():
        if (modality or {}).get(name, "image") == "image":
            _require_same(name, values, goes_on, np.dtype(dtype))
    manifest = Manifest(
        dataset=ARRAYS_DATASET,
        dataset_format=ARRAYS_DATASET,
        split="",
        rows=table,
        classes=classes,
    )
    folder = Folder(location)
    with exclusive(folder, recognize):
        writer = CacheWriter(folder, manifest, rows_per_chunk=rows_per_chunk, repair=True)
        for name, values in features.items():
            info = StreamInfo(
                name=name,
                modality=(modality or {}).get(name, "image"),
                dim=values.shape[1],
                dtype=dtype,
                origin=StreamOrigin(spec="array"),
            )
            missing = set(writer.open_stream(info))
            cache = ActivationCache(folder)
            for chunk in range(writer.info.chunks):
                span = writer.info.chunk_rows(chunk)
                part = values[span.start : span.stop]
                reasons = bad_features(part, span.start, dtype=dtype)
                if chunk in missing:
                    writer.write(name, chunk, part, reasons)
                else:
                    _require_equal(cache, name, chunk, part, reasons)
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


def _require_same(
    stream: str,
    features: npt.NDArray[Any],
    goes_on: npt.NDArray[np.bool_],
    dtype: np.dtype[Any],
) -> None:
    """Refuse another feature than that of the row before where a row goes on with its image."""
    for start in range(0, len(features), ROWS_PER_CHUNK):
        rows = slice(max(start - 1, 0), start + ROWS_PER_CHUNK)
        stored = _stored(features[rows], dtype)
        faults = find_faults(stored)
        wrong = differing(stored, goes_on[rows], ~faults.not_finite & ~faults.zero)
        if wrong.any():
            row = rows.start + int(np.flatnonzero(wrong)[0])
            raise CacheError(
                f"stream {stream}, row {row}: the feature is not that of the row before, of the "
                "same sample_id; if it is of a text, say so with modality"
            )


def _common_rows(features: Mapping[str, npt.NDArray[Any]]) -> int:
    if not features:
        raise CacheError("there are no features to write")
    first, *_ = features
    for name, values in features.items():
        if values.ndim != 2:
            raise CacheError(f"stream {name}: features of shape {values.shape}, not (rows, dim)")
        if values.dtype not in (np.float16, np.float32, np.float64):
            raise CacheError(
                f"stream {name}: features of type {str(values.dtype).lstrip('<>=|')}, not float16, "
                "float32 or float64"
            )
        if len(values) != len(features[first]):
            raise CacheError(
                f"stream {name} has {len(values)} rows, stream {first} {len(features[first])}"
            )
    return len(features[first])


def _require_known(
    features: Mapping[str, npt.NDArray[Any]],
    modality: Mapping[str, str],
    label_ids: Sequence[Sequence[int]],
    classes: pa.Table,
) -> None:
    for name in modality:
        if name not in features:
            raise CacheError(f"modality of {name!r}: there is no such stream")
        if modality[name] not in get_args(Modality):
            raise CacheError(f"modality of {name!r}: {modality[name]!r} is neither image nor text")
    if not tables.counts_from_0(classes["class_id"]):
        raise CacheError("classes: class_id must count from 0 in the order of the table")
    known = range(len(classes))
    for unknown in {each for ids in label_ids for each in ids}.difference(known):
        raise CacheError(f"label_ids name class {unknown}, which is not in classes")


def bad_features(
    features: npt.NDArray[Any], first_row: int, *, dtype: Literal["float16", "float32"]
) -> dict[int, str]:
    """Why features cannot be used, by row: those that hold NaN or infinity, or are zero as stored.

    Args:
        features: (rows, dim).
        first_row: The row of the cache that `features[0]` belongs to.
        dtype: Type to store, in which the smallest values become zero.
    """
    not_finite = find_faults(features).not_finite
    zero = find_faults(_stored(features, np.dtype(dtype))).zero
    reasons = {int(i) + first_row: "the feature is not finite" for i in np.flatnonzero(not_finite)}
    reasons |= {int(i) + first_row: "the feature is zero" for i in np.flatnonzero(zero)}
    return reasons


def _stored(features: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The features in the stored type; what does not fit becomes infinite without a warning."""
    with np.errstate(over="ignore"):
        return features.astype(dtype, copy=False)


def _reject_part(stream: str, chunk: int) -> str:
    return f"{REJECT_PARTS}/{stream}-{chunk:08d}.parquet"


def _stream_info(document: bytes | None) -> StreamInfo | None:
    """What a document says made a stream; None where it says nothing."""
    try:
        return from_mapping(StreamInfo, attributes_of(document or b"") or {}, source=DOCUMENT)
    except (TypeError, ConfigError):
        return None


def _differs(name: str, found: bytes, wanted: bytes) -> bool:
    """Whether a document says something else than it should."""
    if name == DOCUMENT:
        return group_differs(found, wanted)
    return bool(array_faults(found, wanted)) or attributes_of(found) != attributes_of(wanted)


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
    advice: str,
) -> None:
    faults = find_faults(features)
    if faults.not_finite.any():
        row = rows.start + int(np.flatnonzero(faults.not_finite)[0])
        raise CacheError(f"stream {stream}, row {row}: the feature is not finite")
    if (
        dtype == np.float16
        and (largest := float(np.abs(features).max(initial=0))) > LARGEST_FLOAT16
    ):
        raise CacheError(
            f"stream {stream}: the value {largest:g} does not fit float16 (at most "
            f"{LARGEST_FLOAT16:,.0f}); {advice}, under another name or into another folder"
        )
    zero = valid & find_faults(_stored(features, dtype)).zero
    if zero.any():
        row = rows.start + int(np.flatnonzero(zero)[0])
        raise CacheError(f"stream {stream}, row {row}: the feature is zero")
