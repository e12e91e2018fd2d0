"""The command `sparc-train join`: a further stream learns a trained dictionary.

The streams of the model are frozen: neither their weights nor their independent codes change. The
new stream gets a start in closed form, then steps of its own, and is aligned at the end.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.devices import choose_device
from sparc.common.errors import RunError, setting
from sparc.common.files.folder import Folder
from sparc.common.streams.info import StreamInfo
from sparc.common.text import amount
from sparc.train.align.refit import align
from sparc.train.align.thresholds import relearn_thresholds
from sparc.train.config import StreamShape
from sparc.train.data.moments import data_moments, require_rows
from sparc.train.derive.derive import Change, Location, derive
from sparc.train.join.closed_form import fit_decoder, fit_encoder
from sparc.train.join.config import JoinConfig
from sparc.train.join.record import JoinRecord
from sparc.train.join.steps import make_steps
from sparc.train.model.initialize import initial_model
from sparc.train.model.network import Sparc
from sparc.train.model.streams import take_streams
from sparc.train.run.run_folder import METRICS_FILE, TIMINGS_FILE
from sparc.train.validation import require_streams


def join_run(run: Location, cache: Location, out: Location, config: JoinConfig) -> Sparc:
    """Teach a trained model a further stream; the weights of its streams do not move by a bit.

    The same call after an interruption begins again; nothing finished is overwritten.

    Args:
        run: A finished run's folder, a saved model's folder or URL, or a hub repository.
        cache: An activation cache with the new stream and at least one stream of the model.
        out: The folder of the joined model; it must not hold anything.
        config: The settings, with the name of the new stream.

    Returns:
        The model with one more stream, the last, on the CPU, in evaluation mode and frozen.

    Raises:
        RunError: There is no such model, it has a stream of that name, `out` holds something else,
            or training diverged.
        CacheError: The cache lacks the stream or all streams of the model, has one from another
            encoder, or too few rows.
    """
    return derive(_Joining(config, Folder(out)), run, cache, out)


class _Joining(Change[JoinRecord]):
    kind = JoinRecord
    past = "joined"
    gerund = "joining"
    logs = (METRICS_FILE, TIMINGS_FILE)

    def __init__(self, config: JoinConfig, folder: Folder) -> None:
        self._config = config
        self._folder = folder
        self._initial: dict[str, Tensor] = {}

    def begin(
        self, model: Sparc, cache: ActivationCache, trained_on: Sequence[StreamInfo]
    ) -> Sparc:
        new, names = self._config.stream, model.config.names
        if not new:
            raise RunError(f"name the stream that joins with {setting('--stream')}")
        if new in names:
            raise RunError(f"the model has a stream {new} already: another one must join")
        present = [stream for stream in model.config.streams if stream.name in cache.streams]
        if not present:
            raise RunError(
                f"{cache.folder} has no stream of the model: it needs {new} and one of "
                f"{', '.join(names)}, for the same rows"
            )
        if model.thresholds is not None and len(present) < len(names):
            raise RunError(
                f"{cache.folder} lacks streams of the model, and with selection "
                f"{model.config.selection} the sum of all streams needs a threshold: extract "
                f"{', '.join(names)} and {new}"
            )
        require_streams(cache, present, trained_on)
        cache.require_complete([new])
        return _extended(model, StreamShape(new, cache.streams[new].dim), seed=self._config.seed)

    def initial(self) -> Mapping[str, Tensor]:
        return self._initial

    def record(self, about: dict[str, Any]) -> JoinRecord:
        return JoinRecord(settings=self._config, steps=0, **about)

    def apply(self, model: Sparc, cache: ActivationCache, record: JoinRecord) -> JoinRecord:
        config, new = self._config, self._config.stream
        learning = take_streams(model, [stream.name for stream in record.streams])
        learning.to(choose_device(config.device))
        device = learning.pre_bias[new].device
        moments = data_moments(
            cache, learning.config, rows=config.rows, seed=config.seed, device=device
        )
        require_rows(cache, learning.config, moments)
        fit_encoder(learning, new, moments, ridge=config.ridge)
        self._initial = {new: learning.pre_bias[new].detach().cpu().clone()}
        fit_decoder(learning, new, cache, rows=config.rows, seed=config.seed)
        steps = make_steps(learning, new, cache, self._folder, config)
        frozen = [name for name in learning.config.names if name != new]
        if steps:
            align(learning, moments, mix=config.mix, ridge=config.ridge, frozen=frozen)
        learning.cpu()
        with torch.no_grad():
            for name, tensor in learning.state_dict().items():
                if name.partition(".")[2] == new:
                    model.get_parameter(name).copy_(tensor)
        relearn_thresholds(model, cache, seed=config.seed, own=(new,))
        return dataclasses.replace(record, rows=moments.rows, steps=steps)

    def summary(self, record: JoinRecord) -> str:
        *others, new = (stream.name for stream in record.streams)
        return f"{new} joined {', '.join(others)} in {amount(record.steps, 'step')}"


def _extended(model: Sparc, stream: StreamShape, *, seed: int) -> Sparc:
    """The model with one more stream, whose weights are random."""
    config = dataclasses.replace(model.config, streams=(*model.config.streams, stream))
    result = initial_model(config, seed=seed, means=None)
    state = result.state_dict()
    state |= {name: x for name, x in model.state_dict().items() if name != "thresholds"}
    result.load_state_dict(state)
    if result.thresholds is not None and model.thresholds is not None:
        result.thresholds[1:-1] = model.thresholds[1:]
    return result.eval().requires_grad_(False)
