"""The encoders behind a model's streams, built again from what its run recorded."""

from collections.abc import Mapping, Sequence

import torch

from sparc.analyze.localize.tower import LocalizeError
from sparc.analyze.subject import Subject
from sparc.common.errors import ConfigError, EncoderError
from sparc.common.streams import DECISIVE, StreamSpec
from sparc.extract.encoders import build_encoders
from sparc.extract.encoders.base import Encoder


def parse_specs(texts: Sequence[str]) -> dict[str, StreamSpec]:
    """Read settings of the form NAME=SPEC.

    Raises:
        ConfigError: One is not.
    """
    specs = {}
    for text in texts:
        name, equals, spec = text.partition("=")
        if not equals:
            raise ConfigError(f"spec must be NAME=SPEC, not {text!r}")
        specs[name] = StreamSpec.parse(spec)
    return specs


def stream_specs(subject: Subject, given: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
    """The spec of every stream of a model, in the model's order.

    Args:
        subject: The model.
        given: Specs that replace those that its run recorded.

    Raises:
        LocalizeError: The model has no such stream, or nothing says what a stream comes from.
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
            specs[name] = StreamSpec.parse(recorded.get(name, ""))
        except ConfigError as error:
            raise LocalizeError(
                f"{subject.location} does not say which encoder stream {name} comes from: give it "
                f"with --spec '{name}=SPEC'"
            ) from error
    return specs


def build(
    subject: Subject, specs: Mapping[str, StreamSpec], device: torch.device
) -> dict[str, Encoder]:
    """Build the encoders of some streams, and hold them to what the run recorded.

    Raises:
        LocalizeError: An encoder cannot be built, or it is another one.
    """
    try:
        encoders = build_encoders(specs, device)
    except EncoderError as error:
        raise LocalizeError(
            f"{error}; if the encoder lies elsewhere now, say where with --spec 'NAME=SPEC'"
        ) from error
    dims = {stream.name: stream.dim for stream in subject.model.config.streams}
    recorded = {stream.name: stream.origin for stream in subject.trained_on or ()}
    for name, encoder in encoders.items():
        if encoder.dim != dims[name]:
            raise LocalizeError(
                f"stream {name}: {specs[name]} makes features of {encoder.dim} values, the model "
                f"reads {dims[name]}: give the right encoder with --spec '{name}=SPEC'"
            )
        origin = recorded.get(name)
        for key in DECISIVE if origin is not None and origin.weights_sha256 else ():
            then, now = getattr(origin, key), getattr(encoder.origin, key)
            if then != now:
                raise LocalizeError(
                    f"stream {name}: {specs[name]} is another encoder than the one that "
                    f"{subject.location} was trained on ({key}: {then!r} then, {now!r} now): give "
                    f"the right one with --spec '{name}=SPEC'"
                )
    return encoders
