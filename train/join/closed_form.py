"""The start of a stream that joins: its encoder, pre-bias and decoder in closed form.

The other streams F are frozen; mu and C are means and covariances of normalized features.

Encoder: ridge regression of their mean logits hbar = 1/|F| sum_t [E_t (x_t - b_t) + c_t] on the new
stream's features x, whose pre-bias is their mean mu:

    E = 1/|F| sum_t E_t C_tx (C_xx + rho I)^-1        with rho = ridge * tr(C_xx)
    c = hbar(mu)

A regression has a smaller variance than what it predicts, and the new stream would count less than
the others wherever streams select jointly. So row l of E is multiplied by std hbar_l / std (E x)_l,
within the limits of `sparc.train.align.refit`.

Decoder: the rows d_l of unit norm with the least squared error of x - mu from the codes of all
streams, the new one's included, that they select jointly:

    sum over streams s and rows of |x - mu - sum_l z_sl d_l|^2 = tr D^T G D - 2 tr D^T B + const
    G = sum z_s z_s^T,  B = sum z_s (x - mu)^T

Decoder rows have unit norm and frozen streams keep their values. Rows that are solved for without
that constraint and then scaled would decode those values at the wrong size (rows of text on emoji
have a norm of 2.2 before). So least squares with a ridge is the start only. As no entry of G is
negative, diag(G 1) - G is positive semidefinite, and

    d_l <- unit(m_l d_l + b_l - (G D)_l)        with m = G 1

never raises the error. A latent that no sampled row uses keeps its direction.
"""

import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.progress import progress
from sparc.train.align.refit import gain, triangle
from sparc.train.data.moments import Moments
from sparc.train.data.sampling import complete_chunks
from sparc.train.model.network import Sparc

ROUNDS = 20
"""Of the decoder's iteration. After 20 the error on emoji is within 1% of that after 100."""

_RIDGE = 1e-3
"""Added to G on the diagonal, as a share of its mean, where the iteration starts."""

_ROWS = 64
"""Rows whose pairs of latents are added to G at once."""


def fit_encoder(model: Sparc, stream: str, moments: Moments, *, ridge: float) -> None:
    """Set encoder, latent bias and pre-bias of a stream from those of the others, in place.

    Args:
        model: A model of at least two streams.
        stream: The new one.
        moments: Of the model's streams, normalized.
        ridge: The ridge as a share of the trace of the stream's covariance.
    """
    moments = moments.to(model.pre_bias[stream].device)
    others = [name for name in model.config.names if name != stream]
    with torch.no_grad():
        encoders = {name: model.encoder[name].double() / len(others) for name in others}
        own = moments.covariance(stream, stream)
        covariance = sum(encoders[t] @ moments.covariance(t, stream) for t in others)
        encoder = torch.cholesky_solve(covariance.T, triangle(own, ridge)).T
        wanted = sum(
            ((encoders[s] @ moments.covariance(s, t)) * encoders[t]).sum(1, keepdim=True)
            for s in others
            for t in others
        )
        encoder *= gain(wanted, ((encoder @ own) * encoder).sum(1, keepdim=True))
        bias = sum(
            encoders[t] @ (moments.means[t] - model.pre_bias[t].double())
            + model.latent_bias[t].double() / len(others)
            for t in others
        )
        model.encoder[stream].copy_(encoder)
        model.latent_bias[stream].copy_(bias)
        model.pre_bias[stream].copy_(moments.means[stream])


def fit_decoder(model: Sparc, stream: str, cache: ActivationCache, *, rows: int, seed: int) -> None:
    """Set the decoder of a stream from the codes of all streams, in place.

    It takes 24 bytes of main memory for each pair of latents: 1.5 GB for 8,192.

    Args:
        model: The model.
        stream: The new one, with its encoder and pre-bias.
        cache: A cache with the model's streams.
        rows: Rows wanted, in whole chunks.
        seed: Seed of the sample of chunks.
    """
    gram, products = _normal_equations(model, stream, cache, rows=rows, seed=seed)
    decoder = model.decoder[stream]
    used = gram.diagonal() > 0
    start = torch.cholesky_solve(products, triangle(gram, _RIDGE / len(gram)))
    with torch.no_grad():
        gram, products = gram.to(decoder), products.to(decoder)
        directions = torch.where(used[:, None].to(decoder.device), start.to(decoder), decoder)
        directions /= directions.norm(dim=1, keepdim=True)
        majorant = gram.sum(1, keepdim=True)
        for _ in range(ROUNDS):
            moved = majorant * directions + products - gram @ directions
            norms = moved.norm(dim=1, keepdim=True)
            directions = torch.where(norms > 0, moved / norms, directions)
        decoder.copy_(directions)


def _normal_equations(
    model: Sparc, stream: str, cache: ActivationCache, *, rows: int, seed: int
) -> tuple[Tensor, Tensor]:
    """G and B of the sampled rows, on the CPU in double precision."""
    config = model.config
    gram = torch.zeros(config.latents, config.latents, dtype=torch.float64)
    products = torch.zeros(config.latents, len(model.pre_bias[stream]), dtype=torch.float64)
    total, taken = min(rows, cache.info.rows), 0
    with progress(total, "decoder") as bar, torch.no_grad():
        for aligned in complete_chunks(cache, config.names, seed):
            tensors = aligned.tensors()
            for first in range(0, len(aligned), _ROWS):
                some = {name: x[first : first + _ROWS] for name, x in tensors.items()}
                codes = model.encode(some, "joint")
                indices = codes[stream].indices.cpu()
                values = torch.stack([code.values for code in codes.values()], 1).double().cpu()
                pairs = indices[:, :, None] * config.latents + indices[:, None, :]
                gram.view(-1).index_add_(
                    0, pairs.view(-1), (values.transpose(1, 2) @ values).view(-1)
                )
                centred = model.normalize(stream, some[stream]) - model.pre_bias[stream]
                dense = torch.zeros(len(indices), config.latents, dtype=torch.float64)
                dense.scatter_(1, indices, values.sum(1))
                products.addmm_(dense.T, centred.double().cpu())
            taken += len(aligned)
            bar.update(len(aligned))
            if taken >= rows:
                break
    return gram, products
