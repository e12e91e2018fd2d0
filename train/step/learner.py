"""One training step: from a batch of raw features to changed weights and the figures of the step.

The mathematics is `selection` (codes), `objective` (losses and derivatives of rows), `gradients`
(sums over rows) and `update` (Adam); this module puts them in order, and `sparc.train.reference`
says the same densely. It must not know where batches come from, when to log or how processes find
each other.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor

from sparc.common.errors import RunError
from sparc.train.config import TrainConfig
from sparc.train.kernels.graph import StepGraphs
from sparc.train.kernels.interface import gradient_rows
from sparc.train.model.codes import Mode
from sparc.train.model.network import Sparc
from sparc.train.model.tensors_in_turn import TensorsInTurn
from sparc.train.step.balance import Balance, Uses
from sparc.train.step.by_latents.peers import Peers, sum_everywhere
from sparc.train.step.deadness import Candidates, SparseCodes
from sparc.train.step.gradients import (
    StreamGradients,
    add_dense,
    stream_gradients,
    sum_is_whole,
)
from sparc.train.step.measurer import Measurer
from sparc.train.step.noise import ALL_ROWS, Inputs, Share
from sparc.train.step.row_terms import (
    Gather,
    GlobalCodes,
    LocalTerms,
    gather_codes,
    gather_own,
    gather_terms,
)
from sparc.train.step.schedule import mode_of_step
from sparc.train.step.selection.keep import learn_thresholds
from sparc.train.step.sums import StepSums, rows_to_compare
from sparc.train.step.terms.autograd import DenseTerms
from sparc.train.step.update import Optimizer

GRAPHED_LOGITS = 1 << 25
"""Largest batch, in logits of a stream, whose step is recorded as a CUDA graph. With larger ones
the host keeps up with the GPU, and a recording would hold their intermediate results twice."""


class Learner(Measurer):
    """Changes a model's weights, a batch at a time.

    Args:
        model: The model, on its device.
        settings: How to learn.
        gather: With several processes, joins the rows of all (see `row_terms.Gather`): each gives
            its part of the batch, of equal size if the hook demands it, and all make the same step,
            that of the whole batch. They must begin with equal weights.
        share: Which rows of a batch this process gives, where there are several.
        peers: The other processes, where these share the latents; see `by_latents.learner`.
        frozen: Streams whose weights stay. The others learn to reconstruct them, and from them.
        variances: With `--error variance`, E|x - E x|^2 of the streams' normalized features, in
            order: a constant of the run.
        graphs: Whether small steps on a GPU are recorded as CUDA graphs.

    Attributes:
        kernels: The implementation of the sparse mathematics that was chosen.
        frozen: As given.
        no_sums: The sums of `step` over no rows.

    Raises:
        ConfigError: This device cannot do what the settings say.
    """

    def __init__(
        self,
        model: Sparc,
        settings: TrainConfig,
        *,
        gather: Gather | None = None,
        share: Share = ALL_ROWS,
        peers: Peers | None = None,
        frozen: Collection[str] = (),
        variances: Sequence[float] = (),
        graphs: bool = True,
    ) -> None:
        super().__init__(
            model,
            settings,
            gather=gather,
            peers=peers,
            frozen=frozen,
            variances=variances,
        )
        self._share = share
        over_latents: Callable[[Tensor], Tensor] = sum_is_whole
        if peers is not None:
            over_latents = functools.partial(sum_everywhere, peers)
        self._optimizer = Optimizer(
            model,
            self.kernels,
            self._workers,
            clip=settings.clip,
            unit_decoders=self._recipe.unit_decoders,
            frozen=self.frozen,
            over_latents=over_latents,
            processes=1 if peers is None else peers.world,
        )
        self._balance = None
        if settings.balance > 0:
            latents = self._home.config.latents
            self._balance = Balance(model, settings.balance, latents=latents, frozen=self.frozen)
        self._graphs: dict[tuple[bool, Mode], StepGraphs] = {}
        can_record = self._device.type == "cuda" and not self.by_autograd
        can_record &= gather is None and peers is None
        # Thresholds of rows that lack streams wait for the device.
        can_record &= settings.rows == "all" or not model.selector.learns_thresholds
        if graphs and can_record:
            self._graphs = {
                (auxk, mode): StepGraphs(functools.partial(self._figures, auxk=auxk, mode=mode))
                for auxk in (False, True)
                for mode in get_args(Mode)
            }

    @property
    def _steps(self) -> int:
        return self._optimizer.adam.number

    @torch.no_grad()
    def step(
        self,
        batch: Mapping[str, Tensor],
        lr: float,
        encoder_lr: float | None = None,
        *,
        present: Tensor | None = None,
    ) -> StepSums:
        """Learn from a batch.

        Args:
            batch: By stream, raw features, (rows, dim), on the device; no row zero or not finite.
            lr: Learning rate.
            encoder_lr: That of encoders and latent biases, if it is another one.
            present: With `--rows any`, which streams each row has, in the model's order, (rows,
                streams) bool, at least one; None: all. Missing features may be anything. Either
                all processes give it or none does.

        Returns:
            The figures of this process's rows, at the weights before the step.
        """
        with self._workers.one_thread_each():
            self._optimizer.adam.begin_step(lr, encoder_lr)
            inputs = self._inputs(batch, present)
            scale, seed = self.settings.noise, self.settings.seed
            if scale > 0:
                step = self._optimizer.adam.number
                inputs = inputs.with_noise(scale, seed=seed, step=step, share=self._share)
            return self._step(inputs)

    def _step(self, inputs: Inputs) -> StepSums:
        config, rows = self.model.config, len(next(iter(inputs.features.values())))
        adam = self._optimizer.adam
        mode = mode_of_step(
            adam.number,
            own=self.model.own_mode,
            independent=self.settings.independent,
            seed=self.settings.seed,
        )
        if self._graphs and rows * config.latents <= GRAPHED_LOGITS:
            learn = self._graphs[self._candidates.may_exist(rows=rows, step=adam.number), mode]
            self._dead_latents.pass_by(rows)
            figures = learn(inputs.tensors())
            sums = self.no_sums.with_flat(figures)
        else:
            sums = self._learn(inputs, mode=mode)
        self._recipe.after_update(self.model, self._dead_latents, adam.number)
        return sums

    def _figures(self, tensors: Mapping[str, Tensor], *, auxk: bool, mode: Mode) -> Tensor:
        return self._learn(Inputs.of_tensors(tensors), auxk=auxk, mode=mode).flat()

    def _learn(self, inputs: Inputs, *, auxk: bool | None = None, mode: Mode) -> StepSums:
        """A step, without counting it and without what the recipe does after the update.

        Args:
            inputs: The batch, with noise if there is any.
            auxk: Whether AuxK may have something to do. None asks, which may wait for the device,
                and counts the batch on the host.
            mode: How the streams select.
        """
        selected = self._selection.in_training(inputs, mode)
        learn_thresholds(self.model, selected.thresholds)
        codes = gather_codes(selected, self._gather)
        if auxk is None:
            rows, step = len(codes.values), self._optimizer.adam.number
            auxk = self._candidates.may_exist(rows=rows, step=step)
            self._dead_latents.pass_by(rows)
        own = gather_own(selected, codes, self._gather) if self._counts_own else None
        counted = SparseCodes(codes.indices, codes.values, codes.present)
        candidates = self._count(counted, own, auxk=auxk)
        losses, local = self._objective.differentiate(selected, candidates)
        dense = self._by_autograd.differentiate(inputs, codes)
        few = rows_to_compare(len(selected.values))
        sums = self._sums(selected, losses, dense.values, compare_rows=few)
        self._update(self._gradients(local, codes, dense))
        if self._balance is not None:
            self._balance.count(Uses.of(selected), self._gather)
            self._balance.move(self.model)
        return sums

    def _update(self, gradients: Mapping[str, StreamGradients]) -> None:
        lr = self._optimizer.adam.this_step.lr_on_device
        self._optimizer.update(gradients, self._recipe.before_update(self.model, lr))

    def _count(
        self, selected: SparseCodes, own: SparseCodes | None, *, auxk: bool
    ) -> tuple[Candidates | None, ...]:
        """Count a batch, and return the latents that AuxK may select, by stream."""
        if self._recipe.counts_before_auxk(self.model.config):
            self._dead_latents.count(selected, own)
            return self._candidates_now(auxk=auxk)
        candidates = self._candidates_now(auxk=auxk)
        self._dead_latents.count(selected, own)
        return candidates

    def _gradients(
        self, local: LocalTerms, codes: GlobalCodes, dense: DenseTerms
    ) -> dict[str, StreamGradients]:
        terms = gather_terms(local, codes, self._gather)
        gradients = stream_gradients(
            self.model, terms, self.kernels, self._workers, frozen=self.frozen
        )
        return add_dense(self.model, gradients, dense.gradients) if dense.gradients else gradients

    @torch.no_grad()
    def gradients(
        self, batch: Mapping[str, Tensor], *, present: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The gradient of the loss, dense, by name of parameter; changes nothing.

        This is the plain gradient, without noise: nothing is projected or clipped.

        Args:
            batch: As for `step`.
            present: As for `step`.
        """
        inputs = self._inputs(batch, present)
        selected = self._selection.in_training(inputs, self.model.own_mode)
        codes = gather_codes(selected, self._gather)
        _, local = self._objective.differentiate(selected, self._candidates_now())
        gradients = self._gradients(local, codes, self._by_autograd.differentiate(inputs, codes))
        dense = {}
        for stream, gradient in gradients.items():
            for kind, rows in (("encoder", gradient.encoder), ("decoder", gradient.decoder)):
                weight = self.model.get_parameter(f"{kind}.{stream}")
                dense[f"{kind}.{stream}"] = gradient_rows(
                    self.kernels, weight, rows, 0, len(weight)
                )
            dense[f"pre_bias.{stream}"] = gradient.pre_bias
            dense[f"latent_bias.{stream}"] = gradient.latent_bias
        return dense

    def whole(self) -> Measurer | None:
        """What measures and has the whole model, to be saved: this one.

        Where processes share the latents all of them have to call it, as all that follows: the
        first gets a copy, the others None.
        """
        return self

    @property
    def divided_by(self) -> str:
        """What several processes have a share of: `rows` or `latents`."""
        return "rows"

    def change(
        self, change: Callable[[Sparc], None], copy_from_first: Callable[[Sparc], None]
    ) -> None:
        """Change the encoders, latent biases and thresholds beside the steps.

        Args:
            change: Changes a whole model; need do nothing but in the first process.
            copy_from_first: Copies what it changed to the whole model of every process.
        """
        change(self.model)
        copy_from_first(self.model)

    def state(self) -> Mapping[str, Tensor]:
        """What a learner needs besides the weights to resume bit for bit, by name."""
        return self._own_state()

    def state_in_turn(self) -> TensorsInTurn:
        """The same, a tensor at a time; of several processes all have to take them."""
        return TensorsInTurn.of(self._own_state())

    def _own_state(self) -> dict[str, Tensor]:
        state = {"steps": torch.tensor(self._optimizer.adam.number)}
        for name, moments in self._optimizer.adam.moments.items():
            state[f"first.{name}"] = moments.first
            state[f"second.{name}"] = moments.second
        state |= self._dead_latents.counters()
        return state if self._balance is None else {**state, **self._balance.state()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what `state` returned.

        Args:
            state: Tensors by name, on any device.

        Raises:
            RunError: The state is that of another model.
        """
        own, counters = self._own_state(), self._dead_latents.counters()
        for name in sorted(own.keys() | state.keys()):
            if name not in state or name not in own or not _alike(own[name], state[name]):
                raise RunError(f"the optimizer's state does not fit this model: {name}")
        self._optimizer.adam.restore(int(state["steps"]))
        self.restore_counters({name: state[name] for name in counters})
        for name, tensor in own.items():
            if name != "steps" and name not in counters:
                tensor.copy_(state[name])


def _alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and tensor.dtype == other.dtype
