"""Codes of a batch of rows, from products in float32 or screened by products in bfloat16.

Both select the largest of the logits in float32. The latter computes few of these and is faster,
where a CPU has instructions for it; the sums of its logits have another order, so that values
differ by rounding. This module must not know how rows are divided into batches.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparc.analyze.codes.code_rows import CodeRows
from sparc.train.kernels.choice import screen_of
from sparc.train.kernels.screening.low_logits import Screen, begin
from sparc.train.model.codes import Codes, Mode
from sparc.train.model.network import Sparc
from sparc.train.model.selectors.selector import codes_at

_BLOCK = 64
"""Rows per selection on a CPU: their logits fit the cache of a core."""

_SCREENED = 1 << 11
"""Latents whose products in bfloat16 are computed at a time."""


class BatchEncoder(Protocol):
    """Encodes batches; one for each thread."""

    def encode(
        self, features: Mapping[str, Tensor], rows: npt.NDArray[np.int64], modes: Sequence[Mode]
    ) -> list[list[CodeRows]]:
        """The codes of a batch in each mode, block by block.

        Args:
            features: By stream, (n, dim) raw features in float32, on the model's device.
            rows: Which rows of the cache they are, (n,).
            modes: Which codes.
        """
        ...


def batch_encoder(model: Sparc, streams: Sequence[str], batch_size: int) -> BatchEncoder:
    """What encodes batches of some streams of a model fastest.

    Args:
        model: The model, on the device to use.
        streams: Some of its streams, in its order.
        batch_size: Rows of a batch at most.
    """
    config, weight = model.config, next(model.parameters())
    if weight.dtype == torch.float32:
        screen = screen_of(weight.device, config.latents, config.width)
        if screen is not None:
            return _Screened(model, screen)
    return _ByProducts(model, streams, batch_size)


class _ByProducts:
    """Computes all logits."""

    def __init__(self, model: Sparc, streams: Sequence[str], batch_size: int) -> None:
        self._model = model
        # Allocated once: fresh memory costs as much as reading it several times.
        self._memory = torch.empty(
            (len(streams), batch_size, model.config.latents),
            device=next(model.parameters()).device,
        )

    def encode(
        self, features: Mapping[str, Tensor], rows: npt.NDArray[np.int64], modes: Sequence[Mode]
    ) -> list[list[CodeRows]]:
        logits = {
            stream: self._model.logits(
                stream, self._model.normalize(stream, raw), out=out[: len(raw)]
            )
            for (stream, raw), out in zip(features.items(), self._memory, strict=True)
        }
        latents = self._model.config.latents
        return [
            [_sorted(self._model.select(block, mode), of_block, latents) for mode in modes]
            for block, of_block in _blocks(logits, rows)
        ]


class _Screened:
    """Computes the logits in float32 that may be among the largest."""

    def __init__(self, model: Sparc, screen: Screen) -> None:
        self._model, self._screen = model, screen

    def encode(
        self, features: Mapping[str, Tensor], rows: npt.NDArray[np.int64], modes: Sequence[Mode]
    ) -> list[list[CodeRows]]:
        model, latents = self._model, self._model.config.latents
        low = {}
        for stream, raw in features.items():
            centred = model.normalize(stream, raw) - model.pre_bias[stream]
            low[stream] = begin(centred, model.encoder[stream], model.latent_bias[stream], None)
            for first in range(0, latents, _SCREENED):
                self._screen.fill(low[stream], slice(first, min(first + _SCREENED, latents)))
        codes: list[CodeRows] = []
        for mode in modes:
            together = [list(low)] if mode == "joint" else [[stream] for stream in low]
            selected: dict[str, Codes] = {}
            for streams in together:
                of_streams = [low[stream] for stream in streams]
                indices, logits = self._screen.select(of_streams, model.config.width)
                chosen = dict(zip(streams, logits.unbind(1), strict=True))
                selected |= codes_at(model.selector, model.config, indices, chosen, model.threshold)
            codes.append(_sorted(selected, rows, latents))
        return [codes]


def _blocks(
    logits: Mapping[str, torch.Tensor], rows: npt.NDArray[np.int64]
) -> Iterator[tuple[dict[str, torch.Tensor], npt.NDArray[np.int64]]]:
    """The logits of a batch in blocks that a CPU's cache holds; on a GPU in one.

    Args:
        logits: By stream, (rows, L).
        rows: Which rows of the cache they are.
    """
    on_cpu = all(of_stream.device.type == "cpu" for of_stream in logits.values())
    size = _BLOCK if on_cpu else max(1, len(rows))
    for start in range(0, len(rows), size):
        span = slice(start, start + size)
        yield {stream: of_stream[span] for stream, of_stream in logits.items()}, rows[span]


def _sorted(codes: Mapping[str, Codes], rows: npt.NDArray[np.int64], latents: int) -> CodeRows:
    """Codes as arrays, the latents of every row in ascending order."""
    dtype = np.min_scalar_type(latents - 1)
    # In joint mode the streams share one tensor of indices, and then one array.
    shared: dict[int, npt.NDArray[Any]] = {}
    indices, values = {}, {}
    for stream, selected in codes.items():
        # Sorting one number that packs index and value is many times faster than an argsort.
        bits = selected.values.float().cpu().numpy().view(np.uint32)
        packed = (selected.indices.cpu().numpy() << 32) | bits
        packed.sort(axis=1)
        if id(selected.indices) not in shared:
            shared[id(selected.indices)] = (packed >> 32).astype(dtype)
        indices[stream] = shared[id(selected.indices)]
        values[stream] = packed.astype(np.uint32).view(np.float32)
    return CodeRows(rows, indices, values)
