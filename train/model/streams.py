"""A model of some of the streams of another one, perhaps under other names."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from sparc.common.errors import SparcError
from sparc.train.config import StreamShape
from sparc.train.model.network import Sparc


def take_streams(
    model: Sparc, streams: Sequence[str] = (), rename: Mapping[str, str] | None = None
) -> Sparc:
    """A model of some of a model's streams; it has copies of the weights.

    Independent codes of these streams stay as they are, bit for bit. Joint ones change where
    streams are left out: fewer logits are summed.

    Args:
        model: The model.
        streams: The streams to take, in the order that they are to have; all by default.
        rename: New names by present ones; other streams keep theirs.

    Raises:
        SparcError: The model has no such stream, one is taken twice, or two would have one name.
    """
    new_names, before = dict(rename or {}), model.config.names
    taken = tuple(streams) or before
    for name in (*taken, *new_names):
        model.check_stream(name)
    twice = sorted({name for name in taken if taken.count(name) > 1})
    if twice:
        raise SparcError(f"stream {twice[0]} is given twice")
    for name in new_names:
        if name not in taken:
            raise SparcError(f"stream {name} is renamed, but only {', '.join(taken)} taken")
    after = [new_names.get(name, name) for name in taken]
    if len(set(after)) < len(after):
        raise SparcError(f"streams would not have different names: {', '.join(after)}")
    dims = {stream.name: stream.dim for stream in model.config.streams}
    shapes = tuple(StreamShape(new, dims[old]) for old, new in zip(taken, after, strict=True))
    result = Sparc(dataclasses.replace(model.config, streams=shapes))
    with torch.no_grad():
        for old, new in zip(taken, after, strict=True):
            for weights in ("encoder", "decoder", "pre_bias", "latent_bias"):
                getattr(result, weights)[new].copy_(getattr(model, weights)[old])
        if result.thresholds is not None and model.thresholds is not None:
            result.thresholds[1:] = model.thresholds[1:][[before.index(name) for name in taken]]
            total = model.threshold(taken)
            if total is not None:
                result.thresholds[0] = total
    return result.eval().requires_grad_(False)
