"""The settings of `sparc-analyze run`; each question's are in the `config` of its folder."""

import dataclasses
from pathlib import Path
from typing import Any

from sparc.analyze import options
from sparc.analyze.report.renderers.registry import check_suffix
from sparc.common.cli.suggestions import streams
from sparc.common.config import declared, option, to_mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyzeConfig:
    """What is measured, and on what machine."""

    streams: tuple[str, ...] = option(
        (),
        "A stream to analyse; repeat for more. All that model and cache share by default.",
        flag="--stream",
        suggest=streams,
    )
    permuted: bool = option(True, "Measure the permuted controls, which pair unrelated rows.")
    untrained: bool = option(True, "Measure the control of the run's model before training.")
    top_rows: int = option(100, "Rows in the list of a latent's strongest rows.")
    names: int = options.names()
    partners: int = option(10, "Most co-firing partners listed per latent.")
    rows: int = option(5000, "Random sample: rows for retrieval, images for classification.")
    probe_rows: int = option(20_000, "Random sample: images for probes of single latents.")
    permute_rows: int = option(
        65_536, "Rows permuted at a time; a cache with more is permuted in random blocks."
    )
    summary: Path | None = options.summary()
    timings: Path | None = options.timings()
    seed: int = options.seed("the permutations, of the rows and images drawn, and of the intervals")
    batch_size: int = option(512, "Rows encoded at a time.", changeable=True)
    device: str = options.device("the model runs")
    scheduler: str = options.scheduler()
    workers: int = options.workers()

    def __post_init__(self) -> None:
        if self.summary is not None:
            check_suffix(self.summary)
        options.check_at_least(
            self,
            1,
            *("top_rows", "names", "partners", "rows", "probe_rows", "permute_rows", "batch_size"),
        )
        options.check_at_least(self, 0, "seed", "workers")
        options.check_scheduler(self.scheduler)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What `sparc-analyze compare` does beside printing."""

    summary: Path | None = options.summary()

    def __post_init__(self) -> None:
        if self.summary is not None:
            check_suffix(self.summary)


def deciding_settings(config: AnalyzeConfig) -> dict[str, Any]:
    """The settings that decide what is measured and so identify a report, as JSON values.

    The others are declared `changeable`: an interrupted report may continue with other ones.
    """
    changeable = declared(AnalyzeConfig, "changeable")
    return {name: value for name, value in to_mapping(config).items() if name not in changeable}
