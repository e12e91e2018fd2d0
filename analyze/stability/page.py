"""What two runs have in common, as plain text."""

from collections.abc import Iterator, Mapping
from typing import Any

from sparc.analyze.stability.compare import Stability
from sparc.analyze.stability.match import THRESHOLDS
from sparc.common.text import amount, printable


def show(result: Stability) -> str:
    """The figures as plain text."""
    return "\n".join(_lines(result))


def _lines(result: Stability) -> Iterator[str]:
    rows = result.figures.to_pylist()
    yield f"{amount(rows[0]['matched'], 'latent')} matched one to one by their decoders' cosines"
    yield (
        "latents of two seeds match in part: read each figure against the random baseline below "
        "it, which is what chance gives"
    )
    yield (
        f"  {'':<44}{'cosine':>8}" + "".join(f"  > {x}" for x in THRESHOLDS.values()) + "  nearest"
    )
    for row in rows:
        if row["control"] == "trained":
            yield _line(_title(row), row)
            for control, title in _CONTROLS.items():
                for other in rows:
                    if other["control"] == control and _same_place(row, other):
                        yield _line(f"  {title}", other) + _remark(control, result)
    for note in result.notes:
        yield f"note: {printable(note)}"


_CONTROLS = {"untrained": "untrained", "random": "random directions"}


def _remark(control: str, result: Stability) -> str:
    """What a reader of the line must know beside its figures."""
    if control == "untrained" and result.same_beginning:
        return "  same seed: both began with the same directions"
    return ""


def _title(row: Mapping[str, Any]) -> str:
    if row["stream"] is None:
        return "all streams, mean"
    by = "matched by all streams" if row["matching"] == "joint" else "matched by itself"
    return f"{printable(row['stream'])}, {by}"


def _same_place(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(row[name] == other[name] for name in ("matching", "stream"))


def _line(title: str, row: Mapping[str, Any]) -> str:
    shares = "".join(f"{row[name]:>7.1%}" for name in THRESHOLDS)
    return f"  {title:<44}{row['cosine']:>8.3f}{shares}{row['nearest_first']:>9.3f}"
