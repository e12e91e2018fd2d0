"""A frozen image encoder, split where it pools: what localization needs to look inside.

The methods of localization know this interface; the libraries' modules `tower` implement it.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sparc.common.errors import SparcError


class LocalizeError(SparcError):
    """A map cannot be made: the message says why."""


class NothingInCommonError(LocalizeError):
    """A text activates no latent, or none that the image has: there is nothing to localize."""


class Places(NamedTuple):
    """The features of images just before they are pooled.

    Attributes:
        patches: A vector per place of the grid, (images, height, width, channels).
        prefix: Class and register tokens, (images, tokens, channels); tokens may be 0.
    """

    patches: Tensor
    prefix: Tensor


class Tower(Protocol):
    """An image encoder whose features can be traced back to places.

    Attributes:
        blocks: The attention blocks, up to the last one that is used; none in a convolutional
            network.
        patchwise_pooling: Whether a single patch can be pooled; otherwise only the whole grid can.
    """

    blocks: Sequence[nn.Module]
    patchwise_pooling: bool

    def places(self, pixels: Tensor) -> Places:
        """Prepared images, (images, 3, height, width), encoded up to the pooling."""
        ...

    def pool(self, places: Places) -> Tensor:
        """The features of these places, (images, dim): the rest of the encoder."""
        ...

    def attention_of(self, block: nn.Module) -> "Attention | None":
        """The attention of a block; None where its weights are not accessible."""
        ...


@runtime_checkable
class TowerEncoder(Protocol):
    """An `ImageEncoder` whose library knows its tower.

    Attributes:
        device: Where the model runs.
    """

    device: torch.device

    def tower(self) -> Tower:
        """The encoder, split where it pools.

        Raises:
            LocalizeError: It is not known where models of this kind pool.
        """
        ...


Record = Callable[[Tensor], Tensor]
"""Takes attention weights, (images, heads, tokens, tokens), and returns those that the values are
multiplied by."""


class Attention(Protocol):
    """The attention of one block."""

    def recording(self, record: Record) -> "contextlib.AbstractContextManager[None]":
        """Context in which the weights of every forward pass go through `record`."""
        ...


class SwitchedAttention:
    """An attention module of timm, whose `fused_attn` switches to plain arithmetic.

    The weights pass through its `attn_drop`, to which a hook is added.

    Args:
        module: The module.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    @staticmethod
    def fits(module: object) -> bool:
        """Whether a module has that switch and that dropout."""
        return hasattr(module, "fused_attn") and isinstance(
            getattr(module, "attn_drop", None), nn.Module
        )

    @contextlib.contextmanager
    def recording(self, record: Record) -> Iterator[None]:
        """See `Attention.recording`."""
        module, dropout = self._module, self._module.attn_drop
        before = module.fused_attn
        handle = dropout.register_forward_hook(lambda _module, _inputs, weights: record(weights))
        module.fused_attn = False
        try:
            yield
        finally:
            module.fused_attn = before
            handle.remove()


class TorchAttention:
    """An `nn.MultiheadAttention` over one sequence, as in open_clip's own towers.

    It does not give its weights away, so a hook computes them again from the inputs, and replaces
    the output by the same output, computed from these weights.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.MultiheadAttention) -> None:
        self._module = module

    @contextlib.contextmanager
    def recording(self, record: Record) -> Iterator[None]:
        """See `Attention.recording`."""

        def recompute(
            _module: nn.Module, inputs: tuple[Tensor, ...], _output: object
        ) -> tuple[Tensor, None]:
            return self._attend(inputs[0], record), None

        handle = self._module.register_forward_hook(recompute)
        try:
            yield
        finally:
            handle.remove()

    def _attend(self, tokens: Tensor, record: Record) -> Tensor:
        module = self._module
        if not module.batch_first:
            tokens = tokens.transpose(0, 1)
        images, count, width = tokens.shape
        projected = nn.functional.linear(tokens, module.in_proj_weight, module.in_proj_bias)
        # (3, images, heads, tokens, width of a head)
        split = projected.reshape(images, count, 3, module.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        attended = record(logits.softmax(-1)) @ value
        output: Tensor = module.out_proj(attended.transpose(1, 2).reshape(images, count, width))
        return output if module.batch_first else output.transpose(0, 1)


def square_or_fail(count: int, what: str) -> tuple[int, int]:
    """The grid of a square number of patches.

    Raises:
        LocalizeError: The number is not a square.
    """
    side = int(count**0.5 + 0.5)
    if side * side != count:
        raise LocalizeError(f"{what}: {count} tokens do not form a square of patches")
    return side, side


def no_prefix(patches: Tensor) -> Tensor:
    """The prefix of an encoder without class and register tokens."""
    return patches.new_zeros(len(patches), 0, patches.shape[-1])


@contextlib.contextmanager
def replaced_input(module: nn.Module, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Context in which the first input of a module passes through `replace`."""

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (replace(inputs[0]), *inputs[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def with_gradient(value: Tensor) -> Tensor:
    """The value, with gradients from here on (weights are frozen: nothing else has them)."""
    return value if value.requires_grad else value.detach().requires_grad_()


def float32(device: torch.device) -> torch.autocast:
    """Maps are made in full precision everywhere: gradients of bfloat16 are coarse."""
    return torch.autocast(device.type, enabled=False)
