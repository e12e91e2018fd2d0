"""What is known of the rows of an import: captions, labels, images and further columns.

They come from a table that was named, or from the columns beside the features. Every column is
handled as a whole; no row becomes an object of Python.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.cache import tables
from sparc.common.cache.account.account import UsedFiles
from sparc.common.cache.columns import column_array, stored_type
from sparc.common.cache.own.rows import table_of_classes
from sparc.common.errors import DatasetError
from sparc.common.text import listed, reason, shorten
from sparc.extract.importing.config import ImportConfig
from sparc.extract.importing.finding import FoundStream, as_names, columns_beside
from sparc.extract.importing.naming import CAPTIONS, IDS, IMAGES, LABELS, column_called
from sparc.extract.importing.table import read_table

ALL_COLUMNS = "all"


@dataclasses.dataclass(frozen=True)
class KnownRows:
    """A table of what is known of rows, of which columns are read when they are wanted.

    Attributes:
        where: The file.
        columns: The names of its columns.
        column: Reads one of them.
        rows: How many rows it has; None where they are those of `stream`.
        stream: The stream beside whose features it lies; empty where it is a table of its own.
        note: What was left out of it; empty where nothing was.
    """

    where: Path
    columns: Sequence[str]
    column: Callable[[str], pa.Array]
    rows: int | None
    stream: str
    note: str = ""


def known_rows(config: ImportConfig, streams: Sequence[FoundStream]) -> KnownRows | None:
    """The table that was named, or else the columns beside features that know most of their rows.

    Of those that know captions, else labels, the first.
    """
    if config.table is not None:
        texts = {*IDS, *CAPTIONS, *IMAGES}
        given = {config.id_column, config.caption_column, config.image_column}
        table = read_table(config.table, lambda name: name.lower() in texts or name in given)
        return KnownRows(config.table, table.columns, table.column, table.rows, "", table.note)
    best: KnownRows | None = None
    most = -1
    for stream in streams:
        columns = columns_beside(stream.file, stream.key, stream.array.rows)
        known = 2 * bool(column_called(CAPTIONS, columns)) + bool(column_called(LABELS, columns))
        if columns and known > most:
            best = KnownRows(stream.file.path, columns, stream.file.column, None, stream.name)
            most = known
    return best


def table_ids(known: KnownRows, config: ImportConfig) -> pa.Array | None:
    """The names of the rows of a table of its own; None where it has none, or rows are not named.

    Raises:
        DatasetError: The column that was named does not exist, or holds something else.
    """
    name = _chosen(known, config.id_column, IDS, "--id-column")
    if not name or config.align == "rows":
        return None
    return as_names(known.column(name), f"{known.where}, {name}")


@dataclasses.dataclass(frozen=True)
class Described:
    """The rows of a cache, and what was used to describe them.

    Attributes:
        rows: Of schema `tables.ROWS`, with further columns.
        classes: Of schema `tables.CLASSES`.
        dataset: The folder of the images; empty where there is none.
        used: The table, with its columns; None without one.
        lines: What to say about it.
    """

    rows: pa.Table
    classes: pa.Table
    dataset: str
    used: UsedFiles | None
    lines: tuple[str, ...]


class Describer:
    """Describes the rows of an import.

    Args:
        config: The settings.
        known: What is known of them, if anything is.
        take: Brings a column of `known` to the rows of the cache; null where they have none.
    """

    def __init__(
        self, config: ImportConfig, known: KnownRows | None, take: Callable[[pa.Array], pa.Array]
    ) -> None:
        self._config = config
        self._known = known
        self._take = take
        self._used: list[str] = []
        self._refused: list[str] = []
        self._lines = [known.note] if known is not None and known.note else []

    def describe(self, ids: pa.Array | None, rows: int) -> Described:
        """The rows with all that is known of them.

        Args:
            ids: Their names; None where they have none.
            rows: How many.

        Raises:
            DatasetError: A column that was asked for does not exist or cannot be kept, or rows of
                one name contradict each other.
        """
        config = self._config
        caption = self._texts(config.caption_column, CAPTIONS, "--caption-column", rows)
        labels, classes = self._labels(rows)
        dataset, images = self._images(rows)
        numbers = pa.array(np.arange(rows))
        names = pc.cast(numbers, pa.string()) if ids is None else ids
        if ids is not None and self._known and not self._known.stream:
            self._used.append(_chosen(self._known, config.id_column, IDS, "--id-column"))
        table = pa.table([numbers, names, images, caption, labels], schema=tables.ROWS)
        table = tables.with_columns(table, self._columns())
        if (contradiction := next(tables.image_faults(table), None)) is not None:
            fault, wrong = contradiction
            raise DatasetError(
                f"row {wrong[0]}, {shorten(str(names[int(wrong[0])]), 60)}: {fault}; name each "
                "row once, or take rows as they are with --align rows"
            )
        return Described(table, classes, dataset, self._account(), tuple(self._lines))

    def _account(self) -> UsedFiles | None:
        if self._known is None:
            return None
        used = tuple(dict.fromkeys(name for name in self._used if name))
        known = (*used, *self._refused)
        unused = tuple(name for name in self._known.columns if name not in known)
        return UsedFiles(
            what=str(self._known.where),
            used=used,
            unused=unused,
            advice=f"--column {unused[0]} keeps it" if unused else "",
        )

    def _texts(self, given: str, usual: Sequence[str], flag: str, rows: int) -> pa.Array:
        """A column of texts; of nulls where there is none."""
        name = _chosen(self._known, given, usual, flag) if self._known or given else ""
        if not name or self._known is None:
            return pa.nulls(rows, pa.string())
        values = self._known.column(name)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if stored_type(values.type) != pa.string():
            if given:
                raise DatasetError(f"{self._known.where}: {name} holds {values.type}, not texts")
            self._lines.append(f"{name} holds {values.type}, so it is taken for no caption")
            return pa.nulls(rows, pa.string())
        self._used.append(name)
        texts = self._take(values.cast(pa.string()))
        return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)

    def _labels(self, rows: int) -> tuple[pa.Array, pa.Table]:
        """The class ids of each row, and the classes."""
        given = self._config.label_column
        name = _chosen(self._known, given, LABELS, "--label-column") if self._known or given else ""
        names = _class_names(self._config.classes) if self._config.classes else None
        if not name or self._known is None:
            empty = pa.array(np.zeros(rows + 1, np.int32))
            labels = pa.ListArray.from_arrays(empty, pa.array([], pa.int32()))
            return labels, tables.empty(tables.CLASSES)
        values = self._known.column(name)
        kind = values.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            present = np.concatenate([[0], np.cumsum(np.asarray(values.is_valid()))])
            flat = values.drop_null()
            values = pa.ListArray.from_arrays(pa.array(present.astype(np.int32)), flat)
        taken = self._take(values)
        flat, lengths = taken.flatten(), pc.fill_null(pc.list_value_length(taken), 0)
        offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths))]).astype(np.int32)
        ids, class_names = self._class_ids(name, flat, names)
        self._used.append(name)
        return pa.ListArray.from_arrays(pa.array(offsets), ids), table_of_classes(class_names)

    def _class_ids(
        self, column: str, flat: pa.Array, names: list[str] | None
    ) -> tuple[pa.Array, list[str]]:
        """Labels as places in a list of classes, and that list."""
        assert self._known is not None
        where = f"{self._known.where}, {column}"
        if flat.null_count:
            raise DatasetError(f"{where}: a list of labels holds null")
        if pa.types.is_dictionary(flat.type):
            flat = flat.dictionary_decode()
        is_number = pa.types.is_integer(flat.type)
        if is_number and names is not None:
            bad = [v for v in pc.unique(flat).to_pylist() if not 0 <= v < len(names)]
            if bad:
                raise DatasetError(
                    f"{where}: class {bad[0]}, but {self._config.classes} names {len(names)}"
                )
            return flat.cast(pa.int32()), names
        if not is_number and stored_type(flat.type) != pa.string():
            raise DatasetError(f"{where}: labels of type {flat.type}, neither names nor numbers")
        unique = pc.unique(flat)
        values = unique.take(pc.sort_indices(unique))
        texts = values.cast(pa.string()).to_pylist()
        if names is not None:
            if unknown := sorted({*texts} - {*names}):
                raise DatasetError(
                    f"{where}: class {shorten(unknown[0], 60)!r} is not in {self._config.classes}"
                )
            values, texts = pa.array(names), names
        ids = pc.index_in(flat.cast(values.type), value_set=values)
        return ids.cast(pa.int32()), texts

    def _images(self, rows: int) -> tuple[str, pa.Array]:
        """The folder of the images and their names in it."""
        none = pa.nulls(rows, pa.string())
        folder, given = self._config.images, self._config.image_column
        if folder is None:
            if given:
                raise DatasetError("--image-column needs --images, the folder that they lie in")
            return "", none
        if not folder.is_dir():
            raise DatasetError(f"--images: there is no folder {folder}")
        values = self._texts(given, IMAGES, "--image-column", rows)
        root = str(folder.absolute())
        inside = pc.starts_with(values, root + "/")
        cut = pc.utf8_slice_codeunits(values, start=len(root) + 1)
        names = pc.if_else(inside, cut, values)
        unique = pc.unique(names).drop_null()
        there = pa.array([_lies_in(folder, name) for name in unique.to_pylist()], pa.bool_())
        lacking = len(unique) - (pc.sum(there).as_py() or 0)
        if lacking == len(unique):
            example = f", such as {shorten(str(unique[0]), 80)}" if len(unique) else ""
            raise DatasetError(
                f"--images: none of {len(unique):,} images is in {folder}{example}: say with "
                "--image-column which column names them"
            )
        if lacking:
            self._lines.append(f"{lacking:,} of {len(unique):,} images are not in {folder}")
        known = pc.is_in(names, value_set=unique.filter(there))
        return root, pc.if_else(known, names, none)

    def _columns(self) -> dict[str, pa.Array]:
        wanted = self._config.columns
        if not wanted:
            return {}
        columns = self._known.columns if self._known else ()
        if tuple(wanted) == (ALL_COLUMNS,):
            wanted = tuple(
                name for name in columns if name not in (*self._used, *tables.ROWS.names)
            )
        kept = {}
        for name in wanted:
            if self._known is None or name not in columns:
                known = shorten(", ".join(columns), 300) or "none"
                raise DatasetError(f"there is no column {name!r} to keep; columns: {known}")
            values = self._known.column(name)
            if stored_type(values.type) is None and self._config.columns == (ALL_COLUMNS,):
                self._lines.append(f"column {name} holds {values.type}: it is not kept")
                self._refused.append(name)
                continue
            try:
                tables.check_column_name(name)
                kept[name] = column_array(self._take(values))
            except ValueError as error:
                raise DatasetError(f"{self._known.where}: column {name!r}: {error}") from error
        self._used += list(kept)
        return kept


def _chosen(known: KnownRows | None, given: str, usual: Sequence[str], flag: str) -> str:
    """The column that was named, or the first with a usual name; empty where there is none."""
    columns = known.columns if known is not None else ()
    if given and given not in columns:
        where = f"{known.where} has" if known else "there is"
        raise DatasetError(
            f"{flag} {given}: {where} no such column; columns: "
            f"{shorten(', '.join(columns), 300) or 'none'}"
        )
    return given or column_called(usual, columns)


def _class_names(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"--classes: cannot read {path}: {reason(error)}") from error
    names = [line.strip() for line in lines if line.strip()]
    if twice := sorted(name for name, times in Counter(names).items() if times > 1):
        raise DatasetError(f"--classes: {path} has {listed(twice[:3])} more than once")
    return names


def _lies_in(folder: Path, name: str) -> bool:
    """Whether a name is that of a file in a folder, and leads nowhere else."""
    path = folder / name
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())
