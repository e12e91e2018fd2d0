"""A learner that has some of the latents, beside processes that have the others."""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from sparc.train.config import TrainConfig
from sparc.train.model.codes import Mode
from sparc.train.model.network import Sparc
from sparc.train.model.tensors_in_turn import TensorsInTurn
from sparc.train.step.by_latents.limits import require_shareable
from sparc.train.step.by_latents.models import (
    joined,
    own_latents,
    own_part,
    take_over,
    whole_layout,
    whole_model,
)
from sparc.train.step.by_latents.peers import Peers, sum_everywhere
from sparc.train.step.by_latents.selecting import SharedSelection
from sparc.train.step.by_latents.step import SharedStep
from sparc.train.step.deadness import Candidates
from sparc.train.step.learner import Learner
from sparc.train.step.measurer import Measurer
from sparc.train.step.noise import Inputs, Share
from sparc.train.step.row_terms import one_process
from sparc.train.step.selection.keep import learn_thresholds
from sparc.train.step.sums import StepSums, rows_to_compare


class SharedLearner(Learner):
    """Changes the latents of a model that this process owns, a batch of all processes at a time.

    Each process gives its part of the batch to `step`. What asks for the whole model is exchanged
    among all: they call `whole`, `state`, `load_state` and `dead_counts` together.

    Args:
        whole: The whole model, the same in every process, of which the own part is copied.
        settings: How to learn.
        peers: The processes.
        frozen: As of `Learner`.
        variances: As of `Learner`.

    Raises:
        ConfigError: The latents cannot be shared (`by_latents.limits`), or see `Learner`.
    """

    def __init__(
        self,
        whole: Sparc,
        settings: TrainConfig,
        *,
        peers: Peers,
        frozen: Collection[str] = (),
        variances: Sequence[float] = (),
    ) -> None:
        require_shareable(whole.config, settings, peers.world)
        super().__init__(
            own_latents(whole, peers),
            settings,
            share=Share(peers.rank, peers.world),
            peers=peers,
            frozen=frozen,
            variances=variances,
        )
        self._peers = peers
        self._variances = tuple(variances)
        self._shared = SharedStep(
            self.model,
            self._home,
            peers,
            self._objective,
            self.kernels,
            self._workers,
            frozen=self.frozen,
            without_dead=self._recipe.auxk_without_dead,
        )
        self._selecting = SharedSelection(
            self.model,
            self._home,
            peers,
            self._selection,
            self.kernels,
            self._workers,
            precision=settings.precision,
            needs_own=self._needs_own,
        )

    def _learn(self, inputs: Inputs, *, auxk: bool | None = None, mode: Mode) -> StepSums:
        batch = self._selecting.select(inputs, mode)
        learn_thresholds(self.model, batch.selected.thresholds)
        rows = len(batch.codes.values)
        if auxk is None:
            auxk = self._candidates.may_exist(rows=rows, step=self._optimizer.adam.number)
            self._dead_latents.pass_by(rows)
        own = batch.counted_own() if self._counts_own else None
        candidates = self._count(batch.counted(), own, auxk=auxk)
        losses, gradients = self._shared.gradients(batch, candidates)
        few = rows_to_compare(len(batch.selected.values))
        sums = self._sums(batch.selected, losses, {}, compare_rows=few)
        self._update(gradients)
        if self._balance is not None:
            self._balance.count(batch.uses(), one_process)
            self._balance.move(self.model)
        return sums

    def _candidates_of_streams(self) -> tuple[Candidates | None, ...]:
        return self._candidates.own_by_stream()

    def measure(self, batch: Mapping[str, Tensor], *, present: Tensor | None = None) -> StepSums:
        """Not of a part of the latents: `whole` measures."""
        raise NotImplementedError

    def gradients(
        self, batch: Mapping[str, Tensor], *, present: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Not of a part of the latents."""
        raise NotImplementedError

    @property
    def divided_by(self) -> str:
        """What the processes have a share of."""
        return "latents"

    @torch.no_grad()
    def whole(self) -> Measurer | None:
        """A copy with the whole model in the first process; None in the others."""
        model = whole_model(self.model, self._home.config, self._peers)
        counters = dict(joined(self._dead_latents.counters(), self._peers))
        if model is None:
            return None
        measurer = Measurer(model, self.settings, frozen=self.frozen, variances=self._variances)
        measurer.restore_counters(counters)
        return measurer

    @torch.no_grad()
    def change(
        self, change: Callable[[Sparc], None], copy_from_first: Callable[[Sparc], None]
    ) -> None:
        """As of `Learner`, with a whole model in the first process alone."""
        del copy_from_first
        whole = whole_model(self.model, self._home.config, self._peers)
        if whole is not None:
            change(whole)
        take_over(self.model, whole, self._peers)

    def dead_counts(self) -> dict[str, int]:
        """How many latents of all processes are dead now, by stream."""
        names = self.model.config.names
        here = torch.tensor([len(self._dead_latents.dead(name)) for name in names])
        counts = sum_everywhere(self._peers, here.to(self._device))
        return dict(zip(names, counts.tolist(), strict=True))

    def state(self) -> Mapping[str, Tensor]:
        """The state of all processes, as of `Learner.state`."""
        return dict(joined(self._own_state(), self._peers))

    def state_in_turn(self) -> TensorsInTurn:
        """The same, a tensor at a time, which all processes have to take."""
        state = dict(sorted(self._own_state().items()))
        return TensorsInTurn(whole_layout(state, self._peers), joined(state, self._peers))

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from the state of all processes, however many there were."""
        super().load_state(own_part(state, self._peers))
