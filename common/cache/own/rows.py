"""Captions, names and labels of somebody's own rows, in the forms that people have them.

The rest is refused.
"""

import numbers
import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sparc.common.cache import tables
from sparc.common.errors import CacheError
from sparc.common.text import reason, shorten

_LABEL_FORM = "give an int a row, [0, 2, …], or a list of ints a row, [[0], [0, 2], …]"
_CLASS_FORM = 'give the list of names, classes=["cat", "dog"], or an Arrow table'


def captions_of_rows(captions: Iterable[Any]) -> list[str | None]:
    """The caption of each row; None where it is missing, as pandas and NumPy write it too.

    Raises:
        CacheError: One is no text.
    """
    if isinstance(captions, str):
        raise CacheError(f"captions is one text, {_quoted(captions)}: give a list, a text a row")
    result = [None if _is_missing(caption) else caption for caption in captions]
    for row, caption in enumerate(result):
        if caption is not None and not isinstance(caption, str):
            raise CacheError(f"captions: row {row} is {_quoted(caption)}, not a text")
        _require_unicode(caption or "", f"captions: row {row}")
    return result


def names_of_rows(sample_ids: Iterable[Any]) -> list[str]:
    """What each row is called: texts, or whole numbers, which become their digits.

    Raises:
        CacheError: One is missing or something else.
    """
    result = []
    for row, name in enumerate(sample_ids):
        is_number = isinstance(name, numbers.Integral) and not isinstance(name, bool | np.bool_)
        if not is_number and not isinstance(name, str):
            raise CacheError(
                f"sample_ids: row {row} is {_quoted(name)}, neither a text nor a whole number"
            )
        _require_unicode(str(name), f"sample_ids: row {row}")
        result.append(str(name))
    return result


def rows_of_labels(label_ids: Any) -> list[list[int]]:
    """The class ids of each row.

    Args:
        label_ids: An int a row, None where a row has no label; or a sequence of ints a row.

    Raises:
        CacheError: They are something else.
    """
    if isinstance(label_ids, str | bytes | dict) or not hasattr(label_ids, "__len__"):
        raise CacheError(f"label_ids: {_LABEL_FORM}, not a {type(label_ids).__name__}")
    values = label_ids.tolist() if hasattr(label_ids, "tolist") else list(label_ids)
    if not isinstance(values, list):
        raise CacheError(f"label_ids: {_LABEL_FORM}, not a single number")
    if getattr(label_ids, "ndim", 1) == 2 and _looks_like_flags(values):
        raise CacheError(
            "label_ids: an array of 0 and 1, a column a class? Give the ids instead: "
            "[np.flatnonzero(row) for row in label_ids]"
        )
    return [_ids(value, row) for row, value in enumerate(values)]


def require_classes(labels: Iterable[Iterable[int]], classes: pa.Table) -> None:
    """Refuse labels that name no class.

    Args:
        labels: The class ids of each row.
        classes: A table of schema `tables.CLASSES`.

    Raises:
        CacheError: One is not the place of a class.
    """
    known = range(len(classes))
    for unknown in {class_id for ids in labels for class_id in ids}.difference(known):
        raise CacheError(
            f"label_ids name class {unknown}, which is not in classes; "
            'classes=["cat", "dog"] names classes 0 and 1'
        )


def _looks_like_flags(values: list[Any]) -> bool:
    return bool(values) and all(len(row) > 1 and {*row} <= {0, 1} for row in values)


def _ids(value: Any, row: int) -> list[int]:
    if value is None:
        return []
    several = hasattr(value, "__iter__") and getattr(value, "ndim", 1) > 0
    ids = list(value) if several and not isinstance(value, str | bytes | dict) else [value]
    try:
        if any(isinstance(class_id, bool | np.bool_) for class_id in ids):
            raise TypeError("a truth value is no class")
        return [operator.index(class_id) for class_id in ids]
    except TypeError as error:
        raise CacheError(f"label_ids: row {row} is {_quoted(value)}: {_LABEL_FORM}") from error


def table_of_classes(classes: Any) -> pa.Table:
    """The classes as a table of schema `tables.CLASSES`.

    Args:
        classes: Such a table, of Arrow or pandas; or the names, whose places are the class ids; or
            None.

    Raises:
        CacheError: It is something else, or a table that no cache may hold.
    """
    if classes is None:
        return tables.empty(tables.CLASSES)
    if hasattr(classes, "to_records") and not isinstance(classes, pa.Table):  # a DataFrame
        classes = pa.Table.from_pandas(classes, preserve_index=False)
    if isinstance(classes, pa.Table):
        return _checked(classes)
    if not isinstance(classes, list | tuple | np.ndarray) or not all(
        isinstance(name, str) for name in classes
    ):
        raise CacheError(
            f"classes: {_CLASS_FORM} of {_columns()}, not a {type(classes).__name__}"
            + (" of other things" if isinstance(classes, Sequence | np.ndarray) else "")
        )
    names = [str(name) for name in classes]
    for place, name in enumerate(names):
        _require_unicode(name, f"classes: class {place}")
    (name, times), *_ = Counter(names).most_common(1) or [("", 0)]
    if times > 1:
        raise CacheError(f"classes: {times} are called {_quoted(name)}; a name is given once")
    columns = {
        "class_id": range(len(names)),
        "key": names,
        "name": names,
        "parent_id": [None] * len(names),
        "depth": [1] * len(names),
    }
    return pa.table(columns, schema=tables.CLASSES)


def _checked(classes: pa.Table) -> pa.Table:
    if missing := [name for name in tables.CLASSES.names if name not in classes.column_names]:
        raise CacheError(f"classes: the table has no column {missing[0]}: {_CLASS_FORM} with it")
    if classes.schema != tables.CLASSES:
        try:
            classes = classes.select(tables.CLASSES.names).cast(tables.CLASSES)
        except (pa.ArrowException, ValueError) as error:
            raise CacheError(f"classes: {reason(error)}: {_CLASS_FORM} of {_columns()}") from error
    for field in tables.CLASSES:  # Arrow makes tables with nulls where a schema has none
        if not field.nullable and classes[field.name].null_count:
            raise CacheError(f"classes: a {field.name} is missing")
    if not tables.counts_from_0(classes["class_id"]):
        raise CacheError("classes: class_id must count from 0 in the order of the table")
    if (fault := next(tables.class_faults(classes), None)) is not None:
        raise CacheError(f"classes: {fault}")
    return classes


def _require_unicode(text: str, where: str) -> None:
    """Refuse half of a surrogate pair, which Python holds in a text and no file can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CacheError(
            f"{where} is {_quoted(text)}, which is not valid Unicode: give "
            "text.encode('utf-8', 'replace').decode()"
        ) from error


def _is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, or what pandas has for them."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, numbers.Real) and bool(value != value)


def _columns() -> str:
    return ", ".join(tables.CLASSES.names)


def _quoted(value: Any) -> str:
    return shorten(repr(value), 40)
