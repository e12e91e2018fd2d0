"""The settings of `sparc-train join`."""

import dataclasses
from typing import Any

from sparc.common.cli.suggestions import devices, streams
from sparc.common.config import option, require_at_least
from sparc.train.align.config import NEVER_ALIGN, AlignConfig
from sparc.train.config import ErrorScale, ModelConfig, Precision, TrainConfig
from sparc.train.kernels.registry import AUTO as AUTO_KERNELS
from sparc.train.kernels.registry import CHOICES as KERNELS_CHOICES


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinConfig:
    """Which stream joins, and how it learns the dictionary.

    Settings with the name of one of `sparc-train run` mean the same.
    """

    stream: str = option("", "The stream of the cache that joins.", suggest=streams)
    epochs: int = option(20, "Passes over the cache; 0 leaves the stream as its closed form.")
    steps: int = option(0, "Steps to train in place of whole epochs; 0 trains whole epochs.")
    batch_size: int = option(256, "Rows per step.")
    lr: float = option(
        0.0,
        "Learning rate of Adam, which falls to zero over the last fifth of the steps; 0: that of "
        "recipe aligned.",
    )
    independent: float = option(0.4, "Share of the batches in which streams select independently.")
    distill: float = option(
        0.15, "Weight of learning in joint batches which latents to select independently."
    )
    balance: float = option(
        5e-4, "Largest change of a latent bias per step towards even use of latents."
    )
    error: ErrorScale = option(
        "norm",
        "What squared reconstruction errors are divided by in the loss: norm or variance, as when "
        "the model was trained.",
    )
    mix: float = option(
        0.8, "How far the encoder moves when it is aligned after the steps; 0 leaves it."
    )
    ridge: float = option(
        1e-4, "Added to the stream's covariance on the diagonal, as a share of its trace."
    )
    rows: int = option(
        32_768, "Rows to sample for the closed form and the aligning; all if there are fewer."
    )
    seed: int = option(42, "Seed of the samples and of the order of rows.")
    precision: Precision = option(
        "float32", "Precision of matrix products; tf32 and bfloat16 need a GPU."
    )
    device: str = option(
        "auto", "Where to train: auto, cpu, cuda, cuda:1, …", changeable=True, suggest=devices
    )
    kernels: str = option(
        AUTO_KERNELS,
        "Implementation of the sparse operations, as of sparc-train run.",
        choices=KERNELS_CHOICES,
    )

    def __post_init__(self) -> None:
        AlignConfig(mix=self.mix, ridge=self.ridge, rows=self.rows)
        for name in ("epochs", "lr", "distill"):
            require_at_least(self, name, 0)
        self.training(None, steps=self.steps or 1)

    def training(self, model: ModelConfig | None, *, steps: int) -> TrainConfig:
        """The settings of the steps: those of recipe aligned but for what is set here.

        Encoders read no noise: frozen streams would be reconstructed from worse codes than in use.

        Args:
            model: The model; None where only this configuration is to be checked.
            steps: Steps in all.

        Raises:
            ConfigError: A setting is out of its bounds.
        """
        size: dict[str, Any] = {}
        if model is not None:
            size = {"latents": model.latents, "k": model.k, "selection": model.selection}
        if self.lr > 0:
            size["lr"] = self.lr
        return TrainConfig(
            recipe="aligned",
            align=(NEVER_ALIGN,),
            noise=0.0,
            steps=steps,
            batch_size=self.batch_size,
            independent=self.independent,
            terms=(f"distill={self.distill}",) if self.distill > 0 else (),
            balance=self.balance,
            error=self.error,
            seed=self.seed,
            order_seed=self.seed,
            precision=self.precision,
            device=self.device,
            kernels=self.kernels,
            **size,
        )
