"""What processes that share the latents cannot do, and why, before the first step."""

from sparc.common.errors import ConfigError, setting
from sparc.train.config import ModelConfig, TrainConfig
from sparc.train.step.terms.term import build_terms


def why_not_shared(config: ModelConfig, settings: TrainConfig, processes: int) -> str | None:
    """Why processes cannot share the latents of a model, in words; None if they can.

    Args:
        config: The model.
        settings: How it learns.
        processes: How many they are.
    """
    if config.latents % processes:
        return f"{processes} processes cannot share {config.latents:,} latents evenly"
    if config.latents // processes < config.width:
        own = config.latents // processes
        return f"a process would own {own:,} latents, fewer than the {config.width:,} of a code"
    for term in build_terms(settings):
        if not term.reads_offers_alone:
            return f"loss term {term.name} reads the logits of all latents"
    return None


def require_shareable(config: ModelConfig, settings: TrainConfig, processes: int) -> None:
    """Refuse to share latents where that cannot be done; arguments as of `why_not_shared`.

    Raises:
        ConfigError: It cannot.
    """
    if reason := why_not_shared(config, settings, processes):
        rows = setting("--parallel rows", 'parallel="rows"')
        raise ConfigError(f"{reason}: choose {rows}")
