"""What the tests of training share.

First a plain dense reference of the model and its loss, for everything that tests the mathematics:
written from the formulas, with autograd and dense (rows, latents) tensors; it shares no code with
the implementation but the names of parameters. Then a small cache, and runs on it.
"""

import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparc.common.cache.writer import write_arrays
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.data.planted import plant
from sparc.train.model.initialize import initial_model
from sparc.train.model.network import Sparc


@dataclasses.dataclass
class Reference:
    """The dense loss of a batch.

    `dead` are masks (latents,) by stream; None leaves AuxK out. `aux_constant` keeps AuxK's value
    and gradient where nothing is dead, as published.
    """

    model: Sparc
    cross_weight: float = 1.0
    aux_weight: float = 1 / 32
    auxk: int = 64
    aux_constant: bool = False

    def codes(self, parameters: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        config = self.model.config
        logits = self.logits(parameters, batch)
        total = sum(logits.values())
        codes = {}
        for name in config.names:
            score = total if config.selection == "global" else logits[name]
            mask = torch.zeros_like(score).scatter(1, score.topk(config.k).indices, 1)
            codes[name] = torch.relu(logits[name]) * mask
        return codes

    def normalized(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.model.config.normalize == "none":
            return batch
        return {name: x / (x**2).sum(1, keepdim=True).sqrt() for name, x in batch.items()}

    def logits(self, parameters: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: (x - parameters[f"pre_bias.{name}"]) @ parameters[f"encoder.{name}"].T
            + parameters[f"latent_bias.{name}"]
            for name, x in self.normalized(batch).items()
        }

    def terms(
        self,
        parameters: dict[str, Tensor],
        batch: dict[str, Tensor],
        dead: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Total, (targets, sources) and (streams,)."""
        names = self.model.config.names
        streams = len(names)
        x = self.normalized(batch)
        codes, logits = self.codes(parameters, batch), self.logits(parameters, batch)

        def decode(code: Tensor, target: str) -> Tensor:
            return code @ parameters[f"decoder.{target}"] + parameters[f"pre_bias.{target}"]

        pairs = [[nmse(decode(codes[s], t), x[t]) for s in names] for t in names]
        aux = []
        for name in names:
            mask = torch.zeros(self.model.config.latents) if dead is None else dead[name]
            if not mask.any() and not self.aux_constant:
                aux.append(torch.zeros(()))
                continue
            masked = logits[name].masked_fill(~mask.bool(), -torch.inf)
            top = masked.topk(min(self.auxk, masked.shape[1]), dim=1)
            code = torch.zeros_like(masked).scatter(1, top.indices, torch.relu(top.values))
            bias = parameters[f"pre_bias.{name}"]
            target = (x[name] - decode(codes[name], name) + bias).detach()
            aux.append(nmse(decode(code, name), target))
        own = sum(pairs[s][s] for s in range(streams)) / streams
        others = [pairs[t][s] for t in range(streams) for s in range(streams) if s != t]
        cross = sum(others) / len(others) if others else 0.0
        total = own + self.cross_weight * cross + self.aux_weight * sum(aux) / streams
        matrix = torch.stack([torch.stack(row) for row in pairs])
        return total, matrix, torch.stack(aux)

    def gradients(
        self, batch: dict[str, Tensor], dead: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        parameters = {
            name: value.detach().clone().requires_grad_()
            for name, value in self.model.named_parameters()
        }
        self.terms(parameters, batch, dead)[0].backward()
        return {name: value.grad for name, value in parameters.items()}

    def losses(
        self, batch: dict[str, Tensor], dead: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            return self.terms(dict(self.model.named_parameters()), batch, dead)


def nmse(reconstruction: Tensor, target: Tensor) -> Tensor:
    return (((reconstruction - target) ** 2).sum(1) / (target**2).sum(1)).mean()


@pytest.fixture
def reference() -> type[Reference]:
    return Reference


@pytest.fixture
def build_model() -> Callable[..., Sparc]:
    """A small float64 model whose biases are not zero."""

    def build(
        dims: tuple[int, ...] = (7, 5, 6),
        latents: int = 40,
        k: int = 6,
        selection: str = "global",
        normalize: str = "unit",
        seed: int = 0,
    ) -> Sparc:
        streams = tuple(StreamShape(f"s{i}", dim) for i, dim in enumerate(dims))
        config = ModelConfig(
            streams=streams, latents=latents, k=k, selection=selection, normalize=normalize
        )
        model = initial_model(config, recipe="default", seed=seed, means=None).double()
        draws = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name in config.names:
                for bias in (model.pre_bias[name], model.latent_bias[name]):
                    bias.copy_(0.1 * torch.randn(bias.shape, generator=draws, dtype=bias.dtype))
        return model

    return build


@pytest.fixture
def draw_batch() -> Callable[..., dict[str, Tensor]]:
    def draw(model: Sparc, rows: int, seed: int = 1) -> dict[str, Tensor]:
        draws = torch.Generator().manual_seed(seed)
        return {
            stream.name: torch.randn(rows, stream.dim, generator=draws, dtype=torch.float64)
            for stream in model.config.streams
        }

    return draw


@pytest.fixture
def in_two_threads() -> Callable:
    """Run `function(rank, gather)` as two processes would, `gather` joining their rows."""

    def run(function: Callable) -> list:
        barrier = threading.Barrier(2, timeout=60)
        given: list[Tensor | None] = [None, None]

        def gather_as(rank: int) -> Callable[[Tensor], Tensor]:
            def gather(rows: Tensor) -> Tensor:
                given[rank] = rows
                barrier.wait()
                joined = torch.cat(given)
                barrier.wait()
                return joined

            return gather

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = [pool.submit(function, rank, gather_as(rank)) for rank in range(2)]
            return [result.result() for result in results]

    return run


# hypothesis wants fixtures that live as long as the module.
build_model_once = pytest.fixture(scope="session", name="build_model_once")(build_model.__wrapped__)
draw_batch_once = pytest.fixture(scope="session", name="draw_batch_once")(draw_batch.__wrapped__)
reference_once = pytest.fixture(scope="session", name="reference_once")(reference.__wrapped__)


# ---------------------------------------------------------------------- runs on a small cache


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory) -> Path:
    """1,000 rows of three streams in chunks of 64; some rows are not valid in one or another."""
    planted = plant(
        {"dino": 24, "clip_image": 16, "clip_text": 12}, rows=1000, shared=20, private=2, active=3
    )
    features = planted.features
    features["clip_text"][::17] = 0
    features["dino"][500:530] = 0
    folder = tmp_path_factory.mktemp("caches") / "small"
    write_arrays(folder, features, rows_per_chunk=64, dtype="float16")
    return folder


@pytest.fixture(scope="session")
def small_settings() -> Callable[..., TrainConfig]:
    """Settings of a run of 70 steps, 14 an epoch, in which latents die and AuxK wakes up."""

    def build(**changes: object) -> TrainConfig:
        small = {
            "latents": 96,
            "k": 4,
            "auxk": 8,
            "dead_after": 150,
            "batch_size": 64,
            "epochs": 5,
            "lr": 3e-3,
            "log_every": 10,
            "checkpoint_every": 8,
            "block_chunks": 4,
        }
        return TrainConfig(**{**small, **changes})

    return build
