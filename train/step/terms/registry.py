"""The terms that a loss may have.

To add one, write a file beside this one with a class that has a `name` and `dense`, the formula:

    class PullTogether(LossTerm):
        name = "pull"

        def dense(self, forward: Forward) -> Tensor:
            codes = torch.stack(list(forward.codes.values()))
            return (codes - codes.mean(0)).square().sum(2).mean()

Then add the class to `TERMS`. `sparc-train run … --term pull=0.1` trains with it, and every line of
metrics.jsonl has its value under its name.

Autograd on dense codes costs several times the rest of a step. A term over pairs of streams is a
`PairTerm`; any other may become a `SparseTerm`, with derivatives by hand. tests/train/step/terms
holds both kinds to their `dense`.
"""

from sparc.common.errors import ConfigError
from sparc.train.step.settings import LearnerSettings
from sparc.train.step.terms.auxk import AuxK
from sparc.train.step.terms.reconstruction import CrossReconstruction, SelfReconstruction
from sparc.train.step.terms.term import LossTerm

TERMS: tuple[type[LossTerm], ...] = (SelfReconstruction, CrossReconstruction, AuxK)


def build_terms(settings: LearnerSettings) -> list[LossTerm]:
    """The terms of a loss: those with a weight, and AuxK, whose value every line of metrics has.

    Raises:
        ConfigError: `--term` gives a weight to a term that does not exist, or has a setting of its
            own.
    """
    terms = [term(settings) for term in TERMS]
    free = [term.name for term in terms if type(term).weight is LossTerm.weight]
    for name in settings.term_weights:
        if name not in free:
            known = ", ".join(free) or "none"
            raise ConfigError(f"--term: there is no further loss term {name!r}; known: {known}")
    return [term for term in terms if term.weight > 0 or isinstance(term, AuxK)]
