"""The settings of `sparc-analyze run`."""

import dataclasses

from sparc.common.config import option
from sparc.common.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyzeConfig:
    """What is measured, and on what machine."""

    streams: tuple[str, ...] = option(
        (),
        "A stream to analyse; repeat for more. All that model and cache share by default.",
        flag="--stream",
    )
    permuted: bool = option(True, "Measure the control in which unrelated rows stand together.")
    untrained: bool = option(True, "Measure the control of the run's model before training.")
    top_rows: int = option(100, "Rows in the list of a latent's strongest rows.")
    names: int = option(10, "Words that a latent is named by, at most.")
    rows: int = option(5000, "Rows that retrieval is measured on, drawn as whole pictures.")
    permute_rows: int = option(
        131_072, "Rows permuted at a time; a cache with more is permuted in random blocks."
    )
    seed: int = option(42, "Seed of the permutations and of the rows for retrieval.")
    batch_size: int = option(1024, "Rows encoded at a time.")
    device: str = option("auto", "Where the model runs: auto, cpu, cuda, cuda:1, …")
    scheduler: str = option(
        "threads", "Who reduces: threads, sync, or a Dask cluster such as tcp://host:8786."
    )
    workers: int = option(0, "Threads of --scheduler threads; 0 takes one for each processor.")

    def __post_init__(self) -> None:
        for name in ("top_rows", "names", "rows", "permute_rows", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "workers"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.scheduler not in ("threads", "sync") and "://" not in self.scheduler:
            raise ConfigError(
                f"scheduler must be threads, sync or a cluster's address such as "
                f"tcp://host:8786, not {self.scheduler!r}"
            )


ELSEWHERE = ("batch_size", "device", "scheduler", "workers")
"""Settings that say where and how the work is done, not what is measured: a report that was
interrupted may go on with others."""
