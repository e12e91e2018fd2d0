"""Bringing the rows of several arrays together: by their names, or as they follow one another.

By names, a row is in the cache if any stream has it; a stream that lacks it has no feature there.
The rows of the first stream come first, in its order, then those that only others have. Where the
names of a stream repeat (an image with several captions), they decide the rows, and every other
array is looked up in them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.common.errors import DatasetError
from sparc.common.text import amount, listed, shorten

ArrayRows = npt.NDArray[np.int64]
"""By row of the cache, the row of an array; -1 where it has none."""


@dataclasses.dataclass(frozen=True)
class Part:
    """An array whose rows are to be brought to those of others.

    Attributes:
        name: What messages call it.
        rows: How many rows it has.
        ids: Their names, as texts; None where they have none.
    """

    name: str
    rows: int
    ids: pa.Array | None


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The rows of a cache, and where each array has them.

    Attributes:
        rows: How many.
        ids: Their names; None where no array has any.
        by_ids: Whether names brought them together.
        array_rows: By array; None where its rows are those of the cache, in order.
        lines: What to say about it.
    """

    rows: int
    ids: pa.Array | None
    by_ids: bool
    array_rows: dict[str, ArrayRows | None]
    lines: tuple[str, ...] = ()


def align(parts: Sequence[Part], *, by_ids: bool | None) -> Alignment:
    """Bring the rows of arrays together.

    Args:
        parts: The arrays, at least one, in the order of the streams.
        by_ids: Whether by names; None: where all have names and these differ.

    Raises:
        DatasetError: Numbers of rows differ without names; names are missing, or have nothing in
            common; or names repeat in a way that leaves open which row belongs to which.
    """
    named = [part for part in parts if part.ids is not None]
    if by_ids and len(named) < len(parts):
        lacking = [part.name for part in parts if part.ids is None]
        raise DatasetError(
            f"--align ids: {listed(lacking)} {_have(lacking)} no names of rows: say where they "
            "lie, --ids NAME=FILE"
        )
    if len(named) < len(parts) or (not by_ids and _all_equal(named)):
        return _as_they_are(parts, named)
    alike = comparable([part.ids for part in named if part.ids is not None])
    if alike is None:
        return _by_names(parts)
    bare = [dataclasses.replace(part, ids=i) for part, i in zip(parts, alike, strict=True)]
    result = _by_names(bare)
    return dataclasses.replace(result, lines=(BARE, *result.lines))


BARE = "names of rows are compared without their folders and extensions"
"""What to say where `comparable` gave other names."""


def comparable(names: Sequence[pa.Array]) -> list[pa.Array] | None:
    """Names of rows that others write with folders or extensions, without these.

    Args:
        names: Those of each array, as texts.

    Returns:
        The bare names; None where all arrays have names in common with the first as they are, or
        where bare ones do not tell rows apart that the whole ones do.
    """
    if _all_meet(names):
        return None
    bare = [pc.replace_substring_regex(ids, _AROUND, "") for ids in names]
    is_clear = all(
        pc.count_distinct(short).as_py() == pc.count_distinct(ids).as_py()
        for short, ids in zip(bare, names, strict=True)
    )
    return bare if is_clear and _all_meet(bare) else None


def _all_meet(names: Sequence[pa.Array]) -> bool:
    """Whether all have names in common with the first."""
    first, *others = names
    return all(pc.any(pc.is_in(other, value_set=first)).as_py() for other in others)


_AROUND = r"^.*[/\\]|(?i:\.(jpe?g|png|webp|bmp|gif|tiff?|npy|pt|txt))$"


def _all_equal(named: Sequence[Part]) -> bool:
    names = [part.ids for part in named if part.ids is not None]
    return all(names[0].equals(other) for other in names[1:])


def _as_they_are(parts: Sequence[Part], named: Sequence[Part]) -> Alignment:
    first = parts[0]
    for part in parts:
        if part.rows != first.rows:
            lacking = [p.name for p in parts if p.ids is None]
            raise DatasetError(
                f"{first.name} has {amount(first.rows, 'row')}, {part.name} {part.rows:,}, and "
                f"{listed(lacking)} {_have(lacking)} no names of rows to tell which belong "
                "together: say where they lie, --ids NAME=FILE"
            )
    if named and not _all_equal(named):
        names = listed([part.name for part in named])
        raise DatasetError(
            f"{names} have rows of different names, and others have none: say with --ids where "
            "these lie, or take rows as they are with --align rows"
        )
    ids = named[0].ids if named else None
    lines = []
    if named and len(named) < len(parts):
        lines.append(f"rows as they follow one another; only {named[0].name} names them")
    return Alignment(first.rows, ids, bool(named), {p.name: None for p in parts}, tuple(lines))


def _have(names: Sequence[str]) -> str:
    return "have" if len(names) > 1 else "has"


