"""A frozen image encoder, taken apart where it pools: what the methods need to look inside.

The methods know this interface; the modules `tower` of the libraries' packages implement it.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sparc.common.errors import SparcError


class LocalizeError(SparcError):
    """A map that cannot be made: the text says why."""


class NothingInCommonError(LocalizeError):
    """A text that activates no latent, or none that the image has: nothing can be explained."""


class Places(NamedTuple):
    """What an image is to an encoder just before it is pooled.

    Attributes:
        patches: A vector for each place, (images, height, width, channels).
        prefix: Class and register tokens, (images, tokens, channels); 0 tokens where there are
            none.
    """

    patches: Tensor
    prefix: Tensor


class Tower(Protocol):
    """An image encoder whose features can be followed back to places.

    Attributes:
        blocks: The blocks that exchange tokens, up to the last one that is used; none in a
            convolutional network.
        patchwise_pooling: Whether an image of one single patch can be pooled; else the grid must
            be whole.
    """

    blocks: Sequence[nn.Module]
    patchwise_pooling: bool

    def places(self, pixels: Tensor) -> Places:
        """What prepared images, (images, 3, height, width), are before pooling."""
        ...

    def pool(self, places: Places) -> Tensor:
        """The features that the encoder makes of places, (images, dim)."""
        ...

    def attention_of(self, block: nn.Module) -> "Attention | None":
        """The attention of a block; None where its weights cannot be had."""
        ...


@runtime_checkable
class TowerEncoder(Protocol):
    """An `ImageEncoder` whose library knows its tower.

    Attributes:
        device: Where the model runs.
    """

    device: torch.device

    def tower(self) -> Tower:
        """The encoder up to its pooling and from there on.

        Raises:
            LocalizeError: The model is of a kind whose places are unknown.
        """
        ...


Record = Callable[[Tensor], Tensor]
"""Takes attention weights (images, heads, tokens, tokens) and gives them back as they enter the
product with the values."""


class Attention(Protocol):
    """The attention of one block."""

    def recording(self, record: Record) -> "contextlib.AbstractContextManager[None]":
        """While this lasts, the weights of every forward pass go through `record`."""
        ...


class SwitchedAttention:
    """An attention module of timm, whose `fused_attn` switches to plain arithmetic.

    The weights pass through its `attn_drop`, where a hook finds them.

    Args:
        module: The module.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    @staticmethod
    def is_here(module: object) -> bool:
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

    It keeps its weights to itself, so a hook makes them again from the inputs and puts in the
    place of the output the same output, made from the weights.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.MultiheadAttention) -> None:
        self._module = module

    @contextlib.contextmanager
    def recording(self, record: Record) -> Iterator[None]:
        """See `Attention.recording`."""

        def again(
            _module: nn.Module, inputs: tuple[Tensor, ...], _output: object
        ) -> tuple[Tensor, None]:
            return self._attend(inputs[0], record), None

        handle = self._module.register_forward_hook(again)
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
        raise LocalizeError(f"{what}: {count} tokens are no square of patches")
    return side, side


def no_prefix(patches: Tensor) -> Tensor:
    """The prefix of an encoder without class and register tokens."""
    return patches.new_zeros(len(patches), 0, patches.shape[-1])


@contextlib.contextmanager
def replaced_input(module: nn.Module, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While this lasts, the first input of a module is what `replace` makes of it."""

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (replace(inputs[0]), *inputs[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def with_gradient(value: Tensor) -> Tensor:
    """The value itself, from here on with a gradient (weights are frozen: nothing else has one)."""
    return value if value.requires_grad else value.detach().requires_grad_()


def float32(device: torch.device) -> torch.autocast:
    """Maps are made in full precision everywhere: gradients of bfloat16 are coarse."""
    return torch.autocast(device.type, enabled=False)
