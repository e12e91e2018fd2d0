"""The figures of a run: their computation from sums over rows, and the lines of metrics.jsonl.

Each line of `metrics.jsonl` is a JSON object:

    step                 steps made so far
    epoch                epochs made so far, a fraction
    split                `train`: means over the steps since the last line of training;
                         `validation`: means over the whole validation cache
    rows                 rows that the means are over; with `--independent` those of both kinds
                         of batches, of which `chosen_alone` counts the joint ones
    loss                 the whole loss
    nmse                 {target: {source: …}}: NMSE of the target reconstructed from the source;
                         null for pairs that training does not decode (no cross loss)
    explained_variance   {stream: …}: of the self-reconstruction, against the mean
    explained_variance_pairs
                         {target: {source: …}}: the same of every pair; null as for nmse
    l0                   {stream: …}: values above zero per row
    dead                 {stream: …}: number of dead latents
    chosen_alone         {stream: …}: share of the selected latents that the stream would have
                         selected independently
    aux                  {stream: …}: the AuxK loss
    NAME                 the value of a further loss term (`--term NAME=…`); {stream: …} where its
                         derivatives are by hand
    lr                   learning rate of the last step (train only)
    mixing               how well the epoch is shuffled, see `RowOrder.mixing` (once an epoch)
    crc32c               checksum of the line, see `sparc.train.run.log_lines`

Explained variance is 1 - sum |r - x|^2 / sum |x - mean(x)|^2 over all rows and dimensions of the
normalized features, with the mean of the same rows: predicting that mean scores 0. With `--rows
any` figures of a stream are over the rows that have it, and those of a pair over the rows that have
both, null without any; explained variance then divides the pair's mean error by the variance of the
target over all rows that have it. The loss is over all rows. Every figure is
a sum divided by a count, so figures do not depend on the batch size. Wall-clock figures are in
`timings.jsonl`, so that an interrupted and resumed run ends with the same bytes in
`metrics.jsonl`. This module must not know files.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sparc.common.errors import RunError
from sparc.common.text import printable
from sparc.train.step.noise import ALL_ROWS, Share
from sparc.train.step.sums import StepSums

SMALLEST_VARIANCE = 1e-6
"""A variance that is a smaller share of the mean square is taken for a rounding error."""


def total(windows: Sequence[StepSums]) -> StepSums | None:
    """The sums over the rows of all processes; None without any."""
    return functools.reduce(StepSums.__add__, windows) if windows else None


def sums_to_tensors(windows: Sequence[StepSums]) -> dict[str, Tensor]:
    """Sums as named tensors, for a checkpoint.

    Args:
        windows: The sums of every process; empty without sums.

    Returns:
        The sums over all processes, and of several those of each, (processes, sums).
    """
    over_all = total(windows)
    if over_all is None:
        return {}
    named = dict(over_all.named())
    if len(windows) > 1:
        named[_BY_PROCESS] = torch.stack([sums.flat() for sums in windows])
    return named


def sums_from_tensors(
    named: Mapping[str, Tensor], zeros: StepSums, share: Share = ALL_ROWS
) -> StepSums | None:
    """The sums with which a process continues, of those that `sums_to_tensors` named.

    Its own, if there were as many processes as now: to add them up in another order would change
    last bits. Else the first process continues with those of all, and the others with none.

    Args:
        named: The tensors by name. A loss term may be missing, as an earlier version may not have
            had it: its sum is 0.
        zeros: The expected sums over no rows, on the device of the result.
        share: Which process this is.

    Raises:
        RunError: The sums are of another version of SPARC, or of another model.
    """
    if not named:
        return None
    over_all = {name: tensor for name, tensor in named.items() if name != _BY_PROCESS}
    sums = _fitting(over_all, zeros)
    by_process, expected = named.get(_BY_PROCESS), zeros.flat()
    if by_process is not None and by_process.shape == (share.world, len(expected)):
        return zeros.with_flat(by_process[share.rank].to(expected))
    return sums if share.rank == 0 else None


def _fitting(named: Mapping[str, Tensor], zeros: StepSums) -> StepSums:
    """Sums of those names, or what is wrong with them."""
    expected = zeros.named()
    named = {**zeros.terms, **named}
    for name in sorted(named.keys() | expected.keys()):
        if name not in named or name not in expected:
            raise RunError(f"its sums were made by another version of SPARC ({printable(name)})")
        given, fitting = named[name], expected[name]
        if (given.shape, given.dtype) != (fitting.shape, fitting.dtype):
            raise RunError(
                f"its sums do not fit the model: {name} is {_kind(given)}, not {_kind(fitting)}"
            )
    return zeros.with_named({name: named[name].to(zeros.rows.device) for name in expected})


_BY_PROCESS = "by_process"
"""The name of the sums of every process; no sum is called so."""


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"


def describe(sums: StepSums, streams: Sequence[str], dead: Mapping[str, int]) -> dict[str, Any]:
    """The figures of a line of metrics.jsonl that follow from sums over rows.

    Args:
        sums: Sums over rows of all processes.
        streams: Names of the streams, in the model's order.
        dead: Dead latents by stream.
    """
    rows = float(sums.rows)
    nmse = (sums.nmse / sums.rows_of_pairs).tolist()
    variance = explained_variances(sums)

    def by_stream(values: Sequence[float]) -> dict[str, float | None]:
        return {name: _finite(value) for name, value in zip(streams, values, strict=True)}

    def of_term(value: float | Sequence[float]) -> dict[str, float | None] | float | None:
        return _finite(value) if isinstance(value, float) else by_stream(value)

    return {
        "rows": int(rows),
        "loss": _finite(float(sums.loss) / rows),
        "nmse": {target: by_stream(nmse[t]) for t, target in enumerate(streams)},
        "explained_variance": by_stream([variance[t][t] for t in range(len(streams))]),
        "explained_variance_pairs": {t: by_stream(variance[i]) for i, t in enumerate(streams)},
        "l0": by_stream((sums.active / sums.rows_of_streams).tolist()),
        "dead": {name: dead[name] for name in streams},
        "chosen_alone": by_stream((sums.chosen_alone / sums.chosen).tolist()),
        **{name: of_term(mean.tolist()) for name, mean in sums.term_means().items()},
    }


def line_fault(line: Mapping[str, Any]) -> str | None:
    """What is wrong with a line of metrics.jsonl; None if it is whole."""
    for name in ("step", "rows"):
        if type(line.get(name)) is not int:
            return f"{name} is not a whole number"
    if not isinstance(line.get("split"), str) or not _is_figure(line.get("loss", "")):
        return "split or loss is missing"
    nmse = line.get("nmse")
    if not isinstance(nmse, dict):
        return "nmse is missing"
    # Earlier versions did not write it.
    pairs = line.get(_VARIANCE_PAIRS, nmse)
    if not isinstance(pairs, dict) or pairs.keys() != nmse.keys():
        return f"{_VARIANCE_PAIRS} is not given for all streams"
    figures_by_name = {
        **{name: line.get(name) for name in _BY_STREAM},
        **{f"nmse of {target}": row for target, row in nmse.items()},
        **{f"{_VARIANCE_PAIRS} of {target}": row for target, row in pairs.items()},
    }
    for name, figures in figures_by_name.items():
        if not isinstance(figures, dict) or not nmse.keys() <= figures.keys():
            return f"{name} is not given for all streams"
        if not all(map(_is_figure, figures.values())):
            return f"{name} holds something other than numbers"
    return None


_VARIANCE_PAIRS = "explained_variance_pairs"
_BY_STREAM = ("explained_variance", "l0", "dead", "chosen_alone")


def _is_figure(value: Any) -> bool:
    return value is None or type(value) in (int, float)


def explained_variances(sums: StepSums) -> list[list[float]]:
    """Explained variance by target and source.

    NaN where the target does not vary, and for pairs that were not decoded.
    """
    result = []
    pair_rows = sums.rows_of_pairs.tolist()
    for position, total in enumerate(sums.feature_sum):
        rows = pair_rows[position][position]
        squares = float(sums.feature_square_sum[position])
        variance = squares - float(total.square().sum() / rows) if rows else math.nan
        if variance <= SMALLEST_VARIANCE * squares:
            # Features are float32: where all rows are equal, what is left is their rounding.
            variance = math.nan
        errors = zip(sums.squared_error[position].tolist(), pair_rows[position], strict=True)
        result.append(
            [1 - error / variance * (rows / both) if both else math.nan for error, both in errors]
        )
    return result


def self_and_cross(nmse: Mapping[str, Mapping[str, float | None]]) -> tuple[float, float]:
    """Mean NMSE of a line's self- and of its cross-reconstructions; NaN without any."""
    own = [nmse[name][name] for name in nmse]
    cross = [value for t, row in nmse.items() for s, value in row.items() if s != t]
    return _mean(own), _mean(cross)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
