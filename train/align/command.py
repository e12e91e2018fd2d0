"""The command `sparc-train align`: from a trained model and a cache to an aligned model."""

import dataclasses
from typing import Any

from sparc.common.cache.reader import ActivationCache
from sparc.common.devices import choose_device
from sparc.common.text import amount
from sparc.train.align.config import AlignConfig
from sparc.train.align.on_cache import align_on_cache
from sparc.train.align.record import AlignRecord
from sparc.train.data.moments import data_moments, require_rows
from sparc.train.derive.derive import Change, Location, derive
from sparc.train.model.network import Sparc


def align_run(
    run: Location, cache: Location, out: Location, config: AlignConfig | None = None
) -> Sparc:
    """Align a trained model: its streams' encoders are refitted, all else stays.

    The same call after an interruption finishes what it began; nothing finished is overwritten.

    Args:
        run: A finished run's folder, a saved model's folder or URL, or a hub repository.
        cache: An activation cache with all streams of the model, as a rule the one trained on.
        out: The folder of the aligned model; it must not hold anything.
        config: The settings.

    Returns:
        The aligned model, on the CPU, in evaluation mode and frozen.

    Raises:
        RunError: There is no such model, it has one stream only, or `out` holds something else.
        CacheError: The cache lacks a stream of the model, has one from another encoder, or too few
            rows.
    """
    return derive(_Aligning(config or AlignConfig()), run, cache, out)


class _Aligning(Change[AlignRecord]):
    kind = AlignRecord
    past = "aligned"
    gerund = "aligning"

    def __init__(self, config: AlignConfig) -> None:
        self._config = config

    def record(self, about: dict[str, Any]) -> AlignRecord:
        return AlignRecord(settings=self._config, **about)

    def apply(self, model: Sparc, cache: ActivationCache, record: AlignRecord) -> AlignRecord:
        config = self._config
        device = choose_device(config.device)
        moments = data_moments(
            cache, model.config, rows=config.rows, seed=config.seed, device=device
        )
        require_rows(cache, model.config, moments)
        model.to(device)
        align_on_cache(model, cache, moments, config)
        model.cpu()
        return dataclasses.replace(record, rows=moments.rows)

    def summary(self, record: AlignRecord) -> str:
        names = ", ".join(stream.name for stream in record.streams)
        return f"{names} aligned on {amount(record.rows, 'row')}"
