"""What an extraction did, in numbers and in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow.compute as pc

from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.shards.shard import Shard
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.text import amount, shorten, size
from sparc.common.timing.timings import Timings
from sparc.extract.encoding.chunks import Work

_NAMED_REASONS = 3
"""Reasons why rows have no feature that a summary names; the cache's `rejects.parquet` has all."""


class Summary(NamedTuple):
    """What a job did.

    Attributes:
        cache: The cache, complete in the job's streams unless something is `unfinished`.
        encoded_rows: Rows that this run wrote for at least one stream.
        pictured_rows: Rows whose thumbnails this run wrote.
        timings: Where the time of encoding and writing went, without building the encoders.
        reasons: By stream, why rows of the cache have no feature: how many rows by reason.
        cut: By text stream, how many captions were longer than the encoder's context.
        shard: The shard that this run made; None: it made all.
        unfinished: What is left to do before the cache is finished, a line each.
        left_out: The chunks that could not be made, a line each.
    """

    cache: ActivationCache
    encoded_rows: int
    pictured_rows: int
    timings: Timings
    reasons: Mapping[str, Counter[str]]
    cut: Mapping[str, int]
    shard: Shard | None = None
    unfinished: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def rejected(self) -> dict[str, int]:
        """By stream, how many rows of the cache have no feature."""
        return {name: reasons.total() for name, reasons in self.reasons.items()}

    def __str__(self) -> str:
        shard = "" if self.shard is None else f"shard {self.shard}: "
        if self.encoded_rows:
            rate = self.encoded_rows / max(self.timings.seconds, 1e-9)
            done = f"{amount(self.encoded_rows, 'row')} encoded, {rate:,.1f} rows/s"
        elif self.pictured_rows:
            done = f"thumbnails made for {amount(self.pictured_rows, 'row')}"
        else:
            done = "nothing was left to do"
        if self.left_out:
            lines = "".join(f"\n  {line}" for line in self.left_out)
            return (
                f"{amount(len(self.left_out), 'chunk')} could not be made; run the same command "
                f"again to try once more. {self.cache.folder} is not finished:{lines}"
            )
        if self.unfinished:
            left = "".join(f"\n  {line}" for line in self.unfinished)
            return f"{shard}{done}. {self.cache.folder} is not finished:{left}"
        return f"{shard}{done}. {contents(self.cache, self.reasons, self.cut)}"


def summarize(
    folder: Folder,
    streams: Sequence[str],
    work: Work,
    timings: Timings,
    *,
    shard: Shard | None = None,
    unfinished: tuple[str, ...] = (),
    left_out: tuple[str, ...] = (),
) -> Summary:
    """The summary of a job that has ended; reasons are counted once the cache is finished.

    Args:
        folder: The cache's folder.
        streams: Those of the job.
        work: What the cache lacked.
        timings: Where the time went.
        shard: As of `Summary`.
        unfinished: As of `Summary`.
        left_out: As of `Summary`.

    Raises:
        CacheError: No row of a stream has a feature.
    """
    cache = ActivationCache(folder)
    is_finished = not unfinished and not left_out
    return Summary(
        cache=cache,
        encoded_rows=work.rows_to_encode,
        pictured_rows=work.rows_pictured,
        timings=timings,
        reasons=reasons_of(cache, streams) if is_finished else {},
        cut=cut_of(cache, streams) if is_finished else {},
        shard=shard,
        unfinished=unfinished,
        left_out=left_out,
    )


def contents(
    cache: ActivationCache, reasons: Mapping[str, Counter[str]], cut: Mapping[str, int]
) -> str:
    """What a finished cache holds, in a sentence.

    Args:
        cache: The cache.
        reasons: By stream, why rows have no feature: how many rows by reason.
        cut: By text stream, how many captions were longer than the encoder's context.
    """
    parts = [f"{cache.folder} holds {amount(cache.info.rows, 'row')}"]
    for name, of_stream in reasons.items():
        rejected = of_stream.total()
        note = f", {rejected:,} without a feature: {_most_often(of_stream)}" if rejected else ""
        were_cut = cut.get(name, 0)
        note += f", {amount(were_cut, 'caption')} cut at the encoder's context" if were_cut else ""
        parts.append(f"{name} (dim {cache.stream(name).dim}{note})")
    return ", ".join(parts) + f"; {size(cache.folder.size())}."


def _most_often(reasons: Counter[str]) -> str:
    """The first reasons why rows have no feature."""
    first = [
        f"{shorten(reason, 100)} ({amount(rows, 'row')})"
        for reason, rows in reasons.most_common(_NAMED_REASONS)
    ]
    return f"{'; '.join(first)}{'; …' if len(reasons) > _NAMED_REASONS else ''}"


def cut_of(cache: ActivationCache, streams: Sequence[str]) -> dict[str, int]:
    """By text stream, how many captions were longer than the encoder's context."""
    return {name: cache.cut(name) for name in streams if cache.stream(name).modality == "text"}


def reasons_of(cache: ActivationCache, streams: Sequence[str]) -> dict[str, Counter[str]]:
    """By stream, why rows have no feature: how many rows by reason.

    Raises:
        CacheError: No row of a stream has a feature.
    """
    rejects = cache.rejects()
    result = {}
    for name in streams:
        of_stream = rejects.filter(pc.equal(rejects.column("stream"), name))
        result[name] = reasons = Counter(of_stream.column("reason").to_pylist())
        if len(of_stream) == cache.info.rows:
            ((reason, _),) = reasons.most_common(1)
            raise CacheError(
                f"stream {name}: no row has a feature (most often: {shorten(reason, 100)}); "
                "correct the dataset, and give another folder for the cache"
            )
    return result
