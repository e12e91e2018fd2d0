"""TopK: every row uses k latents.

Global TopK is the selection of SPARC (arXiv 2507.06265, section 3), Local TopK that of a TopK
autoencoder for each stream (Gao et al. 2024, arXiv 2406.04093).
"""

from sparc.train.model.selectors.selector import Selector


class GlobalTopK(Selector):
    """The streams of a row use the same latents: TopK of the sum of their logits."""

    own_mode = "joint"


class LocalTopK(Selector):
    """Each stream uses latents of its own: TopK of its logits."""

    own_mode = "independent"
