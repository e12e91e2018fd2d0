"""The settings of the pipelines, as options and as the TOML table [pipeline].

A pipeline has few settings of its own. All other settings of the three commands go through
`settings`, a file that each of them gets as its `--config`.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from sparc.common.cli.suggestions import constants, devices
from sparc.common.config import option, require_at_least
from sparc.common.errors import ConfigError
from sparc.extract.encoders.suggestions import encoders, presets
from sparc.train.step.recipes.registry import RECIPES

SCENES_TO_ALIGN = 320
"""Two rows each, which is half a row for each of the 1,280 values of EfficientNet-Lite0."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """The settings that the published experiments (arXiv 2507.06265) share.

    A setting of None is left to the commands and the recipe: `published` has those of the paper.
    """

    recipe: str = option(
        "published",
        "How to train: published, or a recipe of `sparc-train run --recipe`.",
        suggest=constants(*RECIPES),
    )

    streams: tuple[str, ...] = option(
        (),
        "An encoder as 'name=spec' in quotes, instead of the published ones; repeat for more.",
        flag="--stream",
        suggest=encoders,
    )
    limit: int | None = option(None, "Only the first N images of each split.")
    latents: int | None = option(None, "Size of the dictionary; 8192 as published.")
    k: int | None = option(None, "Latents selected for a row; 64 as published.")
    batch_size: int | None = option(None, "Rows per training step; 256 as published.")
    epochs: int | None = option(None, "Passes over the training rows; 50 as published.")
    steps: int | None = option(None, "Stop training after N steps.")
    seed: int | None = option(None, "Seed of the weights.")
    device: str | None = option(None, "Where to compute: cpu, cuda, cuda:1, …", suggest=devices)
    settings: Path | None = option(
        None, "TOML file with tables [extract], [train] and [analyze] for the three commands."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CocoConfig(PublishedConfig):
    """The settings of `sparc-pipeline coco`."""

    preset: str = option("dinov2-clip-b", "The published models' streams.", suggest=presets)
    train_split: str = option("train", "The split to learn from.")
    test_split: str = option("val", "The split to measure on.")
    captions: Literal["each", "join", "first"] = option(
        "join", "A row per caption, or one per image: of all captions joined, or of the first."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenImagesConfig(PublishedConfig):
    """The settings of `sparc-pipeline open-images`."""

    preset: str = option("dinov2-clip-l", "The published models' streams.", suggest=presets)
    train_split: str = option("train", "The split to learn from.")
    test_split: str = option("test", "The split to measure on.")
    captions: Literal["each", "join", "first"] = option(
        "each", "A row per caption, or one per image: of all captions joined, or of the first."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The settings of `sparc-pipeline demo`."""

    encoders: Literal["wheels", "hub"] = option(
        "wheels",
        "Pretrained models from installed packages, or DINOv2 and CLIP from the model hub.",
    )
    streams: tuple[str, ...] = option(
        (), "An encoder of your own as 'name=spec' in quotes; repeat for more.", flag="--stream"
    )
    train_scenes: int = option(1200, "Scenes to learn from.")
    test_scenes: int = option(300, "Scenes to measure on.")
    latents: int = option(512, "Size of the dictionary.")
    k: int = option(16, "Latents selected for a row.")
    steps: int = option(500, "Training steps of each of the models.")
    aligned_baseline: bool | None = option(
        None,
        "Whether to measure the baseline matched and aligned after training, too; by default with "
        f"at least {SCENES_TO_ALIGN} scenes to learn from: the demo's own encoders need them.",
    )
    seed: int = option(42, "Seed of scenes and weights.")

    def __post_init__(self) -> None:
        for name in ("train_scenes", "test_scenes", "latents", "k", "steps"):
            require_at_least(self, name, 1)
        if self.k > self.latents:
            raise ConfigError(f"k ({self.k}) cannot exceed latents ({self.latents})")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, not {self.seed}")
        if self.aligned_baseline is None:
            object.__setattr__(self, "aligned_baseline", self.train_scenes >= SCENES_TO_ALIGN)
