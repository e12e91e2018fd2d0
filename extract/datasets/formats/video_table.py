"""A table that says something about videos: their captions, classes and further columns."""

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sparc.common.errors import DatasetError
from sparc.extract.datasets.account import Account
from sparc.extract.datasets.columns import RecordColumns
from sparc.extract.datasets.formats.published.documents import enter_fields, text_of
from sparc.extract.datasets.formats.videos import Video
from sparc.extract.datasets.metadata import Record, read_csv, read_json_lines, read_parquet
from sparc.extract.datasets.safe_folder import SafeFolder, split_suffix

CAPTIONS = ("text", "caption", "captions", "description", "sentence")
"""Columns with captions."""

LABELS = ("label", "labels", "class", "action", "category")
"""Columns with classes."""

_VIDEO = ("video", "video_id", "clip", "clip_id", "folder", "file_name", "name", "id", "path")
_READERS: Mapping[str, Callable[[Path, str], Iterator[Record]]] = {
    ".csv": read_csv,
    ".jsonl": read_json_lines,
    ".parquet": read_parquet,
}
_MOST_TABLES = 20
"""Most tables that are looked into."""


class VideoTable(NamedTuple):
    """A table in which a column names videos.

    Attributes:
        file: The table.
        column: Names the videos.
        others: The other columns.
        records: Values by column of each record, by name of the video.
        strange: Where records are that name no video of the dataset.
    """

    file: str
    column: str
    others: Sequence[str]
    records: Mapping[str, Sequence[Mapping[str, Any]]]
    strange: Sequence[str]

    @classmethod
    def find(cls, folder: SafeFolder, videos: Iterable[Video]) -> "VideoTable | None":
        """The table that names most videos; None where none that can be read names one."""
        names = _names(videos)
        files = [file for file in folder.files if split_suffix(file)[1] in _READERS]
        tables = (_table(folder, file, names) for file in files[:_MOST_TABLES])
        return max(filter(None, tables), key=lambda table: len(table.records), default=None)

    def enter(self, folder: SafeFolder, account: Account, columns: RecordColumns) -> None:
        """Enter in the account that the table is used."""
        folder.path(self.file)
        used = [name for name in self.others if name in (*CAPTIONS, *LABELS)]
        others = [name for name in self.others if name not in used]
        enter_fields(account, columns, self.file, [self.column, *used], others)
        for where in self.strange:
            account.omissions(self.file).add("record", "its video is not there", where)


def texts(records: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """The texts that records have in any of these columns, or in lists there, each once."""
    values = (record.get(column) for record in records for column in columns)
    entries = (v for value in values for v in (value if isinstance(value, list) else [value]))
    return list(dict.fromkeys(filter(None, map(text_of, entries))))


def _names(videos: Iterable[Video]) -> Mapping[str, str]:
    """What tables may call the videos: their names, or the last parts where these are unique."""
    names = {video.name: video.name for video in videos}
    by_last: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_last[posixpath.basename(name)].append(name)
    last = {part: owners[0] for part, owners in by_last.items() if len(owners) == 1}
    return {**last, **names}


def _table(folder: SafeFolder, file: str, names: Mapping[str, str]) -> VideoTable | None:
    """A table by the column that names most videos; None where none names one."""
    read = _READERS[split_suffix(file)[1]]
    try:
        lines = list(read(folder.locate(file), f"{folder}/{file}"))
    except DatasetError:
        return None
    columns = dict.fromkeys(column for line in lines for column in line.values)
    best: VideoTable | None = None
    for column in columns:
        if column.lower() not in _VIDEO:
            continue
        records: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        strange: list[str] = []
        for line in lines:
            video = _video(line.values.get(column), names)
            if video is None:
                strange.append(line.where.rpartition(", ")[2])
            else:
                records[video].append({k: v for k, v in line.values.items() if k != column})
        if len(records) > len(best.records if best else ()):
            others = [name for name in columns if name != column]
            best = VideoTable(file, column, others, records, strange)
    return best


def _video(value: Any, names: Mapping[str, str]) -> str | None:
    """The video that a cell names: with or without folders before it and a suffix behind it."""
    written = text_of(str(value) if isinstance(value, int) else value).replace("\\", "/").strip("/")
    bare = posixpath.splitext(written)[0]
    forms = (written, bare, posixpath.basename(written), posixpath.basename(bare))
    return next((names[form] for form in forms if form in names), None)
