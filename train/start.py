"""Where a run's streams start: at the weights of another model, as `--start-from` says.

That may be a run, a saved model, or a dictionary of another program that `sparc-train import` made
a model. Training scales features to unit norm and decoder rows too. So the start is the other
model's with decoder rows of unit norm and logits in units of their former norms; if it takes
features unscaled, its biases are divided by the mean norm of the stream's features, since

    W (x - b) + c = |x| (W (x / |x| - b / |x|) + c / |x|).

Codes of a row are then those of the other model by its norm: exactly where all rows have one norm,
else nearly. Latents whose decoder row is zero start at random.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.defaults import changed
from sparc.common.errors import CacheError, RunError, setting
from sparc.common.text import listed
from sparc.train.config import TrainConfig
from sparc.train.data.sampling import complete_chunks
from sparc.train.derive.source import Source, open_source
from sparc.train.model.initialize import initial_model
from sparc.train.model.network import Sparc
from sparc.train.run.run_folder import RunRecord
from sparc.train.validation import require_streams

_CHUNKS = 8
"""Chunks in which the mean norm of features is taken."""


def with_size_of_start(settings: TrainConfig) -> TrainConfig:
    """The settings with the latents and k of what the run starts from; those that are given stay.

    Raises:
        RunError: There is no such model.
    """
    model = _opened(settings.start_from[0]).model.config
    return changed(settings, latents=settings.latents or model.latents, k=settings.k or model.k)


def start_weights(record: RunRecord, cache: ActivationCache) -> dict[str, Tensor]:
    """The weights of step 0 that are other models', by their names in `Sparc.state_dict`.

    Args:
        record: A run that begins.
        cache: Its cache.

    Raises:
        RunError: There is no such model, it has none of the streams or another number of latents,
            or two models have one stream.
        CacheError: It was trained on features of another encoder.
    """
    weights: dict[str, Tensor] = {}
    begun: dict[str, str] = {}
    for place in record.train.start_from:
        source = _opened(place)
        model, names = source.model, record.model.names
        shapes = [stream for stream in model.config.streams if stream.name in names]
        if not shapes:
            raise RunError(
                f"{place} has none of the run's streams ({listed(names)}), but "
                f"{listed(model.config.names)}: name them alike with `sparc-train save --rename`"
            )
        if model.config.latents != record.model.latents:
            raise RunError(
                f"{place} has {model.config.latents:,} latents, the run {record.model.latents:,}: "
                f"leave {setting('--latents')} out to have those of the start"
            )
        require_streams(cache, shapes, source.streams())
        for stream in shapes:
            if stream.name in begun:
                raise RunError(
                    f"stream {stream.name} would start from {begun[stream.name]} and from {place}: "
                    "save one of them without it (`sparc-train save --stream`)"
                )
            begun[stream.name] = place
            weights |= dict(_weights(model, stream.name, record, cache))
    return weights


def _opened(place: str) -> Source:
    try:
        return open_source(place)
    except RunError as error:
        raise RunError(
            f"{error}; of a dictionary of another program `sparc-train import` makes a model"
        ) from error


def _weights(
    model: Sparc, stream: str, record: RunRecord, cache: ActivationCache
) -> Iterator[tuple[str, Tensor]]:
    """A stream's weights with decoder rows of unit norm, for features of unit norm."""
    random = initial_model(record.model, seed=record.train.seed, means=None)
    norms = torch.linalg.vector_norm(model.decoder[stream], dim=1)
    empty, factor = norms == 0, torch.where(norms > 0, norms, 1)[:, None]
    scale = 1.0
    if model.config.normalize == "none" and record.model.normalize == "unit":
        scale = _mean_norm(cache, stream)
    for name, mine, other in (
        ("encoder", random.encoder, model.encoder[stream] * factor),
        ("decoder", random.decoder, model.decoder[stream] / factor),
        ("latent_bias", random.latent_bias, model.latent_bias[stream] * factor[:, 0] / scale),
    ):
        chosen = torch.where(empty.view(-1, *[1] * (other.ndim - 1)), mine[stream], other)
        yield f"{name}.{stream}", chosen.detach().clone()
    yield f"pre_bias.{stream}", (model.pre_bias[stream] / scale).detach().clone()


def _mean_norm(cache: ActivationCache, stream: str) -> float:
    chunks = itertools.islice(complete_chunks(cache, [stream], seed=42), _CHUNKS)
    norms = [torch.linalg.vector_norm(x.tensors()[stream].float(), dim=1) for x in chunks]
    if not norms:
        raise CacheError(f"{cache.folder}: no row of stream {stream} is valid")
    return float(torch.cat(norms).mean())