def _by_names(parts: Sequence[Part]) -> Alignment:
    ids, lines = _all_names(parts)
    array_rows = {part.name: array_rows_in(part.ids, ids) for part in parts}
    for part in parts:
        own = array_rows[part.name]
        lacking = int((own < 0).sum())
        if lacking == len(ids) or (
            part is not parts[0] and not _overlap(array_rows, part, parts[0])
        ):
            mine, other = _example(part.ids), _example(parts[0].ids)
            raise DatasetError(
                f"{part.name} and {parts[0].name} have no name of a row in common ({mine}; "
                f"{other}): say with --ids where they lie, or take rows as they are with "
                "--align rows"
            )
        if lacking:
            lines.append(f"{part.name} lacks {lacking:,} of {amount(len(ids), 'row')}: no feature")
    plain: dict[str, ArrayRows | None] = {
        name: None if np.array_equal(rows, np.arange(len(rows))) else rows
        for name, rows in array_rows.items()
    }
    return Alignment(len(ids), ids, True, plain, tuple(lines))


def _overlap(array_rows: dict[str, ArrayRows], one: Part, other: Part) -> bool:
    return bool(((array_rows[one.name] >= 0) & (array_rows[other.name] >= 0)).any())


def _all_names(parts: Sequence[Part]) -> tuple[pa.Array, list[str]]:
    """The names of all rows, those of one name together."""
    repeating = [part for part in parts if pc.count_distinct(part.ids).as_py() < part.rows]
    if not repeating:
        return pc.unique(pa.chunked_array([part.ids for part in parts])), []
    base, *others = repeating
    for part in others:
        if part.ids is not None and not part.ids.equals(base.ids):
            twice = _example_twice(base.ids)
            raise DatasetError(
                f"names of rows repeat in {base.name} (such as {twice}) and otherwise in "
                f"{part.name}, so it is open which rows belong together: name each row once, or "
                "take rows as they are with --align rows"
            )
    if not _is_grouped(base.ids):
        raise DatasetError(
            f"{base.name}: rows of one name, such as {_example_twice(base.ids)}, do not follow "
            "one another: bring them together, name each row once, or take rows as they are "
            "with --align rows"
        )
    single = [part.ids for part in parts if part not in repeating]
    more = pc.unique(pa.chunked_array(single, pa.string()))
    more = more.filter(pc.invert(pc.is_in(more, value_set=base.ids)))
    ids = pa.concat_arrays([base.ids, more])
    return ids, [f"names of rows repeat in {base.name}: its rows are those of the cache"]


def _is_grouped(ids: pa.Array) -> bool:
    """Whether rows of one name follow one another."""
    indices = np.asarray(ids.dictionary_encode().indices)
    return bool((np.diff(indices) >= 0).all())


def array_rows_in(ids: pa.Array, wanted: pa.Array) -> ArrayRows:
    """Where names are found.

    Args:
        ids: The names of an array's rows.
        wanted: The names of the cache's rows.

    Returns:
        By row of the cache, the row of the array: the nth of a name for the nth, where an array
        has as many of each, else the first; -1 where it has none.
    """
    if ids.equals(wanted):
        return np.arange(len(ids))
    if pc.count_distinct(ids).as_py() < len(ids):  # the array that decides the rows
        array_rows = np.full(len(wanted), -1)
        array_rows[: len(ids)] = np.arange(len(ids))
        return array_rows
    indices = pc.fill_null(pc.index_in(wanted, value_set=ids), -1)
    return np.asarray(indices).astype(np.int64)


def array_rows_by_name(ids: pa.Array, wanted: pa.Array) -> ArrayRows:
    """Where names are found, the nth of a name in the nth place, where the names of both repeat.

    Args:
        ids: The names of an array's or a table's rows.
        wanted: The names of the cache's rows.
    """
    if pc.count_distinct(ids).as_py() == len(ids):
        return array_rows_in(ids, wanted)
    return array_rows_in(_numbered(ids), _numbered(wanted))


def _numbered(ids: pa.Array) -> pa.Array:
    """Names with how often each one stood before."""
    codes = np.asarray(ids.dictionary_encode().indices)
    order = np.argsort(codes, kind="stable")
    begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
    counts = np.diff(np.append(begins, len(codes)))
    before = np.empty(len(codes), np.int64)
    before[order] = np.arange(len(codes)) - np.repeat(begins, counts)
    return pc.binary_join_element_wise(pa.array(before).cast(pa.string()), ids, " ")


def _example(ids: pa.Array | None) -> str:
    return repr(shorten(str(ids[0]), 60)) if ids is not None and len(ids) else "none"


def _example_twice(ids: pa.Array) -> str:
    counts = pc.value_counts(ids)
    values, times = counts.field(0), np.asarray(counts.field(1))
    return repr(shorten(str(values[int(times.argmax())]), 60))
