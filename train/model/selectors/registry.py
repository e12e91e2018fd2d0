"""The selectors that `--selection` may name.

To add one, write a file in this folder with a subclass of `Selector`, which says what a selector
may decide:

    class AboveHalf(Selector):
        own_mode = "joint"

        def keep(self, scores: Tensor, k: int, threshold: Tensor | None) -> Tensor:
            return scores >= scores.amax(1, keepdim=True) / 2

Then add a line to `SELECTORS`:

    "half": SelectorEntry("of the k largest sums those above half of the first", "…:AboveHalf"),

`sparc-train run … --selection half` trains with it, with every implementation of the kernels, and
the analysis encodes with it in both modes. Here a row uses at most k latents, since `keep` sees k
candidates; with `widest=2` it sees 2 k of them, and the row uses at most 2 k.

Every command line reads this module: it imports no selector.
"""

import dataclasses

from sparc.common.registry import Entry


@dataclasses.dataclass(frozen=True)
class SelectorEntry(Entry):
    """A selector: its summary says what a row uses, after "latents: ", in help and model card."""

    widest: int = 1
    """`keep` chooses among this multiple of k candidates, which is also the width of the codes. A
    row uses all of them where the selector has no `keep`."""


_HERE = "sparc.train.model.selectors"

SELECTORS: dict[str, SelectorEntry] = {
    "global": SelectorEntry(
        "the k with the largest sum of logits over the streams (Global TopK)",
        f"{_HERE}.topk:GlobalTopK",
    ),
    "local": SelectorEntry(
        "in each stream the k with the largest logits (Local TopK)", f"{_HERE}.topk:LocalTopK"
    ),
    "batch": SelectorEntry(
        "k on average, those with the largest sums of logits of a whole batch (BatchTopK)",
        f"{_HERE}.batch_topk:BatchTopK",
        widest=4,
    ),
}
