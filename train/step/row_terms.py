"""What rows contribute to the gradients: the rows of one process, and those of all.

Gradients are sums over rows of products of these terms. So processes do not add up dense
gradients: each receives the row terms of all (a few MB, where a gradient has hundreds) and computes
the gradient of the whole batch, the same bits in every process. All else is equal in all processes.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from sparc.train.step.deadness import SparseCodes
from sparc.train.step.selection.select import Selected

Gather = Callable[[Tensor], Tensor]
"""Joins a tensor of all processes along its first dimension, the rows, in the order of ranks."""


def one_process(rows: Tensor) -> Tensor:
    """The `Gather` of a process on its own."""
    return rows


class AuxiliaryCode(NamedTuple):
    """A second sparse code of a stream, over some of the latents, that its decoder decodes.

    Derivatives are of the rows' losses times their weight.

    Attributes:
        latents: The latents it may use, ascending, (latents,) int64; the same in every process.
        indices: Those that each row uses, as positions in `latents`, (rows, k).
        values: Their values, (rows, k).
        value_gradients: Derivative by the values, zero where a value is zero, (rows, k).
        residuals: Derivative by what the code is decoded to, (rows, dim).
    """

    latents: Tensor
    indices: Tensor
    values: Tensor
    value_gradients: Tensor
    residuals: Tensor


class FurtherLogits(NamedTuple):
    """Derivatives by logits of latents beside those of a stream's code.

    Attributes:
        indices: The latents, (rows, n) int64. One may be among those of the code too.
        gradients: Derivative of the rows' losses times their weight, (rows, n).
    """

    indices: Tensor
    gradients: Tensor


class LocalTerms(NamedTuple):
    """What the rows of this process contribute to the gradients, besides their codes.

    Derivatives are of the rows' losses, before any mean over rows.

    Attributes:
        read: By stream, what the encoder multiplies, (rows, dim).
        value_gradients: Derivative by the logits of the codes' latents, (rows, streams, k): by
            their values, zero where a value is zero, and of terms of the logits themselves.
        residuals: By target, derivative by the reconstructions, (rows, sources, dim).
        parallels: By target, value times the product of residual and decoder row,
            (rows, sources, k). Summed by latent: the product of a decoder row and its gradient.
        auxiliary: By stream, its auxiliary codes.
        further: By stream, derivatives by further logits.
    """

    read: tuple[Tensor, ...]
    value_gradients: Tensor
    residuals: tuple[Tensor, ...]
    parallels: tuple[Tensor, ...]
    auxiliary: tuple[tuple[AuxiliaryCode, ...], ...]
    further: tuple[tuple[FurtherLogits, ...], ...]


class GlobalCodes(NamedTuple):
    """The codes of all processes' rows; gathered first, since they say which latents are dead.

    Attributes:
        indices: As `Selected.indices`.
        values: As `Selected.values`.
        kept: As `Selected.kept`.
        present: As `Selected.present`.
    """

    indices: Tensor
    values: Tensor
    kept: Tensor | None = None
    present: Tensor | None = None


class GlobalTerms(NamedTuple):
    """What all rows of a batch contribute to the gradients; the same in every process.

    Attributes:
        indices: As `GlobalCodes.indices`.
        values: As `GlobalCodes.values`.
        read: This and the following are those of `LocalTerms`.
    """

    indices: Tensor
    values: Tensor
    read: tuple[Tensor, ...]
    value_gradients: Tensor
    residuals: tuple[Tensor, ...]
    parallels: tuple[Tensor, ...]
    auxiliary: tuple[tuple[AuxiliaryCode, ...], ...]
    further: tuple[tuple[FurtherLogits, ...], ...]


def gather_codes(selected: Selected, gather: Gather) -> GlobalCodes:
    """The codes of all processes' rows."""
    kept = None if selected.kept is None else gather(selected.kept)
    present = None if selected.present is None else gather(selected.present)
    return GlobalCodes(gather(selected.indices), gather(selected.values), kept, present)


def gather_own(selected: Selected, codes: GlobalCodes, gather: Gather) -> SparseCodes | None:
    """The own TopK of each stream in all processes' rows; None where it is not known."""
    if selected.own is None or selected.own_values is None:
        return None
    return SparseCodes(gather(selected.own), gather(selected.own_values), codes.present)


def gather_terms(local: LocalTerms, codes: GlobalCodes, gather: Gather) -> GlobalTerms:
    """The terms of all processes' rows.

    Args:
        local: The terms of this process's rows.
        codes: From `gather_codes`.
        gather: Joins the rows of all processes.
    """

    def gather_code(code: AuxiliaryCode) -> AuxiliaryCode:
        latents, *rows = code
        return AuxiliaryCode(latents, *(gather(tensor.contiguous()) for tensor in rows))

    def gather_logits(logits: FurtherLogits) -> FurtherLogits:
        return FurtherLogits(*(gather(tensor.contiguous()) for tensor in logits))

    return GlobalTerms(
        codes.indices,
        codes.values,
        read=tuple(map(gather, local.read)),
        value_gradients=gather(local.value_gradients),
        residuals=tuple(map(gather, local.residuals)),
        parallels=tuple(map(gather, local.parallels)),
        auxiliary=tuple(tuple(map(gather_code, of_stream)) for of_stream in local.auxiliary),
        further=tuple(tuple(map(gather_logits, of_stream)) for of_stream in local.further),
    )
