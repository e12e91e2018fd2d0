"""Opens an image encoder as a tower, and checks that the tower computes the encoder's feature."""

import torch
from torch.nn import functional as F

from sparc.common.text import shorten
from sparc.extract.encoders.encoder import ImageEncoder
from sparc.extract.encoders.tower import LocalizeError, Tower, TowerEncoder

_SAME_FEATURE = 0.99
"""Least cosine of a feature with itself, computed in another precision."""


def open_tower(encoder: ImageEncoder) -> Tower:
    """The tower of an image encoder.

    Raises:
        LocalizeError: The encoder's library knows no tower, the encoder gives no features of
            several places, or the tower's feature is not the encoder's.
    """
    if not isinstance(encoder, TowerEncoder):
        raise LocalizeError(
            f"{shorten(encoder.origin.spec, 80)} gives no features of places: its library knows no "
            "tower of it"
        )
    tower = encoder.tower()
    size = encoder.origin.input_size
    count = 3 * size[0] * size[1]
    shades = torch.linspace(-1, 1, count, device=encoder.device)
    pixels = shades.reshape(1, 3, *size)
    with torch.no_grad():
        places = tower.places(pixels)
        height, width = places.patches.shape[1:3]
        if height * width < 2:
            raise LocalizeError(
                f"{shorten(encoder.origin.spec, 80)} has a single place for the whole image"
            )
        # The tower must give the feature that the dictionary reads; on a GPU the encoder itself
        # computes in bfloat16.
        likeness = F.cosine_similarity(tower.pool(places).float(), encoder.encode(pixels))
        if float(likeness) < _SAME_FEATURE:
            raise LocalizeError(
                f"{shorten(encoder.origin.spec, 80)} pools its places in an unknown way"
            )
    return tower
