"""The features of an image encoder by place: its patches, averaged over each place of a grid."""

import dataclasses
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from sparc.common.errors import EncoderError
from sparc.common.text import printable
from sparc.extract.encoders.encoder import ImageEncoder
from sparc.extract.encoders.patches.spec import PatchSpec
from sparc.extract.encoders.precision import autocast
from sparc.extract.encoders.tower import Attention, LocalizeError, Places, Tower, TowerEncoder


class PatchEncoder:
    """An image encoder that has a feature for each place of an image.

    The feature of a place is the mean of the patches in it, as they are before the model pools
    them; the feature of a whole image, for which a search by image asks, is the mean of all of its
    patches. Where the grid is the encoder's own, a place is a patch.

    Args:
        spec: What to build.
        inner: The encoder of whole images.

    Attributes:
        dim: Width of a feature.
        origin: What the stream's attributes record.
        grid: The places.
        device: Where the model runs.

    Raises:
        EncoderError: The encoder gives no features of places, or of fewer places.
    """

    def __init__(self, spec: PatchSpec, inner: ImageEncoder) -> None:
        if not isinstance(inner, TowerEncoder):
            raise EncoderError(
                f"{printable(str(spec))}: the library of this encoder gives no features of places"
            )
        self._spec, self._inner = spec, inner
        self.grid = spec.grid
        self.device = inner.device
        try:
            self._tower = PatchTower(inner.tower())
            with torch.inference_mode():
                size = inner.origin.input_size
                places = self._tower.places(torch.zeros(1, 3, *size, device=inner.device))
        except LocalizeError as error:
            raise EncoderError(f"{printable(str(spec))}: {error}") from error
        _, rows, columns, self.dim = places.patches.shape
        if rows < self.grid.rows or columns < self.grid.columns:
            raise EncoderError(
                f"{printable(str(spec))}: the encoder has {rows} x {columns} patches, fewer than "
                f"the {self.grid.rows} x {self.grid.columns} places asked for: use places={rows}x"
                f"{columns} or less"
            )
        self.origin = dataclasses.replace(
            inner.origin,
            spec=str(spec),
            pooling=f"patches before pooling, averaged over each of {self.grid} places of an image",
        )

    def prepare(self, image: Image.Image) -> Tensor:
        """See `ImageEncoder.prepare`."""
        return self._inner.prepare(image)

    def encode(self, pixels: Tensor) -> Tensor:
        """Features of whole images: (images, dim) float32, on the device."""
        with torch.inference_mode(), autocast(self.device):
            return self._tower.pool(self._patches(pixels)).float()

    def encode_places(self, pixels: Tensor) -> Tensor:
        """Features by place: (images, places, dim) float32, on the device."""
        with torch.inference_mode(), autocast(self.device):
            patches = self._patches(pixels).patches.float()
        by_place = F.adaptive_avg_pool2d(patches.permute(0, 3, 1, 2), self.grid)
        return by_place.flatten(2).transpose(1, 2)

    def tower(self) -> Tower:
        """See `TowerEncoder.tower`."""
        return self._tower

    def _patches(self, pixels: Tensor) -> Places:
        return self._tower.places(pixels.to(self.device, non_blocking=True))


class PatchTower:
    """A tower whose feature is the mean of its patches.

    Args:
        inner: The tower of the encoder of whole images.

    Attributes:
        blocks: See `Tower`.
        patchwise_pooling: See `Tower`.
    """

    patchwise_pooling = True

    def __init__(self, inner: Tower) -> None:
        self._inner = inner
        self.blocks: Sequence[nn.Module] = inner.blocks

    def places(self, pixels: Tensor) -> Places:
        """See `Tower.places`."""
        return self._inner.places(pixels)

    def pool(self, places: Places) -> Tensor:
        """See `Tower.pool`."""
        return places.patches.mean((1, 2))

    def attention_of(self, block: nn.Module) -> Attention | None:
        """See `Tower.attention_of`."""
        return self._inner.attention_of(block)
