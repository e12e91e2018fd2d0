"""The command `sparc-train match`: from a trained model and a cache to one with matched latents."""

import dataclasses
from typing import Any

import torch

from sparc.common.cache.reader import ActivationCache
from sparc.common.devices import choose_device
from sparc.common.progress import say
from sparc.common.text import amount
from sparc.train.align.thresholds import relearn_thresholds
from sparc.train.data.counting import FEW_ROWS
from sparc.train.derive.derive import Change, Location, derive
from sparc.train.match.assign import Permutation, match
from sparc.train.match.config import MatchConfig
from sparc.train.match.record import MatchRecord
from sparc.train.match.sample import sample_codes, shared_rows
from sparc.train.model.network import Sparc


def match_run(
    run: Location, cache: Location, out: Location, config: MatchConfig | None = None
) -> Sparc:
    """Match the latents of a trained model's streams: they are permuted, and no weight changes.

    Meant for dictionaries that were trained without each other (`selection` `local` and a
    `cross_weight` of 0), where latent 7 of one stream has nothing to do with latent 7 of another.
    The same call after an interruption finishes what it began; nothing finished is overwritten.

    Args:
        run: A finished run's folder, a saved model's folder or URL, or a hub repository.
        cache: An activation cache with all streams of the model, as a rule the one trained on.
        out: The folder of the matched model; it must not hold anything.
        config: The settings.

    Returns:
        The matched model, on the CPU, in evaluation mode and frozen.

    Raises:
        RunError: There is no such model, it has one stream only, or `out` holds something else.
        CacheError: The cache lacks a stream of the model, has one from another encoder, or streams
            share fewer than two rows.
    """
    return derive(_Matching(config or MatchConfig()), run, cache, out)


def permute(model: Sparc, permutations: dict[str, Permutation]) -> None:
    """Give the latents of streams other numbers, in place."""
    with torch.no_grad():
        for name, permutation in permutations.items():
            order = torch.from_numpy(permutation)
            for weight in (model.encoder[name], model.decoder[name], model.latent_bias[name]):
                weight.copy_(weight[order])


class _Matching(Change[MatchRecord]):
    kind = MatchRecord
    past = "matched"
    gerund = "matching"

    def __init__(self, config: MatchConfig) -> None:
        self._config = config

    def record(self, about: dict[str, Any]) -> MatchRecord:
        return MatchRecord(settings=self._config, before=0.0, after=0.0, **about)

    def apply(self, model: Sparc, cache: ActivationCache, record: MatchRecord) -> MatchRecord:
        config = self._config
        model.to(choose_device(config.device))
        sample = sample_codes(model, cache, rows=config.rows, seed=config.seed)
        model.cpu()
        rows = shared_rows(sample)
        if rows < FEW_ROWS:
            say(
                f"note: {amount(rows, 'row')} are few to match by: latents that are active on a "
                "handful of rows correlate by accident"
            )
        matching = match(sample, rounds=config.rounds)
        permute(model, matching.permutations)
        relearn_thresholds(model, cache, seed=config.seed, own=())
        return dataclasses.replace(
            record,
            rows=rows,
            before=matching.before,
            after=matching.after,
        )

    def summary(self, record: MatchRecord) -> str:
        names = ", ".join(stream.name for stream in record.streams)
        return (
            f"{names} matched on {amount(record.rows, 'row')}, mean correlation "
            f"{record.before:.3f} to {record.after:.3f}"
        )
