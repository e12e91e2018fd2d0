"""What the streams select together, and rebuild, when one of them is missing.

A model is often used on less than it was trained on: a text alone, pictures without a caption. See
`REPORT.md` for the tables.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy import sparse

from sparc.analyze.codes import CodeRows, Control
from sparc.analyze.encode import encode_jointly
from sparc.analyze.reconstruction import to_codes
from sparc.analyze.selection import chosen
from sparc.train.model import Sparc

SELECTION_SCHEMA = pa.schema(
    [
        pa.field("control", pa.string(), nullable=False),
        pa.field("left_out", pa.string(), nullable=False),
        pa.field("stream", pa.string()),
        pa.field("kept", pa.float64()),
        pa.field("jaccard", pa.float64()),
    ]
)

RECONSTRUCTION_SCHEMA = pa.schema(
    [
        pa.field("control", pa.string(), nullable=False),
        pa.field("left_out", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("nmse", pa.float64(), nullable=False),
        pa.field("explained_variance", pa.float64()),
    ]
)

Features = Mapping[str, npt.NDArray[Any]]


class LeftOut(NamedTuple):
    """What changes with a stream less.

    Attributes:
        selection: Of `SELECTION_SCHEMA`: what is still selected.
        reconstruction: Of `RECONSTRUCTION_SCHEMA`: how well every stream is rebuilt.
    """

    selection: pa.Table
    reconstruction: pa.Table


def measure(model: Sparc, features: Features, control: Control, *, batch_size: int) -> LeftOut:
    """Encode some rows with all streams, and with each of them left out.

    Args:
        model: The model, on the device to use.
        features: By analysed stream, the raw features of the rows, (n, dim).
        control: Which control the model is.
        batch_size: Rows encoded at a time.

    Returns:
        Tables without a row where there are fewer than two streams.
    """
    if len(features) < 2:
        return LeftOut(SELECTION_SCHEMA.empty_table(), RECONSTRUCTION_SCHEMA.empty_table())
    rows = np.arange(len(next(iter(features.values()))), dtype=np.int64)
    whole = encode_jointly(model, features, rows, batch_size=batch_size)
    selection = []
    errors = _errors(model, features, whole, None)
    for left_out in features:
        left = {stream: x for stream, x in features.items() if stream != left_out}
        codes = encode_jointly(model, left, rows, batch_size=batch_size)
        selection += _compare(whole, codes, left_out, model.config.latents)
        errors += _errors(model, features, codes, left_out)
    for row in (*selection, *errors):
        row["control"] = control
    return LeftOut(
        pa.Table.from_pylist(selection, schema=SELECTION_SCHEMA),
        pa.Table.from_pylist(errors, schema=RECONSTRUCTION_SCHEMA),
    )


def _compare(whole: CodeRows, left: CodeRows, left_out: str, latents: int) -> list[dict[str, Any]]:
    """How like each other the selections are, and what is active in each stream that is left."""
    first = left.streams[0]
    selected = [chosen(codes.indices[first], latents) for codes in (whole, left)]
    sets: list[tuple[str | None, list[sparse.spmatrix]]] = [(None, selected)]
    for name in left.streams:
        sets.append((name, [codes.matrix(name, latents) > 0 for codes in (whole, left)]))
    rows = []
    for stream, (before, after) in sets:
        common = _sizes(before.multiply(after))
        rows.append(
            {
                "left_out": left_out,
                "stream": stream,
                "kept": _mean_share(common, _sizes(before)),
                "jaccard": _mean_share(common, _sizes(before) + _sizes(after) - common),
            }
        )
    return rows


def _sizes(sets: sparse.spmatrix) -> npt.NDArray[np.int64]:
    """How many latents each row's set has, (n,)."""
    return np.asarray(sets.sum(axis=1, dtype=np.int64)).ravel()


def _mean_share(common: npt.NDArray[np.int64], of: npt.NDArray[np.int64]) -> float | None:
    """The mean over the rows where there is something to share."""
    some = of > 0
    return float((common[some] / of[some]).mean()) if some.any() else None


def _errors(
    model: Sparc, features: Features, codes: CodeRows, left_out: str | None
) -> list[dict[str, Any]]:
    """How well the codes of each stream that is there rebuild every stream."""
    device = next(model.parameters()).device
    rows = []
    for target, raw in features.items():
        with torch.inference_mode():
            x = model.normalize(target, torch.from_numpy(raw).to(device).float()).double()
            square = x.square().sum(dim=1)
            variance = float((x - x.mean(dim=0)).square().sum())
            varies = variance > _ROUNDING * float(square.sum())
            for source in codes.streams:
                rebuilt = model.decode(to_codes(codes, source, device), target)
                error = (rebuilt.double() - x).square().sum(dim=1)
                rows.append(
                    {
                        "left_out": left_out,
                        "source": source,
                        "target": target,
                        "nmse": float((error / square).mean()),
                        "explained_variance": 1 - float(error.sum()) / variance if varies else None,
                    }
                )
    return rows


_ROUNDING = 1e-12
"""Rounding leaves so much of the variance of a feature that never changes."""
