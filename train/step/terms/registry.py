"""The terms that a loss may have.

To add one, write a file in this folder with a class that has a `name` and `dense`, the formula:

    class PullTogether(LossTerm):
        name = "pull"

        def dense(self, forward: Forward) -> Tensor:
            codes = torch.stack(list(forward.codes.values()))
            return (codes - codes.mean(0)).square().sum(2).mean()

Then add the class to `TERMS`. `sparc-train run … --term pull=0.1` trains with it, and every line of
metrics.jsonl has its value under its name. A sweep's file varies the weight with
`term.pull = [0.0, 0.1]`. A term with a setting of its own instead of `--term` overrides `weight`.

`Forward` has, by stream, features `x` (B, d_s), and `logits`, `codes`, `selected` and `alone`, each
(B, L), and `dead` (L,); `forward.decode(code, target)` gives (B, d_t).

Such a term is differentiated by autograd on dense codes, which takes several times as long as the
rest of a step. It can have derivatives by hand: a mean NMSE over pairs of streams as a `PairTerm`,
any other as a `SparseTerm`. tests/train/step/terms compares them with autograd of `dense`.
"""

from sparc.common.errors import ConfigError
from sparc.train.config import TrainConfig
from sparc.train.step.terms.auxk import AuxK
from sparc.train.step.terms.distill import Distill
from sparc.train.step.terms.reconstruction import CrossReconstruction, SelfReconstruction
from sparc.train.step.terms.term import LossTerm

TERMS: tuple[type[LossTerm], ...] = (SelfReconstruction, CrossReconstruction, AuxK, Distill)


def build_terms(settings: TrainConfig) -> list[LossTerm]:
    """The terms that have a weight, and AuxK, which every line of metrics.jsonl has.

    Raises:
        ConfigError: `--term` names a term that does not exist, or that has a setting of its own.
    """
    terms = [term(settings) for term in TERMS]
    weighted = [term.name for term in terms if type(term).weight is LossTerm.weight]
    for name in settings.term_weights:
        if name not in weighted:
            known = ", ".join(weighted) or "none"
            raise ConfigError(
                f"--term: {name!r} is no loss term that takes a weight (known: {known}); "
                f"{__name__} says how to add one"
            )
    return [term for term in terms if term.weight > 0 or isinstance(term, AuxK)]
