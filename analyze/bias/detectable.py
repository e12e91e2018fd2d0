"""The smallest association that could have been found: what a small sample cannot show.

This module must not know codes.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparc.analyze.bias.latents import LEAST_IMAGES
from sparc.analyze.maths.exact_tests import upper_tail


def least_images(held: int, known: int, tested: int, rate: float) -> int | None:
    """On how many images with the attribute a latent must be active at least to be found.

    This is the best case: it is active on no more images without the attribute than it takes to be
    tested at all, and no other latent is found. Strata, which make tests weaker still, are not
    regarded.

    Args:
        held: Images with the attribute.
        known: All known images.
        tested: Latents that are tested in the stream.
        rate: False discovery rate (FDR) level.

    Returns:
        The number; None if not even a latent that is active on all of them would be found.
    """
    both = np.arange(1, held + 1)
    active = np.maximum(both, LEAST_IMAGES)
    p = 2 * upper_tail(both, known, active, held)
    enough = np.flatnonzero((p <= rate / max(tested, 1)) & (active <= known))
    return int(both[enough[0]]) if len(enough) else None


def tested_latents(associations: pa.Table, stream: str) -> int:
    """How many latents of a stream were tested."""
    own = associations.filter((pc.field("stream") == stream) & (pc.field("control") == "trained"))
    return int(pc.sum(own["p"].is_valid()).as_py() or 0)
