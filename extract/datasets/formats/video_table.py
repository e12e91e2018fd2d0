"""A table that says something about videos: their captions, classes and further columns."""

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sparc.common.errors import DatasetError
from sparc.extract.datasets.account import Account, Omissions
from sparc.extract.datasets.columns import RecordColumns
from sparc.extract.datasets.formats.videos import Video
from sparc.extract.datasets.safe_folder import SafeFolder, split_suffix
from sparc.extract.datasets.tables import known_names
from sparc.extract.datasets.tables.cells import text_of
from sparc.extract.datasets.tables.opening import SUFFIXES, open_table
from sparc.extract.datasets.tables.table import Table

_CAPTIONS = known_names.CAPTIONS
_LABELS = (*known_names.LABELS, "action")
_VIDEOS = ("video", "videoid", "clip", "clipid", "folder", "filename", "name", "id", "path")
"""Columns that name videos, as `known_names.plain` writes them."""

_MOST_TABLES = 20
"""Most tables that are looked into."""


class VideoTable(NamedTuple):
    """A table in which a column names videos.

    Attributes:
        file: The table.
        column: Names the videos.
        others: The other columns.
        records: Values by column of each record, by name of the video.
        strange: How many records name no video of the dataset.
        first_strange: Where the first of them is.
    """

    file: str
    column: str
    others: Sequence[str]
    records: Mapping[str, Sequence[Mapping[str, Any]]]
    strange: int
    first_strange: str

    @classmethod
    def find(cls, folder: SafeFolder, videos: Iterable[Video]) -> "VideoTable | None":
        """The table that names most videos; None where none that can be read names one."""
        names = _names(videos)
        files = [
            file
            for file in folder.files
            if split_suffix(file)[1] in SUFFIXES and split_suffix(file)[0] not in names
        ]
        tables = (_table(folder, file, names) for file in files[:_MOST_TABLES])
        return max(filter(None, tables), key=lambda table: len(table.records), default=None)

    def enter(self, folder: SafeFolder, account: Account, columns: RecordColumns) -> None:
        """Enter in the account that the table is used, and what of it cannot be."""
        omissions = account.omissions(self.file)
        table = open_table(folder.path(self.file), f"{folder}/{self.file}", omissions)
        for _ in table.rows((self.column,)):
            pass
        used = [*self.captions, *self.labels]
        others = [name for name in self.others if name not in used]
        columns.enter(account, self.file, [self.column, *used], others)
        why = "its video is not there"
        omissions.add("record", why, self.first_strange, times=self.strange)

    @property
    def captions(self) -> Sequence[str]:
        """The columns with captions."""
        return list(known_names.known_among(self.others, _CAPTIONS))

    @property
    def labels(self) -> Sequence[str]:
        """The columns with classes."""
        return list(known_names.known_among(self.others, _LABELS))

    def texts(self, video: str, columns: Iterable[str]) -> list[str]:
        """What the records of a video have in some columns, or in lists there, each once."""
        values = (record.get(name) for record in self.records.get(video, ()) for name in columns)
        entries = (v for value in values for v in (value if isinstance(value, list) else [value]))
        return list(dict.fromkeys(filter(None, map(text_of, entries))))

    def further(self, video: str) -> Mapping[str, Any]:
        """The other values of a video, by column; of several records the last one counts."""
        read = {*self.captions, *self.labels}
        records = self.records.get(video, ())
        return {k: v for record in records for k, v in record.items() if k not in read}


def _names(videos: Iterable[Video]) -> Mapping[str, str]:
    """What tables may call the videos: their names, or the last parts where these are unique."""
    names = {video.name: video.name for video in videos}
    by_last: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_last[posixpath.basename(name)].append(name)
    last = {part: owners[0] for part, owners in by_last.items() if len(owners) == 1}
    return {**last, **names}


def _table(folder: SafeFolder, file: str, names: Mapping[str, str]) -> VideoTable | None:
    """A table by the column that names most videos; None where none does, or it is no table."""
    best: VideoTable | None = None
    try:
        table = open_table(folder.locate(file), f"{folder}/{file}", Omissions(file))
        for column in known_names.known_among(table.header, _VIDEOS):
            by_column = _by_column(table, file, column, names)
            if len(by_column.records) > len(best.records if best else ()):
                best = by_column
    except DatasetError:
        return None
    return best


def _by_column(table: Table, file: str, column: str, names: Mapping[str, str]) -> VideoTable:
    """A table by a column; records that name no video are only counted, however many there are."""
    records: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    strange, first_strange = 0, ""
    for row in table.silent().rows(table.header):
        values = dict(zip(table.header, row.values, strict=True))
        video = _video(values.pop(column), names)
        if video is None:
            strange += 1
            first_strange = first_strange or table.where(row.number)
        else:
            records[video].append(values)
    others = [name for name in table.header if name != column]
    return VideoTable(file, column, others, records, strange, first_strange)


def _video(value: Any, names: Mapping[str, str]) -> str | None:
    """The video that a cell names: with or without folders before it and a suffix behind it."""
    written = text_of(str(value) if isinstance(value, int) else value).replace("\\", "/").strip("/")
    bare = posixpath.splitext(written)[0]
    forms = (written, bare, posixpath.basename(written), posixpath.basename(bare))
    return next((names[form] for form in forms if form in names), None)
