"""What a model in training is measured with: the loss of a batch, without changing anything."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from sparc.common.errors import ConfigError
from sparc.common.workers import Workers
from sparc.train.config import TrainConfig
from sparc.train.kernels.choice import choose as choose_kernels
from sparc.train.model.network import Sparc
from sparc.train.step.by_latents.models import home_of
from sparc.train.step.by_latents.peers import Peers
from sparc.train.step.deadness import Candidates, DeadCandidates
from sparc.train.step.noise import Inputs
from sparc.train.step.objective import Objective, RowLosses
from sparc.train.step.recipes.recipe import recipe_of
from sparc.train.step.row_terms import Gather, GlobalCodes, one_process
from sparc.train.step.selection.keep import Selection
from sparc.train.step.selection.select import Selected
from sparc.train.step.sums import Losses, StepSums, no_sums, step_sums
from sparc.train.step.terms.autograd import TermsByAutograd
from sparc.train.step.terms.term import build_terms


class Measurer:
    """Measures a model by the settings of its training. Needs no memory beside that of the model.

    Args:
        model: The model, on its device.
        settings: How it learns.
        gather: As of `sparc.train.step.learner.Learner`, as all that follow.
        peers: The other processes, where these share the latents.
        frozen: Streams whose weights stay.
        variances: With `--error variance`, those of the streams.

    Attributes:
        kernels: The implementation of the sparse mathematics that was chosen.
        frozen: As given.
        no_sums: The sums of a batch over no rows.

    Raises:
        ConfigError: This device cannot do what the settings say.
    """

    def __init__(
        self,
        model: Sparc,
        settings: TrainConfig,
        *,
        gather: Gather | None = None,
        peers: Peers | None = None,
        frozen: Collection[str] = (),
        variances: Sequence[float] = (),
    ) -> None:
        self.model = model
        self.settings = settings
        self._gather: Gather = gather or one_process
        self.frozen = frozenset(frozen)
        self._device = next(model.parameters()).device
        if settings.precision != "float32" and self._device.type != "cuda":
            raise ConfigError(f"precision {settings.precision} needs a GPU; use float32")
        self.kernels = choose_kernels(settings.kernels, self._device)
        self._workers = Workers.of(self._device)
        self._recipe = recipe_of(settings)
        divisors = _required_variances(model, settings, variances)
        self._home = model if peers is None else home_of(model, peers)
        self._objective = Objective(
            self._home, build_terms(settings), self.kernels, self._workers, variances=divisors
        )
        self._dead_latents = self._recipe.deadness(model.config, self._device)
        if peers is not None:
            self._dead_latents.share(peers)
        self._by_autograd = TermsByAutograd(
            model, self._objective.by_autograd, self._dead_latents, self._gather, divisors
        )
        self._candidates = DeadCandidates(
            model,
            self._dead_latents,
            enabled=settings.auxk > 0 and settings.aux_weight > 0,
            without_dead=self._recipe.auxk_without_dead,
            frozen=self.frozen,
        )
        self._counts_own = settings.alive_by == "both"
        self._needs_own = self._counts_own or settings.balance > 0 or self._objective.needs_own
        self._selection = Selection(
            self._home,
            self.kernels,
            self._workers,
            precision=settings.precision,
            gather=self._gather if peers is None else peers.gather,
            own_in_training=self._needs_own,
            own_in_use=self._objective.needs_own,
        )
        self.no_sums = no_sums(
            [stream.dim for stream in model.config.streams],
            by_stream=[term.name for term in self._objective.sparse],
            scalars=self.by_autograd,
            device=self._device,
            some_missing=settings.rows == "any",
        )

    @property
    def by_autograd(self) -> tuple[str, ...]:
        """Names of the loss terms that train through autograd, which is slow."""
        return self._by_autograd.names

    @property
    def _steps(self) -> int:
        """Steps made so far, where that is known."""
        return 0

    def _inputs(self, batch: Mapping[str, Tensor], present: Tensor | None) -> Inputs:
        if present is not None and self.no_sums.pair_rows is None:
            raise ConfigError("rows that lack a stream can be learned from with rows any only")
        return Inputs({name: batch[name] for name in self.model.config.names}, present=present)

    def _candidates_now(self, *, auxk: bool | None = None) -> tuple[Candidates | None, ...]:
        """By stream, the latents that AuxK may select; `auxk` as in `_learn`."""
        if auxk is None:
            auxk = self._candidates.may_exist(rows=0, step=self._steps)
        if not auxk:
            return (None,) * len(self.model.config.names)
        return self._candidates_of_streams()

    def _candidates_of_streams(self) -> tuple[Candidates | None, ...]:
        return self._candidates.by_stream()

    @torch.no_grad()
    def measure(self, batch: Mapping[str, Tensor], *, present: Tensor | None = None) -> StepSums:
        """The figures of a batch, all pairs of streams decoded; changes nothing.

        Latents are selected as in use: a row's codes do not depend on the other rows.

        Args:
            batch: As for `step`.
            present: As for `step`.
        """
        with self._workers.one_thread_each():
            inputs = self._inputs(batch, present)
            selected = self._selection.in_use(inputs)
            losses = self._objective.evaluate(selected, self._candidates_now())
            codes = GlobalCodes(selected.indices, selected.values, selected.kept, selected.present)
            values = self._by_autograd.evaluate(inputs, codes)
            return self._sums(selected, losses, values, compare_rows=len(selected.values))

    def losses(self, batch: Mapping[str, Tensor], *, present: Tensor | None = None) -> Losses:
        """The terms of the loss of a batch, all pairs decoded; changes nothing.

        Args:
            batch: As for `step`.
            present: As for `step`.
        """
        sums = self.measure(batch, present=present)
        return Losses(sums.loss / sums.rows, sums.nmse / sums.rows_of_pairs, sums.term_means())

    def dead_counts(self) -> dict[str, int]:
        """How many latents are dead now, by stream; waits for the device."""
        return {name: len(self._dead_latents.dead(name)) for name in self.model.config.names}

    def restore_counters(self, counters: Mapping[str, Tensor]) -> None:
        """Take over how long latents have been idle, by the names of `state`."""
        for name, count in counters.items():
            self._dead_latents.restore(name, count)

    def _sums(
        self,
        selected: Selected,
        losses: RowLosses,
        values: Mapping[str, Tensor],
        *,
        compare_rows: int,
    ) -> StepSums:
        return step_sums(
            self._home,
            self._objective,
            selected,
            losses,
            values,
            compare_rows=compare_rows,
            some_missing=self.settings.rows == "any",
        )


def _required_variances(
    model: Sparc, settings: TrainConfig, variances: Sequence[float]
) -> Sequence[float] | None:
    """What errors are divided by, None for the rows' |x|^2."""
    if settings.error == "norm":
        return None
    if len(variances) != len(model.config.names) or not all(v > 0 for v in variances):
        raise ConfigError("error variance needs the variance of every stream, above zero")
    return variances
