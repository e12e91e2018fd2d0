"""Encoders that an artefact recorded, built again: only with consent, and held to the record.

A spec in a cache or a run names a place that whoever made the artefact chose: a file, a folder or
a repository of a hub. SPARC runs no code from there, but it reads what lies there with libraries of
many formats, and asks a hub for it. So such a place is opened only if the user trusts the artefact
(`--trust-encoders`) or names the encoder by hand (`--spec`). Names in a library's own registry are
no such place: the library says where their weights lie. Python code of a user's own, which a spec
of `python:` names, is never run because an artefact names it, whether or not it is trusted.

Whatever is built must be the encoder that the artefact recorded: `encoder_difference` tells, by the
digests of the weights and of what is computed. This pins a repository of a hub as well.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch

from sparc.common.errors import ConfigError, EncoderError, setting
from sparc.common.files.shipped import ships
from sparc.common.streams.info import Modality
from sparc.common.streams.origin import StreamOrigin, encoder_difference
from sparc.common.text import printable
from sparc.extract.encoders import StreamSpec, build_encoders, parse_spec
from sparc.extract.encoders.encoder import Encoder, Encoders

BuildEncoders = Callable[[dict[str, StreamSpec], torch.device], Encoders]


class RecordedStream(NamedTuple):
    """What an artefact says of a stream.

    Attributes:
        dim: Width of a feature.
        modality: What the encoder read; None where nothing says so.
        origin: What made the features; None where nothing says so.
    """

    dim: int
    modality: Modality | None
    origin: StreamOrigin | None


def specs_by_stream(
    texts: Sequence[str], streams: Mapping[str, Modality | None], *, artefact: str
) -> dict[str, str]:
    """What `--spec` gives by hand, by stream: each `NAME=SPEC`, or a bare `SPEC`.

    A bare one is for the only stream there is, or the only one that reads what its encoder does.

    Args:
        texts: The values of `--spec`.
        streams: The streams that may be meant, and what each reads; None where nothing says so.
        artefact: What has these streams, for messages.

    Raises:
        ConfigError: There is no such stream, a bare spec may be for several, or a stream has two.
    """
    specs: dict[str, str] = {}
    for text in texts:
        name, equals, spec = text.partition("=")
        if not equals or ":" in name:  # no name has a colon, and every spec begins with one
            name, spec = _only_reader(text, streams), text
        if name not in streams:
            raise ConfigError(
                f"{setting('--spec', 'specs=')} {text}: {artefact} takes encoders of "
                f"{', '.join(streams)}, not of {name!r}"
            )
        if name in specs:
            raise ConfigError(
                f"{setting('--spec', 'specs=')} gives stream {name} two encoders: {specs[name]} "
                f"and {spec}"
            )
        specs[name] = spec
    return specs


def _only_reader(spec: str, streams: Mapping[str, Modality | None]) -> str:
    able = list(streams)
    if len(able) > 1:
        wanted = parse_spec(spec).modality
        able = [name for name, modality in streams.items() if modality in (wanted, None)]
    if len(able) != 1:
        raise ConfigError(
            f"say with {spec_as_typed('NAME', spec)} which stream it is for: "
            f"{', '.join(able or streams)}"
        )
    return able[0]


def rebuild(
    specs: Mapping[str, StreamSpec],
    recorded: Mapping[str, RecordedStream],
    *,
    by_hand: Collection[str],
    trusted: bool,
    artefact: str,
    device: torch.device,
    build: BuildEncoders = build_encoders,
) -> Encoders:
    """Build the encoders of some streams.

    Args:
        specs: What to build, by stream.
        recorded: What is known of these streams.
        by_hand: The streams whose specs the user gave; the others come from the artefact.
        trusted: Whether the user trusts the artefact's specs.
        artefact: The artefact's location, for messages.
        device: Where the encoders run.
        build: Builds encoders by stream.

    Raises:
        EncoderError: A spec of the artefact names a place and the user does not trust it, or names
            code; an encoder cannot be built, or it is another one than the artefact recorded.
    """
    foreign = {
        name: spec for name, spec in specs.items() if name not in by_hand and spec.place is not None
    }
    if code := {name: spec for name, spec in foreign.items() if spec.runs_code}:
        raise EncoderError(_refusal_of_code(code, artefact))
    if foreign and not trusted:
        raise EncoderError(_question(foreign, artefact))
    for name, spec in foreign.items():
        origin = recorded[name].origin
        if origin is None or not origin.weights_sha256:
            raise EncoderError(
                f"{artefact} names {_quoted(name, spec)} without a digest of its weights, so that "
                f"nothing tells whether it is that: name it by hand with {spec_as_typed(name)}"
            )
    try:
        encoders = build(dict(specs), device)
    except EncoderError as error:
        where = f"; if it lies elsewhere now, say with {setting('--spec', 'specs=')} where"
        if ships(artefact):
            where = f"; {_of_what_ships()}"
        advice = "" if by_hand else where
        raise EncoderError(f"{error}{advice}") from error
    for name, spec in specs.items():
        for fault in _faults(spec, encoders[name], recorded[name]):
            raise EncoderError(
                f"{printable(str(spec))} is not the encoder that made stream {name} of "
                f"{artefact} ({fault}): give the same one with {spec_as_typed(name)}"
            )
    return encoders


def _question(foreign: Mapping[str, StreamSpec], artefact: str) -> str:
    if ships(artefact):
        return _of_what_ships()
    named = ", ".join(_quoted(name, spec) for name, spec in foreign.items())
    return (
        f"{artefact} names encoders at places that its maker chose: {named}. If you trust who made "
        f"it, add {setting('--trust-encoders', 'trust_encoders=True')}; else name your own with "
        f"{spec_as_typed()}"
    )


def _of_what_ships() -> str:
    """The way out where somebody asks what ships with a text or an image of his own."""
    trust = setting("--trust-encoders", "trust_encoders=True")
    return (
        "what ships as demo has no encoders for texts and images of your own: `make demo` in a "
        f"clone of SPARC makes them; ask there, with {trust}"
    )


def _refusal_of_code(code: Mapping[str, StreamSpec], artefact: str) -> str:
    named = ", ".join(_quoted(name, spec) for name, spec in code.items())
    name, spec = next(iter(code.items()))
    return (
        f"{artefact} names Python code of its maker's machine: {named}. SPARC runs no code that an "
        "artefact names: if it is yours, look at it and name it by hand with "
        f"{spec_as_typed(name, printable(str(spec)))}"
    )


def spec_as_typed(name: str = "NAME", spec: str = "SPEC") -> str:
    """How a person types an encoder for a stream."""
    return setting(f"--spec '{name}={spec}'", f'specs={{"{name}": "{spec}"}}')


def _quoted(name: str, spec: StreamSpec) -> str:
    return f"'{name}={printable(str(spec))}'"


def _faults(spec: StreamSpec, encoder: Encoder, recorded: RecordedStream) -> Iterator[str]:
    """Why an encoder is not the one that was recorded, if so."""
    if recorded.modality not in (None, spec.modality):
        yield f"modality: {recorded.modality} then, {spec.modality} now"
    if encoder.dim != recorded.dim:
        yield f"values of a feature: {recorded.dim} then, {encoder.dim} now"
    # What was extracted elsewhere has no digest: then the user alone knows.
    if recorded.origin is not None and recorded.origin.weights_sha256:
        difference = encoder_difference(recorded.origin, encoder.origin)
        if difference is not None:
            yield f"{difference.what}: {difference.first!r} then, {difference.second!r} now"
