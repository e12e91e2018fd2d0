"""SPARC (arXiv 2507.06265, section 3) in plain PyTorch: read this file first.

Dense, differentiated by autograd, in the order of the formulas. `sparc.train.step` computes the
same from sparse codes with derivatives by hand; the tests hold it to this file.

There are S streams with features x_s (d_s wide) and L latents, of which a row uses k. Parameters
have the names that they have in `Sparc`: `encoder.s` and `decoder.s` are (L, d_s), a latent a row;
`pre_bias.s` is (d_s,), `latent_bias.s` (L,). A batch has B rows.

A row may lack streams: m_s is 1 in the rows that have s, else 0. Then its h_s is 0, in the sum of
logits and everywhere, and every mean over the B rows of a term about s, or about a pair of s and t,
has the factor m_s, or m_s m_t. So an error weighs in an incomplete row what it weighs in a complete
one, a row counts by what it has, and what is not there counts nothing:

    L = 1/B sum over rows [ 1/S sum_s m_s err(r_s<-s) + lambda_cross/(S (S - 1)) sum_{s!=t} m_s m_t
        err(r_t<-s) + alpha_aux/S sum_s m_s aux_s ]
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.common.errors import ConfigError
from sparc.train.config import ModelConfig
from sparc.train.model.network import Sparc

ByStream = Mapping[str, Tensor]


class Forward(NamedTuple):
    """A batch up to its codes, by stream."""

    parameters: Mapping[str, Tensor]
    x: ByStream
    """Features of unit norm, (B, d_s)."""
    logits: ByStream
    """h_s, (B, L)."""
    codes: ByStream
    """z_s, (B, L): zero but for the selected latents."""
    dead: ByStream
    """Which latents are dead in the stream, (L,) bool."""
    selected: ByStream
    """1 for the latents that the row uses, (B, L)."""
    own: ByStream
    """1 for the k latents that the stream would select independently, (B, L)."""
    has: ByStream
    """m_s: 1 in rows that have the stream, (B,). Elsewhere logits and codes are zero, `x` is any
    vector of norm 1, and `own` means nothing."""

    variances: Sequence[float] | None = None
    """E|x_s - E x_s|^2 of the streams, with `--error variance`; None: errors are NMSE."""

    def decode(self, code: Tensor, target: str) -> Tensor:
        """W_dec,t z + b_pre,t: a code of any stream in the space of the target, (B, d_t)."""
        return code @ self.parameters[f"decoder.{target}"] + self.parameters[f"pre_bias.{target}"]

    def error(self, source: str, target: str) -> Tensor:
        """m_s m_t err(r_t<-s, x_t): NMSE, or mean over rows of |r - x_t|^2 / E|x_t - E x_t|^2."""
        r, x = self.decode(self.codes[source], target), self.x[target]
        both = self.has[source] * self.has[target]
        if self.variances is None:
            return nmse(r, x, both)
        variance = self.variances[list(self.x).index(target)]
        return ((r - x).square().sum(1) * both).mean() / variance


def forward(
    config: ModelConfig,
    parameters: Mapping[str, Tensor],
    batch: ByStream,
    dead: ByStream,
    selected: ByStream | None = None,
    noise: ByStream | None = None,
    present: Tensor | None = None,
) -> Forward:
    """Codes of raw features, (B, d_s) by stream.

    `selected`, if given, are masks (B, L). `noise`, if given, is what encoders read besides
    features of norm 1, (B, d_s): e_s below. `present`, (B, S) bool, if given, says which streams
    the rows have.
    """
    w = parameters
    x = {s: batch[s] for s in config.names}
    has = {s: torch.ones_like(x[s][:, 0]) for s in x}
    if present is not None:
        has = {s: m.to(x[s].dtype) for s, m in zip(x, present.unbind(1), strict=True)}
        x = {s: torch.where(m[:, None] > 0, x[s], x[s].shape[1] ** -0.5) for s, m in has.items()}
    if config.normalize == "unit":
        x = {s: x[s] / x[s].norm(dim=1, keepdim=True) for s in x}
    read = x
    if noise is not None:
        read = {s: x[s] + noise[s] * x[s].norm(dim=1, keepdim=True) for s in x}
    # h_s = W_enc,s (x_s + |x_s| e_s - b_pre,s) + b_lat,s
    logits = {
        s: (read[s] - w[f"pre_bias.{s}"]) @ w[f"encoder.{s}"].T + w[f"latent_bias.{s}"]
        for s in config.names
    }
    logits = {s: h * has[s][:, None] for s, h in logits.items()}
    selected = selected or select(config, logits, has)
    # z_s = ReLU(h_s) on I, zero elsewhere
    codes = {s: logits[s].relu() * selected[s] for s in logits}
    own = {s: top(h, config.k) for s, h in logits.items()}
    return Forward(w, x, logits, codes, dead, selected, own, has)


def top(scores: Tensor, k: int) -> Tensor:
    """1 for the k largest of every row, (B, L)."""
    return torch.zeros_like(scores).scatter(1, scores.topk(k).indices, 1)


def select(config: ModelConfig, logits: ByStream, has: ByStream) -> ByStream:
    """Global TopK, or another selection: 1 where a latent is selected, (B, L), by stream."""
    # Global: I = TopK(sum_s h_s, k), shared by the streams. Local: I_s = TopK(h_s, k).
    if config.selection not in ("global", "local", "batch"):
        raise ConfigError(f"the reference does not know selection {config.selection}: give masks")
    total = torch.stack(list(logits.values())).sum(0)
    if config.selection == "batch":  # the B k largest sums of the B rows that have the same streams
        chosen = torch.zeros_like(total)
        streams = torch.stack(list(has.values()), dim=1)
        for of_row in streams.unique(dim=0):  # type: ignore[no-untyped-call]
            alike = (streams == of_row).all(1)
            smallest = total[alike].flatten().topk(int(alike.sum()) * config.k).values[-1]
            chosen[alike] = (total[alike] >= smallest).to(total.dtype)
        return dict.fromkeys(logits, chosen)
    scores = {"global": dict.fromkeys(logits, total), "local": logits}[config.selection]
    return {s: top(h, config.k) for s, h in scores.items()}


def nmse(r: Tensor, x: Tensor, has: Tensor) -> Tensor:
    """NMSE(r, x) = mean over rows of m |r - x|^2 / |x|^2, with m = `has`, (B,)."""
    return ((r - x).square().sum(1) / x.square().sum(1) * has).mean()


def pairs(f: Forward) -> Tensor:
    """err(r_t<-s, x_t), (targets, sources): the reconstruction of t from the code of s."""
    rows = [[f.error(s, t) for s in f.codes] for t in f.x]
    return torch.stack([torch.stack(row) for row in rows])


def self_reconstruction(f: Forward) -> Tensor:
    """mean_s err(r_s<-s, x_s)."""
    return pairs(f).diagonal().mean()


def cross_reconstruction(f: Forward) -> Tensor:
    """mean_{s != t} err(r_t<-s, x_t); 0 for a single stream."""
    others = pairs(f)[~torch.eye(len(f.x), dtype=torch.bool)]
    return others.mean() if len(others) else others.sum()


def aux(f: Forward, auxk: int, *, constant: bool = False) -> Tensor:
    """AuxK by stream, (S,): NMSE(W_dec,s a_s + b_pre,s, stopgrad(x_s - r_s<-s + b_pre,s)).

    a_s = ReLU(h_s) on the largest `auxk` of the dead latents (Gao et al. 2024, equation 10). Where
    no latent is dead it is 0, or in the published recipe a `constant` for the encoders.
    """

    def of_stream(s: str) -> Tensor:
        if not f.dead[s].any() and not constant:
            return f.logits[s].new_zeros(())
        top = f.logits[s].masked_fill(~f.dead[s], -torch.inf).topk(min(auxk, len(f.dead[s])))
        code = torch.zeros_like(f.logits[s]).scatter(1, top.indices, top.values.relu())
        left_over = f.x[s] - f.decode(f.codes[s], s) + f.parameters[f"pre_bias.{s}"]
        return nmse(f.decode(code, s), left_over.detach(), f.has[s])

    return torch.stack([of_stream(s) for s in f.codes])


@dataclasses.dataclass
class Reference:
    """A model in training, by the recipe `joint`.

    `cross_weight` is lambda_cross, `aux_weight` alpha_aux; `aux_constant` see `aux`.
    """

    model: Sparc
    cross_weight: float = 1.0
    aux_weight: float = 1 / 32
    auxk: int = 64
    dead_after: int = 256_000
    """Rows without a value above 1e-3 after which a latent is dead in a stream."""
    alive_by: str = "any"
    """With `both`, a latent that was not in a stream's own TopK for as many rows is dead, too."""
    aux_constant: bool = False
    lr: float = 1e-4
    variances: Sequence[float] | None = None
    """See `Forward.variances`; a constant of the run."""

    def __post_init__(self) -> None:
        biases = self.model.latent_bias
        self.unused = {s: torch.zeros_like(biases[s], dtype=torch.int64) for s in biases}
        self.unused_own = {s: rows.clone() for s, rows in self.unused.items()}
        self.adam = torch.optim.Adam(self.model.parameters(), lr=self.lr)

    def forward(
        self,
        batch: ByStream,
        dead: ByStream | None = None,
        noise: ByStream | None = None,
        present: Tensor | None = None,
    ) -> Forward:
        """Codes of raw features; `dead` are the latents that are dead now unless given."""
        if dead is None:
            unused = self.unused
            if self.alive_by == "both":
                unused = {s: rows.maximum(self.unused_own[s]) for s, rows in unused.items()}
            dead = {s: rows >= self.dead_after for s, rows in unused.items()}
        parameters = dict(self.model.named_parameters())
        computed = forward(self.model.config, parameters, batch, dead, noise=noise, present=present)
        return computed._replace(variances=self.variances)

    def loss(self, f: Forward) -> Tensor:
        """mean_s err(r_s<-s) + lambda_cross mean_{s!=t} err(r_t<-s) + alpha_aux mean_s aux_s."""
        auxiliary = aux(f, self.auxk, constant=self.aux_constant).mean()
        cross = cross_reconstruction(f)
        return self_reconstruction(f) + self.cross_weight * cross + self.aux_weight * auxiliary

    def step(
        self, batch: ByStream, noise: ByStream | None = None, present: Tensor | None = None
    ) -> Tensor:
        """Learn from a batch; returns the loss at the weights before."""
        f = self.forward(batch, noise=noise, present=present)
        if self.alive_by == "any":
            _count(self.unused, f.codes, f.has)
        elif self.model.config.selection != "local":
            # A row with one stream of several selects nothing jointly.
            several = torch.stack(list(f.has.values())).sum(0) > (len(f.has) > 1)
            _count(self.unused, f.codes, {s: m * several for s, m in f.has.items()})
        own = {s: h.relu() * f.own[s] for s, h in f.logits.items()}
        _count(self.unused_own, own, f.has)
        loss = self.loss(self.forward(batch, noise=noise, present=present))
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for decoder in self.model.decoder.values():
                # The gradient's part along a unit row would only change the row's norm.
                decoder.grad -= (decoder.grad * decoder).sum(1, keepdim=True) * decoder
            self.adam.step()
            for decoder in self.model.decoder.values():
                decoder /= decoder.norm(dim=1, keepdim=True)
        return loss.detach()


def _count(unused: ByStream, codes: ByStream, has: ByStream) -> None:
    """Count the rows that have a stream since each latent had a value in one, in place."""
    for s, code in codes.items():
        unused[s].add_(int(has[s].sum()))
        unused[s][(code * has[s][:, None] > 1e-3).any(0)] = 0
