"""Attributes of images: a class, words in captions, or a column of the cache or of a table.

An attribute is given as text; `GRAMMAR` says how. This module must not know codes.
"""

import difflib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from sparc.analyze.maths.packing import Packed, pack
from sparc.analyze.rows import words
from sparc.analyze.rows.images import Images
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError
from sparc.common.text import amount, shorten

GRAMMAR = (
    "class:<name or key>, words:<word>,<word>,…, words:@<file with a word a line>, "
    "column:<column of rows.parquet>[=<value>], or "
    "table:<CSV or Parquet file with a column sample_id>#<column>[=<value>]"
)

Flags = npt.NDArray[np.bool_]

_BATCH = 1 << 16
"""Rows of the table that are held at a time."""

_TRUE = ("true", "1", "1.0", "yes")
_FALSE = ("false", "0", "0.0", "no")


class Attribute(NamedTuple):
    """Which images have an attribute.

    Attributes:
        name: The text that it was given as.
        held: The images that have it, (images,); a part of `known`.
        known: The images of which it is known whether they have it, (images,).
    """

    name: str
    held: Flags
    known: Flags

    def __reduce__(self) -> tuple[Any, ...]:
        # Packed, since other processes may be far away.
        return _unpacked, (self.name, pack(self.held), pack(self.known))


def _unpacked(name: str, held: Packed, known: Packed) -> Attribute:
    return Attribute(name, held.array, known.array)


def read_attribute(text: str, cache: ActivationCache, images: Images) -> Attribute:
    """The images of a cache that have an attribute.

    Args:
        text: See `GRAMMAR`. A class is held by an image that carries it or a class below it, and
            known of those that carry any; words are known of images with a caption. A column of
            the dataset is held by an image with a row of that value, and known of those with a row
            of any; a table's column is known of the images whose `sample_id` it names with a value.
        cache: The cache.
        images: Its images.

    Raises:
        ConfigError: The text does not follow the grammar, or names what is not there.
    """
    kind, _, rest = text.partition(":")
    if kind == "class" and rest:
        held, known = _of_class(rest, cache, images)
    elif kind == "words" and rest:
        held, known = _of_words(rest, cache, images)
    elif kind == "column" and rest:
        held, known = _of_column(rest, cache, images)
    elif kind == "table" and "#" in rest:
        held, known = _of_table(rest, cache, images)
    else:
        advice = f"did you mean class:{text} or words:{text}? Else " if ":" not in text else ""
        raise ConfigError(f"cannot read the attribute {text!r}: {advice}give {GRAMMAR}")
    known = known & images.analysed
    return Attribute(text, held & known, known)


def contrast(first: Attribute, second: Attribute) -> Attribute:
    """The first attribute against the second: known where an image has exactly one of them."""
    known = first.held ^ second.held
    return Attribute(f"{first.name} against {second.name}", first.held & known, known)


def check_both_sides(attribute: Attribute) -> None:
    """Refuse an attribute that all images have, or that none has.

    Raises:
        ConfigError: There is nothing to compare.
    """
    held = int(attribute.held.sum())
    known = int(attribute.known.sum())
    if not 0 < held < known:
        raise ConfigError(
            f"{attribute.name}: {held:,} of {amount(known, 'image')} have it, so there is nothing "
            "to compare"
        )


def _of_class(name: str, cache: ActivationCache, images: Images) -> tuple[Flags, Flags]:
    classes = cache.classes()
    keys, names = classes["key"].to_pylist(), classes["name"].to_pylist()
    matches = [c for c, key in enumerate(keys) if key == name]
    matches = matches or [c for c, n in enumerate(names) if n.casefold() == name.casefold()]
    if len(matches) != 1:
        if not names:
            raise ConfigError(f"{cache.folder} has no classes: it was made without labels")
        if not matches:
            known = list(dict.fromkeys([*names, *keys]))
            near = difflib.get_close_matches(name, known, n=3) or known[:3]
            shown = ", ".join(shorten(text, 40) for text in near)
            raise ConfigError(f"{cache.folder}: no class is called {name!r}; there are {shown}, …")
        which = ", ".join(shorten(keys[c], 40) for c in matches)
        raise ConfigError(
            f"{cache.folder}: {len(matches)} classes are called {name!r} (keys {which}); give a "
            "class's key"
        )
    members = set(matches)
    parents = classes["parent_id"].to_pylist()
    while below := {c for c, parent in enumerate(parents) if parent in members} - members:
        members |= below
    carried, labelled = [], []
    for batch in cache.row_batches(["label_ids"], _BATCH):
        lists = batch.column("label_ids")
        lengths = np.asarray(lists.value_lengths(), dtype=np.int64)
        rows = np.repeat(np.arange(len(lists)), lengths)
        held = np.isin(np.asarray(lists.flatten()), sorted(members))
        carried.append(np.bincount(rows[held], minlength=len(lists)) > 0)
        labelled.append(lengths > 0)
    return images.any_row(np.concatenate(carried)), images.any_row(np.concatenate(labelled))


def _of_words(text: str, cache: ActivationCache, images: Images) -> tuple[Flags, Flags]:
    if text.startswith("@"):
        phrases = read_lines(Path(text[1:]))
    else:
        phrases = [word.strip() for word in text.split(",") if word.strip()]
    if not phrases:
        raise ConfigError(f"words:{text} holds no word")
    matching, captioned = [], []
    for batch in cache.row_batches(["caption"], _BATCH):
        captions = batch.column("caption")
        matching.append(words.matches(captions, phrases))
        captioned.append(np.asarray(captions.is_valid(), dtype=np.bool_))
    known = np.concatenate(captioned)
    if not known.any():
        raise ConfigError(f"{cache.folder} has no captions to look for words in")
    held = np.concatenate(matching)
    if not held.any() and (near := _similar_words(phrases, cache, images)):
        raise ConfigError(f"no caption of {cache.folder} has {text!r}; similar words: {near}")
    return images.any_row(held), images.any_row(known)


