"""Reads CSVs of labels in the form of Open Images, which have tens of millions of lines.

They are read in blocks by Arrow; no line becomes an object, and only the labels of the images that
are wanted are kept.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from sparc.common.errors import DatasetError
from sparc.common.progress import say
from sparc.common.text import reason, shorten
from sparc.extract.datasets.account import Omissions
from sparc.extract.datasets.labels.utf8 import Utf8
from sparc.extract.datasets.metadata import LARGEST_LINE

_BLOCK = 1 << 20
"""Bytes that are parsed at once."""

_ROWS_AT_ONCE = 1 << 18
"""Fewest lines that are compared with the wanted ids at once: each time costs as much as those."""

_KEPT_STRANGERS = 200_000
"""Most labels of ids that are not wanted that are kept, to look at how these are written."""

_NAMED_CONFIDENCES = 10
"""Confidences of a block that are no numbers and are named; all further ones are counted."""

_NEEDED = ("imageid", "labelname")
_SEPARATORS = ",;\t|"

Int32s = npt.NDArray[np.int32]


class Strangers(NamedTuple):
    """Labels of ids that are not wanted.

    Attributes:
        lines: How many there are.
        example: One of the ids; empty if there is none.
        ids: The ids of all; nothing if there are too many.
        classes: Their classes, as in `LabelTable`.
    """

    lines: int
    example: str
    ids: pa.Array
    classes: Int32s


class LabelTable(NamedTuple):
    """The labels of wanted images: entry i says that an image has a class.

    Attributes:
        images: Places in the wanted ids.
        classes: Places in `keys`.
        keys: Of the classes.
        lines: Labels that count, of any id.
        strangers: Those of ids that are not wanted.
        used: The file's columns that are used, as it writes them.
        unused: Its further columns.
    """

    images: Int32s
    classes: Int32s
    keys: Sequence[str]
    lines: int
    strangers: Strangers
    used: Sequence[str]
    unused: Sequence[str]


def read_labels(path: Path, name: str, wanted: pa.Array, omissions: Omissions) -> LabelTable:
    """The confirmed labels of a CSV of ImageID,LabelName,Confidence, for these images.

    Columns may be in another case, and cells may have spaces around them; semicolons and tabs are
    separators too. Other columns are not used, and lines whose Confidence is not 1 do not count
    (Open Images writes 0 where a person said that the class is absent, and what a machine thinks
    is between). Without that column every line counts.

    Args:
        path: The file.
        name: What messages call it.
        wanted: Ids, unique.
        omissions: Where malformed lines are entered.

    Raises:
        DatasetError: It cannot be read, or has not these columns.
    """
    blocks = _Blocks(wanted)
    try:
        with path.open("rb") as file:
            lines = Utf8(file)
            header = _Header.read(lines, name)
            for number, block in header.blocks(lines, omissions):
                blocks.add(*_confirmed(block, number, omissions))
    except OSError as error:
        raise DatasetError(f"cannot read {name}: {error.strerror}") from error
    except (pa.ArrowException, ValueError) as error:
        raise DatasetError(f"{name} is not CSV: {reason(error)}") from error
    if lines.was_replaced:
        say(f"{name}: bytes that are not UTF-8 replaced")
    return blocks.finish()._replace(used=header.used, unused=header.unused)


def is_labels(head: bytes) -> bool:
    """Whether a file is such a CSV.

    Args:
        head: Its first bytes.
    """
    try:
        _Header.read(Utf8(io.BytesIO(head)), "")
    except DatasetError:
        return False
    return True


class _Header(NamedTuple):
    """The first line of a file.

    Attributes:
        columns: Names of all columns.
        places: Where the ids, the classes and, if there are some, the confidences are.
        line: Its number, from 1.
        separator: Between its columns.
    """

    columns: Sequence[str]
    places: Sequence[int]
    line: int
    separator: str

    @classmethod
    def read(cls, lines: Utf8, name: str) -> "_Header":
        """Find the columns, by whatever separator they have.

        Raises:
            DatasetError: It has not these columns.
        """
        number, data = 1, lines.readline(LARGEST_LINE)
        while data and not data.strip():
            number, data = number + 1, lines.readline(LARGEST_LINE)
        text = data.decode().strip()
        for separator in _SEPARATORS:
            columns = _cells(text, separator)
            places = {column.lower(): p for p, column in reversed(list(enumerate(columns)))}
            if all(needed in places for needed in _NEEDED):
                wanted = (*_NEEDED, "confidence") if "confidence" in places else _NEEDED
                return cls(columns, [places[w] for w in wanted], number, separator)
        raise DatasetError(
            f"{name} needs the columns ImageID and LabelName (and Confidence), "
            f"not {shorten(text, 120) or 'none'}"
        )

    @property
    def used(self) -> Sequence[str]:
        """Names of the columns that are used."""
        return [self.columns[place] for place in self.places]

    @property
    def unused(self) -> Sequence[str]:
        """Names of the other columns."""
        return [column for p, column in enumerate(self.columns) if p not in self.places]

    def blocks(self, lines: Utf8, omissions: Omissions) -> Iterator[tuple[int, Sequence[pa.Array]]]:
        """The number of its first line, and the needed columns, of each block of lines."""
        if not lines.peek(1):  # Arrow refuses a file without lines
            return
        skipped = 0

        def leave_out(row: pa_csv.InvalidRow) -> str:
            nonlocal skipped
            skipped += 1
            why = f"it has not the header's {row.expected_columns} columns"
            omissions.add("line", why, shorten(row.text, 80))
            return "skip"

        names = [str(place) for place in range(len(self.columns))]
        needed = [str(place) for place in self.places]
        reader = pa_csv.open_csv(
            lines,
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=_BLOCK, column_names=names
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=self.separator, invalid_row_handler=leave_out
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=needed, column_types=dict.fromkeys(needed, pa.string())
            ),
        )
        number = self.line + 1
        with reader:
            for batch in reader:
                yield number, [_stripped(batch.column(column)) for column in needed]
                number += batch.num_rows + skipped
                skipped = 0


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:  # a cell that is too long is no name of a column
        return []


def _confirmed(
    columns: Sequence[pa.Array], number: int, omissions: Omissions
) -> tuple[pa.Array, pa.Array]:
    """The ids and the classes of the lines that count."""
    ids, keys, *confidences = columns
    counts = pc.and_(pc.not_equal(ids, ""), pc.not_equal(keys, ""))
    empty = pc.index(counts, pa.scalar(False)).as_py()
    if empty >= 0:
        why, first = "it has no ImageID or no LabelName", f"line {number + empty:,}"
        omissions.add("line", why, first, times=pc.sum(pc.invert(counts)).as_py())
    if confidences:
        values = confidences[0].dictionary_encode()
        confirmed = [_is_one(text) for text in values.dictionary.to_pylist()]
        bad = [place for place, is_one in enumerate(confirmed) if is_one is None]
        whys = [shorten(repr(values.dictionary[p].as_py()), 40) for p in bad[:_NAMED_CONFIDENCES]]
        places = [[place] for place in bad[:_NAMED_CONFIDENCES]]
        if others := bad[_NAMED_CONFIDENCES:]:
            whys.append("no number")
            places.append(others)
        for why, of_reason in zip(whys, places, strict=True):
            lines = pc.is_in(values.indices, pa.array(of_reason, values.indices.type))
            first = f"line {number + pc.index(lines, pa.scalar(True)).as_py():,}"
            omissions.add("line", f"its Confidence is {why}", first, times=pc.sum(lines).as_py())
        counts = pc.and_(counts, pa.array(confirmed, pa.bool_()).take(values.indices))
    return ids.filter(counts), keys.filter(counts)


def _stripped(cells: pa.Array) -> pa.Array:
    """Cells without spaces around them and `./` before them."""
    texts = pc.utf8_trim_whitespace(cells)
    if pc.any(pc.starts_with(texts, "./")).as_py():
        texts = pc.replace_substring_regex(texts, r"^(\./)+", "")
    return texts


def _is_one(confidence: str) -> bool | None:
    """Whether a confidence is 1; None if it is no number."""
    try:
        return float(confidence) == 1
    except ValueError:
        return None


class _Blocks:
    """Collects the labels of the wanted images.

    Args:
        wanted: Their ids.
    """

    def __init__(self, wanted: pa.Array) -> None:
        self._wanted = wanted
        self._keys: dict[str, int] = {}
        self._waiting: list[tuple[pa.Array, Int32s]] = []
        self._waiting_rows = 0
        self._images: list[Int32s] = []
        self._classes: list[Int32s] = []
        self._lines = 0
        self._strange_lines = 0
        self._strange: list[tuple[pa.Array, Int32s]] = []

    def add(self, ids: pa.Array, keys: pa.Array) -> None:
        """Take the labels of a block."""
        encoded = keys.dictionary_encode()
        codes = [
            self._keys.setdefault(key, len(self._keys)) for key in encoded.dictionary.to_pylist()
        ]
        of_block = np.array(codes, np.int32)[encoded.indices.to_numpy()]
        self._lines += len(ids)
        self._waiting.append((ids, of_block))
        self._waiting_rows += len(ids)
        # Each comparison makes a table of all the wanted ids, so there must not be many.
        if self._waiting_rows >= max(_ROWS_AT_ONCE, len(self._wanted) // 2):
            self._compare()

    def _compare(self) -> None:
        ids = pa.chunked_array([ids for ids, _ in self._waiting], pa.string())
        classes = np.concatenate([codes for _, codes in self._waiting])
        self._waiting, self._waiting_rows = [], 0
        places = pc.index_in(ids, self._wanted)
        is_wanted = pc.is_valid(places)
        mask = is_wanted.to_numpy()
        self._images.append(places.drop_null().to_numpy().astype(np.int32, copy=False))
        self._classes.append(classes[mask])
        strange = len(mask) - int(np.count_nonzero(mask))
        if not strange:
            return
        if self._strange_lines <= _KEPT_STRANGERS:
            others = ids.filter(pc.invert(is_wanted)).combine_chunks()
            most = _KEPT_STRANGERS + 1
            self._strange.append((others[:most], classes[~mask][:most]))
        self._strange_lines += strange

    def finish(self) -> LabelTable:
        """All labels, once every block is added."""
        if self._waiting:
            self._compare()
        empty: list[Int32s] = [np.zeros(0, np.int32)]
        ids = pa.chunked_array([ids for ids, _ in self._strange], pa.string()).combine_chunks()
        example = ids[0].as_py() if len(ids) else ""
        classes = np.concatenate(empty + [codes for _, codes in self._strange])
        if self._strange_lines > _KEPT_STRANGERS:
            ids, classes = ids[:0], classes[:0]
        return LabelTable(
            images=np.concatenate(empty + self._images),
            classes=np.concatenate(empty + self._classes),
            keys=list(self._keys),
            lines=self._lines,
            strangers=Strangers(self._strange_lines, example, ids, classes),
            used=(),
            unused=(),
        )
