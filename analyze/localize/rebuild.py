"""The encoders of a model's streams, rebuilt from what its run recorded."""

from collections.abc import Mapping, Sequence

import torch

from sparc.analyze.codes.subject import Subject
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.recorded_encoders import RecordedStream, rebuild
from sparc.common.errors import ConfigError, EncoderError
from sparc.extract.encoders import StreamSpec, parse_spec
from sparc.extract.encoders.encoder import Encoders
from sparc.extract.encoders.tower import LocalizeError


def parse_specs(texts: Sequence[str]) -> dict[str, StreamSpec]:
    """Parse settings of the form NAME=SPEC.

    Raises:
        ConfigError: One has another form.
    """
    specs = {}
    for text in texts:
        name, equals, spec = text.partition("=")
        if not equals:
            raise ConfigError(f"spec must be NAME=SPEC, not {text!r}")
        specs[name] = parse_spec(spec)
    return specs


def needed_specs(subject: Subject, config: LocalizeConfig) -> dict[str, StreamSpec]:
    """The specs of the streams that are shown, and of all text streams, in the model's order.

    Raises:
        LocalizeError: The model has no such stream, or the encoder of a stream is unknown.
    """
    specs = stream_specs(subject, parse_specs(config.specs))
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


def stream_specs(subject: Subject, given: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
    """The spec of every stream of a model, in the model's order.

    Args:
        subject: The model.
        given: Specs that replace those that its run recorded.

    Raises:
        LocalizeError: The model has no such stream, or the encoder of a stream is unknown.
    """
    names = subject.model.config.names
    for name in given:
        if name not in names:
            raise LocalizeError(
                f"{subject.location} has no stream {name!r}; it has {', '.join(names)}"
            )
    recorded = {stream.name: stream.origin.spec for stream in subject.trained_on or ()}
    specs = {}
    for name in names:
        if name in given:
            specs[name] = given[name]
            continue
        try:
            specs[name] = parse_spec(recorded.get(name, ""))
        except ConfigError as error:
            raise LocalizeError(
                f"{subject.location} does not say which encoder stream {name} comes from: give it "
                f"with --spec '{name}=SPEC'"
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
    trained_on = {stream.name: stream for stream in subject.trained_on or ()}
    recorded = {}
    for stream in subject.model.config.streams:
        info = trained_on.get(stream.name)
        modality, origin = (info.modality, info.origin) if info else (None, None)
        recorded[stream.name] = RecordedStream(stream.dim, modality, origin)
    try:
        return rebuild(
            specs,
            recorded,
            by_hand=parse_specs(config.specs),
            trusted=config.trust_encoders,
            artefact=subject.location,
            device=device,
        )
    except EncoderError as error:
        raise LocalizeError(str(error)) from error
