"""What an account of a dataset says, and its lines for a person to read."""

import dataclasses
from collections.abc import Iterator, Sequence

from sparc.common.text import amount, printable, shorten

_SHOWN_NAMES = 12
"""Columns or keys that a line names."""

_NAME_WIDTH = 80


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsedFiles:
    """A file that was read, or several of one kind.

    Attributes:
        what: The file, relative to the dataset; or, of several, what they have in common, such as
            `text files (.txt)`.
        files: How many there are.
        used: Columns or keys that were used; empty where a file has none.
        unused: Columns or keys that it has besides.
        advice: The options that would use those, if there are any.
    """

    what: str
    files: int = 1
    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    advice: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnusedFiles:
    """Files that lie there and were not read.

    Attributes:
        what: The file, or what several have in common.
        files: How many there are.
        example: One of several.
        advice: What to type so that they are used, or what to do with them; may be empty.
    """

    what: str
    files: int = 1
    example: str = ""
    advice: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Records of one file that were left out for one reason.

    Attributes:
        file: The file.
        what: What a record is, such as `caption`.
        why: The reason.
        records: How many there are.
        first: Where in the file the first one is.
    """

    file: str
    what: str
    why: str
    records: int
    first: str

    def __str__(self) -> str:
        where = self.first if self.records == 1 else f"the first is {self.first}"
        what = amount(self.records, self.what)
        return f"{self.file}: {what} left out: {self.why} ({shorten(where, 120)})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedNames:
    """Names in the metadata that stand for a file whose name is written in another way.

    Attributes:
        how: In what they differ, such as `case`.
        names: How many there are.
        example: One of them.
        file: The file that it stands for.
    """

    how: str
    names: int
    example: str
    file: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetAccount:
    """What was used of a dataset, and what was not.

    Attributes:
        images: Images.
        rows: Rows that they make.
        captioned: Rows with a caption.
        labelled: Rows with a label.
        used: Files that were read.
        unused: Files that were not.
        left_out: Records that cannot be used.
        resolved: Names that do not equal the file's.
        notes: What a person should know of the images besides.
    """

    images: int
    rows: int
    captioned: int
    labelled: int
    used: tuple[UsedFiles, ...] = ()
    unused: tuple[UnusedFiles, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    resolved: tuple[ResolvedNames, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def lacks_captions(self) -> bool:
        """Whether fewer than half of the rows have a caption."""
        return self.captioned * 2 < self.rows

    def lines(self) -> Iterator[str]:
        """One short block: what was used, what was not, with the option that would use it."""
        yield _line("rows", f"{self.rows:,} of {amount(self.images, 'image')}")
        yield from self.lines_of_files()

    def lines_of_files(self) -> Iterator[str]:
        """The same without the number of rows."""
        yield _line("captions", self._captions())
        yield _line("labels", f"{_share(self.labelled, self.rows)} with a label")
        for used in self.used:
            if used.used or not used.unused:
                yield _line("used", _of_several(used.what, used.files) + _columns(used.used))
            if used.unused:
                advice = f" ({used.advice})" if used.advice else ""
                yield _line("not used", f"{_of_file(used)}{_names(used.unused)}{advice}")
        for unused in self.unused:
            example = f", such as {shorten(unused.example, _NAME_WIDTH)}" if unused.example else ""
            advice = f" ({unused.advice})" if unused.advice else ""
            yield _line("not used", f"{_of_several(unused.what, unused.files)}{example}{advice}")
        for left_out in self.left_out:
            yield _line("left out", str(left_out))
        for resolved in self.resolved:
            name = shorten(resolved.example, _NAME_WIDTH)
            example = f"such as {name} to {shorten(resolved.file, _NAME_WIDTH)}"
            how = f"{amount(resolved.names, 'name')} by {resolved.how}"
            yield _line("resolved", f"{how}, {example}")
        for note in self.notes:
            yield _line("note", note)

    def _captions(self) -> str:
        if not self.captioned:
            return "NONE: no row has a caption"
        few = "ONLY " if self.lacks_captions else ""
        return f"{few}{_share(self.captioned, self.rows)} with a caption"


def _line(label: str, text: str) -> str:
    # Names of files and columns may hold anything, also where advice repeats them.
    return f"{label:<9} {printable(text)}"


def _share(part: int, whole: int) -> str:
    return f"all {amount(whole, 'row')}" if part == whole else f"{part:,} of {amount(whole, 'row')}"


def _of_several(what: str, files: int) -> str:
    shown = shorten(what, _NAME_WIDTH)
    return shown if files == 1 else f"{files:,} {shown}"


def _of_file(used: UsedFiles) -> str:
    return f"{_of_several(used.what, used.files)}: "


def _columns(names: Sequence[str]) -> str:
    return f": {_names(names)}" if names else ""


def _names(names: Sequence[str]) -> str:
    shown = [shorten(name, 40) for name in names[:_SHOWN_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
