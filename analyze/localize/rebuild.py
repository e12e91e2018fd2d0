"""The encoders of a model's streams, rebuilt from what its run recorded."""

from collections.abc import Mapping, Sequence

import torch

from sparc.analyze.codes.subject import Subject
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.recorded_encoders import RecordedStream, rebuild, spec_as_typed, specs_by_stream
from sparc.common.errors import ConfigError, EncoderError
from sparc.extract.encoders import StreamSpec, parse_spec
from sparc.extract.encoders.encoder import Encoders
from sparc.extract.encoders.tower import LocalizeError


def needed_specs(subject: Subject, config: LocalizeConfig) -> dict[str, StreamSpec]:
    """The specs of the streams that are shown, and of all text streams, in the model's order.

    Raises:
        LocalizeError: The model has no such stream, or the encoder of a stream is unknown.
    """
    specs = stream_specs(subject, config.specs)
    for name in config.streams:
        if name not in specs:
            raise LocalizeError(
                f"{subject.location} has no stream {name!r}; it has {', '.join(specs)}"
            )
    return {
        name: spec
        for name, spec in specs.items()
        if spec.modality == "text" or not config.streams or name in config.streams
    }


def stream_specs(subject: Subject, given: Sequence[str]) -> dict[str, StreamSpec]:
    """The spec of every stream of a model, in the model's order.

    Args:
        subject: The model.
        given: The values of `--spec`, which replace what its run recorded.

    Raises:
        ConfigError: The model has no such stream, or it is not clear which stream is meant.
        LocalizeError: The encoder of a stream is unknown.
    """
    by_hand = _specs_by_hand(subject, given)
    trained_on = {stream.name: stream.origin.spec for stream in subject.trained_on or ()}
    specs = {}
    for name in subject.model.config.names:
        if name in by_hand:
            specs[name] = parse_spec(by_hand[name])
            continue
        try:
            specs[name] = parse_spec(trained_on.get(name, ""))
        except ConfigError as error:
            raise LocalizeError(
                f"{subject.location} does not say which encoder stream {name} comes from: give it "
                f"with {spec_as_typed(name)}"
            ) from error
    return specs


def build(
    subject: Subject,
    specs: Mapping[str, StreamSpec],
    config: LocalizeConfig,
    device: torch.device,
) -> Encoders:
    """Build the encoders of some streams; see `sparc.analyze.recorded_encoders`.

    Raises:
        LocalizeError: An encoder may not or cannot be built, or is not the one recorded.
    """
    try:
        return rebuild(
            specs,
            _recorded(subject),
            by_hand=_specs_by_hand(subject, config.specs),
            trusted=config.trust_encoders,
            artefact=subject.location,
            device=device,
        )
    except EncoderError as error:
        raise LocalizeError(str(error)) from error


def _specs_by_hand(subject: Subject, given: Sequence[str]) -> dict[str, str]:
    streams = {name: stream.modality for name, stream in _recorded(subject).items()}
    return specs_by_stream(given, streams, artefact=subject.location)


def _recorded(subject: Subject) -> dict[str, RecordedStream]:
    """What a model's run recorded of its streams, in the model's order."""
    trained_on = {stream.name: stream for stream in subject.trained_on or ()}
    recorded = {}
    for stream in subject.model.config.streams:
        info = trained_on.get(stream.name)
        modality, origin = (info.modality, info.origin) if info else (None, None)
        recorded[stream.name] = RecordedStream(stream.dim, modality, origin)
    return recorded
