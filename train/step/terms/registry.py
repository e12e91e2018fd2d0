"""The terms that a loss may have.

To add one, write a file in this folder with a subclass of `LossTerm` that has `dense`, the formula:

    class PullTogether(LossTerm):
        def dense(self, forward: Forward) -> Tensor:
            codes = torch.stack(list(forward.codes.values()))
            return (codes - codes.mean(0)).square().sum(2).mean()

Then add a line to `TERMS`:

    "pull": TermEntry("pulls a row's codes together", f"{_HERE}.pull:PullTogether"),

`sparc-train run … --term pull=0.1` trains with it, and every line of metrics.jsonl has its value
under its name (the mean over streams, if `dense` returns one value per stream). A sweep's file
varies the weight with `term.pull = [0.0, 0.1]`. A term whose weight is a setting of its own instead
overrides `weight`, and its entry names the option.

`Forward` has, by stream, features `x` (B, d_s), and `logits`, `codes`, `selected` and `own`, each
(B, L), and `dead` (L,); `forward.decode(code, target)` gives (B, d_t). With `--rows any` such a
term is refused unless it says `allows_missing = True`: then it leaves out rows that lack a stream,
where `has`, (B,) by stream, is 0.

Such a term is differentiated by autograd on dense codes, which takes several times as long as the
rest of a step. It can have derivatives by hand: a mean error over pairs of streams as a `PairTerm`,
any other as a `SparseTerm`. tests/train/step/terms compares them with autograd of `dense`.

Every command line reads this module: it imports no term.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from sparc.common.errors import ConfigError, setting
from sparc.common.registry import Entry
from sparc.common.text import shorten


@dataclasses.dataclass(frozen=True)
class TermEntry(Entry):
    """A loss term: its summary says what it rewards or penalizes."""

    option: str | None = "--term"
    """The option that sets its weight; None where the weight is constant."""


_HERE = "sparc.train.step.terms"

TERMS: dict[str, TermEntry] = {
    "self": TermEntry(
        "every stream reconstructs itself",
        f"{_HERE}.reconstruction:SelfReconstruction",
        option=None,
    ),
    "cross": TermEntry(
        "every stream reconstructs the others",
        f"{_HERE}.reconstruction:CrossReconstruction",
        option="--cross-weight",
    ),
    "aux": TermEntry(
        "dead latents reconstruct what a code leaves over (AuxK)",
        f"{_HERE}.auxk:AuxK",
        option="--aux-weight",
    ),
    "distill": TermEntry(
        "each stream's logits learn which latents are selected jointly", f"{_HERE}.distill:Distill"
    ),
    "group_sparse": TermEntry(
        "latents are used by all streams of a row or by none; for comparison",
        f"{_HERE}.group_sparse:GroupSparse",
    ),
    "iso_energy": TermEntry(
        "a latent has the same energy in every stream; for comparison",
        f"{_HERE}.iso_energy:IsoEnergy",
    ),
}


def weighted_terms() -> dict[str, TermEntry]:
    """The terms that `--term` may name, as they are registered now."""
    return {name: entry for name, entry in TERMS.items() if entry.option == "--term"}


def term_weights(terms: Sequence[str]) -> dict[str, float]:
    """The weights of further loss terms by name.

    Args:
        terms: Items `NAME=WEIGHT`.

    Raises:
        ConfigError: An item is malformed, a name is given twice, or no term of that name takes a
            weight from `--term`.
    """
    weights: dict[str, float] = {}
    for term in terms:
        name, _, text = term.partition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = math.nan
        if not name or not 0 <= weight < math.inf:
            raise ConfigError(
                f"{setting('--term', 'terms=')} wants NAME=WEIGHT, a weight of at least 0, not "
                f"{term!r}"
            )
        if name in weights:
            raise ConfigError(f"{setting('--term', 'terms=')} gives {name!r} two weights")
        if name not in (known := weighted_terms()):
            raise ConfigError(_why_no_weight(name, known))
        weights[name] = weight
    return weights


def _why_no_weight(name: str, known: Iterable[str]) -> str:
    term = setting("--term", "terms=")
    message = f"{term} must name one of {', '.join(known)}, not {shorten(repr(name), 100)}"
    option = TERMS[name].option if name in TERMS else None
    return f"{message}, whose weight is {option}" if option else message
