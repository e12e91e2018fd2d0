"""SPARC as published (arXiv 2507.06265, section 3): the model and a step, in plain PyTorch.

Nothing here is fast, and nothing is left out: `sparc.train` takes the same steps (recipe `joint`).
"""

import torch
from torch import Tensor, nn

Streams = dict[str, Tensor]  # by stream


class NanoSparc(nn.Module):
    """Encoders and decoders of all streams, with the same latents: a latent is a row of each."""

    def __init__(self, dims: dict[str, int], latents: int = 1024, k: int = 32) -> None:
        super().__init__()
        self.k = k
        drawn = {s: torch.empty(latents, d).uniform_(-(d**-0.5), d**-0.5) for s, d in dims.items()}
        self.encoder = nn.ParameterDict(drawn)
        self.decoder = nn.ParameterDict({s: w / w.norm(dim=1)[:, None] for s, w in drawn.items()})
        self.pre_bias = nn.ParameterDict({s: torch.zeros(d) for s, d in dims.items()})
        self.latent_bias = nn.ParameterDict({s: torch.zeros(latents) for s in dims})

    def logits(self, x: Streams) -> Streams:
        """Every stream reads its own features, (rows, dim), and speaks of the same latents."""
        centred = {s: x[s] - self.pre_bias[s] for s in x}
        return {s: centred[s] @ self.encoder[s].T + self.latent_bias[s] for s in x}

    def codes(self, h: Streams) -> Streams:
        """Global TopK: the k latents of the largest sum of logits, for all streams."""
        chosen = torch.stack(list(h.values())).sum(0).topk(self.k).indices
        values = {s: h[s].gather(1, chosen).relu() for s in h}
        return {s: torch.zeros_like(h[s]).scatter(1, chosen, values[s]) for s in h}

    def decode(self, z: Tensor, target: str) -> Tensor:
        """A code of any stream, in the space of the target."""
        return z @ self.decoder[target] + self.pre_bias[target]


def nmse(rebuilt: Tensor, x: Tensor) -> Tensor:
    """Mean over rows of the squared error by the squared norm."""
    return ((rebuilt - x).square().sum(1) / x.square().sum(1)).mean()


def losses(model: NanoSparc, x: Streams, dead: Streams, auxk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Self-reconstruction, cross-reconstruction and AuxK, each a mean over streams or pairs."""
    h = model.logits(x)
    z = model.codes(h)
    own = [nmse(model.decode(z[s], s), x[s]) for s in x]
    cross = [nmse(model.decode(z[s], t), x[t]) for s in x for t in x if s != t]
    aux = []  # dead latents rebuild what the others left over (Gao et al. 2024, equation 10)
    for s in x:
        top = h[s].masked_fill(~dead[s], -torch.inf).topk(min(auxk, h[s].shape[1]))
        revived = torch.zeros_like(h[s]).scatter(1, top.indices, top.values.relu())
        left_over = (x[s] - model.decode(z[s], s) + model.pre_bias[s]).detach()
        aux.append(nmse(model.decode(revived, s), left_over) * dead[s].any())
    return torch.stack(own).mean(), torch.stack(cross).mean(), torch.stack(aux).mean()


class Trainer:
    """Adam, with decoders whose rows keep norm 1."""

    def __init__(
        self, model: NanoSparc, lr: float = 1e-4, auxk: int = 64, dead_after: int = 256_000
    ) -> None:
        self.model, self.auxk, self.dead_after = model, auxk, dead_after
        biases = model.latent_bias
        self.unused = {s: torch.zeros_like(b, dtype=torch.int64) for s, b in biases.items()}
        self.adam = torch.optim.Adam(model.parameters(), lr=lr)

    def step(self, batch: Streams, cross_weight: float = 1.0, aux_weight: float = 1 / 32) -> float:
        """Learn from a batch of raw features; returns the loss before."""
        x = {s: v / v.norm(dim=1)[:, None] for s, v in batch.items()}
        with torch.no_grad():  # rows since each latent had a value
            for s, z in self.model.codes(self.model.logits(x)).items():
                self.unused[s] += len(z)
                self.unused[s][(z > 1e-3).any(0)] = 0
        dead = {s: rows >= self.dead_after for s, rows in self.unused.items()}
        own, cross, aux = losses(self.model, x, dead, self.auxk)
        loss = own + cross_weight * cross + aux_weight * aux
        self.adam.zero_grad()
        loss.backward()
        with torch.no_grad():
            for w in self.model.decoder.values():  # what would only change a row's norm
                w.grad -= (w.grad * w).sum(1)[:, None] * w
            self.adam.step()
            for w in self.model.decoder.values():
                w /= w.norm(dim=1)[:, None]
        return loss.item()
