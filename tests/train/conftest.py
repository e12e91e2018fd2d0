"""What the tests of training share: small models and batches, a small cache and runs on it."""

import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sparc.common.cache.arrays import write_arrays
from sparc.train.config import ModelConfig, StreamShape, TrainConfig
from sparc.train.data.planted import plant
from sparc.train.data.reader import BatchReader
from sparc.train.distributed.exchange import AbandonedError
from sparc.train.model.initialize import initial_model
from sparc.train.model.network import Sparc
from sparc.train.step.learner import Learner


@pytest.fixture(scope="module")
def one_thread():
    """All of a module in one thread, so that its figures are the same on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def interrupt_after(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[int], AbstractContextManager[None]]:
    """A context in which training is interrupted when it asks for one batch more than a number."""

    @contextmanager
    def interrupting(batches: int) -> Iterator[None]:
        real, count = BatchReader.next_batch, iter(range(batches))

        def next_batch(reader: BatchReader) -> Any:
            if next(count, None) is None:
                raise KeyboardInterrupt
            return real(reader)

        with monkeypatch.context() as patch:
            patch.setattr(BatchReader, "next_batch", next_batch)
            with pytest.raises(KeyboardInterrupt):
                yield

    return interrupting


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
        model = initial_model(config, seed=seed, means=None).double()
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
def check_resumed_steps(build_model, draw_batch) -> Callable[..., None]:
    def check(settings: TrainConfig, **model: Any) -> None:
        """Six steps, and the last three of another learner that takes over the state."""
        models = [build_model(**model) for _ in range(2)]
        first, second = (Learner(model, settings) for model in models)
        for seed in range(6):
            first.step(draw_batch(models[0], 9, seed=seed), 1e-2)
            if seed == 2:
                models[1].load_state_dict(models[0].state_dict())
                second.load_state({name: x.clone() for name, x in first.state().items()})
        for seed in range(3, 6):
            second.step(draw_batch(models[1], 9, seed=seed), 1e-2)
        for name, tensor in models[0].state_dict().items():
            assert torch.equal(models[1].state_dict()[name], tensor)

    return check


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


class ThreadExchange:
    """An exchange among threads of this process, which counts the bytes that others give to it."""

    def __init__(self, rank: int, table: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.world = rank, len(table)
        self._table, self._barrier = table, barrier
        self.taken = 0

    def gather(self, mine: Tensor, out: Tensor | None = None) -> Tensor:
        joined = torch.cat(self._given_by_all(mine.clone()))
        self.taken += joined.nbytes - mine.nbytes
        return joined if out is None else out.copy_(joined)

    def trade(self, given: Tensor, out: Tensor, *, to: list[int], of: list[int]) -> None:
        parts = self._given_by_all(given.split(to))
        mine = [part[self.rank] for part in parts]
        assert [len(part) for part in mine] == of
        out.copy_(torch.cat(mine))
        self.taken += out.nbytes - mine[self.rank].nbytes

    def abandon(self) -> None:
        self._barrier.abort()

    def _given_by_all(self, mine: Any) -> list[Any]:
        try:
            self._barrier.wait()
            self._table[self.rank] = mine
            self._barrier.wait()
            return list(self._table)
        except threading.BrokenBarrierError:
            raise AbandonedError from None


@pytest.fixture
def exchanges() -> Callable[[int], list[ThreadExchange]]:
    """Exchanges of a number of threads."""

    def build(world: int) -> list[ThreadExchange]:
        table: list[Any] = [None] * world
        barrier = threading.Barrier(world, timeout=60)
        return [ThreadExchange(rank, table, barrier) for rank in range(world)]

    return build


# hypothesis wants fixtures that live as long as the module.
build_model_once = pytest.fixture(scope="session", name="build_model_once")(build_model.__wrapped__)
draw_batch_once = pytest.fixture(scope="session", name="draw_batch_once")(draw_batch.__wrapped__)


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
            "recipe": "joint",
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
