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

    def choose(scores: Tensor, streams: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        indices = largest(scores, config.width)
        limit = threshold(streams) if selector.learns_thresholds else None
        return indices, selector.keep(scores.gather(1, indices), config.k, limit)

    if mode == "joint":
        shared = choose(sum_in_order(list(logits.values())), list(logits))
        return {stream: _codes(of_stream, *shared) for stream, of_stream in logits.items()}
    return {
        stream: _codes(of_stream, *choose(of_stream, [stream]))
        for stream, of_stream in logits.items()
    }


def _codes(logits: Tensor, indices: Tensor, kept: Tensor | None) -> Codes:
    values = logits.gather(1, indices).relu()
    return Codes(indices, values if kept is None else values.where(kept, 0), logits.shape[1])
