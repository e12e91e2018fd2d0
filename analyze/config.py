"""The settings of the commands of `sparc-analyze`."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from sparc.common.config import option, to_mapping
from sparc.common.errors import ConfigError

_SCHEDULER = "Who reduces: threads, sync, or a Dask cluster such as tcp://host:8786."
TRUST_ENCODERS = (
    "Also build encoders from files, folders and hub repositories that the cache or run names: its "
    "maker chose them."
)
_WORKERS = "Threads of --scheduler threads; 0 takes one for each processor."


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
    partners: int = option(10, "Latents that a latent is listed to be active with, at most.")
    rows: int = option(
        5000, "Rows that retrieval, and images that classification is measured on, at random."
    )
    probe_rows: int = option(20_000, "Images that single latents are probed on, at random.")
    permute_rows: int = option(
        65_536, "Rows permuted at a time; a cache with more is permuted in random blocks."
    )
    seed: int = option(
        42, "Seed of the permutations, of the rows and images drawn, and of the intervals."
    )
    batch_size: int = option(512, "Rows encoded at a time.")
    device: str = option("auto", "Where the model runs: auto, cpu, cuda, cuda:1, …")
    scheduler: str = option("threads", _SCHEDULER)
    workers: int = option(0, _WORKERS)

    def __post_init__(self) -> None:
        for name in (
            "top_rows", "names", "partners", "rows", "probe_rows", "permute_rows", "batch_size"
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "workers"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, not {getattr(self, name)}")
        _check_scheduler(self.scheduler)


ELSEWHERE = ("batch_size", "device", "scheduler", "workers")
"""Settings that say where and how the work is done, not what is measured: a report that was
interrupted may continue with others."""


def deciding_settings(config: AnalyzeConfig) -> dict[str, Any]:
    """The settings that decide what is measured and so identify a report, as JSON values."""
    return {name: value for name, value in to_mapping(config).items() if name not in ELSEWHERE}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BiasConfig:
    """Which attribute latents are tested against, and how."""

    attribute: str = option(
        "",
        "class:<name or key>, words:<word>,<word>,… (or words:@<file>) found in captions, or "
        "table:<CSV or Parquet with sample_id>#<column>[=<value>].",
    )
    against: str = option(
        "", "A second attribute: images that have exactly one of the two are compared."
    )
    mode: Literal["independent", "joint"] = option(
        "independent",
        "Codes of streams that select alone, or together: then all go with what one goes with.",
    )
    q: float = option(0.05, "Share of the findings that may be false.")
    examples: int = option(5, "Example rows of a finding.")
    pair_latents: int = option(512, "Latents, the most frequent ones, whose pairs are tested.")
    pairs: int = option(50, "Pairs reported of a stream.")
    lines: int = option(10, "Findings shown of a stream.")
    seed: int = option(42, "Seed of the control, in which the attribute is shuffled.")
    out: Path | None = option(None, "Folder for associations.parquet and pairs.parquet.")
    cache: str = option("", "Where the report's cache is, if it has moved.")
    scheduler: str = option("threads", _SCHEDULER)
    workers: int = option(0, _WORKERS)

    def __post_init__(self) -> None:
        if not self.attribute:
            raise ConfigError("say what to look for with --attribute, such as words:woman,women")
        if not 0 < self.q < 1:
            raise ConfigError(f"q must be a share between 0 and 1, not {self.q}")
        for name in ("examples", "pair_latents", "pairs", "lines", "seed", "workers"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, not {getattr(self, name)}")
        _check_scheduler(self.scheduler)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What is looked for, and where."""

    text: str = option("", "Look for what a text says.")
    image: Path | None = option(None, "Look for what is like this image's file.", former="picture")
    row: int | None = option(None, "Look for what is like this row of the cache.")
    into: str = option("", "The stream in whose space images are found.", flag="--in")
    source: str = option(
        "", "The stream that reads the query; the only one that can, by default.", flag="--from"
    )
    results: int = option(12, "Images to find.")
    out: Path | None = option(None, "Write the table to this Parquet file.")
    sheet: Path | None = option(None, "Draw the images to this PNG file.")
    spec: str = option(
        "", "Encoder of the query's stream, in quotes, instead of the one that the cache names."
    )
    trust_encoders: bool = option(False, TRUST_ENCODERS)
    run: str = option("", "Where the report's run is, if it has moved.")
    cache: str = option("", "Where the report's cache is, if it has moved.")
    dataset: str = option("", "Where the cache's dataset is, if it has moved; for --sheet.")

    def __post_init__(self) -> None:
        if sum([bool(self.text), self.image is not None, self.row is not None]) != 1:
            raise ConfigError("give one of --text, --image and --row to look for")
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise ConfigError(f"the sheet is a PNG file: its name must end in .png, {self.sheet}")
        if self.results < 1:
            raise ConfigError(f"results must be at least 1, not {self.results}")

    @property
    def image_file(self) -> Path:
        """The image's file, of a search by image."""
        assert self.image is not None
        return self.image


@dataclasses.dataclass(frozen=True, kw_only=True)
class NameConfig:
    """The words that latents are named by."""

    words: Path | None = option(None, "A text file with a word or phrase a line.")
    template: str = option("{}", "The text that is encoded; {} stands for the word.")
    source: str = option("", "The text stream that reads them.", flag="--from")
    names: int = option(10, "Words that a latent is named by, at most.")
    out: Path | None = option(None, "Write the table to this Parquet file.")
    spec: str = option(
        "", "Encoder of the text stream, in quotes, instead of the one that the cache names."
    )
    trust_encoders: bool = option(False, TRUST_ENCODERS)
    run: str = option("", "Where the report's run is, if it has moved.")
    cache: str = option("", "Where the report's cache is, if it has moved.")

    def __post_init__(self) -> None:
        if "{}" not in self.template:
            raise ConfigError(f"the template must hold {{}} for the word, not {self.template!r}")
        if self.names < 1:
            raise ConfigError(f"names must be at least 1, not {self.names}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StabilityConfig:
    """How the latents of two runs are matched."""

    seed: int = option(42, "Seed of the control of random directions.")
    out: Path | None = option(None, "Folder for stability.parquet and matching.parquet.")

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, not {self.seed}")


def _check_scheduler(scheduler: str) -> None:
    if scheduler not in ("threads", "sync") and "://" not in scheduler:
        raise ConfigError(
            f"scheduler must be threads, sync or a cluster's address such as "
            f"tcp://host:8786, not {scheduler!r}"
        )
