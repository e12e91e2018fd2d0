"""The closed form: a stream's encoder becomes its best linear guess of all streams' mean logits.

With features x_s of S streams, their means mu_s and covariances C_st, a stream's logits
h_s = E_s (x_s - b_s) + c_s and their mean over streams hbar, ridge regression of hbar on x_s gives

    E_s' = 1/S sum_t E_t C_ts (C_ss + rho I)^-1        with rho = ridge * tr(C_ss)
    c_s' = hbar(mu) - E_s' (mu_s - b_s)

rho is a share of the trace, that is `ridge * dim` times the mean eigenvalue: 0.04 of it for 384
values at 1e-4.

That guesses logits as well as all rows allow, but what matters is which rows select a latent. The
direction that tells these from the others is Fisher's discriminant. With m_sl the mean of x_s over
the rows that select l jointly, its row l is

    F_sl = a_sl (C_ss + rho I)^-1 (m_sl - mu_s)

where a_sl gives its logits the standard deviation that those of row l of E_s' have. The two are
mixed, E_s' = (1 - discriminant) E_s' + discriminant F_s, where a row selects the latent at all.

Encoders move by `mix`, E = (1 - mix) E + mix E', and c likewise.

A regression shrinks what streams do not share, and latents that shrink are selected no more. So
`keep` scales row l of all encoders by g_l = clip(std before / std after, 0.2, 5) of the latent's
summed logits, about each stream's mean logit.

Streams may be frozen, as where one joins a trained dictionary: they count in the mean and stay.
Then the other streams' rows alone are scaled, by the g_l with which the summed logits keep their
variance.

No rows are needed, only means and covariances, and the means m_sl. The cost are two products of
(latents, D) with (D, D), D being the width of all streams together, and a triangular solve for each
stream, or two.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from sparc.train.align.selecting import SelectingRows
from sparc.train.data.moments import Moments
from sparc.train.model.network import Sparc

LARGEST_GAIN = 5.0
"""Most that `keep` scales a latent by, and the inverse of the least."""

_LATENTS = 256
"""Latents that are refitted at once: what is computed for them all has their width in doubles."""


def align(
    model: Sparc,
    moments: Moments,
    *,
    mix: float = 1.0,
    ridge: float = 1e-4,
    keep: bool = True,
    discriminant: float = 0.0,
    selecting: SelectingRows | None = None,
    frozen: Collection[str] = (),
) -> None:
    """Refit the encoders and latent biases of a model, in place.

    Decoders and pre-biases stay. It is computed in double precision where the model lies.

    Args:
        model: A model of at least two streams.
        moments: Of the model's streams, normalized.
        mix: How far encoders move to the refitted ones.
        ridge: The ridge as a share of the trace of a stream's covariance.
        keep: Whether each latent's summed logits keep their standard deviation.
        discriminant: Share of Fisher's discriminant in the refitted encoders.
        selecting: The rows that select each latent; needed where `discriminant` is not 0.
        frozen: Streams whose encoders and latent biases stay.
    """
    assert discriminant == 0 or selecting is not None
    names = model.config.names
    assert moments.names == names
    moments = moments.to(model.pre_bias[names[0]].device)
    triangles = {
        name: triangle(moments.covariance(name, name), ridge)
        for name in names
        if name not in frozen
    }
    moves = torch.cat([torch.full_like(moments.means[s], float(s not in frozen)) for s in names])
    with torch.no_grad():
        centre = {s: moments.means[s] - model.pre_bias[s].double() for s in names}
        for first in range(0, model.config.latents, _LATENTS):
            some = slice(first, first + _LATENTS)
            before = torch.cat([model.encoder[s][some].double() for s in names], dim=1)
            biases = torch.stack([model.latent_bias[s][some].double() for s in names])
            projected = before @ moments.covariances  # of row l: covariance of its sum with x
            refitted = torch.cat(
                [
                    torch.cholesky_solve(columns.T, triangles[s]).T / len(names)
                    if s in triangles
                    else own_rows
                    for s, columns, own_rows in zip(
                        names, moments.split(projected), moments.split(before), strict=True
                    )
                ],
                dim=1,
            )
            if discriminant > 0 and selecting is not None:
                fisher = [
                    _fisher(
                        guess,
                        selecting.means[s][some].to(guess) - moments.means[s],
                        selecting.counts[some].to(guess.device) > 0,
                        moments.covariance(s, s),
                        triangles[s],
                    )
                    if s in triangles
                    else guess
                    for s, guess in zip(names, moments.split(refitted), strict=True)
                ]
                refitted = torch.lerp(refitted, torch.cat(fisher, dim=1), discriminant)
            after = torch.lerp(before, refitted, mix)
            # A stream's mean logits move to the mean over streams as far as its encoder does.
            own = torch.stack(_products(moments, before, centre)) + biases
            means = torch.lerp(own, own.mean(0).expand_as(own), mix)
            if keep:
                variance = _row_products(projected, before)
                moving = after * moves
                covariance = moving @ moments.covariances
                with_frozen = None
                if frozen:
                    staying = after - moving
                    variance = variance - _row_products(staying @ moments.covariances, staying)
                    with_frozen = _row_products(covariance, staying)
                scales = gain(variance, _row_products(covariance, moving), with_frozen)
                after = torch.where(moves > 0, after * scales, after)
            offsets = means - torch.stack(_products(moments, after, centre))
            for s, rows, offset in zip(names, moments.split(after), offsets, strict=True):
                if s in frozen:
                    continue
                model.encoder[s][some] = rows.to(model.encoder[s].dtype)
                model.latent_bias[s][some] = offset.to(model.latent_bias[s].dtype)


def triangle(covariance: Tensor, ridge: float) -> Tensor:
    """The Cholesky factor of C + ridge tr(C) I."""
    regularized = covariance.clone()
    regularized.diagonal().add_(ridge * covariance.trace())
    factor: Tensor = torch.linalg.cholesky(regularized)
    return factor


def _fisher(
    guess: Tensor, differences: Tensor, selected: Tensor, covariance: Tensor, triangle: Tensor
) -> Tensor:
    """Fisher's discriminants of a stream, with the variance of `guess` in their logits.

    Args:
        guess: The refitted encoder, (latents, dim).
        differences: m_sl - mu_s, (latents, dim).
        selected: Whether a row selects the latent; where none does, `guess` stays, (latents,).
        covariance: C_ss.
        triangle: The Cholesky factor of C_ss + rho I.
    """
    rows = torch.cholesky_solve(differences.T, triangle).T
    wanted, has = (_row_products(r @ covariance, r).clamp_min(0) for r in (guess, rows))
    usable = selected.unsqueeze(1) & (has > 0)
    return torch.where(usable, rows * (wanted / has).sqrt(), guess)


def _products(moments: Moments, rows: Tensor, vectors: dict[str, Tensor]) -> list[Tensor]:
    """By stream, the products of the encoder's rows with a vector: (latents,) each."""
    parts = zip(moments.names, moments.split(rows), strict=True)
    return [columns @ vectors[s] for s, columns in parts]


def _row_products(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(1, keepdim=True)


def gain(before: Tensor, after: Tensor, with_frozen: Tensor | None = None) -> Tensor:
    """The g with g^2 after + 2 g with_frozen = before, (latents, 1), within its limits.

    Covariances of pairs that different rows have may give a variance below zero: it counts as 0.

    Args:
        before: Variance that latents are to have, without that of frozen streams.
        after: Variance that they have.
        with_frozen: Its covariance with the frozen streams' part; None for zero.
    """
    if with_frozen is None:
        ratio = (before.clamp_min(0) / after.clamp_min(0)).sqrt()
    else:
        half = with_frozen / after
        ratio = (half.square() + before / after).clamp_min(0).sqrt() - half
    return ratio.nan_to_num(1.0, posinf=LARGEST_GAIN).clamp(1 / LARGEST_GAIN, LARGEST_GAIN)
