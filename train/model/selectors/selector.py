"""What a selector decides, and how it is applied to logits.

The latents of a row are ranked by scores: in joint mode the sums of the streams' logits, in
independent mode the logits of one stream. Candidates are the `width` latents with the largest
scores; a selector may leave some of them out. So codes always have `width` columns, and a latent
that was left out is among them with the value zero. Whoever counts what is selected asks
`Selector.leaves_out` whether that may be: the width does not say.
"""

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, final

from torch import Tensor

from sparc.train.config import ModelConfig
from sparc.train.model.codes import Codes, Mode
from sparc.train.model.selectors.registry import SELECTORS
from sparc.train.model.topk import largest, sum_in_order


class Selector(ABC):
    """Which of the candidates a row uses: all of them, unless `keep` is overridden."""

    own_mode: ClassVar[Mode]
    """The mode of training, and of `Sparc.encode` where no other is asked for."""
    learns_thresholds: ClassVar[bool] = False
    """Whether `keep` compares scores with a threshold that is learned in training: one for the sum
    of all streams and one for each stream, which the model stores in the buffer `thresholds`."""

    @final
    @property
    def leaves_out(self) -> bool:
        """Whether a row may use fewer latents than a code has columns: whether `keep` decides."""
        return type(self).keep is not Selector.keep

    def keep(self, scores: Tensor, k: int, threshold: Tensor | None) -> Tensor | None:
        """Which candidates are selected.

        Args:
            scores: Of the candidates, (rows, width), in no particular order.
            k: `ModelConfig.k`.
            threshold: A scalar, or (rows, 1) where rows have different streams: in training that of
                the batch, in use the learned one. None where none was learned, as before the first
                step.

        Returns:
            (rows, width) bool; None for all. In use a row's must not depend on other rows.
        """
        del scores, k, threshold
        return None

    def batch_threshold(self, scores: Tensor, k: int) -> Tensor:
        """The threshold of a batch, a scalar, for selectors with `learns_thresholds`.

        Args:
            scores: Of the candidates of all rows, of all processes, (rows, width); of those with
                the same streams, where rows lack some.
            k: `ModelConfig.k`.
        """
        raise NotImplementedError


def selector_of(name: str) -> Selector:
    """The selector of a name in `SELECTORS`."""
    selector: Selector = SELECTORS[name].load()()
    return selector


def select(
    selector: Selector,
    config: ModelConfig,
    logits: Mapping[str, Tensor],
    mode: Mode,
    threshold: Callable[[Sequence[str]], Tensor | None],
) -> dict[str, Codes]:
    """Codes of rows from their logits, with a selector in use.

    Args:
        selector: The selector.
        config: The model.
        logits: By stream, (rows, latents) each; any of the streams, summed in the mapping's order.
        mode: Whether the streams select jointly or independently.
        threshold: From streams to the threshold of the sum of their logits.

    Returns:
        Codes by stream. In joint mode the streams share one tensor of indices.
    """
    together = [list(logits)] if mode == "joint" else [[stream] for stream in logits]
    codes: dict[str, Codes] = {}
    for streams in together:
        indices = largest(sum_in_order([logits[stream] for stream in streams]), config.width)
        chosen = {stream: logits[stream].gather(1, indices) for stream in streams}
        codes.update(codes_at(selector, config, indices, chosen, threshold))
    return codes


def codes_at(
    selector: Selector,
    config: ModelConfig,
    indices: Tensor,
    logits: Mapping[str, Tensor],
    threshold: Callable[[Sequence[str]], Tensor | None],
) -> dict[str, Codes]:
    """Codes of streams that select together, once their largest scores are known.

    Args:
        selector: The selector.
        config: The model.
        indices: The latents with the largest sums of logits, (rows, width).
        logits: By stream, the logits there, (rows, width).
        threshold: As for `select`.

    Returns:
        Codes by stream, which share the tensor of indices.
    """
    limit = threshold(list(logits)) if selector.learns_thresholds else None
    kept = selector.keep(sum_in_order(list(logits.values())), config.k, limit)
    codes = {}
    for stream, of_stream in logits.items():
        values = of_stream.relu()
        values = values if kept is None else values.where(kept, 0)
        codes[stream] = Codes(indices, values, config.latents)
    return codes
