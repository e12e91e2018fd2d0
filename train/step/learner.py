"""One training step: from a batch of raw features to changed weights and the figures of the step.

The mathematics is `select` (codes), `objective` (losses and derivatives of rows), `gradients` (sums
over rows) and `update` (Adam); this module puts them in order, and `sparc.train.reference` says the
same densely. It must not know where batches come from, when to log or how processes find each
other.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor

from sparc.common.errors import ConfigError, RunError
from sparc.common.workers import Workers
from sparc.train.config import TrainConfig
from sparc.train.kernels.choice import choose as choose_kernels
from sparc.train.kernels.interface import gradient_rows
from sparc.train.model.codes import Mode
from sparc.train.model.network import Sparc
from sparc.train.step.balance import Balance
from sparc.train.step.deadness import Candidates, DeadCandidates, SparseCodes
from sparc.train.step.gradients import StreamGradients, add_dense, stream_gradients
from sparc.train.step.graph import StepGraphs
from sparc.train.step.keep import Selection, learn_thresholds
from sparc.train.step.noise import ALL_ROWS, Inputs, Share
from sparc.train.step.objective import Objective, RowLosses
from sparc.train.step.recipes.recipe import recipe_of
from sparc.train.step.row_terms import (
    Gather,
    GlobalCodes,
    LocalTerms,
    gather_codes,
    gather_own,
    gather_terms,
    one_process,
)
from sparc.train.step.schedule import mode_of_step
from sparc.train.step.select import Selected
from sparc.train.step.sums import Losses, StepSums, no_sums, step_sums
from sparc.train.step.terms.autograd import DenseTerms, TermsByAutograd
from sparc.train.step.terms.term import build_terms
from sparc.train.step.update import Optimizer

GRAPHED_LOGITS = 1 << 25
"""Largest batch, in logits of a stream, whose step is recorded as a CUDA graph. With larger ones
the host keeps up with the GPU, and a recording would hold their intermediate results twice."""


class Learner:
    """Changes a model's weights, a batch at a time.

    Args:
        model: The model, on its device.
        settings: How to learn.
        gather: With several processes, joins the rows of all (see `row_terms.Gather`): each gives
            its part of the batch, of equal size if the hook demands it, and all make the same step,
            that of the whole batch. They must begin with equal weights.
        share: Which rows of a batch this process gives, where there are several.
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
        frozen: Collection[str] = (),
        variances: Sequence[float] = (),
        graphs: bool = True,
    ) -> None:
        self.model = model
        self.settings = settings
        self._gather: Gather = gather or one_process
        self._share = share
        self.frozen = frozenset(frozen)
        self._device = next(model.parameters()).device
        if settings.precision != "float32" and self._device.type != "cuda":
            raise ConfigError(f"precision {settings.precision} needs a GPU; use float32")
        self.kernels = choose_kernels(settings.kernels, self._device)
        self._workers = Workers.of(self._device)
        self._recipe = recipe_of(settings)
        divisors = _required_variances(model, settings, variances)
        self._objective = Objective(
            model, build_terms(settings), self.kernels, self._workers, variances=divisors
        )
        self._dead_latents = self._recipe.deadness(model.config, self._device)
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
        self._optimizer = Optimizer(
            model,
            self.kernels,
            self._workers,
            clip=settings.clip,
            unit_decoders=self._recipe.unit_decoders,
            frozen=self.frozen,
        )
        self._balance = None
        if settings.balance > 0:
            self._balance = Balance(model, settings.balance, frozen=self.frozen)
        self._counts_own = settings.alive_by == "both"
        self._selection = Selection(
            model,
            self.kernels,
            self._workers,
            precision=settings.precision,
            gather=self._gather,
            own_in_training=self._counts_own or settings.balance > 0 or self._objective.needs_own,
            own_in_use=self._objective.needs_own,
        )
        self.no_sums = no_sums(
            [stream.dim for stream in model.config.streams],
            by_stream=[term.name for term in self._objective.sparse],
            scalars=self.by_autograd,
            device=self._device,
            some_missing=settings.rows == "any",
        )
        self._graphs: dict[tuple[bool, Mode], StepGraphs] = {}
        can_record = self._device.type == "cuda" and gather is None and not self.by_autograd
        # Thresholds of rows that lack streams wait for the device.
        can_record &= settings.rows == "all" or not model.selector.learns_thresholds
        if graphs and can_record:
            self._graphs = {
                (auxk, mode): StepGraphs(functools.partial(self._figures, auxk=auxk, mode=mode))
                for auxk in (False, True)
                for mode in get_args(Mode)
            }

    @property
    def by_autograd(self) -> tuple[str, ...]:
        """Names of the loss terms that train through autograd, which is slow."""
        return self._by_autograd.names

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

    def _inputs(self, batch: Mapping[str, Tensor], present: Tensor | None) -> Inputs:
        if present is not None and self.no_sums.pair_rows is None:
            raise ConfigError("rows that lack a stream can be learned from with rows any only")
        return Inputs({name: batch[name] for name in self.model.config.names}, present=present)

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
        candidates = self._count(codes, own, auxk=auxk)
        losses, local = self._objective.differentiate(selected, candidates)
        dense = self._by_autograd.differentiate(inputs, codes)
        few = max(1, len(selected.values) // 32)
        sums = self._sums(selected, losses, dense.values, compare_rows=few)
        gradients = self._gradients(local, codes, dense)
        lr = self._optimizer.adam.this_step.lr_on_device
        self._optimizer.update(gradients, self._recipe.before_update(self.model, lr))
        if self._balance is not None:
            self._balance.count(selected, self._gather)
            self._balance.move(self.model)
        return sums

    def _count(
        self, codes: GlobalCodes, own: SparseCodes | None, *, auxk: bool
    ) -> tuple[Candidates | None, ...]:
        """Count a batch, and return the latents that AuxK may select, by stream."""
        selected = SparseCodes(codes.indices, codes.values, codes.present)
        if self._recipe.counts_before_auxk(self.model.config):
            self._dead_latents.count(selected, own)
            return self._candidates_now(auxk=auxk)
        candidates = self._candidates_now(auxk=auxk)
        self._dead_latents.count(selected, own)
        return candidates

    def _candidates_now(self, *, auxk: bool | None = None) -> tuple[Candidates | None, ...]:
        """By stream, the latents that AuxK may select; `auxk` as in `_learn`."""
        if auxk is None:
            auxk = self._candidates.may_exist(rows=0, step=self._optimizer.adam.number)
        if not auxk:
            return (None,) * len(self.model.config.names)
        return self._candidates.by_stream()

    def _gradients(
        self, local: LocalTerms, codes: GlobalCodes, dense: DenseTerms
    ) -> dict[str, StreamGradients]:
        terms = gather_terms(local, codes, self._gather)
        gradients = stream_gradients(
            self.model, terms, self.kernels, self._workers, frozen=self.frozen
        )
        return add_dense(self.model, gradients, dense.gradients) if dense.gradients else gradients

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

    def dead_counts(self) -> dict[str, int]:
        """How many latents are dead now, by stream; waits for the device."""
        return {name: len(self._dead_latents.dead(name)) for name in self.model.config.names}

    def state(self) -> dict[str, Tensor]:
        """What a learner needs besides the weights to resume bit for bit, by name."""
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
        own = self.state()
        for name in sorted(own.keys() | state.keys()):
            if name not in state or name not in own or not _alike(own[name], state[name]):
                raise RunError(f"the optimizer's state does not fit this model: {name}")
        self._optimizer.adam.restore(int(state["steps"]))
        for name, tensor in own.items():
            if name in self._dead_latents.counters():
                self._dead_latents.restore(name, state[name])
            elif name != "steps":
                tensor.copy_(state[name])

    def _sums(
        self,
        selected: Selected,
        losses: RowLosses,
        values: Mapping[str, Tensor],
        *,
        compare_rows: int,
    ) -> StepSums:
        return step_sums(
            self.model,
            self._objective,
            selected,
            losses,
            values,
            compare_rows=compare_rows,
            kernels=self.kernels,
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


def _alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and tensor.dtype == other.dtype
