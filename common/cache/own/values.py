"""Features in the forms that people have them, as arrays; the rest is refused."""

import sys
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from sparc.common.cache.features import as_stored, differing, find_faults
from sparc.common.errors import CacheError
from sparc.common.streams.info import Modality, StreamInfo
from sparc.common.text import amount


def as_array(stream: str, values: Any) -> npt.NDArray[Any]:
    """Features as an array of (rows, dim) floats; those of a tensor of any device, too.

    Raises:
        CacheError: NumPy makes no such array of them.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        kind = type(values).__name__
        raise CacheError(f"stream {stream}: NumPy makes no array of a {kind}: {error}") from error
    if array.ndim != 2:
        raise CacheError(f"stream {stream}: features of shape {array.shape}, not (rows, dim)")
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise CacheError(
            f"stream {stream}: features of type {str(array.dtype).lstrip('<>=|')}, not float16, "
            "float32 or float64"
        )
    return array


def common_rows(arrays: Mapping[str, npt.NDArray[Any]]) -> int:
    """The number of rows of all streams.

    Raises:
        CacheError: There is no stream, or two differ in it.
    """
    if not arrays:
        raise CacheError("there are no features to write")
    first, *_ = arrays
    for name, values in arrays.items():
        if len(values) != len(arrays[first]):
            raise CacheError(
                f"stream {name} has {len(values)} rows, stream {first} {len(arrays[first])}"
            )
    return len(arrays[first])


def require_lengths(rows: int, columns: Mapping[str, Any]) -> None:
    """Refuse what does not have a value a row.

    Args:
        rows: How many rows there are.
        columns: What is known of them, by the name that messages call it; None: nothing.

    Raises:
        CacheError: Something has more values, or fewer.
    """
    for name, values in columns.items():
        if values is not None and len(values) != rows:
            raise CacheError(f"{name}: {len(values)} for {rows} rows")


def require_modality(modality: Mapping[str, str], streams: Mapping[str, Any]) -> None:
    """Refuse what `modality` may not say of some streams.

    Raises:
        CacheError: It names another stream, or neither images nor texts.
    """
    for name, value in modality.items():
        if name not in streams:
            raise CacheError(f"modality of {name!r}: there is no such stream")
        if value not in get_args(Modality):
            raise CacheError(f"modality of {name!r}: {value!r} is neither image nor text")


def require_same_features(
    stream: StreamInfo,
    features: npt.NDArray[Any],
    same_image: npt.NDArray[np.bool_],
    *,
    first_row: int = 0,
) -> None:
    """Refuse features of one image that differ as stored.

    Args:
        stream: A stream of images.
        features: (rows, dim).
        same_image: (rows,) whether a row has the image of the row before.
        first_row: The row of the cache that `features[0]` belongs to.

    Raises:
        CacheError: They do; names the first row.
    """
    stored = as_stored(features, np.dtype(stream.dtype))
    faults = find_faults(stored)
    wrong = differing(stored, same_image, ~faults.not_finite & ~faults.zero)
    if wrong.any():
        row = first_row + int(np.flatnonzero(wrong)[0])
        raise CacheError(
            f"stream {stream.name}, row {row}: the feature is not that of the row before, of "
            "the same sample_id; if it is of a text, say so with "
            f'modality={{"{stream.name}": "text"}}'
        )


def note_on_not_finite(stream: str, bad: int, rows: int) -> str:
    """What to say of a stream in which rows hold NaN or infinity; empty where none does.

    Raises:
        CacheError: Every row does.
    """
    if bad and bad == rows:
        raise CacheError(f"stream {stream}: every row holds NaN or infinity")
    if not bad:
        return ""
    return (
        f"stream {stream}: {bad:,} of {amount(rows, 'row')} hold NaN or infinity: "
        "they count as missing"
    )
