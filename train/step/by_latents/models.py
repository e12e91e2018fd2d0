"""The model as one process has it, where each owns some of the latents: latents, homes, the whole.

Everything that has an entry a latent is cut into equal parts, in the order of ranks: encoders,
decoders, latent biases, their moments, the counters. Pre-biases and thresholds are everywhere.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from sparc.train.config import ModelConfig
from sparc.train.model.network import Sparc
from sparc.train.step.by_latents.peers import Peers


def own_latents(whole: Sparc, peers: Peers) -> Sparc:
    """The latents of this process as a model.

    Args:
        whole: The whole model, the same in every process.
        peers: The processes.
    """
    config = dataclasses.replace(whole.config, latents=whole.config.latents // peers.world)
    with torch.device("meta"):
        own = Sparc(config)
    part = own_part(dict(whole.named_parameters()), peers)
    for name, parameter in part.items():
        kind, _, stream = name.partition(".")
        getattr(own, kind)[stream] = nn.Parameter(parameter.detach().clone())
    own.thresholds = whole.thresholds
    return own


def home_of(own: Sparc, peers: Peers) -> Sparc:
    """The whole model as the homes of rows need it: without encoders and decoders.

    Args:
        own: The latents of this process, whose pre-biases and thresholds it shares. Its latent
            biases are zero until they are gathered.
        peers: The processes.
    """
    config = dataclasses.replace(own.config, latents=own.config.latents * peers.world)
    with torch.device("meta"):
        home = Sparc(config)
    for name in config.names:
        bias = own.latent_bias[name].detach()
        home.pre_bias[name] = own.pre_bias[name]
        home.latent_bias[name] = nn.Parameter(bias.new_zeros(config.latents), requires_grad=False)
    home.thresholds = own.thresholds
    return home


def whole_model(own: Sparc, config: ModelConfig, peers: Peers) -> Sparc | None:
    """The whole model in the first process; None in the others.

    Args:
        own: The latents of this process.
        config: The whole model's.
        peers: The processes; all of them have to call it.
    """
    state = dict(own.state_dict())
    if peers.rank:
        for _ in joined(state, peers):
            pass
        return None
    whole = Sparc(config).to(next(own.parameters()))
    into = whole.state_dict()
    for name, tensor in joined(state, peers):
        into[name].copy_(tensor)
    return whole


def take_over(own: Sparc, whole: Sparc | None, peers: Peers) -> None:
    """Set the latents of every process to those of the whole model that the first one has.

    Args:
        own: The latents of this process.
        whole: The whole model, in the first process; None in the others.
        peers: The processes; all of them have to call it.
    """
    tensors = {} if whole is None else whole.state_dict()
    for name, into in own.state_dict().items():
        given = tensors.get(name)
        if given is None:
            given = into.new_zeros(into.shape)  # only what the first one gives is looked at
            parts = given.expand(peers.world, *given.shape)
        elif is_cut(name):
            parts = torch.stack(given.chunk(peers.world))
        else:
            parts = given.expand(peers.world, *given.shape)
        into.copy_(peers.swap(parts)[0])


def is_cut(name: str) -> bool:
    """Whether a tensor of a model or of a learner's state has an entry a latent."""
    return name not in ("steps", "thresholds") and "pre_bias" not in name.split(".")[:-1]


def own_part(tensors: Mapping[str, Tensor], peers: Peers) -> dict[str, Tensor]:
    """What this process has of whole tensors, by name: views."""
    return {
        name: tensor.chunk(peers.world)[peers.rank] if is_cut(name) else tensor
        for name, tensor in tensors.items()
    }


def whole_layout(tensors: Mapping[str, Tensor], peers: Peers) -> dict[str, Tensor]:
    """What `joined` yields, by name, on device `meta`: types and shapes alone."""
    return {
        name: torch.empty(
            (peers.world * len(tensor), *tensor.shape[1:]) if is_cut(name) else tensor.shape,
            dtype=tensor.dtype,
            device="meta",
        )
        for name, tensor in tensors.items()
    }


def joined(tensors: Mapping[str, Tensor], peers: Peers) -> Iterator[tuple[str, Tensor]]:
    """The whole tensors of which every process has its part, one by one.

    All processes have to take them all, in turn; no other one exists meanwhile.

    Args:
        tensors: Those of this process, by name; the names are the same everywhere.
        peers: The processes.
    """
    for name, tensor in tensors.items():
        yield name, peers.gather(tensor.detach()) if is_cut(name) else tensor
