"""The settings of a model and of its training, each in one frozen dataclass."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from sparc.common.cli.suggestions import artefacts, devices, streams
from sparc.common.config import UNSET, declared, option, require_at_least, require_choice
from sparc.common.defaults import set_defaults
from sparc.common.errors import ConfigError
from sparc.common.registry import summaries
from sparc.common.streams.info import check_name
from sparc.train.align.config import NEVER_ALIGN, align_mixes
from sparc.train.kernels.registry import AUTO as AUTO_KERNELS
from sparc.train.kernels.registry import CHOICES as KERNELS_CHOICES
from sparc.train.kernels.registry import KERNELS
from sparc.train.model.selectors.registry import SELECTORS
from sparc.train.step.recipes.registry import DEFAULT as DEFAULT_RECIPE
from sparc.train.step.recipes.registry import FORMER as FORMER_RECIPES
from sparc.train.step.recipes.registry import RECIPES
from sparc.train.step.terms.registry import term_weights, weighted_terms

Normalize = Literal["unit", "none"]
Residency = Literal["auto", "device", "host", "stream"]
Precision = Literal["float32", "tf32", "bfloat16"]
ErrorScale = Literal["norm", "variance"]
RowChoice = Literal["all", "any"]
Parallel = Literal["auto", "rows", "latents"]

MOST_ROWS_TO_DEATH = 256_000
"""Rows without a value after which a latent is dead, in long runs."""


@dataclasses.dataclass(frozen=True)
class StreamShape:
    """A stream that a model reads: its name and the width of its features."""

    name: str
    dim: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything needed to build the model.

    Attributes:
        streams: The streams, in their fixed order: sums over streams follow it.
        latents: L, the size of the dictionary.
        k: Active latents per row: exactly, at most or on average, as the selector says.
        selection: Which latents those are, a name in `SELECTORS`.
        normalize: `unit` scales every feature to unit L2 norm first; `none` takes it as it is.
        k_max: The most active latents per row, with a selector that allows more than k; chosen by
            the selector where it is not given. None with selectors that never do.
    """

    streams: tuple[StreamShape, ...]
    latents: int = 8192
    k: int = 64
    selection: str = "global"
    normalize: Normalize = "unit"
    k_max: int | None = option(None, "", added=True)

    def __post_init__(self) -> None:
        names = [stream.name for stream in self.streams]
        if not names or len(set(names)) < len(names):
            raise ConfigError("a model needs at least one stream, each name once")
        for stream in self.streams:
            check_name(stream.name)
            if stream.dim < 1:
                raise ConfigError(f"stream {stream.name}: dim must be at least 1")
        if not 1 <= self.k <= self.latents:
            raise ConfigError(f"k must be from 1 to the number of latents, {self.latents}")
        require_choice(self.selection, SELECTORS, "selection")
        require_choice(self.normalize, get_args(Normalize), "normalize")
        widest = SELECTORS[self.selection].widest
        if widest > 1 and self.k_max is None:
            object.__setattr__(self, "k_max", min(self.latents, widest * self.k))
        if widest == 1 and self.k_max is not None:
            raise ConfigError(
                f"with selection {self.selection} rows use at most k: leave k_max out"
            )
        if not self.k <= self.width <= self.latents:
            raise ConfigError(f"k_max must be from k, {self.k}, to latents, {self.latents}")

    @property
    def width(self) -> int:
        """Columns of a code: the most active latents per row."""
        return self.k if self.k_max is None else self.k_max

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        widths = sum(stream.dim for stream in self.streams)
        return (2 * self.latents + 1) * widths + self.latents * len(self.streams)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the streams, in order."""
        return tuple(stream.name for stream in self.streams)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of `sparc-train run`, declared here and nowhere else.

    A sweep may vary `swept` settings; the others concern the data, which all its runs share. A
    resumed run may change `changeable` ones, which do not influence the weights. A new setting is
    `added`: records leave it out while it has its default, so that earlier runs stay as they are.

    The recipe decides the defaults of some settings, here and in files and sweeps alike. To have it
    decide them again for other settings, change a configuration with
    `sparc.common.defaults.changed`: `dataclasses.replace` keeps what was decided.

    How an option reaches the step: `sparc.train.step.learner.Learner` gets this object as
    `settings`. It hands single values to the optimizer, and the whole object to the recipe and to
    each loss term, which read `self.settings`.
    """

    streams: tuple[str, ...] = option(
        (),
        "A stream to learn from; repeat for more. All of them by default.",
        flag="--stream",
        suggest=streams,
    )
    latents: int = option(
        0,
        "Size of the dictionary; 0: what fits the cache, up to 8,192.",
        swept=True,
        default_by="recipe",
    )
    k: int = option(
        0,
        "Latents per row: exactly, at most or on average (--selection); 0: what fits the number of "
        "latents, up to 64.",
        swept=True,
        default_by="recipe",
    )
    selection: str = option(
        "global",
        f"Which latents a row uses. {summaries(SELECTORS)}.",
        swept=True,
        choices=SELECTORS,
    )
    recipe: str = option(
        DEFAULT_RECIPE,
        "What training does besides the loss and Adam, and the defaults of some options. "
        f"{summaries(RECIPES)}.",
        swept=True,
        choices=RECIPES,
        former_values=FORMER_RECIPES,
    )
    cross_weight: float = option(
        1.0, "Weight of cross-reconstruction; 0 turns it off.", swept=True, default_by="recipe"
    )
    error: ErrorScale = option(
        "norm",
        "What squared reconstruction errors are divided by in the loss. norm: |x|^2 of the row; "
        "variance: the stream's mean squared distance from its mean.",
        swept=True,
        added=True,
        default_by="recipe",
    )
    aux_weight: float = option(
        1 / 32,
        "Weight of AuxK, the loss that revives dead latents.",
        swept=True,
        default_by="recipe",
    )
    auxk: int = option(
        64,
        "Dead latents that AuxK selects per row; 0 turns AuxK off.",
        swept=True,
        default_by="recipe",
    )
    dead_after: int = option(
        MOST_ROWS_TO_DEATH,
        "Rows without an active value after which a latent counts as dead; 0: a tenth of the rows "
        f"of the whole run, at most {MOST_ROWS_TO_DEATH:,}.",
        swept=True,
        default_by="recipe",
    )
    batch_size: int = option(256, "Rows per step, over all processes.")
    epochs: int = option(50, "Passes over the cache.")
    steps: int = option(0, "Steps to train in place of whole epochs; 0 trains whole epochs.")
    lr: float = option(
        1e-4,
        "Learning rate of Adam. Recipe aligned lowers it for more latents.",
        swept=True,
        default_by="recipe",
    )
    warmup_steps: int = option(
        0, "Steps over which the learning rate rises from zero.", swept=True, default_by="recipe"
    )
    schedule: Literal["constant", "cosine", "tail"] = option(
        "constant",
        "Learning-rate schedule after the warm-up; cosine decays to zero, tail decays to zero over "
        "the last fifth of the steps.",
        swept=True,
        default_by="recipe",
    )
    clip: float = option(
        0.0,
        "Clip the global gradient norm to this; 0 does not clip.",
        swept=True,
        default_by="recipe",
    )
    seed: int = option(42, "Seed of the weights.", swept=True)
    order_seed: int = option(42, "Seed of the order of rows.")
    precision: Precision = option(
        "float32", "Precision of matrix products; tf32 and bfloat16 need a GPU."
    )
    device: str = option("auto", "Where to train: auto, cpu, cuda, cuda:1, …", suggest=devices)
    kernels: str = option(
        AUTO_KERNELS,
        "Implementation of the sparse operations; auto takes the first that is installed and "
        f"runs on the device. {summaries(KERNELS)}.",
        choices=KERNELS_CHOICES,
    )
    residency: Residency = option(
        "auto",
        "Where training rows are kept: on the device, in host memory, or streamed from the cache.",
        changeable=True,
    )
    parallel: Parallel = option(
        "auto",
        "How several processes (torchrun) divide a step. rows: all have the whole model; latents: "
        "each has its share of the latents, of memory and of work; auto: whichever costs less.",
        changeable=True,
        added=True,
    )
    block_chunks: int = option(8, "Chunks that are shuffled as one block.")
    validation: str = option(
        "",
        "A second cache to measure on; training does not depend on it.",
        suggest=artefacts("cache"),
    )
    log_every: int = option(50, "Steps between lines of metrics.jsonl.")
    checkpoint_every: int = option(1000, "Steps between checkpoints.", changeable=True)
    tensorboard: bool = option(
        False, "Log to tensorboard too (extra: tensorboard).", changeable=True
    )
    wandb: str = option(
        "", "Log to this Weights & Biases project too (extra: wandb).", changeable=True
    )
    terms: tuple[str, ...] = option(
        (),
        "Weight of a further loss term, NAME=WEIGHT; repeat for more. "
        f"{summaries(weighted_terms())}.",
        flag="--term",
        added=True,
        default_by="recipe",
    )
    balance: float = option(
        0.0,
        "Largest change of a latent bias per step towards even use of latents; 0 turns it off.",
        swept=True,
        added=True,
        default_by="recipe",
    )
    independent: float = option(
        0.0,
        "With joint selection: share of the batches in which streams select independently instead.",
        swept=True,
        added=True,
        default_by="recipe",
    )
    noise: float = option(
        0.0,
        "Norm of the noise in what encoders read, as a share of the feature's; targets have none.",
        swept=True,
        added=True,
        default_by="recipe",
    )
    alive_by: Literal["any", "both"] = option(
        "any",
        "What keeps a latent from being dead: any use, or both joint and independent selection.",
        swept=True,
        added=True,
        default_by="recipe",
    )
    align: tuple[str, ...] = option(
        (),
        "Fraction of the steps after which encoders are aligned (see sparc-train align), SHARE or "
        f"SHARE=MIX; repeat for more. {NEVER_ALIGN}: never.",
        added=True,
        default_by="recipe",
    )
    align_discriminant: float = option(
        0.1,
        "Share of aligned encoders that discriminates the rows which select a latent jointly.",
        swept=True,
        added=True,
        default_by="recipe",
    )
    align_lr: float = option(
        1.0,
        "Factor on the encoders' learning rate after the last alignment before the end.",
        swept=True,
        added=True,
        default_by="recipe",
    )

    rows: RowChoice = option(
        "all",
        "Which rows are trained on: all, those that have all the streams; any, those that have at "
        "least one, which then train what they have.",
        added=True,
    )

    # Not `start`: torchrun takes `--start` for an option of its own.
    start_from: tuple[str, ...] = option(
        (),
        "A run or saved model, such as an imported dictionary, whose streams start from its "
        "weights; repeat for more. The other streams start at random.",
        added=True,
        suggest=artefacts("run"),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", FORMER_RECIPES.get(self.recipe, self.recipe))
        require_choice(self.recipe, RECIPES, "recipe")
        set_defaults(self, _defaults_of(self.recipe))
        for name in ("latents", "k"):
            require_at_least(self, name, 0)
        for name in ("batch_size", "epochs", "log_every", "checkpoint_every"):
            require_at_least(self, name, 1)
        require_at_least(self, "block_chunks", 1)
        for name in ("auxk", "dead_after", "steps", "warmup_steps", "clip", "cross_weight"):
            require_at_least(self, name, 0)
        for name in ("aux_weight", "seed", "order_seed", "balance", "noise", "align_lr"):
            require_at_least(self, name, 0)
        if self.k > self.latents > 0:
            raise ConfigError(f"k ({self.k}) cannot exceed latents ({self.latents})")
        for name in ("independent", "align_discriminant"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"lr must be a positive number, not {self.lr}")
        for field in dataclasses.fields(self):
            if (choices := field.metadata["choices"]) is not None:
                require_choice(getattr(self, field.name), choices, field.name)
        term_weights(self.terms)
        align_mixes(self.align)

    def as_recipe_decides(self) -> Self:
        """These settings with every default that the recipe may decide, whatever was given."""
        left_open: dict[str, Any] = dict.fromkeys(declared(type(self), "default_by"), UNSET)
        return dataclasses.replace(self, **left_open)

    def rows_to_death(self, rows: int) -> int:
        """`dead_after`, as a number of rows where it is 0.

        Args:
            rows: Rows of the whole run, those of all its steps.
        """
        return self.dead_after or max(1, min(MOST_ROWS_TO_DEATH, rows // 10))

    def settling_from(self, steps: int) -> float:
        """After how many steps `align_lr` holds: those to the last aligning before the end.

        Args:
            steps: Steps of the whole run.
        """
        inner = [step for step in self.mixes_by_step(steps) if step < steps]
        return max(inner, default=math.inf)

    def mixes_by_step(self, steps: int) -> dict[int, float]:
        """After which steps, counted from 1, encoders are aligned, and how far they move.

        Args:
            steps: Steps of the whole run.
        """
        mixes = align_mixes(self.align).items()
        return {max(1, round(share * steps)): mix for share, mix in mixes}

    @functools.cached_property
    def term_weights(self) -> Mapping[str, float]:
        """The weights of further loss terms by name."""
        return term_weights(self.terms)


def _defaults_of(recipe: str) -> Mapping[str, Any]:
    """The defaults that a recipe decides."""
    settings, known = RECIPES[recipe].settings, declared(TrainConfig, "default_by")
    for name in settings:
        if name not in known:
            raise ConfigError(
                f"recipe {recipe} cannot set {name!r}, only one of {', '.join(known)}"
            )
    return settings
