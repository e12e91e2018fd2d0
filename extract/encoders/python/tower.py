"""A user's model of images, split where it pools, as its own two functions say."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from sparc.extract.encoders.tower import Attention, Places, no_prefix


class OwnTower:
    """A model of a user's own as a `Tower`.

    Args:
        places: Features before pooling, with or without prefix.
        pool: The features of what `places` gives.

    Attributes:
        blocks: See `Tower`: none, since the model's attention is not known.
        patchwise_pooling: See `Tower`.
    """

    blocks: Sequence[nn.Module] = ()
    patchwise_pooling = False

    def __init__(
        self, places: "Callable[[Tensor], Tensor | Places]", pool: Callable[[Any], Tensor]
    ) -> None:
        self._places = places
        self._pool = pool
        self._has_prefix = False

    def places(self, pixels: Tensor) -> Places:
        """See `Tower.places`."""
        given = self._places(pixels)
        self._has_prefix = isinstance(given, Places)
        return given if isinstance(given, Places) else Places(given, no_prefix(given))

    def pool(self, places: Places) -> Tensor:
        """See `Tower.pool`."""
        return self._pool(places if self._has_prefix else places.patches)

    def attention_of(self, block: nn.Module) -> Attention | None:  # noqa: ARG002
        """See `Tower.attention_of`."""
        return None
