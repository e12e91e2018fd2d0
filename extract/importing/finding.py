"""Which arrays of which files become which streams, and where the names of their rows lie."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from sparc.common.errors import ConfigError, DatasetError
from sparc.common.streams.info import Modality
from sparc.common.streams.origin import ImportedFrom
from sparc.common.text import shorten
from sparc.extract.importing.arrays.array import FeatureArray
from sparc.extract.importing.config import ImportConfig, Place
from sparc.extract.importing.naming import (
    IDS,
    column_called,
    guessed_modality,
    names_of,
    stream_name,
)
from sparc.extract.importing.sources.feature_file import STACK, FeatureFile
from sparc.extract.importing.sources.registry import AUTO, FORMATS

_PICKLES = (".pkl", ".pickle", ".joblib")


@dataclasses.dataclass(frozen=True)
class FoundStream:
    """An array that becomes a stream.

    Attributes:
        name: The stream.
        modality: What its features are of.
        file: The file that the array lies in.
        format: What that was read as.
        key: The array in it.
        array: The array.
        ids: The names of its rows, as texts; None where they have none.
        ids_in: Where these lie: a file, and the column in it; None where they have none.
    """

    name: str
    modality: Modality
    file: FeatureFile
    format: str
    key: str
    array: FeatureArray
    ids: pa.Array | None
    ids_in: tuple[Path, str] | None

    def imported(self, *, by_ids: bool) -> ImportedFrom:
        """The provenance of the stream."""
        stats = [path.stat() for path in self.file.files()]
        return ImportedFrom(
            path=str(self.file.path.absolute()),
            key=self.key,
            format=self.format,
            bytes=sum(stat.st_size for stat in stats),
            modified=int(max(stat.st_mtime for stat in stats)),
            rows=self.array.rows,
            dtype=self.array.dtype,
            aligned="ids" if by_ids else "rows",
        )


class Finder:
    """Finds the arrays that a command asks for.

    Args:
        source: The file or folder that was named.
        config: The settings.

    Raises:
        DatasetError: There is no such file.
    """

    def __init__(self, source: Path, config: ImportConfig) -> None:
        if not source.exists():
            raise DatasetError(f"there is no file or folder {source}")
        self._source = source
        self._config = config
        self._opened: dict[Path, tuple[str, FeatureFile]] = {}
        self.passed_over: dict[Path, str] = {}
        """Files of the source that hold no stream, and what may be done with them."""

    def shown(self, path: Path) -> str:
        """A file as the account names it: below the folder that was named, if it lies there."""
        folder = (self._source if self._source.is_dir() else self._source.parent).absolute()
        whole = path.absolute()
        if whole == folder:
            return folder.name
        return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(path)

    def streams(self) -> list[FoundStream]:
        """The streams in the order in which they were named, or that of their files.

        Raises:
            DatasetError: An array does not exist, is none of features, or has no rows; or nothing
                in the source is one.
        """
        places = self._config.places or self._all()
        for name in (*self._config.modalities, *self._named_ids()):
            if name not in places:
                known = shorten(", ".join(places), 200)
                raise ConfigError(f"there is no stream {name!r}; there are {known}")
        return [self._found(name, place) for name, place in places.items()]

    def columns(self, path: Path) -> Sequence[str]:
        """What a file of features has beside them."""
        return tuple(self._open(path)[1].columns())

    # ------------------------------------------------------------------ streams

    def _all(self) -> dict[str, Place]:
        """All arrays of the source, by the names that they get."""
        paths = [self._source]
        if self._source.is_dir() and self._format_of(self._source) is None:
            paths = sorted(e for e in self._source.iterdir() if not e.name.startswith("."))
            table = self._config.table
            paths = [
                e for e in paths if table is None or not table.exists() or not e.samefile(table)
            ]
        places: dict[str, Place] = {}
        errors: list[DatasetError] = []
        for path in paths:
            try:
                keys = list(self._open(path)[1].arrays())
            except DatasetError as error:
                errors.append(error)
                self.passed_over[path] = str(error).removeprefix(f"{path}: ")
                continue
            if not keys:
                columns = shorten(", ".join(self._open(path)[1].columns()), 200)
                self.passed_over[path] = f"if {columns} names rows: --ids NAME={path.name}"
                errors.append(_no_vectors(path, columns))
            for key in keys:
                name = stream_name(path, key, several=len(keys) > 1)
                if name in places:
                    raise DatasetError(
                        f"{path} and another array would both be called {name}: name them, "
                        f"--stream NAME={path.name}{f'::{key}' if key else ''} …"
                    )
                places[name] = Place("" if path == self._source else str(path.absolute()), key)
        if not places:
            raise errors[0] if errors else DatasetError(f"{self._source} holds no features")
        return places

    def _found(self, name: str, place: Place) -> FoundStream:
        path = self._path(place)
        kind, file = self._open(path)
        arrays = file.arrays()
        key = place.key
        if not key and len(arrays) == 1:
            key = next(iter(arrays))
        if key not in arrays:
            names = shorten(", ".join(filter(None, arrays)), 200) or "none with a name"
            raise DatasetError(
                f"stream {name}: {path} has "
                + (f"no array {key!r}; it has {names}" if key else f"several arrays, {names}")
                + f": --stream {name}={place.path or path.name}::KEY"
            )
        array = arrays[key]
        if not array.rows:
            raise DatasetError(f"stream {name}: {path} has no rows")
        ids, ids_in = self._ids(name, file, key, array)
        modality = self._config.modalities.get(name) or guessed_modality(name, path, key)
        return FoundStream(name, modality, file, kind, key, array, ids, ids_in)

    # ------------------------------------------------------------------ names of rows

    def _named_ids(self) -> dict[str, Place]:
        return {
            name: Place.parse(place)
            for name, equals, place in (text.partition("=") for text in self._config.ids)
            if equals
        }

    def _ids(
        self, stream: str, file: FeatureFile, key: str, array: FeatureArray
    ) -> tuple[pa.Array | None, tuple[Path, str] | None]:
        """The names of an array's rows, and where they lie."""
        if self._config.align == "rows":
            return None, None
        place = self._named_ids().get(stream) or self._names_beside(file, key, array)
        keys = [text for text in self._config.ids if "=" not in text]
        if place is not None:
            file = self._open(self._path(place))[1]
            self.passed_over.pop(file.path, None)
            columns = list(file.columns())
            name = place.key or (columns[0] if len(columns) == 1 else column_called(IDS, columns))
        else:
            columns = list(file.columns())
            beside = columns_beside(file, key, array.rows)
            named = next((key for key in keys if key in columns), "")
            name = named if keys else column_called(IDS, beside)
        if (place is not None or keys) and name not in columns:
            known = ", ".join(columns) or "none"
            raise DatasetError(
                f"stream {stream}: {file.path} has no array of names; it has {shorten(known, 200)}"
            )
        if not name:
            return None, None
        values = file.column(name)
        where = f"{file.path}, {name}"
        if len(values) != array.rows:
            raise DatasetError(
                f"stream {stream}: {len(values):,} names of rows in {where} for {array.rows:,} "
                "rows: say with --ids where they lie, or take rows as they are with --align rows"
            )
        return as_names(values, where), (file.path, name)

    def _names_beside(self, file: FeatureFile, key: str, array: FeatureArray) -> Place | None:
        """The file that its own name says to name the rows: `dino_ids.npy` beside `dino.npy`."""
        if self._config.ids or column_called(IDS, columns_beside(file, key, array.rows)):
            return None
        names = [
            path
            for path in sorted(file.path.parent.iterdir())
            if names_of(file.path, path) and self._format_of(path) and self._open(path)[1].columns()
        ]
        return Place(str(names[0].absolute()), "") if len(names) == 1 else None

    # ------------------------------------------------------------------ files

    def _path(self, place: Place) -> Path:
        if not place.path:
            return self._source
        folder = self._source if self._source.is_dir() else self._source.parent
        path = folder / Path(place.path).expanduser()
        if not path.exists():
            path = Path(place.path).expanduser()
        if not path.exists():
            raise DatasetError(f"there is no {place.path} in {folder}, nor in the working folder")
        return path

    def _open(self, path: Path) -> tuple[str, FeatureFile]:
        if path not in self._opened:
            kind = self._format_of(path)
            if kind is None:
                raise DatasetError(f"{path}: in no format of features: {_advice(path)}")
            self._opened[path] = kind, FORMATS[kind].load()(path)
        return self._opened[path]

    def _format_of(self, path: Path) -> str | None:
        """The format of a file or folder; None where it is in none."""
        given = self._config.format
        if given != AUTO:
            return given if path.is_file() or path == self._source else None
        return next((name for name, e in FORMATS.items() if e.load().recognises(path)), None)


