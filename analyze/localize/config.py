"""The settings of `sparc-analyze localize`."""

import dataclasses
from pathlib import Path
from typing import Literal

from sparc.analyze.config import TRUST_ENCODERS
from sparc.common.config import option
from sparc.common.errors import ConfigError

MethodName = Literal["auto", "attention", "gradcam", "direct"]
TargetName = Literal["latents", "similarity"]
ModeName = Literal["independent", "joint"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalizeConfig:
    """The queries, how to locate them, and where the results go."""

    text: tuple[str, ...] = option((), "A text to locate; repeat for more.")
    latent: tuple[int, ...] = option((), "A latent to locate; repeat for more.")
    caption: str = option(
        "", "A caption whose words are weighed; each text's own words by default."
    )
    target: TargetName = option(
        "latents",
        "The objective of a text: its latents, weighted by its code, or the similarity of the "
        "image's code with the text's code.",
    )
    mode: ModeName = option(
        "independent", "How a text's latents are selected: independently of the image, or jointly."
    )
    method: MethodName = option(
        "auto",
        "attention (gradient-weighted), gradcam (last feature map) or direct (no gradients); auto "
        "takes attention where a class token reads the image, else gradcam.",
    )
    layers: int = option(3, "Number of last layers that the method attention uses.")
    streams: tuple[str, ...] = option(
        (), "A stream to show; repeat for more. All by default.", flag="--stream"
    )
    specs: tuple[str, ...] = option(
        (),
        "'NAME=SPEC', in quotes: a stream's spec, instead of the recorded one; repeat for more.",
        flag="--spec",
    )
    trust_encoders: bool = option(False, TRUST_ENCODERS)
    text_stream: str = option("", "The text stream that reads --text; the first by default.")
    output: Path = option(Path("localized"), "The folder to write overlays to.")
    arrays: bool = option(False, "Also write every map as a .npy array.")
    cache: str = option(
        "",
        "With images: compare each query with its strength in the images of this cache. Without: "
        "score maps of the cache's classes against its masks.",
    )
    report: str = option("", "With --cache: its report, to add the scores to.")
    dataset: str = option("", "With --cache: where its images are, if they have moved.")
    template: str = option("a {}", "With --cache: the text for a class, {} being its name.")
    max_images: int = option(
        200, "With --cache: number of images to score, drawn at random.", former="max_pictures"
    )
    seed: int = option(42, "Seed of the images drawn and of the random latents.")
    device: str = option("auto", "Where the encoders run: auto, cpu, cuda, cuda:1, …")

    def __post_init__(self) -> None:
        for name in ("layers", "max_images"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if "{}" not in self.template:
            raise ConfigError(f"template must hold {{}} for the class's name: {self.template!r}")
        if self.report and not self.cache:
            raise ConfigError("report needs cache: scores are measured on a cache's masks")