def _similar_words(phrases: Sequence[str], cache: ActivationCache, images: Images) -> str:
    """Words of captions that look like some phrases."""
    vocabulary = words.words_of(cache, images).vocabulary
    near = [
        word
        for phrase in phrases
        for word in difflib.get_close_matches(phrase.casefold(), vocabulary, n=3)
    ]
    return ", ".join(shorten(word, 40) for word in dict.fromkeys(near))


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 text file that are not blank, stripped.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not a text in UTF-8: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def _of_column(text: str, cache: ActivationCache, images: Images) -> tuple[Flags, Flags]:
    columns = cache.columns
    # A column's name may hold an equals sign: the longest one that fits is meant.
    fitting = [name for name in columns.names if text == name or text.startswith(f"{name}=")]
    if not fitting:
        known = ", ".join(shorten(name, 40) for name in columns.names[:20])
        raise ConfigError(
            f"{cache.folder} has no column {text.partition('=')[0]!r}; "
            + (f"it has {known}" if known else "it was extracted without --column")
        )
    name = max(fitting, key=len)
    column = cache.rows([name])[name].combine_chunks().dictionary_encode()
    values = column.dictionary.to_pylist()
    if text == name:
        spelt = f"column:{name}"
        held_values = [_truth(value, str(cache.folder), spelt, values) for value in values]
    else:
        wanted = _parsed(text.removeprefix(f"{name}="), columns.field(name).type, name)
        held_values = [value == wanted for value in values]
    known_rows = np.asarray(column.is_valid(), dtype=np.bool_)
    codes = np.asarray(column.indices.fill_null(0))
    held_rows = known_rows & np.append(held_values, False)[codes]
    return images.any_row(held_rows), images.any_row(known_rows)


def _parsed(text: str, kind: pa.DataType, column: str) -> Any:
    """A value that is meant, in the type of its column."""
    if pa.types.is_string(kind):
        return text
    if pa.types.is_boolean(kind) and text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    with suppress(ValueError):
        if pa.types.is_integer(kind):
            return int(text)
        if pa.types.is_floating(kind):
            return float(text)
    raise ConfigError(f"column {column} is of type {kind}, and {text!r} is not")


def _of_table(text: str, cache: ActivationCache, images: Images) -> tuple[Flags, Flags]:
    file, _, column = text.rpartition("#")
    column, equals, value = column.partition("=")
    table = _read_table(file, column)
    ids = table["sample_id"].cast(pa.string()).to_pylist()
    values = table[column].to_pylist()
    held_by: dict[str, bool] = {}
    for sample_id, cell in zip(ids, values, strict=True):
        if cell is None or sample_id is None:
            continue
        held = _is(cell, value) if equals else _truth(cell, file, f"#{column}", values)
        if held_by.setdefault(sample_id, held) != held:
            raise ConfigError(
                f"{file}: sample_id {shorten(sample_id, 40)!r} has two different values of {column}"
            )
    samples = cache.rows(["sample_id"])["sample_id"].combine_chunks()
    known_ids, held_ids = list(held_by), [name for name, held in held_by.items() if held]
    known = _among(samples, known_ids)
    if not known.any():
        raise ConfigError(
            f"{file} names no image of {cache.folder}: its sample_id are such as "
            f"{shorten(str(ids[0]) if ids else 'none', 40)!r}, the cache's such as "
            f"{shorten(samples[0].as_py(), 40)!r}"
        )
    return images.any_row(_among(samples, held_ids)), images.any_row(known)


def _among(samples: pa.Array, names: Sequence[str]) -> Flags:
    return np.asarray(pc.is_in(samples, value_set=pa.array(names, pa.string())), dtype=np.bool_)


def _read_table(file: str, column: str) -> pa.Table:
    try:
        if os.fspath(file).endswith(".parquet"):
            table = pq.read_table(file)
        else:
            # Read as text: names must keep their leading zeros, values their decimals.
            types = {"sample_id": pa.string(), column: pa.string()}
            options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
            table = pyarrow.csv.read_csv(file, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"cannot read {file} as a CSV or Parquet table: {error}") from error
    for name in ("sample_id", column):
        if name not in table.column_names:
            known = ", ".join(shorten(c, 40) for c in table.column_names[:20])
            raise ConfigError(f"{file} has no column {name!r}; it has {known}")
    return table


def _is(cell: Any, value: str) -> bool:
    """Whether a cell reads like a value; true and false may be in upper or lower case."""
    if isinstance(cell, bool):
        return str(cell).lower() == value.lower()
    return str(cell) == value


def _truth(value: Any, where: str, column: str, values: Sequence[Any]) -> bool:
    """What a cell says that is true or false.

    Args:
        value: The cell.
        where: The table, for messages.
        column: How an attribute names the column.
        values: All cells, for messages.
    """
    text = str(value).lower()
    if text not in _TRUE + _FALSE:
        some = sorted({shorten(str(v), 40) for v in values if v is not None})[:8]
        raise ConfigError(
            f"{where}: {column} is not true or false; say which value is meant, such as "
            f"{column}={some[0]} (there are {', '.join(some)})"
        )
    return text in _TRUE
