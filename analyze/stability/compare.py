"""From two runs to the tables of what they have in common."""

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from sparc.analyze.codes.subject import Subject, open_subject
from sparc.analyze.report.output import write_table
from sparc.analyze.report.tables import about_command, described
from sparc.analyze.stability.config import StabilityConfig
from sparc.analyze.stability.match import figures, match, random_directions, table
from sparc.common.errors import RunError
from sparc.common.streams.origin import encoder_difference
from sparc.train.model.network import Sparc


class Stability(NamedTuple):
    """What two runs have in common.

    Attributes:
        figures: Of schema `SCHEMA`.
        matching: Of `MATCHING_SCHEMA`: which latent of one run is which of the other.
        notes: What was left out, and why.
        same_beginning: Whether both runs began with the same directions: what they have in common
            may then be that. False where it is not known.
    """

    figures: pa.Table
    matching: pa.Table
    notes: tuple[str, ...]
    same_beginning: bool


def compare(first: str, second: str, config: StabilityConfig) -> Stability:
    """Match the latents of two runs.

    Args:
        first: A finished run's folder, a saved model's folder, or a hub repository.
        second: Another one.
        config: The settings.

    Raises:
        RunError: One of them is no model, or their streams come from different encoders.
    """
    a, b = open_subject(first), open_subject(second)
    streams = common_streams(a, b)
    trained = [directions_of(x.model, streams) for x in (a, b)]
    matching = match(*trained)
    rows = [figures("trained", matching)]
    notes = list(_notes(a, b, streams))
    same_beginning = False
    if a.untrained is not None and b.untrained is not None:
        beginnings = [directions_of(x, streams) for x in (a.untrained, b.untrained)]
        rows.append(figures("untrained", match(*beginnings)))
        same_beginning = _equal(*beginnings)
    if same_beginning:
        notes.append(
            "what both runs have in common may be their beginning, since they have the same seed: "
            "compare runs of two seeds"
        )
    rows.append(figures("random", match(*random_directions(trained, config.seed))))
    result = Stability(pa.concat_tables(rows), table(matching), tuple(notes), same_beginning)
    if config.out is not None:
        about = {
            "runs": [_about_run(x) for x in (a, b)],
            "notes": notes,
            "command": about_command("stability", config),
        }
        for name, content in (("stability", result.figures), ("matching", result.matching)):
            write_table(
                posixpath.join(config.out, f"{name}.parquet"), described(content, name, about)
            )
    return result


def _about_run(subject: Subject) -> dict[str, Any]:
    names = list(subject.model.config.names)
    return {"run": subject.location, "model_sha256": subject.digest, "streams": names}


def directions_of(model: Sparc, streams: list[str]) -> dict[str, Tensor]:
    """By stream, the decoder's directions, (latents, dim)."""
    return {stream: model.decoder[stream].detach() for stream in streams}


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(first[stream], second[stream]) for stream in first)


def common_streams(first: Subject, second: Subject) -> list[str]:
    """The streams that two models have in common.

    Raises:
        RunError: There are none, or one comes from different encoders.
    """
    others = {stream.name: stream for stream in second.model.config.streams}
    common = [stream for stream in first.model.config.streams if stream.name in others]
    if not common:
        raise RunError(
            f"{first.location} and {second.location} have no stream in common: "
            f"{', '.join(first.model.config.names)} and {', '.join(others)}"
        )
    for stream in common:
        if stream.dim != others[stream.name].dim:
            _refuse(stream.name, first, second, "dim", stream.dim, others[stream.name].dim)
    names = [stream.name for stream in common]
    origins = [
        {stream.name: stream.origin for stream in run.trained_on or () if stream.name in names}
        for run in (first, second)
    ]
    for name in names:
        if name in origins[0] and name in origins[1]:
            mine, other = (by_stream[name] for by_stream in origins)
            if (difference := encoder_difference(mine, other)) is not None:
                _refuse(name, first, second, *difference)
    return names


def _refuse(stream: str, first: Subject, second: Subject, key: str, mine: Any, other: Any) -> None:
    raise RunError(
        f"{first.location} and {second.location} know different encoders as stream {stream} "
        f"({key}: {mine!r} and {other!r}): directions of different spaces cannot be compared"
    )


def _notes(first: Subject, second: Subject, streams: list[str]) -> Iterator[str]:
    names = {*first.model.config.names, *second.model.config.names}
    if absent := sorted(names.difference(streams)):
        yield f"streams that only one of them has are left out: {', '.join(absent)}"
    for subject in (first, second):
        if subject.untrained is None:
            unknown = ", and whether both know the same encoders could not be checked"
            yield (
                f"{subject.location} is a saved model without its run: the untrained control is "
                f"left out{'' if subject.encoders_are_known else unknown}"
            )
