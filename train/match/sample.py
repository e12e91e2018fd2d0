"""Independent codes of sampled rows, a stream at a time, which is what latents are matched by."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError
from sparc.common.progress import progress
from sparc.train.data.sampling import shuffled_chunks
from sparc.train.model.network import Sparc

_ROWS_ENCODED = 1024
"""Rows whose logits are held at once."""


class SampledCodes(NamedTuple):
    """A stream's codes of the sampled rows."""

    codes: sparse.csr_array
    """(rows, latents) float64; a row that the stream lacks is empty."""
    valid: npt.NDArray[np.bool_]
    """Which rows the stream has, (rows,)."""


def sample_codes(
    model: Sparc, cache: ActivationCache, *, rows: int, seed: int
) -> dict[str, SampledCodes]:
    """Encode whole chunks, sampled from the cache, until every pair of streams has enough rows.

    The codes take 12 bytes for each of a row's k latents and each stream: 75 MB for 32,768 rows of
    three streams with k 64.

    Args:
        model: The model; encoding is done where it lies.
        cache: A cache with its streams.
        rows: Rows wanted for every pair of streams.
        seed: Seed of the sample of chunks.

    Returns:
        By stream of the model; all have the same rows.

    Raises:
        CacheError: A pair of streams has fewer than two rows in common.
    """
    names = model.config.names
    pieces: dict[str, list[SampledCodes]] = {name: [] for name in names}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    total = min(rows, cache.info.rows)
    with progress(total, "codes") as bar:
        for chunk in shuffled_chunks(cache, seed):
            before = int(counts.min())
            if before >= rows:
                break
            for name in names:
                pieces[name].append(_encode(model, cache, name, chunk))
            flags = np.stack([pieces[name][-1].valid for name in names]).astype(np.int64)
            counts += flags @ flags.T
            bar.update(min(int(counts.min()), total) - min(before, total))
    for first, second in np.argwhere(counts < 2):
        raise CacheError(
            f"{cache.folder}: streams {names[first]} and {names[second]} share "
            f"{counts[first, second]} of the sampled rows: at least 2 are needed"
        )
    return {
        name: SampledCodes(
            sparse.vstack([piece.codes for piece in parts], format="csr"),
            np.concatenate([piece.valid for piece in parts]),
        )
        for name, parts in pieces.items()
    }


def shared_rows(sample: Mapping[str, SampledCodes]) -> int:
    """Rows that every pair of streams has, at least."""
    flags = np.stack([codes.valid for codes in sample.values()]).astype(np.int64)
    return int((flags @ flags.T).min())


def _encode(model: Sparc, cache: ActivationCache, name: str, chunk: int) -> SampledCodes:
    valid = cache.valid(name, chunk)
    stored = torch.from_numpy(cache.features(name, chunk)[valid])
    indices, values = [], []
    with torch.no_grad():
        for rows in torch.split(stored, _ROWS_ENCODED):
            codes = model.encode({name: rows}, "independent")[name]
            indices.append(codes.indices.cpu().numpy())
            values.append(codes.values.double().cpu().numpy())
    width = model.config.width
    starts = np.concatenate([[0], np.cumsum(valid * width)])
    content = np.concatenate(values).ravel(), np.concatenate(indices).ravel(), starts
    codes = sparse.csr_array(content, shape=(len(valid), model.config.latents))
    codes.eliminate_zeros()  # a code's values may be zero, and its width more than its latents
    return SampledCodes(codes, valid)
