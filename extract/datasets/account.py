"""Keeps the account of a dataset while a reader reads it.

Nothing is passed over in silence: what a reader opens, uses and leaves out is entered here, and
what it never opened is what was not used. This module must not know any dataset format.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow.compute as pc

from sparc.common.cache.account.account import DatasetAccount, LeftOut, UnusedFiles, UsedFiles
from sparc.common.cache.manifest import Manifest
from sparc.extract.datasets.names import Names
from sparc.extract.datasets.safe_folder import SafeFolder, is_image, split_suffix

Advise = Callable[[str], str]
"""What to type so that a file, by its path in the dataset, is used; empty if nothing would."""

_Columns = tuple[str, ...]

_NAMED_FILES = 20
"""Files of one kind that are listed by name; more are one line."""

_NAMED_IN_ALL = 40
"""Files that are listed by name; where there are more, only kinds of a few files are."""

_FEW = 3
"""Most files of such a kind."""

_MOST_KINDS = 16
"""Lines for files that were not used; those without advice come last, and more are one line."""

_PROSE = ("readme", "license", "licence", "copying", "changelog", "citation")
"""How the names of files begin that no reader would read: they are not listed."""


_MOST_REASONS = 100
_FURTHER_REASONS = "for further reasons"
"""Reasons may repeat what a file has: further ones are counted together."""


class _Omitted(NamedTuple):
    times: int
    first: str


class Omissions:
    """Counts the records of one file that are left out. One bad record is one record.

    Args:
        file: The file, for messages.
    """

    def __init__(self, file: object) -> None:
        self._file = str(file)
        self._reasons: dict[tuple[str, str], _Omitted] = {}

    def add(self, what: str, why: str, where: str, times: int = 1) -> None:
        """Count one, or several of one kind.

        Args:
            what: What it is, such as `caption`.
            why: Why it is left out.
            where: Where in the file it is, or the first of them; kept of the first one.
            times: How many there are; of none nothing is entered.
        """
        if times:
            is_one_too_many = (
                len(self._reasons) >= _MOST_REASONS and (what, why) not in self._reasons
            )
            reason = what, _FURTHER_REASONS if is_one_too_many else why
            earlier = self._reasons.get(reason, _Omitted(0, where))
            self._reasons[reason] = _Omitted(earlier.times + times, earlier.first)

    @property
    def first(self) -> str:
        """Where the first one is, and why it was left out; empty if none was."""
        for (_, why), omitted in self._reasons.items():
            return f"{omitted.first}: {why}"
        return ""

    def left_out(self) -> Iterator[LeftOut]:
        """A line for each reason: how many, why, and where the first one is."""
        for (what, why), omitted in self._reasons.items():
            yield LeftOut(
                file=self._file, what=what, why=why, records=omitted.times, first=omitted.first
            )


class Account:
    """What a reader used of a dataset's files.

    Args:
        folder: The dataset. It knows which files were opened.
    """

    def __init__(self, folder: SafeFolder) -> None:
        self._folder = folder
        self._used: dict[str, tuple[dict[str, None], dict[str, None], str]] = {}
        self._omissions: dict[str, Omissions] = {}
        self._unusable: set[str] = set()
        self._names: list[Names] = []
        self._passed_over: list[UnusedFiles] = []

    def passes_over(self, what: str, advice: str) -> None:
        """Enter what lies there besides files and is not used, such as names of folders.

        Args:
            what: What it is.
            advice: The options that would use it.
        """
        self._passed_over.append(UnusedFiles(what=what, advice=advice))

    def uses(
        self, file: str, *, used: Iterable[str] = (), unused: Iterable[str] = (), advice: str = ""
    ) -> None:
        """Enter a file that is read, by its path in the dataset. Calls for one file add up.

        Args:
            file: The file.
            used: Columns or keys that are used.
            unused: Columns or keys that it has besides.
            advice: The options that would use those.
        """
        names, others, earlier = self._used.get(file, ({}, {}, ""))
        names.update(dict.fromkeys(used))
        others.update(dict.fromkeys(unused))
        self._used[file] = (names, others, advice or earlier)

    def omissions(self, file: object) -> Omissions:
        """Where the records of a file that cannot be used are counted."""
        return self._omissions.setdefault(str(file), Omissions(file))

    def leave_out(self, file: str, what: str, why: str, where: str) -> None:
        """Enter a whole file that cannot be used, although it was opened; see `Omissions.add`."""
        self.omissions(file).add(what, why, where)
        self._unusable.add(file)

    def names(self, files: Collection[str]) -> Names:
        """Resolves names of metadata against files, and enters how."""
        names = Names(files, self._folder)
        self._names.append(names)
        return names

    def left_out(self) -> Iterator[LeftOut]:
        """The records that are left out, by file and reason."""
        for omissions in self._omissions.values():
            yield from omissions.left_out()

    def finish(
        self,
        manifest: Manifest,
        images: Iterable[str],
        *,
        of_other_split: Callable[[str], bool],
        advise: Advise,
    ) -> DatasetAccount:
        """The account of a dataset whose rows are made.

        Args:
            manifest: The rows.
            images: Paths of the images that the reader gave.
            of_other_split: Whether a file belongs to another split, by its path.
            advise: The advice for a file that was not used.
        """
        rows = manifest.rows
        files = set(self._folder.files).intersection(images)  # others lie in shards
        labels = pc.list_value_length(rows.column("label_ids"))
        return DatasetAccount(
            images=pc.count_distinct(rows.column("sample_id")).as_py(),
            rows=len(rows),
            captioned=len(rows) - rows.column("caption").null_count,
            labelled=pc.sum(pc.greater(labels, 0)).as_py() or 0,
            used=tuple(self._used_files()),
            unused=(
                *self._passed_over,
                *self._unused_files(files, of_other_split, advise),
            ),
            left_out=tuple(self.left_out()),
            resolved=tuple(entry for names in self._names for entry in names.resolved()),
        )

    def _used_files(self) -> Iterator[UsedFiles]:
        """The files that were entered; those of one suffix and the same columns are one line."""
        alike: dict[tuple[str, tuple[str, ...], tuple[str, ...], str], list[str]] = defaultdict(
            list
        )
        for file, (used, unused, advice) in self._used.items():
            alike[split_suffix(file)[1], tuple(used), tuple(unused), advice].append(file)
        entered = self._used.keys() | self._unusable
        for file in sorted(self._folder.opened):  # a set, and the account is kept in the cache
            if file not in entered and not is_image(file):
                alike[split_suffix(file)[1], (), (), ""].append(file)
        for (suffix, columns, others, advice), files in alike.items():
            yield UsedFiles(
                what=files[0] if len(files) == 1 else _kind(suffix),
                files=len(files),
                used=columns,
                unused=others,
                advice=advice,
            )

    def _unused_files(
        self, images: set[str], of_other_split: Callable[[str], bool], advise: Advise
    ) -> Iterator[UnusedFiles]:
        used = images | self._folder.opened | self._used.keys()
        of_others: list[str] = []
        by_suffix: dict[str, list[str]] = defaultdict(list)
        for file in self._folder.files:
            if file in used or _is_prose(file):
                continue
            if of_other_split(file):
                of_others.append(file)
            else:
                by_suffix["images" if is_image(file) else split_suffix(file)[1]].append(file)
        are_many = sum(map(len, by_suffix.values())) > _NAMED_IN_ALL
        entries: list[UnusedFiles] = []
        for suffix, files in by_suffix.items():
            if suffix == "images" or len(files) > (_FEW if are_many else _NAMED_FILES):
                what = "images" if suffix == "images" else _kind(suffix)
                entries.append(_several(what, files, advise(files[0])))
            else:
                entries.extend(UnusedFiles(what=file, advice=advise(file)) for file in files)
        if are_many and len(entries) > _MOST_KINDS:
            entries.sort(key=lambda entry: not entry.advice)
            others = entries[_MOST_KINDS:]
            entries[_MOST_KINDS:] = [
                UnusedFiles(
                    what="other files",
                    files=sum(entry.files for entry in others),
                    example=others[0].example or others[0].what,
                )
            ]
        yield from entries
        if of_others:
            yield _several("files of other splits", of_others, "--split chooses another")
        if hidden := self._folder.hidden:
            yield _several("hidden files", hidden, "")


def _several(what: str, files: Sequence[str], advice: str) -> UnusedFiles:
    if len(files) == 1:
        return UnusedFiles(what=files[0], advice=advice)
    return UnusedFiles(what=what, files=len(files), example=files[0], advice=advice)


def _kind(suffix: str) -> str:
    return f"{suffix} files" if suffix else "files without suffix"


def _is_prose(file: str) -> bool:
    return file.rpartition("/")[2].lower().startswith(_PROSE)