def as_names(values: pa.Array, where: str) -> pa.Array:
    """Names of rows as texts; whole numbers become their digits.

    Raises:
        DatasetError: They are something else, or one is missing.
    """
    if values.null_count:
        row = values.is_null().index(True).as_py()
        raise DatasetError(f"{where}: row {row:,} has no name")
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values.cast(pa.string())
    raise DatasetError(
        f"{where}: names of rows of type {kind}, neither texts nor whole numbers: save them as "
        "texts, or take rows as they follow one another with --align rows"
    )


def columns_beside(file: FeatureFile, key: str, rows: int) -> list[str]:
    """The columns of a file that can be of the rows of one of its arrays."""
    group = key.rpartition("/")[0]
    return [
        name
        for name, values in file.columns().items()
        if values == rows and name.rpartition("/")[0] in (group, "")
    ]


def _no_vectors(path: Path, columns: str) -> DatasetError:
    """The error for a file with one value a row in each of its columns."""
    return DatasetError(
        f"{path}: no vectors, which are (rows, dim) floats or a column of lists of floats: it has "
        f"{columns}; stack what belongs together, np.stack(…).astype('float32'), and save that "
        "with np.save or torch.save"
    )


def _advice(path: Path) -> str:
    """What to do with a file that is in no format of features."""
    if path.suffix in _PICKLES:
        return (
            "a pickle runs whatever code it names; load it where it was made, and save arrays "
            "with np.save or torch.save"
        )
    if path.suffix in (".csv", ".tsv", ".jsonl", ".ndjson"):
        return f"captions and labels of a table: --table {path.name}"
    if path.is_dir() and next(path.glob("*.npy"), None) is not None:
        return (
            "its .npy files differ in more than a number, so they are not one stream: import the "
            f"folder itself, each is a stream; or stack them first, {STACK}"
        )
    if (path / "dataset_info.json").is_file():
        return 'save it with to_parquet("features.parquet"), and import that'
    return f"formats are {', '.join(FORMATS)}"
