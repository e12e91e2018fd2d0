"""The subject of a report: a trained model, and the streams of a cache that it can read.

A cache from other encoders than those that the model was trained on is refused.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sparc.common.cache.reader import ActivationCache
from sparc.common.config import to_mapping
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.files.shipped import located
from sparc.common.parsing import parse_object
from sparc.common.streams.info import StreamInfo
from sparc.common.streams.origin import encoder_difference
from sparc.train.derive.source import open_source
from sparc.train.loading import load_model, load_untrained
from sparc.train.model import tensors
from sparc.train.model.files import CONFIG_FILE
from sparc.train.model.network import Sparc
from sparc.train.run.run_folder import RunRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A model and what is known about its training.

    Attributes:
        location: The run, saved model or hub repository that it came from.
        model: The trained model, in evaluation mode.
        untrained: The model at step 0 of its run; None for a saved model without a run.
        digest: SHA-256 of the trained weights.
        trained_on: The model's streams as the caches it learned from describe them; None for a
            saved model that does not say.
    """

    location: str
    model: Sparc
    untrained: Sparc | None
    digest: str
    trained_on: tuple[StreamInfo, ...] | None

    @property
    def encoders_are_known(self) -> bool:
        """Whether it is known of every stream what made the features that it was trained on."""
        known = {stream.name for stream in self.trained_on or ()}
        return known.issuperset(self.model.config.names)


def open_subject(location: str | Path) -> Subject:
    """Load the model of a finished run, of a saved model's folder, or of a hub repository.

    Raises:
        RunError: It does not exist, is damaged, or the run has not finished.
    """
    location = located(location, "run")
    untrained: Sparc | None = None
    trained_on: tuple[StreamInfo, ...] | None
    if _is_run(location):
        model, untrained = load_model(location), load_untrained(location)
        trained_on = RunRecord.read(Folder(location)).data.streams
    else:
        source = open_source(location)
        model, trained_on = source.model, tuple(source.streams()) or None
    return Subject(
        location=location,
        model=model,
        untrained=untrained,
        digest=digest(model),
        trained_on=trained_on,
    )


def choose_streams(
    subject: Subject, cache: ActivationCache, names: Sequence[str] = ()
) -> tuple[str, ...]:
    """The streams to analyse, in the model's order: those of both model and cache.

    Args:
        subject: The model.
        cache: The cache.
        names: Which of them; all if empty.

    Raises:
        CacheError: A stream that was asked for is missing, none is left, or one was made by
            another encoder than the stream of the same name that the model was trained on.
    """
    config = subject.model.config
    for name in names:
        if name not in config.names:
            raise CacheError(
                f"{subject.location} has no stream {name!r}; it has {', '.join(config.names)}"
            )
    cache.choose(names)
    chosen = tuple(
        name for name in config.names if name in cache.stream_names and (not names or name in names)
    )
    if not chosen:
        raise CacheError(
            f"{cache.folder} has none of the streams of {subject.location}: it has "
            f"{', '.join(cache.stream_names)}, the model {', '.join(config.names)}"
        )
    dims = {stream.name: stream.dim for stream in config.streams}
    trained_on = {stream.name: stream for stream in subject.trained_on or ()}
    for name in chosen:
        stream = cache.streams[name]
        if stream.dim != dims[name]:
            raise CacheError(
                f"{cache.folder}: features of stream {name} have {stream.dim} values, those that "
                f"{subject.location} was trained on {dims[name]}: they come from another encoder"
            )
        if name in trained_on:
            _refuse_other_encoder(cache, subject, stream, trained_on[name])
    cache.require_complete(chosen)
    return chosen


def _refuse_other_encoder(
    cache: ActivationCache, subject: Subject, stream: StreamInfo, wanted: StreamInfo
) -> None:
    difference = encoder_difference(wanted.origin, stream.origin)
    if difference is not None:
        what, then, here = difference
        raise CacheError(
            f"{cache.folder}: stream {stream.name} was made by another encoder than the one "
            f"that {subject.location} was trained on ({what}: {then!r} then, {here!r} here): "
            "extract it with the same encoder"
        )


def _is_run(location: str) -> bool:
    """Whether a folder is, or claims to be, a run: a saved model has no `format`."""
    folder = Folder(location)
    if not folder.exists(CONFIG_FILE):
        return False
    try:
        return "format" in parse_object(folder.read(CONFIG_FILE))
    except ValueError:
        return True  # damaged: reading the run says how


def digest(model: Sparc) -> str:
    """SHA-256 of a model's configuration and weights, as its file carries it."""
    return tensors.digest(model.state_dict(), about=to_mapping(model.config))
