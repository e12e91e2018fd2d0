"""The settings of `sparc-analyze localize`."""

import dataclasses
from pathlib import Path
from typing import Literal

from sparc.analyze import options
from sparc.common.cli.suggestions import artefacts, streams
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
        (),
        "A stream to show; repeat for more. All by default.",
        flag="--stream",
        suggest=streams,
    )
    arrays: bool = option(False, "Also write every map as a .npy array.")
    report: str = option(
        "", "With --cache: its report, to add the scores to.", suggest=artefacts("report")
    )
    max_images: int = option(
        200, "With --cache: number of images to score, drawn at random.", former="max_pictures"
    )
    template: str = options.template("a {}", "the name of a class of --cache")
    source: str = options.source("the first one of texts", former="text_stream")
    out: Path = options.out_folder("overlays", Path("localized"), former="output")
    specs: tuple[str, ...] = options.specs()
    trust_encoders: bool = options.trust_encoders()
    cache: str = option(
        "",
        "With images: compare each query with its strength in the images of this cache. Without: "
        "score maps of the cache's classes against its masks.",
    )
    dataset: str = options.moved_dataset()
    seed: int = options.seed("the images drawn and of the random latents")
    device: str = options.device("the encoders run")

    def __post_init__(self) -> None:
        options.check_at_least(self, 1, "layers", "max_images")
        options.check_template(self.template, "the class's name")
        if self.report and not self.cache:
            raise ConfigError("report needs cache: scores are measured on a cache's masks")
